"""What becomes of running jobs when nodes or GPUs fail or are drained: which to move, in what order, and where.

Pure functions of arrays, called by the simulator and by the daemon alike. A plan is a proposal: whoever carries it out
checks it against the state of that moment. Also here: how much work survives a failure, when to try again, and how long
a node that keeps failing is held out.

The order. Jobs are served by

1. priority, the highest first;
2. seconds of work that a move still saves, the most first: the time since the last checkpoint of a job on a draining
   node; 0 for one on a failed node, whose loss has happened. A moved job takes as many free GPUs as it holds, so with
   scarce room the greedy choice by loss per GPU, which is that time, saves the most GPU-seconds (Dantzig,
   Discrete-variable extremum problems, Operations Research 5(2), 1957: the density rule for knapsacks);
3. remaining time, the least first, which gives the least mean completion time (Schrage, A proof of the optimality of
   the shortest remaining processing time discipline, Operations Research 16(3), 1968);
4. row, so that equal jobs keep their order.

The blast radius. When much of a cluster seems to fail at once, the cause is more often a network or a monitor than the
nodes, and moving everything makes it worse. So no more than a share of the running jobs, and of the GPUs they hold, is
evicted at once; the rest is held, and the plan says so. (Kubernetes' node lifecycle controller does the same: beyond an
unhealthy-zone-threshold of 55 % of the nodes it slows evictions down, in small clusters it stops them.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray, IntArray, ResourceDemand

LONGEST_BACKOFF_S = 360.0
"""Longest wait before another attempt unless told otherwise: six minutes, as for Kubernetes' Jobs."""

GPUS = 2
"""Row of the GPUs in arrays over resources."""


class Cause(Enum):
    """Why a job cannot stay where it is."""

    NODE_FAILED = "node-failed"  # its attempt is over; it restarts from its last checkpoint
    GPU_FAILED = "gpu-failed"  # as above
    DRAINING = "draining"  # it runs, but would not end before its node is taken away


class Fate(Enum):
    """What the plan does with a job; each member says what happens next."""

    MOVE = "move"  # start it on the placement given, in this very plan
    REQUEUE = "requeue"  # no room now, or none was looked for: it waits in its place of the queue
    HOLD = "hold"  # the blast radius is used up: left as it is, and looked at again with the next plan


@dataclass(frozen=True, slots=True)
class RunningJobs:
    """The running jobs, one row each, and their placement, one entry each a job and node (or GPU).

    Attributes:
        demand: Gang sizes and needs per task, (K,).
        priority: (K,) higher is more urgent.
        expected_end_s: (K,) expected ends; a past one means overdue.
        at_risk_s: (K,) seconds of work since the last checkpoint: what a stop now throws away.
        entry_job: (A,) row of the job …
        entry_node: (A,) … its node …
        entry_tasks: (A,) … the tasks there …
        entry_gpu: (A,) … and the index of the GPU, −1 where the node's GPUs are not told apart.
    """

    demand: ResourceDemand
    priority: FloatArray
    expected_end_s: FloatArray
    at_risk_s: FloatArray
    entry_job: IntArray
    entry_node: IntArray
    entry_tasks: IntArray
    entry_gpu: IntArray

    @property
    def units(self) -> IntArray:
        """(K, R) units of one task."""
        return self.demand.shapes[self.demand.shape_idx]

    def units_of(self, row: int) -> IntArray:
        """(R,) units of one task of a job."""
        found: IntArray = self.demand.shapes[self.demand.shape_idx[row]]
        return found

    def __len__(self) -> int:
        return len(self.priority)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes as telemetry, or the simulator, knows them.

    Attributes:
        free: (R, N) units that nobody holds; of GPUs that are shared, only those of which nobody holds a part.
        is_healthy: (N,) whether work may be placed there: up, not draining, not held out.
        is_failed: (N,) whether everything on the node is lost.
        deadline_s: (N,) when a draining node is taken away; inf for any other, and for one without a date.
        failed_gpus: (F, 2) node and index of GPUs that have just failed. Where GPUs are not told apart the index counts
            the node's working GPUs, of which jobs hold the first, in the order of the entries.
    """

    free: IntArray
    is_healthy: BoolArray
    is_failed: BoolArray
    deadline_s: FloatArray
    failed_gpus: IntArray


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """How much may be evicted at once.

    The first job of the order may always go as long as nothing is in flight: a small cluster could never be drained
    otherwise. A job that would exceed the limit is held; later ones that do not exceed it still go.

    Attributes:
        share: Of the running jobs, and of the GPUs that they hold; 1 is no limit.
        jobs_in_flight: Jobs evicted earlier that do not run again yet.
        gpus_in_flight: Their GPUs.
    """

    share: float = 1.0
    jobs_in_flight: int = 0
    gpus_in_flight: float = 0.0


@dataclass(frozen=True, slots=True)
class Displaced:
    """One job that cannot stay, and what to do with it.

    Attributes:
        row: Row in ``RunningJobs``.
        cause: Why.
        fate: What happens.
        placement: (node, tasks) pairs of a job that moves, by node; else empty.
    """

    row: int
    cause: Cause
    fate: Fate
    placement: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Failover:
    """The plan, in the order in which to carry it out.

    Attributes:
        displaced: Every job that cannot stay.
        jobs_allowed: Evictions that the blast radius allowed.
        gpus_allowed: GPUs that it allowed.
    """

    displaced: tuple[Displaced, ...]
    jobs_allowed: int
    gpus_allowed: float

    def rows(self, fate: Fate) -> tuple[int, ...]:
        """Rows of the jobs with this fate."""
        return tuple(job.row for job in self.displaced if job.fate is fate)


def failover(
    jobs: RunningJobs,
    nodes: Nodes,
    now_s: float,
    *,
    limit: BlastRadius | None = None,
    place: bool = True,
    may_run: Callable[[int], BoolArray] | None = None,
) -> Failover:
    """What to do with the jobs that failed and draining nodes and failed GPUs displace.

    A job is displaced when a failed node or GPU held any part of it, or when a node that holds part of it is taken away
    before the job is expected to end. It stops as a whole, so what it holds on other nodes becomes free for itself and
    for those after it. Its new place is the healthy node with the least room that takes the whole gang, or else the
    fewest healthy nodes, those with most room first. Jobs that share a GPU are requeued: which part of which GPU is
    free is for an ordinary pass to see.

    Args:
        jobs: The running jobs.
        nodes: The nodes.
        now_s: Decision time.
        limit: Blast radius; by default none.
        place: Look for new places; else all are requeued, for a pass to place them in the order of the queue.
        may_run: For a job's row, (N,) the nodes where it may run at all (GPU type, owner); by default any.

    Cost: O(D (N log N + A)) for D displaced jobs.
    """
    limit = limit or BlastRadius()
    causes = displaced_jobs(jobs, nodes)
    held_gpus = gang_gpus(jobs)
    order = move_order(jobs, causes, now_s)
    jobs_allowed, gpus_allowed = allowance(limit, held_gpus, order)
    free = np.where(nodes.is_healthy, nodes.free, 0)
    plan, num_jobs, num_gpus = [], 0, 0.0
    for row in order:
        if num_jobs + 1 > jobs_allowed or num_gpus + held_gpus[row] > gpus_allowed + 1e-9:
            plan.append(Displaced(row, causes[row], Fate.HOLD))
            continue
        num_jobs, num_gpus = num_jobs + 1, num_gpus + float(held_gpus[row])
        _release(jobs, row, nodes.is_healthy, free)
        candidates = nodes.is_healthy & may_run(row) if may_run else nodes.is_healthy
        placement = _fit(jobs, row, candidates, free) if place else ()
        plan.append(Displaced(row, causes[row], Fate.MOVE if placement else Fate.REQUEUE, placement))
    return Failover(tuple(plan), jobs_allowed, gpus_allowed)


def displaced_jobs(jobs: RunningJobs, nodes: Nodes) -> dict[int, Cause]:
    """The jobs that cannot stay, by row, with the gravest cause of each."""
    causes: dict[int, Cause] = {}
    leaves_early = nodes.deadline_s[jobs.entry_node] < jobs.expected_end_s[jobs.entry_job]
    causes |= dict.fromkeys(np.unique(jobs.entry_job[leaves_early]).tolist(), Cause.DRAINING)
    for node, gpu in nodes.failed_gpus.tolist():
        causes |= dict.fromkeys(gpu_holders(jobs, node, gpu), Cause.GPU_FAILED)
    on_failed = np.unique(jobs.entry_job[nodes.is_failed[jobs.entry_node]]).tolist()
    return causes | dict.fromkeys(on_failed, Cause.NODE_FAILED)


def gpu_holders(jobs: RunningJobs, node: int, gpu: int) -> list[int]:
    """Rows of the jobs that hold a GPU of a node; see ``Nodes.failed_gpus`` for GPUs that are not told apart."""
    here = np.flatnonzero(jobs.entry_node == node)
    named = here[jobs.entry_gpu[here] == gpu]
    unnamed = here[jobs.entry_gpu[here] < 0]
    milli = jobs.entry_tasks[unnamed] * jobs.units[jobs.entry_job[unnamed], GPUS]
    after = np.cumsum(milli)
    first, last = gpu * UNITS_PER[GPUS], (gpu + 1) * UNITS_PER[GPUS]
    found = unnamed[(milli > 0) & (after > first) & (after - milli < last)]
    return np.unique(jobs.entry_job[np.concatenate([named, found])]).tolist()  # type: ignore[no-any-return]


def move_order(jobs: RunningJobs, causes: dict[int, Cause], now_s: float) -> list[int]:
    """The displaced rows in the order told at the top of this module."""
    rows = np.asarray(sorted(causes), dtype=np.int64)
    avoidable = np.asarray([causes[row] is Cause.DRAINING for row in rows.tolist()], dtype=np.bool_)
    saved_s = np.where(avoidable, jobs.at_risk_s[rows], 0.0)
    remaining_s = np.maximum(jobs.expected_end_s[rows] - now_s, 0.0)
    return rows[np.lexsort((rows, remaining_s, -saved_s, -jobs.priority[rows]))].tolist()  # type: ignore[no-any-return]


def gang_gpus(jobs: RunningJobs) -> FloatArray:
    """(K,) GPUs that each job holds."""
    return jobs.demand.tasks * jobs.units[:, GPUS] / UNITS_PER[GPUS]


def allowance(limit: BlastRadius, held_gpus: FloatArray, order: list[int]) -> tuple[int, float]:
    """Jobs and GPUs that may be evicted now, given the GPUs of all running jobs (K,) and the order of the displaced."""
    num_jobs = math.floor(limit.share * len(held_gpus) + 1e-9) - limit.jobs_in_flight
    num_gpus = limit.share * float(held_gpus.sum()) - limit.gpus_in_flight
    if limit.share > 0 and limit.jobs_in_flight == 0 and order:
        num_jobs, num_gpus = max(num_jobs, 1), max(num_gpus, float(held_gpus[order[0]]))
    return max(num_jobs, 0), max(num_gpus, 0.0)


def _release(jobs: RunningJobs, row: int, is_healthy: BoolArray, free: IntArray) -> None:
    """Give back what a job holds on healthy nodes; not the share of a GPU, of which others may hold the rest."""
    units = jobs.units_of(row)
    if _is_share(units):
        units = np.where(np.arange(len(units)) == GPUS, 0, units)
    entries = np.flatnonzero((jobs.entry_job == row) & is_healthy[jobs.entry_node])
    for entry in entries.tolist():
        free[:, jobs.entry_node[entry]] += jobs.entry_tasks[entry] * units


def _fit(jobs: RunningJobs, row: int, candidates: BoolArray, free: IntArray) -> tuple[tuple[int, int], ...]:
    """A placement of the whole gang on candidates, by which ``free`` is reduced; empty when there is none."""
    units, tasks = jobs.units_of(row), int(jobs.demand.tasks[row])
    if _is_share(units):
        return ()
    asked = units > 0
    slots = (free[asked] // units[asked, None]).min(axis=0, initial=tasks)
    slots = np.where(candidates, np.clip(slots, 0, tasks), 0)
    if slots.sum() < tasks:
        return ()
    whole = np.flatnonzero(slots == tasks)
    if len(whole):
        room = (free[asked][:, whole] / units[asked, None]).min(axis=0, initial=math.inf)
        order = whole[[room.argmin()]]
    else:
        order = np.lexsort((np.arange(len(slots)), -slots))
    taken = np.diff(np.minimum(np.cumsum(slots[order]), tasks), prepend=0)
    order, taken = order[taken > 0], taken[taken > 0]
    free[:, order] -= units[:, None] * taken
    return tuple(sorted(zip(order.tolist(), taken.tolist(), strict=True)))


def _is_share(units: IntArray) -> bool:
    """Whether a task holds a part of one GPU."""
    return bool(0 < units[GPUS] < UNITS_PER[GPUS])


# --- what survives, when to try again, which node to trust ----------------------------------------------------------


def work_kept(executed_s: FloatArray, checkpoint_s: FloatArray) -> FloatArray:
    """Seconds of work that survive a failure: up to the last whole multiple of the checkpoint interval.

    Args:
        executed_s: (J,) seconds of work done since the job's begin, over all attempts, lost work excluded.
        checkpoint_s: (J,) interval; NaN: no checkpoints, nothing survives; 0: everything does.

    Returns:
        (J,) with ``0 <= kept <= executed``. A multiple missed by rounding alone (one part in 10⁹) counts as reached.
    """
    executed = np.asarray(executed_s, dtype=np.float64)
    interval = np.asarray(checkpoint_s, dtype=np.float64)
    steps = executed / np.where(interval > 0, interval, 1.0)
    whole = np.floor(steps * (1.0 + 1e-9))
    kept = np.where(interval > 0, np.minimum(whole * np.where(interval > 0, interval, 1.0), executed), executed)
    result: FloatArray = np.where(np.isnan(interval), 0.0, kept)
    return result


def next_retry(
    attempts: int, max_retries: int, backoff_s: float, *, longest_s: float = LONGEST_BACKOFF_S
) -> float | None:
    """Seconds to wait before the next attempt after ``attempts`` failed ones; None when no more are allowed.

    The wait doubles with each failure, from ``backoff_s`` up to ``longest_s`` (or ``backoff_s`` where that is longer).

    Source: Kubernetes, Jobs: pod backoff failure policy.
    """
    if attempts > max_retries:
        return None
    return min(backoff_s * 2.0 ** min(max(attempts - 1, 0), 60), max(longest_s, backoff_s))


@dataclass(frozen=True, slots=True)
class Flapping:
    """When a node that keeps failing is held out: after ``failures`` within ``window_s``, for ``probation_s``.

    Same idea as the damping of routes that flap (RFC 2439): a repair is believed later the more often it was wrong.
    """

    failures: int = 3
    window_s: float = 24 * 3600.0
    probation_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise UsageError(f"flapping after {self.failures} failures: expected at least 1")
        for name, value in (("window", self.window_s), ("probation", self.probation_s)):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} of flapping nodes {value} is not a number of seconds above 0")


@dataclass(frozen=True, slots=True)
class NodeHistory:
    """What is remembered of one node.

    Attributes:
        failed_s: Times of its failures within the window, oldest first.
        held_until_s: No work before this time; −inf when it is trusted.
    """

    failed_s: tuple[float, ...] = ()
    held_until_s: float = -math.inf


def after_failure(history: NodeHistory, now_s: float, rule: Flapping) -> NodeHistory:
    """The history once the node has failed at ``now_s``."""
    recent = tuple(t for t in history.failed_s if t > now_s - rule.window_s)
    return replace(history, failed_s=(*recent, now_s))


def after_repair(history: NodeHistory, now_s: float, rule: Flapping) -> NodeHistory:
    """The history once the node is back at ``now_s``: on probation from then on if it has failed too often of late."""
    recent = tuple(t for t in history.failed_s if t > now_s - rule.window_s)
    is_flapping = len(recent) >= rule.failures
    return NodeHistory(recent, now_s + rule.probation_s if is_flapping else -math.inf)
