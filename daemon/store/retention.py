"""Forgets what is old: jobs that have ended, events, keys of repeated calls; a bounded step at a time.

What is to go is looked for by readers, whom the writer never waits for, and deleted by the writer between groups of
changes. The highest job and the newest event always stay: numbers go on from them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from shunter.daemon.store.names import BLOCK
from shunter.daemon.store.schema import FIRST_ENDED
from shunter.daemon.store.sql_store import SqlStore

LOOK_AT = 20_000
"""Rows that a reader looks at in one step."""

STEP = 500
"""Rows, of each table, that one transaction deletes."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows have gone."""

    jobs: int
    events: int
    idempotency: int


def prune(
    store: SqlStore,
    before_s: float,
    keep_events: int,
    *,
    step: int = STEP,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Pruned:
    """Delete jobs that ended, and keys that were used, before a time, and all but the newest events.

    Args:
        store: That leads. Called from a thread that may wait.
        before_s: Time.
        keep_events: How many events stay, whatever their age; at least one.
        step: Rows in one transaction.
        is_wanted: Asked between steps; the rest is left when it says no.

    Raises:
        StoreError: As ``SqlStore.write``; steps that were taken stay.
    """
    jobs = keys = 0
    for ids in _ended(store, before_s):
        for some in _steps(ids, step):
            if is_wanted():
                store.do(partial(_delete_jobs, ids=some))
                jobs += len(some)
    for pairs in _keys(store, before_s):
        for some in _steps(pairs, step):
            if is_wanted():
                sql = 'DELETE FROM idempotency WHERE owner = ? AND "key" = ?'
                store.do(partial(_run, sql=sql, rows=some))
                keys += len(some)
    return Pruned(jobs, _prune_events(store, keep_events, step, is_wanted), keys)


def _ended(store: SqlStore, before_s: float) -> Iterator[list[int]]:
    after = 0
    while True:
        with store.reading() as connection:
            window = f"SELECT id, state, end_s FROM jobs WHERE id > {after} ORDER BY id LIMIT {LOOK_AT}"
            rows = connection.exec_driver_sql(window).all()
            highest = connection.exec_driver_sql("SELECT MAX(id) FROM jobs").scalar()
        if not rows:
            return
        after = rows[-1][0]
        yield [
            job
            for job, state, end_s in rows
            if state >= FIRST_ENDED and end_s is not None and end_s < before_s and job != highest
        ]


def _keys(store: SqlStore, before_s: float) -> Iterator[list[tuple[str, str]]]:
    owner, key = "", ""
    while True:
        with store.reading() as connection:
            sql = (
                'SELECT owner, "key", at_s FROM idempotency WHERE (owner, "key") > (?, ?) '
                f'ORDER BY owner, "key" LIMIT {LOOK_AT}'
            )
            rows = connection.exec_driver_sql(_marked(connection, sql), (owner, key)).all()
        if not rows:
            return
        owner, key = rows[-1][0], rows[-1][1]
        yield [(row[0], row[1]) for row in rows if row[2] < before_s]


def _prune_events(store: SqlStore, keep: int, step: int, is_wanted: Callable[[], bool]) -> int:
    with store.reading() as connection:
        first, last = connection.exec_driver_sql("SELECT MIN(number), MAX(number) FROM events").one()
    if first is None:
        return 0
    deleted = 0
    for lower in range(first, last - max(keep, 1) + 1, step):
        if not is_wanted():
            break
        upper = min(lower + step, last - max(keep, 1) + 1)
        sql = "DELETE FROM events WHERE number >= ? AND number < ?"
        store.do(partial(_run, sql=sql, rows=[(lower, upper)]))
        deleted += upper - lower
    return deleted


def _delete_jobs(connection: Connection, ids: Sequence[int]) -> None:
    """Jobs, their attempts and where these were, and blocks of names that have no job any more."""
    numbers = ", ".join(map(str, ids))
    rows = connection.exec_driver_sql(f"SELECT job, placement FROM attempts WHERE job IN ({numbers})").all()
    pairs = {(part["node"], job) for job, placement in rows for part in json.loads(placement)}
    _run(connection, "DELETE FROM attempt_nodes WHERE node = ? AND job = ?", sorted(pairs))
    connection.exec_driver_sql(f"DELETE FROM attempts WHERE job IN ({numbers})")
    connection.exec_driver_sql(f"DELETE FROM jobs WHERE id IN ({numbers})")
    for block in sorted({job // BLOCK for job in ids}):
        left = f"SELECT 1 FROM jobs WHERE id >= {block * BLOCK} AND id < {(block + 1) * BLOCK} LIMIT 1"
        if connection.exec_driver_sql(left).first() is None:
            connection.exec_driver_sql(f"DELETE FROM name_blocks WHERE block = {block}")


def _run(connection: Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(_marked(connection, sql), list(rows))


def _marked(connection: Connection, sql: str) -> str:
    """The statement with the driver's mark for a value."""
    return sql if connection.dialect.name == "sqlite" else sql.replace("?", "%s")


def _steps(rows: Sequence[Any], step: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(rows), step):
        yield rows[first : first + step]
