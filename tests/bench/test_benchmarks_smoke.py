"""Every benchmark runs on a few hundred jobs and reports what its document promises; nothing is asked about speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import clusters, startup
from benchmarks.measure import Record, Spread, Target, Timing, interleave
from benchmarks.run import benchmarks, main
from benchmarks.simpy_share import Schedule, bare_run
from benchmarks.workloads import LOGS, Setup, gangs_on_nodes, gangs_on_pool, million
from benchmarks.yardstick import PoolJobs, heap_fcfs
from shunter.sim.workload import prepare
from shunter.traces import write

JOBS = 200
STARTING = ("first-run", "forecasts", "imports", "training")
"""Benchmarks that start processes."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the public one, with a small generated log in place of each SWF file and no Philly."""
    folder = tmp_path_factory.mktemp("traces")
    (folder / "swf").mkdir()
    for seed, file in enumerate(LOGS.values()):
        if file.startswith("swf/"):
            write(gangs_on_pool(JOBS, seed), folder / file)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["--jobs", str(JOBS), "--repeat", "1", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def check_row(row: dict[str, Any]) -> None:
    if "skipped" in row:
        assert row["skipped"]
        return
    if "wall_s" in row:
        for clock in ("wall_s", "cpu_s"):
            assert 0 <= row[clock]["min"] <= row[clock]["median"] <= row[clock]["max"]
        assert row["runs"] >= 1
    if "yardstick" in row:
        assert row["ratio_wall"] > 0
        assert row["ratio_cpu"] > 0
    for target in row.get("targets", ()):
        assert isinstance(target["reached"], bool)
        assert ("at_least" in target) != ("at_most" in target)


@pytest.mark.parametrize("name", [name for name in benchmarks() if name not in STARTING])
def test_every_benchmark_reports_its_fields(name: str, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run(capsys, "--only", name, "--traces", str(logs))
    assert {"format", "machine", "versions", "settings", "benchmarks"} == set(document)
    assert document["settings"]["most_jobs"] == JOBS
    rows = document["benchmarks"]
    assert rows
    assert {row["benchmark"] for row in rows} == {name}
    assert len({row["case"] for row in rows}) == len(rows)
    for row in rows:
        check_row(row)


@pytest.mark.slow
def test_starting_processes_reports_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, *(part for name in STARTING for part in ("--only", name)))["benchmarks"]
    assert {row["benchmark"] for row in rows} == set(STARTING)
    for row in rows:
        check_row(row)


def test_the_document_is_also_written_to_a_file(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    document = run(capsys, "--only", "sdsc", "--traces", str(logs), "--out", str(out))
    assert json.loads(out.read_text()) == document
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_absent_logs_are_skipped_with_their_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "--only", "ricc", "--only", "reading", "--traces", str(tmp_path))["benchmarks"]
    assert [row["benchmark"] for row in rows] == ["ricc", "reading"]
    assert all("RICC-2010-2.swf.gz" in row["skipped"] for row in rows)


def test_the_engine_starts_jobs_when_the_reference_loop_does(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "--only", "yardstick")["benchmarks"]
    assert [row["same_start_times"] for row in rows] == [True] * 6


def test_the_bare_clock_handles_the_events_of_the_replay() -> None:
    from benchmarks.replays import EASY, simulation

    trace = gangs_on_nodes(JOBS, 3)
    workload = prepare(trace, trace.cluster)
    replay = simulation(workload, EASY)
    replay.run()
    schedule = Schedule.of(workload, EASY)
    assert bare_run(schedule) == schedule.num_events == replay.num_events


def test_reference_loop_by_hand() -> None:
    """Two processors: job 0 holds both until 10; job 1 needs both, too, and as the head it blocks job 2 until 15."""
    jobs = PoolJobs(submit_s=[0.0, 1.0, 2.0], run_s=[10.0, 5.0, 1.0], size=[2.0, 2.0, 1.0], capacity=2.0)
    assert heap_fcfs(jobs) == [0.0, 10.0, 15.0]


def test_equal_seeds_draw_equal_jobs() -> None:
    for draw in (gangs_on_pool, gangs_on_nodes, million):
        assert draw(50, 7).jobs.frame.equals(draw(50, 7).jobs.frame)
        assert not draw(50, 7).jobs.frame.equals(draw(50, 8).jobs.frame)


def test_rounds_begin_with_another_subject_each() -> None:
    order: list[str] = []
    subjects = {name: (lambda name=name: lambda: order.append(name)) for name in "abc"}
    timings = interleave(subjects, repeat=3)
    assert "".join(order) == "abcbcacab"
    assert {timing.runs for timing in timings.values()} == {3}


def test_targets_are_judged_by_the_median() -> None:
    timing = Timing(Spread.of([1.0, 2.0, 9.0]), Spread.of([1.0, 1.0, 1.0]), 3)
    targets = (Target("jobs_per_s", at_least=50.0), Target("jobs_per_s", at_least=51.0), Target("wall_s", at_most=2.0))
    row = Record("b", "c", timing=timing, jobs=100, yardstick=timing, targets=targets).as_json()
    assert [target["reached"] for target in row["targets"]] == [True, False, False]
    assert row["ratio_wall"] == 1.0
    assert row["jobs_per_cpu_s"] == 100.0


def test_unknown_benchmark_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--only", "nothing"])
    assert left.value.code == 2
    assert "invalid choice: 'nothing'" in capsys.readouterr().err


def test_quick_cuts_every_log(logs: Path) -> None:
    assert len(Setup(most_jobs=50, traces=logs).load("ricc").jobs) == 50
    assert startup.STARTS % 2 == 1


def test_gpu_replays_report_the_case_that_they_timed() -> None:
    trace = gangs_on_nodes(JOBS, 5)
    cases = (clusters.EASY, clusters.DETAILED, clusters.SRTF)
    rows = [record.as_json() for record in clusters.gpu_replays("gpus", trace, trace.cluster, cases, Setup(repeat=1))]
    assert [row["policy"] for row in rows] == ["fcfs", "fcfs", "srtf"]
    assert [row["preemptions"] for row in rows[:2]] == [0, 0]
    for row in rows:
        check_row(row)


def test_the_cluster_of_decisions_is_half_full() -> None:
    trace, held = clusters.half_full(500, 20, 1)
    filled = clusters.fill(trace, held)
    free = filled["node_free"].sum() / 1000
    assert 0.4 * 4000 < free < 0.6 * 4000
    sizes, walls_s, _ = clusters.decide(trace, "topology", filled, 20)
    assert len(sizes) == len(walls_s) == 20
    assert (walls_s > 0).all()


def test_absent_pod_lists_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "--only", "openb", "--only", "philly-gpus", "--traces", str(tmp_path))["benchmarks"]
    assert ["skipped" in row for row in rows] == [True, True]
