"""Why a job waits, what is ahead of it, what moved it, and when it starts: asked over the protocol."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from shunter.cli.policies import find_live_policy
from shunter.cli.start_times import tell_starts
from shunter.daemon.clock import SystemClock
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.pb import admin_pb2, admin_pb2_grpc, common_pb2, scheduler_pb2, scheduler_pb2_grpc
from shunter.daemon.planner import ThreadPlanner
from shunter.daemon.service.access import OpenAccess
from shunter.daemon.service.server import Server
from shunter.scheduler.features import FEATURES
from tests.daemon.memory_store import MemoryStore
from tests.daemon.simulated import SimulatedAgent, description


async def asked(mode: int) -> list[scheduler_pb2.Explanation]:
    """One job runs, three wait behind it: explanations of all four, in the order of submission."""
    leader = Leader(MemoryStore(), SystemClock(), ThreadPlanner(find_live_policy, tell_starts), Conduct())
    leader.lead(leader.store, 1)
    server = Server(leader, OpenAccess("ann"))
    address = f"127.0.0.1:{await server.start('127.0.0.1:0')}"
    agent = SimulatedAgent(address, "n1", description(4), lambda _: 600.0)
    agent.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = scheduler_pb2_grpc.SchedulerStub(channel)
            await admin_pb2_grpc.AdminStub(channel).SetMode(admin_pb2.SetModeRequest(mode=mode), timeout=120)
            jobs = []
            for cpus, limit_s in ((4, 1000), (4, 5000), (2, 100), (99, 50)):
                spec = common_pb2.JobSpec(command=["x"], per_task=common_pb2.Resources(cpus=cpus), time_limit_s=limit_s)
                jobs.append((await stub.Submit(scheduler_pb2.SubmitRequest(spec=spec))).job)
            async with asyncio.timeout(120):
                while True:
                    told = [await stub.Explain(scheduler_pb2.ExplainRequest(job=job)) for job in jobs]
                    if told[0].state == common_pb2.JOB_STATE_RUNNING and told[2].HasField("place"):
                        return told
                    await asyncio.sleep(0.05)
    finally:
        await agent.stop()
        await server.stop()
        await leader.step_down()


@pytest.fixture(scope="module", params=[1, pytest.param(3, marks=pytest.mark.slow)], ids=["heuristic", "active"])
def told(request: pytest.FixtureRequest) -> tuple[int, list[scheduler_pb2.Explanation]]:
    return request.param, asyncio.run(asked(request.param))


def test_what_runs_and_what_never_fits(told: tuple[int, list[scheduler_pb2.Explanation]]) -> None:
    _, (running, _, _, too_large) = told
    assert running.sentence == "It is running."
    assert not running.HasField("place")
    assert too_large.reason == "never-fits"
    assert "even when they are empty" in too_large.sentence


def test_places_and_what_is_ahead(told: tuple[int, list[scheduler_pb2.Explanation]]) -> None:
    mode, (_, second, third, _) = told
    assert {second.place, third.place} == {1, 2}
    first, last = sorted((second, third), key=lambda one: one.place)
    assert list(first.ahead) == []
    assert list(last.ahead) == [first.job]
    assert (second.heuristic_place, third.heuristic_place) == (1, 2)
    if mode == 1:
        assert (second.place, third.place) == (1, 2)
        assert second.policy == "fcfs"


def test_contributions_name_features_strongest_first(told: tuple[int, list[scheduler_pb2.Explanation]]) -> None:
    mode, (_, second, third, _) = told
    for one in (second, third):
        changes = [abs(part.change) for part in one.contributions]
        assert changes == sorted(changes, reverse=True)
        assert {part.feature for part in one.contributions} <= {feature.name for feature in FEATURES}
        assert bool(changes) == (mode == 3)


def test_estimates(told: tuple[int, list[scheduler_pb2.Explanation]]) -> None:
    _, (_, second, third, too_large) = told
    for one in (second, third):
        assert one.start.told in ("estimated", "order-kept", "by-request")
        assert one.start.low_unix_s <= one.start.median_unix_s <= one.start.high_unix_s
    assert not too_large.start.HasField("median_unix_s")
