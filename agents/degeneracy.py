"""Whether a learned order is more than a heuristic in disguise.

A score that sees only cluster state and job size is a function of size alone, however deep the network: the state is
the same for all waiting jobs. So, over queues as the policy met them: how often is its first choice that of first come
first served, of shortest, smallest area or smallest size first, how near is its whole order to theirs, and does it ever
tell two jobs of equal size and request apart?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shunter.scheduler.features import FEATURES
from shunter.scheduler.kernels.features import LOG_SPAN
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.agents.evaluation import Evaluation, Work
    from shunter.scheduler.policies import ChosenOrdering

Queue = tuple[FloatArray, FloatArray]
"""(Q, F) features of the waiting jobs at a decision, and their (Q,) scores."""


class Known(NamedTuple):
    """What the orders that are looked for go by, each (Q,): requested time, size, and wait."""

    request: FloatArray
    size: FloatArray
    wait: FloatArray


ORDERS: Mapping[str, tuple[str, Callable[[Known], FloatArray]]] = {
    "fcfs": ("first come, first served", lambda jobs: -jobs.wait),
    "sjf": ("shortest request first", lambda jobs: jobs.request),
    "saf": ("smallest area first", lambda jobs: jobs.request * jobs.size),
    "smallest": ("smallest size first", lambda jobs: jobs.size),
}
"""Orders that are looked for, lower first."""

NAMES = tuple(feature.name for feature in FEATURES)

MOST_REPLAYED = 3000
"""Jobs of a trace that are replayed for the check."""

MOST_QUEUES = 500
"""Queues that are kept of a replay, spread evenly over its decisions."""

MOST_JOBS = 400
"""Jobs of a queue whose order is compared, spread evenly over it: pairs grow with the square."""

DIFFERENT = 1e-12
"""Scores whose relative difference is above this are told apart."""


class Recorder:
    """A scorer that keeps some of the queues that it scores.

    Args:
        scorer: The scorer that it stands for.
        most: Queues to keep; of two jobs at least.
    """

    def __init__(self, scorer: Callable[[FloatArray], FloatArray], most: int = MOST_QUEUES) -> None:
        self.queues: list[Queue] = []
        self._scorer = scorer
        self._most = most
        self._every = 1
        self._met = 0

    def __call__(self, features: FloatArray) -> FloatArray:
        """(Q,) scores of (Q, F) features."""
        scores = self._scorer(features)
        if len(features) > 1:
            if self._met % self._every == 0:
                self.queues.append((features.copy(), np.array(scores, dtype=np.float64)))
            self._met += 1
            if len(self.queues) > 2 * self._most:  # half as dense from now on, whatever the number of decisions
                self.queues = self.queues[::2]
                self._every *= 2
        return scores

    def sample(self) -> list[Queue]:
        """At most ``most`` queues, evenly spread."""
        kept = np.linspace(0, len(self.queues) - 1, min(self._most, len(self.queues))).round().astype(int)
        return [self.queues[i] for i in kept]


def check_orders(evaluation: Evaluation) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """The check of every learned policy of an evaluation, by trace and backfilling; see ``check``.

    The middle stretch of a trace is replayed by the project's own engine, whatever the protocol.
    """
    from pathlib import Path

    from shunter.agents.bundle import load_bundle

    work = evaluation.work
    learned = [contender for contender in work.contenders if contender.kind == "learned"]
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for contender in learned:
        chosen = load_bundle(Path(contender.policy)).ordering(label=contender.label)
        for case in range(len(work.cases)):
            for backfill in work.backfills:
                queues = sample(work, case, chosen, backfill)
                found.setdefault((case, backfill), []).append({"policy": contender.label} | check(queues))
    return found


def sample(work: Work, case_idx: int, chosen: ChosenOrdering, backfill: str) -> list[Queue]:
    """Queues of a learned policy on the middle stretch of a trace, as it met them."""
    from shunter.agents.replays import replay

    assert chosen.scorer is not None
    case = work.cases[case_idx]
    first, last = case.rows(case.stretches[len(case.stretches) // 2])
    first = max(first, (first + last - MOST_REPLAYED) // 2)
    recorder = Recorder(chosen.scorer)
    replay(
        case.trace,
        case.cluster,
        first,
        min(last, first + MOST_REPLAYED),
        policy=replace(chosen, scorer=recorder),
        backfill=backfill,
        default_request_s=work.default_request_s,
    )
    return recorder.sample()


def check(queues: Sequence[Queue], names: Sequence[str] = NAMES) -> dict[str, Any]:
    """What the queues tell, as plain values.

    Args:
        queues: Queues of at least two jobs.
        names: (F,) names of the features; ``log_request``, ``size`` and ``log_wait`` are needed.

    Returns:
        ``decisions``; for each of ``ORDERS`` the share of equal ``first_choice`` and the mean ``kendall_tau``;
        ``equal_pairs`` (of equal size and request), how many of them are ``told_apart`` and in how many of these the
        later job goes first (``overtaking``), and the clearest ``example``.
    """
    places = {name: list(names).index(name) for name in ("log_request", "size", "log_wait")}
    first = dict.fromkeys(ORDERS, 0)
    tau: dict[str, list[float]] = {name: [] for name in ORDERS}
    pairs = apart = overtaking = 0
    example: dict[str, Any] | None = None
    for features, scores in queues:
        log_request, size, wait = (features[:, places[name]] for name in ("log_request", "size", "log_wait"))
        known = Known(np.exp(log_request * LOG_SPAN), size, wait)
        own = order_of(scores, wait)
        kept = np.linspace(0, len(own) - 1, min(len(own), MOST_JOBS)).round().astype(int)
        for name, (_, score) in ORDERS.items():
            other = order_of(score(known), wait)
            first[name] += bool(own[0] == other[0])
            tau[name].append(kendall_tau(own[kept], other))
        for a, b in equal_pairs(log_request, size):
            pairs += 1
            gap = abs(scores[a] - scores[b]) / max(abs(scores[a]), abs(scores[b]), 1e-300)
            if gap > DIFFERENT:
                apart += 1
                early, late = (a, b) if wait[a] >= wait[b] else (b, a)
                overtakes = bool(wait[early] > wait[late] and scores[late] < scores[early])
                overtaking += overtakes
                rank = (overtakes, gap)
                if example is None or rank > example["rank"]:
                    example = {"rank": rank} | _example(features, scores, early, late, names)
    if example is not None:
        del example["rank"]
    return {
        "decisions": len(queues),
        "mean_queue": float(np.mean([len(scores) for _, scores in queues])) if queues else 0.0,
        "orders": {
            name: {"first_choice": first[name] / len(queues), "kendall_tau": float(np.mean(tau[name]))}
            for name in (ORDERS if queues else ())
        },
        "equal_pairs": pairs,
        "told_apart": apart,
        "overtaking": overtaking,
        "example": example,
    }


def order_of(scores: FloatArray, wait: FloatArray) -> IntArray:
    """(Q,) rows by score, then by wait, the longest first, then as they stand."""
    return np.lexsort((np.arange(len(scores)), -wait, scores))


def kendall_tau(own: IntArray, other: IntArray) -> float:
    """Kendall's rank correlation of some rows in one order with the same rows in another order of all; 1 when equal.

    Args:
        own: (N,) some rows, in their order.
        other: (Q,) all rows, in the other order.
    """
    place = np.empty(len(other), dtype=np.int64)
    place[other] = np.arange(len(other))
    there = place[own]
    above = np.triu_indices(len(own), 1)
    return float(np.sign(there[above[1]] - there[above[0]]).mean())


def equal_pairs(log_request: FloatArray, size: FloatArray) -> list[tuple[int, int]]:
    """Neighbouring jobs among those of equal request and size: n − 1 pairs of n such jobs."""
    order = np.lexsort((size, log_request))
    same = (np.diff(log_request[order]) == 0) & (np.diff(size[order]) == 0)
    return [(int(order[i]), int(order[i + 1])) for i in np.flatnonzero(same)]


def _example(features: FloatArray, scores: FloatArray, early: int, late: int, names: Sequence[str]) -> dict[str, Any]:
    """Two jobs of equal size and request: their scores, and the features in which they differ."""
    differing = [i for i in range(len(names)) if features[early, i] != features[late, i]]
    return {
        "earlier": {
            "score": float(scores[early]),
            "features": {names[i]: float(features[early, i]) for i in differing},
        },
        "later": {"score": float(scores[late]), "features": {names[i]: float(features[late, i]) for i in differing}},
    }


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What ``check`` found, for people."""
    if not found["decisions"]:
        return ["there was never more than one job to choose from."]
    nearest = max(found["orders"], key=lambda name: float(found["orders"][name]["kendall_tau"]))
    agreement = ", ".join(
        f"{name} {100 * order['first_choice']:.0f} % (τ {order['kendall_tau']:.2f})"
        for name, order in found["orders"].items()
    )
    said = [
        f"over {found['decisions']:,} decisions with {found['mean_queue']:.0f} waiting jobs on average, its first "
        f"choice is that of {agreement}; its order is nearest to {ORDERS[nearest][0]}."
    ]
    if not found["equal_pairs"]:
        return [*said, "No two jobs of equal size and request were met."]
    if not found["told_apart"]:
        return [*said, f"It never told two jobs of equal size and request apart ({found['equal_pairs']:,} pairs)."]
    share = 100 * found["told_apart"] / found["equal_pairs"]
    said.append(
        f"It told {share:.0f} % of {found['equal_pairs']:,} pairs of equal size and request apart, and let the later "
        f"one go first in {found['overtaking']:,}."
    )
    example = found["example"]
    largest = sorted(
        example["earlier"]["features"],
        key=lambda name: -abs(example["earlier"]["features"][name] - example["later"]["features"][name]),
    )[:2]
    told = " and ".join(
        f"{name} {example['earlier']['features'][name]:.2f} against {example['later']['features'][name]:.2f}"
        for name in largest
    )
    said.append(
        f"Example: scores {example['earlier']['score']:.3g} and {example['later']['score']:.3g} (lower goes first), "
        f"with {told}."
    )
    return said
