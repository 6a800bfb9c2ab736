"""The store's tables as they are now; ``migrations`` makes them, step by step, in every store that exists.

The same definitions serve SQLite and PostgreSQL. Column order is that of the tuples in ``rows``.

Lists go newest first through indices that hold ended jobs only, and an index on the state that also has what users
filter by. So a new job enters one index beside its table, which is what makes storing one cheap; the others are paid
for when it ends.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

REVISION = "0001"
"""Of these definitions: the last one of ``migrations``."""

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""64 bits; SQLite takes a column for its row id only by the name INTEGER."""

FIRST_ENDED = 5
"""The lowest state of a job that has ended (``JobState.COMPLETED``); part of the definitions of indices."""

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=False),
    Column("owner", Text, nullable=False),
    Column("group_name", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("tasks", Integer, nullable=False),
    Column("submit_s", Double, nullable=False),
    Column("eligible_s", Double, nullable=False),
    Column("array_id", NUMBER),
    Column("array_index", NUMBER),
    Column("array_limit", Integer, nullable=False),
    Column("version", NUMBER, nullable=False),
    Column("spec", LargeBinary, nullable=False),
    Column("start_s", Double),
    Column("end_s", Double),
    Column("exit_code", Integer),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("queued_s", Double),
    Column("work_kept_s", Double, nullable=False, server_default="0"),
    Column("attained_s", Double, nullable=False, server_default="0"),
)

_ENDED = text(f"state >= {FIRST_ENDED}")
_IN_ARRAY = text("array_id IS NOT NULL")

Index("jobs_by_state", jobs.c.state, jobs.c.id, jobs.c.owner, jobs.c.queue, jobs.c.group_name)
Index("jobs_by_array", jobs.c.array_id, jobs.c.id, sqlite_where=_IN_ARRAY, postgresql_where=_IN_ARRAY)
for _column in (jobs.c.owner, jobs.c.queue, jobs.c.group_name):
    Index(f"ended_by_{_column.name}", _column, jobs.c.id, sqlite_where=_ENDED, postgresql_where=_ENDED)

name_blocks = Table(
    "name_blocks",
    metadata,
    Column("block", NUMBER, primary_key=True, autoincrement=False),
    Column("names", Text, nullable=False),
)
"""Names of jobs in lower case, a line each, ``names.BLOCK`` of them in a row: parts of names are looked up there."""

attempts = Table(
    "attempts",
    metadata,
    Column("job", NUMBER, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("placement", Text, nullable=False),
    Column("assigned_s", Double, nullable=False),
    Column("start_s", Double),
    Column("end_s", Double),
    Column("exit_code", Integer),
    Column("cause", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("token", NUMBER, nullable=False),
    sqlite_with_rowid=False,
)

attempt_nodes = Table(
    "attempt_nodes",
    metadata,
    Column("node", Text, primary_key=True),
    Column("job", NUMBER, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which jobs have an attempt on a node."""

nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("registration", NUMBER, nullable=False),
    Column("instance", Text, nullable=False),
    Column("health", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("is_drained", Boolean, nullable=False),
    Column("drain_deadline_s", Double),
    Column("description", LargeBinary, nullable=False),
    Column("facts", Text, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("at_s", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("job", NUMBER),
    Column("last_job", NUMBER),
    Column("attempt", Integer),
    Column("node", Text),
    Column("cause", NUMBER),
    Column("state", SmallInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("message", Text, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("usage_s", Double, nullable=False),
    Column("held", Double, nullable=False),
    Column("since_s", Double, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("first_job", NUMBER, nullable=False),
    Column("num_jobs", Integer, nullable=False),
    Column("at_s", Double, nullable=False),
    sqlite_with_rowid=False,
)

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

histories = Table(
    "histories",
    metadata,
    Column("key", Text, primary_key=True),
    Column("values", LargeBinary, nullable=False),
)

leader = Table(
    "leader",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("holder", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("token", NUMBER, nullable=False),
    Column("renewed_at", Double, nullable=False),
    Column("lease_s", Double, nullable=False),
)
"""One row: who leads. Times are the database's, in seconds since the Unix epoch."""

probes = Table(
    "probes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("filler", LargeBinary, nullable=False),
)
"""Written by ``recover`` to see whether there is room again; empty otherwise."""
