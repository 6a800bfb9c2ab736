"""Training steps a second: rollouts and updates of MaskablePPO with the kernel network over 128 visible jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Record, Spread, Target
from benchmarks.workloads import REPOSITORY, Setup, gangs_on_pool

if TYPE_CHECKING:
    from shunter.traces.tables import Trace

GENERATED_JOBS = 20_000
STEPS = 32_768
CROWD = 30.0
"""How much denser arrivals are where queues are long: half of what is visible, on average."""


def training(setup: Setup) -> Iterator[Record]:
    """PPO on windows of SDSC-SP2 with EASY: one process, two side by side, and with long queues."""
    try:
        import sb3_contrib  # noqa: F401
    except ImportError:
        yield Record("training", "kernel network, 128 visible jobs", skipped="needs the extra train")
        return
    steps = STEPS if not setup.most_jobs else 64
    log = None if setup.missing("sdsc-sp2") else setup.path("sdsc-sp2")
    for case, processes, load, least in (
        ("one process", 1, 1.0, 5_000),
        ("two processes", 2, 1.0, 9_000),
        ("one process, long queues", 1, CROWD, None),
    ):
        rounds = [side_by_side(processes, log, load, steps, setup) for _ in range(min(setup.repeat, 3))]
        rates = {name: Spread.of([each[name] for each in rounds]).median for name in rounds[0]}
        yield Record(
            "training",
            f"kernel network, 128 visible jobs, {case}",
            figures=rates,
            targets=() if least is None else (Target("steps_per_s", at_least=least),),
            facts={"trace": "SDSC-SP2" if log else "generated", "backfill": "easy", "processes": processes},
        )


def side_by_side(processes: int, log: Path | None, load: float, steps: int, setup: Setup) -> dict[str, float]:
    """Steps a second of all processes together, by wall and by CPU time, and the mean length of the queues seen."""
    command = [sys.executable, "-m", "benchmarks.training", str(log or ""), str(load), str(steps), str(setup.most_jobs)]
    running = [
        subprocess.Popen([*command, str(seed)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for seed in range(processes)
    ]
    found: list[dict[str, float]] = []
    for process in running:
        told, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        found.append(json.loads(told))
    return {
        "steps_per_s": sum(each["steps_per_s"] for each in found),
        "steps_per_cpu_s": sum(each["steps_per_cpu_s"] for each in found),
        "visible_jobs": sum(each["visible_jobs"] for each in found) / processes,
    }


def measure(trace: Trace, load: float, steps: int, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """Train on the first jobs of a trace: a rollout and an update outside the clock, then ``steps`` inside it."""
    from shunter.agents.lessons import Lesson, at_load
    from shunter.agents.ppo import Rate, SpreadOfReturns, make_model
    from shunter.agents.seeds import make_env
    from shunter.agents.settings import load_settings
    from shunter.sim.workload import prepare

    chosen = load_settings().with_values(settings)
    dense = at_load(trace, load)
    lesson = Lesson(trace.name, prepare(dense, trace.cluster), 0, len(trace.jobs) * 6 // 10)
    env = make_env([lesson], chosen, "saf", SpreadOfReturns())
    model = make_model(env, chosen, seed, Rate(chosen.ppo))
    one = chosen.ppo.steps * chosen.ppo.environments
    model.learn(one)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    model.learn(steps, reset_num_timesteps=False)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    done = model.num_timesteps - one
    return {
        "steps_per_s": done / wall_s,
        "steps_per_cpu_s": done / cpu_s,
        "visible_jobs": model.rollout_buffer.num_rows / one,
    }


def main(arguments: list[str]) -> None:
    """One process: log (or nothing), load, steps, most jobs (0: all), seed."""
    from shunter.traces.read import read

    log, load, steps, most, seed = arguments
    trace = read(Path(log)) if log else gangs_on_pool(GENERATED_JOBS, 1)
    settings: dict[str, Any] = {}
    if int(most):
        trace = trace.window(0, min(int(most), len(trace.jobs)))
        settings = {"windows.jobs": 16, "windows.warm_jobs": 4, "ppo.steps": 4, "ppo.environments": 4}
    print(json.dumps(measure(trace, float(load), int(steps), int(seed), settings)))


if __name__ == "__main__":
    main(sys.argv[1:])
