"""Sorting a queue by (score, row): a sort by digits, which takes 100,000 jobs in two milliseconds."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import FloatArray, Int, IntArray

SHORT = 32
"""Up to so many jobs are put in order by insertion."""

LONG = 4096
"""From so many jobs on digits have 11 bits, else 8: counting costs more than moving where there is little to move."""

ALL_BUT_SIGN = 0x7FFF_FFFF_FFFF_FFFF
SIGN = -0x8000_0000_0000_0000
MOST_DIGITS = 2048


class Sorting(NamedTuple):
    """Room to sort in.

    Attributes:
        bits: (2, J) scores as whole numbers in the same order.
        rows: (2, J) rows.
        counts: (MOST_DIGITS,) how often each digit occurs.
    """

    bits: IntArray
    rows: IntArray
    counts: IntArray


def new_sorting(num_jobs: int) -> Sorting:
    """Room for queues of up to ``num_jobs``."""
    return Sorting(
        np.zeros((2, num_jobs), np.int64), np.zeros((2, num_jobs), np.int64), np.zeros(MOST_DIGITS, np.int64)
    )


@compiled
def sort_short(key: FloatArray, rows: IntArray, by_row: bool) -> None:
    """Insertion sort of both arrays by (key, row), or by key with ties left as they are."""
    for i in range(1, len(rows)):
        score, row = key[i], rows[i]
        place = i
        while place > 0 and (key[place - 1] > score or (by_row and key[place - 1] == score and rows[place - 1] > row)):
            key[place] = key[place - 1]
            rows[place] = rows[place - 1]
            place -= 1
        key[place] = score
        rows[place] = row


@compiled
def sort_digit(values: IntArray, sorting: Sorting, source: Int, count: Int, shift: Int, bits: Int) -> bool:
    """Move both rows of ``sorting`` from ``source`` to the other side by one digit of ``values``; False: all equal."""
    counts, mask = sorting.counts, (1 << bits) - 1
    counts[: mask + 1] = 0
    for i in range(count):
        counts[(values[i] >> shift) & mask] += 1
    if counts[(values[0] >> shift) & mask] == count:
        return False
    before = np.int64(0)
    for digit in range(mask + 1):
        number = counts[digit]
        counts[digit] = before
        before += number
    target = 1 - source
    for i in range(count):
        digit = (values[i] >> shift) & mask
        place = counts[digit]
        counts[digit] = place + 1
        sorting.bits[target, place] = sorting.bits[source, i]
        sorting.rows[target, place] = sorting.rows[source, i]
    return True


@compiled
def sort_rows(rows: IntArray, sorting: Sorting) -> None:
    """Sort ``rows`` (Q,)."""
    count = len(rows)
    if count <= SHORT:
        for i in range(1, count):
            row = rows[i]
            place = i
            while place > 0 and rows[place - 1] > row:
                rows[place] = rows[place - 1]
                place -= 1
            rows[place] = row
        return
    bits = 8 if count < LONG else 11
    largest = np.int64(0)
    for i in range(count):
        sorting.rows[0, i] = rows[i]
        largest = max(largest, rows[i])
    source, shift = 0, 0
    while largest >> shift > 0:
        if sort_digit(sorting.rows[source], sorting, source, count, shift, bits):
            source = 1 - source
        shift += bits
    for i in range(count):
        rows[i] = sorting.rows[source, i]


@compiled
def sort_queue(key: FloatArray, rows: IntArray, sorting: Sorting, bits_of: IntArray, by_row: bool) -> None:
    """Sort ``rows`` (Q,) by their keys, and ties by row, or where ``by_row`` is off leave ties as they are.

    Args:
        key: (Q,) numbers, no NaN; written over.
        rows: (Q,) put in order.
        sorting: Room for Q jobs.
        bits_of: (Q,) the memory of ``key`` as whole numbers.
        by_row: How ties end.
    """
    count = len(rows)
    if count <= SHORT:
        sort_short(key, rows, by_row)
        return
    bits = 8 if count < LONG else 11
    largest = np.int64(0)
    for i in range(count):
        key[i] += 0.0  # one zero, not two
        pattern = bits_of[i]
        sorting.bits[0, i] = (pattern ^ ((pattern >> 63) & ALL_BUT_SIGN)) ^ SIGN
        sorting.rows[0, i] = rows[i]
        largest = max(largest, rows[i])
    source = 0
    shift = 0
    while by_row and largest >> shift > 0:
        if sort_digit(sorting.rows[source], sorting, source, count, shift, bits):
            source = 1 - source
        shift += bits
    shift = 0
    while shift < 64:
        if sort_digit(sorting.bits[source], sorting, source, count, shift, bits):
            source = 1 - source
        shift += bits
    for i in range(count):
        rows[i] = sorting.rows[source, i]
