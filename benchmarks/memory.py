"""One replay of the ``memory`` benchmark, in a process of its own: ``python -m benchmarks.memory JOBS SEED [HOW …]``.

``HOW`` are words: ``details`` or ``plain`` (whether attempts and placements are noted), ``streamed`` or ``whole``
(whether rows go to files while the replay runs), and ``report`` (write the report, too); by default ``details whole``.

Prints one JSON object. ``before_bytes`` is what is resident once the trace is drawn, the kernels are loaded and a small
run of the same kind has been made; ``peak_bytes`` covers the replay, its tables and the run folder, which is removed.
``replay_bytes`` are samples of what is resident beyond ``before_bytes`` when a tenth, two tenths … of the jobs have
ended, and ``saved_bytes`` what is once the folder is written.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import timed
from benchmarks.million import peak_memory
from benchmarks.workloads import gangs_on_nodes

if TYPE_CHECKING:
    from shunter.sim.engine import Simulation
    from shunter.sim.result import Result
    from shunter.traces.tables import Trace

SMALL = 2_000
WORDS = ("details", "plain", "streamed", "whole", "report")


def main() -> None:
    """Replay once and report."""
    jobs, seed, *how = sys.argv[1:]
    unknown = [word for word in how if word not in WORDS]
    if unknown:
        sys.exit(f"unknown words {', '.join(unknown)}; known: {', '.join(WORDS)}")
    sys.stdout.write(json.dumps(run(int(jobs), int(seed), how)) + "\n")


def run(jobs: int, seed: int, how: Sequence[str] = ()) -> dict[str, Any]:
    """Draw, replay under EASY, and write the run folder."""
    from shunter.scheduler.compiled import warm_up

    warm_up()
    with tempfile.TemporaryDirectory() as name:
        replay(gangs_on_nodes(min(jobs, SMALL), seed), Path(name) / "small", how)
        trace = gangs_on_nodes(jobs, seed)
        before = resident()
        samples: list[int] = []

        def sample(simulation: Simulation) -> None:
            while simulation.num_done * 10 >= jobs * (len(samples) + 1):
                samples.append(resident() - before)

        wall_s, cpu_s = timed(lambda: replay(trace, Path(name) / "run", how, sample))
        saved = resident() - before
    return {
        "jobs": jobs,
        "how": list(how),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "before_bytes": before,
        "peak_bytes": peak_memory(),
        "replay_bytes": samples,
        "saved_bytes": saved,
    }


def replay(trace: Trace, folder: Path, how: Sequence[str], progress: Any = None) -> Result:
    """One run, written into ``folder``."""
    from shunter.sim.replay import simulate

    options: dict[str, Any] = {"backfill": "easy", "placement": "topology", "details": "plain" not in how}
    result = simulate(trace, **options, progress=progress, out=folder if "streamed" in how else None)
    if "streamed" not in how:
        result.save(folder)
    if "report" in how:
        from shunter.sim.report.html import write_report

        write_report([result], folder / "report.html")
    return result


def resident() -> int:
    """What is resident of this process now, in bytes; the peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_memory()
    import resource

    return int(statm.read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
