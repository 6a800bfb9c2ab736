"""Reading what tasks have written, while shims go on writing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shunter.daemon.node.shim.output import file_name, parts

CHUNK_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a task's output.

    Attributes:
        task: Rank.
        offset: Of its first byte, since the beginning.
        data: The bytes; at most ``CHUNK_BYTES``.
        missing: Bytes before it that are there no more.
    """

    task: int
    offset: int
    data: bytes
    missing: int


class TaskLog:
    """Reads one task's output from where it stands.

    Args:
        folder: ``logs`` of the attempt.
        rank: Of the task.
        tail_bytes: Begin so many bytes before the present end; 0: at the beginning.
    """

    def __init__(self, folder: Path, rank: int, tail_bytes: int = 0) -> None:
        self._folder = folder
        self._rank = rank
        self._at = max(self._end() - tail_bytes, 0) if tail_bytes else 0

    def read(self) -> Iterator[Chunk]:
        """What there is beyond the last byte that was read."""
        while (chunk := self._next()) is not None:
            self._at = chunk.offset + len(chunk.data)
            yield chunk

    def _next(self) -> Chunk | None:
        for _ in range(10):  # a part may be removed between being listed and being opened
            offsets = [offset for _, offset in parts(str(self._folder), self._rank)]
            place = max((index for index, offset in enumerate(offsets) if offset <= self._at), default=0)
            for offset in offsets[place : place + 2]:
                try:
                    data = self._part(offset)
                except FileNotFoundError:
                    break
                if data:
                    start = max(offset, self._at)
                    return Chunk(self._rank, start, data, start - self._at)
            else:
                return None
        return None

    def _part(self, offset: int) -> bytes:
        with (self._folder / file_name(self._rank, offset)).open("rb") as file:
            file.seek(max(self._at - offset, 0))
            return file.read(CHUNK_BYTES)

    def _end(self) -> int:
        offsets = [offset for _, offset in parts(str(self._folder), self._rank)]
        if not offsets:
            return 0
        return offsets[-1] + (self._folder / file_name(self._rank, offsets[-1])).stat().st_size


def ranks(folder: Path) -> list[int]:
    """Tasks that have written something."""
    return sorted({rank for rank, _ in parts(str(folder))})
