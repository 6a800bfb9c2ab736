"""The folder in which the agent keeps what must outlive it.

``agent.lock`` is held by the agent that runs, ``agent`` has the highest fencing token, ``lease`` the lease, ``wake`` is
the pipe by which shims wake the agent; ``attempts/JOB.ATTEMPT`` are those that the daemon has not said to forget,
``finished/`` those whose output is still kept, ``work/JOB`` the jobs' own folders.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path

from shunter.daemon.errors import ConflictError, StoreError
from shunter.daemon.node.shim.lease import LeaseFile
from shunter.daemon.node.shim.records import Records

DAY_S = 86400.0
MAX_FINISHED = 1000
NEW = ".new-"
IDENTITY = 2


class StateFolder:
    """The folder of one agent.

    Args:
        path: It is made if it is not there.
        keep_days: For so long ``tidy`` leaves alone what is no longer needed.

    Raises:
        ConflictError: Another agent has it.
        StoreError: It cannot be used.
    """

    def __init__(self, path: Path, keep_days: float = 7.0) -> None:
        self.path = path.absolute()
        self._keep_s = keep_days * DAY_S
        try:
            for folder, mode in (
                (self.path, 0o711),
                (self.attempts, 0o700),
                (self.finished, 0o700),
                (self.work, 0o711),
            ):
                folder.mkdir(parents=True, exist_ok=True, mode=mode)
                folder.chmod(mode)
            self._lock()
            self.lease = LeaseFile(str(self.path / "lease"), create=True)
            agent = self.path / "agent"
            # The token lies in two slots that are written in turn: one of them is always whole.
            self._tokens = Records(str(agent), create=not agent.exists(), slots=3)
            self._open_wake()
        except OSError as error:
            raise StoreError(f"state folder {self.path}: {error.strerror or error}") from error
        if self._tokens.read(IDENTITY) is None:
            self._tokens.write(IDENTITY, id=secrets.token_hex(8))
        self.identity = (self._tokens.read(IDENTITY) or {})["id"]
        """Of this folder: another means that nothing of what was in an earlier one is known."""
        found = [int(record["token"]) for slot in (0, 1) if (record := self._tokens.read(slot)) is not None]
        self._token = max(found, default=0)

    @property
    def attempts(self) -> Path:
        """Attempts that the daemon may still ask about."""
        return self.path / "attempts"

    @property
    def finished(self) -> Path:
        """Attempts that it will not ask about any more."""
        return self.path / "finished"

    @property
    def work(self) -> Path:
        """Folders of jobs that named no working directory."""
        return self.path / "work"

    @property
    def token(self) -> int:
        """The highest fencing token that the agent has seen."""
        return self._token

    def take_token(self, token: int) -> bool:
        """Remember a fencing token, durably; False: it is lower than one that was seen, so its sender leads no more."""
        if token > self._token:
            self._tokens.write(token % 2, token=token)
            self._token = token
        return token == self._token

    def tidy(self, held_jobs: set[int]) -> None:
        """Remove what is older than it is kept for: output of finished attempts, folders of jobs that are not held."""
        oldest = time.time() - self._keep_s
        finished = sorted(self.finished.iterdir(), key=_changed, reverse=True)
        for number, folder in enumerate(finished):
            if number >= MAX_FINISHED or _changed(folder) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self.work.iterdir():
            if folder.name.isdigit() and int(folder.name) not in held_jobs and _changed(folder) < oldest:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder."""
        self.lease.close()
        self._tokens.close()
        os.close(self.wake_fd)
        os.close(self._lock_fd)

    def _lock(self) -> None:
        self._lock_fd = os.open(self.path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            raise ConflictError(f"state folder {self.path}: another agent runs with it") from None

    def _open_wake(self) -> None:
        pipe = self.path / "wake"
        if not pipe.is_fifo():
            os.mkfifo(pipe, 0o600)
        # For writing, too: so it never reads as ended when the last shim goes away.
        self.wake_fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
