"""What waits to be sent over the session: signs of life and reports go ahead of output of tasks, which is bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

MAX_URGENT = 100_000
MAX_LOGS = 8


class Outbox:
    """One session's."""

    def __init__(self) -> None:
        self._urgent: deque[Any] = deque(maxlen=MAX_URGENT)
        self._logs: asyncio.Queue[Any] = asyncio.Queue(MAX_LOGS)
        self._something = asyncio.Event()

    def put(self, message: Any) -> None:
        """A sign of life or a report. Reports that find no room are repeated later by themselves."""
        self._urgent.append(message)
        self._something.set()

    async def put_log(self, message: Any) -> None:
        """Output of a task; waits while there is enough under way."""
        await self._logs.put(message)
        self._something.set()

    async def get(self) -> Any:
        """The next to be sent."""
        while True:
            if self._urgent:
                return self._urgent.popleft()
            if not self._logs.empty():
                return self._logs.get_nowait()
            self._something.clear()
            await self._something.wait()
