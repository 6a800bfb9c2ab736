"""What the formats of load series have in common: their entry in the list, and the samples that they hand over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shunter.traces.readers.base import Head, Source
from shunter.traces.readers.table import TIME_FORMATS, RawTable

if TYPE_CHECKING:
    import polars as pl

MISSING = ("nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A")
"""Cells that say that nothing was measured."""

STAMPS = (*TIME_FORMATS, "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%M:%S%#z", "%Y-%m-%d %H:%M:%S%#z")

TIME, NODE = "time_s", "node"


@dataclass(frozen=True, slots=True)
class Samples:
    """What one file says, before it is put on a grid.

    Attributes:
        frame: ``time_s``, ``node`` and a float column for each feature, in the order of the file.
        units: Feature to unit.
        facts: Rows read and left out.
        dated: Whether the times are real dates.
        step_s: Where the file states it.
    """

    frame: pl.DataFrame
    units: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    dated: bool = True
    step_s: float | None = None


Finish = Callable[["pl.DataFrame"], tuple["pl.DataFrame", Mapping[str, Any]]]
"""Works out features that need all rows in the order of time; with what should be known of how."""


@dataclass(frozen=True, slots=True)
class SeriesFormat:
    """An entry of the list of formats.

    Attributes:
        name: Short name.
        description: One line for ``shunter traces list``.
        detect: True when a file that starts so is certainly of this format.
        read: Samples of a file.
        finish: What follows once all files of a series are together.
    """

    name: str
    description: str
    detect: Callable[[Head], bool]
    read: Callable[[Source], Samples]
    finish: Finish | None = None


def value(table: RawTable, column: str, scale: float = 1.0) -> pl.Series:
    """A measured column: any finite number, or a cell that says that nothing was measured."""
    import polars as pl

    try:  # the usual column, in one go
        values = table.frame[column].cast(pl.Float64)
    except pl.exceptions.InvalidOperationError:
        values = None
    if values is not None and values.is_finite().all():
        return values * scale if scale != 1.0 else values
    return table.number(column, scale=scale, minimum=None, optional=True, missing=MISSING)


def samples(
    table: RawTable,
    time: pl.Series,
    node: pl.Series | str,
    columns: Mapping[str, pl.Series],
    units: Mapping[str, str],
    *,
    dated: bool = True,
) -> Samples:
    """The good rows of a table as samples.

    Raises:
        TraceError: There are bad rows and the caller did not ask to skip them; or no row is left.
    """
    import polars as pl

    from shunter.scheduler.errors import TraceError

    name = pl.repeat(node, len(time), dtype=pl.String, eager=True) if isinstance(node, str) else node
    frame = pl.DataFrame({TIME: time, NODE: name, **columns})
    keep, cleaning = table.settle()
    if cleaning.rows_dropped:
        frame = frame.filter(keep)
    if not frame.height:
        raise TraceError(f"{table.source.path}: all {cleaning.rows_read:,} rows are bad; no load series is left")
    facts = {
        "rows_read": cleaning.rows_read,
        "dropped": dict(cleaning.dropped),
        "bad_rows": [f"{table.source.path}:{row}" for row in cleaning.bad_rows],
    }
    return Samples(frame, units, facts, dated)
