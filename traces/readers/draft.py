"""From columns to a trace: the cleaning rules that readers share, each counted, and the final checks.

A reader puts its columns into a ``Draft``, names the rules that apply, and calls ``finish``. Rows are never left out
or changed without a count in ``Cleaning``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray
from shunter.traces.compression import split_name
from shunter.traces.readers.base import SHOWN_BAD_ROWS, Source
from shunter.traces.tables import (
    DEFAULTS,
    BadRow,
    Cleaning,
    ClusterSpec,
    JobTable,
    NodeGroup,
    Trace,
    in_submit_order,
    job_frame,
    job_schema,
    rules,
)

if TYPE_CHECKING:
    import polars as pl

    from shunter.traces.readers.table import RawTable

GPUS_PER_TASK = 8
"""A job on more GPUs than one usual node holds is split into tasks of this many."""

LARGEST_GANG = 10**9
"""Units of a resource that one job may ask for; anything above is a damaged cell."""

NEVER_RAN = "never ran (run time of 0 or unknown)"
NO_SIZE = "size not known"
GPU_TASKS = "more than 8 GPUs: split into tasks"


class Draft:
    """Columns on their way to a job table. Extra columns (``gpus_total`` and the like) are used up by the rules."""

    def __init__(self, source: Source, frame: pl.DataFrame, cleaning: Cleaning) -> None:
        self.source = source
        self.frame = frame  # canonical columns, totals, and "line"
        self.rows_read = cleaning.rows_read
        self.bad_rows = list(cleaning.bad_rows)
        self.dropped: Counter[str] = Counter(cleaning.dropped)
        self.adjusted: Counter[str] = Counter(cleaning.adjusted)
        self.start_unix_s: float | None = None

    @classmethod
    def of(cls, table: RawTable, columns: Mapping[str, pl.Series | pl.Expr | Any]) -> Draft:
        """The good rows of a table with these columns; plain values are constants.

        Raises:
            TraceError: The table has bad rows and the caller did not ask to skip them.
        """
        import polars as pl

        keep, cleaning = table.settle()
        as_columns = {
            name: value.alias(name) if isinstance(value, pl.Series | pl.Expr) else _constant(value).alias(name)
            for name, value in columns.items()
        }
        frame = pl.DataFrame({"line": table.lines}).with_columns(*as_columns.values())
        return cls(table.source, frame.filter(keep), cleaning)

    def drop(self, condition: pl.Expr, reason: str) -> None:
        """Leave out the rows for which ``condition`` holds."""
        before = self.frame.height
        self.frame = self.frame.filter(~condition.fill_null(False))
        if before > self.frame.height:
            self.dropped[reason] += before - self.frame.height

    def adjust(self, condition: pl.Expr, rule: str, **changes: pl.Expr) -> None:
        """Give the rows for which ``condition`` holds new values in the named columns."""
        import polars as pl

        mask = condition.fill_null(False)
        count = int(self.frame.select(mask.sum()).item())
        if count:
            self.adjusted[rule] += count
            self.frame = self.frame.with_columns(
                pl.when(mask).then(value).otherwise(pl.col(name)).alias(name) for name, value in changes.items()
            )

    def drop_never_ran(self) -> None:
        """Leave out jobs with a run time of 0 or none: they held nothing."""
        import polars as pl

        self.drop(pl.col("duration_s").is_null() | (pl.col("duration_s") <= 0), NEVER_RAN)

    def number_rows(self) -> None:
        """Job identifiers for a list that has none: the row in the file, counted from 0."""
        import polars as pl

        self.frame = self.frame.with_columns(
            (pl.col("line").rank("ordinal").cast(pl.Int64) - 1).cast(pl.String).alias("job_id")
        )

    def rebase(self, *, epoch: bool = True) -> None:
        """Put second 0 at the first submit; ``epoch``: the times were Unix seconds, so the start is known."""
        import polars as pl

        if self.frame.height:
            start = float(self.frame["submit_s"].min())  # type: ignore[arg-type]
            clocks = [name for name in ("submit_s", "deadline_s") if name in self.frame.columns]
            self.frame = self.frame.with_columns(pl.col(clocks) - start)
            if epoch:
                self.start_unix_s = start

    def gangs(self) -> None:
        """Turn ``gpus_total`` (and ``cpus_total``) into tasks: up to 8 GPUs one task, beyond that tasks of 8 GPUs.

        A number above 8 that is not a multiple of 8 becomes that many tasks of one GPU each, so that no GPU is
        invented. A job without GPUs becomes one task with all its CPUs.
        """
        import polars as pl

        total = pl.col("gpus_total")
        self._refuse_huge("gpus_total")
        self.drop(((total > 1) & (total != total.round())), "a fraction above one GPU")
        if "cpus_total" not in self.frame.columns:
            self.frame = self.frame.with_columns(pl.lit(0.0).alias("cpus_total"))
        self.drop(
            ((total <= 0) & (pl.col("cpus_total").fill_null(0.0) <= 0)) | total.is_null(),
            f"{NO_SIZE} (neither GPUs nor CPUs)",
        )
        big = total > GPUS_PER_TASK
        by_eight = big & (total % GPUS_PER_TASK == 0)
        tasks = pl.when(by_eight).then(total / GPUS_PER_TASK).when(big).then(total).otherwise(1.0)
        count = int(self.frame.select(big.sum()).item())
        if count:
            self.adjusted[GPU_TASKS] += count
        self.frame = self.frame.with_columns(tasks.alias("tasks")).with_columns(
            (total / pl.col("tasks")).alias("gpus"),
            (pl.col("cpus_total").fill_null(0.0) / pl.col("tasks")).alias("cpus"),
        )

    def refuse(self, mask: pl.Series, column: str, expected: str, position: int = 1) -> None:
        """Refuse the file for the rows of ``mask`` or, on request, leave them out as bad rows.

        Raises:
            TraceError: There are such rows and the caller did not ask to skip them.
        """
        rows = mask.arg_true().to_list()
        if not rows:
            return
        cells, lines = self.frame[column], self.frame["line"]
        found = [BadRow(int(lines[i]), position, f"{column}: {expected}", _shown(cells[i])) for i in rows]
        if not self.source.skip_bad:
            raise self.source.refuse(found)
        self.dropped[f"bad row: {column}: {expected}"] += len(found)
        self.bad_rows = sorted([*self.bad_rows, *found])[:SHOWN_BAD_ROWS]
        self.frame = self.frame.filter(~mask)

    def _refuse_huge(self, column: str) -> None:
        """Refuse sizes that no cluster has, before they are turned into whole numbers."""
        import polars as pl

        mask = self.frame.select((pl.col(column) > LARGEST_GANG).fill_null(False).alias("bad")).to_series()
        self.refuse(mask, column, f"expected at most {LARGEST_GANG:,}")

    def _check(self) -> None:
        """Apply the rules of the canonical table with the lines of the source at hand, and find repeated names."""
        import polars as pl

        for column, is_bad, expected in rules():
            if column in self.frame.columns:
                self.refuse(self.frame.select(is_bad.alias("bad")).to_series(), column, expected)
        again = ~self.frame.select(pl.col("job_id").is_first_distinct()).to_series()
        self.refuse(again, "job_id", "the identifier occurred on an earlier line")

    def finish(
        self,
        *,
        format: str,  # noqa: A002
        cluster: ClusterSpec | None = None,
        resources: Sequence[str] = ("gpus",),
        header: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> Trace:
        """The trace.

        Args:
            format: Name of the reader.
            cluster: What the log's documentation says; None applies ``peak_cluster`` to ``resources``.
            resources: Kinds that a peak-rule cluster has.
            header: What the file said about itself.
            name: Trace name; by default the file's.

        Raises:
            TraceError: A row breaks a rule of the canonical table, or none is left.
        """
        import polars as pl

        schema = job_schema()
        if "tasks" in self.frame.columns:
            self._refuse_huge("tasks")
        casts = [pl.col(name).cast(schema[name]) for name in self.frame.columns if name in schema]
        self.frame = self.frame.with_columns(casts)
        defaults = [pl.col(name).fill_null(DEFAULTS[name]) for name in self.frame.columns if name in DEFAULTS]
        self.frame = self.frame.with_columns(defaults)
        self._check()
        if not self.frame.height:
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in self.dropped.items())
            raise TraceError(f"{self.source.path}: no usable job among {self.rows_read:,} rows ({reasons or 'empty'})")
        columns = {name: self.frame[name] for name in schema if name in self.frame.columns}
        jobs = in_submit_order(job_frame(columns))
        notes = dict(header or {})
        spec = self.source.cluster or cluster
        if spec is None:
            spec, notes["cluster_note"] = peak_cluster(jobs, resources)
        return Trace(
            name=name or split_name(self.source.path)[0],
            jobs=JobTable(jobs),
            cluster=spec,
            start_unix_s=self.start_unix_s,
            source=str(self.source.path),
            sha256=self.source.sha256,
            format=format,
            cleaning=Cleaning(self.rows_read, dict(self.dropped), dict(self.adjusted), tuple(self.bad_rows)),
            header=notes,
        )


def _constant(value: object) -> pl.Expr:
    """A constant column; one that is null is text, so that text can still be looked for in it."""
    import polars as pl

    return pl.lit(None, dtype=pl.String) if value is None else pl.lit(value)


def _shown(value: object) -> str:
    """A cell for a message, with whole numbers as the file most likely wrote them."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def peak_concurrency(start_s: FloatArray, end_s: FloatArray, amount: FloatArray) -> float:
    """Largest amount held at one instant by intervals [start, end), all of shape (J,); ends come before starts."""
    times = np.concatenate([end_s, start_s])
    change = np.concatenate([-amount, amount])
    order = np.argsort(times, kind="stable")  # ends stand first in the array, so first at equal times
    return float(np.max(np.cumsum(change[order]), initial=0.0))


def peak_cluster(jobs: pl.DataFrame, resources: Sequence[str]) -> tuple[ClusterSpec, str]:
    """A pool as large as the log's own peak, for logs whose machine is not documented, and a note that says so.

    Per resource: the larger of the largest job and the peak of what was held at once in the recorded schedule; where
    the log has no waits, the peak if every job had started when it was submitted.
    """
    table = JobTable(jobs)
    waits_known = jobs["recorded_wait_s"].is_not_null().any()
    start = table.floats("submit_s") + table.floats("recorded_wait_s", missing=0.0)
    end = start + table.floats("duration_s")
    sizes: dict[str, float] = {}
    for resource in resources:
        held = table.floats(resource) * table.ints("tasks")
        peak = max(float(held.max(initial=0.0)), peak_concurrency(start, end, held))
        if peak > 0:
            sizes[resource] = float(np.ceil(round(peak, 6)))
    if not sizes:
        sizes = {resources[0]: 1.0}
    size = ", ".join(f"{value:.0f} {resource}" for resource, value in sizes.items())
    schedule = "in the recorded schedule" if waits_known else "if every job had started at its submit time"
    note = f"no size is documented: {size} is the peak held at once {schedule}"
    return ClusterSpec(name=size, groups=(NodeGroup(name="pool", count=1, **sizes),)), note  # type: ignore[arg-type]
