"""Failover over real sockets, with leases of about a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from shunter.daemon.clock import SystemClock
from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.pb.nodes_pb2 import DrainRequest, GetNodeRequest, GpuSample, Node, NodeSample, TelemetryBatch
from shunter.daemon.pb.nodes_pb2_grpc import NodesStub
from shunter.daemon.pb.scheduler_pb2 import ExplainRequest, SubmitRequest
from shunter.daemon.pb.scheduler_pb2_grpc import SchedulerStub
from shunter.daemon.planner import ThreadPlanner
from shunter.daemon.service.access import OpenAccess
from shunter.daemon.service.server import Server
from tests.daemon.memory_store import MemoryStore
from tests.daemon.served import until
from tests.daemon.simulated import SimulatedAgent, description

LEASES = LeaseRules(
    heartbeat_s=0.1,
    suspect_s=0.5,
    lease_s=0.9,
    margin_s=0.2,
    probation_s=0.1,
    failover=FailoverRules(gpu_probation_s=0.1),
)
LIMIT_S = 60.0


class Cluster:
    """Two agents and a daemon."""

    def __init__(self, leader: Leader, address: str, channel: grpc.aio.Channel) -> None:
        self.leader, self.store = leader, leader.store
        self.nodes, self.jobs = NodesStub(channel), SchedulerStub(channel)
        self.agents = {
            name: SimulatedAgent(address, name, description(2.0, gpus=4), lambda _: 1e6) for name in ("n1", "n2")
        }
        for agent in self.agents.values():
            agent.start()

    async def started(self, gpus: int = 1) -> tuple[int, SimulatedAgent]:
        """A job, and the agent that runs it."""
        spec = JobSpec(command=["true"], per_task=Resources(cpus=1.0, gpus=gpus))
        job = (await self.jobs.Submit(SubmitRequest(spec=spec), timeout=10)).job
        await until(lambda: bool(self.runs(job)), LIMIT_S)
        return job, self.agents[self.runs(job)[0]]

    def runs(self, job: int) -> list[str]:
        """Nodes whose agents run a job now."""
        return [
            a.node for a in self.agents.values() if any(j == job and e is None for (j, _), (_, e) in a.runs.items())
        ]

    async def node(self, name: str) -> Node:
        return await self.nodes.GetNode(GetNodeRequest(node=name), timeout=10)

    async def sends(self, name: str, *samples: NodeSample) -> None:
        registration = self.leader.state.nodes[name].registration
        batch = TelemetryBatch(node=name, registration=registration, samples=samples)
        await self.nodes.Telemetry(iter([batch]), timeout=10)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.store.event_rows]  # type: ignore[attr-defined]


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    store = MemoryStore()
    leader = Leader(store, SystemClock(), ThreadPlanner(), Conduct(leases=LEASES, tick_s=0.05))
    leader.lead(store, 1)
    server = Server(leader, OpenAccess("ann"))
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    async with grpc.aio.insecure_channel(address) as channel:
        made = Cluster(leader, address, channel)
        await until(lambda: len(leader.state.nodes) == 2, LIMIT_S)
        try:
            yield made
        finally:
            for agent in made.agents.values():
                await agent.stop()
            await server.stop(0.1)
            await leader.step_down()


def test_the_jobs_of_a_node_that_dies_run_elsewhere_once_its_lease_is_over() -> None:
    async def story() -> None:
        async with cluster() as made:
            job, agent = await made.started()
            await agent.stop()
            stopped_s = asyncio.get_running_loop().time()
            other = next(name for name in made.agents if name != agent.node)
            await until(lambda: other in made.runs(job), LIMIT_S)
            [(begin_s, _)] = [run for (one, _), run in made.agents[other].runs.items() if one == job]
            # Not before the lease and its margin are over, counted from the last heartbeat before it died.
            assert begin_s - stopped_s >= LEASES.fence_s - LEASES.heartbeat_s - 0.05
            assert (await made.node(agent.node)).reason.startswith("silent for 1.")
            kinds = made.kinds()
            assert kinds.index("node-suspect") < kinds.index("node-failed") < kinds.index("requeued")

    asyncio.run(story())


def test_a_node_that_was_given_up_and_is_heard_again_has_to_register() -> None:
    async def story() -> None:
        async with cluster() as made:
            job, agent = await made.started()
            name, sessions = agent.node, agent.sessions
            agent.answers = False  # its line is open, and silent
            await until(lambda: "node-suspect" in made.kinds(), LIMIT_S)
            explained = await made.jobs.Explain(ExplainRequest(job=job), timeout=10)
            assert f"Node {name} is suspect: silent for 0." in explained.sentence
            await until(lambda: "node-failed" in made.kinds(), LIMIT_S)
            assert agent.sessions == sessions
            agent.answers = True
            await until(lambda: agent.sessions > sessions, LIMIT_S)
            await until(lambda: made.leader.state.nodes[name].health == "healthy", LIMIT_S)
            assert [kind for kind in made.kinds() if kind in ("node-recovering", "node-healthy")][-1] == "node-healthy"
            # What it ran before is not its own any more: it is told to stop it, and the other node runs the job.
            await until(lambda: made.runs(job) not in ([], [name]) and len(made.runs(job)) == 1, LIMIT_S)

    asyncio.run(story())


def test_an_xid_in_telemetry_moves_the_job_to_another_gpu_and_explains_itself() -> None:
    async def story() -> None:
        async with cluster() as made:
            job, agent = await made.started()
            [broken] = made.leader.state.jobs[job].attempt.parts[agent.node].gpus  # type: ignore[union-attr]
            bad = GpuSample(index=broken, temperature_c=50.0, xids=[48])
            await made.sends(agent.node, NodeSample(gpus=[bad]))
            await until(lambda: made.leader.state.jobs[job].attempts == 2, LIMIT_S)
            await until(lambda: bool(made.runs(job)), LIMIT_S)
            assert list((await made.node(agent.node)).failed_gpus) == [broken]
            assert (await made.node(agent.node)).reason == f"GPU {broken}: Xid 48: double-bit ECC error"
            parts = made.leader.state.jobs[job].attempt.parts  # type: ignore[union-attr]
            assert all(part.node != agent.node or part.gpus != [broken] for part in parts.values())

    asyncio.run(story())


def test_a_drain_with_a_deadline_moves_the_job_and_a_deadline_in_the_past_is_refused() -> None:
    async def story() -> None:
        async with cluster() as made:
            job, agent = await made.started()
            soon_s = made.leader.clock.now_s() + 100.0
            request = DrainRequest(node=agent.node, reason="new disk", deadline_unix_s=soon_s)
            assert list((await made.nodes.Drain(request, timeout=10)).jobs) == [job]
            await until(lambda: made.runs(job) not in ([], [agent.node]), LIMIT_S)
            node = await made.node(agent.node)
            assert (node.is_drained, node.reason) == (True, "new disk")
            request.deadline_unix_s = 1.0
            with pytest.raises(grpc.aio.AioRpcError, match="no time to come"):
                await made.nodes.Drain(request, timeout=10)

    asyncio.run(story())
