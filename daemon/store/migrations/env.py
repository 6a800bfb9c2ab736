"""What Alembic runs: the steps on the connection handed over, in the transaction that is open there."""

from __future__ import annotations

from alembic import context

from shunter.daemon.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    compare_type=True,
)
context.run_migrations()
