"""Stands before every method of every service: who calls, how often, how much, and what became of it.

A call is refused before its message is parsed. ``Guarded`` takes the place of the server where services are added, so
nothing can be served that does not stand in the table of ``policy``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import grpc
import grpc.aio

from shunter.daemon.errors import InvalidError, LimitError, UnauthenticatedError
from shunter.daemon.security.audit import AuditLog, told_of
from shunter.daemon.security.policy import POLICY, Rule
from shunter.daemon.security.rates import RateRules, Rates
from shunter.daemon.service.access import CURRENT, Access, Caller, Identity, Role
from shunter.daemon.service.status import refuse

NOBODY = Identity(Caller("", Role.VIEWER))
"""Who calls a method that asks for no proof."""
REFUSALS = frozenset((grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED))
CODES = {code.value[0]: code for code in grpc.StatusCode}
PASSED_ON = grpc.aio.BaseError
"""Aborts, and what gRPC raises when the caller has hung up."""


class Meter(Protocol):
    """Counts calls."""

    def called(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call has ended."""
        ...


class Guard:
    """Decides about calls.

    Args:
        access: Who calls.
        rates: How often; None: as ``RateRules`` has it.
        audit: Told of changes and refusals; None: nobody is.
        meter: Told of all calls; None: nobody is.
        policy: Who may call what.
    """

    def __init__(
        self,
        access: Access,
        *,
        rates: Rates | None = None,
        audit: AuditLog | None = None,
        meter: Meter | None = None,
        policy: Mapping[str, Rule] = POLICY,
    ) -> None:
        self._access, self._rates = access, rates or Rates(RateRules())
        self.audit, self.meter, self.policy = audit, meter, policy

    def admit(self, rule: Rule, call: _Call) -> None:
        """Let a call pass, or raise why not."""
        self._rates.take_any()
        if rule.roles is None:
            CURRENT.set(NOBODY)
            return
        identity = call.identity = self._access.identify(call.context)
        if identity.caller.role not in rule.roles:
            identity.caller.require(*sorted(rule.roles))
        if identity.caller.role is not Role.AGENT:  # thousands of them come back at once after a restart
            self._rates.take(identity.by or identity.caller.user)
        CURRENT.set(identity)

    def check_again(self, identity: Identity | None) -> None:
        """A stream goes on; its caller's proof has to hold still."""
        if identity is not None and not self._access.still_holds(identity):
            raise UnauthenticatedError("the token has been revoked, or the token or certificate has expired")

    @contextlib.contextmanager
    def counted_stream(self, identity: Identity | None) -> Any:
        """A stream of a user is open; agents and operators may have as many as they need."""
        if identity is None or identity.caller.role not in (Role.VIEWER, Role.SUBMITTER):
            yield
            return
        self._rates.open_stream(identity.caller.user)
        try:
            yield
        finally:
            self._rates.close_stream(identity.caller.user)

    def ended(self, call: _Call, code: grpc.StatusCode) -> None:
        """Tell of a call that has ended."""
        if self.meter is not None:
            self.meter.called(call.method, code, time.perf_counter() - call.begun_s)
        if self.audit is not None and (call.rule.changes or code in REFUSALS):
            what = told_of(call.request) | told_of(call.reply)
            self.audit.tell(call.method, call.identity, call.peer, code, what)

    def guarded(self, method: str, handler: Any) -> Any:
        """A handler with the guard before it.

        Raises:
            KeyError: The method does not stand in the table.
        """
        rule = self.policy[method]
        wrap = _WRAPPERS[handler.request_streaming, handler.response_streaming]
        parse = handler.request_deserializer
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrapped, make = wrap(self, method, rule, parse, behaviour)
        return make(wrapped, request_deserializer=None, response_serializer=handler.response_serializer)


class _Call:
    """One call, as far as it is known."""

    __slots__ = ("begun_s", "context", "identity", "method", "peer", "reply", "request", "rule")

    def __init__(self, method: str, rule: Rule, context: Any) -> None:
        self.begun_s = time.perf_counter()
        self.method, self.rule, self.context = method, rule, context
        # Now: gRPC reads freed memory when it is asked for the peer of a call that the caller has cancelled.
        self.peer: str = context.peer()
        self.identity: Identity | None = None
        self.request: Any = None
        self.reply: Any = None

    def parsed(self, parse: Callable[[bytes], Any], raw: bytes) -> Any:
        """A message, once it is known to be of an allowed size."""
        if len(raw) > self.rule.max_bytes:
            raise LimitError(f"the message has {len(raw)} bytes; at most {self.rule.max_bytes} are allowed here")
        try:
            return parse(raw)
        except Exception:  # whatever the parser raises means one thing
            raise InvalidError("the message is none of this method's") from None

    def code(self) -> grpc.StatusCode:
        """With which a handler that has returned, or aborted, ended the call."""
        code = self.context.code()
        if isinstance(code, grpc.StatusCode):
            return code
        return CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


@contextlib.asynccontextmanager
async def _watched(guard: Guard, call: _Call) -> AsyncIterator[None]:
    """Turn errors of the guard into status codes, and tell how the call ended."""
    code = grpc.StatusCode.OK
    try:
        yield
        code = call.code()
    except PASSED_ON:
        code = call.code()
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        try:
            await refuse(call.context, error)
        finally:
            code = call.code()
    finally:
        guard.ended(call, code)


def _unary_unary(guard: Guard, method: str, rule: Rule, parse: Any, behaviour: Any) -> tuple[Any, Any]:
    async def answer(raw: bytes, context: Any) -> Any:
        # As _watched, written out: this is the path of every submission.
        call, code = _Call(method, rule, context), grpc.StatusCode.OK
        try:
            guard.admit(rule, call)
            call.request = call.parsed(parse, raw)
            call.reply = await behaviour(call.request, context)
            return call.reply
        except PASSED_ON:
            code = call.code()
            raise
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            try:
                await refuse(context, error)
            finally:
                code = call.code()
        finally:
            guard.ended(call, code)

    return answer, grpc.unary_unary_rpc_method_handler


def _unary_stream(guard: Guard, method: str, rule: Rule, parse: Any, behaviour: Any) -> tuple[Any, Any]:
    if not inspect.isasyncgenfunction(behaviour):
        return _unary_writing(guard, method, rule, parse, behaviour)

    async def answer(raw: bytes, context: Any) -> AsyncIterator[Any]:
        call = _Call(method, rule, context)
        async with _watched(guard, call):
            guard.admit(rule, call)
            call.request = call.parsed(parse, raw)
            with guard.counted_stream(call.identity):
                async with contextlib.aclosing(behaviour(call.request, context)) as replies:
                    async for reply in replies:
                        guard.check_again(call.identity)
                        yield reply

    return answer, grpc.unary_stream_rpc_method_handler


def _unary_writing(guard: Guard, method: str, rule: Rule, parse: Any, behaviour: Any) -> tuple[Any, Any]:
    """Of a handler that writes to the context instead of yielding."""

    async def answer(raw: bytes, context: Any) -> None:
        call = _Call(method, rule, context)
        async with _watched(guard, call):
            guard.admit(rule, call)
            call.request = call.parsed(parse, raw)
            with guard.counted_stream(call.identity):
                await behaviour(call.request, context)

    return answer, grpc.unary_stream_rpc_method_handler


async def _messages(guard: Guard, call: _Call, parse: Any, raws: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for raw in raws:
        guard.check_again(call.identity)
        yield call.parsed(parse, raw)


def _stream_unary(guard: Guard, method: str, rule: Rule, parse: Any, behaviour: Any) -> tuple[Any, Any]:
    async def answer(raws: AsyncIterator[bytes], context: Any) -> Any:
        call = _Call(method, rule, context)
        async with _watched(guard, call):
            guard.admit(rule, call)
            with guard.counted_stream(call.identity):
                async with contextlib.aclosing(_messages(guard, call, parse, raws)) as messages:  # type: ignore[type-var]
                    call.reply = await behaviour(messages, context)
                    return call.reply

    return answer, grpc.stream_unary_rpc_method_handler


def _stream_stream(guard: Guard, method: str, rule: Rule, parse: Any, behaviour: Any) -> tuple[Any, Any]:
    async def answer(raws: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        call = _Call(method, rule, context)
        async with _watched(guard, call):
            guard.admit(rule, call)
            with guard.counted_stream(call.identity):
                messages = _messages(guard, call, parse, raws)
                async with contextlib.aclosing(behaviour(messages, context)) as replies:
                    async for reply in replies:
                        guard.check_again(call.identity)
                        yield reply

    return answer, grpc.stream_stream_rpc_method_handler


_WRAPPERS: Mapping[tuple[bool, bool], Callable[..., tuple[Any, Any]]] = {
    (False, False): _unary_unary,
    (False, True): _unary_stream,
    (True, False): _stream_unary,
    (True, True): _stream_stream,
}


class Guarded:
    """Takes the place of a server where generated code adds services to one.

    Args:
        server: Serves.
        guard: Stands before it.
    """

    def __init__(self, server: grpc.aio.Server, guard: Guard) -> None:
        self._server, self._guard = server, guard
        self.methods: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Left out: generated code adds each method a second time below, where its name is known."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add a service."""
        guarded = {}
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            guarded[name] = self._guard.guarded(method, handler)
            self.methods.append(method)
        self._server.add_registered_method_handlers(service, guarded)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, guarded),))
