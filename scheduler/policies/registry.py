"""What an ordering is, and how it is found by name.

An ordering is a score for every waiting job, lower first; ties end in (submit time, row). A new one is a function in
a file of this folder and a line in ``ORDERINGS``; the property tests pick it up from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.rounds import Round
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.scheduler.guard import Seen

Score = Callable[[QueueView, Mapping[str, float]], FloatArray]

Scorer = Callable[[FloatArray], FloatArray]
"""(Q,) scores of the (Q, F) features of one queue, lower first."""


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
        needs_load: Reads the predicted loads of the nodes that jobs would take.
        needs_features: Is a model's: needs a scorer, and the features of ``scheduler.features``.
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
    needs_load: bool = False
    needs_features: bool = False
    needs_oracle: bool = False
    uses_request: bool = False
    uses_estimate: bool = False
    rank: Score | None = None
    rank_holds_s: Score | None = None
    rounds: Round | None = None
    is_elastic: bool = False


@dataclass(frozen=True, slots=True)
class ChosenOrdering:
    """An ordering with its parameters bound; ``label`` writes out those that differ from the defaults.

    Attributes:
        ordering: The ordering.
        parameters: Its parameters.
        scorer: The model of an ordering that needs features.
        seen: Range of the features seen in training; None: not known.
        model: What the model is called, ``learned`` or ``model:NAME``; empty for other orderings.
        model_sha256: Of the model's file.
        fallback: Ordering that decides where the guard does not follow the model.
    """

    ordering: Ordering
    parameters: Mapping[str, float]
    scorer: Scorer | None = None
    seen: Seen | None = field(default=None, compare=False)
    model: str = ""
    model_sha256: str = ""
    fallback: str = "fcfs"

    def score(self, view: QueueView) -> FloatArray:
        """(Q,) scores, lower first."""
        if self.scorer is not None:
            return np.asarray(self.scorer(view.features), dtype=np.float64)
        return np.asarray(self.ordering.score(view, self.parameters), dtype=np.float64)

    def rank(self, view: QueueView) -> FloatArray:
        """(Q,) ranks, lower first: a waiting job may stop a running one with a larger rank."""
        rank = self.ordering.rank or self.ordering.score
        return np.asarray(rank(view, self.parameters), dtype=np.float64)

    @property
    def label(self) -> str:
        """Name as it would be written on the command line."""
        defaults = self.ordering.parameters
        changed = [f"{k}={v:g}" for k, v in self.parameters.items() if v != defaults[k]]
        if self.fallback != "fcfs":
            changed.append(f"fallback={self.fallback}")
        return (self.model or self.ordering.name) + (":" + ",".join(changed) if changed else "")


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
    fallback = "fcfs"
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        if key == "fallback" and ordering.needs_features:
            fallback = _fixed(value).name
            continue
        if key not in parameters:
            known = f"{nearest(key, list(parameters))}" if parameters else "; it has none"
            raise UsageError(f"policy {name!r} has no parameter {key!r}{known}")
        try:
            parameters[key] = float(value)
        except ValueError:
            raise UsageError(f"policy {name!r}: {key}={value!r} is not a number") from None
        if not equals or not np.isfinite(parameters[key]):
            raise UsageError(f"policy {name!r}: {setting!r} is not of the form key=number")
    return ChosenOrdering(ordering, parameters, fallback=fallback)


def _fixed(name: str) -> Ordering:
    """The ordering of this name, if its score is fixed while a job waits.

    Raises:
        UsageError: It is not, or it is told actual run times, or there is no such ordering.
    """
    ordering = choose_ordering(name).ordering
    if not ordering.static or ordering.needs_oracle:
        raise UsageError(f"fallback {name!r} is no ordering with a fixed score, such as fcfs or sjf")
    return ordering
