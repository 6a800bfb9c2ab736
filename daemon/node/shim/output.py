"""What a task writes, kept in files of a set size; the oldest is removed when there are too many.

A file's name says where it begins: ``logs/RANK.OFFSET.log``, in bytes since the beginning of the task's output. So a
reader needs nothing but the folder, and may read while files come and go.
"""

from __future__ import annotations

import os


def file_name(rank: int, offset: int) -> str:
    """Of the part of a task's output that begins at ``offset``."""
    return f"{rank}.{offset:015d}.log"


def parts(folder: str, rank: int | None = None) -> list[tuple[int, int]]:
    """(rank, offset) of each file there, in order; of one task or of all."""
    found = []
    for name in os.listdir(folder):
        pieces = name.split(".")
        if len(pieces) == 3 and pieces[2] == "log" and pieces[0].isdigit() and pieces[1].isdigit():
            found.append((int(pieces[0]), int(pieces[1])))
    return sorted(part for part in found if rank is None or part[0] == rank)


class TaskOutput:
    """The files of one task's output.

    Args:
        folder: Where they lie.
        rank: Of the task.
        part_bytes: Size of a file.
        max_parts: How many there may be; at least 2.
    """

    def __init__(self, folder: str, rank: int, *, part_bytes: int, max_parts: int) -> None:
        self._folder = folder
        self._rank = rank
        self._part_bytes = max(part_bytes, 1)
        self._max_parts = max(max_parts, 2)
        self._offsets: list[int] = []
        self._fd = -1
        self._size = 0
        self._end = 0
        self._lost = 0

    def write(self, data: bytes) -> None:
        """Add what the task has written. What the disk does not take is counted, and said when it takes some again."""
        while data:
            try:
                if self._fd < 0 or self._size >= self._part_bytes:
                    self._next_part()
                if self._lost:
                    note = f"\n[shunter: {self._lost} bytes of output are missing: the disk took no more]\n".encode()
                    self._lost = 0
                    data = note + data
                done = os.write(self._fd, data[: self._part_bytes - self._size])
            except OSError:
                self._lost += len(data)
                return
            self._size += done
            self._end += done
            data = data[done:]

    def close(self) -> None:
        """No more will come."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next_part(self) -> None:
        while len(self._offsets) >= self._max_parts:
            try:
                os.unlink(f"{self._folder}/{file_name(self._rank, self._offsets.pop(0))}")
            except FileNotFoundError:
                pass  # somebody made room
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(f"{self._folder}/{file_name(self._rank, self._end)}", flags, 0o600)
        self.close()
        self._fd = fd
        if not self._offsets or self._offsets[-1] != self._end:
            self._offsets.append(self._end)
        self._size = 0
