"""``plan(snapshot) -> Plan`` and ``check_plan``: the decision as a pure function, the same for both shells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.plans import Extend, Plan, Reason, Reserve, Start
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.snapshot import QueueView, Snapshot
from shunter.scheduler.state import BACKFILLS, PLACEMENTS, ClusterState
from shunter.scheduler.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Settings:
    """How decisions are made.

    Attributes:
        ordering: Order of the queue.
        backfill: A name of ``BACKFILLS``.
        placement: A name of ``PLACEMENTS``.
        depth: Waiting jobs behind the head that a pass looks at; 0 means all.
    """

    ordering: ChosenOrdering = field(default_factory=lambda: choose_ordering("fcfs"))
    backfill: str = "none"
    placement: str = "first-fit"
    depth: int = 0

    def __post_init__(self) -> None:
        if self.backfill not in BACKFILLS:
            raise UsageError(f"unknown backfilling {self.backfill!r}{nearest(self.backfill, list(BACKFILLS))}")
        if self.placement not in PLACEMENTS:
            raise UsageError(f"unknown placement {self.placement!r}{nearest(self.placement, list(PLACEMENTS))}")
        if self.depth < 0:
            raise UsageError(f"backfill depth {self.depth} is negative; 0 means no limit")


def plan(snapshot: Snapshot, settings: Settings, *, usage_s: FloatArray | None = None) -> Plan:
    """What to start now, and what is promised to those that go on waiting.

    Args:
        snapshot: What is known; not changed.
        settings: Ordering, backfilling and placement.
        usage_s: (U,) decayed usage of users at ``snapshot.now_s``, for orderings that ask for it.
    """
    first = snapshot.num_running
    waiting = snapshot.columns.take(np.arange(first, len(snapshot.rows)))
    view = QueueView(
        now_s=snapshot.now_s,
        jobs=waiting,
        total_processors=snapshot.total_processors,
        usage_s=np.zeros(0) if usage_s is None else usage_s,
    )
    score = settings.ordering.score(view)
    state = ClusterState.from_snapshot(
        snapshot, score=score, backfill=settings.backfill, placement=settings.placement, depth=settings.depth
    )
    ends_before = state.jobs_f[at.END_S].copy()
    order = state.queue.copy()
    next_pass_s = state.run_pass(snapshot.now_s)
    rows = snapshot.rows
    started = state.started[: state.num_started]
    starts = tuple(Start(int(rows[i]), tuple(state.placement_of(int(i))), bool(state.backfilled[i])) for i in started)
    still = state.queue
    reserved = state.jobs_f[at.RESERVED_S]
    moved = [i for i in range(first) if state.jobs_f[at.END_S, i] != ends_before[i]]
    return Plan(
        based_on=snapshot.version,
        starts=starts,
        reservations=tuple(Reserve(int(rows[i]), float(reserved[i])) for i in still if not np.isnan(reserved[i])),
        extensions=tuple(Extend(int(rows[i]), float(state.jobs_f[at.END_S, i])) for i in moved),
        skipped=tuple(_reasons(state, rows, order, settings)),
        next_pass_s=float(next_pass_s),
    )


def _reasons(state: ClusterState, rows: IntArray, order: IntArray, settings: Settings) -> list[tuple[int, Reason]]:
    """Why each job that still waits was not started; ``order`` is the queue before the pass."""
    num_heads = int((state.backfilled[state.started[: state.num_started]] == 0).sum())
    looked_at = set(order[: num_heads + 1 + settings.depth] if settings.depth else order)
    if settings.backfill == "conservative":
        looked_at = set(order[~np.isnan(state.jobs_f[at.RESERVED_S, order])])
    reasons = []
    for position, i in enumerate(state.queue):
        fits = state.jobs_i[at.TASKS, i] <= state.shapes[at.FREE_SLOTS, state.jobs_i[at.SHAPE, i]]
        if position > 0 and settings.backfill == "none":
            reason = Reason.BEHIND_HEAD
        elif i not in looked_at:
            reason = Reason.BEYOND_DEPTH
        else:
            reason = Reason.WOULD_DELAY if fits else Reason.NO_CAPACITY
        reasons.append((int(rows[i]), reason))
    return reasons


def check_plan(snapshot: Snapshot, proposed: Plan) -> list[str]:
    """What is wrong with a plan; empty when it may be carried out.

    A plan must be made from this snapshot; start only jobs that wait, each once and whole; and take no more of any
    resource on any node than is free.
    """
    problems = []
    if proposed.based_on != snapshot.version:
        problems.append(f"based on version {proposed.based_on}, not {snapshot.version}")
    tracked = [r for r, yes in enumerate(snapshot.capacity.tracked) if yes]
    free = snapshot.free_units()
    waiting = {int(row): i for i, row in enumerate(snapshot.rows) if i >= snapshot.num_running}
    for start in proposed.starts:
        index = waiting.pop(start.row, None)
        if index is None:
            problems.append(f"row {start.row} does not wait, or is started twice")
            continue
        shape = snapshot.demand.shapes[snapshot.demand.shape_idx[index]]
        if sum(tasks for _, tasks in start.placement) != snapshot.demand.tasks[index]:
            problems.append(f"row {start.row} is not started whole")
        for node, tasks in start.placement:
            if not 0 <= node < free.shape[1]:
                problems.append(f"row {start.row} is placed on node {node}, which does not exist")
                continue
            free[:, node] -= tasks * shape
            if tasks < 1 or (free[tracked, node] < 0).any():
                problems.append(f"row {start.row} does not fit on node {node}")
    return problems
