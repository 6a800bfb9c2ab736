"""A window of a log begins with what the jobs before it taught, the same in every engine."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.agents.env import SchedulingEnv
from shunter.scheduler.features import FEATURES, FeatureSource, Past
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.snapshot import JobColumns
from shunter.sim.replay import simulate
from shunter.sim.rollout import Rollout
from shunter.sim.workload import prepare, with_past
from shunter.traces.generate import generate
from shunter.traces.tables import Trace
from tests.agents.test_env import play
from tests.sim.test_rollout import linear

NAMES = [feature.name for feature in FEATURES]
LAST_RUN = NAMES.index("user_last_run")


@pytest.fixture(scope="module")
def trace() -> Trace:
    return generate("lublin99", jobs=900, seed=6, params={"users": 20, "estimates": "uniform"})


def unguarded(**weights: float) -> ChosenOrdering:
    return ChosenOrdering(choose_ordering("learned").ordering, {}, KernelScorer(linear(**weights)))


def test_what_earlier_jobs_teach_is_what_they_would_have_taught_in_a_replay() -> None:
    columns = JobColumns.of(np.array([100.0]), user_idx=np.array([3]), requested_s=np.array([50.0]))
    past = Past(np.array([3, 1]), np.array([50.0, 50.0]), np.ones(2), np.array([7.0, 30.0]), np.array([20.0, 60.0]))
    source = FeatureSource.of(columns, 4.0, past)
    every = FeatureSource.of(
        JobColumns.of(
            np.array([13.0, 30.0, 100.0]), user_idx=np.array([3, 1, 3]), requested_s=np.array([50.0, 50.0, 50.0])
        ),
        4.0,
    )
    for row, start_s, end_s in ((0, 13.0, 20.0), (1, 30.0, 60.0)):
        every.submitted([row])
        every.started([row], start_s)
        every.ended([row], np.array([7.0, 30.0, 1.0]), end_s)
    own, same = source.known_of(np.array([0])), every.known_of(np.array([2]))
    np.testing.assert_allclose(own.users, same.users, rtol=1e-4)  # a run counts as if it had all been used at its end
    np.testing.assert_allclose(own.alike, same.alike)
    assert own.users[10, 0] == np.log1p(7.0)


def test_only_jobs_that_had_ended_are_known(trace: Trace) -> None:
    cluster, ordering = trace.cluster, choose_ordering("learned").ordering
    window = prepare(trace.window(400, 100), cluster)
    past = with_past(window, trace, 400, ordering=ordering).past
    assert past is not None
    assert len(past)
    assert (past.end_s <= window.columns.submit_s[0]).all()
    ends_s = trace.jobs.floats("submit_s")[:400] + trace.jobs.floats("duration_s")[:400]
    comes = trace.jobs.frame["user"].is_in(window.trace.jobs.frame["user"].implode()).to_numpy()[:400]
    assert len(past) == (comes & (ends_s <= window.columns.submit_s[0])).sum()
    assert with_past(window, trace, 400, ordering=choose_ordering("sjf").ordering).past is None
    assert with_past(window, trace, 0, ordering=ordering).past is None


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_window_is_the_same_alone_in_the_loop_and_in_the_environment(trace: Trace, engine: str) -> None:
    weights = {"f0": 1.0, f"f{LAST_RUN}": 2.0, "f22": -1.0, "f28": -0.5}
    first, count = 500, 300
    alone = simulate(trace, policy=unguarded(**weights), backfill="easy", window=(first, count), engine=engine).jobs
    workload = prepare(trace, trace.cluster)
    starts = Rollout(workload, "easy").starts(linear(**weights), np.array([first]), np.array([first + count]))
    np.testing.assert_array_equal(starts[first : first + count], alone["start_s"].to_numpy())
    env = SchedulingEnv(workload, jobs=count, backfill="easy", visible=300)
    played = play(env, linear(**weights), (0, first))
    np.testing.assert_array_equal(played, alone["start_s"].to_numpy())


def test_predictions_begin_with_the_last_two_runs_of_a_user(trace: Trace) -> None:
    first = 500
    jobs = simulate(
        trace, policy="sjf-predicted", backfill="easy", estimates="tsafrir", window=(first, 200), engine="simpy"
    )
    compiled = simulate(
        trace, policy="sjf-predicted", backfill="easy", estimates="tsafrir", window=(first, 200), engine="compiled"
    )
    np.testing.assert_array_equal(jobs.jobs["start_s"].to_numpy(), compiled.jobs["start_s"].to_numpy())
    window = prepare(trace.window(first, 200), trace.cluster, estimates="tsafrir")
    from shunter.sim.estimates import estimates_of

    known = with_past(window, trace, first, ordering=choose_ordering("sjf-predicted").ordering)
    estimates = estimates_of(known, "sjf-predicted")
    users, duration_s = trace.jobs.frame["user"].to_list(), trace.jobs.floats("duration_s")
    ends_s = trace.jobs.floats("submit_s") + duration_s
    name = window.trace.jobs.codes("user")[1][0]
    ended = [row for row in np.argsort(ends_s[:first], kind="stable") if users[row] == name]
    ended = [row for row in ended if ends_s[row] <= window.columns.submit_s[0]]
    assert estimates.run_s[:, 1].tolist() == [duration_s[ended[-2]], duration_s[ended[-1]]]
