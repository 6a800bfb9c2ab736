"""The record of who changed what: one JSON line for each changing call, and for each that was refused for who called.

A line tells names and numbers that were asked for, never a secret, a command or a value of the environment. Lines are
written together every ``FLUSH_S``; a crash of the machine may lose those of the last moment, of which the event log in
the store has all that was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import logging.handlers
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog

from shunter.daemon.security.rates import Bucket
from shunter.daemon.service.access import Identity
from shunter.scheduler.errors import OutputError

log = structlog.get_logger("shunter.daemon.security")

FLUSH_S = 0.1
MAX_WAITING = 100_000
STRANGERS_PER_S, STRANGERS_BURST = 10.0, 100.0
"""Lines about callers that nobody knows: they must not be able to push others out of the files."""
TOLD = (
    "job",
    "jobs",
    "first_job",
    "count",
    "node",
    "priority",
    "whole_array",
    "reason",
    "mode",
    "model",
    "registration",
)
"""Fields of requests and answers that are told, where they are."""
MOST_IDS, MOST_TEXT = 20, 200


def told_of(message: Any) -> dict[str, Any]:
    """What the audit log tells of a request or an answer."""
    if message is None or not hasattr(message, "DESCRIPTOR"):
        return {}
    told: dict[str, Any] = {}
    known = message.DESCRIPTOR.fields_by_name
    for field in TOLD:
        if field not in known:
            continue
        value = getattr(message, field)
        if isinstance(value, str):
            value = value[:MOST_TEXT]
        elif not isinstance(value, int | float | bool):
            value = [int(one) for one in value[:MOST_IDS]] + (["…"] if len(value) > MOST_IDS else [])
        if value:
            told[field] = value
    return told


class AuditLog:
    """Writes the lines, from the event loop.

    Args:
        path: File; older ones get ``.1``, ``.2`` ….
        max_bytes: Of one file.
        num_files: That are kept beside it.
        now_s: Seconds since the Unix epoch.

    Raises:
        OutputError: It cannot be written.
    """

    def __init__(
        self, path: Path, max_bytes: int = 16 * 2**20, num_files: int = 8, now_s: Callable[[], float] = time.time
    ) -> None:
        self._now_s = now_s
        self._waiting: list[str] = []
        self._flush: asyncio.TimerHandle | None = None
        self._strangers = Bucket(STRANGERS_PER_S, STRANGERS_BURST, time.monotonic())
        self._left_out = 0
        try:
            path.touch(mode=0o600)
            path.chmod(0o600)
            self._file = _File(path, maxBytes=max_bytes, backupCount=num_files, encoding="utf-8", delay=True)
        except OSError as problem:
            raise OutputError(f"{path}: cannot be written: {problem.strerror}") from None

    def tell(
        self,
        method: str,
        identity: Identity | None,
        peer: str,
        code: grpc.StatusCode,
        what: dict[str, Any],
    ) -> None:
        """A call has ended."""
        line: dict[str, Any] = {"at_unix_s": round(self._now_s(), 3), "method": method, "from": peer, "code": code.name}
        if identity is None:
            if self._strangers.take(time.monotonic()):
                self._left_out += 1
                return
        else:
            caller = identity.caller
            line |= {"user": caller.user, "role": caller.role, "proof": identity.proof}
            if identity.by:
                line["by"] = identity.by
        if self._left_out:
            line["left_out_before"], self._left_out = self._left_out, 0
        self._put(json.dumps(line | what, ensure_ascii=True))

    def _put(self, line: str) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._left_out += 1
            return
        self._waiting.append(line)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(FLUSH_S, self._write)

    def _write(self) -> None:
        self._flush = None
        lines, self._waiting = self._waiting, []
        try:
            self._file.append(lines)
        except OSError as problem:
            log.error("audit-log-not-written", error=problem.strerror, lines=len(lines))

    def close(self) -> None:
        """Write what waits."""
        if self._flush is not None:
            self._flush.cancel()
        self._write()
        self._file.close()


class _File(logging.handlers.RotatingFileHandler):
    """A file that turns over by its size."""

    def append(self, lines: list[str]) -> None:
        if not lines:
            return
        if self.stream is None:
            self.stream = self._open()
        self.stream.write("\n".join(lines) + "\n")
        self.stream.flush()
        if self.stream.tell() >= self.maxBytes > 0:
            self.doRollover()

    def _open(self) -> Any:
        stream = super()._open()
        os.fchmod(stream.fileno(), 0o600)
        return stream
