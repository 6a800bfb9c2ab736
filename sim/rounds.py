"""Carrying out rounds: what a policy of rounds is told, which jobs are stopped and started, and what it is owed.

A round stops the jobs that move to another class of nodes or change their size, then starts what the target names,
largest gang first; a job that the target leaves out is stopped only when its nodes are needed. What still waits then
fills idle nodes, in the policy's order; so do arrivals between two rounds. Stopped jobs keep all their work and pay
their restart overhead. A gang that does not fit, because what is free is scattered, waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import empty_slots
from shunter.scheduler.errors import EngineError, UsageError
from shunter.scheduler.preemption import progress_view
from shunter.scheduler.rounds import WAITS, Elastic, RoundView, Target
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.policies.registry import ChosenOrdering
    from shunter.sim.engine import Options
    from shunter.sim.lifecycle import Lifecycle
    from shunter.sim.workload import Workload

GPU = UNITS_PER[2]


@dataclass(slots=True)
class Rounds:
    """A policy of rounds at work on one replay.

    Attributes:
        ordering: The policy.
        round_s: Seconds between two rounds.
        elastic: Sizes that jobs may have; None where all are rigid.
        scarce: Resource that sizes are counted in.
        lag_s: (J, C) seconds that the shares of former rounds would have given each job on a class, less those had.
        share: (J, C) shares of the last round.
        since_s: Time up to which ``lag_s`` is counted.
        next_s: When the next round is due.
    """

    ordering: ChosenOrdering
    round_s: float
    elastic: Elastic | None
    scarce: int
    lag_s: FloatArray
    share: FloatArray
    since_s: float = 0.0
    next_s: float = -math.inf

    @classmethod
    def of(cls, workload: Workload, ordering: ChosenOrdering) -> Rounds:
        """No round has been made."""
        if ordering.ordering.is_elastic and workload.elastic is None:
            raise EngineError(f"policy {ordering.label!r} got a workload that was prepared without sizes of jobs")
        shape = (workload.num_jobs, int(workload.capacity.classes.max(initial=0)) + 1)
        return cls(
            ordering=ordering,
            round_s=ordering.parameters["round"],
            elastic=workload.elastic,
            scarce=workload.capacity.scarce,
            lag_s=np.zeros(shape),
            share=np.zeros(shape),
        )

    def account(self, state: ClusterState, now_s: float) -> None:
        """Count the time since the last pass, in which the running jobs have not changed."""
        elapsed_s = now_s - self.since_s
        self.since_s = now_s
        running = state.running
        owed = np.concatenate([running, state.queue])
        self.lag_s[owed] += self.share[owed] * elapsed_s
        self.lag_s[running, classes_of(state, running)] -= elapsed_s

    def make_pass(
        self,
        state: ClusterState,
        lifecycle: Lifecycle,
        now_s: float,
        *,
        started: Callable[[int], None],
        stopped: Callable[[int], None],
    ) -> float:
        """A round, if one is due, and filling what is idle.

        Args:
            state: The state; jobs are started in place.
            lifecycle: How often jobs have been started.
            now_s: Decision time.
            started: Told each job that has been started.
            stopped: Told each job to stop; it stops and requeues it at once.

        Returns:
            When the next round is due; inf when there is no job for it.
        """
        if now_s >= self.next_s:
            self.next_s = now_s + self.round_s
            rows = self._movable(state, now_s)
            if len(rows):
                decide = self.ordering.ordering.rounds
                assert decide is not None
                target = decide(self.view(state, lifecycle, rows, now_s))
                self.share[rows] = target.share
                self._carry_out(state, rows, target, now_s, started, stopped)
        self._fill(state, now_s, started)
        return self.next_s if len(state.running) or len(state.queue) else math.inf

    # --- what a round is told ----------------------------------------------------------------------------------------

    def _movable(self, state: ClusterState, now_s: float) -> IntArray:
        """Rows of the jobs that a round decides about, in its order; jobs without the scarce resource only fill."""
        running = state.running
        rows = np.concatenate([running[~self._stays(state, running)], state.queue])
        rows = rows[state.jobs_i[at.SIZE, rows] > 0]
        score = self.ordering.score(progress_view(state, rows, now_s, np.zeros(0)))
        ordered: IntArray = rows[np.lexsort((rows, score))]
        return ordered

    def _stays(self, state: ClusterState, running: IntArray) -> BoolArray:
        """(K,) running jobs that a round leaves alone: not preemptible, told to stop, or on a node that is closed."""
        stays = (state.jobs_i[at.PREEMPTIBLE, running] == 0) | (state.jobs_i[at.STOPPING, running] == 1)
        closed = state.node_i[at.OPEN] == 0
        if closed.any():
            stays |= np.asarray([any(closed[node] for node, _, _ in state.entries_of(int(row))) for row in running])
        found: BoolArray = stays
        return found

    def view(self, state: ClusterState, lifecycle: Lifecycle, rows: IntArray, now_s: float) -> RoundView:
        """What the policy may know of these jobs."""
        jobs_i, jobs_f = state.jobs_i, state.jobs_f
        runs = jobs_i[at.ALLOC, rows] >= 0
        where = np.full(len(rows), WAITS, dtype=np.int64)
        where[runs] = classes_of(state, rows[runs])
        worked_s = jobs_f[at.DONE_S, rows] + np.maximum(now_s - jobs_f[at.SINCE_S, rows], 0.0) * jobs_f[at.RATE, rows]
        left_s = jobs_f[at.EXPECTED_S, rows] - np.where(runs, worked_s, 0.0)
        elastic = None if self.elastic is None else self.elastic.take(rows)
        tasks = jobs_i[at.TASKS, rows]
        least = tasks if elastic is None else elastic.min_tasks
        return RoundView(
            round_s=self.round_s,
            tasks=tasks,
            task_units=jobs_i[at.SIZE, rows] // tasks,
            class_idx=where,
            speed=np.where(fits_on(state, rows, least), speeds_on(state, rows), 0.0),
            left_s=np.where(left_s > 0, left_s, at.OVERRUN_GRACE_S),
            age_s=now_s - jobs_f[at.SUBMIT_S, rows],
            restarts=np.maximum(lifecycle.count[rows] - 1, 0),
            restart_s=state.columns.restart_s[rows],
            lag_s=self.lag_s[rows],
            capacity=self._capacity(state, rows),
            elastic=elastic,
        )

    def _capacity(self, state: ClusterState, rows: IntArray) -> IntArray:
        """(C,) units on open nodes that jobs which stay do not hold."""
        units = state.capacity.units[self.scarce].copy()
        if state.capacity.gpus is not None:
            units -= GPU * np.asarray([int(mask).bit_count() for mask in state.lost_gpus])
        for row in np.setdiff1d(state.running, rows).tolist():
            each = state.jobs_i[at.SIZE, row] // state.jobs_i[at.TASKS, row]
            for node, tasks, _ in state.entries_of(row):
                units[node] -= tasks * each
        units = np.where(state.node_i[at.OPEN] == 1, np.maximum(units, 0), 0)
        return sum_by_class(state, units)

    # --- carrying it out ---------------------------------------------------------------------------------------------

    def _carry_out(
        self,
        state: ClusterState,
        rows: IntArray,
        target: Target,
        now_s: float,
        started: Callable[[int], None],
        stopped: Callable[[int], None],
    ) -> None:
        """Make the difference between what runs and the target."""
        size = target.tasks * (state.jobs_i[at.SIZE, rows] // state.jobs_i[at.TASKS, rows])
        runs = state.jobs_i[at.ALLOC, rows] >= 0
        where = np.full(len(rows), WAITS, dtype=np.int64)
        where[runs] = classes_of(state, rows[runs])
        chosen = target.class_idx != WAITS
        changes = chosen & ((where != target.class_idx) | (target.tasks != state.jobs_i[at.TASKS, rows]))
        largest_first = np.lexsort((np.arange(len(rows)), -size))
        leavers: dict[int, list[int]] = {}
        for i in largest_first[::-1][(runs & ~chosen)[largest_first[::-1]]].tolist():
            leavers.setdefault(int(where[i]), []).append(int(rows[i]))
        for row in rows[changes & runs].tolist():
            stopped(row)
        for i in largest_first[changes[largest_first]].tolist():
            row, kind, tasks = int(rows[i]), int(target.class_idx[i]), int(target.tasks[i])
            if state.jobs_i[at.ALLOC, row] >= 0 or not (state.queue == row).any():
                continue  # it was stopped for good
            in_the_way = leavers.get(kind, [])
            while not self._start(state, row, kind, tasks, now_s, started) and in_the_way:
                stopped(in_the_way.pop())
            if state.jobs_i[at.ALLOC, row] < 0 and self.elastic is not None:
                self._start_some(state, row, kind, tasks, now_s, started)

    def _start(
        self, state: ClusterState, row: int, kind: int, tasks: int, now_s: float, started: Callable[[int], None]
    ) -> bool:
        """Start a waiting job on a class of nodes, if it fits there now; says whether it did."""
        usable = state.room(row, np.arange(self.lag_s.shape[1]) == kind)
        if int(usable.sum()) < tasks:
            return False
        if self.elastic is not None:
            state.resize(row, tasks)
        state.start_on(row, now_s, usable)
        if self.elastic is not None:
            speed = self.elastic.speed(row, tasks)
            if speed != 1.0:
                state.change_rate(row, float(state.jobs_f[at.RATE, row]) * speed, now_s)
        started(row)
        return True

    def _start_some(
        self, state: ClusterState, row: int, kind: int, tasks: int, now_s: float, started: Callable[[int], None]
    ) -> None:
        """Start an elastic job on as many tasks as fit now, up to ``tasks``, if that is its minimum at least."""
        assert self.elastic is not None
        room = int(state.room(row, np.arange(self.lag_s.shape[1]) == kind).sum())
        fitting = min(tasks, room)
        if fitting >= self.elastic.min_tasks[row]:
            self._start(state, row, kind, fitting, now_s, started)

    def _fill(self, state: ClusterState, now_s: float, started: Callable[[int], None]) -> None:
        """Start waiting jobs on idle nodes, in the queue's order, each on the fastest class where it fits."""
        queue = state.queue.copy()
        least = state.jobs_i[at.TASKS, queue] if self.elastic is None else self.elastic.min_tasks[queue]
        hopeful = queue[least <= state.shapes[at.FREE_SLOTS, state.jobs_i[at.SHAPE, queue]]]
        for position, row in enumerate(hopeful.tolist()):
            speed = speeds_on(state, np.asarray([row]))[0]
            for kind in np.argsort(-speed, kind="stable").tolist():
                if self.elastic is None:
                    if self._start(state, row, kind, int(state.jobs_i[at.TASKS, row]), now_s, started):
                        break
                    continue
                room = int(state.room(row, np.arange(len(speed)) == kind).sum())
                fair = max(room // (len(hopeful) - position), int(self.elastic.min_tasks[row]))
                self._start_some(state, row, kind, min(fair, int(self.elastic.max_tasks[row])), now_s, started)
                if state.jobs_i[at.ALLOC, row] >= 0:
                    break

    # --- saving ------------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, Any]:
        """Everything that changes during a run, by name, for a checkpoint."""
        clock = np.asarray([self.since_s, self.next_s])
        return {"rounds_lag_s": self.lag_s, "rounds_share": self.share, "rounds_clock": clock}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays``."""
        self.lag_s[:], self.share[:] = arrays["rounds_lag_s"], arrays["rounds_share"]
        self.since_s, self.next_s = arrays["rounds_clock"].tolist()


# --- what the state knows of classes ---------------------------------------------------------------------------------


def classes_of(state: ClusterState, rows: IntArray) -> IntArray:
    """(K,) class of the nodes on which running jobs are."""
    found: IntArray = state.node_i[at.NODE_CLASS, state.alloc[at.NODE, state.jobs_i[at.ALLOC, rows]]]
    return found


def speeds_on(state: ClusterState, rows: IntArray) -> FloatArray:
    """(Q, C) speed of jobs on each class of nodes, in one place; 0 where they may not run."""
    num_classes = state.shapes.shape[0] - at.NUM_SHAPE_ROWS
    allowed = state.shapes[at.NUM_SHAPE_ROWS :, state.jobs_i[at.SHAPE, rows]].T
    if state.capacity.speeds is None:
        return allowed.astype(np.float64)
    speeds: FloatArray = state.rates[state.jobs_i[at.MODEL, rows], :num_classes] * allowed
    return speeds


def sum_by_class(state: ClusterState, amounts: IntArray) -> IntArray:
    """(C,) sums of (N,) amounts over the nodes of each class."""
    num_classes = state.shapes.shape[0] - at.NUM_SHAPE_ROWS
    sums = np.zeros(num_classes, dtype=np.int64)
    np.add.at(sums, state.node_i[at.NODE_CLASS], amounts)
    return sums


def fits_on(state: ClusterState, rows: IntArray, tasks: IntArray) -> BoolArray:
    """(Q, C) whether the open nodes of a class would hold so many tasks of a job if nothing ran there."""
    shapes, place = np.unique(state.jobs_i[at.SHAPE, rows], return_inverse=True)
    is_open = state.node_i[at.OPEN] == 1
    room = [
        sum_by_class(state, np.where(is_open, empty_slots(state.demand, state.capacity, int(shape)), 0))
        for shape in shapes
    ]
    found: BoolArray = np.asarray(room).reshape(len(shapes), -1)[place.reshape(-1)] >= tasks[:, None]
    return found


# --- what goes together ----------------------------------------------------------------------------------------------


def refuse_with_rounds(workload: Workload, options: Options, state: ClusterState) -> None:
    """Raise UsageError for what a policy of rounds does not go with, before anything runs."""
    chosen = options.settings.ordering
    name, capacity = chosen.ordering.name, workload.capacity
    if not chosen.parameters["round"] > 0:
        raise UsageError(f"policy {name!r}: a round of {chosen.parameters['round']:g} s is not longer than 0")
    clashes = {
        f"--backfill {options.settings.backfill}": options.settings.backfill != "none",
        "--preempt": bool(options.preemption.rules),
        "--strict-classes": options.settings.strict_classes,
        "--interval": options.interval_s > 0,
        "--ties per-event": options.ties != "instant",
        "waiting for locality": options.settings.locality_s > 0,
        "quotas": capacity.quotas is not None,
        "a power cap": capacity.power_cap_w >= 0,
        "MIG instances": bool(workload.demand.is_instance.any()),
    }
    found = [what for what, applies in clashes.items() if applies]
    if found:
        raise UsageError(
            f"policy {name!r} decides by rounds who runs where and fills idle nodes itself: it does not go with "
            f"{' or '.join(found)}"
        )
    rows = np.flatnonzero(~workload.rejected)
    tasks = workload.demand.tasks if workload.elastic is None else workload.elastic.min_tasks
    homeless = rows[~(fits_on(state, rows, tasks[rows]) & (speeds_on(state, rows) > 0)).any(axis=1)]
    if len(homeless):
        job = workload.trace.jobs.frame["job_id"][int(homeless[0])]
        raise UsageError(
            f"policy {name!r} runs a job on nodes of one kind: job {job!r} (row {homeless[0]}) and {len(homeless) - 1} "
            f"others fit on no kind of cluster {workload.cluster.name!r} alone; take another policy or leave them out"
        )
