"""The one table of who may call what. A method that does not stand in it cannot be served at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shunter.daemon.service.access import Role

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for one method.

    Attributes:
        roles: Who may call it; None: anybody, also without any proof of who calls.
        changes: Whether the audit log tells of every call; of refused calls it tells anyway.
        max_bytes: Of one message from the caller, before it is parsed.
    """

    roles: frozenset[Role] | None
    changes: bool
    max_bytes: int


READERS = frozenset((Role.VIEWER, Role.SUBMITTER, Role.OPERATOR))
OWNERS = frozenset((Role.SUBMITTER, Role.OPERATOR))
"""Of a job: a submitter for the own ones, which the service checks."""
OPERATORS = frozenset((Role.OPERATOR,))
AGENTS = frozenset((Role.AGENT, Role.OPERATOR))
"""Of a node: an agent for its own one, which the service checks."""

POLICY: Mapping[str, Rule] = {
    "/shunter.v1.Scheduler/Submit": Rule(OWNERS, True, 256 * KIB),
    "/shunter.v1.Scheduler/SubmitBatch": Rule(OWNERS, True, 32 * MIB),
    "/shunter.v1.Scheduler/Cancel": Rule(OWNERS, True, 256 * KIB),
    "/shunter.v1.Scheduler/Reprioritise": Rule(OWNERS, True, 256 * KIB),
    "/shunter.v1.Scheduler/GetJob": Rule(READERS, False, 4 * KIB),
    "/shunter.v1.Scheduler/ListJobs": Rule(READERS, False, 64 * KIB),
    "/shunter.v1.Scheduler/Watch": Rule(READERS, False, 256 * KIB),
    "/shunter.v1.Scheduler/Explain": Rule(READERS, False, 4 * KIB),
    "/shunter.v1.Scheduler/EstimateStart": Rule(READERS, False, 4 * KIB),
    "/shunter.v1.Scheduler/ReadLogs": Rule(OWNERS, False, 4 * KIB),
    "/shunter.v1.Nodes/Register": Rule(AGENTS, True, 4 * MIB),
    "/shunter.v1.Nodes/Telemetry": Rule(AGENTS, False, 4 * MIB),
    "/shunter.v1.Nodes/ListNodes": Rule(READERS, False, 64 * KIB),
    "/shunter.v1.Nodes/GetNode": Rule(READERS, False, 4 * KIB),
    "/shunter.v1.Nodes/Drain": Rule(OPERATORS, True, 64 * KIB),
    "/shunter.v1.Nodes/Resume": Rule(OPERATORS, True, 64 * KIB),
    "/shunter.v1.Agent/Session": Rule(AGENTS, True, 4 * MIB),
    "/shunter.v1.Admin/PolicyStatus": Rule(READERS, False, 4 * KIB),
    "/shunter.v1.Admin/SetMode": Rule(OPERATORS, True, 4 * KIB),
    "/shunter.v1.Admin/Promote": Rule(OPERATORS, True, 64 * KIB),
    "/shunter.v1.Admin/Rollback": Rule(OPERATORS, True, 4 * KIB),
    "/shunter.v1.Admin/ExportSnapshots": Rule(OPERATORS, False, 4 * KIB),
    "/shunter.v1.Admin/Reload": Rule(OPERATORS, True, 4 * KIB),
    "/grpc.health.v1.Health/Check": Rule(None, False, 4 * KIB),
    "/grpc.health.v1.Health/List": Rule(READERS | AGENTS, False, 4 * KIB),
    "/grpc.health.v1.Health/Watch": Rule(READERS | AGENTS, False, 4 * KIB),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(READERS, False, 64 * KIB),
}
