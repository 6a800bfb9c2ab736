"""Rows made up for tests."""

from __future__ import annotations

from dataclasses import replace

from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.store.rows import (
    AttemptRow,
    Change,
    EventRow,
    HistoryRow,
    IdempotencyRow,
    JobQuery,
    JobRow,
    JobUpdate,
    NodeRow,
    SettingRow,
    UsageRow,
)

NOW_S = 1_700_000_000.0


def job(number: int, **changed: object) -> JobRow:
    """A job that waits."""
    row = JobRow(
        id=number,
        owner="ann",
        group_name="lab",
        queue="normal",
        name=f"train-{number}",
        state=JobState.PENDING,
        reason=Reason.NEW,
        priority=0,
        tasks=1,
        submit_s=NOW_S + number,
        eligible_s=0.0,
        array_id=None,
        array_index=None,
        array_limit=0,
        version=number,
        spec=b"\x00spec\xff",
    )
    return row._replace(**changed)  # type: ignore[arg-type]


def update(number: int, **changed: object) -> JobUpdate:
    """A job that runs."""
    row = JobUpdate(
        state=JobState.RUNNING,
        reason=Reason.NONE,
        priority=3,
        eligible_s=1.5,
        start_s=NOW_S + 10,
        end_s=None,
        exit_code=None,
        attempts=1,
        failures=0,
        queued_s=NOW_S + 1,
        work_kept_s=2.5,
        attained_s=7.25,
        version=number + 1000,
        id=number,
    )
    return row._replace(**changed)  # type: ignore[arg-type]


def ended(number: int, **changed: object) -> JobUpdate:
    """A job that has ended."""
    changed = {"state": JobState.COMPLETED, "reason": Reason.COMPLETED, "end_s": NOW_S + 50, "exit_code": 0} | changed
    return update(number, **changed)


def event(number: int, **changed: object) -> EventRow:
    """Something that happened to the job of the same number."""
    row = EventRow(number, NOW_S + number, "submitted", number, number, None, None, None, 1, "ann", "")
    return row._replace(**changed)  # type: ignore[arg-type]


def attempt(number: int, nth: int = 1, nodes: tuple[str, ...] = ("n1",), **changed: object) -> AttemptRow:
    """An attempt of a job on nodes."""
    placement = "[" + ", ".join(f'{{"node": "{node}", "tasks": 1}}' for node in nodes) + "]"
    row = AttemptRow(number, nth, placement, NOW_S + 5, None, None, None, "", "", 1)
    return row._replace(**changed)  # type: ignore[arg-type]


def node(name: str, **changed: object) -> NodeRow:
    """A healthy node."""
    row = NodeRow(name, 1, "abc", "healthy", "", False, None, b"\x08\x01", "{}")
    return row._replace(**changed)  # type: ignore[arg-type]


def key(number: int, **changed: object) -> IdempotencyRow:
    """A call that made one job."""
    row = IdempotencyRow("ann", f"key-{number}", bytes(range(32)), number, 1, NOW_S + number)
    return row._replace(**changed)  # type: ignore[arg-type]


def submission(number: int, **changed: object) -> Change:
    """One job, its event and its key."""
    return Change(events=[event(number)], jobs=[job(number, **changed)], idempotency=[key(number)])


def everything() -> Change:
    """A change with rows of every kind."""
    return Change(
        events=[event(1), event(2, job=None, last_job=None, node="n1", cause=1, owner="", message="Grüße, 'q' %s ?")],
        jobs=[job(1), job(2, array_id=2, array_index=7, array_limit=1), job(3, spec=b"")],
        updates=[update(2), ended(3)],
        attempts=[attempt(2, nodes=("n1", "n2")), attempt(3, end_s=NOW_S + 50, exit_code=0)],
        nodes=[node("n2", is_drained=True, drain_deadline_s=NOW_S), node("n1")],
        usage=[UsageRow("ann", 1.5, 2.0, NOW_S)],
        idempotency=[key(1)],
        settings=[SettingRow("mode", '"shadow"')],
        histories=[HistoryRow("u:ann", b"\x00\x01\xfe")],
    )


def only(**wanted: object) -> JobQuery:
    """A query of one filter."""
    return replace(JobQuery(), **wanted)  # type: ignore[arg-type]
