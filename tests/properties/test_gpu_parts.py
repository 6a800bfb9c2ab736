"""What holds of MIG instances and of the memory of shared GPUs in every replay, from what each attempt held."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.mig import GEOMETRIES, KINDS, milli_of
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.types import IntArray
from shunter.traces.cluster_spec import ClusterSpec
from tests.examples import examples
from tests.properties.gpu_strategies import Case, cases, clusters, traces
from tests.properties.test_gpu_clusters import (
    Planned,
    Watched,
    at_moments,
    check_resuming,
    holdings,
    lifecycle_tables,
    node_groups,
    simulation_of,
)

MANY = settings(max_examples=examples(20), deadline=None)
SOME = settings(max_examples=examples(10), deadline=None)
IDLE = 1000


@MANY
@given(cases(conservative=True, parts=True))
def test_instances_lie_where_they_may_and_never_overlap(case: Case) -> None:
    nodes, cluster = node_groups(case.cluster), case.cluster
    profiles = case.trace.jobs.frame["gpu_profile"].to_list()
    for now in at_moments(holdings(case.run())):
        taken: dict[tuple[int, int], list[int]] = defaultdict(list)
        shares: dict[tuple[int, int], float] = defaultdict(float)
        for row in now:
            profile, geometry = profiles[row["job"]], cluster.geometry_of(nodes[row["node"]])
            if profile is None:
                assert row.get("slice") is None
                assert geometry is None or row["gpus"] == 0
                continue
            assert geometry is not None
            kind = KINDS[GEOMETRIES[geometry].profiles[profile]]
            assert (row["slice"] in kind.starts, row["slices"]) == (True, kind.size)
            assert row["gpus"] == milli_of(profile, geometry) / IDLE
            taken[row["node"], row["gpu"]] += range(row["slice"], row["slice"] + kind.size)
            shares[row["node"], row["gpu"]] += row["gpus"]
        assert all(len(slices) == len(set(slices)) for slices in taken.values())
        assert all(share <= 1 + 1e-9 for share in shares.values())


@MANY
@given(cases(conservative=True, parts=True))
def test_the_memory_of_a_gpu_is_never_over(case: Case) -> None:
    nodes = node_groups(case.cluster)
    asked, gpus = (case.trace.jobs.floats(name, 0.0) for name in ("gpu_memory_gib", "gpus"))
    for now in at_moments(holdings(case.run())):
        used: dict[tuple[int, int], float] = defaultdict(float)
        for row in now:
            kind = case.cluster.gpu_types.get(nodes[row["node"]].gpu_type or "")
            if kind is None or kind.memory_gib is None or row.get("slice") is not None or row["gpus"] == 0:
                continue
            if gpus[row["job"]] >= 1:
                assert asked[row["job"]] <= kind.memory_gib
            elif row["gpu"] >= 0:
                tasks = round(row["gpus"] / gpus[row["job"]])
                used[row["node"], row["gpu"]] += tasks * asked[row["job"]]
                assert used[row["node"], row["gpu"]] <= kind.memory_gib + 1e-9


@MANY
@given(cases(fail=False, conservative=True, parts=True))
def test_when_all_has_ended_everything_is_free_again(case: Case) -> None:
    simulation = simulation_of(case)
    before = {name: array.copy() for name, array in simulation.state.arrays().items()}
    assert simulation.run()
    gpus = int(simulation.state.counters[at.GPUS])
    first = at.NUM_NODE_ROWS + int(simulation.state.counters[at.PARTS])
    for rows in (slice(at.NUM_NODE_ROWS, at.NUM_NODE_ROWS + gpus), slice(first, first + gpus)):
        np.testing.assert_array_equal(simulation.state.node_i[rows], before["node_i"][rows])
    np.testing.assert_array_equal(simulation.state.node_free, before["node_free"])


@MANY
@given(cases(conservative=True, parts=True))
def test_the_engine_does_what_the_plan_proposes(case: Case) -> None:
    rules = case.how.get("preemption", Preemption())
    case = replace(case, how=case.how | {"preemption": replace(rules, grace_s=0.0)})
    planned, plain = simulation_of(case, Planned), simulation_of(case)
    assert planned.run()
    assert plain.run()
    for mine, other in zip(lifecycle_tables(planned), lifecycle_tables(plain), strict=True):
        by = [name for name in ("job", "attempt", "node", "gpu", "slice") if name in mine.columns]
        assert mine.sort(by).equals(other.sort(by))


@SOME
@given(cases(parts=True), st.data())
def test_a_resumed_replay_ends_in_the_same_tables(case: Case, data: st.DataObject) -> None:
    check_resuming(case, data)


# --- promises --------------------------------------------------------------------------------------------------------


@dataclass
class Room:
    """What is free, counted anew from a snapshot: amounts by node, and thousandths, MiB and slices by GPU."""

    snapshot: Snapshot
    units: IntArray
    milli: dict[tuple[int, int], int]
    memory: dict[tuple[int, int], float]
    slices: dict[tuple[int, int], set[int]]

    @classmethod
    def of(cls, snapshot: Snapshot, cluster: ClusterSpec) -> Room:
        milli, memory, slices = {}, {}, {}
        for n, group in enumerate(node_groups(cluster)):
            kind, cut = cluster.gpu_types.get(group.gpu_type or ""), cluster.geometry_of(group)
            for g in range(int(group.gpus or 0)):
                milli[n, g] = IDLE
                memory[n, g] = math.inf if kind is None or kind.memory_gib is None else kind.memory_gib * 1024
                slices[n, g] = set(range(GEOMETRIES[cut].slices)) if cut is not None else set()
        room = cls(snapshot, snapshot.capacity.units.copy(), milli, memory, slices)
        for job in range(snapshot.num_running):
            room.change(job, -1)
        return room

    def facts(self, job: int, node: int) -> tuple[Any, int, int, int]:
        """Units of a task, its GPU memory, its kind of instance there (−1), and whether it may run there."""
        demand, capacity = self.snapshot.demand, self.snapshot.capacity
        shape, c = demand.shape_idx[job], capacity.classes[node]
        memory = 0 if demand.gpu_memory is None else demand.gpu_memory[shape]
        kind = -1 if demand.instances is None else demand.instances[shape, c]
        return demand.shapes[shape], int(memory), int(kind), demand.class_ok is None or bool(demand.class_ok[shape, c])

    def change(self, job: int, sign: int) -> None:
        snapshot = self.snapshot
        for entry in np.flatnonzero(snapshot.alloc_job == job):
            node, tasks = int(snapshot.alloc_node[entry]), int(snapshot.alloc_tasks[entry])
            mask, first = int(snapshot.alloc_gpus[entry]), int(snapshot.alloc_slice[entry])
            units, memory, kind, _ = self.facts(job, node)
            self.units[:, node] += sign * tasks * units
            for gpu in [(node, g) for g in range(mask.bit_length()) if mask >> g & 1]:
                whole = units[2] >= IDLE and kind < 0
                self.milli[gpu] += sign * (IDLE if whole else tasks * int(units[2]))
                self.memory[gpu] += 0 if whole or kind >= 0 else sign * tasks * memory
                if kind >= 0:
                    of_it = set(range(first, first + KINDS[kind].size))
                    self.slices[gpu] = self.slices[gpu] | of_it if sign > 0 else self.slices[gpu] - of_it

    def fits(self, job: int) -> bool:
        return sum(self.slots(job, n) for n in range(self.units.shape[1])) >= self.snapshot.demand.tasks[job]

    def slots(self, job: int, node: int) -> int:
        units, memory, kind, may = self.facts(job, node)
        tracked = [r for r in range(3) if self.snapshot.capacity.tracked[r] and units[r] > 0]
        if not may:
            return 0
        most = min((int(self.units[r, node]) // int(units[r]) for r in tracked), default=99)
        here = [gpu for gpu in self.milli if gpu[0] == node]
        if kind >= 0:
            bits = [set(range(s, s + KINDS[kind].size)) for s in KINDS[kind].starts]
            return min(most, sum(needed <= self.slices[gpu] for gpu in here for needed in bits))
        if 0 < units[2] < IDLE:
            by_memory = [self.memory[gpu] // memory if memory else math.inf for gpu in here]
            shares = (min(self.milli[gpu] // int(units[2]), by_memory[i]) for i, gpu in enumerate(here))
            return min(most, int(sum(shares)))
        if units[2] > 0:
            return min(most, sum(self.milli[gpu] == IDLE for gpu in here) // (int(units[2]) // IDLE))
        return most


@st.composite
def promised(draw: st.DrawFn) -> Case:
    """Instances, shares with memory and whole GPUs, EASY, nothing that overruns: the shadow time can be kept."""
    cluster = replace(draw(clusters(parts=True)), quotas={}, power_cap_w=None)
    cluster = replace(cluster, groups=tuple(replace(group, owner=None) for group in cluster.groups))
    trace = draw(traces(cluster, overruns=False, parts=True))
    how = {
        "backfill": draw(st.sampled_from(["easy", "easy-noextra", "easy-sjbf"])),
        "placement": draw(st.sampled_from(["first-fit", "best-fit", "worst-fit", "packed", "topology", "fgd"])),
    }
    return Case(cluster, trace, how)


@settings(max_examples=60, deadline=None)
@given(promised())
def test_easy_never_delays_the_head_whatever_it_asks_of_a_gpu(case: Case) -> None:
    """The first expected end by which the head fits, counted from what each job holds, bounds its start."""
    simulation = simulation_of(case, Watched)
    assert isinstance(simulation, Watched)
    assert simulation.run()
    assert simulation.lifecycle is not None
    start_s = simulation.lifecycle.first_start_s
    for snapshot in simulation.snapshots:
        if not snapshot.num_waiting:
            continue
        head, room = snapshot.num_running, Room.of(snapshot, case.cluster)
        assert not room.fits(head)
        for end_s in sorted(set(snapshot.expected_end_s.tolist())):
            for job in np.flatnonzero(snapshot.expected_end_s == end_s).tolist():
                room.change(job, 1)
            if room.fits(head):
                assert start_s[snapshot.rows[head]] <= max(end_s, snapshot.now_s) + 1e-9
                break
