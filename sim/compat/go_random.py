"""Go's ``math/rand`` (before 1.20), so that runs of simulators written in Go can be repeated seed for seed.

The source is an additive lagged Fibonacci generator: s[k] = s[k−607] + s[k−273] modulo 2^64. A seed fills the first 607
numbers from a small congruential generator, combined with a fixed table: the state of the same generator 7.8e12 numbers
after seed 1 (Go's ``gen_cooked.go``). The table is worked out here by jumping ahead: x^7.8e12 modulo the generator's
characteristic polynomial takes 43 squarings.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

LAG = 607
TAP = 273
COOKED_AFTER = 7_800_000_000_000
MODULUS = (1 << 31) - 1
MULTIPLIER = 48271
MASK_64 = (1 << 64) - 1
MASK_63 = (1 << 63) - 1
MASK_32 = (1 << 32) - 1

Words = npt.NDArray[np.uint64]


class GoRandom:
    """The numbers that Go programs draw after ``rand.Seed(seed)``."""

    def __init__(self, seed: int) -> None:
        filled = _congruential(seed, 40, 20)
        self._words = [ours ^ int(fixed) for ours, fixed in zip(filled, cooked_table(), strict=True)]
        self._tap = 0
        self._feed = LAG - TAP

    def uint64(self) -> int:
        """The next 64 bits."""
        self._tap = (self._tap - 1) % LAG
        self._feed = (self._feed - 1) % LAG
        word = (self._words[self._feed] + self._words[self._tap]) & MASK_64
        self._words[self._feed] = word
        return word

    def int63(self) -> int:
        """``rand.Int63()`` and, on 64-bit machines, ``rand.Int()``."""
        return self.uint64() & MASK_63

    def intn(self, count: int) -> int:
        """``rand.Intn(count)`` for ``count`` below 2^31: uniform over 0..count−1."""
        if count & (count - 1) == 0:
            return (self.int63() >> 32) & (count - 1)
        largest = MODULUS - (1 << 31) % count
        value = self.int63() >> 32
        while value > largest:
            value = self.int63() >> 32
        return value % count

    def perm(self, count: int) -> list[int]:
        """``rand.Perm(count)``."""
        order = [0] * count
        for i in range(count):
            j = self.intn(i + 1)
            order[i] = order[j]
            order[j] = i
        return order

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """``rand.Shuffle``, in place."""
        for i in range(len(items) - 1, 0, -1):
            j = self._below(i + 1)
            items[i], items[j] = items[j], items[i]

    def _below(self, count: int) -> int:
        """Uniform over 0..count−1 in the way of ``Shuffle``: the upper half of a product (Lemire 2019)."""
        product = (self.int63() >> 31) * count
        if product & MASK_32 < count:
            threshold = ((1 << 32) - count) % count
            while product & MASK_32 < threshold:
                product = (self.int63() >> 31) * count
        return product >> 32


@cache
def cooked_table() -> Words:
    """(607,) the fixed table that every seed is combined with."""
    first = np.array(_congruential(1, 20, 10), dtype=np.uint64)
    # Position p of the state holds the number s[j] of the sequence with (333 − j) mod 607 == p; at first j = −607..−1.
    sequence = np.zeros(2 * LAG, dtype=np.uint64)
    sequence[:LAG] = first[(LAG - TAP - 1 - np.arange(-LAG, 0)) % LAG]
    with np.errstate(over="ignore"):
        for k in range(LAG, 2 * LAG):
            sequence[k] = sequence[k - LAG] + sequence[k - TAP]
    jump = _power_of_x(COOKED_AFTER)
    last = np.array([(jump * sequence[i : i + LAG]).sum() for i in range(LAG)], dtype=np.uint64)
    table = np.zeros(LAG, dtype=np.uint64)
    table[(LAG - TAP - 1 - (COOKED_AFTER - LAG + np.arange(LAG))) % LAG] = last
    return table


def _congruential(seed: int, upper_shift: int, middle_shift: int) -> list[int]:
    """607 numbers of three draws each from Lehmer's generator with multiplier 48271, after 20 draws left out."""
    value = seed % MODULUS or 89_482_311
    words = []
    for i in range(-20, LAG):
        value = value * MULTIPLIER % MODULUS
        if i >= 0:
            word = value << upper_shift
            value = value * MULTIPLIER % MODULUS
            word ^= value << middle_shift
            value = value * MULTIPLIER % MODULUS
            words.append((word ^ value) & MASK_64)
    return words


def _power_of_x(exponent: int) -> Words:
    """(607,) coefficients of x^exponent modulo x^607 − x^334 − 1, modulo 2^64."""
    result = np.zeros(LAG, dtype=np.uint64)
    result[0] = 1
    for bit in bin(exponent)[2:]:
        result = _reduce(np.convolve(result, result))
        if bit == "1":
            result = _reduce(np.concatenate([np.zeros(1, dtype=np.uint64), result]))
    return result


def _reduce(polynomial: Words) -> Words:
    """The remainder of division by x^607 − x^334 − 1: x^607 counts as x^334 + 1."""
    rest = polynomial.copy()
    with np.errstate(over="ignore"):
        for power in range(len(rest) - 1, LAG - 1, -1):
            rest[power - LAG] += rest[power]
            rest[power - TAP] += rest[power]
    return rest[:LAG]
