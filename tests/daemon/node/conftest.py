from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.node.peer import AgentProcess, Peer


@pytest.fixture
def peers() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(**settings: Any) -> Peer:
        made.append(Peer(**settings))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Agents, of whose jobs nothing is left afterwards."""
    made: list[AgentProcess] = []

    def make(*arguments: str, environment: dict[str, str] | None = None, state: str = "state") -> AgentProcess:
        made.append(AgentProcess(tmp_path / state, *arguments, environment=environment))
        return made[-1]

    yield make
    for agent in made:
        with contextlib.suppress(ProcessLookupError):
            agent.kill()
    wanted = str(tmp_path).encode()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(folder.name)
            # What a test has left behind, by its own folder in the command line of a shim.
            if pid != os.getpid() and wanted in (folder / "cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
