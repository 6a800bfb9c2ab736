"""The environment's rules on one pool of processors in plain Python, from their description: the oracle of a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PoolJob:
    submit_s: float
    run_s: float
    requested_s: float
    size: int


@dataclass
class PoolModel:
    """Decisions are asked for by ``play``, which yields the rows that may be named and is sent the chosen one."""

    jobs: list[PoolJob]
    size: int
    backfill: str
    now_s: float = 0.0
    free: int = 0
    queue: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    start_s: dict[int, float] = field(default_factory=dict)

    def start(self, row: int) -> None:
        self.start_s[row] = self.now_s
        self.free -= self.jobs[row].size
        self.queue.remove(row)
        self.running.append(row)

    def end_of(self, row: int) -> float:
        return self.start_s[row] + self.jobs[row].run_s

    def reserve(self, head: int) -> tuple[float, int]:
        """When the head can start by the requests, and what is then left beside it."""
        ends = sorted((max(self.start_s[row] + self.jobs[row].requested_s, self.now_s), row) for row in self.running)
        free, shadow_s = self.free, self.now_s
        for end_s, row in ends:
            if free >= self.jobs[head].size and end_s > shadow_s:
                break
            free += self.jobs[row].size
            shadow_s = end_s
        return shadow_s, free - self.jobs[head].size

    def ends_in_time(self, row: int, shadow_s: float) -> bool:
        end_s = self.now_s + self.jobs[row].requested_s
        return end_s < shadow_s or (end_s == shadow_s and self.backfill != "easy-noextra")

    def play(self) -> Iterator[tuple[float, list[int]]]:
        self.free, arrived = self.size, 0
        asked = False
        while len(self.start_s) < len(self.jobs):
            times = [self.jobs[arrived].submit_s] if arrived < len(self.jobs) else []
            self.now_s = min(times + [self.end_of(row) for row in self.running])
            for row in [row for row in self.running if self.end_of(row) <= self.now_s]:
                self.running.remove(row)
                self.free += self.jobs[row].size
            while arrived < len(self.jobs) and self.jobs[arrived].submit_s <= self.now_s:
                self.queue.append(arrived)
                arrived += 1
            head: int | None = None
            spare, shadow_s = 0, 0.0
            while self.queue:
                fitting = [row for row in self.queue if self.jobs[row].size <= self.free]
                if head is None:
                    allowed = list(self.queue) if fitting else []
                else:
                    allowed = [
                        row
                        for row in fitting
                        if row != head
                        and (
                            self.ends_in_time(row, shadow_s)
                            or (self.backfill == "easy" and self.jobs[row].size <= spare)
                        )
                    ]
                if not allowed:
                    break
                is_last = len(self.start_s) == len(self.jobs) - 1 and not asked
                chosen = allowed[0]
                if len(allowed) > 1 or is_last:
                    asked = True
                    chosen = yield self.now_s, allowed  # type: ignore[misc]
                if chosen in fitting:
                    if head is not None and not self.ends_in_time(chosen, shadow_s):
                        spare -= self.jobs[chosen].size
                    self.start(chosen)
                elif self.backfill == "none":
                    break
                else:
                    head = chosen
                    shadow_s, spare = self.reserve(head)
