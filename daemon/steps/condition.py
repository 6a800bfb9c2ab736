"""An event of a node's health taken in: the machine's memory, what people see of it, and the findings as events."""

from __future__ import annotations

from shunter.daemon import health
from shunter.daemon.health_facts import Event
from shunter.daemon.health_rules import LeaseRules
from shunter.daemon.live import LiveNode, LiveState, Step
from shunter.daemon.steps.rows import node_row


def tell(
    state: LiveState,
    step: Step,
    now_s: float,
    node: LiveNode,
    event: Event,
    rules: LeaseRules,
    *,
    cause: int | None = None,
) -> int | None:
    """Take in an event; returns the number of the last one that was told about the node's health, if any was.

    Args:
        state: Changed.
        step: Filled.
        now_s: Now.
        node: Whose.
        event: What happened.
        rules: Thresholds.
        cause: Number of the event that it follows from.
    """
    before = node.memory
    memory, findings = health.step(before, event, now_s, rules)
    if memory == before and not findings:
        return _last(node)
    node.memory = memory
    node.health, node.reason = memory.state.value, memory.reason
    node.is_drained, node.drain_deadline_s = bool(memory.grounds), memory.deadline_s
    closed = memory.closed_gpus
    for finding in findings:
        number = step.event(state, now_s, finding.kind, node=node.name, cause=cause, message=finding.message)
        node.facts["event"] = number
        cause = number if cause is None else cause
    if memory.state is not before.state or closed != node.failed_gpus:
        node.failed_gpus = closed
        state.nodes_version += 1
        state.version += 1
        step.wakes = True
    step.change.nodes.append(node_row(node))
    return _last(node)


def _last(node: LiveNode) -> int | None:
    number: int | None = node.facts.get("event")
    return number
