"""Events as they become durable, told to whoever watches."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence

from shunter.daemon.leader import Leader
from shunter.daemon.pb import scheduler_pb2
from shunter.daemon.service.convert import event_message
from shunter.daemon.store.rows import EventRow

KEPT = 10_000
"""Events in memory; a watcher that is further behind is told the rest from the store."""
CHUNK = 1000


class Hub:
    """Keeps the last events and wakes those who wait for more.

    Args:
        leader: Whose events they are; has loaded its state.
    """

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._recent: deque[EventRow] = deque(maxlen=KEPT)
        self._last = leader.state.last_event
        self._more = asyncio.Event()
        leader.listeners.append(self.tell)

    def tell(self, events: Sequence[EventRow]) -> None:
        """Events have become durable."""
        self._recent.extend(events)
        self._last = events[-1].number
        self._more.set()
        self._more = asyncio.Event()

    async def watch(
        self, after: int | None, jobs: frozenset[int], owner: str, *, until_now: bool = False
    ) -> AsyncIterator[scheduler_pb2.WatchResponse]:
        """Events after a number, or those to come; only of some jobs, or of one user's, where that is asked for.

        With ``until_now`` it ends with an answer that says how far everything has been told.
        """
        told = self._last if after is None else after
        end = self._last if until_now else None
        while True:
            more = self._more
            if end is not None and told >= end:
                yield scheduler_pb2.WatchResponse(up_to=max(told, end))
                return
            rows = await self._after(told)
            if rows:
                told = rows[-1].number
                events = [event_message(row) for row in rows if _is_wanted(row, jobs, owner)]
                if events:
                    yield scheduler_pb2.WatchResponse(events=events, up_to=told)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(more.wait(), 10.0)

    async def _after(self, told: int) -> list[EventRow]:
        recent = self._recent
        if told >= self._last:
            return []
        if recent and recent[0].number <= told + 1:
            skip = max(told + 1 - recent[0].number, 0)
            return [recent[i] for i in range(skip, min(skip + CHUNK, len(recent)))]
        return await asyncio.to_thread(self._leader.store.events, told, CHUNK)


def _is_wanted(row: EventRow, jobs: frozenset[int], owner: str) -> bool:
    if owner and row.owner != owner:
        return False
    if not jobs:
        return True
    if row.job is None:
        return False
    return any(row.job <= job <= (row.last_job or row.job) for job in jobs)
