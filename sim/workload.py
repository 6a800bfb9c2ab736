"""A trace and a cluster as the arrays that the engine and the decision core work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError, UsageError
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


def capacity_of(cluster: ClusterSpec, *, gpus_asked: bool = False) -> Capacity:
    """A cluster's nodes in whole units.

    CPUs or memory that a group does not state are no constraint there: logs often do not know them. GPUs that a group
    does not state are not there. They are counted at all when some group states them, or when jobs ask for them
    (``gpus_asked``) on nodes that are described by their CPUs.
    """
    unlimited = np.int64(1) << 42  # more than any node has, and summable over a million nodes
    rows = []
    tracked = []
    for r, resource in enumerate(RESOURCES):
        missing = np.int64(0) if resource == "gpus" else unlimited
        amounts = [getattr(group, resource) for group in cluster.groups]
        known = [
            missing if amount is None else int(to_units(np.asarray([amount]), r, up=False)[0]) for amount in amounts
        ]
        rows.append(np.repeat(np.asarray(known, dtype=np.int64), [group.count for group in cluster.groups]))
        tracked.append(any(amount is not None for amount in amounts))
    counts_gpus = tracked[2] or (gpus_asked and tracked[0])
    return Capacity(units=np.stack(rows), tracked=(tracked[0], tracked[1], counts_gpus))


def refuse_free_riders(trace: Trace, cluster: ClusterSpec, demand: ResourceDemand, capacity: Capacity) -> None:
    """Raise UsageError when no job asks for anything that the cluster counts: all of them would run at once."""
    counted = [resource for r, resource in enumerate(RESOURCES) if capacity.tracked[r]]
    asked = [resource for r, resource in enumerate(RESOURCES) if demand.shapes[:, r].any()]
    if not set(counted) & set(asked):
        raise UsageError(
            f"cluster {cluster.name!r} counts {' and '.join(counted)}, but the jobs of {trace.name} ask for "
            f"{' and '.join(asked) or 'nothing'}: give a cluster that has what they ask for"
        )


def prepare(trace: Trace, cluster: ClusterSpec, *, clairvoyant: bool = False) -> Workload:
    """The arrays of a replay.

    Args:
        trace: Jobs in submit order.
        cluster: Nodes to run them on.
        clairvoyant: Reservations count with actual run times instead of requested ones.

    Raises:
        TraceError: The trace has no jobs.
        UsageError: No job asks for anything that the cluster counts.
    """
    jobs = trace.jobs
    if not len(jobs):
        raise TraceError(f"{trace.name}: no jobs to replay")
    demand = jobs.demand()
    capacity = capacity_of(cluster, gpus_asked=bool(demand.shapes[:, RESOURCES.index("gpus")].any()))
    refuse_free_riders(trace, cluster, demand, capacity)
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
