"""What stands before a replay: reading a log, importing, help, and the first run, which compiles."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Prepared, Record, Target, Timing, interleave
from benchmarks.workloads import REPOSITORY, Setup, single_gpus

STARTS = 7
"""Processes whose start is timed, of which the median is reported: one costs little and varies much."""

IMPORTS = {
    "import shunter.sim": "import shunter.sim",
    "from shunter.sim import simulate": "from shunter.sim import simulate",
}


def reading(setup: Setup) -> Iterator[Record]:
    """RICC as SWF.gz into a checked table; always the whole file."""
    from shunter.traces.read import read

    if reason := setup.missing("ricc"):
        yield Record("reading", "ricc", skipped=reason)
        return
    path = setup.path("ricc")
    rows = len(read(path).jobs)

    def set_up() -> Prepared:
        return lambda: read(path)

    timing = interleave({"read": set_up}, repeat=setup.repeat)["read"]
    yield Record("reading", path.name, timing=timing, jobs=rows, targets=(Target("wall_s", at_most=3.0),))


def imports(setup: Setup) -> Iterator[Record]:
    """Importing ``shunter.sim``, importing ``simulate`` from it, and ``shunter --help``, each in fresh processes."""
    starts = min(STARTS, max(setup.repeat, 1)) if setup.most_jobs else STARTS
    for case, statement in IMPORTS.items():
        program = (
            "import sys, time\nw, c = time.perf_counter(), time.process_time()\n"
            f"{statement}\nsys.stdout.write(f'{{time.perf_counter() - w}} {{time.process_time() - c}}')"
        )
        pairs = []
        for _ in range(starts):
            wall, cpu = started([sys.executable, "-c", program])[2].split()
            pairs.append((float(wall), float(cpu)))
        yield Record("imports", case, timing=Timing.of(pairs), targets=(Target("wall_s", at_most=0.5),))
    for case, command, targets in (
        ("python -c pass", [sys.executable, "-c", "pass"], ()),
        ("shunter --help", [sys.executable, "-m", "shunter", "--help"], (Target("wall_s", at_most=0.3),)),
    ):
        timing = Timing.of([started(command)[:2] for _ in range(starts)])
        yield Record("imports", case, timing=timing, targets=targets)


def first_run(setup: Setup) -> Iterator[Record]:
    """``shunter simulate`` on ten jobs: with an empty cache of compiled code, and with a filled one."""
    from shunter.traces.write import write

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(single_gpus(10, 4, setup.seed), folder / "ten.parquet")
        command = [sys.executable, "-m", "shunter", "simulate", str(folder / "ten.parquet"), "--json"]
        environment = {"NUMBA_CACHE_DIR": str(folder / "compiled")}
        cold = [started(command, environment)[:2]]
        warm = [started(command, environment)[:2] for _ in range(setup.repeat)]
    yield Record("first-run", "empty cache", timing=Timing.of(cold))
    yield Record("first-run", "filled cache", timing=Timing.of(warm))


def started(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float, str]:
    """Run a program to its end: wall seconds, CPU seconds of it and its children, and what it printed."""
    before = os.times()
    begin_s = time.perf_counter()
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | (environment or {}), check=True, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - begin_s
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall_s, spent, done.stdout
