"""Cgroups (version 2) for attempts, where the agent may make them; without them rlimits and process groups do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

CPU_PERIOD_US = 100_000
MOST_GIB, MOST_CPUS = 1e6, 1e5
CONTROLLERS = ("memory", "cpu", "pids")


class Cgroups:
    """The folder below which every attempt gets one of its own.

    Args:
        base: A folder of cgroup2 in which the agent may make others.
        name: Of the node.
    """

    def __init__(self, base: Path, name: str) -> None:
        self.path = base / f"shunter-{name}"
        self.path.mkdir(exist_ok=True)
        self.controllers = _delegate(base, self.path)

    def make(self, name: str, *, memory_gib: float, cpus: float) -> str:
        """The cgroup of an attempt, limited as far as the kernel lets us; empty when it cannot be made."""
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            return ""
        if memory_gib > 0 and "memory" in self.controllers:
            _write(folder / "memory.max", str(int(min(memory_gib, MOST_GIB) * 2**30)))
            _write(folder / "memory.swap.max", "0")
            _write(folder / "memory.oom.group", "1")
        if cpus > 0 and "cpu" in self.controllers:
            _write(folder / "cpu.max", f"{int(max(min(cpus, MOST_CPUS) * CPU_PERIOD_US, 1000))} {CPU_PERIOD_US}")
        return str(folder)

    @property
    def limits_memory(self) -> bool:
        """Whether memory is limited here, so that processes need no limit of their own."""
        return "memory" in self.controllers


def find_cgroups(name: str) -> Cgroups | None:
    """Where the agent may make cgroups: below its own, as a service manager delegates it; None: nowhere."""
    mount = _mount()
    if mount is None:
        return None
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        base = mount / own.strip("/")
        if base.name == "shunter-agent":
            base = base.parent
        return Cgroups(base, name)
    except (OSError, StopIteration):
        return None


def _mount() -> Path | None:
    try:
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if fields[2] == "cgroup2":
                return Path(fields[1])
    except OSError:
        pass
    return None


def _delegate(base: Path, path: Path) -> tuple[str, ...]:
    """Have the controllers that there are work below ``path``; returns those that do."""
    try:
        there = (base / "cgroup.controllers").read_text(encoding="ascii").split()
        wanted = [name for name in CONTROLLERS if name in there]
        for name in wanted:
            if not _write(base / "cgroup.subtree_control", f"+{name}"):
                # A cgroup with processes of its own passes nothing on: the agent moves into one beside.
                aside = base / "shunter-agent"
                aside.mkdir(exist_ok=True)
                _write(aside / "cgroup.procs", str(os.getpid()))
                _write(base / "cgroup.subtree_control", f"+{name}")
            _write(path / "cgroup.subtree_control", f"+{name}")
        return tuple((path / "cgroup.subtree_control").read_text(encoding="ascii").split())
    except OSError:
        return ()


def _write(file: Path, text: str) -> bool:
    with contextlib.suppress(OSError):
        file.write_text(text, encoding="ascii")
        return True
    return False
