"""GPU clusters: sharing, gangs packed by topology, preemption, the time of one decision, and memory by jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Prepared, Record, Spread, Subject, Target, Timing, interleave
from benchmarks.replays import yardstick
from benchmarks.workloads import OPENB_LISTS, REPOSITORY, Setup
from benchmarks.yardstick import PoolJobs

if TYPE_CHECKING:
    from shunter.scheduler.preemption import Preemption
    from shunter.scheduler.state import ClusterState
    from shunter.sim.workload import Workload
    from shunter.traces.tables import ClusterSpec, Trace

GIB = 1024.0**3
NODES, NODE_GPUS = 100_000, 8
DECISIONS = 2_000
PROBE_SIZES = {1: 0.5, 2: 0.15, 4: 0.15, 8: 0.15, 16: 0.03, 32: 0.02}
"""GPUs of a job to its share; more than 8 are a gang of whole nodes."""

PLACEMENTS = ("first-fit", "best-fit", "packed", "topology")
MEMORY_JOBS = (100_000, 300_000, 1_000_000)

# --- replays on nodes of GPUs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GpuCase:
    """One way of replaying GPU jobs; ``wall_s`` is the target, 0 without one."""

    label: str
    policy: str = "fcfs"
    preempt: bool = False
    details: bool = False
    wall_s: float = 0.0


EASY = GpuCase("fcfs+easy topology")
DETAILED = GpuCase("fcfs+easy topology, details", details=True)
SRTF = GpuCase("srtf+easy topology, preemptive", policy="srtf", preempt=True)


def openb(setup: Setup) -> Iterator[Record]:
    """Inflation runs of FGD and of best fit on the 1,213 nodes of openb: every pod placed, with fragmentation."""
    from shunter.sim.compat import fgd, fgd_files

    lists = setup.traces / OPENB_LISTS
    pod_file, node_file = lists / "openb_pod_list_default.csv.gz", lists / "openb_node_list_gpu_node.csv.gz"
    if not (pod_file.is_file() and node_file.is_file()):
        yield Record("openb", "fgd", skipped=f"{OPENB_LISTS}/{pod_file.name} is not in {setup.traces.name}/")
        return
    fgd.warm_up()
    pods, nodes = fgd_files.load(pod_file), fgd_files.load_nodes(node_file)

    def inflate(policy: str) -> Subject:
        return lambda: lambda: fgd.run(pods, nodes, policy, 42)

    policies = ("fgd", "best-fit")
    events = len(fgd.run(pods, nodes, "fgd", 42).pod)
    timings = interleave({policy: inflate(policy) for policy in policies}, repeat=setup.repeat)
    for policy in policies:
        targets = (Target("wall_s", at_most=5.0),) if policy == "fgd" else ()
        facts = {"trace": pod_file.name, "nodes": len(nodes.node_names), "policy": policy}
        yield Record("openb", policy, timing=timings[policy], jobs=events, targets=targets, facts=facts)


def philly_gpus(setup: Setup) -> Iterator[Record]:
    """Philly's jobs on its 552 servers, and on 40 nodes of 8 GPUs, where they wait: EASY, and SRTF with preemption."""
    from shunter.traces.clusters import load_cluster

    if reason := setup.missing("philly"):
        yield Record("philly-gpus", "philly", skipped=reason)
        return
    trace = setup.load("philly")
    for cluster, cases in (
        ("philly", (replace(EASY, wall_s=15.0), DETAILED, replace(SRTF, wall_s=30.0))),
        ("40x8gpus", (EASY, SRTF)),
    ):
        yield from gpu_replays("philly-gpus", trace, load_cluster(cluster), cases, setup)


def gpu_replays(
    benchmark: str, trace: Trace, cluster: ClusterSpec, cases: Sequence[GpuCase], setup: Setup
) -> Iterator[Record]:
    """Time the cases, each in a round with the reference loop; one record a case."""
    from shunter.sim.workload import prepare

    workload = prepare(trace, cluster)
    jobs = PoolJobs.of(workload)
    found: dict[str, float] = {}
    for case in cases:
        timings = interleave(
            {"yardstick": yardstick(jobs), "case": gpu_subject(workload, case, found)}, repeat=min(setup.repeat, 3)
        )
        yield Record(
            benchmark,
            f"{cluster.name} {case.label}",
            timing=timings["case"],
            jobs=workload.num_jobs,
            yardstick=timings["yardstick"],
            targets=(Target("wall_s", at_most=case.wall_s),) if case.wall_s else (),
            figures=dict(found),
            facts={
                "trace": trace.name,
                "cluster": cluster.name,
                "nodes": cluster.num_nodes,
                "policy": case.policy,
                "backfill": "easy",
                "placement": "topology",
            },
        )


def gpu_subject(workload: Workload, case: GpuCase, found: dict[str, float]) -> Subject:
    """A replay to be timed; what it did is left in ``found``."""
    from shunter.scheduler.decide import Settings
    from shunter.scheduler.policies.registry import choose_ordering
    from shunter.scheduler.preemption import Preemption
    from shunter.sim.engine import Options, Simulation

    rules: Preemption = Preemption(("policy",)) if case.preempt else Preemption()
    settings = Settings(choose_ordering(case.policy), "easy", "topology")
    options = Options(settings, preemption=rules, explain_waits=case.details, placements=case.details)

    def set_up() -> Prepared:
        replay = Simulation(workload, options)

        def work() -> None:
            replay.run()
            found.update(passes=replay.num_passes, preemptions=replay.num_preemptions)

        return work

    return set_up


# --- one decision ----------------------------------------------------------------------------------------------------


def decisions(setup: Setup) -> Iterator[Record]:
    """One decision on 100,000 nodes of 8 GPUs, half of them held: a job arrives, is placed and starts."""
    nodes = max(64, NODES * setup.jobs(DECISIONS) // DECISIONS)
    probes = setup.jobs(DECISIONS)
    trace, held = half_full(nodes, probes, setup.seed)
    filled = fill(trace, held)
    for placement in PLACEMENTS:
        sizes, walls_s, cpu_s = decide(trace, placement, filled, probes)
        gangs = sizes > NODE_GPUS
        figures = {
            "median_ms": float(np.median(walls_s)) * 1e3,
            "p99_ms": float(np.percentile(walls_s, 99)) * 1e3,
            "max_ms": float(walls_s.max()) * 1e3,
            "cpu_ms": cpu_s / probes * 1e3,
            "median_single_ms": float(np.median(walls_s[~gangs])) * 1e3,
        }
        if gangs.any():
            figures["median_gang_ms"] = float(np.median(walls_s[gangs])) * 1e3
        yield Record(
            "decisions",
            placement,
            jobs=probes,
            figures=figures,
            targets=(Target("median_ms", at_most=1.0), Target("p99_ms", at_most=1.0)),
            facts={"nodes": nodes, "gpus": nodes * NODE_GPUS, "placement": placement},
        )


def half_full(nodes: int, probes: int, seed: int) -> tuple[Trace, list[int]]:
    """Jobs of 1 to 8 GPUs for the nodes that hold some, then the probes; and the node of each of the former."""
    from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs

    rng = np.random.default_rng(seed)
    on_node = rng.integers(0, NODE_GPUS + 1, nodes)
    held = np.flatnonzero(on_node)
    sizes = rng.choice(list(PROBE_SIZES), size=probes, p=list(PROBE_SIZES.values()))
    gpus = np.concatenate([on_node[held], np.minimum(sizes, NODE_GPUS)]).astype(np.float64)
    total = len(held) + probes
    group = NodeGroup("node", nodes, gpus=float(NODE_GPUS), rack_size=32, switch_size=8)
    jobs = {
        "job_id": np.arange(total).astype(str).tolist(),
        "submit_s": np.concatenate([np.zeros(len(held)), np.arange(1.0, probes + 1)]),
        "duration_s": rng.uniform(1e6, 2e6, total),
        "tasks": np.concatenate([np.ones(len(held), np.int64), np.maximum(sizes // NODE_GPUS, 1)]),
        "gpus": gpus,
    }
    return Trace(
        f"{nodes} nodes", make_jobs(jobs), ClusterSpec(f"{nodes} nodes", (group,)), format="generated"
    ), held.tolist()


def state_of(workload: Workload, placement: str) -> ClusterState:
    """An empty state under FCFS with EASY."""
    from shunter.scheduler.state import ClusterState

    return ClusterState(
        capacity=workload.capacity,
        demand=workload.demand,
        columns=workload.columns,
        score=workload.columns.submit_s,
        backfill="easy",
        placement=placement,
    )


NONE = np.zeros(1, dtype=np.int64)


def fill(trace: Trace, held: Sequence[int]) -> dict[str, Any]:
    """The arrays of a state in which job i runs on node ``held[i]``."""
    from shunter.sim.workload import prepare

    state = state_of(prepare(trace, trace.cluster), "first-fit")
    kernels, packed = state._kernels, state.packed
    state.absorb(0.0, NONE, 0, 0, len(held))
    while len(state.queue):
        row = int(state.queue[0])
        kernels.queue_remove(packed, int(state.counters[0]))
        kernels.add_entry(packed, row, held[row], 1, 0, -1)
        kernels.refresh_node(packed, held[row])
        kernels.set_running(packed, row, 0.0, 0)
    return {name: array.copy() for name, array in state.arrays().items()}


def decide(
    trace: Trace, placement: str, filled: dict[str, Any], probes: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Sizes of the probes, seconds of each decision, and CPU seconds of all; each probe ends before the next comes."""
    from shunter.sim.workload import prepare

    workload = prepare(trace, trace.cluster)
    state = state_of(workload, placement)
    state.restore(filled)
    first = workload.num_jobs - probes
    walls_s = np.zeros(probes)
    finished, cpu_s = NONE.copy(), 0.0
    for i in range(probes):
        now_s = float(workload.columns.submit_s[first + i])
        before_s, begin_s = time.process_time(), time.perf_counter()
        state.advance(now_s, finished, 0, first + i, first + i + 1)
        walls_s[i] = time.perf_counter() - begin_s
        cpu_s += time.process_time() - before_s
        if state.num_started != 1:
            raise RuntimeError(f"probe {i} did not start on a half-full cluster")
        finished[0] = first + i
        state.absorb(now_s, finished, 1, first + i + 1, first + i + 1)
    return workload.columns.processors[first:], walls_s, cpu_s


# --- memory ----------------------------------------------------------------------------------------------------------


def memory(setup: Setup) -> Iterator[Record]:
    """Memory of a replay that writes its run folder, by jobs: with details or without, streamed or kept in memory."""
    lengths = sorted({setup.jobs(length) for length in MEMORY_JOBS if setup.full or length < MEMORY_JOBS[-1]})
    for notes in ("details", "plain"):
        for way in ("streamed", "whole"):
            runs = [memory_run(length, setup.seed, notes, way) for length in lengths]
            for run in runs:
                yield memory_record(run, f"{notes}, {way}")
            if len(runs) > 1:
                peaks = [run["peak_bytes"] - run["before_bytes"] for run in runs]
                slope = float(np.polyfit(lengths, peaks, 1)[0])
                yield Record("memory", f"growth, {notes}, {way}", figures={"peak_bytes_per_job": slope})


def memory_run(jobs: int, seed: int, *how: str) -> dict[str, Any]:
    """What ``benchmarks.memory`` prints, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", str(jobs), str(seed), *how]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def memory_record(run: dict[str, Any], how: str) -> Record:
    """The figures of one run; the replay's growth is that of what is resident, from a tenth of the jobs to the last."""
    jobs, samples = run["jobs"], run["replay_bytes"]
    ended = np.arange(1, len(samples) + 1) * jobs / 10
    growth = {"replay_growth_bytes_per_job": float(np.polyfit(ended, samples, 1)[0])} if len(samples) > 2 else {}
    return Record(
        "memory",
        f"64 nodes × 8 GPUs fcfs+easy, {how}, {jobs}",
        timing=Timing(Spread.of([run["wall_s"]]), Spread.of([run["cpu_s"]]), 1),
        jobs=jobs,
        figures={
            "peak_gib": run["peak_bytes"] / GIB,
            "before_gib": run["before_bytes"] / GIB,
            "bytes_per_job": (run["peak_bytes"] - run["before_bytes"]) / jobs,
            **growth,
        },
        facts={"replay_bytes": samples, "saved_bytes": run["saved_bytes"]},
    )
