"""What episodes are drawn from: the jobs of a trace, or of a part of it, and the arrays that every episode copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

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
from shunter.scheduler.features import facts_of
from shunter.scheduler.metrics import Money, Outcome, bounded_slowdown, summarise
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.snapshot import QueueView
from shunter.scheduler.state import BACKFILLS, PLACEMENTS, ClusterState
from shunter.scheduler.types import RESOURCES, BoolArray, FloatArray, IntArray
from shunter.sim.workload import Workload, ended_in_order, prepare

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
        protocol: ``rlscheduler``, or None: the engine's own rules.
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
    protocol: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("warm_jobs", 0), ("visible", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise UsageError(f"{name} {value!r} is not a whole number of at least {least}")
        if self.protocol is not None:
            self._refuse_with_protocol()
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

    def _refuse_with_protocol(self) -> None:
        """Raise UsageError for an unknown protocol, and for what it has not."""
        if self.protocol != "rlscheduler":
            raise UsageError(f"the environment has no protocol {self.protocol!r}; known: rlscheduler")
        refused = {
            f"backfilling {self.backfill!r} (none or easy-noextra)": self.backfill not in ("none", "easy-noextra"),
            f"placement {self.placement!r}": self.placement != "first-fit",
            "warm-up: a window begins on an empty machine": self.warm_jobs > 0,
            "waiting: a choice binds": self.allow_wait,
        }
        for reason, holds in refused.items():
            if holds:
                raise UsageError(f"protocol rlscheduler has no {reason}")


@dataclass(frozen=True, slots=True)
class Window:
    """The jobs of an episode.

    Attributes:
        source: Which trace.
        first: Row of the first job that counts.
        warm: Jobs before it that warm the queue up.
        count: Jobs that count, those included that can never run.
    """

    source: int
    first: int
    warm: int
    count: int

    @property
    def rows(self) -> slice:
        """All rows, those of the warm-up included."""
        return slice(self.first - self.warm, self.first + self.count)


class AnySource(Protocol):
    """What both kinds of sources have."""

    @property
    def facts(self) -> Facts:
        """What features say of the jobs."""

    @property
    def weights(self) -> Weights:
        """What is rewarded."""

    @property
    def name(self) -> str:
        """Of the trace."""

    @property
    def rows(self) -> tuple[int, int]:
        """First row that an episode may use, and the row after the last."""

    def metrics(self, first: int, start_s: FloatArray) -> dict[str, float]:
        """Of the jobs from a row on."""


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
        past: Rows in the order of their ends, and (J,) these ends; see ``sim.workload.with_past``.
    """

    workload: Workload
    first: int
    last: int
    state: at.State
    facts: Facts
    warm_score: FloatArray
    order: IntArray
    weights: Weights
    past: tuple[IntArray, FloatArray]

    @classmethod
    def of(cls, given: Given, rules: Rules) -> Source:
        """From anything that ``Given`` lists.

        Raises:
            UsageError: Rows that the trace does not have, or a cluster whose rules the environment does not know.
            TraceError: No jobs, fewer than an episode takes, or a file that cannot be read.
        """
        what, *rows = given if isinstance(given, tuple) else (given,)
        workload = workload_of(what)
        first, last = rows_within(rows, workload.trace.name, workload.num_jobs, rules)
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
        facts = facts_of(workload.columns, workload.capacity.processors)
        return cls(
            workload=workload,
            first=first,
            last=last,
            state=state,
            facts=facts,
            warm_score=warm_scores(workload, rules.warm_policy),
            order=view_ranks(facts),
            weights=rules.reward.on(workload),
            past=ended_in_order(workload),
        )

    @property
    def name(self) -> str:
        """The trace's."""
        return self.workload.trace.name

    @property
    def rows(self) -> tuple[int, int]:
        """First row that an episode may use, and the row after the last."""
        return self.first, self.last

    def metrics(self, first: int, start_s: FloatArray) -> dict[str, float]:
        """What ``scheduler.metrics`` says of an episode's jobs, the users' variance and the energy at rest.

        Args:
            first: Row of the first job that counts.
            start_s: (n,) start times of the jobs from there on; NaN for those that never entered the queue.
        """
        workload, columns = self.workload, self.workload.columns
        rows = slice(first, first + len(start_s))
        return metrics_of(
            Ran(
                submit_s=columns.submit_s[rows],
                run_s=workload.run_s[rows],
                start_s=start_s,
                processors=columns.processors[rows],
                user_idx=columns.user_idx[rows],
                deadline_s=columns.deadline_s[rows],
                failed=workload.killed[rows],
            ),
            resource=RESOURCES[workload.capacity.scarce],
            total=workload.capacity.processors,
            price_per_s=price_per_s(workload),
            rest_kwh_per_s=rest_kwh_per_s(workload),
        )


@dataclass(frozen=True, slots=True)
class Ran:
    """Jobs of an episode, (n,) each; ``start_s`` is NaN for those that never entered the queue."""

    submit_s: FloatArray
    run_s: FloatArray
    start_s: FloatArray
    processors: FloatArray
    user_idx: IntArray
    deadline_s: FloatArray
    failed: BoolArray


def metrics_of(
    ran: Ran, *, resource: str, total: float, price_per_s: float | None = None, rest_kwh_per_s: float | None = None
) -> dict[str, float]:
    """The metrics of an episode; see ``Source.metrics``.

    Args:
        ran: The jobs.
        resource: What processors are: ``cpus`` or ``gpus``.
        total: How many there are.
        price_per_s: Of the cluster; None: not known.
        rest_kwh_per_s: Of the cluster at rest; None: not known.
    """
    rows = ~np.isnan(ran.start_s)
    submit_s, run_s, start_s, user_idx = ran.submit_s[rows], ran.run_s[rows], ran.start_s[rows], ran.user_idx[rows]
    end_s = start_s + run_s
    span_s = float(end_s.max() - submit_s.min())
    outcome = Outcome(
        submit_s=submit_s,
        start_s=start_s,
        end_s=end_s,
        run_s=run_s,
        used={resource: ran.processors[rows]},
        available={resource: total},
        deadline_s=np.where(np.isinf(ran.deadline_s[rows]), np.nan, ran.deadline_s[rows]),
        failed=int(ran.failed[rows].sum()),
        rejected=len(rows) - len(start_s),
        backfilled=0,
        user_idx=user_idx,
        money=Money(cost_total=None if price_per_s is None else price_per_s * span_s),
    )
    found = summarise(outcome)
    del found["backfilled_jobs"]  # there is no order of a queue that a start could overtake
    found[USER_VARIANCE] = user_variance(bounded_slowdown(start_s - submit_s, run_s), user_idx)
    return found | ({} if rest_kwh_per_s is None else {REST_ENERGY: rest_kwh_per_s * span_s})


def view_ranks(facts: Facts) -> IntArray:
    """(3, J) ranks of jobs by request, area and size, ties by row."""
    keys = (facts.request_s, facts.request_s * facts.processors, facts.processors)
    return np.stack([np.argsort(np.argsort(key, kind="stable"), kind="stable") for key in keys])


def rows_within(rows: Sequence[int], name: str, num_jobs: int, rules: Rules) -> tuple[int, int]:
    """The rows that episodes may use, all if none are given.

    Raises:
        UsageError: They do not lie inside the trace.
        TraceError: They are fewer than an episode takes.
    """
    first, last = (int(rows[0]), int(rows[1])) if len(rows) == 2 else (0, num_jobs)
    if not 0 <= first < last <= num_jobs:
        raise UsageError(f"rows {first} to {last} do not lie inside {name}, which has {num_jobs} jobs")
    needed = rules.jobs + rules.warm_jobs
    if last - first < needed:
        raise TraceError(
            f"{name}: {last - first} jobs, an episode takes {needed} ({rules.warm_jobs} of them to warm up); "
            "give a longer trace or ask for fewer jobs"
        )
    return first, last


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


def sources_of(given: Given | Sequence[Given], rules: Rules) -> list[AnySource]:
    """One or several; a tuple of a trace and two numbers is one.

    Raises:
        UsageError: None at all; see also ``Source.of``.
    """
    of: Callable[[Given, Rules], AnySource] = Source.of
    if rules.protocol is not None:
        from shunter.agents.protocol_env import ProtocolSource

        of = ProtocolSource.of
    several = list(given) if isinstance(given, list) else [given]
    if not several:
        raise UsageError("no traces given; expected at least one")
    return [of(one, rules) for one in several]


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
