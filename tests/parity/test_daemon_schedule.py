"""A trace fed to the daemon's leader in virtual time runs as ``simulate`` says: who starts when, and where."""

from __future__ import annotations

import asyncio
import heapq
import math

import numpy as np
import pytest

from shunter.daemon.clock import ManualClock
from shunter.daemon.jobs import End, Phase
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.pb.common_pb2 import JobSpec, Resources
from shunter.daemon.planner import Rules, ThreadPlanner
from shunter.daemon.specs import DEFAULT_QUEUES, complete
from shunter.daemon.steps.attempts import PartReport, report
from shunter.daemon.steps.nodes import LeaseRules, register
from shunter.daemon.steps.submit import submit
from shunter.sim.replay import simulate
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from shunter.traces.tables import Trace, make_jobs
from tests.daemon.memory_store import MemoryStore
from tests.daemon.world import description

NODES, CPUS, GPUS = 3, 8.0, 4
BEGIN_S = 1_700_000_000.0
"""The daemon's clock counts from 1970: a whole number of seconds, so that sums are those of the simulator."""


def drawn_trace(seed: int, count: int = 60) -> Trace:
    """Jobs of one to six tasks with none to two GPUs each; several come at the same second.

    Some share a GPU, so that the simulator tells GPUs apart, as the daemon always does: under EASY a later job then has
    to find GPUs that the head does not take, not only as many.
    """
    draw = np.random.default_rng(seed)
    submit_s = np.sort(draw.integers(0, 600, count)).astype(float)
    duration_s = draw.integers(1, 120, count).astype(float)
    columns = {
        "job_id": [f"j{i}" for i in range(count)],
        "submit_s": submit_s.tolist(),
        "duration_s": duration_s.tolist(),
        "requested_s": (duration_s * draw.choice([1.0, 2.0, 5.0], count)).tolist(),
        "tasks": draw.choice([1, 1, 1, 2, 4, 6], count).tolist(),
        "gpus": draw.choice([0.0, 0.5, 1.0, 2.0], count).tolist(),
        "cpus": draw.choice([1.0, 2.0], count).tolist(),
        "user": [f"u{i % 5}" for i in range(count)],
    }
    cluster = ClusterSpec("three", (NodeGroup("n", NODES, cpus=CPUS, gpus=float(GPUS)),))
    return Trace("drawn", make_jobs(columns), cluster)


class VirtualAgents:
    """What the agents of all nodes would say: every part starts at once, and ends when its time is over."""

    def __init__(self, leader: Leader, clock: ManualClock, duration_s: dict[int, float]) -> None:
        self.leader, self.clock, self.duration_s = leader, clock, duration_s
        self.ends: list[tuple[float, int]] = []
        self.seen: set[int] = set()

    async def say(self, job: int, phase: Phase, end: End | None = None) -> None:
        attempt = self.leader.state.jobs[job].attempt
        assert attempt is not None
        for node in list(attempt.parts):
            said = PartReport(job, attempt.number, phase, end, 0 if end else None)
            await self.leader.perform(report, node, said)

    async def begin(self) -> None:
        """Jobs that have just been given nodes start."""
        for job in sorted(self.leader.state.active.keys() - self.seen):
            self.seen.add(job)
            await self.say(job, Phase.READY)
            await self.say(job, Phase.STARTED)
            heapq.heappush(self.ends, (self.clock.now_s() + self.duration_s[job], job))


async def lived(trace: Trace, rules: Rules) -> dict[str, float]:
    """Job → start, of a leader that is told of the jobs as they come."""
    store, clock = MemoryStore(), ManualClock(BEGIN_S)
    leader = Leader(store, clock, ThreadPlanner(), Conduct(rules=rules))
    leader.load()
    for i in range(NODES):
        what = description(cpus=CPUS, gpus=GPUS)
        name = f"n{i}"
        await leader.perform(register, name, what, instance="i", state_id=name, held={}, rules=LeaseRules())
    rows = trace.jobs.frame.to_dicts()
    names: dict[int, str] = {}
    agents = VirtualAgents(leader, clock, {})
    while rows or agents.ends:
        due_s = leader.decision.answer.plan.next_pass_s if leader.decision and leader.state.waiting else math.inf
        next_s = min([due_s] + [BEGIN_S + row["submit_s"] for row in rows[:1]] + [end for end, _ in agents.ends[:1]])
        clock.advance(next_s - clock.now_s())
        while agents.ends and agents.ends[0][0] <= next_s:
            await agents.say(heapq.heappop(agents.ends)[1], Phase.ENDED, End.EXITED)
        while rows and BEGIN_S + rows[0]["submit_s"] <= next_s:
            row = rows.pop(0)
            per_task = Resources(cpus=row["cpus"], gpus=row["gpus"])
            spec = JobSpec(command=["true"], tasks=row["tasks"], time_limit_s=row["requested_s"], per_task=per_task)
            job = await leader.perform(submit, row["user"], [(spec, complete(spec, DEFAULT_QUEUES))])
            names[job], agents.duration_s[job] = row["job_id"], row["duration_s"]
        if leader.state.waiting:
            await leader.decide()
            await agents.begin()
    assert leader.counts["refused"] == 0
    return {names[job]: now.start_s - BEGIN_S for job, now in store.now.items() if now.start_s is not None}


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("policy", "backfill"), [("fcfs", "easy"), ("sjf", "easy"), ("fcfs", "conservative")])
def test_the_daemon_runs_a_trace_as_the_simulator_does(seed: int, policy: str, backfill: str) -> None:
    """Gangs and GPUs; every start is the same to the second, and enough jobs wait for it to mean something."""
    trace = drawn_trace(seed)
    rules = Rules(policy=policy, backfill=backfill, placement="best-fit")
    found = asyncio.run(lived(trace, rules))
    jobs = simulate(trace, policy=policy, backfill=backfill, placement="best-fit").jobs
    expected = dict(zip(jobs["job_id"].to_list(), jobs["start_s"].to_list(), strict=True))
    assert found == expected
    waits = [expected[row["job_id"]] - row["submit_s"] for row in trace.jobs.frame.to_dicts()]
    assert sum(wait > 0 for wait in waits) >= 20
