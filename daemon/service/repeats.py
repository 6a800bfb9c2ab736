"""Whether a call was made before, asked of the store for many callers at once: a thread's turn costs more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shunter.daemon.leader import Leader
from shunter.daemon.store.rows import IdempotencyRow

Asked = tuple[str, str]
"""User and idempotency key."""


class Repeats:
    """Calls by user and key; two with the same key never run at the same time.

    Args:
        leader: Whose store is asked.
    """

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._asked: list[tuple[Asked, asyncio.Future[IdempotencyRow | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._in_flight: dict[Asked, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def alone(self, asked: Asked) -> AsyncIterator[IdempotencyRow | None]:
        """Wait for calls with the same key, then tell what came of them; those that come meanwhile wait for the end."""
        loop = asyncio.get_running_loop()
        while (flying := self._in_flight.get(asked)) is not None:
            await asyncio.wait([flying])
        over: asyncio.Future[None] = loop.create_future()
        self._in_flight[asked] = over
        try:
            found: asyncio.Future[IdempotencyRow | None] = loop.create_future()
            self._asked.append((asked, found))
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask())
            yield await found
        finally:
            del self._in_flight[asked]
            over.set_result(None)

    async def _ask(self) -> None:
        """Ask the store for everybody who waits, until nobody does."""
        while self._asked:
            batch, self._asked = self._asked, []
            try:
                rows = await asyncio.to_thread(self._leader.store.repeated_calls, [asked for asked, _ in batch])
            except Exception as error:  # whatever it is, those who wait are told
                for _, found in batch:
                    if not found.done():
                        found.set_exception(error)
                continue
            for asked, found in batch:
                if not found.done():
                    found.set_result(rows.get(asked))
        self._asking = None
