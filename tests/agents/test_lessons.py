"""What is trained on and against what: load, generated traces, the baseline, and rewards that are 0 for it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sb3_contrib", reason="needs shunter[train]")

from shunter.agents.lessons import (
    HEURISTICS,
    Lesson,
    Material,
    Yardstick,
    at_load,
    best_heuristic,
    lessons_of,
)
from shunter.agents.ppo import SpreadOfReturns
from shunter.agents.seeds import make_env
from shunter.agents.teaching import collect, of_heuristic
from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.replay import simulate
from shunter.sim.workload import prepare
from tests.agents.small import small_settings, small_trace


def material(first: int = 0, last: int = 300) -> list[Material]:
    trace = small_trace()
    return [Material(trace, trace.cluster, (first, last), (last, 400))]


def lesson() -> Lesson:
    trace = small_trace()
    return Lesson("small", prepare(trace, trace.cluster), 0, len(trace.jobs))


def test_load_makes_arrivals_denser_and_changes_nothing_else() -> None:
    trace = small_trace()
    dense = at_load(trace, 1.25)
    np.testing.assert_allclose(np.diff(dense.jobs.floats("submit_s")), np.diff(trace.jobs.floats("submit_s")) / 1.25)
    np.testing.assert_array_equal(dense.jobs.floats("duration_s"), trace.jobs.floats("duration_s"))


def test_lessons_know_nothing_of_what_comes_after_the_training_period() -> None:
    """The same jobs behind it or others: the same lessons, the generated ones among them."""
    settings, trace = small_settings(), small_trace()
    here = lessons_of(material(0, 200), settings, 1, seed=3)
    cut = trace.window(0, 200)
    there = lessons_of([Material(cut, cut.cluster, (0, 200), (0, 0))], settings, 1, seed=3)
    assert [each.last for each in here] == [200, 100]
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.workload.columns.submit_s, other.workload.columns.submit_s)
        np.testing.assert_array_equal(one.workload.run_s, other.workload.run_s)


def test_generated_lessons_differ_by_seed_and_stage() -> None:
    drawn = [lessons_of(material(), small_settings(), stage, seed)[1] for stage, seed in ((0, 0), (0, 1), (1, 0))]
    runs = {each.workload.run_s.tobytes() for each in drawn}
    assert len(runs) == 3


def test_a_training_period_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(TraceError, match=r"30 jobs to train on .* fewer than the 40"):
        lessons_of(material(0, 30), small_settings(), 0, 0)


def test_the_yardstick_measures_a_window_as_simulate_does() -> None:
    settings = small_settings().with_values({"windows.warm_jobs": 0}).windows
    reached = Yardstick([lesson()], settings, "saf").reached(0, 100)
    alone = simulate(small_trace(), policy="saf", backfill="easy", window=(100, settings.jobs))
    assert reached == pytest.approx(alone.metrics["avg_bounded_slowdown"])


def test_the_best_heuristic_is_the_one_with_the_least_mean_logarithm() -> None:
    settings, lessons = small_settings().windows, [lesson()]
    best = best_heuristic(lessons, settings)
    rows = np.linspace(settings.warm_jobs, len(small_trace().jobs) - settings.jobs, 48).astype(int)

    def cost(name: str) -> float:
        yardstick = Yardstick(lessons, settings, name)
        return float(np.mean([np.log(yardstick.reached(0, int(row))) for row in rows]))

    assert cost(best) == pytest.approx(min(cost(name) for name in HEURISTICS))


def test_orders_that_change_while_jobs_wait_are_no_baseline() -> None:
    for name in ("wfp3", "sjf-oracle"):
        with pytest.raises(UsageError, match="cannot be the baseline"):
            Yardstick([lesson()], small_settings().windows, name)


@pytest.mark.parametrize(
    ("metric", "reward"),
    [("avg_bounded_slowdown", "log-ratio"), ("avg_bounded_slowdown", "difference"), ("avg_wait_s", "log-ratio")],
)
def test_who_schedules_as_the_baseline_returns_nothing(metric: str, reward: str) -> None:
    """The environment, the rollout and the rewards agree on every window, warm queues included."""
    settings = small_settings().with_values({"windows.metric": metric, "windows.reward": reward, "windows.visible": 64})
    env = make_env([lesson()], settings, "sjf", SpreadOfReturns())
    env.seed(1)
    decisions = collect(env, of_heuristic("sjf", [lesson()]), 400)
    episodes = env.take_episodes()
    assert len(decisions) >= 400
    assert len(episodes) >= 5
    for episode in episodes:
        assert episode.ratio == pytest.approx(1.0, rel=1e-5)
        assert episode.reward == pytest.approx(0.0, abs=1e-5)


def test_rewards_say_how_much_better_than_the_baseline_a_window_went() -> None:
    settings = small_settings().with_values({"windows.visible": 64})
    env = make_env([lesson()], settings, "largest", SpreadOfReturns())
    env.seed(2)
    collect(env, of_heuristic("saf", [lesson()]), 600)
    episodes = env.take_episodes()
    assert min(episode.ratio for episode in episodes) < 0.9
    for episode in episodes:
        assert episode.reward == pytest.approx(np.log(2.0 / (1.0 + episode.ratio)), abs=1e-5)


def test_returns_are_scaled_to_unit_spread() -> None:
    spread, rng = SpreadOfReturns(), np.random.default_rng(0)
    for _ in range(50):
        spread.add(rng.normal(3.0, 20.0, 100))
    assert spread.deviation == pytest.approx(20.0, rel=0.05)
    again = SpreadOfReturns()
    again.load(spread.state())
    assert again.deviation == spread.deviation
