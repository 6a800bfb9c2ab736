"""From the live state to what a decision may know: ``scheduler.Snapshot``.

Facts about jobs are kept as columns of arrays from the first time a decision sees a job, so that ten thousand waiting
jobs are copied and not asked one by one. Rows of a snapshot are the jobs' ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from shunter.daemon.histories import WAITING, alike_key
from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.live import WHOLE_GPU, LiveJob, LiveNode, LiveState
from shunter.scheduler.capacity import Capacity, Quotas, empty_slots
from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray, IntArray, ResourceDemand

FLOATS = ("submit_s", "requested_s", "processors", "priority", "attained_s", "deadline_s", "checkpoint_s", "entered_s")
INTS = ("id", "tasks", "shape", "user", "queue", "group", "preemptible", "alike", "array", "array_limit")
SUBMIT, REQUESTED, PROCESSORS, PRIORITY, ATTAINED, DEADLINE, CHECKPOINT, ENTERED = range(len(FLOATS))
ID, TASKS, SHAPE, USER, QUEUE, GROUP, PREEMPTIBLE, ALIKE, ARRAY, ARRAY_LIMIT = range(len(INTS))


@dataclass(frozen=True, slots=True)
class GroupRules:
    """What a group may hold of the scarce resource (GPUs, or CPUs on a cluster without).

    Attributes:
        name: Name.
        guaranteed: Its own: others that borrow it give it back.
        limit: At most; inf: any.
        weight: Its share of what is borrowed.
    """

    name: str
    guaranteed: float = 0.0
    limit: float = float("inf")
    weight: float = 1.0


LeftOut = tuple[IntArray, Reason]
"""Ids of waiting jobs that a decision is not told of, and why."""


@dataclass(slots=True)
class View:
    """A snapshot and what is needed to carry out a plan made from it.

    Attributes:
        snapshot: What the decision is told.
        nodes: Names, by the snapshot's node numbers.
        usage_s: (U,) decayed usage of users.
        state_version: Of the live state.
        left_out: Waiting jobs that the decision is not told of, and why.
    """

    snapshot: Snapshot
    nodes: tuple[str, ...]
    usage_s: FloatArray
    state_version: int
    left_out: list[LeftOut]


class Names:
    """Numbers for names, in the order in which they came."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        self.of = {name: i for i, name in enumerate(known)}

    def __getitem__(self, name: str) -> int:
        return self.of.setdefault(name, len(self.of))

    def __len__(self) -> int:
        return len(self.of)


@dataclass(slots=True)
class Fleet:
    """The nodes as arrays; made anew when nodes change.

    Attributes:
        version: Of the live state's nodes.
        names: (N,) in the order of the numbers.
        number: Of each name.
        capacity: For decisions.
        closed: (N,) takes no new work.
        lost_gpus: (N,) bits of GPUs out of service.
        scarce: Resource that size means.
        class_of_type: Class of each GPU type.
        slots: (S,) tasks of each shape seen so far that fit on the empty cluster.
    """

    version: int
    names: tuple[str, ...]
    number: dict[str, int]
    capacity: Capacity
    closed: BoolArray
    lost_gpus: IntArray
    scarce: int
    class_of_type: dict[str, int] = field(default_factory=dict)
    slots: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def fleet_of(state: LiveState, groups: Sequence[GroupRules], *, by_queue: bool = False) -> Fleet:
    """The nodes of a live state as arrays. There is at least one node. ``by_queue``: the groups are queues."""
    nodes = list(state.nodes.values())
    units = np.asarray([node.units for node in nodes], dtype=np.int64).T.copy()
    tracked = (True, bool((units[1] > 0).all()), bool((units[2] > 0).any()))
    classes = Names()
    node_class = np.asarray([classes[node.description.gpu_type] for node in nodes], dtype=np.int64)
    capacity = Capacity(
        units=units,
        tracked=tracked,
        gpus=units[2] // UNITS_PER[2] if tracked[2] else None,
        node_class=node_class,
        domains=_domains(nodes),
        quotas=_quotas(groups, 2 if tracked[2] else 0, shared=by_queue),
        can_close=True,
    )
    return Fleet(
        version=state.nodes_version,
        names=tuple(node.name for node in nodes),
        number={node.name: i for i, node in enumerate(nodes)},
        capacity=capacity,
        closed=np.asarray([not node.is_open or _has_gpu_half_left(node) for node in nodes], dtype=np.bool_),
        lost_gpus=np.asarray([_lost_gpus(node) for node in nodes], dtype=np.int64),
        scarce=capacity.scarce,
        class_of_type=dict(classes.of),
    )


def _lost_gpus(node: LiveNode) -> int:
    """Bits of the GPUs out of service that nobody holds; decisions take those that are held for full."""
    return sum(1 << gpu for gpu in node.failed_gpus if not node.gpu_used[gpu])


def _has_gpu_half_left(node: LiveNode) -> bool:
    """Whether a GPU out of service is held in part: a decision would give the rest away, so the node is closed."""
    return any(0 < node.gpu_used[gpu] < WHOLE_GPU for gpu in node.failed_gpus)


def _domains(nodes: Sequence[LiveNode]) -> IntArray | None:
    """(3, N) switch (as the rack), rack and zone."""
    racks, zones = Names(), Names()
    rack = [racks[f"{node.description.zone}/{node.description.rack}"] for node in nodes]
    zone = [zones[node.description.zone] for node in nodes]
    return None if len(racks) == 1 else np.asarray([rack, rack, zone], dtype=np.int64)


def _quotas(groups: Sequence[GroupRules], scarce: int, *, shared: bool) -> Quotas | None:
    """``shared``: groups take turns by their weights, though they are all alike."""
    if not groups:
        return None
    units = UNITS_PER[scarce]
    most = np.iinfo(np.int64).max // 4
    limits = [most if np.isinf(group.limit) else round(group.limit * units) for group in groups]
    guaranteed = [round(group.guaranteed * units) for group in groups]
    weights = np.asarray([group.weight for group in groups])
    same = bool((weights == 1.0).all()) and not shared
    names = tuple(group.name for group in groups)
    return Quotas(names, np.asarray(guaranteed), np.asarray(limits), None if same else weights)


class Snapshots:
    """Makes snapshots of one live state.

    Args:
        groups: Quotas; none: nobody has one.
        depth: Waiting jobs that a decision is told of, at most: the first by class and submission.
        by_queue: The groups are queues, which take turns by their weights.
    """

    def __init__(self, groups: Sequence[GroupRules] = (), depth: int = 10_000, *, by_queue: bool = False) -> None:
        self.groups, self.depth, self.by_queue = tuple(groups), depth, by_queue
        self.users, self.queues = Names(), Names()
        self._group_idx = {group.name: i for i, group in enumerate(self.groups)}
        self._shapes: dict[tuple[int, int, int, str], int] = {}
        self._floats = np.zeros((len(FLOATS), 1024))
        self._ints = np.zeros((len(INTS), 1024), dtype=np.int64)
        self._free = list(range(1023, -1, -1))
        self._fleet: Fleet | None = None

    def fleet(self, state: LiveState) -> Fleet:
        """The nodes as they are now."""
        if self._fleet is None or self._fleet.version != state.nodes_version:
            scarce = self._fleet.scarce if self._fleet else None
            self._fleet = fleet_of(state, self.groups, by_queue=self.by_queue)
            if scarce is not None and scarce != self._fleet.scarce:
                self._forget_all(state)
        return self._fleet

    def processors(self, state: LiveState, job: LiveJob) -> float:
        """What a job holds of the scarce resource: GPUs, or CPUs on a cluster without."""
        scarce = self.fleet(state).scarce
        return job.tasks * job.units[scarce] / UNITS_PER[scarce]

    # --- columns -----------------------------------------------------------------------------------------------------

    def forget(self, job: LiveJob) -> None:
        """A job has ended, or something that columns say of it has changed."""
        if job.column >= 0:
            self._free.append(job.column)
            job.column = -1

    def _forget_all(self, state: LiveState) -> None:
        for job in state.jobs.values():
            self.forget(job)

    def _columns_of(self, state: LiveState, jobs: Sequence[LiveJob]) -> IntArray:
        """(J,) columns of jobs; those that have none yet are given one."""
        fresh = [job for job in jobs if job.column < 0]
        if fresh:
            self._add(state, fresh)
        return np.fromiter((job.column for job in jobs), dtype=np.int64, count=len(jobs))

    def _add(self, state: LiveState, jobs: Sequence[LiveJob]) -> None:
        while len(self._free) < len(jobs):
            size = self._floats.shape[1]
            self._floats = np.concatenate([self._floats, np.zeros_like(self._floats)], axis=1)
            self._ints = np.concatenate([self._ints, np.zeros_like(self._ints)], axis=1)
            self._free += range(2 * size - 1, size - 1, -1)
        columns = [self._free.pop() for _ in jobs]
        for job, column in zip(jobs, columns, strict=True):
            job.column = column
        self._floats[:, columns] = np.asarray([self._float_row(state, job) for job in jobs]).T
        self._ints[:, columns] = np.asarray([self._int_row(state, job) for job in jobs], dtype=np.int64).T

    def _float_row(self, state: LiveState, job: LiveJob) -> tuple[float, ...]:
        spec = job.spec
        return (
            job.submit_s,
            spec.time_limit_s,
            self.processors(state, job),
            job.priority,
            job.attained_s,
            spec.deadline_unix_s or np.inf,
            spec.checkpoint_interval_s if spec.HasField("checkpoint_interval_s") else np.nan,
            job.queued_s,
        )

    def _int_row(self, state: LiveState, job: LiveJob) -> tuple[int, ...]:
        spec = job.spec
        shape = (*job.units, spec.gpu_type)
        return (
            job.id,
            spec.tasks,
            self._shapes.setdefault(shape, len(self._shapes)),
            self.users[job.owner],
            self.queues[spec.queue],
            self._group_idx.get(spec.queue if self.by_queue else spec.group, -1),
            int(spec.preemptible),
            state.histories.alike.row(alike_key(job.owner, spec.time_limit_s, self.processors(state, job))),
            job.array_id or 0,
            job.array_limit,
        )

    # --- the snapshot ------------------------------------------------------------------------------------------------

    def take(
        self,
        state: LiveState,
        now_s: float,
        *,
        closed_queues: frozenset[str] = frozenset(),
        with_histories: bool = False,
    ) -> View:
        """What a decision may know now. The state has at least one node."""
        fleet = self.fleet(state)
        running = list(state.active.values())
        first = len(running)
        waiting = self._waiting_columns(state)
        candidates, left_out = self._candidates(state, fleet, waiting, closed_queues)
        columns = np.concatenate([self._columns_of(state, running), candidates])
        floats, ints = self._floats[:, columns], self._ints[:, columns]
        demand = self._demand(fleet, ints[TASKS], ints[SHAPE])
        alloc = self._allocations(fleet, running)
        held = np.asarray([job.attempt.start_s or job.attempt.assigned_s for job in running if job.attempt])
        now_or_started = held.reshape(-1)
        snapshot = Snapshot(
            version=state.version,
            now_s=now_s,
            rows=ints[ID],
            num_running=first,
            columns=_job_columns(floats, ints),
            demand=demand,
            capacity=fleet.capacity,
            started_s=now_or_started,
            expected_end_s=_expected_ends(running, now_or_started + floats[REQUESTED, :first]),
            alloc_job=alloc[0],
            alloc_node=alloc[1],
            alloc_tasks=alloc[2],
            reserved_s=_promised(state.reserved_s, ints[ID, first:]),
            released=state.released,
            alloc_gpus=alloc[3],
            alloc_slice=np.full(alloc.shape[1], -1, dtype=np.int64),
            closed=fleet.closed,
            lost_gpus=fleet.lost_gpus,
            entered_s=floats[ENTERED, first:],
            overhead_s=np.zeros(len(columns)),
            rate=np.ones(first),
            since_s=now_or_started,
            done_s=np.zeros(first),
            stopping=np.asarray([job.state is JobState.STOPPING for job in running], dtype=np.bool_),
            drawn=0,
            seed=0,
            node_load=np.zeros(len(fleet.names)),
            histories=self._histories(state, ints, waiting) if with_histories else None,
        )
        usage_s = self._usage(state, now_s)
        return View(snapshot, fleet.names, usage_s, state.version, left_out)

    def _candidates(
        self, state: LiveState, fleet: Fleet, columns: IntArray, closed_queues: frozenset[str]
    ) -> tuple[IntArray, list[LeftOut]]:
        """Of waiting jobs, by their columns, those that could start as far as rules other than capacity go."""
        left_out: list[LeftOut] = []

        def keep(is_kept: BoolArray, reason: Reason) -> None:
            nonlocal columns
            if not is_kept.all():
                left_out.append((self._ints[ID, columns[~is_kept]], reason))
                columns = columns[is_kept]

        if closed_queues:
            closed = [self.queues[name] for name in sorted(closed_queues)]
            keep(~np.isin(self._ints[QUEUE, columns], closed), Reason.QUEUE_CLOSED)
        if self._ints[ARRAY_LIMIT, columns].any():
            keep(_within_arrays(state, self._ints[:, columns]), Reason.ARRAY_LIMIT)
        keep(self._ints[TASKS, columns] <= self._slots(fleet)[self._ints[SHAPE, columns]], Reason.NEVER_FITS)
        if len(columns) > self.depth:
            first = np.argsort(-self._floats[PRIORITY, columns], kind="stable")[: self.depth]
            is_first = np.zeros(len(columns), dtype=np.bool_)
            is_first[first] = True
            keep(is_first, Reason.BEYOND_DEPTH)
        return columns, left_out

    def _waiting_columns(self, state: LiveState) -> IntArray:
        """(Q,) columns of all waiting jobs, in the order of submission."""
        waiting = list(state.waiting.values())
        columns = self._columns_of(state, waiting)
        ids = self._ints[ID, columns]
        if (ids[1:] < ids[:-1]).any():  # some have come back into the queue
            order = np.argsort(ids)
            state.waiting = {waiting[i].id: waiting[i] for i in order.tolist()}
            columns = columns[order]
        return columns

    def _slots(self, fleet: Fleet) -> IntArray:
        """(S,) tasks of each shape that the empty cluster takes."""
        known = fleet.slots
        if len(known) < len(self._shapes):
            shapes = np.arange(len(known), len(self._shapes))
            demand = self._demand(fleet, np.ones(len(shapes), np.int64), shapes)
            more = [empty_slots(demand, fleet.capacity, s).sum() for s in range(len(shapes))]
            fleet.slots = np.concatenate([known, np.asarray(more, dtype=np.int64)])
        return fleet.slots

    def _demand(self, fleet: Fleet, tasks: IntArray, shape: IntArray) -> ResourceDemand:
        shapes = list(self._shapes)
        used, shape_idx = np.unique(shape, return_inverse=True)
        chosen = [shapes[i] for i in used.tolist()]
        class_ok = None
        if any(gpu_type for *_, gpu_type in chosen):
            class_ok = np.ones((len(chosen), len(fleet.class_of_type)), dtype=np.bool_)
            for i, (*_, gpu_type) in enumerate(chosen):
                if gpu_type:
                    class_ok[i] = [name == gpu_type for name in fleet.class_of_type]
        units = np.asarray([shape[:3] for shape in chosen], dtype=np.int64).reshape(-1, 3)
        return ResourceDemand(tasks, shape_idx.reshape(-1), units, class_ok)

    @staticmethod
    def _allocations(fleet: Fleet, running: Sequence[LiveJob]) -> IntArray:
        """(4, A) job (counted from 0), node, tasks and bits of the GPUs of what running jobs hold."""
        number = fleet.number
        entries = [
            (i, number[part.node], tasks, mask)
            for i, job in enumerate(running)
            for part in (job.attempt.parts.values() if job.attempt else ())
            if part.end is None
            for tasks, mask in part.entries
        ]
        return np.fromiter(chain.from_iterable(entries), dtype=np.int64, count=4 * len(entries)).reshape(-1, 4).T

    def _histories(self, state: LiveState, ints: IntArray, waiting: IntArray) -> JobHistories:
        """What is known of the users of jobs, and of jobs alike."""
        known = state.histories
        row_of = np.fromiter((known.users.row(owner) for owner in self.users.of), np.int64, len(self.users))
        num_waiting = np.bincount(self._ints[USER, waiting], minlength=len(self.users))
        users = known.users.take(row_of[ints[USER]])
        users[WAITING] = num_waiting[ints[USER]]
        return JobHistories(users, known.alike.take(ints[ALIKE]))

    def _usage(self, state: LiveState, now_s: float) -> FloatArray:
        known: Mapping[str, int] = self.users.of
        usage_s = np.zeros(len(known))
        for owner, usage in state.usage.items():
            if owner in known:
                usage_s[known[owner]] = usage.at(now_s)
        return usage_s


def _expected_ends(running: Sequence[LiveJob], end_s: FloatArray) -> FloatArray:
    """(K,) ends by request; a job that has been told to stop ends after its grace period."""
    for i, job in enumerate(running):
        if job.state is JobState.STOPPING and job.attempt is not None and job.attempt.stop_s is not None:
            end_s[i] = min(end_s[i], job.attempt.stop_s + job.spec.grace_s)
    return end_s


def _promised(reserved_s: Mapping[int, float], ids: IntArray) -> FloatArray:
    """(Q,) promised starts; NaN where there is none. The ids rise."""
    promised = np.full(len(ids), np.nan)
    if reserved_s and len(ids):
        jobs = np.fromiter(reserved_s.keys(), dtype=np.int64, count=len(reserved_s))
        places = np.minimum(np.searchsorted(ids, jobs), len(ids) - 1)
        waits = ids[places] == jobs
        promised[places[waits]] = np.fromiter(reserved_s.values(), dtype=np.float64, count=len(jobs))[waits]
    return promised


def _within_arrays(state: LiveState, ints: IntArray) -> BoolArray:
    """(Q,) jobs of which no more of their array run than may."""
    room: dict[int, int] = {}
    kept = np.ones(ints.shape[1], dtype=np.bool_)
    limited = np.flatnonzero(ints[ARRAY_LIMIT])
    arrays, limits = ints[ARRAY, limited].tolist(), ints[ARRAY_LIMIT, limited].tolist()
    for i, array, limit in zip(limited.tolist(), arrays, limits, strict=True):
        left = room.setdefault(array, limit - state.array_active.get(array, 0))
        room[array] = left - 1
        kept[i] = left > 0
    return kept


def _job_columns(floats: FloatArray, ints: IntArray) -> JobColumns:
    count = floats.shape[1]
    return JobColumns(
        submit_s=floats[SUBMIT],
        requested_s=floats[REQUESTED],
        expected_s=floats[REQUESTED].copy(),
        oracle_s=np.full(count, np.nan),
        processors=floats[PROCESSORS],
        priority=floats[PRIORITY],
        attained_s=floats[ATTAINED],
        user_idx=ints[USER],
        queue_idx=ints[QUEUE],
        group_idx=ints[GROUP],
        lane_idx=np.zeros(count, dtype=np.int64),
        model_idx=np.zeros(count, dtype=np.int64),
        deadline_s=floats[DEADLINE],
        preemptible=ints[PREEMPTIBLE],
        checkpoint_s=floats[CHECKPOINT],
        restart_s=np.zeros(count),
        power_w=np.zeros(count),
    )
