"""The lease of a node, in a small file that the agent writes and every shim maps and reads.

Times are those of CLOCK_BOOTTIME, which goes on while the machine sleeps and is the same in every process. Eight bytes
that lie at a multiple of eight are read and written in one piece, so that no lock is needed.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

SIZE = 4096
DEADLINE_AT, LENGTH_AT, BOOT_AT, BOOT_BYTES = 0, 8, 16, 36
NUMBER = struct.Struct("<d")


def now_s() -> float:
    """Seconds since the machine was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Changes whenever the machine is started."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class LeaseFile:
    """The moment at which the node's jobs must have ended, unless it is put off before.

    Args:
        path: The file.
        create: Make it when it is not there, and forget what it says of an earlier boot.
    """

    def __init__(self, path: str, *, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create and os.fstat(fd).st_size < SIZE:
                os.pwrite(fd, bytes(SIZE), 0)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        if create and self._map[BOOT_AT : BOOT_AT + BOOT_BYTES] != boot_id().encode():
            self._put(DEADLINE_AT, 0.0)
            self._map[BOOT_AT : BOOT_AT + BOOT_BYTES] = boot_id().encode()

    @property
    def deadline_s(self) -> float:
        """When it runs out, by ``now_s``; 0: there was none since the machine was started."""
        return float(NUMBER.unpack_from(self._map, DEADLINE_AT)[0])

    @property
    def length_s(self) -> float:
        """How long it was given for the last time; 0: never."""
        return float(NUMBER.unpack_from(self._map, LENGTH_AT)[0])

    @property
    def has_run_out(self) -> bool:
        """Whether its time is over."""
        return now_s() > self.deadline_s

    def renew(self, from_s: float, length_s: float) -> None:
        """Let it run for ``length_s`` from ``from_s``; it is never made to end sooner than it would have."""
        self._put(LENGTH_AT, length_s)
        if from_s + length_s > self.deadline_s:
            self._put(DEADLINE_AT, from_s + length_s)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _put(self, at: int, value: float) -> None:
        NUMBER.pack_into(self._map, at, value)
