"""Jain's index, contention and finish-time fairness."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.fairness import (
    average_contention,
    finish_time_fairness,
    jain_index,
    served_shares,
)


def array(*values: float) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


# --- Jain ------------------------------------------------------------------------------------------------------------


def test_jain_by_hand() -> None:
    """(1 + 2 + 3)² / (3 · 14) = 36 / 42; all to one of four is 1/4."""
    assert jain_index(array(1, 2, 3)) == pytest.approx(36 / 42)
    assert jain_index(array(0, 0, 7, 0)) == pytest.approx(0.25)
    assert jain_index(array(5, 5, 5)) == pytest.approx(1)
    assert jain_index(array(0, 0)) == 1
    assert math.isnan(jain_index(array()))
    assert jain_index(array(1e-200, 1e-200)) == pytest.approx(1)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_jain_lies_between_one_over_n_and_one_and_knows_no_unit(values: list[float], factor: float) -> None:
    index = jain_index(np.asarray(values))
    assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
    assert jain_index(np.asarray(values) * factor) == pytest.approx(index)


def test_shares_are_per_owner_and_nobodys_jobs_are_out() -> None:
    """Owner 0: (3 + 1) / (4 + 4); owner 1 wanted nothing; owner 2: 5 / 5."""
    owner = np.asarray([0, 0, 2, -1, 1])
    np.testing.assert_allclose(served_shares(owner, array(3, 1, 5, 9, 0), array(4, 4, 5, 9, 0)), [0.5, 1.0])


# --- finish-time fairness --------------------------------------------------------------------------------------------


def test_contention_by_hand() -> None:
    """Job 0 is alone for 10 s, with job 1 for 10 s, with jobs 1 and 2 for 5 s, with 2 for 5 s: 55/30."""
    submit, end = array(0, 10, 20, 50), array(30, 25, 40, 50)
    np.testing.assert_allclose(average_contention(submit, end), [55 / 30, 35 / 15, 35 / 20, np.nan])


def test_contention_of_groups_counts_each_once() -> None:
    """Group 0 is in the system over [0, 30] (jobs 0 and 1 overlap) and again [40, 60], group 1 over [10, 50]."""
    submit, end = array(0, 20, 40, 10), array(25, 30, 60, 50)
    group = np.asarray([0, 0, 0, 1])
    np.testing.assert_allclose(
        average_contention(submit, end, group), [(10 + 15 * 2) / 25, 2, (10 * 2 + 10) / 20, (20 * 2 + 10 + 10 * 2) / 40]
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(0, 3)), min_size=1, max_size=12))
def test_contention_is_what_counting_each_second_finds(jobs: list[tuple[int, int, int]]) -> None:
    submit, end = array(*(s for s, _, _ in jobs)), array(*(s + d for s, d, _ in jobs))
    group = np.asarray([g for _, _, g in jobs])
    middle = np.arange(60) + 0.5
    inside = (submit[:, None] < middle) & (middle < end[:, None])
    by_group = np.stack([inside[group == g].any(axis=0) for g in range(4)])
    for found, present in (
        (average_contention(submit, end), inside),
        (average_contention(submit, end, group), by_group),
    ):
        for row, (begin, length, _) in enumerate(jobs):
            if length:
                assert found[row] == pytest.approx(present.sum(axis=0)[begin : begin + length].mean())
            else:
                assert math.isnan(found[row])


def test_a_job_alone_in_a_cluster_that_is_large_enough_has_rho_one() -> None:
    rho = finish_time_fairness(array(5), array(105), array(100), array(8), 8.0)
    np.testing.assert_allclose(rho, [1.0])


def test_equal_sharing_in_turns_has_rho_one_on_average() -> None:
    """Two jobs of 8 GPUs and 100 s on 8 GPUs, one after the other. n = 2 over [0, 100], 1 from then on.

    Job 0: n = 2, its private 4 GPUs take 200 s, ρ = 100 / 200. Job 1: n = 1.5, 150 s, ρ = 200 / 150.
    """
    rho = finish_time_fairness(array(0, 0), array(100, 200), array(100, 100), array(8, 8), 8.0)
    np.testing.assert_allclose(rho, [0.5, 4 / 3])


def test_a_share_that_is_large_enough_speeds_nothing_up() -> None:
    """Four jobs of 1 GPU on 8: everyone's share is 2 GPUs, the private time is the exclusive one; job 3 waited 50 s."""
    rho = finish_time_fairness(array(0, 0, 0, 0), array(100, 100, 100, 150), array(100, 100, 100, 100), np.ones(4), 8.0)
    np.testing.assert_allclose(rho, [1, 1, 1, 1.5])


def test_shockwaves_definition_counts_every_job_as_one_gpu() -> None:
    """Two jobs on 8 GPUs: max(1, 2 / 8) = 1, so ρ is the slowdown; for jobs of one GPU both definitions agree."""
    facts = (array(0, 0), array(100, 200), array(100, 100))
    rho = finish_time_fairness(*facts, array(8, 8), 8.0, definition="shockwave")
    np.testing.assert_allclose(rho, [1, 2])
    one = np.ones(2)
    both = [finish_time_fairness(*facts, one, 1.0, definition=name) for name in ("themis", "shockwave")]
    np.testing.assert_allclose(both[0], both[1])
    with pytest.raises(ValueError, match="themis, shockwave"):
        finish_time_fairness(*facts, one, 1.0, definition="other")


def test_jobs_that_took_no_time_have_no_rho() -> None:
    rho = finish_time_fairness(array(0, 0), array(0, 10), array(0, 0), np.ones(2), 1.0)
    assert np.isnan(rho).all()
