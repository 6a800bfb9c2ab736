"""The compiled loop starts every job when the engine does, can be stopped and taken up, and says what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import UsageError
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.kernels.network import Network, new_network
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.preemption import Preemption
from shunter.sim.engine import Options, Simulation
from shunter.sim.replay import simulate
from shunter.sim.rollout import Rollout, choose_engine, run_compiled, why_not
from shunter.sim.workload import prepare
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs

POLICIES = (
    "fcfs", "sjf", "saf", "largest", "f1", "wfp3", "unicep", "fairshare", "multifactor",
    "multifactor:age=9,size=1,qos=2,partition=3,max_age_days=0.0001",
)  # fmt: skip
BACKFILLS = ("none", "easy", "easy-noextra", "easy-sjbf")
PLACEMENTS = ("first-fit", "best-fit", "worst-fit", "packed", "topology")


ENDS = ((0, 12), (1, 9), (1, 12), (1, 3), (1, 4), (0, 3), (0, 2), (0, 2))
"""Least and largest gap, run time, request, tasks, CPUs, user, priority and queue."""


@st.composite
def replays(draw: st.DrawFn) -> tuple[Trace, Options]:
    """Small traces with ties, idle times and overruns, on one node or several."""
    nodes = draw(st.sampled_from([1, 3]))
    count = draw(st.integers(1, 25))
    numbers = draw(
        st.lists(
            st.tuples(*(st.integers(*ends) for ends in ENDS)),
            min_size=count,
            max_size=count,
        )
    )
    columns = np.asarray(numbers, dtype=np.float64).T
    jobs = make_jobs(
        {
            "job_id": [str(i) for i in range(count)],
            "submit_s": np.cumsum(columns[0]) // 2,
            "duration_s": columns[1],
            "requested_s": columns[2],
            "tasks": columns[3].astype(np.int64),
            "cpus": columns[4],
            "user": [None if user == 3 else f"u{user:.0f}" for user in columns[5]],
            "priority": columns[6],
            "queue": [None if queue == 2 else f"q{queue:.0f}" for queue in columns[7]],
        }
    )
    trace = Trace("drawn", jobs, ClusterSpec("c", (NodeGroup("n", nodes, cpus=8.0),)))
    placement = draw(st.sampled_from(PLACEMENTS))
    settings = Settings(choose_ordering(draw(st.sampled_from(POLICIES))), draw(st.sampled_from(BACKFILLS)), placement)
    return trace, Options(settings, seed=3)


def same(a: Simulation, b: Simulation) -> None:
    """Two simulations that have gone equally far."""
    np.testing.assert_array_equal(a.state.jobs_f[at.START_S], b.state.jobs_f[at.START_S])
    np.testing.assert_array_equal(a.backfilled, b.backfilled)
    np.testing.assert_array_equal(a.state.node_free, b.state.node_free)
    assert (a.num_events, a.num_done, a.clock.pending) == (b.num_events, b.num_done, b.clock.pending)


@given(replays())
def test_every_job_starts_when_the_engine_starts_it(case: tuple[Trace, Options]) -> None:
    trace, options = case
    workload = prepare(trace, trace.cluster)
    reference, compiled = Simulation(workload, options), Simulation(workload, options)
    assert why_not(compiled) is None
    assert reference.run()
    assert run_compiled(compiled)
    same(reference, compiled)


@pytest.mark.parametrize(
    ("policy", "backfill", "model"),
    [
        ("fcfs", "none", "lublin99"),
        ("sjf", "easy", "lublin99"),
        ("wfp3", "easy", "lublin99"),
        ("fairshare", "easy", "gpu"),
        ("multifactor", "none", "gpu"),
    ],
)
def test_on_a_generated_log(policy: str, backfill: str, model: str) -> None:
    trace = generate(model, jobs=3000, seed=5)
    how = {"policy": policy, "backfill": backfill, "details": False}
    runs = [simulate(trace, engine=engine, **how) for engine in ("simpy", "compiled")]
    assert [run.manifest["engine"] for run in runs] == ["simpy", "compiled"]
    assert runs[0].jobs.equals(runs[1].jobs)
    assert runs[0].timeline.equals(runs[1].timeline)
    assert runs[0].metrics == runs[1].metrics


def test_stopped_and_taken_up_by_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped again and again, going on in turns under SimPy and compiled."""
    monkeypatch.setattr("shunter.sim.rollout.FIRST_BUDGET", 40)
    trace = generate("poisson", jobs=600, seed=2, params={"servers": 4, "load": 0.95})
    workload = prepare(trace, trace.cluster)
    options = Options(Settings(choose_ordering("sjf"), "easy"))
    whole, pieces = Simulation(workload, options), Simulation(workload, options)
    whole.run()
    complete, turns = False, 0
    while not complete:
        turns += 1
        complete = run_compiled(pieces, lambda: True) if turns % 2 else pieces.run(lambda: True, every=50)
    assert turns > 10
    np.testing.assert_array_equal(whole.state.jobs_f[at.START_S], pieces.state.jobs_f[at.START_S])
    assert whole.num_events == pieces.num_events


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"policy": "drf"}, "drf changes with time"),
        ({"backfill": "conservative"}, "conservative"),
        ({"details": True}, "placements are noted"),
        ({"preemption": Preemption(("policy",))}, "may be stopped"),
        ({"interval_s": 5.0}, "intervals"),
        ({"ties": "per-event"}, "per event"),
    ],
)
def test_what_it_cannot_do_is_refused_and_done_by_the_engine(options: dict[str, Any], reason: str) -> None:
    trace = generate("poisson", jobs=30, seed=1)
    with pytest.raises(UsageError, match=reason):
        simulate(trace, engine="compiled", **options)
    assert simulate(trace, **options).manifest["engine"] == "simpy"


def test_an_unknown_engine_is_refused() -> None:
    trace = generate("poisson", jobs=3, seed=1)
    simulation = Simulation(prepare(trace, trace.cluster), Options())
    with pytest.raises(UsageError, match="did you mean 'compiled'"):
        choose_engine(simulation, "compile")


# --- windows under a network -----------------------------------------------------------------------------------------


def linear(**weights: float) -> Network:
    """A score that is a sum of features, by number (``f0`` …)."""
    skip = np.zeros(NUM_FEATURES)
    for name, weight in weights.items():
        skip[int(name[1:])] = weight
    return new_network(skip)


def test_a_linear_score_of_the_request_is_shortest_job_first() -> None:
    drawn = generate("lublin99", jobs=1500, seed=4)
    frame = drawn.jobs.frame.with_columns(requested_s=pl.col("duration_s") * 2)  # the model gives no limits
    trace = replace(drawn, jobs=replace(drawn.jobs, frame=frame))
    workload = prepare(trace, trace.cluster)
    starts = Rollout(workload, "easy").starts(linear(f0=1.0), np.array([0]), np.array([workload.num_jobs]))
    expected = simulate(trace, policy="sjf", backfill="easy").jobs["start_s"].to_numpy()
    np.testing.assert_array_equal(starts, expected)


def test_windows_under_a_fixed_score() -> None:
    trace = generate("lublin99", jobs=600, seed=8)
    workload = prepare(trace, trace.cluster)
    rollout = Rollout(workload, "easy", score=workload.columns.processors)
    starts = rollout.starts(None, np.array([100, 300]), np.array([300, 500]))
    assert np.isnan(starts[:100]).all()
    alone = simulate(trace, policy="smallest", backfill="easy", window=(300, 200)).jobs
    waits = alone["start_s"].to_numpy() - alone["submit_s"].to_numpy()
    np.testing.assert_allclose(starts[300:500] - workload.columns.submit_s[300:500], waits)


def test_windows_do_not_know_of_one_another() -> None:
    """Each as if it were alone, in any order, also under a score that reads histories."""
    trace = generate("lublin99", jobs=900, seed=6)
    rollout = Rollout(prepare(trace, trace.cluster), "easy")
    network = linear(f0=1.0, f3=-0.5, f8=0.3, f11=0.7, f13=0.2, f15=0.4, f18=0.1)
    first, last = np.array([0, 300, 600]), np.array([300, 600, 900])
    together = rollout.starts(network, first, last).copy()
    for begin, end in zip(first[::-1], last[::-1], strict=True):
        alone = rollout.starts(network, np.array([begin]), np.array([end]))
        np.testing.assert_array_equal(alone[begin:end], together[begin:end])


def test_hidden_units_by_hand() -> None:
    """Score = x0 + 2 max(0, 3 h − 1) with h = max(0, x1 − x2)."""
    from shunter.scheduler.kernels.network import score_row

    def taking(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        row = np.zeros(NUM_FEATURES)
        row[: len(values)] = values
        return row

    one = np.ones(1)
    network = new_network(taking(1.0), taking(0, 1, -1)[None], 0 * one, 3 * one[None], -one, 2 * one)
    assert score_row(network, taking(5, 2, 1)) == 5 + 2 * (3 * 1 - 1)
    assert score_row(network, taking(5, 1, 2)) == 5
