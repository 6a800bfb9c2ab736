"""``read_series``: any file of a load series in, one series on a regular grid out; several files are read into one.

The format is told by the content, as ``traces.read`` tells that of lists of jobs. Files of one series may hold other
nodes, other times or other features; what they say of the same node, step and feature is averaged.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.traces.compression import read_bytes, split_name
from shunter.traces.load_series import LoadSeries, numbered, order_of, regular
from shunter.traces.readers.base import SHOWN_BAD_ROWS, Head, Source, require_text
from shunter.traces.series import native
from shunter.traces.series.base import NODE, TIME, Samples, SeriesFormat
from shunter.traces.series.formats import FORMATS
from shunter.traces.series.native import write_series

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FORMATS", "format_of", "read_series", "write_series"]


def read_series(
    path: str | Path | Sequence[str | Path],
    *,
    step_s: float | None = None,
    skip_bad: bool = False,
    feature: str | None = None,
) -> LoadSeries:
    """Read a load series.

    Args:
        path: A file, packed or not; a folder, of which all files are read that are of the format of its first one (in
            the order of their names) that is a load series; or several files.
        step_s: Of the grid; by default the median time between two samples of a node, or the native file's.
        skip_bad: Leave bad rows out, counted in ``facts``, instead of refusing the file.
        feature: What forecasts are about, put first.

    Raises:
        TraceError: A file cannot be read as a load series; one line with file, line, column, reason and value.
        UsageError: The series has no such feature.
    """
    several = not isinstance(path, str | os.PathLike)
    paths = [Path(part) for part in path] if several else [Path(path)]  # type: ignore[union-attr, arg-type]
    if not paths:
        raise TraceError("no file of a load series was given")
    name = _name(paths)
    if not several and paths[0].is_dir():
        paths = _files_in(paths[0])
    sources = [_source(place, skip_bad) for place in paths]
    series = _stored(sources, step_s)
    if series is None:
        series = _joined(name, sources, step_s)
    if np.isnan(series.values).all():
        raise TraceError(
            f"{paths[0]}: nothing was measured: every value of {', '.join(series.features[:5])} is missing"
        )
    return series if feature is None else series.about(feature)


def format_of(data: bytes) -> SeriesFormat | None:
    """The format of a file's unpacked content; None when it is no load series."""
    head = Head.of(data)
    found = next((entry for entry in FORMATS if entry.detect(head)), None)
    return None if found is not None and found.read is native.read and not native.is_series(data) else found


def _source(path: Path, skip_bad: bool) -> Source:
    data = read_bytes(path)
    return Source(path=path, data=data, sha256=hashlib.sha256(data).hexdigest(), skip_bad=skip_bad)


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder that belong to one series.

    Raises:
        TraceError: The folder has no load series.
    """
    found: list[tuple[Path, str]] = []
    for place in sorted(folder.rglob("*")):
        if place.is_file() and not place.name.startswith("."):
            entry = format_of(read_bytes(place)) if place.stat().st_size else None
            if entry is not None:
                found.append((place, entry.name))
    if not found:
        raise TraceError(f"{folder}: none of its files is a load series")
    return [place for place, name in found if name == found[0][1]]


def _name(paths: list[Path]) -> str:
    """A file's or folder's name; what the names of several files begin with."""
    stems = [split_name(path)[0] if not path.is_dir() else path.absolute().name for path in paths]
    equal = [len(set(letters)) == 1 for letters in zip(*stems, strict=False)]
    common = stems[0][: [*equal, False].index(False)].rstrip("_-. ")
    return stems[0] if len(stems) == 1 else common or stems[0]


def _stored(sources: list[Source], step_s: float | None) -> LoadSeries | None:
    """A single native file as it was written, with longer steps where they are whole ones of its own; else None."""
    if len(sources) > 1 or not sources[0].data.startswith(native.MAGIC):
        return None
    series = native.load(sources[0])
    if series is None or step_s is None:
        return series
    return series.resampled(step_s) if series.is_whole_step(step_s) else None


def _joined(name: str, sources: list[Source], step_s: float | None) -> LoadSeries:
    import polars as pl

    entry = _one_format(sources)
    read = [entry.read(source) for source in sources]
    frame = pl.concat([part.frame for part in read], how="diagonal") if len(read) > 1 else read[0].frame
    notes: Mapping[str, Any] = {}
    if entry.finish is not None:
        frame, notes = entry.finish(frame)
    stated = {part.step_s for part in read}
    if step_s is None and len(stated) == 1:
        step_s = stated.pop()
    features = [column for column in frame.columns if column not in (TIME, NODE)]
    columns = {feature: _numbers(frame[feature]) for feature in features}
    units = {feature: unit for part in read for feature, unit in part.units.items()}
    facts = {"format": entry.name, **_origin(sources), **_cleaning(read), **notes}
    dated = all(part.dated for part in read)
    try:
        series = regular(name, frame[TIME], frame[NODE], columns, step_s=step_s, dated=dated, units=units, facts=facts)
    except TraceError as problem:
        text = str(problem).removeprefix(f"{name}: ")
        raise TraceError(f"{sources[0].path}: {text}") from None
    return series if len(read) == 1 else replace(series, facts={**series.facts, **_disorder(read)})


def _one_format(sources: list[Source]) -> SeriesFormat:
    """The format that all sources have.

    Raises:
        TraceError: No load series, or of different formats.
    """
    entries = [_require_format(source) for source in sources]
    for source, entry in zip(sources, entries, strict=True):
        if entry is not entries[0]:
            raise TraceError(
                f"{source.path}: of the format {entry.name}, and {sources[0].path} of {entries[0].name}; "
                f"files of one series have the same"
            )
    return entries[0]


def _require_format(source: Source) -> SeriesFormat:
    entry = format_of(source.data)
    if entry is not None:
        return entry
    if source.data.startswith(native.MAGIC):
        native.read(source)  # says what is damaged
        raise TraceError(
            f"{source.path}: no load series: a Parquet file without the column {TIME!r}, or a list of jobs"
        )
    require_text(source)
    lines = Head.of(source.data).lines
    if not lines:
        raise TraceError(f"{source.path}: the file has no content but blank lines")
    raise TraceError(
        f"{source.path}:1: no load series that is known, got {lines[0][:100]!r}; expected the heading of a published "
        f"one, or time_s, node and features"
    )


def _disorder(read: list[Samples]) -> dict[str, int]:
    """What is out of order in each file, added up: that one file begins before another ends is no disorder."""
    orders = []
    for part in read:
        _, codes = numbered(part.frame[NODE])
        orders.append(order_of(part.frame[TIME].to_numpy(), codes))
    return {
        "out_of_order": sum(order.out_of_order for order in orders),
        "duplicates": sum(order.duplicates for order in orders),
    }


def _numbers(column: pl.Series) -> Any:
    import polars as pl

    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _origin(sources: list[Source]) -> dict[str, Any]:
    hashes = [source.sha256 for source in sources]
    if len(hashes) == 1:
        return {"source": sources[0].path.name, "source_sha256": hashes[0]}
    together = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    files = {source.path.name: source.sha256 for source in sources}
    return {"source": f"{len(sources)} files", "source_sha256": together, "files": files}


def _cleaning(read: list[Samples]) -> dict[str, Any]:
    dropped = sum((Counter(part.facts.get("dropped", {})) for part in read), Counter[str]())
    bad = [row for part in read for row in part.facts.get("bad_rows", ())]
    return {
        "rows_read": sum(part.facts.get("rows_read", 0) for part in read),
        "dropped": dict(dropped),
        "bad_rows": bad[:SHOWN_BAD_ROWS],
    }
