"""The endpoint that Prometheus asks: ``GET /metrics`` and nothing else, over plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from prometheus_client.exposition import choose_encoder

from shunter.daemon.errors import DaemonError
from shunter.daemon.metrics import Collected

log = structlog.get_logger("shunter.daemon.metrics")

MAX_HEAD_BYTES = 16 * 1024
LONGEST_S = 10.0
"""For a request to come whole, and for its answer to be taken."""
MOST_AT_ONCE = 4

Families = Callable[[], Awaitable[list[Any]]]


class Endpoint:
    """Answers scrapes.

    Args:
        families: Makes the figures of this moment.
    """

    def __init__(self, families: Families) -> None:
        self._families = families
        self._server: asyncio.Server | None = None
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)

    async def start(self, address: str) -> int:
        """Listen; returns the port.

        Raises:
            DaemonError: The address cannot be listened on.
        """
        host, _, port = address.rpartition(":")
        try:
            self._server = await asyncio.start_server(self._serve, host.strip("[]"), int(port), limit=MAX_HEAD_BYTES)
        except OSError as problem:
            raise DaemonError(f"metrics: cannot listen on {address}: {problem.strerror}") from None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Take no more requests."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(LONGEST_S), self._turns:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            pass  # whoever asked is gone, or asks for something else
        except Exception as error:  # a bug here must not end the daemon; Prometheus tells of it as a failed scrape
            log.exception("scrape-failed", exc_info=error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path != "/metrics":
            return _reply("404 Not Found", "text/plain", b"the figures are at /metrics\n")
        if method != "GET":
            return _reply("405 Method Not Allowed", "text/plain", b"only GET\n")
        headers = (line.partition(":") for line in lines[1:])
        accept = next((value.strip() for key, _, value in headers if key.strip().lower() == "accept"), "")
        encode, kind = choose_encoder(accept)
        families = await self._families()
        body = await asyncio.to_thread(encode, Collected(families))
        return _reply("200 OK", kind, body)


def _reply(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1") + body
