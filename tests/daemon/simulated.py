"""Agents that pretend to run jobs: they speak the protocol over real sockets and let time pass instead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import grpc

from shunter.daemon.channel import open_channel
from shunter.daemon.pb import agent_pb2, agent_pb2_grpc, nodes_pb2, nodes_pb2_grpc

Runtime = Callable[[agent_pb2.Assignment], float]
Report = agent_pb2.Report


def description(cpus: float, memory_gib: float = 0.0, gpus: int = 0, gpu_type: str = "") -> nodes_pb2.NodeDescription:
    found = [nodes_pb2.GpuDescription(index=i, uuid=f"GPU-{i}", name=gpu_type) for i in range(gpus)]
    return nodes_pb2.NodeDescription(cpus=cpus, memory_gib=memory_gib, gpus=found, gpu_type=gpu_type)


class SimulatedAgent:
    """One node. `runs` holds (job, attempt) → (begin, end) on the loop's clock, for checks that nothing overlaps.

    Args:
        address: Of the daemon.
        node: Name.
        what: What it has.
        runtime: Seconds that an assignment takes.
        exit_code: Of an assignment.
    """

    def __init__(
        self,
        address: str,
        node: str,
        what: nodes_pb2.NodeDescription,
        runtime: Runtime,
        exit_code: Callable[[agent_pb2.Assignment], int] = lambda _: 0,
    ) -> None:
        self.address, self.node, self.what = address, node, what
        self.runtime, self.exit_code = runtime, exit_code
        self.runs: dict[tuple[int, int], tuple[float, float | None]] = {}
        self.phases: dict[tuple[int, int], int] = {}
        self.finished: dict[tuple[int, int], agent_pb2.Report] = {}
        self.answers = True
        self._outgoing: asyncio.Queue[agent_pb2.AgentMessage] = asyncio.Queue()
        self._waiting_go: dict[tuple[int, int], agent_pb2.Assignment] = {}
        self._running: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self.sessions = 0
        self.errors: list[str] = []

    token = ""
    """What the daemon is shown."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        for task in (self._task, *self._running.values()):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await task

    async def _live(self) -> None:
        async with open_channel(self.address, token=self.token) as channel:
            while True:
                try:
                    await self._session(channel)
                except grpc.aio.AioRpcError as error:
                    self.errors.append(f"{error.code().name}: {error.details()}")
                    await asyncio.sleep(0.05)

    async def _session(self, channel: grpc.aio.Channel) -> None:
        held = [
            nodes_pb2.HeldAttempt(job=job, attempt=number, phase=("assigned", "ready", "started", "ended")[phase])
            for (job, number), phase in self.phases.items()
        ]
        request = nodes_pb2.RegisterRequest(node=self.node, description=self.what, held=held, state_id=self.node)
        registered = await nodes_pb2_grpc.NodesStub(channel).Register(request, timeout=5)
        self.sessions += 1
        self._outgoing = asyncio.Queue()
        hello = agent_pb2.Hello(node=self.node, registration=registered.registration)
        self._outgoing.put_nowait(agent_pb2.AgentMessage(hello=hello))
        for key, phase in self.phases.items():
            self._report(key, phase)
        call = agent_pb2_grpc.AgentStub(channel).Session(self._say(registered.heartbeat_s))
        async for message in call:
            self._hear(message)

    async def _say(self, heartbeat_s: float) -> AsyncIterator[agent_pb2.AgentMessage]:
        sequence = 0
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        outgoing = self._outgoing
        while True:
            try:
                yield outgoing.get_nowait()
                continue
            except asyncio.QueueEmpty:
                pass
            try:
                yield await asyncio.wait_for(outgoing.get(), max(next_s - loop.time(), 0.001))
            except TimeoutError:
                next_s += heartbeat_s
                if self.answers:
                    sequence += 1
                    yield agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(sequence=sequence))

    def _hear(self, message: agent_pb2.DaemonMessage) -> None:
        kind = message.WhichOneof("kind")
        if kind == "assignment":
            self._assigned(message.assignment)
        elif kind == "go":
            waiting = self._waiting_go.pop((message.go.job, message.go.attempt), None)
            if waiting is not None:
                self._begin(waiting)
        elif kind == "stop":
            self._stopped((message.stop.job, message.stop.attempt))
        elif kind == "forget":
            self.phases.pop((message.forget.job, message.forget.attempt), None)
            self.finished.pop((message.forget.job, message.forget.attempt), None)

    def _assigned(self, assignment: agent_pb2.Assignment) -> None:
        key = (assignment.job, assignment.attempt)
        if key in self.runs or key in self._waiting_go:
            return
        if assignment.wait_for_go:
            self._waiting_go[key] = assignment
            self.phases[key] = Report.PHASE_READY
            self._report(key, Report.PHASE_READY)
        else:
            self._begin(assignment)

    def _begin(self, assignment: agent_pb2.Assignment) -> None:
        key = (assignment.job, assignment.attempt)
        self.runs[key] = (asyncio.get_running_loop().time(), None)
        self.phases[key] = Report.PHASE_STARTED
        self._report(key, Report.PHASE_STARTED)
        self._running[key] = asyncio.create_task(self._run(assignment, key))

    async def _run(self, assignment: agent_pb2.Assignment, key: tuple[int, int]) -> None:
        await asyncio.sleep(self.runtime(assignment))
        self._end(key, agent_pb2.Report(end=Report.END_EXITED, exit_code=self.exit_code(assignment)))

    def _end(self, key: tuple[int, int], ended: agent_pb2.Report) -> None:
        begin, _ = self.runs.get(key, (0.0, None))
        if key in self.runs:
            self.runs[key] = (begin, asyncio.get_running_loop().time())
        self._running.pop(key, None)
        self.phases[key] = Report.PHASE_ENDED
        self.finished[key] = ended
        self._report(key, Report.PHASE_ENDED)

    def _stopped(self, key: tuple[int, int]) -> None:
        if key in self._running:
            self._running.pop(key).cancel()
            self._end(key, agent_pb2.Report(end=Report.END_STOPPED))
        elif self.phases.get(key) != Report.PHASE_ENDED:
            self._waiting_go.pop(key, None)
            self._end(key, agent_pb2.Report(end=Report.END_NOT_STARTED))

    def _report(self, key: tuple[int, int], phase: int) -> None:
        report = agent_pb2.Report()
        if phase == Report.PHASE_ENDED:
            report.CopyFrom(self.finished[key])
        report.job, report.attempt = key
        report.phase = phase  # type: ignore[assignment]
        self._outgoing.put_nowait(agent_pb2.AgentMessage(report=report))
