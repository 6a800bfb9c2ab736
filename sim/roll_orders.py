"""How the queue of a roll is put in order: what each kind of score needs of the jobs that a roll is about.

A roll makes orders as a replay does, by the same compiled functions: a fixed score is a column, ``wfp3``, ``unicep``,
``fairshare``, ``multifactor`` and small networks are worked out anew at every instant at which something fits, with the
guard, and with the histories and the usage as they become in that roll. Other orderings keep the order of the present.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.decide import queue_scores
from shunter.scheduler.errors import UsageError
from shunter.scheduler.features import FeatureSource, new_scratch
from shunter.scheduler.kernels.fairshare import no_usage
from shunter.scheduler.learned import KernelScorer, LearnedOrder
from shunter.scheduler.preemption import Preemption, classes_first, places_by_class
from shunter.scheduler.snapshot import JobColumns, QueueView, Snapshot
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim import rollout_kernel as kernel
from shunter.sim.rollout import KINDS, usage_of

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.fairshare import Ledger
    from shunter.scheduler.kernels.fairshare import Usage
    from shunter.scheduler.kernels.learned import Learned


@dataclass(frozen=True, slots=True)
class RollOrder:
    """The order of one roll; what a roll writes to is its own.

    Attributes:
        score: (Q + A,) scores of the waiting jobs and those to come, lower first; read where ``kind`` is ``STATIC``.
        kind: Of score, a number of ``rollout_kernel``.
        learned: A network, with its guard.
        usage: What users have had.
    """

    score: FloatArray
    kind: int
    learned: Learned | None
    usage: Usage


class RollOrders:
    """Orders of many rolls of one snapshot.

    Args:
        snapshot: The present; jobs behind its own are those of which the like may come.
        settings: With the ordering.
        ledger: What users have had, for orderings that ask for it; not written to.
        remake: Make orders anew where that is possible.

    Raises:
        UsageError: The ordering asks for what was not given.

    Attributes:
        remade: Whether orders are made anew, or never change; else the order of the present is kept.
        is_network: Whether a network scores the queue at every instant.
    """

    def __init__(self, snapshot: Snapshot, settings: Settings, ledger: Ledger | None, *, remake: bool = True) -> None:
        chosen = settings.ordering
        ordering = chosen.ordering
        if ordering.needs_usage and ledger is None:
            raise UsageError(f"policy {chosen.label!r} needs what users have had")
        self._snapshot, self._chosen, self._ledger = snapshot, chosen, ledger
        self._source: FeatureSource | None = None
        self._strict = classes_first(Preemption(), chosen, asked=settings.strict_classes)
        self._kept = np.zeros(0)
        self._kind = KINDS.get(ordering.name, kernel.STATIC)
        self.is_network = remake and ordering.needs_features and isinstance(chosen.scorer, KernelScorer)
        self.remade = ordering.static or self.is_network or (remake and ordering.name in KINDS and not self._strict)
        if ordering.needs_features and snapshot.histories is None:
            raise UsageError(f"policy {chosen.label!r} needs a snapshot with what is known of users")
        if self.is_network and snapshot.histories is not None:
            self._kind = kernel.NETWORK
            self._source = FeatureSource.of_snapshot(snapshot, snapshot.histories)
        elif not self.remade:
            usage_s = None if ledger is None else ledger.usage_at(snapshot.now_s)
            self._kept = self._by_class(queue_scores(_waiting(snapshot), settings, usage_s), snapshot.columns)

    def of(self, rows: IntArray, submit_s: FloatArray) -> RollOrder:
        """The order of a roll.

        Args:
            rows: (K + Q + A,) rows of the snapshot: the running jobs, the waiting ones, those to come.
            submit_s: (K + Q + A,) when they were submitted, or will be.
        """
        first = self._snapshot.num_running
        total = self._snapshot.total_processors
        if not self.remade:
            return RollOrder(self._kept[rows[first:] - first], kernel.STATIC, None, no_usage())
        columns = replace(self._snapshot.columns.take(rows, frozen=False), submit_s=submit_s)
        score, learned, usage = np.zeros(len(rows) - first), None, no_usage()
        if self._source is not None:
            learned = self._learned(self._source, rows, columns)
        elif self._kind == kernel.STATIC:
            expected_s = columns.expected_s + self._snapshot.overhead_s[rows]
            view = QueueView(0.0, replace(columns, expected_s=expected_s), total)
            score = self._by_class(self._chosen.score(view)[first:], columns)
        elif self._ledger is not None and self._chosen.ordering.needs_usage:
            usage = usage_of(columns, self._chosen, total, self._ledger.copy())
        return RollOrder(score, self._kind, learned, usage)

    def _by_class(self, score: FloatArray, columns: JobColumns) -> FloatArray:
        """Scores of the jobs behind the running ones, or where classes come first their places by class and score."""
        if not self._strict:
            return score
        priority = columns.priority[self._snapshot.num_running :]
        return places_by_class(score, priority, np.arange(len(score)))

    def _learned(self, source: FeatureSource, rows: IntArray, columns: JobColumns) -> Learned:
        """The network's order of these jobs."""
        facts = {name: array[rows] for name, array in source.facts._asdict().items() if name != "total"}
        histories, total = source.histories, self._snapshot.total_processors
        own = FeatureSource(
            source.facts._replace(**facts | {"submit_s": columns.submit_s}),
            histories._replace(users=histories.users.copy(), alike=histories.alike.copy()),
            new_scratch(len(rows)),
        )
        learned = LearnedOrder(self._chosen, columns, own, total, strict=self._strict).compiled
        assert learned is not None
        return learned


def _waiting(snapshot: Snapshot) -> Snapshot:
    """The same as if the jobs behind its own had been submitted at this moment."""
    count, known, now_s = len(snapshot.columns), len(snapshot.rows), snapshot.now_s
    submit_s = snapshot.columns.submit_s.copy()
    submit_s[known:] = now_s
    new = np.arange(count - known)
    return replace(
        snapshot,
        columns=replace(snapshot.columns, submit_s=submit_s),
        rows=np.concatenate([snapshot.rows, snapshot.rows.max(initial=-1) + 1 + new]),
    )
