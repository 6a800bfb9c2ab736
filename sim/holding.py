"""Holding capacity for a predicted burst: jobs that should not wait find room when they come.

Favoured jobs (short ones, or those of high priority) are expected to ask for so many processors in the present step.
What of that has not been started yet is held: other jobs may use what is left beside it and beside the favoured jobs
that run. Others are a group with a limit (``scheduler.kernels.lanes``) that is set anew at every pass, so backfilling
and reservations go on as they do under any quota. The limit never falls below what the largest of the other jobs that
wait asks for: none waits for ever. While nothing is held there is no limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import Quotas
from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray

if TYPE_CHECKING:
    from shunter.scheduler.state import ClusterState
    from shunter.sim.workload import Workload
    from shunter.traces.load_series import LoadSeries
    from shunter.traces.tables import Trace

OTHERS = "others"


@dataclass(frozen=True, eq=False)
class Holding:
    """For whom, and how much.

    Attributes:
        favoured: (J,) jobs for which capacity is held.
        step_s: Length of a step; the first one begins at the trace's start.
        told: (T,) processors that favoured jobs are expected to ask for in each step, as told when it begins; none
            after the last one.
        told_by: Who predicts, for the manifest.
    """

    favoured: BoolArray
    step_s: float
    told: FloatArray
    told_by: str = "none"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.step_s) and self.step_s > 0):
            raise UsageError(f"steps of {self.step_s!r} s for holding capacity: expected a positive number of seconds")
        if not (np.isfinite(self.told).all() and (self.told >= 0).all()):
            raise UsageError("processors to hold: expected finite numbers of at least 0")

    def applied_to(self, workload: Workload) -> Workload:
        """The workload with the other jobs as a group of their own.

        Raises:
            UsageError: Groups have quotas or nodes of their own already, or there are other jobs than these.
        """
        if workload.capacity.quotas is not None or workload.capacity.num_lanes > 1:
            raise UsageError("holding capacity does not go with quotas or nodes that groups own: it is a quota itself")
        if len(self.favoured) != workload.num_jobs:
            raise UsageError(f"capacity held for some of {len(self.favoured)} jobs, but there are {workload.num_jobs}")
        total = int(workload.capacity.units[workload.capacity.scarce].sum())
        none = np.full(1, -1, dtype=np.int64)  # less than any job asks for: nobody is served ahead of the order
        quotas = Quotas((OTHERS,), none, np.asarray([total], dtype=np.int64))
        columns = replace(workload.columns, group_idx=np.where(self.favoured, -1, 0))
        capacity = replace(workload.capacity, quotas=quotas)
        return replace(workload, columns=columns, capacity=capacity, groups=(OTHERS,))


class Held:
    """Holding at work on one replay; all that it knows follows from the state and the time.

    Args:
        holding: For whom and how much.
        workload: As ``applied_to`` gave it.
    """

    def __init__(self, holding: Holding, workload: Workload) -> None:
        self.holding = holding
        capacity, demand = workload.capacity, workload.demand
        self._units = capacity.units[capacity.scarce]
        self._per = UNITS_PER[capacity.scarce]
        sizes = demand.tasks * demand.shapes[demand.shape_idx, capacity.scarce]
        self._sizes = np.where(holding.favoured, sizes, 0)
        self._others = np.where(holding.favoured, 0, sizes)
        self._submit_s = workload.columns.submit_s
        self._asked = np.concatenate([[0], np.cumsum(self._sizes)])

    def step_at(self, now_s: float) -> int:
        """Number of the step that holds at a time."""
        return int(np.floor(now_s / self.holding.step_s + 1e-9))

    def next_step_s(self, now_s: float) -> float:
        """When the next step begins; inf after the last one for which anything is told."""
        following = self.step_at(now_s) + 1
        return following * self.holding.step_s if following <= len(self.holding.told) else np.inf

    def units_at(self, state: ClusterState, now_s: float) -> int:
        """Units that are held for favoured jobs of this step that have not come yet, or come and still wait."""
        step = self.step_at(now_s)
        if not 0 <= step < len(self.holding.told):
            return 0
        first = np.searchsorted(self._submit_s, step * self.holding.step_s, side="left")
        last = np.searchsorted(self._submit_s, now_s, side="right")
        waiting = int(self._sizes[state.queue[state.queue >= first]].sum())
        started = int(self._asked[last] - self._asked[first]) - waiting
        return max(round(float(self.holding.told[step]) * self._per) - started, 0)

    def set_limit(self, state: ClusterState, now_s: float) -> None:
        """Limit the other jobs to what is not set aside now."""
        held = self.units_at(state, now_s)
        limit = at.ANY_SLOTS
        if held:
            up = int(self._units[state.node_i[at.OPEN] == 1].sum())
            largest = int(self._others[state.queue].max(initial=0))
            limit = max(up - int(self._sizes[state.running].sum()) - held, largest)
        state.set_limits(np.asarray([limit], dtype=np.int64))


def favoured_jobs(workload: Workload, rule: str) -> BoolArray:
    """(J,) jobs that ``short:SECONDS`` (by request) or ``priority:LEAST`` means.

    Raises:
        UsageError: Another rule, one that means no job, or all of them.
    """
    kind, _, value = rule.partition(":")
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if kind not in {"short", "priority"} or not np.isfinite(number):
        raise UsageError(f"--hold-for {rule!r}: expected short:SECONDS or priority:LEAST")
    columns = workload.columns
    chosen: BoolArray = columns.requested_s <= number if kind == "short" else columns.priority >= number
    if not chosen.any() or chosen.all():
        raise UsageError(f"--hold-for {rule!r} means {'every' if chosen.any() else 'no'} job of {workload.trace.name}")
    return chosen


def arrivals(workload: Workload, favoured: BoolArray, step_s: float) -> FloatArray:
    """(T,) processors that favoured jobs asked for in each step from the trace's start on."""
    step = np.floor(workload.columns.submit_s / step_s + 1e-9).astype(np.int64)
    processors = np.where(favoured & ~workload.rejected, workload.columns.processors, 0.0)
    asked: FloatArray = np.bincount(np.maximum(step, 0), weights=processors).astype(np.float64)
    return asked


def usual_quantile(asked: FloatArray, level: float, least: int = 24) -> FloatArray:
    """(T,) quantile of all steps before; 0 while fewer than ``least`` are known. Cost: O(T log T) on average."""
    from bisect import insort

    told, known = np.zeros(len(asked)), list[float]()
    for t, value in enumerate(asked.tolist()):
        if t >= least:
            told[t] = known[min(int(level * t), t - 1)]
        insort(known, value)
    return told


def arrival_series(trace: Trace, asked: FloatArray, step_s: float) -> LoadSeries:
    """Arrivals as a load series of one node, for forecasters to learn from and to be asked about."""
    from shunter.traces.load_series import LoadSeries

    return LoadSeries(
        name=f"{trace.name} arrivals",
        nodes=("cluster",),
        features=("arrivals",),
        units=("processors",),
        values=asked[:, None, None].astype(np.float32),
        step_s=step_s,
        begin_s=trace.start_unix_s or 0.0,
        dated=trace.start_unix_s is not None,
        facts={"format": "replay", "source": trace.name},
    )
