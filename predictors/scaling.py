"""What is known of nodes, and how windows become inputs: every node on its own scale, every window on its own level.

A window is told as differences to its last value, over a scale that mixes how much the node usually moves in a step
with how much it moved in the window. So networks see the same picture from a node of 8 GPUs and from a whole cluster,
and answering 0 is persistence.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.shapes import HISTORY, last_valid

if TYPE_CHECKING:
    import numpy.typing as npt

    from shunter.scheduler.types import BoolArray, FloatArray, IntArray

DAY_S, WEEK_S = 86_400.0, 604_800.0

PRIOR_POINTS = 6.0
"""The node's usual step weighs as much as so many steps of the window."""

LEAST = 1e-6
"""Of a scale, over the size of the values: a step below it is a rounding error."""

COARSE = 20.0
"""Changes of further features are told in steps of at least this part of their range: what hardly ever moved in
training, such as a number of nodes, would otherwise drown everything on the day it does."""

SEEN = 4
"""Times that a cycle has to be seen before it is learned."""

CALENDAR = 6
"""Numbers of the calendar: sine and cosine of the day, its half and the week."""

WINDOW_FACTS = 6
"""Other numbers of a window that do not belong to one feature."""


@dataclass(frozen=True)
class NodeScales:
    """What is known of nodes; row i of everything is node i.

    Attributes:
        step: (N, F) mean absolute one-step change: the denominator of MASE (Hyndman & Koehler, 2006).
        low: (N, F) least value.
        high: (N, F) largest.
        still: (N,) share of steps of feature 0 without change.
        whole: (N,) 1 where feature 0 was always a whole number, else 0.
    """

    step: FloatArray
    low: FloatArray
    high: FloatArray
    still: FloatArray
    whole: FloatArray

    def take(self, nodes: IntArray | slice) -> NodeScales:
        """Some nodes' rows."""
        return NodeScales(*(getattr(self, each.name)[nodes] for each in fields(self)))

    def unit(self) -> FloatArray:
        """(N, F) the step where it is above rounding, else a thousandth of the range or of the values' size."""
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        spare = np.where(self.high > self.low, (self.high - self.low) * 1e-3, np.where(size > 0, size * 1e-3, 1.0))
        found: FloatArray = np.where(self.step > LEAST * np.maximum(size, 1e-12), self.step, spare)
        return found

    @classmethod
    def fit(cls, values: npt.NDArray[np.floating]) -> NodeScales:
        """From the (T, N, F) values of the training part; a node that was never measured gets zeros."""
        wide = values.astype(np.float64)
        wide[~np.isfinite(wide)] = np.nan
        change = np.abs(np.diff(wide, axis=0))
        measured = np.isfinite(change)
        count = np.maximum(measured.sum(axis=0), 1)
        step = np.where(measured, change, 0.0).sum(axis=0) / count
        known = np.isfinite(wide)
        low = np.where(known, wide, np.inf).min(axis=0, initial=np.inf)
        high = np.where(known, wide, -np.inf).max(axis=0, initial=-np.inf)
        nothing: BoolArray = np.logical_not(known.any(axis=0))
        low[nothing] = high[nothing] = 0.0
        still = (change[..., 0] == 0).sum(axis=0) / count[:, 0]
        target = wide[..., 0]
        whole = (np.isnan(target) | (target == np.rint(target))).all(axis=0) & ~nothing[:, 0]
        return cls(step, low, high, still, whole.astype(np.float64))

    @classmethod
    def of_histories(cls, history: FloatArray) -> NodeScales:
        """Of nodes of which no more is known than (B, HISTORY, F) histories."""
        return cls.fit(np.moveaxis(history, 0, 1))


@dataclass(frozen=True)
class Encoded:
    """Inputs of networks and trees.

    Attributes:
        sequence: (B, HISTORY, C) float32: change to the last value and to the point before, whether measured; then
            for every further feature its change to its last value.
        context: (B, K) float32: calendar, facts of window and node, where each feature's last value is in its range.
        last: (B,) last measured value of feature 0.
        scale: (B,) what differences were divided by.
        weight: (B,) scale over the node's usual step: an error of 1 costs so many of its steps.
    """

    sequence: npt.NDArray[np.float32]
    context: npt.NDArray[np.float32]
    last: FloatArray
    scale: FloatArray
    weight: FloatArray


def sizes(num_features: int) -> tuple[int, int]:
    """``(C, K)`` of ``Encoded`` for so many features."""
    return 2 + num_features, CALENDAR + WINDOW_FACTS + num_features


def encode(history: FloatArray, time_s: FloatArray, scales: NodeScales | None, cycles: int = 0) -> Encoded:
    """Inputs from (B, HISTORY, F) histories that end at ``time_s``; ``cycles`` as ``cycles_of`` says."""
    scales = NodeScales.of_histories(history) if scales is None else scales
    target = np.ascontiguousarray(history[..., 0])
    known = np.isfinite(target)
    last = last_valid(target, scales.low[:, 0])
    filled = carried(target, known, last)
    moved = np.diff(filled, axis=1)
    unit = scales.unit()
    usual = unit[:, 0]
    measured = (known[:, 1:] & known[:, :-1]).sum(axis=1)
    scale = (PRIOR_POINTS * usual + np.abs(moved).sum(axis=1)) / (PRIOR_POINTS + np.maximum(measured, 1))
    _, num_facts = sizes(history.shape[2])
    sequence = np.empty((len(history), HISTORY, sizes(history.shape[2])[0]), dtype=np.float32)
    over = (1.0 / scale)[:, None]
    sequence[..., 0] = bent((filled - last[:, None]) * over)
    sequence[:, 0, 1] = 0.0
    sequence[:, 1:, 1] = bent(moved * over)
    sequence[..., 2] = known
    context = np.empty((len(history), num_facts), dtype=np.float32)
    context[:, :CALENDAR] = calendar(time_s, cycles)
    span = np.maximum(scales.high - scales.low, unit)
    place = CALENDAR
    for fact in (
        np.log(scale / usual),
        (moved == 0).mean(axis=1),
        np.argmax(known[:, ::-1], axis=1) / HISTORY,
        known.mean(axis=1),
        scales.still,
        np.log10(np.clip(usual / span[:, 0], 1e-6, 1.0)),
    ):
        context[:, place] = fact
        place += 1
    context[:, place] = np.clip((last - scales.low[:, 0]) / span[:, 0], -0.5, 1.5) - 0.5
    size = np.maximum(unit, span / COARSE)
    for feature in range(1, history.shape[2]):
        other = np.ascontiguousarray(history[..., feature])
        there = np.isfinite(other)
        end = last_valid(other, scales.low[:, feature])
        sequence[..., 2 + feature] = bent((carried(other, there, end) - end[:, None]) / size[:, feature, None])
        context[:, place + feature] = np.clip((end - scales.low[:, feature]) / span[:, feature], -0.5, 1.5) - 0.5
    return Encoded(sequence, context, last, scale, scale / usual)


def carried(values: FloatArray, known: BoolArray, last: FloatArray) -> FloatArray:
    """(B, H) values with each gap filled by the value before it; by the first one known at the beginning."""
    if known.all():
        return values
    steps = np.arange(values.shape[1])
    place = np.maximum.accumulate(np.where(known, steps, -1), axis=1)
    place = np.where(place < 0, np.argmax(known, axis=1)[:, None], place)
    filled = np.take_along_axis(values, place, axis=1)
    found: FloatArray = np.where(np.isfinite(filled), filled, last[:, None])
    return found


def bent(values: FloatArray) -> FloatArray:
    """Inverse hyperbolic sine: straight near 0, logarithmic far from it, so that a spike does not drown the rest."""
    found: FloatArray = np.arcsinh(values.astype(np.float32))  # networks take no more, and it is half the time
    return found


def cycles_of(span_s: float, *, dated: bool) -> int:
    """How much of the calendar can be learned: 0 nothing, 1 the time of day, 2 the day of the week as well.

    A cycle counts when the training part holds it ``SEEN`` times: from one day nobody learns what days are like, and
    the test would come at hours never trained on.
    """
    if not dated or span_s < SEEN * DAY_S:
        return 0
    return 2 if span_s >= SEEN * WEEK_S else 1


def calendar(time_s: FloatArray, cycles: int) -> FloatArray:
    """(B, CALENDAR) sines and cosines of the time of day and of the week; the week of Unix time begins on a Thursday.

    Zero where the cycle is not to be used.
    """
    found = np.zeros((len(time_s), CALENDAR))
    if cycles:
        day = 2 * np.pi * (time_s % DAY_S) / DAY_S
        found[:, :4] = np.stack([np.sin(day), np.cos(day), np.sin(2 * day), np.cos(2 * day)], axis=-1)
    if cycles > 1:
        week = 2 * np.pi * (time_s % WEEK_S) / WEEK_S
        found[:, 4:] = np.stack([np.sin(week), np.cos(week)], axis=-1)
    return found
