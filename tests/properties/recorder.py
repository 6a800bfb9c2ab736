"""A simulation that writes down what it saw, and questions about a snapshot answered from first principles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import Workload


@dataclass(frozen=True, slots=True)
class Held:
    """A job's nodes and for how long it had them."""

    row: int
    start_s: float
    end_s: float
    placement: tuple[tuple[int, int], ...]


class Recorder(Simulation):
    """Keeps the time and the snapshot behind every pass, and the placement of every start."""

    def __init__(self, workload: Workload, options: Options) -> None:
        super().__init__(workload, options)
        self.snapshots: list[Snapshot] = []
        self.held: list[Held] = []

    def _decide(self, now_s: float, num_finished: int, arrived: int) -> None:
        super()._decide(now_s, num_finished, arrived)
        self.snapshots.append(self.state.snapshot(now_s))

    def _start(self, now_s: float, num_started: int) -> None:
        super()._start(now_s, num_started)
        for row in self.state.started[:num_started].tolist():
            end_s = now_s + float(self.workload.run_s[row])
            self.held.append(Held(row, now_s, end_s, tuple(self.state.placement_of(row))))


def record(workload: Workload, options: Options) -> Recorder:
    recorder = Recorder(workload, options)
    assert recorder.run()
    return recorder


def fits(snapshot: Snapshot, index: int, free: IntArray) -> bool:
    """Whether the job at ``index`` of the snapshot fits into ``free`` (R, N) units, node by node."""
    shape = snapshot.demand.shapes[snapshot.demand.shape_idx[index]]
    rows = [r for r, tracked in enumerate(snapshot.capacity.tracked) if tracked and shape[r] > 0]
    if not rows:
        return True
    slots = (free[rows] // shape[rows][:, None]).min(axis=0)
    return bool(slots.sum() >= snapshot.demand.tasks[index])


def earliest_by_requests(snapshot: Snapshot, index: int) -> float:
    """When the waiting job at ``index`` fits if nothing starts any more and running jobs end when they said."""
    free = snapshot.free_units()
    ends_s: FloatArray = snapshot.expected_end_s
    if fits(snapshot, index, free):
        return snapshot.now_s
    for end_s in sorted(set(ends_s.tolist())):
        for entry, job in enumerate(snapshot.alloc_job):
            if ends_s[job] == end_s:
                shape = snapshot.demand.shapes[snapshot.demand.shape_idx[job]]
                free[:, snapshot.alloc_node[entry]] += snapshot.alloc_tasks[entry] * shape
        if fits(snapshot, index, free):
            return max(end_s, snapshot.now_s)
    return math.inf
