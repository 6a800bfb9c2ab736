"""The timeline and the event log worked out from whole tables at once: what the window by window way must equal."""

from __future__ import annotations

import polars as pl

from shunter.sim.derived import KINDS, STOPPED
from shunter.sim.result import Result


def whole_timeline(result: Result) -> pl.DataFrame:
    """Steps from all submissions, starts and ends together; an attempt after the first waits since the one before."""
    sizes = result.jobs.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("job"), "cpus", "gpus", "submit_s")
    attempts = result.tables["attempts"]
    runs = attempts.drop("gpus").join(sizes, on="job", maintain_order="left")
    part = pl.when(pl.col("gpus") > 0).then(attempts["gpus"] / pl.col("gpus")).otherwise(1.0)
    runs = runs.with_columns(cpus=pl.col("cpus") * part, gpus=attempts["gpus"]).sort("job", "attempt")
    queued_s = pl.when(pl.col("attempt") == 1).then("submit_s").otherwise(pl.col("end_s").shift(1).over("job"))
    runs = runs.with_columns(queued_s=queued_s)

    def change(time: str, queue: int, running: int, sign: int) -> pl.DataFrame:
        return runs.select(
            pl.col(time).alias("time_s"),
            pl.lit(queue, pl.Int64).alias("queue_length"),
            pl.lit(running, pl.Int64).alias("running_jobs"),
            (pl.col("cpus") * sign).alias("used_cpus"),
            (pl.col("gpus") * sign).alias("used_gpus"),
        )

    changes = pl.concat([change("queued_s", 1, 0, 0), change("start_s", -1, 1, 1), change("end_s", 0, -1, -1)])
    steps = changes.group_by("time_s").sum().sort("time_s").with_columns(pl.all().exclude("time_s").cum_sum())
    return steps.with_columns(pl.col("used_cpus", "used_gpus").round(9) + 0.0)


def whole_events(result: Result) -> pl.DataFrame:
    """All events, sorted once."""
    jobs = result.jobs.with_row_index("row").cast({"state": pl.String, "reason": pl.String})
    names = jobs.select("row", "job_id")
    attempts = result.tables["attempts"].select(
        pl.col("job").cast(pl.UInt32).alias("row"), "start_s", "end_s", pl.col("ended").cast(pl.String)
    )
    attempts = attempts.join(names, on="row", maintain_order="left")
    rejected, none = pl.col("state") == "rejected", pl.lit(None, pl.String)
    rows = [
        (jobs, "submit_s", pl.when(rejected).then(pl.lit("reject")).otherwise(pl.lit("submit")),
         pl.when(rejected).then(pl.col("reason")).otherwise(none)),
        (attempts, "start_s", pl.lit("start"), none),
        (jobs.filter(pl.col("start_s").is_not_null()), "end_s", pl.lit("end"), pl.col("state")),
        (attempts.filter(pl.col("ended").is_in(STOPPED)), "end_s", pl.lit("stop"), pl.col("ended")),
    ]  # fmt: skip
    kinds = pl.Enum(KINDS)
    parts = [
        table.select(
            pl.col(time).alias("time_s"), kind.cast(kinds).alias("kind"), "row", "job_id", detail.alias("detail")
        )
        for table, time, kind, detail in rows
    ]
    together = pl.concat(parts).with_columns(pl.col("kind").to_physical().alias("code"))
    return together.sort("time_s", "code", "row", maintain_order=True).select("time_s", "kind", "job_id", "detail")
