"""Tables that follow from the per-job table: the timeline of queue and use, and the event log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    import polars as pl

KINDS = ("end", "stop", "fail", "repair", "submit", "reject", "start")
"""Kinds of events, in the order in which the engine handles those of an instant."""


def timeline(jobs: pl.DataFrame) -> pl.DataFrame:
    """Queue and use as step functions: one row an instant at which one of them changed.

    Args:
        jobs: Per-job table; rows without a start are left out.

    Returns:
        ``time_s, queue_length, running_jobs, used_cpus, used_gpus``: values that hold from ``time_s`` on.
    """
    import polars as pl

    ran = jobs.filter(pl.col("start_s").is_not_null())
    one, zero = pl.lit(1, pl.Int64), pl.lit(0, pl.Int64)

    def change(time: str, queue: pl.Expr, running: pl.Expr, sign: int) -> pl.DataFrame:
        return ran.select(
            pl.col(time).alias("time_s"),
            queue.alias("queue_length"),
            running.alias("running_jobs"),
            (pl.col("cpus") * sign).alias("used_cpus"),
            (pl.col("gpus") * sign).alias("used_gpus"),
        )

    changes = pl.concat(
        [change("submit_s", one, zero, 0), change("start_s", -one, one, 1), change("end_s", zero, -one, -1)]
    )
    steps = changes.group_by("time_s").sum().sort("time_s")
    # Rounding takes away what adding and subtracting fractions of a CPU leaves behind.
    return steps.with_columns(pl.all().exclude("time_s").cum_sum()).with_columns(
        pl.col("used_cpus", "used_gpus").round(9) + 0.0  # and this the sign of a zero
    )


def timeline_of_attempts(jobs: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """As ``timeline``, for jobs that may have run more than once: a stopped job waits again until its next attempt.

    Args:
        jobs: Per-job table.
        attempts: Attempts; ``job`` is a row of ``jobs``.
    """
    import polars as pl

    sizes = jobs.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("job"), "cpus", "gpus", "submit_s")
    runs = attempts.drop("gpus", strict=False).join(sizes, on="job", maintain_order="left")
    if "gpus" in attempts.columns:  # an elastic job holds more in one attempt than in another
        part = pl.when(pl.col("gpus") > 0).then(attempts["gpus"] / pl.col("gpus")).otherwise(1.0)
        runs = runs.with_columns(cpus=pl.col("cpus") * part, gpus=attempts["gpus"])
    runs = runs.sort("job", "attempt")
    queued_s = pl.when(pl.col("attempt") == 1).then("submit_s").otherwise(pl.col("end_s").shift(1).over("job"))
    return timeline(runs.with_columns(queued_s.alias("submit_s")))


def with_fragmentation(steps: pl.DataFrame, times_s: FloatArray, fragmented_gpus: FloatArray) -> pl.DataFrame:
    """A timeline with a column ``fragmented_gpus``: the value that holds from each of its times on."""
    import polars as pl

    series = pl.DataFrame({"time_s": times_s, "fragmented_gpus": fragmented_gpus}).set_sorted("time_s")
    joined = steps.set_sorted("time_s").join_asof(series, on="time_s", strategy="backward")
    return joined.with_columns(pl.col("fragmented_gpus").fill_null(float(fragmented_gpus[0])))


def events(
    jobs: pl.DataFrame, attempts: pl.DataFrame | None = None, outages: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Every event, in the order in which the engine handles those of an instant: ends, failures, submissions, starts.

    Args:
        jobs: Per-job table.
        attempts: Attempts, where jobs may have run more than once.
        outages: Outages of nodes and GPUs.

    Returns:
        ``time_s, kind, job_id, detail``; the detail of an end is the job's state, of a stop why the attempt ended, of a
        rejection its reason, of a failure or repair (without a job) the node.
    """
    import polars as pl

    kinds = pl.Enum(KINDS)
    row = pl.int_range(pl.len(), dtype=pl.UInt32).alias("row")
    numbered = jobs.select(
        row, "job_id", "submit_s", "start_s", "end_s", pl.col("state").cast(pl.String), pl.col("reason").cast(pl.String)
    )
    ran = numbered.filter(pl.col("start_s").is_not_null())
    started = ran if attempts is None else _by_attempt(numbered, attempts)
    none = pl.lit(None, pl.String).alias("detail")
    rejected = pl.col("state") == "rejected"

    def log(rows: pl.DataFrame, time: str, kind: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
        return rows.select(pl.col(time).alias("time_s"), kind.cast(pl.UInt8).alias("code"), "row", "job_id", detail)

    submitted = pl.when(rejected).then(KINDS.index("reject")).otherwise(KINDS.index("submit"))
    together = pl.concat(
        [
            log(numbered, "submit_s", submitted, pl.when(rejected).then(pl.col("reason")).alias("detail")),
            log(started, "start_s", pl.lit(KINDS.index("start")), none),
            log(ran, "end_s", pl.lit(KINDS.index("end")), pl.col("state").alias("detail")),
            *_stops(started, log),
            *_outage_events(outages),
        ]
    ).sort("time_s", "code", "row")
    names = np.asarray(KINDS)[together["code"].to_numpy()]
    return together.select("time_s", pl.Series("kind", names, dtype=kinds), "job_id", "detail")


def _by_attempt(numbered: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """One row an attempt, with the job's row and name."""
    import polars as pl

    names = numbered.select("row", "job_id")
    runs = attempts.select(
        pl.col("job").cast(pl.UInt32).alias("row"), "start_s", "end_s", pl.col("ended").cast(pl.String)
    )
    return runs.join(names, on="row", maintain_order="left")


def _stops(started: pl.DataFrame, log: Callable[..., pl.DataFrame]) -> list[pl.DataFrame]:
    """Ends of attempts that were not the job's."""
    import polars as pl

    if "ended" not in started.columns:
        return []
    stopped = started.filter(pl.col("ended").is_in(["preempted", "lost", "failed"]))
    return [log(stopped, "end_s", pl.lit(KINDS.index("stop")), pl.col("ended").alias("detail"))]


def _outage_events(outages: pl.DataFrame | None) -> list[pl.DataFrame]:
    """Begin and end of each outage."""
    import polars as pl

    if outages is None:
        return []
    gpu = pl.when(pl.col("gpu") >= 0).then(pl.format(" GPU {}", "gpu")).otherwise(pl.lit(""))
    where = pl.format("node {}{} ({})", "node", gpu, pl.col("kind").cast(pl.String)).alias("detail")
    parts = [("from_s", "fail", outages), ("until_s", "repair", outages)]
    return [
        rows.select(
            pl.col(time).alias("time_s"),
            pl.lit(KINDS.index(kind)).cast(pl.UInt8).alias("code"),
            pl.lit(0, pl.UInt32).alias("row"),
            pl.lit(None, pl.String).alias("job_id"),
            where,
        )
        for time, kind, rows in parts
    ]
