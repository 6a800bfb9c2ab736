"""From the times at which heartbeats come to the time at which silence becomes suspicion.

The phi detector learns how regular a node's heartbeats are: with the normal distribution of the intervals between the
last of them, phi is −log10 of the chance that the next one is still to come after so long a silence. Its threshold is
crossed after ``mean + z · deviation`` seconds, z from the threshold alone, so nothing has to be computed while it is
silent. Suspicion is all that follows; a node is given up only when its lease has run out.

Source: Hayashibara, Défago, Yared, Katayama, The φ accrual failure detector, SRDS 2004.
"""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from statistics import NormalDist

from shunter.daemon.health_rules import LeaseRules


class Arrivals:
    """Times between the last heartbeats of one node. Not stored: a daemon that starts learns them anew."""

    __slots__ = ("_intervals", "_sum", "_sum_of_squares")

    def __init__(self) -> None:
        self._intervals: deque[float] = deque()
        self._sum = self._sum_of_squares = 0.0

    def add(self, interval_s: float, window: int) -> None:
        """A heartbeat has come so long after the last."""
        self._intervals.append(interval_s)
        self._sum += interval_s
        self._sum_of_squares += interval_s * interval_s
        while len(self._intervals) > window:
            gone = self._intervals.popleft()
            self._sum -= gone
            self._sum_of_squares -= gone * gone

    def _mean_and_deviation(self, rules: LeaseRules) -> tuple[float, float]:
        count = len(self._intervals) + 1
        mean = (self._sum + rules.heartbeat_s) / count
        square = (self._sum_of_squares + rules.heartbeat_s**2) / count
        return mean, max(math.sqrt(max(square - mean * mean, 0.0)), rules.failover.phi_min_deviation_s)

    def suspect_after_s(self, rules: LeaseRules) -> float:
        """Silence after which the node is suspect.

        What agents were told (``heartbeat_s``) counts as one heartbeat more, so that the first ones have something to
        be compared with; suspicion never comes before one and a half heartbeats.
        """
        mean, deviation = self._mean_and_deviation(rules)
        return max(mean + _z(rules.failover.phi_threshold) * deviation, 1.5 * rules.heartbeat_s)

    def phi(self, silent_s: float, rules: LeaseRules) -> float:
        """Suspicion after a silence, by the same distribution, for people; inf: beyond what floats tell apart."""
        mean, deviation = self._mean_and_deviation(rules)
        chance = 0.5 * math.erfc((silent_s - mean) / deviation / math.sqrt(2.0))
        return math.inf if chance <= 0.0 else -math.log10(chance)


@lru_cache
def _z(threshold: float) -> float:
    """Standard deviations beyond the mean at which phi reaches a threshold."""
    return -NormalDist().inv_cdf(10.0**-threshold)
