"""Rows of what has several parts, and back."""

from __future__ import annotations

import json

from shunter.daemon.health_facts import encode
from shunter.daemon.jobs import End, Phase, Reason
from shunter.daemon.live import LiveAttempt, LiveJob, LiveNode, Part
from shunter.daemon.store.rows import AttemptRow, NodeRow


def attempt_row(job: LiveJob, end_s: float | None = None, exit_code: int | None = None) -> AttemptRow:
    """The present attempt of a job."""
    attempt = job.attempt
    assert attempt is not None
    parts = [part_json(part) for part in attempt.parts.values()]
    parts[0]["held"] = attempt.held
    if attempt.stop_s is not None:
        parts[0]["stop_s"] = attempt.stop_s
    return AttemptRow(
        job=job.id,
        number=attempt.number,
        placement=json.dumps(parts, separators=(",", ":")),
        assigned_s=attempt.assigned_s,
        start_s=attempt.start_s,
        end_s=end_s,
        exit_code=exit_code,
        cause=attempt.cause,
        message=attempt.message,
        token=attempt.token,
    )


def part_json(part: Part) -> dict[str, object]:
    """What differs from the defaults."""
    row: dict[str, object] = {"node": part.node, "entries": part.entries, "phase": int(part.phase)}
    if part.end is not None:
        row["end"] = part.end
    for name in ("exit_code", "signal", "fence_s"):
        if getattr(part, name) is not None:
            row[name] = getattr(part, name)
    if part.message:
        row["message"] = part.message
    return row


def attempt_of(row: AttemptRow) -> LiveAttempt:
    """An attempt that has not ended, as it was stored."""
    stored = json.loads(row.placement)
    parts = [
        Part(
            node=part["node"],
            entries=tuple((tasks, mask) for tasks, mask in part["entries"]),
            phase=Phase(part["phase"]),
            end=End(part["end"]) if "end" in part else None,
            exit_code=part.get("exit_code"),
            signal=part.get("signal"),
            message=part.get("message", ""),
            fence_s=part.get("fence_s"),
        )
        for part in stored
    ]
    return LiveAttempt(
        number=row.number,
        parts={part.node: part for part in parts},
        assigned_s=row.assigned_s,
        token=row.token,
        held=stored[0]["held"],
        start_s=row.start_s,
        cause=Reason(row.cause),
        message=row.message,
        stop_s=stored[0].get("stop_s"),
    )


def node_row(node: LiveNode) -> NodeRow:
    """A node as it stands."""
    facts = {**node.facts, "health": encode(node.memory)}
    return NodeRow(
        name=node.name,
        registration=node.registration,
        instance=node.instance,
        health=node.health,
        reason=node.reason,
        is_drained=node.is_drained,
        drain_deadline_s=node.drain_deadline_s,
        description=node.description.SerializeToString(deterministic=True),
        facts=json.dumps(facts, separators=(",", ":"), sort_keys=True),
    )
