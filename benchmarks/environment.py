"""Steps a second of the scheduling environments under a policy that chooses at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Prepared, Record, Subject, Target, interleave
from benchmarks.workloads import Setup, gangs_on_pool

if TYPE_CHECKING:
    from shunter.sim.workload import Workload

WINDOW = 1024
VISIBLE = 128
SINGLE_STEPS = 20_000
VECTOR_STEPS = 4_000
NUM_ENVS = 16
GENERATED_JOBS = 20_000


def environment(setup: Setup) -> Iterator[Record]:
    """Random choices on windows of SDSC-SP2 with EASY, 128 visible jobs: one environment, and 16 in one process."""
    try:
        import stable_baselines3  # noqa: F401
    except ImportError:
        yield Record("environment", "random choices", skipped="needs the extra train")
        return
    from shunter.sim.workload import prepare

    missing = setup.missing("sdsc-sp2")
    trace = gangs_on_pool(setup.jobs(GENERATED_JOBS), setup.seed) if missing else setup.load("sdsc-sp2")
    workload = prepare(trace, trace.cluster)
    jobs = min(WINDOW, workload.num_jobs // 2)
    scale = max(1, GENERATED_JOBS // setup.jobs(GENERATED_JOBS))
    cases = (
        ("single", 1, SINGLE_STEPS // scale, 10_000),
        (f"{NUM_ENVS} vectorised", NUM_ENVS, VECTOR_STEPS // scale, 40_000),
    )
    subjects = {
        name: single(workload, jobs, steps, setup.seed)
        if envs == 1
        else vector(workload, jobs, envs, steps, setup.seed)
        for name, envs, steps, _ in cases
    }
    timings = interleave(subjects, repeat=setup.repeat)
    for name, envs, steps, least in cases:
        timing = timings[name]
        yield Record(
            "environment",
            f"{trace.name} easy, random choices, {name}",
            timing=timing,
            figures={
                "steps_per_s": envs * steps / timing.wall_s.median,
                "steps_per_cpu_s": envs * steps / max(timing.cpu_s.median, 1e-9),
            },
            targets=(Target("steps_per_s", at_least=least),),
            facts={"trace": trace.name, "backfill": "easy", "visible": VISIBLE, "window": jobs, "environments": envs},
        )


def single(workload: Workload, jobs: int, steps: int, seed: int) -> Subject:
    """Steps of one environment to be timed, resets included; what it needs is compiled outside the clock."""
    from shunter.agents.env import SchedulingEnv

    def set_up() -> Prepared:
        env = SchedulingEnv(workload, jobs=jobs, visible=VISIBLE, seed=seed)
        env.reset()

        def run() -> None:
            for _ in range(steps):
                _, _, over, _, _ = env.step(env.sample())
                if over:
                    env.reset()

        return run

    return set_up


def vector(workload: Workload, jobs: int, num_envs: int, steps: int, seed: int) -> Subject:
    """Steps of several environments to be timed."""
    from shunter.agents.vector import VectorSchedulingEnv

    def set_up() -> Prepared:
        env = VectorSchedulingEnv(workload, num_envs, jobs=jobs, visible=VISIBLE, seed=seed)
        env.reset()
        rng = np.random.default_rng(seed)

        def run() -> None:
            for _ in range(steps):
                env.step(env.sample(rng))

        return run

    return set_up
