"""Decayed usage of users and the fair-share factor made of it.

A user's usage decays with a half-life while it grows by the processors that the user's jobs hold. Between two changes
of that number n the usage obeys dU/dt = n − λU, so it is known in closed form and nothing has to be sampled.
Source: Slurm, Classic Fairshare Algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray

HALF_LIFE_S = 7 * 86400.0
"""Slurm's default PriorityDecayHalfLife."""


def decayed_usage(
    usage_s: FloatArray, held: FloatArray, elapsed_s: FloatArray, half_life_s: float = HALF_LIFE_S
) -> FloatArray:
    """Usage after ``elapsed_s`` seconds in which each user held a constant number of processors.

    Args:
        usage_s: (U,) decayed processor-seconds at the beginning.
        held: (U,) processors held throughout.
        elapsed_s: (U,) seconds passed.
        half_life_s: Time in which usage that is not renewed halves.
    """
    rate = np.log(2.0) / half_life_s
    level = held / rate
    usage: FloatArray = level + (usage_s - level) * np.exp(-rate * elapsed_s)
    return usage


def fair_share_factor(usage_s: FloatArray, user_idx: IntArray) -> FloatArray:
    """(Q,) factors in (0, 1]: 2^(−usage share / equal share); 1 for an unused or unknown user (Slurm, classic)."""
    if len(usage_s) == 0:
        return np.ones(len(user_idx))
    total = usage_s.sum()
    factor = np.ones(len(usage_s)) if total <= 0 else 2.0 ** (-(usage_s / total) * len(usage_s))
    return np.where(user_idx < 0, 1.0, factor[np.maximum(user_idx, 0)])


@dataclass(slots=True)
class Ledger:
    """Usage of every user, brought up to date when a job starts or ends.

    Attributes:
        usage_s: (U,) usage at ``since_s``.
        held: (U,) processors held since then.
        since_s: (U,) time of the last change.
    """

    usage_s: FloatArray
    held: FloatArray
    since_s: FloatArray
    half_life_s: float = field(default=HALF_LIFE_S)

    @classmethod
    def empty(cls, num_users: int) -> Ledger:
        """Nobody has used anything."""
        return cls(np.zeros(num_users), np.zeros(num_users), np.zeros(num_users))

    def change(self, user: int, processors: float, now_s: float) -> None:
        """A user's jobs take (> 0) or give back (< 0) processors at ``now_s``; unknown users (−1) are not counted."""
        if user < 0:
            return
        one = slice(user, user + 1)
        elapsed_s = now_s - self.since_s[one]
        self.usage_s[one] = decayed_usage(self.usage_s[one], self.held[one], elapsed_s, self.half_life_s)
        self.held[user] += processors
        self.since_s[user] = now_s

    def usage_at(self, now_s: float) -> FloatArray:
        """(U,) decayed processor-seconds of every user at ``now_s``."""
        return decayed_usage(self.usage_s, self.held, now_s - self.since_s, self.half_life_s)
