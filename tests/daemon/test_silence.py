"""From heartbeats to suspicion."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.silence import Arrivals

PHI = LeaseRules(failover=FailoverRules(detector="phi"))


def learned(intervals: list[float], window: int = 100) -> Arrivals:
    arrivals = Arrivals()
    for interval_s in intervals:
        arrivals.add(interval_s, window)
    return arrivals


def test_regular_heartbeats_are_missed_sooner() -> None:
    # Mean 3 s and the least deviation of 0.5 s: 3 + 5.612 · 0.5 = 5.806 s; a chance of 1e-8 lies 5.612 deviations out.
    assert learned([3.0] * 50).suspect_after_s(PHI) == pytest.approx(5.806, abs=1e-3)
    assert learned([]).suspect_after_s(PHI) == pytest.approx(5.806, abs=1e-3)
    # Every tenth comes twice as late: mean 3.3 s, deviation 0.9 s.
    late = learned(([3.0] * 9 + [6.0]) * 10)
    assert late.suspect_after_s(PHI) == pytest.approx(3.3 + 5.612 * 0.9, abs=0.05)


@pytest.mark.parametrize("threshold", [1.0, 3.0, 8.0, 12.0])
def test_the_time_of_suspicion_is_where_phi_reaches_its_threshold(threshold: float) -> None:
    rules = replace(PHI, failover=FailoverRules(detector="phi", phi_threshold=threshold))
    draw = random.Random(7)
    arrivals = learned([draw.gauss(3.0, 0.8) for _ in range(80)])
    after_s = arrivals.suspect_after_s(rules)
    if after_s > 1.5 * rules.heartbeat_s:
        assert arrivals.phi(after_s, rules) == pytest.approx(threshold, rel=1e-6)
    assert arrivals.phi(after_s + 1.0, rules) > threshold
    assert after_s >= 4.5


def test_the_window_forgets() -> None:
    assert learned([9.0] * 50 + [3.0] * 100).suspect_after_s(PHI) == pytest.approx(
        learned([3.0] * 100).suspect_after_s(PHI), abs=1e-6
    )
