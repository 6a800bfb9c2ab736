"""Output of jobs on its way from an agent to whoever reads it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection

from shunter.daemon.pb import agent_pb2

MAX_QUEUED = 64
"""Chunks of at most 64 KiB that a slow reader may be behind."""


class LogReaders:
    """Who waits for what, by the number of the request."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[agent_pb2.LogReply]] = {}
        self._asked: dict[int, frozenset[str]] = {}

    def begin(self, nodes: Collection[str]) -> tuple[int, asyncio.Queue[agent_pb2.LogReply]]:
        """A number for a new request to some nodes, and where their replies will come."""
        number = next(self._numbers)
        queue: asyncio.Queue[agent_pb2.LogReply] = asyncio.Queue(maxsize=MAX_QUEUED)
        self._waiting[number], self._asked[number] = queue, frozenset(nodes)
        return number, queue

    def end(self, number: int) -> None:
        """Nobody reads any more."""
        self._waiting.pop(number, None)
        self._asked.pop(number, None)

    def reply(self, node: str, reply: agent_pb2.LogReply) -> None:
        """An agent has answered; a reader that is too slow is told that something is missing by the offsets.

        What an agent says that was not asked is not passed on: it could be put into another job's output.
        """
        queue = self._waiting.get(reply.request)
        if queue is None or node not in self._asked[reply.request]:
            return
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(reply)
