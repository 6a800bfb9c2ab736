"""The service ``Admin``: what operators do with the daemon itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from shunter.daemon.leader import Leader
from shunter.daemon.pb import admin_pb2, admin_pb2_grpc
from shunter.daemon.service.access import Access, Role
from shunter.daemon.service.status import streaming, unary

Reload = Callable[[], tuple[list[str], list[str]]]
"""Reads the configuration again; returns what is different now, and what a restart is needed for."""


class AdminService(admin_pb2_grpc.AdminServicer):
    """See ``admin.proto``.

    Args:
        leader: Holds the state.
        access: Who may call.
        reload: Reads the configuration again.
    """

    def __init__(self, leader: Leader, access: Access, reload: Reload) -> None:
        self._leader, self._access, self._reload = leader, access, reload

    @unary
    async def PolicyStatus(
        self, request: admin_pb2.PolicyStatusRequest, context: Any
    ) -> admin_pb2.PolicyStatusResponse:
        """What decides now."""
        self._access.caller(context).require(Role.VIEWER, Role.SUBMITTER, Role.OPERATOR)
        leader = self._leader
        rules = leader.conduct.rules
        return admin_pb2.PolicyStatusResponse(
            mode=admin_pb2.POLICY_MODE_HEURISTIC,
            heuristic=rules.policy,
            backfill=rules.backfill,
            placement=rules.placement,
            decisions=leader.counts["decisions"],
            is_leader=leader.leads,
            fencing_token=leader.token,
        )

    @unary
    async def Reload(self, request: admin_pb2.ReloadRequest, context: Any) -> admin_pb2.ReloadResponse:
        """Read the configuration again."""
        self._access.caller(context).require(Role.OPERATOR)
        changes, needs_restart = self._reload()
        return admin_pb2.ReloadResponse(changes=changes, needs_restart=needs_restart)

    @streaming
    async def ExportSnapshots(
        self, request: admin_pb2.ExportSnapshotsRequest, context: Any
    ) -> AsyncIterator[admin_pb2.ExportSnapshotsResponse]:
        """The last decisions with what they were made from."""
        self._access.caller(context).require(Role.OPERATOR)
        for record in self._leader.recorded(request.count):
            yield admin_pb2.ExportSnapshotsResponse(record=record)
