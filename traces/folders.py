"""Folders that are written whole or not at all: whoever reads one never meets a half."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shunter.scheduler.errors import OutputError


def write_whole(folder: Path, files: Mapping[str, bytes], *, mark: str, what: str, folders: Sequence[str] = ()) -> None:
    """Write the files of a folder; one of the same kind that stood there before is replaced.

    Args:
        folder: Where.
        files: Path inside it → contents.
        mark: The file by which a folder of this kind is known.
        what: What such a folder is called.
        folders: Folders inside it that exist even if nothing lies there.

    Raises:
        OutputError: It cannot be written, or holds something else.
    """
    if folder.exists() and not (folder / mark).exists() and any(folder.iterdir()):
        raise OutputError(f"{folder}: holds something that is no {what}")
    final = folder.resolve()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            for name in folders:
                (partial / name).mkdir()
            for name, contents in files.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(contents)
            partial.chmod(0o777 & ~_umask())
            _take_place(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None


def _take_place(partial: Path, final: Path) -> None:
    """Give a finished folder its name; what stood there is removed afterwards."""
    if not final.exists():
        partial.rename(final)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{final.name}-old-", dir=final.parent))
    final.rename(old / "was")
    try:
        partial.rename(final)
    except OSError:
        (old / "was").rename(final)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    """The process's mask of permissions, which a folder made by ``tempfile`` does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
