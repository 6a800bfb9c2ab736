"""The agent of a node: one process that joins the parts of this folder. What runs on the node does not depend on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from shunter.daemon.node import inventory
from shunter.daemon.node.attempts import ENDED, Attempts, Key
from shunter.daemon.node.cgroups import find_cgroups
from shunter.daemon.node.session import Connected, Sessions, channel_of
from shunter.daemon.node.settings import NodeSettings
from shunter.daemon.node.shim.lease import now_s
from shunter.daemon.node.state import StateFolder
from shunter.daemon.node.task_logs import TaskLog, ranks
from shunter.daemon.node.telemetry import Telemetry
from shunter.daemon.pb import agent_pb2, nodes_pb2

DEFAULT_SAMPLE_S = 5.0
REPEAT_S = 5.0
"""Reports that have not been received are sent again after so long."""
LOOK_S = 2.0
"""The agent looks at its attempts this often, though shims wake it."""
TIDY_S = 3600.0
MAX_ORDERS = 10_000
MAX_READERS = 64
FOLLOW_S = 0.25
STOP_WAIT_S = 3600.0
Answer = TypeVar("Answer")
_pb: Any = agent_pb2
log = structlog.get_logger()


class Agent:
    """One agent.

    Args:
        settings: What it was told.

    Raises:
        ConflictError: Another agent has its state folder.
        StoreError: The folder cannot be used.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._state = StateFolder(settings.state, settings.keep_days)
        self._attempts = Attempts(self._state, settings, find_cgroups(settings.name))
        self._in_order = ThreadPoolExecutor(1, "attempts")
        self._instance = secrets.token_hex(8)
        self._orders: asyncio.Queue[tuple[Connected, Any]] = asyncio.Queue(MAX_ORDERS)
        self._connected: Connected | None = None
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._watched: dict[Key, int] = {}
        self._telemetry = Telemetry(
            settings.name,
            self._state.path,
            sample_s=settings.sample_s or DEFAULT_SAMPLE_S,
            fixed=settings.sample_s is not None,
        )
        self._description: Any = None

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; jobs go on unless the settings say otherwise."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_reader(self._state.wake_fd, self._woken)
        await self._with_attempts(self._attempts.load)
        await self._describe()
        sessions = Sessions(
            self._settings, self._state, register=self._registration, take=self._take, work=self._beside
        )
        parts = [
            asyncio.create_task(part)
            for part in (sessions.run(), self._carry_out(), self._look(), self._telemetry.run(), self._tidy())
        ]
        ended = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait([*parts, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await self._leave()
            for part in parts:
                if part.done():
                    part.result()
        finally:
            ended.cancel()
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            self._close(loop)

    # --- the session -------------------------------------------------------------------------------------------------

    async def _describe(self) -> None:
        await self._telemetry.gpus.start()
        gpus = await self._telemetry.gpus.describe()
        self._description = inventory.describe_node(
            self._settings, gpus, driver=self._telemetry.gpus.driver, nvml=self._telemetry.gpus.problem
        )
        self._attempts.gpu_uuids = inventory.cuda_names(gpus)

    async def _registration(self) -> Any:
        return nodes_pb2.RegisterRequest(
            node=self._settings.name,
            description=self._description,
            held=await self._with_attempts(self._attempts.held),
            instance=self._instance,
            state_id=self._state.identity,
        )

    async def _take(self, connected: Connected, message: Any) -> None:
        """Orders are carried out one after the other, and never keep a grant waiting."""
        if message.WhichOneof("kind") == "log":
            self._log_request(connected, message.log)
        else:
            self._orders.put_nowait((connected, message))

    async def _beside(self, connected: Connected) -> None:
        """What goes on while a session does: telemetry, and all reports, over and over until they were received."""
        self._connected = connected
        sending = asyncio.create_task(
            self._telemetry.send(connected.nodes, connected.registration, connected.telemetry_s)
        )
        try:
            while True:
                self._send(await self._with_attempts(self._attempts.reports))
                await asyncio.sleep(REPEAT_S)
        finally:
            self._connected = None
            for task in (sending, *self._readers.values()):
                task.cancel()
            self._readers.clear()
            await asyncio.gather(sending, return_exceptions=True)

    def _send(self, reports: list[Any]) -> None:
        for report in reports:
            if report.phase == ENDED:
                log.info("ended", job_id=report.job, attempt=report.attempt, end=_pb.Report.End.Name(report.end))
            if self._connected is not None:
                self._connected.outbox.put(_pb.AgentMessage(report=report))

    # --- orders ------------------------------------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        while True:
            connected, message = await self._orders.get()
            kind = message.WhichOneof("kind")
            order = getattr(message, kind) if kind else None
            if order is None:
                continue
            if kind in ("assignment", "go", "stop") and not self._state.take_token(order.fencing_token):
                log.warning("stale-order", kind=kind, job_id=order.job, token=order.fencing_token)
                continue
            reports = await self._with_attempts(self._order, kind, order)
            if self._connected is connected:
                self._send(reports)
            await self._watch_shims()

    def _order(self, kind: str, order: Any) -> list[Any]:
        key = (order.job, order.attempt)
        if kind == "assignment":
            return self._attempts.assign(order)
        if kind == "stop":
            return self._attempts.stop(key, order.grace_s, order.reason)
        if kind == "go":
            self._attempts.go(key)
        elif kind == "receipt":
            self._attempts.receipt(key, order.phase)
        elif kind == "forget":
            self._attempts.forget(key)
        return []

    # --- what shims tell ---------------------------------------------------------------------------------------------

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._state.wake_fd, 65536)
        self._changed.set()

    async def _look(self) -> None:
        """Whenever a shim has told something, or has ended, and now and then: tell the daemon what is new."""
        told: set[tuple[int, int, int]] = set()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_S)
            self._changed.clear()
            await self._with_attempts(self._attempts.refresh)
            reports = await self._with_attempts(self._attempts.reports)
            self._send([report for report in reports if (report.job, report.attempt, report.phase) not in told])
            told = {(report.job, report.attempt, report.phase) for report in reports}
            await self._watch_shims()

    async def _watch_shims(self) -> None:
        loop = asyncio.get_running_loop()
        now = await self._with_attempts(self._attempts.shim_fds)
        for key in [key for key, fd in self._watched.items() if now.get(key) != fd]:
            loop.remove_reader(self._watched.pop(key))
        for key, fd in now.items():
            if key not in self._watched:
                self._watched[key] = fd
                loop.add_reader(fd, self._shim_ended, fd)

    def _shim_ended(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self._changed.set()

    # --- output of tasks ---------------------------------------------------------------------------------------------

    def _log_request(self, connected: Connected, request: Any) -> None:
        reader = self._readers.pop(request.request, None)
        if reader is not None:
            reader.cancel()
        if request.cancel:
            return
        if len(self._readers) >= MAX_READERS:
            refusal = _pb.LogReply(
                request=request.request, is_last=True, error="too many are reading output of this node"
            )
            connected.outbox.put(_pb.AgentMessage(log=refusal))
            return
        task = asyncio.create_task(self._read_log(connected, request))
        self._readers[request.request] = task
        task.add_done_callback(lambda _: self._readers.pop(request.request, None))

    async def _read_log(self, connected: Connected, request: Any) -> None:
        key = (request.job, request.attempt)
        error = ""
        try:
            folder = next(
                place / f"{key[0]}.{key[1]}" / "logs"
                for place in (self._state.attempts, self._state.finished)
                if (place / f"{key[0]}.{key[1]}" / "logs").is_dir()
            )
            logs: dict[int, TaskLog] = {}
            while True:
                goes_on = request.follow and key in await self._with_attempts(self._attempts.running)
                wanted = [request.task] if request.HasField("task") else await asyncio.to_thread(ranks, folder)
                for rank in wanted:
                    if rank not in logs:
                        logs[rank] = TaskLog(folder, rank, request.tail_bytes)
                    await self._send_log(connected, request, logs[rank])
                if not goes_on:
                    break
                await asyncio.sleep(FOLLOW_S)
        except StopIteration:
            error = f"job {key[0]}, attempt {key[1]}: there is no output of it on this node"
        except OSError as problem:
            error = f"output cannot be read: {problem.strerror}"
        last = _pb.LogReply(request=request.request, is_last=True, error=error)
        await connected.outbox.put_log(_pb.AgentMessage(log=last))

    async def _send_log(self, connected: Connected, request: Any, reader: TaskLog) -> None:
        chunks = reader.read()
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            reply = _pb.LogReply(
                request=request.request, task=chunk.task, offset=chunk.offset, data=chunk.data, missing=chunk.missing
            )
            await connected.outbox.put_log(_pb.AgentMessage(log=reply))

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        running = await self._with_attempts(self._attempts.running)
        if not running:
            return
        if not self._settings.stop_jobs:
            left_s = max(self._state.lease.deadline_s - now_s(), 0.0)
            sys.stderr.write(
                f"shunter node: {len(running)} jobs go on; their lease ends in {left_s:.0f} s, and they with it, "
                "unless an agent comes back\n"
            )
            return
        for key in running:
            await self._with_attempts(self._attempts.stop, key, STOP_WAIT_S, "the agent was told to end")
        while await self._with_attempts(self._attempts.running):
            await asyncio.sleep(0.1)
        if self._connected is not None:
            self._send(await self._with_attempts(self._attempts.reports))
            await asyncio.sleep(0.2)  # for the reports to go out; whatever does not is told by the next agent

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            held = {job for job, _ in await self._with_attempts(self._attempts.running)}
            await asyncio.to_thread(self._state.tidy, held)

    async def _with_attempts(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._in_order, function, *arguments)

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        for fd in (*self._watched.values(), self._state.wake_fd):
            loop.remove_reader(fd)
        self._in_order.shutdown(wait=True)
        self._telemetry.gpus.close()
        self._attempts.close()
        self._state.close()


def run_agent(settings: NodeSettings) -> None:
    """Run an agent until it is told to end.

    Raises:
        ShunterError: It cannot begin.
    """

    async def main() -> None:
        await channel_of(settings, settings.daemon[0]).close()  # what cannot be read is said at once
        await Agent(settings).run()

    asyncio.run(main())
