"""The connection to the daemon that leads: register, keep the lease, take orders, tell what has become of them.

A session that is lost is begun anew, at the next address or at the one that was named as the leader's. The lease is
renewed by what this side knows for certain: from the moment at which an answered call was *sent*, or at which a
connection was tried that every address has refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog

from shunter.daemon.channel import leader_in, open_channel, read_token
from shunter.daemon.errors import FencedError
from shunter.daemon.node.outbox import Outbox
from shunter.daemon.node.settings import NodeSettings
from shunter.daemon.node.shim.lease import now_s
from shunter.daemon.node.state import StateFolder
from shunter.daemon.pb import agent_pb2, agent_pb2_grpc, nodes_pb2_grpc
from shunter.daemon.security.discovery import find_token
from shunter.scheduler.errors import ConfigError

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
CALL_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 1.0
MAX_HOPS = 3
TELL_AGAIN_S = 60.0
RENEW_BELOW = 0.75
log = structlog.get_logger()
_pb: Any = agent_pb2


class SessionLostError(Exception):
    """The session is of no use any more; the message says why."""


@dataclass(slots=True)
class Connected:
    """A session that has begun.

    Attributes:
        registration: Its number.
        outbox: What is to be sent.
        nodes: Stub of the service of nodes, for telemetry.
        telemetry_s: Seconds between samples, as the daemon wants them.
    """

    registration: int
    outbox: Outbox
    nodes: Any
    telemetry_s: float


class Sessions:
    """One session after the other.

    Args:
        settings: Of the agent.
        state: Its folder.
        register: Makes the request to register.
        take: Takes a message of the daemon that is not a grant.
        work: Runs beside each session, and ends with it.
    """

    def __init__(
        self,
        settings: NodeSettings,
        state: StateFolder,
        *,
        register: Callable[[], Awaitable[Any]],
        take: Callable[[Connected, Any], Awaitable[None]],
        work: Callable[[Connected], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._state = state
        self._register = register
        self._take = take
        self._work = work
        self._leader = ""
        self._known_leader = ""
        self._was_granted = False
        self._sent: dict[int, float] = {}
        self._try_now = asyncio.Event()
        self._told, self._told_s = ("", ""), 0.0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_while_refused())
            tasks.create_task(self._connect())

    async def _connect(self) -> None:
        backoff_s, turn, hops = FIRST_BACKOFF_S, 0, 0
        while True:
            address = self._leader or self._settings.daemon[turn % len(self._settings.daemon)]
            before, self._leader, self._was_granted = self._leader, "", False
            self._try_now.clear()
            try:
                await self._one(address)
            except grpc.aio.AioRpcError as error:
                self._leader = leader_in(error)
                self._known_leader = self._leader or self._known_leader
                self._lost(address, f"{error.code().name}: {error.details()}")
            except (SessionLostError, FencedError, ConfigError) as error:
                self._lost(address, str(error))
            if self._was_granted:
                backoff_s, hops = FIRST_BACKOFF_S, 0
            if self._leader and self._leader != address and hops < MAX_HOPS:
                hops += 1
                continue
            if not before:
                turn += 1
            hops = 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._try_now.wait(), backoff_s * random.uniform(0.5, 1.0))
            # The lease must outlast the wait: a daemon that has come back is to find our jobs.
            most_s = min(MAX_BACKOFF_S, max(self._state.lease.length_s / 8, FIRST_BACKOFF_S))
            backoff_s = min(backoff_s * 2, most_s)

    def _lost(self, address: str, why: str) -> None:
        """Tell that there is no session; the same again is told once a minute, not at every try."""
        told = (address, why)
        if self._was_granted or told != self._told or time.monotonic() - self._told_s > TELL_AGAIN_S:
            log.warning("session-lost", address=address, why=why)
            self._told, self._told_s = told, time.monotonic()

    async def _one(self, address: str) -> None:
        """One session; returns when it is over."""
        settings = self._settings
        async with channel_of(settings, address) as channel:
            nodes: Any = nodes_pb2_grpc.NodesStub(channel)
            agent: Any = agent_pb2_grpc.AgentStub(channel)
            request = await self._register()
            length_s = self._state.lease.length_s
            timeout_s = min(CALL_TIMEOUT_S, max(length_s / 2, 0.5)) if length_s else CALL_TIMEOUT_S
            sent_s = now_s()
            answer = await nodes.Register(request, timeout=timeout_s)
            self._check_token(answer.fencing_token)
            # The daemon has heard of us after this moment, as of a heartbeat.
            self._state.lease.renew(sent_s, answer.lease_s)
            log.info("registered", address=address, registration=answer.registration)
            connected = Connected(answer.registration, Outbox(), nodes, answer.telemetry_s)
            connected.outbox.put(
                _pb.AgentMessage(hello=_pb.Hello(node=settings.name, registration=answer.registration))
            )
            await self._talk(agent.Session(), connected, answer)

    async def _talk(self, call: Any, connected: Connected, answer: Any) -> None:
        self._sent.clear()
        parts: list[asyncio.Task[None]] = [
            asyncio.create_task(self._write(call, connected.outbox)),
            asyncio.create_task(self._read(call, connected)),
            asyncio.create_task(self._beat(connected.outbox, answer)),
            asyncio.create_task(self._run_beside(connected)),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        except asyncio.InvalidStateError as error:  # a write to a call that has just ended
            raise SessionLostError(str(error)) from error
        finally:
            for part in parts:
                part.cancel()
            call.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _run_beside(self, connected: Connected) -> None:
        await self._work(connected)
        raise SessionLostError("its work has ended")

    async def _write(self, call: Any, outbox: Outbox) -> None:
        while True:
            message = await outbox.get()
            if message.WhichOneof("kind") == "heartbeat":
                self._sent[message.heartbeat.sequence] = now_s()
            await call.write(message)

    async def _read(self, call: Any, connected: Connected) -> None:
        while True:
            message = await call.read()
            if message is grpc.aio.EOF:
                code = await call.code()
                if code != grpc.StatusCode.OK:
                    metadata = grpc.aio.Metadata(*(await call.trailing_metadata() or ()))
                    raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=await call.details())
                raise SessionLostError("the daemon ended it")
            if message.WhichOneof("kind") == "grant":
                self._granted(message.grant)
            else:
                await self._take(connected, message)

    async def _beat(self, outbox: Outbox, answer: Any) -> None:
        """Heartbeats; a session in which they go unanswered for half a lease is given up, another may serve."""
        sequence = 0
        while True:
            sequence += 1
            outbox.put(_pb.AgentMessage(heartbeat=_pb.Heartbeat(sequence=sequence)))
            await asyncio.sleep(max(answer.heartbeat_s, 0.02))
            oldest = min(self._sent.values(), default=None)
            if oldest is not None and now_s() - oldest > max(answer.lease_s / 2, answer.heartbeat_s):
                raise SessionLostError("heartbeats are not answered")

    def _granted(self, grant: Any) -> None:
        self._check_token(grant.fencing_token)
        sent_s = self._sent.get(grant.sequence)
        if sent_s is None:
            return
        for sequence in [known for known in self._sent if known <= grant.sequence]:
            del self._sent[sequence]
        self._was_granted = True
        self._state.lease.renew(sent_s, grant.lease_s)

    def _check_token(self, token: int) -> None:
        if not self._state.take_token(token):
            raise FencedError(f"fencing token {token} is lower than {self._state.token}: it leads no more")

    async def _renew_while_refused(self) -> None:
        """Keep the lease while no daemon is alive: one that starts waits a full lease before it acts on our silence."""
        were_refused = False
        while True:
            length_s = self._state.lease.length_s
            await asyncio.sleep(min(max(length_s / 8, 0.05), 1.0))
            # Long before the time is over: the end of a connection may be heard of late.
            if not length_s or self._state.lease.deadline_s - now_s() > RENEW_BELOW * length_s:
                continue
            began_s = now_s()
            addresses = dict.fromkeys((*self._settings.daemon, *([self._known_leader] if self._known_leader else [])))
            if await all_refuse(list(addresses)):
                were_refused = True
                self._state.lease.renew(began_s, length_s)
            elif were_refused:
                were_refused = False
                self._try_now.set()


def channel_of(settings: NodeSettings, address: str) -> grpc.aio.Channel:
    """A channel with the agent's token and certificates, which are read anew each time.

    Raises:
        ConfigError: One of them cannot be used.
    """
    token = read_token(settings.token_file) or find_token(address)
    return open_channel(address, token=token, ca=settings.ca, cert=settings.cert, key=settings.key)


async def all_refuse(addresses: Sequence[str]) -> bool:
    """Whether a connection to each of these is refused at once. What hangs, fails otherwise, or succeeds is not."""
    return all(await asyncio.gather(*(_refuses(address) for address in addresses)))


async def _refuses(address: str) -> bool:
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            places = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            return bool(places) and all([await _refuses_at(*place) for place in places])
    except (OSError, TimeoutError):
        return False


async def _refuses_at(family: int, kind: int, protocol: int, _: str, place: Any) -> bool:
    with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
        probe.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(probe, place)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False
