"""A server on loopback with a store in memory, for tests of who may do what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from shunter.daemon.clock import SystemClock
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.pb import admin_pb2_grpc, agent_pb2_grpc, common_pb2, nodes_pb2_grpc, scheduler_pb2_grpc
from shunter.daemon.planner import ThreadPlanner
from shunter.daemon.security.access import SecureAccess
from shunter.daemon.security.guard import Guard
from shunter.daemon.security.tokens import TokenFile
from shunter.daemon.service.access import Role
from shunter.daemon.service.server import Server
from tests.daemon.memory_store import MemoryStore

LOCAL = "shn_local-token-of-the-test"


class Live:
    """What a test needs of a running server."""

    def __init__(self, server: Server, tokens: TokenFile, address: str, store: Any, access: SecureAccess) -> None:
        self.access = access
        self.server, self.tokens, self.address, self.store = server, tokens, address, store
        self.leader = server.leader
        self.channel = grpc.aio.insecure_channel(address)
        self.jobs: Any = scheduler_pb2_grpc.SchedulerStub(self.channel)
        self.nodes: Any = nodes_pb2_grpc.NodesStub(self.channel)
        self.admin: Any = admin_pb2_grpc.AdminStub(self.channel)
        self.agent: Any = agent_pb2_grpc.AgentStub(self.channel)

    def token(self, role: Role, name: str = "", lasts_s: float | None = None) -> tuple[tuple[str, str], ...]:
        """Metadata of a new caller; of an agent `name` is the node."""
        user, node = ("", name) if role is Role.AGENT else (name or str(role), "")
        secret, _ = self.tokens.create(user, role, node=node, lasts_s=lasts_s)
        self.tokens._looked_s = float("-inf")
        return as_metadata(secret)


def as_metadata(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


def sleeping(name: str = "job") -> common_pb2.JobSpec:
    return common_pb2.JobSpec(name=name, command=["sleep", "1"], environment={"SECRET": "very-secret-value"})


@asynccontextmanager
async def serving(folder: Path, *, store: Any = None, credentials: Any = None, **of_guard: Any) -> AsyncIterator[Live]:
    tokens = TokenFile(folder / "tokens.json")
    access = SecureAccess(tokens, local=LOCAL, local_user="root-of-test")
    store = store or MemoryStore()
    leader = Leader(store, SystemClock(), ThreadPlanner(), Conduct())
    leader.lead(store, 1)
    server = Server(leader, access, guard=Guard(access, **of_guard))
    port = await server.start("127.0.0.1:0", credentials)
    live = Live(server, tokens, f"127.0.0.1:{port}", store, access)
    try:
        yield live
    finally:
        await live.channel.close()
        await server.stop(0.1)
        await leader.step_down()


async def code_of(call: Any) -> grpc.StatusCode:
    """With which a call ends; of a stream after its first message."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                call.cancel()
                return grpc.StatusCode.OK
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
