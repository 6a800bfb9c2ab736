"""Files that nobody but their owner may read or write."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from shunter.scheduler.errors import ConfigError, OutputError


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # is made with 0600
        made = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written: {problem.strerror}") from None


def read_private(path: Path) -> bytes:
    """Content of a file that holds a secret.

    Raises:
        ConfigError: It cannot be read, belongs to somebody else, or others may read or write it.
    """
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ConfigError(f"{path}: is no file")
            if state.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"{path}: belongs to another user (uid {state.st_uid})")
            if state.st_mode & 0o077:
                mode = stat.S_IMODE(state.st_mode)
                raise ConfigError(f"{path}: others may use it (mode {mode:04o}); expected 0600: chmod 600 {path}")
            return file.read()
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from None
