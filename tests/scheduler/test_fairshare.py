"""Decay in closed form against steps, and the ledger that keeps it."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.scheduler.fairshare import HALF_LIFE_S, Ledger, decayed_usage, fair_share_factor


def in_steps(usage_s: float, held: float, elapsed_s: float, half_life_s: float, steps: int = 20_000) -> float:
    """dU/dt = held − λU by the midpoint rule."""
    rate, step_s = np.log(2.0) / half_life_s, elapsed_s / steps
    for _ in range(steps):
        middle = usage_s + (held - rate * usage_s) * step_s / 2
        usage_s += (held - rate * middle) * step_s
    return usage_s


@pytest.mark.parametrize(("usage_s", "held", "elapsed_s"), [(0, 8, 500), (1000, 0, 300), (200, 3, 2000), (9e4, 1, 50)])
def test_closed_form_equals_integration_in_fine_steps(usage_s: float, held: float, elapsed_s: float) -> None:
    closed = decayed_usage(np.asarray([usage_s]), np.asarray([held]), np.asarray([elapsed_s]), 400.0)
    assert closed[0] == pytest.approx(in_steps(usage_s, held, elapsed_s, 400.0), rel=1e-7)


def test_usage_that_is_not_renewed_halves() -> None:
    one = np.ones(1)
    assert decayed_usage(64 * one, 0 * one, HALF_LIFE_S * one)[0] == pytest.approx(32)
    assert decayed_usage(64 * one, 0 * one, 3 * HALF_LIFE_S * one)[0] == pytest.approx(8)


def test_use_for_ever_reaches_a_level() -> None:
    """Growth and decay balance at held/λ = held · half-life / ln 2."""
    one = np.ones(1)
    assert decayed_usage(0 * one, 4 * one, 1e6 * one, 100.0)[0] == pytest.approx(4 * 100 / np.log(2))


def test_an_interval_may_be_cut_anywhere() -> None:
    usage, held = np.asarray([50.0]), np.asarray([3.0])
    whole = decayed_usage(usage, held, np.asarray([700.0]), 300.0)
    half_way = decayed_usage(usage, held, np.asarray([123.0]), 300.0)
    np.testing.assert_allclose(decayed_usage(half_way, held, np.asarray([577.0]), 300.0), whole, rtol=1e-13)


def test_ledger_follows_two_users() -> None:
    ledger = Ledger(np.zeros(2), np.zeros(2), np.zeros(2), half_life_s=100.0)
    ledger.change(0, 4.0, 10.0)  # user 0 holds 4 from 10 s to 60 s
    ledger.change(1, 2.0, 20.0)  # user 1 holds 2 from 20 s on
    ledger.change(0, -4.0, 60.0)
    ledger.change(-1, 9.0, 70.0)  # a job without a user counts for nobody
    used = in_steps(in_steps(0, 4, 50, 100.0), 0, 40, 100.0)
    np.testing.assert_allclose(ledger.usage_at(100.0), [used, in_steps(0, 2, 80, 100.0)], rtol=1e-7)
    np.testing.assert_array_equal(ledger.held, [0.0, 2.0])


def test_looking_at_a_ledger_does_not_change_it() -> None:
    ledger = Ledger.empty(1)
    ledger.change(0, 4.0, 0.0)
    first = ledger.usage_at(50.0)
    ledger.usage_at(1e6)
    np.testing.assert_array_equal(ledger.usage_at(50.0), first)


def test_factor_is_one_half_at_the_equal_share() -> None:
    """2^(−(usage share) / (1 / users)): shares 1/3 each of three users give 2^−1, all of it gives 2^−3."""
    users = np.asarray([0, 1, 2, -1])
    np.testing.assert_allclose(fair_share_factor(np.asarray([5.0, 5.0, 5.0]), users), [0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(fair_share_factor(np.asarray([9.0, 0.0, 0.0]), users), [0.125, 1.0, 1.0, 1.0])
