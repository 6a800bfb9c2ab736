"""Attempts that fail by a fault of the job's own: when they do, and how far each job is on the way there.

A failure of a job comes after so much of its work, not at a time: an attempt that others cut short has come part of the
way, and the next one goes the rest. A log says that an attempt failed, so it does, however little work the job has left
by then; what it did beyond that was in vain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.attempts import JobFailures

if TYPE_CHECKING:
    from shunter.traces.tables import Trace


@dataclass(slots=True)
class Faults:
    """The failures of all jobs and how many of them have happened.

    Attributes:
        bounds: (J + 1,) where each job's failures begin in ``after_s``.
        after_s: (F,) reference seconds of work between two failures of a job, in order.
        num: (J,) failures so far.
        spent_s: (J,) work done since the last of them, in attempts that something else ended.
    """

    bounds: IntArray
    after_s: FloatArray
    num: IntArray
    spent_s: FloatArray

    @classmethod
    def of(cls, failures: JobFailures, num_jobs: int) -> Faults:
        """Nothing has failed."""
        bounds = np.searchsorted(failures.job_row, np.arange(num_jobs + 1)).astype(np.int64)
        return cls(bounds, failures.after_s, np.zeros(num_jobs, np.int64), np.zeros(num_jobs))

    def left_s(self, row: int) -> float:
        """Work that an attempt which begins now does until it fails; inf when it does not."""
        place = int(self.bounds[row] + self.num[row])
        if place >= self.bounds[row + 1]:
            return math.inf
        return max(float(self.after_s[place] - self.spent_s[row]), 0.0)

    def failed(self, row: int) -> None:
        """The job has failed by a fault of its own."""
        self.num[row] += 1
        self.spent_s[row] = 0.0

    def stopped(self, row: int, work_s: float) -> None:
        """Something else has ended its attempt after so much work."""
        self.spent_s[row] += work_s

    def arrays(self) -> dict[str, Any]:
        """What changes during a run, by name, for a checkpoint."""
        return {"faults_num": self.num, "faults_spent_s": self.spent_s}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays``."""
        self.num[:] = arrays["faults_num"]
        self.spent_s[:] = arrays["faults_spent_s"]


def with_own_work(trace: Trace, failures: JobFailures) -> Trace:
    """The trace in which a job's run time is its own work: what the log says its last attempt took."""
    import polars as pl

    from shunter.traces.tables import JobTable

    if not len(failures.work_s):
        return trace
    own = pl.Series(failures.work_s).fill_nan(None)
    frame = trace.jobs.frame.with_columns(duration_s=own.fill_null(trace.jobs.frame["duration_s"]))
    return replace(trace, jobs=JobTable(frame))
