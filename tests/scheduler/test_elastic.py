"""Division of GPUs among elastic jobs: hand-made cases, and the greedy division against all divisions there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.elastic import amdahl_curve, amdahl_ratio, concave_curve, share_by_marginal_gain

ONES = np.ones(8)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_the_rest_goes_where_it_speeds_up_most() -> None:
    # Second GPU: +0.9 for job 0, +0.5 for job 1. Third: +0.4 for job 0. So 4 GPUs: 2 each would give 0.9 + 0.5 = 1.4,
    # 3 and 1 only 0.9 + 0.4 = 1.3.
    curves = np.array([[0.0, 1.0, 1.9, 2.3], [0.0, 1.0, 1.5, 1.7]])
    assert share_by_marginal_gain(ints(1, 1), ints(3, 3), ints(0, 1), curves, 4, ONES[:2]).tolist() == [2, 2]
    assert share_by_marginal_gain(ints(1, 1), ints(3, 3), ints(0, 1), curves, 3, ONES[:2]).tolist() == [2, 1]
    # Twice the weight makes the second GPU worth 1.0 to job 1.
    weights = np.array([1.0, 2.0])
    assert share_by_marginal_gain(ints(1, 1), ints(3, 3), ints(0, 1), curves, 3, weights).tolist() == [1, 2]


def test_minimums_come_first_and_in_order() -> None:
    curves = amdahl_curve(1.0, 8)[None, :]
    zeros = ints(0, 0, 0)
    assert share_by_marginal_gain(ints(2, 4, 1), ints(8, 8, 8), zeros, curves, 5, ONES[:3]).tolist() == [4, 0, 1]
    assert share_by_marginal_gain(ints(2, 4, 1), ints(8, 8, 8), zeros, curves, 0, ONES[:3]).tolist() == [0, 0, 0]


def test_a_gpu_that_helps_nobody_stays_free() -> None:
    curves = np.array([[0.0, 1.0, 1.0, 1.0]])
    assert share_by_marginal_gain(ints(1), ints(3), ints(0), curves, 3, ONES[:1]).tolist() == [1]


def test_equal_gains_go_to_the_earlier_job() -> None:
    curves = amdahl_curve(1.0, 4)[None, :]
    assert share_by_marginal_gain(ints(1, 1), ints(4, 4), ints(0, 0), curves, 3, ONES[:2]).tolist() == [2, 1]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray]:
    num = draw(st.integers(1, 4))
    gains = draw(st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=num, max_size=num))
    curves = np.zeros((num, 5))
    for row, values in enumerate(gains):
        curves[row, 1:] = np.cumsum(sorted(values, reverse=True))
    least = np.array(draw(st.lists(st.integers(1, 3), min_size=num, max_size=num)))
    most = np.minimum(least + draw(st.integers(0, 3)), 4)
    weights = np.array(draw(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=num, max_size=num)))
    return least, most, curves, draw(st.integers(0, 10)), weights


@given(problems())
def test_no_division_is_better_and_bounds_hold(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray],
) -> None:
    least, most, curves, total, weights = problem
    jobs = np.arange(len(least))
    shares = share_by_marginal_gain(least, most, jobs, curves, total, weights)
    assert shares.sum() <= total
    served = shares > 0
    assert np.all(shares[served] >= least[served])
    assert np.all(shares <= most)
    # Among the divisions that serve the same jobs, none has a larger weighted sum of speed-ups.
    ranges = [range(a, b + 1) if s else [0] for a, b, s in zip(least, most, served, strict=True)]
    best = max(weights @ curves[jobs, list(d)] for d in itertools.product(*ranges) if sum(d) <= total)
    assert weights @ curves[jobs, shares] == pytest.approx(best)


def test_mistakes_are_refused() -> None:
    curves = amdahl_curve(0.9, 4)[None, :]
    one = ints(1)
    for least, most, curve, table, total, weight in (
        (ints(0), one, ints(0), curves, 1, ONES[:1]),
        (ints(2), one, ints(0), curves, 1, ONES[:1]),
        (one, ints(5), ints(0), curves, 1, ONES[:1]),
        (one, one, ints(1), curves, 1, ONES[:1]),
        (one, one, ints(0), np.array([[0.0, 1.0, 3.0]]), 1, ONES[:1]),
        (one, one, ints(0), curves, -1, ONES[:1]),
        (one, one, ints(0), curves, 1, np.zeros(1)),
    ):
        with pytest.raises(ValueError, match=r"."):
            share_by_marginal_gain(least, most, curve, table, total, weight)


def test_a_curve_through_measurements() -> None:
    # Rates 1, 3, 2, 6: on 2 GPUs 3 counts as 2, on 4 the best so far is 3, and the straight line from (2, 2) to (8, 6)
    # passes above (4, 3), at 2 + 2 · 4/6.
    curve = concave_curve(ints(1, 2, 4, 8), np.array([1.0, 3.0, 2.0, 6.0]), 10)
    line = [2 + (g - 2) * 4 / 6 for g in range(2, 9)]
    assert curve.tolist() == pytest.approx([0, 1, *line, 6, 6])


@given(
    st.lists(st.floats(0.1, 100.0), min_size=1, max_size=6),
    st.integers(1, 70),
)
def test_curves_are_concave_monotone_and_never_below_what_was_measured(rates: list[float], size: int) -> None:
    gpus = 2 ** np.arange(len(rates), dtype=np.int64)
    curve = concave_curve(gpus, np.array(rates), size)
    steps = np.diff(curve)
    assert curve[0] == 0
    assert curve[1] == pytest.approx(1.0)
    assert np.all(steps >= -1e-12)
    assert np.all(np.diff(steps) <= 1e-9)
    assert np.all(curve <= np.arange(size + 1) + 1e-9)
    known = gpus <= size
    capped = np.minimum(np.array(rates) / rates[0], gpus)
    assert np.all(curve[gpus[known]] >= capped[known] - 1e-9)


def test_amdahl() -> None:
    # Half of the work parallel: 1 / (0.5 + 0.5 / 4) = 1.6 on 4 GPUs.
    assert amdahl_curve(0.5, 4)[[0, 1, 4]].tolist() == pytest.approx([0.0, 1.0, 1.6])
    gpus = ints(2, 4, 8, 16)
    assert amdahl_ratio(gpus, amdahl_curve(0.93, 16)[gpus]) == pytest.approx(0.93, abs=1e-4)
    with pytest.raises(ValueError, match="between 0 and 1"):
        amdahl_curve(1.5, 4)
    with pytest.raises(ValueError, match="start at 1"):
        concave_curve(ints(2, 4), np.ones(2), 4)
    with pytest.raises(ValueError, match="positive"):
        concave_curve(ints(1, 2), np.zeros(2), 4)
