"""A store as one file: moved between SQLite and PostgreSQL, or kept as a backup.

The file is a stream of lines of JSON, compressed with Zstandard: a header, one line ``[table, [values…]]`` for every
row, and a footer with the number of rows and the SHA-256 of all lines before it. A file is read to its end, and its
checksum compared, before the first row of it is stored; and all rows are stored in one transaction.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from sqlalchemy import Connection, LargeBinary, Table, select

from shunter.daemon.errors import FencedError, StoreError
from shunter.daemon.store import schema
from shunter.daemon.store.engines import BUSY_S, place_of, writing
from shunter.daemon.store.faults import translated
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.sql_store import SqlStore, open_store

FORMAT = "shunter-store"
VERSION = 1
"""Of the file's layout; columns go by the revision of the tables."""

ROWS_AT_ONCE = 1000
PAGES_AT_ONCE = 1024
BYTES_AT_ONCE = 64 * 1024
LEASE_S = 60.0

TABLES: tuple[Table, ...] = (
    schema.jobs,
    schema.name_blocks,
    schema.attempts,
    schema.attempt_nodes,
    schema.nodes,
    schema.events,
    schema.usage,
    schema.idempotency,
    schema.settings,
    schema.histories,
)

Progress = Callable[[int, int], None]
"""Told now and then: rows or pages done, and how many there are; 0 where that is not known."""


def _nobody(_done: int, _of: int) -> None:
    """Nobody looks."""


def export_to(store: SqlStore, path: Path, progress: Progress = _nobody) -> int:
    """Write one state of a store, which may be in use, into a file that appears when it is whole.

    Returns:
        Rows written.

    Raises:
        StoreError: It cannot be read, or the file not be written.
    """
    partial = path.with_name(path.name + ".partial")
    with translated(None):
        try:
            with partial.open("wb") as file, store.reading() as connection:
                os.fchmod(file.fileno(), 0o600)
                rows = _export(connection, file, progress)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return rows


def import_from(path: Path, url: str, progress: Progress = _nobody) -> int:
    """Fill a store that is empty, or not there yet, from a file; fencing tokens go on from those of the file.

    Returns:
        Rows read.

    Raises:
        StoreError: The file is cut off, altered or of another version; the store is in use or not empty.
    """
    with translated(None):
        header = _verified(path)
    lease = open_lease(url, holder="import")
    token = None
    try:
        token = lease.acquire(LEASE_S)
        if token is None:
            raise StoreError(f"store: {lease.current().holder} leads there; stop it first")
        token = _raise_token(url, token, header.token)
        store = open_store(url, token=token)
        try:
            return _filled(store, path, header, progress)
        finally:
            store.close()
    finally:
        if token is not None:
            lease.release(token)
        lease.close()


def _filled(store: SqlStore, path: Path, header: _Header, progress: Progress) -> int:
    rows = 0

    def fill(connection: Connection) -> None:
        nonlocal rows
        rows = _import(connection, path, header, progress)

    store.do(fill)
    return rows


def backup(store: SqlStore, path: Path, progress: Progress = _nobody) -> None:
    """Copy a store that may be in use: SQLite's as a database that a daemon can open, PostgreSQL's as an export.

    Raises:
        StoreError: It cannot be read, or the file not be written.
    """
    if store.place.path is None:
        export_to(store, path, progress)
        return
    partial = path.with_name(path.name + ".partial")
    with translated(store.place.path):
        try:
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            _copy(store.place.path, partial, progress)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _raise_token(url: str, token: int, over: int) -> int:
    """A token above all that the exported store ever gave out: agents of nodes remember the highest."""
    if token > over:
        return token
    place = place_of(url)
    engine = writing(place)
    try:
        with translated(place.path), engine.connect() as connection, connection.begin():
            changed = schema.leader.update().where(schema.leader.c.token == token).values(token=over + 1)
            if connection.execute(changed).rowcount != 1:
                raise FencedError(f"store: token {token} is no longer the highest")
    finally:
        engine.dispose()
    return over + 1


def _copy(source: Path, target: Path, progress: Progress) -> None:
    origin = sqlite3.connect(source, timeout=BUSY_S, isolation_level=None)
    copy = sqlite3.connect(target)
    try:
        # A state that is held: or else every change on the way would begin the copy anew.
        origin.execute("BEGIN")
        origin.execute("SELECT COUNT(*) FROM leader").fetchone()
        origin.backup(
            copy, pages=PAGES_AT_ONCE, progress=lambda _status, left, pages: progress(pages - left, pages), sleep=0.001
        )
        found = copy.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise StoreError(f"store: the copy of {source} is damaged: {found}")
    finally:
        copy.close()
        origin.close()


def _export(connection: Connection, file: BinaryIO, progress: Progress) -> int:
    sums = hashlib.sha256()
    rows = 0
    of = int(connection.exec_driver_sql("SELECT COUNT(*) FROM jobs").scalar_one())
    with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file, closefd=False) as out:

        def line(value: object) -> None:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
            sums.update(text)
            out.write(text)

        token = int(connection.execute(select(schema.leader.c.token)).scalar_one())
        line({"format": FORMAT, "version": VERSION, "revision": schema.REVISION, "token": token})
        for table in TABLES:
            order = list(table.primary_key.columns)
            found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table).order_by(*order))
            coded = _bytes_columns(table)
            for row in found:
                values = list(row)
                for place in coded:
                    values[place] = base64.b64encode(values[place]).decode()
                line([table.name, values])
                rows += 1
                if rows % ROWS_AT_ONCE == 0:
                    progress(min(rows, of), of)
        footer = {"rows": rows, "sha256": sums.hexdigest()}
        out.write(json.dumps(footer).encode() + b"\n")
    return rows


@dataclass(frozen=True, slots=True)
class _Header:
    rows: int
    token: int


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a file.

    Raises:
        StoreError: The compressed stream does not end where the file ends, or is damaged.
    """
    plain = zstandard.ZstdDecompressor().decompressobj()
    begun = b""
    try:
        with path.open("rb") as file:
            while not plain.eof and (packed := file.read(BYTES_AT_ONCE)):
                *whole, begun = (begun + plain.decompress(packed)).split(b"\n")
                for line in whole:
                    yield line + b"\n"
            if not plain.eof or plain.unused_data or file.read(1):
                raise StoreError(f"{path}: is cut off, or something was added to it")
    except zstandard.ZstdError as error:
        raise StoreError(f"{path}: is damaged, or no export of a store: {error}") from error
    if begun:
        yield begun


def _verified(path: Path) -> _Header:
    """Read a file to its end.

    Raises:
        StoreError: It is not what was written.
    """
    sums = hashlib.sha256()
    last = b""
    rows, token = -2, 0
    for line in _lines(path):
        if rows == -2:
            token = _token_of(path, line)
        else:
            sums.update(last)
        last = line
        rows += 1
    try:
        footer = json.loads(last)
        told = (footer["rows"], footer["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: is cut off: its last line is missing") from error
    if told != (rows, sums.hexdigest()):
        raise StoreError(f"{path}: is cut off or altered: its checksum is not that of its last line")
    return _Header(rows, token)


def _token_of(path: Path, line: bytes) -> int:
    """Fencing token in the header of a file that this version can read."""
    try:
        header = json.loads(line)
        name, version, revision = header["format"], header["version"], header["revision"]
        token = int(header.get("token", 0))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: is no export of a store") from error
    if name != FORMAT:
        raise StoreError(f"{path}: is no export of a store")
    if (version, revision) != (VERSION, schema.REVISION):
        raise StoreError(
            f"{path}: has layout {version} and tables {revision}; this Shunter reads {VERSION} and {schema.REVISION}"
        )
    return token


def _import(connection: Connection, path: Path, header: _Header, progress: Progress) -> int:
    for table in TABLES:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise StoreError(f"store: is not empty: there are {table.name}")
    tables = {table.name: table for table in TABLES}
    lines = _lines(path)
    next(lines)
    rows = 0
    waiting: list[Any] = []
    current = ""
    for line in lines:
        value = json.loads(line)
        if not isinstance(value, list):
            break
        if value[0] != current or len(waiting) >= ROWS_AT_ONCE:
            _fill(connection, tables.get(current), waiting)
            progress(rows, header.rows)
            current, waiting = value[0], []
        waiting.append(value[1])
        rows += 1
    _fill(connection, tables.get(current), waiting)
    progress(rows, header.rows)
    return rows


def _fill(connection: Connection, table: Table | None, rows: list[list[Any]]) -> None:
    if table is None or not rows:
        return
    names = list(table.c.keys())
    for place in _bytes_columns(table):
        for row in rows:
            row[place] = base64.b64decode(row[place])
    connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])


def _bytes_columns(table: Table) -> list[int]:
    return [place for place, column in enumerate(table.c) if isinstance(column.type, LargeBinary)]
