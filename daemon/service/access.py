"""Who calls, and what a caller may do."""

from __future__ import annotations

import math
from contextvars import ContextVar
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

    def may_see_all_of(self, owner: str) -> bool:
        """Whether the caller may see what only owners and operators do, such as values of the environment."""
        return self.role is Role.OPERATOR or self.user == owner

    def require_node(self, node: str) -> None:
        """Raise ForbiddenError unless the caller may speak for a node."""
        self.require(Role.AGENT, Role.OPERATOR)
        if self.role is Role.AGENT and self.user not in ("", node):
            raise ForbiddenError(f"this agent may speak for node {self.user!r} only")

    def require_owner(self, owner: str) -> None:
        """Raise ForbiddenError unless the caller may change what belongs to ``owner``."""
        self.require(Role.SUBMITTER, Role.OPERATOR)
        if self.role is not Role.OPERATOR and self.user != owner:
            raise ForbiddenError(f"{self.user!r} may not change what belongs to another user")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and how that is known.

    Attributes:
        caller: Who, as far as the services ask.
        proof: ``token ID``, ``certificate SERIAL``, ``local`` or ``none``: never anything secret.
        by: The operator who acts for ``caller.user``; empty: nobody does.
        ends_s: The proof holds until then, in seconds since the Unix epoch.
        token: Id of the token; empty: it was none of the file.
    """

    caller: Caller
    proof: str = "none"
    by: str = ""
    ends_s: float = math.inf
    token: str = ""


CURRENT: ContextVar[Identity] = ContextVar("shunter-identity")
"""Who makes the call that this task answers; set once by the guard, before anything of the call is looked at."""


class Access(Protocol):
    """Tells who calls."""

    def identify(self, context: Any) -> Identity:
        """Who makes a call.

        Raises:
            UnauthenticatedError: No valid proof.
        """
        ...

    def still_holds(self, identity: Identity) -> bool:
        """Whether the proof of a call that goes on is still good."""
        ...

    def caller(self, context: Any) -> Caller:
        """The caller of a call.

        Raises:
            UnauthenticatedError: No valid proof.
        """
        ...


def current_caller(access: Access, context: Any) -> Caller:
    """Who makes this call, as the guard has found; where no guard stands, as ``access`` finds."""
    identity = CURRENT.get(None)
    return identity.caller if identity is not None else access.identify(context).caller


USER_KEY = "shunter-user"
"""Metadata: the user for whom an operator acts."""


class OpenAccess:
    """Believes what callers say: for tests, and for a socket that nobody else can reach.

    Args:
        user: Who calls when nothing is said.
    """

    def __init__(self, user: str) -> None:
        self._caller = Caller(user, Role.OPERATOR)

    def identify(self, context: Any) -> Identity:
        """See ``Access``."""
        for key, value in context.invocation_metadata() or ():
            if key == USER_KEY:
                return Identity(Caller(value, Role.OPERATOR))
        return Identity(self._caller)

    def still_holds(self, identity: Identity) -> bool:
        """See ``Access``."""
        del identity
        return True

    def caller(self, context: Any) -> Caller:
        """See ``Access``."""
        return current_caller(self, context)
