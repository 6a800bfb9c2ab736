"""The published priority formulas: values by hand, and what stands in for arguments outside their domain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shunter.scheduler import scores


def array(*values):
    return np.array(values, dtype=np.float64)


R, N, S = array(100.0), array(8.0), array(1000.0)  # log10(r) = 2, log10(s) = 3


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (scores.f1(R, N, S), 2 * 8 + 870 * 3),
        (scores.f2(R, N, S), 10 * 8 + 25600 * 3),
        (scores.f3(R, N, S), 100 * 8 + 6860000 * 3),
        (scores.f4(R, array(9.0), S), 100 * 3 + 530000 * 3),
        (scores.wfp3(R, N, S, 1200.0), -(2**3) * 8),
        (scores.unicep(R, N, S, 1300.0), -300 / (3 * 100)),
    ],
)
def test_values_by_hand(score, value):
    assert score == pytest.approx([value], rel=1e-12)


def test_published_wfp3_and_unicep_are_the_formulas_with_an_unset_start():
    assert scores.wfp3(R, N, S, -1.0) == pytest.approx([(1001 / 100) ** 3 * 8])
    assert scores.unicep(R, N, S, -1.0) == pytest.approx([1001 / (3 * 100)])


@pytest.mark.parametrize("function", [scores.f1, scores.f2, scores.f3, scores.f4])
def test_first_second_of_the_log_goes_first(function):
    first, later = function(array(1e5, 1.0), array(512.0, 1.0), array(0.0, 100.0))
    assert first < later


def test_guards_give_no_nan():
    requested, procs, submit = (grid.ravel() for grid in np.meshgrid(*[array(-1, 0, 1, 50)] * 3))
    for function in (scores.f1, scores.f2, scores.f3, scores.f4):
        assert not np.isnan(function(requested, procs, submit)).any()
    for function in (scores.wfp3, scores.unicep):
        for now in (-1.0, 50.0):
            assert not np.isnan(function(requested, procs, submit, now)).any()


def test_guard_values():
    assert scores.f1(array(0), array(3), array(0)).tolist() == [-3.0 - 870.0]
    assert scores.f2(array(-4), array(3), array(10)).tolist() == [25600.0]
    assert scores.f4(array(4), array(3), array(0)).tolist() == [-math.inf]
    assert scores.wfp3(array(0), array(3), array(7), 7.0).tolist() == [0.0]
    assert scores.wfp3(array(0), array(3), array(7), 8.0).tolist() == [-math.inf]
