"""Forecasters that learn from the first 70 % of a series, and what they tell of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from examples.forecasts.arms import TEST
from shunter.predictors.over_series import told_quantiles
from shunter.predictors.shapes import HORIZON, QUANTILES
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.traces.load_series import LoadSeries

BUDGET_S = 90.0
"""Seconds of training for a series: one seed."""

ASKED = 0.55
"""Share of a series before the steps that are asked about: headroom is chosen on the validation part, from 0.6 on."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Work:
    """Where trained forecasters lie, and how long they may train."""

    folder: Path
    budget_s: float = BUDGET_S


def told_of(series: LoadSeries, work: Work, tell: Tell) -> FloatArray:
    """(T, N, 5, 3) what a forecaster that learned from the first 70 % tells, NaN before ``ASKED``; kept in a file."""
    from shunter.predictors.bundle import is_forecaster, load_forecaster
    from shunter.predictors.orders import BUNDLE, Order, train_forecaster

    place = work.folder / series.name.replace("/", "-").replace(" ", "-")
    if not is_forecaster(place / BUNDLE):
        tell(f"training on {series.name}: {len(series):,} points of {len(series.nodes)} nodes")
        train_forecaster(Order(series, place, seeds=(0,), budget_s=work.budget_s, judge=False, trees=False))
    kept = place / "told.npy"
    if not kept.exists():
        tell(f"asking about {series.name}")
        first = int(ASKED * len(series))
        told = np.full((len(series), len(series.nodes), HORIZON, len(QUANTILES)), np.nan, np.float32)
        told[first:] = told_quantiles(load_forecaster(place / BUNDLE), series.window(first, len(series)))
        np.save(kept, told)
    return np.load(kept).astype(np.float64)


def shares(series: LoadSeries, name: str) -> LoadSeries:
    """Loads as shares of the most that each node had in the first 70 %, at most 1."""
    values = np.asarray(series.values[..., :1], dtype=np.float64)
    before = values[: int(TEST * len(values))]
    most = np.nan_to_num(before, nan=0.0).max(axis=0)
    scaled = np.clip(values / np.where(most > 0, most, 1.0), 0.0, 1.0)
    return replace(
        series, name=name, features=("load",), units=("ratio",), values=scaled.astype(np.float32), facts=series.facts
    )
