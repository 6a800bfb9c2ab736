"""Intervals of starts widened or narrowed until they hold what they promise: conformal, online, with late answers.

How far a start lies outside its interval, relative to the interval's width on a logarithmic scale of waits, is kept of
the last estimates; the present ones are moved by a quantile of that. The quantile's level is steered by how often
intervals have failed (adaptive conformal inference, Gibbs & Candès, NeurIPS 2021). A job that has not started yet has
failed above as soon as its interval has passed, so that late answers do not look like short waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shunter.predictors.starts import Estimates
from shunter.scheduler.types import FloatArray

TAIL = 0.1
"""One of ten starts lies below an interval, and one of ten above."""

LAST = 1_000
"""Answered estimates that are looked back at. Those that no answer has come of are kept until one has: where many wait
for long, the long waits would otherwise be forgotten before they are over."""

ENOUGH = 20
"""Before so many have been answered, intervals are widened by ``AT_FIRST`` of their width on both sides."""

AT_FIRST = 0.3
STEP = 0.005
"""By how much one failure more or less moves a level; less where more than ``OPEN`` estimates have no answer yet."""

OPEN = 100
"""Answers that come late would else be answered late: levels would swing."""

LEVELS = (0.005, 0.5)
"""Bounds of the quantile's level in a tail."""

LEAST_WIDTH = 0.5
"""Of an interval, in units of the logarithm of a wait."""

MINUTE_S = 60.0


def log_wait(time_s: FloatArray, made_s: FloatArray) -> FloatArray:
    """(E,) logarithm of the minutes between an estimate and a start; one minute more, so that none is none."""
    waited: FloatArray = np.log1p(np.maximum(time_s - made_s, 0.0) / MINUTE_S)
    return waited


@dataclass
class Calibration:
    """What has become of the last estimates.

    Attributes:
        level: (2,) share of starts that are meant to lie below and above the interval; steered.
    """

    level: FloatArray = field(default_factory=lambda: np.full(2, TAIL))
    _job: FloatArray = field(default_factory=lambda: np.zeros(0))
    _made_s: FloatArray = field(default_factory=lambda: np.zeros(0))
    _raw: FloatArray = field(default_factory=lambda: np.zeros((2, 0)))
    _told: FloatArray = field(default_factory=lambda: np.zeros((2, 0)))
    _start: FloatArray = field(default_factory=lambda: np.zeros(0))
    _turn: FloatArray = field(default_factory=lambda: np.zeros(0))
    _turns: int = 0

    def started(self, job: int, start_s: float) -> None:
        """A job has started: all estimates that were made of it are answered."""
        mine = self._job == job
        self._start[mine] = log_wait(np.full(int(mine.sum()), start_s), self._made_s[mine])

    def adjusted(self, estimates: Estimates, jobs: FloatArray, now_s: float) -> Estimates:
        """The same with other bounds; noted, to be answered by ``started``.

        Args:
            estimates: (Q,) of the jobs.
            jobs: (Q,) their numbers.
            now_s: When they were made; never decreasing.
        """
        made_s = np.full(len(jobs), now_s)
        raw = np.stack([log_wait(each, made_s) for each in (estimates.low_s, estimates.high_s)])
        middle = log_wait(estimates.median_s, made_s)
        self._learn(now_s)
        moved = self._quantiles(now_s) * _width(raw)
        told = np.stack([np.minimum(raw[0] - moved[0], middle), np.maximum(raw[1] + moved[1], middle)])
        self._note(jobs, made_s, raw, told)
        low_s, high_s = now_s + np.expm1(np.maximum(told, 0.0)) * MINUTE_S
        middle_s = estimates.median_s
        return Estimates(np.minimum(low_s, middle_s), middle_s, np.maximum(high_s, middle_s))

    def _learn(self, now_s: float) -> None:
        """Steer the levels by the intervals that have been answered, or have passed."""
        waited = log_wait(np.full(len(self._job), now_s), self._made_s)
        late = np.isnan(self._start) & (waited > self._told[1])
        new = np.isnan(self._turn) & (late | ~np.isnan(self._start))
        below = new & (self._start < self._told[0])
        above = new & (late | (self._start > self._told[1]))
        fails = np.asarray([below.sum(), above.sum()])
        step = STEP * min(1.0, OPEN / max(int(np.isnan(self._turn).sum()), 1))
        self.level = np.clip(self.level + step * (TAIL * new.sum() - fails), *LEVELS)
        self._turn[new] = self._turns + np.arange(new.sum())
        self._turns += int(new.sum())

    def _quantiles(self, now_s: float) -> FloatArray:
        """(2, 1) by how much of their width intervals are moved at both ends."""
        start = self._start
        waits = np.isnan(start)
        reached = np.where(waits, log_wait(np.full(len(start), now_s), self._made_s), start)
        width = _width(self._raw)
        outside = np.stack([(self._raw[0] - reached) / width, (reached - self._raw[1]) / width])
        outside = outside[:, ~waits | (outside[1] > 0)]
        if outside.shape[1] < ENOUGH:
            return np.full((2, 1), AT_FIRST)
        return np.asarray([[np.quantile(side, 1.0 - level)] for side, level in zip(outside, self.level, strict=True)])

    def _note(self, jobs: FloatArray, made_s: FloatArray, raw: FloatArray, told: FloatArray) -> None:
        kept = np.isnan(self._turn) | (self._turn >= self._turns - LAST)
        unknown = np.full(len(jobs), np.nan)
        self._job = np.concatenate([self._job[kept], jobs])
        self._made_s = np.concatenate([self._made_s[kept], made_s])
        self._start = np.concatenate([self._start[kept], unknown])
        self._turn = np.concatenate([self._turn[kept], unknown])
        self._raw = np.concatenate([self._raw[:, kept], raw], axis=1)
        self._told = np.concatenate([self._told[:, kept], told], axis=1)


def _width(bounds: FloatArray) -> FloatArray:
    width: FloatArray = np.maximum(bounds[1] - bounds[0], 0.0) + LEAST_WIDTH
    return width
