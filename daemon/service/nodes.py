"""The service ``Nodes``: agents register and send telemetry, operators look, drain and resume."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from shunter.daemon.errors import ConflictError, InvalidError, NotFoundError
from shunter.daemon.leader import Leader
from shunter.daemon.live import LiveNode
from shunter.daemon.pb import nodes_pb2, nodes_pb2_grpc
from shunter.daemon.service.access import Access, Caller, Role
from shunter.daemon.service.convert import node_message
from shunter.daemon.service.paging import page_of, page_token
from shunter.daemon.service.sessions import Registration, Sessions
from shunter.daemon.service.status import unary
from shunter.daemon.specs import NAME, plain
from shunter.daemon.steps.nodes import drain, register, resume
from shunter.daemon.telemetry import Telemetry

PHASES = {"assigned": 0, "ready": 1, "started": 2, "ended": 3}


class NodesService(nodes_pb2_grpc.NodesServicer):
    """See ``nodes.proto``.

    Args:
        leader: Holds the state.
        access: Who may call.
        sessions: Of agents.
        telemetry: Keeps the last samples.
        telemetry_s: How often agents are to send some.
    """

    def __init__(
        self, leader: Leader, access: Access, sessions: Sessions, telemetry: Telemetry, telemetry_s: float
    ) -> None:
        self._leader, self._access, self._sessions = leader, access, sessions
        self._telemetry, self._telemetry_s = telemetry, telemetry_s

    @unary
    async def Register(self, request: nodes_pb2.RegisterRequest, context: Any) -> nodes_pb2.RegisterResponse:
        """An agent has come, or come back."""
        self._access.caller(context).require_node(request.node)
        if not request.node or not NAME.match(request.node):
            raise InvalidError(f"node: {request.node[:64]!r} is no name")
        leader, leases = self._leader, self._leader.conduct.leases
        held = {(part.job, part.attempt): PHASES.get(part.phase, 0) for part in request.held}
        earlier = self._sessions.open.get(request.node)
        node = await leader.perform(
            register,
            request.node,
            request.description,
            instance=plain(request.instance, 128),
            state_id=plain(request.state_id, 128),
            held=held,
            rules=leases,
        )
        if earlier is not None:
            earlier.end()
        self._sessions.registrations[request.node] = Registration(node.registration, frozenset(held))
        return nodes_pb2.RegisterResponse(
            registration=node.registration,
            fencing_token=leader.token,
            heartbeat_s=leases.heartbeat_s,
            lease_s=leases.lease_s,
            telemetry_s=self._telemetry_s,
        )

    @unary
    async def Telemetry(
        self, incoming: AsyncIterator[nodes_pb2.TelemetryBatch], context: Any
    ) -> nodes_pb2.TelemetryResponse:
        """Samples, until the agent hangs up."""
        caller = self._access.caller(context)
        caller.require(Role.AGENT, Role.OPERATOR)
        count = 0
        async for batch in incoming:
            caller.require_node(batch.node)
            node = self._leader.state.nodes.get(batch.node)
            if node is None or node.registration != batch.registration:
                raise ConflictError(f"registration {batch.registration} of node {batch.node!r} does not hold any more")
            for sample in batch.samples:
                self._telemetry.take(batch.node, sample)
            count += len(batch.samples)
        return nodes_pb2.TelemetryResponse(samples=count)

    def _find(self, name: str) -> LiveNode:
        node = self._leader.state.nodes.get(name)
        if node is None:
            raise NotFoundError(f"there is no node {name!r}")
        return node

    @unary
    async def ListNodes(self, request: nodes_pb2.ListNodesRequest, context: Any) -> nodes_pb2.ListNodesResponse:
        """Nodes by name."""
        caller = self._access.caller(context)
        caller.require(Role.VIEWER, Role.SUBMITTER, Role.OPERATOR)
        size, after = page_of(request.page_size, request.page_token)
        names = sorted(name for name in self._leader.state.nodes if name > after)
        nodes = [self._message(self._find(name), caller) for name in names[:size]]
        token = page_token(names[size - 1]) if len(names) > size else ""
        return nodes_pb2.ListNodesResponse(nodes=nodes, next_page_token=token)

    def _message(self, node: LiveNode, caller: Caller) -> nodes_pb2.Node:
        """A submitter is told of the own jobs there, and not of processes, which are other people's too."""
        message = node_message(node, self._telemetry.last(node.name))
        if caller.role is Role.SUBMITTER:
            own = [job for job in message.jobs if node.jobs[job].owner == caller.user]
            del message.jobs[:]
            message.jobs.extend(own)
            for gpu in message.telemetry.gpus:
                del gpu.processes[:]
        return message

    @unary
    async def GetNode(self, request: nodes_pb2.GetNodeRequest, context: Any) -> nodes_pb2.Node:
        """One node."""
        caller = self._access.caller(context)
        caller.require(Role.VIEWER, Role.SUBMITTER, Role.OPERATOR)
        return self._message(self._find(request.node), caller)

    @unary
    async def Drain(self, request: nodes_pb2.DrainRequest, context: Any) -> nodes_pb2.DrainResponse:
        """No new work for a node."""
        self._access.caller(context).require(Role.OPERATOR)
        node = self._find(request.node)
        deadline_s = request.deadline_unix_s or None
        jobs = await self._leader.perform(drain, node, plain(request.reason) or "drained", deadline_s)
        return nodes_pb2.DrainResponse(jobs=jobs)

    @unary
    async def Resume(self, request: nodes_pb2.ResumeRequest, context: Any) -> nodes_pb2.ResumeResponse:
        """A node takes work again."""
        self._access.caller(context).require(Role.OPERATOR)
        await self._leader.perform(resume, self._find(request.node))
        return nodes_pb2.ResumeResponse()
