"""Tables and JSON of the live verbs. Small on purpose: ``shunter queue`` is typed often and has to be there at once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "dim": "2", "bold": "1"}
GAP = "  "


def has_colours() -> bool:
    """Whether standard output shows colours; ``NO_COLOR`` and ``FORCE_COLOR`` are heeded."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def width_of_output() -> int | None:
    """Columns that a line may have: ``COLUMNS``, or the terminal's; None where there is no end, as in a file."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def painted(text: str, colour: str) -> str:
    """In a colour, where there are colours."""
    if not colour or not has_colours():
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: Heading.
        is_right: Whether it is set to the right.
        least: Columns that it keeps when room is short; None: it is never cut.
    """

    title: str
    is_right: bool = False
    least: int | None = None


Cell = str | tuple[str, str]
"""Text, or (text, colour)."""


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def clean(text: str) -> str:
    """What others wrote, without what would move the cursor or change colours."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def widths_of(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], most: int | None) -> list[int]:
    """As wide as the widest cell; where that is too much, those that may be cut give way, the widest first."""
    widths = [max([len(column.title), *(len(_text(row[i])) for row in rows)]) for i, column in enumerate(columns)]
    if most is None:
        return widths
    over = sum(widths) + len(GAP) * (len(columns) - 1) - most
    while over > 0:
        spare = [
            (widths[i] - max(column.least, len(column.title)), i)
            for i, column in enumerate(columns)
            if column.least is not None
        ]
        _, widest = max(((widths[i], i) for room, i in spare if room > 0), default=(0, -1))
        if widest < 0:
            break
        widths[widest] -= 1
        over -= 1
    return widths


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], widths: Sequence[int]) -> list[str]:
    """The rows, without the heading."""
    return [_line(columns, row, widths) for row in rows]


def heading(columns: Sequence[Column], widths: Sequence[int]) -> str:
    """The line of titles."""
    return _line(columns, [(column.title, "bold") for column in columns], widths)


def _line(columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int]) -> str:
    parts = []
    last = len(columns) - 1
    for i, (column, cell, width) in enumerate(zip(columns, row, widths, strict=True)):
        text = _text(cell)
        if len(text) > width and column.least is not None:
            text = text[: width - 1] + "…"
        space = " " * (width - len(text))
        shown = painted(text, "" if isinstance(cell, str) else cell[1])
        parts.append(space + shown if column.is_right else shown if i == last else shown + space)
    return GAP.join(parts).rstrip()


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """A whole table on standard output."""
    widths = widths_of(columns, rows, width_of_output())
    sys.stdout.write("\n".join([heading(columns, widths), *table_lines(columns, rows, widths)]) + "\n")


def print_pairs(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Names and values below one another."""
    listed = list(pairs)
    wide = max(len(name) for name, _ in listed)
    for name, cell in listed:
        shown = cell if isinstance(cell, str) else painted(*cell)
        sys.stdout.write(f"{painted(name.ljust(wide), 'dim')}{GAP}{shown}".rstrip() + "\n")


# --- JSON ------------------------------------------------------------------------------------------------------------


def document(message: Any) -> dict[str, Any]:
    """A message of the protocol as plain values.

    Names are the protocol's, states are lower-case words, numbers are numbers; what nobody knows is absent.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue
        if field.enum_type is not None and not field.is_repeated and value == 0:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(sorted(value.items()))
        elif field.is_repeated:
            found[field.name] = [_plain(field, item) for item in value]
        else:
            found[field.name] = _plain(field, value)
    return found


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return document(value)
    if field.enum_type is not None:
        return enum_word(field.enum_type, value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value


def enum_word(kind: Any, value: int) -> str:
    """``JOB_STATE_TIMED_OUT`` → ``timed-out``; a number that this version does not know stays one."""
    known = kind.values_by_number.get(value)
    if known is None:
        return str(value)
    # The value 0 of each enumeration is KIND_UNSPECIFIED.
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(known.name).removeprefix(prefix).lower().replace("_", "-")
