"""Who leads, and the fencing token that rises with every change of it.

With SQLite the leader holds a lock (``flock``) on a file beside the database for as long as its process lives: a second
daemon on the same file is told who holds it. With PostgreSQL the leader renews a row before its lease ends; when it has
not, by the clock of the database, another takes over. In both the token is raised in the database, and every
transaction that writes compares it (``writing.Transaction``): whoever was paused past its lease is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

from shunter.daemon.errors import FencedError
from shunter.daemon.store import engines, migrate
from shunter.daemon.store.faults import translated

NOW = {"sqlite": "(julianday('now') - 2440587.5) * 86400.0", "postgresql": "extract(epoch from clock_timestamp())"}
"""The database's clock, in seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, or led last.

    Attributes:
        holder: Name of the daemon; "": it has given up its lease, or there never was one.
        address: Where it serves.
        token: Its fencing token.
        left_s: Of its lease; 0 or below: it has run out. Infinite with a lock of SQLite that is held.
    """

    holder: str
    address: str
    token: int
    left_s: float


class Lease(Protocol):
    """Leadership of one store.

    Raises (all methods):
        StoreError: The store cannot be asked.
    """

    def acquire(self, lease_s: float) -> int | None:
        """The fencing token of a new term; None: somebody else leads."""
        ...

    def renew(self, token: int, lease_s: float) -> None:
        """Lead for so long from now.

        Raises:
            FencedError: Somebody else has taken over.
        """
        ...

    def release(self, token: int) -> None:
        """Let somebody else take over at once. Nothing happens when somebody has."""
        ...

    def current(self) -> Leader:
        """Who leads."""
        ...

    def close(self) -> None:
        """Let go of connections and locks; a lease with PostgreSQL stays until it runs out or was released."""
        ...


def open_lease(url: str, *, holder: str, address: str = "") -> Lease:
    """Make a store ready to be led: creates its tables, or brings them up to date.

    Args:
        url: As for ``open_store``.
        holder: Of this process and no other, such as host:pid:random.
        address: Where it serves, for those who ask a follower.

    Raises:
        StoreError: The store cannot be opened, or a later version has written it.
    """
    place = engines.place_of(url)
    with translated(place.path):
        if place.path is not None:
            return FileLease(place, place.path, holder, address)
        return RowLease(place, holder, address)


class FileLease:
    """A lock beside SQLite's file. The tables are made when it is acquired, by nobody else.

    Args:
        place: The store.
        path: Of its file.
        holder: This process.
        address: Where it serves.
    """

    def __init__(self, place: engines.Place, path: Path, holder: str, address: str) -> None:
        self._place = place
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._holder, self._address = holder, address
        self._lock: int | None = None
        self._token: int | None = None

    def acquire(self, lease_s: float) -> int | None:
        """Take the lock, unless another process has it."""
        with translated(self._path):
            if self._lock is None and not self._take_lock():
                return None
            try:
                self._token = self._raise_token(lease_s)
            except BaseException:
                self.close()
                raise
        return self._token

    def renew(self, token: int, lease_s: float) -> None:  # noqa: ARG002  a lock has no end
        """The lock holds by itself."""
        if self._lock is None or token != self._token:
            raise FencedError(f"lease: token {token} is not that of the lock")

    def release(self, token: int) -> None:
        """Give the lock up."""
        if token == self._token:
            self.close()

    def current(self) -> Leader:
        """Who has written its name into the lock's file, and whether the lock is held."""
        with translated(self._path):
            if self._lock is not None:
                return Leader(self._holder, self._address, self._token or 0, float("inf"))
            try:
                file = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return Leader("", "", 0, 0.0)
            try:
                told = _told(file)
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return Leader(told.holder, told.address, told.token, float("inf"))
                return told
            finally:
                os.close(file)

    def close(self) -> None:
        """Give the lock up."""
        lock, self._lock = self._lock, None
        self._token = None
        if lock is not None:
            os.close(lock)

    def _take_lock(self) -> bool:
        file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._lock = file
        return True

    def _raise_token(self, lease_s: float) -> int:
        engine = engines.writing(self._place)
        try:
            with engine.connect() as connection, connection.begin():
                migrate.upgrade(connection)
                token = _take_over(connection, self._holder, self._address, lease_s, of_anybody=True)
        finally:
            engine.dispose()
        assert token is not None
        assert self._lock is not None
        told = {"holder": self._holder, "address": self._address, "token": token, "pid": os.getpid()}
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(told).encode() + b"\n", 0)
        return token


class RowLease:
    """A row of PostgreSQL.

    Args:
        place: The store.
        holder: This process.
        address: Where it serves.
    """

    def __init__(self, place: engines.Place, holder: str, address: str) -> None:
        self._holder, self._address = holder, address
        self._engine: Engine = engines.leasing(place)
        try:
            with self._engine.connect() as connection, connection.begin():
                migrate.upgrade(connection)
        except BaseException:
            self._engine.dispose()
            raise

    def acquire(self, lease_s: float) -> int | None:
        """Take over when the lease of the last leader has run out or was released."""
        with translated(None), self._engine.connect() as connection, connection.begin():
            return _take_over(connection, self._holder, self._address, lease_s, of_anybody=False)

    def renew(self, token: int, lease_s: float) -> None:
        """Lead for so long from now."""
        sql = f"UPDATE leader SET renewed_at = {NOW['postgresql']}, lease_s = %s WHERE id = 1 AND token = %s"
        with translated(None), self._engine.connect() as connection, connection.begin():
            renewed = connection.exec_driver_sql(sql, (lease_s, token)).rowcount
        if not renewed:
            raise FencedError(f"lease: token {token} is no longer the highest: another daemon leads")

    def release(self, token: int) -> None:
        """Let somebody else take over at once."""
        with translated(None), self._engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(
                "UPDATE leader SET holder = '', lease_s = 0 WHERE id = 1 AND token = %s", (token,)
            )

    def current(self) -> Leader:
        """Who leads, by the database's clock."""
        sql = f"SELECT holder, address, token, renewed_at + lease_s - {NOW['postgresql']} FROM leader WHERE id = 1"
        with translated(None), self._engine.connect() as connection:
            holder, address, token, left_s = connection.exec_driver_sql(sql).one()
        return Leader(holder, address, token, left_s if holder else 0.0)

    def close(self) -> None:
        """Let go of connections."""
        self._engine.dispose()


def _take_over(connection: Connection, holder: str, address: str, lease_s: float, *, of_anybody: bool) -> int | None:
    """Raise the token, where the last lease has run out or ``of_anybody``; None: it has not."""
    name = connection.dialect.name
    mark = "?" if name == "sqlite" else "%s"
    now = NOW[name]
    free = "" if of_anybody else f" AND (holder = '' OR renewed_at + lease_s < {now})"
    sql = (
        f"UPDATE leader SET holder = {mark}, address = {mark}, token = token + 1, renewed_at = {now}, "
        f"lease_s = {mark} WHERE id = 1{free}"
    )
    if not connection.exec_driver_sql(sql, (holder, address, lease_s)).rowcount:
        return None
    return int(connection.exec_driver_sql("SELECT token FROM leader WHERE id = 1").scalar_one())


def _told(file: int) -> Leader:
    try:
        told = json.loads(os.pread(file, 4096, 0))
        return Leader(str(told["holder"]), str(told["address"]), int(told["token"]), 0.0)
    except (ValueError, KeyError, TypeError):
        return Leader("", "", 0, 0.0)  # between taking the lock and writing into it
