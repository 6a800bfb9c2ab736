"""What episodes are drawn from: the jobs of a trace, or of a part of it, and the arrays that every episode copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.rewards import (
    REST_ENERGY,
    USER_VARIANCE,
    Reward,
    Weights,
    price_per_s,
    rest_kwh_per_s,
    user_variance,
)
from shunter.scheduler import layout as at
from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.scheduler.metrics import Money, Outcome, bounded_slowdown, summarise
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.state import BACKFILLS, PLACEMENTS, ClusterState
from shunter.scheduler.types import RESOURCES, FloatArray, IntArray
from shunter.sim.rollout import facts_of
from shunter.sim.workload import Workload, prepare

if TYPE_CHECKING:
    from shunter.scheduler.kernels.features import Facts
    from shunter.traces.tables import Trace

Given = Any
"""A trace, a prepared workload, a file, ``demo:NAME``, or ``(one of these, first row, row after the last)``."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How every episode is played.

    Attributes:
        jobs: Jobs of an episode that count.
        warm_jobs: Jobs before them that fill the queue and do not count; fewer at the begin of a log.
        backfill: ``none``, ``easy``, ``easy-noextra`` or ``easy-sjbf``.
        placement: ``first-fit``, ``best-fit``, ``worst-fit``, ``packed`` or ``topology``.
        warm_policy: Ordering with a fixed score, which decides until the first job that counts arrives.
        reward: What is rewarded.
        shaping: Weight of the potential; see ``agents.rewards``.
        discount: γ of the shaping: that of the learner.
        allow_wait: Whether the last action ends the instant.
        visible: Jobs that are shown at most.
    """

    jobs: int
    warm_jobs: int
    backfill: str
    placement: str
    warm_policy: str
    reward: Reward
    shaping: float
    discount: float
    allow_wait: bool
    visible: int

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("warm_jobs", 0), ("visible", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise UsageError(f"{name} {value!r} is not a whole number of at least {least}")
        for name, value, known in (
            ("backfilling", self.backfill, [name for name in BACKFILLS if name != "conservative"]),
            ("placement", self.placement, [name for name in PLACEMENTS if PLACEMENTS[name] < at.DOT_PRODUCT]),
        ):
            if value not in known:
                raise UsageError(f"the environment has no {name} {value!r}{nearest(str(value), known)}")
        if not (np.isfinite(self.shaping) and self.shaping >= 0):
            raise UsageError(f"shaping {self.shaping} is not a number of at least 0")
        if not 0 < self.discount <= 1:
            raise UsageError(f"discount {self.discount} is not above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Source:
    """Jobs that episodes are windows of.

    Attributes:
        workload: All jobs of the trace.
        first: First row that an episode may use, warm-up included.
        last: Row after the last one.
        state: The arrays of all jobs as they stand before anything has run.
        facts: What features say of them.
        warm_score: (J,) scores of the warm-up.
        order: (3, J) ranks by request, area and size, ties by row.
        weights: What is rewarded.
    """

    workload: Workload
    first: int
    last: int
    state: at.State
    facts: Facts
    warm_score: FloatArray
    order: IntArray
    weights: Weights

    @classmethod
    def of(cls, given: Given, rules: Rules) -> Source:
        """From anything that ``Given`` lists.

        Raises:
            UsageError: Rows that the trace does not have, or a cluster whose rules the environment does not know.
            TraceError: No jobs, fewer than an episode takes, or a file that cannot be read.
        """
        what, *rows = given if isinstance(given, tuple) else (given,)
        workload = workload_of(what)
        first, last = (int(rows[0]), int(rows[1])) if len(rows) == 2 else (0, workload.num_jobs)
        name = workload.trace.name
        if not 0 <= first < last <= workload.num_jobs:
            raise UsageError(f"rows {first} to {last} do not lie inside {name}, which has {workload.num_jobs} jobs")
        needed = rules.jobs + rules.warm_jobs
        if last - first < needed:
            raise TraceError(
                f"{name}: {last - first} jobs, an episode takes {needed} ({rules.warm_jobs} of them to warm up); "
                "give a longer trace or ask for fewer jobs"
            )
        state = ClusterState(
            capacity=workload.capacity,
            demand=workload.demand,
            columns=workload.columns,
            score=None,
            backfill=rules.backfill,
            placement=rules.placement,
            timed=False,
        ).packed
        refuse_rules(workload, state)
        facts = facts_of(workload)
        keys = (facts.request_s, facts.request_s * facts.processors, facts.processors)
        order = np.stack([np.argsort(np.argsort(key, kind="stable"), kind="stable") for key in keys])
        return cls(
            workload=workload,
            first=first,
            last=last,
            state=state,
            facts=facts,
            warm_score=warm_scores(workload, rules.warm_policy),
            order=order,
            weights=rules.reward.on(workload),
        )

    @property
    def name(self) -> str:
        """The trace's."""
        return self.workload.trace.name

    def metrics(self, first: int, start_s: FloatArray) -> dict[str, float]:
        """What ``scheduler.metrics`` says of an episode's jobs, the users' variance and the energy at rest.

        Args:
            first: Row of the first job that counts.
            start_s: (n,) start times of the jobs from there on; NaN for those that never entered the queue.
        """
        workload, columns = self.workload, self.workload.columns
        started = np.flatnonzero(~np.isnan(start_s))
        rows = first + started
        submit_s, run_s, began_s = columns.submit_s[rows], workload.run_s[rows], start_s[started]
        resource = RESOURCES[workload.capacity.scarce]
        end_s = began_s + run_s
        span_s = float(end_s.max() - submit_s.min())
        price, rest = price_per_s(workload), rest_kwh_per_s(workload)
        outcome = Outcome(
            submit_s=submit_s,
            start_s=began_s,
            end_s=end_s,
            run_s=run_s,
            used={resource: columns.processors[rows]},
            available={resource: workload.capacity.processors},
            deadline_s=np.where(np.isinf(columns.deadline_s[rows]), np.nan, columns.deadline_s[rows]),
            failed=int(workload.killed[rows].sum()),
            rejected=len(start_s) - len(rows),
            backfilled=0,
            user_idx=columns.user_idx[rows],
            money=Money(cost_total=None if price is None else price * span_s),
        )
        found = summarise(outcome)
        del found["backfilled_jobs"]  # there is no order of a queue that a start could overtake
        found[USER_VARIANCE] = user_variance(bounded_slowdown(began_s - submit_s, run_s), columns.user_idx[rows])
        return found | ({} if rest is None else {REST_ENERGY: rest * span_s})


def workload_of(given: Trace | Workload | str | Path) -> Workload:
    """The arrays of a trace, a file or ``demo:NAME``; those of a workload are ready."""
    if isinstance(given, Workload):
        return given
    if isinstance(given, str) and given.startswith("demo:"):
        from shunter.traces.demo import demo_trace

        given = demo_trace(given.removeprefix("demo:"))
    if isinstance(given, str | Path):
        from shunter.traces.read import read

        given = read(given)
    return prepare(given, given.cluster)


def sources_of(given: Given | Sequence[Given], rules: Rules) -> list[Source]:
    """One or several; a tuple of a trace and two numbers is one.

    Raises:
        UsageError: None at all; see also ``Source.of``.
    """
    several = list(given) if isinstance(given, list) else [given]
    if not several:
        raise UsageError("no traces given; expected at least one")
    return [Source.of(one, rules) for one in several]


def refuse_rules(workload: Workload, state: at.State) -> None:
    """Raise UsageError where a cluster has rules under which the environment cannot play."""
    reasons = {
        "quotas, queues of its own or a power cap": bool(state.counters[at.LISTED]),
        "speeds that differ": workload.capacity.speeds is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UsageError(
                f"the environment does not know {reason}, which cluster {workload.cluster.name!r} has; "
                "give another cluster (prepare(trace, cluster))"
            )


def warm_scores(workload: Workload, policy: str) -> FloatArray:
    """(J,) scores by which the queue is ordered while it is warmed up.

    Raises:
        UsageError: An unknown ordering, or one whose score changes while jobs wait.
    """
    ordering = choose_ordering(policy)
    if not ordering.ordering.static:
        raise UsageError(f"warm_policy {policy!r} changes while jobs wait; expected one with a fixed score, as fcfs")
    return ordering.score(QueueView(0.0, workload.columns, workload.capacity.processors))
