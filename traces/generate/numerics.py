"""Numerical helpers of the generators: normal and gamma distribution functions, quantile tables, chains.

Everything works on whole arrays in NumPy, so that a million jobs take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray

GRID_Z = 8.0
GRID_POINTS = 8001
TOLERANCE = 1e-4
MAX_STEPS = 40
TAIL = 12
"""Quantile tables have further knots at 1 − 2^−k of the last interval, k ≤ TAIL: the tail carries the load."""


@cache
def normal_grid() -> tuple[FloatArray, FloatArray]:
    """``(z, Φ(z))`` on an even grid; linear interpolation errs by less than 3e-7 in Φ."""
    z = np.linspace(-GRID_Z, GRID_Z, GRID_POINTS)
    phi = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z])
    return z, phi


def normal_cdf(z: FloatArray) -> FloatArray:
    """Φ(z), shape of ``z``."""
    grid, phi = normal_grid()
    return np.interp(z, grid, phi)


def normal_scores(values: FloatArray, tie: FloatArray | IntArray) -> FloatArray:
    """(J,) values as normal scores of their ranks; equal values in the order of ``tie``, then of their place."""
    n = len(values)
    ranks = np.empty(n, dtype=np.float64)
    ranks[np.lexsort((tie, values))] = (np.arange(n) + 0.5) / n
    grid, phi = normal_grid()
    return np.interp(ranks, phi, grid)


def gamma_cdf(x: float, shape: float, scale: float) -> float:
    """P(G ≤ x) of a gamma variable, by the power series of the lower incomplete gamma function.

    Source: Abramowitz & Stegun 6.5.29. All terms are positive, so the series is stable; it needs about x/scale terms.
    """
    y = x / scale
    if y <= 0:
        return 0.0
    if y > shape + 20.0 * math.sqrt(shape) + 100.0:
        return 1.0  # nothing that a float can show is left; the series would need y terms
    term = total = 1.0 / shape
    n = shape
    while term > total * 1e-16:
        n += 1.0
        term *= y / n
        total += term
    return total * math.exp(-y + shape * math.log(y) - math.lgamma(shape))


def knots(count: int) -> FloatArray:
    """(K,) probabilities of a quantile table with ``count`` even intervals and a refined upper tail."""
    even = np.linspace(0.0, 1.0, count + 1)
    tail = 1.0 - (1.0 / count) * 0.5 ** np.arange(1, TAIL + 1)
    return np.union1d(even, tail)


def quantile_table(values: FloatArray, count: int) -> FloatArray:
    """(K,) quantiles of ``values`` at ``knots(count)``."""
    return np.quantile(values, knots(count))


def follow(parent: IntArray) -> IntArray:
    """(J,) root of every chain, where ``parent[i] <= i`` and a root points to itself. Cost: O(J log depth)."""
    root = parent
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further


def chain(parent: IntArray, weight: FloatArray, noise: FloatArray) -> FloatArray:
    """Solution of ``y[i] = weight[i]·y[parent[i]] + noise[i]``, with ``weight`` 0 at roots.

    Doubles the span of the recurrence in each round until what is left of the weights does not matter, so that chains
    of any depth take a few passes over the arrays.
    """
    y, a, p = noise.copy(), weight.copy(), parent
    while np.abs(a).max(initial=0.0) > 1e-12:
        y = y + a * y[p]
        a = a * a[p]
        p = p[p]
    return y


def autoregression(noise: FloatArray, rho: float) -> FloatArray:
    """Stationary AR(1) series with unit variance and lag-1 correlation ``rho`` from (J,) standard normal noise."""
    series = noise * math.sqrt(1.0 - rho * rho)
    series[:1] = noise[:1]
    shift, weight = 1, rho
    while shift < len(series) and weight > 1e-12:
        late = series[shift:] + weight * series[:-shift]
        series = np.concatenate((series[:shift], late))
        shift, weight = 2 * shift, weight * weight
    return series


def factor_for(value_at: Callable[[float], float], target: float) -> float:
    """The factor at which the falling function ``value_at`` is ``target``, to a relative error of ``TOLERANCE``.

    Works on logarithms: a load falls about as one over the factor, so the first steps are fixed-point steps; once both
    sides are known, regula falsi in turns with bisection closes in. At a jump the factor next to it is the answer.
    """
    point, left, right = 0.0, -math.inf, math.inf
    at_left = at_right = 0.0
    for step in range(MAX_STEPS):
        excess = math.log(value_at(math.exp(point)) / target)
        if abs(excess) < TOLERANCE:
            break
        if excess > 0:
            left, at_left = point, excess
        else:
            right, at_right = point, excess
        if math.isinf(left) or math.isinf(right):
            # A little further than needed, so that the next evaluation is likely to lie on the other side.
            point += 1.05 * excess
        elif step % 2:
            point = 0.5 * (left + right)
        else:
            point = (left * at_right - right * at_left) / (at_right - at_left)
    return math.exp(point)


def zipf_shares(count: int, exponent: float) -> FloatArray:
    """(count,) shares proportional to rank^−exponent."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    shares: FloatArray = weights / weights.sum()
    return shares


def draw(rng: np.random.Generator, shares: FloatArray, size: int) -> IntArray:
    """(size,) indices with the given probabilities."""
    edges = np.cumsum(shares)
    place: IntArray = np.searchsorted(edges, rng.random(size) * edges[-1], side="right").astype(np.int64)
    return np.minimum(place, len(edges) - 1)
