"""The live state: jobs that have not ended, nodes, users' usage, as the leading daemon holds them in memory.

Only the functions of ``daemon.steps`` change it, each inside one step whose rows are stored together. The store has the
same: a daemon that starts makes its state anew from the rows (``daemon.restore``), and a test holds the two together.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shunter.daemon.health_facts import Memory
from shunter.daemon.jobs import LEGAL, End, JobState, Phase, Reason
from shunter.daemon.pb.common_pb2 import JobSpec
from shunter.daemon.pb.nodes_pb2 import NodeDescription
from shunter.daemon.silence import Arrivals
from shunter.daemon.store.rows import Change, EventRow, JobUpdate
from shunter.scheduler.fairshare import HALF_LIFE_S
from shunter.scheduler.types import UNITS_PER

WHOLE_GPU = UNITS_PER[2]
MEAN_LIFE_S = HALF_LIFE_S / math.log(2.0)
MAX_GPUS = 62
"""Of one node: they are bits of a signed 64-bit number."""

Units = tuple[int, int, int]
"""Whole units of CPUs, memory and GPUs, as in ``scheduler.types``."""


@dataclass(slots=True)
class Part:
    """The tasks of an attempt on one node.

    Attributes:
        node: Name.
        entries: (tasks, bits of the GPUs that they hold) there; several where tasks share different GPUs.
        phase: As far as the agent has reported.
        end: How it ended; None before.
        exit_code: Of its processes: the first that failed.
        signal: That ended it.
        message: What the agent said.
        fence_s: The agent does not know it any more: it counts as ended from this time on; None otherwise.
    """

    node: str
    entries: tuple[tuple[int, int], ...]
    phase: Phase = Phase.ASSIGNED
    end: End | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    fence_s: float | None = None

    @property
    def tasks(self) -> int:
        """How many."""
        return sum(tasks for tasks, _ in self.entries)

    @property
    def gpus(self) -> list[int]:
        """Indices of the GPUs there."""
        mask = 0
        for _, bits in self.entries:
            mask |= bits
        return bits_of(mask)


def bits_of(mask: int) -> list[int]:
    """Places of the ones."""
    return [i for i in range(mask.bit_length()) if mask >> i & 1]


@dataclass(slots=True)
class LiveAttempt:
    """One run of a job that has not ended.

    Attributes:
        number: From 1.
        parts: By node, in the order of ranks.
        assigned_s: When it was decided.
        token: Fencing token under which it was.
        held: Processors that its user is charged for while it lasts; see ``scheduler.fairshare``.
        start_s: When the last part had started.
        cause: Why it is being stopped; NONE while it runs.
        message: The same, for people.
        stop_s: When it was told to stop.
    """

    number: int
    parts: dict[str, Part]
    assigned_s: float
    token: int
    held: float = 0.0
    start_s: float | None = None
    cause: Reason = Reason.NONE
    message: str = ""
    stop_s: float | None = None

    def has_reached(self, phase: Phase) -> bool:
        """Whether every part has."""
        return all(part.phase >= phase for part in self.parts.values())


class LiveJob:
    """A job that has not ended. Defaults stand at the class: most jobs of a long queue never differ from them.

    Attributes:
        id: Number of the job.
        owner: User.
        spec: What was submitted, with defaults filled in.
        units: Whole units that one task takes.
    """

    state = JobState.PENDING
    reason = Reason.NEW
    eligible_s = 0.0
    start_s: float | None = None
    end_s: float | None = None
    exit_code: int | None = None
    attempts = 0
    failures = 0
    work_kept_s = 0.0
    attained_s = 0.0
    array_id: int | None = None
    array_index: int | None = None
    array_limit = 0
    attempt: LiveAttempt | None = None
    waits_for: frozenset[int] = frozenset()
    reserved_s: float | None = None  # promised by the last decision
    why = Reason.NEW  # the last decision's word on why it waits; not stored
    column = -1  # in daemon.snapshots

    def __init__(self, job: int, owner: str, spec: JobSpec, submit_s: float, units: Units, version: int) -> None:
        self.id = job
        self.owner = owner
        self.spec = spec
        self.submit_s = submit_s
        self.queued_s = submit_s
        self.units = units
        self.priority: int = spec.priority
        self.version = version

    @property
    def tasks(self) -> int:
        """Gang size."""
        return self.spec.tasks

    def turn(self, state: JobState) -> None:
        """Change the state.

        Raises:
            AssertionError: The change is not legal: a bug.
        """
        if state is not self.state:
            assert state in LEGAL[self.state], f"job {self.id}: {self.state.name} → {state.name}"
            self.state = state

    def row(self) -> JobUpdate:
        """What is stored of it now."""
        return JobUpdate(
            state=self.state,
            reason=self.reason,
            priority=self.priority,
            eligible_s=self.eligible_s,
            start_s=self.start_s,
            end_s=self.end_s,
            exit_code=self.exit_code,
            attempts=self.attempts,
            failures=self.failures,
            queued_s=self.queued_s,
            work_kept_s=self.work_kept_s,
            attained_s=self.attained_s,
            version=self.version,
            id=self.id,
        )


@dataclass(slots=True)
class LiveNode:
    """A node that has registered at least once.

    Attributes:
        name: Name.
        description: As its agent gave it.
        units: What it has.
        gpu_used: Thousandths that are taken of each GPU.
        registration: Number of the agent's last registration.
        instance: Its process.
        health: A word of ``health_facts.Health``; as ``memory`` has it, like the four after it.
        reason: Why.
        is_drained: Closed by an operator, or by the daemon for what ``memory.grounds`` says.
        drain_deadline_s: When what runs there is moved; None: it ends by itself.
        heard_s: When its agent was heard last; before the first time, when the daemon began to wait for it.
        failed_gpus: Out of service: they take no new work; jobs may still have to leave them.
        memory: Of the health machine; only ``steps.condition`` changes it.
        arrivals: Of heartbeats, for the phi detector; not stored.
        facts: What else is remembered: ids of the agent's folder and of the machine's boot, the last event on health.
        jobs: Attempts with a part here that has not ended, by job.
        used: Units that these hold.
    """

    name: str
    description: NodeDescription
    units: Units
    gpu_used: list[int]
    registration: int = 0
    instance: str = ""
    health: str = "healthy"
    reason: str = ""
    is_drained: bool = False
    drain_deadline_s: float | None = None
    heard_s: float = 0.0
    failed_gpus: set[int] = field(default_factory=set)
    memory: Memory = field(default_factory=Memory)
    arrivals: Arrivals = field(default_factory=Arrivals)
    facts: dict[str, Any] = field(default_factory=dict)
    jobs: dict[int, LiveJob] = field(default_factory=dict)
    used: list[int] = field(default_factory=lambda: [0, 0, 0])

    @property
    def is_open(self) -> bool:
        """Whether new work may be placed here."""
        return self.health == "healthy" and not self.is_drained

    def take(self, part: Part, units: Units, sign: int) -> None:
        """Count the tasks of a part as held (1) or given back (−1)."""
        count = sign * part.tasks
        for resource in range(3):
            self.used[resource] += count * units[resource]
        for tasks, mask in part.entries:
            share = sign * (WHOLE_GPU if units[2] >= WHOLE_GPU else tasks * units[2])
            for gpu in bits_of(mask):
                self.gpu_used[gpu] += share

    def has_room(self, part: Part, units: Units) -> bool:
        """Whether the tasks of a part fit beside what is held."""
        count = part.tasks
        if any(self.used[r] + count * units[r] > self.units[r] for r in range(3) if units[r]):
            return False
        for tasks, mask in part.entries:
            share = WHOLE_GPU if units[2] >= WHOLE_GPU else tasks * units[2]
            for gpu in bits_of(mask):
                broken = gpu >= len(self.gpu_used) or gpu in self.failed_gpus
                if broken or self.gpu_used[gpu] + share > WHOLE_GPU:
                    return False
        return not units[2] or all(mask for _, mask in part.entries)


class PartEnd(NamedTuple):
    """A part that ended by itself: what black holes are found by."""

    node: str
    owner: str
    name: str
    ran_s: float
    is_good: bool


@dataclass(slots=True)
class Held:
    """What the blast radius holds back now; not stored: a daemon that starts finds it again, and alarms again.

    Attributes:
        jobs: That cannot stay where they are.
        nodes: Silent for longer than their leases, and not given up.
        event: Number of the alarm.
        look_s: When to look again.
    """

    jobs: frozenset[int] = frozenset()
    nodes: frozenset[str] = frozenset()
    event: int | None = None
    look_s: float = 0.0


@dataclass(slots=True)
class UserUsage:
    """Decayed processor-seconds of a user; see ``scheduler.fairshare``.

    Attributes:
        usage_s: At ``since_s``.
        held: Processors held since then.
        since_s: Time of the last change.
    """

    usage_s: float = 0.0
    held: float = 0.0
    since_s: float = 0.0

    def at(self, now_s: float) -> float:
        """Usage at a time not before ``since_s``: dU/dt = held − U/τ, as ``scheduler.fairshare`` tells."""
        decay: float = 2.0 ** (-max(now_s - self.since_s, 0.0) / HALF_LIFE_S)
        return self.usage_s * decay + self.held * MEAN_LIFE_S * (1.0 - decay)


class LiveState:
    """Everything the leading daemon decides from.

    Attributes:
        token: Fencing token of this daemon's term.
        jobs: By id, in the order of submission: all that have not ended.
        waiting: Those that the next pass looks at.
        active: Those that hold nodes.
        nodes: By name.
        dependents: Job → jobs that wait for it.
        array_active: Jobs of an array that hold nodes.
        usage: By user.
        settings: Named values that outlive the process.
        last_event: Number of the last event.
        last_job: Id of the last job.
        version: Rises when something happens after which a plan made before has to be looked at with care.
        nodes_version: Rises when nodes, or what they have, change.
        released: Whether anything was given back since the last decision.
        part_ends: That nobody has learned from yet; a few are forgotten when the daemon ends.
        successes: Owner and name of jobs → node → when one last ended well there.
        held: What failover holds back.
    """

    def __init__(self, token: int = 1) -> None:
        self.token = token
        self.jobs: dict[int, LiveJob] = {}
        self.waiting: dict[int, LiveJob] = {}
        self.active: dict[int, LiveJob] = {}
        self.nodes: dict[str, LiveNode] = {}
        self.dependents: dict[int, list[int]] = {}
        self.array_active: dict[int, int] = {}
        self.usage: dict[str, UserUsage] = {}
        self.settings: dict[str, str] = {}
        self.num_of_user: dict[str, int] = {}
        self.last_event = 0
        self.last_job = 0
        self.version = 0
        self.nodes_version = 0
        self.last_registration = 0
        self.released = True
        self.part_ends: deque[PartEnd] = deque(maxlen=10_000)
        self.successes: dict[tuple[str, str], dict[str, float]] = {}
        self.held = Held()
        self._timers: list[tuple[float, int]] = []

    # --- time --------------------------------------------------------------------------------------------------------

    def hold_until(self, job: LiveJob, at_s: float) -> None:
        """Look at a job again at ``at_s``."""
        heapq.heappush(self._timers, (at_s, job.id))

    def due(self, now_s: float) -> Iterator[LiveJob]:
        """Jobs whose time has come, once each call of ``hold_until``."""
        while self._timers and self._timers[0][0] <= now_s:
            _, job = heapq.heappop(self._timers)
            if job in self.jobs:
                yield self.jobs[job]

    @property
    def next_due_s(self) -> float:
        """When the next of them comes; inf: none."""
        return self._timers[0][0] if self._timers else float("inf")


@dataclass(frozen=True, slots=True)
class Order:
    """What an agent has to be told once the step is durable; the state says the rest.

    Attributes:
        node: Whose agent.
        kind: ``assign``, ``go``, ``stop``, ``forget`` or ``receipt``.
        job: Id.
        attempt: Number.
        grace_s: Of a stop.
        reason: Of a stop.
        phase: Of a receipt.
    """

    node: str
    kind: str
    job: int
    attempt: int
    grace_s: float = 0.0
    reason: str = ""
    phase: int = 0


@dataclass(slots=True)
class Step:
    """What one change of the state has to have stored, and what follows when it is.

    Attributes:
        change: Rows.
        orders: For agents.
        wakes: Whether a decision pass is due.
        touched: Jobs of which something has changed.
    """

    change: Change = field(default_factory=Change)
    orders: list[Order] = field(default_factory=list)
    wakes: bool = False
    touched: list[LiveJob] = field(default_factory=list)

    def event(
        self,
        state: LiveState,
        now_s: float,
        kind: str,
        *,
        job: LiveJob | None = None,
        node: str = "",
        cause: int | None = None,
        message: str = "",
    ) -> int:
        """Tell what happened; returns the event's number. A job's row is added with it."""
        state.last_event += 1
        number = state.last_event
        if job is None:
            row = EventRow(number, now_s, kind, None, None, None, node or None, cause, 0, "", message)
        else:
            job.version = number
            attempt = job.attempt.number if job.attempt else None
            row = EventRow(
                number, now_s, kind, job.id, None, attempt, node or None, cause, job.state, job.owner, message
            )
            self.change.updates.append(job.row())
            self.touched.append(job)
        self.change.events.append(row)
        return number
