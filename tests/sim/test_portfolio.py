"""The portfolio looks ahead with what is known, decides when it is due, and is the better of its candidates by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.types import FloatArray
from shunter.sim.checkpoint import load_checkpoint, save_checkpoint
from shunter.sim.engine import Simulation
from shunter.sim.lookahead import Experience, scene_of
from shunter.sim.portfolio import METRICS, Portfolio, choose_policy
from shunter.sim.replay import options_for, simulate
from shunter.sim.rollout import KINDS
from shunter.sim.workload import prepare
from shunter.traces.cluster_spec import Quota
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool

OFTEN = "portfolio:candidates=fcfs+sjf+saf+wfp3,every=5"
NOBODY = np.zeros(0, dtype=np.int64)


def trace_of(numbers: FloatArray, cluster: ClusterSpec | None = None) -> Trace:
    """Jobs from columns of submit time, run time, request, processors and user."""
    jobs = make_jobs(
        {
            "job_id": [str(i) for i in range(numbers.shape[1])],
            "submit_s": numbers[0],
            "duration_s": numbers[1],
            "requested_s": numbers[2],
            "cpus": numbers[3],
            "user": [f"u{int(user)}" for user in numbers[4]],
        }
    )
    return Trace("drawn", jobs, cluster or pool(8))


@st.composite
def numbers(draw: st.DrawFn, *, gap: int = 4) -> FloatArray:
    """Columns of ``trace_of``, of jobs that keep to their requests."""
    count = draw(st.integers(2, 25))
    row = st.tuples(
        st.integers(0, gap), st.integers(1, 30), st.sampled_from([1, 2, 5]), st.integers(1, 8), st.integers(0, 3)
    )
    columns = np.asarray(draw(st.lists(row, min_size=count, max_size=count)), dtype=np.float64).T
    columns[0] = np.cumsum(columns[0])
    columns[2] *= columns[1]
    return columns


def starts(trace: Trace, policy: str) -> FloatArray:
    """(J,) start times under EASY."""
    options = options_for(trace.cluster, policy=policy, backfill="easy", details=False)
    simulation = Simulation(prepare(trace, trace.cluster), options)
    simulation.run()
    found: FloatArray = simulation.state.jobs_f[at.START_S]
    return found


# --- what it may know -------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(numbers(), st.floats(0, 1), st.lists(st.integers(1, 500), min_size=25, max_size=25), st.sampled_from([0, 20]))
def test_what_has_not_ended_may_run_for_any_time(
    columns: FloatArray, share: float, others: list[int], recent: int
) -> None:
    """Until a moment, starts do not depend on the run times of the jobs that have not ended by then."""
    policy = f"{OFTEN},recent={recent}"
    start_s = starts(trace_of(columns), policy)
    end_s = start_s + columns[1]
    until_s = float(share * end_s.max())
    changed = columns.copy()
    left = np.asarray(others[: len(start_s)], dtype=np.float64)
    new_s = np.where(start_s <= until_s, np.floor(until_s - start_s) + left, left)
    changed[1] = np.where(end_s > until_s, new_s, columns[1])
    again = starts(trace_of(changed), policy)
    before = start_s <= until_s
    np.testing.assert_array_equal(again[before], start_s[before])
    assert (again[~before] > until_s).all()


def test_predicted_run_times_by_hand() -> None:
    """Request 100 s throughout. User 0 has ended jobs of 50 and 12.5 s with one processor: mean log ratio −2 log 2.

    Equal jobs weigh 2 / (2 + 1), the user 2 / (2 + 2): for an equal one both, for one with two processors half.
    """
    columns = JobColumns.of(
        np.zeros(5),
        requested_s=np.full(5, 100.0),
        processors=np.array([1.0, 1.0, 1.0, 2.0, 1.0]),
        user_idx=np.array([0, 0, 0, 0, 1]),
    )
    experience = Experience(columns)
    experience.ended(np.array([0, 1]), np.array([50.0, 12.5]))
    mean = -2 * math.log(2)
    alike, same_user = 100 * math.exp((2 / 3 + 1 / 3 / 2) * mean), 100 * math.exp(mean / 2)
    rows = np.array([2, 3, 4])
    np.testing.assert_allclose(experience.run_s(rows, np.zeros(3)), [alike, same_user, 100.0])
    # Running: one that has outlived its prediction, then half of its request, then all of it.
    rows = np.full(3, 2)
    np.testing.assert_allclose(experience.run_s(rows, np.array([45.0, 60.0, 100.0])), [90.0, 100.0, 160.0])


# --- the roll ---------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    numbers(gap=1),
    st.sampled_from(["fcfs", "sjf", "saf", "wfp3", "unicep"]),
    st.sampled_from(["none", "easy", "easy-noextra", "easy-sjbf"]),
    st.sampled_from([1, 3]),
    st.integers(8, 30),
)
def test_a_roll_is_what_the_engine_does_when_jobs_run_as_predicted(
    columns: FloatArray, policy: str, backfill: str, nodes: int, events: int
) -> None:
    """Jobs use all of their requests, and all that come have come: the roll starts them when the engine does."""
    columns[1] = columns[2]
    trace = trace_of(columns, ClusterSpec("c", (NodeGroup("n", nodes, cpus=8.0),)))
    options = options_for(trace.cluster, policy=policy, backfill=backfill, details=False)
    whole = Simulation(prepare(trace, trace.cluster), options)
    stopped = [False]
    whole.run(lambda: bool(stopped.append(True)) or len(stopped) > events, every=1)
    state, now_s = whole.state, whole.clock.now
    waiting = np.sort(state.queue)
    assume(whole._arrived == len(trace.jobs) and len(waiting) >= 2)
    scene = scene_of(state, Experience(state.columns).run_s, waiting, now_s, NOBODY, 0.0)
    before = {name: array.copy() for name, array in state.arrays().items()}
    places = np.empty(len(waiting))
    places[np.searchsorted(waiting, state.queue)] = np.arange(len(waiting))
    found = scene.starts(places, KINDS.get(policy, 0))
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    whole.run()
    np.testing.assert_array_equal(found, state.jobs_f[at.START_S, waiting])


@pytest.mark.parametrize("policy", ["sjf", "wfp3", "fairshare"])
def test_with_one_candidate_it_is_that_candidate(policy: str) -> None:
    trace = generate("lublin99", jobs=400, seed=3)
    alone = simulate(trace, policy=policy, backfill="easy", engine="simpy").jobs
    assert simulate(trace, policy=f"portfolio:candidates={policy},every=600", backfill="easy").jobs.equals(alone)


@pytest.mark.parametrize(
    ("metric", "horizon_s", "winner"),
    [("bsld", 0, "sjf"), ("p95", 0, "sjf"), ("mix", 0, "sjf"), ("wait", 0, "sjf"), ("bsld", 50, "fcfs")],
)
def test_by_hand(metric: str, horizon_s: int, winner: str) -> None:
    """One processor is busy until 100 s; a job of 1000 s waits since 1 s, and nineteen of 10 s since 2 s.

    In the order of submission all of the short ones wait for the long one: slowdowns above 100. Shortest first it waits
    190 s longer, and nobody's slowdown is above 29. Up to 52 s nothing has started under either: the first one stays.
    """
    submit = np.array([0.0, 1.0, *[2.0] * 19])
    run = np.array([100.0, 1000.0, *[10.0] * 19])
    trace = trace_of(np.stack([submit, run, run, np.ones(21), np.zeros(21)]), pool(1))
    result = simulate(trace, policy=f"portfolio:candidates=fcfs+sjf,every=1e6,metric={metric},horizon={horizon_s}")
    assert result.manifest["portfolio"]["chosen"] == {"fcfs": 0, "sjf": 0} | {winner: 1}
    assert result.jobs["start_s"][1] == (100.0 if winner == "fcfs" else 290.0)


def test_values_of_the_metrics() -> None:
    wait, run = np.array([0.0, 90.0]), np.array([5.0, 10.0])
    assert METRICS["bsld"](wait, run) == (1.0 + 10.0) / 2
    assert METRICS["p95"](wait, run) == pytest.approx(1.0 + 0.95 * 9.0)
    assert METRICS["mix"](wait, run) == pytest.approx(math.log(5.5) + math.log(9.55))
    assert METRICS["wait"](wait, run) == 45.0


# --- when it decides --------------------------------------------------------------------------------------------------


class Watched(Portfolio):
    """Notes when it decided, on how many jobs."""

    def decide(self, state: Any, view: Any) -> int:
        self.noted = [*getattr(self, "noted", []), (view.now_s, len(view.jobs))]
        return super().decide(state, view)


def watched(trace: Trace, policy: str) -> Watched:
    options = options_for(trace.cluster, policy=policy, backfill="easy", details=False)
    simulation = Simulation(prepare(trace, trace.cluster), options)
    simulation.portfolio = Watched(options.settings.ordering, simulation.workload.columns)  # type: ignore[arg-type]
    simulation.run()
    return simulation.portfolio


def test_it_decides_when_it_is_due_and_somebody_waits() -> None:
    portfolio = watched(generate("lublin99", jobs=300, seed=4), "portfolio:every=1800")
    times, lengths = np.asarray(portfolio.noted).T
    assert len(times) > 20
    assert (np.diff(times) >= 1800).all()
    assert lengths.min() >= 2
    assert portfolio.chosen.sum() == len(times)
    assert (portfolio.chosen > 0).sum() > 1


def test_what_it_looks_at_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(*arguments: Any) -> Any:
        seen.append(len(arguments[2]))
        return scene_of(*arguments)

    monkeypatch.setattr("shunter.sim.lookahead.scene_of", noted)
    watched(generate("lublin99", jobs=300, seed=4), "portfolio:every=600,jobs=12")
    assert max(seen) == 12
    seen.clear()
    watched(generate("lublin99", jobs=300, seed=4), "portfolio:candidates=fcfs+sjf+saf,every=600,work=16")
    assert max(seen) == 5


def test_one_that_is_stopped_and_taken_up_ends_the_same(tmp_path: Path) -> None:
    trace = generate("lublin99", jobs=250, seed=7)
    options = options_for(trace.cluster, policy="portfolio:every=900,recent=3600", backfill="easy", details=False)

    def fresh() -> Simulation:
        return Simulation(prepare(trace, trace.cluster), options)

    whole, current = fresh(), fresh()
    whole.run()
    while not current.run(lambda: True, every=90):
        save_checkpoint(tmp_path / "x", current, {}, 0.0)
        current = fresh()
        load_checkpoint(tmp_path / "x", current, {})
    np.testing.assert_array_equal(current.state.jobs_f[at.START_S], whole.state.jobs_f[at.START_S])
    assert current.portfolio is not None
    assert whole.portfolio is not None
    assert current.portfolio.counts() == whole.portfolio.counts()


def test_on_nodes_with_gpus_and_failures_of_attempts() -> None:
    trace = generate("gpu", jobs=150, seed=2)
    result = simulate(trace, policy="portfolio:candidates=fcfs+las+sjf,every=600", backfill="easy", placement="random")
    assert result.metrics["jobs_completed"] + result.metrics["jobs_failed"] == 150
    assert sum(result.manifest["portfolio"]["chosen"].values()) == result.manifest["portfolio"]["decisions"] > 0
    assert result.manifest["engine"] == "simpy"


# --- names and settings -----------------------------------------------------------------------------------------------


def test_labels_and_the_manifest() -> None:
    assert choose_policy("portfolio").label == "portfolio"
    assert choose_policy("portfolio:every=3600,metric=mix").label == "portfolio:metric=mix"
    assert choose_policy("sjf").label == "sjf"
    trace = trace_of(np.array([[0.0, 0, 0], [5, 5, 5], [5, 5, 5], [8, 8, 8], [0, 0, 0]]))
    manifest = simulate(trace, policy="portfolio:candidates=sjf+fcfs").manifest
    assert manifest["policy"] == "portfolio"
    assert manifest["policy_parameters"]["candidates"] == "sjf+fcfs"


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ("candidates=fcfs+sfj", "unknown policy 'sfj'; did you mean 'sjf'"),
        ("candidates=fcfs+fcfs", "named twice"),
        ("candidates=", "not of the form key=value"),
        ("candidates=fcfs+elastic", "decides in rounds"),
        ("evry=3", "no parameter 'evry'; did you mean 'every'"),
        ("every=soon", "every='soon' is not a number"),
        ("every=-1", "every=-1 is not"),
        ("every=nan", "every=nan is not"),
        ("metric=bsd", "unknown metric 'bsd'; did you mean 'bsld'"),
        ("jobs=1", "jobs=1 is not"),
        ("work=6", "work=6 allows less than two jobs"),
    ],
)
def test_what_cannot_be_is_refused(settings_: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_policy(f"portfolio:{settings_}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backfill": "conservative"}, "conservative"),
        ({"preemption": Preemption(("policy",))}, "--preempt"),
        ({"cluster": ClusterSpec("q", (NodeGroup("n", 1, gpus=4.0, cpus=8.0),), quotas={"a": Quota(1.0)})}, "quotas"),
    ],
)
def test_rules_that_a_roll_does_not_know(options: dict[str, Any], message: str) -> None:
    trace = trace_of(np.ones((5, 3)))
    with pytest.raises(UsageError, match=f"portfolio.*{message}"):
        simulate(trace, policy="portfolio", **options)
