"""The numerical helpers of the generators against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.traces.generate.numerics import (
    autoregression,
    chain,
    draw,
    factor_for,
    follow,
    gamma_cdf,
    knots,
    normal_cdf,
    normal_scores,
    quantile_table,
    zipf_shares,
)


@pytest.mark.parametrize("x", [0.1, 1.0, 5.0, 20.0, 80.0])
@pytest.mark.parametrize("shape", [1, 2, 8])
def test_gamma_cdf_of_whole_shapes_is_a_poisson_tail(x: float, shape: int) -> None:
    """P(Gamma(k, 2) ≤ x) = 1 − Σ_{i<k} e^{−x/2} (x/2)^i / i!."""
    tail = sum(math.exp(-x / 2) * (x / 2) ** i / math.factorial(i) for i in range(shape))
    assert gamma_cdf(x, shape, 2.0) == pytest.approx(1 - tail, abs=1e-12)


def test_gamma_cdf_at_the_ends() -> None:
    assert gamma_cdf(0.0, 3.0, 1.0) == 0.0
    assert gamma_cdf(-1.0, 3.0, 1.0) == 0.0
    assert gamma_cdf(1e9, 3.0, 1.0) == 1.0
    assert gamma_cdf(0.5, 0.5, 1.0) == pytest.approx(math.erf(math.sqrt(0.5)), abs=1e-12)


def test_normal_cdf_and_scores_invert_each_other() -> None:
    assert normal_cdf(np.array([0.0, 1.959964, -1.959964])) == pytest.approx([0.5, 0.975, 0.025], abs=1e-6)
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert normal_cdf(normal_scores(values, np.array([0, 0, 1, 0]))) == pytest.approx(
        [0.875, 0.125, 0.625, 0.375], abs=1e-6
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(-0.99, 0.99), st.floats(-3, 3)), min_size=1, max_size=50))
def test_chain_and_follow_equal_their_loops(rows: list[tuple[int, float, float]]) -> None:
    parent = np.array([min(p, i) for i, (p, _, _) in enumerate(rows)], dtype=np.int64)
    own = np.arange(len(rows))
    weight = np.array([w for _, w, _ in rows]) * (parent < own)
    noise = np.array([e for _, _, e in rows])
    value, root = np.zeros(len(rows)), own.copy()
    for i in range(len(rows)):
        value[i] = noise[i] + (weight[i] * value[parent[i]] if parent[i] < i else 0.0)
        root[i] = root[parent[i]] if parent[i] < i else i
    assert chain(parent, weight, noise) == pytest.approx(value, abs=1e-9)
    assert follow(parent).tolist() == root.tolist()


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.99])
def test_autoregression_equals_its_loop(rho: float) -> None:
    noise = np.random.default_rng(0).standard_normal(500)
    expected = [noise[0]]
    for e in noise[1:]:
        expected.append(rho * expected[-1] + math.sqrt(1 - rho * rho) * e)
    assert autoregression(noise, rho) == pytest.approx(np.array(expected), abs=1e-9)


@settings(deadline=None)
@given(power=st.floats(0.3, 3.0), scale=st.floats(0.01, 100), target=st.floats(0.01, 100))
def test_factor_for_finds_the_target_of_a_falling_function(power: float, scale: float, target: float) -> None:
    factor = factor_for(lambda x: scale * x**-power, target)
    assert scale * factor**-power == pytest.approx(target, rel=2e-4)


def test_factor_for_stops_beside_a_jump() -> None:
    factor = factor_for(lambda x: 2.0 / x if x < 1.5 else 0.5 / x, 1.0)
    assert factor == pytest.approx(1.5, rel=1e-3)


def test_quantile_tables_keep_the_mean_of_a_heavy_tail() -> None:
    values = np.random.default_rng(1).lognormal(5, 2, 50_000)
    table, p = quantile_table(values, 200), knots(200)
    assert len(table) == len(p)
    assert (np.diff(table) >= 0).all()
    drawn = np.expm1(np.interp(np.random.default_rng(2).random(500_000), p, np.log1p(table)))
    assert drawn.mean() == pytest.approx(values.mean(), rel=0.05)


def test_draws_follow_the_shares() -> None:
    shares = zipf_shares(5, 1.0)
    assert shares == pytest.approx(np.array([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]) / (137 / 60))
    counts = np.bincount(draw(np.random.default_rng(0), shares, 100_000), minlength=5)
    assert counts / 100_000 == pytest.approx(shares, abs=0.006)
