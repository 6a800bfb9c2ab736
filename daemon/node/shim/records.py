"""The file in which agent and shim tell one another, durably, what has become of an attempt.

All of its room is written when it is made, and what is told later is written over that in place: a disk that is full by
then loses nothing. Each record has a slot and one writer; a slot is a checksum, a length and lines of ``name=value``.
A record that was only half written when the power went reads as not written.
"""

from __future__ import annotations

import os
import struct
import zlib

SLOT_BYTES = 1024
SHIM, READY, STARTED, ENDED, GO, STOP = range(6)
SLOTS = 6
HEAD = struct.Struct("<II")


class Records:
    """The slots of one file.

    Args:
        path: The file.
        create: Make it, with every slot empty; it must not be there.
        slots: How many there are.

    Raises:
        OSError: No such file, no room, no permission.
    """

    def __init__(self, path: str, *, create: bool = False, slots: int = SLOTS) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        self._fd = os.open(path, flags, 0o600)
        if create:
            try:
                os.pwrite(self._fd, bytes(SLOT_BYTES * slots), 0)
                os.fsync(self._fd)
                if os.fstat(self._fd).st_size < SLOT_BYTES * slots:
                    raise OSError(28, os.strerror(28), path)
            except OSError:
                os.close(self._fd)
                raise

    def write(self, slot: int, **fields: object) -> None:
        """Store a record durably; fields that are None are left out, and text that is too long is cut."""
        room = SLOT_BYTES - HEAD.size
        text = "".join(f"{name}={_line(value)}\n" for name, value in fields.items() if value is not None)
        data = text.encode("utf-8", "replace")
        if len(data) > room:
            data = data[:room].decode("utf-8", "ignore").encode()
        os.pwrite(self._fd, HEAD.pack(zlib.crc32(data), len(data)) + data, slot * SLOT_BYTES)
        os.fdatasync(self._fd)

    def read(self, slot: int) -> dict[str, str] | None:
        """A record, or None when it was not (wholly) written."""
        block = os.pread(self._fd, SLOT_BYTES, slot * SLOT_BYTES)
        if len(block) < SLOT_BYTES:
            return None
        checksum, length = HEAD.unpack_from(block)
        data = block[HEAD.size : HEAD.size + length]
        if length == 0 or length > SLOT_BYTES - HEAD.size or zlib.crc32(data) != checksum:
            return None
        lines = (line.partition("=") for line in data.decode("utf-8", "replace").split("\n") if line)
        return {name: value for name, _, value in lines}

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def _line(value: object) -> str:
    return str(value).replace("\n", " ").replace("\0", "")
