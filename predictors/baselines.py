"""What a network has to beat: persistence, seasonal naive, EWMA, linear autoregression, boosted trees.

Each is fitted on windows of the training part, chooses what it has to choose on the validation part, and takes its
interval from its own errors there: their empirical quantiles in units of the window's scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.scaling import Encoded, NodeScales, carried, encode
from shunter.predictors.shapes import HIGH, HISTORY, HORIZON, LOW, MEDIAN, QUANTILES, fan, last_valid
from shunter.predictors.windows import thinned

if TYPE_CHECKING:
    from shunter.predictors.windows import Windows
    from shunter.scheduler.types import FloatArray

ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)
"""Weights of the newest point that EWMA is tried with."""

RIDGES = (1e-3, 1e-1, 1e1, 1e3)
"""Penalties that linear autoregression is tried with, over windows."""


class _Empirical(ABC):
    """Medians from ``medians``, intervals from the quantiles of its errors in validation."""

    name = ""
    offsets: FloatArray

    @abstractmethod
    def medians(self, history: FloatArray, encoded: Encoded) -> FloatArray:
        """(B, HORIZON) point forecasts."""

    def forecast(self, history: FloatArray, time_s: FloatArray, scales: NodeScales | None = None) -> FloatArray:
        """Quantiles, as ``Forecaster`` says."""
        encoded = encode(history, time_s, scales)
        return fan(self.medians(history, encoded), self.offsets * encoded.scale[:, None, None])

    def calibrate(self, windows: Windows, scales: NodeScales) -> None:
        """Take the quantiles of its errors."""
        errors = []
        for part in windows.chunks():
            encoded = encode(part.history(), part.time_s(), scales.take(part.nodes))
            error = part.targets() - self.medians(part.history(), encoded)
            errors.append(error / encoded.scale[:, None])
        found = np.nanquantile(np.concatenate(errors), [QUANTILES[LOW], QUANTILES[HIGH]], axis=0)
        self.offsets = np.ascontiguousarray(found.T)[None]


class Persistence(_Empirical):
    """The last measured value."""

    name = "persistence"

    def __init__(self) -> None:
        self.offsets = np.zeros((1, HORIZON, 2))

    def medians(self, history: FloatArray, encoded: Encoded) -> FloatArray:  # noqa: ARG002
        """(B, HORIZON) the last value each time."""
        return np.repeat(encoded.last[:, None], HORIZON, axis=1)


class SeasonalNaive(_Empirical):
    """The value of a season ago; the last one where that was not measured.

    A season is a day where a day fits into a history, else the whole history.
    """

    name = "seasonal"

    def __init__(self, step_s: float) -> None:
        self.season = round(86_400.0 / step_s) if HORIZON <= 86_400.0 / step_s <= HISTORY else HISTORY
        self.offsets = np.zeros((1, HORIZON, 2))

    def medians(self, history: FloatArray, encoded: Encoded) -> FloatArray:
        """(B, HORIZON) values of a season ago."""
        first = HISTORY - self.season
        past = history[:, first : first + HORIZON, 0]
        return np.where(np.isfinite(past), past, encoded.last[:, None])


class Ewma(_Empirical):
    """Exponentially weighted mean, gaps left out; the weight of each step is the best one on validation."""

    name = "ewma"

    def __init__(self) -> None:
        self.alphas = np.ones(HORIZON)
        self.offsets = np.zeros((1, HORIZON, 2))

    def medians(self, history: FloatArray, encoded: Encoded) -> FloatArray:
        """(B, HORIZON) the mean with each step's weight."""
        return np.stack([smooth(history[..., 0], alpha, encoded.last) for alpha in self.alphas], axis=1)

    def fit(self, windows: Windows, scales: NodeScales) -> None:
        """Choose the weights."""
        cost = np.zeros((len(ALPHAS), HORIZON))
        for part in windows.chunks():
            target = part.targets()
            history = part.history()[..., 0]
            last = last_valid(history)
            unit = scales.unit()[part.nodes, 0][:, None]
            for i, alpha in enumerate(ALPHAS):
                cost[i] += np.nansum(np.abs(target - smooth(history, alpha, last)[:, None]) / unit, axis=0)
        self.alphas = np.asarray(ALPHAS)[np.argmin(cost, axis=0)]


def smooth(history: FloatArray, alpha: float, otherwise: FloatArray) -> FloatArray:
    """(B,) weighted means of (B, H) histories: point k before the last weighs (1 − alpha)^k, gaps nothing."""
    if alpha >= 1.0:
        return last_valid(history, otherwise)
    weights = (1.0 - alpha) ** np.arange(history.shape[1] - 1, -1, -1)
    known = np.isfinite(history)
    total = known @ weights
    mean = np.where(known, history, 0.0) @ weights / np.maximum(total, 1e-300)
    found: FloatArray = np.where(total > 0, mean, otherwise)
    return found


class LinearAutoregression(_Empirical):
    """Ridge regression of each step on the history's values and its level, apart for every step (direct)."""

    name = "linear-ar"

    def __init__(self) -> None:
        self.weights = np.zeros((HISTORY + 1, HORIZON))
        self.offsets = np.zeros((1, HORIZON, 2))

    def medians(self, history: FloatArray, encoded: Encoded) -> FloatArray:
        """(B, HORIZON) regressed values."""
        change = lagged(history[..., 0], encoded) @ self.weights
        return encoded.last[:, None] + change * encoded.scale[:, None]

    def fit(self, train: Windows, validation: Windows, scales: NodeScales) -> None:
        """Solve for every penalty, and keep the one with the least absolute error on validation, step by step."""
        inputs, targets, weight = _regression(thinned(train), scales)
        check, wanted, counts = _regression(thinned(validation), scales)
        known = np.isfinite(targets)
        for step in range(HORIZON):
            rows = known[:, step]
            heavy = inputs[rows] * weight[rows, None]
            square, cross = heavy.T @ inputs[rows], heavy.T @ targets[rows, step]
            best = float("inf")
            for ridge in RIDGES:
                penalty = ridge * np.eye(inputs.shape[1])
                penalty[-1, -1] = 1e-9  # the intercept is free
                found = np.linalg.solve(square + penalty, cross)
                cost = float(np.nanmean(np.abs(wanted[:, step] - check @ found) * counts))
                if cost < best:
                    best, self.weights[:, step] = cost, found


def lagged(history: FloatArray, encoded: Encoded) -> FloatArray:
    """(B, HISTORY + 1) values less the last one, over the scale; where the level is; 1."""
    filled = carried(history, np.isfinite(history), encoded.last)
    change = np.clip((filled[:, :-1] - encoded.last[:, None]) / encoded.scale[:, None], -50.0, 50.0)
    level = encoded.context[:, -(encoded.sequence.shape[2] - 2)].astype(np.float64)
    return np.column_stack([change, level, np.ones(len(change))])


def _regression(windows: Windows, scales: NodeScales) -> tuple[FloatArray, FloatArray, FloatArray]:
    inputs, targets, weights = [], [], []
    for part in windows.chunks():
        history = part.history()
        encoded = encode(history, part.time_s(), scales.take(part.nodes))
        inputs.append(lagged(history[..., 0], encoded))
        targets.append(np.clip((part.targets() - encoded.last[:, None]) / encoded.scale[:, None], -50.0, 50.0))
        weights.append(np.minimum(encoded.weight, 10.0))
    return np.concatenate(inputs), np.concatenate(targets), np.concatenate(weights)


@dataclass
class BoostedTrees:
    """LightGBM with quantile loss: a model for every step and quantile, on what the network sees.

    Attributes:
        cycles: How much of the calendar counts; see ``scaling.cycles_of``.
        rounds: Trees at most; validation stops earlier.
        models: Fitted boosters, by step and quantile.
    """

    cycles: int
    rounds: int = 300
    name: str = "lightgbm"
    models: list[list[Any]] = field(default_factory=list)

    def fit(self, train: Windows, validation: Windows, scales: NodeScales) -> None:
        """Fit all models. Needs the package ``lightgbm``."""
        import lightgbm

        parts = [self._table(thinned(part, most), scales) for part, most in ((train, 60_000), (validation, 20_000))]
        for step in range(HORIZON):
            row = []
            for quantile in QUANTILES:
                data = []
                for inputs, targets, weight in parts:
                    known = np.isfinite(targets[:, step])
                    data.append(lightgbm.Dataset(inputs[known], targets[known, step], weight=weight[known]))
                data[1].set_reference(data[0])
                settings = {"objective": "quantile", "alpha": quantile, "num_leaves": 31, "learning_rate": 0.05}
                settings |= {
                    "min_data_in_leaf": 40,
                    "max_bin": 63,
                    "num_threads": 1,
                    "verbose": -1,
                    "seed": 0,
                    "metric": "quantile",
                }
                stop = lightgbm.early_stopping(20, verbose=False)
                row.append(lightgbm.train(settings, data[0], self.rounds, valid_sets=[data[1]], callbacks=[stop]))
            self.models.append(row)

    def forecast(self, history: FloatArray, time_s: FloatArray, scales: NodeScales | None = None) -> FloatArray:
        """Quantiles, as ``Forecaster`` says."""
        encoded = encode(history, time_s, scales, self.cycles)
        inputs = _flat(encoded)
        found = np.stack([np.stack([m.predict(inputs) for m in row], axis=-1) for row in self.models], axis=1)
        found = found * encoded.scale[:, None, None] + encoded.last[:, None, None]
        median = found[..., MEDIAN]
        found[..., LOW], found[..., HIGH] = np.minimum(found[..., LOW], median), np.maximum(found[..., HIGH], median)
        return found

    def _table(self, windows: Windows, scales: NodeScales) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Inputs, targets over the window's scale, and weights that make errors count in steps of the node."""
        inputs, targets, weights = [], [], []
        for part in windows.chunks():
            encoded = encode(part.history(), part.time_s(), scales.take(part.nodes), self.cycles)
            inputs.append(_flat(encoded))
            targets.append((part.targets() - encoded.last[:, None]) / encoded.scale[:, None])
            weights.append(encoded.weight)
        return np.concatenate(inputs), np.concatenate(targets), np.concatenate(weights)


def _flat(encoded: Encoded) -> FloatArray:
    flat = encoded.sequence.reshape(len(encoded.sequence), -1)
    return np.concatenate([flat, encoded.context], axis=1).astype(np.float64)
