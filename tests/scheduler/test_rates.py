"""Speeds by GPU type and model class; run times and reservations worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup
from tests.scheduler.cases import table

TYPES = {
    "slow": GpuType(speed={"default": 0.5, "llm": 0.25}),
    "fast": GpuType(speed={"default": 2.0, "llm": 4.0}),
    "plain": GpuType(),
}
MIXED = ClusterSpec(
    "mixed",
    tuple(NodeGroup(kind, 1, cpus=8.0, gpus=1.0, gpu_type=kind) for kind in TYPES),
    gpu_types=TYPES,
)


def replay(text: str, cluster: ClusterSpec = MIXED, **options: Any) -> Result:
    return simulate(table(text, cluster), details=True, **options)


def test_a_job_runs_as_long_as_its_gpu_type_makes_it() -> None:
    """20 s of work at 0.5, 2 and 1; an llm at 0.25, 4 and 1."""
    text = """
        job submit runs gpus cpus gpu_type model_class
        a   0      20   1    1    slow     -
        b   0      20   1    1    fast     -
        c   0      20   1    1    plain    -
        d   100    20   1    1    slow     llm
        e   100    20   1    1    fast     llm
        f   100    20   1    1    plain    llm
        g   200    20   1    1    slow     vision
    """
    result = replay(text)
    assert (result.jobs["end_s"] - result.jobs["start_s"]).to_list() == [40, 10, 20, 80, 5, 20, 40]
    assert result.tables["attempts"].sort("job")["rate"].to_list() == [0.5, 2, 1, 0.25, 4, 1, 0.5]
    assert result.tables["attempts"]["work_s"].to_list() == [20] * 7


def test_a_gang_is_as_fast_as_its_slowest_node() -> None:
    text = """
        job submit runs tasks gpus cpus gpu_type
        a   0      20   2     1    1    fast|plain
        b   50     20   3     1    1    -
    """
    assert replay(text).jobs["end_s"].to_list() == [20, 90]


def test_nodes_without_a_gpu_type_have_the_reference_speed() -> None:
    groups = (*MIXED.groups[:1], NodeGroup("cpu", 1, cpus=8.0))
    text = """
        job submit runs gpus cpus
        a   0      20   0    8
        b   0      20   0    8
    """
    result = replay(text, ClusterSpec("some", groups, gpu_types={"slow": TYPES["slow"]}))
    assert result.jobs["end_s"].to_list() == [40, 20]


PAIR = ClusterSpec(
    "pair",
    (
        NodeGroup("fast", 1, cpus=8.0, gpus=1.0, gpu_type="fast"),
        NodeGroup("slow", 1, cpus=8.0, gpus=1.0, gpu_type="slow"),
    ),
    gpu_types={name: TYPES[name] for name in ("fast", "slow")},
)


@pytest.mark.parametrize("backfill", ["easy", "conservative"])
def test_backfilling_counts_with_the_slowest_gpu_that_a_job_may_get(backfill: str) -> None:
    """a (40 s of work) runs on the fast GPU until 20 s; the head b needs both. c and d could have the slow one.

    c's 11 s of work would take 22 s there, too long; d's 10 s end at 20 s sharp.
    """
    text = """
        job submit runs tasks gpus cpus gpu_type
        a   0      40   1     1    1    fast
        b   0      10   2     1    1    -
        c   0      11   1     1    1    slow
        d   0      10   1     1    1    slow
    """
    result = replay(text, PAIR, backfill=backfill)
    assert result.jobs["start_s"].to_list() == [0, 20, 40, 0]
    assert result.jobs["end_s"].to_list() == [20, 40, 62, 20]


def test_conservative_gives_back_what_a_fast_start_leaves_of_a_reservation() -> None:
    """a may run on either GPU and is reserved for 40 s; it gets the fast one, so b is promised that GPU for 10 s."""
    text = """
        job submit runs tasks gpus cpus gpu_type
        a   0      20   1     1    1    -
        b   0      60   2     1    1    -
    """
    result = replay(text, PAIR, backfill="conservative")
    assert result.jobs["start_s"].to_list() == [0, 10]


def test_shortest_remaining_time_counts_work_not_speed() -> None:
    """At 10 s the fast GPU is free: b has 30 s of work, c 20 s."""
    text = """
        job submit runs gpus cpus gpu_type
        a   0      20   1    1    fast
        b   1      30   1    1    fast
        c   2      20   1    1    fast
    """
    assert replay(text, policy="srtf").jobs["start_s"].to_list() == [0, 20, 10]


def test_attained_service_is_time_on_gpus() -> None:
    """LAS at 20 s: nobody waits who has run; the speeds change how long, not in which order."""
    text = """
        job submit runs gpus cpus gpu_type
        a   0      40   1    1    fast
        b   5      10   1    1    slow
        c   6      10   1    1    fast
    """
    result = replay(text, policy="las")
    assert result.jobs["start_s"].to_list() == [0, 5, 20]
    assert result.jobs["end_s"].to_list() == [20, 25, 25]
