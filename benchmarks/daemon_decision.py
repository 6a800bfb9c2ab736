"""Live decisions from end to end: state, deciding process and store, with a long queue on a full cluster."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Record, Spread, Target, Timing
from benchmarks.workloads import Setup

if TYPE_CHECKING:
    from shunter.daemon.leader import Leader

NODES, GPUS, WAITING = 1000, 8, 10_000
CHURN = 60
"""Jobs that end, and that come, between two decisions."""
PASSES = 120
CASES = (("fcfs", "heuristic", "fcfs"), ("learned", "active", "fcfs"))


def daemon_decision(setup: Setup) -> Iterator[Record]:
    """Decisions with 10,000 waiting jobs on 1,000 nodes of 8 GPUs: snapshot, plan, check, commit, store."""
    passes = 5 if setup.most_jobs else PASSES
    for name, mode, policy in CASES:
        stages = asyncio.run(_decide(mode, policy, passes, 500 if setup.most_jobs else WAITING))
        total = stages.pop("total")
        figures = {"p50_ms": 1000 * float(np.median(total)), "p99_ms": 1000 * float(np.percentile(total, 99))}
        for stage, seconds in stages.items():
            figures[f"{stage}_p50_ms"] = 1000 * float(np.median(seconds))
        yield Record(
            "daemon-decision",
            f"{name}, {WAITING:,} waiting on {NODES:,} nodes",
            timing=Timing(Spread.of(total), Spread.of(total), len(total)),
            figures=figures,
            facts={"mode": mode, "policy": policy, "churn": CHURN},
            targets=(Target("p99_ms", at_most=50.0),),
        )


async def _decide(mode: str, policy: str, passes: int, waiting: int) -> dict[str, list[float]]:
    from shunter.cli.policies import find_live_policy
    from shunter.daemon.clock import SystemClock
    from shunter.daemon.leader import Conduct, Leader
    from shunter.daemon.logs import set_up_logs
    from shunter.daemon.planner import ProcessPlanner, Rules
    from shunter.daemon.policies import Mode, ModelRules
    from shunter.daemon.store.lease import open_lease
    from shunter.daemon.store.sql_store import open_store

    set_up_logs("text", "error")
    stages: dict[str, list[float]] = {"total": []}
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'shunter.db'}"
        lease = open_lease(url, holder="benchmark")
        token = lease.acquire(60.0)
        assert token is not None
        store = open_store(url, token=token)
        conduct = Conduct(rules=Rules(policy=policy), models=ModelRules(mode=Mode(mode)))
        leader = Leader(store, SystemClock(), ProcessPlanner(find_live_policy), conduct)
        leader.on_stage = lambda stage, seconds: stages.setdefault(stage, []).append(seconds)
        leader.store, leader.token = store, token
        store.deliver_by(asyncio.get_running_loop().call_soon_threadsafe)
        leader.load()
        await _fill(leader, waiting)
        await leader.decide()  # the first decision fills the cluster
        chance = np.random.default_rng(1)
        for turn in range(passes + 3):
            await _churn(leader, chance)
            if turn == 3:  # compiled, loaded and steady
                stages = {"total": []}
            begun_s = time.perf_counter()
            await leader.decide()
            stages["total"].append(time.perf_counter() - begun_s)
        leader.planner.close()
        store.close()
        lease.close()
    return stages


async def _fill(leader: Leader, waiting: int) -> None:
    from shunter.daemon.pb.nodes_pb2 import GpuDescription, NodeDescription
    from shunter.daemon.steps.nodes import register

    gpus = [GpuDescription(index=i, uuid=f"GPU-{i}") for i in range(GPUS)]
    for i in range(NODES):
        what = NodeDescription(cpus=64, memory_gib=512, gpus=gpus, gpu_type=("h100", "a100")[i % 2], rack=str(i // 40))
        await leader.perform(register, f"n{i}", what, instance="i", state_id="s", held={}, rules=leader.conduct.leases)
    await _submit(leader, np.random.default_rng(0), waiting + 3 * NODES)


async def _submit(leader: Leader, chance: np.random.Generator, count: int) -> None:
    from shunter.daemon.pb.common_pb2 import JobSpec, Resources
    from shunter.daemon.specs import complete
    from shunter.daemon.steps.submit import submit

    for _ in range(count):
        size = int(chance.choice([1, 1, 1, 2, 4, 8, 16, 64]))
        per_task = min(size, GPUS)
        spec = JobSpec(
            command=["train"],
            tasks=max(size // GPUS, 1),
            per_task=Resources(cpus=4 * per_task, memory_gib=32.0 * per_task, gpus=per_task),
            time_limit_s=float(np.ceil(chance.lognormal(9, 1.5))),
        )
        units = complete(spec, leader.conduct.queues)
        await leader.perform(submit, f"user{int(chance.integers(50))}", [(spec, units)])


async def _churn(leader: Leader, chance: np.random.Generator) -> None:
    """Some running jobs end, and as many come."""
    from shunter.daemon.jobs import End, Phase
    from shunter.daemon.steps.attempts import PartReport, report

    running = sorted(leader.state.active)
    for job in chance.choice(running, min(CHURN, len(running)), replace=False).tolist():
        attempt = leader.state.jobs[job].attempt
        assert attempt is not None
        for node in list(attempt.parts):
            ended = PartReport(job, attempt.number, Phase.ENDED, end=End.EXITED, exit_code=0)
            await leader.perform(report, node, ended)
    await _submit(leader, chance, CHURN)
