"""Failover: who must move, in what order, where to, and how many at once; work kept, retries, flapping nodes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.failover import (
    BlastRadius,
    Cause,
    Failover,
    Fate,
    Flapping,
    NodeHistory,
    Nodes,
    RunningJobs,
    after_failure,
    after_repair,
    allowance,
    displaced_jobs,
    failover,
    gang_gpus,
    gpu_holders,
    next_retry,
    work_kept,
)
from shunter.scheduler.types import ResourceDemand

GPU = 1000
NOW_S = 100.0


def running(*jobs: dict[str, object]) -> RunningJobs:
    """Jobs given by ``on`` ({node: tasks} or {(node, gpu): tasks}) and whatever differs from the usual."""
    usual = {"gpus": 1.0, "cpus": 1.0, "priority": 0.0, "end": 1000.0, "risk": 0.0}
    full = [usual | job for job in jobs]
    entries = [
        (row, *(place if isinstance(place, tuple) else (place, -1)), tasks)
        for row, job in enumerate(full)
        for place, tasks in job["on"].items()  # type: ignore[attr-defined]
    ]
    columns = np.asarray(entries, dtype=np.int64).reshape(-1, 4)

    def floats(name: str) -> np.ndarray:
        return np.asarray([job[name] for job in full], dtype=np.float64)

    demand = ResourceDemand.from_amounts(
        tasks=np.bincount(columns[:, 0], weights=columns[:, 3], minlength=len(full)).astype(np.int64),
        cpus=floats("cpus"),
        memory_gib=np.zeros(len(full)),
        gpus=floats("gpus"),
    )
    risk = floats("risk")
    return RunningJobs(
        demand, floats("priority"), floats("end"), risk, columns[:, 0], columns[:, 1], columns[:, 3], columns[:, 2]
    )


def cluster(
    free_gpus: list[float],
    *,
    failed: tuple[int, ...] = (),
    draining: dict[int, float] | None = None,
    gpus: tuple[tuple[int, int], ...] = (),
) -> Nodes:
    """Nodes with plenty of CPUs and memory."""
    count = len(free_gpus)
    free = np.full((3, count), 10**9, dtype=np.int64)
    free[2] = np.asarray(free_gpus) * GPU
    deadline_s = np.full(count, math.inf)
    for node, at_s in (draining or {}).items():
        deadline_s[node] = at_s
    is_failed = np.isin(np.arange(count), failed)
    is_healthy = ~is_failed & ~np.isin(np.arange(count), list(draining or {}))
    return Nodes(free, is_healthy, is_failed, deadline_s, np.asarray(gpus, dtype=np.int64).reshape(-1, 2))


def fates(plan: Failover) -> list[tuple[int, Fate, tuple[tuple[int, int], ...]]]:
    return [(job.row, job.fate, job.placement) for job in plan.displaced]


# --- who --------------------------------------------------------------------------------------------------------------


def test_any_part_on_a_failed_node_displaces_the_whole_gang() -> None:
    """Job 0 has one of its four tasks on failed node 1; job 1 is elsewhere. 4 GPUs of one node take the gang again."""
    jobs = running({"on": {0: 3, 1: 1}}, {"on": {0: 1}})
    plan = failover(jobs, cluster([0, 0, 4], failed=(1,)), NOW_S)
    assert [(job.row, job.cause) for job in plan.displaced] == [(0, Cause.NODE_FAILED)]
    assert fates(plan) == [(0, Fate.MOVE, ((2, 4),))]


def test_a_drain_displaces_only_those_that_would_not_end_in_time() -> None:
    """Node 0 is taken away at 500; the jobs on it end at 500, at 501, and one has overrun its end at 90."""
    jobs = running({"on": {0: 1}, "end": 500}, {"on": {0: 1}, "end": 501}, {"on": {0: 1}, "end": 90})
    assert displaced_jobs(jobs, cluster([0, 9], draining={0: 500.0})) == {1: Cause.DRAINING}


def test_a_drain_without_a_date_lets_everything_end() -> None:
    nodes = cluster([0, 9], draining={0: math.inf})
    assert displaced_jobs(running({"on": {0: 1}, "end": 1e9}), nodes) == {}


def test_a_failed_gpu_displaces_who_held_it() -> None:
    jobs = running({"on": {(0, 2): 1}}, {"on": {(0, 3): 1, (0, 2): 1}, "gpus": 0.5}, {"on": {(0, 1): 1}})
    assert displaced_jobs(jobs, cluster([0], gpus=((0, 2),))) == {0: Cause.GPU_FAILED, 1: Cause.GPU_FAILED}


def test_gpus_that_are_not_told_apart_are_held_in_the_order_of_the_entries() -> None:
    """On node 0 job 0 holds GPUs 0 and 1, job 1 holds 2 to 4, and 5 to 7 are free; node 1 says nothing about node 0."""
    jobs = running({"on": {0: 2}}, {"on": {1: 8, 0: 3}})
    held = [gpu_holders(jobs, 0, gpu) for gpu in range(8)]
    assert held == [[0], [0], [1], [1], [1], [], [], []]


def test_the_gravest_cause_is_told() -> None:
    jobs = running({"on": {0: 1, 1: 1}})
    nodes = cluster([0, 0], failed=(0,), draining={1: 5.0}, gpus=((1, 0),))
    assert displaced_jobs(jobs, nodes) == {0: Cause.NODE_FAILED}
    assert displaced_jobs(jobs, replace(nodes, is_failed=np.zeros(2, bool))) == {0: Cause.GPU_FAILED}


def test_nothing_failed_nothing_moves() -> None:
    assert failover(running({"on": {0: 1}}), cluster([0, 8]), NOW_S).displaced == ()


# --- in what order ----------------------------------------------------------------------------------------------------


def test_order_is_priority_then_savable_work_then_remaining_time_then_row() -> None:
    """Nodes 0 (failed) and 1 (draining). Work at risk counts only where a move still saves it: not for job 0."""
    jobs = running(
        {"on": {0: 1}, "risk": 9000, "end": 700},
        {"on": {1: 1}, "risk": 50, "end": 900},
        {"on": {1: 1}, "risk": 60, "end": 950},
        {"on": {0: 1}, "end": 600},
        {"on": {0: 1}, "end": 600},
        {"on": {0: 1}, "priority": 1, "end": 5000},
    )
    plan = failover(jobs, cluster([0, 0, 8], failed=(0,), draining={1: 500.0}), NOW_S)
    assert [job.row for job in plan.displaced] == [5, 2, 1, 3, 4, 0]


# --- where ------------------------------------------------------------------------------------------------------------


def test_the_tightest_node_that_takes_the_gang_is_chosen() -> None:
    jobs = running({"on": {0: 2}})
    assert fates(failover(jobs, cluster([0, 8, 3, 1], failed=(0,)), NOW_S)) == [(0, Fate.MOVE, ((2, 2),))]


def test_a_gang_that_no_node_takes_is_spread_over_few() -> None:
    """6 tasks over nodes with 2, 4, 1 and 3 free GPUs: those with 4 and 2 of the one with 3."""
    jobs = running({"on": {0: 6}})
    plan = failover(jobs, cluster([0, 2, 4, 1, 3], failed=(0,)), NOW_S)
    assert fates(plan) == [(0, Fate.MOVE, ((2, 4), (4, 2)))]


def test_without_room_it_is_requeued_and_the_next_one_may_still_move() -> None:
    jobs = running({"on": {0: 3}, "priority": 1}, {"on": {0: 1}})
    plan = failover(jobs, cluster([0, 2], failed=(0,)), NOW_S)
    assert fates(plan) == [(0, Fate.REQUEUE, ()), (1, Fate.MOVE, ((1, 1),))]


def test_what_a_gang_held_on_healthy_nodes_is_free_for_it_and_those_after_it() -> None:
    """No GPU is free, but job 0 gives back 2 on node 1: too few for its own 3 tasks, enough for the 2 of job 1."""
    jobs = running({"on": {0: 1, 1: 2}}, {"on": {0: 2}})
    plan = failover(jobs, cluster([0, 0], failed=(0,)), NOW_S)
    assert fates(plan) == [(0, Fate.REQUEUE, ()), (1, Fate.MOVE, ((1, 2),))]


def test_shares_of_gpus_are_left_to_a_pass() -> None:
    jobs = running({"on": {0: 1}, "gpus": 0.5}, {"on": {0: 1}, "gpus": 0.0})
    plan = failover(jobs, cluster([0, 8], failed=(0,)), NOW_S)
    assert fates(plan) == [(0, Fate.REQUEUE, ()), (1, Fate.MOVE, ((1, 1),))]


def test_placing_may_be_left_to_a_pass_altogether() -> None:
    plan = failover(running({"on": {0: 1}}), cluster([0, 8], failed=(0,)), NOW_S, place=False)
    assert plan.rows(Fate.REQUEUE) == (0,)


def test_a_job_goes_only_where_it_may_run() -> None:
    jobs = running({"on": {0: 1}}, {"on": {0: 1}})
    allowed = {0: np.asarray([True, False, True]), 1: np.asarray([True, False, False])}
    plan = failover(jobs, cluster([0, 8, 8], failed=(0,)), NOW_S, may_run=allowed.__getitem__)
    assert fates(plan) == [(0, Fate.MOVE, ((2, 1),)), (1, Fate.REQUEUE, ())]


def test_a_job_that_asks_for_nothing_stays_off_unhealthy_nodes() -> None:
    jobs = running({"on": {0: 2}, "gpus": 0, "cpus": 0})
    assert fates(failover(jobs, cluster([0, 0], failed=(0,)), NOW_S)) == [(0, Fate.MOVE, ((1, 2),))]


# --- how many at once -------------------------------------------------------------------------------------------------


def test_beyond_the_blast_radius_jobs_are_held_and_told() -> None:
    """10 jobs of 1 GPU, 6 of them on failed node 0, 30 % may go: 3 jobs, the others are held as they are."""
    jobs = running(*({"on": {0: 1}} for _ in range(6)), *({"on": {1: 1}} for _ in range(4)))
    plan = failover(jobs, cluster([0, 9], failed=(0,)), NOW_S, limit=BlastRadius(0.3))
    assert (plan.rows(Fate.MOVE), plan.rows(Fate.HOLD)) == ((0, 1, 2), (3, 4, 5))
    assert (plan.jobs_allowed, plan.gpus_allowed) == (3, pytest.approx(3.0))


def test_a_job_too_large_for_the_limit_is_held_and_smaller_ones_go() -> None:
    """12 GPUs run, half may go: 6. The first takes 2, the next asks for 8, the last for 1."""
    jobs = running({"on": {0: 2}, "priority": 3}, {"on": {0: 8}, "priority": 2}, {"on": {0: 1}}, {"on": {1: 1}})
    plan = failover(jobs, cluster([0, 9], failed=(0,)), NOW_S, limit=BlastRadius(0.5))
    assert (plan.rows(Fate.MOVE), plan.rows(Fate.HOLD)) == ((0, 2), (1,))


def test_one_job_may_always_go_unless_others_are_on_their_way() -> None:
    jobs = running({"on": {0: 8}}, {"on": {0: 8}})
    nodes = cluster([0, 16], failed=(0,))
    assert failover(jobs, nodes, NOW_S, limit=BlastRadius(0.1)).rows(Fate.HOLD) == (1,)
    busy = BlastRadius(0.1, jobs_in_flight=1, gpus_in_flight=8)
    assert failover(jobs, nodes, NOW_S, limit=busy).rows(Fate.HOLD) == (0, 1)
    assert failover(jobs, nodes, NOW_S, limit=BlastRadius(0.0)).rows(Fate.HOLD) == (0, 1)


# --- properties -------------------------------------------------------------------------------------------------------


@st.composite
def situations(draw: st.DrawFn) -> tuple[RunningJobs, Nodes, BlastRadius]:
    """Some jobs on some nodes of 8 GPUs, of which any may have failed or drain; capacity is never exceeded."""
    count = draw(st.integers(1, 5))
    room = [8] * count
    jobs: list[dict[str, object]] = []
    for _ in range(draw(st.integers(1, 7))):
        on = {}
        for node in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3)):
            tasks = draw(st.integers(0, 3))
            if 0 < tasks <= room[node]:
                on[node] = tasks
                room[node] -= tasks
        if on:
            facts = {"priority": draw(st.integers(0, 2)), "end": draw(st.sampled_from([50, 150, 400]))}
            jobs.append({"on": on, "risk": draw(st.sampled_from([0, 10])), **facts})
    jobs = jobs or [{"on": {0: 1}}]
    state = draw(st.lists(st.sampled_from(["up", "up", "failed", "draining"]), min_size=count, max_size=count))
    nodes = cluster(
        [float(gpus) for gpus in room],
        failed=tuple(n for n, s in enumerate(state) if s == "failed"),
        draining={n: draw(st.sampled_from([60.0, 200.0])) for n, s in enumerate(state) if s == "draining"},
    )
    return running(*jobs), nodes, BlastRadius(draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])))


@settings(deadline=None)
@given(situations())
def test_nobody_lands_on_an_unhealthy_node_or_beyond_what_is_free(case: tuple[RunningJobs, Nodes, BlastRadius]) -> None:
    """Recounted from nothing: what stays on each healthy node and what arrives there fits into what there is."""
    jobs, nodes, limit = case
    plan = failover(jobs, nodes, NOW_S, limit=limit)
    free = nodes.free[2].copy()
    gone = set(plan.rows(Fate.MOVE) + plan.rows(Fate.REQUEUE))
    for job, node, tasks in zip(jobs.entry_job, jobs.entry_node, jobs.entry_tasks, strict=True):
        free[node] += int(tasks) * GPU if int(job) in gone else 0
    for job in plan.displaced:
        assert bool(job.placement) == (job.fate is Fate.MOVE)
        if job.placement:
            assert sum(tasks for _, tasks in job.placement) == jobs.demand.tasks[job.row]
        for node, tasks in job.placement:
            assert nodes.is_healthy[node]
            free[node] -= tasks * GPU
    assert (free >= 0).all()


@settings(deadline=None)
@given(situations())
def test_everybody_on_a_failed_node_is_in_the_plan_once(case: tuple[RunningJobs, Nodes, BlastRadius]) -> None:
    jobs, nodes, limit = case
    rows = [job.row for job in failover(jobs, nodes, NOW_S, limit=limit).displaced]
    assert len(rows) == len(set(rows))
    assert set(jobs.entry_job[nodes.is_failed[jobs.entry_node]].tolist()) <= set(rows)
    on_bad = ~nodes.is_healthy[jobs.entry_node]
    assert set(rows) <= set(jobs.entry_job[on_bad].tolist())


@settings(deadline=None)
@given(situations())
def test_nobody_is_served_before_one_of_higher_priority_or_with_more_to_save(
    case: tuple[RunningJobs, Nodes, BlastRadius],
) -> None:
    jobs, nodes, limit = case
    served = [
        (
            -float(jobs.priority[job.row]),
            -float(jobs.at_risk_s[job.row]) if job.cause is Cause.DRAINING else 0.0,
            max(float(jobs.expected_end_s[job.row]) - NOW_S, 0.0),
            job.row,
        )
        for job in failover(jobs, nodes, NOW_S, limit=limit).displaced
    ]
    assert served == sorted(served)


@settings(deadline=None)
@given(situations())
def test_the_blast_radius_is_respected(case: tuple[RunningJobs, Nodes, BlastRadius]) -> None:
    """At most the share of jobs and of GPUs goes, or one job alone where the share is not even that (and not 0)."""
    jobs, nodes, limit = case
    plan = failover(jobs, nodes, NOW_S, limit=limit)
    gone = [job.row for job in plan.displaced if job.fate is not Fate.HOLD]
    gpus = gang_gpus(jobs)
    within = len(gone) <= limit.share * len(jobs) and gpus[gone].sum() <= limit.share * gpus.sum() + 1e-9
    assert within or (limit.share > 0 and gpus[gone].sum() <= max(gpus[gone[0]], limit.share * gpus.sum() + 1e-9))
    assert len(gone) <= max(limit.share * len(jobs), 1 if limit.share > 0 else 0)
    if limit.share == 1.0:
        assert plan.rows(Fate.HOLD) == ()


@settings(deadline=None)
@given(situations(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_that_of_the_entries(
    case: tuple[RunningJobs, Nodes, BlastRadius], shuffled: object
) -> None:
    jobs, nodes, limit = case
    order = list(range(len(jobs.entry_job)))
    shuffled.shuffle(order)  # type: ignore[attr-defined]
    other = replace(
        jobs,
        entry_job=jobs.entry_job[order],
        entry_node=jobs.entry_node[order],
        entry_tasks=jobs.entry_tasks[order],
        entry_gpu=jobs.entry_gpu[order],
    )
    assert failover(other, nodes, NOW_S, limit=limit) == failover(jobs, nodes, NOW_S, limit=limit)


def test_a_plan_changes_nothing_that_it_was_given() -> None:
    jobs, nodes = running({"on": {0: 1, 1: 1}}), cluster([0, 1, 8], failed=(0,))
    before = nodes.free.copy()
    failover(jobs, nodes, NOW_S)
    np.testing.assert_array_equal(nodes.free, before)


def test_allowance_in_numbers() -> None:
    """Half of 5 jobs are 2 and half of 11 GPUs 5.5; one job with 3 GPUs is on its way already."""
    gpus = np.asarray([1.0, 2, 3, 4, 1])
    assert allowance(BlastRadius(0.5), gpus, [0]) == (2, 5.5)
    assert allowance(BlastRadius(0.5, 1, 3.0), gpus, [0]) == (1, 2.5)
    assert allowance(BlastRadius(0.5, 4, 30.0), gpus, [0]) == (0, 0.0)


# --- what survives, when again, whom to trust -------------------------------------------------------------------------


def test_work_survives_up_to_the_last_checkpoint() -> None:
    executed = np.asarray([0.0, 59.9, 60.0, 130.0, 130.0, 130.0, 0.3])
    interval = np.asarray([60.0, 60.0, 60.0, 60.0, np.nan, 0.0, 0.1])
    np.testing.assert_allclose(work_kept(executed, interval), [0, 0, 60, 120, 0, 130, 0.3])


@given(st.floats(0, 1e7), st.one_of(st.floats(1e-3, 1e6), st.just(math.nan), st.just(0.0)))
def test_done_is_kept_plus_lost_and_what_is_lost_is_less_than_an_interval(executed_s: float, interval_s: float) -> None:
    kept = float(work_kept(np.asarray([executed_s]), np.asarray([interval_s]))[0])
    assert 0 <= kept <= executed_s
    if interval_s > 0:
        assert executed_s - kept < interval_s * (1 + 1e-6) + 1e-9 * executed_s
        assert kept == executed_s or math.isclose(kept / interval_s, round(kept / interval_s), rel_tol=1e-9)


def test_retries_back_off_and_end() -> None:
    """10, 20, 40, … up to six minutes, at most 6 retries (Kubernetes' defaults)."""
    assert [next_retry(n, 6, 10.0) for n in range(1, 8)] == [10, 20, 40, 80, 160, 320, None]
    assert next_retry(1, 0, 10.0) is None
    assert next_retry(900, 1000, 10.0) == 360
    assert next_retry(5, 9, 500.0) == 500
    assert next_retry(3, 9, 0.0) == 0


def test_a_flapping_node_is_on_probation_and_is_forgiven() -> None:
    """Three failures within 100 s: held for 50 s from the third repair on; the next failure finds only itself."""
    rule = Flapping(failures=3, window_s=100.0, probation_s=50.0)
    history = NodeHistory()
    held = []
    for failed_s in (0.0, 30.0, 60.0, 300.0):
        history = after_repair(after_failure(history, failed_s, rule), failed_s + 5, rule)
        held.append(history.held_until_s)
    assert held == [-math.inf, -math.inf, 115.0, -math.inf]
    assert history.failed_s == (300.0,)


def test_failures_that_are_far_apart_are_no_flapping() -> None:
    rule = Flapping(failures=2, window_s=100.0, probation_s=50.0)
    history = NodeHistory()
    for failed_s in np.arange(0.0, 2000.0, 101.0).tolist():
        history = after_repair(after_failure(history, failed_s, rule), failed_s + 1, rule)
        assert history == NodeHistory((failed_s,), -math.inf)
