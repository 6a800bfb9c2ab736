"""Errors by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shunter.predictors.baselines import Persistence
from shunter.predictors.evaluation import (
    Forecasts,
    compare,
    covered,
    forecast_windows,
    judge,
    mase,
    naive_errors,
    pinball,
)
from shunter.predictors.scaling import NodeScales
from shunter.predictors.windows import windows_in


def test_naive_errors_by_hand() -> None:
    # One step: 1, 2, 3 → 2; two steps: 3, 5 → 4; three: 6.
    found = naive_errors(np.array([0.0, 1.0, 3.0, 6.0])[:, None, None])
    assert found[0, :3].tolist() == [2.0, 4.0, 6.0]
    assert np.isnan(found[0, 3:]).all()


def test_mase_by_hand() -> None:
    # Node 0: errors 1 and 3 → 2 over 4 = 0.5; node 1: 6 over 2 = 3; node 2 never changed in training.
    errors = np.repeat(np.array([[1.0], [3.0], [6.0], [9.0]]), 5, axis=1)
    naive = np.repeat(np.array([[4.0], [2.0], [0.0]]), 5, axis=1)
    np.testing.assert_allclose(mase(errors, np.array([0, 0, 1, 2]), naive), 1.75)


def test_mase_leaves_missing_targets_out() -> None:
    errors = np.array([[1.0, np.nan, 1.0, 1.0, 1.0], [3.0, 5.0, 1.0, 1.0, 1.0]])
    found = mase(errors, np.array([0, 0]), np.full((1, 5), 2.0))
    np.testing.assert_allclose(found, [1.0, 2.5, 0.5, 0.5, 0.5])


def test_pinball_by_hand() -> None:
    # Target 10 with quantiles 8, 9, 12: 0.1·2, 0.5·1 and 0.1·2 → 0.9 / 3.
    quantiles, target = np.array([[[8.0, 9.0, 12.0]] * 5]), np.full((1, 5), 10.0)
    np.testing.assert_allclose(pinball(quantiles, target), 0.3)


def test_coverage_counts_ends_and_leaves_gaps_out() -> None:
    quantiles = np.array([[[1.0, 2.0, 3.0]] * 5])
    found = covered(quantiles, np.array([[1.0, 3.0, 3.1, np.nan, 2.0]]))
    np.testing.assert_array_equal(found, [[1.0, 1.0, 0.0, np.nan, 1.0]])


def test_persistence_has_relative_error_one_and_mase_near_one() -> None:
    values = np.cumsum(np.random.default_rng(0).normal(size=(3000, 2, 1)), axis=0).astype(np.float32)
    windows, naive = windows_in(values, (2000, 3000)), naive_errors(values[:2000])
    found = forecast_windows(Persistence(), windows, NodeScales.fit(values[:2000]))
    document = judge([found], windows, naive, subject="lstm")
    errors = document["errors"]["persistence"]
    np.testing.assert_allclose(errors["relative"], 1.0)
    np.testing.assert_allclose(errors["mase"], 1.0, atol=0.1)
    json.dumps(document, allow_nan=False)


def test_bootstrap_finds_what_is_surely_better_and_what_is_not() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 1, 1))
    windows, naive = windows_in(values, (0, 2000)), naive_errors(values)
    zero = Forecasts("zero", np.zeros((len(windows), 5, 3)))
    last = Forecasts("last", np.repeat(windows.history()[:, -1:, :1], 5, axis=1).repeat(3, axis=2))
    found = compare(zero, last, windows, naive)
    assert max(found["high"]) < 0.0
    # The mean absolute value of a normal over that of a difference of two: sqrt(1/2), less 1.
    assert found["difference"][0] == pytest.approx(np.sqrt(0.5) - 1.0, abs=0.05)
    same = compare(zero, zero, windows, naive)
    assert same["low"] == same["high"] == [0.0] * 5
