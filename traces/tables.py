"""Canonical tables: what every reader produces and everything else consumes, whatever the source format.

Owns ``Trace`` and ``JobTable``, and passes on ``ClusterSpec``. Times are seconds (float64) since the trace's start,
memory is GiB. Tables are Arrow tables held by polars; the native file is Parquet. A trace that exists has been
validated: rows are sorted by submit time (equal times keep the source's order), identifiers are unique, and every
number is finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import FloatArray, IntArray, ResourceDemand
from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota, pool

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "DEFAULTS",
    "LONGEST_S",
    "OUTCOMES",
    "BadRow",
    "Cleaning",
    "ClusterSpec",
    "GpuType",
    "JobTable",
    "NodeGroup",
    "Quota",
    "Trace",
    "first_problem",
    "in_submit_order",
    "job_frame",
    "job_schema",
    "make_jobs",
    "pool",
    "rules",
]

LONGEST_S = 1e12
"""Times beyond 30,000 years are damaged cells, and no calendar can show them."""

OUTCOMES = ("completed", "failed", "killed")


def job_schema() -> dict[str, pl.DataType]:
    """Column names and types of a job table, in order. A missing optional value is null, never −1 or 0."""
    import polars as pl

    return {
        "job_id": pl.String(),
        "submit_s": pl.Float64(),
        "duration_s": pl.Float64(),  # actual run time on the reference GPU type
        "requested_s": pl.Float64(),  # the user's limit; null when the log has none
        "tasks": pl.Int64(),  # gang size
        "cpus": pl.Float64(),  # per task
        "memory_gib": pl.Float64(),  # per task; 0 when unknown
        "gpus": pl.Float64(),  # per task; a fraction below 1 shares one GPU
        "gpu_type": pl.String(),  # alternatives are separated by |
        "user": pl.String(),
        "group": pl.String(),
        "queue": pl.String(),
        "priority": pl.Float64(),
        "deadline_s": pl.Float64(),  # absolute, on the trace's clock
        "model_class": pl.String(),
        "outcome": pl.String(),
        "preemptible": pl.Boolean(),
        "checkpoint_s": pl.Float64(),
        "restart_s": pl.Float64(),
        "recorded_wait_s": pl.Float64(),  # what the log says the job waited; null when unknown
        "gpu_memory_gib": pl.Float64(),  # per task, of one GPU's memory; null when unknown
        "gpu_profile": pl.String(),  # MIG instance a task needs, such as 1g.10gb
        "min_gpus": pl.Int64(),  # of the whole job, when it is elastic; null: rigid
        "max_gpus": pl.Int64(),
    }


DEFAULTS: Mapping[str, Any] = {
    "tasks": 1,
    "cpus": 0.0,
    "memory_gib": 0.0,
    "gpus": 0.0,
    "priority": 0.0,
    "preemptible": False,
    "outcome": "completed",
}


@dataclass(frozen=True, slots=True)
class JobTable:
    """Jobs in the canonical schema, sorted by submit time. ``frame`` is never changed in place."""

    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    def floats(self, column: str, missing: float = np.nan) -> FloatArray:
        """A column as float64, shape (J,); null becomes ``missing``."""
        return self.frame[column].fill_null(missing).to_numpy().astype(np.float64, copy=False)

    def ints(self, column: str) -> IntArray:
        """A column as int64, shape (J,)."""
        return self.frame[column].to_numpy().astype(np.int64, copy=False)

    def codes(self, column: str) -> tuple[IntArray, list[str]]:
        """A text column as (J,) int64 codes into the list of its distinct values, sorted; null is −1."""
        import polars as pl

        series = self.frame[column]
        values = series.drop_nulls().unique().sort()
        codes = series.cast(pl.Enum(values)).to_physical().cast(pl.Int64).fill_null(-1)
        return codes.to_numpy().astype(np.int64, copy=False), values.to_list()

    def demand(self, gpus: FloatArray | None = None, **where: Any) -> ResourceDemand:
        """Gang sizes and per-task needs in the core's whole units.

        Args:
            gpus: (J,) GPUs of a task, where they are not those of the table.
            where: Further arguments of ``ResourceDemand.from_amounts``.
        """
        return ResourceDemand.from_amounts(
            tasks=self.ints("tasks"),
            cpus=self.floats("cpus"),
            memory_gib=self.floats("memory_gib"),
            gpus=self.floats("gpus") if gpus is None else gpus,
            **where,
        )


@dataclass(frozen=True, slots=True, order=True)
class BadRow:
    """A row that cannot be used: line and column (field number) counted from 1, what was expected, what was found."""

    line: int
    column: int
    reason: str
    value: str = ""

    def __str__(self) -> str:
        """``line:column: reason, got 'value'``, ready to follow the file's name."""
        return f"{self.line}:{self.column}: {self.reason}" + (f", got {self.value!r}" if self.value else "")


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What a reader did to the rows: each rule with the number of rows, so that nothing is dropped silently.

    Attributes:
        rows_read: Data rows in the source, good and bad.
        dropped: Reason to number of rows left out.
        adjusted: Rule to number of rows of which a value was changed or filled in.
        bad_rows: The first few of the bad rows that were left out on request, in file order.
    """

    rows_read: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    adjusted: Mapping[str, int] = field(default_factory=dict)
    bad_rows: tuple[BadRow, ...] = ()

    @property
    def rows_dropped(self) -> int:
        """Rows left out, over all rules."""
        return sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class Trace:
    """A workload with the cluster that it ran on.

    Attributes:
        name: Short name, by default the file's name without its endings.
        jobs: The canonical job table.
        cluster: The recorded cluster, or the nearest description that the log allows.
        start_unix_s: Unix time of the trace's second 0; None when the log does not say.
        source: Path or description of where the trace came from.
        sha256: Content hash of the source file; empty for generated traces.
        format: Name of the reader or generator.
        cleaning: Counted cleaning rules.
        header: What the source's header said (SWF header fields, generator parameters).
    """

    name: str
    jobs: JobTable
    cluster: ClusterSpec
    start_unix_s: float | None = None
    source: str = ""
    sha256: str = ""
    format: str = ""
    cleaning: Cleaning = field(default_factory=Cleaning)
    header: Mapping[str, str] = field(default_factory=dict)

    def window(self, start: int, count: int) -> Trace:
        """The ``count`` jobs from row ``start`` on, on the same clock and cluster.

        Raises:
            TraceError: The window does not lie inside the trace.
        """
        if start < 0 or count < 1 or start + count > len(self.jobs):
            raise TraceError(
                f"window {start}:{count} does not lie inside {self.name!r}, which has {len(self.jobs)} jobs"
            )
        return replace(self, jobs=JobTable(self.jobs.frame.slice(start, count)))


def make_jobs(columns: Mapping[str, Any]) -> JobTable:
    """A validated job table from columns (lists, arrays or polars series); absent columns take their defaults.

    Raises:
        TraceError: A required column is missing, a value is out of range, or an identifier occurs twice. The message
            names the row (counted from 0 in the order given), the column and the value.
    """
    frame = job_frame(columns)
    problem = first_problem(frame)
    if problem is not None:
        row, column_name, reason = problem
        raise TraceError(f"row {row}, column {column_name!r}: {reason}")
    return JobTable(in_submit_order(frame))


def job_frame(columns: Mapping[str, Any]) -> pl.DataFrame:
    """Columns cast to the schema, with defaults for what is absent; values are not judged yet (see ``rules``).

    Raises:
        TraceError: A required column is missing or one is unknown.
    """
    import polars as pl

    schema = job_schema()
    unknown = sorted(set(columns) - set(schema))
    if unknown:
        raise TraceError(f"unknown job columns: {', '.join(unknown)}")
    for required in ("job_id", "submit_s", "duration_s"):
        if required not in columns:
            raise TraceError(f"job column {required!r} is missing")
    height = len(columns["submit_s"])
    series: list[pl.Series] = []
    for name, dtype in schema.items():
        if name in columns:
            column = _as_column(name, columns[name], dtype)
            if name in DEFAULTS and column.null_count():
                column = column.fill_null(DEFAULTS[name])
        else:
            column = pl.Series(name, [DEFAULTS.get(name)], dtype=dtype).new_from_index(0, height)
        series.append(column)
    return pl.DataFrame(series)


def _as_column(name: str, values: Any, dtype: pl.DataType) -> pl.Series:
    """Values as a column of ``dtype``; a list may mix whole numbers and fractions.

    Raises:
        TraceError: A value cannot be expressed in ``dtype``.
    """
    import polars as pl

    try:
        return pl.Series(name, values, strict=False).cast(dtype)
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as problem:
        reason = str(problem).split("\n", 1)[0]
        raise TraceError(f"job column {name!r}: expected values of type {dtype}: {reason}") from None


def in_submit_order(frame: pl.DataFrame) -> pl.DataFrame:
    """By submit time; equal times keep their order. Most logs are in order already, and sorting text is slow."""
    return frame if frame["submit_s"].is_sorted() else frame.sort("submit_s", maintain_order=True)


def rules() -> list[tuple[str, pl.Expr, str]]:
    """What must hold of every row: (column, expression that is true for a bad row, what was expected)."""
    import polars as pl

    def bad_number(name: str, *, positive: bool = False, required: bool = True) -> pl.Expr:
        value = pl.col(name)
        bad = value.is_nan() | value.is_infinite() | ((value <= 0) if positive else (value < 0))
        return bad.fill_null(required)

    return [
        ("job_id", pl.col("job_id").is_null() | (pl.col("job_id") == ""), "an identifier is needed"),
        ("submit_s", bad_number("submit_s"), "expected a finite time of at least 0 s"),
        ("submit_s", pl.col("submit_s") > LONGEST_S, f"expected a time of at most {LONGEST_S:g} s"),
        ("duration_s", bad_number("duration_s"), "expected a finite run time of at least 0 s"),
        ("duration_s", pl.col("duration_s") > LONGEST_S, f"expected a run time of at most {LONGEST_S:g} s"),
        ("requested_s", bad_number("requested_s", positive=True, required=False), "expected a positive time limit"),
        ("tasks", (pl.col("tasks") < 1).fill_null(True), "expected at least one task"),
        ("cpus", bad_number("cpus"), "expected a finite amount of at least 0"),
        ("memory_gib", bad_number("memory_gib"), "expected a finite amount of at least 0"),
        ("gpus", bad_number("gpus"), "expected a finite amount of at least 0"),
        (
            "gpus",
            (pl.col("gpus") > 1) & (pl.col("gpus") != pl.col("gpus").round()),
            "more than one GPU a task must be a whole number",
        ),
        ("priority", ~pl.col("priority").is_finite(), "expected a finite priority"),
        ("deadline_s", (~pl.col("deadline_s").is_finite()).fill_null(False), "expected a finite time"),
        ("checkpoint_s", bad_number("checkpoint_s", required=False), "expected a finite time of at least 0 s"),
        ("restart_s", bad_number("restart_s", required=False), "expected a finite time of at least 0 s"),
        ("recorded_wait_s", bad_number("recorded_wait_s", required=False), "expected a finite time of at least 0 s"),
        ("outcome", ~pl.col("outcome").is_in(OUTCOMES), f"expected one of {', '.join(OUTCOMES)}"),
        ("gpu_memory_gib", bad_number("gpu_memory_gib", required=False), "expected a finite amount of at least 0"),
        ("gpu_profile", (pl.col("gpu_profile") == "").fill_null(False), "expected a profile's name, such as 1g.10gb"),
        ("min_gpus", (pl.col("min_gpus") < 1).fill_null(False), "expected at least one GPU"),
        ("max_gpus", (pl.col("max_gpus") < 1).fill_null(False), "expected at least one GPU"),
        ("max_gpus", (pl.col("max_gpus") < pl.col("min_gpus")).fill_null(False), "expected at least min_gpus"),
    ]


def first_problem(frame: pl.DataFrame) -> tuple[int, str, str] | None:
    """The first row that breaks a rule, as (row, column, reason with the value); None when all hold."""
    import polars as pl

    found: tuple[int, str, str] | None = None
    for column, is_bad, expected in rules():
        rows = frame.select(is_bad.arg_true()).to_series()
        if len(rows) and (found is None or rows[0] < found[0]):
            found = (int(rows[0]), column, f"{expected}, got {frame[column][rows[0]]!r}")
    duplicated = frame.select(pl.col("job_id").is_duplicated().arg_true()).to_series()
    if found is None and len(duplicated):
        row = int(duplicated[0])
        found = (row, "job_id", f"{frame['job_id'][row]!r} occurs more than once")
    return found
