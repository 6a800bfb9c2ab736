"""From the moment at which a node dies to the one at which its jobs run elsewhere: a daemon in its own process with
default settings, agents that pretend to run jobs, real sockets on loopback.

An agent is cut off without a word, as by a power failure. Its jobs may start elsewhere only when its lease and the
margin are over, counted from its last heartbeat; so the time depends on where between two heartbeats the node died,
and kills are spread over that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.measure import Record, Spread, Target
from benchmarks.workloads import Setup

if TYPE_CHECKING:
    from tests.daemon.simulated import SimulatedAgent

NODES, JOBS, KILLS = 90, 45, 36
FOREVER_S = 1e7
QUICK_KILLS = 2
START_LIMIT_S, MOVE_LIMIT_S = 120.0, 60.0
P99_S = 12.0


def failover(setup: Setup) -> Iterator[Record]:
    """A node is killed: seconds until its jobs run elsewhere, with default settings (about a minute and a half)."""
    if not setup.full:
        yield Record(
            "failover", f"{KILLS} nodes of {NODES} killed", skipped="takes a minute and a half; --full runs it"
        )
        return
    kills = KILLS if not setup.most_jobs else QUICK_KILLS
    seconds = sorted(asyncio.run(_measure(kills, setup.seed)))
    figures = {
        "median_s": Spread.of(seconds).median,
        "p99_s": _quantile(seconds, 0.99),
        "least_s": seconds[0],
        "most_s": seconds[-1],
    }
    facts = {"kills": kills, "nodes": NODES, "heartbeat_s": 3.0, "lease_s": 9.0, "margin_s": 1.0}
    yield Record(
        "failover",
        f"{kills} nodes of {NODES} killed, one at a time",
        figures=figures,
        facts=facts,
        targets=(Target("p99_s", at_most=P99_S),),
    )


def _quantile(ordered: list[float], share: float) -> float:
    """The least value that so large a share does not exceed; of fewer than a hundred, p99 is the greatest."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


async def _measure(kills: int, seed: int) -> list[float]:
    from tests.daemon.served import daemon, until
    from tests.daemon.simulated import SimulatedAgent, description

    draw, loop = random.Random(seed), asyncio.get_running_loop()
    async with daemon() as address:
        agents = {
            name: SimulatedAgent(address, name, description(1.0), lambda _: FOREVER_S)
            for name in (f"n{i:03}" for i in range(NODES))
        }
        for agent in agents.values():
            agent.start()
            await asyncio.sleep(3.0 / NODES)  # heartbeats of different nodes do not come together
        await _submit(address, JOBS)
        await until(lambda: len(_held(agents)) == JOBS, START_LIMIT_S)
        moves = []
        for _ in range(kills):
            await asyncio.sleep(draw.uniform(0.5, 2.5))
            alive = _held(agents)
            job = draw.choice(sorted(alive.keys() - {job for job, _, _ in moves}))
            killed_s = loop.time()
            await alive[job].stop()
            del agents[alive[job].node]
            moves.append((job, killed_s, asyncio.create_task(_moved(agents, job))))
        return [await task - killed_s for _, killed_s, task in moves]


async def _submit(address: str, count: int) -> None:
    import grpc

    from shunter.daemon.pb.common_pb2 import JobSpec, Resources
    from shunter.daemon.pb.scheduler_pb2 import SubmitBatchRequest
    from shunter.daemon.pb.scheduler_pb2_grpc import SchedulerStub

    spec = JobSpec(command=["true"], per_task=Resources(cpus=1.0))
    async with grpc.aio.insecure_channel(address) as channel:
        await SchedulerStub(channel).SubmitBatch(SubmitBatchRequest(specs=[spec] * count), timeout=30)


def _held(agents: dict[str, SimulatedAgent]) -> dict[int, SimulatedAgent]:
    """Where each job runs, by what the agents that live do."""
    return {job: agent for agent in agents.values() for (job, _), (_, end) in agent.runs.items() if end is None}


async def _moved(agents: dict[str, SimulatedAgent], job: int) -> float:
    """When the job runs again, on the loop's clock."""
    from tests.daemon.served import until

    await until(lambda: job in _held(agents), MOVE_LIMIT_S)
    agent = _held(agents)[job]
    return max(begin for (one, _), (begin, end) in agent.runs.items() if one == job and end is None)
