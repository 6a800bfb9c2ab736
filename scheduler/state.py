"""The cluster's state as packed arrays: what waits, what runs, what is free. Both shells hold one of these.

Owns memory layout, admission and the calls into the compiled kernels; decides nothing itself. ``snapshot`` copies
what a policy may know; ``commit`` carries out a plan that was made from such a copy; ``advance`` makes and carries out
the same decision in one compiled call (a property test holds the two together).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.arrays import packed_arrays
from shunter.scheduler.capacity import Capacity, empty_slots
from shunter.scheduler.errors import PlanRejectedError
from shunter.scheduler.plan_check import check_plan
from shunter.scheduler.plans import Plan
from shunter.scheduler.snapshot import JobColumns, Snapshot
from shunter.scheduler.types import RESOURCES, UNITS_PER, BoolArray, FloatArray, IntArray, ResourceDemand

if TYPE_CHECKING:
    from shunter.scheduler.kernels.estimates import Estimates

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
    "topology": at.TOPOLOGY,
    "least-loaded": at.LEAST_LOADED,
    "dot-product": at.DOT_PRODUCT,
    "packing": at.PACKING,
    "clustering": at.CLUSTERING,
    "fgd": at.FGD,
    "random": at.RANDOM,
}
"""Placement name → strategy of the kernels."""


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
        locality_s: Longest time that a gang waits to be placed nearer together than it could be now.
        seed: Of the random placement.
        timed: Attempts may be cut short, or speeds differ: keep what is needed to tell the work that was done.
        most_tasks: (J,) largest gang that each job may be resized to; None: none is resized.
        strict: Priority classes come first: what groups are guaranteed and borrow is told apart inside each class.
    """

    jobs_i: IntArray
    jobs_f: FloatArray
    counters: IntArray
    node_free: IntArray
    need: IntArray
    slots: IntArray
    shapes: IntArray
    alloc: IntArray
    node_i: IntArray
    spare: IntArray
    profile_s: FloatArray
    profile_free: IntArray
    groups: IntArray
    rates: FloatArray
    points: FloatArray
    typical: IntArray

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
        locality_s: float = 0.0,
        seed: int = 0,
        timed: bool = True,
        most_tasks: IntArray | None = None,
        strict: bool = False,
    ) -> None:
        from shunter.scheduler import kernels

        self._kernels = kernels
        self.capacity = capacity
        self.demand = demand
        self.columns = columns
        self.backfill = backfill
        self.placement = placement
        self.depth = depth
        self.locality_s = locality_s
        self.version = 0
        mode, strategy = BACKFILLS[backfill], PLACEMENTS[placement]
        self.rows = [r for r in range(len(RESOURCES)) if capacity.tracked[r]]
        self.packed = packed_arrays(
            capacity, demand, columns, score, mode=mode, strategy=strategy, rows=self.rows, most_tasks=most_tasks
        )
        for name, array in self.packed._asdict().items():
            setattr(self, name, array)
        if strict and capacity.quotas is not None:
            self.jobs_i[at.CLASS] = np.unique(columns.priority, return_inverse=True)[1].reshape(-1)
        # For kernels that start no job: they need no second version for states whose nodes are scored.
        self.unscored = self.packed
        if self.points.dtype != at.NO_POINTS:
            self.unscored = self.packed._replace(points=np.zeros((1, 1), dtype=at.NO_POINTS))
        self.lost_gpus = np.zeros(capacity.units.shape[1], dtype=np.int64)
        self.counters[at.LOCALITY_MS] = round(locality_s * 1000)
        self.counters[at.LISTED] |= int(locality_s > 0)
        self.counters[at.TIMED] = int(timed)
        self.counters[at.SEED] = seed
        self.how = (mode, strategy, depth)
        self._advance_tail = (*self.how, *self.packed)
        self._advance: Callable[..., float] = kernels.advance
        self._run_pass: Callable[..., float] = kernels.run_pass
        if mode == at.CONSERVATIVE:
            self._advance = kernels.advance_conservative
            self._run_pass = kernels.run_conservative
        elif self.counters[at.LISTED]:
            self._run_pass = kernels.run_lanes
        # ``advance`` would be one more large kernel to compile for states whose nodes are scored.
        self._is_plain = not self.counters[at.LISTED] and self.unscored is self.packed
        self.started = self.jobs_i[at.OUT]
        self.backfilled = self.jobs_i[at.BACKFILLED]
        if locality_s > 0:
            self._find_best_tiers()

    def _find_best_tiers(self) -> None:
        """How near to one another the tasks of each gang could be on the empty cluster."""
        gangs = np.stack([self.demand.tasks, self.demand.shape_idx])
        kinds, of_kind = np.unique(gangs, axis=1, return_inverse=True)
        tiers = np.zeros(kinds.shape[1], dtype=np.int64)
        for i, (tasks, shape) in enumerate(kinds.T):
            slots = np.minimum(empty_slots(self.demand, self.capacity, int(shape)), at.ANY_SLOTS)
            tiers[i] = self._kernels.nearest_tier(self.unscored, tasks, slots)
        self.jobs_i[at.BEST_TIER] = tiers[of_kind.reshape(-1)]

    # --- the compiled path -------------------------------------------------------------------------------------------

    def advance(self, now_s: float, finished: IntArray, num_finished: int, arrived_lo: int, arrived_hi: int) -> float:
        """Take in an instant and make its pass; returns when the next pass is due by itself, or inf."""
        if not self._is_plain:
            self.absorb(now_s, finished, num_finished, arrived_lo, arrived_hi)
            return self.run_pass(now_s)
        return self._advance(now_s, finished, num_finished, arrived_lo, arrived_hi, *self._advance_tail)

    def absorb(self, now_s: float, finished: IntArray, num_finished: int, arrived_lo: int, arrived_hi: int) -> None:
        """Take in an instant without a pass: finished jobs first, then arrivals."""
        self._kernels.absorb(self.unscored, now_s, finished, num_finished, arrived_lo, arrived_hi, self.how[0])

    def run_pass(self, now_s: float, *, heads_only: bool = False) -> float:
        """The pass alone, in the queue's present order; ``heads_only`` leaves backfilling for a later pass."""
        mode = at.NO_BACKFILL if heads_only else self.how[0]
        return self._run_pass(self.packed, now_s, mode, *self.how[1:])

    @property
    def num_started(self) -> int:
        """Jobs that the last pass started; their rows stand in ``started``."""
        return self.counters.item(at.NUM_OUT)

    def learn_run(self, estimates: Estimates, row: int, run_s: float, now_s: float) -> None:
        """A job has ended: what its user's next jobs are expected to take follows from it."""
        self._kernels.learn_run(estimates, row, run_s, now_s)

    def note_start(self, estimates: Estimates, row: int, now_s: float) -> None:
        """A job starts: predictions of others may follow from it."""
        self._kernels.note_start(estimates, row, now_s)

    def predict(self, estimates: Estimates, first: int, last: int, now_s: float) -> None:
        """Count with predicted run times for the jobs of rows ``first``..``last``, which are submitted now."""
        self._kernels.predict(self.jobs_f, estimates, first, last, now_s)

    def correct(self, estimates: Estimates, now_s: float) -> None:
        """Give running jobs that have passed their predictions more time."""
        self._kernels.correct(self.packed, estimates, now_s)

    # --- the queue ---------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> IntArray:
        """(Q,) rows of the waiting jobs, in policy order."""
        return self.jobs_i[at.QUEUE, self.counters[at.QUEUE_LO] : self.counters[at.QUEUE_HI]]

    @property
    def running(self) -> IntArray:
        """(K,) rows of the running jobs by expected end."""
        return self.jobs_i[at.RUN, : self.counters[at.NUM_RUNNING]]

    def reorder(self, scores: FloatArray, priority: FloatArray | None = None, rows: IntArray | None = None) -> None:
        """Put the queue in the order of ``scores`` (Q,), lower first; ties by row, which is the order of submission.

        Args:
            scores: (Q,) scores.
            priority: (Q,) classes that come first, higher before lower; None: all alike.
            rows: (Q,) what ties end in, where this state's own rows are in another order than that of submission.
        """
        queue = self.queue
        last = queue if rows is None else rows
        keys = (last, scores) if priority is None else (last, scores, -priority)
        queue[:] = queue[np.lexsort(keys)]

    def bring_forward(self, row: int) -> None:
        """Let the next pass look first at a waiting job for which others were stopped; see ``end_patience``."""
        queue = self.queue
        place = int(np.flatnonzero(queue == row)[0])
        queue[1 : place + 1] = queue[:place].copy()
        queue[0] = row

    def end_patience(self, row: int) -> None:
        """A job for which others were stopped does not wait any longer to be placed nearer together."""
        self.jobs_f[at.ENTERED_S, row] = -np.inf

    # --- the snapshot-and-plan path ----------------------------------------------------------------------------------

    def snapshot(self, now_s: float) -> Snapshot:
        """A frozen copy of everything that a policy may know now; jobs are renumbered, so none to come is visible."""
        running, queue = self.running, self.queue
        rows = np.concatenate([running, queue])
        entries = [(i, *entry) for i, row in enumerate(running) for entry in self.places_of(int(row))]
        alloc = np.asarray(entries, dtype=np.int64).reshape(-1, 5).T
        return Snapshot(
            version=self.version,
            now_s=now_s,
            rows=rows.copy(),
            num_running=len(running),
            columns=self.columns.take(rows),
            demand=replace(self.demand, tasks=self.jobs_i[at.TASKS, rows], shape_idx=self.demand.shape_idx[rows]),
            capacity=self.capacity,
            started_s=self.jobs_f[at.START_S, running].copy(),
            expected_end_s=self.jobs_f[at.END_S, running].copy(),
            alloc_job=alloc[0],
            alloc_node=alloc[1],
            alloc_tasks=alloc[2],
            alloc_gpus=alloc[3],
            alloc_slice=alloc[4],
            reserved_s=self.jobs_f[at.RESERVED_S, queue].copy(),
            released=bool(self.counters[at.RELEASED]),
            closed=self.node_i[at.OPEN] == 0,
            lost_gpus=self.lost_gpus.copy(),
            entered_s=self.jobs_f[at.ENTERED_S, queue].copy(),
            overhead_s=self.jobs_f[at.OVERHEAD_S, rows].copy(),
            rate=self.jobs_f[at.RATE, running].copy(),
            since_s=self.jobs_f[at.SINCE_S, running].copy(),
            done_s=self.jobs_f[at.DONE_S, running].copy(),
            stopping=self.jobs_i[at.STOPPING, running] == 1,
            drawn=int(self.counters[at.DRAWN]),
            seed=int(self.counters[at.SEED]),
            node_load=self.node_i[at.LOAD] / at.LOAD_UNITS,
        )

    def placement_of(self, row: int) -> list[tuple[int, int]]:
        """(node, tasks) pairs that a running job holds, by node."""
        tasks_on: dict[int, int] = {}
        for node, tasks, _ in self.entries_of(row):
            tasks_on[node] = tasks_on.get(node, 0) + tasks
        return sorted(tasks_on.items())

    def entries_of(self, row: int) -> list[tuple[int, int, int]]:
        """(node, tasks, bits of the GPUs) that a running job holds, by node; no bits where GPUs are not told apart."""
        return [entry[:3] for entry in self.places_of(row)]

    def places_of(self, row: int) -> list[tuple[int, int, int, int]]:
        """As ``entries_of``, with the first memory slice of each MIG instance; −1 where an entry is none."""
        entries = []
        entry = int(self.jobs_i[at.ALLOC, row])
        while entry >= 0:
            node, tasks, following, mask, first = self.alloc[:, entry].tolist()
            entries.append((node, tasks, max(mask, 0), first))
            entry = following
        return sorted(entries)

    def is_instance(self, row: int) -> bool:
        """Whether the tasks of a job take MIG instances."""
        instances = self.demand.instances
        return instances is not None and bool((instances[self.demand.shape_idx[row]] >= 0).any())

    def commit(self, plan: Plan, now_s: float) -> None:
        """Carry out a plan, whole or not at all; row numbers are those of this state.

        Raises:
            PlanRejectedError: The plan was made from another version of the state, or ``check_plan`` finds fault with a
                start. Jobs that it stops have to be stopped before.
        """
        if plan.based_on != self.version:
            raise PlanRejectedError(f"plan is based on version {plan.based_on}, the state is at {self.version}")
        problems = check_plan(self.snapshot(now_s), replace(plan, preemptions=()))
        if problems:
            raise PlanRejectedError("plan refused: " + "; ".join(problems))
        self.counters[at.NUM_OUT] = 0
        for extension in plan.extensions:
            self.expect_end(extension.row, extension.end_s)
        for start in plan.starts:
            self._leave_queue(start.row)
            for node, tasks, mask, first in start.entries:
                self._kernels.add_entry(self.unscored, start.row, node, tasks, mask, first)
                self._kernels.refresh_node(self.unscored, node)
            self._kernels.set_running(self.unscored, start.row, now_s, int(start.backfilled))
            if self.counters[at.SCORED]:
                self.counters[at.DRAWN] += self.jobs_i[at.TASKS, start.row]
        for promise in plan.reservations:
            self.jobs_f[at.RESERVED_S, promise.row] = promise.start_s
        self.counters[at.RELEASED] = 0
        self.version += 1

    def expect_end(self, row: int, end_s: float) -> None:
        """Count with another end of a running job."""
        self._kernels.running_remove(self.unscored, row)
        self._kernels.running_insert(self.unscored, row, end_s)

    def _leave_queue(self, row: int) -> None:
        position = int(np.flatnonzero(self.queue == row)[0])
        self._kernels.queue_remove(self.unscored, int(self.counters[at.QUEUE_LO]) + position)

    def set_limits(self, limit: IntArray) -> None:
        """From now on groups may hold (Q,) units at most; what they hold already they keep."""
        assert self.capacity.quotas is not None
        if (limit != self.capacity.quotas.limit).any():
            self.groups[at.LIMIT, : len(limit)] = limit
            self.capacity = replace(self.capacity, quotas=replace(self.capacity.quotas, limit=limit))

    # --- load of nodes by other work ----------------------------------------------------------------------------------

    def set_loads(self, load: FloatArray) -> None:
        """From now on (N,) loads of the nodes by work that is not the scheduler's are predicted."""
        self.node_i[at.LOAD] = np.rint(np.maximum(load, 0.0) * at.LOAD_UNITS)

    def target_loads(self, rows: IntArray) -> FloatArray:
        """(Q,) predicted loads of the nodes that waiting jobs would take by ``least-loaded``: the highest of a gang's.

        A job that does not fit now is looked at as if the nodes were empty.
        """
        if not self.node_i[at.LOAD].any():
            return np.zeros(len(rows))
        gangs = self.jobs_i[[at.TASKS, at.SHAPE]][:, rows]
        kinds, of_kind = np.unique(gangs, axis=1, return_inverse=True)
        loads = np.empty(kinds.shape[1])
        for i, (tasks, shape) in enumerate(kinds.T):
            slots = self.slots[shape]
            if slots.sum() < tasks:
                slots = np.minimum(empty_slots(self.demand, self.capacity, int(shape)), at.ANY_SLOTS)
            loads[i] = self._kernels.load_of_gang(self.unscored, tasks, slots) / at.LOAD_UNITS
        return loads[of_kind.reshape(-1)]

    # --- stopping, and nodes that come and go ------------------------------------------------------------------------

    def work_done_s(self, row: int, now_s: float) -> float:
        """Reference seconds of work that a running job's present attempt has done."""
        done_s, since_s, rate = self.jobs_f[[at.DONE_S, at.SINCE_S, at.RATE], row].tolist()
        return float(done_s + max(0.0, now_s - since_s) * rate)

    def change_rate(self, row: int, rate: float, now_s: float) -> None:
        """From now on a running job runs at another speed."""
        self.jobs_f[at.DONE_S, row] = self.work_done_s(row, now_s)
        self.jobs_f[at.SINCE_S, row] = max(now_s, self.jobs_f[at.SINCE_S, row])
        self.jobs_f[at.RATE, row] = rate
        rest_s = max(self.jobs_f[at.EXPECTED_S, row] - self.jobs_f[at.DONE_S, row], 0.0)
        self.expect_end(row, float(self.jobs_f[at.SINCE_S, row] + rest_s / rate))

    def tell_to_stop(self, row: int, end_s: float) -> None:
        """A running job will have given back what it holds by ``end_s``."""
        self.jobs_i[at.STOPPING, row] = 1
        self.counters[at.NUM_STOPPING] += 1
        self.expect_end(row, end_s)

    def stop(self, row: int, now_s: float, *, kept_s: float) -> None:
        """Take a running job off its nodes; ``kept_s`` reference seconds of its work need not be done again."""
        self._kernels.release_job(self.unscored, row)
        held_s = now_s - float(self.jobs_f[at.START_S, row])
        self.columns.attained_s[row] += held_s * self.columns.processors[row]
        rest_s = float(self.jobs_f[at.EXPECTED_S, row]) - kept_s
        self.set_expected(row, rest_s if rest_s > 0 else at.OVERRUN_GRACE_S, float(self.columns.restart_s[row]))

    def set_expected(self, row: int, expected_s: float, overhead_s: float) -> None:
        """What a job that does not run is expected to take from now on."""
        self.columns.expected_s[row] = expected_s
        self.jobs_f[at.EXPECTED_S, row] = expected_s
        self.jobs_f[at.OVERHEAD_S, row] = overhead_s
        self.jobs_f[at.BOUND_S, row] = overhead_s + expected_s / self.jobs_f[at.SLOWEST, row]
        self.jobs_i[at.KIND, row] = -1

    def requeue(self, row: int, score: float, now_s: float) -> None:
        """Let a job that was stopped wait again."""
        self.jobs_f[at.SCORE, row] = score
        self._kernels.enqueue(self.unscored, row, now_s)

    def resize(self, row: int, tasks: int) -> None:
        """From its next attempt on a job that does not run has another number of tasks."""
        self.jobs_i[at.TASKS, row] = tasks
        units = int(self.demand.shapes[self.jobs_i[at.SHAPE, row], self.capacity.scarce])
        self.jobs_i[at.SIZE, row] = tasks * units
        self.columns.processors[row] = tasks * units / UNITS_PER[self.capacity.scarce]

    def room(self, row: int, classes: BoolArray) -> IntArray:
        """(N,) tasks of a waiting job that fit now on the nodes of these classes, a mask of shape (C,)."""
        slots = self.slots[self.jobs_i[at.SHAPE, row]]
        return np.where(classes[self.node_i[at.NODE_CLASS]], slots, 0)

    def start_on(self, row: int, now_s: float, usable: IntArray) -> None:
        """Start a waiting job on nodes of which it may use (N,) ``usable`` slots; they have to be enough."""
        self.counters[at.NUM_OUT] = 0
        self._leave_queue(row)
        self._kernels.start_job(self.packed, row, now_s, self.how[1], 0, usable)

    def set_open(self, node: int, *, is_open: bool) -> None:
        """Let a node take new work, or none."""
        self._kernels.set_open(self.unscored, node, int(is_open))
        self.counters[at.RELEASED] |= int(is_open)

    def lose_gpus(self, node: int, mask: int) -> None:
        """Take GPUs that nobody uses out of service."""
        for g in range(int(self.counters[at.GPUS])):
            if mask >> g & 1 and not self.lost_gpus[node] >> g & 1:
                self._kernels.set_gpu(self.unscored, node, g, False)
        self.lost_gpus[node] |= mask

    def regain_gpus(self, node: int, mask: int) -> None:
        """Put GPUs back into service."""
        for g in range(int(self.counters[at.GPUS])):
            if mask >> g & 1 and self.lost_gpus[node] >> g & 1:
                self._kernels.set_gpu(self.unscored, node, g, True)
        self.lost_gpus[node] &= ~mask
        self.counters[at.RELEASED] = 1

    def rebuild_promises(self, now_s: float) -> None:
        """Reserve anew for every waiting job that had a promise, because nodes went away or came back."""
        self._kernels.rebuild_profile(self.unscored, now_s)

    def attribute_waits(self, elapsed_s: float, waits_s: FloatArray) -> None:
        """Add seconds to what each waiting job has lacked, but for its turn, since ``note_reasons``; (NUM_WAITS, J)."""
        self._kernels.attribute_waits(self.unscored, elapsed_s, waits_s)

    def note_reasons(self) -> None:
        """After a pass: what each waiting job waits for from now on."""
        self._kernels.note_reasons(self.unscored, np.zeros((3, self.node_free.shape[0]), dtype=np.int64))

    def blocked_heads(self) -> list[int]:
        """Rows of the jobs that the last pass found first in their lanes and not to fit."""
        if self.counters[at.LISTED]:
            return [int(row) for row in self.groups[at.HEAD, : self.capacity.num_lanes] if row >= 0]
        return [int(row) for row in self.queue[:1]]

    def victims_for(
        self, row: int, rank: float, ranks: FloatArray, now_s: float, *, min_run_s: float, reclaim: bool
    ) -> list[int]:
        """Rows of running jobs to stop so that ``row`` fits; see ``kernels.choose_victims``."""
        count = self._kernels.choose_victims(self.unscored, row, rank, ranks, now_s, min_run_s, reclaim)
        return [int(row) for row in self.jobs_i[at.LIST, : int(count)]]

    # --- saving ------------------------------------------------------------------------------------------------------

    ARRAYS: Sequence[str] = (
        "jobs_i", "jobs_f", "counters", "node_free", "slots", "shapes", "alloc", "profile_s", "profile_free",
        "node_i", "groups", "lost_gpus", "points",
    )  # fmt: skip

    def arrays(self) -> dict[str, Any]:
        """Everything that changes during a run, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays`` from a state of the same jobs and cluster."""
        for name in self.ARRAYS:
            getattr(self, name)[...] = arrays[name]
