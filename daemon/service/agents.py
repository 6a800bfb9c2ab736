"""The service ``Agent``: one stream with the agent of each node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from shunter.daemon.errors import ConflictError, InvalidError, NotFoundError
from shunter.daemon.jobs import Phase
from shunter.daemon.live import Step
from shunter.daemon.pb import agent_pb2, agent_pb2_grpc
from shunter.daemon.service.access import Access, Role
from shunter.daemon.service.convert import END_OF
from shunter.daemon.service.logs import LogReaders
from shunter.daemon.service.sessions import AgentSession, Sessions
from shunter.daemon.service.status import streaming
from shunter.daemon.specs import plain
from shunter.daemon.steps.attempts import PartReport, report
from shunter.daemon.steps.nodes import heard

PHASES = (agent_pb2.Report.PHASE_READY, agent_pb2.Report.PHASE_STARTED, agent_pb2.Report.PHASE_ENDED)


class AgentService(agent_pb2_grpc.AgentServicer):
    """See ``agent.proto``.

    Args:
        sessions: Of all agents.
        access: Who may call.
        logs: Who waits for output of jobs.
    """

    def __init__(self, sessions: Sessions, access: Access, logs: LogReaders) -> None:
        self._sessions, self._access, self._logs = sessions, access, logs
        self._leader = sessions.leader

    @streaming
    async def Session(
        self, incoming: AsyncIterator[agent_pb2.AgentMessage], context: Any
    ) -> AsyncIterator[agent_pb2.DaemonMessage]:
        """Orders for the agent, as long as its registration holds."""
        caller = self._access.caller(context)
        caller.require(Role.AGENT, Role.OPERATOR)
        self._leader.refuse_when_failed()
        first = await anext(aiter(incoming), None)
        if first is None or first.WhichOneof("kind") != "hello":
            raise InvalidError("a session begins with hello")
        caller.require_node(first.hello.node)
        session = self._begin(first.hello)
        reading = asyncio.create_task(self._read(session, incoming))
        try:
            while (message := await session.outgoing.get()) is not None:
                yield message
            raise ConflictError("this session has ended; register again")
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            self._sessions.ended(session)

    def _begin(self, hello: agent_pb2.Hello) -> AgentSession:
        node = self._leader.state.nodes.get(hello.node)
        if node is None:
            raise NotFoundError(f"node {hello.node!r} has not registered")
        registration = self._sessions.registrations.get(hello.node)
        holds = registration is not None and registration.number == hello.registration == node.registration
        if registration is None or not holds:
            raise ConflictError(f"registration {hello.registration} of node {hello.node!r} does not hold any more")
        return self._sessions.begin(node, registration)

    async def _read(self, session: AgentSession, incoming: AsyncIterator[agent_pb2.AgentMessage]) -> None:
        """Take in what the agent says until it hangs up."""
        leader = self._leader
        try:
            async for message in incoming:
                if leader.failure is not None:
                    break
                kind = message.WhichOneof("kind")
                if kind == "heartbeat":
                    self._heartbeat(session, message.heartbeat)
                elif kind == "report":
                    self._report(session, message.report)
                elif kind == "log":
                    self._logs.reply(session.node, message.log)
        finally:
            session.end()

    def _heartbeat(self, session: AgentSession, heartbeat: agent_pb2.Heartbeat) -> None:
        leader = self._leader
        node = leader.state.nodes.get(session.node)
        if node is None or node.registration != session.registration:
            session.end()
            return
        self._sessions.heartbeats += 1
        step = Step()
        heard(leader.state, step, leader.clock.now_s(), node, leader.conduct.leases)
        if step.change.nodes:
            leader.write(step)
        grant = agent_pb2.Grant(
            sequence=heartbeat.sequence, lease_s=leader.conduct.leases.lease_s, fencing_token=leader.token
        )
        session.tell(agent_pb2.DaemonMessage(grant=grant))

    def _report(self, session: AgentSession, said: agent_pb2.Report) -> None:
        leader, step = self._leader, Step()
        if said.phase not in PHASES:
            return
        part = PartReport(
            job=said.job,
            attempt=said.attempt,
            phase=Phase(said.phase),
            end=END_OF.get(said.end),
            exit_code=said.exit_code if said.HasField("exit_code") else None,
            signal=said.signal if said.HasField("signal") else None,
            message=plain(said.message),
        )
        report(leader.state, step, leader.clock.now_s(), session.node, part)
        leader.write(step)
