"""A queue ordered by a model: features, the scorer that was handed in, and the guard, for both shells.

The scorer is a function of features; where it is a small network that the core knows (``KernelScorer``), features,
scores and sorting are compiled code, the same in every engine, so that replays are equal to the bit. Owns what such an
ordering remembers between two passes: the histories of users, and the guard's counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.features import FeatureSource
from shunter.scheduler.guard import REASONS, Guard, Seen, count_outside, rules_of
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.scheduler.snapshot import JobColumns, QueueView
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.learned import Learned
    from shunter.scheduler.kernels.network import Network
    from shunter.scheduler.state import ClusterState


class KernelScorer:
    """Scores of rows of features by a small network, compiled.

    Args:
        network: The network.
    """

    def __init__(self, network: Network) -> None:
        from shunter.scheduler.kernels.learned import room_for

        self.network = network
        self._room = room_for(network)

    def __call__(self, features: FloatArray) -> FloatArray:
        """(Q,) scores of (Q, F) features, lower first."""
        from shunter.scheduler.kernels.learned import score_matrix

        scores = np.zeros(len(features))
        score_matrix(self.network, self._room, np.array(features, dtype=np.float64, order="C"), scores)
        return scores


def linear_network(skip: FloatArray) -> Network:
    """A score that is a weighted sum of features (F,)."""
    from shunter.scheduler.kernels.network import new_network

    return new_network(skip)


class LearnedOrder:
    """What an ordering by a model needs and remembers, for the jobs of one state.

    Args:
        chosen: The ordering, with its scorer.
        columns: (J,) jobs.
        source: What features are made from.
        total_processors: Of the cluster.
        strict: Priority classes come first, whatever the guard's setting.
    """

    def __init__(
        self,
        chosen: ChosenOrdering,
        columns: JobColumns,
        source: FeatureSource,
        total_processors: float,
        *,
        strict: bool = False,
    ) -> None:
        from shunter.scheduler.kernels.sorting import new_sorting

        assert chosen.scorer is not None
        self.scorer = chosen.scorer
        self.source = source
        self.guard = Guard.of({**chosen.parameters, "classes": 1.0} if strict else chosen.parameters)
        heuristic = choose_ordering(chosen.fallback)
        self.rules = rules_of(
            self.guard,
            request_s=source.facts.request_s,
            work_s=source.facts.request_s * source.facts.processors / max(total_processors, 1e-9),
            fallback=heuristic.score(QueueView(0.0, columns, total_processors)),
            priority=columns.priority,
            seen=chosen.seen or Seen.anything(),
        )
        self.key = np.zeros(max(len(columns), 1))
        self.bits = self.key.view(np.int64)
        self.sorting = new_sorting(len(columns))
        self.compiled = self._compiled(self.scorer.network) if isinstance(self.scorer, KernelScorer) else None
        self._found = 0, 0, 0

    def _compiled(self, network: Network) -> Learned:
        from shunter.scheduler.kernels.learned import Learned, room_for

        own = self.source
        room = room_for(network, own.histories.users.shape[1])
        memory = self.key, self.bits, self.sorting
        return Learned(own.facts, own.histories, own.scratch, network, room, self.rules, *memory)

    def score(self, state: ClusterState, now_s: float) -> None:
        """Put the queue in the order of submission, and work out features and scores, unless inference pauses."""
        from shunter.scheduler.kernels.guarding import PAUSED
        from shunter.scheduler.kernels.learned import queue_by_row, score_queue

        queue_by_row(state.packed, self.sorting)
        count = len(state.queue)
        if self.rules.counts[PAUSED]:
            return
        if self.compiled is not None:
            outside, unknown = score_queue(state.packed, self.compiled, now_s)
            self._found = int(outside), count * len(self.rules.low), int(unknown)
            return
        features = self.source.matrix(state, now_s)
        self._found = count_outside(self.rules, features)
        self.key[:count] = self.scorer(features)

    def arrange(self, state: ClusterState, now_s: float, elapsed_s: float = 0.0) -> tuple[str, ...]:
        """Put the queue in the order of what ``score`` found, within the rules; returns what became of the order.

        Args:
            state: Its queue is put in order.
            now_s: Decision time.
            elapsed_s: What ``score`` took, as measured by the caller.
        """
        from shunter.scheduler.kernels import guarding

        count, before = len(state.queue), self.rules.counts[guarding.STARVING]
        key = self.key[:count]
        reason = guarding.verdict(self.rules, key, *self._found)
        guarding.arrange(
            self.rules, reason, self.source.facts.submit_s, now_s, state.queue, key, self.sorting, self.bits
        )
        if reason != guarding.SLOW and self.guard.budget_s < np.inf:
            guarding.note_elapsed(self.rules, elapsed_s, self.guard.budget_s, self.guard.overruns, self.guard.pause)
        starving = (REASONS[guarding.STARVING],) if self.rules.counts[guarding.STARVING] > before else ()
        return (REASONS[reason], *starving)

    @property
    def counts(self) -> Mapping[str, int]:
        """Orders by what became of them; see ``guard.REASONS``."""
        return {name: int(self.rules.counts[i]) for i, name in enumerate(REASONS)}

    def arrays(self) -> dict[str, Any]:
        """What changes during a run, by name, for a checkpoint."""
        histories = self.source.histories
        return {
            "learned_users": histories.users,
            "learned_alike": histories.alike,
            "learned_counts": self.rules.counts,
        }

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays``."""
        for name, own in self.arrays().items():
            own[:] = arrays[name]


def order_matters(state: ClusterState, *, may_stop: bool) -> bool:
    """Whether the order of the queue makes a difference now: something could start, be promised, or stop others."""
    from shunter.scheduler.kernels.learned import anything_fits

    if len(state.queue) < 2:
        return False
    return may_stop or state.backfill == "conservative" or anything_fits(state.packed)


def warm_up(chosen: ChosenOrdering) -> LearnedOrder:
    """Compile or load what an order by this model needs; returns one for a single job."""
    from shunter.scheduler.capacity import Capacity
    from shunter.scheduler.kernels.learned import anything_fits
    from shunter.scheduler.state import ClusterState
    from shunter.scheduler.types import ResourceDemand

    columns = JobColumns.of(np.zeros(1))
    state = ClusterState(
        capacity=Capacity(np.asarray([[1000], [0], [0]]), (True, False, False)),
        demand=ResourceDemand(np.ones(1, np.int64), np.zeros(1, np.int64), np.asarray([[1000, 0, 0]])),
        columns=columns,
        score=None,
        backfill="none",
        placement="first-fit",
    )
    learned = LearnedOrder(chosen, columns, FeatureSource.of(columns, 1.0), 1.0)
    state.absorb(0.0, np.zeros(1, np.int64), 0, 0, 1)
    learned.source.submitted([0])
    learned.score(state, 1.0)
    learned.arrange(state, 1.0)
    anything_fits(state.packed)
    learned.source.started([0], 0.0)
    learned.source.ended([0], np.ones(1), 1.0)
    return learned
