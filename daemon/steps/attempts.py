"""Attempts: nodes are given, parts report, and the whole ends when its last part has.

A part counts as ended only when its agent says so, or when it must be gone because its node's lease ran out long enough
ago: so no two attempts of a job overlap, whatever fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shunter.daemon.jobs import End, JobState, Phase, Reason
from shunter.daemon.live import LiveAttempt, LiveJob, LiveState, Order, Part, Step, UserUsage
from shunter.daemon.steps.jobs import end_job, requeue, stop_attempt
from shunter.daemon.steps.rows import attempt_row
from shunter.daemon.store.rows import UsageRow
from shunter.scheduler.failover import next_retry


@dataclass(frozen=True, slots=True)
class PartReport:
    """What an agent says of one part.

    Attributes:
        job: Id.
        attempt: Number.
        phase: Where it stands.
        end: How it ended, in phase ENDED.
        exit_code: As the protocol's Report.
        signal: As the protocol's Report.
        message: As the protocol's Report.
    """

    job: int
    attempt: int
    phase: Phase
    end: End | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""


def assign(state: LiveState, step: Step, now_s: float, job: LiveJob, parts: Sequence[Part], held: float) -> None:
    """Give a waiting job nodes.

    Args:
        state: Changed.
        step: Filled.
        now_s: Decision time.
        job: Waits.
        parts: What it gets, one a node, in the order of ranks; there is room.
        held: Processors that its user is charged for.
    """
    job.attempts += 1
    job.attempt = LiveAttempt(job.attempts, {part.node: part for part in parts}, now_s, state.token, held)
    job.turn(JobState.STARTING)
    job.reason, job.reserved_s = Reason.NONE, None
    del state.waiting[job.id]
    state.active[job.id] = job
    if job.array_id is not None:
        state.array_active[job.array_id] = state.array_active.get(job.array_id, 0) + 1
    for part in parts:
        node = state.nodes[part.node]
        node.take(part, job.units, 1)
        node.jobs[job.id] = job
    charge(state, step, now_s, job.owner, held)
    step.event(state, now_s, "assigned", job=job, message=", ".join(part.node for part in parts[:16]))
    step.change.attempts.append(attempt_row(job))
    step.orders += [Order(part.node, "assign", job.id, job.attempts) for part in parts]
    state.version += 1


def charge(state: LiveState, step: Step, now_s: float, owner: str, held: float) -> None:
    """A user's jobs take (> 0) or give back (< 0) processors."""
    usage = state.usage.setdefault(owner, UserUsage(since_s=now_s))
    usage.usage_s, usage.since_s = usage.at(now_s), now_s
    usage.held = max(usage.held + held, 0.0)
    step.change.usage.append(UsageRow(owner, usage.usage_s, usage.held, usage.since_s))


def report(state: LiveState, step: Step, now_s: float, node: str, said: PartReport) -> None:
    """Take in what the agent of a node says of a part; the same report again changes nothing and is answered again."""
    job = state.jobs.get(said.job)
    attempt = job.attempt if job is not None else None
    part = attempt.parts.get(node) if attempt is not None and attempt.number == said.attempt else None
    if part is None or part.phase is Phase.ENDED:
        kind = "forget" if said.phase is Phase.ENDED else "stop"
        step.orders.append(Order(node, kind, said.job, said.attempt, reason=Reason.LOST))
        return
    assert job is not None
    assert attempt is not None
    if part.fence_s is not None:
        part.fence_s = None
        step.change.attempts.append(attempt_row(job))
    if said.phase is Phase.ENDED:
        part.end = said.end or End.LOST
        part.exit_code, part.signal, part.message = said.exit_code, said.signal, said.message
        _part_ended(state, step, now_s, job, part)
        step.orders.append(Order(node, "forget", said.job, said.attempt))
        return
    step.orders.append(Order(node, "receipt", said.job, said.attempt, phase=said.phase))
    if said.phase <= part.phase:
        return
    part.phase = said.phase
    step.change.attempts.append(attempt_row(job))
    if attempt.cause is not Reason.NONE:
        return
    if said.phase is Phase.READY and attempt.has_reached(Phase.READY):
        step.orders += [Order(name, "go", job.id, attempt.number) for name in attempt.parts]
    if attempt.has_reached(Phase.STARTED):
        attempt.start_s = now_s
        job.start_s = now_s if job.start_s is None else job.start_s
        job.turn(JobState.RUNNING)
        step.event(state, now_s, "started", job=job)
        step.change.attempts.append(attempt_row(job))


def fence(state: LiveState, step: Step, now_s: float, job: LiveJob, node: str, *, cause: int | None) -> None:
    """The part on a node must be gone: its lease ran out, or nobody knows it there any more."""
    assert job.attempt is not None
    part = job.attempt.parts[node]
    part.end, part.fence_s = End.FENCED, None
    _part_ended(state, step, now_s, job, part, cause=cause)


def _part_ended(
    state: LiveState, step: Step, now_s: float, job: LiveJob, part: Part, *, cause: int | None = None
) -> None:
    attempt = job.attempt
    assert attempt is not None
    part.phase = Phase.ENDED
    node = state.nodes[part.node]
    node.take(part, job.units, -1)
    del node.jobs[job.id]
    state.version += 1
    state.released = True
    step.wakes = True
    if attempt.has_reached(Phase.ENDED):
        _attempt_ended(state, step, now_s, job, cause)
        return
    why = _why(part)
    if why is not Reason.COMPLETED and attempt.cause is Reason.NONE:
        message = f"its part on {part.node} ended: {part.message or why}"
        stop_attempt(state, step, now_s, job, why, message=message, cause=cause)
    else:
        step.change.attempts.append(attempt_row(job))


def _why(part: Part) -> Reason:
    """What the end of one part says of the attempt."""
    if part.end is End.EXITED:
        return Reason.COMPLETED if part.exit_code == 0 else Reason.FAILED
    if part.end is End.NOT_STARTED:
        return Reason.NOT_STARTED
    if part.end is End.TIME_LIMIT:
        return Reason.TIME_LIMIT
    if part.end is End.FENCED:
        return Reason.NODE_FAILED
    return Reason.LOST


def _attempt_ended(state: LiveState, step: Step, now_s: float, job: LiveJob, cause: int | None) -> None:
    attempt = job.attempt
    assert attempt is not None
    whys = [_why(part) for part in attempt.parts.values()]
    if all(why is Reason.COMPLETED for why in whys):
        reason = Reason.COMPLETED
    elif attempt.cause is not Reason.NONE:
        reason = attempt.cause
    else:
        reason = next(why for why in whys if why is not Reason.COMPLETED)
    attempt.cause = reason
    job.exit_code = _exit_code(attempt)
    if not attempt.message:
        attempt.message = next((part.message for part in attempt.parts.values() if part.message), "")
    run_s = 0.0 if attempt.start_s is None else max(now_s - attempt.start_s, 0.0)
    job.attained_s += attempt.held * run_s
    job.work_kept_s = work_kept(job, run_s, reason)
    step.change.attempts.append(attempt_row(job, now_s, job.exit_code))
    charge(state, step, now_s, job.owner, -attempt.held)
    del state.active[job.id]
    if job.array_id is not None:
        state.array_active[job.array_id] -= 1
        if not state.array_active[job.array_id]:
            del state.array_active[job.array_id]
    _go_on(state, step, now_s, job, reason, cause)


def _exit_code(attempt: LiveAttempt) -> int | None:
    """Of the first part that failed; as a shell tells it (128 + signal) where a signal ended it."""
    codes = [
        part.exit_code if part.signal is None else 128 + part.signal
        for part in attempt.parts.values()
        if part.exit_code is not None or part.signal is not None
    ]
    return next((code for code in codes if code), 0 if codes else None)


def work_kept(job: LiveJob, run_s: float, reason: Reason) -> float:
    """Seconds of work that the next attempt need not do again.

    A job with checkpoints saves its work when it is told to stop; a failure takes it back to the last one it made by
    itself. One without begins anew.
    """
    if not job.spec.HasField("checkpoint_interval_s"):
        return 0.0
    done_s, interval_s = job.work_kept_s + run_s, job.spec.checkpoint_interval_s
    if reason in (Reason.PREEMPTED, Reason.DRAINED) or interval_s <= 0:
        return done_s
    return max(done_s // interval_s * interval_s, job.work_kept_s)


AGAIN = frozenset((Reason.NODE_FAILED, Reason.GPU_FAILED, Reason.LOST, Reason.DRAINED, Reason.PREEMPTED))
"""Ends of an attempt that are not the job's fault."""


def _go_on(state: LiveState, step: Step, now_s: float, job: LiveJob, reason: Reason, cause: int | None) -> None:
    """Another attempt, or the end."""
    if reason in AGAIN and not (job.spec.no_requeue and reason is not Reason.PREEMPTED):
        requeue(state, step, now_s, job, reason, cause=cause)
        return
    if reason in (Reason.FAILED, Reason.NOT_STARTED):
        job.failures += 1
        wait_s = next_retry(job.failures, job.spec.max_retries, job.spec.retry_backoff_s)
        if wait_s is not None:
            requeue(state, step, now_s, job, reason, after_s=wait_s, cause=cause)
            return
    end_job(state, step, now_s, job, reason, cause)
