"""What an ordering is, and how it is found by name.

An ordering is a score for every waiting job, lower first; ties end in (submit time, row). A new one is a function in
a file of this folder and a line in ``ORDERINGS``; the property tests pick it up from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.rounds import Round
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray

Score = Callable[[QueueView, Mapping[str, float]], FloatArray]


@dataclass(frozen=True, slots=True)
class Ordering:
    """How a queue is ordered.

    Attributes:
        name: Name on the command line.
        score: (Q,) scores of a view, lower first.
        summary: One line for tables and help.
        source: Paper or manual.
        static: The score never changes while a job waits, so the queue can be kept sorted.
        parameters: Names and defaults of what may be set with ``NAME:key=value,…``.
        needs_usage: Reads the decayed usage of users.
        needs_shares: Reads the dominant shares of groups.
        needs_oracle: Is told the actual run times: a bound, no policy for a live cluster.
        uses_request: Reads the user's limit, so a log without limits makes it one with perfect knowledge.
        uses_estimate: Reads the expected run time, which is the request unless it is predicted (``--estimates``).
        rank_holds_s: For how many seconds a running job keeps its rank; None: the next event is soon enough to look.
        rank: What decides whether a waiting job may stop a running one (``--preempt policy``): the score unless said.
        rounds: Decides every ``round`` seconds (a parameter) which jobs run where; the score then only orders those
            that its shares do not tell apart, and what fills idle nodes between two rounds.
        is_elastic: The rounds also decide on how many GPUs an elastic job runs.
    """

    name: str
    score: Score
    summary: str
    source: str
    static: bool = True
    parameters: Mapping[str, float] = field(default_factory=dict)
    needs_usage: bool = False
    needs_shares: bool = False
    needs_oracle: bool = False
    uses_request: bool = False
    uses_estimate: bool = False
    rank: Score | None = None
    rank_holds_s: Score | None = None
    rounds: Round | None = None
    is_elastic: bool = False


@dataclass(frozen=True, slots=True)
class ChosenOrdering:
    """An ordering with its parameters bound; ``label`` writes out those that differ from the defaults."""

    ordering: Ordering
    parameters: Mapping[str, float]

    def score(self, view: QueueView) -> FloatArray:
        """(Q,) scores, lower first."""
        return np.asarray(self.ordering.score(view, self.parameters), dtype=np.float64)

    def rank(self, view: QueueView) -> FloatArray:
        """(Q,) ranks, lower first: a waiting job may stop a running one with a larger rank."""
        rank = self.ordering.rank or self.ordering.score
        return np.asarray(rank(view, self.parameters), dtype=np.float64)

    @property
    def label(self) -> str:
        """Name as it would be written on the command line."""
        changed = [f"{k}={v:g}" for k, v in self.parameters.items() if v != self.ordering.parameters[k]]
        return self.ordering.name + (":" + ",".join(changed) if changed else "")


def choose_ordering(text: str) -> ChosenOrdering:
    """The ordering that ``NAME`` or ``NAME:key=value,…`` means.

    Raises:
        UsageError: Unknown name or parameter (the message suggests the nearest), or a value that is no number.
    """
    from shunter.scheduler.policies import ORDERINGS

    name, _, settings = text.partition(":")
    if name not in ORDERINGS:
        raise UsageError(f"unknown policy {name!r}{nearest(name, list(ORDERINGS))}")
    ordering = ORDERINGS[name]
    parameters = dict(ordering.parameters)
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        if key not in parameters:
            known = f"{nearest(key, list(parameters))}" if parameters else "; it has none"
            raise UsageError(f"policy {name!r} has no parameter {key!r}{known}")
        try:
            parameters[key] = float(value)
        except ValueError:
            raise UsageError(f"policy {name!r}: {key}={value!r} is not a number") from None
        if not equals or not np.isfinite(parameters[key]):
            raise UsageError(f"policy {name!r}: {setting!r} is not of the form key=number")
    return ChosenOrdering(ordering, parameters)
