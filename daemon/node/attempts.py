"""The attempts on this node, whatever becomes of the agent: what the daemon ordered, and what there is to report.

Everything about an attempt lies in its folder; the objects here are made anew from it when the agent starts. Used from
one thread only. Every order may come twice, late, or for an attempt that is not known: each then means the same as if
it had come once, in time. Nothing is started that was told to stop before, and nothing twice.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from shunter.daemon.errors import DaemonError
from shunter.daemon.node import launch
from shunter.daemon.node.cgroups import Cgroups
from shunter.daemon.node.orders import finite, make_order
from shunter.daemon.node.settings import NodeSettings
from shunter.daemon.node.shim import groups, records
from shunter.daemon.node.shim.lease import boot_id
from shunter.daemon.node.shim.processes import kill_all, marked
from shunter.daemon.node.state import NEW, StateFolder
from shunter.daemon.pb import agent_pb2, nodes_pb2

Key = tuple[int, int]
Report: Any = agent_pb2.Report
READY, STARTED, ENDED = Report.PHASE_READY, Report.PHASE_STARTED, Report.PHASE_ENDED
SLOT_OF = {READY: records.READY, STARTED: records.STARTED, ENDED: records.ENDED}
PHASE_NAMES = {0: "assigned", READY: "ready", STARTED: "started", ENDED: "ended"}
ENDS = {
    "exited": Report.END_EXITED,
    "not-started": Report.END_NOT_STARTED,
    "stopped": Report.END_STOPPED,
    "time-limit": Report.END_TIME_LIMIT,
    "fenced": Report.END_FENCED,
    "lost": Report.END_LOST,
}
log = structlog.get_logger()


class Attempt:
    """One part of an attempt, as far as the agent knows it.

    Args:
        key: Job and attempt.
        folder: Its own; None when not even that could be made.
        told: What is told of it without a folder, by slot.
    """

    def __init__(self, key: Key, folder: Path | None, told: dict[int, dict[str, str]] | None = None) -> None:
        self.key = key
        self.folder = folder
        self.received: set[int] = set()
        self.shim: launch.Process | None = None
        self._told = dict(told or {})
        self.records = None if folder is None else records.Records(str(folder / "records"))

    def told(self, slot: int) -> dict[str, str] | None:
        """A record, which is read once it is there and then remembered."""
        found = self._told.get(slot)
        if found is None and self.records is not None:
            found = self.records.read(slot)
            if found is not None:
                self._told[slot] = found
        return found

    @property
    def phase(self) -> int:
        """The last phase that was reached."""
        return next((phase for phase in (ENDED, STARTED, READY) if self.told(SLOT_OF[phase]) is not None), 0)

    @property
    def has_ended(self) -> bool:
        """Whether no process of it is left."""
        return self.told(records.ENDED) is not None

    def write(self, slot: int, **fields: object) -> None:
        """Record something of it."""
        if self.records is not None:
            self.records.write(slot, **fields)

    def wake(self) -> None:
        """Have its shim look at its orders; one that has not said that it is there will look by itself."""
        if self.shim is not None and self.told(records.SHIM) is not None:
            self.shim.wake()

    def end(self, end: str, message: str) -> None:
        """Record its end, where the shim did not."""
        if self.records is None:
            self._told[records.ENDED] = {"at": repr(time.time()), "end": end, "message": message}
        else:
            self.records.write(records.ENDED, at=time.time(), end=end, message=message)

    def reports(self) -> list[Any]:
        """What the daemon has not said to have received."""
        found = []
        for phase, slot in SLOT_OF.items():
            record = self.told(slot)
            if record is not None and phase not in self.received:
                found.append(_report(self.key, phase, record))
        return found

    def close(self) -> None:
        """Let go of everything but the processes."""
        if self.records is not None:
            self.records.close()
        if self.shim is not None:
            self.shim.close()


class Attempts:
    """All of them.

    Args:
        state: The agent's folder.
        settings: Of the agent.
        cgroups: Where it may make some; None: nowhere.
    """

    def __init__(self, state: StateFolder, settings: NodeSettings, cgroups: Cgroups | None = None) -> None:
        self._state = state
        self._settings = settings
        self._cgroups = cgroups
        self._attempts: dict[Key, Attempt] = {}
        self.gpu_uuids: Mapping[tuple[int, int | None], str] = {}

    # --- what there was before ---------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take up what an earlier agent has left, and find out what became of it meanwhile."""
        until = time.monotonic() + launch.WAIT_FOR_SHIM_S
        for folder in sorted(self._state.attempts.iterdir()):
            key = _key(folder.name)
            if key is None:
                shutil.rmtree(folder, ignore_errors=True)  # half made
                continue
            try:
                attempt = Attempt(key, folder)
            except OSError:
                attempt = Attempt(key, None)
                attempt.end("lost", "its records cannot be read")
            self._attempts[key] = attempt
            if not attempt.has_ended:
                self._attach(attempt, until)
        self._state.tidy({job for job, _ in self._attempts})

    def _attach(self, attempt: Attempt, until: float) -> None:
        """To its shim, by number and start time; ends what has none any more."""
        shim = attempt.told(records.SHIM) or launch.await_shim(attempt.records, until)
        if shim is None:
            attempt.end("lost", "the agent ended before it was started")
        elif shim["boot"] != boot_id():
            attempt.end("lost", "the machine was started anew")
        else:
            attempt.shim = launch.find(int(shim["pid"]), int(shim["start"]))
            if attempt.shim is None:
                self._shim_is_gone(attempt)

    def _shim_is_gone(self, attempt: Attempt) -> None:
        """After its shim has ended: what it recorded, or what nobody knows; no process of it stays."""
        if attempt.has_ended:
            return
        order = _order(attempt)
        if order.get("cgroup"):
            groups.kill(order["cgroup"])
        for _ in range(200):
            left = marked(order["marker"]) if order else []
            if not left:
                break
            kill_all(left)
            time.sleep(0.01)
        if attempt.told(records.ENDED) is not None:  # the shim's own word came in between
            return
        attempt.end("lost", "its shim was killed")
        if order.get("cgroup"):
            groups.remove(order["cgroup"])

    # --- orders ------------------------------------------------------------------------------------------------------

    def assign(self, assignment: Any) -> list[Any]:
        """Start an attempt, unless it is known; returns what there is to report at once."""
        key = (assignment.job, assignment.attempt)
        known = self._known(key)
        if known is not None:
            known.received.clear()
            return known.reports()
        try:
            order = make_order(assignment, settings=self._settings, state=self._state, gpu_uuids=self.gpu_uuids)
            attempt = self._make(key, order, assignment)
            attempt.shim = launch.start(attempt.folder)
        except (DaemonError, OSError, ValueError) as error:
            attempt = self._attempts.get(key) or self._tombstone(key)
            attempt.end("not-started", _sentence(error))
        self._attempts[key] = attempt
        log.info("assigned", job_id=key[0], attempt=key[1])
        return attempt.reports()

    def go(self, key: Key) -> None:
        """Let a gang's part start."""
        attempt = self._attempts.get(key)
        if attempt is not None and not attempt.has_ended:
            attempt.write(records.GO, at=time.time())
            attempt.wake()

    def stop(self, key: Key, grace_s: float, reason: str) -> list[Any]:
        """Ask an attempt to stop; one that is not known will never start."""
        attempt = self._known(key)
        if attempt is None:
            attempt = self._tombstone(key)
            attempt.end("not-started", f"it was told to stop before it came: {reason}")
            self._attempts[key] = attempt
        elif not attempt.has_ended and attempt.shim is not None:
            attempt.write(records.STOP, at=time.time(), grace_s=finite(grace_s), reason=reason)
            attempt.wake()
            return []
        attempt.received.discard(ENDED)
        return attempt.reports()

    def receipt(self, key: Key, phase: int) -> None:
        """The daemon has this report."""
        attempt = self._attempts.get(key)
        if attempt is not None and phase != ENDED:
            attempt.received.add(phase)

    def forget(self, key: Key) -> None:
        """The daemon has stored how it ended; only its output is kept for a while."""
        attempt = self._attempts.get(key)
        if attempt is None or not attempt.has_ended:
            return
        del self._attempts[key]
        attempt.close()
        if attempt.folder is not None:
            target = self._state.finished / attempt.folder.name
            shutil.rmtree(target, ignore_errors=True)
            os.utime(attempt.folder)
            attempt.folder.rename(target)
        if all(job != key[0] for job, _ in self._attempts):
            with contextlib.suppress(OSError):
                (self._state.work / str(key[0])).rmdir()  # kept if the job left anything there

    # --- what there is to tell ---------------------------------------------------------------------------------------

    def held(self) -> list[Any]:
        """What a registration says of all of them."""
        return [
            nodes_pb2.HeldAttempt(job=job, attempt=number, phase=PHASE_NAMES[attempt.phase])
            for (job, number), attempt in self._attempts.items()
        ]

    def reports(self) -> list[Any]:
        """Everything that the daemon has not said to have received."""
        return [report for attempt in self._attempts.values() for report in attempt.reports()]

    def refresh(self) -> None:
        """See which shims have ended."""
        for attempt in self._attempts.values():
            if attempt.shim is not None and attempt.shim.has_ended():
                attempt.shim.close()
                attempt.shim = None
                self._shim_is_gone(attempt)

    def running(self) -> list[Key]:
        """Those that have not ended."""
        return [key for key, attempt in self._attempts.items() if not attempt.has_ended]

    def shim_fds(self) -> dict[Key, int]:
        """Descriptors that become readable when a shim ends."""
        return {key: attempt.shim.fd for key, attempt in self._attempts.items() if attempt.shim is not None}

    def close(self) -> None:
        """Let go of all; their jobs go on."""
        for attempt in self._attempts.values():
            attempt.close()
        self._attempts.clear()

    # --- folders -----------------------------------------------------------------------------------------------------

    def _known(self, key: Key) -> Attempt | None:
        """One that is held, or was not long ago."""
        attempt = self._attempts.get(key)
        folder = self._state.finished / _name(key)
        if attempt is None and (folder / "records").exists():
            attempt = Attempt(key, folder)
            if not attempt.has_ended:
                attempt.end("lost", "its records are not whole")
            again = self._state.attempts / folder.name
            folder.rename(again)
            attempt.folder = again
            self._attempts[key] = attempt
        return attempt

    def _make(self, key: Key, order: dict[str, Any], assignment: Any) -> Attempt:
        if self._cgroups is not None:
            tasks = len(order["tasks"])
            per_task = assignment.spec.per_task
            order["cgroup"] = self._cgroups.make(
                order["name"], memory_gib=finite(per_task.memory_gib) * tasks, cpus=finite(per_task.cpus) * tasks
            )
            if order["cgroup"] and self._cgroups.limits_memory:
                order["limits"] = order["limits"][:1]
        return Attempt(key, self._new_folder(key, order))

    def _tombstone(self, key: Key) -> Attempt:
        """An attempt that never starts, on disk if that can be."""
        try:
            return Attempt(key, self._new_folder(key, None))
        except OSError:
            return Attempt(key, None)

    def _new_folder(self, key: Key, order: dict[str, Any] | None) -> Path:
        """All of an attempt's folder, or nothing of it."""
        new = self._state.attempts / f"{NEW}{_name(key)}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            (new / "logs").mkdir(parents=True, mode=0o700)
            records.Records(str(new / "records"), create=True).close()
            if order is not None:
                (new / "order").write_bytes(marshal.dumps(order))
            final = new.rename(self._state.attempts / _name(key))
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise
        _sync(self._state.attempts)
        return final


def _report(key: Key, phase: int, record: Mapping[str, str]) -> Any:
    report = Report(job=key[0], attempt=key[1], phase=phase, at_unix_s=float(record.get("at", "0")))
    if phase == ENDED:
        report.end = ENDS.get(record.get("end", ""), Report.END_LOST)
        report.message = record.get("message", "")
        for name in ("exit_code", "signal"):
            if name in record:
                setattr(report, name, int(record[name]))
        for name in ("cpu_s", "max_memory_gib"):
            if name in record:
                setattr(report, name, float(record[name]))
    return report


def _order(attempt: Attempt) -> dict[str, Any]:
    try:
        return dict(marshal.loads((attempt.folder / "order").read_bytes())) if attempt.folder is not None else {}
    except (OSError, EOFError, ValueError, TypeError):
        return {}


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'state folder'}: {error.strerror or error}"
    return str(error)


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]}"


def _key(name: str) -> Key | None:
    job, _, attempt = name.partition(".")
    return (int(job), int(attempt)) if job.isdigit() and attempt.isdigit() else None


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
