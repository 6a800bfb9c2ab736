"""The cluster's state as packed arrays: what waits, what runs, what is free. Both shells hold one of these.

Owns memory layout, admission and the calls into the compiled kernels; decides nothing itself. ``snapshot`` copies
what a policy may know; ``commit`` carries out a plan that was made from such a copy; ``advance`` makes and carries out
the same decision in one compiled call (a property test holds the two together).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import PlanRejectedError
from shunter.scheduler.plans import Plan, Start
from shunter.scheduler.snapshot import JobColumns, Snapshot
from shunter.scheduler.types import RESOURCES, UNITS_PER, FloatArray, IntArray, ResourceDemand

BACKFILLS = {
    "none": at.NO_BACKFILL,
    "easy": at.EASY,
    "easy-noextra": at.EASY_NOEXTRA,
    "easy-sjbf": at.EASY_SJBF,
    "conservative": at.CONSERVATIVE,
}
"""Backfilling name → mode of the kernels."""

PLACEMENTS = {
    "first-fit": at.FIRST_FIT,
    "best-fit": at.BEST_FIT,
    "worst-fit": at.WORST_FIT,
    "packed": at.PACKED,
}
"""Placement name → strategy of the kernels."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the nodes have.

    Attributes:
        units: (R, N) whole units of each resource on each node.
        tracked: (R,) whether the resource is a constraint at all; a log without memory does not run out of it.
    """

    units: IntArray
    tracked: tuple[bool, ...]

    @property
    def scarce(self) -> int:
        """The resource that size means: GPUs where there are any, else CPUs, else memory."""
        return next(r for r in (2, 0, 1) if self.tracked[r] and (r != 2 or self.units[r].any() or not self.tracked[0]))

    @property
    def processors(self) -> float:
        """Capacity in that resource, over all nodes."""
        return float(self.units[self.scarce].sum()) / UNITS_PER[self.scarce]


def never_fits(demand: ResourceDemand, capacity: Capacity) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(J,) jobs that could not run even on the empty cluster."""
    rows = [r for r in range(len(RESOURCES)) if capacity.tracked[r]]
    slots = np.zeros(len(demand.shapes), dtype=np.int64)
    for i, shape in enumerate(demand.shapes):
        needs = [capacity.units[r] // shape[r] for r in rows if shape[r] > 0]
        slots[i] = np.minimum.reduce(needs).sum() if needs else np.iinfo(np.int64).max
    return demand.tasks > slots[demand.shape_idx] if len(demand) else np.zeros(0, dtype=np.bool_)


class ClusterState:
    """Packed state of one cluster and a fixed list of jobs, which enter as they are submitted.

    Args:
        capacity: What the nodes have.
        demand: What the jobs ask for; a job with no tasks is one that was rejected and never enters the queue.
        submit_s: (J,) submit times, never decreasing: ties in a score end in (submit time, row).
        expected_s: (J,) run times that reservations count with.
        score: (J,) policy score, lower first; zeros for an ordering that is computed at every pass.
        backfill: A name of ``BACKFILLS``.
        placement: A name of ``PLACEMENTS``.
        depth: Waiting jobs behind the head that a pass looks at; 0 means all.
    """

    def __init__(
        self,
        *,
        capacity: Capacity,
        demand: ResourceDemand,
        columns: JobColumns,
        score: FloatArray | None,
        backfill: str,
        placement: str,
        depth: int = 0,
    ) -> None:
        from shunter.scheduler import kernels

        self._kernels = kernels
        self.capacity = capacity
        self.demand = demand
        self.columns = columns
        self.backfill = backfill
        self.placement = placement
        self.depth = depth
        self.version = 0
        mode, strategy = BACKFILLS[backfill], PLACEMENTS[placement]
        num_jobs = len(demand)
        tracked = [r for r in range(len(RESOURCES)) if capacity.tracked[r]]
        num_nodes = capacity.units.shape[1]
        num_shapes = len(demand.shapes)

        self.jobs_i = np.zeros((at.NUM_JOB_INTS, num_jobs), dtype=np.int64)
        self.jobs_i[at.TASKS] = demand.tasks
        self.jobs_i[at.SHAPE] = demand.shape_idx
        self.jobs_i[at.ALLOC] = -1
        self.jobs_f = np.full((at.NUM_JOB_FLOATS, num_jobs), np.nan)
        self.jobs_f[at.SUBMIT_S] = columns.submit_s
        self.jobs_f[at.EXPECTED_S] = columns.expected_s
        self.jobs_f[at.SCORE] = 0.0 if score is None else score
        if mode == at.CONSERVATIVE and num_jobs:
            alike = np.stack([demand.tasks.astype(np.float64), demand.shape_idx.astype(np.float64), columns.expected_s])
            self.jobs_i[at.KIND] = np.unique(alike, axis=1, return_inverse=True)[1].reshape(-1)
        self.counters = np.zeros(at.NUM_COUNTERS, dtype=np.int64)
        self.node_free = np.ascontiguousarray(capacity.units[tracked])
        self.need = np.ascontiguousarray(demand.shapes[:, tracked].T)
        self.slots = np.zeros((num_shapes, num_nodes), dtype=np.int64)
        self.shapes = np.zeros((at.NUM_SHAPE_ROWS, num_shapes), dtype=np.int64)
        self.shapes[at.ACTIVE_POS] = -1
        self.alloc = np.full((3, _max_entries(demand, self.node_free, self.need)), -1, dtype=np.int64)
        self.alloc[at.NEXT, :-1] = np.arange(1, self.alloc.shape[1])
        self.node_i = np.zeros((at.NUM_NODE_ROWS, num_nodes), dtype=np.int64)
        self.spare = np.zeros_like(self.node_free)
        steps = 2 * num_jobs + 8 if mode == at.CONSERVATIVE else 1
        self.profile_s = np.zeros(steps)
        self.profile_free = np.zeros((len(tracked), steps), dtype=np.int64)
        self.profile_free[:, 0] = self.node_free.sum(axis=1)
        self.counters[at.PROFILE_LEN] = 1

        self.packed = at.State(
            jobs_i=self.jobs_i,
            jobs_f=self.jobs_f,
            counters=self.counters,
            node_free=self.node_free,
            need=self.need,
            slots=self.slots,
            shapes=self.shapes,
            alloc=self.alloc,
            node_i=self.node_i,
            spare=self.spare,
            profile_s=self.profile_s,
            profile_free=self.profile_free,
        )
        self._how = (mode, strategy, depth)
        self._advance_tail = (*self._how, *self.packed)
        self.started = self.jobs_i[at.OUT]
        self.backfilled = self.jobs_i[at.BACKFILLED]

    # --- the compiled path -------------------------------------------------------------------------------------------

    def advance(self, now_s: float, finished: IntArray, num_finished: int, arrived_lo: int, arrived_hi: int) -> float:
        """Take in an instant and make its pass; returns when the next pass is due by itself, or inf."""
        next_s: float = self._kernels.advance(
            now_s, finished, num_finished, arrived_lo, arrived_hi, *self._advance_tail
        )
        return next_s

    def absorb(self, now_s: float, finished: IntArray, num_finished: int, arrived_lo: int, arrived_hi: int) -> None:
        """Take in an instant without a pass: finished jobs first, then arrivals."""
        self._kernels.absorb(self.packed, now_s, finished, num_finished, arrived_lo, arrived_hi, self._how[0])

    def run_pass(self, now_s: float) -> float:
        """The pass alone, in the queue's present order."""
        next_s: float = self._kernels.run_pass(self.packed, now_s, *self._how)
        return next_s

    @property
    def num_started(self) -> int:
        """Jobs that the last pass started; their rows stand in ``started``."""
        return self.counters.item(at.NUM_OUT)

    # --- the queue ---------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> IntArray:
        """(Q,) rows of the waiting jobs, in policy order."""
        return self.jobs_i[at.QUEUE, self.counters[at.QUEUE_LO] : self.counters[at.QUEUE_HI]]

    @property
    def running(self) -> IntArray:
        """(K,) rows of the running jobs by expected end."""
        return self.jobs_i[at.RUN, : self.counters[at.NUM_RUNNING]]

    def reorder(self, scores: FloatArray) -> None:
        """Put the queue in the order of ``scores`` (Q,), lower first; ties by submit time, then row."""
        queue = self.queue
        queue[:] = queue[np.lexsort((queue, scores))]

    # --- the snapshot-and-plan path ----------------------------------------------------------------------------------

    def snapshot(self, now_s: float) -> Snapshot:
        """A frozen copy of everything that a policy may know now; jobs are renumbered, so none to come is visible."""
        running, queue = self.running, self.queue
        rows = np.concatenate([running, queue])
        place_of = np.full(len(self.demand), -1, dtype=np.int64)
        place_of[rows] = np.arange(len(rows))
        alloc_job, alloc_node, alloc_tasks = [], [], []
        for i, row in enumerate(running):
            for node, tasks in self.placement_of(int(row)):
                alloc_job.append(i)
                alloc_node.append(node)
                alloc_tasks.append(tasks)
        return Snapshot(
            version=self.version,
            now_s=now_s,
            rows=rows.copy(),
            num_running=len(running),
            columns=self.columns.take(rows),
            demand=ResourceDemand(self.demand.tasks[rows], self.demand.shape_idx[rows], self.demand.shapes),
            capacity=self.capacity,
            started_s=self.jobs_f[at.START_S, running].copy(),
            expected_end_s=self.jobs_f[at.END_S, running].copy(),
            alloc_job=np.asarray(alloc_job, dtype=np.int64),
            alloc_node=np.asarray(alloc_node, dtype=np.int64),
            alloc_tasks=np.asarray(alloc_tasks, dtype=np.int64),
            reserved_s=self.jobs_f[at.RESERVED_S, queue].copy(),
            released=bool(self.counters[at.RELEASED]),
        )

    def placement_of(self, row: int) -> list[tuple[int, int]]:
        """(node, tasks) pairs that a running job holds, by node."""
        pairs = []
        entry = int(self.jobs_i[at.ALLOC, row])
        while entry >= 0:
            pairs.append((int(self.alloc[at.NODE, entry]), int(self.alloc[at.COUNT, entry])))
            entry = int(self.alloc[at.NEXT, entry])
        return sorted(pairs)

    def commit(self, plan: Plan, now_s: float) -> None:
        """Carry out a plan, whole or not at all; row numbers are those of this state.

        Raises:
            PlanRejectedError: The plan was made from another version of the state, or a start does not fit.
        """
        if plan.based_on != self.version:
            raise PlanRejectedError(f"plan is based on version {plan.based_on}, the state is at {self.version}")
        usable = self._usable_slots(plan.starts)
        self.counters[at.NUM_OUT] = 0
        for extension in plan.extensions:
            self._kernels.running_remove(self.packed, extension.row)
            self._kernels.running_insert(self.packed, extension.row, extension.end_s)
        for start, slots in zip(plan.starts, usable, strict=True):
            position = int(np.flatnonzero(self.queue == start.row)[0])
            self._kernels.queue_remove(self.packed, int(self.counters[at.QUEUE_LO]) + position)
            self._kernels.start_job(self.packed, start.row, now_s, at.FIRST_FIT, int(start.backfilled), slots)
        for promise in plan.reservations:
            self.jobs_f[at.RESERVED_S, promise.row] = promise.start_s
        self.counters[at.RELEASED] = 0
        self.version += 1

    def _usable_slots(self, starts: Sequence[Start]) -> list[IntArray]:
        """(N,) tasks per node of each start; PlanRejectedError when they cannot all be carried out."""
        free = self.node_free.copy()
        waiting = set(self.queue.tolist())
        found = []
        for start in starts:
            if start.row not in waiting:
                raise PlanRejectedError(f"job in row {start.row} does not wait")
            waiting.remove(start.row)
            slots = np.zeros(free.shape[1], dtype=np.int64)
            for node, tasks in start.placement:
                if not 0 <= node < len(slots):
                    raise PlanRejectedError(f"job in row {start.row} is placed on node {node}, which does not exist")
                slots[node] = tasks
            free -= slots * self.need[:, [int(self.jobs_i[at.SHAPE, start.row])]]
            if slots.sum() != self.jobs_i[at.TASKS, start.row] or (free < 0).any() or (slots < 0).any():
                raise PlanRejectedError(f"job in row {start.row} does not fit on {start.placement}")
            found.append(slots)
        return found

    @classmethod
    def from_snapshot(
        cls, snapshot: Snapshot, *, score: FloatArray, backfill: str, placement: str, depth: int
    ) -> ClusterState:
        """A state of its own to try a decision on; its rows are 0..J in the order of ``snapshot.rows``.

        Args:
            snapshot: What is known.
            score: (Q,) policy scores of the waiting jobs.
            backfill: A name of ``BACKFILLS``.
            placement: A name of ``PLACEMENTS``.
            depth: See the class.
        """
        num_running = snapshot.num_running
        scores = np.concatenate([np.zeros(num_running), score])
        state = cls(
            capacity=snapshot.capacity,
            demand=snapshot.demand,
            columns=snapshot.columns,
            score=scores,
            backfill=backfill,
            placement=placement,
            depth=depth,
        )
        kernels, packed = state._kernels, state.packed
        for i in range(num_running):
            shape = int(snapshot.demand.shape_idx[i])
            usable = np.zeros(snapshot.capacity.units.shape[1], dtype=np.int64)
            mine = snapshot.alloc_job == i
            usable[snapshot.alloc_node[mine]] = snapshot.alloc_tasks[mine]
            state.shapes[at.WAITING, shape] += 1
            state.counters[at.NUM_OUT] = 0
            kernels.activate_shape(packed, shape)
            kernels.start_job(packed, i, snapshot.started_s[i], at.FIRST_FIT, 0, usable)
            kernels.running_remove(packed, i)
            kernels.running_insert(packed, i, snapshot.expected_end_s[i])
        state.absorb(snapshot.now_s, np.zeros(0, dtype=np.int64), 0, num_running, len(snapshot.rows))
        state.jobs_f[at.RESERVED_S, num_running:] = snapshot.reserved_s
        state.counters[at.RELEASED] = int(snapshot.released)
        if backfill == "conservative":
            kernels.profile_from_promises(packed, snapshot.now_s)
        return state

    # --- saving ------------------------------------------------------------------------------------------------------

    ARRAYS: Sequence[str] = (
        "jobs_i", "jobs_f", "counters", "node_free", "slots", "shapes", "alloc", "profile_s", "profile_free",
    )  # fmt: skip

    def arrays(self) -> dict[str, Any]:
        """Everything that changes during a run, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays`` from a state of the same jobs and cluster."""
        for name in self.ARRAYS:
            getattr(self, name)[...] = arrays[name]


def _max_entries(demand: ResourceDemand, node_units: IntArray, need: IntArray) -> int:
    """Placement entries that can be in use at once: every entry is a (job, node) pair with at least one task."""
    num_nodes = node_units.shape[1]
    by_jobs = int(np.minimum(demand.tasks, num_nodes).sum())
    if need.shape[1] == 0 or (need == 0).all(axis=0).any():
        return by_jobs + 1
    smallest = np.where(need > 0, need, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
    by_room = int((node_units // smallest).sum())
    return max(1, min(by_jobs, by_room)) + 1
