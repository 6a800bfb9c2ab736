"""Intervals that cover what they promise, whatever the loads do: quantile tracking, online.

Each end of each node's interval is moved a little out when a value falls beyond it and a little in when it does not,
so that in the long run a tenth falls beyond either end. That holds for any sequence, without assumptions: it is
adaptive conformal inference (Gibbs & Candès, NeurIPS 2021) on the threshold itself, the proportional part of the
conformal PID of Angelopoulos, Candès & Tibshirani (NeurIPS 2023). Ends never pass the median. So an interval of width 0
on a load that stands still covers more than it promises: no end can be moved in any further.

State goes in and comes out; nothing is remembered here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.shapes import HIGH, HORIZON, LOW, MEDIAN, QUANTILES

if TYPE_CHECKING:
    from shunter.predictors.windows import Windows
    from shunter.scheduler.types import FloatArray, IntArray

RATE = 0.1
"""An end moves by this share of the mean error for a miss, less a tenth of it for a hit: it forgets in 100 steps."""

FORGET = 0.02
"""Weight of the newest error in the running mean of errors."""

FARTHEST = 4.0
"""An end is moved in by so many mean errors at most: while a load stands still, nothing is learned of how it moves."""

SHARED = 0.9
"""Of the misses that one end lacks, the other end may have so much: where a load is often exactly 0, no value falls
below the low end, and the interval holds 80 % only if more fall above the high one."""

TAILS = np.array([QUANTILES[LOW], 1.0 - QUANTILES[HIGH]])
STEPS = np.arange(HORIZON)


@dataclass(frozen=True)
class Calibration:
    """What has been learned about intervals; row i is node i. Distances are in scales of the window.

    Attributes:
        offset: (N, HORIZON, 2) how far the low and the high end are moved out.
        size: (N, HORIZON) running mean of the median's absolute error; 0 before the first.
        pending: (HORIZON, N, HORIZON, 3) the last forecasts, newest first, as they were given out.
        scale: (HORIZON, N) of their windows.
        missed: (N, HORIZON, 2) running share of values below the low and above the high end.
    """

    offset: FloatArray
    size: FloatArray
    pending: FloatArray
    scale: FloatArray
    missed: FloatArray

    @classmethod
    def begin(cls, num_nodes: int, offset: FloatArray | None = None, size: FloatArray | None = None) -> Calibration:
        """Nothing learned yet, or what (HORIZON, 2) offsets and (HORIZON,) sizes say of all nodes."""
        return cls(
            offset=np.zeros((num_nodes, HORIZON, 2)) + (0.0 if offset is None else offset),
            size=np.zeros((num_nodes, HORIZON)) + (0.0 if size is None else size),
            pending=np.full((HORIZON, num_nodes, HORIZON, len(QUANTILES)), np.nan),
            scale=np.ones((HORIZON, num_nodes)),
            missed=np.zeros((num_nodes, HORIZON, 2)) + TAILS,
        )


def learn(state: Calibration, actual: FloatArray) -> Calibration:
    """Take note of the (N,) values that were measured; NaN where there was none.

    The forecast of k steps ago is judged by its k-th step.
    """
    given = state.pending[STEPS, :, STEPS].transpose(1, 0, 2)  # (N, HORIZON, 3)
    value = actual[:, None]
    known = np.isfinite(value) & np.isfinite(given[..., MEDIAN])
    error = np.where(known, np.abs(value - given[..., MEDIAN]) / state.scale.T, 0.0)
    size = np.where(known, np.where(state.size > 0, state.size + FORGET * (error - state.size), error), state.size)
    beyond = np.stack([value < given[..., LOW], value > given[..., HIGH]], axis=-1)
    tail = np.clip(TAILS + SHARED * (TAILS - state.missed)[..., ::-1], 0.0, TAILS.sum())
    moved = state.offset + RATE * size[..., None] * (beyond - tail)
    missed = np.where(known[..., None], state.missed + FORGET * (beyond - state.missed), state.missed)
    offset = np.where(known[..., None], np.maximum(moved, -FARTHEST * size[..., None]), state.offset)
    return replace(state, offset=offset, size=size, missed=missed)


def adjust(state: Calibration, quantiles: FloatArray, scale: FloatArray, nodes: IntArray | None = None) -> FloatArray:
    """(B, HORIZON, 3) quantiles of some or all nodes with their outer ends moved as learned."""
    offset = (state.offset if nodes is None else state.offset[nodes]) * scale[:, None, None]
    median = quantiles[..., MEDIAN]
    low = np.minimum(quantiles[..., LOW] - offset[..., 0], median)
    high = np.maximum(quantiles[..., HIGH] + offset[..., 1], median)
    return np.stack([low, median, high], axis=-1)


def remember(
    state: Calibration, quantiles: FloatArray, scale: FloatArray, nodes: IntArray | None = None
) -> Calibration:
    """Keep the forecasts that were given out now, to be judged later."""
    rows = np.arange(len(state.offset)) if nodes is None else nodes
    newest = np.full(state.pending.shape[1:], np.nan)
    newest[rows] = quantiles
    scales = np.ones(len(state.offset))
    scales[rows] = scale
    return replace(
        state,
        pending=np.concatenate([newest[None], state.pending[:-1]]),
        scale=np.concatenate([scales[None], state.scale[:-1]]),
    )


def calibrated(
    state: Calibration, windows: Windows, quantiles: FloatArray, scale: FloatArray
) -> tuple[Calibration, FloatArray]:
    """Go through (M, HORIZON, 3) forecasts of windows in time: what they become, and what was learned by the end.

    At every instant only values measured until then are known.
    """
    found = quantiles.copy()
    if not len(windows):
        return state, found
    first = int(windows.instants[0])
    bounds = np.searchsorted(windows.instants, np.arange(first, int(windows.instants[-1]) + 2))
    for row, (begin, end) in enumerate(pairwise(bounds)):
        state = learn(state, windows.values[first + row, :, 0].astype(np.float64))
        nodes = windows.nodes[begin:end]
        found[begin:end] = adjust(state, quantiles[begin:end], scale[begin:end], nodes)
        state = remember(state, found[begin:end], scale[begin:end], nodes)
    return state, found
