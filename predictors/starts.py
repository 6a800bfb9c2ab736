"""When each waiting job will start, with an interval: the present rolled forward under drawn run times and arrivals.

Owns the drawing and what is made of the rolls; who rolls is handed in (``Roll``), since forecasts know no simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shunter.predictors.run_times import RunJobs
from shunter.scheduler.types import FloatArray, IntArray

DAY_S = 86400.0
SHIFTS = (5, 14)
"""Days after which jobs are taken to come again: what they bring lasts so long."""

HORIZON_S = 28 * DAY_S
"""So long jobs go on to come: one that is passed over is passed over by those of later weeks, too."""

SAMPLES = 25
"""Rolls; ``FEW`` where a network scores the queue at every instant of each, which costs up to seventy times more."""

FEW = 10
QUANTILES = (0.1, 0.5, 0.9)


class Roll(Protocol):
    """The present, rolled forward as often as is asked; ``sim.forward.Forward`` is one."""

    @property
    def elapsed_s(self) -> FloatArray:
        """(K,) how long the running jobs have run."""

    @property
    def is_dear(self) -> bool:
        """Whether the queue is put in order again at every instant."""

    def starts(self, run_s: FloatArray, again: IntArray | None = None, again_s: FloatArray | None = None) -> FloatArray:
        """(Q,) starts of the waiting jobs if jobs (K + Q + A,) run for so long and recent ones (A,) come again then."""


class Draws(Protocol):
    """Where run times come from: ``RunTimes``, or ``RunQuantiles``."""

    def draw(self, jobs: RunJobs, elapsed_s: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
        """(S, J) run times of jobs that have run for ``elapsed_s`` (J,) already."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Starts of the waiting jobs, (Q,) each: times, never before the present; inf of a job that does not start.

    Attributes:
        low_s: One of ten starts earlier.
        median_s: One of two does.
        high_s: One of ten starts later.
    """

    low_s: FloatArray
    median_s: FloatArray
    high_s: FloatArray


def estimate_starts(
    roll: Roll,
    jobs: RunJobs,
    known: Draws,
    now_s: float,
    rng: np.random.Generator,
    *,
    recent_s: FloatArray | None = None,
    samples: int | None = None,
) -> Estimates:
    """Quantiles of the starts of the waiting jobs.

    Args:
        roll: The present.
        jobs: (K + Q + T,) the running jobs, the waiting ones in the order of the snapshot, and recent ones.
        known: What is known of run times.
        now_s: The present.
        rng: Draws.
        recent_s: (T,) when the recent jobs were submitted, rising; None: nobody comes.
        samples: Rolls; by default ``SAMPLES``, or ``FEW``.
    """
    samples = samples or (FEW if roll.is_dear else SAMPLES)
    recent_s = np.zeros(0) if recent_s is None else recent_s
    present = len(jobs.request_s) - len(recent_s)
    elapsed_s = np.zeros(present)
    running = roll.elapsed_s
    elapsed_s[: len(running)] = np.maximum(running, 1e-3)
    run_s = known.draw(jobs.take(np.arange(present)), elapsed_s, samples, rng)
    plans = [coming(recent_s, now_s, rng) for _ in range(samples)]
    times = max((int(np.bincount(again).max(initial=0)) for again, _ in plans), default=0)
    later = known.draw(
        jobs.take(np.arange(present, len(jobs.request_s))), np.zeros(len(recent_s)), samples * times, rng
    )
    later = later.reshape(samples, times, len(recent_s))
    starts = []
    for sample, own, (again, again_s) in zip(run_s, later, plans, strict=True):
        starts.append(roll.starts(np.concatenate([sample, own[_nth(again), again]]), again, again_s))
    found = np.stack(starts)
    never = np.isinf(found).any(axis=0)
    low_s, median_s, high_s = np.maximum(np.quantile(np.where(never, now_s, found), QUANTILES, axis=0), now_s)
    return Estimates(*(np.where(never, np.inf, each) for each in (low_s, median_s, high_s)))


def coming(recent_s: FloatArray, now_s: float, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Who comes in one roll: the last days anew, then others of the last days anew, until ``HORIZON_S`` is over.

    Args:
        recent_s: (T,) when the recent jobs were submitted, rising.
        now_s: The present.
        rng: Draws how many days each time.

    Returns:
        (A,) the recent jobs that come, and (A,) when, in the order of time.
    """
    shifts = possible_shifts(recent_s, now_s)
    again, again_s, until_s = [np.zeros(0, np.int64)], [np.zeros(0)], 0.0
    while len(shifts) and until_s < HORIZON_S:
        days_s = float(rng.choice(shifts))
        rows = np.flatnonzero(recent_s > now_s - days_s)
        until_s += days_s
        again.append(rows)
        again_s.append(recent_s[rows] + until_s)
    return np.concatenate(again), np.concatenate(again_s)


def _nth(values: IntArray) -> IntArray:
    """(A,) how often each value has stood before."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, "left")
    nth = np.empty(len(values), np.int64)
    nth[order] = np.arange(len(values)) - first
    return nth


def possible_shifts(recent_s: FloatArray, now_s: float) -> FloatArray:
    """How much later the recent jobs (T,) may be taken to come again: whole days, so that they come at their hours."""
    if not len(recent_s):
        return np.zeros(0)
    days = int(min((now_s - recent_s[0]) // DAY_S, SHIFTS[1]))
    shifts = DAY_S * np.arange(min(SHIFTS[0], days), days + 1, dtype=np.float64)
    return shifts[shifts > 0]
