"""Small networks for tests of what orders by them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shunter.scheduler.features import FEATURES, SCHEMA
from shunter.scheduler.guard import Seen
from shunter.scheduler.kernels.network import Network, new_network
from shunter.scheduler.learned import KernelScorer, linear_network
from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.policies.registry import ChosenOrdering, Scorer


def drawn_network(seed: int, first: int = 7, second: int = 4) -> Network:
    """Random weights, as they are in float32."""
    draw = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return draw.normal(size=shape).astype(np.float32).astype(np.float64)

    size = SCHEMA.size
    return new_network(
        skip=weights(size),
        w1=weights(first, size),
        b1=weights(first),
        w2=weights(second, first),
        b2=weights(second),
        w3=weights(second),
    )


def linear(**weights: float) -> Network:
    """A weighted sum of features, by name."""
    names = [feature.name for feature in FEATURES]
    skip = np.zeros(SCHEMA.size)
    for name, weight in weights.items():
        skip[names.index(name)] = weight
    return linear_network(skip)


def by_network(
    network: Network | Scorer, parameters: Mapping[str, float] | None = None, **more: object
) -> ChosenOrdering:
    """The ordering ``learned`` with a network, or another scorer; without parameters nothing is guarded."""
    scorer = KernelScorer(network) if isinstance(network, Network) else network
    return ChosenOrdering(ORDERINGS["learned"], parameters or {}, scorer, **more)  # type: ignore[arg-type]


def nothing_is_usual() -> Seen:
    """A range that no feature lies in."""
    return Seen(np.full(SCHEMA.size, 1e9), np.full(SCHEMA.size, 2e9))
