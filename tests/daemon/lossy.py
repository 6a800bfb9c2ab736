"""A TCP connection as a bad network makes it: what is sent comes late, in bunches, or stands still, but in order."""

from __future__ import annotations

import asyncio
import contextlib
import random


class LossyNetwork:
    """Between an agent and the daemon: connect to ``address`` instead of the daemon's.

    Args:
        to: Address of the daemon.
        loss: Share of packets that are lost; each is sent again after 0.2 s, 0.4 s, …, as Linux does at the least.
        pause_s: How long the line stands still, both ways …
        every_s: … so often on average.
        seed: Of chance.
    """

    def __init__(self, to: str, *, loss: float, pause_s: float, every_s: float, seed: int) -> None:
        host, _, port = to.rpartition(":")
        self._to = (host, int(port))
        self._loss, self._pause_s, self._every_s = loss, pause_s, every_s
        self._draw = random.Random(seed)
        self._still_until_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.lost = self.pauses = 0
        self.address = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._keep(asyncio.create_task(self._pause()))

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await self._server.wait_closed()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pause(self) -> None:
        while True:
            await asyncio.sleep(self._draw.expovariate(1.0 / self._every_s))
            self.pauses += 1
            self._still_until_s = asyncio.get_running_loop().time() + self._pause_s

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._writers += [writer, back]
        self._keep(asyncio.create_task(self._carry(reader, back)))
        self._keep(asyncio.create_task(self._carry(there, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1400):  # about a packet
                again_s = 0.2
                while self._draw.random() < self._loss:
                    self.lost += 1
                    await asyncio.sleep(again_s)
                    again_s *= 2.0
                await asyncio.sleep(max(self._still_until_s - loop.time(), 0.0))
                writer.write(data)
                await writer.drain()
        writer.close()
