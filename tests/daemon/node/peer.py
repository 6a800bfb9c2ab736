"""A daemon that does as the test says: real sockets, the protocol's services, no decisions of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from shunter.daemon.pb import agent_pb2, agent_pb2_grpc, nodes_pb2, nodes_pb2_grpc

PATIENCE_S = 15.0
PROGRAM = """
import sys, yaml
from shunter.daemon.node.agent import run_agent
from shunter.daemon.node.settings import read_settings
flags = {}
for word in sys.argv[1:]:
    if word.startswith("--"):
        name = word[2:].replace("-", "_")
        flags[name] = [*flags.get(name, []), True]
    else:
        flags[name][-1] = yaml.safe_load(word)
lists = ("daemon", "accounts")
run_agent(read_settings(None, {name: each if name in lists else each[-1] for name, each in flags.items()}))
"""
pb: Any = agent_pb2
nodes_pb: Any = nodes_pb2
READY, STARTED, ENDED = pb.Report.PHASE_READY, pb.Report.PHASE_STARTED, pb.Report.PHASE_ENDED


class Peer(agent_pb2_grpc.AgentServicer, nodes_pb2_grpc.NodesServicer):
    """Answers heartbeats while ``answers``; keeps all it is told. Runs in a thread with a loop of its own."""

    def __init__(self, *, lease_s: float = 2.0, heartbeat_s: float = 0.1, token: int = 1, port: int = 0) -> None:
        self.lease_s, self.heartbeat_s, self.token, self.telemetry_s = lease_s, heartbeat_s, token, 0.2
        self.answers, self.acknowledges = True, True
        self.leader = ""
        self.registrations: list[Any] = []
        self.reports: list[Any] = []
        self.heartbeats = self.sessions = 0
        self.samples: list[Any] = []
        self.logs: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self._out: asyncio.Queue[Any] | None = None
        self._wanted_port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        agent_pb2_grpc.add_AgentServicer_to_server(self, server)
        nodes_pb2_grpc.add_NodesServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self._wanted_port}")
        assert self.port
        await server.start()
        self._ready.set()
        await self._over.wait()
        await server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(PATIENCE_S)

    # --- services

    async def Register(self, request: Any, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        if self.leader:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not the leader", (("shunter-leader", self.leader),))
        while not self.answers:
            await asyncio.sleep(0.02)
        self.registrations.append(request)
        return nodes_pb.RegisterResponse(
            registration=len(self.registrations),
            fencing_token=self.token,
            heartbeat_s=self.heartbeat_s,
            lease_s=self.lease_s,
            telemetry_s=self.telemetry_s,
        )

    async def Session(self, requests: Any, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        self.sessions += 1
        out: asyncio.Queue[Any] = asyncio.Queue()
        self._out = out
        reading = asyncio.ensure_future(self._read(requests, out))
        try:
            while (message := await out.get()) is not None:
                yield message
        finally:
            reading.cancel()

    async def _read(self, requests: Any, out: Any) -> None:
        async for message in requests:
            kind = message.WhichOneof("kind")
            if kind == "heartbeat":
                self.heartbeats += 1
                if self.answers:
                    grant = pb.Grant(
                        sequence=message.heartbeat.sequence, lease_s=self.lease_s, fencing_token=self.token
                    )
                    out.put_nowait(pb.DaemonMessage(grant=grant))
            elif kind == "report":
                report = message.report
                self.reports.append(report)
                if self.acknowledges and report.phase != ENDED:
                    receipt = pb.Receipt(job=report.job, attempt=report.attempt, phase=report.phase)
                    out.put_nowait(pb.DaemonMessage(receipt=receipt))
            elif kind == "log":
                self.logs.append(message.log)
        out.put_nowait(None)

    async def Telemetry(self, requests: Any, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        async for batch in requests:
            self.samples.extend(batch.samples)
        return nodes_pb.TelemetryResponse(samples=len(self.samples))

    # --- what tests do

    def send(self, **message: Any) -> None:
        wait_for(lambda: self._out is not None)
        self._loop.call_soon_threadsafe(self._out.put_nowait, pb.DaemonMessage(**message))

    def hang_up(self) -> None:
        wait_for(lambda: self._out is not None)
        self._loop.call_soon_threadsafe(self._out.put_nowait, None)

    def assign(self, job: int, *command: str, attempt: int = 1, **more: Any) -> None:
        """Run a command; ``spec`` in ``more`` adds to its specification."""
        spec = dict(more.pop("spec", {}))
        placement = more.pop("placement", {"node": "n1", "tasks": 1})
        more = {"fencing_token": self.token, "grace_s": 5.0} | more
        self.send(
            assignment=pb.Assignment(
                job=job,
                attempt=attempt,
                user="root",
                spec={"command": command, **spec},
                placement=placement,
                **more,
            )
        )

    def stop(self, job: int, *, attempt: int = 1, grace_s: float = 5.0, token: int | None = None) -> None:
        token = self.token if token is None else token
        self.send(stop=pb.Stop(job=job, attempt=attempt, fencing_token=token, grace_s=grace_s, reason="cancelled"))

    def forget(self, job: int, attempt: int = 1) -> None:
        self.send(forget=pb.Forget(job=job, attempt=attempt))

    def of(self, job: int, phase: int, attempt: int = 1) -> list[Any]:
        return [r for r in list(self.reports) if (r.job, r.attempt, r.phase) == (job, attempt, phase)]

    def await_report(self, job: int, phase: int, attempt: int = 1, patience_s: float = PATIENCE_S) -> Any:
        wait_for(lambda: self.of(job, phase, attempt), patience_s)
        return self.of(job, phase, attempt)[0]


def wait_for(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Until something holds; fails when it does not in time."""
    until = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return value


class AgentProcess:
    """``shunter node`` as a process of its own."""

    def __init__(self, state: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.state = state
        self._arguments = arguments
        self._environment = environment or {}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self.state.parent / "agent.log").open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PROGRAM,
                    "--name",
                    "n1",
                    "--state",
                    str(self.state),
                    "--allow-root",
                    *self._arguments,
                ],
                stdout=errors,
                stderr=errors,
                env=os.environ | self._environment,
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    @property
    def log(self) -> str:
        return (self.state.parent / "agent.log").read_text()


def alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
