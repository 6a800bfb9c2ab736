"""What training and selection of a policy aim at: to beat the best heuristic, on the mean and in the tail, everywhere.

A trace is looked at in stretches of its training period, each replayed from an empty cluster through the compiled loop;
the first jobs of each are left out. What a policy reaches is compared with the best heuristic on the same stretches:
with the one that is best on average for the mean, with the one that is best in the tail for the tail. Logarithms of
ratios let a log with slowdowns of a thousand and one with slowdowns of two weigh alike, and a loss weighs more than a
win of the same size: a policy that wins on one log only is not what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.sim.workload import Workload
    from shunter.traces.tables import ClusterSpec, Trace

BOUND_S = 10.0
"""Run times below this count as this in the bounded slowdown."""

REFERENCES = ("fcfs", "sjf", "saf", "smallest", "f3", "f4", "wfp3", "unicep", "fairshare", "multifactor")
"""Heuristics among which the best are sought."""

MARGIN = 0.05
"""By which share a policy should at least be better than the best heuristic; less costs ``LOSS`` more."""

LOSS = 2.0
TAIL = 95.0


def bounded_slowdowns(start_s: FloatArray, submit_s: FloatArray, run_s: FloatArray) -> FloatArray:
    """max(1, (wait + run) / max(run, 10 s)) of each job (J,); NaN where a job did not start."""
    slowdowns: FloatArray = np.maximum(1.0, (start_s - submit_s + run_s) / np.maximum(run_s, BOUND_S))
    return slowdowns


@dataclass(frozen=True, slots=True)
class Gain:
    """How a policy compares with the best heuristics; logarithms of ratios, below 0 where it is better.

    Attributes:
        mean: Of the mean bounded slowdown, against the heuristic that is best in the mean.
        tail: Of the 95th percentile, against the heuristic that is best there.
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
        workload: Its jobs and cluster.
        first: (W,) first rows of the stretches.
        last: (W,) rows behind their last.
        warm_up: Jobs at the beginning of each that are not looked at.
        backfill: Backfilling under which all is replayed.
        references: By heuristic, the bounded slowdowns of the jobs looked at, one array a stretch.
    """

    name: str
    workload: Workload
    first: IntArray
    last: IntArray
    warm_up: int
    backfill: str
    references: Mapping[str, Sequence[FloatArray]]

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
    ) -> Ground:
        """Up to ``most`` stretches of ``length`` jobs, spread over the rows of a period.

        Raises:
            TraceError: The period is shorter than twice the warm-up.
        """
        from shunter.sim.workload import prepare

        begin, end = period
        length = min(length, end - begin)
        if length < 2 * warm_up:
            raise TraceError(f"{trace.name}: {end - begin} jobs to train on, at least {2 * warm_up} are needed")
        count = min(most, max(1, (end - begin) // length))
        first = np.linspace(begin, end - length, count).astype(np.int64)
        workload = prepare(trace, cluster)
        references = {
            policy: [slowdowns_under(trace, cluster, policy, backfill, int(row), length)[warm_up:] for row in first]
            for policy in REFERENCES
        }
        return cls(trace.name, workload, first, first + length, warm_up, backfill, references)

    def slowdowns(self, start_s: FloatArray, stretch: int) -> FloatArray:
        """Bounded slowdowns of the jobs looked at in one stretch, from the start times (J,) of all jobs."""
        rows = slice(int(self.first[stretch]) + self.warm_up, int(self.last[stretch]))
        return bounded_slowdowns(start_s[rows], self.workload.columns.submit_s[rows], self.workload.run_s[rows])

    def gain(self, slowdowns: Sequence[FloatArray], stretches: IntArray) -> Gain:
        """How slowdowns on some stretches compare with the best heuristics on the same ones.

        Which heuristics are the best is judged on all stretches, so that it does not change from draw to draw.
        """
        reached = joined(slowdowns)
        best_mean, best_tail = self.best
        mean = joined([self.references[best_mean][i] for i in stretches]).mean()
        tail = np.percentile(joined([self.references[best_tail][i] for i in stretches]), TAIL)
        return Gain(float(np.log(reached.mean() / mean)), float(np.log(np.percentile(reached, TAIL) / tail)))

    @property
    def best(self) -> tuple[str, str]:
        """The heuristics with the least mean and with the least tail."""
        whole = {policy: joined(parts) for policy, parts in self.references.items()}
        by_mean = min(whole, key=lambda policy: float(whole[policy].mean()))
        return by_mean, min(whole, key=lambda policy: float(np.percentile(whole[policy], TAIL)))


def joined(parts: Sequence[FloatArray]) -> FloatArray:
    """All values of several arrays but NaN: rejected jobs never start."""
    values = np.concatenate(parts)
    return values[~np.isnan(values)]


def slowdowns_under(
    trace: Trace, cluster: ClusterSpec, policy: str, backfill: str, first: int, count: int
) -> FloatArray:
    """(count,) bounded slowdowns of a window under a heuristic, from an empty cluster."""
    from shunter.sim.replay import simulate

    jobs = simulate(trace, policy=policy, backfill=backfill, cluster=cluster, window=(first, count), details=False).jobs
    start_s, end_s, submit_s = (jobs[name].to_numpy() for name in ("start_s", "end_s", "submit_s"))
    return bounded_slowdowns(start_s, submit_s, end_s - start_s)
