"""A snapshot rolled forward, live or of a replay: when the jobs that wait would start if jobs ran for so long.

Decisions go on as the snapshot's settings say, with the requests or predictions that they count with, while jobs end
after run times that the caller draws and others come that the caller thinks of. Nothing here knows an actual run time.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError
from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
from shunter.scheduler.start_times import Recent
from shunter.scheduler.trial import state_of_snapshot
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.lookahead import scene_of
from shunter.sim.roll_orders import RollOrders

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.fairshare import Ledger


class Forward:
    """What is known at one decision, to be rolled forward many times.

    Args:
        snapshot: The present.
        settings: How decisions are made.
        ledger: What users have had, for orderings that ask for it.
        recent: Jobs whose like may come.
        passed: The pass of this moment has been made: nothing starts before something ends or comes.
        remake: Make orders anew in a roll where that is possible.

    Raises:
        UsageError: Rules that a roll does not know, or an ordering that asks for what is not given.

    Attributes:
        remade: Whether orders in a roll are those of a replay; else the order of the present is kept.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        settings: Settings,
        *,
        ledger: Ledger | None = None,
        recent: Recent | None = None,
        passed: bool = False,
        remake: bool = True,
    ) -> None:
        if settings.backfill == "conservative":
            raise UsageError("start times are not estimated under conservative backfilling: it promises them")
        if settings.ordering.ordering.rounds is not None:
            raise UsageError(f"start times are not estimated under {settings.ordering.label}: it decides in rounds")
        self.now_s = snapshot.now_s
        self.num_running, self.num_known = snapshot.num_running, len(snapshot.rows)
        self._passed = passed
        by_row, places = snapshot.by_row()  # in which ties of scores end
        self._places = places.astype(np.int64)
        with_recent = by_row if recent is None else _with(by_row, recent)
        self._orders = RollOrders(with_recent, settings, ledger, remake=remake)
        self.remade = self._orders.remade
        self._state = state_of_snapshot(
            with_recent,
            score=np.zeros(len(with_recent.columns) - self.num_running),
            backfill=settings.backfill,
            placement=settings.placement,
            depth=settings.depth,
        )
        if self._state.counters[at.LISTED]:
            raise UsageError("start times are not estimated with quotas, lanes, a power cap or waiting for locality")

    @property
    def is_dear(self) -> bool:
        """Whether a network scores the queue at every instant."""
        return self._orders.is_network

    @property
    def elapsed_s(self) -> FloatArray:
        """(K,) how long the running jobs have run."""
        return np.maximum(self.now_s - self._state.jobs_f[at.START_S, : self.num_running], 0.0)

    def starts(self, run_s: FloatArray, again: IntArray | None = None, again_s: FloatArray | None = None) -> FloatArray:
        """(Q,) times at which the waiting jobs start, in the order of the snapshot; inf of one that never does.

        Args:
            run_s: (K + Q + A,) run times of the running jobs, longer than ``elapsed_s``, of the waiting ones, and of
                those to come.
            again: (A,) the recent jobs whose like are submitted, some perhaps several times; none by default.
            again_s: (A,) when they are, never decreasing and not before the present.
        """
        first, known = self.num_running, self.num_known
        again = np.zeros(0, np.int64) if again is None else again
        again_s = np.zeros(0) if again_s is None else again_s
        waiting = first + self._places
        run_s = np.concatenate([run_s[:first], run_s[waiting], run_s[known:]])
        scene = scene_of(
            self._state,
            lambda rows, _: np.concatenate([run_s[rows[:known]], run_s[known:]]),
            np.arange(first, known),
            self.now_s,
            known + again,
            again_s,
        )
        rows = np.concatenate([self._state.running, np.arange(first, known), known + again])
        order = self._orders.of(rows, scene.jobs.submit_s)
        found = scene.starts(order.score, order.kind, order.learned, order.usage, passed=self._passed, known_only=True)
        start_s = np.full(known - first, np.inf)
        start_s[self._places] = np.where(np.isnan(found), np.inf, found)[: known - first]
        return start_s


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
