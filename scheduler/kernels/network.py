"""A small network's score of each row of features, compiled: for searches that score millions of queues.

Hidden layers are worked out in single precision, as they were trained and as ONNX Runtime does; what comes straight
from the features, and the score, in double. A job's sums are added up in one order, whether it is scored alone or in a
block of jobs, and each product is added with a single rounding: the same bits either way and on every machine.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import FloatArray, Int, SingleArray

BLOCK = 128
"""Jobs that are scored together at most: their layers stay near, and a processor adds those of several at once."""

NOTHING = np.float32(0.0)


def _fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """A · b + c, rounded once (IEEE 754, fusedMultiplyAdd): one instruction for several jobs, half the time of two."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    is_float = a == b == c and a in (types.float32, types.float64)
    return (a(a, b, c), generate) if is_float else None


fma: Any = intrinsic(_fma)

SomeArray = SingleArray | FloatArray


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
    w1: SingleArray
    b1: SingleArray
    w2: SingleArray
    b2: SingleArray
    w3: SingleArray
    hidden: SingleArray


def new_network(
    skip: FloatArray,
    w1: SomeArray | None = None,
    b1: SomeArray | None = None,
    w2: SomeArray | None = None,
    b2: SomeArray | None = None,
    w3: SomeArray | None = None,
) -> Network:
    """A network of copies of these weights, as in ``Network``; without the others a linear score."""
    none, flat = np.zeros(0), np.zeros((0, len(skip)))

    def layer(given: SomeArray | None, absent: FloatArray) -> SingleArray:
        return np.array(absent if given is None else given, np.float32, order="C")

    units = layer(b1, none)
    return Network(
        skip=np.array(skip, np.float64),
        w1=layer(w1, flat),
        b1=units,
        w2=layer(w2, np.zeros((0, 0))),
        b2=layer(b2, none),
        w3=layer(w3, none),
        hidden=np.zeros_like(units),
    )


@compiled
def score_row(network: Network, x: FloatArray) -> float:
    """The score of one row of features (F,)."""
    score = 0.0
    for f in range(len(network.skip)):
        score = fma(network.skip[f], x[f], score)
    for j in range(len(network.b1)):
        unit = network.b1[j]
        for f in range(len(network.skip)):
            unit = fma(network.w1[j, f], np.float32(x[f]), unit)
        network.hidden[j] = max(unit, NOTHING)
    for j in range(len(network.b2)):
        unit = network.b2[j]
        for f in range(len(network.b1)):
            unit = fma(network.w2[j, f], network.hidden[f], unit)
        score = fma(np.float64(network.w3[j]), np.float64(max(unit, NOTHING)), score)
    return score


@compiled
def add_inputs(out: SingleArray, j: Int, weights: SingleArray, x: SingleArray, width: Int) -> None:
    """Add the weighted inputs ``x`` (I, BLOCK) to units ``j`` and ``j + 1`` of ``out``; four inputs a round."""
    num_inputs = weights.shape[1]
    f = 0
    while f + 4 <= num_inputs:
        a0, a1, a2, a3 = weights[j, f], weights[j, f + 1], weights[j, f + 2], weights[j, f + 3]
        b0, b1, b2, b3 = weights[j + 1, f], weights[j + 1, f + 1], weights[j + 1, f + 2], weights[j + 1, f + 3]
        for i in range(width):
            x0, x1, x2, x3 = x[f, i], x[f + 1, i], x[f + 2, i], x[f + 3, i]
            out[j, i] = fma(a3, x3, fma(a2, x2, fma(a1, x1, fma(a0, x0, out[j, i]))))
            out[j + 1, i] = fma(b3, x3, fma(b2, x2, fma(b1, x1, fma(b0, x0, out[j + 1, i]))))
        f += 4
    while f < num_inputs:
        add_input(out, j, weights, x, f, width)
        add_input(out, j + 1, weights, x, f, width)
        f += 1


@compiled
def add_input(out: SingleArray, j: Int, weights: SingleArray, x: SingleArray, f: Int, width: Int) -> None:
    """Add one weighted input to unit ``j`` of ``out``."""
    weight = weights[j, f]
    for i in range(width):
        out[j, i] = fma(weight, x[f, i], out[j, i])


@compiled
def fill_layer(weights: SingleArray, bias: SingleArray, x: SingleArray, out: SingleArray, width: Int) -> None:
    """Write max(weights · x + bias, 0) into ``out`` (units, BLOCK)."""
    num_units = len(bias)
    for j in range(num_units):
        for i in range(width):
            out[j, i] = bias[j]
    for j in range(0, num_units - 1, 2):
        add_inputs(out, j, weights, x, width)
    if num_units % 2 == 1:
        for f in range(weights.shape[1]):
            add_input(out, num_units - 1, weights, x, f, width)
    for j in range(num_units):
        for i in range(width):
            out[j, i] = max(out[j, i], NOTHING)


@compiled
def score_block(
    network: Network,
    x: FloatArray,
    single: SingleArray,
    first: SingleArray,
    second: SingleArray,
    out: FloatArray,
    count: Int,
) -> None:
    """Write the scores of the first ``count`` jobs of a block (F, BLOCK) into ``out``, as ``score_row`` would."""
    width = min((count + 15) // 16 * 16, BLOCK)
    for i in range(width):
        out[i] = 0.0
    for f in range(len(network.skip)):
        weight = network.skip[f]
        for i in range(width):
            out[i] = fma(weight, x[f, i], out[i])
    if len(network.b1) == 0:
        return
    for f in range(len(network.skip)):
        for i in range(width):
            single[f, i] = x[f, i]
    fill_layer(network.w1, network.b1, single, first, width)
    fill_layer(network.w2, network.b2, first, second, width)
    for j in range(len(network.w3)):
        more = np.float64(network.w3[j])
        for i in range(width):
            out[i] = fma(more, np.float64(second[j, i]), out[i])
