"""Where a job and its attempts may stand, why, and which changes are legal. No I/O, no clock."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobState(IntEnum):
    """As ``JobState`` of the protocol, with the same numbers."""

    PENDING = 1
    STARTING = 2
    RUNNING = 3
    STOPPING = 4
    COMPLETED = 5
    FAILED = 6
    CANCELLED = 7
    TIMED_OUT = 8

    @property
    def is_final(self) -> bool:
        """Whether the job has ended for good."""
        return self >= JobState.COMPLETED


ENDS = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT)

LEGAL: dict[JobState, tuple[JobState, ...]] = {
    JobState.PENDING: (JobState.STARTING, JobState.CANCELLED, JobState.FAILED),
    JobState.STARTING: (JobState.RUNNING, JobState.STOPPING, JobState.PENDING, *ENDS),
    JobState.RUNNING: (JobState.STOPPING, JobState.PENDING, *ENDS),
    JobState.STOPPING: (JobState.PENDING, *ENDS),
    JobState.COMPLETED: (),
    JobState.FAILED: (),
    JobState.CANCELLED: (),
    JobState.TIMED_OUT: (),
}
"""From each state those that may follow. A short job may end before its start was reported."""


class Reason(StrEnum):
    """Why a job waits, or how it ended; each says what happens next."""

    NONE = ""
    # waiting
    NEW = "new"  # the next pass looks at it
    DEPENDENCY = "dependency"  # until the jobs it waits for have ended
    BEGIN_TIME = "begin-time"  # until its time has come
    BACKOFF = "backoff"  # until the wait before the next attempt is over
    ARRAY_LIMIT = "array-limit"  # until fewer jobs of its array run
    NEVER_FITS = "never-fits"  # until nodes come that are large enough
    QUEUE_CLOSED = "queue-closed"  # until its queue is opened
    NO_CAPACITY = "no-capacity"  # the words of scheduler.plans.Reason
    BEHIND_HEAD = "behind-head"
    WOULD_DELAY = "would-delay"
    BEYOND_DEPTH = "beyond-depth"
    OVER_QUOTA = "over-quota"
    LOCALITY = "locality"
    # ends of an attempt, or of the job
    COMPLETED = "completed"
    FAILED = "failed"  # an exit code other than 0, or a signal that nobody here sent
    NOT_STARTED = "not-started"  # a node could not start it
    CANCELLED = "cancelled"
    DEPENDENCY_FAILED = "dependency-failed"  # a job that should have completed did not
    TIME_LIMIT = "time-limit"
    PREEMPTED = "preempted"  # waits again
    NODE_FAILED = "node-failed"  # waits again unless it must not
    GPU_FAILED = "gpu-failed"
    DRAINED = "drained"
    LOST = "lost"  # nobody knows how it ended; as a failed node


class Phase(IntEnum):
    """Where the part of an attempt on one node stands, as far as its agent has reported."""

    ASSIGNED = 0
    READY = 1
    STARTED = 2
    ENDED = 3


class End(StrEnum):
    """How the part on one node ended; the protocol's ``Report.End``."""

    EXITED = "exited"
    NOT_STARTED = "not-started"
    STOPPED = "stopped"
    TIME_LIMIT = "time-limit"
    FENCED = "fenced"
    LOST = "lost"
