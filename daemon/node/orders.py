"""From an assignment to what a shim is told to do: accounts, environment, limits. Refuses what must not be started."""

from __future__ import annotations

import math
import os
import pwd
import resource
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shunter.daemon.errors import InvalidError
from shunter.daemon.node.settings import NodeSettings
from shunter.daemon.node.state import StateFolder

BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARKER = "SHUNTER_CONTAINMENT"
OWN_PREFIX = "SHUNTER_"
MIB, GIB = 2**20, 2**30
MOST = 2.0**62


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system; ``switch`` when the shim has to change to it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    switch: bool


def choose_account(settings: NodeSettings, user: str, run_as: str) -> Account:
    """Under which account a job runs.

    Args:
        settings: Of the agent.
        user: Whose job it is.
        run_as: Account that the job names; empty: none.

    Raises:
        InvalidError: There is no such account, or it must not be used.
    """
    own = pwd.getpwuid(os.geteuid())
    if own.pw_uid != 0:
        if run_as not in ("", own.pw_name):
            raise InvalidError(f"account {run_as!r}: the agent runs as {own.pw_name!r} and cannot change to another")
        return Account(own.pw_name, own.pw_uid, own.pw_gid, own.pw_dir, own.pw_shell, switch=False)
    allowed = {user, *settings.accounts, *([settings.run_as] if settings.run_as else [])}
    if run_as and run_as not in allowed and not (settings.allow_root and run_as == own.pw_name):
        raise InvalidError(f"account {run_as!r}: jobs of {user!r} may not run under it on this node")
    name = run_as or settings.run_as or (own.pw_name if settings.allow_root else user)
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise InvalidError(f"account {name!r}: there is none on this node, and --run-as names no other") from None
    if entry.pw_uid == 0 and not settings.allow_root:
        raise InvalidError(f"account {name!r}: jobs may not run as root on this node (--allow-root)")
    return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell, switch=entry.pw_uid != 0)


def stop_signal(name: str) -> signal.Signals:
    """The signal of a name such as ``SIGUSR1``, ``usr1`` or ``10``; empty: SIGTERM.

    Raises:
        InvalidError: There is no such signal.
    """
    if not name:
        return signal.SIGTERM
    try:
        if name.isdigit():
            return signal.Signals(int(name))
        upper = name.upper()
        return signal.Signals[upper if upper.startswith("SIG") else f"SIG{upper}"]
    except (KeyError, ValueError):
        raise InvalidError(f"stop_signal {name!r}: there is no such signal") from None


def make_order(
    assignment: Any, *, settings: NodeSettings, state: StateFolder, gpu_uuids: Mapping[tuple[int, int | None], str]
) -> dict[str, Any]:
    """What the shim of an assignment reads.

    Args:
        assignment: The message.
        settings: Of the agent.
        state: Its folder; the job's own folder is made there if it named none.
        gpu_uuids: What CUDA calls a GPU, or the instance that begins at a memory slice of it (None: the whole GPU).

    Raises:
        InvalidError: It must not, or cannot, be started.
        OSError: The job's folder cannot be made.
    """
    spec = assignment.spec
    if not spec.command or not spec.command[0] or any("\0" in word for word in spec.command):
        raise InvalidError("command: it is empty, or has a zero byte")
    number = stop_signal(spec.stop_signal)
    account = choose_account(settings, assignment.user, spec.run_as)
    grace_s = assignment.grace_s
    order = {
        "name": f"{assignment.job}.{assignment.attempt}",
        "argv": list(spec.command),
        "account": account.name,
        "uid": account.uid if account.switch else None,
        "gid": account.gid,
        "groups": os.getgrouplist(account.name, account.gid) if account.switch else [],
        "working_directory": spec.working_directory or str(_own_folder(state, assignment.job, account)),
        "limits": _limits(spec),
        "time_limit_s": finite(assignment.time_limit_s),
        "grace_s": finite(grace_s),
        "stop_signal": int(number),
        "wait_for_go": assignment.wait_for_go,
        "log_part_bytes": int(settings.log_part_mib * MIB),
        "log_parts": settings.log_parts,
        "lease": str(state.path / "lease"),
        "wake": str(state.path / "wake"),
        "cgroup": "",
        "marker": f"{MARKER}={secrets.token_hex(16)}",
    }
    shared = _environment(assignment, account, number)
    marker, _, value = str(order["marker"]).partition("=")
    shared[marker] = value
    order["tasks"] = [
        {"rank": assignment.first_rank + task, "environment": shared | _of_task(assignment, task, gpu_uuids)}
        for task in range(max(assignment.placement.tasks, 1))
    ]
    return order


def _own_folder(state: StateFolder, job: int, account: Account) -> Path:
    folder = state.work / str(job)
    folder.mkdir(mode=0o700, exist_ok=True)
    if account.switch:
        os.chown(folder, account.uid, account.gid)
    return folder


def finite(amount: float) -> float:
    """An amount or a span, 0 for none; also for what is no number, infinite or negative."""
    return amount if math.isfinite(amount) and amount > 0 else 0.0


def _limits(spec: Any) -> list[tuple[int, int]]:
    """(resource, limit) of each process. RLIMIT_DATA rather than RLIMIT_AS: CUDA reserves address space by the TiB."""
    limits = [(resource.RLIMIT_CORE, 0)]
    memory_gib = finite(spec.per_task.memory_gib)
    if memory_gib > 0:
        limits.append((resource.RLIMIT_DATA, int(min(max(memory_gib * GIB, 16 * MIB), MOST))))
    return limits


def _environment(assignment: Any, account: Account, number: signal.Signals) -> dict[str, str]:
    """Of all tasks: what every login has, what the job asks for, and over both what we know."""
    spec = assignment.spec
    base = {
        "PATH": BASE_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell or "/bin/sh",
        "LANG": "C.UTF-8",
    }
    asked = {name: value for name, value in spec.environment.items() if not name.startswith(OWN_PREFIX)}
    for name, value in asked.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidError(f"environment: {name!r} is no name of a variable, or has a zero byte")
    gang = list(assignment.gang) or [assignment.placement]
    known = {
        "JOB_ID": assignment.job,
        "JOB_NAME": spec.name,
        "USER": assignment.user,
        "ATTEMPT": assignment.attempt,
        "TASKS": sum(max(part.tasks, 1) for part in gang),
        "NODE": assignment.placement.node,
        "NODES": ",".join(part.node for part in gang),
        "NODE_TASKS": max(assignment.placement.tasks, 1),
        "NODE_GPUS": ",".join(map(str, assignment.placement.gpus)),
        "CHECKPOINT_SIGNAL": number.name,
        "GRACE_S": f"{finite(assignment.grace_s):g}",
        "TIME_LIMIT_S": f"{finite(assignment.time_limit_s):g}",
    }
    if assignment.HasField("array_index"):
        known["ARRAY_INDEX"] = assignment.array_index
    if spec.HasField("checkpoint_interval_s"):
        known["CHECKPOINT_INTERVAL_S"] = f"{spec.checkpoint_interval_s:g}"
    return base | asked | {OWN_PREFIX + name: str(value).replace("\0", "") for name, value in known.items()}


def _of_task(assignment: Any, task: int, gpu_uuids: Mapping[tuple[int, int | None], str]) -> dict[str, str]:
    """Of one task: its rank, and the GPUs that it may see. They are dealt out evenly where they can be."""
    placement = assignment.placement
    tasks = max(placement.tasks, 1)
    gpus = list(placement.gpus)
    if len(gpus) >= tasks and len(gpus) % tasks == 0:
        share = len(gpus) // tasks
        gpus = gpus[task * share : (task + 1) * share]
    slice_ = placement.first_slice if placement.HasField("first_slice") else None
    names = [gpu_uuids.get((gpu, slice_)) for gpu in gpus]
    if slice_ is not None and None in names:
        raise InvalidError(f"GPU {gpus}: there is no instance that begins at memory slice {slice_}")
    seen = [name or str(gpu) for name, gpu in zip(names, gpus, strict=True)]
    return {
        "SHUNTER_TASK": str(assignment.first_rank + task),
        "SHUNTER_LOCAL_TASK": str(task),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(seen)),
    }
