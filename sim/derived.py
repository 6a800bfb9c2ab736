"""Tables that follow from the per-job table: the timeline of queue and use, and the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

KINDS = ("end", "submit", "reject", "start")
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
        pl.col("used_cpus", "used_gpus").round(9)
    )


def events(jobs: pl.DataFrame) -> pl.DataFrame:
    """Every event, in the order in which the engine handles those of an instant: ends, submissions, starts.

    Returns:
        ``time_s, kind, job_id, detail``; the detail of an end is the job's state, of a rejection its reason.
    """
    import polars as pl

    kinds = pl.Enum(KINDS)
    row = pl.int_range(pl.len(), dtype=pl.UInt32).alias("row")
    numbered = jobs.select(
        row, "job_id", "submit_s", "start_s", "end_s", pl.col("state").cast(pl.String), pl.col("reason").cast(pl.String)
    )
    ran = numbered.filter(pl.col("start_s").is_not_null())
    none = pl.lit(None, pl.String).alias("detail")
    rejected = pl.col("state") == "rejected"

    def log(rows: pl.DataFrame, time: str, kind: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
        return rows.select(pl.col(time).alias("time_s"), kind.cast(pl.UInt8).alias("code"), "row", "job_id", detail)

    submitted = pl.when(rejected).then(KINDS.index("reject")).otherwise(KINDS.index("submit"))
    together = pl.concat(
        [
            log(numbered, "submit_s", submitted, pl.when(rejected).then(pl.col("reason")).alias("detail")),
            log(ran, "start_s", pl.lit(KINDS.index("start")), none),
            log(ran, "end_s", pl.lit(KINDS.index("end")), pl.col("state").alias("detail")),
        ]
    ).sort("time_s", "code", "row")
    names = np.asarray(KINDS)[together["code"].to_numpy()]
    return together.select("time_s", pl.Series("kind", names, dtype=kinds), "job_id", "detail")
