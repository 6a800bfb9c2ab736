"""Intervals cover what they promise, whatever happens."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.predictors.conformal import RATE, Calibration, adjust, calibrated, learn, remember
from shunter.predictors.evaluation import covered
from shunter.predictors.shapes import HORIZON, LOW, MEDIAN
from shunter.predictors.windows import windows_in

NARROW = np.zeros((1, HORIZON, 3)) + np.array([-0.1, 0.0, 0.1])


def drifting(num_points: int, seed: int) -> np.ndarray:
    """(T, 2, 1) noise whose size grows eightfold and whose mean wanders."""
    rng = np.random.default_rng(seed)
    size = np.linspace(0.5, 4.0, num_points)[:, None, None]
    return size * rng.normal(size=(num_points, 2, 1)) + np.linspace(0, 1, num_points)[:, None, None]


@pytest.mark.parametrize("seed", range(3))
def test_coverage_on_drifting_noise_is_77_to_83_percent(seed: int) -> None:
    values = drifting(4000, seed)
    windows = windows_in(values, (0, 4000))
    quantiles = np.repeat(NARROW, len(windows), axis=0)
    assert np.nanmean(covered(quantiles, windows.targets())) < 0.2
    _, found = calibrated(Calibration.begin(2), windows, quantiles, np.ones(len(windows)))
    held = covered(found, windows.targets())[1000:]
    assert ((held.mean(axis=0) > 0.77) & (held.mean(axis=0) < 0.83)).all()


def test_one_miss_moves_one_end_by_hand() -> None:
    state = remember(Calibration.begin(1), NARROW, np.ones(1))
    state = learn(state, np.array([2.0]))  # above 0.1; the error 2 becomes the size
    # The high end goes out by RATE · 2 · (1 − 0.1), the low one in by RATE · 2 · 0.1; other steps are not due yet.
    np.testing.assert_allclose(state.offset[0, 0], [-RATE * 0.2, RATE * 1.8])
    assert not state.offset[0, 1:].any()


def test_the_second_step_is_judged_two_points_later() -> None:
    state = remember(Calibration.begin(1), NARROW, np.ones(1))
    state = learn(state, np.array([0.0]))
    state = learn(remember(state, NARROW, np.ones(1)), np.array([5.0]))
    assert state.offset[0, 1, 1] > 0.0
    assert not state.offset[0, 2:].any()


def test_missing_values_teach_nothing() -> None:
    state = remember(Calibration.begin(1), NARROW, np.ones(1))
    assert not learn(state, np.array([np.nan])).offset.any()


def test_ends_never_pass_the_median() -> None:
    state = Calibration.begin(1, np.full((HORIZON, 2), -9.0))
    found = adjust(state, NARROW, np.ones(1))
    assert (found[..., LOW] <= found[..., MEDIAN]).all()
    assert (np.diff(found, axis=-1) >= 0).all()


def test_nothing_is_known_before_it_is_measured() -> None:
    values = drifting(300, 0)
    other = values.copy()
    other[200:] = 99.0
    found = []
    for each in (values, other):
        windows = windows_in(each, (0, 300))
        quantiles = np.repeat(NARROW, len(windows), axis=0)
        found.append(calibrated(Calibration.begin(2), windows, quantiles, np.ones(len(windows)))[1])
    early = windows.instants < 200
    np.testing.assert_array_equal(found[0][early], found[1][early])


def test_states_are_not_changed_in_place() -> None:
    state = remember(Calibration.begin(1), NARROW, np.ones(1))
    before = state.offset.copy()
    learn(state, np.array([50.0]))
    np.testing.assert_array_equal(state.offset, before)
