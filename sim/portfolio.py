"""The ``portfolio`` policy: now and then the simulator is rolled forward under each of several orderings, and the best
of them decides until the next time.

What is rolled forward is ``lookahead.Scene``: present state, predicted durations. Nothing here reads an actual run time
before its job has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.policies.registry import ChosenOrdering, Ordering, choose_ordering
from shunter.scheduler.snapshot import JobColumns, QueueView
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.state import ClusterState
    from shunter.sim.engine import Options
    from shunter.sim.lookahead import Scene
    from shunter.sim.workload import Workload

NAME = "portfolio"

BOUND_S = 10.0
"""Run times below this count as this in the bounded slowdown."""

KINDS = {"wfp3": 1, "unicep": 2}
"""Orderings that a roll scores anew at each instant, as ``rollout.KINDS``; others keep the order of the present."""


def mean_slowdown(wait_s: FloatArray, run_s: FloatArray) -> float:
    """Mean bounded slowdown."""
    return float(_slowdown(wait_s, run_s).mean())


def p95_slowdown(wait_s: FloatArray, run_s: FloatArray) -> float:
    """95th percentile of the bounded slowdown."""
    return float(np.quantile(_slowdown(wait_s, run_s), 0.95))


def mixed_slowdown(wait_s: FloatArray, run_s: FloatArray) -> float:
    """Sum of the logarithms of mean and 95th percentile: what lowers either by a tenth is worth the same."""
    return float(np.log(mean_slowdown(wait_s, run_s)) + np.log(p95_slowdown(wait_s, run_s)))


def mean_wait(wait_s: FloatArray, run_s: FloatArray) -> float:  # noqa: ARG001 - one signature for all
    """Mean wait in seconds."""
    return float(wait_s.mean())


def _slowdown(wait_s: FloatArray, run_s: FloatArray) -> FloatArray:
    return np.maximum((wait_s + run_s) / np.maximum(run_s, BOUND_S), 1.0)


METRICS: Mapping[str, Callable[[FloatArray, FloatArray], float]] = {
    "bsld": mean_slowdown,
    "p95": p95_slowdown,
    "mix": mixed_slowdown,
    "wait": mean_wait,
}
"""What a roll is judged by, from the waits and the predicted run times of the jobs that wait now; lower is better."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a portfolio decides; a setting of the same name each.

    Attributes:
        candidates: Names of orderings, joined by ``+``.
        every: Seconds of the replay between two decisions, at least.
        horizon: Seconds ahead at which a job that has not started counts as starting; 0: there is no end.
        metric: A name of ``METRICS``.
        jobs: Waiting jobs that are looked at, at most: those that come first under any of the candidates.
        work: Candidates times jobs of one decision, at most.
        recent: Seconds of recent submissions that are expected to come again; 0: nobody comes.
    """

    candidates: str = "fcfs+sjf+saf+f1+wfp3+unicep"
    every: float = 3600.0
    horizon: float = 0.0
    metric: str = "bsld"
    jobs: float = 256.0
    work: float = 4096.0
    recent: float = 0.0

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(f"policy {NAME!r}: unknown metric {self.metric!r}{nearest(self.metric, list(METRICS))}")
        for name in ("every", "horizon", "recent"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"policy {NAME!r}: {name}={getattr(self, name):g} is not a number of at least 0")
        if not 2 <= self.jobs < np.inf:
            raise UsageError(f"policy {NAME!r}: jobs={self.jobs:g} is not a number of at least 2")
        if not 2 * len(self.candidates.split("+")) <= self.work < np.inf:
            raise UsageError(f"policy {NAME!r}: work={self.work:g} allows less than two jobs under each candidate")

    def orderings(self) -> tuple[ChosenOrdering, ...]:
        """The candidates.

        Raises:
            UsageError: An unknown name, one named twice, or an ordering that cannot be looked ahead under.
        """
        names = self.candidates.split("+")
        chosen = tuple(choose_ordering(name) for name in names)
        for name, found in zip(names, chosen, strict=True):
            if found.ordering.needs_oracle or found.ordering.rounds is not None:
                why = "is told actual run times" if found.ordering.needs_oracle else "decides in rounds"
                raise UsageError(f"policy {NAME!r}: {name} cannot be a candidate: it {why}")
        if len(set(names)) < len(names):
            raise UsageError(f"policy {NAME!r}: a candidate is named twice in {self.candidates!r}")
        return chosen


@dataclass(frozen=True, slots=True)
class ChosenPortfolio(ChosenOrdering):
    """The portfolio as a policy that has been chosen; its score by itself is that of the first candidate."""

    look: Look = field(default_factory=Look)
    candidates: tuple[ChosenOrdering, ...] = ()

    def score(self, view: QueueView) -> FloatArray:
        """(Q,) scores of the first candidate, lower first."""
        return self.candidates[0].score(view)

    @property
    def label(self) -> str:
        """Name as it would be written on the command line."""
        given = {f.name: getattr(self.look, f.name) for f in fields(Look) if getattr(self.look, f.name) != f.default}
        settings = [f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in given.items()]
        return NAME + (":" + ",".join(settings) if settings else "")


def choose_policy(text: str) -> ChosenOrdering:
    """As ``choose_ordering``, and the portfolio.

    Raises:
        UsageError: Unknown name or setting, or a value that cannot be.
    """
    name, _, settings = text.partition(":")
    if name != NAME:
        return choose_ordering(text)
    given: dict[str, Any] = {}
    defaults = {f.name: f.default for f in fields(Look)}
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        if key not in defaults:
            raise UsageError(f"policy {NAME!r} has no parameter {key!r}{nearest(key, list(defaults))}")
        if not equals or not value:
            raise UsageError(f"policy {NAME!r}: {setting!r} is not of the form key=value")
        try:
            given[key] = value if isinstance(defaults[key], str) else float(value)
        except ValueError:
            raise UsageError(f"policy {NAME!r}: {key}={value!r} is not a number") from None
    look = Look(**given)
    candidates = look.orderings()
    ordering = Ordering(
        name=NAME,
        score=candidates[0].ordering.score,
        summary="The candidate that does best when the simulator is rolled forward from the present.",
        source="Talby & Feitelson, IPPS 1999 (dynamic choice); here by lookahead with predicted durations",
        static=False,
        needs_usage=any(c.ordering.needs_usage for c in candidates),
        needs_shares=any(c.ordering.needs_shares for c in candidates),
        uses_request=True,
    )
    parameters = {f.name: getattr(look, f.name) for f in fields(Look)}
    return ChosenPortfolio(ordering, parameters, look=look, candidates=candidates)


class Portfolio:
    """The portfolio of one replay, and what it remembers.

    Attributes:
        chosen: (C,) decisions for each candidate.
        unchanged: Times at which a decision was due and nothing had changed since the last one.
    """

    def __init__(self, policy: ChosenPortfolio, columns: JobColumns) -> None:
        from shunter.sim.lookahead import Experience

        self.look = policy.look
        self.candidates = policy.candidates
        self.experience = Experience(columns)
        self.chosen = np.zeros(len(self.candidates), dtype=np.int64)
        self.unchanged = 0
        self._present = 0
        self._next_s = -np.inf
        self._seen = np.zeros(0, dtype=np.int64)

    @classmethod
    def of(cls, workload: Workload, options: Options, state: ClusterState) -> Portfolio | None:
        """That of a replay; None for another policy.

        Raises:
            UsageError: Rules that a roll does not know.
        """
        policy = options.settings.ordering
        if not isinstance(policy, ChosenPortfolio):
            return None
        reasons = {
            "conservative backfilling": options.settings.backfill == "conservative",
            "--preempt": bool(options.preemption.rules),
            "--strict-classes": options.settings.strict_classes,
            "quotas, lanes, a power cap or --consolidate": bool(state.counters[at.LISTED]),
        }
        for reason, holds in reasons.items():
            if holds:
                raise UsageError(f"policy {NAME!r} does not go with {reason}: it cannot look ahead there")
        return cls(policy, workload.columns)

    def ended(self, state: ClusterState, rows: list[int], now_s: float) -> None:
        """Jobs have ended now."""
        index = np.asarray(rows, dtype=np.int64)
        self.experience.ended(index, now_s - state.jobs_f[at.START_S, index])

    def ordering_at(self, state: ClusterState, view: QueueView) -> ChosenOrdering:
        """What orders the queue now; the decision is made anew when it is due."""
        if view.now_s >= self._next_s:
            seen = np.concatenate([state.running, np.sort(state.queue)])
            if np.array_equal(seen, self._seen):
                self.unchanged += 1
            else:
                self._present = self.decide(state, view)
                self.chosen[self._present] += 1
                self._seen = seen
                self._next_s = view.now_s + self.look.every
        return self.candidates[self._present]

    def decide(self, state: ClusterState, view: QueueView) -> int:
        """The candidate under which the waiting jobs do best; the present one, then the first among equals."""
        from shunter.sim.lookahead import scene_of

        scores = [candidate.score(view) for candidate in self.candidates]
        places = np.stack([_places(score, state.queue) for score in scores]).min(axis=0)
        most = int(min(self.look.jobs, self.look.work // len(self.candidates)))
        kept = np.lexsort((state.queue, places))[:most]
        kept = kept[np.argsort(state.queue[kept])]
        again = self._recent(state, view.now_s)
        again_s = state.columns.submit_s[again] + self.look.recent
        scene = scene_of(state, self.experience.run_s, state.queue[kept], view.now_s, again, again_s)
        later = self._scores_of(state.columns, again, view)
        values = [
            self._value(scene, np.concatenate([score[kept], more]), KINDS.get(candidate.ordering.name, 0))
            for candidate, score, more in zip(self.candidates, scores, later, strict=True)
        ]
        best = min(values)
        return self._present if values[self._present] == best else values.index(best)

    def _value(self, scene: Scene, score: FloatArray, kind: int) -> float:
        start_s = scene.starts(score, kind)
        start_s = np.where(np.isnan(start_s), scene.last_s(start_s), start_s)
        if self.look.horizon > 0:
            start_s = np.minimum(start_s, scene.now_s + self.look.horizon)
        first = scene.num_running
        return METRICS[self.look.metric](start_s - scene.jobs.submit_s[first:], scene.jobs.run_s[first:])

    def _recent(self, state: ClusterState, now_s: float) -> IntArray:
        """Rows of the jobs of late, whose like is expected to come; as many as a decision may look at."""
        if self.look.recent == 0:
            return np.zeros(0, dtype=np.int64)
        submit_s = state.columns.submit_s
        first, last = np.searchsorted(submit_s, (now_s - self.look.recent, now_s), side="right")
        rows = np.arange(first, last)
        entered: IntArray = rows[state.jobs_i[at.TASKS, rows] > 0]
        return entered[: int(self.look.jobs)]

    def _scores_of(self, columns: JobColumns, rows: IntArray, view: QueueView) -> list[FloatArray]:
        """Scores of the jobs to come, as if they were submitted now."""
        if not len(rows):
            return [np.zeros(0)] * len(self.candidates)
        from dataclasses import replace

        jobs = columns.take(rows)
        jobs = replace(jobs, submit_s=jobs.submit_s + self.look.recent)
        shares = np.zeros(len(rows)) if len(view.shares) else view.shares
        coming = replace(view, jobs=jobs, shares=shares)
        return [candidate.score(coming) for candidate in self.candidates]

    # --- saving ------------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, Any]:
        """What the manifest says: how often it decided, and for what."""
        names = [candidate.label for candidate in self.candidates]
        chosen = dict(zip(names, self.chosen.tolist(), strict=True))
        return {"decisions": int(self.chosen.sum()), "unchanged": self.unchanged, "chosen": chosen}

    def arrays(self) -> dict[str, Any]:
        """What changes during a run, by name, for a checkpoint."""
        return {
            "portfolio_chosen": self.chosen,
            "portfolio_numbers": np.asarray([self._next_s, self._present, self.unchanged]),
            "portfolio_seen": self._seen,
            "portfolio_users": self.experience.users,
            "portfolio_alike": self.experience.alike,
        }

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take over what ``arrays`` saved."""
        self.chosen[:] = arrays["portfolio_chosen"]
        next_s, present, unchanged = arrays["portfolio_numbers"].tolist()
        self._next_s, self._present, self.unchanged = next_s, int(present), int(unchanged)
        self._seen = arrays["portfolio_seen"]
        self.experience.users[:] = arrays["portfolio_users"]
        self.experience.alike[:] = arrays["portfolio_alike"]


def _places(score: FloatArray, rows: IntArray) -> IntArray:
    """(Q,) places in the order of a score, ties by row."""
    places = np.empty(len(score), dtype=np.int64)
    places[np.lexsort((rows, score))] = np.arange(len(score))
    return places
