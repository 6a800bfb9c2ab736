"""Reading and writing whole files through gzip, xz and Zstandard.

Compression is recognised by the first bytes, never by the file's name: archives rename files freely. Every failure
leaves here as a one-line ``TraceError`` (reading) or ``OutputError`` (writing). Files are written aside and renamed.
"""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from pathlib import Path
from typing import Protocol

from shunter.scheduler.errors import OutputError, TraceError

MAGIC = {"gzip": b"\x1f\x8b", "xz": b"\xfd7zXZ\x00", "zstd": b"\x28\xb5\x2f\xfd"}
"""First bytes of each compression: RFC 1952, the .xz file format 1.2, RFC 8878."""

SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}


def detect(head: bytes) -> str | None:
    """Name of the compression that a file starting with ``head`` uses; None when it is not compressed."""
    return next((name for name, magic in MAGIC.items() if head.startswith(magic)), None)


class _Unpacker(Protocol):
    """What the three libraries have in common: one unpacker takes one gzip member, xz stream or Zstandard frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _unpacker(kind: str) -> _Unpacker:
    if kind == "gzip":
        return zlib.decompressobj(wbits=31)
    if kind == "xz":
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()


def decompress(data: bytes, *, source: str | Path = "input") -> bytes:
    """``data`` unpacked by whichever compression its first bytes name; unchanged when there is none.

    Several members or frames after one another are joined, as parallel compressors and ``cat`` write them.

    Raises:
        TraceError: The compressed data is truncated or damaged.
    """
    import zstandard

    kind = detect(data[:8])
    if kind is None:
        return data
    parts: list[bytes] = []
    while data:
        unpacker = _unpacker(kind)
        try:
            parts.append(unpacker.decompress(data))
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as problem:
            reason = " ".join(str(problem).split())
            raise TraceError(f"{source}: damaged {kind} file ({reason}); copy or download it again") from None
        if not unpacker.eof:
            raise TraceError(f"{source}: truncated {kind} file, its end is missing; copy or download it again")
        data = unpacker.unused_data.lstrip(b"\0")  # tapes and some servers pad with zero bytes
    return b"".join(parts)


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, unpacked.

    Raises:
        TraceError: No such file, a folder, not readable, empty, truncated or damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise TraceError(f"{path}: a folder, expected a trace file") from None
    except OSError as problem:
        raise TraceError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    content = decompress(data, source=path)
    if not content:
        raise TraceError(f"{path}: the file is empty")
    return content


def compress(data: bytes, suffix: str) -> bytes:
    """``data`` packed as the file name's last ending says; unchanged for any other ending. Equal in, equal out."""
    if suffix == ".gz":
        return gzip.compress(data, compresslevel=6, mtime=0)
    if suffix == ".xz":
        return lzma.compress(data, preset=6)
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(level=9).compress(data)
    return data


def split_name(path: Path) -> tuple[str, list[str]]:
    """File name without its endings, and the endings in lower case with the compression's last.

    Only endings that this project knows are taken off, so that ``SDSC-SP2-1998-4.2-cln.swf.gz`` gives
    ``("SDSC-SP2-1998-4.2-cln", [".swf", ".gz"])``.
    """
    known = {*SUFFIXES, ".swf", ".csv", ".parquet", ".json", ".txt", ".log", ".trace", ".tsv"}
    name, endings = path.name, list[str]()
    while "." in name[1:] and (ending := "." + name.rsplit(".", 1)[1].lower()) in known:
        endings.insert(0, ending)
        name = name[: -len(ending)]
    return name, endings


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: into ``NAME.partial`` beside it, then rename.

    Raises:
        OutputError: The folder does not exist, may not be written to, or the disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    done = False
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        done = True
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written: {problem.strerror or problem}") from None
    finally:
        if not done:
            _remove(partial)


def _remove(path: Path) -> None:
    """Take away what an interrupted write left; the error that matters is already on its way."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
