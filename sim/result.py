"""What a replay returns: per-job table, timeline, event log, metrics and manifest; saved whole or not at all.

Owns the layout of a run folder (``jobs.parquet``, ``timeline.parquet``, ``events.parquet``, ``metrics.json``,
``manifest.json``, ``timing.json``). Everything is written into a folder beside the final one (``NAME.partial``) and
renamed at the end, so a full disk or an interrupt never leaves a half-written result under the final name. Equal runs
give equal bytes in every file but ``timing.json``, which alone holds what the clock said.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.scheduler.errors import OutputError, UsageError

if TYPE_CHECKING:
    import polars as pl

TABLES = ("jobs", "timeline", "events")
OPTIONAL_TABLES = ("attempts", "placements", "outages")
RUN_FILES = ("jobs.parquet", "timeline.parquet", "events.parquet", "metrics.json", "manifest.json", "timing.json")
OPTIONAL_FILES = tuple(f"{name}.parquet" for name in OPTIONAL_TABLES)
REPORT_FILES = ("report.html",)
PROTOCOL_FILES = ("curves.parquet", "pods.parquet")
"""What a protocol without times writes in place of the tables."""

FIGURES_FOLDER = "figures"

RUN_FORMAT = 1
"""Version of the folder's layout; a reader refuses any other."""

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


@dataclass(frozen=True, slots=True)
class Result:
    """One replay.

    Attributes:
        trace: Name of the trace.
        cluster: Name of the cluster.
        policy: Ordering, with its parameters (``multifactor:age=1000``).
        backfill: Backfilling.
        placement: Placement.
        window: ``(start, count)`` rows of the trace; None for all.
        seed: Seed of the run.
        jobs: One row a job in submit order: ``job_id, submit_s, start_s, end_s, wait_s, attempts, state, reason``, and
            what reports group by: ``duration_s, requested_s, tasks, cpus, gpus`` (totals over the gang), ``user,
            group``. ``state`` is completed, failed, killed or rejected; times of a rejected job are null.
        timeline: One row an instant at which something changed: ``time_s, queue_length, running_jobs, used_cpus,
            used_gpus`` (values that hold from ``time_s`` on).
        events: ``time_s, kind, job_id, detail``, in the order in which they took place; kind is submit, start, end or
            reject.
        metrics: Metric name to value; a metric that the run cannot give is absent.
        manifest: Resolved settings, seeds, checksums and versions; nothing that differs between equal runs.
        wall_s: Seconds of the replay alone.
        num_events: SimPy events processed.
        tables: Tables that only some replays give: ``attempts``, ``placements`` and ``outages``.
    """

    trace: str
    cluster: str
    policy: str
    backfill: str
    placement: str
    window: tuple[int, int] | None
    seed: int
    jobs: pl.DataFrame
    timeline: pl.DataFrame
    events: pl.DataFrame
    metrics: Mapping[str, float]
    manifest: Mapping[str, Any]
    wall_s: float
    num_events: int
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short name for tables, legends and folders, such as ``sjf+easy``."""
        return self.policy if self.backfill == "none" else f"{self.policy}+{self.backfill}"

    def capacity(self, resource: str) -> float | None:
        """The cluster's ``cpus`` or ``gpus`` by the manifest (its node groups); None when it does not say."""
        groups = self.manifest.get("cluster", {}).get("groups", ())
        known = [(g.get("count", 1), g[resource]) for g in groups if g.get(resource) is not None]
        total = float(sum(count * amount for count, amount in known))
        return total if total > 0 else None

    def save(self, folder: Path) -> None:
        """Write the run folder; see the module's text. An earlier run there is replaced once this one is complete.

        Raises:
            OutputError: The folder exists and holds something that no run wrote, or it cannot be written.
        """
        with staged_folder(folder) as partial:
            self.write_files(partial)

    def write_files(self, folder: Path) -> None:
        """Write the run's files into an existing folder, not aside: for use within ``staged_folder``.

        Raises:
            OSError: A file cannot be written.
        """
        for name, frame in (("jobs", self.jobs), ("timeline", self.timeline), ("events", self.events)):
            write_bytes(folder / f"{name}.parquet", parquet_bytes(frame))
        for name, frame in self.tables.items():
            write_bytes(folder / f"{name}.parquet", parquet_bytes(frame))
        run = {
            "trace": self.trace,
            "cluster": self.cluster,
            "policy": self.policy,
            "backfill": self.backfill,
            "placement": self.placement,
            "window": self.window,
            "seed": self.seed,
        }
        manifest = {"run_format": RUN_FORMAT, "run": run, "settings": self.manifest}
        write_bytes(folder / "manifest.json", json_bytes(manifest))
        write_bytes(folder / "metrics.json", json_bytes({name: float(value) for name, value in self.metrics.items()}))
        write_bytes(folder / "timing.json", json_bytes({"wall_s": self.wall_s, "num_events": self.num_events}))

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read a run folder.

        Raises:
            UsageError: ``folder`` is no run folder, or a file in it is damaged; the message says which.
        """
        missing = [name for name in RUN_FILES if not (folder / name).is_file()]
        if missing:
            what = "does not exist" if not folder.exists() else f"{', '.join(missing)} missing"
            raise UsageError(f"{folder}: not a run folder ({what}); expected what `shunter simulate --out` writes")
        manifest, timing = read_json(folder / "manifest.json"), read_json(folder / "timing.json")
        if manifest.get("run_format") != RUN_FORMAT:
            raise UsageError(
                f"{folder / 'manifest.json'}: run_format is {manifest.get('run_format')!r}, expected {RUN_FORMAT}"
            )
        tables = {name: read_table(folder / f"{name}.parquet", REQUIRED_COLUMNS[name]) for name in TABLES}
        further = [name for name in OPTIONAL_TABLES if (folder / f"{name}.parquet").is_file()]
        try:
            run = manifest["run"]
            return cls(
                trace=run["trace"],
                cluster=run["cluster"],
                policy=run["policy"],
                backfill=run["backfill"],
                placement=run["placement"],
                window=None if run["window"] is None else (int(run["window"][0]), int(run["window"][1])),
                seed=int(run["seed"]),
                metrics={name: float(value) for name, value in read_json(folder / "metrics.json").items()},
                manifest=manifest["settings"],
                wall_s=float(timing["wall_s"]),
                num_events=int(timing["num_events"]),
                tables={name: read_table(folder / f"{name}.parquet", REQUIRED_COLUMNS[name]) for name in further},
                **tables,
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"{folder}: damaged run folder ({type(error).__name__}: {error})") from error


def run_folder_names(results: Sequence[Result]) -> list[str]:
    """A folder name for each of several runs: its label, safe in a path, numbered where two would be equal."""
    names: list[str] = []
    for result in results:
        base = re.sub(r"[^A-Za-z0-9._+=,-]", "_", result.label).lstrip(".-") or "run"
        number, name = 1, base
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def save_all(results: Sequence[Result], folder: Path, finish: Callable[[Path], None] | None = None) -> None:
    """Write one run into ``folder`` itself, several into one folder each below it, all or nothing.

    ``finish`` is called with the unfinished folder before it is renamed, to add a report and figures.

    Raises:
        OutputError: The folder exists and holds something that no run wrote, or it cannot be written.
    """
    with staged_folder(folder) as partial:
        if len(results) == 1:
            results[0].write_files(partial)
        else:
            for name, result in zip(run_folder_names(results), results, strict=True):
                (partial / name).mkdir()
                result.write_files(partial / name)
        if finish is not None:
            finish(partial)


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
    try:
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
        if not entry.is_dir():
            is_checkpoint = entry.name.startswith(".") and entry.suffix == ".checkpoint"
            if entry.name not in (*RUN_FILES, *OPTIONAL_FILES, *REPORT_FILES, *PROTOCOL_FILES) and not is_checkpoint:
                return entry
        elif entry.name == FIGURES_FOLDER:
            strange = [e for e in sorted(entry.iterdir()) if e.is_dir() or e.suffix not in (".png", ".pdf")]
            if strange:
                return strange[0]
        elif not (entry / "manifest.json").is_file() or foreign_entry(entry) is not None:
            return entry
    return None


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet, the same bytes for equal frames however they are laid out in memory.

    It is made in memory because polars reports a full disk as an error of the file's format.
    """
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="zstd", compression_level=3, row_group_size=ROW_GROUP)
    return buffer.getvalue()


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

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise UsageError(f"{path}: not a Parquet table: {reason}") from error
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise UsageError(f"{path}: columns {', '.join(missing)} are missing")
    return frame
