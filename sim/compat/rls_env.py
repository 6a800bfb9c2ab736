"""RLScheduler's learning environment: 128 visible jobs of 8 features, one job chosen a step.

Owns the observation; the event rules are those of ``rls_plain``. Everything is as published, so that agents trained
elsewhere under this protocol can be compared: the order of the rows, the scaling and the padding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.compat import rlscheduler
from shunter.sim.compat.rlscheduler import RlsJobs, RlsRun, RlsTrace

MAX_VISIBLE = 128
NUM_FEATURES = 8
MAX_WAIT_S = 12 * 3600
"""Waiting time at which the first feature is capped."""

MARGIN = 1e-5
CAP = 1.0 - MARGIN
PADDING = (0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0)


class Step(NamedTuple):
    """What a step gives: the next observation, None at the end, and then the reward, minus the bounded slowdown."""

    observation: FloatArray | None
    reward: float
    terminated: bool


class RlsEnv:
    """One window stepped decision by decision.

    ``observation`` is (128, 8) float64; row *i* is the job that action *i* starts:

    0. waiting time / 12 h; 1. requested time / longest run time of the log; 2. processors / MaxProcs;
    3.–6. requested memory, user, group, executable, each over the log's largest, and 1 when unknown, all six capped at
    1 − 1e-5; 7. 1 − 1e-5 if the job fits now, else 1e-5. Rows without a job are 0, 1, 1, 1, 1, 1, 1, 0.
    """

    def __init__(self, trace: RlsTrace, *, backfill: bool) -> None:
        """An environment on windows of ``trace``, with or without the protocol's backfilling."""
        self.trace = trace
        self.backfill = backfill
        self.visible: list[int] = []

    def reset(self, start: int, length: int) -> FloatArray:
        """Begin the window of ``length`` jobs from row ``start`` on.

        Raises:
            TraceError: As ``rlscheduler.run``.
        """
        self.jobs = rlscheduler.window(self.trace, start, length)
        self.machine = rlscheduler.empty_machine(self.trace, self.jobs)
        self.fixed = fixed_features(self.trace, self.jobs)
        # Only list order matters to what is seen, so every sort of the original is here, in its order.
        requested, procs, submit = self.jobs.requested_s.tolist(), self.jobs.procs.tolist(), self.jobs.submit_s.tolist()
        f1, f2 = (rlscheduler.STATIC_SCORES[name](self.jobs)[0].tolist() for name in ("f1", "f2"))
        self._keys = (
            f1.__getitem__,
            f2.__getitem__,
            lambda row: (requested[row], submit[row]),
            lambda row: (procs[row], submit[row]),
        )
        return self.observe()

    @property
    def now_s(self) -> int:
        """Time of the decision to be made, on the log's clock."""
        return self.machine.now

    def observe(self) -> FloatArray:
        """The observation at this decision, (128, 8); sets ``visible``, the rows of the window that it shows."""
        self.visible = self._choose_visible()
        rows = np.asarray(self.visible, dtype=np.int64)
        observation = np.tile(np.asarray(PADDING), (MAX_VISIBLE, 1))
        seen = observation[: len(rows)]
        seen[:, 0] = np.minimum((self.now_s - self.jobs.submit_s[rows]) / MAX_WAIT_S, CAP)
        seen[:, 1:7] = self.fixed[rows]
        seen[:, 7] = np.where(self.jobs.nodes[rows] <= self.machine.free, CAP, MARGIN)
        return observation

    def step(self, action: int) -> Step:
        """Start the job of row ``action``, waiting for room if need be.

        Raises:
            UsageError: The row shows no job.
        """
        if not 0 <= action < len(self.visible):
            raise UsageError(f"action {action} shows no job; expected 0 to {len(self.visible) - 1}")
        if self.machine.schedule(self.visible[action], backfill=self.backfill):
            return Step(self.observe(), 0.0, False)
        return Step(None, -self.result().metrics["avg_bsld"], True)

    def result(self) -> RlsRun:
        """Starts, order and metrics of the finished window."""
        start_s, order = self.machine.starts()
        return RlsRun(self.jobs, start_s, order, rlscheduler.metrics(self.jobs, start_s, self.trace.max_procs))

    def _choose_visible(self) -> list[int]:
        """All queued rows in submit order, or 128 of them: shortest and smallest in turn, none twice."""
        queue = self.machine.queue
        queue.sort(key=self.machine.submit.__getitem__)
        if len(queue) <= MAX_VISIBLE:
            return list(queue)
        leading = []
        for key in self._keys:
            queue.sort(key=key)
            leading.append(queue[:MAX_VISIBLE])
        in_turn = (row for pair in zip(*leading[2:], strict=True) for row in pair)
        return list(dict.fromkeys(in_turn))[:MAX_VISIBLE]


def fixed_features(trace: RlsTrace, jobs: RlsJobs) -> FloatArray:
    """Features 1–6 of the observation, which never change: (J, 6)."""
    columns = [scaled(jobs.requested_s, trace.maxima["run"]), scaled(jobs.procs, trace.max_procs)]
    for name in ("memory", "user", "group", "executable"):
        values: IntArray = getattr(jobs, name)
        columns.append(np.where(values == -1, 1.0, scaled(values, trace.maxima[name])))
    return np.stack(columns, axis=1)


def scaled(values: IntArray, largest: int) -> FloatArray:
    """``values / largest`` capped below 1; a log whose largest is 0 gives 0, where the original divides by zero."""
    return np.minimum(values / largest, CAP) if largest > 0 else np.zeros(len(values))
