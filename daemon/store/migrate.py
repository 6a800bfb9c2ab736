"""Brings a store's tables up to date, and refuses those of a later version."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, inspect

from shunter.daemon.errors import StoreError
from shunter.daemon.store.schema import REVISION

LOCK = 0x5348_554E  # "SHUN": number of PostgreSQL's advisory lock


def revision(connection: Connection) -> str | None:
    """Of the tables that are there; None: there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def upgrade(connection: Connection, to: str = REVISION) -> bool:
    """Take every step that is missing, within the transaction that is open, one process at a time.

    SQLite's transaction of a writer is a lock by itself.

    Returns:
        Whether there was anything to do.

    Raises:
        StoreError: A later version has written it.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    found = revision(connection)
    if found == to:
        return False
    from alembic import command

    known = revisions()
    if found is not None and found not in known:
        raise StoreError(_newer(found))
    command.upgrade(_config(connection), to)
    return True


def revisions() -> list[str]:
    """All steps that this version knows, first to last."""
    from alembic.script import ScriptDirectory

    steps = ScriptDirectory.from_config(_config(None)).walk_revisions()
    return [step.revision for step in steps][::-1]


def check(connection: Connection) -> None:
    """See that the tables are of this version.

    Raises:
        StoreError: They are of another, or not there.
    """
    found = revision(connection)
    if found == REVISION:
        return
    if found is None:
        raise StoreError("store: there is nothing there yet; a daemon makes the tables when it first leads")
    raise StoreError(
        _newer(found) if found > REVISION else f"store: tables of version {found}; starting the daemon brings them up"
    )


def _newer(found: str) -> str:
    return f"store: tables of version {found} were made by a later Shunter; this one knows up to {REVISION}"


def _config(connection: Connection | None) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "shunter.daemon.store:migrations")
    config.attributes["connection"] = connection
    return config
