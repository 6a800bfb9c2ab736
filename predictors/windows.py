"""Windows of a load series, and its parts in time.

Invariant: a window lies whole within one part, history and targets. So no two parts share a point, and between the
targets of one part and those of the next there is a gap of ``HISTORY`` points. Nothing is shuffled across parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.shapes import HISTORY, HORIZON
from shunter.scheduler.errors import TraceError

if TYPE_CHECKING:
    import numpy.typing as npt

    from shunter.scheduler.types import FloatArray, IntArray

    Values = npt.NDArray[np.floating]

SPAN = HISTORY + HORIZON
"""Points of a window."""

TRAIN_SHARE, VALIDATION_SHARE = 0.6, 0.1
"""Of the points, from the first on; the rest, the last 30 %, is for the test."""

MOST_WINDOWS = 200_000
"""More windows than these are thinned out before a regression."""

MOST_FEATURES = 6
"""A series may have more; the network takes the first ones."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of time, each part a pair of first and last + 1."""

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]


def split(num_points: int) -> Split:
    """The parts of a series.

    Raises:
        TraceError: It is too short for a window in each.
    """
    first, second = int(num_points * TRAIN_SHARE), int(num_points * (TRAIN_SHARE + VALIDATION_SHARE) + 1e-9)
    parts = Split((0, first), (first, second), (second, num_points))
    if min(second - first, first) < SPAN:
        least = int(np.ceil(SPAN / VALIDATION_SHARE))
        raise TraceError(f"{num_points} points are too few to learn from: expected at least {least}")
    return parts


@dataclass(frozen=True)
class Windows:
    """Pairs of node and instant that can be forecast and judged.

    Attributes:
        values: (T, N, F) of the series.
        instants: (M,) row of each history's last point, rising.
        nodes: (M,) rising within an instant.
        begin_s: Time of row 0.
        step_s: Between two rows.
    """

    values: Values
    instants: IntArray
    nodes: IntArray
    begin_s: float
    step_s: float

    def __len__(self) -> int:
        return len(self.instants)

    def take(self, chosen: IntArray | slice) -> Windows:
        """Some of them."""
        return Windows(self.values, self.instants[chosen], self.nodes[chosen], self.begin_s, self.step_s)

    def history(self) -> FloatArray:
        """(M, HISTORY, F), up to and with the instant."""
        rows = self.instants[:, None] + np.arange(1 - HISTORY, 1)
        found: FloatArray = self.values[rows, self.nodes[:, None]].astype(np.float64)
        return found

    def targets(self) -> FloatArray:
        """(M, HORIZON) of feature 0 after it; NaN where nothing was measured."""
        rows = self.instants[:, None] + np.arange(1, HORIZON + 1)
        found: FloatArray = self.values[rows, self.nodes[:, None], 0].astype(np.float64)
        return found

    def time_s(self) -> FloatArray:
        """(M,) time of the instants."""
        return self.begin_s + self.step_s * self.instants.astype(np.float64)

    def chunks(self, size: int = 20_000) -> Iterator[Windows]:
        """All of them, a bounded number at a time."""
        for first in range(0, len(self), size):
            yield self.take(slice(first, first + size))


def windows_in(
    values: Values, rows: tuple[int, int], *, begin_s: float = 0.0, step_s: float = 1.0, stride: int = 1
) -> Windows:
    """Windows that lie whole within some rows, with a measured point in their history and one among their targets.

    Args:
        values: (T, N, F) of the series.
        rows: First and last + 1.
        begin_s: Time of row 0.
        step_s: Between two rows.
        stride: Rows from one instant to the next.
    """
    instants = np.arange(rows[0] + HISTORY - 1, rows[1] - HORIZON, stride)
    known = np.isfinite(values[..., 0])
    counted = np.concatenate([np.zeros((1, known.shape[1]), np.int64), np.cumsum(known, axis=0)])
    past = counted[instants + 1] - counted[instants + 1 - HISTORY]
    future = counted[instants + 1 + HORIZON] - counted[instants + 1]
    which, nodes = np.nonzero((past > 0) & (future > 0))
    return Windows(values, instants[which], nodes.astype(np.int64), begin_s, step_s)


def thinned(windows: Windows, most: int = MOST_WINDOWS) -> Windows:
    """All of them, or as many as are bearable, evenly spread."""
    return windows if len(windows) <= most else windows.take(np.linspace(0, len(windows) - 1, most).astype(np.int64))


def of_some_nodes(windows: Windows, most: int) -> Windows:
    """All of them, or those of every k-th node, about as many as asked: whole in time, as calibration needs them."""
    every = -(-len(windows) // most)
    return windows if every <= 1 else windows.take(np.flatnonzero(windows.nodes % every == 0))
