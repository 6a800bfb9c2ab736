"""The rows of the store's tables, as the daemon writes and reads them, and ``Change``: what is stored together.

Times are seconds since the Unix epoch. Field order is column order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class JobRow(NamedTuple):
    """A job as it is made; ``spec`` is the protocol's JobSpec, serialised."""

    id: int
    owner: str
    group_name: str
    queue: str
    name: str
    state: int
    reason: str
    priority: int
    tasks: int
    submit_s: float
    eligible_s: float  # not before this time: begin time or back-off
    array_id: int | None
    array_index: int | None
    array_limit: int  # of its array that may run at a time; 0: all
    version: int  # number of the last event about it
    spec: bytes


class JobUpdate(NamedTuple):
    """What changes about a job, all of it each time; ``id`` last, as the statement wants it."""

    state: int
    reason: str
    priority: int
    eligible_s: float
    start_s: float | None  # first start
    end_s: float | None
    exit_code: int | None
    attempts: int  # made so far
    failures: int  # of them those that count against max_retries
    queued_s: float  # entered the queue for the last time
    work_kept_s: float  # work that the next attempt need not do again
    attained_s: float  # processor-seconds so far
    version: int
    id: int


class StoredJob(NamedTuple):
    """A job as it is read: the columns of both."""

    made: JobRow
    now: JobUpdate


class AttemptRow(NamedTuple):
    """An attempt; written whole at each change."""

    job: int
    number: int
    placement: str  # JSON: [{"node", "tasks", "gpus", "slice", "phase", "end", "exit_code", "signal", "message"}, …]
    assigned_s: float
    start_s: float | None
    end_s: float | None
    exit_code: int | None
    cause: str  # why it is ending or has ended; "" while it runs
    message: str
    token: int  # fencing token under which it was assigned


class NodeRow(NamedTuple):
    """A node; written whole at each change."""

    name: str
    registration: int
    instance: str
    health: str
    reason: str
    is_drained: bool
    drain_deadline_s: float | None
    description: bytes  # the protocol's NodeDescription, serialised
    facts: str  # JSON: the memory of the health machine, failed GPUs


class EventRow(NamedTuple):
    """One event; numbers rise without gaps."""

    number: int
    at_s: float
    kind: str
    job: int | None
    last_job: int | None
    attempt: int | None
    node: str | None
    cause: int | None
    state: int
    owner: str  # of the job, for who may see it; "" for events of the cluster
    message: str


class UsageRow(NamedTuple):
    """Decayed usage of a user."""

    owner: str
    usage_s: float
    held: float
    since_s: float


class IdempotencyRow(NamedTuple):
    """A call that made jobs; the same key gives the same answer."""

    owner: str
    key: str
    request_sha256: bytes
    first_job: int
    num_jobs: int
    at_s: float


class SettingRow(NamedTuple):
    """A named value that outlives the process: mode, model, counters. JSON."""

    name: str
    value: str


class HistoryRow(NamedTuple):
    """What has been learned of a user, or of jobs alike, for the features of a learned order."""

    key: str  # "u:NAME", or "a:NAME:REQUEST:SIZE"
    values: bytes  # float64 little-endian


@dataclass(slots=True)
class Change:
    """What is stored in one transaction, or not at all. Empty lists cost nothing.

    Within one change new jobs come first, then the rest; a later row for the same key replaces an earlier one.
    """

    events: list[EventRow] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    updates: list[JobUpdate] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    nodes: list[NodeRow] = field(default_factory=list)
    usage: list[UsageRow] = field(default_factory=list)
    idempotency: list[IdempotencyRow] = field(default_factory=list)
    settings: list[SettingRow] = field(default_factory=list)
    histories: list[HistoryRow] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """Rows of all lists together."""
        few = len(self.attempts) + len(self.nodes) + len(self.usage) + len(self.idempotency) + len(self.settings)
        return len(self.events) + len(self.jobs) + len(self.updates) + few + len(self.histories)


@dataclass(slots=True)
class Stored:
    """Everything that a daemon needs to go on where the last one stopped.

    Attributes:
        jobs: Those that have not ended, by id.
        attempts: All attempts of those jobs, by (job, number).
        nodes: All nodes, by name.
        usage: All users' usage.
        settings: By name.
        histories: By key.
        last_event: Highest number of an event; 0: none.
        last_job: Highest id of a job; 0: none.
        last_s: Highest time of an event; 0.0: none.
    """

    jobs: list[StoredJob] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    nodes: list[NodeRow] = field(default_factory=list)
    usage: list[UsageRow] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    histories: dict[str, bytes] = field(default_factory=dict)
    last_event: int = 0
    last_job: int = 0
    last_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are listed, newest (highest id) first. Empty fields do not restrict.

    Attributes:
        states: Any of these.
        owner: User.
        queue: Queue.
        group: Group.
        name: A part of it, whatever the case; ``%`` and ``_`` mean themselves.
        array: Id of the array.
        node: Has an attempt there.
        before: Only ids below it; 0: no bound.
        limit: At most so many.
    """

    states: tuple[int, ...] = ()
    owner: str = ""
    queue: str = ""
    group: str = ""
    name: str = ""
    array: int = 0
    node: str = ""
    before: int = 0
    limit: int = 100
