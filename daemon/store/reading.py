"""What is asked of the store; every function sees one state of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest
from typing import Any

from sqlalchemy import Connection

from shunter.daemon.store.names import BLOCK, folded, ids_in
from shunter.daemon.store.rows import (
    AttemptRow,
    EventRow,
    IdempotencyRow,
    JobQuery,
    JobRow,
    JobUpdate,
    NodeRow,
    Stored,
    StoredJob,
    UsageRow,
)
from shunter.daemon.store.schema import FIRST_ENDED
from shunter.daemon.store.statements import READ_JOB

WIDTH = len(JobRow._fields)
IDS_AT_ONCE = 500
"""Ids in one statement; SQLite takes at most 999 values in old versions."""
LIVE = tuple(range(1, FIRST_ENDED))
RECENT_EVENTS = 1000
BLOCKS_READ = 64
BLOCKS_FOUND = 16


MOST_KEYS = 500
"""Idempotency keys that one statement asks for."""


class Reader:
    """Reads through a connection whose transaction is open.

    Args:
        connection: Of the engine that reads.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mark = "?" if connection.dialect.name == "sqlite" else "%s"

    @property
    def connection(self) -> Connection:
        """What it reads through."""
        return self._connection

    def load(self) -> Stored:
        """Everything that has not ended."""
        live = f"jobs.state < {FIRST_ENDED}"
        jobs = self._jobs(f"WHERE {live} ORDER BY jobs.id", ())
        attempts = ", ".join(f"attempts.{name}" for name in AttemptRow._fields)
        of_live = f"FROM jobs JOIN attempts ON attempts.job = jobs.id WHERE {live}"
        return Stored(
            jobs=jobs,
            attempts=[
                AttemptRow._make(row)
                for row in self._all(f"SELECT {attempts} {of_live} ORDER BY attempts.job, attempts.number")
            ],
            nodes=[_node(row) for row in self._all(f"SELECT {_names(NodeRow)} FROM nodes ORDER BY name")],
            usage=[UsageRow._make(row) for row in self._all(f'SELECT {_names(UsageRow)} FROM "usage" ORDER BY owner')],
            settings=dict(self._all("SELECT name, value FROM settings ORDER BY name")),
            histories={
                key: bytes(values) for key, values in self._all('SELECT "key", "values" FROM histories ORDER BY "key"')
            },
            last_event=self._number("SELECT MAX(number) FROM events"),
            last_job=self._number("SELECT MAX(id) FROM jobs"),
            last_s=self._last_s(),
        )

    def job(self, job: int) -> StoredJob | None:
        """One job."""
        found = self._jobs(f"WHERE jobs.id = {self._mark}", (job,))
        return found[0] if found else None

    def attempts(self, jobs: Sequence[int]) -> list[AttemptRow]:
        """Of these jobs, by (job, number)."""
        found: list[AttemptRow] = []
        for some in _portions(sorted(set(jobs))):
            sql = f"SELECT {_names(AttemptRow)} FROM attempts WHERE job IN ({self._marks(some)}) ORDER BY job, number"
            found += [AttemptRow._make(row) for row in self._all(sql, tuple(some))]
        return found

    def events(self, after: int, limit: int) -> list[EventRow]:
        """Those with a higher number."""
        sql = f"SELECT {_names(EventRow)} FROM events WHERE number > {self._mark} ORDER BY number LIMIT {self._mark}"
        return [EventRow._make(row) for row in self._all(sql, (after, limit))]

    def repeated(self, owner: str, key: str) -> IdempotencyRow | None:
        """The call with this key."""
        sql = f'SELECT {_names(IdempotencyRow)} FROM idempotency WHERE owner = {self._mark} AND "key" = {self._mark}'
        found = self._all(sql, (owner, key))
        if not found:
            return None
        row = IdempotencyRow._make(found[0])
        return row._replace(request_sha256=bytes(row.request_sha256))

    def repeated_calls(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], IdempotencyRow]:
        """Calls by (user, key)."""
        found: dict[tuple[str, str], IdempotencyRow] = {}
        keys_of: dict[str, list[str]] = {}
        for owner, key in asked:
            keys_of.setdefault(owner, []).append(key)
        for owner, keys in keys_of.items():
            for i in range(0, len(keys), MOST_KEYS):
                some = keys[i : i + MOST_KEYS]
                sql = f"SELECT {_names(IdempotencyRow)} FROM idempotency WHERE owner = {self._mark} "
                sql += f'AND "key" IN ({self._marks(some)})'
                for values in self._all(sql, (owner, *some)):
                    row = IdempotencyRow._make(values)
                    found[owner, row.key] = row._replace(request_sha256=bytes(row.request_sha256))
        return found

    def jobs(self, query: JobQuery) -> list[StoredJob]:
        """Newest first."""
        if query.limit <= 0:
            return []
        if query.name:
            return self._named(query)
        branches = list(self._branches(query))
        if len(branches) == 1:
            return self._jobs(*branches[0])
        found = [job for tail, values in branches for job in self._jobs(tail, values)]
        return nlargest(query.limit, found, key=lambda job: job.made.id)

    def _branches(self, query: JobQuery) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Statements that together have the newest matching jobs, each along one index."""
        if query.array or query.node or not (query.states or query.owner or query.queue or query.group):
            yield self._along("", query, query.states)
            return
        live = tuple(state for state in LIVE if not query.states or state in query.states)
        ended = tuple(state for state in query.states if state >= FIRST_ENDED)
        if not (query.owner or query.queue or query.group):
            for state in query.states:
                yield self._along(f"jobs.state = {int(state)}", query, ())
            return
        for state in live:
            yield self._along(f"jobs.state = {state}", query, ())
        if ended or not query.states:
            yield self._along(f"jobs.state >= {FIRST_ENDED}", query, ended)

    def _along(self, first: str, query: JobQuery, states: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        """The end of a statement: one state or all that have ended, and every other restriction."""
        terms, values = self._terms(query, states)
        join = ""
        order = "jobs.id"
        if query.node:
            join, order = "JOIN attempt_nodes AS at ON jobs.id = at.job", "at.job"
            terms, values = [f"at.node = {self._mark}", *terms], [query.node, *values]
        if query.before:
            terms.append(f"{order} < {self._mark}")
            values.append(query.before)
        where = " AND ".join([first, *terms] if first else terms)
        where = f"WHERE {where}" if where else ""
        return f"{join} {where} ORDER BY {order} DESC LIMIT {self._mark}", (*values, query.limit)

    def _terms(self, query: JobQuery, states: Sequence[int]) -> tuple[list[str], list[Any]]:
        pairs = (
            ("jobs.array_id", query.array),
            ("jobs.owner", query.owner),
            ("jobs.group_name", query.group),
            ("jobs.queue", query.queue),
        )
        terms = [f"{column} = {self._mark}" for column, wanted in pairs if wanted]
        values: list[Any] = [wanted for _, wanted in pairs if wanted]
        if states:
            terms.append(f"jobs.state IN ({', '.join(str(int(state)) for state in states)})")
        return terms, values

    def _named(self, query: JobQuery) -> list[StoredJob]:
        """With a part of the name: newest jobs one by one, then those that the blocks of names tell."""
        found: list[StoredJob] = []
        portion: list[int] = []
        for job in self._ids_named(folded(query.name), query.before):
            portion.append(job)
            if len(portion) >= min(IDS_AT_ONCE, 2 * query.limit):
                found += self._matching(portion, query)
                portion = []
                if len(found) >= query.limit:
                    break
        if portion:
            found += self._matching(portion, query)
        return found[: query.limit]

    def _ids_named(self, part: str, before: int) -> Iterator[int]:
        top = self._all("SELECT MAX(block) FROM name_blocks")[0][0]
        beyond = 0 if top is None else (top + 1) * BLOCK
        upper = before or self._number("SELECT MAX(id) FROM jobs") + 1
        recent = f"SELECT id, name FROM jobs WHERE id >= {self._mark} AND id < {self._mark} ORDER BY id DESC"
        for job, name in self._all(recent, (beyond, upper)):
            if part in folded(name):
                yield job
        # Python looks through a block twice as fast as SQLite does; PostgreSQL is spared sending all of them.
        there, most = ("", BLOCKS_READ) if self._mark == "?" else (" AND strpos(names, %s) > 0", BLOCKS_FOUND)
        sql = (
            f"SELECT block, names FROM name_blocks WHERE block <= {self._mark}{there} ORDER BY block DESC LIMIT {most}"
        )
        last = (upper - 1) // BLOCK
        while last >= 0:
            rows = self._all(sql, (last, part) if there else (last,))
            for block, text in rows:
                if part in text:
                    yield from ids_in(block, text, part, upper)
            last = rows[-1][0] - 1 if len(rows) == most else -1

    def _matching(self, ids: Sequence[int], query: JobQuery) -> list[StoredJob]:
        terms, values = self._terms(query, query.states)
        terms.append(f"jobs.id IN ({self._marks(ids)})")
        join = ""
        if query.node:
            join = "JOIN attempt_nodes AS at ON jobs.id = at.job"
            terms.append(f"at.node = {self._mark}")
        values = [*values, *ids, *([query.node] if query.node else [])]
        return self._jobs(f"{join} WHERE {' AND '.join(terms)} ORDER BY jobs.id DESC", tuple(values))

    def _jobs(self, tail: str, values: tuple[Any, ...]) -> list[StoredJob]:
        make, update = JobRow._make, JobUpdate._make
        rows = self._all(f"SELECT {READ_JOB} FROM jobs {tail}", values)
        return [StoredJob(make(row[:WIDTH]), update(row[WIDTH:])) for row in rows]

    def _last_s(self) -> float:
        """Times of events rise with their numbers, unless a clock was set back between two starts."""
        newest = f"SELECT at_s FROM events ORDER BY number DESC LIMIT {RECENT_EVENTS}"
        return float(self._all(f"SELECT MAX(at_s) FROM ({newest}) AS newest")[0][0] or 0.0)

    def _number(self, sql: str) -> int:
        return int(self._all(sql)[0][0] or 0)

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        result = self._connection.exec_driver_sql(sql, values) if values else self._connection.exec_driver_sql(sql)
        return list(result.cursor.fetchall())  # plain tuples: SQLAlchemy's rows take twice as long

    def _marks(self, values: Sequence[object]) -> str:
        return ", ".join([self._mark] * len(values))


def _names(row: type[Any]) -> str:
    return ", ".join(f'"{name}"' for name in row._fields)


def _node(row: tuple[Any, ...]) -> NodeRow:
    node = NodeRow._make(row)
    return node._replace(is_drained=bool(node.is_drained), description=bytes(node.description))


def _portions(values: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(values), IDS_AT_ONCE):
        yield values[first : first + IDS_AT_ONCE]
