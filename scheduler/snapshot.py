"""What a policy may know: frozen copies of the state at one decision, the same in the simulator and in the daemon."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray, ResourceDemand

if TYPE_CHECKING:
    from shunter.scheduler.state import Capacity


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

    def take(self, rows: IntArray) -> JobColumns:
        """The same facts for some rows, as copies that cannot be written."""
        chosen = {f.name: getattr(self, f.name)[rows] for f in fields(self)}
        for array in chosen.values():
            array.flags.writeable = False
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
    """

    now_s: float
    jobs: JobColumns
    total_processors: float
    usage_s: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def wait_s(self) -> FloatArray:
        """(Q,) seconds waited so far."""
        return np.maximum(self.now_s - self.jobs.submit_s, 0.0)


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

    @property
    def num_waiting(self) -> int:
        """Jobs that wait."""
        return len(self.rows) - self.num_running

    @property
    def total_processors(self) -> float:
        """Capacity in GPUs on a GPU cluster, in CPUs otherwise."""
        return self.capacity.processors

    def free_units(self) -> IntArray:
        """(R, N) units that no running job holds."""
        free = self.capacity.units.copy()
        shapes = self.demand.shapes[self.demand.shape_idx[self.alloc_job]]
        for resource in range(free.shape[0]):
            np.subtract.at(free[resource], self.alloc_node, self.alloc_tasks * shapes[:, resource])
        return free
