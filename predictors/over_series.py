"""What a forecaster tells over a whole series, step by step, each time from what came before: for replays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.live import LiveForecaster
from shunter.predictors.shapes import HORIZON, MEDIAN
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shunter.predictors.load import LoadForecaster
    from shunter.scheduler.types import FloatArray
    from shunter.traces.load_series import LoadSeries


SAME_STEP = 1e-3
"""Relative difference of two steps that are one."""


def told_quantiles(
    forecaster: LoadForecaster, series: LoadSeries, progress: Callable[[int, int, str], None] | None = None
) -> FloatArray:
    """(T, N, HORIZON, 3) forecasts as they are told when a step begins: of this step and the four after it.

    Row t was made from the points before t only; nothing is told when the first step begins (NaN).

    Args:
        forecaster: A loaded bundle.
        series: With the bundle's features, or with one feature where the bundle has one.
        progress: Called with the steps that are done, all steps, and the name of the series.

    Raises:
        UsageError: The series lacks a feature, or has another step than the forecaster learned.
    """
    wanted = forecaster.card.features
    if len(wanted) == 1 and wanted[0] not in series.features:
        chosen = series.select(features=series.features[:1])
    else:
        chosen = series.select(features=wanted)
    step_s = series.step_s if forecaster.general else forecaster.card.step_s
    if not np.isclose(step_s, series.step_s, rtol=SAME_STEP):
        raise UsageError(
            f"the forecaster learned steps of {step_s:g} s, {series.name} has steps of {series.step_s:g} s: "
            "`shunter traces convert --step` makes longer ones"
        )
    live = LiveForecaster(forecaster, step_s=step_s)
    state = live.begin(series.nodes)
    values, times_s = np.asarray(chosen.values, dtype=np.float64), series.times_s()
    clock_s = times_s[0] + np.arange(len(series)) * step_s  # its own, so that no rounding of a step counts as a gap
    told = np.full((len(series), len(series.nodes), HORIZON, 3), np.nan)
    for t in range(1, len(series)):
        state, answer = live.step(state, values[t - 1], float(clock_s[t - 1]))
        told[t] = answer.answer.quantiles
        if progress is not None:
            progress(t, len(series), series.name)
    return told


def told_means(
    forecaster: LoadForecaster, series: LoadSeries, progress: Callable[[int, int, str], None] | None = None
) -> FloatArray:
    """(T, N) the mean of the medians of ``told_quantiles`` over their steps, at least 0; 0 where nothing is told."""
    told = told_quantiles(forecaster, series, progress)[..., MEDIAN]
    mean: FloatArray = np.nan_to_num(told.mean(axis=-1), nan=0.0)
    return np.maximum(mean, 0.0)
