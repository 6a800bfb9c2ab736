"""Who calls, and what a caller may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from shunter.daemon.errors import ForbiddenError


class Role(StrEnum):
    """What callers may do; the table is in the operator's guide."""

    VIEWER = "viewer"  # sees jobs and nodes
    SUBMITTER = "submitter"  # also submits, and changes what is its own
    OPERATOR = "operator"  # everything, for anybody
    AGENT = "agent"  # what the agent of one node does, and nothing else


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        user: Name; of an agent its node's, where its certificate or token is for one node.
        role: Role.
    """

    user: str
    role: Role

    def require(self, *roles: Role) -> None:
        """Raise ForbiddenError unless the caller has one of these roles."""
        if self.role not in roles:
            wanted = " or ".join(roles)
            raise ForbiddenError(f"{self.user!r} is {self.role}; this needs {wanted}")

    def require_owner(self, owner: str) -> None:
        """Raise ForbiddenError unless the caller may change what belongs to ``owner``."""
        self.require(Role.SUBMITTER, Role.OPERATOR)
        if self.role is not Role.OPERATOR and self.user != owner:
            raise ForbiddenError(f"{self.user!r} may not change what belongs to another user")


class Access(Protocol):
    """Tells who calls."""

    def caller(self, context: Any) -> Caller:
        """The caller of a call.

        Raises:
            UnauthenticatedError: No valid proof.
        """
        ...


USER_KEY = "shunter-user"
"""Metadata: the user for whom an operator acts."""


class OpenAccess:
    """Believes what callers say: for tests, and for a socket that nobody else can reach.

    Args:
        user: Who calls when nothing is said.
    """

    def __init__(self, user: str) -> None:
        self._caller = Caller(user, Role.OPERATOR)

    def caller(self, context: Any) -> Caller:
        """See ``Access``."""
        for key, value in context.invocation_metadata() or ():
            if key == USER_KEY:
                return Caller(value, Role.OPERATOR)
        return self._caller
