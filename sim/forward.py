"""A snapshot rolled forward, live or of a replay: when the jobs that wait would start if jobs ran for so long.

Decisions go on as the snapshot's settings say, with the requests or predictions that they count with, while jobs end
after run times that the caller draws. Nothing here knows an actual run time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.decide import queue_scores
from shunter.scheduler.errors import UsageError
from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
from shunter.scheduler.trial import state_of_snapshot
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.lookahead import scene_of
from shunter.sim.rollout import KINDS

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings

SCORED_ANEW = ("wfp3", "unicep")
"""Orderings whose scores a roll works out at each instant; under the others the order of the present stays."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Jobs of the past whose like may be submitted again.

    Attributes:
        columns: (T,) what is known of them; submit times rise.
        tasks: (T,) gang sizes.
        shape_idx: (T,) rows in ``shapes`` of the snapshot's demand.
        histories: (T,) what is known of their users now; None where no ordering asks.
    """

    columns: JobColumns
    tasks: IntArray
    shape_idx: IntArray
    histories: JobHistories | None = None


class Forward:
    """What is known at one decision, to be rolled forward many times.

    Args:
        snapshot: The present, before its pass.
        settings: How decisions are made.
        usage_s: (U,) decayed usage of users, for orderings that ask for it.
        recent: Jobs whose like may come.

    Raises:
        UsageError: Rules that a roll does not know.
    """

    def __init__(
        self, snapshot: Snapshot, settings: Settings, *, usage_s: FloatArray | None = None, recent: Recent | None = None
    ) -> None:
        if settings.backfill == "conservative":
            raise UsageError("start times are not estimated under conservative backfilling: it promises them")
        self.now_s = snapshot.now_s
        self.num_running, self.num_known = snapshot.num_running, len(snapshot.rows)
        ordering = settings.ordering.ordering
        self._kind = KINDS[ordering.name] if ordering.name in SCORED_ANEW else 0
        with_recent = snapshot if recent is None else _with(snapshot, recent)
        everybody = snapshot if recent is None else _waiting(with_recent)
        self._score = queue_scores(everybody, settings, usage_s)
        snapshot = with_recent
        self._state = state_of_snapshot(
            snapshot,
            score=self._score,
            backfill=settings.backfill,
            placement=settings.placement,
            depth=settings.depth,
        )
        if self._state.counters[at.LISTED]:
            raise UsageError("start times are not estimated with quotas, lanes, a power cap or waiting for locality")

    @property
    def elapsed_s(self) -> FloatArray:
        """(K,) how long the running jobs have run."""
        return np.maximum(self.now_s - self._state.jobs_f[at.START_S, : self.num_running], 0.0)

    def starts(self, run_s: FloatArray, again: IntArray | None = None, later_s: float = 0.0) -> FloatArray:
        """(Q,) times at which the waiting jobs start, in the order of the snapshot.

        Args:
            run_s: (K + Q + T,) run times of the running jobs, longer than ``elapsed_s``, of the waiting and the recent
                ones.
            again: Rows of the recent jobs that are submitted again, rising; none by default.
            later_s: How much later than the first time.
        """
        waiting = np.arange(self.num_running, self.num_known)
        again = np.zeros(0, np.int64) if again is None else again
        rows = self.num_known + again
        scene = scene_of(self._state, lambda those, _: run_s[those], waiting, self.now_s, rows, later_s)
        score = self._score[np.concatenate([waiting, rows]) - self.num_running]
        return scene.starts(score, self._kind)[: len(waiting)]


def _with(snapshot: Snapshot, recent: Recent) -> Snapshot:
    """The snapshot with columns of more jobs behind its own, which neither run nor wait."""
    columns = JobColumns(
        **{
            column.name: np.concatenate([getattr(snapshot.columns, column.name), getattr(recent.columns, column.name)])
            for column in fields(JobColumns)
        }
    )
    demand = replace(
        snapshot.demand,
        tasks=np.concatenate([snapshot.demand.tasks, recent.tasks]),
        shape_idx=np.concatenate([snapshot.demand.shape_idx, recent.shape_idx]),
    )
    more_jobs = np.zeros(len(recent.tasks))
    known, more = snapshot.histories, recent.histories
    histories = None
    if known is not None and more is not None:
        histories = JobHistories(*(np.concatenate(pair, axis=1) for pair in zip(known, more, strict=True)))
    return replace(
        snapshot,
        columns=columns,
        demand=demand,
        overhead_s=np.concatenate([snapshot.overhead_s, more_jobs]),
        reserved_s=np.concatenate([snapshot.reserved_s, more_jobs + np.nan]),
        entered_s=np.concatenate([snapshot.entered_s, more_jobs + snapshot.now_s]),
        histories=histories,
    )


def _waiting(snapshot: Snapshot) -> Snapshot:
    """The same as if the jobs behind its own had been submitted at this moment."""
    count, known, now_s = len(snapshot.columns), len(snapshot.rows), snapshot.now_s
    submit_s = snapshot.columns.submit_s.copy()
    submit_s[known:] = now_s
    new = np.arange(count - known)
    return replace(
        snapshot,
        columns=replace(snapshot.columns, submit_s=submit_s),
        rows=np.concatenate([snapshot.rows, snapshot.rows.max(initial=-1) + 1 + new]),
    )
