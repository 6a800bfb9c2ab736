"""Decisions of a real daemon under a mixed load, taken from it and made again: all come out the same."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shunter.cli import app
from shunter.daemon.channel import open_channel
from shunter.daemon.pb import admin_pb2, admin_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc
from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.security.discovery import find_token
from shunter.scheduler.recording import decode, records
from tests.daemon.cluster import LiveCluster
from tests.daemon.simulated import SimulatedAgent, description

CONFIG = {
    "scheduling": {"keep_decisions": 3000, "min_interval_s": 0.001, "mode": "heuristic"},
    "queues": [{"name": "batch", "weight": 3.0}, {"name": "spare"}, {"name": "urgent", "priority": 10}],
    "limits": {"batch": 1000},
}
ACTIVE, SHADOW = admin_pb2.POLICY_MODE_ACTIVE, admin_pb2.POLICY_MODE_SHADOW


def drawn_job(draw: random.Random) -> JobSpec:
    return JobSpec(
        command=["true"],
        queue=draw.choice(["batch", "batch", "spare", "urgent"]),
        tasks=draw.choice([1, 1, 1, 2, 3]),
        per_task=Resources(cpus=draw.choice([0.5, 1, 2, 4]), gpus=draw.choice([0, 0, 0.5, 1, 2])),
        time_limit_s=draw.choice([10, 60, 600]),
        priority=draw.choice([0, 0, 1]),
    )


async def load(address: str, wanted: int, file: Path) -> tuple[dict[int, int], Any]:
    """Keep a queue before eight nodes until so many decisions are made, a third of them in each mode; take them."""
    draw = random.Random(1)
    agents = [
        SimulatedAgent(address, f"n{i}", description(8, gpus=4), lambda _: draw.uniform(0.005, 0.05)) for i in range(8)
    ]
    for agent in agents:
        agent.token = find_token(address)
        agent.start()
    made: dict[int, int] = {}
    async with open_channel(address, token=find_token(address)) as channel:
        scheduler, admin = scheduler_pb2_grpc.SchedulerStub(channel), admin_pb2_grpc.AdminStub(channel)
        modes = [0, SHADOW, ACTIVE]
        async with asyncio.timeout(300):
            while True:
                status = await admin.PolicyStatus(admin_pb2.PolicyStatusRequest(), timeout=30)
                made[status.mode] = status.decisions
                if status.decisions >= wanted:
                    break
                if modes and status.decisions >= wanted * (3 - len(modes)) // 3:
                    mode = modes.pop(0)
                    if mode:
                        await admin.SetMode(admin_pb2.SetModeRequest(mode=mode), timeout=120)
                waiting = await scheduler.ListJobs(scheduler_pb2.ListJobsRequest(page_size=200), timeout=30)
                if sum(job.state == 1 for job in waiting.jobs) < 60:
                    specs = [drawn_job(draw) for _ in range(40)]
                    await scheduler.SubmitBatch(scheduler_pb2.SubmitBatchRequest(specs=specs), timeout=30)
                await asyncio.sleep(0.02)
    words = ["policy", "decisions", str(file), "--address", address, "--json"]
    taken = await asyncio.to_thread(CliRunner().invoke, app, words)
    for agent in agents:
        await agent.stop()
    return made, taken


@pytest.mark.parametrize("wanted", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_decisions_of_a_live_run_come_out_the_same(tmp_path: Path, wanted: int) -> None:
    cluster = LiveCluster(tmp_path, CONFIG)
    try:
        cluster.start_daemon()
        file = tmp_path / "decisions.bin"
        made, taken = asyncio.run(load(cluster.address, wanted, file))
        assert taken.exit_code == 0, taken.output
    finally:
        cluster.stop()
    assert set(made) == {1, SHADOW, ACTIVE}
    assert json.loads(taken.stdout)["decisions"] >= wanted
    again = CliRunner().invoke(app, ["replay-decisions", str(file), "--json"])
    assert again.exit_code == 0, again.output
    said = json.loads(again.stdout)
    assert said["equal"] == said["decisions"] >= wanted


def test_a_decision_that_was_made_otherwise_is_named(tmp_path: Path) -> None:
    """Of two records one is given another plan: it is counted, its first difference named, and the exit code is 1."""
    from dataclasses import replace

    from shunter.daemon.planner import Rules, settings_of
    from shunter.scheduler import choose_ordering, plan
    from shunter.scheduler.recording import encode
    from tests.daemon.world import World

    world = World()
    world.node("n1", cpus=2)
    job = world.submit(cpus=1)
    view = world.snapshots.take(world.state, world.clock.now_s())
    settings, _ = settings_of(Rules(), choose_ordering)
    made = plan(view.snapshot, settings, usage_s=view.usage_s)
    other = replace(made, starts=())
    file = tmp_path / "two.bin"
    file.write_bytes(b"".join(encode(view.snapshot, settings, view.usage_s, None, each) for each in (made, other)))
    said = CliRunner().invoke(app, ["replay-decisions", str(file)])
    assert said.exit_code == 1
    assert "1 of 2 decisions come out the same" in said.output
    assert "decision 2: starts[0]: recorded nothing" in said.output
    with file.open("rb") as stream:
        assert [decode(record).plan.starts == made.starts for record in records(stream)] == [True, False]
    assert made.starts[0].row == job
