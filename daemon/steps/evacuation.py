"""What becomes of the jobs of nodes that are lost or taken away, and of GPUs that fail: in the core's order, within its
blast radius (``scheduler.failover``).

Whoever cannot stay is stopped with its grace, or fenced where its node has been silent for longer than its lease, and
waits again with its priority and age. What lies beyond the radius is held as it is: an alarm is told, and it is looked
at again. When more nodes than the radius allows are silent at once, the network or this machine is the likelier cause:
none of them is given up then, though their jobs, which have ended with their leases, go on elsewhere as the radius
allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shunter.daemon.health_facts import Health, Lost
from shunter.daemon.health_rules import LeaseRules
from shunter.daemon.jobs import Phase, Reason
from shunter.daemon.live import Held, LiveJob, LiveNode, LiveState, Step
from shunter.daemon.steps.attempts import fence
from shunter.daemon.steps.condition import tell
from shunter.daemon.steps.jobs import stop_attempt
from shunter.scheduler.failover import BlastRadius, Cause, Displaced, Fate, Nodes, RunningJobs, failover
from shunter.scheduler.types import UNITS_PER, ResourceDemand

EVICTED = frozenset((Reason.NODE_FAILED, Reason.GPU_FAILED, Reason.DRAINED))
"""Reasons of jobs that count against the blast radius until they run again."""
LOOK_AGAIN_S = 1.0
"""Between two looks at what is held."""


@dataclass(slots=True)
class Trouble:
    """The nodes that jobs may have to leave now.

    Attributes:
        lost: Silent for longer than their leases, and not given up yet.
        leaving: With GPUs that jobs have to leave.
        closing: To be taken away at a time.
    """

    lost: list[LiveNode]
    leaving: list[LiveNode]
    closing: list[LiveNode]

    @property
    def nodes(self) -> dict[str, LiveNode]:
        """All of them, by name."""
        return {node.name: node for node in (*self.lost, *self.leaving, *self.closing)}


def evacuate(state: LiveState, step: Step, now_s: float, rules: LeaseRules) -> None:
    """Move what cannot stay, as far as the blast radius allows."""
    trouble = _trouble(state, now_s, rules)
    if not (trouble.lost or trouble.leaving or trouble.closing):
        _tell_held(state, step, now_s, frozenset(), frozenset(), rules)
        return
    if (state.held.jobs or state.held.nodes) and now_s < state.held.look_s:
        return
    _fence_stopping(state, step, now_s, trouble.lost)
    jobs = [job for job in state.active.values() if job.attempt is not None and job.attempt.cause is Reason.NONE]
    plan = _plan(state, jobs, trouble, now_s, rules)
    held = frozenset(jobs[one.row].id for one in plan if one.fate is Fate.HOLD)
    silent = _given_up(state, step, now_s, trouble.lost, held, rules)
    _tell_held(state, step, now_s, held, silent, rules)
    lost = {node.name for node in trouble.lost}
    for one in plan:
        if one.fate is not Fate.HOLD:
            _evict(state, step, now_s, jobs[one.row], one.cause, lost)


def _trouble(state: LiveState, now_s: float, rules: LeaseRules) -> Trouble:
    trouble = Trouble([], [], [])
    for node in state.nodes.values():
        if now_s - node.heard_s >= rules.fence_s and node.health != "failed":
            trouble.lost.append(node)
        if node.failed_gpus and any(_holds_leaving(node, job) for job in node.jobs.values()):
            trouble.leaving.append(node)
        if node.drain_deadline_s is not None and any(_ends_late(node, job) for job in node.jobs.values()):
            trouble.closing.append(node)
    return trouble


def _holds_leaving(node: LiveNode, job: LiveJob) -> bool:
    """Whether a job that nobody stops yet holds a GPU that jobs have to leave."""
    attempt = job.attempt
    if attempt is None or attempt.cause is not Reason.NONE:
        return False
    return not node.memory.leaving_gpus.isdisjoint(attempt.parts[node.name].gpus)


def _ends_late(node: LiveNode, job: LiveJob) -> bool:
    """Whether a job that nobody stops yet would not end, by its time limit, before its node is taken away."""
    if job.attempt is None or job.attempt.cause is not Reason.NONE or node.drain_deadline_s is None:
        return False
    return node.drain_deadline_s < _begun_s(job) + job.spec.time_limit_s


def _fence_stopping(state: LiveState, step: Step, now_s: float, lost: list[LiveNode]) -> None:
    """Jobs that are being stopped already end where their nodes are lost; that evicts nobody."""
    for node in lost:
        for job in sorted(node.jobs.values(), key=_by_id):
            if job.attempt is not None and job.attempt.cause is not Reason.NONE:
                fence(state, step, now_s, job, node.name, cause=node.facts.get("event"))


def _by_id(job: LiveJob) -> int:
    return job.id


# --- the core's plan -------------------------------------------------------------------------------------------------


def _plan(
    state: LiveState, jobs: list[LiveJob], trouble: Trouble, now_s: float, rules: LeaseRules
) -> tuple[Displaced, ...]:
    """What the core says of the running jobs, in the order in which to do it."""
    if not jobs:
        return ()
    number = {name: i for i, name in enumerate(state.nodes)}
    running = running_jobs(jobs, number, now_s)
    lost = [number[node.name] for node in trouble.lost]
    failed_gpus = [(number[node.name], gpu) for node in trouble.leaving for gpu in sorted(node.memory.leaving_gpus)]
    count = len(number)
    nodes = Nodes(
        free=np.zeros((len(UNITS_PER), count), dtype=np.int64),  # places are looked for by the next decision
        is_healthy=np.zeros(count, dtype=np.bool_),
        is_failed=np.isin(np.arange(count), lost),
        deadline_s=np.full(count, np.inf),
        failed_gpus=np.asarray(failed_gpus, dtype=np.int64).reshape(-1, 2),
    )
    for node in trouble.closing:
        nodes.deadline_s[number[node.name]] = node.drain_deadline_s
    share = rules.failover.blast_radius
    in_flight, gpus_in_flight = _in_flight(state, now_s - rules.failover.blast_window_s)
    if len(trouble.nodes) == 1 and not in_flight:
        share = 1.0  # a single node is never more than what has to be expected to fail
    limit = BlastRadius(share, in_flight, gpus_in_flight)
    return failover(running, nodes, now_s, limit=limit, place=False).displaced


def running_jobs(jobs: list[LiveJob], number: dict[str, int], now_s: float) -> RunningJobs:
    """Jobs with nodes as the core sees them: one entry each GPU, or each node for those without.

    Args:
        jobs: Have attempts.
        number: Of each node.
        now_s: Now.
    """
    entries = np.asarray(list(_entries(jobs, number)), dtype=np.int64).reshape(-1, 4)
    shapes = np.asarray([job.units for job in jobs], dtype=np.int64)
    tasks = np.asarray([job.tasks for job in jobs], dtype=np.int64)
    return RunningJobs(
        demand=ResourceDemand(tasks, np.arange(len(jobs)), shapes, None),
        priority=np.asarray([job.priority for job in jobs], dtype=np.float64),
        expected_end_s=np.asarray([_begun_s(job) + job.spec.time_limit_s for job in jobs]),
        at_risk_s=np.asarray([_at_risk_s(job, now_s) for job in jobs]),
        entry_job=entries[:, 0],
        entry_node=entries[:, 1],
        entry_tasks=entries[:, 2],
        entry_gpu=entries[:, 3],
    )


def _entries(jobs: list[LiveJob], number: dict[str, int]) -> Iterator[tuple[int, int, int, int]]:
    for row, job in enumerate(jobs):
        assert job.attempt is not None
        for part in job.attempt.parts.values():
            if part.phase is not Phase.ENDED:
                for gpu in part.gpus or (-1,):
                    yield row, number[part.node], part.tasks, gpu


def _begun_s(job: LiveJob) -> float:
    assert job.attempt is not None
    return job.attempt.assigned_s if job.attempt.start_s is None else job.attempt.start_s


def _at_risk_s(job: LiveJob, now_s: float) -> float:
    """Seconds of work since the last checkpoint that the job made by itself."""
    run_s = max(now_s - _begun_s(job), 0.0)
    if not job.spec.HasField("checkpoint_interval_s"):
        return run_s
    interval_s = job.spec.checkpoint_interval_s
    return (job.work_kept_s + run_s) % interval_s if interval_s > 0 else 0.0


def _in_flight(state: LiveState, since_s: float) -> tuple[int, float]:
    """Jobs, and their GPUs, that were evicted since then and do not run again yet."""
    found = [job for job in state.waiting.values() if job.reason in EVICTED and job.queued_s > since_s]
    found += [
        job
        for job in state.active.values()
        if job.attempt is not None and job.attempt.cause in EVICTED and (job.attempt.stop_s or 0.0) > since_s
    ]
    return len(found), sum(job.tasks * job.units[2] for job in found) / UNITS_PER[2]


# --- carrying it out -------------------------------------------------------------------------------------------------


def _given_up(
    state: LiveState, step: Step, now_s: float, lost: list[LiveNode], held: frozenset[int], rules: LeaseRules
) -> frozenset[str]:
    """Give lost nodes up, unless too many are silent at once or a job there is held; returns those that are not."""
    present = sum(node.health != "failed" for node in state.nodes.values())
    if len(lost) > max(math.floor(rules.failover.blast_radius * present + 1e-9), 1):
        return frozenset(node.name for node in lost)
    kept = set()
    for node in lost:
        if held & node.jobs.keys():
            kept.add(node.name)
        else:
            tell(state, step, now_s, node, Lost(now_s - node.heard_s), rules)
    return frozenset(kept)


def _tell_held(
    state: LiveState, step: Step, now_s: float, jobs: frozenset[int], nodes: frozenset[str], rules: LeaseRules
) -> None:
    """The alarm, when something begins to be held, and its end."""
    before = state.held
    if not (jobs or nodes):
        if before.event is not None:
            step.event(state, now_s, "failover-released", cause=before.event, message="nothing is held any more")
            state.held = Held()
        return
    event = before.event
    if event is None:
        share = f"{rules.failover.blast_radius:.0%}"
        silent = f"{len(nodes)} of {len(state.nodes)} nodes are silent and not given up" if nodes else ""
        kept = f"{len(jobs)} jobs that cannot stay are left where they are" if jobs else ""
        message = f"more than {share} would be evicted at once: " + "; ".join(filter(None, (silent, kept)))
        event = step.event(state, now_s, "failover-held", message=message)
    state.held = Held(jobs, nodes, event, now_s + LOOK_AGAIN_S)


def _evict(state: LiveState, step: Step, now_s: float, job: LiveJob, cause: Cause, lost: set[str]) -> None:
    """A job leaves: its parts on lost nodes are over, the others are stopped with its grace."""
    attempt = job.attempt
    assert attempt is not None
    if cause is Cause.NODE_FAILED:
        for part in [part for part in attempt.parts.values() if part.node in lost and part.end is None]:
            node = state.nodes[part.node]
            part.message = f"node {node.name} was silent for {now_s - node.heard_s:.1f} s"
            fence(state, step, now_s, job, node.name, cause=node.facts.get("event"))
        return
    for part in attempt.parts.values():
        node = state.nodes[part.node]
        event: int | None = node.facts.get("event")
        gone = [node.memory.gpus[gpu] for gpu in part.gpus if gpu in node.memory.leaving_gpus]
        if cause is Cause.GPU_FAILED and gone and part.end is None:
            has_failed = any(gpu.state is Health.FAILED for gpu in gone)
            reason = Reason.GPU_FAILED if has_failed else Reason.DRAINED
            message = f"node {node.name}: " + "; ".join(gpu.why for gpu in gone)
            stop_attempt(state, step, now_s, job, reason, message=message, cause=event)
        if cause is Cause.DRAINING and part.end is None and _ends_late(node, job):
            left_s = max((node.drain_deadline_s or now_s) - now_s, 0.0)
            message = f"node {node.name} is taken away in {left_s:.0f} s: {node.reason}"
            grace_s = min(job.spec.grace_s, left_s)
            stop_attempt(state, step, now_s, job, Reason.DRAINED, message=message, grace_s=grace_s, cause=event)
