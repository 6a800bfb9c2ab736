"""Questions about waiting jobs that take too long for the event loop: where a job stands, why, and when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.daemon.comparing import order_of
from shunter.scheduler import Plan
from shunter.scheduler.attribution import Contribution, contributions
from shunter.scheduler.decide import queue_features, queue_scores
from shunter.scheduler.preemption import places_by_class
from shunter.scheduler.start_times import Past, StartTimes, Told

if TYPE_CHECKING:
    from shunter.daemon.planner import Decider, Question, Rules


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands.

    Attributes:
        heuristic_place: Under the configured heuristic, among those that the decision let wait; 1 is next.
        contributions: What moved it under the learned order, strongest first; empty without a model.
    """

    heuristic_place: int | None = None
    contributions: tuple[Contribution, ...] = ()


@dataclass(frozen=True, slots=True)
class StandingOf:
    """Where a job stood in the last decision, and why.

    Attributes:
        question: What the decision was made from; its rules are not looked at.
        made: The plan.
        job: Its id.
        heuristic: Rules without a model.
        learned: Rules with one; None where no model is in use.
    """

    question: Question
    made: Plan
    job: int
    heuristic: Rules
    learned: Rules | None

    def work(self, decider: Decider) -> Standing:
        """See ``planner.Request``."""
        snapshot = self.question.snapshot
        rows = snapshot.rows[snapshot.num_running :]
        found = np.flatnonzero(rows == self.job)
        if not len(found):
            return Standing()
        job = int(found[0])
        settings, _ = decider.settings(self.heuristic)
        scores = queue_scores(snapshot, settings, self.question.usage_s)
        priority = snapshot.columns.priority[snapshot.num_running :]
        classes = priority if settings.strict_classes else np.zeros(len(rows))
        places = places_by_class(scores, classes, rows)
        started = np.isin(rows, [start.row for start in self.made.starts])
        place = None if started[job] else int((places[~started] < places[job]).sum()) + 1
        if self.learned is None or snapshot.histories is None:
            return Standing(place)
        settings, _ = decider.settings(self.learned)
        assert settings.ordering.scorer is not None
        features = queue_features(snapshot, settings)
        return Standing(place, tuple(contributions(settings.ordering.scorer, features, job)))


@dataclass(frozen=True, slots=True)
class StartsOf:
    """When the waiting jobs of a snapshot start.

    Attributes:
        question: The present, after its pass.
        past: What is known of jobs that have ended.
    """

    question: Question
    past: Past

    def work(self, decider: Decider) -> StartTimes:
        """See ``planner.Request``."""
        snapshot = self.question.snapshot
        if decider.tell_starts is None:
            return StartTimes.nothing(snapshot.num_waiting, Told.UNSUPPORTED, "this daemon estimates no starts")
        settings, _ = decider.settings(self.question.rules)
        return decider.tell_starts(snapshot, self.past, settings, 0)


def place_in(made: Plan, job: int, still_waiting: set[int]) -> tuple[int, list[int]] | None:
    """Place of a job in the order that was followed, and the jobs ahead of it, of those that wait still."""
    order = order_of(made).tolist()
    if job not in order:
        return None
    ahead = [row for row in order[: order.index(job)] if row in still_waiting]
    return len(ahead) + 1, ahead
