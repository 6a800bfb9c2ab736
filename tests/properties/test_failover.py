"""Failover under whatever fails: the blast radius is kept, no job is lost; a lossy network costs nobody a node."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.daemon.health_facts import GpuSeen
from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.jobs import JobState, Phase, Reason
from shunter.daemon.live import LiveState, Step
from shunter.daemon.pb.nodes_pb2 import NodeDescription
from shunter.daemon.steps.condition import tell
from shunter.daemon.steps.evacuation import EVICTED, evacuate
from shunter.daemon.steps.nodes import drain, heard, register, watch_silence
from tests.daemon.world import World, dump

SHARE = 0.3


@given(
    silent=st.lists(st.sets(st.integers(0, 11), max_size=12), min_size=1, max_size=6),
    broken=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 1)), max_size=6),
    drained=st.sets(st.integers(0, 11), max_size=3),
    gangs=st.lists(st.integers(1, 4), min_size=1, max_size=16),
    restarts=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_no_more_than_the_radius_is_evicted_at_once_and_no_job_is_lost(
    silent: list[set[int]],
    broken: set[tuple[int, int]],
    drained: set[int],
    gangs: list[int],
    restarts: bool,
) -> None:
    """Evicted within a window and not running again: at most the share of what ran, or one job, or one node's."""
    world = World()
    for i in range(12):
        world.node(f"n{i:02}", cpus=4, gpus=2)
    for tasks in gangs:
        world.submit(tasks=tasks, gpus=1, time_limit_s=10_000.0)
    world.decide()
    for job in list(world.state.active.values()):
        for phase in (Phase.READY, Phase.STARTED):
            for node in list(job.attempt.parts):  # type: ignore[union-attr]
                world.says(node, job.id, phase)
    for i, gpu in sorted(broken):
        world.do(tell, world.state.nodes[f"n{i:02}"], GpuSeen(gpu, xids=(48,)), world.leases)
    for i in sorted(drained):
        world.do(drain, world.state.nodes[f"n{i:02}"], "away", world.clock.now_s() + 100.0)
    world.clock.advance(10.0)
    for names in silent:
        before = {job.id for job in world.state.active.values() if job.attempt and job.attempt.cause is Reason.NONE}
        flying = _in_flight(world)
        for i, node in enumerate(world.state.nodes.values()):
            if i not in names:
                world.do(heard, node, world.leases)
        origins = _origins(world)
        world.do(watch_silence, world.leases)
        world.do(evacuate, world.leases)
        evicted = _in_flight(world) - flying
        allowed = int(SHARE * len(before) + 1e-9) - len(flying)
        if len(origins) > 1 or flying:
            assert len(evicted) <= max(allowed, 0 if flying else 1)
        assert set(world.store.made) == set(world.state.jobs)
        if restarts:
            world.state = world.restarted()
        assert dump(world.restarted()) == dump(world.state)
        world.clock.advance(11.0)


def _in_flight(world: World) -> set[int]:
    since_s = world.clock.now_s() - world.leases.failover.blast_window_s
    waiting = {j.id for j in world.state.waiting.values() if j.reason in EVICTED and j.queued_s > since_s}
    stopping = {
        j.id
        for j in world.state.active.values()
        if j.attempt and j.attempt.cause in EVICTED and (j.attempt.stop_s or 0.0) > since_s
    }
    return waiting | stopping


def _origins(world: World) -> set[str]:
    """Nodes that jobs may have to leave now."""
    now_s, found = world.clock.now_s(), set()
    for node in world.state.nodes.values():
        is_silent = now_s - node.heard_s >= world.leases.fence_s and node.health != "failed"
        is_left = any(
            job.attempt
            and job.attempt.cause is Reason.NONE
            and (node.drain_deadline_s is not None or node.memory.leaving_gpus & set(job.attempt.parts[node.name].gpus))
            for job in node.jobs.values()
        )
        if is_silent or is_left:
            found.add(node.name)
    return found


@pytest.mark.parametrize("detector", ["fixed", "phi"])
@pytest.mark.parametrize("seed", [1, 2])
def test_an_hour_of_lost_packets_and_pauses_fails_none_of_200_nodes(
    detector: Literal["fixed", "phi"], seed: int
) -> None:
    """5 % of the packets are lost, 5 % of the nodes stand still for 2 s each minute; ticks of half a second.

    Heartbeats travel over TCP: a lost packet is sent again after 0.2 s, then 0.4 s, and so on (Linux's least time-out,
    doubled each time), and what follows waits for it. So they come late, and in bunches, but they come.
    """
    rules = LeaseRules(failover=FailoverRules(detector=detector))
    draw, state, now_s = random.Random(seed), LiveState(1), 1000.0
    for i in range(200):
        register(
            state, Step(), now_s, f"n{i}", NodeDescription(cpus=1), instance="i", state_id="s", held={}, rules=rules
        )
    nodes = list(state.nodes.values())
    sent_s = {node.name: now_s + draw.uniform(0.0, rules.heartbeat_s) for node in nodes}
    comes_s = dict(sent_s)
    latest_s = 0.0
    for _ in range(2 * 3600):
        now_s += 0.5
        step = Step()
        for node in nodes:
            if comes_s[node.name] <= now_s:
                latest_s = max(latest_s, now_s - node.heard_s)
                heard(state, step, now_s, node, rules)
                pause_s = 2.0 if draw.random() < 0.05 * rules.heartbeat_s / 60.0 else 0.0
                sent_s[node.name] += rules.heartbeat_s + pause_s
                comes_s[node.name] = max(sent_s[node.name] + _on_its_way_s(draw), comes_s[node.name])
        watch_silence(state, step, now_s, rules)
        evacuate(state, step, now_s, rules)
        failed = [event.message for event in step.change.events if event.kind == "node-failed"]
        assert not failed
    assert latest_s > rules.heartbeat_s + 2.0  # some were late indeed


def _on_its_way_s(draw: random.Random) -> float:
    """Until a heartbeat arrives over TCP when every twentieth packet is lost."""
    waited_s, again_s = 0.0, 0.2
    while draw.random() < 0.05:
        waited_s += again_s
        again_s *= 2.0
    return waited_s


def test_a_lost_job_never_starts_before_its_lease_is_over_whatever_the_tick() -> None:
    for tick_s in (0.1, 0.25, 1.0, 3.0):
        world = World()
        world.node("n1", cpus=1)
        job = world.submit()
        world.decide()
        world.says("n1", job, Phase.STARTED)
        begun_s = world.clock.now_s()
        while world.job(job).state is JobState.RUNNING:
            world.pass_time(tick_s, silent=("n1",))
        assert world.leases.fence_s <= world.clock.now_s() - begun_s < world.leases.fence_s + tick_s + 1e-6
