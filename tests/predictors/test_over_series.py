"""Forecasts over a whole series: from what came before only, and those of the live forecaster."""

from __future__ import annotations

import numpy as np

from shunter.predictors.bundle import load_forecaster, shipped_forecaster
from shunter.predictors.live import LiveForecaster
from shunter.predictors.over_series import told_means, told_quantiles
from shunter.predictors.shapes import HISTORY, MEDIAN
from shunter.traces.load_series import LoadSeries


def series(seed: int = 0, points: int = 60, step_s: float = 300.0) -> LoadSeries:
    rng = np.random.default_rng(seed)
    values = np.clip(0.5 + np.cumsum(rng.normal(0, 0.05, (points, 3)), axis=0), 0, 1)
    return LoadSeries("walk", ("a", "b", "c"), ("load",), values[..., None].astype(np.float32), step_s)


def test_what_is_told_comes_from_before_only() -> None:
    forecaster = load_forecaster(shipped_forecaster())
    whole, changed = series(), series()
    values = np.array(changed.values)
    values[40:] = 0.0
    cut = LoadSeries("walk", whole.nodes, whole.features, values, whole.step_s)
    told, other = told_quantiles(forecaster, whole), told_quantiles(forecaster, cut)
    np.testing.assert_array_equal(told[:41], other[:41])
    assert (told[41:] != other[41:]).any()
    assert np.isnan(told[0]).all()
    assert np.isfinite(told[1:]).all()


def test_it_is_what_the_live_forecaster_says() -> None:
    forecaster, walk = load_forecaster(shipped_forecaster()), series()
    told = told_quantiles(forecaster, walk)
    live = LiveForecaster(forecaster, step_s=walk.step_s)
    state = live.begin(walk.nodes)
    for t in range(HISTORY + 5):
        state, answer = live.step(state, np.asarray(walk.values[t], dtype=np.float64), walk.begin_s + t * walk.step_s)
        np.testing.assert_array_equal(told[t + 1], answer.answer.quantiles)
    means = told_means(forecaster, walk)
    np.testing.assert_allclose(means[1:], np.maximum(told[1:, :, :, MEDIAN].mean(axis=-1), 0))
    assert (means[0] == 0).all()


def test_progress_is_told() -> None:
    seen: list[tuple[int, int, str]] = []
    told_quantiles(load_forecaster(shipped_forecaster()), series(points=30), lambda *done: seen.append(done))
    assert seen == [(t, 30, "walk") for t in range(1, 30)]
