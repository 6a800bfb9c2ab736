"""A trace and a cluster as the arrays that the engine and the decision core work on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.capacity import Capacity, never_fits
from shunter.scheduler.durations import RunModel
from shunter.scheduler.errors import TraceError, UsageError
from shunter.scheduler.features import Past
from shunter.scheduler.rounds import Elastic
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.types import RESOURCES, UNITS_PER, BoolArray, FloatArray, IntArray, ResourceDemand
from shunter.sim.cluster_arrays import MOST_GPUS_APART, Places, allowed_places, capacity_of, quotas_of, speeds_of
from shunter.sim.elastic import elastic_demand, elastic_of
from shunter.sim.estimates import check_default_request, is_prediction, which_estimates

if TYPE_CHECKING:
    from shunter.scheduler.policies.registry import Ordering
    from shunter.traces.tables import ClusterSpec, Trace


@dataclass(frozen=True, slots=True)
class Earlier:
    """The jobs of a trace before a window.

    Attributes:
        trace: These and the window's.
        run_s: (P,) what the earlier ones took.
        rejected: (P,) whether they could never run.
    """

    trace: Trace
    run_s: FloatArray
    rejected: BoolArray


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
        over_cap: (J,) whether that is so because it draws more than the power cap allows.
        num_users: Users known by name.
        places: Classes of nodes, and which of them each group's jobs and each GPU type mean.
        groups: Names of the groups of ``columns.group_idx``.
        elastic: On how many tasks jobs may run; None where that is not decided here.
        predicts: Decisions count with predicted run times; ``columns.expected_s`` are the requests until then.
        model: What tells these run times; None: the user's last jobs do.
        default_request_s: Request of jobs without one, as a model is told it; None: there is none.
        past: Jobs of the trace that had ended before these come; None where nobody asks.
        earlier: All jobs before these with their run times, for a model; None where none asks.
    """

    trace: Trace
    cluster: ClusterSpec
    columns: JobColumns
    demand: ResourceDemand
    capacity: Capacity
    run_s: FloatArray
    killed: BoolArray
    rejected: BoolArray
    over_cap: BoolArray
    num_users: int
    places: Places
    groups: tuple[str, ...]
    elastic: Elastic | None = None
    predicts: bool = False
    model: RunModel | None = None
    default_request_s: float | None = None
    past: Past | None = None
    earlier: Earlier | None = None

    @property
    def task_gpus(self) -> FloatArray:
        """(J,) GPUs of a task; of one that takes a MIG instance, the instance's part of its GPU."""
        return self.places.task_gpus

    @property
    def num_jobs(self) -> int:
        """Jobs, rejected ones included."""
        return len(self.run_s)


def with_past(
    workload: Workload, trace: Trace, start: int, *, ordering: Ordering, default_request_s: float | None = None
) -> Workload:
    """A workload that begins with row ``start`` of a trace, with what jobs before it teach, where that is asked for.

    A learned order and predicted run times go by what has ended. A scheduler that has run for months knows of it, so a
    window of a log begins with it, too: each earlier job counts as started when it was submitted, and is known where
    it had ended by then when the window's first job comes.
    """
    if not start or not (ordering.needs_features or workload.predicts):
        return workload
    earlier = prepare(trace.window(0, start), workload.cluster, default_request_s=default_request_s)
    columns = earlier.columns
    number = {name: i for i, name in enumerate(workload.trace.jobs.codes("user")[1])}
    own = np.asarray([number.get(name, -2) for name in earlier.trace.jobs.codes("user")[1]] + [-1], dtype=np.int64)
    user_idx = own[columns.user_idx]  # −1 is the last place, that of unknown users
    rows, end_s = ended_in_order(earlier)
    rows = rows[(end_s[rows] <= workload.columns.submit_s[0]) & (user_idx[rows] > -2)]
    past = Past(user_idx[rows], columns.requested_s[rows], columns.processors[rows], earlier.run_s[rows], end_s[rows])
    if workload.model is None:
        return replace(workload, past=past)
    together = trace.window(0, start + workload.num_jobs)
    return replace(workload, past=past, earlier=Earlier(together, earlier.run_s, earlier.rejected))


def ended_in_order(workload: Workload) -> tuple[IntArray, FloatArray]:
    """Rows of the jobs that can run, in the order of their ends if each started when submitted; and (J,) these ends."""
    end_s = workload.columns.submit_s + workload.run_s
    order = np.argsort(end_s, kind="stable")
    return order[~workload.rejected[order]], end_s


def refuse_free_riders(trace: Trace, cluster: ClusterSpec, demand: ResourceDemand, capacity: Capacity) -> None:
    """Raise UsageError when no job asks for anything that the cluster counts: all of them would run at once."""
    counted = [resource for r, resource in enumerate(RESOURCES) if capacity.tracked[r]]
    asked = [resource for r, resource in enumerate(RESOURCES) if demand.shapes[:, r].any()]
    if not set(counted) & set(asked):
        raise UsageError(
            f"cluster {cluster.name!r} counts {' and '.join(counted)}, but the jobs of {trace.name} ask for "
            f"{' and '.join(asked) or 'nothing'}: give a cluster that has what they ask for"
        )


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for jobs that do not say.

    Attributes:
        checkpoint_s: Seconds of work between two savings; None: a job saves only when told to stop.
        restart_s: Seconds that an attempt after the first needs before it works on.
    """

    checkpoint_s: float | None = None
    restart_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("checkpoint interval", self.checkpoint_s), ("restart overhead", self.restart_s)):
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise UsageError(f"{name} {value} is not a number of seconds of at least 0")


def prepare(
    trace: Trace,
    cluster: ClusterSpec,
    *,
    clairvoyant: bool = False,
    estimates: str | RunModel = "request",
    default_request_s: float | None = None,
    defaults: Defaults | None = None,
    tell_gpus_apart: bool = False,
    can_close: bool = False,
    elastic: bool = False,
) -> Workload:
    """The arrays of a replay.

    Args:
        trace: Jobs in submit order.
        cluster: Nodes to run them on.
        clairvoyant: As ``estimates="actual"``.
        estimates: What decisions count with: ``request``, ``tsafrir`` (predictions from the user's last jobs),
            ``actual`` run times, or a model that predicts them.
        default_request_s: Request of jobs without one; None: their actual run time, which no live cluster would know.
            Such jobs are not killed at it.
        defaults: What holds for jobs that do not say.
        tell_gpus_apart: GPUs are counted one by one even if no job shares one.
        can_close: Nodes or GPUs may go out of service.
        elastic: Elastic jobs may run on other numbers of GPUs than they ask for.

    Raises:
        TraceError: The trace has no jobs.
        UsageError: No job asks for anything that the cluster counts, or one asks for a GPU type or a MIG profile that
            no node has. An unknown kind of estimates, or a default request that is no number above 0.
    """
    jobs = trace.jobs
    if not len(jobs):
        raise TraceError(f"{trace.name}: no jobs to replay")
    defaults = defaults or Defaults()
    named = which_estimates(estimates, clairvoyant)
    check_default_request(default_request_s)
    places = allowed_places(trace, cluster)
    demand = elastic_demand(jobs, places) if elastic else jobs.demand(**places.of_tasks())
    takes_instances = bool(demand.is_instance.any())
    shares = _shares_gpus(demand)
    capacity = capacity_of(
        cluster,
        gpus_asked=bool(demand.shapes[:, RESOURCES.index("gpus")].any()),
        shares_gpus=tell_gpus_apart or bool(shares.any()) or takes_instances,
        places=places,
        can_close=can_close,
        counts_parts=takes_instances or (demand.gpu_memory is not None and bool(demand.gpu_memory[shares].any())),
    )
    if takes_instances and capacity.gpus is None:
        raise UsageError(
            f"cluster {cluster.name!r}: MIG instances need GPUs that can be told apart: whole ones, and at most "
            f"{MOST_GPUS_APART} on a node"
        )
    refuse_free_riders(trace, cluster, demand, capacity)
    group_idx, groups = jobs.codes("group")
    quotas, group_idx, groups = quotas_of(cluster, capacity, group_idx, groups)
    model_idx, models = jobs.codes("model_class")
    speeds = speeds_of(cluster, places, models)
    capacity = replace(capacity, quotas=quotas, speeds=speeds)
    sizes = elastic_of(jobs, demand, capacity) if elastic else None
    rejected = never_fits(demand if sizes is None else replace(demand, tasks=sizes.min_tasks), capacity)
    scarce = capacity.scarce
    size = demand.tasks * demand.shapes[demand.shape_idx, scarce]
    power_w = places.peak_draw_w(demand) if cluster.power_cap_w is not None else np.zeros(len(jobs))
    over_cap = np.zeros(len(jobs), dtype=np.bool_)
    if cluster.power_cap_w is not None:
        over_cap = ~rejected & (np.ceil(power_w) > capacity.power_cap_w)
        rejected |= over_cap
    if quotas is not None:
        rejected |= (group_idx >= 0) & (size > quotas.limit[group_idx])
    duration_s = jobs.floats("duration_s")
    asked_s = jobs.floats("requested_s")
    missing_s = duration_s if default_request_s is None else default_request_s
    requested_s = np.where(np.isnan(asked_s), missing_s, asked_s)
    killed = (duration_s > asked_s) if cluster.kill_at_limit else np.zeros(len(jobs), dtype=np.bool_)
    run_s = np.where(killed, requested_s, duration_s)
    user_idx, users = jobs.codes("user")
    queue_idx, _ = jobs.codes("queue")
    marked = jobs.frame["preemptible"].to_numpy()
    columns = JobColumns.of(
        jobs.floats("submit_s"),
        requested_s=requested_s,
        expected_s=run_s if named == "actual" else requested_s,
        oracle_s=run_s,
        processors=size / UNITS_PER[scarce],
        priority=jobs.floats("priority"),
        user_idx=user_idx,
        queue_idx=queue_idx,
        group_idx=group_idx,
        lane_idx=places.lane_idx,
        model_idx=model_idx + 1,
        deadline_s=jobs.floats("deadline_s", np.inf),
        preemptible=marked if marked.any() else np.ones(len(jobs)),
        checkpoint_s=jobs.floats("checkpoint_s", np.nan if defaults.checkpoint_s is None else defaults.checkpoint_s),
        restart_s=jobs.floats("restart_s", defaults.restart_s),
        power_w=power_w,
    )
    return Workload(
        trace=trace,
        cluster=cluster,
        columns=columns,
        demand=replace(
            demand,
            tasks=np.where(rejected, 0, demand.tasks),
            jobs_of_shape=np.bincount(demand.shape_idx, minlength=len(demand.shapes)),
        ),
        capacity=capacity,
        run_s=run_s,
        killed=killed,
        rejected=rejected,
        over_cap=over_cap,
        num_users=len(users),
        places=places,
        groups=tuple(groups),
        elastic=sizes,
        predicts=is_prediction(estimates),
        model=estimates if isinstance(estimates, RunModel) else None,
        default_request_s=default_request_s,
    )


def _shares_gpus(demand: ResourceDemand) -> BoolArray:
    """(S,) shapes that take a part of one GPU."""
    gpus = demand.shapes[:, RESOURCES.index("gpus")]
    shared: BoolArray = (gpus > 0) & (gpus < UNITS_PER[RESOURCES.index("gpus")])
    return shared
