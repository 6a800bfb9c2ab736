"""Numbers for rows of numbers, equal rows the same one, without sorting."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import Int, IntArray

MIXER = -0x61C8_8646_80B5_83EB
"""2^64 over the golden ratio, odd: multiplying by it spreads what is in the low bits over the high ones."""


@compiled
def number_rows(rows: IntArray, table: IntArray, first: IntArray, numbers: IntArray) -> Int:
    """Write the number of each row (J, K) into ``numbers`` (J,), in the order of first appearance; returns how many.

    Args:
        rows: (J, K) whole numbers, or the bits of others.
        table: (2^n,) scratch filled with −1, n > 1; more than J.
        first: (J,) scratch.
        numbers: (J,) written.
    """
    last = len(table) - 1
    count = np.int64(0)
    for i in range(rows.shape[0]):
        mixed = np.int64(0)
        for k in range(rows.shape[1]):
            mixed = (mixed ^ rows[i, k]) * MIXER
            mixed ^= (mixed >> 29) & 0x7_FFFF_FFFF
        place = mixed & last
        while table[place] >= 0:
            other = first[table[place]]
            same = True
            for k in range(rows.shape[1]):
                same = same and rows[other, k] == rows[i, k]
            if same:
                break
            place = (place + 1) & last
        if table[place] < 0:
            table[place] = count
            first[count] = i
            count += 1
        numbers[i] = table[place]
    return count
