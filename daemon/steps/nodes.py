"""Nodes come, fall silent, fail, and come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shunter.daemon.errors import InvalidError
from shunter.daemon.jobs import Phase
from shunter.daemon.live import MAX_GPUS, LiveNode, LiveState, Order, Step, Units
from shunter.daemon.pb.nodes_pb2 import NodeDescription
from shunter.daemon.steps.attempts import fence
from shunter.daemon.steps.rows import attempt_row, node_row
from shunter.scheduler.types import UNITS_PER


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """When a node that is silent is suspected, and when its jobs must be gone.

    Attributes:
        heartbeat_s: How often an agent is heard.
        suspect_s: Silence after which a node gets no new work.
        lease_s: An agent stops its jobs when it was not answered for so long.
        margin_s: What stopping them takes, and what clocks may drift, at most.
        probation_s: A node that had failed gets no work for so long after it has come back.
    """

    heartbeat_s: float = 3.0
    suspect_s: float = 7.0
    lease_s: float = 9.0
    margin_s: float = 1.0
    probation_s: float = 10.0

    @property
    def fence_s(self) -> float:
        """Silence after which nothing runs on a node any more."""
        return self.lease_s + self.margin_s


def units_of(description: NodeDescription) -> Units:
    """What a node has, in whole units.

    Raises:
        InvalidError: It cannot be.
    """
    cpus, memory, gpus = description.cpus, description.memory_gib, len(description.gpus)
    if not (0 < cpus <= 1e5 and 0 <= memory <= 1e7 and gpus <= MAX_GPUS):
        raise InvalidError(f"a node with {cpus:g} CPUs, {memory:g} GiB and {gpus} GPUs cannot be; CPUs are needed")
    return int(cpus * UNITS_PER[0]), int(memory * UNITS_PER[1]), gpus * UNITS_PER[2]


def register(
    state: LiveState,
    step: Step,
    now_s: float,
    name: str,
    description: NodeDescription,
    *,
    instance: str,
    state_id: str,
    held: Mapping[tuple[int, int], int],
    rules: LeaseRules,
) -> LiveNode:
    """An agent has come, or come back; returns its node.

    Args:
        state: Changed.
        step: Filled.
        now_s: Now.
        name: Of the node.
        description: What it has.
        instance: The agent's process.
        state_id: Its folder: an agent with another one knows nothing of what the node was given before.
        held: Phases of the parts that it holds, by (job, attempt).
        rules: For leases.
    """
    units = units_of(description)
    node = state.nodes.get(name)
    if node is None:
        node = state.nodes[name] = LiveNode(name, description, units, [0] * len(description.gpus))
    elif len(description.gpus) < len(node.gpu_used) and any(node.gpu_used[len(description.gpus) :]):
        raise InvalidError(f"node {name!r} has jobs on GPUs that it no longer has; drain it first")
    forgot = node.facts.get("state_id", state_id) != state_id
    node.description, node.units = description, units
    node.gpu_used = (node.gpu_used + [0] * len(description.gpus))[: len(description.gpus)]
    state.last_registration += 1
    node.registration, node.instance = state.last_registration, instance
    node.facts["state_id"] = state_id
    node.heard_s = now_s
    state.nodes_version += 1
    state.version += 1
    number = step.event(state, now_s, "node-registered", node=name)
    _back(state, step, now_s, node, rules, number)
    _reconcile(step, node, held, forgot, now_s + rules.fence_s)
    step.change.nodes.append(node_row(node))
    step.wakes = True
    return node


def _back(state: LiveState, step: Step, now_s: float, node: LiveNode, rules: LeaseRules, cause: int) -> None:
    if node.health == "failed":
        node.health, node.reason = "recovering", f"came back after it had failed: {node.reason}"
        node.facts["trusted_s"] = now_s + rules.probation_s
        step.event(state, now_s, "node-recovering", node=node.name, cause=cause)
    elif node.health == "suspect":
        node.health, node.reason = "healthy", ""
        step.event(state, now_s, "node-healthy", node=node.name, cause=cause)


def _reconcile(step: Step, node: LiveNode, held: Mapping[tuple[int, int], int], forgot: bool, fence_s: float) -> None:
    """What the agent should run and does not is given again, or fenced; what it should not is stopped."""
    for job in node.jobs.values():
        attempt = job.attempt
        assert attempt is not None
        part = attempt.parts[node.name]
        before_s = part.fence_s
        if (job.id, attempt.number) in held:
            part.fence_s = None
        elif part.phase is not Phase.ASSIGNED or forgot:
            part.fence_s = fence_s
        if part.fence_s != before_s:
            step.change.attempts.append(attempt_row(job))
    for (job_id, number), phase in held.items():
        wanted = node.jobs.get(job_id)
        is_wanted = wanted is not None and wanted.attempt is not None and wanted.attempt.number == number
        if not is_wanted and phase < Phase.ENDED:
            step.orders.append(Order(node.name, "stop", job_id, number, reason="lost"))


def heard(state: LiveState, step: Step, now_s: float, node: LiveNode, rules: LeaseRules) -> None:
    """A heartbeat has come."""
    node.heard_s = now_s
    if node.health == "healthy":
        return
    if node.health == "suspect":
        _back(state, step, now_s, node, rules, state.last_event)
    elif node.health == "recovering" and now_s >= node.facts.get("trusted_s", 0.0):
        node.health, node.reason = "healthy", ""
        step.event(state, now_s, "node-healthy", node=node.name)
    else:
        return
    _changed(state, step, node)


def _changed(state: LiveState, step: Step, node: LiveNode) -> None:
    state.nodes_version += 1
    state.version += 1
    step.wakes = True
    step.change.nodes.append(node_row(node))


def watch_silence(state: LiveState, step: Step, now_s: float, rules: LeaseRules) -> None:
    """Nodes that have been silent are suspected, then failed: what ran there must be gone by then."""
    for node in state.nodes.values():
        silent_s = now_s - node.heard_s
        if silent_s >= rules.fence_s and node.health != "failed":
            fail(state, step, now_s, node, f"silent for {silent_s:.1f} s")
        elif silent_s >= rules.suspect_s and node.health in ("healthy", "recovering"):
            node.health, node.reason = "suspect", f"silent for {silent_s:.1f} s"
            step.event(state, now_s, "node-suspect", node=node.name, message=node.reason)
            _changed(state, step, node)
        for job in list(node.jobs.values()):
            attempt = job.attempt
            assert attempt is not None
            fence_s = attempt.parts[node.name].fence_s
            if fence_s is not None and fence_s <= now_s:
                fence(state, step, now_s, job, node.name, cause=None)


def fail(state: LiveState, step: Step, now_s: float, node: LiveNode, reason: str) -> None:
    """A node is lost with everything on it."""
    node.health, node.reason = "failed", reason
    number = step.event(state, now_s, "node-failed", node=node.name, message=reason)
    for job in sorted(node.jobs.values(), key=lambda job: (-job.priority, job.id)):
        fence(state, step, now_s, job, node.name, cause=number)
    _changed(state, step, node)


def drain(
    state: LiveState, step: Step, now_s: float, node: LiveNode, reason: str, deadline_s: float | None
) -> list[int]:
    """No new work for a node; returns the jobs that are there."""
    node.is_drained, node.drain_deadline_s = True, deadline_s
    node.reason = reason
    step.event(state, now_s, "node-drained", node=node.name, message=reason)
    _changed(state, step, node)
    return sorted(node.jobs)


def resume(state: LiveState, step: Step, now_s: float, node: LiveNode) -> None:
    """A node takes work again."""
    node.is_drained, node.drain_deadline_s, node.reason = False, None, ""
    if node.health == "recovering":
        node.health = "healthy"
    step.event(state, now_s, "node-resumed", node=node.name)
    _changed(state, step, node)
