"""One replay of the ``memory`` benchmark, in a process of its own: ``python -m benchmarks.memory JOBS SEED``.

Prints one JSON object. ``before_bytes`` is the peak once the trace is drawn and the kernels are loaded; ``peak_bytes``
covers the replay, its tables and writing them to a folder that is removed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import timed
from benchmarks.million import peak_memory
from benchmarks.workloads import gangs_on_nodes


def main() -> None:
    """Replay once and report."""
    jobs, seed = (int(argument) for argument in sys.argv[1:])
    sys.stdout.write(json.dumps(run(jobs, seed)) + "\n")


def run(jobs: int, seed: int) -> dict[str, Any]:
    """Draw, replay with details under EASY, and write the run folder."""
    from shunter.scheduler.compiled import warm_up
    from shunter.sim.replay import simulate

    warm_up()
    trace = gangs_on_nodes(jobs, seed)
    before = peak_memory()
    with tempfile.TemporaryDirectory() as name:

        def work() -> None:
            simulate(trace, backfill="easy", placement="topology", details=True).save(Path(name) / "run")

        wall_s, cpu_s = timed(work)
    return {"jobs": jobs, "wall_s": wall_s, "cpu_s": cpu_s, "before_bytes": before, "peak_bytes": peak_memory()}


if __name__ == "__main__":
    main()
