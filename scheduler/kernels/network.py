"""A small network's score of each row of features, compiled: for searches that score millions of queues."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import FloatArray


class Network(NamedTuple):
    """Score = skip · x + w3 · relu(w2ᵀ relu(w1ᵀ x + b1) + b2); lower goes first. A linear score has no hidden units.

    Attributes:
        skip: (F,) weights straight from the features.
        w1: (H1, F) weights of the first hidden layer.
        b1: (H1,) its biases.
        w2: (H2, H1) weights of the second.
        b2: (H2,) its biases.
        w3: (H2,) weights of the score.
        hidden: (H1,) room for the first layer.
    """

    skip: FloatArray
    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray
    w3: FloatArray
    hidden: FloatArray


@compiled
def score_row(network: Network, x: FloatArray) -> float:
    """The score of one row of features (F,)."""
    score = 0.0
    for f in range(len(network.skip)):
        score += network.skip[f] * x[f]
    for j in range(len(network.b1)):
        unit = network.b1[j]
        for f in range(len(network.skip)):
            unit += network.w1[j, f] * x[f]
        network.hidden[j] = max(unit, 0.0)
    for j in range(len(network.b2)):
        unit = network.b2[j]
        for f in range(len(network.b1)):
            unit += network.w2[j, f] * network.hidden[f]
        score += network.w3[j] * max(unit, 0.0)
    return score
