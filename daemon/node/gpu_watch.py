"""Asking NVML without ever waiting for it: calls run in a thread of their own, which is left behind when one hangs.

A GPU that hung is asked again after a while, by a new thread. When NVML as a whole cannot be used, that is tried again
after the same while. Xids are waited for in a further thread and told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from shunter.daemon.node import nvml
from shunter.daemon.pb import nodes_pb2

CALL_LIMIT_S = 2.0
RETRY_S = 60.0
XID_WAIT_MS = 500
MAX_ABANDONED = 16
HUNG = "hung"
_pb: Any = nodes_pb2
log = structlog.get_logger()


class HungError(Exception):
    """A call did not come back in time."""


class _Thread:
    """Runs one call at a time; given up for good when one of them hangs."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="nvml", daemon=True).start()

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def end(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            function, future = item
            try:
                result, error = function(), None
            except Exception as caught:
                result, error = None, caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class GpuWatch:
    """The GPUs of this node.

    Args:
        on_xid: Called in the loop with each Xid, at once.
        call_limit_s: A call that takes longer hangs.
        retry_s: After so long, what failed is tried again.
    """

    def __init__(
        self, on_xid: Callable[[nvml.Xid], None], *, call_limit_s: float = CALL_LIMIT_S, retry_s: float = RETRY_S
    ) -> None:
        self._on_xid = on_xid
        self._call_limit_s = call_limit_s
        self._retry_s = retry_s
        self._thread: _Thread | None = None
        self._abandoned = 0
        self._retry_at: dict[int | None, float] = {}
        self._gpus = 0
        self._xids: threading.Event | None = None
        self.problem = "not-asked"
        """Why there is nothing to say of any GPU; empty: there is."""
        self.driver = ""

    async def start(self) -> None:
        """Load the library, if it can be, and count the GPUs."""
        try:
            self.driver = await self._ask(nvml.start)
            self._gpus = await self._ask(nvml.count)
            self.problem = ""
        except nvml.NvmlAbsentError as error:
            self.problem = str(error)
        except HungError:
            self.problem = HUNG
        if self.problem:
            self._retry_at[None] = time.monotonic() + self._retry_s
        else:
            self._watch_xids()

    async def describe(self) -> list[Any]:
        """Every GPU that answers."""
        found = []
        for index in range(self._gpus if not self.problem else 0):
            with contextlib.suppress(nvml.GpuFaultError, HungError):
                found.append(await self._ask(nvml.describe, index))
        return found

    async def sample(self) -> list[Any]:
        """Every GPU, with its fault where it does not answer; none while there is a ``problem``."""
        if self.problem:
            if time.monotonic() < self._retry_at.get(None, 0.0):
                return []
            await self.start()
        return [await self._sample(index) for index in range(self._gpus if not self.problem else 0)]

    async def _sample(self, index: int) -> Any:
        if time.monotonic() < self._retry_at.get(index, 0.0):
            return _pb.GpuSample(index=index, fault=HUNG)
        try:
            found = await self._ask(nvml.sample, index)
        except nvml.GpuFaultError as error:
            return _pb.GpuSample(index=index, fault=str(error))
        except HungError:
            self._retry_at[index] = time.monotonic() + self._retry_s
            log.error("gpu-hung", gpu=index)
            return _pb.GpuSample(index=index, fault=HUNG)
        self._retry_at.pop(index, None)
        return found

    async def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._abandoned >= MAX_ABANDONED:
            raise HungError
        if self._thread is None:
            self._thread = _Thread()
        future = self._thread.call(partial(function, *arguments))
        try:
            return await asyncio.wait_for(future, self._call_limit_s)
        except TimeoutError:
            self._thread.end()
            self._thread = None
            self._abandoned += 1
            raise HungError from None

    def _watch_xids(self) -> None:
        if self._xids is not None or not self._gpus:
            return
        self._xids = threading.Event()
        arguments = (asyncio.get_running_loop(), self._gpus, self._xids)
        threading.Thread(target=self._wait_for_xids, args=arguments, name="xids", daemon=True).start()

    def _wait_for_xids(self, loop: asyncio.AbstractEventLoop, gpus: int, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                wait = nvml.watch_xids(gpus)
                while wait is not None and not ended.is_set():
                    xid = wait(XID_WAIT_MS)
                    if xid is not None:
                        loop.call_soon_threadsafe(self._on_xid, xid)
                if wait is None:
                    return
            except nvml.GpuFaultError:
                ended.wait(self._retry_s)
            except RuntimeError:
                return  # the loop has ended

    def close(self) -> None:
        """End the threads that can be ended."""
        if self._thread is not None:
            self._thread.end()
        if self._xids is not None:
            self._xids.set()
