"""The present state rolled forward: when waiting jobs would start under an order, by durations that are predicted.

A scene is the part of the packed state that this needs, with the running and the waiting jobs and nobody else, so that
rolling it forward costs what these jobs cost, however long the log. It holds no actual run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.kernels import run_pass
from shunter.scheduler.kernels.estimates import no_estimates
from shunter.scheduler.kernels.fairshare import change_usage, no_usage
from shunter.scheduler.kernels.features import HISTORY_COUNT, HISTORY_MEAN, NUM_HISTORY_ROWS, learn, note_started
from shunter.scheduler.kernels.learned import anything_fits
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim import rollout_kernel as kernel

if TYPE_CHECKING:
    from shunter.scheduler.kernels.fairshare import Usage
    from shunter.scheduler.kernels.learned import Learned

CHANGING = ("jobs_i", "jobs_f", "counters", "node_free", "slots", "shapes", "alloc", "node_i", "spare")
"""Arrays that a roll writes to."""

CHUNK = 256
"""Events after which a roll looks whether all who wait have started."""


class Experience:
    """How long jobs ran compared with what their users asked for, as far as they have ended.

    Args:
        columns: The jobs.

    Attributes:
        users: (NUM_HISTORY_ROWS, U + 1) running means by user; the first column is for unknown ones.
        alike: (NUM_HISTORY_ROWS, ·) and by user, request and processors.
    """

    def __init__(self, columns: JobColumns) -> None:
        self.request_s = np.maximum(columns.requested_s, 1.0)
        self.user = np.maximum(columns.user_idx, -1) + 1
        equal = np.stack([self.user.astype(np.float64), self.request_s, columns.processors])
        self.kind = np.unique(equal, axis=1, return_inverse=True)[1].reshape(-1)
        self.users = np.zeros((NUM_HISTORY_ROWS, int(self.user.max(initial=0)) + 1))
        self.alike = np.zeros((NUM_HISTORY_ROWS, int(self.kind.max(initial=0)) + 1))

    def ended(self, rows: IntArray, run_s: FloatArray) -> None:
        """Jobs have ended after ``run_s`` (E,) seconds."""
        for row, log_ratio in zip(rows, np.log(np.maximum(run_s, 1.0) / self.request_s[rows]), strict=True):
            learn(self.users, self.user[row], log_ratio)
            learn(self.alike, self.kind[row], log_ratio)

    def run_s(self, rows: IntArray, elapsed_s: FloatArray) -> FloatArray:
        """(E,) predicted run times of jobs that have run for ``elapsed_s`` (E,), longer than that.

        The request times the mean ratio of equal jobs, mixed with the user's while they are few, as the features have
        it. A job that has outlived this is expected to run for as long again, up to its request.
        """
        user, kind, request_s = self.user[rows], self.kind[rows], self.request_s[rows]
        of_user = self.users[HISTORY_COUNT, user] / (self.users[HISTORY_COUNT, user] + 2.0)
        of_kind = self.alike[HISTORY_COUNT, kind] / (self.alike[HISTORY_COUNT, kind] + 1.0)
        log_ratio = of_kind * self.alike[HISTORY_MEAN, kind] + (1 - of_kind) * of_user * self.users[HISTORY_MEAN, user]
        run_s = np.clip(request_s * np.exp(log_ratio), 1.0, request_s)
        run_s = np.where(run_s > elapsed_s, run_s, np.minimum(2.0 * elapsed_s, request_s))
        predicted: FloatArray = np.where(run_s > elapsed_s, run_s, elapsed_s + at.OVERRUN_GRACE_S)
        return predicted


@dataclass(frozen=True, slots=True)
class Scene:
    """What a roll begins with; rows are the running jobs by expected end, the waiting ones, then those to come.

    Attributes:
        now_s: The present.
        state: The state with these jobs alone; not written to.
        how: Backfilling, placement and depth, as the kernels take them.
        num_running: K.
        num_known: K + Q, with the waiting jobs.
        jobs: (K + Q + A,) submit times, predicted run times and requests.
    """

    now_s: float
    state: at.State
    how: tuple[int, int, int]
    num_running: int
    num_known: int
    jobs: kernel.Jobs

    def starts(
        self,
        score: FloatArray,
        kind: int = kernel.STATIC,
        learned: Learned | None = None,
        usage: Usage | None = None,
        *,
        passed: bool = False,
        known_only: bool = False,
    ) -> FloatArray:
        """(Q + A,) starts of the waiting jobs and those to come, under an order; NaN of those that do not start.

        Args:
            score: (Q + A,) scores, lower first, where they are fixed.
            kind: How ``rollout_kernel`` works out the scores anew at each instant; by default it does not.
            learned: Of the scene's jobs, for the kind ``NETWORK``; written to.
            usage: For ``FAIRSHARE`` and ``MULTIFACTOR``; written to.
            passed: The pass of the present has been made.
            known_only: Stop when all jobs that wait now have started; of those to come some then have not.
        """
        state = self.state._replace(**{name: getattr(self.state, name).copy() for name in CHANGING})
        first, last, size = self.num_running, self.num_known, len(self.jobs.run_s)
        state.jobs_f[at.SCORE, first:] = score
        state.jobs_i[at.QUEUE, : last - first] = first + np.argsort(score[: last - first], kind="stable")
        jobs = self.jobs if usage is None else self.jobs._replace(usage=usage)
        if kind == kernel.UNICEP:
            jobs = jobs._replace(factor=np.log2(jobs.factor + 1e-15) * jobs.request_s)
        loop = self._loop(size)
        if not passed:
            self._first_pass(state, jobs, loop, learned, kind)
        start_s: FloatArray = state.jobs_f[at.START_S, first:]
        budget = CHUNK if known_only else np.int64(1) << 60
        while not kernel.roll(state, jobs, loop, learned, kind, *self.how, budget):
            if not np.isnan(start_s[: last - first]).any():
                break
        return start_s.copy()

    def last_s(self, start_s: FloatArray) -> float:
        """When the last job ends if these (Q + A,) are the starts; NaN: it does not start."""
        ends = np.concatenate([self.state.jobs_f[at.START_S, : self.num_running], start_s]) + self.jobs.run_s
        submitted = self.jobs.submit_s[self.num_known :]
        return float(np.nanmax(np.concatenate([ends, submitted, [self.now_s]])))

    def _first_pass(
        self, state: at.State, jobs: kernel.Jobs, loop: kernel.Loop, learned: Learned | None, kind: int
    ) -> None:
        """The pass of the present, as the loop would make it."""
        if kind != kernel.STATIC and self.num_known - self.num_running > 1 and anything_fits(state):
            kernel.order_waiting(state, jobs, loop, learned, kind, self.now_s)
        run_pass(state, self.now_s, *self.how)
        for row in state.jobs_i[at.OUT, : state.counters[at.NUM_OUT]].tolist():
            kernel.push_end(loop, self.now_s + jobs.run_s[row], row)
            if kind in (kernel.FAIRSHARE, kernel.MULTIFACTOR):
                change_usage(jobs.usage, row, 1.0, self.now_s)
            if learned is not None:
                note_started(learned.facts, learned.histories, row, self.now_s)

    def _loop(self, size: int) -> kernel.Loop:
        """A loop at the present, with the ends of the running jobs."""
        from shunter.sim.rollout import new_loop

        rows = np.arange(self.num_running)
        end_s = self.state.jobs_f[at.START_S, rows] + self.jobs.run_s[rows]
        order = np.argsort(end_s, kind="stable")  # a sorted list is a heap
        loop = new_loop(size)
        loop.now_s[0] = self.now_s
        loop.end_s[: len(rows)], loop.end_row[: len(rows)] = end_s[order], rows[order]
        loop.at[[kernel.NEXT, kernel.LAST, kernel.PENDING]] = self.num_known, size, len(rows)
        return loop


def scene_of(
    state: ClusterState,
    predicted: Callable[[IntArray, FloatArray], FloatArray],
    waiting: IntArray,
    now_s: float,
    again: IntArray,
    again_s: FloatArray,
) -> Scene:
    """The present state without the jobs that neither run nor belong to ``waiting``.

    Args:
        state: The cluster, before the pass of an instant.
        predicted: The run times of rows (E,) that have run for so long (E,), longer than that: ``Experience.run_s``.
        waiting: (Q,) rows of waiting jobs, rising.
        now_s: The present.
        again: (A,) rows of jobs of which the like are to come, some perhaps several times.
        again_s: (A,) when they do, never decreasing.
    """
    packed, columns = state.unscored, state.columns
    running = state.running
    rows = np.concatenate([running, waiting, again])
    num_running, num_known = len(running), len(running) + len(waiting)
    jobs_i, jobs_f = np.take(packed.jobs_i, rows, axis=1), np.take(packed.jobs_f, rows, axis=1)
    jobs_i[at.RUN, :num_running] = np.arange(num_running)
    jobs_f[at.RUN_END_S, :num_running] = packed.jobs_f[at.RUN_END_S, :num_running]
    jobs_i[at.ALLOC, num_running:] = -1
    jobs_f[at.START_S, num_running:] = np.nan
    counters = packed.counters.copy()
    counters[[at.QUEUE_LO, at.QUEUE_HI, at.NUM_OUT, at.BLOCKED]] = 0, len(waiting), 0, 0
    counters[[at.SCORED, at.TIMED, at.RELEASED]] = 0, 0, 1
    mode, strategy, depth = state.how
    submit_s = columns.submit_s[rows]
    submit_s[num_known:] = again_s
    elapsed_s = np.zeros(len(rows))
    elapsed_s[:num_running] = np.maximum(now_s - jobs_f[at.START_S, :num_running], 0.0)
    return Scene(
        now_s=now_s,
        state=packed._replace(jobs_i=jobs_i, jobs_f=jobs_f, counters=counters),
        how=(mode, at.FIRST_FIT if strategy >= at.DOT_PRODUCT else strategy, depth),
        num_running=num_running,
        num_known=num_known,
        jobs=kernel.Jobs(
            submit_s,
            predicted(rows, elapsed_s),
            columns.processors[rows],
            columns.requested_s[rows],
            no_estimates(),
            no_usage(),
        ),
    )
