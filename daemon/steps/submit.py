"""Jobs come: one, a batch or an array; all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shunter.daemon.errors import InvalidError
from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.live import LiveJob, LiveState, Step, Units
from shunter.daemon.pb.common_pb2 import Dependency, JobSpec
from shunter.daemon.specs import MAX_SPEC_BYTES
from shunter.daemon.store.rows import EventRow, IdempotencyRow, JobRow


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a repeated call return the first one's answer.

    Attributes:
        key: The caller's.
        request_sha256: Of the request, so that another one under the same key is told apart.
    """

    key: str
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class Array:
    """One job for each index.

    Attributes:
        indices: In the order of the jobs.
        max_running: 0: all.
    """

    indices: range
    max_running: int = 0


def submit(
    state: LiveState,
    step: Step,
    now_s: float,
    owner: str,
    specs: Sequence[tuple[JobSpec, Units]],
    *,
    key: Key | None = None,
    array: Array | None = None,
    ended: Mapping[int, int] | None = None,
) -> int:
    """Take in jobs that have been checked; returns the first one's id, the others follow it without gaps.

    Args:
        state: Changed.
        step: Filled.
        now_s: Submit time.
        owner: User.
        specs: What was asked for and what a task of it takes; of an array the one specification.
        key: Idempotency key.
        array: Indices, when it is an array.
        ended: Final states of jobs that are waited for and have ended.

    Raises:
        InvalidError: A job waits for one that does not exist, or that has not completed though it should have.
    """
    count = len(array.indices) if array else len(specs)
    if not count:
        raise InvalidError("there is no job in it")
    waits = [_waits_for(state, spec, ended or {}) if spec.dependencies else NONE for spec, _ in specs]
    blobs = [spec.SerializeToString() for spec, _ in specs]
    longest = max(map(len, blobs))
    if longest > MAX_SPEC_BYTES:
        raise InvalidError(f"a job takes {longest} bytes; at most {MAX_SPEC_BYTES} are allowed")
    first = state.last_job + 1
    state.last_job += count
    state.last_event += 1
    version, rows, held = state.last_event, step.change.jobs, False
    jobs, waiting = state.jobs, state.waiting
    for i in range(count):
        j = 0 if array else i
        spec, units = specs[j]
        job = LiveJob(first + i, owner, spec, now_s, units, version)
        if array:
            job.array_id, job.array_index, job.array_limit = first, array.indices[i], array.max_running
        begin_s = spec.begin_unix_s
        if waits[j] or begin_s > now_s:
            held = True
            _hold(state, job, waits[j], begin_s)
        else:
            waiting[job.id] = job
        jobs[job.id] = job
        rows.append(
            JobRow(
                job.id,
                owner,
                spec.group,
                spec.queue,
                spec.name,
                JobState.PENDING,
                job.reason,
                job.priority,
                spec.tasks,
                now_s,
                job.eligible_s,
                job.array_id,
                job.array_index,
                job.array_limit,
                version,
                blobs[j],
            )
        )
    state.num_of_user[owner] = state.num_of_user.get(owner, 0) + count
    last = first + count - 1
    step.change.events.append(
        EventRow(version, now_s, "submitted", first, last, None, None, None, JobState.PENDING, owner, "")
    )
    if key is not None:
        step.change.idempotency.append(IdempotencyRow(owner, key.key, key.request_sha256, first, count, now_s))
    step.wakes = step.wakes or not held or count > 1
    return first


NONE: frozenset[int] = frozenset()


def _waits_for(state: LiveState, spec: JobSpec, ended: Mapping[int, int]) -> frozenset[int]:
    """Jobs that it waits for and that have not ended.

    Raises:
        InvalidError: One of them does not exist, or has ended otherwise than it should have.
    """
    open_jobs = set()
    for dependency in spec.dependencies:
        if dependency.job in state.jobs:
            open_jobs.add(dependency.job)
        elif dependency.job not in ended:
            raise InvalidError(f"dependencies: there is no job {dependency.job}")
        elif dependency.condition == Dependency.CONDITION_AFTER_OK and ended[dependency.job] != JobState.COMPLETED:
            how = JobState(ended[dependency.job]).name.lower()
            raise InvalidError(f"dependencies: job {dependency.job} should have completed and is {how}")
    return frozenset(open_jobs)


def _hold(state: LiveState, job: LiveJob, waits_for: frozenset[int], begin_s: float) -> None:
    job.eligible_s = begin_s
    if waits_for:
        job.reason, job.waits_for = Reason.DEPENDENCY, waits_for
        for other in waits_for:
            state.dependents.setdefault(other, []).append(job.id)
    else:
        job.reason = Reason.BEGIN_TIME
        state.hold_until(job, begin_s)
