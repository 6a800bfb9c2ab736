"""One seed's direct search under the published protocol: a function of its task alone, saved after every generation."""

from __future__ import annotations

import hashlib
import json
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.courses import Course, cost_of, first_score
from shunter.agents.search import Plan, Search
from shunter.scheduler.errors import OutputError, UsageError
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.network import Network

LOOK_EVERY = 5
"""Generations after which the middle of the search is tried on all windows; the best of these is kept."""

CHECKPOINT = "search.pickle"


@dataclass(frozen=True, slots=True)
class Point:
    """Where a seed's search stands; one line of ``progress.jsonl``.

    Attributes:
        generation: Generations done.
        share: Of all of them.
        cost: Of the search's middle on all windows of the seed.
        best: Least cost so far.
        mean: Mean over the windows of each log, averaged geometrically over the logs, of the best.
        spent_s: Seconds of work so far.
    """

    generation: int
    share: float
    cost: float
    best: float
    mean: float
    spent_s: float


@dataclass(slots=True)
class State:
    """A seed's search between two generations; what its checkpoint holds.

    Attributes:
        fingerprint: Of all that must be the same to take it up.
        search: The search.
        weights: The best ones so far, on all windows.
        curve: A point a look.
        spent_s: Seconds of work.
    """

    fingerprint: str
    search: Search
    weights: FloatArray
    curve: list[Point] = field(default_factory=list)
    spent_s: float = 0.0

    @property
    def best(self) -> float:
        """Least cost so far."""
        return self.curve[-1].best if self.curve else np.inf

    def look(self, courses: Sequence[Course]) -> Point:
        """Try the search's middle on all windows."""
        middle = self.search.network
        slowdowns = [course.slowdowns(middle) for course in courses]
        cost = float(np.mean([cost_of(each) for each in slowdowns]))
        mean = float(np.exp(np.mean([np.log(each.mean()) for each in slowdowns])))
        if cost < self.best:
            self.weights = np.array(self.search.optimiser.mean)
        else:
            mean = self.curve[-1].mean
        done, of = self.search.generation, self.search.plan.generations
        point = Point(done, done / of, cost, min(cost, self.best), mean, self.spent_s)
        self.curve.append(point)
        return point


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed.

    Attributes:
        seed: The seed.
        complete: Whether all generations were done; otherwise it was stopped, and can be resumed.
        curve: A point a look.
        weights: The best ones.
    """

    seed: int
    complete: bool
    curve: Sequence[Point]
    weights: FloatArray


@dataclass(frozen=True, slots=True)
class SeedSearch:
    """All that the search of a seed depends on; see ``executors.AnyTask``.

    Attributes:
        seed: The seed.
        courses: Its windows.
        plan: How to search.
        start: Where to begin.
        folder: Where the checkpoint and progress are written.
        resume: Take up the checkpoint in ``folder``, if there is one.
    """

    seed: int
    courses: Sequence[Course]
    plan: Plan
    start: Network | None
    folder: Path
    resume: bool

    @property
    def fingerprint(self) -> str:
        """Of all that must be the same for a search to be taken up; more generations may be asked for."""
        digest = hashlib.sha256(repr(replace(self.plan, generations=1)).encode())
        for course in self.courses:
            digest.update(json.dumps([course.period.to_dict(), course.length, course.backfill]).encode())
            digest.update(course.first.tobytes())
        if self.start is not None:
            for part in self.start:
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

    def point(self, values: dict[str, Any]) -> Point:
        """A point from the values of its line in ``progress.jsonl``."""
        return Point(**values)

    def run(self, report: Callable[[int, Point], None] | None, should_stop: Callable[[], bool] | None) -> Outcome:
        """Search until all generations are done.

        Raises:
            UsageError: The checkpoint is of another search, or damaged.
            OutputError: The checkpoint cannot be written.
        """
        state = self._begin()
        before_s, begin_s = state.spent_s, time.perf_counter()

        def after(search: Search) -> None:
            state.spent_s = before_s + time.perf_counter() - begin_s
            if search.generation % LOOK_EVERY == 0 or search.generation == self.plan.generations:
                point = state.look(self.courses)
                if report is not None:
                    report(self.seed, point)
            self._save(state)

        if not state.curve:
            state.look(self.courses)
        complete = state.search.generation >= self.plan.generations or state.search.run(
            self.courses, after=after, should_stop=should_stop
        )
        return Outcome(self.seed, complete, state.curve, state.weights)

    def _begin(self) -> State:
        path = self.folder / CHECKPOINT
        if self.resume and path.exists():
            try:
                state = pickle.loads(path.read_bytes())
            except Exception:  # whatever a damaged pickle raises
                raise UsageError(f"{path}: damaged; train anew in another --out") from None
            if not isinstance(state, State) or state.fingerprint != self.fingerprint:
                raise UsageError(
                    f"{path}: of a search with other settings, traces or seeds; give those, or another --out"
                )
            state.search.plan = self.plan
            return state
        search = Search.begin(self.plan, self.start or first_score(self.courses))
        return State(self.fingerprint, search, np.array(search.optimiser.mean))

    def _save(self, state: State) -> None:
        path = self.folder / CHECKPOINT
        partial = path.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(pickle.dumps(state))
            partial.replace(path)
        except OSError as problem:
            raise OutputError(f"{path}: cannot be written: {problem.strerror or problem}") from None
