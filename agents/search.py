"""Direct search for the weights of a small network, by covariance matrix adaptation on compiled replays.

No gradients: a candidate is a vector of weights, its cost is what it reaches on a draw of stretches of every trace
(``objective``; under a published protocol, ``courses``). A score that is linear in the features is found in minutes on
one core; it is a control in every table, and where a network with hidden units starts from.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.agents.objective import Gain, Ground
    from shunter.scheduler.kernels.network import Network
    from shunter.sim.rollout import Rollout

MOST_FULL = 60
"""Weights up to which the whole covariance is learned; beyond that its diagonal (Ros & Hansen, PPSN X, 2008)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search.

    Attributes:
        hidden: Units of the two hidden layers; (0, 0) is a linear score.
        seed: Of the draws.
        generations: How many.
        population: Candidates in a generation.
        step: Standard deviation of the first generation.
        stretches: Stretches of each trace that a generation is tried on.
        decay: Cost of a squared weight of the hidden layers.
    """

    hidden: tuple[int, int] = (0, 0)
    seed: int = 0
    generations: int = 100
    population: int = 14
    step: float = 0.2
    stretches: int = 2
    decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.hidden) < 0 or (self.hidden[0] == 0) != (self.hidden[1] == 0):
            raise UsageError(f"hidden layers {self.hidden}: both have units, or neither")
        if self.generations < 1 or self.population < 4 or not self.step > 0 or self.stretches < 1:
            raise UsageError("a search needs a generation, four candidates, a step above 0 and a stretch of each trace")


@dataclass(slots=True)
class Search:
    """A search that can be stopped between two generations, saved and taken up.

    Attributes:
        plan: How to search.
        generation: Generations that are done.
        costs: Cost of the middle of each generation's candidates, on that generation's draw.
        optimiser: Its state.
        draws: Source of the draws of stretches.
    """

    plan: Plan
    optimiser: Any
    draws: np.random.Generator
    generation: int = 0
    costs: list[float] = field(default_factory=list)

    @classmethod
    def begin(cls, plan: Plan, start: Network | None = None) -> Search:
        """A search around ``start``, or around shortest job first; hidden units that it lacks are drawn, silent."""
        from cmaes import CMA, SepCMA

        draws = np.random.default_rng(plan.seed)
        middle = first_weights(plan, draws, start)
        make = CMA if len(middle) <= MOST_FULL else SepCMA
        optimiser = make(mean=middle, sigma=plan.step, seed=plan.seed, population_size=plan.population)
        return cls(plan, optimiser, draws)

    @property
    def network(self) -> Network:
        """The middle of the distribution: what the search has found."""
        return unpacked(self.optimiser.mean, self.plan.hidden)

    def run(
        self,
        trials: Sequence[Trial],
        *,
        budget_s: float = np.inf,
        after: Callable[[Search], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Search until the generations are done or time is up; returns whether they are done.

        Args:
            trials: What to try candidates on; the mean of their costs counts.
            budget_s: Seconds that this call may take.
            after: Called after every generation: to show progress, or to save.
            should_stop: Asked after every generation.
        """
        begin_s = time.perf_counter()
        while self.generation < self.plan.generations:
            # Chance follows from the seed and the generation alone.
            self.optimiser.reseed_rng(np.random.SeedSequence([self.plan.seed, self.generation]).generate_state(1)[0])
            drawn = [self._draw(len(trial)) for trial in trials]
            candidates = [self.optimiser.ask() for _ in range(self.optimiser.population_size)]
            costs = [self._cost(candidate, trials, drawn) for candidate in candidates]
            self.optimiser.tell(list(zip(candidates, costs, strict=True)))
            self.generation += 1
            self.costs.append(float(np.median(costs)))
            if after is not None:
                after(self)
            if time.perf_counter() - begin_s > budget_s or (should_stop is not None and should_stop()):
                break
        return self.generation >= self.plan.generations

    def _draw(self, count: int) -> IntArray:
        """Which stretches of a trace this generation is tried on."""
        return np.sort(self.draws.choice(count, min(self.plan.stretches, count), replace=False))

    def _cost(self, weights: FloatArray, trials: Sequence[Trial], drawn: Sequence[IntArray]) -> float:
        network = unpacked(weights, self.plan.hidden)
        costs = [trial.cost(network, which) for trial, which in zip(trials, drawn, strict=True)]
        return float(np.mean(costs) + self.plan.decay * np.square(weights[len(network.skip) :]).sum())

    def __getstate__(self) -> dict[str, Any]:
        """All of the optimiser: what it pickles of itself is rounded."""
        state = {each.name: getattr(self, each.name) for each in fields(self)}
        return state | {"optimiser": (type(self.optimiser), vars(self.optimiser))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        make, attributes = state["optimiser"]
        optimiser = make.__new__(make)
        vars(optimiser).update(attributes)
        for name, value in (state | {"optimiser": optimiser}).items():
            setattr(self, name, value)

    def save(self, path: Path) -> None:
        """Write the search to a file, whole or not at all."""
        part = path.with_suffix(path.suffix + ".partial")
        part.write_bytes(pickle.dumps(self))
        part.replace(path)


class Trial(Protocol):
    """Stretches of one trace on which networks are tried."""

    def __len__(self) -> int:
        """How many."""

    def cost(self, network: Network, which: IntArray) -> float:
        """What a network reaches on the stretches ``which``; less is better."""


@dataclass(frozen=True, slots=True)
class GroundTrial:
    """A ground with the compiled replay that tries networks on it."""

    ground: Ground
    rollouts: Sequence[Rollout]

    @classmethod
    def of(cls, ground: Ground) -> GroundTrial:
        """Set up the replays, one for each copy of the trace."""
        from shunter.sim.rollout import Rollout

        return cls(ground, [Rollout(workload, ground.backfill) for workload in ground.workloads])

    def __len__(self) -> int:
        return len(self.ground.first)

    def cost(self, network: Network, which: IntArray) -> float:
        """Cost against the best heuristics; see ``objective.Gain``."""
        return self.gain(network, which).cost

    def gain(self, network: Network, stretches: IntArray | None = None) -> Gain:
        """How a network compares with the best heuristics on some stretches, or on all."""
        ground = self.ground
        which = np.arange(len(ground.first)) if stretches is None else stretches
        values: dict[int, FloatArray] = {}
        for copy, rollout in enumerate(self.rollouts):
            own = which[ground.copy[which] == copy]
            if len(own):
                start_s = rollout.starts(network, ground.first[own], ground.last[own])
                values |= {int(i): ground.slowdowns(start_s, int(i)) for i in own}
        return ground.gain([values[int(i)] for i in which], which)


def first_weights(plan: Plan, draws: np.random.Generator, start: Network | None) -> FloatArray:
    """Weights around which a search begins: those of ``start``; new hidden units see something but say nothing."""
    from shunter.scheduler.kernels.features import NUM_FEATURES
    from shunter.scheduler.kernels.network import new_network

    if start is not None and (len(start.b1), len(start.b2)) == plan.hidden:
        return packed(start)
    if start is not None and len(start.b1):
        raise UsageError(f"a search over hidden layers {plan.hidden} cannot start from {len(start.b1), len(start.b2)}")
    skip = np.zeros(NUM_FEATURES)
    skip[0] = 1.0
    wide, narrow = plan.hidden
    w1 = draws.normal(scale=0.3, size=(wide, NUM_FEATURES))
    w2 = draws.normal(scale=0.3, size=(narrow, wide))
    zeros, silent = np.zeros(wide), np.zeros(narrow)
    return packed(new_network(skip if start is None else start.skip, w1, zeros, w2, silent, silent))


def packed(network: Network) -> FloatArray:
    """All weights of a network as one vector."""
    parts = (network.skip, network.w1, network.b1, network.w2, network.b2, network.w3)
    return np.concatenate([part.reshape(-1) for part in parts])


def unpacked(weights: FloatArray, hidden: tuple[int, int]) -> Network:
    """The network with these weights; the inverse of ``packed``."""
    from shunter.scheduler.kernels.features import NUM_FEATURES
    from shunter.scheduler.kernels.network import new_network

    wide, narrow = hidden
    shapes = ((NUM_FEATURES,), (wide, NUM_FEATURES), (wide,), (narrow, wide), (narrow,), (narrow,))
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = [part.reshape(shape) for part, shape in zip(np.split(weights, ends[:-1]), shapes, strict=True)]
    return new_network(*parts)
