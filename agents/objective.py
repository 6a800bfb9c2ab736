"""What training and selection of a policy aim at: to beat the best heuristic, on the mean and in the tail, everywhere.

A trace is looked at in stretches of its training period, each replayed from an empty cluster through the compiled loop;
the first jobs of each are left out, the others are windows, as in ``evaluate``. Stretches lie on shaken copies of the
period (``traces.shaking``), so that what is aimed at is no luck. What a policy reaches is compared with the best
heuristic on the same stretches: with the one that is best on average for the mean, with the one that is best in the
tail for the tail. Logarithms of ratios let a log with slowdowns of a thousand and one with slowdowns of two weigh
alike, and a loss weighs more than a win of the same size: a policy that wins on one log only is not what is wanted.

What is compared is the bounded slowdown; or, for clusters whose jobs run for days, the completion time in the mean and
the wait in the tail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.protocols import WINDOW_JOBS
from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.scheduler.metrics import bounded_slowdown
from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.shaking import shaken

if TYPE_CHECKING:
    from shunter.scheduler.durations import RunModel
    from shunter.sim.workload import Workload
    from shunter.traces.tables import ClusterSpec, Trace

REFERENCES = ("fcfs", "sjf", "saf", "smallest", "f3", "f4", "wfp3", "unicep", "fairshare", "multifactor")
"""Heuristics among which the best are sought."""

MARGIN = 0.05
"""By which share a policy should at least be better than the best heuristic; less costs ``LOSS`` more."""

LOSS = 2.0
TAIL = 95.0

METRICS = ("avg_bounded_slowdown", "avg_jct_s")
"""What a policy may aim at; names of ``scheduler.metrics``."""

WAIT_FLOOR_S = 60.0
"""Added to waits before they are compared: a tail of no wait has no ratio, and seconds are not worth a policy."""


@dataclass(frozen=True, slots=True)
class Gain:
    """How a policy compares with the best heuristics; logarithms of ratios, below 0 where it is better.

    Attributes:
        mean: Of the mean of the metric over the windows, against the heuristic that is best in the mean.
        tail: Of the mean of the windows' 95th percentiles, against the heuristic that is best there; of waits if the
            metric is a time.
    """

    mean: float
    tail: float

    @property
    def cost(self) -> float:
        """What is minimised: losses, and wins below the margin, weigh more."""
        return sum(log + LOSS * max(0.0, log + MARGIN) for log in (self.mean, self.tail))


@dataclass(frozen=True, slots=True)
class Ground:
    """Stretches of one trace on which policies are tried.

    Attributes:
        name: Of the trace.
        workloads: Its jobs and cluster, once for each shaken copy.
        copy: (W,) which of them each stretch lies on.
        first: (W,) first rows of the stretches.
        last: (W,) rows behind their last.
        warm_up: Jobs at the beginning of each that are not looked at.
        backfill: Backfilling under which all is replayed.
        references: By heuristic, the metric of the jobs looked at, one array a stretch.
        metric: One of ``METRICS``.
    """

    name: str
    workloads: Sequence[Workload]
    copy: IntArray
    first: IntArray
    last: IntArray
    warm_up: int
    backfill: str
    references: Mapping[str, Sequence[FloatArray]]
    metric: str = METRICS[0]

    @classmethod
    def of(
        cls,
        trace: Trace,
        cluster: ClusterSpec,
        period: tuple[int, int],
        *,
        backfill: str = "easy",
        length: int = 5000,
        most: int = 6,
        warm_up: int = 500,
        shakes: int = 0,
        metric: str = METRICS[0],
        heuristics: Sequence[str] = REFERENCES,
        estimates: str | RunModel = "request",
        default_request_s: float | None = None,
    ) -> Ground:
        """Up to ``most`` stretches of ``length`` jobs, spread over the rows of a period, on each of its shaken copies.

        Without ``shakes`` the period itself is the only one.

        Heuristics are replayed under ``estimates`` and ``default_request_s`` (see ``simulate``). Policies on trial get
        the default request, too, but are replayed without predictions, which the loop over many windows does not make.

        Raises:
            TraceError: The period is shorter than twice the warm-up.
            UsageError: An unknown metric.
        """
        from shunter.sim.workload import prepare

        if metric not in METRICS:
            raise UsageError(f"unknown metric {metric!r}{nearest(metric, list(METRICS))}")

        begin, end = period
        length = min(length, end - begin)
        if length < 2 * warm_up:
            raise TraceError(f"{trace.name}: {end - begin} jobs to train on, at least {2 * warm_up} are needed")
        count = min(most, max(1, (end - begin) // length))
        first = np.linspace(begin, end - length, count).astype(np.int64)
        copies = copies_of(trace, period, shakes)
        workloads = [prepare(copy, cluster, default_request_s=default_request_s) for copy in copies]
        which, first = np.repeat(np.arange(len(copies)), count), np.tile(first, len(copies))
        bare = cls(trace.name, workloads, which, first, first + length, warm_up, backfill, {}, metric)
        known = {"backfill": backfill, "estimates": estimates, "default_request_s": default_request_s}
        references = {
            policy: [
                bare.slowdowns(starts_under(copies[which[i]], cluster, policy, bare, i, known), i)
                for i in range(len(first))
            ]
            for policy in heuristics
        }
        return replace(bare, references=references)

    def rows(self, stretch: int) -> slice:
        """The jobs of a stretch that are looked at."""
        return slice(int(self.first[stretch]) + self.warm_up, int(self.last[stretch]))

    def slowdowns(self, start_s: FloatArray, stretch: int) -> FloatArray:
        """The metric of the jobs looked at in one stretch, from the start times (J,) of all jobs of its copy."""
        rows, workload = self.rows(stretch), self.workloads[self.copy[stretch]]
        submit_s, run_s = workload.columns.submit_s[rows], workload.run_s[rows]
        if self.metric == "avg_jct_s":
            return np.asarray(start_s[rows] - submit_s + run_s)
        return bounded_slowdown(start_s[rows] - submit_s, run_s)

    def tails(self, values: Sequence[FloatArray], stretches: Sequence[int] | IntArray) -> list[FloatArray]:
        """What the 95th percentile is taken of: the metric itself; of completion times, the waits in them."""
        if self.metric != "avg_jct_s":
            return list(values)
        runs_s = [self.workloads[self.copy[i]].run_s[self.rows(int(i))] for i in stretches]
        return [jct_s - run_s + WAIT_FLOOR_S for jct_s, run_s in zip(values, runs_s, strict=True)]

    def gain(self, slowdowns: Sequence[FloatArray], stretches: IntArray) -> Gain:
        """How the metric on some stretches compares with the best heuristics on the same ones.

        Which heuristics are the best is judged on all stretches, so that it does not change from draw to draw.
        """
        best_mean, best_tail = self.best
        mean = self._mean([self.references[best_mean][i] for i in stretches])
        tail = self._tail([self.references[best_tail][i] for i in stretches], stretches)
        reached = self._mean(slowdowns)
        return Gain(float(np.log(reached / mean)), float(np.log(self._tail(slowdowns, stretches) / tail)))

    @property
    def best(self) -> tuple[str, str]:
        """The heuristics with the least mean and with the least tail."""
        whole = range(len(self.first))
        by_mean = min(self.references, key=lambda policy: self._mean(self.references[policy]))
        return by_mean, min(self.references, key=lambda policy: self._tail(self.references[policy], whole))

    def _mean(self, values: Sequence[FloatArray]) -> float:
        return float(np.mean([window.mean() for window in windows_of(values)]))

    def _tail(self, values: Sequence[FloatArray], stretches: Sequence[int] | IntArray) -> float:
        return float(np.mean([np.percentile(window, TAIL) for window in windows_of(self.tails(values, stretches))]))


def copies_of(trace: Trace, period: tuple[int, int], shakes: int) -> list[Trace]:
    """Shaken copies of a period's jobs, or the trace itself without any."""
    return [shaken(trace, seed, rows=period) for seed in range(1, shakes + 1)] or [trace]


def windows_of(parts: Sequence[FloatArray]) -> list[FloatArray]:
    """Each array in equal windows of about ``WINDOW_JOBS`` values, without NaN: rejected jobs never start."""
    windows = [window for part in parts for window in np.array_split(part, max(1, round(len(part) / WINDOW_JOBS)))]
    return [kept for window in windows if len(kept := window[~np.isnan(window)])]


def starts_under(
    trace: Trace, cluster: ClusterSpec, policy: str, ground: Ground, stretch: int, known: Mapping[str, Any]
) -> FloatArray:
    """(J,) start times of the jobs of one stretch under a heuristic, from an empty cluster; NaN elsewhere."""
    from shunter.sim.replay import simulate

    first, last = int(ground.first[stretch]), int(ground.last[stretch])
    jobs = simulate(trace, policy=policy, cluster=cluster, window=(first, last - first), details=False, **known).jobs
    starts = np.full(len(trace.jobs), np.nan)
    starts[first:last] = jobs["start_s"].to_numpy()
    return starts
