"""``shunter simulate`` from the outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from tests.e2e.conftest import Shunter


def test_json_is_one_document_with_every_run(shunter_process: Shunter, small_log: Path) -> None:
    ran = shunter_process("simulate", small_log, "--policy", "fcfs", "--policy", "sjf", "--backfill", "easy", "--json")
    assert ran.code == 0
    document = ran.document
    assert document["trace"] == "small"
    assert document["seed"] == 0
    assert [(run["policy"], run["backfill"]) for run in document["runs"]] == [("fcfs", "easy"), ("sjf", "easy")]
    for run in document["runs"]:
        assert run["jobs"] == 12
        assert run["events"] == 24
        assert run["wall_s"] > 0
        assert run["window"] is None
        assert run["metrics"]["jobs_completed"] == 12
        assert run["metrics"]["avg_wait_s"] > 0


def test_out_writes_a_run_folder_and_a_report(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert shunter("simulate", small_log, "--out", out, "--figures").code == 0
    names = {path.name for path in out.iterdir()}
    assert names >= {"jobs.parquet", "timeline.parquet", "events.parquet", "metrics.json", "manifest.json"}
    assert names >= {"report.html", "figures"}
    jobs = pl.read_parquet(out / "jobs.parquet")
    assert jobs.columns[:8] == ["job_id", "submit_s", "start_s", "end_s", "wait_s", "attempts", "state", "reason"]
    assert (jobs["start_s"] - jobs["submit_s"]).to_list() == jobs["wait_s"].to_list()
    assert set(jobs["state"].cast(str)) == {"completed"}
    # By hand: strict FCFS on four processors. Job 1 (1 processor) starts at 0, job 2 (2) at 10, job 3 (3) needs the
    # end of jobs 1 (100) and 2 (117), and so on.
    assert jobs["start_s"].to_list()[:3] == [0.0, 10.0, 117.0]


def test_several_runs_get_a_folder_each_that_compare_reads(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    assert shunter("simulate", small_log, "-P", "fcfs", "-P", "sjf", "-b", "easy", "--out", out).code == 0
    ran = shunter("compare", out / "fcfs+easy", out / "sjf+easy", "--json")
    assert ran.code == 0, ran.err
    assert ran.document


def test_window_runs_on_an_empty_cluster(shunter: Shunter, small_log: Path) -> None:
    ran = shunter("simulate", small_log, "--window", "8:2", "--json")
    assert ran.document["runs"][0]["jobs"] == 2
    assert ran.document["runs"][0]["window"] == [8, 2]


def test_a_job_larger_than_the_cluster_is_rejected_and_the_replay_goes_on(
    shunter: Shunter, small_log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ran = shunter("simulate", small_log, "--cluster", "3", "--json", "--out", out)
    metrics = ran.document["runs"][0]["metrics"]
    assert metrics["jobs_rejected"] == 3
    assert metrics["jobs_completed"] == 9
    jobs = pl.read_parquet(out / "jobs.parquet")
    rejected = jobs.filter(pl.col("state") == "rejected")
    assert rejected["start_s"].null_count() == 3
    assert all("more than the cluster" in reason for reason in rejected["reason"])


def test_kill_at_limit_counts_as_failed(shunter: Shunter, tmp_path: Path) -> None:
    log = tmp_path / "over.swf"
    log.write_text("; MaxProcs: 1\n1 0 -1 100 1 -1 -1 1 60 -1 1 1 1 -1 1 -1 -1 -1\n")
    metrics = shunter("simulate", log, "--kill-at-limit", "--json").document["runs"][0]["metrics"]
    assert (metrics["jobs_failed"], metrics["jobs_completed"], metrics["makespan_s"]) == (1, 0, 60.0)


def test_protocol_gives_the_published_semantics(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    out = tmp_path / "protocol"
    ran = shunter(
        "simulate", small_log, "--protocol", "rlscheduler", "--policy", "sjf", "--backfill", "easy-noextra",
        "--window", "0:10", "--json", "--out", out,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.document["protocol"] == "rlscheduler"
    assert ran.document["runs"][0]["metrics"]["avg_bounded_slowdown"] >= 1
    assert pl.read_parquet(out / "jobs.parquet").height == 10


def test_demo_traces_need_no_file(shunter: Shunter) -> None:
    ran = shunter("simulate", "demo:hpc", "--window", "0:500", "--backfill", "conservative", "--json")
    assert ran.document["runs"][0]["metrics"]["jobs_completed"] == 500


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_process_says_so_in_one_line_and_code_2(shunter_process: Shunter, small_log: Path) -> None:
    shunter_process("simulate", small_log, "--policy", "fcsf").failed_cleanly(2, "did you mean 'fcfs'")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "fcsf"], ["unknown policy 'fcsf'", "did you mean 'fcfs'"]),
        (["--policy", "multifactor:aeg=3"], ["no parameter 'aeg'", "did you mean 'age'"]),
        (["--backfill", "esy"], ["unknown backfilling 'esy'", "did you mean 'easy'"]),
        (["--placement", "bestfit"], ["unknown placement 'bestfit'", "did you mean 'best-fit'"]),
        (["--ties", "instants"], ["unknown --ties", "did you mean 'instant'"]),
        (["--window", "5"], ["START:COUNT"]),
        (["--window", "10:50"], ["window 10:50", "12 jobs"]),
        (["--backfill-depth", "-1"], ["depth -1"]),
        (["--interval", "nan"], ["interval nan"]),
        (["--protocol", "rlsched"], ["unknown protocol", "rlscheduler"]),
        (["--protocol", "rlscheduler", "--policy", "f11"], ["no policy 'f11'"]),
        (["--engine", "warp"], ["unknown --engine 'warp'"]),
        (["--resume"], ["--resume needs the --out"]),
        (["--cluster", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--format", "swff"], ["swff"]),
    ],
)
def test_a_wrong_argument_is_one_line_and_code_2(
    shunter: Shunter, small_log: Path, arguments: list[str], words: list[str]
) -> None:
    shunter("simulate", small_log, *arguments).failed_cleanly(2, *words)


def test_bad_files_are_one_line_and_code_2(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    import gzip

    whole = gzip.compress(small_log.read_bytes() * 200)
    (tmp_path / "cut.swf.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.swf").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.swf").write_bytes(b"")
    (tmp_path / "nan.swf").write_text(small_log.read_text().replace("3 20 -1", "3 nan -1"))
    (tmp_path / "negative.swf").write_text(small_log.read_text().replace("3 20 -1", "3 -20 -1"))
    (tmp_path / "columns.csv").write_text("job_id,submit_s\n1,0\n")
    shunter("simulate", tmp_path / "cut.swf.gz").failed_cleanly(2, "cut.swf.gz")
    shunter("simulate", tmp_path / "noise.swf").failed_cleanly(2, "noise.swf")
    shunter("simulate", tmp_path / "empty.swf").failed_cleanly(2, "empty.swf")
    shunter("simulate", tmp_path / "nan.swf").failed_cleanly(2, "nan.swf:5:2", "nan")
    shunter("simulate", tmp_path / "negative.swf").failed_cleanly(2, "negative.swf:5:2", "-20")
    shunter("simulate", tmp_path / "columns.csv").failed_cleanly(2, "columns.csv:1", "duration_s missing")
    shunter("simulate", tmp_path / "missing.swf").failed_cleanly(2, "missing.swf")
    shunter("simulate", tmp_path).failed_cleanly(2, str(tmp_path))


def test_skip_bad_keeps_the_good_rows_and_says_so(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.swf"
    bad.write_text(small_log.read_text().replace("3 20 -1", "3 -20 -1"))
    ran = shunter("simulate", bad, "--skip-bad", "--json")
    assert ran.code == 0
    assert ran.document["runs"][0]["jobs"] == 11
    assert "1 of 12 rows left out" in ran.err


def test_an_unwritable_folder_is_found_before_the_replay(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shunter("simulate", small_log, "--out", tmp_path / "file" / "run").failed_cleanly(1, "cannot")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("three years")
    shunter("simulate", small_log, "--out", foreign).failed_cleanly(1, "thesis.txt")
    assert (foreign / "thesis.txt").read_text() == "three years"


def test_a_full_disk_leaves_no_result_under_the_final_name(small_log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from shunter.scheduler.compiled import warm_up; warm_up();"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        f"sys.argv = ['shunter', 'simulate', {str(small_log)!r}, '--out', {str(out)!r}];"
        "from shunter.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (out / "jobs.parquet").exists()
    assert not list(tmp_path.glob("*.partial"))


def interrupted_after(delay_s: float, arguments: list[object]) -> tuple[int, str]:
    """Exit code and standard error of a run that gets a Ctrl-C some time after its start."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shunter", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_an_interrupted_replay_is_taken_up_and_ends_the_same(shunter: Shunter, tmp_path: Path) -> None:
    trace = tmp_path / "long.parquet"
    made = shunter("traces", "generate", "poisson", "--jobs", 400_000, "--seed", 1, "-p", "servers=64", "--out", trace)
    assert made.code == 0, made.err
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert shunter("simulate", trace, "--backfill", "easy", "--out", whole).code == 0
    for delay_s in (1.5, 3.0, 6.0, 12.0):  # a busy machine may still be starting up when the interrupt comes
        code, err = interrupted_after(delay_s, ["simulate", trace, "--backfill", "easy", "--out", cut])
        if code == 0:
            pytest.skip("the machine was so fast that the replay had ended before the interrupt")
        assert code == 130, err
        if "--resume" in err:
            break
    assert "--resume" in err
    assert not (cut / "jobs.parquet").exists()
    resumed = shunter("simulate", trace, "--backfill", "easy", "--out", cut, "--resume")
    assert resumed.code == 0, resumed.err
    for name in ("jobs.parquet", "timeline.parquet", "events.parquet", "metrics.json", "manifest.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    other = shunter("simulate", trace, "--backfill", "none", "--out", cut, "--resume")
    assert other.code == 0


def test_output_closed_early_is_no_traceback(small_log: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m shunter simulate {small_log} --json | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert "Traceback" not in done.stderr


def test_equal_runs_give_equal_bytes(shunter: Shunter, small_log: Path, tmp_path: Path) -> None:
    folders = []
    for name in ("a", "b"):
        assert shunter("simulate", small_log, "-P", "wfp3", "-b", "easy", "--out", tmp_path / name).code == 0
        folders.append(tmp_path / name)
    for path in sorted(folders[0].iterdir()):
        if path.name not in ("timing.json", "report.html"):
            assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name
    assert json.loads((folders[0] / "manifest.json").read_text())
