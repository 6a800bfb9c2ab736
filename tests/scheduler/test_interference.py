"""Slowdown on shared GPUs, computed by hand and against all pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.interference import fitted_speed, shared_speeds

TABLE = np.array([[0.8, 0.5], [0.9, 1.0]])


def test_neighbours_multiply() -> None:
    # GPU 7: classes 0, 0, 1; GPU 3: class 1 alone.
    speeds = shared_speeds(TABLE, np.array([0, 0, 1, 1]), np.array([7, 7, 7, 3]))
    assert speeds.tolist() == pytest.approx([0.8 * 0.5, 0.8 * 0.5, 0.9 * 0.9, 1.0])
    assert shared_speeds(TABLE, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=12),
    st.lists(st.floats(0.05, 1.0), min_size=16, max_size=16),
)
def test_equals_all_pairs_one_by_one(jobs: list[tuple[int, int]], values: list[float]) -> None:
    table = np.array(values).reshape(4, 4)
    classes, gpus = np.array(jobs).T
    expected = [
        np.prod([table[a, c] for k, (c, h) in enumerate(jobs) if k != j and h == g]) for j, (a, g) in enumerate(jobs)
    ]
    speeds = shared_speeds(table, classes, gpus)
    assert speeds.tolist() == pytest.approx(expected)
    assert np.all(speeds <= 1.0)


def test_fitted_speed() -> None:
    # Two jobs that keep the GPU busy: 1 / 1.5; an idle neighbour costs nothing.
    assert fitted_speed(0.5, np.array([1.0, 1.0]), np.array([1.0, 0.0])).tolist() == pytest.approx([2 / 3, 1.0])
