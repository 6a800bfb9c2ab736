"""Checking plans, carrying them out, and saving the state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shunter.scheduler.decide import Settings, check_plan, plan
from shunter.scheduler.errors import PlanRejectedError, UsageError
from shunter.scheduler.plans import Plan, Start
from shunter.scheduler.state import ClusterState
from shunter.scheduler.trial import state_of_snapshot
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup
from tests.scheduler.cases import NOTHING, settings, table, waiting_state

NODES = ClusterSpec("two nodes", (NodeGroup("n", 2, cpus=4.0, gpus=1.0),))

JOBS = """
    job submit runs tasks cpus gpus
    a   0      10   2     2    0
    b   0      10   1     1    1
    c   0      10   3     2    0
"""


def three_waiting() -> ClusterState:
    return waiting_state(table(JOBS, NODES), settings())


def running_a() -> ClusterState:
    """a runs on node 0 and fills its CPUs; b and c wait."""
    state = three_waiting()
    state.commit(Plan(state.version, (Start(0, ((0, 2),)),)), 0.0)
    return state


@pytest.mark.parametrize(
    ("starts", "problems"),
    [
        ((Start(1, ((1, 1),)),), []),
        ((Start(0, ((1, 2),)),), ["row 0 does not wait, or is started twice"]),
        ((Start(7, ((1, 2),)),), ["row 7 does not wait, or is started twice"]),
        ((Start(1, ((1, 1),)), Start(1, ((1, 1),))), ["row 1 does not wait, or is started twice"]),
        ((Start(2, ((1, 2),)),), ["row 2 is not started whole"]),
        ((Start(1, ()),), ["row 1 is not started whole"]),
        ((Start(1, ((0, 1),)),), ["row 1 does not fit on node 0"]),  # a holds its CPUs
        ((Start(2, ((1, 3),)),), ["row 2 does not fit on node 1"]),  # 6 of 4 CPUs
        ((Start(1, ((1, 2), (0, -1))),), ["row 1 does not fit on node 1", "row 1 does not fit on node 0"]),
    ],
)
def test_check_plan_finds(starts: tuple[Start, ...], problems: list[str]) -> None:
    snapshot = running_a().snapshot(0.0)
    assert check_plan(snapshot, Plan(snapshot.version, starts)) == problems


def test_check_plan_adds_up_what_a_plan_takes() -> None:
    """b needs 1 CPU of node 1; beside it c's two tasks would need 4 of the 3 that are left."""
    snapshot = three_waiting().snapshot(0.0)
    both = (Start(1, ((1, 1),)), Start(2, ((0, 1), (1, 2))))
    assert check_plan(snapshot, Plan(snapshot.version, both)) == ["row 2 does not fit on node 1"]
    assert check_plan(snapshot, Plan(snapshot.version, (both[0], Start(2, ((0, 2), (1, 1)))))) == []


def test_check_plan_refuses_another_version() -> None:
    snapshot = running_a().snapshot(0.0)
    assert check_plan(snapshot, Plan(snapshot.version + 1)) == ["based on version 2, not 1"]


def test_a_stale_plan_is_refused_and_changes_nothing() -> None:
    state = three_waiting()
    stale = plan(state.snapshot(0.0), settings())
    state.commit(stale, 0.0)
    before = {name: array.copy() for name, array in state.arrays().items()}
    with pytest.raises(PlanRejectedError, match="plan is based on version 0, the state is at 1"):
        state.commit(stale, 0.0)
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (Start(0, ((1, 2),)), "row 0 does not wait"),
        (Start(2, ((1, 2),)), "row 2 is not started whole"),
        (Start(2, ((0, 1), (1, 2))), "does not fit"),
        (Start(1, ((0, 1),)), "does not fit"),
    ],
)
def test_commit_refuses_what_does_not_fit(start: Start, reason: str) -> None:
    state = running_a()
    with pytest.raises(PlanRejectedError, match=reason):
        state.commit(Plan(state.version, (start,)), 0.0)


def test_commit_follows_the_placement() -> None:
    state = three_waiting()
    state.commit(Plan(state.version, (Start(2, ((0, 1), (1, 2))),)), 0.0)
    assert state.placement_of(2) == [(0, 1), (1, 2)]
    assert state.running.tolist() == [2]
    assert state.queue.tolist() == [0, 1]
    assert state.snapshot(0.0).free_units()[0].tolist() == [2000, 0]  # milli-CPUs


def test_plan_does_not_change_the_snapshot() -> None:
    snapshot = three_waiting().snapshot(0.0)
    first = plan(snapshot, settings(backfill="easy"))
    assert plan(snapshot, settings(backfill="easy")) == first
    with pytest.raises(ValueError, match="read-only"):
        snapshot.columns.submit_s[0] = 5.0


def test_snapshot_shows_no_job_to_come() -> None:
    trace = table(JOBS + "d 5 10 1 1 0", NODES)
    state = waiting_state(trace, settings())
    before = state.snapshot(0.0)
    assert len(before.rows) == 4
    later = waiting_state(table(JOBS, NODES), settings()).snapshot(0.0)
    assert len(later.rows) == later.num_waiting == 3


def test_releasing_gives_everything_back() -> None:
    state = running_a()
    finished = np.zeros(1, dtype=np.int64)
    state.absorb(10.0, finished, 1, 3, 3)
    snapshot = state.snapshot(10.0)
    np.testing.assert_array_equal(snapshot.free_units(), snapshot.capacity.units)
    assert snapshot.released
    assert snapshot.num_running == 0


@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
def test_saved_arrays_restore_the_state(backfill: str) -> None:
    chosen = settings(backfill=backfill)
    trace = table(JOBS, NODES)
    state = waiting_state(trace, chosen)
    state.run_pass(0.0)
    saved = {name: array.copy() for name, array in state.arrays().items()}
    other = waiting_state(trace, chosen)
    other.restore(saved)
    finished = np.zeros(1, dtype=np.int64)
    for one in (state, other):
        one.advance(10.0, finished, 1, 3, 3)
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array)
    assert other.placement_of(2) == state.placement_of(2)


def test_reorder_ends_ties_in_the_row() -> None:
    state = three_waiting()
    state.reorder(np.asarray([1.0, 0.0, 0.0]))
    assert state.queue.tolist() == [1, 2, 0]
    state.reorder(np.zeros(3))
    assert state.queue.tolist() == [0, 1, 2]


def test_an_empty_pass_decides_nothing() -> None:
    state = waiting_state(table(JOBS, NODES), settings())
    state.run_pass(0.0)
    before = state.queue.tolist()
    state.absorb(1.0, NOTHING, 0, 3, 3)
    state.run_pass(1.0)
    assert state.num_started == 0
    assert state.queue.tolist() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backfill": "eazy"}, "unknown backfilling 'eazy'; did you mean 'easy'?"),
        ({"placement": "firstfit"}, "unknown placement 'firstfit'; did you mean 'first-fit'?"),
        ({"depth": -1}, "backfill depth -1 is negative; 0 means no limit"),
    ],
)
def test_settings_that_do_not_exist(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        replace(Settings(), **change)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.parametrize("node", [-1, 2, 99])
def test_check_plan_finds_a_node_that_does_not_exist(node: int) -> None:
    cluster = ClusterSpec("two nodes", (NodeGroup("n", 2, cpus=4.0),))
    snapshot = waiting_state(table("job submit runs tasks\na 0 10 1", cluster), settings()).snapshot(0.0)
    assert check_plan(snapshot, Plan(snapshot.version, (Start(0, ((node, 1),)),))) != []


# --- single GPUs, GPU types and nodes that are closed ----------------------------------------------------------------

GPUS = ClusterSpec(
    "gpus",
    (
        NodeGroup("v", 2, cpus=8.0, gpus=2.0, gpu_type="v100"),
        NodeGroup("a", 1, cpus=8.0, gpus=2.0, gpu_type="a100"),
    ),
    gpu_types={"v100": GpuType(), "a100": GpuType()},
)

SHARES = """
    job submit runs tasks cpus gpus gpu_type
    a   0      10   1     1    0.6  v100
    b   0      10   2     1    0.5  -
    c   0      10   1     1    2    -
"""


def gpu_state() -> ClusterState:
    return waiting_state(table(SHARES, GPUS), settings())


def start_on(row: int, *entries: tuple[int, int, int]) -> Start:
    tasks_on: dict[int, int] = {}
    for node, tasks, _ in entries:
        tasks_on[node] = tasks_on.get(node, 0) + tasks
    return Start(row, tuple(sorted(tasks_on.items())), gpus=entries)


@pytest.mark.parametrize(
    ("starts", "problems"),
    [
        ((start_on(0, (0, 1, 1)), start_on(1, (1, 2, 1)), start_on(2, (2, 1, 3))), []),
        ((start_on(1, (1, 1, 1), (1, 1, 2)),), []),
        ((start_on(0, (2, 1, 1)),), ["row 0 may not run on node 2"]),  # an a100
        ((start_on(0, (0, 1, 1)), start_on(1, (0, 2, 1))), ["row 1 does not fit on its GPUs of node 0"]),
        ((start_on(0, (0, 1, 3)),), ["row 0 names other GPUs of node 0 than it needs"]),
        ((start_on(2, (0, 1, 1)),), ["row 2 names other GPUs of node 0 than it needs"]),
        ((start_on(2, (0, 1, 6)),), ["row 2 names other GPUs of node 0 than it needs"]),  # there is no third
        ((start_on(0, (0, 1, 2)), start_on(2, (0, 1, 3))), ["row 2 does not fit on node 0"]),
        ((Start(0, ((0, 1),), gpus=((1, 1, 1),)),), ["row 0 has its GPUs on other nodes than its tasks"]),
        ((Start(0, ((0, 1),)),), ["row 0 has its GPUs on other nodes than its tasks"]),
    ],
)
def test_check_plan_looks_at_single_gpus(starts: tuple[Start, ...], problems: list[str]) -> None:
    snapshot = gpu_state().snapshot(0.0)
    assert check_plan(snapshot, Plan(snapshot.version, starts)) == problems


def test_check_plan_knows_closed_nodes_and_lost_gpus() -> None:
    state = gpu_state()
    state.set_open(1, is_open=False)
    state.lose_gpus(0, 1)
    snapshot = state.snapshot(0.0)
    assert snapshot.closed.tolist() == [False, True, False]
    assert snapshot.lost_gpus.tolist() == [1, 0, 0]
    assert check_plan(snapshot, Plan(0, (start_on(0, (1, 1, 1)),))) == ["row 0 may not run on node 1"]
    assert check_plan(snapshot, Plan(0, (start_on(0, (0, 1, 1)),))) == ["row 0 does not fit on its GPUs of node 0"]
    assert check_plan(snapshot, Plan(0, (start_on(0, (0, 1, 2)),))) == []
    assert check_plan(snapshot, Plan(0, (start_on(2, (0, 1, 3)),))) == ["row 2 does not fit on node 0"]
    proposed = plan(snapshot, settings())
    assert [start.gpus for start in proposed.starts] == [((0, 1, 2),), ((2, 2, 1),)]


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (start_on(0, (2, 1, 1)), "row 0 may not run on node 2"),
        (start_on(1, (0, 2, 4)), "row 1 names other GPUs of node 0 than it needs"),  # there is no third GPU
        (start_on(2, (0, 1, 1)), "row 2 names other GPUs of node 0 than it needs"),  # it needs two
        (Start(0, ((0, 1),)), "row 0 has its GPUs on other nodes than its tasks"),  # which one?
    ],
)
def test_commit_refuses_other_types_and_gpus(start: Start, reason: str) -> None:
    state = gpu_state()
    with pytest.raises(PlanRejectedError, match=reason):
        state.commit(Plan(state.version, (start,)), 0.0)


def test_commit_takes_the_gpus_of_the_plan() -> None:
    state = gpu_state()
    state.commit(Plan(state.version, (start_on(0, (0, 1, 2)), start_on(1, (2, 1, 1), (2, 1, 2)))), 0.0)
    assert state.entries_of(0) == [(0, 1, 2)]
    assert state.entries_of(1) == [(2, 1, 1), (2, 1, 2)]
    again = state_of_snapshot(state.snapshot(0.0), score=np.zeros(1), backfill="none", placement="first-fit", depth=0)
    np.testing.assert_array_equal(again.node_free, state.node_free)
    assert [again.entries_of(i) for i in range(2)] == [state.entries_of(int(row)) for row in state.running]
