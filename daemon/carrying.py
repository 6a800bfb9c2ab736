"""Carry out a plan on the live state: checked against the state of this moment, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shunter.daemon.jobs import Reason
from shunter.daemon.live import LiveJob, LiveState, Part, Step
from shunter.daemon.snapshots import View
from shunter.daemon.steps.attempts import assign
from shunter.daemon.steps.jobs import stop_attempt
from shunter.scheduler.plans import Plan, Start


@dataclass(slots=True)
class Carried:
    """What became of a plan.

    Attributes:
        started: Jobs that were given nodes.
        stopped: Jobs that were told to stop for others.
        gone: Jobs of the plan that no longer wait.
        refused: Why nothing of it was done; empty: it was.
    """

    started: list[LiveJob] = field(default_factory=list)
    stopped: list[LiveJob] = field(default_factory=list)
    gone: int = 0
    refused: str = ""


def parts_of(view: View, start: Start) -> list[Part]:
    """The parts of a start, by node in the order of ranks."""
    entries: dict[int, list[tuple[int, int]]] = {}
    for node, tasks, mask, _ in start.entries:
        entries.setdefault(node, []).append((tasks, mask))
    return [Part(view.nodes[node], tuple(held)) for node, held in entries.items()]


def carry_out(
    state: LiveState, step: Step, now_s: float, view: View, plan: Plan, processors: Callable[[LiveJob], float]
) -> Carried:
    """Carry out a plan that was made from a view of this state some time ago.

    What has happened since may forbid it: then nothing of it is done, and a new decision is needed. Jobs that no longer
    wait are left out, which harms nobody.

    Args:
        state: Changed.
        step: Filled.
        now_s: Now.
        view: From which the plan was made.
        plan: Its rows are ids of jobs.
        processors: What a job's user is charged for.
    """
    carried = Carried()
    starts = []
    for start in plan.starts:
        job = state.waiting.get(start.row)
        if job is None:
            carried.gone += 1
        else:
            starts.append((job, parts_of(view, start)))
    if view.state_version != state.version:
        carried.refused = _first_misfit(state, starts)
        if carried.refused:
            return carried
    for preempt in plan.preemptions:
        victim = state.active.get(preempt.row)
        if victim is not None and victim.attempt is not None and victim.attempt.cause is Reason.NONE:
            grace_s = max(preempt.end_s - view.snapshot.now_s, 0.0)
            stop_attempt(state, step, now_s, victim, Reason.PREEMPTED, grace_s=grace_s)
            carried.stopped.append(victim)
    for job, parts in starts:
        if any(not state.nodes[part.node].has_room(part, job.units) for part in parts):
            # Of the jobs that were stopped for it: it starts when they have ended.
            assert plan.preemptions, f"job {job.id} does not fit where the plan puts it"
            continue
        assign(state, step, now_s, job, parts, processors(job))
        carried.started.append(job)
    state.reserved_s = {promise.row: promise.start_s for promise in plan.reservations}
    return carried


def _first_misfit(state: LiveState, starts: list[tuple[LiveJob, list[Part]]]) -> str:
    """Why the starts can no longer be carried out together; empty: they can."""
    taken: list[tuple[LiveJob, Part]] = []
    found = ""
    for job, parts in starts:
        for part in parts:
            node = state.nodes.get(part.node)
            if node is None or not node.is_open:
                found = f"node {part.node} takes no work any more"
            elif not node.has_room(part, job.units):
                found = f"job {job.id} no longer fits on node {part.node}"
            else:
                node.take(part, job.units, 1)
                taken.append((job, part))
                continue
            break
        if found:
            break
    for job, part in taken:
        state.nodes[part.node].take(part, job.units, -1)
    return found
