"""``plan(snapshot) -> Plan`` and ``check_plan``: the decision as a pure function, the same for both shells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.features import FEATURES, FeatureSource
from shunter.scheduler.learned import LearnedOrder, order_matters
from shunter.scheduler.plan_check import check_plan
from shunter.scheduler.plans import REASONS, Extend, Plan, Preempt, Reason, Reserves, Skips, Start
from shunter.scheduler.policies.drf import shares_of
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.preemption import (
    Preemption,
    classes_first,
    keeps_classes,
    places_by_class,
    preempting_pass,
    progress_view,
    refuse_unranked,
)
from shunter.scheduler.snapshot import JobColumns, QueueView, Snapshot
from shunter.scheduler.state import BACKFILLS, PLACEMENTS, ClusterState
from shunter.scheduler.trial import state_of_snapshot
from shunter.scheduler.types import FloatArray, IntArray

__all__ = ["Settings", "check_plan", "plan"]

NUMBER = {reason: number for number, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class Settings:
    """How decisions are made.

    Attributes:
        ordering: Order of the queue.
        backfill: A name of ``BACKFILLS``.
        placement: A name of ``PLACEMENTS``.
        depth: Waiting jobs behind the head that a pass looks at; 0 means all.
        locality_s: Longest time that a gang waits to be placed nearer together than it could be now.
        strict_classes: Jobs of a higher priority come first in the queue, whatever the ordering says; it orders those
            of one priority. The rule ``priority`` of ``Preemption`` does so by itself.
    """

    ordering: ChosenOrdering = field(default_factory=lambda: choose_ordering("fcfs"))
    backfill: str = "none"
    placement: str = "first-fit"
    depth: int = 0
    locality_s: float = 0.0
    strict_classes: bool = False

    def __post_init__(self) -> None:
        if self.backfill not in BACKFILLS:
            raise UsageError(f"unknown backfilling {self.backfill!r}{nearest(self.backfill, list(BACKFILLS))}")
        if self.placement not in PLACEMENTS:
            raise UsageError(f"unknown placement {self.placement!r}{nearest(self.placement, list(PLACEMENTS))}")
        if self.depth < 0:
            raise UsageError(f"backfill depth {self.depth} is negative; 0 means no limit")
        if not (np.isfinite(self.locality_s) and self.locality_s >= 0):
            raise UsageError(f"waiting {self.locality_s} s for locality is no number of seconds of at least 0")
        if self.ordering.ordering.needs_features and self.ordering.scorer is None:
            raise UsageError(f"policy {self.ordering.label!r} needs a model: `shunter.agents.bundle` loads one")


def plan(
    snapshot: Snapshot,
    settings: Settings,
    *,
    usage_s: FloatArray | None = None,
    preemption: Preemption | None = None,
) -> Plan:
    """What to stop and to start now, and what is promised to those that go on waiting.

    Args:
        snapshot: What is known; not changed.
        settings: Ordering, backfilling and placement.
        usage_s: (U,) decayed usage of users at ``snapshot.now_s``, for orderings that ask for it.
        preemption: When running jobs are stopped for waiting ones; None: never. Jobs that are stopped at once may be
            started again by the same plan.
    """
    first, now_s = snapshot.num_running, snapshot.now_s
    usage_s = np.zeros(0) if usage_s is None else usage_s
    rules = preemption or Preemption()
    refuse_unranked(rules, settings.ordering)
    places = np.zeros(0)
    asks = settings.ordering.ordering
    if asks.needs_features or asks.needs_load:  # whose ties end in rows, whatever the queue's present order
        snapshot, places = snapshot.by_row()
    snapshot = replace(snapshot, columns=_writable(snapshot.columns))
    learned = _learned(snapshot, settings, rules)
    state = state_of_snapshot(
        snapshot,
        score=places if learned is not None or asks.needs_load else _scores(snapshot, settings, rules, usage_s),
        backfill=settings.backfill,
        placement=settings.placement,
        depth=settings.depth,
        locality_s=settings.locality_s,
        strict=keeps_classes(rules, asked=settings.strict_classes),
    )
    if asks.needs_load:
        _arrange(state, snapshot.rows, now_s, settings, rules, usage_s)
    said: tuple[str, ...] = ()
    if learned is not None and order_matters(state, may_stop=bool(rules.rules)):
        learned.score(state, now_s)
        said = learned.arrange(state, now_s)
    ends_before = state.jobs_f[at.END_S].copy()
    order = state.queue.copy()
    rows = snapshot.rows
    started, stopped = list[int](), list[int]()

    def begun(i: Sequence[int]) -> None:
        started.extend(i)
        if learned is not None:
            learned.source.started(i, now_s)

    if rules.rules:

        def make_way(victims: Sequence[int]) -> None:
            stopped.extend(victims)
            _stop(state, rows, victims, now_s, settings, rules, usage_s, learned)

        next_pass_s = preempting_pass(
            state,
            rules,
            now_s,
            settings.ordering,
            usage_s,
            strict=settings.strict_classes,
            started=begun,
            stopped=make_way,
        )
    else:
        next_pass_s = state.run_pass(now_s)
        started.extend(state.started[: state.num_started].tolist())
    starts = tuple(_start(state, i, int(rows[i])) for i in started)
    reserved_s = state.jobs_f[at.RESERVED_S, state.queue]
    promised = ~np.isnan(reserved_s)
    end_s = state.jobs_f[at.END_S, :first]
    moved = end_s != ends_before[:first]
    moved[stopped] = False
    return Plan(
        based_on=snapshot.version,
        starts=starts,
        reservations=Reserves(rows[state.queue[promised]], reserved_s[promised]),
        extensions=tuple(Extend(int(rows[i]), float(end_s[i])) for i in np.flatnonzero(moved)),
        skipped=_skipped(state, rows, order, started, settings),
        next_pass_s=float(next_pass_s),
        preemptions=tuple(Preempt(int(rows[i]), now_s + rules.grace_s) for i in stopped),
        guard=said,
    )


def queue_scores(snapshot: Snapshot, settings: Settings, usage_s: FloatArray | None = None) -> FloatArray:
    """(Q,) scores of the waiting jobs now, lower first, also those of a model; no guard arranges them.

    Args:
        snapshot: What is known.
        settings: With the ordering.
        usage_s: As for ``plan``.
    """
    rules = Preemption()
    learned = _learned(snapshot, settings, rules)
    usage_s = np.zeros(0) if usage_s is None else usage_s
    if learned is None and not settings.ordering.ordering.needs_load:
        return _scores(snapshot, settings, rules, usage_s)
    count, first = snapshot.num_waiting, snapshot.num_running
    state = state_of_snapshot(
        snapshot, score=np.arange(count, dtype=np.float64), backfill="none", placement=settings.placement, depth=0
    )
    if learned is None:
        return _scores(snapshot, settings, rules, usage_s, state.target_loads(np.arange(first, first + count)))
    learned.score(state, snapshot.now_s)
    scores = np.empty(count)
    scores[state.queue - first] = learned.key[:count]
    return scores


def queue_features(snapshot: Snapshot, settings: Settings) -> FloatArray:
    """(Q, F) what a model is told of the waiting jobs, in the order of the snapshot.

    Args:
        snapshot: With histories.
        settings: With an ordering by a model.
    """
    learned = _learned(snapshot, settings, Preemption())
    assert learned is not None
    count, first = snapshot.num_waiting, snapshot.num_running
    state = state_of_snapshot(
        snapshot, score=np.arange(count, dtype=np.float64), backfill="none", placement=settings.placement, depth=0
    )
    features = np.empty((count, len(FEATURES)))
    features[state.queue - first] = learned.source.matrix(state, snapshot.now_s)
    return features


def _writable(columns: JobColumns) -> JobColumns:
    """The same with copies of what is written to when jobs are stopped, and of what kernels read as it is.

    A kernel would be compiled once more for arrays that cannot be written.
    """
    names = ("submit_s", "processors", "priority", "attained_s", "expected_s")
    return replace(columns, **{name: getattr(columns, name).copy() for name in names})


def _learned(snapshot: Snapshot, settings: Settings, rules: Preemption) -> LearnedOrder | None:
    """What an ordering by a model needs; None for other orderings."""
    if not settings.ordering.ordering.needs_features:
        return None
    if snapshot.histories is None:
        raise UsageError(f"policy {settings.ordering.label!r} needs a snapshot with what is known of users")
    source = FeatureSource.of_snapshot(snapshot, snapshot.histories)
    strict = classes_first(rules, settings.ordering, asked=settings.strict_classes)
    return LearnedOrder(settings.ordering, snapshot.columns, source, snapshot.total_processors, strict=strict)


def _scores(
    snapshot: Snapshot, settings: Settings, rules: Preemption, usage_s: FloatArray, loads: FloatArray | None = None
) -> FloatArray:
    """(Q,) scores of the waiting jobs: the ordering's, or their places where priority classes come first."""
    first = snapshot.num_running
    waiting = snapshot.columns.take(slice(first, len(snapshot.rows)))
    view = QueueView(
        now_s=snapshot.now_s,
        jobs=replace(waiting, expected_s=waiting.expected_s + snapshot.overhead_s[first:]),
        total_processors=snapshot.total_processors,
        usage_s=usage_s,
        shares=shares_of(snapshot) if settings.ordering.ordering.needs_shares else np.zeros(0),
        num_others=first,
        loads=np.zeros(0) if loads is None else loads,
    )
    scores = settings.ordering.score(view)
    if not classes_first(rules, settings.ordering, asked=settings.strict_classes):
        return scores
    return places_by_class(scores, waiting.priority, snapshot.rows[first:])


def _stop(
    state: ClusterState,
    rows: IntArray,
    victims: Sequence[int],
    now_s: float,
    settings: Settings,
    rules: Preemption,
    usage_s: FloatArray,
    learned: LearnedOrder | None,
) -> None:
    """Stop running jobs of the state tried on, which wait again at once unless they have a grace period."""
    if rules.grace_s > 0:
        for i in victims:
            state.tell_to_stop(i, now_s + rules.grace_s)
        return
    for i in victims:
        state.stop(i, now_s, kept_s=state.work_done_s(i, now_s))
        state.requeue(i, 0.0, now_s)
        if learned is not None:
            learned.source.stopped(i, now_s)
            learned.source.submitted([i])
    if learned is not None:
        learned.score(state, now_s)
        learned.arrange(state, now_s)
        return
    _arrange(state, rows, now_s, settings, rules, usage_s)


def _arrange(
    state: ClusterState,
    rows: IntArray,
    now_s: float,
    settings: Settings,
    rules: Preemption,
    usage_s: FloatArray,
) -> None:
    """Put the queue of the state tried on in the order of its scores now; ties end in the (J,) live state's rows."""
    ordering, queue = settings.ordering, state.queue.copy()
    view = progress_view(state, queue, now_s, usage_s)
    if ordering.ordering.needs_load:
        view = replace(view, loads=state.target_loads(queue))
    strict = classes_first(rules, ordering, asked=settings.strict_classes)
    classes = state.columns.priority[queue] if strict else None
    state.reorder(ordering.score(view), classes, rows[queue])


def _start(state: ClusterState, i: int, row: int) -> Start:
    """The start of job ``i`` of the state tried on, which is ``row`` in the state that the plan is for."""
    entries = state.places_of(i) if state.counters[at.GPUS] else []
    gpus = tuple(entry[:3] for entry in entries)
    slices = tuple(first for *_, first in entries) if state.is_instance(i) else ()
    return Start(row, tuple(state.placement_of(i)), bool(state.backfilled[i]), gpus, slices)


def _skipped(state: ClusterState, rows: IntArray, order: IntArray, started: Sequence[int], settings: Settings) -> Skips:
    """Why each job that still waits was not started; ``order`` is the queue before the pass."""
    queue = state.queue
    if settings.backfill == "none":
        reasons = np.full(len(queue), NUMBER[Reason.BEHIND_HEAD])
        judged = reasons[:1]
    else:
        judged = reasons = np.empty(len(queue), dtype=np.int64)
    fits = state.jobs_i[at.TASKS, queue] <= state.shapes[at.FREE_SLOTS, state.jobs_i[at.SHAPE, queue]]
    looked_at = np.zeros(len(state.columns), dtype=np.bool_)
    num_heads = int((state.backfilled[list(started)] == 0).sum())
    looked_at[order[: num_heads + 1 + settings.depth] if settings.depth else order] = True
    if settings.backfill == "conservative":
        looked_at = ~np.isnan(state.jobs_f[at.RESERVED_S])
    reason_if_seen = np.where(fits, NUMBER[Reason.WOULD_DELAY], NUMBER[Reason.NO_CAPACITY])
    judged[:] = np.where(looked_at[queue], reason_if_seen, NUMBER[Reason.BEYOND_DEPTH])[: len(judged)]
    if state.counters[at.LISTED]:
        why = state.jobs_i[at.WHY, queue]
        reasons[why == at.WAIT_QUOTA] = NUMBER[Reason.OVER_QUOTA]
        reasons[why == at.WAIT_GANG] = NUMBER[Reason.LOCALITY]
    return Skips(rows[queue], reasons)
