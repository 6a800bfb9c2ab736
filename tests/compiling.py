"""Compiles what the tests need before they begin, in processes that have little to compile in common.

Without it every worker of the first run after a change to a kernel would compile the same kernels as the other, and a
test that waits for a minute of compiling would hold up its module.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping

from shunter.scheduler.compiled import is_cached, warm_up


def compile_all() -> None:
    """Compile every family, each in a process of its own, at the same time."""
    if not is_cached():
        sys.stderr.write("compiling what the tests need …\n")
    running = {name: subprocess.Popen([sys.executable, "-m", "tests.compiling", name]) for name in FAMILIES}
    failed = [name for name, process in running.items() if process.wait() != 0]
    if failed:
        raise RuntimeError(f"compiling failed: {', '.join(failed)}")


def compile_plain() -> None:
    """Every kind of pass, and the compiled loop, for placements that do not score nodes."""
    from shunter.sim.rollout import warm_up_loop

    warm_up()
    warm_up_loop()
    compile_passes("first-fit")
    compile_windows()


def compile_windows() -> None:
    """Windows in the compiled loop, under a fixed score and under a network."""
    import numpy as np

    from shunter.scheduler.kernels.features import NUM_FEATURES
    from shunter.scheduler.kernels.network import new_network
    from shunter.sim.rollout import Rollout
    from shunter.sim.workload import prepare
    from shunter.traces.generate import generate

    trace = generate("poisson", jobs=3, seed=1)
    rollout = Rollout(prepare(trace, trace.cluster))
    for network in (None, new_network(np.ones(NUM_FEATURES))):
        rollout.starts(network, np.array([0]), np.array([3]))


def compile_scored() -> None:
    """Every kind of pass for placements that score nodes."""
    compile_passes("random")


def compile_protocols() -> None:
    """The loops of published simulators."""
    from shunter.sim.compat import fgd, helios, rlscheduler

    for protocol in (fgd, helios, rlscheduler):
        protocol.warm_up()


def compile_passes(placement: str) -> None:
    """Replay six jobs on two nodes in every way that has kernels of its own."""
    from dataclasses import replace

    from shunter.scheduler.preemption import Preemption
    from shunter.sim.failures import draw_outages
    from shunter.sim.replay import simulate
    from shunter.traces.cluster_spec import ClusterSpec, NodeGroup, Quota
    from shunter.traces.tables import Trace, make_jobs

    cluster = ClusterSpec("c", (NodeGroup("n", 2, cpus=8.0, gpus=4.0, mtbf_h=1.0, mttr_h=0.1),))
    shared = replace(cluster, quotas={"a": Quota(6.0), "b": Quota(2.0)})
    columns = {
        "job_id": list("abcdef"),
        "submit_s": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "duration_s": [50.0, 60.0, 400.0, 50.0, 30.0, 20.0],
        "gpus": [1.0, 0.5, 2.0, 4.0, 0.5, 1.0],
        "tasks": [2, 1, 2, 1, 1, 1],
        "group": ["b", "b", "b", "a", "a", "b"],
    }
    trace = Trace("compiling", make_jobs(columns), cluster)
    for backfill in ("easy", "conservative"):
        outages = draw_outages(cluster, until_s=7200.0, seed=1)
        simulate(trace, placement=placement, backfill=backfill, outages=outages)
        simulate(trace, placement=placement, backfill=backfill, details=False, engine="simpy")
    simulate(trace, placement=placement, backfill="easy", cluster=shared)
    simulate(trace, placement=placement, policy="sjf", preemption=Preemption(("policy",)))


FAMILIES: Mapping[str, Callable[[], None]] = {
    "plain": compile_plain,
    "scored": compile_scored,
    "protocols": compile_protocols,
}

if __name__ == "__main__":
    FAMILIES[sys.argv[1]]()
