"""Which of the networks met on the way is kept: the one that does best on the validation period, replayed compiled.

The same objective as in searches (``agents.objective``): the mean over the traces of how the mean and the tail compare
with those of the best heuristics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.agents.lessons import FLOORS, HEURISTICS, Material, fixed_scores, values_of
from shunter.agents.objective import Ground
from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.agents.networks import QueueNetwork
    from shunter.agents.settings import Settings

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

    def judge(self, network: QueueNetwork) -> Standing:
        """How a network does."""
        gains = []
        for ground in self.grounds:
            starts = starts_of(network, ground)
            values = [stretch_values(ground, starts, i, self.metric) for i in range(len(ground.first))]
            gains.append(ground.gain(values, np.arange(len(ground.first))))
        return Standing(
            cost=float(np.mean([gain.cost for gain in gains])),
            mean=float(np.mean([gain.mean for gain in gains])),
            tail=float(np.mean([gain.tail for gain in gains])),
        )

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
        )
    from shunter.sim.rollout import Rollout
    from shunter.sim.workload import prepare

    count = min(selection.windows, max(1, (last - first) // length))
    begin = np.linspace(first, last - length, count).astype(np.int64)
    workload = prepare(material.trace, material.cluster)
    bare = Ground(material.trace.name, workload, begin, begin + length, warm_up, backfill, references={})
    references = {}
    for heuristic in HEURISTICS:
        rollout = Rollout(workload, backfill, score=fixed_scores(workload, heuristic))
        starts = rollout.starts(None, bare.first, bare.last)
        references[heuristic] = [stretch_values(bare, starts, i, settings.windows.metric) for i in range(count)]
    return replace(bare, references=references)


def stretch_values(ground: Ground, starts: FloatArray, stretch: int, metric: str) -> FloatArray:
    """The metric of the jobs of one stretch that are looked at, with its floor, so that ratios can be taken."""
    rows = slice(int(ground.first[stretch]) + ground.warm_up, int(ground.last[stretch]))
    return values_of(ground.workload, starts, rows, metric) + FLOORS[metric]


def starts_of(network: QueueNetwork, ground: Ground) -> FloatArray:
    """(J,) start times of the jobs of all stretches, each from an empty cluster; NaN elsewhere."""
    from shunter.agents.networks import KernelNetwork, to_compiled
    from shunter.sim.rollout import Rollout

    if isinstance(network, KernelNetwork):
        return Rollout(ground.workload, ground.backfill).starts(to_compiled(network), ground.first, ground.last)
    starts = np.full(ground.workload.num_jobs, np.nan)
    for first, last in zip(ground.first.tolist(), ground.last.tolist(), strict=True):
        starts[first:last] = replayed(network, ground, first, last)
    return starts


def replayed(network: QueueNetwork, ground: Ground, first: int, last: int) -> FloatArray:
    """(last − first,) start times of a stretch under a network that looks at whole queues: through the engine."""
    import torch

    from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
    from shunter.sim.replay import simulate

    def scorer(features: FloatArray) -> FloatArray:
        with torch.no_grad():
            scores: FloatArray = network(torch.as_tensor(features, dtype=torch.float32)).numpy().astype(np.float64)
        return scores

    workload = ground.workload
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
