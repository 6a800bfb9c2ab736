"""Whom a head stops: enough, nobody in vain, and somebody whenever it helps; by brute force over the running jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.state import ClusterState
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import Workload, prepare
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota
from shunter.traces.tables import Trace, make_jobs
from tests.scheduler.cases import NOTHING
from tests.scheduler.cases import settings as chosen

NOW_S = 10.0
TYPES = ("v100", "a100")
GROUPS = ("red", "green")


@st.composite
def running_clusters(draw: st.DrawFn) -> tuple[ClusterState, Workload, int]:
    """Jobs that share GPUs and nodes, some stopping, a closed node; the row of a job that waits, or −1."""
    nodes = tuple(
        NodeGroup(f"n{i}", draw(st.integers(1, 2)), cpus=4.0, gpus=float(draw(st.integers(1, 3))), gpu_type=TYPES[i])
        for i in range(draw(st.integers(1, 2)))
    )
    total = sum(group.count * int(group.gpus or 0) for group in nodes)
    own = draw(st.integers(0, total))
    quotas = {"red": Quota(float(own)), "green": Quota(float(draw(st.integers(0, total - own))))}
    cluster = ClusterSpec(
        "small",
        nodes,
        gpu_types={name: GpuType() for name in TYPES},
        quotas=draw(st.sampled_from([{}, quotas])),
    )
    here = [group.gpu_type for group in nodes]
    rows = [
        {
            "job_id": f"j{i}",
            "submit_s": 0.0,
            "duration_s": 100.0,
            "gpus": draw(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0, 2.0])),
            "cpus": float(draw(st.integers(1, 3))),
            "tasks": draw(st.sampled_from([1, 1, 1, 2])),
            "gpu_type": draw(st.sampled_from([None, None, *here])),
            "group": draw(st.sampled_from([None, *GROUPS])),
            "preemptible": draw(st.sampled_from([True, True, True, False])),
        }
        for i in range(draw(st.integers(4, 10)))
    ]
    trace = Trace("small", make_jobs({name: [row[name] for row in rows] for name in rows[0]}), cluster)
    workload = prepare(trace, cluster, tell_gpus_apart=True, can_close=True)
    placement = draw(st.sampled_from(["first-fit", "best-fit", "worst-fit", "random"]))
    state = Simulation(workload, Options(chosen("smallest", placement=placement))).state
    state.absorb(0.0, NOTHING, 0, 0, workload.num_jobs)
    state.run_pass(0.0)
    for row in state.running.copy():
        if draw(st.integers(0, 5)) == 0:
            state.tell_to_stop(int(row), 20.0)
    if draw(st.integers(0, 3)) == 0:
        state.set_open(draw(st.integers(0, cluster.num_nodes - 1)), is_open=False)
    waiting = state.queue.tolist()
    return state, workload, draw(st.sampled_from(waiting)) if waiting else -1


def fits(state: ClusterState, workload: Workload, head: int, stopped: Iterable[int]) -> bool:
    """Whether the head's tasks find room when these jobs, and all that are stopping, have stopped."""
    demand, capacity = workload.demand, workload.capacity
    assert capacity.gpus is not None
    allowed = np.ones((len(demand.shapes), 2)) if demand.class_ok is None else demand.class_ok
    free = capacity.units.copy()
    gpus = [[1000] * int(count) for count in capacity.gpus]
    gone = {*stopped, *(int(row) for row in state.running if state.jobs_i[at.STOPPING, row] == 1)}
    for row in set(state.running.tolist()) - gone:
        need = demand.shapes[demand.shape_idx[row]]
        for node, tasks, mask in state.entries_of(row):
            free[:, node] -= tasks * need
            for g in range(len(gpus[node])):
                if mask >> g & 1:
                    gpus[node][g] -= 1000 if need[2] >= 1000 else tasks * need[2]
    need = demand.shapes[demand.shape_idx[head]]
    room = 0
    for node in range(free.shape[1]):
        if not (state.node_i[at.OPEN, node] and allowed[demand.shape_idx[head], capacity.classes[node]]):
            continue
        here = [free[r, node] // need[r] for r in (0, 1) if need[r] and capacity.tracked[r]]
        if 0 < need[2] < 1000:
            here.append(sum(left // need[2] for left in gpus[node]))
        elif need[2]:
            here.append(gpus[node].count(1000) * 1000 // need[2])
        room += int(min(here))
    return bool(room >= demand.tasks[head])


def groups_left(state: ClusterState, stopped: Iterable[int]) -> dict[int, int]:
    """Units that each group holds when these jobs, and all that are stopping, have stopped."""
    left: dict[int, int] = {}
    for row in state.running.tolist():
        group = int(state.jobs_i[at.GROUP, row])
        is_gone = row in stopped or state.jobs_i[at.STOPPING, row] == 1
        left[group] = left.get(group, 0) + (0 if is_gone else int(state.jobs_i[at.SIZE, row]))
    return left


@settings(max_examples=60, deadline=None)
@given(running_clusters(), st.data())
def test_a_head_stops_somebody_when_that_helps_and_nobody_in_vain(case: Any, data: st.DataObject) -> None:
    """Enough are stopped, each of them is needed, and none is found only if to stop all would not help either."""
    state, workload, head = case
    if head < 0:
        return
    running = state.running.tolist()
    ranks = np.asarray([float(data.draw(st.sampled_from([1, 2, 3, 3, 1, -1]))) for _ in running])
    may = {
        row
        for row, rank in zip(running, ranks, strict=True)
        if rank > 0 and state.jobs_i[at.PREEMPTIBLE, row] and not state.jobs_i[at.STOPPING, row]
    }
    reclaim = workload.capacity.quotas is not None
    victims = state.victims_for(head, 0.0, ranks, NOW_S, min_run_s=0.0, reclaim=reclaim)
    assert len(set(victims)) == len(victims)
    assert set(victims) <= may
    own = int(state.jobs_i[at.GROUP, head])
    others = {int(state.jobs_i[at.GROUP, row]) for row in may} - {own, -1}
    guaranteed = state.groups[at.GUARANTEED]
    if victims:
        assert not fits(state, workload, head, [])
        assert fits(state, workload, head, victims)
        for row in victims:
            assert not fits(state, workload, head, set(victims) - {row})
        hit = {int(state.jobs_i[at.GROUP, row]) for row in victims} - {own, -1}
        left = groups_left(state, victims)
        assert not reclaim or all(left[group] >= guaranteed[group] for group in hit)
        return
    left = groups_left(state, may)
    may_all = not reclaim or all(left[group] >= guaranteed[group] for group in others)
    assert fits(state, workload, head, []) or not (may_all and fits(state, workload, head, may))
