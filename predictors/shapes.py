"""What a forecast is: its sizes, its quantiles, and the shape of everything that makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from shunter.predictors.scaling import NodeScales
    from shunter.scheduler.types import FloatArray

HISTORY = 24
"""Points that a forecast is made from."""

HORIZON = 5
"""Steps that are forecast."""

QUANTILES = (0.1, 0.5, 0.9)
"""Of every step; the outer two are the 80 % interval."""

LOW, MEDIAN, HIGH = range(3)
"""Places in the last axis of a forecast."""


class Forecaster(Protocol):
    """Anything that forecasts."""

    name: str

    def forecast(self, history: FloatArray, time_s: FloatArray, scales: NodeScales | None = None) -> FloatArray:
        """Quantiles of the next steps.

        Args:
            history: (B, HISTORY, F) of B pairs of node and instant, oldest first, NaN where nothing was measured.
            time_s: (B,) time of the last point.
            scales: What is known of the B nodes; found from the histories themselves where it is not given.

        Returns:
            (B, HORIZON, 3) ``QUANTILES`` of feature 0: finite, and none below the one before it.
        """
        ...


def last_valid(history: FloatArray, otherwise: FloatArray | float = 0.0) -> FloatArray:
    """(B,) the last measured value of (B, H) histories; ``otherwise`` where there is none."""
    if np.isfinite(history[:, -1]).all():
        newest: FloatArray = history[:, -1].copy()
        return newest
    known = np.isfinite(history)
    place = history.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    found: FloatArray = np.where(known.any(axis=1), history[np.arange(len(history)), place], otherwise)
    return found


def fan(median: FloatArray, offsets: FloatArray) -> FloatArray:
    """A forecast of (B, HORIZON) medians and (B or 1, HORIZON, 2) distances of the outer quantiles from them."""
    low, high = np.minimum(offsets[..., 0], 0.0), np.maximum(offsets[..., 1], 0.0)
    return np.stack([median + low, median, median + high], axis=-1)
