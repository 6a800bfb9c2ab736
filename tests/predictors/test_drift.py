"""When a forecaster no longer fits."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.predictors.drift import ALARM, PSI_LIMIT, Guard, Reference, Tally, stability
from shunter.predictors.scaling import NodeScales

USUAL = {"day_points": 100.0, "usual": np.ones(2), "expected": 1.0}


def test_stability_by_hand() -> None:
    # (0.7 − 0.5)·ln(1.4) + (0.3 − 0.5)·ln(0.6) = 0.0673 + 0.1022.
    assert stability(np.array([0.5, 0.5]), np.array([0.7, 0.3])) == pytest.approx(0.1695, abs=1e-4)


def test_the_same_loads_are_stable_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 2))
    scales = NodeScales.fit(values[..., None])
    reference = Reference.fit(values[:3000], scales, 1.0)
    assert max(reference.indices(values[3000:], scales)) < 0.05
    assert reference.indices(3.0 * values[3000:], scales)[0] > PSI_LIMIT
    assert reference.indices(values[3000:] + 2.0, scales)[1] > PSI_LIMIT


def test_few_values_say_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    scales = NodeScales.fit(values[..., None])
    assert Reference.fit(values, scales, 1.0).indices(values[:20] + 9.0, scales) == (0.0, 0.0)


def test_counting_step_by_step_says_the_same_as_looking_at_the_whole_day() -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(400, 3)), axis=0)
    values[rng.random(values.shape) < 0.1] = np.nan
    scales = NodeScales.fit(values[:200, :, None])
    reference = Reference.fit(values[:200], scales, 1.0)
    tally = Tally.begin(reference)
    for row in range(1, 400):
        tally = tally.counting(reference, values[row - 1], values[row], scales, 150)
    assert len(tally) == 150
    changes, _ = reference.counts(values[249:], scales)  # the first change is that from before the day
    _, levels = reference.counts(values[250:], scales)
    assert tally.indices(reference) == reference.indices_of(changes, levels)


def test_a_reference_comes_back_from_its_card() -> None:
    from dataclasses import asdict

    values = np.random.default_rng(0).normal(size=(400, 1))
    reference = Reference.fit(values, NodeScales.fit(values[..., None]), 0.5)
    assert Reference.from_json(asdict(reference)) == reference


def test_persistence_takes_over_node_by_node_and_gives_back() -> None:
    guard = Guard.begin(2)
    for _ in range(50):
        guard = guard.learn(np.array([2.0, 1.0]), np.array([1.0, 2.0]), **USUAL)
    assert guard.losing().tolist() == [True, False]
    for _ in range(400):
        guard = guard.learn(np.array([0.5, 1.0]), np.array([1.0, 2.0]), **USUAL)
    assert guard.losing().tolist() == [False, False]


def test_a_few_bad_forecasts_do_not_take_over() -> None:
    guard = Guard.begin(1)
    for _ in range(10):
        guard = guard.learn(np.array([9.0]), np.array([1.0]), day_points=100.0, usual=np.ones(1), expected=1.0)
    assert not guard.losing().any()


def test_errors_that_stay_grown_raise_the_alarm() -> None:
    guard = Guard.begin(2)
    for _ in range(500):
        guard = guard.learn(np.ones(2), np.ones(2), **USUAL)
    assert guard.grown == 0.0
    # Each step adds 3 − 1 − 0.5 = 1.5: the alarm of 40 comes after 27 of them.
    for _ in range(27):
        guard = guard.learn(3.0 * np.ones(2), np.ones(2), **USUAL)
    assert guard.grown == pytest.approx(40.5)
    assert guard.grown > ALARM
