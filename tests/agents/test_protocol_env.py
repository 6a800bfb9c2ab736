"""The environment under the RLScheduler protocol: its rules are those of the protocol's own two loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.agents.env import SchedulingEnv
from shunter.agents.vector import VectorSchedulingEnv
from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.compat import rlscheduler
from shunter.sim.compat.rls_learned import RlsRollout
from shunter.sim.compat.rlscheduler import RlsJobs, RlsTrace
from shunter.traces.demo import demo_trace
from tests.agents.test_env import network, play

SDSC = Path(__file__).parents[3] / "shared/traces/swf/SDSC-SP2-1998-4.2-cln.swf.gz"


def log_of(rows: list[tuple[int, int, int, int]], machine: int = 8) -> RlsTrace:
    """Jobs as (seconds since the one before, run, request, processors)."""
    gap, run, requested, procs = np.asarray(rows, dtype=np.int64).T
    unknown = np.full(len(rows), -1)
    user = np.arange(len(rows)) % 3
    submit = np.cumsum(gap)
    jobs = RlsJobs(np.arange(len(rows)), submit, run, requested, procs, procs, unknown, user, unknown, unknown)
    return RlsTrace("drawn", jobs, machine, machine, {}, len(rows))


def logs(least_gap: int) -> st.SearchStrategy[RlsTrace]:
    job = st.tuples(st.integers(least_gap, 5), st.integers(1, 12), st.integers(1, 14), st.integers(1, 8))
    return st.lists(job, min_size=2, max_size=16).map(log_of)


@settings(max_examples=25, deadline=None)
@given(logs(1), st.booleans(), st.integers(0, 1000))
def test_greedy_equals_the_compiled_loop(trace: RlsTrace, backfill: bool, seed: int) -> None:
    """Where no two jobs are submitted together: among those the loop looks at the better score first."""
    mode = "easy-noextra" if backfill else "none"
    env = SchedulingEnv(trace, protocol="rlscheduler", jobs=len(trace), backfill=mode, visible=20)
    scorer = network(seed, 3)
    expected = RlsRollout(trace, backfill).starts(scorer, [0], len(trace))[0]
    np.testing.assert_array_equal(play(env, scorer, (0, 0)), expected)


@settings(max_examples=25, deadline=None)
@given(logs(0), st.booleans(), st.randoms(use_true_random=False))
def test_random_choices_equal_the_plain_machine(trace: RlsTrace, backfill: bool, random: Any) -> None:
    """Every decision shows the machine's queue at its time; a queue of one is no decision."""
    mode = "easy-noextra" if backfill else "none"
    env = SchedulingEnv(trace, protocol="rlscheduler", jobs=len(trace), backfill=mode, visible=20, invalid="error")
    _, info = env.reset(options={"window": (0, 0)})
    machine = rlscheduler.empty_machine(trace, trace.jobs)
    over, steps = False, 0
    while not over:
        while len(machine.queue) == 1 and (steps > 0 or machine.arrived < len(trace)):
            machine.schedule(machine.queue[0], backfill=backfill)
        rows = env.visible_rows()
        assert info["time_s"] == machine.now
        assert sorted(rows) == sorted(machine.queue)
        assert env.action_masks().tolist() == [i < len(rows) for i in range(21)]
        fits = env.features()[:, 6]
        assert fits.tolist() == [float(machine.fits(int(row))) for row in rows]
        choice = random.randrange(len(rows))
        more = machine.schedule(int(rows[choice]), backfill=backfill)
        while more and len(machine.queue) == 1:
            more = machine.schedule(machine.queue[0], backfill=backfill)
        _, _, over, _, info = env.step(choice)
        steps += 1
        assert over != more
    np.testing.assert_array_equal(env.start_times(), machine.starts()[0])


@pytest.mark.skipif(not SDSC.is_file(), reason="../shared/traces/swf is not there")
def test_a_published_window_and_its_return() -> None:
    """Without backfilling jobs that are submitted together make no difference: 1,024 jobs, start by start."""
    trace = rlscheduler.load(SDSC)
    env = SchedulingEnv((trace, 0, 10_000), protocol="rlscheduler", jobs=1024, backfill="none", visible=1024)
    scorer = network(3)
    expected = RlsRollout(trace, False).starts(scorer, [1981], 1024)[0]
    np.testing.assert_array_equal(play(env, scorer, (0, 1981)), expected)
    metrics = rlscheduler.metrics(trace.jobs.rows(1981, 1024), expected, trace.max_procs)
    total, over = 0.0, False
    env.reset(options={"window": (0, 1981)})
    while not over:
        _, reward, over, _, info = env.step(env.sample())
        total += reward
    assert total == pytest.approx(-info["metrics"]["avg_bounded_slowdown"])
    assert env.batch.sources[0].metrics(1981, expected.astype(float))["avg_bounded_slowdown"] == pytest.approx(
        metrics["avg_bsld"]
    )


def test_many_are_as_many_single_ones() -> None:
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(*bounds, 300) for bounds in ((0, 6), (1, 30), (1, 40), (1, 9))], axis=1)
    trace = log_of([tuple(row) for row in rows.tolist()])
    rules: dict[str, Any] = {"protocol": "rlscheduler", "jobs": 40, "visible": 8, "shaping": 1.0}
    vector = VectorSchedulingEnv([trace, (trace, 50, 200)], 3, seed=2, **rules)
    singles = [SchedulingEnv([trace, (trace, 50, 200)], seed=2 + i, **rules) for i in range(3)]
    first = np.stack([env.reset()[0] for env in singles])
    np.testing.assert_array_equal(vector.reset(), first)
    for _ in range(100):
        actions = vector.sample(rng)
        observations, rewards, dones, _ = vector.step(actions)
        for i, env in enumerate(singles):
            observation, reward, over, _, _ = env.step(int(actions[i]))
            assert (rewards[i], dones[i]) == (np.float32(reward), over)
            np.testing.assert_array_equal(observations[i], env.reset()[0] if over else observation)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"protocol": "helios"}, UsageError, "no protocol 'helios'; known: rlscheduler"),
        ({"backfill": "easy"}, UsageError, "no backfilling 'easy'"),
        ({"placement": "packed"}, UsageError, "no placement 'packed'"),
        ({"warm_jobs": 1}, UsageError, "no warm-up"),
        ({"allow_wait": True}, UsageError, "no waiting"),
        ({"reward": "cost"}, UsageError, "of a published protocol"),
        ({"jobs": 4}, TraceError, "3 jobs, an episode takes 4"),
    ],
)
def test_what_the_protocol_has_not_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    trace = log_of([(0, 5, 5, 1), (1, 5, 5, 2), (1, 5, 5, 3)])
    with pytest.raises(error, match=message):
        SchedulingEnv(trace, **({"protocol": "rlscheduler", "jobs": 2} | arguments))


def test_jobs_and_traces_that_the_protocol_cannot_run_are_refused() -> None:
    with pytest.raises(TraceError, match=r"job 1 \(row 1\) needs 9 processors"):
        SchedulingEnv(log_of([(0, 5, 5, 1), (1, 5, 5, 9)]), protocol="rlscheduler", jobs=1)
    with pytest.raises(UsageError, match="SWF files, not a Trace"):
        SchedulingEnv(demo_trace("hpc"), protocol="rlscheduler", jobs=1)
