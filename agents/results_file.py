"""What an evaluation has measured so far, a line a replay: it can be killed at any time and taken up again.

A line is written whole or, when the process or the machine dies, cut short; a cut line is left out on reading and cut
off before the next is written. Lines stand in the order of the work, so an evaluation that was taken up leaves the very
file that an unbroken one leaves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from shunter.scheduler.errors import OutputError, UsageError


def key_of(identity: Mapping[str, Any]) -> str:
    """What a replay was, as a text that is equal for equal replays."""
    return json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)


def complete_lines(path: Path) -> tuple[list[bytes], int]:
    """The lines of a file that end in a line feed, and how many bytes they take; nothing where there is no file.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    whole = content.rfind(b"\n") + 1
    return content[:whole].splitlines(), whole


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The complete lines of a results file and how many bytes they take; nothing where there is no file.

    Raises:
        UsageError: A line other than the last is damaged.
    """
    complete, whole = complete_lines(path)
    lines = []
    for number, line in enumerate(complete, start=1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not (isinstance(value, dict) and isinstance(value.get("key"), dict) and "windows" in value):
            raise UsageError(f"{path}:{number}: not a line of an evaluation's results; begin anew without --resume")
        lines.append(value)
    return lines, whole


class ResultsFile:
    """Lines by what they are about; new ones are appended and flushed to the disk.

    Args:
        path: The file; None keeps lines in memory.
        resume: Take up what it holds; else it begins empty.

    Raises:
        UsageError: ``resume``, and the file is damaged.
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self.path = path
        self.lines: dict[str, dict[str, Any]] = {}
        self._file: IO[bytes] | None = None
        if path is None:
            return
        lines, size = read_lines(path) if resume else ([], 0)
        self.lines = {key_of(line["key"]): line for line in lines}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(size)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, line: dict[str, Any]) -> None:
        """Append what one replay gave: ``key``, ``windows``.

        Raises:
            OutputError: It cannot be written.
        """
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), allow_nan=False)
        if self._file is not None:
            try:
                self._file.write(text.encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise OutputError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        self.lines[key_of(line["key"])] = line
