"""``python -m benchmarks.run``: a table on standard error, one JSON document on standard output."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import Record
from benchmarks.workloads import REPOSITORY, TRACES, Setup

FORMAT = 1
"""Version of the document's layout."""

QUICK_JOBS = 20_000
QUICK_REPEAT = 2

Benchmark = Callable[[Setup], Iterator[Record]]


def benchmarks() -> Mapping[str, Benchmark]:
    """Name → benchmark, in the order in which they run."""
    from benchmarks import (
        clusters,
        daemon_load,
        daemon_store,
        environment,
        forecasts,
        inference,
        live_decision,
        portfolio,
        replays,
        simpy_share,
        starts,
        startup,
        training,
    )

    return {
        "imports": startup.imports,
        "reading": startup.reading,
        "yardstick": replays.reference_loop,
        "ricc": replays.ricc,
        "sdsc": replays.sdsc,
        "logs": replays.logs,
        "million": replays.million,
        "compiled": replays.compiled,
        "environment": environment.environment,
        "training": training.training,
        "portfolio": portfolio.portfolio,
        "scaling": replays.scaling,
        "openb": clusters.openb,
        "philly-gpus": clusters.philly_gpus,
        "decisions": clusters.decisions,
        "memory": clusters.memory,
        "inference": inference.inference,
        "live": live_decision.live,
        "starts": starts.starts,
        "forecasts": forecasts.forecasts,
        "daemon-store": daemon_store.daemon_store,
        "daemon-load": daemon_load.daemon_load,
        "simpy-share": simpy_share.simpy_share,
        "first-run": startup.first_run,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 when every target that was measured at full size is reached, 1 otherwise."""
    known = benchmarks()
    asked = _parser(list(known)).parse_args(arguments)
    setup = _setup(asked)
    _one_thread()
    from shunter.scheduler.compiled import warm_up

    warm_up()
    load_before = os.getloadavg()
    records: list[Record] = []
    for name in asked.only or known:
        sys.stderr.write(f"# {name}: {(known[name].__doc__ or '').splitlines()[0]}\n")
        for record in known[name](setup):
            records.append(record)
            sys.stderr.write(line_of(record) + "\n")
            sys.stderr.flush()
    rows = [record.as_json() for record in records]
    document = {
        "format": FORMAT,
        "machine": machine() | {"load_before": load_before, "load_after": os.getloadavg()},
        "versions": versions(),
        "settings": {
            "repeat": setup.repeat,
            "most_jobs": setup.most_jobs or None,
            "full": setup.full,
            "seed": setup.seed,
        },
        "benchmarks": rows,
    }
    text = json.dumps(document, indent=1) + "\n"
    sys.stdout.write(text)
    if asked.out is not None:
        partial = asked.out.with_name(asked.out.name + ".partial")
        partial.write_text(text)
        partial.replace(asked.out)
    missed = [target for row in rows for target in row.get("targets", ()) if not target["reached"]]
    return 1 if missed and not setup.most_jobs else 0


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK_JOBS:,} jobs, {QUICK_REPEAT} rounds")
    parser.add_argument("--full", action="store_true", help="also what takes minutes")
    parser.add_argument("--repeat", type=_positive, help="rounds of each benchmark (5)")
    parser.add_argument("--jobs", type=_positive, help="use at most this many jobs of each trace")
    parser.add_argument("--traces", type=Path, default=TRACES, help="folder with the public logs")
    parser.add_argument("--out", type=Path, help="also write the JSON document to this file")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a positive whole number")
    return value


def _setup(asked: argparse.Namespace) -> Setup:
    return Setup(
        repeat=asked.repeat or (QUICK_REPEAT if asked.quick else 5),
        most_jobs=asked.jobs or (QUICK_JOBS if asked.quick else 0),
        full=asked.full,
        traces=asked.traces,
    )


def _one_thread() -> None:
    """As the command line does: several threads on small arrays cost more than they bring."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(variable, "1")


def line_of(record: Record) -> str:
    """One row of the table for people."""
    title = f"{record.benchmark:12} {record.case:52}"
    if record.skipped:
        return f"{title} skipped: {record.skipped}"
    numbers = record.numbers()
    parts = []
    if record.timing is not None:
        parts.append(f"{numbers['wall_s']:9.3f} s wall {record.timing.cpu_s.median:9.3f} s CPU")
    if "jobs_per_s" in numbers:
        parts.append(f"{numbers['jobs_per_s']:11,.0f} jobs/s")
    if "ratio_cpu" in numbers:
        parts.append(f"{numbers['ratio_cpu']:6.2f} × yardstick")
    parts.extend(f"{name} {value:,.3f}" for name, value in record.figures.items())
    for target in record.targets:
        judged = target.judge(numbers[target.figure])
        bound = f"≥ {target.at_least:,g}" if target.at_least is not None else f"< {target.at_most:,g}"
        parts.append(f"{target.figure} {bound}: {'reached' if judged['reached'] else 'MISSED'}")
    return f"{title} " + ", ".join(parts)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": platform.platform(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """What was measured: the interpreter, the packages that decide speed, and the commit where git knows it."""
    found = {name: version(name) for name in ("shunter", "numba", "numpy", "polars", "simpy")}
    found["python"] = platform.python_version()
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return found
    return found | {"commit": described.stdout.strip()}


if __name__ == "__main__":
    sys.exit(main())
