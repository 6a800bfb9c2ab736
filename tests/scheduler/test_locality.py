"""Node, switch, rack: where gangs are put, what that costs, and waiting for better; worked out by hand."""

from __future__ import annotations

from typing import Any

import polars as pl

from shunter.scheduler.decide import Settings, plan
from shunter.scheduler.plans import Reason
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from tests.scheduler.cases import table, waiting_state

# Racks of four nodes, switches of two: nodes 0 1 | 2 3 || 4 5 | 6 7, two GPUs each.
RACKS = ClusterSpec("racks", (NodeGroup("n", 8, cpus=16.0, gpus=2.0, rack_size=4, switch_size=2),))


def replay(text: str, cluster: ClusterSpec = RACKS, **options: Any) -> Result:
    return simulate(table(text, cluster), details=True, **options)


def nodes(result: Result) -> dict[str, list[int]]:
    names = result.jobs["job_id"].to_list()
    first = result.tables["placements"].filter(pl.col("attempt") == 1)
    return {name: sorted(first.filter(pl.col("job") == i)["node"].to_list()) for i, name in enumerate(names)}


def test_topology_takes_a_node_then_a_switch_then_a_rack() -> None:
    """a fits on a node, b on a switch, c in a rack, d nowhere but across the racks."""
    text = """
        job submit runs tasks gpus cpus
        a   0      10   2     1    1
        b   20     10   4     1    1
        c   40     10   6     1    1
        d   60     10   12    1    1
    """
    found = nodes(replay(text, placement="topology"))
    assert found["a"] == [0]
    assert found["b"] == [0, 1]
    assert found["c"] == [0, 1, 2]
    assert len(found["d"]) == 6


def test_topology_takes_the_tightest_switch_that_holds_the_gang() -> None:
    """x leaves 3 GPUs under switch 0 and there are 4 under the others: three tasks go under switch 0."""
    text = """
        job submit runs tasks gpus cpus
        x   0      99   1     1    1
        z   1      10   3     1    1
        w   1      10   4     1    1
    """
    found = nodes(replay(text, placement="topology"))
    assert found == {"x": [0], "z": [0, 1], "w": [2, 3]}


def test_first_fit_does_not_look_at_switches() -> None:
    text = """
        job submit runs tasks gpus cpus
        x   0      99   1     2    1
        z   1      10   4     1    1
    """
    assert nodes(replay(text))["z"] == [1, 2]
    assert nodes(replay(text, placement="topology"))["z"] == [2, 3]


SPEEDS = ClusterSpec(
    "speeds",
    (NodeGroup("n", 8, cpus=16.0, gpus=2.0, rack_size=4, switch_size=2),),
    tier_speed={"default": {"node": 1.0, "switch": 0.8, "rack": 0.5, "zone": 0.25}},
)


def test_a_gang_runs_at_the_speed_of_the_tier_that_it_spans() -> None:
    """20 s of work: 20 s in one node, 25 s under a switch, 40 s in a rack, 80 s beyond."""
    text = """
        job submit runs asks tasks gpus cpus
        a   0      20   20   2     1    1
        b   100    20   20   4     1    1
        c   200    20   20   6     1    1
        d   300    20   20   12    1    1
    """
    result = replay(text, SPEEDS, placement="topology")
    assert (result.jobs["end_s"] - result.jobs["start_s"]).to_list() == [20, 25, 40, 80]
    assert result.tables["attempts"]["rate"].to_list() == [1, 0.8, 0.5, 0.25]


def test_a_tier_that_is_not_given_costs_what_the_one_before_it_costs() -> None:
    cluster = ClusterSpec("some", SPEEDS.groups, tier_speed={"default": {"switch": 0.5}})
    text = """
        job submit runs tasks gpus cpus
        a   0      20   12    1    1
    """
    result = replay(text, cluster)
    assert result.jobs["end_s"].to_list() == [40]


APART = ClusterSpec("apart", (NodeGroup("n", 2, cpus=16.0, gpus=2.0, rack_size=1),))


def test_a_gang_waits_for_one_node_up_to_the_bound() -> None:
    """From 1 s on two GPUs are free, one on each node. Alone it starts; with a bound it waits for x to end at 30 s."""
    text = """
        job submit runs tasks gpus cpus
        x   0      30   1     1    1
        y   0      60   1     1    1
        g   1      10   2     1    1
    """
    apart = {"placement": "worst-fit"}
    at_once = replay(text, APART, **apart)
    assert at_once.jobs["start_s"].to_list() == [0, 0, 1]
    assert nodes(at_once)["g"] == [0, 1]
    patient = replay(text, APART, locality_s=100.0, **apart)
    assert patient.jobs["start_s"].to_list() == [0, 0, 30]
    assert nodes(patient)["g"] == [0]
    assert patient.jobs["wait_gang_s"].to_list() == [0, 0, 29]
    bounded = replay(text, APART, locality_s=12.0, **apart)
    assert bounded.jobs["start_s"].to_list() == [0, 0, 13]  # a pass of its own, when its patience ends
    assert nodes(bounded)["g"] == [0, 1]


def test_patience_does_not_hold_up_others() -> None:
    text = """
        job submit runs tasks gpus cpus
        x   0      30   1     1    1
        y   0      60   1     1    1
        g   1      10   2     1    1
        h   2      5    1     1    1
    """
    result = replay(text, APART, locality_s=100.0, placement="worst-fit")
    assert result.jobs["start_s"].to_list() == [0, 0, 30, 2]


def test_a_gang_that_can_never_be_nearer_does_not_wait() -> None:
    text = """
        job submit runs tasks gpus cpus
        g   1      10   3     1    1
    """
    assert replay(text, APART, locality_s=100.0).jobs["start_s"].to_list() == [1]


def test_reasons_of_a_plan_name_locality() -> None:
    text = """
        job submit runs tasks gpus cpus
        x   0      30   1     1    1
        y   0      60   1     1    1
        g   0      10   2     1    1
    """
    settings = Settings(placement="worst-fit", locality_s=50.0)
    state = waiting_state(table(text, APART), settings)
    proposed = plan(state.snapshot(0.0), settings)
    assert [start.row for start in proposed.starts] == [0, 1]
    assert proposed.skipped == ((2, Reason.LOCALITY),)
    assert proposed.next_pass_s == 50
