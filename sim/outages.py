"""What outages do to a running replay: which jobs they stop, and which nodes and GPUs they close and open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import GPU
from shunter.scheduler.errors import UsageError
from shunter.scheduler.failover import Cause, Nodes, RunningJobs, failover
from shunter.scheduler.state import PLACEMENTS, ClusterState
from shunter.scheduler.types import FloatArray, IntArray, ResourceDemand
from shunter.sim.failures import DRAIN, FAIL, REPAIR, RESUME, WHOLE_NODE, Outages
from shunter.sim.lifecycle import LOST, PREEMPTED

if TYPE_CHECKING:
    from shunter.sim.attempts import JobFailures
    from shunter.sim.engine import Options
    from shunter.sim.workload import Workload


def refuse_unsuited(
    workload: Workload, options: Options, outages: Outages | None, faults: JobFailures | None = None
) -> None:
    """Raise UsageError for rules that do not go together, before anything runs."""
    conservative = options.settings.backfill == "conservative"
    listed = workload.capacity.quotas is not None or workload.capacity.num_lanes > 1
    if conservative and (listed or options.settings.locality_s > 0 or workload.capacity.power_cap_w >= 0):
        raise UsageError(
            "conservative backfilling promises times on the whole cluster: it does not go with quotas, nodes that "
            "groups own, a power cap or waiting for locality; use easy"
        )
    fails = outages is not None or faults is not None
    dynamic = fails or options.preemption.rules or workload.capacity.speeds is not None
    if options.ties == "per-event" and (dynamic or options.placements):
        raise UsageError("--ties per-event reproduces other simulators and knows no preemption, failures or speeds")
    counts_gpus = workload.capacity.tracked[GPU] and workload.capacity.gpus is None
    if counts_gpus and PLACEMENTS[options.settings.placement] >= at.DOT_PRODUCT:
        raise UsageError(
            f"placement {options.settings.placement} looks at single GPUs: cluster {workload.cluster.name!r} has to be "
            "described by its nodes"
        )
    if faults is not None and workload.killed.any():
        raise UsageError(
            "recorded attempts took as long as they did: they do not go with --kill-at-limit, which ends some sooner"
        )
    if outages is not None and (outages.gpu != WHOLE_NODE).any() and workload.capacity.gpus is None:
        raise UsageError("GPUs of this cluster cannot fail one by one: a node has too many, or a fraction of one")


def outages_at(
    state: ClusterState, outages: Outages, taken_away_s: FloatArray, first: int, last: int, now_s: float
) -> list[tuple[int, int]]:
    """(row, how its attempt ended) of the running jobs that the outages ``first:last`` stop, in the core's order."""
    kinds, node, gpu = outages.kind[first:last], outages.node[first:last], outages.gpu[first:last]
    num_nodes = state.node_free.shape[1]
    whole = gpu == WHOLE_NODE
    failed = np.zeros(num_nodes, dtype=np.bool_)
    failed[node[(kinds == FAIL) & whole]] = True
    deadline_s = np.full(num_nodes, np.inf)
    draining = kinds == DRAIN
    deadline_s[node[draining]] = taken_away_s[first:last][draining]
    broken = np.stack([node, gpu], axis=1)[(kinds == FAIL) & ~whole]
    if not failed.any() and not len(broken) and not np.isfinite(deadline_s).any():
        return []
    jobs = running_jobs(state, now_s)
    healthy = (state.node_i[at.OPEN] == 1) & ~failed
    free = state.capacity.units.copy()
    free[state.rows] = state.node_free[: len(state.rows)]
    nodes = Nodes(free, healthy, failed, deadline_s, broken)
    rows = state.running.tolist()
    plan = failover(jobs, nodes, now_s, place=False)
    ended = {Cause.NODE_FAILED: LOST, Cause.GPU_FAILED: LOST, Cause.DRAINING: PREEMPTED}
    return [(rows[job.row], ended[job.cause]) for job in plan.displaced]


def taken_away_s(outages: Outages) -> FloatArray:
    """(E,) when the node of an event is taken away if it drains: its next failure, if that is its next event; else inf.

    Cost: O(E log E), once for a whole replay.
    """
    order = np.lexsort((np.arange(len(outages)), outages.node))
    order = order[outages.gpu[order] == WHOLE_NODE]
    node, kind, time_s = outages.node[order], outages.kind[order], outages.time_s[order]
    fails_next = (node[1:] == node[:-1]) & (kind[1:] == FAIL)
    found = np.full(len(outages), np.inf)
    found[order[:-1][fails_next]] = time_s[1:][fails_next]
    return found


def running_jobs(state: ClusterState, now_s: float) -> RunningJobs:
    """The running jobs as the failover function sees them."""
    rows = state.running
    entries = [
        (i, node, tasks, g)
        for i, row in enumerate(rows.tolist())
        for node, tasks, mask in state.entries_of(row)
        for g in ([b for b in range(mask.bit_length()) if mask >> b & 1] or [-1])
    ]
    columns: IntArray = np.asarray(entries, dtype=np.int64).reshape(-1, 4).T
    done_s: FloatArray = np.asarray([state.work_done_s(row, now_s) for row in rows.tolist()])
    checkpoint_s = state.columns.checkpoint_s[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        at_risk_s = np.where(checkpoint_s > 0, done_s % checkpoint_s, np.where(checkpoint_s == 0, 0.0, done_s))
    return RunningJobs(
        demand=ResourceDemand(state.demand.tasks[rows], state.demand.shape_idx[rows], state.demand.shapes),
        priority=state.columns.priority[rows],
        expected_end_s=state.jobs_f[at.END_S, rows],
        at_risk_s=at_risk_s,
        entry_job=columns[0],
        entry_node=columns[1],
        entry_tasks=columns[2],
        entry_gpu=columns[3],
    )


def close_and_open(state: ClusterState, outages: Outages, first: int, last: int) -> None:
    """Let nodes and GPUs go out of service, or come back, in the order of the outages ``first:last``."""
    for i in range(first, last):
        node, gpu, kind = int(outages.node[i]), int(outages.gpu[i]), int(outages.kind[i])
        if gpu == WHOLE_NODE:
            state.set_open(node, is_open=kind in (REPAIR, RESUME))
        elif kind == FAIL:
            state.lose_gpus(node, 1 << gpu)
        else:
            state.regain_gpus(node, 1 << gpu)
