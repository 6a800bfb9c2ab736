"""From a network's numbers to a forecast: how far it is believed, when it says nothing, and what a load can be.

Most loads stand still most of the time, or are whole numbers. A network never answers exactly 0, so its median would
miss every value that stays as it is by a little. So a change below a threshold is none, and changes are shrunk; both
are chosen step by step on the validation part, by absolute error for the median, by pinball loss for the outer ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.shapes import HIGH, HORIZON, LOW, MEDIAN, QUANTILES

if TYPE_CHECKING:
    from shunter.predictors.scaling import NodeScales
    from shunter.scheduler.types import FloatArray

THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Changes, in scales of the window, below which a forecast is tried to be none."""

BELIEFS = (0.0, 0.5, 0.75, 0.9, 1.0)
"""Factors that the median's change is tried with; 0 is persistence."""


def _zeros() -> FloatArray:
    return np.zeros((HORIZON, len(QUANTILES)))


@dataclass(frozen=True)
class Decoding:
    """Chosen on validation.

    Attributes:
        belief: (HORIZON,) factor of the median's change.
        threshold: (HORIZON, 3) changes below it are none.
    """

    belief: FloatArray = field(default_factory=lambda: np.ones(HORIZON))
    threshold: FloatArray = field(default_factory=_zeros)

    def changes(self, raw: FloatArray) -> FloatArray:
        """(B, HORIZON, 3) changes over the window's scale, of a network's."""
        found = raw.copy()
        found[..., MEDIAN] *= self.belief
        found[np.abs(found) < self.threshold] = 0.0
        found[..., LOW] = np.minimum(found[..., LOW], found[..., MEDIAN])
        found[..., HIGH] = np.maximum(found[..., HIGH], found[..., MEDIAN])
        return found

    def decode(self, raw: FloatArray, last: FloatArray, scale: FloatArray, scales: NodeScales | None) -> FloatArray:
        """(B, HORIZON, 3) quantiles of a network's numbers, with the (B,) last values and scales of windows."""
        found = last[:, None, None] + self.changes(raw) * scale[:, None, None]
        return found if scales is None else possible(found, scales)

    @classmethod
    def fit(cls, raw: FloatArray, targets: FloatArray, weight: FloatArray) -> Decoding:
        """Choose from a network's numbers about validation windows, targets in the same units, errors weighing (B,)."""
        known = np.isfinite(targets)
        goal = np.where(known, targets, 0.0)
        belief, threshold = np.ones(HORIZON), _zeros()
        for step in range(HORIZON):
            weights = weight * known[:, step]

            def cost(found: FloatArray, place: int, step: int = step, weights: FloatArray = weights) -> float:
                error, level = goal[:, step] - found, QUANTILES[place]
                return float((np.maximum(level * error, (level - 1.0) * error) * weights).sum())

            least = np.inf
            for factor in BELIEFS[::-1]:
                for bound in THRESHOLDS:
                    value = cost(_dead(raw[:, step, MEDIAN] * factor, bound), MEDIAN)
                    if value < least:
                        least, belief[step], threshold[step, MEDIAN] = value, factor, bound
            for place in (LOW, HIGH):
                costs = [cost(_dead(raw[:, step, place], bound), place) for bound in THRESHOLDS]
                threshold[step, place] = THRESHOLDS[int(np.argmin(costs))]
        return cls(belief, threshold)


def _dead(values: FloatArray, bound: float) -> FloatArray:
    return np.where(np.abs(values) < bound, 0.0, values)


def possible(quantiles: FloatArray, scales: NodeScales) -> FloatArray:
    """Quantiles that can be loads: whole numbers where the node has only these, not below 0 where it never was."""
    whole = scales.whole[:, None, None] > 0
    if whole.any():
        quantiles = np.where(whole, np.rint(quantiles), quantiles)
    floor = np.where(scales.low[:, 0] >= 0, 0.0, -np.inf)
    found: FloatArray = np.maximum(quantiles, floor[:, None, None])
    return found
