"""Files of run folders: written aside and renamed, whole or not at all; nobody else's files are touched.

Owns the names of the files in a run folder. Everything is written into a folder beside the final one
(``NAME.partial``) and renamed at the end, so a full disk or an interrupt never leaves a half-written result under the
final name.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.scheduler.errors import OutputError, UsageError

if TYPE_CHECKING:
    import polars as pl

TABLES = ("jobs", "timeline", "events")
OPTIONAL_TABLES = ("attempts", "placements", "outages")
RUN_FILES = ("jobs.parquet", "timeline.parquet", "events.parquet", "metrics.json", "manifest.json", "timing.json")
LOAD_FILE = "load.parquet"
"""The load series of a replay in which a job ran; not one of its tables."""

OPTIONAL_FILES = (*(f"{name}.parquet" for name in OPTIONAL_TABLES), LOAD_FILE)
REPORT_FILES = ("report.html",)
PROTOCOL_FILES = ("curves.parquet", "pods.parquet")
"""What a protocol without times writes in place of the tables."""

FIGURES_FOLDER = "figures"

ROWS_SUFFIX = ".rows"
"""Of the folder in which a running replay keeps the rows of its tables."""

ROW_GROUP = 1 << 17
"""Rows in a Parquet row group: fixed, because a library's default may depend on the machine."""

REQUIRED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "jobs": ("job_id", "submit_s", "start_s", "end_s", "wait_s", "attempts", "state", "reason"),
    "timeline": ("time_s", "queue_length", "running_jobs", "used_cpus", "used_gpus"),
    "events": ("time_s", "kind", "job_id"),
    "attempts": ("job", "attempt", "start_s", "end_s", "ended"),
    "placements": ("job", "attempt", "node", "gpu", "gpus"),
    "outages": ("node", "gpu", "from_s", "until_s", "kind"),
}


def run_label(policy: str, backfill: str) -> str:
    """Short name of a run for tables, legends and folders, such as ``sjf+easy``."""
    return policy if backfill == "none" else f"{policy}+{backfill}"


def distinct_names(labels: Sequence[str]) -> list[str]:
    """A folder name for each of several runs: its label, safe in a path, numbered where two would be equal."""
    names: list[str] = []
    for label in labels:
        base = re.sub(r"[^A-Za-z0-9._+=,-]", "_", label).lstrip(".-") or "run"
        number, name = 1, base
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


@contextlib.contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """An empty folder ``NAME.partial`` beside ``folder`` that takes its name when the block ends without an error.

    What stood under the name before is removed only after the new folder has its place. After an error or an
    interrupt the partial folder is gone and the old one as it was.

    Raises:
        OutputError: ``folder`` holds something that no run wrote, or a file cannot be written.
    """
    final = folder.resolve()  # a link to a folder on another disk stays a link
    partial = final.with_name(final.name + ".partial")
    old = final.with_name(final.name + ".old.partial")
    with told_as_output_error(folder):
        for existing in (final, partial, old):
            refuse_foreign(existing)
        final.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (partial, old):
            if leftover.exists():
                shutil.rmtree(leftover)
        partial.mkdir()
        try:
            yield partial
            replace_folder(partial, final, old)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def rows_folder(folder: Path) -> Path:
    """Where a replay that will write a run folder keeps the rows of its tables meanwhile: hidden, beside it."""
    final = folder.resolve()
    return final.with_name(f".{final.name.lstrip('.')}{ROWS_SUFFIX}")


@contextlib.contextmanager
def told_as_output_error(folder: Path) -> Iterator[None]:
    """Errors of the system as OutputError, in one line that names the folder."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def replace_folder(partial: Path, final: Path, old: Path) -> None:
    """Give ``partial`` the name ``final``; what stood there waits under ``old`` until that has succeeded."""
    if final.exists():
        final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def refuse_foreign(folder: Path) -> None:
    """Raise OutputError when ``folder`` exists and is no folder, or holds anything that a run did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: exists and is not a folder; name another folder for the results")
    stranger = foreign_entry(folder)
    if stranger is not None:
        raise OutputError(f"{folder}: is not a run folder ({stranger.name!r} is not from a run); name another folder")


def foreign_entry(folder: Path) -> Path | None:
    """The first entry, by name, that no run writes; None when the whole folder may be replaced."""
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            return entry
        if is_workplace(entry):
            continue
        if not entry.is_dir():
            is_checkpoint = entry.name.startswith(".") and entry.name.endswith((".checkpoint", ".checkpoint.partial"))
            if entry.name not in (*RUN_FILES, *OPTIONAL_FILES, *REPORT_FILES, *PROTOCOL_FILES) and not is_checkpoint:
                return entry
        elif entry.name == FIGURES_FOLDER:
            strange = [e for e in sorted(entry.iterdir()) if e.is_dir() or e.suffix not in (".png", ".pdf")]
            if strange:
                return strange[0]
        elif not (entry / "manifest.json").is_file() or foreign_entry(entry) is not None:
            return entry
    return None


def is_workplace(entry: Path) -> bool:
    """Whether this is a hidden folder of a replay that is under way or was killed, and holds nothing but its files."""
    named = entry.name.startswith(".") and entry.name.endswith((ROWS_SUFFIX, ".done.partial", ".done.old.partial"))
    return named and entry.is_dir() and all(f.is_file() and f.suffix in (".parquet", ".json") for f in entry.iterdir())


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet, the same bytes for equal frames however they are laid out in memory.

    It is made in memory because polars reports a full disk as an error of the file's format.
    """
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=ROW_GROUP)
    return buffer.getvalue()


def combine(parts: Sequence[Path], path: Path) -> None:
    """Several Parquet files as one, a row group at a time: the bytes that ``parquet_bytes`` gives for all rows.

    Raises:
        OSError: The file cannot be written.
    """
    import polars as pl

    try:
        pl.scan_parquet(list(parts)).sink_parquet(
            path, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, engine="streaming"
        )
    except pl.exceptions.PolarsError as error:
        raise _os_error(error) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _os_error(error: Exception) -> OSError:
    """What the system said when polars could not write: it reports that as an error of the file's format."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    code = int(found.group(1)) if found else errno.EIO
    return OSError(code, os.strerror(code) if found else (str(error).splitlines() or ["unknown"])[0])


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys, two spaces and a final newline: equal values give equal bytes.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(plain(value), sort_keys=True, indent=2, allow_nan=False)
    return (text + "\n").encode()


def plain(value: Any) -> Any:
    """Mappings, sequences and NumPy scalars as the types that JSON knows; other values unchanged."""
    import numpy as np

    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def write_bytes(path: Path, content: bytes) -> None:
    """Write and flush to the disk: some file systems report that they are full only then."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_aside(path: Path, content: bytes) -> None:
    """Write a file as ``NAME.partial`` and rename it.

    Raises:
        OutputError: The file cannot be written; nothing is left behind.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        try:
            write_bytes(partial, content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UsageError: The file is not readable or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not JSON: not UTF-8 text") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}:1:1: expected a JSON object, got {type(value).__name__}")
    return value


def read_table(path: Path, required: Sequence[str]) -> pl.DataFrame:
    """A Parquet table that has at least the ``required`` columns.

    Raises:
        UsageError: The file is damaged or lacks a column.
    """
    import polars as pl

    check_table(path, required)
    with told_damage(path):
        return pl.read_parquet(path)


def check_table(path: Path, required: Sequence[str]) -> None:
    """Make sure that a file is a Parquet table with the ``required`` columns, without reading its rows.

    Raises:
        UsageError: The file is damaged or lacks a column.
    """
    import polars as pl

    with told_damage(path):
        columns = pl.read_parquet_schema(path)
    missing = [column for column in required if column not in columns]
    if missing:
        raise UsageError(f"{path}: columns {', '.join(missing)} are missing")


@contextlib.contextmanager
def told_damage(path: Path) -> Iterator[None]:
    """Errors of reading a table as UsageError, in one line."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise UsageError(f"{path}: not a Parquet table: {reason}") from error
