"""One transaction for all changes of a group: all of it is stored, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from shunter.daemon.errors import FencedError
from shunter.daemon.store.names import BLOCK, Tail, block_text
from shunter.daemon.store.rows import AttemptRow, Change
from shunter.daemon.store.statements import statements_of

Work = Callable[[Connection], None]
"""Something else to be done within a group's transaction, such as deleting what is old."""

PROBE_BYTES = 256 * 1024
HIGHEST = 2**63 - 1


class Transaction:
    """Stores groups on a connection, and remembers what that saves asking the database for.

    A new one is made after every failure, so that what it remembers is never ahead of the store.

    Args:
        connection: Of the engine that writes.
        token: Fencing token, checked in every transaction.
    """

    def __init__(self, connection: Connection, token: int) -> None:
        self._connection = connection
        self._token = token
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._mark = "?" if self._is_sqlite else "%s"
        self._sql = statements_of(self._mark)
        self._tail: Tail | None = None
        self._placed: set[tuple[int, int]] = set()

    def store(self, changes: Sequence[Change], works: Iterable[Work]) -> None:
        """Store changes and do works, in one transaction.

        Raises:
            FencedError: Another token is the highest.
            SQLAlchemyError: From the database.
        """
        with self._connection.begin():
            tail, placed = self._insert(changes)
            for work in works:
                work(self._connection)
            self._check_token()
        self._tail = tail
        self._placed = placed

    def probe(self) -> None:
        """See that transactions of some size can be stored; leaves nothing behind."""
        insert = f"INSERT INTO probes (id, filler) VALUES ({self._mark}, {self._mark})"
        with self._connection.begin():
            self._connection.exec_driver_sql("DELETE FROM probes")
            self._connection.exec_driver_sql(insert, (1, bytes(PROBE_BYTES)))
            self._check_token()
        with self._connection.begin():
            self._connection.exec_driver_sql("DELETE FROM probes")

    def _check_token(self) -> None:
        """Last in the transaction: PostgreSQL locks the row until the commit, and a new leader waits for that."""
        lock = "" if self._is_sqlite else " FOR SHARE"
        found = self._connection.exec_driver_sql(f"SELECT token FROM leader WHERE id = 1{lock}").scalar()
        if found != self._token:
            raise FencedError(f"store: written with token {self._token}, but the highest is {found}")

    def _insert(self, changes: Sequence[Change]) -> tuple[Tail | None, set[tuple[int, int]]]:
        sql, placed, tail = self._sql, self._placed, self._tail
        jobs = _joined([change.jobs for change in changes])
        if jobs:
            self._run(sql.jobs, jobs)
        self._run(sql.updates, _last(_joined([change.updates for change in changes]), -1))
        attempts = _joined([change.attempts for change in changes])
        if attempts:
            attempts = list({row[:2]: row for row in attempts}.values())
            self._run(sql.attempts, attempts)
            placed = self._note_nodes(attempts)
        self._run(sql.nodes, _last(_joined([change.nodes for change in changes])))
        self._run(sql.usage, _last(_joined([change.usage for change in changes])))
        keys = _joined([change.idempotency for change in changes])
        if keys:
            self._run(sql.idempotency, list({row[:2]: row for row in keys}.values()))
        self._run(sql.settings, _last(_joined([change.settings for change in changes])))
        self._run(sql.histories, _last(_joined([change.histories for change in changes])))
        self._run(sql.events, _joined([change.events for change in changes]))
        if jobs:
            tail = self._write_blocks([(row[0], row[4]) for row in jobs])
        return tail, placed

    def _run(self, sql: str, rows: Sequence[Any]) -> None:
        if rows:
            self._connection.exec_driver_sql(sql, rows)

    def _note_nodes(self, attempts: Sequence[AttemptRow]) -> set[tuple[int, int]]:
        """Which node has which job; an attempt never moves, so it is looked at once while it lasts."""
        fresh = [row for row in attempts if row[:2] not in self._placed]
        pairs = {(part["node"], row.job) for row in fresh for part in json.loads(row.placement)}
        self._run(self._sql.attempt_nodes, sorted(pairs))
        ended = {row[:2] for row in attempts if row.end_s is not None}
        return (self._placed | {row[:2] for row in fresh}) - ended

    def _write_blocks(self, jobs: Sequence[tuple[int, str]]) -> Tail:
        tail, texts, late = (self._tail or self._read_tail()).with_jobs(jobs)
        for block in late:
            texts[block] = block_text(block, self._names(block * BLOCK, (block + 1) * BLOCK))
        self._run(self._sql.name_block, sorted(texts.items()))
        return tail

    def _read_tail(self) -> Tail:
        """The jobs beyond the last block; those being stored are among them."""
        last = self._connection.exec_driver_sql("SELECT MAX(block) FROM name_blocks").scalar()
        if last is None:
            lowest = self._connection.exec_driver_sql("SELECT MIN(id) FROM jobs").scalar()
            last = int(lowest or 0) // BLOCK - 1
        return Tail(last + 1, self._names((last + 1) * BLOCK, HIGHEST))

    def _names(self, first: int, before: int) -> list[tuple[int, str]]:
        read = f"SELECT id, name FROM jobs WHERE id >= {self._mark} AND id < {self._mark}"
        return [(job, name) for job, name in self._connection.exec_driver_sql(read, (first, before))]


def _joined(lists: list[list[Any]]) -> list[Any]:
    if len(lists) == 1:
        return lists[0]
    return [row for rows in lists for row in rows]


def _last(rows: list[Any], key: int = 0) -> list[Any]:
    """Of rows with the same key the last: one statement of PostgreSQL may not change a row twice."""
    if len(rows) < 2:
        return rows
    return list({row[key]: row for row in rows}.values())
