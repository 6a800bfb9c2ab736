"""A real daemon and real agents as processes on loopback, which tests kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import yaml

from shunter.daemon.security.discovery import find_token, offered_path

SHORT_LEASES = {"heartbeat_s": 0.4, "suspect_s": 1.2, "lease_s": 2.4, "margin_s": 0.8, "probation_s": 0.5}
"""For tests that cannot wait ten seconds for a node to be fenced; busy machines need more than a heartbeat of slack."""


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], limit_s: float = 30.0, step_s: float = 0.05) -> Any:
    """The first true answer; AssertionError when there is none in time."""
    until_s = time.monotonic() + limit_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < until_s, f"waited {limit_s:g} s in vain"
        time.sleep(step_s)


class LocalToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Sends the token that a daemon offers to its own user."""

    def __init__(self, address: str) -> None:
        self._address = address

    def _add(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {find_token(self._address)}")]
        return continuation(details._replace(metadata=metadata), request)

    intercept_unary_unary = _add
    intercept_unary_stream = _add


class LiveCluster:
    """See the module.

    Args:
        folder: For everything.
        config: Sections of the daemon's configuration.

    `agent_addresses` is where agents connect: straight to the daemon unless a test says otherwise.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.agent_addresses = [self.address]
        self.config = folder / "daemon.yaml"
        self.config.write_text(yaml.safe_dump({"leases": SHORT_LEASES, **(config or {})}))
        self.state = folder / "daemon"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start_daemon(self, *, wait: bool = True) -> None:
        command = ["daemon", "--listen", self.address, "--state", str(self.state), "--config", str(self.config)]
        self._daemon = self._run(command, "daemon.log")
        if wait:
            wait_for(self.is_serving)

    def kill_daemon(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self._daemon is not None
        self._daemon.send_signal(number)
        return self._daemon.wait(30)

    @property
    def daemon_pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def start_node(self, name: str, **what: Any) -> None:
        options = [f"--{key.replace('_', '-')}={value}" for key, value in what.items()]
        root = ["--allow-root"] if os.geteuid() == 0 else []
        state = str(self.folder / name)
        if self.agent_addresses[0] != self.address:  # through a relay, at which nobody offers a token
            options.append(f"--token-file={offered_path(self.address)}")
        daemons = [word for address in self.agent_addresses for word in ("--daemon", address)]
        command = ["node", *daemons, "--name", name, "--state", state, *options, *root]
        self._nodes[name] = self._run(command, f"{name}.log")

    def kill_node(self, name: str, number: int = signal.SIGKILL) -> None:
        """The agent alone: what it runs goes on."""
        process = self._nodes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def node_pid(self, name: str) -> int:
        return self._nodes[name].pid

    def crash_node(self, name: str) -> None:
        """The agent and everything that runs there, as when the power fails."""
        self.kill_node(name)
        for pid in self.pids_below(name):
            with_no_error(os.kill, pid, signal.SIGKILL)

    def pids_below(self, name: str) -> list[int]:
        """Processes of a node's jobs and their shims: those that name its folder, or carry its name."""
        import psutil

        state, found = str(self.folder / name), []
        for process in psutil.process_iter():
            try:
                told = any(state in word for word in process.cmdline())
                marked = process.environ().get("SHUNTER_NODE") == name and state in process.environ().get("PWD", state)
                if told or marked:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return [pid for pid in found if pid != os.getpid()]

    def _run(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "shunter", *command], stdout=stream, stderr=stream, stdin=subprocess.DEVNULL
            )

    def channel(self, address: str = "") -> grpc.Channel:
        quick = [(f"grpc.{name}_reconnect_backoff_ms", ms) for name, ms in (("initial", 50), ("min", 50), ("max", 200))]
        channel = grpc.insecure_channel(address or self.address, options=quick)
        return grpc.intercept_channel(channel, LocalToken(self.address))

    def is_serving(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, (self.folder / "daemon.log").read_text()[-2000:]
        host, _, port = self.address.rpartition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def stop(self) -> None:
        """End everything, whatever state it is in."""
        for name in list(self._nodes):
            self.crash_node(name)
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.kill()
            self._daemon.wait(30)


def with_no_error(call: Callable[..., Any], *arguments: Any) -> None:
    """Call; what is gone already is as good as done."""
    try:
        call(*arguments)
    except OSError:
        return
