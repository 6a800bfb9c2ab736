"""Small finished runs for the tests of what comes after a replay: files, reports, figures, comparisons.

The loop here is a few lines of list scheduling on one pool, independent of the engine, so that a fault of the engine
does not hide one of the reports. It is also a readable oracle: jobs start in the order of a key whenever they fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from shunter.sim.result import Result

CAPACITY = 64
Key = Callable[[dict[str, float]], tuple[float, ...]]


def make_workload(num_jobs: int = 400, seed: int = 1) -> pl.DataFrame:
    """Poisson arrivals, powers of two CPUs, log-normal run times, five users with unfriendly names; one job too big."""
    rng = np.random.default_rng(seed)
    sizes = 2.0 ** rng.integers(0, 6, num_jobs)
    sizes[num_jobs // 2] = 2 * CAPACITY
    users = ["alice", "bob", "<script>alert('user')</script>", "d&d", 'e"f']
    return pl.DataFrame(
        {
            "job_id": [f"j{i}" if i else "</script><script>alert(1)</script>" for i in range(num_jobs)],
            "submit_s": np.cumsum(rng.exponential(300.0, num_jobs)),
            "duration_s": np.round(rng.lognormal(6.5, 1.2, num_jobs), 1) + 1,
            "cpus": sizes,
            "user": [users[i] for i in rng.integers(0, len(users), num_jobs)],
            "group": [["physics", "chemistry"][i] for i in rng.integers(0, 2, num_jobs)],
        }
    )


def list_schedule(workload: pl.DataFrame, key: Key) -> dict[str, tuple[float, float]]:
    """Start and end by job: whenever something changes, waiting jobs in the order of ``key`` start until one does not
    fit. Jobs larger than the pool are left out."""
    rows = [row for row in workload.to_dicts() if row["cpus"] <= CAPACITY]
    times: dict[str, tuple[float, float]] = {}
    running: list[tuple[float, float]] = []
    waiting: list[dict[str, float]] = []
    free, arrived = float(CAPACITY), 0
    while len(times) < len(rows):
        now = min(rows[arrived]["submit_s"] if arrived < len(rows) else np.inf, running[0][0] if running else np.inf)
        while running and running[0][0] <= now:
            free += heapq.heappop(running)[1]
        while arrived < len(rows) and rows[arrived]["submit_s"] <= now:
            waiting.append(rows[arrived])
            arrived += 1
        waiting.sort(key=key)
        while waiting and waiting[0]["cpus"] <= free:
            job = waiting.pop(0)
            free -= job["cpus"]
            times[str(job["job_id"])] = (now, now + job["duration_s"])
            heapq.heappush(running, (now + job["duration_s"], job["cpus"]))
    return times


def make_result(workload: pl.DataFrame, times: dict[str, tuple[float, float]], policy: str, **fields: object) -> Result:
    """A result with every table filled in from start and end times; jobs without any are rejected."""
    starts = [times.get(job, (None, None))[0] for job in workload["job_id"]]
    ends = [times.get(job, (None, None))[1] for job in workload["job_id"]]
    ran = pl.col("start_s").is_not_null()
    jobs = workload.with_columns(
        pl.Series("start_s", starts, dtype=pl.Float64), pl.Series("end_s", ends, dtype=pl.Float64)
    ).with_columns(
        (pl.col("start_s") - pl.col("submit_s")).alias("wait_s"),
        ran.cast(pl.Int64).alias("attempts"),
        pl.when(ran).then(pl.lit("completed")).otherwise(pl.lit("rejected")).alias("state"),
        pl.when(ran).then(None).otherwise(pl.lit("needs more CPUs than the <cluster> has")).alias("reason"),
        (pl.col("duration_s") * 2).alias("requested_s"),
        pl.lit(1).alias("tasks"),
        pl.lit(0.0).alias("gpus"),
    )
    done = jobs.filter(ran)
    changes = pl.concat(
        [
            done.select(pl.col("submit_s").alias("time_s"), q=pl.lit(1), r=pl.lit(0), c=pl.lit(0.0)),
            done.select(pl.col("start_s").alias("time_s"), q=pl.lit(-1), r=pl.lit(1), c=pl.col("cpus")),
            done.select(pl.col("end_s").alias("time_s"), q=pl.lit(0), r=pl.lit(-1), c=-pl.col("cpus")),
        ]
    )
    timeline = (
        changes.group_by("time_s")
        .agg(pl.col("q", "r", "c").sum())
        .sort("time_s")
        .select(
            "time_s",
            pl.col("q").cum_sum().cast(pl.Int64).alias("queue_length"),
            pl.col("r").cum_sum().cast(pl.Int64).alias("running_jobs"),
            pl.col("c").cum_sum().alias("used_cpus"),
            pl.lit(0.0).alias("used_gpus"),
        )
    )
    events = pl.concat(
        [
            jobs.select(pl.col("submit_s").alias("time_s"), pl.lit("submit").alias("kind"), "job_id"),
            done.select(pl.col("start_s").alias("time_s"), pl.lit("start").alias("kind"), "job_id"),
            done.select(pl.col("end_s").alias("time_s"), pl.lit("end").alias("kind"), "job_id"),
        ]
    ).sort("time_s", maintain_order=True)
    events = events.with_columns(pl.lit("").alias("detail"))
    span = float(done["end_s"].max() - jobs["submit_s"].min())  # type: ignore[operator]
    work = float((done["cpus"] * done["duration_s"]).sum())
    slowdown = ((done["end_s"] - done["submit_s"]) / done["duration_s"].clip(10.0)).clip(1.0)
    metrics = {
        "avg_wait_s": float(done["wait_s"].mean()),  # type: ignore[arg-type]
        "p95_wait_s": float(done["wait_s"].quantile(0.95, "linear")),  # type: ignore[arg-type]
        "max_wait_s": float(done["wait_s"].max()),  # type: ignore[arg-type]
        "avg_jct_s": float((done["end_s"] - done["submit_s"]).mean()),  # type: ignore[arg-type]
        "avg_bounded_slowdown": float(slowdown.mean()),  # type: ignore[arg-type]
        "makespan_s": span,
        "utilisation": work / (span * CAPACITY),
        "jobs_completed": float(done.height),
        "jobs_rejected": float(jobs.height - done.height),
    }
    defaults: dict[str, object] = {
        "trace": "synthetic",
        "cluster": "64 cpus",
        "policy": policy,
        "backfill": "none",
        "placement": "first-fit",
        "window": None,
        "seed": 1,
        "jobs": jobs,
        "tables": {"timeline": timeline, "events": events},
        "metrics": metrics,
        "manifest": {
            "cluster": {"name": "64 cpus", "groups": [{"name": "pool", "count": 1, "cpus": float(CAPACITY)}]},
            "versions": {"shunter": "0.1.0"},
        },
        "wall_s": 0.01,
        "num_events": 3 * jobs.height,
    }
    return Result(**{**defaults, **fields})  # type: ignore[arg-type]


def fcfs_key(job: dict[str, float]) -> tuple[float, ...]:
    return (job["submit_s"],)


def sjf_key(job: dict[str, float]) -> tuple[float, ...]:
    return (job["duration_s"], job["submit_s"])


@pytest.fixture(scope="session")
def workload() -> pl.DataFrame:
    return make_workload()


@pytest.fixture(scope="session")
def two_results(workload: pl.DataFrame) -> tuple[Result, Result]:
    """The same 400 jobs on 64 CPUs under FCFS and SJF; one job is rejected."""
    return (
        make_result(workload, list_schedule(workload, fcfs_key), "fcfs"),
        make_result(workload, list_schedule(workload, sjf_key), "sjf"),
    )
