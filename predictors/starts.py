"""When each waiting job will start, with an interval: the present rolled forward under drawn run times and arrivals.

Owns the drawing and what is made of the rolls; who rolls is handed in (``Roll``), since forecasts know no simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shunter.predictors.run_times import RunJobs, RunTimes
from shunter.scheduler.types import FloatArray, IntArray

DAY_S = 86400.0
SHIFTS = (5, 14)
"""Days after which jobs are taken to come again: what they bring lasts so long."""

SAMPLES = 25
QUANTILES = (0.1, 0.5, 0.9)


class Roll(Protocol):
    """The present, rolled forward as often as is asked; ``sim.forward.Forward`` is one."""

    @property
    def elapsed_s(self) -> FloatArray:
        """(K,) how long the running jobs have run."""

    def starts(self, run_s: FloatArray, again: IntArray | None = None, later_s: float = 0.0) -> FloatArray:
        """(Q,) starts of the waiting jobs if jobs (K + Q + T,) run for so long and recent ones come again."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Starts of the waiting jobs, (Q,) each: times, never before the present.

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
    known: RunTimes,
    now_s: float,
    rng: np.random.Generator,
    *,
    recent_s: FloatArray | None = None,
    samples: int = SAMPLES,
) -> Estimates:
    """Quantiles of the starts of the waiting jobs.

    Args:
        roll: The present.
        jobs: (K + Q + T,) the running jobs, the waiting ones in the order of the snapshot, and recent ones.
        known: What ended jobs tell of run times.
        now_s: The present.
        rng: Draws.
        recent_s: (T,) when the recent jobs were submitted, rising; None: nobody comes.
        samples: Rolls.
    """
    elapsed_s = np.zeros(len(jobs.request_s))
    running = roll.elapsed_s
    elapsed_s[: len(running)] = np.maximum(running, 1e-3)
    run_s = known.draw(jobs, elapsed_s, samples, rng)
    recent_s = np.zeros(0) if recent_s is None else recent_s
    shifts = possible_shifts(recent_s, now_s)
    starts = []
    for sample in run_s:
        again, later_s = np.zeros(0, np.int64), 0.0
        if len(shifts):
            later_s = float(rng.choice(shifts))
            again = np.flatnonzero(recent_s > now_s - later_s)
        starts.append(roll.starts(sample, again, later_s))
    low_s, median_s, high_s = np.maximum(np.quantile(np.stack(starts), QUANTILES, axis=0), now_s)
    return Estimates(low_s, median_s, high_s)


def possible_shifts(recent_s: FloatArray, now_s: float) -> FloatArray:
    """How much later the recent jobs (T,) may be taken to come again: whole days, so that they come at their hours."""
    if not len(recent_s):
        return np.zeros(0)
    days = int(min((now_s - recent_s[0]) // DAY_S, SHIFTS[1]))
    shifts = DAY_S * np.arange(min(SHIFTS[0], days), days + 1, dtype=np.float64)
    return shifts[shifts > 0]
