"""The service ``Admin``: what operators do with the daemon itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from shunter.daemon.errors import InvalidError, NotLeaderError
from shunter.daemon.leader import Leader
from shunter.daemon.pb import admin_pb2, admin_pb2_grpc
from shunter.daemon.policies import Choice, Mode
from shunter.daemon.records import recorded
from shunter.daemon.service.access import Access, Role
from shunter.daemon.service.status import streaming, unary

NUMBERS = {
    Mode.HEURISTIC: admin_pb2.POLICY_MODE_HEURISTIC,
    Mode.SHADOW: admin_pb2.POLICY_MODE_SHADOW,
    Mode.ACTIVE: admin_pb2.POLICY_MODE_ACTIVE,
}
MOST_BEFORE = 20
"""Models that can be gone back to."""

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
        rules, choice = leader.conduct.rules, leader.policies.choice
        return admin_pb2.PolicyStatusResponse(
            mode=NUMBERS[choice.mode],
            heuristic=rules.policy,
            model=choice.model,
            model_sha256=choice.sha256,
            previous_model=choice.before[-1] if choice.before else "",
            backfill=rules.backfill,
            placement=rules.placement,
            decisions=leader.counts["decisions"],
            guard=dict(leader.policy_counts.orders),
            is_leader=leader.leads,
            leader_address=leader.failure.address if isinstance(leader.failure, NotLeaderError) else "",
            fencing_token=leader.token,
        )

    @unary
    async def SetMode(self, request: admin_pb2.SetModeRequest, context: Any) -> admin_pb2.SetModeResponse:
        """Another mode; one with a model only when that can be used."""
        self._access.caller(context).require(Role.OPERATOR)
        modes = {number: mode for mode, number in NUMBERS.items()}
        if request.mode not in modes:
            raise InvalidError(f"mode: {request.mode} is none of {', '.join(NUMBERS)}")
        before, mode = self._leader.policies.choice, modes[request.mode]
        sha256 = before.sha256
        if mode is not Mode.HEURISTIC:
            sha256 = await self._leader.policies.checked(before.model)
        await self._choose(replace(before, mode=mode, sha256=sha256), f"mode {before.mode} → {mode}")
        return admin_pb2.SetModeResponse(before=NUMBERS[before.mode])

    @unary
    async def Promote(self, request: admin_pb2.PromoteRequest, context: Any) -> admin_pb2.PromoteResponse:
        """Another model, or the same one read anew; one that cannot be used is refused, and the present one stays."""
        self._access.caller(context).require(Role.OPERATOR)
        if not request.model or len(request.model) > 4096:
            raise InvalidError("model: learned, tuned-linear, model:FOLDER or a name of the registry is needed")
        sha256 = await self._leader.policies.checked(request.model)
        now = self._leader.policies.choice
        before = now.before if request.model == now.model else (*now.before, now.model)[-MOST_BEFORE:]
        chosen = replace(now, model=request.model, sha256=sha256, before=before)
        await self._choose(chosen, f"model {now.model} → {request.model}")
        return admin_pb2.PromoteResponse(before=now.model)

    @unary
    async def Rollback(self, request: admin_pb2.RollbackRequest, context: Any) -> admin_pb2.RollbackResponse:
        """The model before."""
        self._access.caller(context).require(Role.OPERATOR)
        chosen = self._leader.policies.rolled_back()
        chosen = replace(chosen, sha256=await self._leader.policies.checked(chosen.model))
        await self._choose(chosen, f"model back to {chosen.model}")
        return admin_pb2.RollbackResponse(model=chosen.model)

    async def _choose(self, choice: Choice, message: str) -> None:
        await self._leader.perform(self._leader.policies.choose, choice, message)

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
        async for record in recorded(self._leader.planner, request.count):
            yield admin_pb2.ExportSnapshotsResponse(record=record)
