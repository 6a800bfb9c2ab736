"""Standard Workload Format, version 2.2 (Chapin et al., JSSPP 1999; www.cs.huji.ac.il/labs/parallel/workload/swf.html).

Lines starting with ``;`` are comments, those of the form ``; Name: value`` at the top are header fields; every other
line is one job of 18 blank-separated numbers, −1 for unknown. Some tools append fields of their own; they are ignored.

``read_swf_table`` gives the log as it stands, for evaluation protocols that have cleaning rules of their own.
``FORMAT.read`` gives the canonical trace under this project's rules, which docs/reference/trace-formats.md lists.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import IntArray
from shunter.traces.readers.base import SHOWN_BAD_ROWS, Format, Head, Source, require_text
from shunter.traces.readers.draft import NEVER_RAN, Draft
from shunter.traces.tables import BadRow, Cleaning, ClusterSpec, Trace, pool

if TYPE_CHECKING:
    import polars as pl

FIELDS = (
    "job",
    "submit_s",
    "wait_s",
    "run_s",
    "allocated",
    "average_cpu_s",
    "used_memory_kb",
    "requested",
    "requested_s",
    "requested_memory_kb",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding_job",
    "think_s",
)
"""The 18 fields in order. ``allocated`` and ``requested`` are processors; memory is per processor."""

INTEGER_FIELDS = tuple(
    name for name in FIELDS if not name.endswith("_s") and name not in {"used_memory_kb", "requested_memory_kb"}
)

OUTCOME_OF_STATUS = {1: "completed", 0: "failed", 5: "killed", 2: "killed", 3: "completed", 4: "failed"}
"""Status 2 to 4 are parts of a checkpointed job: to be continued, last part completed, last part failed."""

PARTIAL_STATUSES = (2.0, 3.0, 4.0)

EXACT = 2.0**53
"""Whole numbers below this are exact as float64."""

PLAUSIBLE_EPOCH_S = (1e9, 4e9)
"""First submit times in this range (2001 to 2096) are Unix seconds: since a log's start they would mean 31 years.
Larger ones are no dates: a log that counts in milliseconds is left as it stands."""

NO_LIMIT = "requested time unknown (0 or less)"
BY_ALLOCATED = "requested processors unknown: allocated ones taken"


class SwfTable(NamedTuple):
    """A log as it stands.

    Attributes:
        header: Header fields; a field given several times has its values joined by line ends.
        frame: One row a job in file order, columns ``FIELDS``. Times and memory are Float64; counts, identifiers and
            codes are Int64, or Float64 where the log has fractions in that field.
        lines: (J,) line of each job in the unpacked file, counted from 1.
    """

    header: dict[str, str]
    frame: pl.DataFrame
    lines: IntArray


def read_swf_table(path: str | Path) -> SwfTable:
    """All rows and header fields of an SWF file, compressed or not, without any cleaning.

    Raises:
        TraceError: The file cannot be read, or a row has fewer than 18 fields or one that is not a finite number.
    """
    from shunter.traces.compression import read_bytes

    source = Source(Path(path), read_bytes(Path(path)))
    table, bad, _ = _read_rows(source)
    if bad:
        raise source.refuse(bad)
    return table


def parse_header(comments: list[str]) -> dict[str, str]:
    """Header fields of the leading comment lines; a line without ``Name:`` continues the one before."""
    header: dict[str, str] = {}
    last = ""
    for comment in comments:
        text = comment.lstrip("; \t").rstrip()
        field = re.match(r"([A-Za-z][A-Za-z0-9 _-]{0,30}):\s*(.*)", text)
        if field and not comment.startswith((";\t", ";  ")):
            last = field[1].strip()
            header[last] = f"{header[last]}\n{field[2]}" if last in header else field[2]
        elif text and last:
            header[last] += f" {text}"
    return header


def leading_integer(text: str | None) -> int | None:
    """The whole number that a header value starts with: ``338 (430 after ...)`` is 338; None without one."""
    found = re.match(r"\s*([0-9]+)", text or "")
    return int(found[1]) if found else None


def _split(source: Source) -> tuple[list[str], bytes, int]:
    """Leading comment lines, the rest of the file, and the number of lines before the rest."""
    require_text(source)
    data = source.data.removeprefix(b"\xef\xbb\xbf")
    position, comments = 0, list[str]()
    while position < len(data):
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        line = data[position:end].strip()
        if line and not line.startswith(b";"):
            break
        comments.append(line.decode("utf-8", errors="replace"))
        position = end + 1
    return comments, data[position:], len(comments)


def _squeeze(body: bytes) -> bytes:
    """``body`` with every run of blanks made one space, none at either end of a line, and no blank lines."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    body = body.replace(b" " * 8, b" ").replace(b" " * 4, b" ")
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    return body.replace(b"\n ", b"\n").replace(b" \n", b"\n").lstrip(b" ").rstrip()


def _fast_frame(body: bytes, first_line: int) -> tuple[pl.DataFrame, IntArray, int] | None:
    """All rows parsed at once, their lines, and the fields a row has; None when a row is no number or ragged."""
    import polars as pl

    squeezed = _squeeze(body)
    width = squeezed.split(b"\n", 1)[0].count(b" ") + 1
    if width < len(FIELDS):
        return None
    lines: IntArray | None = None
    if b"\n;" in squeezed or b"\n\n" in squeezed:
        filled = [(i, row) for i, row in enumerate(squeezed.split(b"\n")) if row and not row.startswith(b";")]
        lines = np.asarray([i for i, _ in filled], dtype=np.int64) + first_line
        squeezed = b"\n".join(row for _, row in filled)
    extra = {f"extra_{i}": pl.String() for i in range(width - len(FIELDS))}
    try:
        frame = pl.read_csv(
            squeezed,
            separator=" ",
            has_header=False,
            schema={**dict.fromkeys(FIELDS, pl.Float64()), **extra},
            quote_char=None,
            encoding="utf8-lossy",
        )
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
        return None  # a cell that is no number or a row of another length: the slow way finds out where
    if any(frame[name].null_count() for name in frame.columns):
        return None
    frame = frame.select(FIELDS)
    if not all(frame.select(pl.all().is_finite().all()).row(0)):
        return None
    return frame, lines if lines is not None else np.arange(frame.height, dtype=np.int64) + first_line, width


def _slow_frame(body: bytes, first_line: int) -> tuple[pl.DataFrame, IntArray, list[BadRow], int]:
    """Row by row, with the place of every defect: good rows, their lines, bad rows, most fields seen in a row."""
    import polars as pl

    rows: list[list[float]] = []
    lines: list[int] = []
    bad: list[BadRow] = []
    width = len(FIELDS)
    for number, line in enumerate(body.decode("utf-8", errors="replace").splitlines(), start=first_line):
        cells = line.split()
        if not cells or cells[0].startswith(";"):
            continue
        width = max(width, len(cells))
        if len(cells) < len(FIELDS):
            bad.append(BadRow(number, len(cells), f"expected {len(FIELDS)} fields", str(len(cells))))
            continue
        values = [_as_float(cell) for cell in cells[: len(FIELDS)]]
        wrong = next((i for i, value in enumerate(values) if value is None), None)
        if wrong is not None:
            bad.append(BadRow(number, wrong + 1, f"{FIELDS[wrong]}: expected a finite number", cells[wrong]))
            continue
        rows.append([value for value in values if value is not None])
        lines.append(number)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(FIELDS, pl.Float64()), orient="row")
    return frame, np.asarray(lines, dtype=np.int64), bad, width


def _as_float(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _read_rows(source: Source) -> tuple[SwfTable, list[BadRow], int]:
    """The log as it stands, the rows that cannot be read, and the most fields that a row has."""
    import polars as pl

    comments, body, skipped = _split(source)
    if not body.strip():
        raise TraceError(f"{source.path}: no job lines, only {skipped} lines of comments")
    bad: list[BadRow] = []
    fast = _fast_frame(body, skipped + 1)
    if fast is not None:
        frame, lines, width = fast
    else:
        frame, lines, bad, width = _slow_frame(body, skipped + 1)
    exact = [(pl.col(name) == pl.col(name).round(0)) & (pl.col(name).abs() < EXACT) for name in INTEGER_FIELDS]
    whole = frame.select(check.all() for check in exact).row(0)
    frame = frame.with_columns(
        pl.col(name).cast(pl.Int64) for name, is_whole in zip(INTEGER_FIELDS, whole, strict=True) if is_whole
    )
    return SwfTable(parse_header(comments), frame, lines), bad, width


def _flag_times(draft: Draft) -> None:
    """Refuse negative times other than −1: nothing in the format explains them."""
    import polars as pl

    checks = (
        ("submit_s", pl.col("submit_s") < 0, "expected a submit time of at least 0"),
        ("run_s", (pl.col("run_s") < 0) & (pl.col("run_s") != -1), "expected a run time of at least 0, or -1"),
        (
            "requested_s",
            (pl.col("requested_s") < 0) & (pl.col("requested_s") != -1),
            "expected a requested time of at least 0, or -1",
        ),
    )
    for name, is_bad, expected in checks:
        draft.refuse(draft.frame.select(is_bad.alias("bad")).to_series(), name, expected, FIELDS.index(name) + 1)


def _clean(draft: Draft) -> None:
    """The cleaning rules, in order; see docs/reference/trace-formats.md."""
    import polars as pl

    again = pl.col("job").is_duplicated() & pl.col("status").cast(pl.Float64).is_in(PARTIAL_STATUSES)
    draft.drop(again, "part of a checkpointed job that is listed as a whole")
    draft.drop(pl.col("run_s") <= 0, NEVER_RAN)
    unknown = (pl.col("requested") <= 0) & (pl.col("allocated") <= 0)
    draft.drop(unknown, "size not known (neither requested nor allocated processors)")
    draft.adjust(pl.col("requested") <= 0, BY_ALLOCATED, requested=pl.col("allocated"))
    fraction = pl.col("requested") != pl.col("requested").ceil()
    draft.adjust(fraction, "fractional processors rounded up", requested=pl.col("requested").ceil())
    draft.adjust(pl.col("requested_s") <= 0, NO_LIMIT, requested_s=pl.lit(None, dtype=pl.Float64))
    draft.adjust(pl.col("wait_s") < -1, "negative wait taken as unknown", wait_s=pl.lit(-1.0))


def _canonical() -> list[pl.Expr]:
    """Canonical columns from the 18 fields of cleaned rows."""
    import polars as pl

    def name(field: str) -> pl.Expr:
        known = pl.when(pl.col(field) >= 0).then(pl.col(field))
        return known.cast(pl.Int64, strict=False).cast(pl.String)

    status = pl.col("status").cast(pl.Int64, strict=False)
    return [
        pl.col("line"),
        pl.col("job").cast(pl.Int64, strict=False).cast(pl.String).alias("job_id"),
        pl.col("submit_s"),
        pl.col("run_s").alias("duration_s"),
        pl.col("requested_s"),
        pl.col("requested").alias("tasks"),
        pl.lit(1.0).alias("cpus"),
        name("user").alias("user"),
        name("group").alias("group"),
        name("queue").alias("queue"),
        status.replace_strict(OUTCOME_OF_STATUS, default="completed", return_dtype=pl.String).alias("outcome"),
        pl.when(pl.col("wait_s") >= 0).then(pl.col("wait_s")).alias("recorded_wait_s"),
    ]


def _cluster(header: dict[str, str]) -> ClusterSpec | None:
    """The pool that the header names; None without one. A substitute for MaxProcs is noted in the header."""
    processors = leading_integer(header.get("MaxProcs"))
    if processors:
        return pool(processors)
    nodes = leading_integer(header.get("MaxNodes"))
    if nodes:
        header["cluster_note"] = f"the header has no MaxProcs: MaxNodes {nodes} taken, one processor a node"
        return pool(nodes)
    return None


def _read(source: Source) -> Trace:
    import polars as pl

    table, bad, width = _read_rows(source)
    if bad and not source.skip_bad:
        raise source.refuse(bad)
    counts: dict[str, int] = {}
    for row in bad:
        counts[f"bad row: {row.reason}"] = counts.get(f"bad row: {row.reason}", 0) + 1
    cleaning = Cleaning(len(bad) + table.frame.height, counts, bad_rows=tuple(bad[:SHOWN_BAD_ROWS]))
    draft = Draft(source, table.frame.with_columns(pl.Series("line", table.lines)), cleaning)
    _flag_times(draft)
    _clean(draft)
    draft.frame = draft.frame.select(_canonical())
    header = dict(table.header)
    if width > len(FIELDS):
        header["extra_fields_note"] = f"{width - len(FIELDS)} fields beyond the format's 18 are ignored"
    start = leading_integer(header.get("UnixStartTime"))
    draft.start_unix_s = float(start) if start else None
    first = float(draft.frame["submit_s"].min()) if draft.frame.height else 0.0  # type: ignore[arg-type]
    if start is None and PLAUSIBLE_EPOCH_S[0] <= first < PLAUSIBLE_EPOCH_S[1]:
        draft.adjusted["submit times were Unix seconds: counted from the first"] = draft.frame.height
        draft.rebase()
    cluster = source.cluster or _cluster(header)
    return draft.finish(format="swf", cluster=cluster, resources=("cpus",), header=header)


def _detect(head: Head) -> bool:
    rows = [line for line in head.lines if not line.startswith(";")]
    if not rows:
        return bool(head.lines) and any(line.startswith("; Version:") for line in head.lines)
    cells = rows[0].split()
    return len(cells) >= len(FIELDS) and all(_as_float(cell) is not None for cell in cells[: len(FIELDS)])


FORMAT = Format("swf", "Standard Workload Format of the Parallel Workloads Archive", _detect, _read)
