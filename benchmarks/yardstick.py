"""The yardstick: first come, first served in a pure-Python ``heapq`` loop, as short as such a loop can be.

Arrivals are merged from the sorted list, only ends go through the heap, and the nodes are one pool. It does what a
person would write in ten minutes, so the ratio to it says what the engine's generality costs, on any machine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shunter.sim.workload import Workload


@dataclass(frozen=True, slots=True)
class PoolJobs:
    """Jobs for one pool, in submit order, as the lists that a Python loop is quickest on."""

    submit_s: list[float]
    run_s: list[float]
    size: list[float]
    capacity: float

    @classmethod
    def of(cls, workload: Workload) -> PoolJobs:
        """The jobs of a workload that can run, sized in the scarce resource, on all nodes as one pool."""
        ran = ~workload.rejected
        columns = workload.columns
        return cls(
            submit_s=columns.submit_s[ran].tolist(),
            run_s=workload.run_s[ran].tolist(),
            size=columns.processors[ran].tolist(),
            capacity=workload.capacity.processors,
        )


def heap_fcfs(jobs: PoolJobs) -> list[float]:
    """Start times (s) of gangs under FCFS with head-of-line blocking."""
    submit_s, run_s, size, free = jobs.submit_s, jobs.run_s, jobs.size, jobs.capacity
    num_jobs = len(submit_s)
    start_s = [0.0] * num_jobs
    ends: list[tuple[float, float]] = []
    waiting: deque[int] = deque()
    arrived = 0
    while arrived < num_jobs or ends:
        if ends and (arrived == num_jobs or ends[0][0] <= submit_s[arrived]):
            now_s, released = heappop(ends)
            free += released
        else:
            now_s = submit_s[arrived]
            waiting.append(arrived)
            arrived += 1
        while waiting and size[waiting[0]] <= free:
            job = waiting.popleft()
            free -= size[job]
            start_s[job] = now_s
            heappush(ends, (now_s + run_s[job], size[job]))
    return start_s
