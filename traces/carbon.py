"""Carbon-intensity series of electricity grids, aligned with a trace.

A series is a table ``timestamp, carbon_intensity`` in g CO₂ equivalent per kWh with a regular step, such as the grids'
quarter-hours or hours.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from shunter.scheduler.energy import Intensity
from shunter.traces.compression import read_bytes
from shunter.traces.readers.table import TIME_FORMATS, read_table
from shunter.traces.readers.whole import WholeSource

ZONED_FORMATS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%S+00:00", *TIME_FORMATS)
STEP_TOLERANCE_S = 1e-3


def read_carbon(path: Path, start_unix_s: float | None = None) -> Intensity:
    """A grid's carbon intensity, so placed that the trace's second 0 meets its own time of day and year.

    Where the series covers the trace's start, it is used as it stands. A trace of another year takes the same time of
    the year (seconds since 1 January, UTC); a trace without a date starts where the series starts. Beyond its end the
    series begins again: one of 364 days, say, shows 1 January on 31 December.

    Args:
        path: The table, plain or compressed.
        start_unix_s: Unix time of the trace's second 0; None when it is not known.

    Raises:
        TraceError: A cell that is no time or no amount of at least 0, a step that is not that of the rows before, fewer
            than two rows; with file, line and column.
    """
    table = read_table(WholeSource(path, read_bytes(path)))
    table.require("timestamp", "carbon_intensity")
    times = table.time("timestamp", formats=ZONED_FORMATS)
    values = table.number("carbon_intensity")
    table.settle()
    steps = times.diff()
    step_s = float(steps[1]) if len(steps) > 1 else 0.0
    if step_s > 0:
        table.flag((steps - step_s).abs() > STEP_TOLERANCE_S, "timestamp", f"expected a step of {step_s:g} s")
    else:
        table.flag(times == times[0], "timestamp", "expected at least two rows, with rising times")
    table.settle()
    first_unix_s = float(times[0])
    offset_s = 0.0 if start_unix_s is None else _offset_s(start_unix_s, first_unix_s, len(times) * step_s)
    return Intensity(values.to_numpy().astype(np.float64), step_s, offset_s)


def _offset_s(start_unix_s: float, first_unix_s: float, length_s: float) -> float:
    """Where in the series a Unix time lies: at itself, or else at its time of the year."""
    offset_s = start_unix_s - first_unix_s
    if 0 <= offset_s < length_s:
        return offset_s
    return (_since_new_year_s(start_unix_s) - _since_new_year_s(first_unix_s)) % length_s


def _since_new_year_s(unix_s: float) -> float:
    year = datetime.fromtimestamp(unix_s, UTC).year
    return unix_s - datetime(year, 1, 1, tzinfo=UTC).timestamp()
