"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """All tables, their indices, and the one row of ``leader``."""
    _create_tables()
    ended, in_array = sa.text("state >= 5"), sa.text("array_id IS NOT NULL")
    op.create_index("jobs_by_state", "jobs", ["state", "id", "owner", "queue", "group_name"])
    op.create_index("jobs_by_array", "jobs", ["array_id", "id"], sqlite_where=in_array, postgresql_where=in_array)
    for column in ("owner", "queue", "group_name"):
        op.create_index(f"ended_by_{column}", "jobs", [column, "id"], sqlite_where=ended, postgresql_where=ended)
    op.execute("INSERT INTO leader VALUES (1, '', '', 0, 0, 0)")


def _create_tables() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("group_name", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("tasks", sa.Integer, nullable=False),
        sa.Column("submit_s", sa.Double, nullable=False),
        sa.Column("eligible_s", sa.Double, nullable=False),
        sa.Column("array_id", NUMBER),
        sa.Column("array_index", NUMBER),
        sa.Column("array_limit", sa.Integer, nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("start_s", sa.Double),
        sa.Column("end_s", sa.Double),
        sa.Column("exit_code", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("queued_s", sa.Double),
        sa.Column("work_kept_s", sa.Double, nullable=False, server_default="0"),
        sa.Column("attained_s", sa.Double, nullable=False, server_default="0"),
    )
    op.create_table(
        "name_blocks",
        sa.Column("block", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("names", sa.Text, nullable=False),
    )
    op.create_table(
        "attempts",
        sa.Column("job", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("placement", sa.Text, nullable=False),
        sa.Column("assigned_s", sa.Double, nullable=False),
        sa.Column("start_s", sa.Double),
        sa.Column("end_s", sa.Double),
        sa.Column("exit_code", sa.Integer),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("token", NUMBER, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt_nodes",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("job", NUMBER, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("registration", NUMBER, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("health", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("is_drained", sa.Boolean, nullable=False),
        sa.Column("drain_deadline_s", sa.Double),
        sa.Column("description", sa.LargeBinary, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("job", NUMBER),
        sa.Column("last_job", NUMBER),
        sa.Column("attempt", sa.Integer),
        sa.Column("node", sa.Text),
        sa.Column("cause", NUMBER),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_table(
        "usage",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("usage_s", sa.Double, nullable=False),
        sa.Column("held", sa.Double, nullable=False),
        sa.Column("since_s", sa.Double, nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request_sha256", sa.LargeBinary, nullable=False),
        sa.Column("first_job", NUMBER, nullable=False),
        sa.Column("num_jobs", sa.Integer, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "histories",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("values", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "leader",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("token", NUMBER, nullable=False),
        sa.Column("renewed_at", sa.Double, nullable=False),
        sa.Column("lease_s", sa.Double, nullable=False),
    )
    op.create_table(
        "probes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("filler", sa.LargeBinary, nullable=False),
    )
