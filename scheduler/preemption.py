"""Stopping running jobs for waiting ones: who may be stopped for whom, and the passes that do it.

Three rules, which may be combined. ``policy``: the job first in its queue stops jobs that the ordering ranks behind it
(SRTF; Tiresias's discretised two-dimensional LAS, NSDI 2019). ``priority``: it stops jobs of a lower priority class;
classes then come first in the queue, too, so that a job that was stopped cannot return before the one it made way for.
``quota``: inside its group's guarantee it stops jobs of groups that hold more than theirs. Where there are quotas, no
rule pushes another group below its guarantee. A job is stopped only after its minimum run time; it goes on for
``grace_s`` seconds, has then saved its work, and waits again with what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.policies.registry import ChosenOrdering
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import FloatArray, IntArray

RULES = ("policy", "priority", "quota")


@dataclass(frozen=True, slots=True)
class Preemption:
    """When running jobs are stopped for waiting ones.

    Attributes:
        rules: Names of ``RULES``; none: never.
        min_run_s: A job is left alone for so long after it started.
        grace_s: Time that a job gets to save its work before its nodes are taken.
    """

    rules: tuple[str, ...] = ()
    min_run_s: float = 0.0
    grace_s: float = 0.0

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in RULES:
                raise UsageError(f"unknown preemption rule {rule!r}{nearest(rule, list(RULES))}")
        for name, value in (("minimum run time", self.min_run_s), ("grace period", self.grace_s)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} {value} is not a number of seconds of at least 0")


@dataclass(frozen=True, slots=True)
class Ranks:
    """How one rule ranks the head and the running jobs; the head may stop jobs with a larger rank.

    Attributes:
        head: The head's rank.
        running: (K,) ranks in the order of the running list.
    """

    head: float
    running: FloatArray


def progress_view(state: ClusterState, rows: IntArray, now_s: float, usage_s: FloatArray) -> QueueView:
    """Jobs as an ordering sees them, where running ones count with what they have had and what is left of them."""
    jobs = state.columns.take(rows)
    start_s, end_s = state.jobs_f[at.START_S, rows], state.jobs_f[at.END_S, rows]
    runs = state.jobs_i[at.ALLOC, rows] >= 0
    attained_s = jobs.attained_s + np.where(runs, now_s - start_s, 0.0) * jobs.processors
    expected_s = np.where(runs, np.maximum(end_s - now_s, 0.0), state.jobs_f[at.OVERHEAD_S, rows] + jobs.expected_s)
    jobs = replace(jobs, attained_s=attained_s, expected_s=expected_s)
    num_others = max(len(state.running) + len(state.queue) - len(rows), 0)
    return QueueView(now_s, jobs, state.capacity.processors, usage_s, num_others=num_others)


def classes_first(rules: Preemption, ordering: ChosenOrdering, *, asked: bool = False) -> bool:
    """Whether the queue has to be put in the order of priority classes first: the ordering does not do so itself.

    ``asked``: the settings say so, whatever the rules.
    """
    return keeps_classes(rules, asked=asked) and ordering.ordering.name != "priority"


def keeps_classes(rules: Preemption, *, asked: bool) -> bool:
    """Whether jobs of a higher priority come first in the queue: the settings ask for it, or a rule does."""
    return asked or "priority" in rules.rules


def places_by_class(scores: FloatArray, priority: FloatArray, rows: IntArray) -> FloatArray:
    """(Q,) places from 0 on: higher priorities first, then by score, lower first, and by row. Usable as scores."""
    places = np.empty(len(scores))
    places[np.lexsort((rows, scores, -priority))] = np.arange(len(scores))
    return places


def refuse_unranked(rules: Preemption, ordering: ChosenOrdering) -> None:
    """Raise UsageError where the ordering would have to rank running jobs and cannot: a model scores waiting ones."""
    if "policy" in rules.rules and ordering.ordering.needs_features:
        raise UsageError(f"--preempt policy needs an ordering that ranks running jobs: {ordering.label} does not")


def ranks_by(
    rule: str,
    state: ClusterState,
    head: int,
    now_s: float,
    ordering: ChosenOrdering,
    usage_s: FloatArray,
    *,
    strict: bool = False,
) -> Ranks | None:
    """Ranks of the head and the running jobs under one rule; None when the rule has nothing to say of this head.

    ``strict``: priority classes come first, so the policy stops no job of a higher one.
    """
    running = state.running
    priority = state.columns.priority
    if rule == "priority":
        return Ranks(-float(priority[head]), -priority[running])
    if rule == "quota":
        group = int(state.jobs_i[at.GROUP, head])
        guarantee, used = state.groups[at.GUARANTEED], state.groups[at.USED]
        if group < 0 or used[group] + state.jobs_i[at.SIZE, head] > guarantee[group]:
            return None
        groups = state.jobs_i[at.GROUP, running]
        borrows = (groups < 0) | (used[groups] > guarantee[groups])
        return Ranks(0.0, np.where(borrows, 1.0, -1.0))
    rows = np.append(running, head)
    ranks = ordering.rank(progress_view(state, rows, now_s, usage_s))
    is_higher = priority[running] > priority[head] if strict else np.zeros(len(running), dtype=np.bool_)
    return Ranks(float(ranks[-1]), np.where(is_higher, -np.inf, ranks[:-1]))


def choose_preemptions(
    state: ClusterState,
    rules: Preemption,
    now_s: float,
    ordering: ChosenOrdering,
    usage_s: FloatArray,
    *,
    strict: bool = False,
) -> tuple[int, list[int]]:
    """The first lane's head that a rule helps, and the rows of the running jobs to stop for it now; (−1, []): none."""
    has_quotas = state.capacity.quotas is not None
    for head in state.blocked_heads():
        for rule in rules.rules:
            ranks = ranks_by(rule, state, head, now_s, ordering, usage_s, strict=strict or "priority" in rules.rules)
            if ranks is None or not (ranks.running > ranks.head).any():
                continue
            victims = state.victims_for(
                head, ranks.head, ranks.running, now_s, min_run_s=rules.min_run_s, reclaim=has_quotas
            )
            if victims:
                return head, victims
    return -1, []


LEAST_WAIT_S = 1e-3
"""A pass that looks for a change of rank is at least so much later: rounding must not bring it to a halt."""


def next_chance_s(
    state: ClusterState, rules: Preemption, now_s: float, ordering: ChosenOrdering, usage_s: FloatArray
) -> float:
    """When a blocked head may look again for jobs to stop, though nothing has happened; inf: it need not.

    A running job ends its minimum run time, or falls behind in a ranking that time alone changes.
    """
    running = state.running
    if not len(state.blocked_heads()) or not len(running):
        return math.inf
    ripe_s = state.jobs_f[at.START_S, running] + rules.min_run_s
    times: list[float] = [math.inf, *ripe_s[ripe_s > now_s].tolist()]
    holds_s = ordering.ordering.rank_holds_s
    if "policy" in rules.rules and holds_s is not None:
        holds = holds_s(progress_view(state, running, now_s, usage_s), ordering.parameters)
        times += (now_s + np.maximum(holds, LEAST_WAIT_S)).tolist()
    return min(times)


def preempting_pass(
    state: ClusterState,
    rules: Preemption,
    now_s: float,
    ordering: ChosenOrdering,
    usage_s: FloatArray,
    *,
    strict: bool = False,
    started: Callable[[Sequence[int]], None],
    stopped: Callable[[Sequence[int]], None],
) -> float:
    """A pass in which the heads may stop running jobs; backfilling comes after.

    Args:
        state: The state; jobs are started in place.
        rules: Who may be stopped.
        now_s: Decision time.
        ordering: Order of the queue.
        usage_s: (U,) decayed usage of users, for orderings that ask for it.
        strict: Priority classes come first in the queue.
        started: Told the rows of jobs that a part of the pass started.
        stopped: Told the rows of jobs to stop; without a grace period it stops and requeues them at once, and puts the
            queue in order.

    Returns:
        When the next pass is due by itself; inf when it is not.
    """
    while True:
        next_s = state.run_pass(now_s, heads_only=True)
        if state.num_started:
            started(state.started[: state.num_started].tolist())
        head, victims = choose_preemptions(state, rules, now_s, ordering, usage_s, strict=strict)
        if not victims:
            break
        stopped(victims)
        state.end_patience(head)
        if rules.grace_s > 0:  # nothing is free before they have saved their work
            break
        state.bring_forward(head)
    if state.backfill != "none":
        next_s = min(next_s, state.run_pass(now_s))
        if state.num_started:
            started(state.started[: state.num_started].tolist())
    return min(next_s, next_chance_s(state, rules, now_s, ordering, usage_s))
