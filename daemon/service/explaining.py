"""Why a job stands where it stands, from the last decision and the live state."""

from __future__ import annotations

import asyncio
import math

import structlog

from shunter.daemon.inquiries import StandingOf, StartsOf, place_in
from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.leader import Leader
from shunter.daemon.live import LiveJob
from shunter.daemon.pb import scheduler_pb2
from shunter.daemon.planner import PlannerError
from shunter.daemon.service.convert import enum
from shunter.daemon.store.rows import StoredJob

log = structlog.get_logger("shunter.daemon")
SENTENCES = {
    Reason.NEW: "It has just come; the next decision looks at it.",
    Reason.DEPENDENCY: "It waits for other jobs to end: {jobs}.",
    Reason.BEGIN_TIME: "It is not to begin before its time.",
    Reason.BACKOFF: "An attempt failed; it is tried again after a while.",
    Reason.ARRAY_LIMIT: "As many jobs of its array run as may.",
    Reason.NEVER_FITS: "No node, or not all nodes together, are large enough for it, even when they are empty.",
    Reason.QUEUE_CLOSED: "Its queue is closed.",
    Reason.NO_CAPACITY: "What it asks for is not free; jobs that run have to end first.",
    Reason.BEHIND_HEAD: "It waits for the job at the head of the queue, which may not be overtaken.",
    Reason.WOULD_DELAY: "It fits now, but would delay a job ahead of it that has been promised a start.",
    Reason.BEYOND_DEPTH: "Too many jobs wait ahead of it for it to have been looked at.",
    Reason.OVER_QUOTA: "Its group holds as much as it may.",
    Reason.LOCALITY: "It waits for nodes nearer to one another.",
}
BEFORE = {
    Reason.NODE_FAILED: " It ran before, on a node that was lost.",
    Reason.GPU_FAILED: " It ran before, on a GPU that failed.",
    Reason.DRAINED: " It ran before, on a node or GPU that is taken out of service.",
    Reason.LOST: " It ran before, and nobody knows how that ended.",
    Reason.PREEMPTED: " It ran before, and made way for another job.",
}
"""Why a job that waits does not run any more."""
NUM_AHEAD = 5
SETTLING_S, SETTLING_LOOKS = 2.0, 40
ESTIMATES_HOLD_S = 5.0
"""Estimates of all waiting jobs are made together, and told for so long."""


class Explainer:
    """Answers questions about single jobs.

    Args:
        leader: Holds the state and the last decision.
    """

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._starts: dict[int, scheduler_pb2.StartEstimate] = {}
        self._starts_until_s = 0.0
        self._estimating = asyncio.Lock()

    async def explain(self, stored: StoredJob) -> scheduler_pb2.Explanation:
        """What is known of a job's place."""
        leader, job_id = self._leader, stored.made.id
        explanation = scheduler_pb2.Explanation(
            job=job_id,
            state=enum(stored.now.state),
            policy=leader.conduct.rules.policy,
            queue_length=len(leader.state.waiting),
        )
        job = leader.state.jobs.get(job_id)
        if job is None or job.state is not JobState.PENDING:
            explanation.reason = stored.now.reason
            explanation.sentence = f"It is {JobState(stored.now.state).name.lower().replace('_', ' ')}."
            if job is not None:
                explanation.sentence += _trouble(leader, job)
            return explanation
        reason = leader.why(job_id) if job_id in leader.state.waiting else job.reason
        explanation.reason = reason
        others = ", ".join(str(other) for other in sorted(job.waits_for)[:10])
        explanation.sentence = SENTENCES.get(reason, "The next decision looks at it.").format(jobs=others)
        explanation.sentence += BEFORE.get(job.reason, "") if job.attempts else ""
        reserved_s = leader.state.reserved_s.get(job_id)
        if reserved_s is not None:
            explanation.reserved_unix_s = reserved_s
        if job_id in leader.state.waiting:
            await self._place(explanation, job_id)
        start = await self.estimate(job_id)
        if start.told:
            explanation.start.CopyFrom(start)
        return explanation

    async def _place(self, explanation: scheduler_pb2.Explanation, job: int) -> None:
        """Where it stands in the order of the last decision, and what moved it there."""
        leader, decision = self._leader, self._leader.decision
        if decision is None:
            return
        made, question = decision.answer.plan, decision.question
        if question.rules.model:
            explanation.policy = question.rules.model
        explanation.guard = ", ".join(made.guard)
        found = place_in(made, job, set(leader.state.waiting))
        if found is not None:
            explanation.place, ahead = found
            explanation.ahead.extend(ahead[-NUM_AHEAD:])
        learned = leader.policies.learned_rules(leader.conduct.rules)
        try:
            standing = await leader.asker.ask(StandingOf(question, made, job, leader.conduct.rules, learned))
        except PlannerError as error:
            log.warning("not-explained", job_id=job, error=str(error))
            return
        if standing.heuristic_place is not None:
            explanation.heuristic_place = standing.heuristic_place
        explanation.contributions.extend(
            scheduler_pb2.Contribution(feature=c.feature, value=c.value, mean=c.mean, change=c.change)
            for c in standing.contributions
        )

    async def estimate(self, job: int) -> scheduler_pb2.StartEstimate:
        """When it starts; nothing told where nobody can say."""
        leader = self._leader
        if job not in leader.state.waiting or not leader.state.nodes or leader.failure is not None:
            return scheduler_pb2.StartEstimate()
        async with self._estimating:
            await self._settle()
            if leader.clock.now_s() >= self._starts_until_s or job not in self._starts:
                await self._estimate_all()
        return self._starts.get(job, scheduler_pb2.StartEstimate())

    async def _settle(self) -> None:
        """Wait for the decision on what has just happened: an estimate begins after it."""
        for _ in range(SETTLING_LOOKS):
            if self._leader.is_settled:
                return
            await asyncio.sleep(SETTLING_S / SETTLING_LOOKS)

    async def _estimate_all(self) -> None:
        leader = self._leader
        now_s = leader.clock.now_s()
        question, past = leader.present(now_s)
        self._starts, self._starts_until_s = {}, now_s + ESTIMATES_HOLD_S
        try:
            starts = await leader.asker.ask(StartsOf(question, past))
        except PlannerError as error:
            log.warning("not-estimated", error=str(error))
            return
        rows = question.snapshot.rows[question.snapshot.num_running :].tolist()
        for i, row in enumerate(rows):
            told = scheduler_pb2.StartEstimate(told=starts.told[i].value)
            if math.isfinite(starts.median_s[i]):
                told.low_unix_s, told.median_unix_s = starts.low_s[i], starts.median_s[i]
                told.high_unix_s = starts.high_s[i]
            self._starts[row] = told


def _trouble(leader: Leader, job: LiveJob) -> str:
    """What is wrong where a job has nodes; empty where nothing is."""
    attempt = job.attempt
    if attempt is None:
        return ""
    said = f" It is stopped: {attempt.message or attempt.cause}." if attempt.cause is not Reason.NONE else ""
    nodes = [leader.state.nodes[part.node] for part in attempt.parts.values() if part.end is None]
    for node in nodes[:NUM_AHEAD]:
        if node.health != "healthy":
            said += f" Node {node.name} is {node.health}: {node.reason}."
    if job.id in leader.state.held.jobs:
        said += " It cannot stay there, but more would be evicted at once than is allowed, so it is held."
    return said
