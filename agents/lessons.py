"""What a policy is trained on, when: training periods at rising load, among generated traces in their likeness.

Nothing of the validation and test periods is looked at, neither by the windows drawn nor by the generators fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.scheduler.metrics import SLOWDOWN_BOUND_S, bounded_slowdown
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.agents.settings import Settings, WindowSettings
    from shunter.sim.workload import Workload
    from shunter.traces.tables import ClusterSpec, Trace

HEURISTICS = ("fcfs", "sjf", "saf", "smallest", "largest", "f1", "f2", "f3", "f4")
"""Heuristics whose score is fixed, among which the best is sought: they replay compiled."""

WINDOWS_TRIED = 48
"""Windows of each trace on which the best heuristic is sought."""

FLOORS = {"avg_bounded_slowdown": 0.0, "avg_wait_s": 60.0, "avg_jct_s": 0.0}
"""What is added to a metric before ratios are taken: a wait may be nothing."""


@dataclass(frozen=True, slots=True)
class Material:
    """A trace to learn from.

    Attributes:
        trace: All its jobs.
        cluster: What they run on.
        training: Rows [first, last) that training may look at.
        validation: Rows by which networks are chosen.
    """

    trace: Trace
    cluster: ClusterSpec
    training: tuple[int, int]
    validation: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Jobs that episodes are windows of: rows [first, last) of a workload."""

    name: str
    workload: Workload
    first: int
    last: int

    @property
    def given(self) -> tuple[Workload, int, int]:
        """As the environments take it."""
        return self.workload, self.first, self.last


def at_load(trace: Trace, factor: float) -> Trace:
    """The same jobs, arriving ``factor`` times as densely."""
    import polars as pl

    if factor == 1.0:
        return trace
    frame = trace.jobs.frame.with_columns(pl.col("submit_s") / factor)
    return replace(trace, jobs=replace(trace.jobs, frame=frame))


def lessons_of(material: Sequence[Material], settings: Settings, stage: int, seed: int) -> list[Lesson]:
    """What is trained on in one stage of the curriculum.

    Every trace's training period stands in it, and as many generated traces as their share asks for.

    Raises:
        TraceError: A training period is shorter than an episode.
    """
    from shunter.sim.workload import prepare

    load, windows = settings.curriculum.loads[stage], settings.windows
    lessons = []
    for each in material:
        first, last = each.training
        needed = windows.jobs + windows.warm_jobs
        if last - first < needed:
            raise TraceError(
                f"{each.trace.name}: {last - first} jobs to train on (its first {last:,}), fewer than the {needed} of "
                "a window; give a longer trace, or set windows.jobs and windows.warm_jobs lower in the settings"
            )
        # Jobs behind the training period are not even prepared: a user's later jobs would be known by name.
        part = at_load(each.trace.window(first, last - first), load)
        lessons.append(Lesson(each.trace.name, prepare(part, each.cluster), 0, last - first))
    lessons += generated_lessons(material, settings, stage, seed, len(lessons))
    return lessons


def generated_lessons(
    material: Sequence[Material], settings: Settings, stage: int, seed: int, real: int
) -> list[Lesson]:
    """Traces drawn from models fitted to the training periods; as many as give them their share of the episodes."""
    from shunter.sim.workload import prepare
    from shunter.traces.generate import fit
    from shunter.traces.generate.fitting import MIN_JOBS

    share, jobs = settings.curriculum.generated_share, settings.curriculum.generated_jobs
    fitted = [each for each in material if each.training[1] - each.training[0] >= MIN_JOBS]
    if not share or not fitted:
        return []
    wanted = max(1, round(real * share / (1.0 - share)))
    lessons = []
    for i in range(wanted):
        each = fitted[i % len(fitted)]
        first, last = each.training
        drawn = fit(each.trace.window(first, last - first)).generate(jobs, seed=1000 * seed + 100 * stage + i)
        part = at_load(drawn, settings.curriculum.loads[stage])
        lessons.append(Lesson(part.name, prepare(part, each.cluster), 0, len(part.jobs)))
    return lessons


@dataclass(frozen=True, slots=True)
class Pace:
    """What the baseline has lost on a window by any time: what has come together of the metric, waiting jobs included.

    A job that has started counts with its value. One that waits counts with its wait, for the slowdown over its
    request, as the potential of the environment does (``agents.rewards``).

    Attributes:
        total: The metric in the end, without the floor.
        floor: What is added before ratios are taken.
        begin_s: First submission of a job that counts.
        end_s: Last submission.
        time_s: (E,) submissions and starts, since ``begin_s``.
        offset: (E,) what has been lost from this event on is offset + slope · time.
        slope: (E,) the same.
        waiting: (E,) jobs that wait from this event on.
    """

    total: float
    floor: float
    begin_s: float
    end_s: float
    time_s: FloatArray
    offset: FloatArray
    slope: FloatArray
    waiting: IntArray

    @classmethod
    def of(cls, workload: Workload, start_s: FloatArray, rows: slice, metric: str) -> Pace:
        """From the start times (J,) of the jobs in ``rows``, those that count."""
        columns = workload.columns
        ran = np.flatnonzero(~np.isnan(start_s[rows])) + rows.start
        begin_s, count = float(columns.submit_s[ran].min()), len(ran)
        submit_s, started_s = columns.submit_s[ran] - begin_s, start_s[ran] - begin_s
        is_slowdown = metric == "avg_bounded_slowdown"
        weight = (
            1.0 / np.maximum(columns.requested_s[ran], SLOWDOWN_BOUND_S) if is_slowdown else np.ones(count)
        ) / count
        measured = metric if is_slowdown else "avg_wait_s"
        value = values_of(workload, start_s, rows, measured) / count
        time_s = np.concatenate([submit_s, started_s])
        order = np.argsort(time_s, kind="stable")
        one = np.ones(count, np.int64)
        floor = FLOORS[metric] + (float(workload.run_s[ran].mean()) if metric == "avg_jct_s" else 0.0)
        return cls(
            total=float(value.sum()),
            floor=floor,
            begin_s=begin_s,
            end_s=begin_s + float(submit_s.max()),
            time_s=time_s[order],
            offset=np.cumsum(np.concatenate([-weight * submit_s, value + weight * submit_s])[order]),
            slope=np.cumsum(np.concatenate([weight, -weight])[order]),
            waiting=np.cumsum(np.concatenate([one, -one])[order]),
        )

    @classmethod
    def nothing(cls) -> Pace:
        """Of no window."""
        none = np.zeros(0)
        return cls(1.0, 0.0, 0.0, 0.0, none, none, none, none.astype(np.int64))

    def lost(self, now_s: float) -> tuple[float, int]:
        """What has been lost by ``now_s``, and how many jobs wait then."""
        since_s = now_s - self.begin_s
        event = int(self.time_s.searchsorted(since_s, side="right")) - 1
        if event < 0:
            return 0.0, 0
        return float(self.offset[event] + self.slope[event] * since_s), int(self.waiting[event])


class Yardstick:
    """What a heuristic reaches on windows of lessons, replayed compiled.

    Args:
        lessons: Where the windows lie.
        settings: What an episode is.
        heuristic: One of ``HEURISTICS``, or another ordering whose score is fixed.
    """

    def __init__(self, lessons: Sequence[Lesson], settings: WindowSettings, heuristic: str) -> None:
        from shunter.sim.rollout import Rollout

        self.settings, self.heuristic = settings, heuristic
        self.rollouts = [
            Rollout(lesson.workload, settings.backfill, score=fixed_scores(lesson.workload, heuristic))
            for lesson in lessons
        ]

    def reached(self, lesson: int, first: int) -> float:
        """The metric of the window whose first job that counts is row ``first``."""
        starts = self._starts(lesson, first, self.settings.warm_jobs)
        rows = slice(first, first + self.settings.jobs)
        return metric_of(self.rollouts[lesson].workload, starts, rows, self.settings.metric)

    def pace(self, lesson: int, first: int, warm: int) -> Pace:
        """How the metric of a window comes together; ``warm`` jobs before its first one are replayed with it."""
        starts = self._starts(lesson, first, warm)
        rows = slice(first, first + self.settings.jobs)
        return Pace.of(self.rollouts[lesson].workload, starts, rows, self.settings.metric)

    def _starts(self, lesson: int, first: int, warm: int) -> FloatArray:
        last = first + self.settings.jobs
        return self.rollouts[lesson].starts(None, np.asarray([first - warm]), np.asarray([last]))


def fixed_scores(workload: Workload, heuristic: str) -> FloatArray:
    """(J,) scores of an ordering that never change.

    Raises:
        UsageError: There is no such ordering, or its scores change while jobs wait.
    """
    from shunter.scheduler.policies.registry import choose_ordering
    from shunter.scheduler.snapshot import QueueView

    ordering = choose_ordering(heuristic)
    if not ordering.ordering.static or ordering.ordering.needs_oracle:
        raise UsageError(
            f"policy {heuristic!r} cannot be the baseline: its score changes while jobs wait, or it is told run times"
            f"{nearest(heuristic, list(HEURISTICS))}"
        )
    return ordering.score(QueueView(0.0, workload.columns, workload.capacity.processors))


def values_of(workload: Workload, start_s: FloatArray, rows: slice, metric: str) -> FloatArray:
    """Bounded slowdowns, waits (s) or times from submission to end (s) of the jobs in some rows that started."""
    start_s, submit_s, run_s = start_s[rows], workload.columns.submit_s[rows], workload.run_s[rows]
    if metric == "avg_bounded_slowdown":
        values = bounded_slowdown(start_s - submit_s, run_s)
    else:
        values = start_s - submit_s + (run_s if metric == "avg_jct_s" else 0.0)
    return values[~np.isnan(values)]


def metric_of(workload: Workload, start_s: FloatArray, rows: slice, metric: str) -> float:
    """The mean of ``values_of``."""
    return float(values_of(workload, start_s, rows, metric).mean())


def best_heuristic(lessons: Sequence[Lesson], settings: WindowSettings) -> str:
    """The heuristic whose metric is the least on windows spread over the lessons, by the mean of its logarithm."""
    costs = {}
    for heuristic in HEURISTICS:
        yardstick = Yardstick(lessons, settings, heuristic)
        reached = [
            yardstick.reached(lesson, int(first)) + FLOORS[settings.metric]
            for lesson, rows in enumerate(lessons)
            for first in _spread(rows, settings)
        ]
        costs[heuristic] = float(np.log(np.maximum(reached, 1e-9)).mean())
    return min(costs, key=lambda name: costs[name])


def _spread(lesson: Lesson, settings: WindowSettings) -> IntArray:
    low, high = lesson.first + settings.warm_jobs, lesson.last - settings.jobs
    rows: IntArray = np.unique(np.linspace(low, high, WINDOWS_TRIED).astype(np.int64))
    return rows
