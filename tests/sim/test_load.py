"""The load series of a replay: means over each step weighted by time, of the cluster and of each of its groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from shunter.cli import app
from shunter.scheduler.errors import UsageError
from shunter.sim import load, stored
from shunter.sim.load import Grid, Spans, add_steps, load_of
from shunter.sim.replay import simulate
from shunter.sim.result import Result, save_all
from shunter.sim.run_folder import LOAD_FILE
from shunter.traces import read_series
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs
from tests.properties.gpu_strategies import Case, cases

TWO_GROUPS = ClusterSpec("duo", (NodeGroup("big", 1, cpus=8.0, gpus=4.0), NodeGroup("small", 2, cpus=8.0, gpus=1.0)))


def trace(cluster: ClusterSpec, start_unix_s: float | None = None, **columns: object) -> Trace:
    """Jobs of one task each."""
    jobs = make_jobs({"job_id": [str(i) for i in range(len(columns["submit_s"]))], **columns})  # type: ignore[arg-type]
    return Trace("t", jobs, cluster, start_unix_s)


def test_means_by_hand() -> None:
    cluster = ClusterSpec("c", (NodeGroup("n", 1, gpus=4.0),))
    # Both jobs want more than half: the second one waits from 10 to 90 and runs until 130.
    result = simulate(trace(cluster, 1e9, submit_s=[0, 10], duration_s=[90, 40], gpus=[1, 1], tasks=[3, 2]))
    series = load_of(result)
    assert series is not None
    assert series.nodes == ("c",)
    assert series.features == ("gpu_utilisation", "running_gpus", "queue_length", "running_jobs", "arrivals")
    assert series.units == ("ratio", "gpus", "jobs", "jobs", "jobs")
    assert (series.begin_s, series.step_s, series.dated) == (1e9, 60.0, True)
    expected = [
        # 3 GPUs for 60 s; queue of one for 50 s; one job; both arrive
        [0.75, 3.0, 50 / 60, 1.0, 2.0],
        # 3 GPUs for 30 s and 2 for 30 s; queue of one for 30 s
        [2.5 / 4, 2.5, 0.5, 1.0, 0.0],
        # 2 GPUs for 10 s
        [20 / 60 / 4, 20 / 60, 0.0, 10 / 60, 0.0],
    ]
    np.testing.assert_allclose(series.values[:, 0], expected, rtol=1e-6)


def test_cpus_where_nobody_uses_a_gpu_and_no_date_without_one() -> None:
    result = simulate(
        trace(ClusterSpec("c", (NodeGroup("n", 1, cpus=8.0),)), submit_s=[120], duration_s=[60], cpus=[2])
    )
    series = load_of(result, 30.0)
    assert series is not None
    assert series.features[:2] == ("cpu_utilisation", "running_cpus")
    np.testing.assert_array_equal(series.values[:, 0, 0], [0.25, 0.25])
    assert (series.begin_s, series.dated) == (120.0, False)


def test_each_group_of_nodes_has_its_own_use() -> None:
    # The first job takes the big node whole, the two others a small one each.
    jobs = trace(TWO_GROUPS, submit_s=[0, 0, 30], duration_s=[60, 120, 30], gpus=[4, 1, 1])
    series = load_of(simulate(jobs, details=True))
    assert series is not None
    assert series.nodes == ("duo", "duo/big", "duo/small")
    np.testing.assert_allclose(series.values[0, :, 0], [5.5 / 6, 1.0, 1.5 / 2])
    np.testing.assert_allclose(series.values[1, :, 1], [1.0, 0.0, 1.0])
    np.testing.assert_allclose(series.values[0, :, 3], [2.5, 1.0, 1.5])
    assert np.isnan(series.values[:, 1:, 2]).all()
    assert np.isnan(series.values[:, 1:, 4]).all()
    plain = load_of(simulate(jobs, details=False))
    assert plain is not None
    assert plain.nodes == ("duo",)


@settings(max_examples=40, deadline=None)
@given(case=cases(), step=st.sampled_from([7.0, 60.0]))
def test_the_load_holds_all_work_and_groups_add_up(case: Case, step: float) -> None:
    result = case.run()
    series = load_of(result, step)
    if series is None:
        assert result.jobs["end_s"].count() == 0
        return
    timeline = result.timeline
    used = timeline["used_gpus" if series.features[1] == "running_gpus" else "used_cpus"].to_numpy()
    lengths = np.diff(timeline["time_s"].to_numpy(), append=timeline["time_s"][-1])
    work = float((used * lengths).sum())
    values = series.values.astype(np.float64)
    np.testing.assert_allclose(values[:, 0, 1].sum() * series.step_s, work, rtol=1e-5, atol=1e-3)
    assert values[:, 0, 4].sum() == result.jobs["start_s"].count()
    if len(series.nodes) > 1:
        np.testing.assert_allclose(values[:, 1:, 1].sum(axis=1), values[:, 0, 1], rtol=1e-5, atol=1e-4)


STEPS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 9)), min_size=1, max_size=30)


@given(STEPS, st.integers(1, 40), st.integers(1, 10))
def test_a_step_function_is_integrated_exactly_however_it_is_cut(
    rows: list[tuple[int, int]], step: int, size: int
) -> None:
    times, first = np.unique(np.array([row[0] for row in rows], dtype=np.float64), return_index=True)
    values = np.array([rows[i][1] for i in first], dtype=np.float64)
    values[-1] = 0.0
    grid = Grid.over(times[0], times[-1], float(step))
    sums = np.zeros((1, grid.points))
    for begin in range(0, len(times), size):
        part = slice(max(0, begin - 1), begin + size)
        add_steps(sums, grid, times[part], values[None, part])
    seconds = np.arange(grid.first_s, grid.first_s + grid.points * step)
    at = np.searchsorted(times, seconds, side="right") - 1
    brute = np.where(at >= 0, values[np.maximum(at, 0)], 0.0).reshape(-1, step).sum(axis=1)
    np.testing.assert_allclose(sums[0], brute, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 99), st.integers(0, 1)), min_size=1), st.integers(1, 40))
def test_intervals_cover_exactly_their_seconds(rows: list[tuple[int, int, int]], step: int) -> None:
    start, length, group = (np.array(column) for column in zip(*rows, strict=True))
    grid = Grid.over(float(start.min()), float((start + length).max()), float(step))
    spans = Spans(2, grid)
    spans.add(group, start.astype(float), (start + length).astype(float), np.ones(len(rows)))
    seconds = grid.first_s + np.arange(grid.points * step)
    for g in (0, 1):
        inside = (start[:, None] <= seconds) & (seconds < (start + length)[:, None]) & (group[:, None] == g)
        brute = inside.sum(axis=0).reshape(-1, step).mean(axis=1)
        np.testing.assert_allclose(spans.means()[g], brute, atol=1e-8)


def test_long_replays_get_longer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_POINTS", 100)
    assert Grid.over(0.0, 6000.0, 60.0) == Grid(0.0, 60.0, 100)
    grid = Grid.over(30.0, 1e6, 60.0)
    assert grid.step_s == 60.0 * 167  # 16,666.2 minutes in at most 100 points
    assert grid.points <= 101


def test_a_step_must_be_positive(two_results: tuple[Result, Result], tmp_path: Path) -> None:
    for step in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expected a positive number of seconds"):
            two_results[0].save(tmp_path / "run", load_step_s=step)
        with pytest.raises(UsageError, match="expected a positive number of seconds"):
            save_all(two_results, tmp_path / "run", load_step_s=step)
    assert list(tmp_path.iterdir()) == []


def test_a_replay_in_which_nothing_ran_has_no_load(tmp_path: Path) -> None:
    jobs = trace(ClusterSpec("c", (NodeGroup("n", 1, gpus=4.0),)), submit_s=[0], duration_s=[1], gpus=[1], tasks=[9])
    result = simulate(jobs, out=tmp_path / "run")
    assert load_of(result) is None
    assert not (tmp_path / "run" / LOAD_FILE).exists()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_the_cut_into_batches_does_not_matter(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    result = case.run()
    whole = load_of(result)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "BATCH", 3)
        parts = load_of(result)
    if whole is None or parts is None:
        assert whole is parts
        return
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-6, atol=1e-6)


def test_the_file_is_a_load_series(tmp_path: Path) -> None:
    jobs = trace(TWO_GROUPS, 1.5e9, submit_s=[0, 0, 30], duration_s=[600, 120, 30], gpus=[4, 1, 1])
    result = simulate(jobs, details=True, out=tmp_path / "run", load_step_s=30.0)
    series = read_series(tmp_path / "run" / LOAD_FILE)
    assert (series.step_s, len(series), series.nodes) == (30.0, 20, ("duo", "duo/big", "duo/small"))
    assert series.facts["policy"] == "fcfs"
    again = Result.load(tmp_path / "run")
    assert set(again.tables) == set(result.tables)
    again.save(tmp_path / "copy", load_step_s=30.0)
    assert (tmp_path / "copy" / LOAD_FILE).read_bytes() == (tmp_path / "run" / LOAD_FILE).read_bytes()


def test_the_step_is_an_option_of_simulate(tmp_path: Path) -> None:
    jobs = {"job_id": ["a"], "submit_s": [0.0], "duration_s": [600.0], "tasks": [1], "cpus": [2.0]}
    pl.DataFrame(jobs).write_csv(tmp_path / "t.csv")
    options = ["--cluster", "4", "--quiet", "--json", "--out", str(tmp_path / "run")]
    found = CliRunner().invoke(app, ["simulate", str(tmp_path / "t.csv"), *options, "--load-step", "120"])
    assert found.exit_code == 0, found.output
    shown = CliRunner().invoke(app, ["traces", "info", str(tmp_path / "run" / LOAD_FILE), "--json"])
    facts = json.loads(shown.stdout)
    assert (facts["points"], facts["step_s"], facts["target"]) == (5, 120.0, "cpu_utilisation")
    bad = CliRunner().invoke(app, ["simulate", str(tmp_path / "t.csv"), *options, "--load-step", "0"])
    assert isinstance(bad.exception, UsageError)
