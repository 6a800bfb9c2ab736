"""Strict priority classes without preemption: every ordering keeps them, and orders inside a class as ever."""

from __future__ import annotations

import pytest

from shunter.scheduler.decide import Settings, plan
from shunter.scheduler.errors import UsageError
from shunter.scheduler.policies.registry import ChosenOrdering, choose_ordering
from shunter.sim.engine import Options, Simulation
from shunter.sim.forward import Forward
from shunter.sim.replay import simulate
from shunter.sim.workload import prepare
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup, Quota
from shunter.traces.tables import pool
from tests.networks import by_network, linear
from tests.scheduler.cases import NOTHING, starts, table

JOBS = """
    job submit runs asks tasks priority
    x   0      10   10   2     0
    a   1      4    4    2     0
    b   2      20   20   2     1
    c   3      6    6    2     1
    d   4      2    2    2     2
"""
"""While x runs on both CPUs four jobs come: by class d, then b and c, then a."""


@pytest.mark.parametrize("backfill", ["none", "easy", "easy-sjbf"])
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("fcfs", {"x": 0, "d": 10, "b": 12, "c": 32, "a": 38}),
        ("sjf", {"x": 0, "d": 10, "c": 12, "b": 18, "a": 38}),
        ("multifactor", {"x": 0, "d": 10, "b": 12, "c": 32, "a": 38}),
        ("priority", {"x": 0, "d": 10, "b": 12, "c": 32, "a": 38}),
    ],
)
def test_classes_come_first(policy: str, expected: dict[str, float], backfill: str) -> None:
    assert starts(table(JOBS, pool(2)), policy=policy, backfill=backfill, strict_classes=True) == expected


def test_a_promise_is_kept_whatever_comes() -> None:
    """Conservative: a came alone and was promised 10; of b and d, which come later at once, d is promised first."""
    jobs = table(JOBS.replace("b   2", "b   4").replace("c   3", "c   4"), pool(2))
    found = starts(jobs, policy="fcfs", backfill="conservative", strict_classes=True)
    assert found == {"x": 0, "a": 10, "d": 14, "b": 16, "c": 36}


def test_a_model_keeps_classes() -> None:
    """By the network the longest request comes first, inside a class only."""
    found = starts(table(JOBS, pool(2)), policy=longest_first(), strict_classes=True)
    assert found == {"x": 0, "d": 10, "b": 12, "c": 32, "a": 38}
    assert starts(table(JOBS, pool(2)), policy=longest_first())["b"] == 10


def longest_first() -> ChosenOrdering:
    return by_network(linear(log_request=-1.0))


@pytest.mark.parametrize("ordering", [choose_ordering("sjf"), choose_ordering("wfp3"), longest_first()])
def test_rolls_and_plans_keep_classes(ordering: ChosenOrdering) -> None:
    trace = table(JOBS, pool(2))
    workload = prepare(trace, trace.cluster)
    settings = Settings(ordering, "easy", strict_classes=True)
    simulation = Simulation(workload, Options(settings))
    simulation.state.absorb(4.0, NOTHING, 0, 0, 1)
    simulation.state.run_pass(4.0)
    simulation.state.absorb(4.0, NOTHING, 0, 1, 5)
    if simulation.learned is not None:
        simulation.learned.source.submitted(range(5))
        simulation.learned.source.started([0], 4.0)
    snapshot = simulation.snapshot(4.0)
    if simulation.learned is None:  # a model is not asked where nothing fits
        assert next(row for row, _ in plan(snapshot, settings).skipped) == 4
    forward = Forward(snapshot, settings)
    found = forward.starts(workload.run_s[snapshot.rows])
    by_row = dict(zip(snapshot.rows[1:].tolist(), found.tolist(), strict=True))
    assert by_row[4] == 14.0
    assert by_row[1] == max(by_row.values())


def test_policies_that_decide_by_themselves_refuse() -> None:
    trace = table(JOBS, pool(2))
    with pytest.raises(UsageError, match="--strict-classes"):
        simulate(trace, policy="portfolio", strict_classes=True)


def test_guarantees_and_weights_hold_inside_each_class() -> None:
    """At 10 s five GPUs are free; green has one guaranteed, and blue's jobs are of the higher class.

    b1 and b2 (class 1) come first though nobody of blue has a guarantee; then in class 0 g1, which is green's own, and
    by turns r1 (red has nothing) and g2 (green has borrowed nothing yet; it came after r1). Without classes g1 came
    first, and b2, the last to come, was left out.
    """
    text = """
        job submit runs gpus cpus tasks group priority
        x   0      10   1    1    5     -     0
        r1  1      10   1    1    1     red   0
        r2  2      10   1    1    1     red   0
        g1  3      10   1    1    1     green 0
        g2  4      10   1    1    1     green 0
        b1  5      10   1    1    1     blue  1
        b2  6      10   1    1    1     blue  1
    """
    quotas = {"red": Quota(0.0, weight=1.0), "green": Quota(1.0, weight=1.0), "blue": Quota(0.0, weight=1.0)}
    jobs = table(text, ClusterSpec("five", (NodeGroup("n", 5, cpus=8.0, gpus=1.0),), quotas=quotas))
    strict = starts(jobs, strict_classes=True)
    assert {name for name, start_s in strict.items() if start_s == 10} == {"b1", "b2", "g1", "r1", "g2"}
    plain = starts(jobs)
    assert {name for name, start_s in plain.items() if start_s == 10} == {"g1", "r1", "g2", "b1", "r2"}
