"""What outages do to a running replay: which jobs they stop, and which nodes and GPUs they close and open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import GPU
from shunter.scheduler.errors import UsageError
from shunter.scheduler.failover import BlastRadius, Cause, Failover, Fate, Nodes, RunningJobs, failover
from shunter.scheduler.state import PLACEMENTS, ClusterState
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray, IntArray, ResourceDemand
from shunter.sim.failures import DRAIN, FAIL, REPAIR, RESUME, WHOLE_NODE, Outages
from shunter.sim.lifecycle import LOST, PREEMPTED

if TYPE_CHECKING:
    from shunter.sim.attempts import JobFailures
    from shunter.sim.engine import Options
    from shunter.sim.workload import Workload


FAILOVERS = ("requeue", "move")
"""What becomes of jobs that lose their nodes."""


def refuse_unsuited(
    workload: Workload, options: Options, outages: Outages | None, faults: JobFailures | None = None
) -> None:
    """Raise UsageError for rules that do not go together, before anything runs."""
    conservative = options.settings.backfill == "conservative"
    if options.failover == "move" and (conservative or options.settings.ordering.ordering.rounds):
        raise UsageError(
            "--failover move starts jobs ahead of the queue: it does not go with conservative backfilling, which "
            "promises times, or with policies of rounds; use requeue"
        )
    if options.failover == "move" and workload.capacity.parts is not None:
        raise UsageError(
            "--failover move looks for whole GPUs and shares of them: it knows neither MIG instances nor the memory of "
            "shares; use requeue"
        )
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


@dataclass(slots=True)
class Evacuation:
    """``scheduler.failover`` at work on one replay: who leaves failed and draining nodes, in which order, where to.

    Attributes:
        outages: What happens to nodes and GPUs.
        taken_away_s: (E,) when the node of each event goes, if it drains.
        place: Whether displaced jobs are moved at once, ahead of the queue; else the next pass places them.
        share: Blast radius: of the running jobs and their GPUs that may be on their way at once.
        deadline_s: (N,) when nodes that drain now are taken away; inf for any other.
        on_their_way: (J,) jobs that were displaced and have not begun to run again.
        is_holding: Whether jobs that should leave were left where they are for now.
    """

    outages: Outages
    taken_away_s: FloatArray
    place: bool
    share: float
    deadline_s: FloatArray
    on_their_way: BoolArray
    is_holding: bool = False

    @classmethod
    def of(cls, outages: Outages, options: Options, num_nodes: int, num_jobs: int) -> Evacuation:
        """Nothing has happened."""
        return cls(
            outages,
            taken_away_s(outages),
            options.failover == "move",
            options.blast_radius,
            np.full(num_nodes, np.inf),
            np.zeros(num_jobs, dtype=np.bool_),
        )

    def displaced(self, state: ClusterState, first: int, last: int, now_s: float) -> list[Leaving]:
        """Who has to stop because of the events ``first:last``, or was held back before, in the core's order."""
        outages = self.outages
        kinds, node, gpu = outages.kind[first:last], outages.node[first:last], outages.gpu[first:last]
        whole = gpu == WHOLE_NODE
        failed = np.zeros(state.node_free.shape[1], dtype=np.bool_)
        failed[node[(kinds == FAIL) & whole]] = True
        self.deadline_s[node[whole]] = np.where(kinds == DRAIN, self.taken_away_s[first:last], np.inf)[whole]
        broken = np.stack([node, gpu], axis=1)[(kinds == FAIL) & ~whole]
        if not (failed.any() or len(broken) or np.isfinite(self.deadline_s[node]).any() or self.is_holding):
            return []
        jobs = running_jobs(state, now_s)
        healthy = (state.node_i[at.OPEN] == 1) & np.isinf(self.deadline_s)
        healthy[node[np.isin(kinds, (FAIL, DRAIN))]] = False  # one with a broken GPU is left to the next pass
        free = state.capacity.units.copy()
        free[state.rows] = state.node_free[: len(state.rows)]
        nodes = Nodes(free, healthy, failed, self.deadline_s, broken)
        rows = state.running
        self.on_their_way[rows] = False
        held_gpus = state.demand.tasks * state.demand.shapes[state.demand.shape_idx, GPU] / UNITS_PER[GPU]
        away = self.on_their_way
        limit = BlastRadius(self.share, int(away.sum()), float(held_gpus[away].sum()))
        plan = failover(
            jobs, nodes, now_s, limit=limit, place=self.place, may_run=lambda row: nodes_for(state, int(rows[row]))
        )
        return self._leaving(plan, rows.copy())

    def _leaving(self, plan: Failover, rows: IntArray) -> list[Leaving]:
        """The plan as what the engine does; a job on a failed node ends, whatever the plan holds back."""
        leaving = []
        self.is_holding = False
        for job in plan.displaced:
            if job.fate is Fate.HOLD and job.cause is Cause.DRAINING:
                self.is_holding = True
                continue
            ended = PREEMPTED if job.cause is Cause.DRAINING else LOST
            leaving.append(Leaving(int(rows[job.row]), ended, job.placement))
            self.on_their_way[rows[job.row]] = True
        return leaving

    def has_room_for_more(self, state: ClusterState) -> bool:
        """Whether jobs that were displaced run again, so that others that are held back may go."""
        return self.is_holding and bool(self.on_their_way[state.running].any())

    def arrays(self) -> dict[str, Any]:
        """What changes during a run, by name, for a checkpoint."""
        held = np.asarray([self.is_holding])
        return {"leaving_deadline_s": self.deadline_s, "leaving_on_their_way": self.on_their_way, "leaving_held": held}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays``."""
        self.deadline_s[:] = arrays["leaving_deadline_s"]
        self.on_their_way[:] = arrays["leaving_on_their_way"]
        self.is_holding = bool(arrays["leaving_held"][0])


class Leaving(NamedTuple):
    """A job whose attempt is over: its row, how that ended, and (node, tasks) where it goes at once, if it does."""

    row: int
    ended: int
    placement: tuple[tuple[int, int], ...]


def nodes_for(state: ClusterState, row: int) -> BoolArray:
    """(N,) nodes that a job may use at all."""
    classes = state.shapes[at.NUM_SHAPE_ROWS :, state.jobs_i[at.SHAPE, row]] == 1
    allowed: BoolArray = classes[state.node_i[at.NODE_CLASS]]
    return allowed


def move(state: ClusterState, row: int, placement: tuple[tuple[int, int], ...], now_s: float) -> bool:
    """Start a waiting job where a plan says, if that is possible now; returns whether it was."""
    if not placement or not (state.queue == row).any():
        return False
    usable = np.zeros(state.node_free.shape[1], dtype=np.int64)
    for node, tasks in placement:
        usable[node] = tasks
    room = state.slots[state.jobs_i[at.SHAPE, row]]
    if (room < usable).any():
        return False
    state.start_on(row, now_s, usable)
    return True


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
