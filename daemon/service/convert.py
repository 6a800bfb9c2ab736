"""Between what is stored or live and the messages of the protocol; each kind in one place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shunter.daemon.jobs import End, JobState
from shunter.daemon.live import LiveJob, LiveNode, Part, bits_of
from shunter.daemon.pb import agent_pb2, common_pb2, nodes_pb2
from shunter.daemon.store.rows import AttemptRow, EventRow, StoredJob
from shunter.scheduler.types import UNITS_PER

END_OF = {
    agent_pb2.Report.END_EXITED: End.EXITED,
    agent_pb2.Report.END_NOT_STARTED: End.NOT_STARTED,
    agent_pb2.Report.END_STOPPED: End.STOPPED,
    agent_pb2.Report.END_TIME_LIMIT: End.TIME_LIMIT,
    agent_pb2.Report.END_FENCED: End.FENCED,
    agent_pb2.Report.END_LOST: End.LOST,
}
HEALTH = {
    "healthy": nodes_pb2.NODE_HEALTH_HEALTHY,
    "suspect": nodes_pb2.NODE_HEALTH_SUSPECT,
    "draining": nodes_pb2.NODE_HEALTH_DRAINING,
    "failed": nodes_pb2.NODE_HEALTH_FAILED,
    "recovering": nodes_pb2.NODE_HEALTH_RECOVERING,
}


def enum(value: int) -> Any:
    """A number as a value of whichever enumeration has it: the generated types know only their own."""
    return value


def job_message(stored: StoredJob, attempts: Sequence[AttemptRow]) -> common_pb2.Job:
    """A job as it is stored."""
    made, now = stored
    message = common_pb2.Job(
        id=made.id,
        user=made.owner,
        state=enum(now.state),
        reason=now.reason,
        spec=common_pb2.JobSpec.FromString(made.spec),
        submit_unix_s=made.submit_s,
        start_unix_s=now.start_s,
        end_unix_s=now.end_s,
        exit_code=now.exit_code,
        attempts=[attempt_message(row) for row in attempts],
        array=made.array_id,
        array_index=made.array_index,
        version=now.version,
    )
    message.spec.priority = now.priority
    return message


def attempt_message(row: AttemptRow) -> common_pb2.Attempt:
    """An attempt as it is stored."""
    return common_pb2.Attempt(
        number=row.number,
        placement=[stored_placement(part) for part in json.loads(row.placement)],
        assigned_unix_s=row.assigned_s,
        start_unix_s=row.start_s,
        end_unix_s=row.end_s,
        exit_code=row.exit_code,
        cause=row.cause,
        message=row.message,
    )


def stored_placement(part: dict[str, object]) -> common_pb2.Placement:
    """A part as ``steps.rows.part_json`` writes it."""
    entries: list[tuple[int, int]] = part["entries"]  # type: ignore[assignment]
    mask = 0
    for _, bits in entries:
        mask |= bits
    return common_pb2.Placement(node=str(part["node"]), tasks=sum(tasks for tasks, _ in entries), gpus=bits_of(mask))


def placement_message(part: Part) -> common_pb2.Placement:
    """A part of a live attempt."""
    return common_pb2.Placement(node=part.node, tasks=part.tasks, gpus=part.gpus)


def event_message(row: EventRow) -> common_pb2.Event:
    """An event as it is stored."""
    return common_pb2.Event(
        number=row.number,
        at_unix_s=row.at_s,
        kind=row.kind,
        job=row.job,
        last_job=row.last_job,
        attempt=row.attempt,
        node=row.node or "",
        cause=row.cause,
        message=row.message,
        state=enum(row.state),
    )


def node_message(node: LiveNode, telemetry: nodes_pb2.NodeSample | None) -> nodes_pb2.Node:
    """A node as it is now."""
    health = HEALTH[node.health]
    if node.health == "healthy" and node.is_drained:
        health = nodes_pb2.NODE_HEALTH_DRAINING
    return nodes_pb2.Node(
        name=node.name,
        description=node.description,
        health=health,
        reason=node.reason,
        is_drained=node.is_drained,
        drain_deadline_unix_s=node.drain_deadline_s,
        last_heartbeat_unix_s=node.heard_s,
        jobs=sorted(node.jobs),
        cpus_used=node.used[0] / UNITS_PER[0],
        memory_used_gib=node.used[1] / UNITS_PER[1],
        gpus_used=node.used[2] / UNITS_PER[2],
        failed_gpus=sorted(node.failed_gpus),
        telemetry=telemetry,
    )


def assignment_message(job: LiveJob, node: str, token: int) -> agent_pb2.Assignment:
    """What the agent of a node has to run of a job's attempt."""
    attempt = job.attempt
    assert attempt is not None
    parts = list(attempt.parts.values())
    mine = attempt.parts[node]
    ahead = parts[: parts.index(mine)]
    return agent_pb2.Assignment(
        job=job.id,
        attempt=attempt.number,
        fencing_token=token,
        user=job.owner,
        spec=job.spec,
        placement=placement_message(mine),
        gang=[placement_message(part) for part in parts],
        first_rank=sum(part.tasks for part in ahead),
        wait_for_go=len(parts) > 1,
        time_limit_s=job.spec.time_limit_s,
        grace_s=job.spec.grace_s,
        array_index=job.array_index,
    )


def state_name(state: int) -> str:
    """Of a job, as people read it."""
    return JobState(state).name.lower().replace("_", "-")
