"""Timing: interleaved rounds, spreads, targets and the record that every benchmark reports.

Neighbours on a shared machine slow a whole stretch of time down, not one program. So the subjects of a benchmark and
their yardstick take turns within every round, figures are medians over rounds, and CPU time stands beside wall time.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Prepared = Callable[[], object]
"""The part of a subject that is timed."""

Subject = Callable[[], Prepared]
"""Sets a run up, outside the clock, and returns what is to be timed."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and extremes of one quantity over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def as_json(self) -> dict[str, float]:
        """Numbers by name, to a microsecond."""
        return {"median": round(self.median, 6), "min": round(self.min, 6), "max": round(self.max, 6)}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that a subject took: by the clock, and of the processor (``time.process_time``)."""

    wall_s: Spread
    cpu_s: Spread
    runs: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Timing:
        """From (wall, CPU) seconds of at least one run."""
        walls, cpus = zip(*pairs, strict=True)
        return cls(Spread.of(walls), Spread.of(cpus), len(pairs))


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure of a record: ``at_least`` or below ``at_most``, whichever is given."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, value: float) -> dict[str, Any]:
        """The target with the value it is held against and whether it is reached."""
        reached = (self.at_least is None or value >= self.at_least) and (self.at_most is None or value < self.at_most)
        bounds = {"at_least": self.at_least, "at_most": self.at_most}
        return {
            "figure": self.figure,
            **{name: bound for name, bound in bounds.items() if bound is not None},
            "value": round(value, 6),
            "reached": reached,
        }


@dataclass(frozen=True, slots=True)
class Record:
    """What one benchmark found.

    Attributes:
        benchmark: Name of the benchmark that it belongs to.
        case: What was measured, unique within the benchmark.
        timing: How long it took; None for a record of derived figures, or one that was skipped.
        jobs: Jobs that the timed part dealt with; 0 where jobs are not the point.
        yardstick: The reference loop over the same jobs in the same rounds.
        targets: Bounds, on ``jobs_per_s``, ``wall_s`` or one of ``figures``.
        figures: Further numbers by name; units are part of the name.
        facts: What was run: trace, cluster, policy, backfilling.
        skipped: Why it was not run; empty when it was.
    """

    benchmark: str
    case: str
    timing: Timing | None = None
    jobs: int = 0
    yardstick: Timing | None = None
    targets: tuple[Target, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""

    def numbers(self) -> dict[str, float]:
        """Every figure that a target may be set on, by name."""
        found = dict(self.figures)
        if self.timing is not None:
            found["wall_s"] = self.timing.wall_s.median
            if self.jobs:
                found["jobs_per_s"] = self.jobs / self.timing.wall_s.median
                found["jobs_per_cpu_s"] = self.jobs / max(self.timing.cpu_s.median, 1e-9)
            if self.yardstick is not None:
                found["ratio_wall"] = self.timing.wall_s.median / self.yardstick.wall_s.median
                found["ratio_cpu"] = self.timing.cpu_s.median / max(self.yardstick.cpu_s.median, 1e-9)
        return found

    def as_json(self) -> dict[str, Any]:
        """The record as plain values; what a record does not have is absent."""
        row: dict[str, Any] = {"benchmark": self.benchmark, "case": self.case, **self.facts}
        if self.skipped:
            return row | {"skipped": self.skipped}
        numbers = self.numbers()
        if self.jobs:
            row["jobs"] = self.jobs
        if self.timing is not None:
            row |= {"runs": self.timing.runs, "cpu_s": self.timing.cpu_s.as_json()}
            row["wall_s"] = self.timing.wall_s.as_json()
        if self.yardstick is not None:
            row["yardstick"] = {
                "wall_s": self.yardstick.wall_s.as_json(),
                "cpu_s": self.yardstick.cpu_s.as_json(),
            }
        row |= {name: round(value, 6) for name, value in numbers.items() if name != "wall_s"}
        if self.targets:
            row["targets"] = [target.judge(numbers[target.figure]) for target in self.targets]
        return row


def interleave(subjects: Mapping[str, Subject], *, repeat: int, budget_s: float = 90.0) -> dict[str, Timing]:
    """Time every subject once a round, for ``repeat`` rounds, each round beginning with another subject.

    Args:
        subjects: By name. Setting up is not timed, and rubbish of earlier runs is collected before.
        repeat: Rounds, at least 1.
        budget_s: No further round begins once this much time has been spent; the first one is always completed.
    """
    names = list(subjects)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    begin = time.perf_counter()
    for round_idx in range(repeat):
        shift = round_idx % len(names)
        for name in names[shift:] + names[:shift]:
            pairs[name].append(timed(subjects[name]()))
        if time.perf_counter() - begin > budget_s:
            break
    return {name: Timing.of(found) for name, found in pairs.items()}


def timed(work: Prepared) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    gc.collect()
    cpu_s = time.process_time()
    wall_s = time.perf_counter()
    work()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s
