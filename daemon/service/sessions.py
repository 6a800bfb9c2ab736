"""The open sessions of agents: what they are to be told goes through here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shunter.daemon.jobs import Phase, Reason
from shunter.daemon.leader import Leader
from shunter.daemon.live import LiveNode, Order
from shunter.daemon.pb import agent_pb2
from shunter.daemon.service.convert import assignment_message, enum

MAX_QUEUED = 100_000
"""Messages for one agent that reads too slowly; beyond it the session ends, and the next begins from the state."""


@dataclass(slots=True)
class Registration:
    """What an agent said when it registered.

    Attributes:
        number: Of the registration.
        held: Parts that it holds, by (job, attempt).
    """

    number: int
    held: frozenset[tuple[int, int]]


@dataclass(slots=True, eq=False)
class AgentSession:
    """One agent's stream.

    Attributes:
        node: Its node.
        registration: Number.
        outgoing: What it is to be told; None ends the session.
    """

    node: str
    registration: int
    outgoing: asyncio.Queue[agent_pb2.DaemonMessage | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=MAX_QUEUED)
    )

    def tell(self, message: agent_pb2.DaemonMessage) -> None:
        """Queue a message; a session that is too far behind ends."""
        if self.outgoing.full():
            self.end()
        else:
            self.outgoing.put_nowait(message)

    def end(self) -> None:
        """Close the stream as soon as the agent's side looks."""
        while not self.outgoing.empty():
            self.outgoing.get_nowait()
        self.outgoing.put_nowait(None)


class Sessions:
    """All sessions, by node.

    Args:
        leader: Whose orders they carry.
    """

    def __init__(self, leader: Leader) -> None:
        self.leader = leader
        self.open: dict[str, AgentSession] = {}
        self.registrations: dict[str, Registration] = {}
        self.heartbeats = 0
        leader.send_order = self.send
        leader.on_reload = self.end_all

    def begin(self, node: LiveNode, registration: Registration) -> AgentSession:
        """A session has opened: the agent is told everything that it should run and does not know."""
        earlier = self.open.get(node.name)
        if earlier is not None:
            earlier.end()
        session = self.open[node.name] = AgentSession(node.name, registration.number)
        for job in node.jobs.values():
            attempt = job.attempt
            assert attempt is not None
            part = attempt.parts[node.name]
            if part.fence_s is not None:
                continue
            if attempt.cause is not Reason.NONE:
                self.send(Order(node.name, "stop", job.id, attempt.number, job.spec.grace_s, attempt.cause))
            elif (job.id, attempt.number) not in registration.held:
                self.send(Order(node.name, "assign", job.id, attempt.number))
            if len(attempt.parts) > 1 and attempt.has_reached(Phase.READY):
                self.send(Order(node.name, "go", job.id, attempt.number))
        return session

    def ended(self, session: AgentSession) -> None:
        """A session is over."""
        if self.open.get(session.node) is session:
            del self.open[session.node]

    def end_all(self) -> None:
        """All agents have to come again."""
        for session in list(self.open.values()):
            session.end()

    def send(self, order: Order) -> None:
        """Tell an agent; one without a session is told when it comes back."""
        session = self.open.get(order.node)
        if session is not None:
            message = self.message(order)
            if message is not None:
                session.tell(message)

    def message(self, order: Order) -> agent_pb2.DaemonMessage | None:
        """An order as a message; None where it no longer holds."""
        token = self.leader.token
        if order.kind == "forget":
            return agent_pb2.DaemonMessage(forget=agent_pb2.Forget(job=order.job, attempt=order.attempt))
        if order.kind == "receipt":
            receipt = agent_pb2.Receipt(job=order.job, attempt=order.attempt, phase=enum(order.phase))
            return agent_pb2.DaemonMessage(receipt=receipt)
        if order.kind == "stop":
            stop = agent_pb2.Stop(
                job=order.job, attempt=order.attempt, fencing_token=token, grace_s=order.grace_s, reason=order.reason
            )
            return agent_pb2.DaemonMessage(stop=stop)
        if order.kind == "go":
            go = agent_pb2.Go(job=order.job, attempt=order.attempt, fencing_token=token)
            return agent_pb2.DaemonMessage(go=go)
        job = self.leader.state.jobs.get(order.job)
        if job is None or job.attempt is None or job.attempt.number != order.attempt:
            return None
        return agent_pb2.DaemonMessage(assignment=assignment_message(job, order.node, token))
