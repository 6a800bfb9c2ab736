"""What users and time do to jobs that exist: they are cancelled, moved, released, and end."""

from __future__ import annotations

from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.live import LiveJob, LiveState, Order, Step
from shunter.daemon.pb.common_pb2 import Dependency
from shunter.daemon.steps.rows import attempt_row

FINAL_OF = {
    Reason.COMPLETED: JobState.COMPLETED,
    Reason.CANCELLED: JobState.CANCELLED,
    Reason.DEPENDENCY_FAILED: JobState.CANCELLED,
    Reason.TIME_LIMIT: JobState.TIMED_OUT,
}
"""How a job ends for a reason; for any other it has failed."""


def end_job(state: LiveState, step: Step, now_s: float, job: LiveJob, reason: Reason, cause: int | None = None) -> None:
    """The job has ended for good: it leaves the state, and those that waited for it go on or are cancelled."""
    ends = [(job, reason, cause)]
    while ends:
        job, reason, cause = ends.pop()
        job.turn(FINAL_OF.get(reason, JobState.FAILED))
        job.reason, job.end_s = reason, now_s
        number = step.event(state, now_s, "ended", job=job, cause=cause)
        job.attempt = None
        del state.jobs[job.id]
        state.waiting.pop(job.id, None)
        left = state.num_of_user[job.owner] - 1
        state.num_of_user[job.owner] = left
        if not left:
            del state.num_of_user[job.owner]
        for other in job.waits_for & state.dependents.keys():
            state.dependents[other].remove(job.id)
            if not state.dependents[other]:
                del state.dependents[other]
        for other in state.dependents.pop(job.id, ()):
            waiting = state.jobs.get(other)
            if waiting is None:
                continue
            if job.state is not JobState.COMPLETED and _wants_success(waiting, job.id):
                ends.append((waiting, Reason.DEPENDENCY_FAILED, number))
            else:
                waiting.waits_for -= {job.id}
                if not waiting.waits_for:
                    _release(state, step, now_s, waiting, number)


def _wants_success(job: LiveJob, other: int) -> bool:
    return any(d.job == other and d.condition == Dependency.CONDITION_AFTER_OK for d in job.spec.dependencies)


def _release(state: LiveState, step: Step, now_s: float, job: LiveJob, cause: int | None) -> None:
    """Nothing but capacity, or its time, holds the job back any more."""
    if job.eligible_s > now_s:
        job.reason = Reason.BEGIN_TIME
        state.hold_until(job, job.eligible_s)
    else:
        job.reason = Reason.NEW
        state.waiting[job.id] = job
        step.wakes = True
    step.event(state, now_s, "released", job=job, cause=cause)


def release_due(state: LiveState, step: Step, now_s: float) -> None:
    """Jobs whose begin time or back-off is over go into the queue."""
    for job in state.due(now_s):
        if job.state is JobState.PENDING and not job.waits_for and job.id not in state.waiting:
            _release(state, step, now_s, job, None)


def requeue(
    state: LiveState, step: Step, now_s: float, job: LiveJob, reason: Reason, *, after_s: float = 0.0, cause: int | None
) -> None:
    """The job waits again, in the place that its submit time and priority give it; not before ``after_s`` seconds."""
    job.turn(JobState.PENDING)
    job.queued_s = now_s
    job.attempt = None
    if after_s > 0:
        job.reason, job.eligible_s = Reason.BACKOFF, now_s + after_s
        state.hold_until(job, job.eligible_s)
    else:
        job.reason = reason
        state.waiting[job.id] = job
        step.wakes = True
    step.event(state, now_s, "requeued", job=job, cause=cause, message=reason)


def cancel(state: LiveState, step: Step, now_s: float, job: LiveJob, message: str = "") -> None:
    """A user takes the job back: it ends at once when it waits, and is told to stop when it has nodes."""
    if job.state is JobState.PENDING:
        end_job(state, step, now_s, job, Reason.CANCELLED)
    else:
        stop_attempt(state, step, now_s, job, Reason.CANCELLED, message=message)


GRAVEST = (
    Reason.CANCELLED,
    Reason.TIME_LIMIT,
    Reason.NODE_FAILED,
    Reason.GPU_FAILED,
    Reason.LOST,
    Reason.FAILED,
    Reason.NOT_STARTED,
    Reason.DRAINED,
    Reason.PREEMPTED,
)
"""Of several reasons to stop an attempt, the one that counts: the first in this list."""


def stop_attempt(
    state: LiveState,
    step: Step,
    now_s: float,
    job: LiveJob,
    reason: Reason,
    *,
    message: str = "",
    grace_s: float | None = None,
    cause: int | None = None,
) -> None:
    """Tell every part of a job's attempt to stop; a later, graver reason replaces an earlier one."""
    attempt = job.attempt
    assert attempt is not None
    if attempt.cause is not Reason.NONE and GRAVEST.index(attempt.cause) <= GRAVEST.index(reason):
        return
    is_first = attempt.cause is Reason.NONE
    attempt.cause, attempt.message = reason, message
    attempt.stop_s = now_s if is_first else attempt.stop_s
    grace = job.spec.grace_s if grace_s is None else grace_s
    job.turn(JobState.STOPPING)
    job.reason = reason
    step.event(state, now_s, "stopping", job=job, cause=cause, message=message or reason)
    step.change.attempts.append(attempt_row(job))
    step.orders += [
        Order(part.node, "stop", job.id, attempt.number, grace_s=grace, reason=reason)
        for part in attempt.parts.values()
        if part.end is None
    ]
    state.version += 1


def reprioritise(state: LiveState, step: Step, now_s: float, job: LiveJob, priority: int) -> None:
    """Another class for a job."""
    job.priority = priority
    step.event(state, now_s, "reprioritised", job=job, message=str(priority))
    step.wakes = True
