"""Nodes behind bad lines keep their jobs, over real sockets."""

from __future__ import annotations

import asyncio
import os

import grpc
import pytest

from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.pb.nodes_pb2 import ListNodesRequest
from shunter.daemon.pb.nodes_pb2_grpc import NodesStub
from shunter.daemon.pb.scheduler_pb2 import SubmitBatchRequest, WatchRequest
from shunter.daemon.pb.scheduler_pb2_grpc import SchedulerStub
from tests.daemon.lossy import LossyNetwork
from tests.daemon.served import daemon, until
from tests.daemon.simulated import SimulatedAgent, description

NODES = 20
MINUTES = float(os.environ.get("SHUNTER_LOSSY_MINUTES", "5"))


@pytest.mark.slow
def test_lost_packets_and_pauses_of_two_seconds_cost_nobody_a_node() -> None:
    """SHUNTER_LOSSY_MINUTES says how long; default settings, 5 % of packets lost, a pause a minute on each line."""
    asyncio.run(_lossy(MINUTES * 60.0))


async def _lossy(seconds: float) -> None:
    async with daemon() as address:
        lines = [LossyNetwork(address, loss=0.05, pause_s=2.0, every_s=60.0, seed=seed) for seed in range(NODES)]
        agents = []
        for i, line in enumerate(lines):
            await line.start()
            agents.append(SimulatedAgent(line.address, f"n{i:02}", description(1.0), lambda _: 1e7))
            agents[-1].start()
        async with grpc.aio.insecure_channel(address) as channel:
            spec = JobSpec(command=["true"], per_task=Resources(cpus=1.0))
            await SchedulerStub(channel).SubmitBatch(SubmitBatchRequest(specs=[spec] * NODES), timeout=30)
            await until(lambda: sum(len(agent.runs) for agent in agents) == NODES, 120.0)
            await asyncio.sleep(seconds)
            nodes = await NodesStub(channel).ListNodes(ListNodesRequest(), timeout=30)
            kinds = await _events(channel, "node-failed")
        for agent in agents:
            await agent.stop()
        for line in lines:
            await line.stop()
    assert sum(line.lost for line in lines) > 0
    assert sum(line.pauses for line in lines) > 0
    assert "node-registered" in kinds
    assert "node-failed" not in kinds
    assert len(nodes.nodes) == NODES
    assert [next(iter(agent.runs.values()))[1] for agent in agents] == [None] * NODES
    assert {number for agent in agents for _, number in agent.runs} == {1}  # every job's first attempt still runs


async def _events(channel: grpc.aio.Channel, last: str) -> list[str]:
    """Kinds of all events so far."""
    kinds: list[str] = []
    call = SchedulerStub(channel).Watch(WatchRequest(after=0), timeout=10)
    try:
        async for answer in call:
            kinds += [event.kind for event in answer.events]
            if last in kinds:
                break
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:  # nothing more has happened
            raise
    return kinds
