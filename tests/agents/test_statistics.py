"""Intervals, equivalence and ranks on cases that can be worked out by hand or by enumerating every resample."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from shunter.agents.statistics import draw, paired_ratio, pooled_ratio, rank_seeds, verdict_of
from shunter.sim.compare import expanded_quantiles

FIVE = np.asarray([1.0, 2.0, 4.0, 8.0, 16.0])


def test_a_constant_ratio_is_found_exactly_and_the_interval_closes() -> None:
    found = paired_ratio(0.9 * FIVE, FIVE, draw(5, consecutive=False))
    assert found.ratio == pytest.approx(0.9)
    assert found.interval == pytest.approx((0.9, 0.9))
    assert found.typical == pytest.approx(0.9)
    assert (found.wins, found.ties, found.losses, found.win_rate) == (5, 0, 0, 1.0)
    assert found.verdict == "better"
    assert paired_ratio(FIVE, 0.9 * FIVE, draw(5, consecutive=False)).verdict == "worse"


def test_the_interval_of_a_ratio_is_that_of_all_resamples_of_five_windows() -> None:
    """5^5 equally likely resamples; the ratio of sums in each, and its expanded quantiles."""
    values = np.asarray([2.0, 1.0, 4.5, 6.0, 15.0])
    drawn = np.asarray(list(product(range(5), repeat=5)))
    exact = np.quantile(values[drawn].sum(axis=1) / FIVE[drawn].sum(axis=1), expanded_quantiles(5))
    found = paired_ratio(values, FIVE, draw(5, consecutive=False))
    assert found.ratio == pytest.approx(28.5 / 31)
    assert found.interval == pytest.approx(exact, rel=0.01)


def test_consecutive_windows_are_drawn_in_blocks() -> None:
    """Ten windows: ∛10 is about 2, so five blocks of two neighbours, each of ten beginning places equally likely."""
    draws = draw(10, consecutive=True)
    assert (draws.block, draws.blocks) == (2, 5)
    assert draws.weights is not None
    assert (draws.weights.sum(axis=1) == 10).all()
    assert draws.weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.05)
    values = np.asarray([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    pairs = (values + np.roll(values, -1)) / 10
    exact = np.quantile([sum(pairs[list(five)]) for five in product(range(10), repeat=5)], expanded_quantiles(5))
    assert draws.mean(values) == pytest.approx(exact, abs=0.02)


def test_runs_of_good_and_bad_windows_make_the_interval_wider() -> None:
    runs = np.repeat([0.0, 1.0, 0.0, 1.0], 16)
    alone, together = (draw(64, consecutive=c).mean(runs) for c in (False, True))
    assert alone is not None
    assert together is not None
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_four_windows_give_no_interval() -> None:
    found = paired_ratio(FIVE[:4] * 0.5, FIVE[:4], draw(4, consecutive=True))
    assert found.ratio == pytest.approx(0.5)
    assert (found.interval, found.typical_interval, found.verdict, found.no_worse) == (None, None, "undecided", False)


@pytest.mark.parametrize(
    ("interval", "test", "less", "more"),
    [
        ((0.80, 0.95), (0.82, 0.94), "better", "worse"),
        ((1.05, 1.20), (1.06, 1.18), "worse", "better"),
        ((0.80, 1.20), (0.85, 1.15), "undecided", "undecided"),
        ((0.975, 1.035), (0.98, 1.025), "equal", "equal"),  # two one-sided tests at 5 % look at the 90 % interval
        ((0.980, 0.995), (0.981, 0.994), "equal", "equal"),  # certain, and too little to matter
        ((0.960, 0.999), (0.965, 0.998), "better", "worse"),
    ],
)
def test_verdicts(interval: tuple[float, float], test: tuple[float, float], less: str, more: str) -> None:
    assert verdict_of(interval, test, less_is_better=True, margin=0.03) == less
    assert verdict_of(interval, test, less_is_better=False, margin=0.03) == more


def test_equal_schedules_tie_in_every_window() -> None:
    found = paired_ratio(FIVE * (1 + 1e-13), FIVE, draw(5, consecutive=True))
    assert (found.wins, found.ties, found.losses, found.win_rate) == (0, 5, 0, 0.5)
    assert (found.verdict, found.no_worse) == ("equal", True)


def test_a_metric_of_zero_has_no_ratio_and_no_logarithm() -> None:
    found = paired_ratio(np.zeros(6), np.zeros(6), draw(6, consecutive=True))
    assert (found.ratio, found.interval, found.typical, found.verdict) == (None, None, None, "undecided")
    some = paired_ratio(np.asarray([0.0, 1, 1, 1, 1, 1]), np.ones(6), draw(6, consecutive=True))
    assert some.ratio == pytest.approx(5 / 6)
    assert some.typical is None


def test_the_heavy_window_decides_the_ratio_and_not_the_typical_one() -> None:
    """Half in four windows and twice in the heavy one: 0.5·4 + 2·96 over 100 is 1.94; typical (0.5^4 · 2)^(1/5)."""
    others = np.asarray([1.0, 1.0, 1.0, 1.0, 96.0])
    found = paired_ratio(others * [0.5, 0.5, 0.5, 0.5, 2.0], others, draw(5, consecutive=False))
    assert found.ratio == pytest.approx(1.94)
    assert found.typical == pytest.approx(0.125 ** (1 / 5))


def test_seeds_are_ranked_and_of_two_the_worse_is_the_median() -> None:
    three = rank_seeds([30.0, 10.0, 20.0])
    assert (three.worst, three.median, three.best) == (0, 2, 1)
    two = rank_seeds([1.0, 2.0])
    assert (two.worst, two.median, two.best) == (1, 1, 0)
    more = rank_seeds([0.5, 0.9, 0.7], less_is_better=False)
    assert (more.worst, more.median, more.best) == (0, 2, 1)


def test_traces_count_alike_in_a_pooled_ratio_however_many_windows_they_have() -> None:
    """0.5 on five windows and 2 on ten: the geometric mean is 1, and both are certain."""
    pairs = [(0.5 * FIVE, FIVE), (2.0 * np.arange(1.0, 11.0), np.arange(1.0, 11.0))]
    draws = [draw(5, consecutive=True), draw(10, consecutive=True, seed=1)]
    ratio, interval = pooled_ratio(pairs, draws)
    assert ratio == pytest.approx(1.0)
    assert interval == pytest.approx((1.0, 1.0))


def test_the_interval_of_a_pooled_ratio_is_that_of_all_pairs_of_resamples() -> None:
    """Two traces of five windows: the mean of two independent logarithms, all 3125² pairs of them."""
    values = np.asarray([2.0, 1.0, 4.5, 6.0, 15.0])
    drawn = np.asarray(list(product(range(5), repeat=5)))
    logs = np.log(values[drawn].sum(axis=1) / FIVE[drawn].sum(axis=1))
    exact = np.exp(np.quantile(((logs[:, None] + logs[None, :]) / 2).ravel(), expanded_quantiles(5)))
    ratio, interval = pooled_ratio([(values, FIVE)] * 2, [draw(5, consecutive=False, seed=s) for s in (0, 1)])
    assert ratio == pytest.approx(28.5 / 31)
    assert interval == pytest.approx(tuple(exact), rel=0.03)  # ten of 10,000 replicates lie beyond


def test_a_pooled_ratio_needs_windows_and_values() -> None:
    few, enough = draw(4, consecutive=True), draw(5, consecutive=True)
    assert pooled_ratio([(FIVE[:4], FIVE[:4]), (FIVE, FIVE)], [few, enough]) == (1.0, None)
    assert pooled_ratio([(0 * FIVE, FIVE)], [enough]) == (None, None)
