"""A trace and a cluster as the arrays that the engine and the decision core work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.state import Capacity, never_fits
from shunter.scheduler.types import RESOURCES, UNITS_PER, BoolArray, FloatArray, ResourceDemand, to_units

if TYPE_CHECKING:
    from shunter.traces.tables import ClusterSpec, Trace


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything about jobs and nodes that does not change during a replay; rows are jobs in submit order.

    Attributes:
        trace: Where the jobs come from.
        cluster: What they run on.
        columns: (J,) what orderings may read.
        demand: Gang sizes and per-task needs; a rejected job has no tasks.
        capacity: What the nodes have.
        run_s: (J,) seconds for which each job will hold its nodes.
        killed: (J,) whether it will be stopped at its limit.
        rejected: (J,) whether it could never run on this cluster.
        num_users: Users known by name.
    """

    trace: Trace
    cluster: ClusterSpec
    columns: JobColumns
    demand: ResourceDemand
    capacity: Capacity
    run_s: FloatArray
    killed: BoolArray
    rejected: BoolArray
    num_users: int

    @property
    def num_jobs(self) -> int:
        """Jobs, rejected ones included."""
        return len(self.run_s)


def capacity_of(cluster: ClusterSpec) -> Capacity:
    """A cluster's nodes in whole units; a resource that some group does not state is no constraint there."""
    unlimited = np.int64(1) << 50
    rows = []
    tracked = []
    for r, resource in enumerate(RESOURCES):
        amounts = [getattr(group, resource) for group in cluster.groups]
        known = [
            unlimited if amount is None else int(to_units(np.asarray([amount]), r, up=False)[0]) for amount in amounts
        ]
        rows.append(np.repeat(np.asarray(known, dtype=np.int64), [group.count for group in cluster.groups]))
        tracked.append(any(amount is not None for amount in amounts))
    return Capacity(units=np.stack(rows), tracked=(tracked[0], tracked[1], tracked[2]))


def prepare(trace: Trace, cluster: ClusterSpec, *, clairvoyant: bool = False) -> Workload:
    """The arrays of a replay.

    Args:
        trace: Jobs in submit order.
        cluster: Nodes to run them on.
        clairvoyant: Reservations count with actual run times instead of requested ones.

    Raises:
        TraceError: The trace has no jobs.
    """
    jobs = trace.jobs
    if not len(jobs):
        raise TraceError(f"{trace.name}: no jobs to replay")
    capacity = capacity_of(cluster)
    demand = jobs.demand()
    rejected = never_fits(demand, capacity)
    duration_s = jobs.floats("duration_s")
    asked_s = jobs.floats("requested_s")
    requested_s = np.where(np.isnan(asked_s), duration_s, asked_s)
    killed = (duration_s > requested_s) if cluster.kill_at_limit else np.zeros(len(jobs), dtype=np.bool_)
    run_s = np.where(killed, requested_s, duration_s)
    scarce = capacity.scarce
    user_idx, users = jobs.codes("user")
    queue_idx, _ = jobs.codes("queue")
    columns = JobColumns(
        submit_s=jobs.floats("submit_s"),
        requested_s=requested_s,
        expected_s=run_s if clairvoyant else requested_s,
        oracle_s=run_s,
        processors=demand.tasks * demand.shapes[demand.shape_idx, scarce] / UNITS_PER[scarce],
        priority=jobs.floats("priority"),
        attained_s=np.zeros(len(jobs)),
        user_idx=user_idx,
        queue_idx=queue_idx,
    )
    return Workload(
        trace=trace,
        cluster=cluster,
        columns=columns,
        demand=ResourceDemand(np.where(rejected, 0, demand.tasks), demand.shape_idx, demand.shapes),
        capacity=capacity,
        run_s=run_s,
        killed=killed,
        rejected=rejected,
        num_users=len(users),
    )
