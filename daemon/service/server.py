"""The gRPC server around a leader: services, health, reflection."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from shunter.daemon.leader import Leader
from shunter.daemon.pb import (
    admin_pb2,
    admin_pb2_grpc,
    agent_pb2,
    agent_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from shunter.daemon.security.guard import Guard, Guarded
from shunter.daemon.service.access import Access
from shunter.daemon.service.admin import AdminService, Reload
from shunter.daemon.service.agents import AgentService
from shunter.daemon.service.explaining import Explainer
from shunter.daemon.service.logs import LogReaders
from shunter.daemon.service.nodes import NodesService
from shunter.daemon.service.scheduler import Limits, SchedulerService
from shunter.daemon.service.sessions import Sessions
from shunter.daemon.service.watching import Hub
from shunter.daemon.telemetry import Telemetry

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second daemon on the same address is an error, not a share of the calls
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class Server:
    """All services of one daemon.

    Args:
        leader: Has been started.
        access: Who may call.
        guard: Stands before all methods; None: one that asks ``access`` and tells nobody.
        limits: Of users.
        telemetry_s: How often agents are to send samples.
        reload: Reads the configuration again.
    """

    def __init__(
        self,
        leader: Leader,
        access: Access,
        *,
        guard: Guard | None = None,
        limits: Limits | None = None,
        telemetry_s: float = 5.0,
        reload: Reload = lambda: ([], []),
    ) -> None:
        self.leader = leader
        self.sessions, self.hub, self.telemetry = Sessions(leader), Hub(leader), Telemetry()
        self.explainer = Explainer(leader)
        logs = LogReaders()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=OPTIONS)
        self.guarded = add = Guarded(self._server, guard or Guard(access))
        scheduler = SchedulerService(leader, access, self.hub, self.sessions, logs, self.explainer, limits)
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(scheduler, add)
        nodes = NodesService(leader, access, self.sessions, self.telemetry, telemetry_s)
        nodes_pb2_grpc.add_NodesServicer_to_server(nodes, add)
        agent_pb2_grpc.add_AgentServicer_to_server(AgentService(self.sessions, access, logs), add)
        admin_pb2_grpc.add_AdminServicer_to_server(AdminService(leader, access, reload), add)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, add)
        modules = (admin_pb2, agent_pb2, nodes_pb2, scheduler_pb2)
        names = [service.full_name for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
        self._names = (*names, health.SERVICE_NAME, "")
        told = reflection.aio.ReflectionServicer((*names, health.SERVICE_NAME, reflection.SERVICE_NAME))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(told, add)

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen; returns the port.

        Raises:
            RuntimeError: The address cannot be listened on.
        """
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        await self._server.start()
        for name in self._names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace_s: float = 2.0) -> None:
        """Take no more calls, end the streams, and wait for what is under way."""
        await self._health.enter_graceful_shutdown()
        self.sessions.end_all()
        await self._server.stop(grace_s)
