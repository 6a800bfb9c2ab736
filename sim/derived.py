"""Tables that follow from what happened: the timeline of queue and use, and the event log; window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.sim.windows import Window, windows_of_jobs

if TYPE_CHECKING:
    import polars as pl

KINDS = ("end", "stop", "fail", "repair", "submit", "reject", "start")
"""Kinds of events, in the order in which the engine handles those of an instant."""

END, STOP, FAIL, REPAIR, SUBMIT, REJECT, START = range(len(KINDS))

STOPPED = ("preempted", "lost", "failed")
"""Ends of attempts that leave work to be done."""


def timeline(jobs: pl.DataFrame) -> pl.DataFrame:
    """Queue and use as step functions: one row an instant at which one of them changed.

    Args:
        jobs: Per-job table; rows without a start are left out.

    Returns:
        ``time_s, queue_length, running_jobs, used_cpus, used_gpus``: values that hold from ``time_s`` on.
    """
    import polars as pl

    steps = Timeline(jobs)
    return pl.concat([steps.after(Window.empty()), *(steps.after(window) for window in windows_of_jobs(jobs))])


def events(jobs: pl.DataFrame) -> pl.DataFrame:
    """Every event of a run without attempts; see ``Events``."""
    import polars as pl

    log = Events(jobs)
    return pl.concat([log.of(Window.empty()), *(log.of(window) for window in windows_of_jobs(jobs))])


class Timeline:
    """Queue and use after each window; windows in the order of time.

    Args:
        jobs: Per-job table.
        elastic: Jobs may hold more in one attempt than in another, in proportion to their GPUs.
    """

    def __init__(self, jobs: pl.DataFrame, elastic: bool = False) -> None:
        self._ran = jobs["start_s"].is_not_null().to_numpy()
        self._attempts = jobs["attempts"].to_numpy()
        self._cpus, self._gpus = (jobs[name].fill_null(0.0).to_numpy() for name in ("cpus", "gpus"))
        self._elastic = elastic
        self._now = np.zeros(4)

    def after(self, window: Window) -> pl.DataFrame:
        """The rows of the window's instants: ``time_s, queue_length, running_jobs, used_cpus, used_gpus``."""
        import polars as pl

        submitted, begun, ended = (table["job"].to_numpy() for table in (window.submitted, window.begun, window.ended))
        queued = self._ran[submitted]
        again = self._waits_again(window)
        begun_part, ended_part = self._parts(window)
        times = [
            window.submitted["submit_s"].to_numpy()[queued],
            window.begun["start_s"].to_numpy(),
            window.ended["end_s"].to_numpy(),
        ]
        instants, where = np.unique(np.concatenate(times), return_inverse=True)
        zeros, ones = np.zeros(int(queued.sum())), np.ones(len(begun))
        changes = (
            np.concatenate([zeros + 1, -ones, again]),
            np.concatenate([zeros, ones, -np.ones(len(ended))]),
            np.concatenate([zeros, self._cpus[begun] * begun_part, -(self._cpus[ended] * ended_part)]),
            np.concatenate([zeros, self._gpus[begun] * begun_part, -(self._gpus[ended] * ended_part)]),
        )
        values = [
            np.cumsum(np.append(before, np.bincount(where, change, len(instants))))
            for before, change in zip(self._now, changes, strict=True)
        ]
        self._now = np.asarray([value[-1] for value in values])
        queue, running, cpus, gpus = (value[1:] for value in values)
        return pl.DataFrame(
            {
                "time_s": instants,
                "queue_length": np.rint(queue).astype(np.int64),
                "running_jobs": np.rint(running).astype(np.int64),
                # Rounding takes away what adding and subtracting fractions of a CPU leaves behind.
                "used_cpus": np.round(cpus, 9) + 0.0,  # and this the sign of a zero
                "used_gpus": np.round(gpus, 9) + 0.0,
            }
        )

    def _waits_again(self, window: Window) -> FloatArray:
        """1 for each ended attempt that another one follows."""
        if "attempt" not in window.ended.columns:
            return np.zeros(window.ended.height)
        following = window.ended["attempt"].to_numpy() < self._attempts[window.ended["job"].to_numpy()]
        return np.asarray(following, dtype=np.float64)

    def _parts(self, window: Window) -> tuple[FloatArray | float, FloatArray | float]:
        """What each attempt that begins, or ends, holds of what its job asked for."""
        if not self._elastic or window.taken is None or window.given_back is None:
            return 1.0, 1.0
        return self._part(window.begun, window.taken), self._part(window.ended, window.given_back)

    def _part(self, attempts: pl.DataFrame, placements: pl.DataFrame) -> FloatArray:
        import polars as pl

        keys = ["job", "attempt"]
        sums = placements.group_by(keys).agg(pl.col("gpus").sum().round(6))
        held = attempts.select(keys).join(sums, on=keys, how="left", maintain_order="left")["gpus"].to_numpy()
        asked = self._gpus[attempts["job"].to_numpy()]
        part: FloatArray = np.divide(held, asked, out=np.ones(len(held)), where=asked > 0)
        return part


class Events:
    """Every event, in the order in which the engine handles those of an instant: ends, failures, submissions, starts.

    The columns are ``time_s, kind, job_id, detail``; the detail of an end is the job's state, of a stop why the attempt
    ended, of a rejection its reason, of a failure or repair (without a job) the node.

    Args:
        jobs: Per-job table.
    """

    def __init__(self, jobs: pl.DataFrame) -> None:
        import polars as pl

        self._ids = jobs["job_id"]
        self._state, self._reason = (jobs[name].cast(pl.String) for name in ("state", "reason"))
        self._attempts = jobs["attempts"].to_numpy()

    def of(self, window: Window) -> pl.DataFrame:
        """The events of a window."""
        import polars as pl

        submitted, ended = window.submitted, window.ended
        rejected = self._state.gather(submitted["job"]) == "rejected"
        reason = pl.when(rejected).then(self._reason.gather(submitted["job"]))
        code = pl.Series(np.where(rejected.to_numpy(), REJECT, SUBMIT), dtype=pl.UInt8)
        final = ended
        parts = [
            _rows(submitted, "submit_s", code, reason),
            _rows(window.begun, "start_s", pl.lit(START), pl.lit(None, pl.String)),
        ]
        if "attempt" in ended.columns:
            final = ended.filter(ended["attempt"].to_numpy() >= self._attempts[ended["job"].to_numpy()])
            stops = ended.with_columns(pl.col("ended").cast(pl.String)).filter(pl.col("ended").is_in(STOPPED))
            parts.append(_rows(stops, "end_s", pl.lit(STOP), pl.col("ended")))
        parts.append(_rows(final, "end_s", pl.lit(END), self._state.gather(final["job"])))
        if window.outages is not None:
            parts.append(window.outages)
        together = pl.concat(parts).sort("time_s", "code", "row", maintain_order=True, nulls_last=False)
        names = pl.Series("kind", KINDS, dtype=pl.Enum(KINDS)).gather(together["code"])
        ids = self._ids.gather(together["row"]).alias("job_id")
        return together.select("time_s", names, ids, "detail")


def _rows(table: pl.DataFrame, time: str, code: pl.Expr | pl.Series, detail: pl.Expr | pl.Series) -> pl.DataFrame:
    """Events of one kind, of the jobs in a table."""
    import polars as pl

    columns = {"code": pl.lit(code) if isinstance(code, pl.Series) else code.cast(pl.UInt8), "detail": detail}
    if isinstance(detail, pl.Series):
        columns["detail"] = pl.lit(detail)
    row = pl.col("job").cast(pl.UInt32).alias("row")
    return table.with_columns(**columns).select(pl.col(time).alias("time_s"), "code", row, "detail")


def outage_events(outages: pl.DataFrame) -> pl.DataFrame:
    """Begin and end of each outage as events of no job, in the order of time."""
    import polars as pl

    gpu = pl.when(pl.col("gpu") >= 0).then(pl.format(" GPU {}", "gpu")).otherwise(pl.lit(""))
    where = pl.format("node {}{} ({})", "node", gpu, pl.col("kind").cast(pl.String)).alias("detail")
    row = pl.lit(None, pl.UInt32).alias("row")
    parts = [
        outages.select(pl.col(time).alias("time_s"), pl.lit(code).cast(pl.UInt8).alias("code"), row, where)
        for time, code in (("from_s", FAIL), ("until_s", REPAIR))
    ]
    return pl.concat(parts).sort("time_s", "code", maintain_order=True)


def with_fragmentation(steps: pl.DataFrame, times_s: FloatArray, free: FloatArray) -> pl.DataFrame:
    """A timeline with columns ``free_gpus`` and ``fragmented_gpus``: the values that hold from each of its times on.

    Args:
        steps: Rows of a timeline.
        times_s: (T,) rising instants, the first not after the first row of ``steps``.
        free: (2, T) free and fragmented GPUs from then on.
    """
    import polars as pl

    series = pl.DataFrame({"time_s": times_s, "free_gpus": free[0], "fragmented_gpus": free[1]}).set_sorted("time_s")
    return steps.set_sorted("time_s").join_asof(series, on="time_s", strategy="backward")
