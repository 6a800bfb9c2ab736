"""The statements that write, once for both databases, with the mark of the driver for a value.

Whole rows go by as plain tuples (``exec_driver_sql``): what SQLAlchemy does for each row would cost more than the row.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Table

from shunter.daemon.store import rows, schema

JOB_COLUMNS = rows.JobRow._fields
UPDATE_COLUMNS = rows.JobUpdate._fields
READ_JOB = ", ".join(
    f"jobs.{name}" if name != "queued_s" else "COALESCE(jobs.queued_s, jobs.submit_s)"
    for name in (*JOB_COLUMNS, *UPDATE_COLUMNS)
)
"""Columns of both rows, in their order: a job that was never changed has entered the queue when it was submitted."""


@dataclass(frozen=True, slots=True)
class Statements:
    """SQL for each list of ``Change``, and for what follows from it."""

    events: str
    jobs: str
    updates: str
    attempts: str
    attempt_nodes: str
    nodes: str
    usage: str
    idempotency: str
    settings: str
    histories: str
    name_block: str


def statements_of(mark: str) -> Statements:
    """For a driver that wants ``mark`` where a value goes, such as ``?`` or ``%s``."""
    changed = ", ".join(f"{name} = {mark}" for name in UPDATE_COLUMNS if name != "id")
    return Statements(
        events=_insert(schema.events, rows.EventRow._fields, mark),
        jobs=_insert(schema.jobs, JOB_COLUMNS, mark),
        updates=f"UPDATE jobs SET {changed} WHERE id = {mark}",
        attempts=_upsert(schema.attempts, rows.AttemptRow._fields, mark),
        attempt_nodes=_insert(schema.attempt_nodes, ("node", "job"), mark) + " ON CONFLICT DO NOTHING",
        nodes=_upsert(schema.nodes, rows.NodeRow._fields, mark),
        usage=_upsert(schema.usage, rows.UsageRow._fields, mark),
        idempotency=_upsert(schema.idempotency, rows.IdempotencyRow._fields, mark),
        settings=_upsert(schema.settings, rows.SettingRow._fields, mark),
        histories=_upsert(schema.histories, rows.HistoryRow._fields, mark),
        name_block=_upsert(schema.name_blocks, ("block", "names"), mark),
    )


def _insert(table: Table, names: tuple[str, ...], mark: str) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({", ".join([mark] * len(names))})'


def _upsert(table: Table, names: tuple[str, ...], mark: str) -> str:
    keys = [column.name for column in table.primary_key.columns]
    rest = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in keys)
    conflict = ", ".join(f'"{name}"' for name in keys)
    return f"{_insert(table, names, mark)} ON CONFLICT ({conflict}) DO UPDATE SET {rest}"
