"""A daemon as a process of its own, nodes that pretend to run jobs, and the command line as a person uses it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from shunter.daemon.channel import open_channel
from shunter.daemon.pb import agent_pb2
from shunter.daemon.security.discovery import find_token
from tests.daemon.simulated import SimulatedAgent, description
from tests.e2e.conftest import Ran, shunter

__all__ = ["shunter"]

FIRST_S = 240.0
"""The first decision after an installation waits for the compiler."""


def until(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    """What the condition gives as soon as that is true."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s:g} s")


class TalkingAgent(SimulatedAgent):
    """Also has output of jobs: what their environment says under OUT, task by task, and under LATER at the end."""

    async def _live(self) -> None:
        async with open_channel(self.address, token=find_token(self.address)) as channel:
            while True:
                try:
                    await self._session(channel)
                except grpc.aio.AioRpcError as error:
                    self.errors.append(f"{error.code().name}: {error.details()}")
                    await asyncio.sleep(0.05)

    def _hear(self, message: agent_pb2.DaemonMessage) -> None:
        if message.WhichOneof("kind") == "log" and not message.log.cancel:
            asyncio.get_running_loop().create_task(self._talk(message.log))
        else:
            super()._hear(message)

    async def _talk(self, asked: agent_pb2.LogRequest) -> None:
        spec = self.specs[asked.job]
        first = [f"task {task}: {spec.environment['OUT']}\n".encode() for task in range(spec.tasks)]
        for task, data in enumerate(first):
            if not asked.HasField("task") or asked.task == task:
                cut = max(len(data) - asked.tail_bytes, 0) if asked.tail_bytes else 0
                self._reply(asked, task=task, offset=cut, data=data[cut:])
        if asked.follow:
            while (asked.job, asked.attempt) in self._running:
                await asyncio.sleep(0.02)
            self._reply(asked, offset=len(first[0]), data=spec.environment.get("LATER", "").encode())
        self._reply(asked, is_last=True)

    def _reply(self, asked: agent_pb2.LogRequest, **what: Any) -> None:
        reply = agent_pb2.LogReply(request=asked.request, **what)
        self._outgoing.put_nowait(agent_pb2.AgentMessage(log=reply))

    def _assigned(self, assignment: agent_pb2.Assignment) -> None:
        self.specs[assignment.job] = assignment.spec
        super()._assigned(assignment)

    @property
    def specs(self) -> dict[int, Any]:
        return self.__dict__.setdefault("_specs", {})


def seconds(assignment: agent_pb2.Assignment) -> float:
    return float(assignment.spec.environment.get("S", "0.05"))


def code(assignment: agent_pb2.Assignment) -> int:
    return int(assignment.spec.environment.get("CODE", "0"))


class Daemon:
    """The process; ``start`` again after ``kill`` listens at the same place."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "shunter", "daemon", "--listen", self.address, "--state", str(self.folder)]
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file)
        said = until(lambda: self._listens(log.read_text()), 60)
        self.address = said.split("listens on ")[1].split(",")[0]

    def _listens(self, text: str) -> str:
        assert self.process is not None
        assert self.process.poll() is None, text
        return text if "listens on" in text else ""

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(20)
        self.process = None


class Agents:
    """Nodes, on a loop of their own."""

    def __init__(self, address: str) -> None:
        self._address, self.agents = address, list[TalkingAgent]()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def add(self, node: str, cpus: float = 8, gpus: int = 2) -> TalkingAgent:
        what = description(cpus, 64, gpus, "A100" if gpus else "")
        agent = TalkingAgent(self._address, node, what, seconds, code)
        self.agents.append(agent)
        self._loop.call_soon_threadsafe(agent.start)
        return agent

    def end(self) -> None:
        for agent in self.agents:
            asyncio.run_coroutine_threadsafe(agent.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("daemon"))
    made.start()
    agents = Agents(made.address)
    try:
        agents.add("gpu-1")
        agents.add("gpu-2")
        yield made
    finally:
        agents.end()
        if made.process is not None:
            made.end()


Live = Callable[..., Ran]


@pytest.fixture
def live(shunter: Callable[..., Ran], daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Live:
    """``shunter VERB …`` against the daemon."""
    monkeypatch.setenv("SHUNTER_ADDRESS", daemon.address)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("SHUNTER_TOKEN_FILE", raising=False)
    return shunter


@pytest.fixture
def spawned(daemon: Daemon) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``shunter VERB …`` as a process that goes on."""
    started = []

    def spawn(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "SHUNTER_ADDRESS": daemon.address, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
        process = subprocess.Popen(
            [sys.executable, "-m", "shunter", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    yield spawn
    for process in started:
        process.kill()
        process.communicate()
