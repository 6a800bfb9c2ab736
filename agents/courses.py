"""Windows of logs under the published protocol of RLScheduler, on which scores are tried by the compiled replay.

Two kinds, never mixed up. *As published*: windows of the log's first 10,000 jobs, which the protocol also tests on. No
window begins where a published one does, but they share jobs with all of them, as in the paper: what a policy trained
on them reaches there is in-distribution. *General*: windows of other logs, of generated traces, and of other periods.

A window's mean bounded slowdown spans three orders of magnitude. The cost is, averaged over the logs, the logarithm of
the mean over windows (what the tables report; heavy windows decide it) plus a quarter of the mean logarithm (where
every window counts the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.agents.protocols import PUBLISHED_JOBS, PUBLISHED_SEED, PUBLISHED_WINDOWS, Stretch
from shunter.scheduler.errors import TraceError, UsageError
from shunter.scheduler.types import FloatArray, IntArray
from shunter.traces.periods import TRAIN, Period, whole

if TYPE_CHECKING:
    from shunter.scheduler.kernels.network import Network
    from shunter.sim.compat.rls_learned import RlsRollout
    from shunter.sim.compat.rlscheduler import RlsTrace
    from shunter.traces.tables import Trace

GENERAL, AS_PUBLISHED = KINDS = ("general", "as-published")

TYPICAL = 0.25
"""Weight of the mean logarithm beside the logarithm of the mean."""

HEURISTICS = (
    {"log_request": 1.0},
    {"log_request": 1.0, "log_size": 0.4},
    {"log_size": 1.0},
    {"log_size": -1.0},
    {"log_wait": -1.0},
)
"""Weighted sums of features that stand for heuristics: a search begins at the best of them."""


@dataclass(frozen=True)
class Course:
    """Windows of one log, each from an empty cluster, on which scores are tried; a ``search.Trial``.

    Attributes:
        log: The log by the protocol's rules.
        period: The jobs of the windows, as rows of the trace.
        first: (W,) rows of ``log`` at which windows begin.
        length: Jobs of a window.
        backfill: Whether jobs are backfilled.
    """

    log: RlsTrace
    period: Period
    first: IntArray
    length: int
    backfill: bool

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def rollout(self) -> RlsRollout:
        """The compiled replay."""
        from shunter.sim.compat.rls_learned import RlsRollout

        return RlsRollout(self.log, self.backfill)

    def slowdowns(self, network: Network) -> FloatArray:
        """(W,) mean bounded slowdown of every window."""
        return self.rollout.mean_bsld(network, self.first, self.length)

    def cost(self, network: Network, which: IntArray) -> float:
        """What is minimised, on the windows ``which``."""
        return cost_of(self.rollout.mean_bsld(network, self.first[which], self.length))


def cost_of(slowdowns: FloatArray) -> float:
    """The cost of windows with these mean bounded slowdowns (W,)."""
    return float(np.log(slowdowns.mean()) + TYPICAL * np.log(slowdowns).mean())


@dataclass(frozen=True, slots=True)
class Source:
    """A log to train on.

    Attributes:
        trace: Its jobs as the project reads them, by which periods are told.
        path: Its SWF file, which the protocol reads by its own rules.
        rows: (first, count) of the jobs that the protocol keeps; None: all that the kind allows.
    """

    trace: Trace
    path: Path
    rows: tuple[int, int] | None = None


def courses_of(
    sources: Sequence[Source], *, kind: str, backfill: str, length: int, count: int, seed: int
) -> list[Course]:
    """``count`` windows of every log, drawn with a seed.

    Raises:
        TraceError: A log cannot be read by the protocol's rules, or has too few jobs that its machine can run.
    """
    from shunter.agents.evaluation import Case
    from shunter.sim.compat import rlscheduler

    draws = np.random.default_rng(seed)
    found = []
    for source in sources:
        log = rlscheduler.load(source.path)
        first, last = rows_of(source, log, kind)
        taken = np.concatenate([published_starts(len(log), length), unplayable_starts(log, length)])
        starts = spread_starts(first, last, length, count, draws, taken)
        jobs = whole(source.trace)
        rows = Case(source.trace, source.trace.cluster, jobs, (), log).rows(Stretch(first, last, ()))
        period = Period(TRAIN, source.trace.name, *rows, jobs.sha256)
        found.append(Course(log, period, starts, length, backfill != "none"))
    return found


def rows_of(source: Source, log: RlsTrace, kind: str) -> tuple[int, int]:
    """Rows [first, last) of a log that windows may take."""
    if kind == AS_PUBLISHED:
        return 0, min(PUBLISHED_JOBS, len(log))
    if source.rows is None:
        return 0, len(log)
    first, count = source.rows
    if first >= len(log):
        raise TraceError(f"{log.name}: job {first:,} is asked for; protocol rlscheduler keeps {len(log):,} jobs of it")
    return first, min(first + count, len(log))


def published_starts(num_jobs: int, length: int) -> list[int]:
    """Where the published windows of a log begin; none in a log that is too short for them."""
    from shunter.sim.compat import rlscheduler

    try:
        return rlscheduler.published_starts(PUBLISHED_SEED, min(num_jobs, PUBLISHED_JOBS), length, PUBLISHED_WINDOWS)
    except UsageError:
        return []


def unplayable_starts(log: RlsTrace, length: int) -> IntArray:
    """Rows at which no window can begin, because a job of it cannot run on the machine."""
    jobs = log.jobs
    rows = np.flatnonzero((jobs.nodes > log.num_nodes) | (jobs.nodes < 0))
    starts: IntArray = np.unique(np.maximum(rows[:, None] - np.arange(length), 0))
    return starts


def spread_starts(
    first: int, last: int, length: int, count: int, draws: np.random.Generator, taken: Sequence[int] | IntArray
) -> IntArray:
    """Starts of windows inside rows [first, last): one drawn from each of ``count`` equal parts, none of ``taken``.

    Raises:
        TraceError: There are too few rows.
    """
    free = np.setdiff1d(np.arange(first, max(first, last - length + 1)), np.asarray(taken).astype(np.int64))
    if len(free) < count:
        raise TraceError(
            f"{last - first:,} jobs to train on: too few for {count} windows of {length:,} jobs; give a longer trace"
        )
    edges = np.linspace(0, len(free), count + 1).astype(np.int64)
    starts: IntArray = free[draws.integers(edges[:-1], edges[1:])]
    return starts


def first_score(courses: Sequence[Course]) -> Network:
    """The best, on all windows, of scores that are linear in the features and stand for heuristics."""
    from shunter.agents.linear import network_of

    candidates = [network_of(weights) for weights in HEURISTICS]
    return min(candidates, key=lambda network: whole_cost(courses, network))


def whole_cost(courses: Sequence[Course], network: Network) -> float:
    """Cost on all windows."""
    return float(np.mean([cost_of(course.slowdowns(network)) for course in courses]))
