"""One replay of the ``million`` benchmark, in a process of its own: ``python -m benchmarks.million JOBS SEED``.

Prints one JSON object. Peak memory covers drawing the trace, the replay and its result tables, not the reference loop
that is timed afterwards.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import timed
from benchmarks.workloads import million
from benchmarks.yardstick import PoolJobs, heap_fcfs

if TYPE_CHECKING:
    from shunter.sim.result import Result


def main() -> None:
    """Replay once and report."""
    jobs, seed = (int(argument) for argument in sys.argv[1:])
    sys.stdout.write(json.dumps(run(jobs, seed)) + "\n")


def run(jobs: int, seed: int) -> dict[str, Any]:
    """Draw, ``simulate`` with EASY and without details, tables and metrics included, and time the reference loop."""
    from shunter.scheduler.compiled import warm_up
    from shunter.sim.replay import simulate
    from shunter.sim.rollout import warm_up_loop
    from shunter.sim.workload import prepare

    warm_up()
    warm_up_loop()
    begin_s = time.perf_counter()
    trace = million(jobs, seed)
    draw_s = time.perf_counter() - begin_s
    results: list[Result] = []
    wall_s, cpu_s = timed(lambda: results.append(simulate(trace, backfill="easy", details=False)))
    result = results[0]
    peak_bytes = peak_memory()
    pool_jobs = PoolJobs.of(prepare(trace, trace.cluster))
    yardstick_wall_s, yardstick_cpu_s = timed(lambda: heap_fcfs(pool_jobs))
    return {
        "trace": trace.name,
        "jobs": jobs,
        "passes": result.manifest["passes"],
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "replay_s": result.wall_s,
        "draw_s": draw_s,
        "peak_bytes": peak_bytes,
        "yardstick_wall_s": yardstick_wall_s,
        "yardstick_cpu_s": yardstick_cpu_s,
        "max_queue_length": result.metrics["max_queue_length"],
        "gpu_utilisation": result.metrics["gpu_utilisation"],
    }


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes.

    ``ru_maxrss`` of a child starts at the size that its parent had when it was made, so the kernel's own mark of this
    address space is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
