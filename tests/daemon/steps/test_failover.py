"""What follows from bad health, told step by step."""

from __future__ import annotations

from typing import Any

import pytest

from shunter.daemon.errors import InvalidError
from shunter.daemon.health_facts import Event, GpuSeen
from shunter.daemon.jobs import End, JobState, Phase, Reason
from shunter.daemon.live import Order
from shunter.daemon.steps.condition import tell
from shunter.daemon.steps.nodes import drain, heard, resume
from tests.daemon.world import World, dump

PENDING, STARTING, RUNNING, STOPPING = JobState.PENDING, JobState.STARTING, JobState.RUNNING, JobState.STOPPING


def sees(world: World, node: str, *events: Event) -> None:
    """Telemetry of a node; then the leader looks after it."""
    for event in events:
        world.do(tell, world.state.nodes[node], event, world.leases)
    world.tick()


def started(world: World, **asked: Any) -> int:
    """A job that runs, wherever the next decision puts it."""
    job = world.submit(**asked)
    world.decide()
    for phase in (Phase.READY, Phase.STARTED):
        for node in nodes_of(world, job):
            world.says(node, job, phase)
    assert world.job(job).state is RUNNING
    return job


def wait(world: World, seconds: float) -> None:
    """Time goes by, and every node was heard all the while."""
    world.clock.advance(seconds)
    for node in world.state.nodes.values():
        world.do(heard, node, world.leases)


def nodes_of(world: World, job: int) -> list[str]:
    attempt = world.job(job).attempt
    return [] if attempt is None else list(attempt.parts)


def kinds(world: World) -> list[str]:
    return [event.kind for event in world.store.event_rows]


def stops(world: World) -> list[tuple[str, int, float, str]]:
    return [(o.node, o.job, o.grace_s, o.reason) for o in world.orders if o.kind == "stop"]


def why(world: World, number: int | None) -> list[str]:
    """Kinds of events from one back to what caused it."""
    by_number = {event.number: event for event in world.store.event_rows}
    found = []
    while number is not None:
        found.append(by_number[number].kind)
        number = by_number[number].cause
    return found


def test_xid_79_on_a_gpu_of_a_gang() -> None:
    """The gang is stopped everywhere, its GPU is lost once nobody holds it, its node drains, and the rest stays."""
    world = World()
    for name in ("n1", "n2"):
        world.node(name, cpus=8, gpus=4)
    gang = started(world, tasks=6, gpus=1, grace_s=30, checkpoint_interval_s=0.0, priority=5)
    other = started(world, gpus=1)
    [there] = nodes_of(world, other)
    broken = world.job(gang).attempt.parts[there].gpus[0]  # type: ignore[union-attr]
    wait(world, 40)
    sees(world, there, GpuSeen(broken, xids=(79,), fault="lost"))
    node = world.state.nodes[there]
    assert (node.health, node.failed_gpus) == ("draining", {broken})
    assert f"GPU {broken}: Xid 79: GPU has fallen off the bus; the machine has to be booted" in node.reason
    assert (world.job(gang).state, world.job(other).state) == (STOPPING, RUNNING)
    assert sorted(stops(world)) == [("n1", gang, 30.0, "gpu-failed"), ("n2", gang, 30.0, "gpu-failed")]
    assert world.snapshots.fleet(world.state).lost_gpus.tolist() == [0, 0]  # somebody holds it still
    for name in nodes_of(world, gang):
        world.says(name, gang, Phase.ENDED, end=End.STOPPED, signal=15)
    fleet = world.snapshots.fleet(world.state)
    assert fleet.lost_gpus[fleet.number[there]] == 1 << broken
    job = world.job(gang)
    assert (job.state, job.reason, job.priority, job.submit_s) == (PENDING, Reason.GPU_FAILED, 5, 1000.0)
    stopping = next(event for event in world.store.event_rows if event.kind == "stopping")
    assert why(world, stopping.number) == ["stopping", "node-draining", "gpu-failed"]
    assert world.job(other).state is RUNNING
    assert dump(world.restarted()) == dump(world.state)


def test_a_gpu_that_fails_takes_only_its_jobs_and_is_used_again_after_the_operator_has_looked() -> None:
    world = World()
    world.node("n1", cpus=8, gpus=4)
    jobs = [started(world, gpus=1) for _ in range(3)]
    held = {world.job(job).attempt.parts["n1"].gpus[0]: job for job in jobs}  # type: ignore[union-attr]
    broken, job = sorted(held.items())[0]
    sees(world, "n1", GpuSeen(broken, xids=(48,)))
    assert world.state.nodes["n1"].health == "healthy"
    assert [world.job(j).state is STOPPING for j in jobs] == [j == job for j in jobs]
    world.says("n1", job, Phase.ENDED, end=End.STOPPED, signal=9)
    world.decide()
    [now] = [world.job(job).attempt.parts["n1"].gpus]  # type: ignore[union-attr]
    assert now not in ([], [broken])
    late = world.submit(gpus=1)
    world.decide()
    assert world.job(late).state is PENDING  # the only free GPU is broken
    world.do(resume, world.state.nodes["n1"])
    world.decide()
    assert world.job(late).attempt.parts["n1"].gpus == [broken]  # type: ignore[union-attr]


def test_a_shared_gpu_that_fails_gets_no_other_half_while_the_first_still_ends() -> None:
    world = World()
    world.node("n1", cpus=8, gpus=2)
    first = started(world, gpus=0.5)
    [broken] = world.job(first).attempt.parts["n1"].gpus  # type: ignore[union-attr]
    sees(world, "n1", GpuSeen(broken, remapping_failed=True))
    second = world.submit(gpus=0.5)
    world.decide()
    assert world.job(second).state is PENDING
    world.says("n1", first, Phase.ENDED, end=End.STOPPED)
    assert world.snapshots.fleet(world.state).lost_gpus.tolist() == [1 << broken]


def test_a_hot_gpu_is_left_with_its_work_saved_and_used_again_when_it_has_cooled() -> None:
    world = World()
    world.node("n1", cpus=8, gpus=4)
    job = started(world, gpus=1, checkpoint_interval_s=1000.0, grace_s=20)
    [gpu] = world.job(job).attempt.parts["n1"].gpus  # type: ignore[union-attr]
    hot, cool = GpuSeen(gpu, temperature_c=93.0), GpuSeen(gpu, temperature_c=71.0)
    wait(world, 300)
    sees(world, "n1", hot, hot)
    assert world.job(job).state is RUNNING
    sees(world, "n1", hot)
    assert stops(world) == [("n1", job, 20.0, "drained")]
    world.says("n1", job, Phase.ENDED, end=End.STOPPED)
    assert world.job(job).work_kept_s == 300  # it saved its work when it was told
    assert world.state.nodes["n1"].reason == f"GPU {gpu}: too hot (93 °C), 3 samples in a row"
    sees(world, "n1", cool, cool, cool)
    assert "has cooled" in world.state.nodes["n1"].reason
    world.pass_time(599)
    assert world.state.nodes["n1"].failed_gpus == {gpu}
    world.pass_time(1)
    assert world.state.nodes["n1"].failed_gpus == set()


def test_a_black_hole_drains_and_lets_its_other_jobs_end() -> None:
    world = World()
    world.node("good", cpus=1)
    world.node("hole", cpus=8)
    for number in range(5):
        owner = ("ann", "bob")[number % 2]
        job = world.submit(owner, cpus=1, name="train")
        world.decide()
        [where] = nodes_of(world, job)
        world.run(job, exit_code=0 if where == "good" else 1)
    assert world.state.nodes["hole"].health == "healthy"
    filler = started(world, owner="cat", cpus=1)  # best-fit: on the small node
    assert nodes_of(world, filler) == ["good"]
    world.tick()
    for number in range(5):
        job = world.submit(("ann", "bob")[number % 2], cpus=1, name="train")
        world.decide()
        assert nodes_of(world, job) == ["hole"]
        wait(world, 2)
        world.run(job, exit_code=1)
    long = started(world, owner="cat", cpus=1)
    world.tick()
    hole = world.state.nodes["hole"]
    assert hole.health == "draining"
    assert "5 jobs of 2 kinds failed here within 60 s of their start, and such jobs ended well elsewhere" in hole.reason
    assert world.job(long).state is RUNNING
    waits = world.submit(cpus=1)
    world.decide()
    assert world.job(waits).state is PENDING


def test_draining_with_a_deadline_moves_what_would_not_end_before_it() -> None:
    world = World()
    world.node("n1", cpus=4)
    short = started(world, time_limit_s=600.0)
    long = started(world, time_limit_s=7200.0, grace_s=30.0, priority=3)
    wait(world, 100)
    node = world.state.nodes["n1"]
    assert world.do(drain, node, "new disk", 1000.0 + 700.0) == [short, long]
    world.tick()
    assert stops(world) == [("n1", long, 30.0, "drained")]
    stopping = world.store.event_rows[-1]
    assert why(world, stopping.number)[:2] == ["stopping", "node-draining"]
    assert stopping.message == "node n1 is taken away in 600 s: new disk"
    world.says("n1", long, Phase.ENDED, end=End.STOPPED)
    job = world.job(long)
    assert (job.state, job.reason, job.priority, job.submit_s) == (PENDING, Reason.DRAINED, 3, 1000.0)
    world.node("n2", cpus=1)
    world.decide()
    assert nodes_of(world, long) == ["n2"]
    assert world.job(short).state is RUNNING
    with pytest.raises(InvalidError, match="no time to come"):
        world.do(drain, node, "again", 5.0)
    assert dump(world.restarted()) == dump(world.state)


def cluster(num_nodes: int) -> tuple[World, dict[str, int]]:
    """Nodes of one CPU with a job each, and one idle in ten."""
    world = World()
    for i in range(num_nodes):
        world.node(f"n{i:02}", cpus=1)
    jobs = [started(world, cpus=1) for _ in range(num_nodes - num_nodes // 10)]
    return world, {nodes_of(world, job)[0]: job for job in jobs}


def test_all_nodes_silent_at_once_are_not_given_up_and_their_jobs_restart_as_the_radius_allows() -> None:
    world, jobs = cluster(20)
    silent = tuple(world.state.nodes)
    world.pass_time(10.0, silent=silent)
    # 18 jobs run; 30 % of them, rounded down, may be evicted at once: 5.
    evicted = [job for job in jobs.values() if world.job(job).state is PENDING]
    assert len(evicted) == 5
    assert {node.health for node in world.state.nodes.values()} == {"suspect"}
    [alarm] = [event for event in world.store.event_rows if event.kind == "failover-held"]
    assert "20 of 20 nodes are silent and not given up; 13 jobs that cannot stay are left" in alarm.message
    world.pass_time(5.0, silent=silent)
    assert sum(world.job(job).state is PENDING for job in jobs.values()) == 5  # those do not run again yet
    world.pass_time(0.5)  # the network is back: all nodes are heard
    assert {node.health for node in world.state.nodes.values()} == {"healthy"}
    assert kinds(world)[-1] == "failover-released"
    assert "node-failed" not in kinds(world)
    world.decide()
    assert all(world.job(job).state is STARTING for job in evicted)


def test_in_a_mass_silence_the_rest_follows_window_by_window() -> None:
    world, jobs = cluster(20)
    silent = tuple(world.state.nodes)
    counts = []
    for _ in range(5):
        world.pass_time(61.0, silent=silent)
        counts.append(sum(world.job(job).state is PENDING for job in jobs.values()))
    # 30 % of what runs each time: 5 of 18, 3 of 13, 3 of 10, 2 of 7, 1 of 5.
    assert counts == [5, 8, 11, 13, 14]
    assert kinds(world).count("failover-held") == 1


def test_few_nodes_are_given_up_at_once_and_one_always() -> None:
    world, jobs = cluster(20)
    gone = tuple(name for name in jobs)[:3]
    world.pass_time(10.0, silent=gone)
    assert [world.state.nodes[name].health for name in gone] == ["failed"] * 3
    assert all(world.job(jobs[name]).state is PENDING for name in gone)
    requeued = [event for event in world.store.event_rows if event.kind == "requeued"]
    assert [why(world, event.number)[:2] for event in requeued] == [["requeued", "node-failed"]] * 3
    small = World()
    small.node("n1", cpus=8)
    small.node("n2", cpus=1)
    several = [started(small, cpus=1, tasks=2) for _ in range(4)]
    small.pass_time(10.0, silent=("n1",))
    assert small.state.nodes["n1"].health == "failed"
    assert all(small.job(job).state is not RUNNING for job in several)  # all that ran there, whatever the share


def test_a_gang_over_a_lost_node_is_stopped_on_the_others_with_its_grace() -> None:
    world = World()
    for name in ("n1", "n2", "n3"):
        world.node(name, cpus=2)
    gang = started(world, tasks=4, grace_s=15)
    lost, kept = nodes_of(world, gang)
    world.pass_time(10.0, silent=(lost,))
    assert Order(kept, "stop", gang, 1, 15.0, Reason.NODE_FAILED) in world.orders
    world.says(kept, gang, Phase.ENDED, end=End.STOPPED)
    assert (world.job(gang).state, world.job(gang).reason) == (PENDING, Reason.NODE_FAILED)
    world.decide()
    assert lost not in nodes_of(world, gang)


def test_a_machine_that_was_booted_brings_its_gpus_back_on_probation() -> None:
    world = World()
    world.node("n1", cpus=8, gpus=2)
    sees(world, "n1", GpuSeen(0, xids=(79,)))
    node = world.state.nodes["n1"]
    assert node.health == "draining"
    node.description.boot_id = "first"
    node.facts["boot_id"] = "before"
    world.node("n1", cpus=8, gpus=2)
    assert (node.health, node.memory.gpus[0].state) == ("recovering", "recovering")
    world.pass_time(10)
    assert (node.health, node.failed_gpus) == ("healthy", {0})
    world.pass_time(590)
    assert node.failed_gpus == set()
