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
    from shunter.scheduler.kernels.fairshare import fill_decayed

    usage = np.empty(len(usage_s))
    fill_decayed(usage_s, held, elapsed_s, half_life_s, usage)
    return usage


def fair_share_factor(usage_s: FloatArray, user_idx: IntArray) -> FloatArray:
    """(Q,) factors in (0, 1]: 2^(−usage share / equal share); 1 for an unused or unknown user (Slurm, classic)."""
    from shunter.scheduler.kernels.fairshare import fill_factors

    factors = np.empty(len(user_idx))
    fill_factors(usage_s, user_idx, factors)
    return factors


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

    def copy(self) -> Ledger:
        """One of its own with the same in it."""
        return Ledger(self.usage_s.copy(), self.held.copy(), self.since_s.copy(), self.half_life_s)

    def change(self, user: int, processors: float, now_s: float) -> None:
        """A user's jobs take (> 0) or give back (< 0) processors at ``now_s``; unknown users (−1) are not counted."""
        if user < 0:
            return
        from shunter.scheduler.kernels.fairshare import change_held

        change_held(self.usage_s, self.held, self.since_s, self.half_life_s, user, processors, now_s)

    def usage_at(self, now_s: float) -> FloatArray:
        """(U,) decayed processor-seconds of every user at ``now_s``."""
        return decayed_usage(self.usage_s, self.held, now_s - self.since_s, self.half_life_s)
