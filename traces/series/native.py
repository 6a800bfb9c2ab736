"""The native file of load series, and the same as CSV: ``time_s, node`` and one column for each feature.

In Parquet, rows go by time and then by node, what was not measured is null, and all else of the series is one JSON text
in the metadata. A file without it (somebody else's table of these columns) is read as samples.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError, UsageError
from shunter.traces.compression import write_atomically
from shunter.traces.load_series import LoadSeries
from shunter.traces.readers.base import Head, Source
from shunter.traces.readers.table import read_table
from shunter.traces.series.base import NODE, STAMPS, TIME, Samples, samples, value

if TYPE_CHECKING:
    import polars as pl

MAGIC = b"PAR1"
METADATA_KEY = "shunter.load_series"
VERSION = 1
"""Version of the metadata; a reader refuses a newer one."""

ONLY_NODE = "all"
"""Name of the node where a table has no column for it."""


def write_series(series: LoadSeries, path: str | Path) -> None:
    """Write a series whole or not at all: as Parquet with everything, or as CSV (``.csv``) without metadata.

    Raises:
        UsageError: Another ending.
        OutputError: The file cannot be written; nothing stands under its name.
    """
    place = Path(path)
    if place.suffix == ".parquet":
        write_atomically(place, parquet_bytes(series))
    elif place.suffix == ".csv":
        write_atomically(place, as_frame(series).write_csv().encode())
    else:
        raise UsageError(
            f"{place}: a load series is written as Parquet or CSV; expected a name ending in .parquet or .csv"
        )


def parquet_bytes(series: LoadSeries) -> bytes:
    """A series as the native file's content: equal series give equal bytes (of one version of polars)."""
    buffer = io.BytesIO()
    content = {
        "version": VERSION,
        "name": series.name,
        "nodes": series.nodes,
        "features": series.features,
        "units": series.units,
        "step_s": series.step_s,
        "begin_s": series.begin_s,
        "dated": series.dated,
        "facts": dict(series.facts),
    }
    metadata = {METADATA_KEY: json.dumps(content, sort_keys=True, separators=(",", ":"))}
    as_frame(series).write_parquet(buffer, compression="zstd", statistics=False, metadata=metadata)
    return buffer.getvalue()


def as_frame(series: LoadSeries) -> pl.DataFrame:
    """A series as a table: ``time_s, node`` and the features, by time and then by node; null where not measured."""
    import polars as pl

    cells = series.values.reshape(-1, len(series.features))
    codes = np.tile(np.arange(len(series.nodes), dtype=np.uint32), len(series))
    names = pl.Series(NODE, list(series.nodes), dtype=pl.String).gather(codes)
    columns = {name: pl.Series(name, cells[:, i]).fill_nan(None) for i, name in enumerate(series.features)}
    return pl.DataFrame({TIME: np.repeat(series.times_s(), len(series.nodes)), NODE: names, **columns})


def detect(head: Head) -> bool:
    """True for Parquet; ``is_series`` tells load series from lists of jobs."""
    return head.data.startswith(MAGIC)


def is_series(data: bytes) -> bool:
    """Whether a Parquet file's columns are those of a load series."""
    import polars as pl

    try:
        columns = pl.read_parquet_schema(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError):
        return False
    is_timeline = "queue_length" in columns and NODE not in columns
    return TIME in columns and "job_id" not in columns and not is_timeline


def load(source: Source) -> LoadSeries | None:
    """The series that ``write_series`` wrote; None for a table without its metadata.

    Raises:
        TraceError: Damaged, or written by a newer version.
    """
    import polars as pl

    frame, text = _open(source)
    if text is None:
        return None
    try:
        content = json.loads(text)
        if content["version"] > VERSION:
            raise TraceError(f"{source.path}: written by a newer version (metadata version {content['version']})")
        shape = (-1, len(content["nodes"]), len(content["features"]))
        cells = [frame[name].cast(pl.Float32).fill_null(np.nan).to_numpy() for name in content["features"]]
        return LoadSeries(
            name=str(content["name"]),
            nodes=tuple(content["nodes"]),
            features=tuple(content["features"]),
            values=np.stack(cells, axis=-1).reshape(shape),
            step_s=float(content["step_s"]),
            begin_s=float(content["begin_s"]),
            dated=bool(content["dated"]),
            units=tuple(content["units"]),
            facts=content["facts"],
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, pl.exceptions.PolarsError) as problem:
        raise TraceError(f"{source.path}: damaged metadata of a load series ({_told(problem)})") from None


def _told(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def _open(source: Source) -> tuple[pl.DataFrame, str | None]:
    import polars as pl

    try:
        frame = pl.read_parquet(io.BytesIO(source.data))
        metadata = pl.read_parquet_metadata(io.BytesIO(source.data))
    except (pl.exceptions.PolarsError, OSError) as problem:
        raise TraceError(f"{source.path}: damaged or truncated Parquet file ({_told(problem)})") from None
    return frame, metadata.get(METADATA_KEY)


def read(source: Source) -> Samples:
    """Samples of a Parquet file; of one with metadata, its points.

    Raises:
        TraceError: Damaged, or without the columns of a load series.
    """
    import polars as pl

    series = load(source)
    if series is not None:
        units = dict(zip(series.features, series.units, strict=True))
        facts = {"rows_read": len(series) * len(series.nodes)}
        return Samples(as_frame(series), units, facts, series.dated, series.step_s)
    frame, _ = _open(source)
    if TIME not in frame.columns:
        raise TraceError(
            f"{source.path}: no load series: column {TIME!r} missing; it has: {', '.join(frame.columns[:20])}"
        )
    if NODE not in frame.columns:
        frame = frame.with_columns(pl.lit(ONLY_NODE).alias(NODE))
    features = [name for name in frame.columns if name not in (TIME, NODE)]
    for name in (TIME, *features):
        if not frame[name].dtype.is_numeric():
            raise TraceError(f"{source.path}: column {name!r} holds {frame[name].dtype}, expected numbers")
    frame = frame.select(
        pl.col(TIME).cast(pl.Float64), pl.col(NODE).cast(pl.String), pl.col(*features).cast(pl.Float64)
    )
    if frame[TIME].is_null().any() or frame[NODE].is_null().any():
        raise TraceError(f"{source.path}: a row has no time or no node")
    return Samples(frame, {}, {"rows_read": frame.height}, dated=is_date(frame[TIME]))


def detect_csv(head: Head) -> bool:
    """True for a heading with ``time_s`` that is not one of jobs."""
    return head.has(TIME) and not head.has("job_id") and not head.has("submit_s")


def read_csv(source: Source) -> Samples:
    """Samples of a table with ``time_s`` (Unix seconds, or a time stamp), perhaps ``node``, and features.

    Raises:
        TraceError: No feature, or bad rows.
    """
    table = read_table(source)
    table.require(TIME)
    features = [name for name in table.frame.columns if name not in (TIME, NODE)]
    if not features:
        raise TraceError(f"{source.path}:1: expected a column for a feature beside {TIME!r} and {NODE!r}")
    columns = {name: value(table, name) for name in features}
    time = table.time(TIME, formats=STAMPS)
    node = table.text(NODE, optional=False) if table.has(NODE) else ONLY_NODE
    return samples(table, time, node, columns, {}, dated=is_date(time))


EARLIEST_DATE_S = 315532800.0
"""1980: smaller numbers count from a start of their own."""


def is_date(time: pl.Series) -> bool:
    """Whether numbers are Unix seconds rather than seconds since a start."""
    first = time.min()
    return isinstance(first, float) and first >= EARLIEST_DATE_S
