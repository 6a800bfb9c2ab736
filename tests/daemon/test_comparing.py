"""Two orders beside each other; the arithmetic in the comments."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.daemon.comparing import compare, kendall_tau, served_slowdown
from shunter.scheduler.plans import Plan, Skips, Start
from tests.daemon.world import World


def orders(*rows: int) -> np.ndarray:
    return np.asarray(rows, dtype=np.int64)


def test_tau() -> None:
    assert kendall_tau(orders(1, 2, 3), orders(1, 2, 3)) == 1
    assert kendall_tau(orders(1, 2, 3), orders(3, 2, 1)) == -1
    assert kendall_tau(orders(1, 2, 3), orders(2, 1, 3)) == pytest.approx(1 / 3)  # 2 pairs agree, 1 does not
    assert kendall_tau(orders(1, 9, 2), orders(2, 1)) == -1  # 9 is not in both


def test_regret_and_starts() -> None:
    """8 CPUs; a: 100 s on 8, b: 10 s on 8. a, b: slowdowns 1 and (100 + 10)/10 = 11; b, a: 1 and (10 + 100)/100."""
    world = World()
    world.node("n1", cpus=8)
    a = world.submit(cpus=8, time_limit_s=100)
    b = world.submit(cpus=8, time_limit_s=10)
    snapshot = world.snapshots.take(world.state, world.clock.now_s()).snapshot
    assert served_slowdown(snapshot, orders(a, b)) == pytest.approx((1 + 11) / 2)
    assert served_slowdown(snapshot, orders(b, a)) == pytest.approx((1 + 1.1) / 2)
    whole = ((0, 1),)
    first = Plan(0, starts=(Start(a, whole),), skipped=Skips(orders(b), orders(0)))
    second = Plan(0, starts=(Start(b, whole),), skipped=Skips(orders(a), orders(0)), guard=("followed",))
    found = compare(snapshot, first, second)
    assert (found.equal_starts, found.tau, found.regret) == (0.0, -1.0, pytest.approx(6 - 1.05))
    assert compare(snapshot, first, first).guard == ()
