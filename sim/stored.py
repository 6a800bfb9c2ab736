"""Tables of a run that lie in a folder, and how they get there a few rows at a time.

A replay that streams keeps at most ``ROW_GROUP`` rows of each table in memory: the rows before are in Parquet files of
one row group each, and at the end these are put together, a row group at a time. A checkpoint says how many rows had
left the memory; files that were begun after it are written again by the replay that takes it up, with equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shunter.scheduler.errors import UsageError
from shunter.sim.run_folder import (
    REQUIRED_COLUMNS,
    ROW_GROUP,
    combine,
    read_json,
    read_table,
    told_as_output_error,
    told_damage,
    write_bytes,
)

if TYPE_CHECKING:
    import polars as pl

    from shunter.sim.lifecycle import Lifecycle


BATCH = 1 << 15
"""Rows that are worked on at a time."""


@dataclass(frozen=True, slots=True)
class StoredTables(Mapping[str, "pl.DataFrame"]):
    """Tables of a run folder by name; each is read whenever it is asked for.

    Attributes:
        folder: The run folder.
        names: The tables that it has.
    """

    folder: Path
    names: tuple[str, ...]

    def path(self, name: str) -> Path:
        """The table's file."""
        return self.folder / f"{name}.parquet"

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self.names:
            raise KeyError(name)
        return read_table(self.path(name), REQUIRED_COLUMNS[name])

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def link_into(self, folder: Path) -> None:
        """Give the files a second name in another folder, or copy them to another disk.

        Raises:
            OSError: A file cannot be linked or written.
        """
        for name in self.names:
            target = folder / self.path(name).name
            try:
                target.hardlink_to(self.path(name))
            except OSError:
                shutil.copyfile(self.path(name), target)


def scan(tables: Mapping[str, pl.DataFrame], name: str) -> pl.LazyFrame:
    """A table to be read as far as a query needs it."""
    import polars as pl

    return pl.scan_parquet(tables.path(name)) if isinstance(tables, StoredTables) else tables[name].lazy()


def batches(
    tables: Mapping[str, pl.DataFrame], name: str, columns: Sequence[str] | None = None
) -> Iterator[pl.DataFrame]:
    """The rows of a table in order, ``BATCH`` at a time; one batch without rows for an empty table.

    Args:
        tables: Tables of a run.
        name: Which.
        columns: What is needed of it; all by default.

    Raises:
        UsageError: A file is damaged.
    """
    import polars as pl

    table = scan(tables, name)
    with told_damage(tables.path(name) if isinstance(tables, StoredTables) else Path(f"{name}.parquet")):
        if columns is not None:
            table = table.select(columns)
        height = table.select(pl.len()).collect().item()
        for begin in range(0, max(height, 1), ROW_GROUP):
            yield from slices(table.slice(begin, ROW_GROUP).collect())


def slices(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of a table in memory, ``BATCH`` at a time; one slice of an empty one."""
    return (table[begin : begin + BATCH] for begin in range(0, max(table.height, 1), BATCH))


class Sink(Protocol):
    """Where the rows of a run's tables go."""

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Further rows of a table."""

    def leave_out(self, name: str) -> None:
        """A table is not to be among those that are finished from now on."""

    def finish(self) -> Mapping[str, pl.DataFrame]:
        """The tables, with all the rows so far."""


@dataclass(slots=True)
class MemorySink:
    """Keeps all rows in memory."""

    parts: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Further rows of a table."""
        self.parts.setdefault(name, []).append(frame)

    def leave_out(self, name: str) -> None:
        """Forget a table."""
        self.parts.pop(name, None)

    def finish(self) -> Mapping[str, pl.DataFrame]:
        """The tables, with all the rows so far."""
        import polars as pl

        return {name: pl.concat(parts) for name, parts in self.parts.items()}


@dataclass(slots=True)
class FolderSink:
    """Writes rows to files, as soon as there are enough of them for a row group.

    Attributes:
        folder: For the files; nobody else's.
        written: Files of each table so far.
        waiting: Rows of each table that are in no file yet.
        combined: Files of each table that have been put together.
    """

    folder: Path
    written: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    combined: dict[str, int] = field(default_factory=dict)

    @classmethod
    def take_up(cls, folder: Path, manifest: Mapping[str, Any], lifecycle: Lifecycle | None) -> FolderSink:
        """The folder for the rows of one replay; what another one left there is removed.

        Args:
            folder: The folder.
            manifest: What is run.
            lifecycle: Of a replay that goes on from a checkpoint and may count on rows in the folder; else None.

        Raises:
            UsageError: The folder is another replay's, or lacks rows that the checkpoint counts on.
            OutputError: The folder cannot be made.
        """
        sink = cls(folder)
        if lifecycle is None or not any(log.shed for _, log, _ in lifecycle.logs()):
            with told_as_output_error(folder):
                sink.remove()
                folder.mkdir(parents=True)
                write_bytes(folder / "replay.json", json.dumps({"sha256": _digest(manifest)}).encode())
            return sink
        for name, log, _ in lifecycle.logs():
            sink.written[name] = log.shed // ROW_GROUP
            for number in range(sink.written[name]):
                path = sink.part(name, number)
                if not path.is_file():
                    raise UsageError(f"{path}: missing; the checkpoint cannot be taken up without it")
        if read_json(folder / "replay.json").get("sha256") != _digest(manifest):
            raise UsageError(f"{folder}: holds the rows of another replay; the checkpoint cannot be taken up")
        return sink

    def part(self, name: str, number: int) -> Path:
        """One of the files of a table."""
        return self.folder / f"{name}-{number:06}.parquet"

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Further rows of a table.

        Raises:
            OSError: A file cannot be written.
        """
        waiting = self.waiting.setdefault(name, [])
        waiting.append(frame)
        if sum(part.height for part in waiting) >= ROW_GROUP:
            self._write(name)

    def shed(self, lifecycle: Lifecycle) -> None:
        """Move full row groups of what a replay noted out of memory.

        Raises:
            OutputError: A file cannot be written.
        """
        with told_as_output_error(self.folder):
            for name, log, rows in lifecycle.logs():
                while len(log) >= ROW_GROUP:
                    self.add(name, rows(ROW_GROUP))
                    log.drop(ROW_GROUP)

    def leave_out(self, name: str) -> None:
        """Forget a table; its files go with the folder."""
        self.waiting.pop(name, None)

    def finish(self) -> Mapping[str, pl.DataFrame]:
        """The tables, each put together from its files.

        The files stay: should the process be killed now, the checkpoint still counts on them.

        Raises:
            OSError: A file cannot be written.
        """
        for name, waiting in self.waiting.items():
            if waiting:
                self._write(name)
            if self.combined.get(name) != self.written[name]:
                parts = [self.part(name, number) for number in range(self.written[name])]
                combine(parts, self.folder / f"{name}.parquet")
                self.combined[name] = self.written[name]
        return StoredTables(self.folder, tuple(self.waiting))

    def _write(self, name: str) -> None:
        """Rows that wait as a file; lightly packed, because it will be read once."""
        import io

        import polars as pl

        buffer = io.BytesIO()
        pl.concat(self.waiting[name], rechunk=True).write_parquet(buffer, compression="lz4")
        number = self.written.get(name, 0)
        write_bytes(self.part(name, number), buffer.getvalue())
        self.written[name] = number + 1
        self.waiting[name] = []

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def refuse_shed(lifecycle: Lifecycle | None, checkpoint: Path | None) -> None:
    """Raise UsageError when a replay without a folder was taken up from a checkpoint of one with a folder."""
    if lifecycle is not None and any(log.shed for _, log, _ in lifecycle.logs()):
        raise UsageError(f"{checkpoint}: counts on rows in files; take it up with the run folder that it was made with")


def _digest(manifest: Mapping[str, Any]) -> str:
    """What tells replays apart."""
    return hashlib.sha256(json.dumps([ROW_GROUP, manifest], sort_keys=True).encode()).hexdigest()
