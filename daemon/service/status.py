"""Errors of the daemon and the status codes of gRPC that tell of them: the one table."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import structlog

from shunter.daemon import errors
from shunter.scheduler.errors import ShunterError

log = structlog.get_logger("shunter.daemon.service")
Reply = TypeVar("Reply")

CODES: tuple[tuple[type[ShunterError], grpc.StatusCode], ...] = (
    (errors.InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.NotLeaderError, grpc.StatusCode.UNAVAILABLE),
    (errors.FencedError, grpc.StatusCode.ABORTED),
    (errors.StoreFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.StoreError, grpc.StatusCode.UNAVAILABLE),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (ShunterError, grpc.StatusCode.INVALID_ARGUMENT),
)
"""The first row that fits; anything else is INTERNAL: a bug, logged with its trace and told without."""

LEADER_KEY = "shunter-leader"
"""Trailing metadata: address of the daemon that leads."""


def code_of(error: ShunterError) -> grpc.StatusCode:
    """Status code of an error."""
    return next(code for kind, code in CODES if isinstance(error, kind))


async def refuse(context: Any, error: BaseException) -> None:
    """End a call with the status that an error means; always raises."""
    if isinstance(error, ShunterError):
        if isinstance(error, errors.NotLeaderError) and error.address:
            context.set_trailing_metadata(((LEADER_KEY, error.address),))
        await context.abort(code_of(error), str(error))
    if isinstance(error, NotImplementedError):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this daemon does not have this method yet")
    log.exception("call-failed", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "an error of the daemon; its log has the details")


def unary(method: Callable[[Any, Any, Any], Awaitable[Reply]]) -> Callable[[Any, Any, Any], Awaitable[Reply]]:
    """A method of a service that answers once, with errors told as status codes."""

    @functools.wraps(method)
    async def answering(self: Any, request: Any, context: Any) -> Reply:
        try:
            return await method(self, request, context)
        except grpc.aio.BaseError:  # an abort, or the caller has hung up
            raise
        except Exception as error:
            await refuse(context, error)
            raise AssertionError("unreachable") from error

    return answering


def streaming(
    method: Callable[[Any, Any, Any], AsyncIterator[Reply]],
) -> Callable[[Any, Any, Any], AsyncIterator[Reply]]:
    """The same for a method that answers with a stream."""

    @functools.wraps(method)
    async def answering(self: Any, request: Any, context: Any) -> AsyncIterator[Reply]:
        try:
            async for reply in method(self, request, context):
                yield reply
        except grpc.aio.BaseError:  # an abort, or the caller has hung up
            raise
        except Exception as error:
            await refuse(context, error)

    return answering
