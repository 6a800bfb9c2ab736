"""The caller's side of the protocol: deadlines, retries, and finding the daemon that leads. Synchronous.

A call is tried again, with jitter, while the daemon is UNAVAILABLE and the time for it is not over; what is tried again
must mean the same when it comes twice, which is why every submission carries an idempotency key. Streams end with their
deadline at the latest, and whoever reads one opens the next: a connection that has died unnoticed is noticed then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from shunter.daemon.channel import LEADER_KEY, OPTIONS, credentials_of
from shunter.daemon.errors import (
    ConflictError,
    DaemonError,
    ForbiddenError,
    LimitError,
    NotFoundError,
    UnauthenticatedError,
)
from shunter.daemon.security.discovery import find_token
from shunter.scheduler.errors import UsageError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
STREAM_S = 300.0
"""A stream is opened anew after so long."""


class UnreachableError(DaemonError):
    """No daemon answered within the time."""


ERRORS: dict[grpc.StatusCode, type[Exception]] = {
    grpc.StatusCode.INVALID_ARGUMENT: UsageError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call, and how.

    Attributes:
        addresses: ``HOST:PORT`` of daemons; whichever of them leads is found.
        token: Sent with every call; empty: the one that a daemon of this user on this machine offers, if any.
        ca: Certificates of those who may sign the daemon's; None: no encryption.
        cert: Our own certificate, with its key.
        key: Its private key.
        timeout_s: For a whole call, all tries together.
    """

    addresses: tuple[str, ...]
    token: str = ""
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    timeout_s: float = 10.0


class Client:
    """Calls the daemon. Close it, or use it as a context.

    Args:
        target: Whom to call.
        tell: Told once a call, in one line, when it has to be tried again.

    Raises:
        ConfigError: A certificate or key that cannot be used.
    """

    def __init__(self, target: Target, tell: Callable[[str], None] = lambda _: None) -> None:
        self._target, self._tell = target, tell
        self._credentials = credentials_of(target.ca, target.cert, target.key)
        self._channels: dict[str, grpc.Channel] = {}
        self._address = target.addresses[0]
        self._random = random.Random()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    @property
    def address(self) -> str:
        """Of the daemon that is called next."""
        return self._address

    def call(self, stub: Callable[[grpc.Channel], Any], method: str, request: Any, *, again: bool = True) -> Any:
        """Call a method that answers once.

        Args:
            stub: Of the service.
            method: Name.
            request: Message.
            again: Whether it may be tried again: it means the same when it comes twice.

        Raises:
            UsageError: The daemon found the request wrong.
            DaemonError: It refused or failed, or nobody answered in time.
        """
        tries = _Tries(self, again)
        while True:
            left_s = tries.time_for_one()
            try:
                return getattr(stub(self._channel()), method)(request, timeout=left_s, metadata=self._metadata())
            except grpc.RpcError as error:
                tries.failed(error)

    def stream(
        self, stub: Callable[[grpc.Channel], Any], method: str, request: Any, *, most_s: float = STREAM_S
    ) -> Iterator[Any]:
        """Call a method that answers with a stream; ends with the stream, or quietly after ``most_s``.

        Raises:
            UnreachableError: The connection broke: open another stream from where this one has come to.
            ShunterError: As ``call``.
        """
        stream = getattr(stub(self._channel()), method)(request, timeout=most_s, metadata=self._metadata())
        try:
            yield from stream
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                self._go_on(error)
            raise self.told(error) from None
        finally:
            stream.cancel()

    def pause(self, number: int) -> None:
        """Wait before the next try; longer each time, never quite equally long."""
        most_s = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S)
        time.sleep(most_s * (0.5 + self._random.random() / 2))

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """The token that we were given, or the one that a daemon of this user on this machine offers."""
        token = self._target.token
        if not token and self._target.cert is None:
            token = find_token(self._address)
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _channel(self) -> grpc.Channel:
        channel = self._channels.get(self._address)
        if channel is None:
            if self._credentials is None:
                channel = grpc.insecure_channel(self._address, options=OPTIONS)
            else:
                channel = grpc.secure_channel(self._address, self._credentials, options=OPTIONS)
            self._channels[self._address] = channel
        return channel

    def _go_on(self, error: grpc.RpcError) -> None:
        """Turn to the leader, if the error tells where it is, or else to the next address."""
        addresses = self._target.addresses
        trailing: Any = error.trailing_metadata() or ()
        leader = next((value for key, value in trailing if key == LEADER_KEY), "")
        if leader and leader != self._address:
            self._address = str(leader)
        elif self._address in addresses:
            self._address = addresses[(addresses.index(self._address) + 1) % len(addresses)]
        else:
            self._address = addresses[0]

    def told(self, error: grpc.RpcError) -> Exception:
        """The error of the project that a status means, in one line."""
        code, said = error.code(), " ".join((error.details() or "").split())
        kind = ERRORS.get(code)
        if code == grpc.StatusCode.UNAUTHENTICATED:
            said += "; give a valid token with --token-file or SHUNTER_TOKEN_FILE, or a certificate"
        if kind is not None:
            return kind(said)
        if code == grpc.StatusCode.UNAVAILABLE:
            return UnreachableError(self.unreachable(said))
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnreachableError(f"{self._address}: no answer within the time; a longer --timeout may help")
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return DaemonError(f"{self._address}: this daemon does not know the call; is it of an older version?")
        return DaemonError(f"{self._address}: {code.name.lower().replace('_', ' ')}: {said}")

    def unreachable(self, said: str) -> str:
        """One line on why nobody answers, and what to do."""
        asked = ", ".join(self._target.addresses)
        if "onnection refused" in said:
            return f"{asked}: nobody listens there; start `shunter daemon`, or name its place with --address"
        if "andshake" in said or "ertificate" in said or "SSL" in said:
            return f"{asked}: no secure connection ({said}); check --ca, --cert and --key"
        if "failed to connect" in said or "DNS" in said or not said:
            return f"{asked}: cannot be reached ({said or 'no answer'}); check --address and the network"
        return f"{self._address}: {said}"


class _Tries:
    """The tries of one call."""

    def __init__(self, client: Client, again: bool) -> None:
        self._client, self._again = client, again
        self._until_s = time.monotonic() + client._target.timeout_s
        self._number = 0

    def time_for_one(self) -> float:
        """Of several daemons none may use up the time of all."""
        left_s = max(self._until_s - time.monotonic(), 0.05)
        return left_s if len(self._client._target.addresses) == 1 else min(left_s, 3.0)

    def failed(self, error: grpc.RpcError) -> None:
        """Wait for the next try.

        Raises:
            ShunterError: There is to be none.
        """
        client, code = self._client, error.code()
        passing = code == grpc.StatusCode.UNAVAILABLE or (
            code == grpc.StatusCode.DEADLINE_EXCEEDED and len(client._target.addresses) > 1
        )
        told = client.told(error)
        if not passing or not self._again or time.monotonic() + FIRST_PAUSE_S > self._until_s:
            raise told from None
        client._go_on(error)
        if self._number == 1:
            client._tell(f"{told}; trying for {self._until_s - time.monotonic():.0f} s more")
        client.pause(self._number)
        self._number += 1
