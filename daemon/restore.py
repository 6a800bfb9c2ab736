"""The live state, made anew from what is stored: exactly what the last daemon had."""

from __future__ import annotations

import json

from shunter.daemon.health_facts import decode
from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.live import LiveJob, LiveNode, LiveState, UserUsage
from shunter.daemon.pb.common_pb2 import JobSpec
from shunter.daemon.pb.nodes_pb2 import NodeDescription
from shunter.daemon.specs import units_of_task
from shunter.daemon.steps.nodes import units_of
from shunter.daemon.steps.rows import attempt_of
from shunter.daemon.store.rows import NodeRow, Stored, StoredJob


def restore(stored: Stored, token: int, now_s: float) -> LiveState:
    """A state with everything that was stored.

    Args:
        stored: From the store.
        token: Fencing token of the new term.
        now_s: Nodes count as heard at this time: whoever ran jobs before had a lease that cannot have ended earlier.
    """
    state = LiveState(token)
    state.last_event, state.last_job, state.settings = stored.last_event, stored.last_job, dict(stored.settings)
    for row in stored.nodes:
        state.nodes[row.name] = _node(row, now_s)
        state.last_registration = max(state.last_registration, row.registration)
    state.nodes_version = 1
    for usage in stored.usage:
        state.usage[usage.owner] = UserUsage(usage.usage_s, usage.held, usage.since_s)
    state.histories.restore(stored.histories)
    for stored_job in stored.jobs:
        job = _job(stored_job)
        state.jobs[job.id] = job
        state.num_of_user[job.owner] = state.num_of_user.get(job.owner, 0) + 1
    for attempt in stored.attempts:
        if attempt.end_s is None:
            state.jobs[attempt.job].attempt = attempt_of(attempt)
    for job in state.jobs.values():
        _settle(state, job)
    return state


def _node(row: NodeRow, now_s: float) -> LiveNode:
    description = NodeDescription.FromString(row.description)
    facts = json.loads(row.facts)
    memory = decode(facts.pop("health", {}))
    return LiveNode(
        name=row.name,
        description=description,
        units=units_of(description),
        gpu_used=[0] * len(description.gpus),
        registration=row.registration,
        instance=row.instance,
        health=row.health,
        reason=row.reason,
        is_drained=row.is_drained,
        drain_deadline_s=row.drain_deadline_s,
        heard_s=now_s,
        failed_gpus=memory.closed_gpus,
        memory=memory,
        facts=facts,
    )


def _job(stored: StoredJob) -> LiveJob:
    made, now = stored
    spec = JobSpec.FromString(made.spec)
    job = LiveJob(made.id, made.owner, spec, made.submit_s, units_of_task(spec), now.version)
    job.state, job.reason, job.priority = JobState(now.state), Reason(now.reason), now.priority
    job.eligible_s, job.queued_s = now.eligible_s, now.queued_s
    job.start_s, job.end_s, job.exit_code = now.start_s, now.end_s, now.exit_code
    job.attempts, job.failures = now.attempts, now.failures
    job.work_kept_s, job.attained_s = now.work_kept_s, now.attained_s
    job.array_id, job.array_index, job.array_limit = made.array_id, made.array_index, made.array_limit
    return job


def _settle(state: LiveState, job: LiveJob) -> None:
    """Put a job where it belongs: among those that wait, are held, or have nodes."""
    if job.attempt is not None:
        state.active[job.id] = job
        if job.array_id is not None:
            state.array_active[job.array_id] = state.array_active.get(job.array_id, 0) + 1
        for part in job.attempt.parts.values():
            if part.end is None:
                state.nodes[part.node].take(part, job.units, 1)
                state.nodes[part.node].jobs[job.id] = job
        return
    if job.reason is Reason.DEPENDENCY:
        # One that has ended as it should is not waited for any more; had it ended otherwise, so would this job have.
        job.waits_for = frozenset(d.job for d in job.spec.dependencies if d.job in state.jobs)
        for other in job.waits_for:
            state.dependents.setdefault(other, []).append(job.id)
    elif job.reason in (Reason.BEGIN_TIME, Reason.BACKOFF):
        state.hold_until(job, job.eligible_s)
    else:
        state.waiting[job.id] = job
