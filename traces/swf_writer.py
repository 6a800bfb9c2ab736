"""A trace as a Standard Workload Format file, version 2.2, such that reading it back gives the same jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shunter.scheduler.errors import UsageError
from shunter.traces.tables import Trace

if TYPE_CHECKING:
    import polars as pl

STATUS = {"completed": 1, "failed": 0, "killed": 5}

KEPT_HEADER = (
    "Computer",
    "Installation",
    "Acknowledge",
    "Information",
    "Conversion",
    "Preemption",
    "TimeZone",
    "TimeZoneString",
)
"""Header fields that still hold after a conversion; counts and sizes are written anew."""


def swf_bytes(trace: Trace) -> bytes:
    """The file's content.

    A job's processors are its CPUs (tasks × CPUs per task); in a trace without CPUs they are its GPUs, and a header
    note says so. Names that are no whole numbers are numbered in alphabetical order and listed in the header.

    Raises:
        UsageError: A job's size is no whole number of processors.
    """
    kind, size = _sizes(trace)
    frame, notes = _fields(trace, size)
    if kind == "gpus":
        notes.insert(0, "Note: processors are GPUs")
    body = frame.write_csv(include_header=False, separator=" ", null_value="-1")
    header = _header(trace, kind, frame.height) + notes
    return ("".join(f"; {line}\n" for line in header) + body).encode()


def _sizes(trace: Trace) -> tuple[str, pl.Series]:
    """Which resource counts as processors, and how many of it each job has."""
    frame = trace.jobs.frame
    kind = "cpus" if float(frame["cpus"].sum()) > 0 else "gpus"
    size = frame["tasks"] * frame[kind]
    wrong = ((size != size.round(0)) | (size < 1)).arg_true()
    if len(wrong):
        row = int(wrong[0])
        raise UsageError(
            f"job {frame['job_id'][row]!r} takes {size[row]:g} {kind}: SWF holds whole processors only; "
            "write .parquet or .csv instead"
        )
    return kind, size


def _header(trace: Trace, kind: str, jobs: int) -> list[str]:
    """Header lines in the order that the standard recommends."""
    lines = ["Version: 2.2"]
    for name in KEPT_HEADER:
        lines += [f"{name}: {value}" for value in trace.header.get(name, "").split("\n") if value]
    lines += [f"MaxJobs: {jobs}", f"MaxRecords: {jobs}"]
    if trace.start_unix_s is not None:
        lines.append(f"UnixStartTime: {trace.start_unix_s:.0f}")
    total = trace.cluster.total(kind)
    if trace.cluster.num_nodes > 1:
        lines.append(f"MaxNodes: {trace.cluster.num_nodes}")
    if total:
        lines.append(f"MaxProcs: {total:.0f}")
    return lines


def _fields(trace: Trace, size: pl.Series) -> tuple[pl.DataFrame, list[str]]:
    """The 18 fields of every job, null where not known, and notes on names that became numbers."""
    import polars as pl

    frame = trace.jobs.frame
    notes: list[str] = []
    codes = {name: _numbers(frame[name], name, notes) for name in ("job_id", "user", "group", "queue")}
    unknown = pl.lit(-1, dtype=pl.Int64)
    fields = frame.select(
        job=codes["job_id"],
        submit=_plain(frame["submit_s"]),
        wait=_plain(frame["recorded_wait_s"]),
        run=_plain(frame["duration_s"]),
        allocated=size.cast(pl.Int64),
        cpu_time=unknown,
        used_memory=unknown,
        requested=size.cast(pl.Int64),
        requested_s=_plain(frame["requested_s"]),
        requested_memory=unknown,
        status=frame["outcome"].replace_strict(STATUS, return_dtype=pl.Int64),
        user=codes["user"],
        group=codes["group"],
        executable=unknown,
        queue=codes["queue"],
        partition=unknown,
        preceding=unknown,
        think=unknown,
    )
    return fields, notes


def _plain(values: pl.Series) -> pl.Series:
    """Numbers as text: whole ones without a point, others with as many digits as give the same number back."""
    import polars as pl

    whole = (values == values.round(0)) & (values.abs() < 2**53)
    texts = values.cast(pl.Int64, strict=False).cast(pl.String)
    return texts if whole.fill_null(True).all() else texts.zip_with(whole.fill_null(True), values.cast(pl.String))


def _numbers(names: pl.Series, what: str, notes: list[str]) -> pl.Series:
    """Names as whole numbers; those that are none are numbered from 1, jobs in order and others by the alphabet."""
    import polars as pl

    canonical = names.str.contains(r"^(0|[1-9]\d{0,17})$").fill_null(True).all()
    if canonical:
        return names.cast(pl.Int64)
    if what == "job_id":
        notes.append("Note: jobs are numbered anew: their identifiers were no numbers")
        return pl.int_range(1, len(names) + 1, eager=True)
    distinct = names.drop_nulls().unique().sort().to_list()
    title = {"user": "User", "group": "Group", "queue": "Queue"}[what]
    notes.extend(f"{title}: {number} {_one_line(name)}" for number, name in enumerate(distinct, start=1))
    return names.replace_strict(distinct, list(range(1, len(distinct) + 1)), default=None, return_dtype=pl.Int64)


def _one_line(name: str) -> str:
    return " ".join(name.split())
