"""Baselines by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.predictors.baselines import BoostedTrees, Ewma, LinearAutoregression, Persistence, SeasonalNaive, smooth
from shunter.predictors.scaling import NodeScales
from shunter.predictors.shapes import HISTORY, HORIZON, LOW, MEDIAN
from shunter.predictors.windows import windows_in

NAN = np.nan
NOW = np.zeros(1)


def history_of(*last: float) -> np.ndarray:
    """One history that stands at the first value and ends with these."""
    values = np.full(HISTORY, last[0])
    values[HISTORY - len(last) :] = last
    return values[None, :, None]


def test_persistence_is_the_last_measured_value() -> None:
    assert Persistence().forecast(history_of(3.0, 5.0, NAN), NOW)[0, :, MEDIAN].tolist() == [5.0] * HORIZON


def test_seasonal_naive_is_the_value_of_yesterday() -> None:
    history = np.arange(24.0)[None, :, None]
    # The last point is hour 23 of the day; one step ahead was 24 points before it: 0, then 1, 2, …
    assert SeasonalNaive(3600.0).forecast(history, NOW)[0, :, MEDIAN].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_seasonal_naive_takes_the_last_value_where_the_season_is_missing() -> None:
    history = np.arange(24.0)[None, :, None].copy()
    history[0, 1] = NAN
    assert SeasonalNaive(3600.0).forecast(history, NOW)[0, :2, MEDIAN].tolist() == [0.0, 23.0]


def test_two_hours_make_a_season_of_twelve_points() -> None:
    assert SeasonalNaive(7200.0).season == 12


def test_exponential_mean_by_hand() -> None:
    # Weights of 2, 4, 8 with alpha 1/2: 1/4, 1/2, 1 → (0.5 + 2 + 8) / 1.75 = 6.
    assert smooth(np.array([[2.0, 4.0, 8.0]]), 0.5, np.zeros(1))[0] == pytest.approx(6.0)


def test_exponential_mean_leaves_gaps_out() -> None:
    # Weights of 2 and 8: 1/4 and 1 → (0.5 + 8) / 1.25 = 6.8.
    assert smooth(np.array([[2.0, NAN, 8.0]]), 0.5, np.zeros(1))[0] == pytest.approx(6.8)


def test_exponential_mean_of_nothing_is_what_it_is_told() -> None:
    assert smooth(np.array([[NAN, NAN]]), 0.5, np.array([7.0]))[0] == 7.0


def test_linear_autoregression_continues_an_alternating_series() -> None:
    values = np.where(np.arange(400) % 2 == 0, 1.0, 3.0)[:, None, None].astype(np.float32)
    scales = NodeScales.fit(values)
    model = LinearAutoregression()
    model.fit(windows_in(values, (0, 300)), windows_in(values, (300, 400)), scales)
    history = values[100:124, 0][None].astype(float)  # ends with 3
    found = model.forecast(history, NOW, scales)[0, :, MEDIAN]
    np.testing.assert_allclose(found, [1.0, 3.0, 1.0, 3.0, 1.0], atol=0.01)


def test_ewma_chooses_a_long_memory_for_noise_and_none_for_a_walk() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 1, 1)).astype(np.float32)
    walk = np.cumsum(noise, axis=0)
    chosen = []
    for values in (noise, walk):
        model = Ewma()
        model.fit(windows_in(values, (0, 600)), NodeScales.fit(values))
        chosen.append(model.alphas[0])
    assert chosen[0] <= 0.1
    assert chosen[1] == 1.0


def test_empirical_intervals_cover_what_they_were_fitted_on() -> None:
    values = np.cumsum(np.random.default_rng(1).normal(size=(900, 2, 1)), axis=0).astype(np.float32)
    windows, scales = windows_in(values, (0, 900)), NodeScales.fit(values)
    model = Persistence()
    model.calibrate(windows, scales)
    found = model.forecast(windows.history(), windows.time_s(), scales.take(windows.nodes))
    assert np.mean(windows.targets() < found[..., LOW]) == pytest.approx(0.1, abs=0.01)


def test_trees_learn_a_rhythm_and_keep_quantiles_in_order() -> None:
    pytest.importorskip("lightgbm")
    values = np.tile(np.arange(6.0), 100)[:, None, None].astype(np.float32)
    scales = NodeScales.fit(values)
    model = BoostedTrees(cycles=0, rounds=60)
    model.fit(windows_in(values, (0, 400)), windows_in(values, (400, 600)), scales)
    history = values[500:524, 0][None].astype(float)
    found = model.forecast(history, NOW, scales)[0]
    np.testing.assert_allclose(found[:, MEDIAN], values[524:529, 0, 0], atol=0.5)
    assert (np.diff(found, axis=1) >= 0).all()
