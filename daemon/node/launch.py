"""Starting shims, and finding them again."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import shunter
from shunter.daemon.node.shim import records
from shunter.daemon.node.shim.processes import start_time

ROOT = str(Path(shunter.__file__).absolute().parents[1])
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from shunter.daemon.node.shim.main import main; main()"
WAIT_FOR_SHIM_S = 2.0


class Process:
    """A process, held by a descriptor so that its number cannot come to mean another.

    Args:
        pid: Its number.
        child: The same, if this process has started it and must reap it.
    """

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)
        self._child = child

    def wake(self) -> None:
        """Have it look at its orders."""
        with contextlib.suppress(ProcessLookupError):  # ended: what it recorded is read soon
            signal.pidfd_send_signal(self.fd, signal.SIGUSR1)

    def has_ended(self) -> bool:
        """Whether it runs no more."""
        if not select.select([self.fd], [], [], 0)[0]:
            return False
        if self._child is not None:
            self._child.wait()
        return True

    def close(self) -> None:
        """Let go of it."""
        if self._child is not None and self._child.returncode is None:
            self._child.returncode = 0  # it goes on without us: no warning that nobody has waited for it
        os.close(self.fd)


def start(folder: Path | None) -> Process:
    """Start the shim of the attempt in ``folder``; it goes on when we end.

    Raises:
        OSError: No process can be made.
    """
    assert folder is not None
    with (folder / "shim.log").open("ab") as errors:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, ROOT, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            cwd="/",
            env={},
            start_new_session=True,
        )
    return Process(child.pid, child)


def find(pid: int, started: int) -> Process | None:
    """The process with this number and start time; None when it has ended."""
    try:
        process = Process(pid)
    except OSError:
        return None
    # Looked at only when the descriptor is held: the number may have been given away just before.
    if start_time(pid) != started:
        process.close()
        return None
    return process


def await_shim(told: records.Records | None, until: float) -> dict[str, str] | None:
    """The shim of an attempt whose agent ended while it was starting one; None when there will be none.

    One that comes late finds the order to stop: every shim looks for that after it has said that it is there.
    """
    if told is None:
        return None
    while (shim := told.read(records.SHIM)) is None and time.monotonic() < until:
        time.sleep(0.02)
    if shim is None:
        told.write(records.STOP, at=time.time(), grace_s=0.0, end="lost", reason="the agent ended while starting it")
        shim = told.read(records.SHIM)
    return shim
