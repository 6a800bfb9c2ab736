"""Output of jobs on its way from an agent to whoever reads it."""

from __future__ import annotations

import asyncio
import itertools

from shunter.daemon.pb import agent_pb2

MAX_QUEUED = 64
"""Chunks of at most 64 KiB that a slow reader may be behind."""


class LogReaders:
    """Who waits for what, by the number of the request."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[agent_pb2.LogReply]] = {}

    def begin(self) -> tuple[int, asyncio.Queue[agent_pb2.LogReply]]:
        """A number for a new request, and where its replies will come."""
        number = next(self._numbers)
        queue: asyncio.Queue[agent_pb2.LogReply] = asyncio.Queue(maxsize=MAX_QUEUED)
        self._waiting[number] = queue
        return number, queue

    def end(self, number: int) -> None:
        """Nobody reads any more."""
        self._waiting.pop(number, None)

    def reply(self, reply: agent_pb2.LogReply) -> None:
        """An agent has answered; a reader that is too slow is told that something is missing by the offsets."""
        queue = self._waiting.get(reply.request)
        if queue is None:
            return
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(reply)
