"""Two orders of one queue beside each other: what mode shadow records of a decision.

**Equal starts**: jobs that both plans start now, over those that either starts (1 where neither starts any).
**τ**: Kendall's rank correlation of the two orders over the first ``MOST_RANKED`` jobs of the heuristic's.
**Regret**: what following the heuristic costs, as estimated at this decision: the mean bounded slowdown that waiting
jobs would reach if the whole cluster served them one after the other in the heuristic's order, less the same in the
learned order, each job taking request × processors / processors of the cluster and counting with its request as run
time. Above 0 the learned order is better. It knows no gangs, nodes or backfilling: it ranks orders, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler import Plan, plan
from shunter.scheduler.plans import Skips
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.types import IntArray

if TYPE_CHECKING:
    from shunter.daemon.planner import Decider, Question, Rules

MOST_RANKED = 512
BOUND_S = 10.0
"""Of the bounded slowdown."""


@dataclass(frozen=True, slots=True)
class Compared:
    """How two plans for one snapshot differ; see the module.

    Attributes:
        guard: What became of the learned order; empty: the order made no difference.
        equal_starts: Between 0 and 1.
        tau: Between −1 and 1.
        regret: In units of slowdown.
        cost: The slowdown of the heuristic's order that it is taken from.
    """

    guard: tuple[str, ...]
    equal_starts: float = 1.0
    tau: float = 1.0
    regret: float = 0.0
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Make the learned order of a snapshot, and compare it with the plan that was followed.

    Attributes:
        question: With histories.
        learned: Rules with the model.
        followed: The heuristic's plan.
    """

    question: Question
    learned: Rules
    followed: Plan

    def work(self, decider: Decider) -> Compared:
        """See ``planner.Request``."""
        question = self.question
        settings, preemption = decider.settings(self.learned)
        made = plan(question.snapshot, settings, usage_s=question.usage_s, preemption=preemption)
        return compare(question.snapshot, self.followed, made)


def compare(snapshot: Snapshot, heuristic: Plan, learned: Plan) -> Compared:
    """Two plans for one snapshot."""
    if not learned.guard:
        return Compared(())
    ours, theirs = ({start.row for start in made.starts} for made in (heuristic, learned))
    either = ours | theirs
    first, second = order_of(heuristic), order_of(learned)
    cost = served_slowdown(snapshot, first)
    return Compared(
        guard=learned.guard,
        equal_starts=len(ours & theirs) / len(either) if either else 1.0,
        tau=kendall_tau(first, second),
        regret=cost - served_slowdown(snapshot, second),
        cost=cost,
    )


def order_of(made: Plan) -> IntArray:
    """(·,) rows of the waiting jobs in the order of a plan: those that it starts, then the others as they stand."""
    skipped = made.skipped
    rest = skipped.rows if isinstance(skipped, Skips) else np.asarray([row for row, _ in skipped], dtype=np.int64)
    return np.concatenate([np.asarray([start.row for start in made.starts], dtype=np.int64), rest])


def kendall_tau(first: IntArray, second: IntArray) -> float:
    """Rank correlation of two orders over the first jobs of one that both have; 1 for fewer than two. O(n²)."""
    place = {row: i for i, row in enumerate(second.tolist())}
    ranks = np.asarray([place[row] for row in first.tolist()[:MOST_RANKED] if row in place])
    count = len(ranks)
    if count < 2:
        return 1.0
    swapped = int(np.triu(ranks[:, None] > ranks[None, :], 1).sum())
    return 1.0 - 4.0 * swapped / (count * (count - 1))


def served_slowdown(snapshot: Snapshot, order: IntArray) -> float:
    """Mean bounded slowdown of jobs that the whole cluster serves one after the other."""
    first = snapshot.num_running
    index = {row: i for i, row in enumerate(snapshot.rows[first:].tolist())}
    places = np.asarray([first + index[row] for row in order.tolist()], dtype=np.int64)
    if not len(places):
        return 1.0
    jobs = snapshot.columns.take(places)
    work_s = jobs.requested_s * jobs.processors / max(snapshot.total_processors, 1e-9)
    wait_s = np.maximum(snapshot.now_s - jobs.submit_s, 0.0) + np.cumsum(work_s) - work_s
    slowdown = (wait_s + jobs.requested_s) / np.maximum(jobs.requested_s, BOUND_S)
    return float(np.maximum(slowdown, 1.0).mean())
