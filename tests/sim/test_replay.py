"""``simulate``: what a result says about a replay."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.engine import TIES
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.sim.run_folder import RUN_FILES
from shunter.traces.periods import jobs_hash
from shunter.traces.tables import Trace, pool
from tests.properties.strategies import MODES, PLACES, POLICIES, lanes
from tests.scheduler.cases import table

TEXT = """
    job submit runs asks tasks user group deadline_s
    a   0      100  100  6     ada  x     -
    b   10     50   60   8     bob  y     200
    c   20     10   30   4     ada  x     25
    d   20     40   15   2     -    -     -
    e   30     5    5    11    cyd  y     -
"""
"""On ten processors under EASY: b waits for a; c passes it; d is extra and overruns its request; e never fits."""


@pytest.fixture
def trace() -> Trace:
    return table(TEXT, pool(10, kill_at_limit=True))


@pytest.fixture
def result(trace: Trace) -> Result:
    return simulate(trace, backfill="easy", seed=5)


def test_job_table(result: Result) -> None:
    """d needs 2 of the 4 − 4 = 0 processors that c leaves, so it starts at c's end, 30 s, and is killed at 45 s."""
    shown = result.jobs.select("job_id", "start_s", "end_s", "wait_s", "attempts", "state", "backfilled")
    assert shown.rows() == [
        ("a", 0.0, 100.0, 0.0, 1, "completed", False),
        ("b", 100.0, 150.0, 90.0, 1, "completed", False),
        ("c", 20.0, 30.0, 0.0, 1, "completed", True),
        ("d", 30.0, 45.0, 10.0, 1, "killed", True),
        ("e", None, None, None, 0, "rejected", False),
    ]
    assert result.jobs["reason"].to_list() == [
        None,
        None,
        None,
        "ran into its limit",
        "needs more than the cluster '10 cpus' has",
    ]
    assert result.jobs["duration_s"].to_list() == [100, 50, 10, 15, 5]
    assert result.jobs["user"].to_list() == ["ada", "bob", "ada", None, "cyd"]


def test_timeline(result: Result) -> None:
    assert result.timeline.select("time_s", "queue_length", "running_jobs", "used_cpus").rows() == [
        (0.0, 0, 1, 6.0),
        (10.0, 1, 1, 6.0),
        (20.0, 2, 2, 10.0),  # c starts, b and d wait
        (30.0, 1, 2, 8.0),  # c ends, d starts
        (45.0, 1, 1, 6.0),
        (100.0, 0, 1, 8.0),
        (150.0, 0, 0, 0.0),
    ]


def test_events_in_the_order_of_the_engine(result: Result) -> None:
    assert result.events.select("time_s", "kind", "job_id").rows() == [
        (0.0, "submit", "a"),
        (0.0, "start", "a"),
        (10.0, "submit", "b"),
        (20.0, "submit", "c"),
        (20.0, "submit", "d"),
        (20.0, "start", "c"),
        (30.0, "end", "c"),
        (30.0, "reject", "e"),
        (30.0, "start", "d"),
        (45.0, "end", "d"),
        (100.0, "end", "a"),
        (100.0, "start", "b"),
        (150.0, "end", "b"),
    ]


def test_metrics(result: Result) -> None:
    metrics = result.metrics
    assert metrics["avg_wait_s"] == (0 + 90 + 0 + 10) / 4
    assert metrics["makespan_s"] == 150
    assert metrics["utilisation"] == pytest.approx((600 + 400 + 40 + 30) / 1500)
    assert metrics["slo_attainment"] == 0.5  # b ends at 150 s (due at 200 s), c at 30 s (due at 25 s)
    counts = [metrics[f"jobs_{name}"] for name in ("completed", "failed", "rejected")]
    assert counts == [3, 1, 1]
    assert metrics["backfilled_jobs"] == 2
    assert metrics["max_queue_length"] == 2
    assert "gpu_utilisation" not in metrics


def test_manifest_says_what_was_run(result: Result) -> None:
    manifest = result.manifest
    assert (manifest["policy"], manifest["backfill"], manifest["placement"]) == ("fcfs", "easy", "first-fit")
    assert (manifest["seed"], manifest["ties"], manifest["interval_s"], manifest["window"]) == (5, "instant", 0.0, None)
    assert manifest["cluster"]["kill_at_limit"] is True
    assert manifest["trace"]["jobs"] == 5
    assert manifest["passes"] == 7  # at 0, 10, 20, 30, 45, 100 and 150 s
    assert set(manifest["versions"]) >= {"numpy", "simpy", "numba", "polars"}
    assert "wall_s" not in manifest


def test_label_and_counts(result: Result) -> None:
    assert (result.label, result.policy, result.seed) == ("fcfs+easy", "fcfs", 5)
    assert result.num_events == 4 + 4  # distinct submit times, ends
    assert result.wall_s > 0


def test_window_keeps_the_clock_and_starts_empty(trace: Trace) -> None:
    """Without a, b starts when it arrives; the submit times stay those of the trace."""
    result = simulate(trace, window=(1, 2))
    assert result.jobs.select("job_id", "submit_s", "start_s").rows() == [("b", 10.0, 10.0), ("c", 20.0, 60.0)]
    assert result.window == (1, 2)
    with pytest.raises(TraceError, match="window 4:2 does not lie inside 'table', which has 5 jobs"):
        simulate(trace, window=(4, 2))


def test_another_cluster_replaces_the_recorded_one(trace: Trace) -> None:
    result = simulate(trace, cluster=pool(20, name="twice"))
    assert result.cluster == "twice"
    assert result.metrics["jobs_rejected"] == 0
    # 20 are taken at 20 s and 4 come back at 30 s; at 60 s d and b end as well, and e's 11 are free.
    assert result.jobs["wait_s"].to_list() == [0, 0, 0, 0, 30]


def test_a_trace_of_which_nothing_fits(trace: Trace) -> None:
    result = simulate(trace, cluster=pool(1))
    assert result.metrics == {"jobs_completed": 0, "jobs_failed": 0, "jobs_rejected": 5, "backfilled_jobs": 0}
    assert result.timeline.height == 0
    assert result.events["kind"].to_list() == ["reject"] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "fifo"}, "unknown policy 'fifo'; did you mean '"),
        ({"backfill": "conservativ"}, "unknown backfilling 'conservativ'; did you mean 'conservative'?"),
        ({"placement": "pack"}, "unknown placement 'pack'; did you mean 'packed'?"),
        ({"ties": "perevent"}, "unknown --ties 'perevent'; did you mean 'per-event'?"),
    ],
)
def test_unknown_names(options: dict[str, str], message: str, trace: Trace) -> None:
    with pytest.raises(UsageError) as error:
        simulate(trace, **options)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equal_runs_are_equal_bytes(data: st.DataObject, tmp_path: Path) -> None:
    _, trace = data.draw(lanes())
    options = {
        "policy": data.draw(st.sampled_from(POLICIES)),
        "backfill": data.draw(st.sampled_from(MODES)),
        "placement": data.draw(st.sampled_from(PLACES)),
        "ties": data.draw(st.sampled_from(TIES)),
        "seed": data.draw(st.integers(0, 100)),
    }
    for name in ("first", "second"):
        simulate(trace, **options).save(tmp_path / name)
    for name in set(RUN_FILES) - {"timing.json"}:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_tables_agree_with_each_other(data: st.DataObject) -> None:
    _, trace = data.draw(lanes())
    result = simulate(trace, policy=data.draw(st.sampled_from(POLICIES)), backfill=data.draw(st.sampled_from(MODES)))
    ran = result.jobs.filter(pl.col("state") != "rejected")
    assert result.jobs["job_id"].to_list() == trace.jobs.frame["job_id"].to_list()
    assert (ran["wait_s"] == ran["start_s"] - ran["submit_s"]).all()
    assert (ran["end_s"] == ran["start_s"] + ran["duration_s"]).all()
    kinds = result.events["kind"].value_counts(sort=False)
    counts = dict(zip(kinds["kind"].to_list(), kinds["count"].to_list(), strict=True))
    assert counts.get("start", 0) == counts.get("end", 0) == counts.get("submit", 0) == ran.height
    assert counts.get("reject", 0) == result.metrics["jobs_rejected"] == result.jobs.height - ran.height
    assert result.events["time_s"].is_sorted()
    assert (result.timeline["queue_length"] >= 0).all()
    if ran.height:
        assert result.timeline["queue_length"][-1] == result.timeline["running_jobs"][-1] == 0
        area = (result.timeline["used_cpus"][:-1] * np.diff(result.timeline["time_s"])).sum()
        assert area == pytest.approx((ran["cpus"] * ran["duration_s"]).sum())


def test_the_checksum_of_jobs_is_over_numbers_as_bytes_and_texts_as_python_writes_them(trace: Trace) -> None:
    digest = sha256()
    for name, dtype in trace.jobs.frame.schema.items():
        values = trace.jobs.frame[name].to_list()
        missing = [np.nan if value is None else value for value in values]
        numbers = dtype.is_numeric()
        digest.update(np.asarray(missing, float).tobytes() if numbers else "\0".join(map(str, values)).encode())
    assert jobs_hash(trace) == digest.hexdigest()


def test_importing_simulate_loads_nothing_heavy() -> None:
    """Compiled code is loaded when something is replayed, so that ``--help`` and errors are quick."""
    code = (
        "import sys\nfrom shunter.sim import simulate\n"
        "print([m for m in ('numba', 'polars', 'matplotlib', 'pydantic', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
