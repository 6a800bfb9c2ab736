"""Queues: their priority is a class, their weights share what a class gets."""

from __future__ import annotations

import heapq

import pytest

from shunter.daemon.config import checked, conduct_of
from shunter.daemon.jobs import End, Phase
from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.specs import QueueRules, complete
from shunter.daemon.steps.submit import submit
from shunter.scheduler.errors import ConfigError
from tests.daemon.world import World

DAY_S, RUN_S, CPUS = 86_400.0, 1800.0, 8
QUEUES = {"queues": [{"name": "large", "weight": 3.0}, {"name": "small"}, {"name": "first", "priority": 5}]}


def test_a_queues_priority_is_added_to_the_jobs() -> None:
    spec = JobSpec(command=["true"], queue="urgent", priority=2)
    complete(spec, {"urgent": QueueRules("urgent", priority=10, max_priority=3)})
    assert spec.priority == 12


def test_two_queues_that_always_have_work_share_by_their_weights() -> None:
    """Over a day of half-hour jobs on 8 CPUs three quarters of the machine are the one's, whoever came first."""
    conduct = conduct_of(checked(QUEUES, "test"))
    world = World(conduct.rules)
    world.snapshots = conduct.snapshots()
    world.node("n1", cpus=CPUS)
    for queue in ("small", "large"):  # both a day's backlog; all of small's came first
        for _ in range(14):
            spec = JobSpec(command=["true"], queue=queue, time_limit_s=RUN_S, per_task=Resources(cpus=1))
            world.do(submit, "ann", [(spec, complete(spec, conduct.queues))] * 30)
    begin_s, ends, held_s = world.clock.now_s(), list[tuple[float, int]](), {"large": 0.0, "small": 0.0}
    while world.clock.now_s() < begin_s + DAY_S:
        world.decide()
        for job in sorted(world.state.active.keys() - {job for _, job in ends}):
            world.says("n1", job, Phase.STARTED)
            runs_s = RUN_S - 60 * (job % 7)  # not all at once
            heapq.heappush(ends, (world.clock.now_s() + runs_s, job))
            held_s[world.job(job).spec.queue] += runs_s
        end_s, job = heapq.heappop(ends)
        world.pass_time(end_s - world.clock.now_s())
        world.says("n1", job, Phase.ENDED, end=End.EXITED, exit_code=0)
    assert {job.spec.queue for job in world.state.waiting.values()} == {"large", "small"}
    assert held_s["large"] / held_s["small"] == pytest.approx(3.0, rel=0.05)
    assert sum(held_s.values()) > 0.95 * DAY_S * CPUS


def test_weights_of_queues_do_not_go_with_quotas_of_groups() -> None:
    groups = [{"name": "physics", "guaranteed": 4, "weight": 2.0}]
    with pytest.raises(ConfigError, match=r"scheduling\.weights"):
        checked({**QUEUES, "groups": groups}, "test")
    conduct = conduct_of(checked({"groups": groups, "scheduling": {"weights": "groups"}}, "test"))
    assert (conduct.by_queue, conduct.groups[0].weight) == (False, 2.0)
    with pytest.raises(ConfigError, match="conservative"):
        checked({"groups": groups, "scheduling": {"backfill": "conservative"}}, "test")
