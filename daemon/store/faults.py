"""What a database's error means: no room, not writeable, or something else."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shunter.daemon.errors import DaemonError, StoreError, StoreFullError, StoreReadOnlyError

ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
PROBE_BYTES = 64 * 1024

POSTGRES_FULL = ("53100", "53200")  # disk full, out of memory
POSTGRES_READ_ONLY = ("25006",)  # read-only transaction: a standby, or the whole database is


def meaning(error: BaseException, path: Path | None) -> DaemonError:
    """The error as one of the daemon's.

    Args:
        error: What SQLAlchemy, the driver or the system raised.
        path: Of SQLite's database; None with PostgreSQL.
    """
    if isinstance(error, DaemonError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    words = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, sqlite3.Error) and path is not None:
        return _of_sqlite(cause, words, path)
    if isinstance(cause, OSError):
        return _of_system(cause.errno, words) or StoreError(f"store: {words}")
    state = getattr(cause, "sqlstate", None)
    if state in POSTGRES_FULL:
        return StoreFullError(f"store is full: {words}")
    if state in POSTGRES_READ_ONLY:
        return StoreReadOnlyError(f"store is read-only: {words}")
    return StoreError(f"store: {words}")


@contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Raises what a database raises as an error of the daemon."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise meaning(error, path) from error


def _of_sqlite(error: sqlite3.Error, words: str, path: Path) -> DaemonError:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StoreFullError(f"store is full: {path}: {words}")
    if primary == sqlite3.SQLITE_READONLY:
        return StoreReadOnlyError(f"store is read-only: {path}: {words}")
    if primary in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        found = probed(path)  # SQLite does not say what the system answered
        if found is not None:
            return found
    return StoreError(f"store: {path}: {words}")


def probed(path: Path) -> DaemonError | None:
    """Why the database at ``path`` or a file beside it cannot be written; None: it can."""
    beside = path.with_name(path.name + ".probe")
    try:
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            if not file.exists():
                continue
            _require_writeable(file)
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            if most != resource.RLIM_INFINITY and file.stat().st_size + PROBE_BYTES > most:
                return StoreFullError(f"store is full: {file}: files may have {most} bytes (ulimit -f)")
        try:
            with beside.open("wb") as probe:
                probe.write(bytes(PROBE_BYTES))
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        return _of_system(error.errno, f"{path}: {error.strerror}")
    return None


def _require_writeable(file: Path) -> None:
    """Raise OSError unless it can be written. It is not opened: closing it would give up SQLite's locks on it."""
    if os.statvfs(file).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(file, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _of_system(number: int | None, words: str) -> DaemonError | None:
    if number in ROOM:
        return StoreFullError(f"store is full: {words}")
    if number in REFUSED:
        return StoreReadOnlyError(f"store is read-only: {words}")
    return None
