"""A stable sort for the compiled loops. Imports Numba, so it is itself imported by those only.

``numpy.argsort(kind="mergesort")`` would do, but compiling its checks of the word ``mergesort`` takes seconds.
"""

from __future__ import annotations

from shunter.scheduler.jit import allocating
from shunter.scheduler.types import FloatArray, IntArray

RUN = 16
"""Runs of this length are sorted by insertion before the merging."""


@allocating
def sort_by_key(rows: IntArray, key: IntArray | FloatArray) -> None:
    """Sort ``rows`` and, with them, their ``key`` in place, both (J,); equal keys keep their order. O(J log J)."""
    count = len(rows)
    for begin in range(0, count, RUN):
        for i in range(begin + 1, min(begin + RUN, count)):
            row, value = rows[i], key[i]
            k = i
            while k > begin and key[k - 1] > value:
                rows[k], key[k] = rows[k - 1], key[k - 1]
                k -= 1
            rows[k], key[k] = row, value
    width = RUN
    while width < count:
        for begin in range(0, count - width, 2 * width):
            merge(rows[begin : begin + 2 * width], key[begin : begin + 2 * width], width)
        width *= 2


@allocating
def merge(rows: IntArray, key: IntArray | FloatArray, middle: int) -> None:
    """Merge the sorted halves before and from ``middle``; nothing to do when they are in order already."""
    if key[middle - 1] <= key[middle]:
        return
    left_rows, left_key = rows[:middle].copy(), key[:middle].copy()
    i, j, k = 0, middle, 0
    while i < middle:
        if j < len(rows) and key[j] < left_key[i]:
            rows[k], key[k] = rows[j], key[j]
            j += 1
        else:
            rows[k], key[k] = left_rows[i], left_key[i]
            i += 1
        k += 1
