"""The demo traces of the package are what their script makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.scheduler.errors import UsageError
from shunter.traces.demo import DEMO_TRACES, demo_path, demo_trace
from shunter.traces.generate.compare import offered_load
from shunter.traces.generate.make_demo import RECIPES, main, make_demo


@pytest.mark.parametrize("name", DEMO_TRACES)
def test_the_shipped_file_is_what_the_script_makes(name: str) -> None:
    shipped, made = demo_trace(name), make_demo(name)
    assert shipped.jobs.frame.equals(made.jobs.frame)
    assert shipped.cluster == made.cluster
    assert dict(shipped.header) == dict(made.header)
    assert shipped.name == f"demo-{name}"


def test_the_script_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    written = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        main([str(tmp_path / run)])
        written.append({p.name: p.read_bytes() for p in (tmp_path / run).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {f"{name}.parquet" for name in RECIPES}


@pytest.mark.parametrize("name", DEMO_TRACES)
def test_demo_traces_are_small_loaded_and_complete(name: str) -> None:
    trace = demo_trace(name)
    assert demo_path(name).stat().st_size < 150_000
    assert len(trace.jobs) == 3000
    assert offered_load(trace) == pytest.approx(0.85, rel=0.01)
    needed = ("requested_s", "user") if name == "hpc" else ("requested_s", "user", "group")
    assert all(trace.jobs.frame[column].null_count() == 0 for column in needed)
    assert (trace.jobs.floats("requested_s") >= trace.jobs.floats("duration_s")).all()


def test_gpu_gangs_above_a_node_are_tasks_of_eight() -> None:
    jobs = demo_trace("gpu").jobs
    tasks, gpus = jobs.ints("tasks"), jobs.floats("gpus")
    assert set((tasks * gpus).tolist()) == {1, 2, 4, 8, 16, 32}
    assert set(gpus[tasks > 1].tolist()) == {8}


def test_an_unknown_demo_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'gpu'"):
        demo_trace("gpus")
