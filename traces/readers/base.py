"""What every reader has in common: its entry in the registry, the source it reads, and how it reports a bad row.

A reader is one module with one ``FORMAT``. It is handed a ``Source`` (whole content, already unpacked) and returns a
``Trace`` or raises a one-line ``TraceError``; it opens no files of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shunter.scheduler.errors import TraceError
from shunter.traces.tables import BadRow

if TYPE_CHECKING:
    from shunter.traces.tables import ClusterSpec, Trace

HEAD_BYTES = 64 * 1024
"""Enough for the longest header comment of the Parallel Workloads Archive and a few rows."""

SHOWN_BAD_ROWS = 20
"""Bad rows that are kept one by one in ``Cleaning.bad_rows``; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of a file, for recognising its format.

    Attributes:
        data: First bytes, unpacked.
        lines: Lines in them, without line ends, blank lines or the last incomplete line.
    """

    data: bytes
    lines: tuple[str, ...]

    @classmethod
    def of(cls, data: bytes) -> Head:
        """The head of a file's whole content."""
        start = data[:HEAD_BYTES]
        text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
        lines = text.splitlines()
        if len(data) > len(start) and len(lines) > 1:
            lines = lines[:-1]
        return cls(start, tuple(line for line in lines if line.strip()))

    def names(self, separator: str = ",") -> frozenset[str]:
        """Column names, if the first line is a heading."""
        return frozenset(field.strip().strip('"') for field in self.lines[0].split(separator)) if self.lines else _NONE

    def has(self, *names: str, separator: str = ",") -> bool:
        """True when the heading has all of these columns."""
        return set(names) <= self.names(separator)


_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be read, with what the caller asked for.

    Attributes:
        path: For messages and the trace's name; it is not opened again.
        data: Whole content, unpacked.
        sha256: Hash of ``data``.
        skip_bad: Leave bad rows out and count them instead of refusing the file.
        mapping: Column mapping for the generic CSV reader.
        cluster: Replaces the cluster that the reader would assume.
    """

    path: Path
    data: bytes
    sha256: str = ""
    skip_bad: bool = False
    mapping: Path | None = None
    cluster: ClusterSpec | None = None

    def refuse(self, bad: list[BadRow]) -> TraceError:
        """The error for a file with bad rows: the first one, and how many more there are."""
        first = min(bad)
        rest = len(bad) - 1
        more = f" (and {rest:,} more bad row{'s' if rest > 1 else ''}; --skip-bad leaves them out)" if rest else ""
        return TraceError(f"{self.path}:{first}{more}")


@dataclass(frozen=True, slots=True)
class Format:
    """An entry of the registry.

    Attributes:
        name: What ``--format`` takes.
        description: One line for ``shunter traces list``.
        detect: True when a file that starts so is certainly of this format.
        read: Reads a source.
    """

    name: str
    description: str
    detect: Callable[[Head], bool]
    read: Callable[[Source], Trace]


def require_text(source: Source) -> None:
    """Refuse binary content.

    Raises:
        TraceError: A zero byte, or many control characters, among the first bytes.
    """
    head = source.data[:HEAD_BYTES]
    zero = head.find(b"\0")
    control = sum(head.count(bytes([code])) for code in range(32) if code not in (9, 10, 12, 13))
    if zero >= 0 or control > len(head) // 20:
        where = f"byte {zero} is zero" if zero >= 0 else "it is full of control characters"
        raise TraceError(f"{source.path}: binary content ({where}), expected a text file or Parquet")
