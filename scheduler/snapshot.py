"""What a policy may know: frozen copies of the state at one decision, the same in the simulator and in the daemon."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shunter.scheduler.types import BoolArray, FloatArray, IntArray, ResourceDemand

if TYPE_CHECKING:
    from shunter.scheduler.capacity import Capacity


@dataclass(frozen=True, slots=True)
class JobColumns:
    """Facts about jobs that do not change while they wait, each of shape (J,).

    Attributes:
        submit_s: Submit time.
        requested_s: The user's limit; the expected run time where the user gave none.
        expected_s: Run time that decisions count with: the request, a prediction, or the actual one (clairvoyant).
        oracle_s: Actual run time for orderings that are told it, as a bound; NaN where nobody can know.
        processors: Units of the cluster's first scarce resource over the gang: GPUs on a GPU cluster, CPUs otherwise.
        priority: Higher is more urgent.
        attained_s: Processor-seconds received so far, over all attempts.
        user_idx: Row of the user in usage tables; −1 when unknown.
        queue_idx: Row of the queue (partition); −1 when unknown.
        group_idx: Row of the group (virtual cluster) in ``Capacity.quotas``; −1 without a quota.
        lane_idx: Which queue of its own the job waits in: 0, or its group's where groups own nodes.
        model_idx: Row of the model class in ``Capacity.speeds``.
        deadline_s: When it should have ended; inf without a deadline.
        preemptible: 1 where the job may be stopped for others.
        checkpoint_s: Seconds of work between two savings of its own; NaN: it saves only when told to stop.
        restart_s: Seconds that a new attempt needs before it works on.
        power_w: Watts that the job may draw beyond what its nodes draw anyway, at most.
    """

    submit_s: FloatArray
    requested_s: FloatArray
    expected_s: FloatArray
    oracle_s: FloatArray
    processors: FloatArray
    priority: FloatArray
    attained_s: FloatArray
    user_idx: IntArray
    queue_idx: IntArray
    group_idx: IntArray
    lane_idx: IntArray
    model_idx: IntArray
    deadline_s: FloatArray
    preemptible: IntArray
    checkpoint_s: FloatArray
    restart_s: FloatArray
    power_w: FloatArray

    @classmethod
    def of(cls, submit_s: FloatArray, **given: Any) -> JobColumns:
        """Columns of jobs of which little is known: run times and processors 1, no priority, no owner, no rules."""
        num_jobs = len(submit_s)
        ones, zeros = np.ones(num_jobs), np.zeros(num_jobs)
        none, unknown = np.zeros(num_jobs, np.int64), np.full(num_jobs, -1, np.int64)
        defaults: dict[str, Any] = dict.fromkeys(("requested_s", "expected_s", "oracle_s", "processors"), ones)
        defaults |= dict.fromkeys(("priority", "attained_s", "restart_s", "power_w"), zeros)
        defaults["checkpoint_s"] = np.full(num_jobs, np.nan)
        defaults |= dict.fromkeys(("user_idx", "queue_idx", "group_idx"), unknown)
        defaults |= dict.fromkeys(("lane_idx", "model_idx", "preemptible"), none)
        defaults["deadline_s"] = np.full(num_jobs, np.inf)
        return cls(
            submit_s, **{name: np.array(given.get(name, array), array.dtype) for name, array in defaults.items()}
        )

    def take(self, rows: IntArray | slice, *, frozen: bool = True) -> JobColumns:
        """The same facts for some rows, as copies (of a slice: views), not to be written unless ``frozen`` is off."""
        chosen = {f.name: getattr(self, f.name)[rows] for f in fields(self)}
        for array in chosen.values():
            array.flags.writeable = not frozen
        return replace(self, **chosen)

    def __len__(self) -> int:
        return len(self.submit_s)


@dataclass(frozen=True, slots=True)
class QueueView:
    """The waiting jobs as an ordering sees them: one row a job, in the order of submission or of the last pass.

    Attributes:
        now_s: Decision time.
        jobs: (Q,) columns.
        total_processors: Capacity in the unit of ``jobs.processors``.
        usage_s: (U,) decayed processor-seconds a user has had, at ``now_s``; empty where the ordering does not ask.
        shares: (Q,) weighted dominant shares of the jobs' groups; empty where the ordering does not ask.
        num_others: Jobs in the system that the view does not have: the running ones, in a view of the queue.
        features: (Q, F) columns of ``scheduler.features``; empty where the ordering does not ask.
        loads: (Q,) predicted loads by other work on the nodes that the jobs would take; empty where nobody asks.
    """

    now_s: float
    jobs: JobColumns
    total_processors: float
    usage_s: FloatArray = field(default_factory=lambda: np.zeros(0))
    shares: FloatArray = field(default_factory=lambda: np.zeros(0))
    num_others: int = 0
    features: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    loads: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def wait_s(self) -> FloatArray:
        """(Q,) seconds waited so far."""
        return np.maximum(self.now_s - self.jobs.submit_s, 0.0)


class JobHistories(NamedTuple):
    """What is known of jobs' users and of equal jobs, job by job; rows as in ``kernels.features``.

    Attributes:
        users: (H, J) of the job's user.
        alike: (H, J) of jobs of the same user, request and size.
    """

    users: FloatArray
    alike: FloatArray


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state at one decision. Arrays are copies; rows 0..num_running are running, the others wait in order.

    Attributes:
        version: State version that a plan will be checked against.
        now_s: Decision time.
        rows: (J,) the state's own row numbers of these jobs; plans name jobs by them.
        num_running: How many of the jobs run.
        columns: (J,) facts about the jobs.
        demand: Gang sizes and per-task needs of the jobs.
        capacity: What the nodes have when empty.
        started_s: (K,) start of the running jobs' current attempts.
        expected_end_s: (K,) their expected ends; a past one means overdue.
        alloc_job: (A,) placement entries of the running jobs: the job, counted from 0 …
        alloc_node: (A,) … its node …
        alloc_tasks: (A,) … and the tasks there.
        reserved_s: (Q,) promised starts; NaN where there is none.
        released: Whether capacity was freed since the last pass.
        alloc_gpus: (A,) bits of the GPUs that an entry holds on its node; 0 where GPUs are not told apart.
        alloc_slice: (A,) first memory slice of a MIG instance; −1 where the entry is none.
        closed: (N,) nodes that take no new work.
        lost_gpus: (N,) bits of the GPUs that are out of service.
        entered_s: (Q,) when the waiting jobs entered the queue, for the last time.
        overhead_s: (J,) restart overhead of the present attempt, or of the next one.
        rate: (K,) speeds of the running jobs.
        since_s: (K,) times from which on these hold.
        done_s: (K,) work that their attempts had done by then.
        stopping: (K,) running jobs that have been told to stop.
        drawn: Tasks for which the random placement has drawn so far.
        seed: Its seed.
        node_load: (N,) predicted loads of the nodes by work that is not the scheduler's; 0 where nobody tells.
        histories: (J,) what is known of the jobs' users; None where no ordering asks.
    """

    version: int
    now_s: float
    rows: IntArray
    num_running: int
    columns: JobColumns
    demand: ResourceDemand
    capacity: Capacity
    started_s: FloatArray
    expected_end_s: FloatArray
    alloc_job: IntArray
    alloc_node: IntArray
    alloc_tasks: IntArray
    reserved_s: FloatArray
    released: bool
    alloc_gpus: IntArray
    alloc_slice: IntArray
    closed: BoolArray
    lost_gpus: IntArray
    entered_s: FloatArray
    overhead_s: FloatArray
    rate: FloatArray
    since_s: FloatArray
    done_s: FloatArray
    stopping: BoolArray
    drawn: int
    seed: int
    node_load: FloatArray
    histories: JobHistories | None = None

    def by_row(self) -> tuple[Snapshot, FloatArray]:
        """The same with the waiting jobs in the order of their rows, and (Q,) their places in the queue."""
        first = self.num_running
        waiting = self.rows[first:]
        if (waiting[1:] > waiting[:-1]).all():
            return self, np.arange(len(waiting), dtype=np.float64)
        places = np.argsort(waiting)
        jobs = np.concatenate([np.arange(first), first + places])
        known = self.histories
        return replace(
            self,
            rows=self.rows[jobs],
            columns=self.columns.take(jobs),
            demand=replace(self.demand, tasks=self.demand.tasks[jobs], shape_idx=self.demand.shape_idx[jobs]),
            reserved_s=self.reserved_s[places],
            entered_s=self.entered_s[places],
            overhead_s=self.overhead_s[jobs],
            histories=None if known is None else JobHistories(known.users[:, jobs], known.alike[:, jobs]),
        ), places.astype(np.float64)

    @property
    def num_waiting(self) -> int:
        """Jobs that wait."""
        return len(self.rows) - self.num_running

    @property
    def total_processors(self) -> float:
        """Capacity in GPUs on a GPU cluster, in CPUs otherwise."""
        return self.capacity.processors

    def entries_of(self, job: int) -> list[tuple[int, int, int, int]]:
        """(node, tasks, bits of the GPUs, first slice) of a running job, counted from 0. Cost: O(A)."""
        own = np.flatnonzero(self.alloc_job == job)
        columns = (self.alloc_node, self.alloc_tasks, self.alloc_gpus, self.alloc_slice)
        return list(zip(*(column[own].tolist() for column in columns), strict=True))

    def free_units(self) -> IntArray:
        """(R, N) units that no running job holds."""
        free = self.capacity.units.copy()
        shapes = self.demand.shapes[self.demand.shape_idx[self.alloc_job]]
        for resource in range(free.shape[0]):
            np.subtract.at(free[resource], self.alloc_node, self.alloc_tasks * shapes[:, resource])
        return free
