"""What the daemon may refuse or fail at; ``service.status`` maps each to one status code of gRPC."""

from __future__ import annotations

from shunter.scheduler.errors import ShunterError


class DaemonError(ShunterError):
    """Base of the daemon's errors."""


class InvalidError(DaemonError):
    """A request that contradicts itself or names what cannot be: the message says which field and why."""


class NotFoundError(DaemonError):
    """No such job, node or model."""


class ConflictError(DaemonError):
    """The request cannot be carried out in the present state, such as another job under the same idempotency key."""


class LimitError(DaemonError):
    """Too much: a user's limit, a rate, or the size of a message; tried later, or smaller, it may pass."""


class NotLeaderError(DaemonError):
    """Another daemon leads; ``address`` is where, empty when nobody knows.

    Args:
        message: What was refused.
        address: Of the leader.
    """

    def __init__(self, message: str, address: str = "") -> None:
        super().__init__(message)
        self.address = address


class FencedError(DaemonError):
    """A write or an order with a fencing token that is no longer the highest: this daemon leads no more."""


class StoreError(DaemonError):
    """The store cannot be read or written now; nothing that was acknowledged is lost."""


class StoreFullError(StoreError):
    """There is no room for what should be stored."""


class StoreReadOnlyError(StoreError):
    """The store may be read and not written."""


class UnauthenticatedError(DaemonError):
    """No certificate or token, or one that is not valid (any more)."""


class ForbiddenError(DaemonError):
    """The caller's role, or ownership of the job, does not allow it."""
