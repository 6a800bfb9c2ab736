"""Under which rules a learned order is followed, and what decides where it is not.

A learned order is a proposal. No job may be overtaken beyond a bound, priority classes may be kept, features have to
lie inside the range seen in training and scores have to be finite numbers, and inference has a time budget. Where a
rule is broken a heuristic's order takes the place of the learned one for that pass, which is counted by its reason.
The rules are arithmetic on arrays (``kernels.guarding``): this module reads no clock, the caller measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.guarding import Rules

PARAMETERS = {
    "bound_h": 96.0,
    "bound_requests": 20.0,
    "bound_drains": 10.0,
    "classes": 0.0,
    "outside": 0.25,
    "budget_ms": 0.0,
    "overruns": 3.0,
    "pause": 100.0,
}
"""Settings as parameters of the ordering ``learned``, with their defaults."""

REASONS = ("followed", "not_finite", "outside", "slow", "starving")
"""Names of what became of orders, by the numbers of ``kernels.guarding``."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The settings; by default nothing is guarded but that scores are finite numbers.

    Attributes:
        bound_s: A job that has waited so long, …
        bound_requests: … and so many times its request (both 0 for never), …
        bound_drains: … and so many times as long as the cluster would need for all that waits, goes first: of several
            such jobs the one that was submitted first. Without this last condition a cluster that is asked for more
            than it can do would fall back to first come, first served.
        keeps_classes: Jobs of a higher priority come before all others, whatever the scores.
        most_outside: Share of the queue's features outside the range seen in training from which on the heuristic
            decides; inf for any.
        budget_s: Seconds that features and scores may take; inf for any.
        overruns: After so many longer ones in a row …
        pause: … so many orders are the heuristic's.
    """

    bound_s: float = 0.0
    bound_requests: float = 0.0
    bound_drains: float = 0.0
    keeps_classes: bool = False
    most_outside: float = np.inf
    budget_s: float = np.inf
    overruns: int = 3
    pause: int = 100

    @classmethod
    def of(cls, parameters: Mapping[str, float]) -> Guard:
        """From parameters of the ordering; those that are absent guard nothing. A share or budget of 0 is none."""
        off = dict.fromkeys(PARAMETERS, 0.0) | {"overruns": 3.0, "pause": 100.0}
        given = off | dict(parameters)
        return cls(
            bound_s=3600.0 * given["bound_h"],
            bound_requests=given["bound_requests"],
            bound_drains=given["bound_drains"],
            keeps_classes=given["classes"] != 0.0,
            most_outside=given["outside"] or np.inf,
            budget_s=given["budget_ms"] / 1000.0 or np.inf,
            overruns=max(1, int(given["overruns"])),
            pause=max(1, int(given["pause"])),
        )

    def late_after_s(self, request_s: FloatArray) -> FloatArray:
        """(J,) wait from which on each job goes first: the larger of ``bound_s`` and so many requests."""
        if self.bound_s <= 0.0 and self.bound_requests <= 0.0:
            return np.full(len(request_s), np.inf)
        return np.maximum(self.bound_s, self.bound_requests * request_s)


class Seen(NamedTuple):
    """Least and largest value of each feature seen in training, (F,) both."""

    low: FloatArray
    high: FloatArray

    @classmethod
    def anything(cls) -> Seen:
        """No value is outside."""
        from shunter.scheduler.kernels.features import NUM_FEATURES

        return cls(np.full(NUM_FEATURES, -np.inf), np.full(NUM_FEATURES, np.inf))


def rules_of(
    guard: Guard,
    *,
    request_s: FloatArray,
    work_s: FloatArray,
    fallback: FloatArray,
    priority: FloatArray,
    seen: Seen,
) -> Rules:
    """The guard's rules for jobs with these requests, work, heuristic scores and priorities, (J,) each."""
    from shunter.scheduler.kernels.guarding import NUM_COUNTS, Rules

    return Rules(
        late_after_s=guard.late_after_s(request_s),
        work_s=np.ascontiguousarray(work_s, dtype=np.float64),
        drains=np.asarray([guard.bound_drains]),
        fallback=np.ascontiguousarray(fallback, dtype=np.float64),
        priority=np.ascontiguousarray(priority, dtype=np.float64),
        keeps_classes=np.asarray([int(guard.keeps_classes)]),
        low=np.ascontiguousarray(seen.low, dtype=np.float64),
        high=np.ascontiguousarray(seen.high, dtype=np.float64),
        most_outside=np.asarray([guard.most_outside]),
        counts=np.zeros(NUM_COUNTS, np.int64),
    )


class Verdict(NamedTuple):
    """What becomes of a learned order.

    Attributes:
        order: (Q,) jobs, first to last.
        reason: A name of ``REASONS`` but the last: whose order it is, and why.
        num_late: Jobs that had waited too long; the first of them came first.
    """

    order: IntArray
    reason: str
    num_late: int


def guarded_order(
    guard: Guard,
    scores: FloatArray,
    features: FloatArray,
    *,
    fallback: FloatArray,
    wait_s: FloatArray,
    request_s: FloatArray,
    work_s: FloatArray | None = None,
    priority: FloatArray | None = None,
    seen: Seen | None = None,
    paused: bool = False,
) -> Verdict:
    """The order of a queue under a guard: a pure function, the same arithmetic as in replays.

    Args:
        guard: The settings.
        scores: (Q,) the network's, lower first; jobs stand in the order of submission, in which ties end.
        features: (Q, F) what it was told.
        fallback: (Q,) the heuristic's scores.
        wait_s: (Q,) seconds waited.
        request_s: (Q,) requested times.
        work_s: (Q,) seconds in which the whole cluster could do each; 0 by default.
        priority: (Q,) classes; none by default.
        seen: Range seen in training; anything by default.
        paused: Inference has been too slow: the heuristic decides.
    """
    from shunter.scheduler.kernels import guarding
    from shunter.scheduler.kernels.sorting import new_sorting

    count = len(scores)
    work = np.zeros(count) if work_s is None else work_s
    rules = rules_of(
        guard,
        request_s=request_s,
        work_s=work,
        fallback=fallback,
        priority=np.zeros(count) if priority is None else priority,
        seen=seen or Seen.anything(),
    )
    rules.counts[guarding.PAUSED] = int(paused)
    key, rows = np.array(scores, dtype=np.float64), np.arange(count)
    reason = guarding.verdict(rules, key, *count_outside(rules, features))
    late = int((wait_s >= np.maximum(rules.late_after_s, guard.bound_drains * work.sum())).sum())
    guarding.arrange(rules, reason, -wait_s, 0.0, rows, key, new_sorting(count), key.view(np.int64))
    return Verdict(rows, REASONS[reason], late)


def count_outside(rules: Rules, features: FloatArray) -> tuple[int, int, int]:
    """Of (Q, F) features: those outside the range seen in training, all, and those that are no finite numbers."""
    outside = (features < rules.low) | (features > rules.high)
    return int(outside.sum()), features.size, int((~np.isfinite(features)).sum())
