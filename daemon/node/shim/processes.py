"""Processes as /proc shows them, and the calls of Linux that Python has no names for."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SIGKILL = 9
PAGE_GIB = os.sysconf("SC_PAGE_SIZE") / 2**30
HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Call prctl.

    Raises:
        OSError: It was refused.
    """
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None when there is none, or only what is left to reap.

    With the process's number and the boot's id it names one process for good.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, parents first. What forks meanwhile may be missing: ask again."""
    found: list[int] = []
    todo = [pid]
    below = None if HAS_CHILDREN else _by_parent()
    while todo:
        parent = todo.pop()
        children = _children(parent) if below is None else below.get(parent, [])
        found += children
        todo += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += map(int, file.read().split())
    except OSError:
        pass  # it has just ended
    return children


def _by_parent() -> dict[int, list[int]]:
    """The children of all processes, for kernels without ``children`` files."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(name))
    return below


def kill_all(pids: list[int]) -> None:
    """SIGKILL to each of them; first they are stopped, so that none can start another in between."""
    for number in (19, SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except OSError:
                continue


def memory_gib(pids: list[int]) -> float:
    """Resident memory of these processes together; pages that they share count more than once."""
    pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                pages += int(file.read().split()[1])
        except (OSError, IndexError):
            continue
    return pages * PAGE_GIB


def marked(marker: str) -> list[int]:
    """Processes whose environment held ``NAME=value`` when they were started (but not this one)."""
    wanted = marker.encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0") and start_time(int(name)) is not None:
                    found.append(int(name))
        except OSError:
            continue  # ended, or another user's
    return found
