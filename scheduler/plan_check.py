"""``check_plan``: whether a plan may be carried out on the snapshot that it was made from. Both shells call it."""

from __future__ import annotations

import numpy as np

from shunter.scheduler.capacity import GPU
from shunter.scheduler.parts import Entry, give_parts, idle_parts, take_parts
from shunter.scheduler.plans import Plan, Start
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.types import UNITS_PER, IntArray

WHOLE_GPU = UNITS_PER[GPU]


def check_plan(snapshot: Snapshot, proposed: Plan) -> list[str]:
    """What is wrong with a plan; empty when it may be carried out.

    A plan must be made from this snapshot; stop only jobs that run; start only jobs that wait, each once and whole, on
    nodes that take new work and that they may use; take no more of any resource on any node, of any GPU and its memory,
    of their group's limit or of the power cap than is free; and put MIG instances where they may lie, on free slices.
    """
    problems = []
    if proposed.based_on != snapshot.version:
        problems.append(f"based on version {proposed.based_on}, not {snapshot.version}")
    ledger = _Ledger(snapshot)
    named = [stop.row for stop in proposed.preemptions] + [start.row for start in proposed.starts]
    index_of = {int(snapshot.rows[i]): int(i) for i in np.flatnonzero(np.isin(snapshot.rows, named))}
    waiting = {row: i for row, i in index_of.items() if i >= snapshot.num_running}
    running = {row: i for row, i in index_of.items() if i < snapshot.num_running}
    for stop in proposed.preemptions:
        index = running.pop(stop.row, None)
        if index is None:
            problems.append(f"row {stop.row} does not run, or is stopped twice")
        elif stop.end_s <= snapshot.now_s:
            ledger.give_back(index)
            waiting[stop.row] = index
    for start in proposed.starts:
        index = waiting.pop(start.row, None)
        if index is None:
            problems.append(f"row {start.row} does not wait, or is started twice")
        else:
            problems += [f"row {start.row} {reason}" for reason in ledger.take(index, start)]
    return problems


class _Ledger:
    """What is free while the starts of a plan are carried out one by one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        capacity = snapshot.capacity
        self.tracked = [r for r, yes in enumerate(capacity.tracked) if yes]
        self.free = snapshot.free_units()
        self.gpus: IntArray | None = None
        self.parts: IntArray | None = None
        if capacity.gpus is not None:
            index = np.arange(max(int(capacity.gpus.max(initial=0)), 1))[:, None]
            works = (index < capacity.gpus) & (snapshot.lost_gpus >> index & 1 == 0)
            self.gpus = np.where(works, WHOLE_GPU, 0)
            self.free[GPU] -= WHOLE_GPU * (capacity.gpus - works.sum(axis=0))
            self.parts = None if capacity.parts is None else idle_parts(capacity, works)
        demand, columns, num_running = snapshot.demand, snapshot.columns, snapshot.num_running
        self.size = demand.tasks * demand.shapes[demand.shape_idx, capacity.scarce] if len(demand) else demand.tasks
        self.used = np.zeros(0 if capacity.quotas is None else len(capacity.quotas.names), dtype=np.int64)
        if len(self.used):
            groups = columns.group_idx[:num_running]
            np.add.at(self.used, groups[groups >= 0], self.size[:num_running][groups >= 0])
        self.power_w = float(np.ceil(columns.power_w[:num_running]).sum())
        self._hold_running()

    def _hold_running(self) -> None:
        """The running jobs hold their GPUs and parts of them."""
        snapshot = self.snapshot
        held = snapshot.alloc_gpus != 0
        if self.gpus is None or not held.any():
            return
        job, node = snapshot.alloc_job[held], snapshot.alloc_node[held]
        tasks, bits = snapshot.alloc_tasks[held], snapshot.alloc_gpus[held]
        demand = snapshot.demand
        shape = demand.shape_idx[job]
        share = demand.shapes[shape, GPU]
        amount = np.where(share >= WHOLE_GPU, WHOLE_GPU, tasks * share)
        for g in range(len(self.gpus)):
            np.subtract.at(self.gpus[g], node, amount * (bits >> g & 1))
        if self.parts is not None:
            columns = (job, node, tasks, bits, snapshot.alloc_slice[held])
            for index, *entry in zip(*(column.tolist() for column in columns), strict=True):
                self._take_parts(index, (entry[0], entry[1], entry[2], entry[3]))

    def shape(self, index: int) -> IntArray:
        """(R,) units of one task."""
        found: IntArray = self.snapshot.demand.shapes[self.snapshot.demand.shape_idx[index]]
        return found

    def _take_parts(self, index: int, entry: Entry) -> bool:
        snapshot = self.snapshot
        shape = int(snapshot.demand.shape_idx[index])
        return self.parts is None or take_parts(self.parts, snapshot.demand, snapshot.capacity, shape, entry)

    def give_back(self, index: int) -> None:
        """A running job is stopped."""
        snapshot = self.snapshot
        for entry in snapshot.entries_of(index):
            self.free[:, entry[0]] += entry[1] * self.shape(index)
            self._change_gpus(index, entry, 1)
            if self.parts is not None:
                shape = int(snapshot.demand.shape_idx[index])
                give_parts(self.parts, snapshot.demand, snapshot.capacity, shape, entry)
        self._count(index, -1)

    def take(self, index: int, start: Start) -> list[str]:
        """A waiting job is started; returns what is wrong with that."""
        snapshot, problems = self.snapshot, []
        if sum(tasks for _, tasks in start.placement) != snapshot.demand.tasks[index]:
            problems.append("is not started whole")
        for node, tasks in start.placement:
            if not 0 <= node < self.free.shape[1]:
                problems.append(f"is placed on node {node}, which does not exist")
                continue
            if not self._may_run(index, node):
                problems.append(f"may not run on node {node}")
            self.free[:, node] -= tasks * self.shape(index)
            if tasks < 1 or (self.free[self.tracked, node] < 0).any():
                problems.append(f"does not fit on node {node}")
        if self.gpus is not None and not problems:
            problems += self._take_gpus(index, start)
        self._count(index, 1)
        capacity, group = snapshot.capacity, int(snapshot.columns.group_idx[index])
        if capacity.quotas is not None and group >= 0 and self.used[group] > capacity.quotas.limit[group]:
            problems.append(f"is over the limit of group {capacity.quotas.names[group]!r}")
        if 0 <= capacity.power_cap_w < self.power_w:
            problems.append("is over the power cap")
        return problems

    def _may_run(self, index: int, node: int) -> bool:
        allowed, demand = self.snapshot.demand.class_ok, self.snapshot.demand
        of_class = allowed is None or allowed[demand.shape_idx[index], self.snapshot.capacity.classes[node]]
        return bool(of_class and not self.snapshot.closed[node])

    def _take_gpus(self, index: int, start: Start) -> list[str]:
        assert self.gpus is not None
        tasks_on: dict[int, int] = {}
        problems = []
        share = int(self.shape(index)[GPU])
        for entry in start.entries if start.gpus else ():
            node, tasks, mask, _ = entry
            tasks_on[node] = tasks_on.get(node, 0) + tasks
            wanted = tasks * share // WHOLE_GPU if share >= WHOLE_GPU else min(share, 1)
            if mask >> len(self.gpus) or mask.bit_count() != wanted:
                problems.append(f"names other GPUs of node {node} than it needs")
                continue
            self._change_gpus(index, entry, -1)
            if (self.gpus[:, node] < 0).any() or not self._take_parts(index, entry):
                problems.append(f"does not fit on its GPUs of node {node}")
        if tasks_on != dict(start.placement):
            problems.append("has its GPUs on other nodes than its tasks")
        return problems

    def _change_gpus(self, index: int, entry: Entry, sign: int) -> None:
        node, tasks, mask, _ = entry
        if self.gpus is None or mask == 0:
            return
        share = int(self.shape(index)[GPU])
        amount = WHOLE_GPU if share >= WHOLE_GPU else tasks * share
        for g in range(len(self.gpus)):
            self.gpus[g, node] += sign * amount * (mask >> g & 1)

    def _count(self, index: int, sign: int) -> None:
        group = int(self.snapshot.columns.group_idx[index])
        if len(self.used) and group >= 0:
            self.used[group] += sign * int(self.size[index])
        self.power_w += sign * float(np.ceil(self.snapshot.columns.power_w[index]))
