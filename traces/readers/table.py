"""Text tables: splitting into cells with line numbers, and turning cells into numbers, times and names.

Owns the reporting of bad cells. Cells are converted a whole column at a time; a cell that cannot be converted is noted
with its line and field number, so that a good file pays nothing and a bad one gets the place of its first defect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.types import IntArray
from shunter.traces.readers.base import SHOWN_BAD_ROWS, Source, require_text
from shunter.traces.tables import BadRow, Cleaning

if TYPE_CHECKING:
    import polars as pl

NEWLINE, CARRIAGE_RETURN, QUOTE = 10, 13, 34

TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)


class RawTable:
    """A text table whose cells are still text, one frame row a record, with the defects found so far.

    ``frame`` holds text columns under the file's names (null for an empty cell), ``lines`` the (rows,) line on which
    each record starts.
    """

    def __init__(self, source: Source, frame: pl.DataFrame, lines: IntArray, bad: list[BadRow], records: int) -> None:
        self.source = source
        self.frame = frame
        self.lines = lines
        self.records = records
        self._malformed = bad
        self._bad: dict[int, BadRow] = {}

    def require(self, *columns: str) -> None:
        """Refuse a table without these columns.

        Raises:
            TraceError: Names the missing columns and lists those that there are.
        """
        missing = [name for name in columns if name not in self.frame.columns]
        if missing:
            have = ", ".join(self.frame.columns[:30])
            what = "column" if len(missing) == 1 else "columns"
            names = ", ".join(repr(name) for name in missing)
            raise TraceError(f"{self.source.path}:1: {what} {names} missing; the file has: {have}")

    def has(self, column: str) -> bool:
        """True when the file has the column."""
        return column in self.frame.columns

    def flag(self, mask: pl.Series, column: str, expected: str) -> None:
        """Note every row of ``mask`` as bad because of its cell in ``column``; a row keeps its first defect."""
        cells, position = self.frame[column], self.frame.columns.index(column) + 1
        for row in mask.fill_null(False).arg_true().to_list():
            found = BadRow(int(self.lines[row]), position, f"column {column!r}: {expected}", cells[row] or "")
            if row not in self._bad or found.column < self._bad[row].column:
                self._bad[row] = found

    def text(self, column: str, *, optional: bool = True, missing: Sequence[str] = ()) -> pl.Series:
        """Cells as they stand, trimmed; empty cells and those in ``missing`` are null."""
        cells = self.frame[column].str.strip_chars()
        cells = cells.set(cells.is_in(["", *missing]), None)
        if not optional:
            self.flag(cells.is_null(), column, "a value is needed")
        return cells

    def number(
        self,
        column: str,
        *,
        scale: float = 1.0,
        minimum: float | None = 0.0,
        optional: bool = False,
        missing: Sequence[str] = (),
        whole: bool = False,
    ) -> pl.Series:
        """Cells as float64 times ``scale``.

        Args:
            column: Name in the file.
            scale: Factor from the file's unit to the canonical one.
            minimum: Least value, in the file's unit; None for any.
            optional: An empty cell is null instead of a defect.
            missing: Cells that mean "not known" (``-1``, ``inf``); null if ``optional``, else a defect.
            whole: Refuse a fraction.
        """
        import polars as pl

        cells = self.text(column, missing=missing)
        values = cells.cast(pl.Float64, strict=False)
        bad = values.is_null() & cells.is_not_null()
        bad = bad | (~values.is_finite()).fill_null(False)
        expected = "expected a number"
        if minimum is not None:
            bad = bad | (values < minimum).fill_null(False)
            expected = f"expected a number of at least {minimum:g}"
        if whole:
            bad = bad | (values != values.round(0)).fill_null(False)
            expected = expected.replace("a number", "a whole number")
        if not optional:
            bad = bad | values.is_null()
        self.flag(bad, column, expected)
        values = values.set(bad, None)
        return values * scale if scale != 1.0 else values

    def time(
        self, column: str, *, formats: Sequence[str] = TIME_FORMATS, optional: bool = False, missing: Sequence[str] = ()
    ) -> pl.Series:
        """Cells as Unix seconds: plain numbers as they are, time stamps by the first of ``formats`` that fits.

        A time stamp without a zone is read as if it were UTC, since most logs do not say.
        """
        import polars as pl

        cells = self.text(column, missing=missing)
        values = cells.cast(pl.Float64, strict=False)
        for layout in formats:
            rest = values.is_null() & cells.is_not_null()
            if not rest.any():
                break
            stamps = cells.set(~rest, None).str.to_datetime(layout, strict=False, time_unit="us", time_zone="UTC")
            values = values.zip_with(~rest, stamps.dt.timestamp("us").cast(pl.Float64) / 1e6)
        bad = (values.is_null() & cells.is_not_null()) | (~values.is_finite()).fill_null(False)
        bad = bad | (values < 0).fill_null(False)
        if not optional:
            bad = bad | values.is_null()
        self.flag(bad, column, f"expected a time such as {_example(formats)}")
        return values.set(bad, None)

    def settle(self) -> tuple[pl.Series, Cleaning]:
        """Rows that may be used, as a mask over ``frame``, and the count of those that may not.

        Raises:
            TraceError: There are bad rows and the caller did not ask to skip them.
        """
        import polars as pl

        bad = sorted([*self._malformed, *self._bad.values()])
        if bad and not self.source.skip_bad:
            raise self.source.refuse(bad)
        keep = np.ones(len(self.lines), dtype=np.bool_)
        keep[list(self._bad)] = False
        dropped = dict(Counter(f"bad row: {row.reason}" for row in bad))
        cleaning = Cleaning(rows_read=self.records, dropped=dropped, bad_rows=tuple(bad[:SHOWN_BAD_ROWS]))
        return pl.Series("keep", keep), cleaning


def _example(formats: Sequence[str]) -> str:
    """How a time stamp in the first of the accepted layouts looks."""
    import datetime

    sample = datetime.datetime(2021, 3, 14, 15, 9, 26, tzinfo=datetime.UTC)
    return repr(sample.strftime(formats[0].replace("%.f", ""))) if formats else "seconds"


def read_table(
    source: Source, *, separator: str = ",", names: Sequence[str] | None = None, quoted: bool = True
) -> RawTable:
    """Split a text file into cells.

    Args:
        source: The file.
        separator: One character.
        names: Column names of a file without a heading; None takes the first line.
        quoted: Cells may stand in double quotes, with quotes inside doubled (RFC 4180).

    Raises:
        TraceError: Binary content, no rows, a heading with the same name twice.
    """
    require_text(source)
    data = source.data.removeprefix(b"\xef\xbb\xbf")
    starts, ends, lines, fields = _records(data, separator, quoted=quoted)
    if names is None:
        if len(starts) == 0:
            raise TraceError(f"{source.path}: no heading and no rows")
        names = _heading(source, data[starts[0] : ends[0]], separator, quoted=quoted)
        starts, ends, lines, fields = starts[1:], ends[1:], lines[1:], fields[1:]
    good = fields == len(names)
    bad = [
        BadRow(int(line), int(min(count, len(names))), f"expected {len(names)} columns", str(count))
        for line, count in zip(lines[~good], fields[~good], strict=True)
    ]
    if not len(starts):
        raise TraceError(f"{source.path}: a heading but no rows")
    if bad and good.any():  # the parser would guess at ragged rows, so they never reach it
        body = b"\n".join(data[a:b] for a, b in zip(starts[good], ends[good], strict=True))
    else:
        body = data[starts[0] :] if good.any() else b""
    frame = _cells(body, separator, names, quoted=quoted)
    if frame is None or frame.height != int(good.sum()):
        raise TraceError(f"{source.path}:{_odd_quotes(data)}: quotes do not pair up, so cells cannot be told apart")
    return RawTable(source, frame, lines[good], bad, len(starts))


def _records(data: bytes, separator: str, *, quoted: bool) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Where each record starts and ends (bytes), on which line it starts, and how many fields it has; blank ones out.

    Line ends and separators inside double quotes belong to a cell: a position lies inside when an odd number of
    quotes stands before it.
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    newlines = np.flatnonzero(raw == NEWLINE)
    separators = np.flatnonzero(raw == ord(separator))
    all_newlines = newlines
    if quoted and b'"' in data:
        quotes = np.flatnonzero(raw == QUOTE)
        newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
    starts = np.concatenate([[0], newlines + 1]).astype(np.int64)
    ends = np.concatenate([newlines, [len(raw)]]).astype(np.int64)
    carriage = (ends > starts) & (raw[np.maximum(ends - 1, 0)] == CARRIAGE_RETURN) if len(raw) else ends > starts
    ends = ends - carriage
    fields = np.searchsorted(separators, ends) - np.searchsorted(separators, starts) + 1
    lines = np.searchsorted(all_newlines, starts) + 1
    filled = ends > starts
    return starts[filled], ends[filled], lines[filled].astype(np.int64), fields[filled].astype(np.int64)


def _heading(source: Source, line: bytes, separator: str, *, quoted: bool) -> list[str]:
    text = line.decode("utf-8", errors="replace")
    cells = text.split(separator)
    names = [" ".join((cell.strip().strip('"') if quoted else cell).split()) for cell in cells]
    names = [name or f"column_{i + 1}" for i, name in enumerate(names)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        place = names.index(twice[0], names.index(twice[0]) + 1) + 1
        raise TraceError(f"{source.path}:1:{place}: column {twice[0]!r} occurs more than once")
    return names


def _odd_quotes(data: bytes) -> int:
    """The first line with an odd number of quotes, or the first with any."""
    counts = [(number, line.count(b'"')) for number, line in enumerate(data.split(b"\n"), start=1)]
    odd = next((number for number, count in counts if count % 2), None)
    return odd or next((number for number, count in counts if count), 1)


def _cells(body: bytes, separator: str, names: Sequence[str], *, quoted: bool) -> pl.DataFrame | None:
    """Records as a frame of text; every record has the right number of fields. None where quotes are misplaced."""
    import polars as pl

    if not body:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if b"\n\n" in body:
        body = b"\n".join(line for line in body.split(b"\n") if line)
    try:
        return pl.read_csv(
            body,
            separator=separator,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            quote_char='"' if quoted else None,
            encoding="utf8-lossy",
        )
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
        return None  # a quote inside an unquoted cell: the parser and the count of fields disagree
