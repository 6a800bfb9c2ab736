"""Which of the networks met on the way is kept: the one that does best on the validation period, replayed compiled.

The same objective as in searches (``agents.objective``): the mean over the traces of how the mean and the tail compare
with those of the best heuristics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.lessons import FLOORS, HEURISTICS, Material, fixed_scores, values_of
from shunter.agents.objective import Ground, copies_of
from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.agents.networks import QueueNetwork
    from shunter.agents.settings import Settings
    from shunter.scheduler.kernels.network import Network
    from shunter.sim.rollout import Rollout
    from shunter.sim.workload import Workload

LEAST_JOBS = 16


@dataclass(frozen=True, slots=True)
class Standing:
    """How a network does on validation; logarithms of ratios to the best heuristic, below 0 where it is better.

    Attributes:
        cost: What is minimised; see ``agents.objective.Gain``.
        mean: Of the mean of the metric, over the traces.
        tail: Of its 95th percentile.
    """

    cost: float
    mean: float
    tail: float


class Validation:
    """Validation periods and what the heuristics reach on them.

    Args:
        material: Traces with their validation periods.
        settings: What is measured, and on how many stretches.

    Raises:
        TraceError: A validation period is too short.
    """

    def __init__(self, material: Sequence[Material], settings: Settings) -> None:
        self.metric = settings.windows.metric
        self.grounds = [ground_of(each, settings) for each in material]
        self._ready: dict[int, list[Rollout]] = {}

    def judge(self, network: QueueNetwork) -> Standing:
        """How a network does."""
        gains = []
        for number, ground in enumerate(self.grounds):
            starts = starts_of(network, ground, self._rollouts(number))
            values = [stretch_values(ground, starts[ground.copy[i]], i, self.metric) for i in range(len(ground.first))]
            gains.append(ground.gain(values, np.arange(len(ground.first))))
        return Standing(
            cost=float(np.mean([gain.cost for gain in gains])),
            mean=float(np.mean([gain.mean for gain in gains])),
            tail=float(np.mean([gain.tail for gain in gains])),
        )

    def _rollouts(self, number: int) -> list[Rollout]:
        """The replays of a ground, one for each of its copies, set up once in each process."""
        from shunter.sim.rollout import Rollout

        if number not in self._ready:
            ground = self.grounds[number]
            self._ready[number] = [Rollout(workload, ground.backfill) for workload in ground.workloads]
        return self._ready[number]

    def __getstate__(self) -> dict[str, Any]:
        """Without the replays."""
        return vars(self) | {"_ready": {}}

    @property
    def best_heuristics(self) -> dict[str, tuple[str, str]]:
        """By trace, the heuristics with the least mean and with the least tail."""
        return {ground.name: ground.best for ground in self.grounds}


def ground_of(material: Material, settings: Settings) -> Ground:
    """The stretches of a validation period, with what heuristics reach there under the metric trained for."""
    selection, backfill = settings.selection, settings.windows.backfill
    first, last = material.validation
    length = min(selection.jobs, last - first)
    if length < LEAST_JOBS:
        raise TraceError(f"{material.trace.name}: {length} jobs to validate on, at least {LEAST_JOBS} are needed")
    warm_up = min(selection.warm_up, length // 4)
    if settings.windows.metric == "avg_bounded_slowdown":
        return Ground.of(
            material.trace,
            material.cluster,
            material.validation,
            backfill=backfill,
            length=length,
            most=selection.windows,
            warm_up=warm_up,
            shakes=selection.shakes,
        )
    from shunter.sim.rollout import Rollout
    from shunter.sim.workload import prepare

    count = min(selection.windows, max(1, (last - first) // length))
    begin = np.linspace(first, last - length, count).astype(np.int64)
    copies = copies_of(material.trace, material.validation, selection.shakes)
    workloads = [prepare(copy, material.cluster) for copy in copies]
    which, begin = np.repeat(np.arange(len(copies)), count), np.tile(begin, len(copies))
    bare = Ground(material.trace.name, workloads, which, begin, begin + length, warm_up, backfill, references={})
    references = {}
    for heuristic in HEURISTICS:
        rollouts = [Rollout(each, backfill, score=fixed_scores(each, heuristic)) for each in workloads]
        starts = replayed_starts(None, bare, rollouts)
        references[heuristic] = [
            stretch_values(bare, starts[which[i]], i, settings.windows.metric) for i in range(len(begin))
        ]
    return replace(bare, references=references)


def stretch_values(ground: Ground, starts: FloatArray, stretch: int, metric: str) -> FloatArray:
    """The metric of the jobs of one stretch that are looked at, with its floor, so that ratios can be taken."""
    return values_of(ground.workloads[ground.copy[stretch]], starts, ground.rows(stretch), metric) + FLOORS[metric]


def starts_of(network: QueueNetwork, ground: Ground, rollouts: Sequence[Rollout]) -> list[FloatArray]:
    """For each copy, (J,) start times of the jobs of its stretches, each from an empty cluster; NaN elsewhere."""
    from shunter.agents.networks import KernelNetwork, to_compiled

    if isinstance(network, KernelNetwork):
        return replayed_starts(to_compiled(network), ground, rollouts)
    starts = [np.full(workload.num_jobs, np.nan) for workload in ground.workloads]
    for copy, first, last in zip(ground.copy, ground.first.tolist(), ground.last.tolist(), strict=True):
        starts[copy][first:last] = replayed(network, ground, ground.workloads[copy], first, last)
    return starts


def replayed_starts(network: Network | None, ground: Ground, rollouts: Sequence[Rollout]) -> list[FloatArray]:
    """What ``starts_of`` says of a compiled network, or of the fixed scores of the replays."""
    starts = []
    for copy, rollout in enumerate(rollouts):
        own = ground.copy == copy
        starts.append(rollout.starts(network, ground.first[own], ground.last[own]).copy())
    return starts


def replayed(network: QueueNetwork, ground: Ground, workload: Workload, first: int, last: int) -> FloatArray:
    """(last − first,) start times of a stretch under a network that looks at whole queues: through the engine."""
    import torch

    from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
    from shunter.sim.replay import simulate

    def scorer(features: FloatArray) -> FloatArray:
        with torch.no_grad():
            scores: FloatArray = network(torch.as_tensor(features, dtype=torch.float32)).numpy().astype(np.float64)
        return scores

    ordering = ChosenOrdering(choose_ordering("learned").ordering, {}, scorer)
    window = (first, last - first)
    jobs = simulate(
        workload.trace,
        policy=ordering,
        backfill=ground.backfill,
        cluster=workload.cluster,
        window=window,
        details=False,
    ).jobs
    # The window's times begin with its first submission; those of the whole trace are what others count by.
    waits: FloatArray = (jobs["start_s"] - jobs["submit_s"]).to_numpy()
    return workload.columns.submit_s[first:last] + waits
