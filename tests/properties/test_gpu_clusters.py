"""What holds of every replay on a GPU cluster, checked by brute force over the intervals of the result tables."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.decide import check_plan, plan
from shunter.scheduler.failover import Flapping
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.snapshot import Snapshot
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.attempts import JobFailures
from shunter.sim.checkpoint import load_checkpoint, save_checkpoint
from shunter.sim.cluster_arrays import idle_draw_w
from shunter.sim.engine import Options, Simulation
from shunter.sim.failures import availability, draw_outages
from shunter.sim.faults import with_own_work
from shunter.sim.flapping import with_probation
from shunter.sim.outcome import make_result
from shunter.sim.replay import options_for, simulate
from shunter.sim.result import Result
from shunter.sim.workload import Workload, prepare
from shunter.traces.cluster_spec import TIERS, ClusterSpec, NodeGroup
from shunter.traces.tables import Trace, make_jobs
from tests.examples import examples
from tests.properties.gpu_strategies import Case, cases, clusters, failures, traces

MANY = settings(max_examples=examples(20), deadline=None)
SOME = settings(max_examples=examples(12), deadline=None)
TABLES = ("attempts", "placements", "outages")


def holdings(result: Result) -> list[dict[str, Any]]:
    """One row a job, attempt, node and GPU: from when to when, and how much."""
    both = result.tables["placements"].join(result.tables["attempts"], on=["job", "attempt"])
    return both.to_dicts()


def node_groups(cluster: ClusterSpec) -> list[NodeGroup]:
    return [group for group in cluster.groups for _ in range(group.count)]


def at_moments(held: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What is held at each moment at which something begins to be held."""
    moments = sorted({row["start_s"] for row in held})
    return [[row for row in held if row["start_s"] <= t < row["end_s"]] for t in moments]


# --- capacity --------------------------------------------------------------------------------------------------------


@MANY
@given(cases(conservative=True))
def test_no_gpu_and_no_node_ever_gives_more_than_it_has(case: Case) -> None:
    nodes = node_groups(case.cluster)
    for now in at_moments(holdings(case.run())):
        by_gpu: dict[tuple[int, int], float] = defaultdict(float)
        by_node: dict[tuple[str, int], float] = defaultdict(float)
        for row in now:
            if row["gpu"] >= 0:
                by_gpu[row["node"], row["gpu"]] += row["gpus"]
                assert row["gpu"] < nodes[row["node"]].gpus
            for resource in ("gpus", "cpus", "memory_gib"):
                by_node[resource, row["node"]] += row[resource]
        assert all(share <= 1.0 + 1e-9 for share in by_gpu.values())
        for (resource, node), amount in by_node.items():
            capacity = getattr(nodes[node], resource)
            assert capacity is None or amount <= capacity + 1e-9


@MANY
@given(cases(conservative=True))
def test_whole_gpus_are_shared_with_nobody_and_shares_of_one_task_lie_on_one_gpu(case: Case) -> None:
    result = case.run()
    asked = case.trace.jobs.floats("gpus")
    for row in holdings(result):
        if row["gpu"] >= 0 and asked[row["job"]] >= 1:
            assert row["gpus"] == pytest.approx(1.0)
        elif row["gpu"] >= 0:
            tasks = row["gpus"] / asked[row["job"]]
            assert tasks == pytest.approx(round(tasks))
            assert tasks >= 1 - 1e-9
    totals: dict[tuple[int, int], float] = defaultdict(float)
    for row in holdings(result):
        totals[row["job"], row["attempt"]] += row["gpus"]
    for (job, _), gpus in totals.items():
        assert gpus == pytest.approx(asked[job] * case.trace.jobs.ints("tasks")[job])


@MANY
@given(cases(conservative=True))
def test_nothing_runs_on_what_is_down_and_nothing_starts_on_what_drains(case: Case) -> None:
    result = case.run()
    if "outages" not in result.tables:
        return
    for out in result.tables["outages"].to_dicts():
        for row in holdings(result):
            if row["node"] != out["node"] or (out["gpu"] >= 0 and row["gpu"] != out["gpu"]):
                continue
            assert not out["from_s"] <= row["start_s"] < out["until_s"]
            if out["kind"] not in ("notice", "probation"):
                assert not max(row["start_s"], out["from_s"]) < min(row["end_s"], out["until_s"])


# --- who may run where, and how much ---------------------------------------------------------------------------------


@MANY
@given(cases())
def test_jobs_run_on_the_gpu_types_that_they_wish_and_on_the_nodes_of_their_owner(case: Case) -> None:
    nodes = node_groups(case.cluster)
    owners = {group.owner for group in case.cluster.groups}
    wish, group = (case.trace.jobs.frame[name].to_list() for name in ("gpu_type", "group"))
    for row in holdings(case.run()):
        node = nodes[row["node"]]
        assert wish[row["job"]] is None or node.gpu_type in wish[row["job"]].split("|")
        assert node.owner == (group[row["job"]] if group[row["job"]] in owners else None)


@MANY
@given(cases())
def test_no_group_is_over_its_limit_and_only_borrowers_are_over_their_guarantee(case: Case) -> None:
    group = case.trace.jobs.frame["group"].to_list()
    for now in at_moments(holdings(case.run())):
        used: dict[str | None, float] = defaultdict(float)
        for row in now:
            used[group[row["job"]]] += row["gpus"]
        for name, quota in case.cluster.quotas.items():
            if not case.cluster.borrowing:
                assert used[name] <= quota.guaranteed_gpus + 1e-9
            if quota.limit_gpus is not None:
                assert used[name] <= quota.limit_gpus + 1e-9


@MANY
@given(st.data())
def test_preemption_leaves_every_other_group_what_is_guaranteed_to_it(data: st.DataObject) -> None:
    """Whoever is stopped, its group holds its guarantee without it, or the job that starts there is of the group."""
    case = data.draw(cases(fail=False).filter(lambda case: case.cluster.quotas and "preemption" in case.how))
    case = replace(case, how=case.how | {"preemption": replace(case.how["preemption"], grace_s=0.0)})
    result = case.run()
    group = case.trace.jobs.frame["group"].to_list()
    held = holdings(result)
    for stop in result.tables["attempts"].filter(pl.col("ended") == "preempted").to_dicts():
        name, now_s = group[stop["job"]], stop["end_s"]
        if name not in case.cluster.quotas:
            continue
        after = sum(row["gpus"] for row in held if group[row["job"]] == name and row["start_s"] <= now_s < row["end_s"])
        ended = sum(
            row["gpus"]
            for row in held
            if group[row["job"]] == name and row["end_s"] == now_s and row["ended"] != "preempted"
        )
        began = [row for row in held if row["start_s"] == now_s and group[row["job"]] == name]
        assert began or after + ended >= case.cluster.quotas[name].guaranteed_gpus - 1e-9


@MANY
@given(cases())
def test_the_power_cap_is_never_passed(case: Case) -> None:
    cap_w = case.cluster.power_cap_w
    if cap_w is None:
        return
    nodes = node_groups(case.cluster)
    for now in at_moments(holdings(case.run())):
        draw_w = idle_draw_w(case.cluster)
        for row in now:
            node = nodes[row["node"]]
            draw_w += row["gpus"] * (100.0 if node.gpu_type else 0.0) + row["cpus"] * 20.0 / node.cpus
        assert draw_w <= cap_w + 1e-6


# --- work and time ---------------------------------------------------------------------------------------------------


@MANY
@given(cases(conservative=True))
def test_work_is_conserved(case: Case) -> None:
    """Done less lost is what the job had to do; an attempt is its overhead and its work at its speed."""
    result = case.run()
    attempts = result.tables["attempts"]
    done = attempts.group_by("job").agg(pl.col("work_s").sum(), pl.col("lost_s").sum())
    kept = dict(zip(done["job"], done["work_s"] - done["lost_s"], strict=True))
    for row, job in enumerate(result.jobs.to_dicts()):
        if job["state"] in ("completed", "killed"):
            assert kept[row] == pytest.approx(job["duration_s"], abs=1e-6)
    for row in attempts.to_dicts():
        assert 0 <= row["lost_s"] <= row["work_s"] + 1e-9
        assert row["overhead_s"] >= 0
        working_s = row["work_s"] / row["rate"] if row["rate"] is not None else 0.0
        assert row["end_s"] - row["start_s"] == pytest.approx(row["overhead_s"] + working_s, abs=1e-6)


@MANY
@given(cases(conservative=True))
def test_speeds_are_those_of_the_slowest_node_and_of_the_tier_that_the_gang_spans(case: Case) -> None:
    result = case.run()
    nodes, table = node_groups(case.cluster), case.cluster.node_table()
    on: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in result.tables["placements"].to_dicts():
        on[row["job"], row["attempt"]].append(row["node"])
    models = case.trace.jobs.frame["model_class"].to_list()
    for row in result.tables["attempts"].filter(pl.col("rate").is_not_null()).to_dicts():
        here, model = on[row["job"], row["attempt"]], models[row["job"]]
        kinds = [case.cluster.gpu_types.get(nodes[n].gpu_type or "") for n in here]
        slowest = min(1.0 if kind is None else kind.speed_of(model) for kind in kinds)
        spans = [range(len(nodes)), table.switch_idx, table.rack_idx, table.zone_idx, [0] * len(nodes)]
        tier = next(i for i, domain in enumerate(spans) if len({int(domain[n]) for n in here}) == 1)
        assert row["rate"] == pytest.approx(slowest * case.cluster.tier_speeds(model)[tier])
        assert len(TIERS) == len(spans)


@MANY
@given(cases(conservative=True))
def test_attempts_of_a_job_follow_one_another_and_make_up_its_times(case: Case) -> None:
    result = case.run()
    max_retries = case.how["max_retries"]
    for row, job in enumerate(result.jobs.to_dicts()):
        runs = result.tables["attempts"].filter(pl.col("job") == row).sort("attempt").to_dicts()
        assert job["attempts"] == len(runs)
        if job["state"] == "rejected":
            assert not runs
            continue
        assert [run["attempt"] for run in runs] == list(range(1, len(runs) + 1))
        assert job["submit_s"] <= job["start_s"] == runs[0]["start_s"]
        assert job["end_s"] == runs[-1]["end_s"]
        gaps_s = [later["start_s"] - run["end_s"] for run, later in pairwise(runs)]
        assert all(gap_s >= 0 for gap_s in gaps_s)
        assert job["requeued_s"] == pytest.approx(sum(gaps_s), abs=1e-6)
        assert all(run["ended"] in ("preempted", "lost", "failed") for run in runs[:-1])
        losses = sum(run["ended"] in ("lost", "failed") for run in runs)
        assert losses <= max_retries + 1
        assert (job["state"] == "failed") == (losses == max_retries + 1)
        assert job["lost_s"] >= sum(run["lost_s"] for run in runs) - 1e-9


@MANY
@given(cases(conservative=True))
def test_every_waiting_second_has_one_reason(case: Case) -> None:
    ran = case.run().jobs.filter(pl.col("state") != "rejected")
    reasons = [ran[f"wait_{name}_s"] for name in ("queue", "fragmentation", "quota", "gang", "failure")]
    assert all((reason >= -1e-9).all() for reason in reasons)
    total = np.sum([reason.to_numpy() for reason in reasons], axis=0)
    np.testing.assert_allclose(total, (ran["wait_s"] + ran["requeued_s"]).to_numpy(), atol=1e-6)


# --- runs that must be equal -----------------------------------------------------------------------------------------


def same_jobs(one: Result, other: Result) -> None:
    names = ["job_id", "start_s", "end_s", "state", "backfilled"]
    assert one.jobs.select(names).equals(other.jobs.select(names))


def same_tables(one: Result, other: Result) -> None:
    assert one.jobs.equals(other.jobs)
    assert one.tables.keys() == other.tables.keys()
    for name in one.tables:
        assert one.tables[name].equals(other.tables[name]), name


@SOME
@given(cases(fail=False, conservative=True))
def test_without_a_failure_the_run_equals_one_that_knows_of_none(case: Case) -> None:
    """With 10¹⁵ hours between failures there are none: the files of the tables are the same bytes."""
    never = {"mtbf_h": 1e15, "mttr_h": 1.0, "gpu_mtbf_h": 1e15, "gpu_mttr_h": 1.0}
    groups = tuple(replace(group, **never) for group in case.cluster.groups)  # type: ignore[arg-type]
    outages = draw_outages(replace(case.cluster, groups=groups), until_s=1e6, seed=1)
    nothing = JobFailures(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    failing = case.run(outages=with_probation(outages, Flapping(1)), faults=nothing, blast_radius=0.1)
    assert table_files(failing) == table_files(case.run())


def table_files(result: Result) -> dict[str, bytes]:
    """What a saved run has, but for the manifest, which says that failures were asked for, and the time it took."""
    others = ("manifest.json", "timing.json")
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name not in others}


@SOME
@given(cases(preempt=False, conservative=True))
def test_preemption_without_rules_equals_none(case: Case) -> None:
    same_tables(case.run(preemption=Preemption(())), case.run())


@SOME
@given(cases(conservative=True))
def test_details_change_no_schedule(case: Case) -> None:
    same_jobs(case.run(details=False), case.run())


@SOME
@given(cases(conservative=True))
def test_equal_inputs_give_equal_tables(case: Case) -> None:
    same_tables(case.run(), case.run())


def simulation_of(case: Case, kind: type[Simulation] = Simulation) -> Simulation:
    """The simulation that ``simulate`` would run."""
    how = dict(case.how)
    outages, faults, defaults = (how.pop(name, None) for name in ("outages", "faults", "defaults"))
    trace = case.trace if faults is None else with_own_work(case.trace, faults)
    options: Options = options_for(case.cluster, **{"details": True, **how})
    workload: Workload = prepare(
        trace, case.cluster, defaults=defaults, tell_gpus_apart=True, can_close=outages is not None
    )
    return kind(workload, options, outages, faults)


def result_of(simulation: Simulation) -> Result:
    return make_result(simulation, {}, None, 0, 0.0)


def check_resuming(case: Case, data: st.DataObject) -> None:
    """A replay that is stopped and taken up again and again ends in the tables of one that never stopped."""
    whole = simulation_of(case)
    assert whole.run()
    with tempfile.TemporaryDirectory() as folder:
        path, current = Path(folder) / "run.checkpoint", simulation_of(case)
        while not current.run(lambda: True, every=data.draw(st.integers(1, 25))):
            save_checkpoint(path, current, {}, 0.0)
            current = simulation_of(case)
            load_checkpoint(path, current, {})
    same_tables(result_of(current), result_of(whole))


@SOME
@given(cases(conservative=True), st.data())
def test_a_resumed_replay_ends_in_the_same_tables(case: Case, data: st.DataObject) -> None:
    check_resuming(case, data)


# --- the plan and what the engine does -------------------------------------------------------------------------------


class Planned(Simulation):
    """A simulation that carries out, at every pass, what ``plan`` proposes from a snapshot."""

    def _decide_dynamic(self, now_s: float, num_finished: int, arrived: int) -> float:
        self._take_in(now_s, num_finished, arrived)
        if not self._static:
            self._sort_queue(now_s)
        snapshot = self.state.snapshot(now_s)
        usage_s = self.ledger.usage_at(now_s) if self.ledger is not None else None
        proposed = plan(snapshot, self.options.settings, usage_s=usage_s, preemption=self.options.preemption)
        assert check_plan(snapshot, proposed) == []
        named = {row for row, _ in proposed.skipped} | {start.row for start in proposed.starts}
        assert named >= set(snapshot.rows[snapshot.num_running :].tolist())
        self._preempt([stop.row for stop in proposed.preemptions], now_s)
        self.state.commit(proposed, now_s)
        self._begin(self.state.started[: self.state.num_started].tolist(), now_s)
        return proposed.next_pass_s


@MANY
@given(cases(conservative=True))
def test_the_engine_does_what_the_plan_proposes(case: Case) -> None:
    """Which jobs start and stop when, on which nodes and GPUs: the pass in place, and snapshot → plan → commit."""
    rules = case.how.get("preemption", Preemption())
    case = replace(case, how=case.how | {"preemption": replace(rules, grace_s=0.0)})
    planned, plain = simulation_of(case, Planned), simulation_of(case)
    assert planned.run()
    assert plain.run()
    for mine, other in zip(lifecycle_tables(planned), lifecycle_tables(plain), strict=True):
        assert mine.equals(other)


def lifecycle_tables(simulation: Simulation) -> list[pl.DataFrame]:
    assert simulation.lifecycle is not None
    attempts, placements = simulation.lifecycle.tables()
    order = ["job", "attempt", "node", "gpu"]
    return [attempts.sort("job", "attempt"), placements.sort(order)]


# --- promises --------------------------------------------------------------------------------------------------------


class Watched(Simulation):
    """Keeps a snapshot behind every pass."""

    snapshots: list[Snapshot]

    def _decide_dynamic(self, now_s: float, num_finished: int, arrived: int) -> float:
        next_s = super()._decide_dynamic(now_s, num_finished, arrived)
        self.snapshots = [*getattr(self, "snapshots", []), self.state.snapshot(now_s)]
        return next_s


def room(snapshot: Snapshot, index: int, free: IntArray) -> bool:
    """Whether a job that asks for whole GPUs fits into ``free`` (R, N), on the nodes that it may use."""
    demand = snapshot.demand
    shape = demand.shapes[demand.shape_idx[index]]
    rows = [r for r, tracked in enumerate(snapshot.capacity.tracked) if tracked and shape[r] > 0]
    slots = (free[rows] // shape[rows][:, None]).min(axis=0)
    if demand.class_ok is not None:
        slots = np.where(demand.class_ok[demand.shape_idx[index]][snapshot.capacity.classes], slots, 0)
    return bool(slots.sum() >= demand.tasks[index])


def shadow_s(snapshot: Snapshot, index: int) -> float:
    """When a waiting job fits if nothing starts any more and running jobs end when they are expected to."""
    free = snapshot.free_units()
    ends_s: FloatArray = snapshot.expected_end_s
    for end_s in sorted(set(ends_s.tolist())):
        for entry in np.flatnonzero(ends_s[snapshot.alloc_job] == end_s):
            job = snapshot.alloc_job[entry]
            shape = snapshot.demand.shapes[snapshot.demand.shape_idx[job]]
            free[:, snapshot.alloc_node[entry]] += snapshot.alloc_tasks[entry] * shape
        if room(snapshot, index, free):
            return max(end_s, snapshot.now_s)
    return math.inf


@st.composite
def unshared(draw: st.DrawFn) -> Case:
    """Whole GPUs, types and speeds, EASY, nothing that overruns: what the shadow time promises can be kept."""
    cluster = replace(draw(clusters()), quotas={}, power_cap_w=None)
    cluster = replace(cluster, groups=tuple(replace(group, owner=None) for group in cluster.groups))
    trace = draw(traces(cluster, overruns=False))
    frame = trace.jobs.frame.with_columns(pl.col("gpus").ceil())
    trace = Trace("whole", make_jobs(frame.to_dict(as_series=True)), cluster)
    how = {
        "backfill": draw(st.sampled_from(["easy", "easy-noextra", "easy-sjbf"])),
        "placement": draw(st.sampled_from(["first-fit", "best-fit", "worst-fit", "packed", "topology"])),
    }
    return Case(cluster, trace, how)


@MANY
@given(unshared())
def test_easy_never_delays_the_head_whatever_the_speeds(case: Case) -> None:
    """The shadow time at any pass, by ends on the nodes that jobs got, bounds the head's start."""
    simulation = simulation_of(case, Watched)
    assert isinstance(simulation, Watched)
    assert simulation.run()
    assert simulation.lifecycle is not None
    start_s = simulation.lifecycle.first_start_s
    for snapshot in simulation.snapshots:
        if snapshot.num_waiting:
            head = snapshot.num_running
            assert start_s[snapshot.rows[head]] <= shadow_s(snapshot, head) + 1e-9


# --- failures --------------------------------------------------------------------------------------------------------


@SOME
@given(st.data())
def test_outages_of_nodes_stop_what_runs_there_and_nothing_else(data: st.DataObject) -> None:
    """An attempt is lost exactly when a node or GPU that it held failed at that moment."""
    case = data.draw(cases(preempt=False))
    outages = data.draw(failures(case.cluster))
    result = replace(case, how=case.how | {"outages": outages}).run()
    fails = {
        (float(t), int(n), int(g))
        for t, n, g, kind in zip(outages.time_s, outages.node, outages.gpu, outages.kind, strict=True)
        if kind == 0
    }
    for row in holdings(result):
        hit = (row["end_s"], row["node"], -1) in fails or (row["end_s"], row["node"], row["gpu"]) in fails
        if hit and row["start_s"] < row["end_s"]:
            assert row["ended"] in ("lost", "completed", "killed", "preempted", "failed")
    lost: dict[tuple[int, int], bool] = defaultdict(bool)
    for row in holdings(result):
        if row["ended"] == "lost":
            lost[row["job"], row["attempt"]] |= any(
                (row["end_s"], row["node"], gpu) in fails for gpu in (-1, row["gpu"])
            )
    assert all(lost.values())


def test_measured_availability_is_mtbf_over_mtbf_plus_mttr() -> None:
    """40 nodes over 300 days: MTBF 90 h, MTTR 10 h, so 0.9; about 2,900 failures, whose spread gives the interval.

    A node's down time over T has variance near 2·T·(a·b)²/(a+b)³ for exponential times a and b.
    """
    mtbf_s, mttr_s, days = 90 * 3600.0, 10 * 3600.0, 300
    group = NodeGroup("n", 40, cpus=8.0, gpus=4.0, gpu_type=None, mtbf_h=90.0, mttr_h=10.0)
    cluster = ClusterSpec("failing", (group,))
    horizon_s = days * 86400.0
    count = 50 * days // 10
    rows: dict[str, list[Any]] = {
        "job_id": [f"j{i}" for i in range(count)],
        "submit_s": [i * horizon_s / count for i in range(count)],
        "duration_s": [3600.0] * count,
        "gpus": [1.0] * count,
        "cpus": [1.0] * count,
    }
    rows["duration_s"][-1] = horizon_s / count
    outages = draw_outages(cluster, until_s=horizon_s, seed=5)
    result = simulate(Trace("long", make_jobs(rows), cluster), outages=outages, max_retries=1000)
    until_s = float(result.jobs["end_s"].max())  # type: ignore[arg-type]
    down = result.tables["outages"].filter(pl.col("from_s") < until_s)
    down_s = float((down["until_s"].clip(upper_bound=until_s) - down["from_s"]).sum())
    measured = 1 - down_s / (40 * until_s)
    expected = mtbf_s / (mtbf_s + mttr_s)
    error = math.sqrt(2 * (mtbf_s * mttr_s) ** 2 / (mtbf_s + mttr_s) ** 3 / until_s / 40)
    assert abs(measured - expected) < 3 * error
    assert error < 0.004
    assert measured == pytest.approx(availability(outages, 40, until_s), abs=1e-9)
