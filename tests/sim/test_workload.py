"""A trace and a cluster as arrays: what counts as capacity, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.replay import simulate
from shunter.sim.workload import capacity_of, prepare
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool


def trace(cluster: ClusterSpec, **columns: Any) -> Trace:
    num_jobs = len(next(iter(columns.values())))
    base = {
        "job_id": [f"j{i}" for i in range(num_jobs)],
        "submit_s": [0.0] * num_jobs,
        "duration_s": [10.0] * num_jobs,
    }
    return Trace(name="t", jobs=make_jobs(base | columns), cluster=cluster)


def test_a_gpu_job_never_runs_on_nodes_that_state_no_gpus() -> None:
    mixed = ClusterSpec("mixed", (NodeGroup("gpu", 1, cpus=8, gpus=4), NodeGroup("cpu", 9, cpus=8)))
    workload = prepare(trace(mixed, gpus=[4.0, 5.0], cpus=[1.0, 1.0]), mixed)
    assert workload.rejected.tolist() == [False, True]
    assert workload.capacity.processors == 4


def test_gpus_are_counted_on_a_cpu_cluster_when_jobs_ask_for_them() -> None:
    workload = prepare(trace(pool(8), gpus=[0.0, 1.0], cpus=[1.0, 1.0]), pool(8))
    assert workload.rejected.tolist() == [False, True]
    assert workload.capacity.processors == 8  # a cluster without GPUs is measured in CPUs


def test_memory_that_is_not_stated_is_no_constraint() -> None:
    capacity = capacity_of(ClusterSpec("c", (NodeGroup("a", 1, cpus=4, memory_gib=2), NodeGroup("b", 1, cpus=4))))
    assert capacity.tracked == (True, True, False)
    assert capacity.units[1, 1] > capacity.units[1, 0] == 2 * 1024 * 1024


def test_jobs_that_ask_for_nothing_that_is_counted_are_refused() -> None:
    with pytest.raises(UsageError, match="counts gpus, but the jobs of t ask for cpus"):
        prepare(trace(pool(8), cpus=[1.0]), pool(8, resource="gpus"))


@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
@pytest.mark.parametrize("placement", ["first-fit", "best-fit", "worst-fit", "packed"])
def test_jobs_that_need_nothing_counted_start_at_once_on_any_number_of_nodes(backfill: str, placement: str) -> None:
    cluster = ClusterSpec("gpus", (NodeGroup("gpu", 24, gpus=1),))  # 24 nodes: 2^60 slots each would not add up
    jobs = trace(cluster, gpus=[1.0, 0.0, 0.0], cpus=[1.0, 1.0, 64.0], tasks=[25, 1, 500])
    result = simulate(jobs, backfill=backfill, placement=placement)
    assert result.jobs["start_s"].to_list() == [None, 0.0, 0.0]


def test_an_empty_trace_is_refused() -> None:
    empty = Trace(name="none", jobs=make_jobs({"job_id": [], "submit_s": [], "duration_s": []}), cluster=pool(1))
    with pytest.raises(TraceError, match="no jobs"):
        prepare(empty, pool(1))


def test_limits_and_clairvoyance_choose_the_run_times_that_count() -> None:
    cluster = pool(1, kill_at_limit=True)
    workload = prepare(trace(cluster, cpus=[1.0, 1.0], requested_s=[5.0, 20.0]), cluster)
    assert workload.killed.tolist() == [True, False]
    np.testing.assert_array_equal(workload.run_s, [5.0, 10.0])
    np.testing.assert_array_equal(workload.columns.expected_s, [5.0, 20.0])
    clairvoyant = prepare(trace(cluster, cpus=[1.0, 1.0], requested_s=[5.0, 20.0]), cluster, clairvoyant=True)
    np.testing.assert_array_equal(clairvoyant.columns.expected_s, [5.0, 10.0])
