"""Nodes come, fall silent, are drained, and come back. What becomes of their jobs: ``evacuation``."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shunter.daemon.errors import InvalidError
from shunter.daemon.health_facts import BadEnd, Drain, GoodEnd, Heartbeat, Registered, Resume, Silence
from shunter.daemon.health_rules import LeaseRules
from shunter.daemon.jobs import Phase
from shunter.daemon.live import MAX_GPUS, LiveNode, LiveState, Order, Step, Units
from shunter.daemon.pb.nodes_pb2 import NodeDescription
from shunter.daemon.silence import Arrivals
from shunter.daemon.steps.attempts import fence
from shunter.daemon.steps.condition import tell
from shunter.daemon.steps.rows import attempt_row, node_row
from shunter.scheduler.types import UNITS_PER


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
    has_booted = node.facts.get("boot_id", description.boot_id) != description.boot_id
    node.facts["boot_id"] = description.boot_id
    node.heard_s = now_s
    node.arrivals = Arrivals()
    state.nodes_version += 1
    state.version += 1
    number = step.event(state, now_s, "node-registered", node=name)
    tell(state, step, now_s, node, Registered(len(description.gpus), has_booted), rules, cause=number)
    _reconcile(step, node, held, forgot, now_s + rules.fence_s)
    step.change.nodes.append(node_row(node))
    step.wakes = True
    return node


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
    """A heartbeat has come. One of a node that has failed changes nothing: its agent has to register again."""
    if rules.failover.detector == "phi":
        node.arrivals.add(now_s - node.heard_s, rules.failover.phi_window)
    node.heard_s = now_s
    if node.health in ("suspect", "recovering") or node.failed_gpus:
        tell(state, step, now_s, node, Heartbeat(), rules)


def watch_silence(state: LiveState, step: Step, now_s: float, rules: LeaseRules) -> None:
    """Silent nodes are suspected; parts that their agent does not know any more are over when their time has come.

    What follows from longer silence is ``evacuation.evacuate``'s.
    """
    is_fixed = rules.failover.detector == "fixed"
    earliest_s = rules.suspect_s if is_fixed else 1.5 * rules.heartbeat_s
    for node in state.nodes.values():
        silent_s = now_s - node.heard_s
        if silent_s >= earliest_s and node.health not in ("suspect", "failed"):
            limit_s = rules.suspect_s if is_fixed else min(node.arrivals.suspect_after_s(rules), rules.fence_s)
            if silent_s >= limit_s:
                tell(state, step, now_s, node, Silence(silent_s), rules)
        for job in list(node.jobs.values()):
            attempt = job.attempt
            assert attempt is not None
            fence_s = attempt.parts[node.name].fence_s
            if fence_s is not None and fence_s <= now_s:
                fence(state, step, now_s, job, node.name, cause=None)


MAX_KINDS, NODES_OF_A_KIND = 4096, 3
"""Owners and names of jobs whose good ends are remembered, and on how many nodes of each."""


def learn_from_ends(state: LiveState, step: Step, now_s: float, rules: LeaseRules) -> None:
    """Take in the parts that have ended by themselves since the last time: they show nodes that swallow jobs."""
    while state.part_ends:
        ended = state.part_ends.popleft()
        node, kind = state.nodes.get(ended.node), (ended.owner, ended.name)
        if node is None:
            continue
        if ended.is_good:
            _succeeded(state, kind, ended.node, now_s)
            if node.memory.bad_ends:
                tell(state, step, now_s, node, GoodEnd(), rules)
        elif ended.ran_s <= rules.failover.black_hole_start_s:
            oldest_s = now_s - rules.failover.black_hole_window_s
            kinds = {(owner, name) for _, owner, name in node.memory.bad_ends} | {kind}
            elsewhere = frozenset(
                one
                for one in kinds
                if any(at_s > oldest_s for where, at_s in state.successes.get(one, {}).items() if where != ended.node)
            )
            tell(state, step, now_s, node, BadEnd(*kind, ended.ran_s, elsewhere), rules)


def _succeeded(state: LiveState, kind: tuple[str, str], node: str, now_s: float) -> None:
    """The kinds, and the nodes of each, that were heard of last are kept."""
    nodes = state.successes.pop(kind, {})
    nodes.pop(node, None)
    nodes[node] = now_s
    if len(nodes) > NODES_OF_A_KIND:
        del nodes[next(iter(nodes))]
    state.successes[kind] = nodes
    if len(state.successes) > MAX_KINDS:
        del state.successes[next(iter(state.successes))]


NO_RULES = LeaseRules()
"""Operators' orders are followed whatever the thresholds."""


def drain(
    state: LiveState, step: Step, now_s: float, node: LiveNode, reason: str, deadline_s: float | None
) -> list[int]:
    """No new work for a node; returns the jobs that are there. Those that would not end before the deadline are moved.

    Raises:
        InvalidError: The deadline has passed, or is no time.
    """
    if deadline_s is not None and not now_s <= deadline_s < math.inf:
        raise InvalidError(f"deadline_unix_s: {deadline_s:g} is no time to come")
    tell(state, step, now_s, node, Drain(reason, deadline_s), NO_RULES)
    return sorted(node.jobs)


def resume(state: LiveState, step: Step, now_s: float, node: LiveNode) -> None:
    """A node takes work again, and so do its GPUs, whatever was held against them."""
    tell(state, step, now_s, node, Resume(), NO_RULES)
