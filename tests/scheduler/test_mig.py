"""MIG instances, and the memory of shared GPUs: what fits, where it goes, what is refused; worked out by hand."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import numpy as np
import polars as pl
import pytest

from shunter.scheduler import layout as at
from shunter.scheduler.decide import check_plan, plan
from shunter.scheduler.errors import PlanRejectedError, UsageError
from shunter.scheduler.mig import (
    BITS,
    GEOMETRIES,
    KINDS,
    OF_SEVEN,
    Kind,
    choice_table,
    geometry_of,
    kinds_beside,
    milli_of,
    offered,
    open_table,
)
from shunter.scheduler.plans import Plan, Start
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.state import ClusterState
from shunter.scheduler.trial import state_of_snapshot
from shunter.sim.failures import CAUSE_FAILURE, Spans, outages_of
from shunter.sim.replay import simulate
from shunter.sim.result import Result
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup
from tests.scheduler.cases import settings, starts, table, waiting_state

CHOICE = choice_table()


def bits(kind: Kind, start: int) -> set[int]:
    return set(range(start, start + kind.size))


# --- the tables ------------------------------------------------------------------------------------------------------


def largest_packing(kind: Kind, free: set[int]) -> int:
    """Most instances of a kind on free slices, by trying all sets of starts."""
    sets = chain.from_iterable(combinations(kind.starts, n) for n in range(len(kind.starts) + 1))
    fitting = [0]
    for chosen in sets:
        taken = [slot for start in chosen for slot in bits(kind, start)]
        if len(taken) == len(set(taken)) and set(taken) <= free:
            fitting.append(len(chosen))
    return max(fitting)


@pytest.mark.parametrize("row", range(len(KINDS)))
def test_what_fits_is_the_largest_packing_and_taking_one_leaves_one_less(row: int) -> None:
    fit, choice = open_table()[row], CHOICE[row]
    for number in range(1 << BITS):
        free = {slot for slot in range(BITS) if number >> slot & 1}
        assert fit[number] == largest_packing(KINDS[row], free)
        assert (choice[number] >= 0) == (fit[number] > 0)
        if fit[number]:
            start = int(choice[number]) % BITS
            assert start in KINDS[row].starts
            assert bits(KINDS[row], start) <= free
            left = sum(1 << slot for slot in free - bits(KINDS[row], start))
            assert fit[left] == fit[number] - 1


@pytest.mark.parametrize("row", range(len(KINDS)))
def test_no_other_start_would_close_fewer_places(row: int) -> None:
    for number in range(1 << BITS):
        free = {slot for slot in range(BITS) if number >> slot & 1}
        places = [(other, s) for other in kinds_beside(row) for s in other.starts if bits(other, s) <= free]
        closed = {
            start: sum(bool(bits(other, s) & bits(KINDS[row], start)) for other, s in places)
            for start in KINDS[row].starts
            if bits(KINDS[row], start) <= free
        }
        found = int(CHOICE[row, number])
        if closed:
            assert divmod(found, BITS) == min((count, start) for start, count in closed.items())


def test_instances_that_lie_apart_never_need_more_compute_slices_than_there_are() -> None:
    def most(kinds: tuple[Kind, ...], free: set[int], compute: int) -> int:
        places = [(kind, s) for kind in kinds for s in kind.starts if bits(kind, s) <= free and s == min(free)]
        rest = [compute] if not free else [most(kinds, free - {min(free)}, compute)]
        return max([*rest, *(most(kinds, free - bits(kind, s), compute + kind.compute) for kind, s in places)])

    for cut in GEOMETRIES.values():
        kinds = tuple(KINDS[row] for row in cut.profiles.values())
        assert most(kinds, set(range(cut.slices)), 0) == cut.compute


def test_the_slices_of_a_gpu_in_their_order_of_use() -> None:
    """On an empty A100: 1g at 6 closes 4 places (1g, 1g.10gb, 3g, 7g), at 0 it would close 6; 3g at 4 leaves 4g."""
    choices = CHOICE[: len(OF_SEVEN), 0xFF]
    assert [divmod(int(choice), BITS) for choice in choices] == [(4, 6), (4, 6), (6, 4), (8, 4), (11, 0), (18, 0)]


@pytest.mark.parametrize(
    ("gpu_type", "memory_gib", "expected"),
    [
        ("A100", 40.0, "a100-40gb"),
        ("A100", 80.0, "a100-80gb"),
        ("nvidia-a100-sxm4-80gb", None, "a100-80gb"),
        ("A100", None, None),  # 40 or 80?
        ("A30", None, "a30-24gb"),
        ("H200", None, "h200-141gb"),
        ("H100", 79.25, "h100-80gb"),
        ("H100", 94.0, "h100-94gb"),
        ("GH200", 96.0, "h100-96gb"),  # an H100 by its memory, no H200
        ("big", 80.0, "a100-80gb"),  # the A100 and the H100 with as much are cut alike
        ("V100", 32.0, None),
        ("A100", 32.0, None),
        (None, None, None),
    ],
)
def test_the_geometry_follows_from_type_and_memory(
    gpu_type: str | None, memory_gib: float | None, expected: str | None
) -> None:
    assert geometry_of(gpu_type, memory_gib) == expected


def test_a_name_means_the_same_part_of_a_gpu_wherever_it_is_offered() -> None:
    parts: dict[str, set[int]] = {}
    for geometry, cut in GEOMETRIES.items():
        for profile in cut.profiles:
            parts.setdefault(profile, set()).add(milli_of(profile, geometry))
    assert all(len(found) == 1 for found in parts.values())
    assert parts["1g.5gb"] == parts["1g.20gb"] == {142}
    assert parts["3g.71gb"] == {428}
    assert parts["2g.12gb"] == {500}
    assert parts["7g.80gb"] == parts["4g.24gb"] == {1000}
    assert offered(["a30-24gb", "a100-40gb"])[:3] == ["1g.5gb", "1g.6gb", "1g.10gb"]


# --- where instances go ----------------------------------------------------------------------------------------------

CUT = ClusterSpec("cut", (NodeGroup("c", 1, cpus=64.0, gpus=2.0, mig="a100-40gb"),))
BOTH = ClusterSpec(
    "both",
    (
        NodeGroup("c", 1, cpus=16.0, gpus=1.0, gpu_type="A100", mig=True),
        NodeGroup("w", 1, cpus=16.0, gpus=1.0, gpu_type="A100"),
    ),
    gpu_types={"A100": GpuType(memory_gib=40.0)},
)


def replay(text: str, cluster: ClusterSpec, **options: Any) -> Result:
    return simulate(table(text, cluster), details=True, **options)


def places(result: Result) -> dict[str, tuple[int, int, int | None]]:
    """Job → node, GPU and first slice."""
    names = result.jobs["job_id"].to_list()
    rows = result.tables["placements"].to_dicts()
    return {names[row["job"]]: (row["node"], row["gpu"], row.get("slice")) for row in rows}


SMALL = """
    job submit runs gpu_profile
    a   0      10   1g.5gb
    b   1      10   1g.5gb
    c   2      10   3g.20gb
"""


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        # b closes three places at 4 or 5 beside a, four on the empty GPU; c then has to take 0 to 3 of GPU 0, closing
        # 4 x 1g, 2 x 1g.10gb, 2 x 2g, 3g and 4g: ten; on the empty GPU it closes eight.
        ("best-fit", {"a": (0, 0, 6), "b": (0, 0, 4), "c": (0, 1, 4)}),
        ("first-fit", {"a": (0, 0, 6), "b": (0, 0, 4), "c": (0, 0, 0)}),
        ("worst-fit", {"a": (0, 0, 6), "b": (0, 1, 6), "c": (0, 0, 0)}),
        ("fgd", {"a": (0, 0, 6), "b": (0, 0, 4), "c": (0, 1, 4)}),
    ],
)
def test_the_placement_chooses_the_gpu_and_least_loss_the_start(
    placement: str, expected: dict[str, tuple[int, int, int]]
) -> None:
    assert places(replay(SMALL, CUT, placement=placement)) == expected


def test_a_gpu_takes_seven_small_instances_and_then_none() -> None:
    text = """
        job submit runs tasks gpu_profile
        a   0      10   14    1g.5gb
        b   1      10   1     1g.5gb
        c   2      10   1     1g.10gb
    """
    result = replay(text, CUT)
    assert result.jobs["start_s"].to_list() == [0.0, 10.0, 10.0]
    first = result.tables["placements"].filter(pl.col("job") == 0)
    assert sorted(zip(first["gpu"], first["slice"], strict=True)) == [(g, s) for g in range(2) for s in range(7)]
    assert first["gpus"].sum() == pytest.approx(14 * 0.142)
    assert result.jobs["gpus"].to_list() == pytest.approx([14 * 0.142, 0.142, 0.142])


def test_a_whole_instance_needs_a_gpu_that_nobody_uses() -> None:
    """a and b lie on one GPU, so that c has the other; d waits for both of them, and not for c alone."""
    text = """
        job submit runs gpu_profile
        a   0      30   1g.5gb
        b   0      20   1g.5gb
        c   0      50   7g.40gb
        d   5      10   7g.40gb
    """
    result = replay(text, CUT)
    assert result.jobs["start_s"].to_list() == [0.0, 0.0, 0.0, 30.0]
    assert places(result)["d"] == (0, 0, 0)


def test_instances_run_on_cut_gpus_only_and_other_jobs_on_whole_ones_only() -> None:
    text = """
        job submit runs gpus cpus gpu_profile
        a   0      10   1    1    1g.5gb
        b   0      10   0.5  1    -
        c   0      10   1    1    -
        d   0      10   0    14   -
        e   0      10   0    14   -
    """
    result = replay(text, BOTH)
    assert places(result)["a"] == (0, 0, 6)
    assert places(result)["b"] == (1, 0, None)
    assert starts(table(text, BOTH)) == {"a": 0, "b": 0, "c": 10, "d": 10, "e": 10}
    alone = starts(table(text, BOTH), backfill="easy")
    assert alone["d"] == 0  # jobs without GPUs run on cut nodes, too
    assert result.jobs["state"].to_list() == ["completed"] * 5


def test_names_mean_what_the_node_makes_of_them() -> None:
    """1g.10gb is the small instance of an 80 GB GPU, seven a GPU, and the double one of a 40 GB GPU, four a GPU."""
    mixed = ClusterSpec(
        "mixed", (NodeGroup("l", 1, gpus=1.0, mig="a100-40gb"), NodeGroup("h", 1, gpus=1.0, mig="h100-80gb"))
    )
    result = replay("job submit runs tasks gpus gpu_profile\n a 0 10 11 1 1g.10gb\n b 0 10 1 1 1g.10gb", mixed)
    assert result.jobs["start_s"].to_list() == [0.0, 10.0]
    first = result.tables["placements"].filter(pl.col("job") == 0)
    assert sorted(first.filter(pl.col("node") == 0)["slice"]) == [0, 2, 4, 6]
    assert first.filter(pl.col("node") == 0)["slices"].to_list() == [2] * 4
    assert first.filter(pl.col("node") == 1)["slices"].to_list() == [1] * 7


def test_the_reservation_of_an_instance_names_slices() -> None:
    """a leaves 0 to 3 of GPU 0 free until 10, b holds GPU 1 until 99. h needs a whole GPU: at 10. c may lie beside a
    only if it ends by then; d is too long."""
    text = """
        job submit runs gpu_profile
        a   0      10   3g.20gb
        b   0      99   7g.40gb
        h   1      10   7g.40gb
        d   2      20   1g.5gb
        c   2      8    1g.5gb
    """
    result = replay(text, CUT, backfill="easy")
    assert dict(zip(result.jobs["job_id"], result.jobs["start_s"], strict=True)) == {
        "a": 0, "b": 0, "h": 10, "d": 20, "c": 2,
    }  # fmt: skip


def test_a_share_that_is_backfilled_takes_a_gpu_that_the_head_does_not_wait_for() -> None:
    """h gets GPU 0 at 50 (GPU 1 is spare then). c fits on GPU 0, the fullest, and on GPU 1: it goes to GPU 1, where d
    has no room beside it and b; on GPU 0 it would have left GPU 1 to d, and h without either."""
    text = """
        job submit runs gpus
        a   0      50   0.7
        b   0      50   0.6
        h   1      10   1
        c   2      200  0.3
        d   3      200  0.3
    """
    pair = ClusterSpec("pair", (NodeGroup("n", 1, gpus=2.0),))
    result = replay(text, pair, backfill="easy")
    assert places(result)["c"][:2] == (0, 1)
    assert result.jobs["start_s"].to_list() == [0.0, 0.0, 50.0, 2.0, 50.0]


def test_no_more_jobs_are_stopped_for_an_instance_than_it_needs() -> None:
    """h can only begin at 0, where a and b lie: one of them is stopped, and none of the small ones beside it."""
    text = """
        job submit runs gpu_profile priority
        a   0      50   4g.20gb     0
        b   0      50   4g.20gb     0
        c   0      50   3g.20gb     1
        d   0      50   2g.10gb     1
        e   0      50   1g.5gb      1
        h   5      10   4g.20gb     2
    """
    result = replay(text, CUT, policy="priority", preemption=Preemption(("priority",)))
    assert dict(zip(result.jobs["job_id"], result.jobs["attempts"], strict=True))["h"] == 1
    assert result.jobs["start_s"].to_list()[-1] == 5.0
    assert result.tables["attempts"].filter(pl.col("ended") == "preempted").height == 1


def test_jobs_are_not_moved_between_instances() -> None:
    spans = Spans.of(np.array([0]), np.array([5.0]), np.array([9.0]), cause=CAUSE_FAILURE)
    text = "job submit runs gpu_profile\n a 0 50 4g.20gb"
    with pytest.raises(UsageError, match="move looks for whole GPUs"):
        replay(text, CUT, outages=outages_of(spans), failover="move")


# --- memory ----------------------------------------------------------------------------------------------------------

MEMORY = """
    job submit runs gpus gpu_memory_gib
    a   0      10   0.2  30
    b   0      10   0.2  20
    c   0      10   0.2  10
    d   0      10   0.2  -
"""
TWO = ClusterSpec("two", (NodeGroup("n", 1, gpus=2.0, gpu_type="A100"),), gpu_types={"A100": GpuType(memory_gib=40.0)})


@pytest.mark.parametrize(
    ("placement", "gpus"),
    [("first-fit", [0, 1, 0, 0]), ("fgd", [0, 1, 0, 0]), ("packing", [0, 1, 0, 0]), ("worst-fit", [0, 1, 0, 1])],
)
def test_shares_of_a_gpu_do_not_exceed_its_memory(placement: str, gpus: list[int]) -> None:
    """40 GiB each: b's 20 do not fit beside a's 30, c's 10 do; d says nothing and is not counted."""
    result = replay(MEMORY, TWO, placement=placement)
    assert [where[1] for where in places(result).values()] == gpus
    assert result.jobs["start_s"].to_list() == [0.0] * 4


def test_memory_is_not_counted_where_nobody_says_how_much_there_is() -> None:
    unknown = ClusterSpec("unknown", (NodeGroup("n", 1, gpus=2.0),))
    assert {where[1] for where in places(replay(MEMORY, unknown)).values()} == {0}


def test_a_gang_of_shares_is_spread_by_memory() -> None:
    result = replay("job submit runs tasks gpus gpu_memory_gib\n a 0 10 4 0.1 15\n b 0 10 1 0.1 15", TWO)
    assert result.tables["placements"].filter(pl.col("job") == 0)["gpu"].to_list() == [0, 1]
    assert result.jobs["start_s"].to_list() == [0.0, 10.0]


def test_whole_gpus_have_enough_memory_or_are_others() -> None:
    kinds = {"V100": GpuType(memory_gib=16.0), "A100": GpuType(memory_gib=40.0)}
    groups = (NodeGroup("v", 1, gpus=4.0, gpu_type="V100"), NodeGroup("a", 1, gpus=2.0, gpu_type="A100"))
    cluster = ClusterSpec("types", groups, gpu_types=kinds)
    text = """
        job submit runs gpus gpu_memory_gib
        a   0      10   2    16
        b   0      10   2    16.5
        c   0      10   1    41
        d   0      10   0.5  17
    """
    result = replay(text, cluster, backfill="easy")
    assert result.jobs["state"].to_list() == ["completed", "completed", "rejected", "completed"]
    assert {name: where[0] for name, where in places(result).items()} == {"a": 0, "b": 1, "d": 1}
    assert result.jobs["start_s"].to_list() == [0.0, 0.0, None, 10.0]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_profile_that_nobody_offers_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="asks for MIG instance") as refused:
        replay("job submit runs gpu_profile\n a 0 1 1g.5gb\n b 0 1 3g.40gb", CUT)
    told = "table: job 'b' (row 1) asks for MIG instance '3g.40gb', which no node of cluster 'cut' offers; it offers "
    assert str(refused.value).startswith(told + "1g.5gb, 1g.10gb, 2g.10gb, 3g.20gb, 4g.20gb, 7g.40gb; did you mean")
    plain = ClusterSpec("plain", (NodeGroup("n", 1, gpus=2.0),))
    with pytest.raises(UsageError, match="none of its groups has mig"):
        replay("job submit runs gpu_profile\n a 0 1 1g.5gb", plain)


def test_a_task_takes_one_instance() -> None:
    with pytest.raises(UsageError, match="and for 2 GPUs: a task takes one instance"):
        replay("job submit runs gpus gpu_profile\n a 0 1 2 1g.5gb", CUT)


def test_a_profile_of_another_type_than_the_one_wished_for_fits_nowhere() -> None:
    text = "job submit runs gpu_profile gpu_type\n a 0 1 1g.5gb H100\n b 0 1 1g.5gb -"
    cluster = ClusterSpec("c", (*CUT.groups, NodeGroup("h", 1, gpus=1.0, gpu_type="H100")))
    assert replay(text, cluster).jobs["state"].to_list() == ["rejected", "completed"]


def test_pools_and_rounds_do_not_go_with_instances() -> None:
    pool = ClusterSpec("pool", (NodeGroup("n", 1, gpus=100.0, mig="a100-40gb"),))
    with pytest.raises(UsageError, match="MIG instances need GPUs that can be told apart"):
        replay("job submit runs gpu_profile\n a 0 1 1g.5gb", pool)
    with pytest.raises(UsageError, match="does not go with MIG instances"):
        replay("job submit runs gpu_profile\n a 0 1 1g.5gb", CUT, policy="het-las")


def cut_state() -> ClusterState:
    return waiting_state(table("job submit runs gpu_profile\n a 0 10 3g.20gb\n b 0 10 1g.5gb", CUT), settings())


def start(row: int, gpu: int, first: int, *, tasks: int = 1) -> Start:
    return Start(row, ((0, tasks),), gpus=((0, tasks, 1 << gpu),), slices=(first,))


BAD = [
    ((start(0, 0, 2),), "a 3g does not begin at 2"),
    ((start(0, 0, 0), start(1, 0, 3)), "slice 3 is taken"),
    ((start(1, 0, 7),), "no 1g begins at 7"),
    ((start(1, 0, -1),), "where?"),
]


@pytest.mark.parametrize(("starts", "why"), BAD)
def test_overlapping_and_misplaced_instances_are_refused(starts: tuple[Start, ...], why: str) -> None:
    snapshot = cut_state().snapshot(0.0)
    assert check_plan(snapshot, Plan(snapshot.version, starts)), why
    state = cut_state()
    with pytest.raises(PlanRejectedError):
        state.commit(Plan(state.version, starts), 0.0)


def test_a_plan_names_slices_and_a_snapshot_keeps_them() -> None:
    state = cut_state()
    proposed = plan(state.snapshot(0.0), settings())
    assert [(s.gpus, s.slices) for s in proposed.starts] == [(((0, 1, 1),), (4,)), (((0, 1, 1),), (0,))]
    assert check_plan(state.snapshot(0.0), proposed) == []
    state.commit(proposed, 0.0)
    snapshot = state.snapshot(0.0)
    assert sorted(snapshot.alloc_slice.tolist()) == [0, 4]
    again = state_of_snapshot(snapshot, score=np.zeros(0), backfill="none", placement="first-fit", depth=0)
    np.testing.assert_array_equal(again.node_i[at.NUM_NODE_ROWS :], state.node_i[at.NUM_NODE_ROWS :])
    assert state.node_i[at.NUM_NODE_ROWS + 4, 0] == 0b1110  # slices 1 to 3


def test_memory_over_that_of_a_gpu_is_refused() -> None:
    shares = "job submit runs gpus gpu_memory_gib\n a 0 10 0.2 30\n b 0 10 0.2 20"
    both = (Start(0, ((0, 1),), gpus=((0, 1, 1),)), Start(1, ((0, 1),), gpus=((0, 1, 1),)))
    state = waiting_state(table(shares, TWO), settings())
    snapshot = state.snapshot(0.0)
    assert check_plan(snapshot, Plan(snapshot.version, both)) == ["row 1 does not fit on its GPUs of node 0"]
    with pytest.raises(PlanRejectedError, match="does not fit"):
        state.commit(Plan(state.version, both), 0.0)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_a_gpu_that_fails_takes_its_instances_with_it_and_comes_back_empty() -> None:
    from tests.properties.gpu_strategies import as_outages

    text = """
        job submit runs gpu_profile
        a   0      30   3g.20gb
        b   0      30   7g.40gb
        c   5      30   1g.5gb
    """
    result = replay(text, CUT, outages=as_outages([(0, 0, 10.0, 40.0)]))
    runs = result.tables["attempts"].sort("job", "attempt")
    assert runs["ended"].to_list() == ["lost", "completed", "completed", "lost", "completed"]
    assert runs["start_s"].to_list() == [0.0, 30.0, 0.0, 5.0, 30.0]
    last = result.tables["placements"].filter(pl.col("attempt") == 2)
    assert last["gpu"].to_list() == [1, 1]


def test_instances_do_not_slow_each_other() -> None:
    text = """
        job submit runs gpu_profile model_class
        a   0      100  3g.20gb     BERT
        b   0      100  4g.20gb     BERT
    """
    assert replay(text, CUT, interference=True).jobs["end_s"].to_list() == [100.0, 100.0]


def test_fragmentation_counts_what_no_instance_can_take() -> None:
    """One GPU, jobs of one profile: after a at 4, half of the GPU (572 of 1000) still takes a 3g; after b none does,
    and what is left is lost: 144 thousandths. The time average over 10 s, of which the last 5 are so: 0.072."""
    one = ClusterSpec("one", (NodeGroup("c", 1, gpus=1.0, mig="a100-40gb"),))
    text = """
        job submit runs gpu_profile
        a   0      10   3g.20gb
        b   5      5    3g.20gb
    """
    result = replay(text, one)
    assert result.metrics["fragmentation"] == pytest.approx(0.072)
    assert result.metrics["gpu_utilisation"] == pytest.approx(0.428 * 15 / 10)
