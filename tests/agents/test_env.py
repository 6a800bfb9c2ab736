"""The environment: equal to the compiled loop, to a model in plain Python, to Gymnasium's and SB3's contracts."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import polars as pl
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shunter.agents.env import SchedulingEnv
from shunter.agents.registration import register
from shunter.scheduler.errors import TraceError, UsageError
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.kernels.network import Network, new_network, score_row
from shunter.scheduler.types import FloatArray
from shunter.sim.replay import simulate
from shunter.sim.rollout import Rollout
from shunter.sim.workload import prepare
from shunter.traces.generate import generate
from shunter.traces.tables import Trace, make_jobs, pool
from tests.agents.pool_model import PoolJob, PoolModel
from tests.properties.strategies import node_clusters, pools, traces

SDSC = Path(__file__).parents[3] / "shared/traces/swf/SDSC-SP2-1998-4.2-cln.swf.gz"
BACKFILLS = ("none", "easy", "easy-noextra", "easy-sjbf")


def network(seed: int, hidden: int = 0) -> Network:
    """A network with random weights; without hidden units a linear score."""
    rng = np.random.default_rng(seed)
    width = NUM_FEATURES
    w1, w2 = rng.normal(size=(hidden, width)), rng.normal(size=(hidden, hidden))
    b1, b2, w3 = (rng.normal(size=hidden) for _ in range(3))
    return new_network(rng.normal(size=width), w1, b1, w2, b2, w3)


def play(env: SchedulingEnv, scorer: Network, window: tuple[int, int]) -> FloatArray:
    """Start times when the lowest score goes first."""
    env.reset(options={"window": window})
    over = False
    while not over:
        score = np.asarray([score_row(scorer, row) for row in env.features()])
        allowed = env.action_masks()[: len(score)]
        *_, over, _, _ = env.step(int(np.where(allowed, score, np.inf).argmin()))
    return env.start_times()


# --- the same decisions as everywhere else ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.one_of(pools(), node_clusters()).flatmap(traces),
    st.sampled_from(BACKFILLS),
    st.sampled_from(["first-fit", "best-fit", "worst-fit", "packed", "topology"]),
    st.integers(0, 1000),
)
def test_greedy_starts_every_job_when_the_compiled_loop_does(
    trace: Trace, backfill: str, placement: str, seed: int
) -> None:
    workload = prepare(trace, trace.cluster)
    assume(not workload.rejected.all())
    env = SchedulingEnv(workload, jobs=workload.num_jobs, backfill=backfill, placement=placement, visible=20)
    scorer = network(seed, 3)
    expected = Rollout(workload, backfill, placement).starts(scorer, np.array([0]), np.array([workload.num_jobs]))
    np.testing.assert_array_equal(play(env, scorer, (0, 0)), expected)


@pytest.mark.skipif(not SDSC.is_file(), reason="../shared/traces/swf is not there")
@pytest.mark.parametrize("backfill", ["none", "easy"])
def test_greedy_equals_the_compiled_loop_on_a_log(backfill: str) -> None:
    from shunter.traces.read import read

    trace = read(SDSC).window(20_000, 1_100)
    workload = prepare(trace, trace.cluster)
    env = SchedulingEnv(workload, jobs=1024, backfill=backfill, visible=1024)
    scorer = network(5, 8)
    expected = Rollout(workload, backfill).starts(scorer, np.array([40]), np.array([1064]))
    np.testing.assert_array_equal(play(env, scorer, (0, 40)), expected[40:1064])


def drawn_jobs() -> st.SearchStrategy[list[PoolJob]]:
    whole = st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, 12), st.integers(1, 8))

    def ordered(rows: list[tuple[int, int, int, int]]) -> list[PoolJob]:
        submit_s = np.cumsum([row[0] // 2 for row in rows])
        return [PoolJob(float(s), *map(float, row[1:3]), row[3]) for s, row in zip(submit_s, rows, strict=True)]

    return st.lists(whole, min_size=1, max_size=16).map(ordered)


def trace_of(jobs: list[PoolJob], size: int, users: int = 3) -> Trace:
    columns = {
        "job_id": [str(i) for i in range(len(jobs))],
        "submit_s": [job.submit_s for job in jobs],
        "duration_s": [job.run_s for job in jobs],
        "requested_s": [job.requested_s for job in jobs],
        "tasks": [job.size for job in jobs],
        "cpus": [1.0] * len(jobs),
        "user": [f"user {i % users}" for i in range(len(jobs))],
    }
    return Trace("drawn", make_jobs(columns), pool(size))


@settings(max_examples=25, deadline=None)
@given(drawn_jobs(), st.sampled_from(BACKFILLS[:3]), st.randoms(use_true_random=False))
def test_the_mask_allows_what_the_rules_allow_and_nothing_else(jobs: list[PoolJob], backfill: str, random: Any) -> None:
    """Decision by decision as the model asks for them, under random choices; every job starts once."""
    env = SchedulingEnv(trace_of(jobs, 8), jobs=len(jobs), backfill=backfill, visible=20, invalid="error")
    _, info = env.reset(options={"window": (0, 0)})
    model = PoolModel(jobs, 8, backfill)
    game: Generator[tuple[float, list[int]], int, None] = model.play()  # type: ignore[assignment]
    asked, over = next(game), False
    while not over:
        now_s, allowed = asked
        visible, mask = env.visible_rows(), env.action_masks()
        assert info["time_s"] == now_s
        assert visible[mask[: len(visible)]].tolist() == allowed
        assert not mask[len(visible) :].any()
        for forbidden in np.flatnonzero(~mask)[:3]:
            with pytest.raises(UsageError, match="may not be chosen now"):
                env.step(int(forbidden))
        row = random.choice(allowed)
        _, _, over, _, info = env.step(int(np.flatnonzero(visible == row)[0]))
        try:
            asked = game.send(row)
        except StopIteration:
            assert over
    assert model.start_s == dict(enumerate(env.start_times()))


def requested(trace: Trace) -> Trace:
    from dataclasses import replace

    frame = trace.jobs.frame.with_columns(requested_s=pl.col("duration_s") * 2)
    return replace(trace, jobs=replace(trace.jobs, frame=frame))


def test_a_warm_queue_is_the_one_that_the_policy_would_have_left() -> None:
    """Warm-up under SJF and then shortest requests first is SJF throughout."""
    trace = requested(generate("lublin99", jobs=900, seed=3))
    shortest = network(0)._replace(skip=np.eye(NUM_FEATURES)[0])
    env = SchedulingEnv(trace, jobs=300, warm_jobs=200, warm_policy="sjf", visible=500)
    starts = play(env, shortest, (0, 450))
    expected = simulate(trace, policy="sjf", backfill="easy", window=(250, 500)).jobs
    offset_s = trace.jobs.floats("submit_s")[250] - expected["submit_s"][0]
    np.testing.assert_allclose(starts, expected["start_s"].to_numpy()[200:] + offset_s)


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_the_observation_is_the_features_and_where_there_are_jobs() -> None:
    env = SchedulingEnv(requested(generate("lublin99", jobs=600, seed=2)), jobs=300, visible=16)
    observation, _ = env.reset(seed=4)
    over, most = False, 0
    while not over:
        rows = env.visible_rows()
        most = max(most, len(rows))
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(observation[: len(rows), :NUM_FEATURES], env.features().astype(np.float32))
        np.testing.assert_array_equal(observation[:, NUM_FEATURES], np.arange(16) < len(rows))
        assert not observation[len(rows) :].any()
        assert np.ptp(observation[: len(rows), 17:22], axis=0).max() == 0
        observation, _, over, _, _ = env.step(env.sample())
    assert most == 16


def test_more_jobs_than_room_are_chosen_by_several_views_in_turn() -> None:
    """A job on all 8 processors ends at 10; ten that wait then are shown in six places, one for each view.

    First by submission row 1; by request row 2; by area row 3 (5 · 1 = 5); by size row 4 (1 processor, earlier than
    row 7, row 3 being taken); first that fits row 5; most wait over request row 6: 9 s of 4 s.
    """
    rest = [(1, 40, 8), (1, 2, 5), (1, 5, 1), (1, 90, 1), (1, 60, 3), (1, 4, 7), (1, 80, 2), *[(2, 50, 6)] * 3]
    jobs = [PoolJob(0.0, 10.0, 10.0, 8), *(PoolJob(s, r, r, n) for s, r, n in rest)]
    env = SchedulingEnv(trace_of(jobs, 8), jobs=len(jobs), visible=6)
    _, info = env.reset(options={"window": (0, 0)})
    assert info["time_s"] == 10.0
    assert env.visible_rows().tolist() == [1, 2, 3, 4, 5, 6]


def test_all_jobs_start_even_if_few_are_seen() -> None:
    env = SchedulingEnv(generate("lublin99", jobs=400, seed=7), jobs=300, visible=3)
    env.reset(seed=1)
    over = False
    while not over:
        *_, over, _, _ = env.step(env.sample())
    assert not np.isnan(env.start_times()).any()


def test_waiting_ends_the_instant() -> None:
    """Two jobs at 0 on two processors: after waiting they are asked for again when the third arrives."""
    jobs = [PoolJob(0.0, 5.0, 5.0, 1), PoolJob(0.0, 5.0, 5.0, 1), PoolJob(3.0, 5.0, 5.0, 2)]
    env = SchedulingEnv(trace_of(jobs, 2), jobs=3, visible=4, allow_wait=True)
    _, info = env.reset(options={"window": (0, 0)})
    assert info["time_s"] == 0.0
    assert env.action_masks()[4]
    *_, info = env.step(4)
    assert info["time_s"] == 3.0
    assert not env.action_masks()[4]  # nothing would ever happen
    env.step(1)
    env.step(0)
    assert env.start_times()[:2].tolist() == [3.0, 3.0]


def test_without_leave_waiting_is_forbidden() -> None:
    env = SchedulingEnv(generate("poisson", jobs=50, seed=1), jobs=40, invalid="error")
    env.reset(seed=1)
    assert not env.action_masks()[-1]
    with pytest.raises(UsageError, match="waiting may not be chosen"):
        env.step(128)


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_checkers_of_gymnasium_and_stable_baselines() -> None:
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    name = register()
    assert register() == name
    env = gymnasium.make(name, jobs=40, visible=16, disable_env_checker=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*unconventional shape.*")
        check_env(env.unwrapped)
        check_for_sb3(env.unwrapped)


def test_importing_registers_nothing() -> None:
    code = (
        "import shunter.agents.registration, gymnasium\n"
        "assert not [name for name in gymnasium.registry if 'shunter' in name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_equal_seeds_give_equal_episodes() -> None:
    trace = generate("lublin99", jobs=500, seed=2)
    first, second = SchedulingEnv(trace, jobs=60, seed=9), SchedulingEnv(trace, jobs=60)
    one, other = first.reset(), second.reset(seed=9)
    assert one[1] == other[1]
    windows = set()
    for _ in range(4):
        over = False
        while not over:
            np.testing.assert_array_equal(one[0], other[0])
            one, other = first.step(first.sample()), second.step(second.sample())
            assert one[1:] == other[1:]
            over = one[2]
        one, other = first.reset(), second.reset()
        windows.add(one[1]["window"])
    assert len(windows) > 1


def test_a_step_limit_truncates() -> None:
    env = SchedulingEnv(generate("lublin99", jobs=300, seed=2), jobs=200, max_steps=5)
    env.reset(seed=3)
    ends = [env.step(env.sample())[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_a_forbidden_action_is_replaced_and_said_to_be() -> None:
    env = SchedulingEnv(generate("lublin99", jobs=300, seed=2), jobs=100)
    env.reset(seed=3)
    forbidden = int(np.flatnonzero(~env.action_masks())[0])
    *_, info = env.step(forbidden)
    assert info["replaced_action"] == forbidden
    for nonsense in (-1, 129, 1.5, "a"):
        with pytest.raises(UsageError, match="not a whole number from 0 to 128"):
            env.step(nonsense)


def test_windows_do_not_depend_on_the_actions_drawn() -> None:
    env = SchedulingEnv(generate("lublin99", jobs=300, seed=2), jobs=20)
    found = []
    for draws in (1, 50):
        env.reset(seed=5)
        for _ in range(draws):
            env.sample()
        found.append([env.reset()[1]["window"] for _ in range(3)])
    assert found[0] == found[1]


def test_jobs_that_can_never_run_do_not_count() -> None:
    """On two processors: a job of three is left out of the episode; nothing but such jobs is none."""
    jobs = [PoolJob(0.0, 20.0, 20.0, 1), PoolJob(1.0, 20.0, 20.0, 3), PoolJob(2.0, 20.0, 20.0, 2)]
    env = SchedulingEnv(trace_of(jobs, 2), jobs=3)
    env.reset()
    over, total, info = False, 0.0, {}
    while not over:
        _, reward, over, _, info = env.step(env.sample())
        total += reward
    assert np.isnan(env.start_times()).tolist() == [False, True, False]
    assert (info["metrics"]["jobs_rejected"], total) == (1, pytest.approx(-(1.0 + 38 / 20) / 2))
    with pytest.raises(TraceError, match="none of 1 jobs from row 1 on can ever run"):
        SchedulingEnv(trace_of(jobs, 2), jobs=1).reset(options={"window": (0, 1)})


def test_environments_are_not_copied() -> None:
    """Their arrays are known by address: a copy would write into the original's."""
    env = SchedulingEnv(generate("poisson", jobs=30, seed=1), jobs=20)
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="make another"):
            copied(env)


def test_one_job_is_one_step() -> None:
    env = SchedulingEnv(trace_of([PoolJob(0.0, 20.0, 20.0, 1)], 2), jobs=1)
    env.reset()
    assert env.action_masks().tolist() == [True] + [False] * 128
    _, reward, over, _, info = env.step(0)
    assert (reward, over) == (-1.0, True)
    assert info["metrics"]["avg_bounded_slowdown"] == 1.0
    with pytest.raises(UsageError, match=r"reset\(\)"):
        env.step(0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"jobs": 200}, TraceError, "50 jobs, an episode takes 200"),
        ({"jobs": 30, "warm_jobs": 30}, TraceError, "60 .30 of them to warm up"),
        ({"jobs": 0}, UsageError, "jobs 0 is not a whole number of at least 1"),
        ({"jobs": 10, "backfill": "conservative"}, UsageError, "no backfilling 'conservative'"),
        ({"jobs": 10, "placement": "fgd"}, UsageError, "no placement 'fgd'"),
        ({"jobs": 10, "reward": "bslt"}, UsageError, "did you mean 'bsld'"),
        ({"jobs": 10, "reward": "-1*bsld"}, UsageError, "not a positive number"),
        ({"jobs": 10, "reward": "cost"}, UsageError, "price_per_h"),
        ({"jobs": 10, "warm_policy": "wfp3"}, UsageError, "fixed score"),
        ({"jobs": 10, "invalid": "ignore"}, UsageError, "invalid='ignore'"),
        ({"jobs": 10, "max_steps": 0}, UsageError, "max_steps 0"),
        ({"jobs": 10, "shaping": -1.0}, UsageError, "shaping"),
        ({"jobs": 10, "discount": 0.0}, UsageError, "discount"),
    ],
)
def test_what_cannot_be_played_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    trace = generate("poisson", jobs=50, seed=1)
    with pytest.raises(error, match=message):
        SchedulingEnv(trace, **arguments)


def test_windows_that_do_not_exist_are_refused() -> None:
    trace = generate("poisson", jobs=50, seed=1)
    env = SchedulingEnv([(trace, 10, 50), trace], jobs=20)
    for window, message in (((2, 0), "no trace 2"), ((0, 5), "rows 10 to 50"), ((1, 31), "do not lie inside")):
        with pytest.raises(UsageError, match=message):
            env.reset(options={"window": window})
    with pytest.raises(UsageError, match=r"'ab' is not \(number of the trace"):
        env.reset(options={"window": "ab"})
    with pytest.raises(UsageError, match="unknown option 'windows'"):
        env.reset(options={"windows": (0, 0)})
    with pytest.raises(UsageError, match="rows 10 to 60"):
        SchedulingEnv((trace, 10, 60), jobs=20)
    with pytest.raises(UsageError, match="no traces"):
        SchedulingEnv([], jobs=20)
