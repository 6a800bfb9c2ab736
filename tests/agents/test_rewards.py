"""The undiscounted return of an episode is its metric; shaping moves all returns from one state by the same amount."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from shunter.agents.env import SchedulingEnv
from shunter.agents.rewards import TERMS, Reward, user_variance
from shunter.scheduler.errors import UsageError
from shunter.sim.replay import simulate
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Jobs of five users on one priced machine whose power is known."""
    drawn = generate("lublin99", jobs=700, seed=11, params={"cpus": 64, "load": 0.9})
    frame = drawn.jobs.frame.with_columns(
        requested_s=pl.col("duration_s") * 3, user=pl.int_range(pl.len()).mod(5).cast(pl.String)
    )
    group = NodeGroup("machine", 1, cpus=64.0, price_per_h=3.0, idle_w=200.0, peak_w=500.0)
    return replace(drawn, jobs=replace(drawn.jobs, frame=frame), cluster=ClusterSpec("priced", (group,)))


def episode(env: SchedulingEnv, seed: int, **reset: Any) -> tuple[float, dict[str, float]]:
    """Return and metrics of an episode of random choices."""
    env.reset(**reset)
    rng, over, total = np.random.default_rng(seed), False, 0.0
    info: dict[str, Any] = {}
    while not over:
        choices = np.flatnonzero(env.action_masks())
        _, reward, over, _, info = env.step(int(rng.choice(choices)))
        total += reward
    return total, info["metrics"]


@pytest.mark.parametrize("reward", [*TERMS, "0.8*bsld+0.2*wait", "2*utilisation + jct+fairness+3e-3*makespan"])
@pytest.mark.parametrize("warm_jobs", [0, 60])
def test_the_return_is_the_metric(trace: Trace, reward: str, warm_jobs: int) -> None:
    env = SchedulingEnv(trace, jobs=90, warm_jobs=warm_jobs, reward=reward, seed=1)
    for seed in range(3):
        total, metrics = episode(env, seed)
        assert total == pytest.approx(Reward.parse(reward).of(metrics), rel=1e-9, abs=1e-9)


def test_metrics_are_those_of_a_replay(trace: Trace) -> None:
    """All jobs, first come first served: what ``simulate`` says."""
    env = SchedulingEnv(trace, jobs=500, visible=500, seed=1)
    env.reset(options={"window": (0, 100)})
    over, info = False, {}
    while not over:
        *_, over, _, info = env.step(int(env.action_masks().argmax()))
    expected = simulate(trace, policy="fcfs", backfill="easy", window=(100, 500)).metrics
    for name, value in info["metrics"].items():
        if name in expected:
            assert value == pytest.approx(expected[name], rel=1e-9), name
    assert {"avg_bounded_slowdown", "avg_wait_s", "avg_jct_s", "utilisation", "makespan_s", "cost_total"} <= set(
        expected
    ) & set(info["metrics"])


@pytest.mark.parametrize("reward", ["bsld", "wait", "0.5*bsld+2*jct"])
def test_shaping_leaves_differences_between_returns_as_they_are(trace: Trace, reward: str) -> None:
    """From one state the shaped return differs from the plain one by minus the potential there, whatever is done."""
    window = {"options": {"window": (0, 300)}}
    moved = []
    for seed in range(4):
        plain, shaped = (
            episode(SchedulingEnv(trace, jobs=80, warm_jobs=120, reward=reward, shaping=s), seed, **window)[0]
            for s in (0.0, 1.5)
        )
        moved.append(shaped - plain)
    np.testing.assert_allclose(moved, moved[0], rtol=1e-9, atol=1e-9)
    assert moved[0] >= 0


def test_shaping_by_hand() -> None:
    """Two jobs of 30 s (request 60 s) on one processor, the second 10 s later than a first of 20 s.

    When the first ends, at 20, both wait: 10 s and 0 s … so the potential is −(10 / 60) / 3; after the choice the other
    one waits until 50, alone, and no decision is left. With γ = 0.5 the only step is shaped by 0 − Φ(s).
    """
    from shunter.traces.tables import make_jobs, pool

    columns = {
        "job_id": ["a", "b", "c"],
        "submit_s": [0.0, 10.0, 20.0],
        "duration_s": [20.0, 30.0, 30.0],
        "requested_s": [60.0, 60.0, 60.0],
        "tasks": [1, 1, 1],
        "cpus": [1.0, 1.0, 1.0],
    }
    trace = Trace("three", make_jobs(columns), pool(1))
    plain, shaped = (SchedulingEnv(trace, jobs=3, shaping=weight, discount=0.5) for weight in (0.0, 1.0))
    rewards = []
    for env in (plain, shaped):
        env.reset()
        rewards.append(env.step(0)[1])
    slowdowns = (1.0, 40 / 30, 60 / 30)
    assert rewards[0] == pytest.approx(-sum(slowdowns) / 3)
    assert rewards[1] - rewards[0] == pytest.approx((10 / 60) / 3)


def test_variance_of_users_by_hand() -> None:
    """Means 2 and 6: each 2 from their mean of 4, squared 4."""
    assert user_variance(np.asarray([1.0, 3.0, 6.0]), np.asarray([7, 7, -1])) == 4.0


@pytest.mark.parametrize("text", ["", "bsld+", "bsld*2", "0*bsld", "nan*bsld", "1e*wait", "slowdown"])
def test_what_is_no_reward_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="reward"):
        Reward.parse(text)


def test_a_name_twice_adds_up() -> None:
    assert Reward.parse("wait+ 0.5*wait").weights == {"wait": 1.5}
