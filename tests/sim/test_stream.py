"""Runs whose rows go to files while they run: the same tables, whatever stops them on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from shunter.scheduler.errors import OutputError, UsageError
from shunter.scheduler.preemption import Preemption
from shunter.sim import engine, stored
from shunter.sim.replay import Interrupted, simulate
from shunter.sim.report.html import render_report
from shunter.sim.result import Result
from shunter.sim.run_folder import LOAD_FILE, RUN_FILES
from shunter.sim.stored import StoredTables, batches
from shunter.sim.windows import side_by_side
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs
from tests.properties.gpu_strategies import Case, cases
from tests.sim.whole_tables import whole_events, whole_timeline

FEW = 7
"""Rows in a file, so that small runs have many."""


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows leave the memory in small numbers, and a replay asks often whether any should."""
    monkeypatch.setattr(stored, "ROW_GROUP", FEW)
    monkeypatch.setattr(stored, "BATCH", FEW - 2)
    monkeypatch.setattr(engine, "FIRST_GAP", 2)
    monkeypatch.setattr(engine, "ASK_EVERY_S", 1e-9)


def content(folder: Path) -> dict[str, bytes]:
    """The files of a run but the one that holds what the clock said."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "timing.json"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_a_run_that_streams_equals_one_in_memory(case: Case, small_files: None) -> None:
    """Tables, metrics and manifest, to the byte; the tables are also those worked out from whole tables."""
    whole = case.run()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole.save(folder / "memory")
        streamed = case.run(out=folder / "streamed")
        assert [path.name for path in sorted(folder.iterdir())] == ["memory", "streamed"]
        assert content(folder / "streamed") == content(folder / "memory")
        assert isinstance(streamed.tables, StoredTables)
        assert dict(streamed.metrics) == dict(whole.metrics)
        assert_frame_equal(streamed.jobs, whole.jobs)
        for table in streamed.tables:
            assert_frame_equal(streamed.tables[table], whole.tables[table])
    steps = whole.timeline.drop("free_gpus", "fragmented_gpus", strict=False)
    assert_frame_equal(steps, whole_timeline(whole), check_exact=False, abs_tol=1e-8)
    log = whole.events.filter(~pl.col("kind").is_in(["fail", "repair"]))
    assert_frame_equal(log, whole_events(whole))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), data=st.data())
def test_one_that_is_stopped_and_taken_up_equals_one_that_is_not(
    case: Case, data: st.DataObject, small_files: None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.run(out=folder / "whole")
        taken_up = False
        for asked in data.draw(st.lists(st.integers(1, 40), max_size=4)):
            left = iter([False] * asked)
            stop = partial(next, left, True)
            try:
                case.run(out=folder / "cut", checkpoint=folder / "x", resume=taken_up, should_stop=stop)
                break
            except Interrupted:
                taken_up = True
                assert not (folder / "cut").exists()
        else:
            case.run(out=folder / "cut", checkpoint=folder / "x", resume=taken_up)
        assert content(folder / "cut") == content(folder / "whole")


# --- what goes wrong -------------------------------------------------------------------------------------------------


def busy_trace(num_jobs: int = 200) -> Trace:
    """Single GPUs and gangs of two on three nodes, more than there is room for."""
    rng = np.random.default_rng(5)
    jobs = {
        "job_id": [f"j{i}" for i in range(num_jobs)],
        "submit_s": np.cumsum(rng.exponential(60.0, num_jobs)),
        "duration_s": rng.lognormal(5.5, 1.0, num_jobs),
        "tasks": rng.integers(1, 3, num_jobs),
        "gpus": rng.choice([1.0, 2.0], num_jobs),
    }
    return Trace("busy", make_jobs(jobs), ClusterSpec("three nodes", (NodeGroup("n", 3, gpus=4.0),)))


HOW: dict[str, Any] = {"policy": "srtf", "preemption": Preemption(("policy",))}


def stopped(out: Path, checkpoint: Path | None, asked: int = 90) -> None:
    count = iter(range(asked))
    with pytest.raises(Interrupted):
        simulate(busy_trace(), out=out, checkpoint=checkpoint, should_stop=lambda: next(count, None) is None, **HOW)


def test_an_interrupt_keeps_rows_only_for_a_checkpoint(tmp_path: Path, small_files: None) -> None:
    stopped(tmp_path / "run", None)
    assert list(tmp_path.iterdir()) == []
    stopped(tmp_path / "run", tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.rows", "x"]
    assert len(list((tmp_path / ".run.rows").glob("attempts-*.parquet"))) > 2


def test_rows_that_are_missing_or_of_another_run_are_refused(tmp_path: Path, small_files: None) -> None:
    out, checkpoint = tmp_path / "run", tmp_path / "x"
    stopped(out, checkpoint)
    rows = tmp_path / ".run.rows"
    (rows / "replay.json").write_text('{"sha256": "other"}')
    with pytest.raises(UsageError, match=r"\.run\.rows: holds the rows of another replay"):
        simulate(busy_trace(), out=out, checkpoint=checkpoint, resume=True, **HOW)
    (rows / "attempts-000001.parquet").unlink()
    with pytest.raises(UsageError, match=r"attempts-000001\.parquet: missing; the checkpoint cannot be taken up"):
        simulate(busy_trace(), out=out, checkpoint=checkpoint, resume=True, **HOW)
    with pytest.raises(UsageError, match="counts on rows in files"):
        simulate(busy_trace(), checkpoint=checkpoint, resume=True, **HOW)
    simulate(busy_trace(), out=out, checkpoint=checkpoint, **HOW)  # from the start it may always run
    assert not rows.exists()


def test_a_folder_with_other_files_is_refused_before_the_replay(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    asked: list[int] = []
    with pytest.raises(OutputError, match="is not a run folder"):
        simulate(busy_trace(), out=tmp_path / "run", progress=lambda run: asked.append(run.num_done), **HOW)
    assert asked == []
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


SCRIPT = """
import resource, signal, sys
from pathlib import Path
from shunter.scheduler.compiled import warm_up
from shunter.scheduler.errors import OutputError
from shunter.sim import engine, stored
from shunter.sim.replay import simulate
from tests.sim.test_stream import FEW, HOW, busy_trace
stored.ROW_GROUP, stored.BATCH = FEW, FEW - 2
engine.FIRST_GAP, engine.ASK_EVERY_S = 2, 1e-9
warm_up()
"""


def run_script(text: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + text, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """While rows are written, while they are put together, and in the last files; by the limit of a file's size."""
    process = run_script(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for limit in (100, 3000, 5000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        simulate(busy_trace(), out=Path(sys.argv[1]), **HOW)\n"
        "    except OutputError as error:\n"
        "        print(error)\n",
        tmp_path / "run",
    )
    said, _ = process.communicate(timeout=120)
    assert [line.split(": ", 1)[1] for line in said.splitlines()] == ["cannot be written: File too large"] * 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_that_is_killed_is_taken_up_from_its_last_saving(tmp_path: Path, small_files: None) -> None:
    """kill -9 at a random moment, and again; the end is the one of a run that nothing happened to."""
    rng = np.random.default_rng(1)
    simulate(busy_trace(), out=tmp_path / "whole", **HOW)
    out, checkpoint = tmp_path / "cut", tmp_path / "x"
    killed = 0
    for _ in range(2):
        process = run_script(
            "import time\n"
            "print('ready', flush=True)\n"
            "out, checkpoint = map(Path, sys.argv[1:])\n"
            "simulate(busy_trace(), out=out, checkpoint=checkpoint, autosave_s=0.0, resume=checkpoint.exists(),\n"
            "         progress=lambda run: time.sleep(0.002), **HOW)\n",
            out,
            checkpoint,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.1, 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
    assert killed
    simulate(busy_trace(), out=out, checkpoint=checkpoint, resume=checkpoint.exists(), **HOW)
    assert content(out) == content(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} <= {"cut", "whole", "x", "x.partial"}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_tables_of_a_folder_are_read_when_asked_for(tmp_path: Path) -> None:
    result = simulate(busy_trace(), out=tmp_path / "run", **HOW)
    loaded = Result.load(tmp_path / "run")
    assert list(loaded.tables) == ["timeline", "events", "attempts", "placements"]
    assert loaded.tables["attempts"].equals(result.tables["attempts"])
    stops = loaded.scan("attempts").filter(pl.col("ended") == "preempted").select(pl.len()).collect().item()
    assert stops == result.metrics["preemptions"] > 0
    assert loaded.scan("jobs").collect().equals(result.jobs)
    assert [part.columns for part in batches(loaded.tables, "attempts", ["job"])] == [["job"]]
    loaded.save(tmp_path / "copy")
    assert content(tmp_path / "copy") == content(tmp_path / "run")
    loaded.save(tmp_path / "run")  # onto itself
    assert content(tmp_path / "copy") == content(tmp_path / "run")
    files = {*RUN_FILES, LOAD_FILE, "attempts.parquet", "placements.parquet"}
    assert set(content(tmp_path / "run")) == files - {"timing.json"}
    assert json.loads((tmp_path / "run" / "timing.json").read_text())["num_events"] == result.num_events
    with pytest.raises(KeyError):
        loaded.tables["outages"]
    (tmp_path / "run" / "attempts.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"attempts\.parquet: not a Parquet table"):
        loaded.tables["attempts"]


def batched(table: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    return (table[i : i + rows] for i in range(0, max(table.height, 1), rows))


def test_a_report_is_the_same_from_files(tmp_path: Path, small_files: None) -> None:
    whole, streamed = simulate(busy_trace(), **HOW), simulate(busy_trace(), out=tmp_path / "run", **HOW)
    text = render_report([streamed])
    assert "Nodes over time" in text
    assert "GPUs over time" in text
    assert text == render_report([replace(whole, wall_s=streamed.wall_s)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=14).map(sorted), min_size=1, max_size=3), st.integers(1, 4))
def test_tables_side_by_side_are_cut_at_the_same_instants(columns: list[list[int]], rows: int) -> None:
    tables = [pl.DataFrame({"time_s": column}, schema={"time_s": pl.Float64}) for column in columns]
    cuts = list(side_by_side([batched(table, rows) for table in tables], ["time_s"] * len(tables)))
    for i, table in enumerate(tables):
        parts = [cut[i] for cut in cuts]
        assert pl.concat([table.clear(), *parts]).equals(table)
    bounds = [pl.concat(cut)["time_s"] for cut in cuts]
    assert all(bounds[i].max() < bounds[i + 1].min() for i in range(len(bounds) - 1))  # type: ignore[operator]


def test_a_table_out_of_order_is_refused() -> None:
    table = pl.DataFrame({"time_s": [1.0, 3.0, 2.0]})
    with pytest.raises(UsageError, match="not in the order of its time_s"):
        list(side_by_side([batched(table, 1)], ["time_s"]))
