"""Whole-number demands."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.scheduler.types import distinct_rows


@pytest.mark.parametrize("most", [1, 3, 10**12])
@pytest.mark.parametrize("num_rows", [1, 500])
def test_distinct_rows_are_those_of_numpy_in_its_order(most: int, num_rows: int) -> None:
    table = np.random.default_rng(most).integers(-most, most + 1, (num_rows, 3))
    rows, row_idx = distinct_rows(table)
    expected, inverse = np.unique(table, axis=0, return_inverse=True)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(row_idx, inverse.reshape(-1))


def test_rows_of_equal_sums_are_told_apart() -> None:
    rows, row_idx = distinct_rows(np.asarray([[1, 2], [2, 1], [1, 2]]))
    assert rows.tolist() == [[1, 2], [2, 1]]
    assert row_idx.tolist() == [0, 1, 0]
