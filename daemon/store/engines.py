"""Connections to the database that a URL names: one that writes, and a pool that reads.

SQLite is opened with a write-ahead log and full synchronisation: what is committed has reached the disk, and readers
never wait for the writer. Its index of the log (``-shm``) is mapped into memory, so that other processes can read, too:
a file system that is made read-only under it by force may end the process (SIGBUS), which loses nothing. PostgreSQL
ends a transaction whose client stands still (``STILL_MS``), because until then the rows that it has locked would keep
another daemon from taking over.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from shunter.daemon.errors import StoreError

READERS = 4
BUSY_S = 10.0
"""How long SQLite waits for another process that writes, such as one that takes a backup's checkpoint."""
CHECKPOINT_PAGES = 4000
"""Pages of 4 kB in the write-ahead log at which they are moved into the database."""
STILL_MS = 2000
STATEMENT_MS = 60_000
CONNECT_S = 5
KEEP_ALIVE = {"keepalives": 1, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store lies.

    Attributes:
        url: As SQLAlchemy wants it.
        path: Of the database file; None with PostgreSQL.
    """

    url: URL
    path: Path | None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is one file."""
        return self.path is not None


def place_of(url: str) -> Place:
    """Where the store of a URL lies.

    Raises:
        StoreError: Neither ``sqlite:///PATH`` nor ``postgresql+psycopg://…``.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"store: {url!r} is no URL; expected sqlite:///PATH or postgresql+psycopg://…") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        name = parsed.database
        if not name or name == ":memory:" or parsed.query:
            raise StoreError(f"store: {url!r} names no file; expected sqlite:///PATH")
        return Place(parsed, Path(name).absolute())
    if backend == "postgresql":
        return Place(parsed.set(drivername="postgresql+psycopg"), None)
    raise StoreError(f"store: {backend!r} is not supported; expected sqlite:///PATH or postgresql+psycopg://…")


def writing(place: Place) -> Engine:
    """The engine of the one connection that writes."""
    if place.path is not None:
        create_file(place.path)
        return _sqlite(place, NullPool, "BEGIN IMMEDIATE", (f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}",))
    return _postgres(place, {"idle_in_transaction_session_timeout": STILL_MS}, poolclass=NullPool)


def reading(place: Place) -> Engine:
    """The engine of the pool that reads: every transaction sees one state of the store."""
    if place.is_sqlite:
        return _sqlite(place, QueuePool, "BEGIN", ("PRAGMA query_only=ON",))
    options = {"default_transaction_read_only": "on"}
    return _postgres(place, options, pool_size=READERS, pool_pre_ping=True, isolation_level="REPEATABLE READ")


def leasing(place: Place) -> Engine:
    """The engine of PostgreSQL that keeps a lease: never waits for longer than a lease may last."""
    options = {
        "idle_in_transaction_session_timeout": STILL_MS,
        "statement_timeout": STATEMENT_MS,
        "lock_timeout": 2 * STILL_MS,
    }
    return _postgres(place, options, pool_size=1, max_overflow=1, pool_pre_ping=True)


def create_file(path: Path) -> None:
    """An empty file that only its owner may read, where there is none: jobs' environments may hold secrets."""
    # One that is there is never opened here: closing a file gives up all locks that the process has on it (POSIX),
    # those of SQLite's connections too, and whoever opened the database next would take the log away from under them.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _sqlite(place: Place, pool: type[Any], begin: str, pragmas: tuple[str, ...]) -> Engine:
    sizes = {"pool_size": READERS} if pool is QueuePool else {}
    engine = create_engine(
        place.url,
        poolclass=pool,
        connect_args={"check_same_thread": False, "timeout": BUSY_S, "isolation_level": None},
        **sizes,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        for pragma in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *pragmas):
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def begin_it(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres(place: Place, options: dict[str, Any], **arguments: Any) -> Engine:
    options = {"statement_timeout": STATEMENT_MS, "synchronous_commit": "on"} | options
    settings = " ".join(f"-c {name}={value}" for name, value in options.items())
    return create_engine(
        place.url,
        connect_args={"options": settings, "connect_timeout": CONNECT_S, "application_name": "shunter"} | KEEP_ALIVE,
        **arguments,
    )
