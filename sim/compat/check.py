"""Compare the protocols, and the engine itself, with the golden results of other simulators.

``python -m shunter.sim.compat.check GOLDEN_DIR`` prints one line per folder: runs compared, runs equal and the largest
difference. ``GOLDEN_DIR`` holds ``rlscheduler/``, ``lucid/``, ``openb-fgd/`` and ``swf-replay/``, any may be absent;
the logs are looked for in ``GOLDEN_DIR/../traces/swf``, and the openb lists in the folder beside that, unless
``--traces`` says otherwise. The exit code is 1 unless every run is equal.

A run is equal when every whole number in it (start, end, order, checksum) is the same and every metric lies within
1e-9 relative of the printed one, or within half a unit of its last printed decimal. ``check_fgd`` says what counts as
equal for ``openb-fgd``, whose differences are percentage points; ``--table`` prints its results beside the recorded
ones.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shunter.scheduler.errors import ShunterError, UsageError
from shunter.sim.compat import check_fgd, helios, rlscheduler
from shunter.sim.compat.check_fgd import Cell
from shunter.sim.compat.rls_env import RlsEnv
from shunter.sim.compat.rlscheduler import RlsTrace

RELATIVE = 1e-9
LAST_DECIMAL = 0.5000001e-10
"""Half a unit of the tenth decimal, to which ``windows.csv.gz`` is printed."""

POLICY_OF = {"wfp": "wfp3-published", "uni": "unicep-published"}
"""This project's names of the policies that the golden files call otherwise."""

LOG_OF = {"SDSC-SP2": ("SDSC-SP2-1998-4.2-cln", 10_000), "Lublin-1": ("lublin_256", 0)}
"""Log and number of leading jobs (0: all) of the published tables' traces."""

OPENB_LISTS = "alibaba-openb-2023"
"""Folder of the openb lists, beside that of the SWF logs."""

PUBLISHED_METRICS = {"bsld": "avg_bsld", "utilization": "util_rls"}

REPLAYS = {
    "start_fcfs": ("fcfs", "none"),
    "start_sjf": ("sjf", "none"),
    "start_easy": ("fcfs", "easy"),
    "start_easy_sjbf": ("fcfs", "easy-sjbf"),
    "start_conservative": ("fcfs", "conservative"),
}
"""Column of a whole-trace replay → this project's ordering and backfilling."""

REPLAY_PROCESSORS = 128.0
"""Size of the machine of SDSC-SP2, from which all the whole-trace replays are."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs of one golden file.

    Attributes:
        folder: Golden folder.
        part: What was compared.
        compared: Runs.
        equal: Runs in which everything was equal.
        largest_difference: Largest relative difference of a metric, or difference of a time in s.
        unequal: The first few runs that were not equal.
    """

    folder: str
    part: str
    compared: int
    equal: int
    largest_difference: float
    unequal: tuple[str, ...]


Outcome = tuple[str, bool, float]
"""Name of a run, whether it was equal, and its largest difference."""


def summarise(folder: str, part: str, outcomes: Iterator[Outcome]) -> Comparison:
    """Count the outcomes of one golden file."""
    runs = list(outcomes)
    unequal = [name for name, equal, _ in runs if not equal]
    largest = max((difference for _, _, difference in runs), default=0.0)
    return Comparison(folder, part, len(runs), len(runs) - len(unequal), largest, tuple(unequal[:5]))


def metric_difference(ours: float, printed: float) -> float:
    """Relative difference, 0 when the two agree to the last printed decimal."""
    difference = abs(ours - printed)
    return 0.0 if difference <= LAST_DECIMAL else difference / max(abs(ours), abs(printed))


class Logs:
    """The SWF logs, each loaded once."""

    def __init__(self, folder: Path) -> None:
        self.load = cache(lambda name: rlscheduler.load(folder / f"{name}.swf.gz"))

    def __call__(self, name: str) -> RlsTrace:
        """The log called ``name``."""
        return self.load(name)


def windows(folder: Path, logs: Logs) -> Iterator[Outcome]:
    """``windows.csv.gz``: metrics to 1e-9, checksums of starts and order exactly."""
    with gzip.open(folder / "windows.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            policy = POLICY_OF.get(row["policy"], row["policy"])
            start, length = int(row["start"]), int(row["len"])
            run = rlscheduler.run(logs(row["trace"]), start, length, policy, row["backfill"] == "1")
            difference = max(metric_difference(value, float(row[name])) for name, value in run.metrics.items())
            same = (run.starts_crc32, run.order_crc32) == (row["starts_crc32"], row["order_crc32"])
            name = f"{row['trace']} {start}:{length} {policy} backfill={row['backfill']}"
            yield name, same and difference <= RELATIVE, difference


def start_times(folder: Path, logs: Logs) -> Iterator[Outcome]:
    """``starts_*.json.gz``: every start time, and the order where it is given."""
    for path in sorted(folder.glob("starts_*.json.gz")):
        trace = logs(path.name.removeprefix("starts_").removesuffix(".json.gz"))
        for window, runs in read_json(path).items():
            start, length = (int(part) for part in window.split(":")[2:])
            for key, golden in runs.items():
                policy, _, backfill = key.partition(":")
                run = rlscheduler.run(trace, start, length, POLICY_OF.get(policy, policy), backfill == "bf")
                expected = np.asarray(golden["starts_rel"])
                same = np.array_equal(run.starts_rel, expected)
                if golden.get("order") is not None:
                    same = same and run.order.tolist() == golden["order"]
                yield f"{trace.name} {window} {key}", same, float(np.abs(run.starts_rel - expected).max())


def trajectories(folder: Path, logs: Logs) -> Iterator[Outcome]:
    """``env_trajectories.json.gz``: actions, jobs, visible jobs, times, observations and the final metric."""
    for golden in read_json(folder / "env_trajectories.json.gz"):
        stepped, difference = step_through(golden, RlsEnv(logs(golden["trace"]), backfill=bool(golden["backfill"])))
        same = all(stepped[name] == golden[name] for name in stepped)
        name = f"{golden['trace']} {golden['start']}:{golden['len']} backfill={golden['backfill']}"
        yield name, same and difference <= RELATIVE, difference


def step_through(golden: Mapping[str, Any], env: RlsEnv) -> tuple[dict[str, Any], float]:
    """What the fixed rule (least feature 1, lowest row) does in ``env``, and the difference of the final metric."""
    lists: dict[str, list[Any]] = {
        name: [] for name in ("actions", "job_ids", "n_visible", "decision_time_rel", "obs_crc32")
    }
    key_of = {snapshot["step"]: key for key, snapshot in golden["snapshots"].items()}
    snapshots: dict[str, dict[str, Any]] = {}
    observation: np.ndarray[Any, np.dtype[np.float64]] | None = env.reset(golden["start"], golden["len"])
    first = env.now_s
    reward = 0.0
    while observation is not None:
        step, count = len(lists["actions"]), len(env.visible)
        numbers = env.jobs.number[env.visible].tolist()
        if step in key_of:
            rows = observation[:count].tolist()
            snapshots[key_of[step]] = {"step": step, "time": env.now_s, "visible_job_ids": numbers, "rows": rows}
        action = int(np.argmin(observation[:count, 1]))
        lists["actions"].append(action)
        lists["job_ids"].append(numbers[action])
        lists["n_visible"].append(count)
        lists["decision_time_rel"].append(env.now_s - first)
        lists["obs_crc32"].append(f"{zlib.crc32(observation.astype('<f8').tobytes()):08x}")
        observation, reward, _ = env.step(action)
    return lists | {"snapshots": snapshots}, metric_difference(-reward, golden["final_avg_bsld"])


def published(folder: Path, logs: Logs) -> Iterator[Outcome]:
    """``published_protocol.json``: the start rows, and each heuristic's mean over the ten windows."""
    golden = read_json(folder / "published_protocol.json")
    protocol = golden["protocol"]
    for cell in golden["results"]:
        if cell["policy"] == "rl" or cell["trace"] not in LOG_OF:
            continue  # a trained network of theirs, or a log that is not here
        log, first_jobs = LOG_OF[cell["trace"]]
        trace = logs(log)
        starts = rlscheduler.published_starts(
            protocol["seed"], first_jobs or len(trace), protocol["len"], protocol["iters"]
        )
        policy = POLICY_OF.get(cell["policy"], cell["policy"])
        runs = [rlscheduler.run(trace, start, protocol["len"], policy, bool(cell["backfill"])) for start in starts]
        values = [run.metrics[PUBLISHED_METRICS[cell["metric"]]] for run in runs]
        pairs = zip([*values, float(np.mean(values))], [*cell["per_window"], cell["reproduced"]], strict=True)
        difference = max(metric_difference(ours, theirs) for ours, theirs in pairs)
        name = f"{cell['trace']} {cell['metric']} {policy} backfill={cell['backfill']}"
        yield name, starts == protocol["starts"] and difference <= RELATIVE, difference


def virtual_clusters(path: Path, nodes: Mapping[str, int]) -> Iterator[Outcome]:
    """A Helios job file: every job of every virtual cluster under each policy, times and preemptions exactly."""
    import polars as pl

    jobs = helios.load(path)
    golden = pl.read_csv(path, schema_overrides={"vc": pl.String, "job_id": pl.String})
    groups = np.asarray(jobs.group)
    for policy in helios.POLICIES:
        run = helios.run(jobs, nodes, policy)
        columns = {"start": run.start_s, "end": run.end_s, "queue": run.queue_s, "preempts": run.preemptions}
        differences = np.zeros(len(jobs), dtype=np.int64)
        for name, ours in columns.items():
            if f"{policy}_{name}" in golden.columns:
                differences = np.maximum(differences, np.abs(ours - golden[f"{policy}_{name}"].to_numpy()))
        for group in sorted(set(jobs.group)):
            largest = int(differences[groups == group].max())
            yield f"{path.name} {policy} {group}", largest == 0, float(largest)


def nodes_of(path: Path) -> dict[str, int]:
    """Nodes per virtual cluster of a golden job file, from the ``summary.csv`` beside it."""
    with (path.parent / "summary.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == path.name.removesuffix(".jobs.csv.gz")]
    return {row["vc"]: int(row["nodes"]) for row in rows}


def whole_trace(path: Path) -> Iterator[Outcome]:
    """A whole-trace replay: the start of every job under each policy that the file has, exactly.

    pyss makes a pass after every event. On a copy of the trace in which no two events coincide that must not matter,
    so there, and for AccaSim, the engine makes its own one pass an instant.
    """
    import polars as pl

    from shunter.scheduler import layout as at
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.policies.registry import choose_ordering
    from shunter.sim.engine import Options, Simulation
    from shunter.sim.workload import prepare
    from shunter.traces.tables import Trace, make_jobs, pool

    golden = pl.read_csv(path)
    columns = {"submit_s": "submit", "duration_s": "run", "requested_s": "estimate", "tasks": "procs"}
    jobs = make_jobs(
        {"job_id": golden["job_id"].cast(pl.String), "cpus": np.ones(len(golden))}
        | {ours: golden[theirs] for ours, theirs in columns.items()}
    )
    trace = Trace(name=path.name, jobs=jobs, cluster=pool(REPLAY_PROCESSORS))
    workload = prepare(trace, trace.cluster)
    ties = "per-event" if "pyss" in path.name and "tiefree" not in path.name else "instant"
    for column, (policy, backfill) in REPLAYS.items():
        if column in golden.columns:
            simulation = Simulation(workload, Options(Settings(choose_ordering(policy), backfill), ties=ties))
            simulation.run()
            difference = np.abs(simulation.state.jobs_f[at.START_S] - golden[column].to_numpy()).max()
            yield f"{path.name} {policy} {backfill} ties={ties}", difference == 0, float(difference)


def openb_cells(golden: Path, traces: Path) -> list[Cell]:
    """Every policy and workload of ``openb-fgd``; none where there is no such folder."""
    folder = golden / "openb-fgd"
    return list(check_fgd.cells(folder, traces.parent / OPENB_LISTS)) if folder.is_dir() else []


def read_json(path: Path) -> Any:
    """A JSON document, gzipped or not."""
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def compare(golden: Path, traces: Path, openb: Sequence[Cell] = ()) -> list[Comparison]:
    """Compare everything that ``golden`` holds; ``openb`` is what ``openb_cells`` found.

    Raises:
        UsageError: It holds none of the folders.
    """
    comparisons = []
    if (golden / "rlscheduler").is_dir():
        logs = Logs(traces)
        for part in (windows, start_times, trajectories, published):
            outcomes = part(golden / "rlscheduler", logs)
            comparisons.append(summarise("rlscheduler", part.__name__, outcomes))
    files = sorted((golden / "lucid").glob("*.jobs.csv.gz"))
    comparisons += [summarise("lucid", path.name, virtual_clusters(path, nodes_of(path))) for path in files]
    if openb:
        events = check_fgd.events(golden / "openb-fgd", traces.parent / OPENB_LISTS)
        comparisons.append(summarise("openb-fgd", "events", events))
        comparisons.append(summarise("openb-fgd", "curves", check_fgd.outcomes(list(openb))))
    files = sorted((golden / "swf-replay").glob("*.csv.gz"))
    comparisons += [summarise("swf-replay", path.name, whole_trace(path)) for path in files]
    if not comparisons:
        raise UsageError(
            f"{golden}: holds neither rlscheduler/ nor lucid/ nor openb-fgd/ nor swf-replay/; expected a folder of "
            "golden results"
        )
    return comparisons


def line(folder: str, parts: Sequence[Comparison]) -> str:
    """One line of the plain output."""
    compared, equal = sum(part.compared for part in parts), sum(part.equal for part in parts)
    largest = max(part.largest_difference for part in parts)
    return f"{folder}: {compared} runs compared, {equal} equal, largest difference {largest:g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m shunter.sim.compat.check", description=__doc__.split("\n")[0])
    parser.add_argument("golden", type=Path, help="folder of golden results")
    parser.add_argument("--traces", type=Path, help="folder of the SWF logs (default: GOLDEN/../traces/swf)")
    parser.add_argument("--json", action="store_true", help="print one JSON document, part by part")
    parser.add_argument("--table", action="store_true", help="print the openb-fgd results beside the recorded ones")
    options = parser.parse_args(arguments)
    traces = options.traces or options.golden / ".." / "traces" / "swf"
    try:
        openb = openb_cells(options.golden, traces)
        comparisons = compare(options.golden, traces, openb)
    except ShunterError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if options.json:
        sys.stdout.write(json.dumps([asdict(part) for part in comparisons], indent=2) + "\n")
    else:
        for folder in dict.fromkeys(part.folder for part in comparisons):
            parts = [part for part in comparisons if part.folder == folder]
            sys.stdout.write(line(folder, parts) + "\n")
            sys.stdout.writelines(f"  not equal: {name}\n" for part in parts for name in part.unequal)
        if options.table and openb:
            sys.stdout.write(check_fgd.table(openb))
    return 0 if all(part.equal == part.compared for part in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
