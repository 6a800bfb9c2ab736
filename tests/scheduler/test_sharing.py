"""Who gets which GPU: shares of one GPU, whole GPUs, GPU types; worked out by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from shunter.scheduler.errors import UsageError
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup
from tests.scheduler.cases import starts, table


def replay(text: str, cluster: ClusterSpec, **options: Any) -> Result:
    return simulate(table(text, cluster), details=True, **options)


def places(result: Result) -> dict[str, list[tuple[int, int]]]:
    """Job → (node, GPU) pairs of its first attempt; a pair may come twice."""
    names = result.jobs["job_id"].to_list()
    found: dict[str, list[tuple[int, int]]] = {}
    for row in result.tables["placements"].filter(pl.col("attempt") == 1).to_dicts():
        found.setdefault(names[row["job"]], []).append((row["node"], row["gpu"]))
    return {name: sorted(pairs) for name, pairs in found.items()}


PAIR = ClusterSpec("pair", (NodeGroup("n", 1, cpus=16.0, gpus=2.0),))
NODES = ClusterSpec("two nodes", (NodeGroup("n", 2, cpus=16.0, gpus=2.0),))


def test_shares_fill_the_fullest_gpu_that_holds_them() -> None:
    """a takes half of GPU 0; b's 0.6 does not fit beside it; c's 0.5 does, d's 0.3 goes beside b; e waits for a."""
    text = """
        job submit runs gpus cpus
        a   0      10   0.5  1
        b   1      30   0.6  1
        c   2      30   0.5  1
        d   3      30   0.3  1
        e   4      5    0.4  1
    """
    result = replay(text, PAIR)
    assert places(result) == {"a": [(0, 0)], "b": [(0, 1)], "c": [(0, 0)], "d": [(0, 1)], "e": [(0, 0)]}
    assert result.jobs["start_s"].to_list() == [0, 1, 2, 3, 10]


def test_worst_fit_takes_the_emptiest_gpu() -> None:
    text = """
        job submit runs gpus cpus
        a   0      10   0.5  1
        b   1      10   0.2  1
        c   2      10   0.2  1
    """
    assert places(replay(text, PAIR, placement="worst-fit")) == {"a": [(0, 0)], "b": [(0, 1)], "c": [(0, 1)]}


def test_a_gang_of_small_shares_under_worst_fit_takes_gpus_in_turn() -> None:
    text = """
        job submit runs tasks gpus cpus
        a   0      10   8     0.2  1
    """
    result = replay(text, PAIR, placement="worst-fit")
    assert places(result) == {"a": [(0, 0)] * 4 + [(0, 1)] * 4}


def test_a_whole_gpu_is_one_that_nobody_shares() -> None:
    """a and x hold a part of each GPU, b goes beside a: at 2 s 0.6 GPUs are free; c waits for x, alone on GPU 1."""
    text = """
        job submit runs gpus cpus
        a   0      50   0.3  1
        x   0      5    0.8  1
        b   1      9    0.3  1
        c   2      10   1    1
    """
    found = replay(text, PAIR)
    assert places(found) == {"a": [(0, 0)], "x": [(0, 1)], "b": [(0, 0)], "c": [(0, 1)]}
    assert dict(zip(found.jobs["job_id"], found.jobs["start_s"], strict=True)) == {"a": 0, "x": 0, "b": 1, "c": 5}


def test_free_halves_of_two_gpus_are_no_whole_one() -> None:
    """a and b (0.6 each) sit on GPU 0 and 1; c's whole GPU has to wait for the first to end; 0.8 were free."""
    text = """
        job submit runs gpus cpus
        a   0      20   0.6  1
        b   0      10   0.6  1
        c   0      10   1    1
        d   0      10   0.4  1
    """
    assert starts(table(text, PAIR)) == {"a": 0, "b": 0, "c": 10, "d": 10}
    easy = replay(text, PAIR, backfill="easy")  # d on GPU 0 beside a: c gets GPU 1, untouched from 10 s on
    assert dict(zip(easy.jobs["job_id"], easy.jobs["start_s"], strict=True)) == {"a": 0, "b": 0, "c": 10, "d": 0}


def test_a_task_of_several_gpus_takes_the_lowest_free_ones_of_one_node() -> None:
    text = """
        job submit runs tasks gpus cpus
        a   0      10   1     1    1
        b   0      10   1     2    1
        c   0      10   1     1    1
        s   0      1    1     0.5  1
    """
    assert places(replay(text, NODES)) == {
        "a": [(0, 0)],
        "b": [(1, 0), (1, 1)],
        "c": [(0, 1)],
        "s": [(0, 0)],
    }


def test_cpus_bound_shares_as_well() -> None:
    """Ten shares of 0.1 fit on one GPU, but 4 CPUs let in four at a time."""
    cluster = ClusterSpec("cpus", (NodeGroup("n", 1, cpus=4.0, gpus=1.0),))
    text = """
        job submit runs tasks gpus cpus
        a   0      10   3     0.1  1
        b   0      10   2     0.1  1
    """
    assert starts(table(text, cluster)) == {"a": 0, "b": 10}


def test_a_share_that_is_no_divisor_leaves_a_rest() -> None:
    """Three shares of 0.3 fit on a GPU: seven tasks need three GPUs, so the job could never run on two."""
    text = """
        job submit runs tasks gpus cpus
        a   0      10   6     0.3  1
        b   0      10   7     0.3  1
    """
    result = replay(text, PAIR)
    assert result.jobs["state"].to_list() == ["completed", "rejected"]


# --- GPU types -------------------------------------------------------------------------------------------------------

MIXED = ClusterSpec(
    "mixed",
    (
        NodeGroup("v", 1, cpus=8.0, gpus=1.0, gpu_type="v100"),
        NodeGroup("a", 1, cpus=8.0, gpus=1.0, gpu_type="a100"),
        NodeGroup("h", 1, cpus=8.0, gpus=1.0, gpu_type="h100"),
    ),
    gpu_types={name: GpuType() for name in ("v100", "a100", "h100")},
)


def test_a_wish_for_a_gpu_type_is_kept_and_alternatives_are_open() -> None:
    """b may use a100 or h100: first-fit gives the a100; c, too, and gets the h100; d has to wait for the a100."""
    text = """
        job submit runs gpus cpus gpu_type
        a   0      10   1    1    v100
        b   0      20   1    1    h100|a100
        c   0      30   1    1    h100|a100
        d   0      5    1    1    a100
        e   0      5    1    1    -
    """
    result = replay(text, MIXED, backfill="easy")
    assert places(result) == {"a": [(0, -1)], "b": [(1, -1)], "c": [(2, -1)], "d": [(1, -1)], "e": [(0, -1)]}
    assert result.jobs["start_s"].to_list() == [0, 0, 0, 20, 10]


def test_a_gang_may_span_types_only_where_its_wish_does() -> None:
    text = """
        job submit runs tasks gpus cpus gpu_type
        a   0      10   2     1    1    v100
        b   0      10   2     1    1    v100|h100
        c   0      10   3     1    1    -
    """
    result = replay(text, MIXED)
    assert places(result) == {"b": [(0, -1), (2, -1)], "c": [(0, -1), (1, -1), (2, -1)]}
    assert result.jobs["start_s"].to_list() == [None, 0, 10]


def test_a_type_that_nobody_has_is_refused() -> None:
    text = """
        job submit runs gpus cpus gpu_type
        a   0      10   1    1    -
        b   0      10   1    1    b200|b300
    """
    with pytest.raises(UsageError, match=r"job 'b' \(row 1\) asks for GPU type 'b200\|b300', which no node"):
        replay(text, MIXED)
