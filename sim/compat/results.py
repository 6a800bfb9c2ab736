"""Runs of the protocols as the job tables and metric names that the rest of the project uses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import UNITS_PER, FloatArray, IntArray
from shunter.sim.compat import fgd, helios, rlscheduler
from shunter.sim.compat.fgd_files import FgdNodes, FgdPods, nodes_of
from shunter.sim.compat.helios import HeliosJobs
from shunter.sim.compat.rlscheduler import RlsTrace
from shunter.traces.tables import ClusterSpec

if TYPE_CHECKING:
    import polars as pl

    from shunter.sim.compat import ProtocolRun

RLSCHEDULER_METRICS = {
    "avg_bsld": "avg_bounded_slowdown",
    "avg_wait": "avg_wait_s",
    "avg_turnaround": "avg_jct_s",
    "avg_sld": "avg_slowdown",
    "makespan": "makespan_s",
    "max_wait": "max_wait_s",
}
"""Metrics that the project defines in the same way. ``util_rls`` and ``last_start_rel`` have no counterpart."""


def run_rlscheduler(trace: RlsTrace, policy: str, backfill: str, window: tuple[int, int] | None) -> ProtocolRun:
    """``run_protocol`` for rlscheduler."""
    import polars as pl

    rlscheduler.warm_up()
    start, count = window or (0, len(trace))
    began = time.perf_counter()
    run = rlscheduler.run(trace, start, count, policy, backfill != "none")
    wall_s = time.perf_counter() - began
    jobs = run.jobs
    place = np.empty(count, dtype=np.int64)
    place[run.order] = np.arange(count)
    columns = job_columns(jobs.submit_s, run.start_s, run.start_s + jobs.run_s)
    frame = pl.DataFrame(
        {
            "job_id": pl.Series(jobs.number).cast(pl.String),
            **columns,
            "attempts": np.ones(count, dtype=np.int64),
            "state": ["completed"] * count,
            "reason": [""] * count,
            "duration_s": jobs.run_s.astype(np.float64),
            "requested_s": jobs.requested_s.astype(np.float64),
            "tasks": jobs.procs,
            "cpus": jobs.procs.astype(np.float64),
            "gpus": np.zeros(count),
            "user": names(jobs.user),
            "group": names(jobs.group),
            "start_order": place,
        }
    )
    return {
        "protocol": "rlscheduler",
        "trace": trace.name,
        "cluster": f"{trace.num_nodes} nodes, {trace.max_procs} processors",
        "policy": policy,
        "backfill": backfill,
        "window": window,
        "metrics": {RLSCHEDULER_METRICS.get(k, k): v for k, v in run.metrics.items()}
        | {"jobs_completed": float(count)},
        "jobs": frame,
        "wall_s": wall_s,
    }


def run_helios(
    jobs: HeliosJobs,
    policy: str,
    window: tuple[int, int] | None,
    *,
    cluster: ClusterSpec | None,
    nodes: Mapping[str, int] | None,
) -> ProtocolRun:
    """``run_protocol`` for helios."""
    import polars as pl

    if window is not None:
        jobs = slice_jobs(jobs, *window)
    if nodes is None:
        nodes = jobs.nodes if cluster is None else helios.nodes_of(cluster)
    helios.warm_up()
    began = time.perf_counter()
    run = helios.run(jobs, nodes, policy)
    wall_s = time.perf_counter() - began
    count = len(jobs)
    frame = pl.DataFrame(
        {
            "job_id": list(jobs.job_id),
            **job_columns(jobs.submit_s, run.start_s, run.end_s),
            "attempts": run.preemptions + 1,
            "state": ["completed"] * count,
            "reason": [""] * count,
            "duration_s": jobs.duration_s.astype(np.float64),
            "requested_s": pl.Series([None] * count, dtype=pl.Float64)
            if jobs.predicted_s is None
            else jobs.predicted_s.astype(np.float64),
            "tasks": np.ones(count, dtype=np.int64),
            "cpus": np.zeros(count),
            "gpus": jobs.gpus.astype(np.float64),
            "user": pl.Series([None] * count, dtype=pl.String),
            "group": list(jobs.group),
            "queue_s": run.queue_s.astype(np.float64),
        }
    )
    used = sorted(set(jobs.group))
    return {
        "protocol": "helios",
        "trace": jobs.name,
        "cluster": f"{sum(nodes[name] for name in used)} nodes of 8 GPUs in {len(used)} virtual clusters",
        "policy": policy,
        "backfill": "none",
        "window": window,
        "metrics": helios.metrics(jobs, run),
        "jobs": frame,
        "wall_s": wall_s,
    }


FGD_POINTS = (50, 80, 100, 130)
"""Percent of the cluster's GPUs that have been asked for, at which allocation and fragmentation are metrics."""


def run_fgd(pods: FgdPods, policy: str, cluster: ClusterSpec | FgdNodes, seed: int) -> ProtocolRun:
    """``run_protocol`` for fgd-openb."""
    import polars as pl

    nodes = cluster if isinstance(cluster, FgdNodes) else nodes_of(cluster)
    fgd.warm_up()
    began = time.perf_counter()
    run = fgd.run(pods, nodes, policy, seed)
    wall_s = time.perf_counter() - began
    allocated, fragmented = run.allocation_curve(), run.fragmentation_curve()
    metrics = {f"allocated_pct_at_{percent}": allocated[percent] for percent in FGD_POINTS if percent in allocated}
    metrics |= {f"fragmented_pct_at_{percent}": fragmented[percent] for percent in FGD_POINTS if percent in fragmented}
    placed = float((run.node >= 0).sum())
    return {
        "protocol": "fgd-openb",
        "trace": pods.name,
        "cluster": f"{nodes.name}: {len(nodes.node_names):,} nodes, {run.gpus:,} GPUs",
        "policy": policy,
        "backfill": "none",
        "window": None,
        "metrics": metrics | {"pods_placed": placed, "pods_dropped": float(len(run.node)) - placed},
        "jobs": arrived_pods(pods, nodes, run),
        "wall_s": wall_s,
        "seed": seed,
        "curves": pl.DataFrame(
            {
                "arrived_pct": list(allocated),
                "allocated_pct": list(allocated.values()),
                "fragmented_pct": list(fragmented.values()),
            }
        ),
    }


def arrived_pods(pods: FgdPods, nodes: FgdNodes, run: fgd.FgdRun) -> pl.DataFrame:
    """The pods in order of arrival; see ``ProtocolRun``."""
    import polars as pl

    shape = pods.shape_idx[run.pod]
    names = [pods.pod_names[row] for row in run.pod]
    copy = np.cumsum(run.cloned) - 1
    of_cluster = 100.0 / run.total_milli
    return pl.DataFrame(
        {
            "job_id": [f"{n}-copy-{k}" if c else n for n, c, k in zip(names, run.cloned, copy, strict=True)],
            "copy_of": [n if c else None for n, c in zip(names, run.cloned, strict=True)],
            "cpus": pods.cpu_milli[shape] / UNITS_PER[0],
            "memory_gib": pods.memory_kib[shape] / UNITS_PER[1],
            "gpus": (pods.gpus * pods.share_milli)[shape] / UNITS_PER[2],
            "gpu_type": [pods.models[s] or None for s in shape],
            "node": [nodes.node_names[row] if row >= 0 else None for row in run.node],
            "gpu_index": ["-".join(map(str, np.flatnonzero(held))) for held in run.holds],
            "arrived_pct": run.arrived_milli * of_cluster,
            "allocated_pct": run.used_milli * of_cluster,
            "fragmented_pct": run.fragmented_milli * of_cluster,
        },
        schema_overrides={"copy_of": pl.String, "gpu_type": pl.String, "node": pl.String},
    )


def names(numbers: IntArray) -> pl.Series:
    """Numbers of users or groups as text, (J,); −1, unknown in SWF, is null."""
    import polars as pl

    series = pl.Series(numbers)
    return series.set(series < 0, None).cast(pl.String)


def job_columns(submit_s: IntArray, start_s: IntArray, end_s: IntArray) -> dict[str, FloatArray]:
    """The time columns of a job table, (J,) float64 each."""
    wait_s = start_s - submit_s
    return {
        name: values.astype(np.float64)
        for name, values in (("submit_s", submit_s), ("start_s", start_s), ("end_s", end_s), ("wait_s", wait_s))
    }


def slice_jobs(jobs: HeliosJobs, start: int, count: int) -> HeliosJobs:
    """The ``count`` rows from row ``start`` on.

    Raises:
        TraceError: The window does not lie inside the trace.
    """
    if start < 0 or count < 1 or start + count > len(jobs):
        raise TraceError(f"window {start}:{count} does not lie inside {jobs.name!r}, which has {len(jobs)} jobs")
    rows = slice(start, start + count)
    return replace(
        jobs,
        job_id=jobs.job_id[rows],
        group=jobs.group[rows],
        gpus=jobs.gpus[rows],
        submit_s=jobs.submit_s[rows],
        duration_s=jobs.duration_s[rows],
        predicted_s=None if jobs.predicted_s is None else jobs.predicted_s[rows],
    )
