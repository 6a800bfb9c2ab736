"""A cgroup (version 2) of one attempt: what the shim does with it. The agent has made it, if it could."""

from __future__ import annotations

import os


def join(folder: str) -> None:
    """Put the calling process into it."""
    with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def kill(folder: str) -> None:
    """SIGKILL to every process in it at once; nothing where the kernel cannot."""
    try:
        with open(f"{folder}/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        pass


def peak_gib(folder: str) -> float | None:
    """The most memory it has used; None where that is not counted."""
    value = _read(f"{folder}/memory.peak")
    return int(value) / 2**30 if value else None


def cpu_s(folder: str) -> float | None:
    """CPU time that it has used; None where that is not counted."""
    for line in _read(f"{folder}/cpu.stat").splitlines():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) / 1e6
    return None


def memory_kills(folder: str) -> int:
    """Processes that the kernel killed because it used too much memory."""
    for line in _read(f"{folder}/memory.events").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def remove(folder: str) -> None:
    """Remove it, if it is empty."""
    try:
        os.rmdir(folder)
    except OSError:
        pass
