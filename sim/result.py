"""What a replay returns: per-job table, timeline, event log, metrics and manifest; saved whole or not at all.

Owns the layout of a run folder (``jobs.parquet``, ``timeline.parquet``, ``events.parquet``, ``metrics.json``,
``manifest.json``, ``timing.json``, and what only some replays give). Everything is written into a folder beside the
final one (``NAME.partial``) and renamed at the end, so a full disk or an interrupt never leaves a half-written result
under the final name. Equal runs give equal bytes in every file but ``timing.json``, which alone holds what the clock
said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.scheduler.errors import UsageError
from shunter.sim.load import LOAD_STEP_S, check_step, load_bytes
from shunter.sim.run_folder import (
    LOAD_FILE,
    OPTIONAL_TABLES,
    REQUIRED_COLUMNS,
    RUN_FILES,
    TABLES,
    check_table,
    distinct_names,
    json_bytes,
    parquet_bytes,
    read_json,
    read_table,
    run_label,
    staged_folder,
    write_bytes,
)
from shunter.sim.stored import StoredTables, scan

if TYPE_CHECKING:
    import polars as pl

RUN_FORMAT = 1
"""Version of the folder's layout; a reader refuses any other."""


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
        tables: ``timeline``, ``events``, and those that only some replays give: ``attempts``, ``placements`` and
            ``outages``. Of a run whose tables lie in a folder, each is read whenever it is asked for.
        metrics: Metric name to value; a metric that the run cannot give is absent.
        manifest: Resolved settings, seeds, checksums and versions; nothing that differs between equal runs.
        wall_s: Seconds of the replay alone.
        num_events: SimPy events processed.
    """

    trace: str
    cluster: str
    policy: str
    backfill: str
    placement: str
    window: tuple[int, int] | None
    seed: int
    jobs: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    metrics: Mapping[str, float]
    manifest: Mapping[str, Any]
    wall_s: float
    num_events: int

    @property
    def timeline(self) -> pl.DataFrame:
        """One row an instant at which something changed: ``time_s, queue_length, running_jobs, used_cpus, used_gpus``,
        values that hold from ``time_s`` on.
        """
        return self.tables["timeline"]

    @property
    def events(self) -> pl.DataFrame:
        """``time_s, kind, job_id, detail``, in the order in which they took place; kinds are those of ``derived``."""
        return self.tables["events"]

    def scan(self, name: str) -> pl.LazyFrame:
        """A table, or ``jobs``, to be read as far as a query needs it."""
        return self.jobs.lazy() if name == "jobs" else scan(self.tables, name)

    @property
    def label(self) -> str:
        """Short name for tables, legends and folders, such as ``sjf+easy``."""
        return run_label(self.policy, self.backfill)

    def capacity(self, resource: str) -> float | None:
        """The cluster's ``cpus`` or ``gpus`` by the manifest (its node groups); None when it does not say."""
        groups = self.manifest.get("cluster", {}).get("groups", ())
        known = [(g.get("count", 1), g[resource]) for g in groups if g.get(resource) is not None]
        total = float(sum(count * amount for count, amount in known))
        return total if total > 0 else None

    def save(self, folder: Path, *, load_step_s: float = LOAD_STEP_S) -> None:
        """Write the run folder; see the module's text. An earlier run there is replaced once this one is complete.

        Args:
            folder: The run folder.
            load_step_s: Seconds between two points of ``load.parquet``.

        Raises:
            UsageError: ``load_step_s`` is not positive.
            OutputError: The folder exists and holds something that no run wrote, or it cannot be written.
        """
        check_step(load_step_s)
        with staged_folder(folder) as partial:
            self.write_files(partial, load_step_s=load_step_s)

    def write_files(self, folder: Path, *, load_step_s: float = LOAD_STEP_S) -> None:
        """Write the run's files into an existing folder, not aside: for use within ``staged_folder``.

        Raises:
            OSError: A file cannot be written.
        """
        write_bytes(folder / "jobs.parquet", parquet_bytes(self.jobs))
        if isinstance(self.tables, StoredTables):
            self.tables.link_into(folder)
        else:
            for name, frame in self.tables.items():
                write_bytes(folder / f"{name}.parquet", parquet_bytes(frame))
        load = load_bytes(self, load_step_s)
        if load is not None:
            write_bytes(folder / LOAD_FILE, load)
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
        """Read a run folder; of its tables only ``jobs``, the others when they are asked for.

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
        jobs = read_table(folder / "jobs.parquet", REQUIRED_COLUMNS["jobs"])
        names = [name for name in (*TABLES[1:], *OPTIONAL_TABLES) if (folder / f"{name}.parquet").is_file()]
        for name in names:
            check_table(folder / f"{name}.parquet", REQUIRED_COLUMNS[name])
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
                jobs=jobs,
                tables=StoredTables(folder.absolute(), tuple(names)),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"{folder}: damaged run folder ({type(error).__name__}: {error})") from error


def save_all(
    results: Sequence[Result],
    folder: Path,
    finish: Callable[[Path], None] | None = None,
    *,
    load_step_s: float = LOAD_STEP_S,
) -> None:
    """Write one run into ``folder`` itself, several into one folder each below it, all or nothing.

    ``finish`` is called with the unfinished folder before it is renamed, to add a report and figures.

    Raises:
        UsageError: ``load_step_s`` is not positive.
        OutputError: The folder exists and holds something that no run wrote, or it cannot be written.
    """
    check_step(load_step_s)
    with staged_folder(folder) as partial:
        if len(results) == 1:
            results[0].write_files(partial, load_step_s=load_step_s)
        else:
            for name, result in zip(distinct_names([r.label for r in results]), results, strict=True):
                (partial / name).mkdir()
                result.write_files(partial / name, load_step_s=load_step_s)
        if finish is not None:
            finish(partial)
