"""The service ``Scheduler``: what users do with jobs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shunter.daemon.errors import ConflictError, ForbiddenError, InvalidError, LimitError, NotFoundError
from shunter.daemon.jobs import JobState
from shunter.daemon.leader import Leader
from shunter.daemon.live import LiveJob, Units
from shunter.daemon.pb import agent_pb2, common_pb2, scheduler_pb2, scheduler_pb2_grpc
from shunter.daemon.service.access import Access, Caller, Role
from shunter.daemon.service.convert import job_message
from shunter.daemon.service.explaining import Explainer
from shunter.daemon.service.logs import LogReaders
from shunter.daemon.service.paging import number_of, page_of, page_token
from shunter.daemon.service.repeats import Repeats
from shunter.daemon.service.sessions import AgentSession, Sessions
from shunter.daemon.service.status import streaming, unary
from shunter.daemon.service.watching import Hub
from shunter.daemon.specs import complete, plain
from shunter.daemon.steps.jobs import cancel, reprioritise
from shunter.daemon.steps.submit import Array, Key, submit
from shunter.daemon.store.rows import IdempotencyRow, JobQuery, StoredJob

MAX_KEY = 128
MAX_UNDER_WAY = 20_000
"""Changes that wait to be stored: beyond it submissions are refused, so that a slow disk does not fill the memory."""
SILENCE_S = 5.0
"""Between two looks whether the agents whose output somebody reads are still there."""
MAX_ID = 2**63 - 1
"""Of a job or an event: what both databases can hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user may ask for.

    Attributes:
        jobs_per_user: That have not ended.
        batch: Jobs of one call.
    """

    jobs_per_user: int = 1_000_000
    batch: int = 10_000


class SchedulerService(scheduler_pb2_grpc.SchedulerServicer):
    """See ``scheduler.proto``.

    Args:
        leader: Holds the state.
        access: Who may call.
        hub: Tells events.
        sessions: Of agents, for logs.
        logs: Who waits for output.
        explainer: Says why.
        limits: Of users.
    """

    def __init__(
        self,
        leader: Leader,
        access: Access,
        hub: Hub,
        sessions: Sessions,
        logs: LogReaders,
        explainer: Explainer,
        limits: Limits | None = None,
    ) -> None:
        self._leader, self._access, self._hub = leader, access, hub
        self._sessions, self._logs, self._explainer = sessions, logs, explainer
        self._limits = limits or Limits()
        self._repeats = Repeats(leader)

    # --- submitting --------------------------------------------------------------------------------------------------

    @unary
    async def Submit(self, request: scheduler_pb2.SubmitRequest, context: Any) -> scheduler_pb2.SubmitResponse:
        """One job, or an array of them."""
        array = _array(request.array, self._limits.batch) if request.HasField("array") else None
        first, count, repeated = await self._take(request, [request.spec], array, context)
        return scheduler_pb2.SubmitResponse(job=first, count=count, repeated_call=repeated)

    @unary
    async def SubmitBatch(
        self, request: scheduler_pb2.SubmitBatchRequest, context: Any
    ) -> scheduler_pb2.SubmitBatchResponse:
        """Several jobs, all or none."""
        if len(request.specs) > self._limits.batch:
            raise LimitError(f"{len(request.specs)} jobs in one call; at most {self._limits.batch} are allowed")
        first, count, repeated = await self._take(request, request.specs, None, context)
        return scheduler_pb2.SubmitBatchResponse(first_job=first, count=count, repeated_call=repeated)

    async def _take(
        self,
        request: scheduler_pb2.SubmitRequest | scheduler_pb2.SubmitBatchRequest,
        specs: Sequence[common_pb2.JobSpec],
        array: Array | None,
        context: Any,
    ) -> tuple[int, int, bool]:
        """First id, number of jobs, and whether an earlier call had made them."""
        caller = self._access.caller(context)
        caller.require(Role.SUBMITTER, Role.OPERATOR)
        leader = self._leader
        leader.refuse_when_failed()
        if leader.store.num_waiting > MAX_UNDER_WAY:
            raise LimitError(f"{leader.store.num_waiting} changes wait for the disk; try again in a moment")
        if not request.idempotency_key:
            return await self._make(caller, specs, array, None)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        key = Key(request.idempotency_key, digest)
        if len(key.key) > MAX_KEY or not key.key.isprintable():
            raise InvalidError(f"idempotency_key: has more than {MAX_KEY} characters, or some that cannot be printed")
        # Goes on when the caller hangs up: one that calls again finds what came of it, not a key in the air.
        return await asyncio.shield(asyncio.ensure_future(self._once(caller, specs, array, key)))

    async def _once(
        self, caller: Caller, specs: Sequence[common_pb2.JobSpec], array: Array | None, key: Key
    ) -> tuple[int, int, bool]:
        async with self._repeats.alone((caller.user, key.key)) as before:
            if before is not None:
                return _repeated(before, key)
            return await self._make(caller, specs, array, key)

    async def _make(
        self, caller: Caller, specs: Sequence[common_pb2.JobSpec], array: Array | None, key: Key | None
    ) -> tuple[int, int, bool]:
        leader, queues = self._leader, self._leader.conduct.queues
        checked: list[tuple[common_pb2.JobSpec, Units]] = []
        try:
            for spec in specs:
                checked.append((spec, complete(spec, queues)))  # noqa: PERF401 - its length tells where it stopped
        except InvalidError as error:
            raise InvalidError(f"job {len(checked)} of the batch: {error}") if len(specs) > 1 else error from None
        count = len(array.indices) if array else len(checked)
        has = leader.state.num_of_user.get(caller.user, 0)
        if has + count > self._limits.jobs_per_user:
            most = self._limits.jobs_per_user
            raise LimitError(f"{caller.user!r} has {has} jobs that have not ended; at most {most} are allowed")
        ended = await self._ended(checked, caller)
        first = await leader.perform(submit, caller.user, checked, key=key, array=array, ended=ended)
        return first, count, False

    async def _ended(self, specs: Sequence[tuple[common_pb2.JobSpec, Units]], caller: Caller) -> dict[int, int]:
        """Final states of the jobs that are waited for and have ended.

        Raises:
            ForbiddenError: One belongs to somebody else: how and when it ends is not the caller's to know.
        """
        known = self._leader.state.jobs
        if not any(spec.dependencies for spec, _ in specs):
            return {}
        asked = {d.job for spec, _ in specs for d in spec.dependencies}
        found = {}
        for job in sorted(asked):
            live = known.get(job)
            stored = None if live is not None else await self._stored_or_none(job)
            owner = live.owner if live is not None else stored.made.owner if stored is not None else caller.user
            if not caller.may_see_all_of(owner):
                raise ForbiddenError(f"dependencies: job {job} belongs to another user")
            if stored is not None and JobState(stored.now.state).is_final:
                found[job] = stored.now.state
        return found

    # --- changing ----------------------------------------------------------------------------------------------------

    async def _find(self, jobs: Sequence[int], caller: Caller) -> tuple[list[LiveJob], list[int]]:
        """Those that have not ended, and the ids of those that have; the caller may change them all."""
        live, ended = [], []
        for job_id in jobs:
            job = self._leader.state.jobs.get(job_id)
            if job is not None:
                caller.require_owner(job.owner)
                live.append(job)
                continue
            stored = await self._stored(job_id)
            caller.require_owner(stored.made.owner)
            ended.append(job_id)
        return live, ended

    async def _stored_or_none(self, job: int) -> StoredJob | None:
        return await asyncio.to_thread(self._leader.store.job, job) if job <= MAX_ID else None

    async def _stored(self, job: int) -> StoredJob:
        stored = await self._stored_or_none(job)
        if stored is None:
            raise NotFoundError(f"there is no job {job}")
        return stored

    @unary
    async def Cancel(self, request: scheduler_pb2.CancelRequest, context: Any) -> scheduler_pb2.CancelResponse:
        """Jobs that wait end at once, others are told to stop."""
        caller = self._access.caller(context)
        if len(request.jobs) > self._limits.batch:
            raise LimitError(f"{len(request.jobs)} jobs in one call; at most {self._limits.batch} are allowed")
        live, ended = await self._find(request.jobs, caller)
        if request.whole_array:
            arrays = {job.array_id for job in live if job.array_id is not None} | set(ended)
            live = [job for job in self._leader.state.jobs.values() if job.array_id in arrays or job in live]
        async with self._leader.step() as (state, step, now_s):
            for job in live:
                if job.id in state.jobs:  # an earlier one's end may have taken it along
                    cancel(state, step, now_s, job, plain(request.reason))
        return scheduler_pb2.CancelResponse(cancelled=[job.id for job in live], ended=ended)

    @unary
    async def Reprioritise(
        self, request: scheduler_pb2.ReprioritiseRequest, context: Any
    ) -> scheduler_pb2.ReprioritiseResponse:
        """Another class for jobs that have not ended. Only an operator may raise it."""
        caller = self._access.caller(context)
        live, _ = await self._find(request.jobs, caller)
        if not -1000 <= request.priority <= 1000:
            raise InvalidError(f"priority: {request.priority} is not between -1000 and 1000")
        if caller.role is not Role.OPERATOR and any(request.priority > job.priority for job in live):
            raise ForbiddenError("only an operator may raise the priority of a job")
        async with self._leader.step() as (state, step, now_s):
            for job in live:
                reprioritise(state, step, now_s, job, request.priority)
        return scheduler_pb2.ReprioritiseResponse(changed=[job.id for job in live])

    # --- reading -----------------------------------------------------------------------------------------------------

    @unary
    async def GetJob(self, request: scheduler_pb2.GetJobRequest, context: Any) -> common_pb2.Job:
        """A job with its attempts."""
        caller = self._access.caller(context)
        stored = await self._stored(request.job)
        self._may_see(caller, stored.made.owner)
        attempts = await asyncio.to_thread(self._leader.store.attempts, [request.job])
        return self._shown(job_message(stored, attempts), caller)

    def _shown(self, message: common_pb2.Job, caller: Caller) -> common_pb2.Job:
        """A waiting job is told with the last decision's word on it; a viewer is not told of values that are secret."""
        if not caller.may_see_all_of(message.user):
            for variable in message.spec.environment:
                message.spec.environment[variable] = ""
        waiting = self._leader.state.waiting.get(message.id)
        if waiting is not None:
            message.reason = self._leader.why(message.id)
        return message

    @staticmethod
    def _may_see(caller: Caller, owner: str) -> None:
        if caller.role is Role.AGENT:
            raise ForbiddenError("agents do not read jobs")
        if caller.role is Role.SUBMITTER and caller.user != owner:
            raise ForbiddenError("this job belongs to another user")

    @unary
    async def ListJobs(self, request: scheduler_pb2.ListJobsRequest, context: Any) -> scheduler_pb2.ListJobsResponse:
        """Jobs, newest first; a submitter sees the own ones."""
        caller = self._access.caller(context)
        wanted = request.filter
        owner = wanted.user
        if caller.role is Role.SUBMITTER:
            if owner and owner != caller.user:
                raise ForbiddenError("only viewers and operators see the jobs of other users")
            owner = caller.user
        caller.require(Role.SUBMITTER, Role.VIEWER, Role.OPERATOR)
        size, before = page_of(request.page_size, request.page_token)
        if wanted.array > MAX_ID:
            raise InvalidError(f"filter.array: {wanted.array} is no job's number")
        query = JobQuery(
            states=tuple(wanted.states),
            owner=owner,
            queue=wanted.queue,
            group=wanted.group,
            name=wanted.name,
            array=wanted.array,
            node=wanted.node,
            before=number_of(before),
            limit=size + 1,
        )
        store = self._leader.store
        found = await asyncio.to_thread(store.jobs, query)
        shown = found[:size]
        attempts = await asyncio.to_thread(store.attempts, [job.made.id for job in shown])
        of_job: dict[int, list[Any]] = {}
        for row in attempts:
            of_job.setdefault(row.job, []).append(row)
        jobs = [self._shown(job_message(job, of_job.get(job.made.id, ())), caller) for job in shown]
        token = page_token(str(shown[-1].made.id)) if len(found) > size else ""
        return scheduler_pb2.ListJobsResponse(jobs=jobs, next_page_token=token)

    @streaming
    async def Watch(
        self, request: scheduler_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[scheduler_pb2.WatchResponse]:
        """Events; a submitter is told of the own jobs."""
        caller = self._access.caller(context)
        caller.require(Role.SUBMITTER, Role.VIEWER, Role.OPERATOR)
        owner = caller.user if caller.role is Role.SUBMITTER else request.user
        if caller.role is Role.SUBMITTER and request.user not in ("", caller.user):
            raise ForbiddenError("only viewers and operators see the jobs of other users")
        after = min(request.after, MAX_ID) if request.HasField("after") else None
        wanted = frozenset(request.jobs)
        async for told in self._hub.watch(after, wanted, owner, until_now=request.until_now):
            yield told

    @unary
    async def Explain(self, request: scheduler_pb2.ExplainRequest, context: Any) -> scheduler_pb2.Explanation:
        """Why a job stands where it stands."""
        caller = self._access.caller(context)
        stored = await self._stored(request.job)
        self._may_see(caller, stored.made.owner)
        explanation = await self._explainer.explain(stored)
        if caller.role is Role.SUBMITTER:  # whose turn it is before is other people's business
            jobs = self._leader.state.jobs
            own = [job for job in explanation.ahead if job in jobs and jobs[job].owner == caller.user]
            del explanation.ahead[:]
            explanation.ahead.extend(own)
        return explanation

    @unary
    async def EstimateStart(
        self, request: scheduler_pb2.EstimateStartRequest, context: Any
    ) -> scheduler_pb2.EstimateStartResponse:
        """When a waiting job starts."""
        caller = self._access.caller(context)
        stored = await self._stored(request.job)
        self._may_see(caller, stored.made.owner)
        return scheduler_pb2.EstimateStartResponse(start=await self._explainer.estimate(request.job))

    @streaming
    async def ReadLogs(
        self, request: scheduler_pb2.ReadLogsRequest, context: Any
    ) -> AsyncIterator[scheduler_pb2.LogChunk]:
        """Output of a job, from the agents that have it."""
        caller = self._access.caller(context)
        stored = await self._stored(request.job)
        caller.require_owner(stored.made.owner)
        attempts = await asyncio.to_thread(self._leader.store.attempts, [request.job])
        wanted = [row for row in attempts if request.attempt in (0, row.number)]
        if not wanted:
            raise NotFoundError(f"job {request.job} has no attempt {request.attempt or ''}".rstrip())
        async for chunk in self._read(request, job_message(stored, wanted).attempts[-1]):
            yield chunk

    async def _read(
        self, request: scheduler_pb2.ReadLogsRequest, attempt: common_pb2.Attempt
    ) -> AsyncIterator[scheduler_pb2.LogChunk]:
        there = {placement.node: self._sessions.open.get(placement.node) for placement in attempt.placement}
        nodes = {node: session for node, session in there.items() if session is not None}
        if not nodes:
            raise ConflictError("none of the nodes that have the output is connected now")
        number, replies = self._logs.begin(nodes)
        order = agent_pb2.LogRequest(
            request=number,
            job=request.job,
            attempt=attempt.number,
            task=request.task if request.HasField("task") else None,
            tail_bytes=request.tail_bytes,
            follow=request.follow,
        )
        for session in nodes.values():
            session.tell(agent_pb2.DaemonMessage(log=order))
        open_nodes = len(nodes)
        try:
            while open_nodes:
                try:
                    reply = await asyncio.wait_for(replies.get(), SILENCE_S)
                except TimeoutError:
                    self._require_open(nodes, request.follow)
                    continue
                if reply.error:
                    raise NotFoundError(reply.error)
                if reply.data or reply.missing:
                    yield scheduler_pb2.LogChunk(
                        task=reply.task, offset=reply.offset, data=reply.data, missing=reply.missing
                    )
                open_nodes -= reply.is_last
        finally:
            self._logs.end(number)
            for node, session in nodes.items():
                if self._sessions.open.get(node) is session:
                    over = agent_pb2.DaemonMessage(log=agent_pb2.LogRequest(request=number, cancel=True))
                    session.tell(over)

    def _require_open(self, nodes: Mapping[str, AgentSession], follow: bool) -> None:
        """Nothing has come for a while: does anybody still answer?

        Raises:
            ConflictError: A connection to an agent is gone, or no answer has come where all is there to be told.
        """
        lost = [node for node, session in nodes.items() if self._sessions.open.get(node) is not session]
        if lost:
            raise ConflictError(f"the connection to {lost[0]} was lost")
        if not follow:
            raise ConflictError(f"no output came from {', '.join(nodes)} for {SILENCE_S:g} s")


def _array(asked: scheduler_pb2.ArrayRange, most: int) -> Array:
    step = asked.step or 1
    if step < 1 or asked.first < 0 or asked.last < asked.first or asked.max_running < 0:
        raise InvalidError(f"array: {asked.first} to {asked.last} by {asked.step} is no range of indices")
    indices = range(asked.first, asked.last + 1, step)
    if len(indices) > most:
        raise LimitError(f"array: has {len(indices)} jobs; at most {most} are allowed")
    return Array(indices, asked.max_running)


def _repeated(before: IdempotencyRow, key: Key) -> tuple[int, int, bool]:
    """The first call's answer.

    Raises:
        ConflictError: That call asked for something else.
    """
    if before.request_sha256 != key.request_sha256:
        raise ConflictError(f"idempotency_key: {key.key!r} was used for another request, job {before.first_job}")
    return before.first_job, before.num_jobs, True
