"""The event rules of the RLScheduler protocol in plain Python lists: slow, and short enough to check by eye.

It is the twin that the compiled loop is tested against, the machine under the learning environment, and what runs when
a score is not a number (a logarithm or root outside its domain): the original hands such scores to ``list.sort``,
whose result then depends on how CPython sorts, so that only ``list.sort`` itself gives the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from shunter.scheduler.types import IntArray

Key = Callable[[int, int], object]
"""Sort key of a job, from its row and the time: anything that ``<`` compares."""


@dataclass(slots=True)
class Machine:
    """Queue, running jobs and clock of one window; jobs are its rows 0…J−1. Times are whole seconds.

    Lists are sorted in place and stay sorted: among equal keys the order of the last sort counts.
    """

    submit: list[int]
    run: list[int]
    requested: list[int]
    procs: list[int]
    nodes: list[int]
    free: int
    procs_per_node: float
    now: int = 0
    arrived: int = 0
    queue: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    start: dict[int, int] = field(default_factory=dict)  # row to start time, in the order of the starts

    @classmethod
    def at_first_submit(
        cls,
        *,
        submit: IntArray,
        run: IntArray,
        requested: IntArray,
        procs: IntArray,
        nodes: IntArray,
        num_nodes: int,
        procs_per_node: float,
    ) -> Machine:
        """An empty machine at the submission of row 0, which is queued; arrays have shape (J,)."""
        machine = cls(
            submit=submit.tolist(),
            run=run.tolist(),
            requested=requested.tolist(),
            procs=procs.tolist(),
            nodes=nodes.tolist(),
            free=num_nodes,
            procs_per_node=procs_per_node,
        )
        machine.now = machine.submit[0]
        machine.join()
        return machine

    def fits(self, row: int) -> bool:
        """Whether ``row`` could start now."""
        return self.nodes[row] <= self.free

    def schedule(self, row: int, *, backfill: bool) -> bool:
        """Start the queued ``row`` as soon as it fits; False when the window has no more jobs to decide on."""
        if not self.fits(row):
            self.wait_for(row, backfill=backfill)
        self.begin(row)
        while not self.queue and self.arrived < len(self.submit):
            self.advance()
        return bool(self.queue)

    def wait_for(self, row: int, *, backfill: bool) -> None:
        """Advance until ``row`` fits; backfilling starts others that end by their request before its reservation."""
        shadow = self.reserve(row) if backfill else 0
        while not self.fits(row):
            if backfill:
                self.queue.sort(key=self.submit.__getitem__)
                for other in list(self.queue):
                    if self.fits(other) and self.now + self.requested[other] < shadow:
                        self.begin(other)
            self.advance()

    def reserve(self, row: int) -> int:
        """When ``row`` could start if every running job ended at its request."""
        self.running.sort(key=lambda other: self.start[other] + self.requested[other])
        free, shadow = self.free * self.procs_per_node, self.now
        for other in self.running:
            free += self.nodes[other] * self.procs_per_node
            shadow = self.start[other] + self.requested[other]
            if free >= self.procs[row]:
                break
        return shadow

    def begin(self, row: int) -> None:
        """Start the queued ``row`` now."""
        self.start[row] = self.now
        self.free -= self.nodes[row]
        self.running.append(row)
        self.queue.remove(row)

    def advance(self) -> None:
        """Go to the next arrival (one job joins) or completion (one is released); arrivals first."""
        self.running.sort(key=lambda row: self.start[row] + self.run[row])
        ends = self.start[self.running[0]] + self.run[self.running[0]] if self.running else None
        if self.arrived < len(self.submit) and (ends is None or self.submit[self.arrived] <= ends):
            self.now = max(self.now, self.submit[self.arrived])
            self.join()
        elif ends is not None:
            self.now = max(self.now, ends)
            self.free += self.nodes[self.running.pop(0)]

    def join(self) -> None:
        """The next row joins the queue."""
        self.queue.append(self.arrived)
        self.arrived += 1

    def starts(self) -> tuple[IntArray, IntArray]:
        """Start times (J,) by row and rows in the order of their starts (J,), once all have started."""
        order = np.fromiter(self.start, dtype=np.int64, count=len(self.start))
        start_s = np.empty(len(order), dtype=np.int64)
        start_s[order] = np.fromiter(self.start.values(), dtype=np.int64, count=len(order))
        return start_s, order


def replay(machine: Machine, key: Key, *, backfill: bool) -> tuple[IntArray, IntArray]:
    """Start every job in the order of ``key``, least first; see ``Machine.starts`` for what is returned."""
    more = True
    while more:
        machine.queue.sort(key=lambda row: key(row, machine.now))  # type: ignore[arg-type, return-value]
        more = machine.schedule(machine.queue[0], backfill=backfill)
    return machine.starts()
