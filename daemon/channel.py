"""Channels to the daemon, as the agent of a node and the operator's command line open them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from shunter.scheduler.errors import ConfigError

MAX_MESSAGE_BYTES = 32 * 2**20
LEADER_KEY = "shunter-leader"
"""Trailing metadata of an answer UNAVAILABLE by a daemon that does not lead: where the leader is."""
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Two channels to one address must not share a connection that one of them has found to be dead.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(
    address: str,
    *,
    token: str = "",
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> grpc.aio.Channel:
    """A channel; it connects with the first call.

    Args:
        address: ``HOST:PORT``.
        token: Sent with every call as ``authorization: Bearer TOKEN``; empty: none.
        ca: Certificates (PEM) of those who may sign the daemon's; None: no encryption.
        cert: Our own certificate, for daemons that ask for one; needs ``key`` and ``ca``.
        key: Its private key.

    Raises:
        ConfigError: A file that cannot be read, or a certificate without what it needs.
    """
    interceptors: list[Any] = [_bearer(token, kind) for kind in _KINDS] if token else []
    options = list(OPTIONS)
    credentials = credentials_of(ca, cert, key)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(address, credentials, options=options, interceptors=interceptors)


def credentials_of(ca: Path | None, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials | None:
    """What a connection is encrypted with; None: it is not.

    Raises:
        ConfigError: As ``open_channel``.
    """
    if ca is None:
        if cert is not None or key is not None:
            raise ConfigError("cert, key: a certificate of our own needs the daemon's ca")
        return None
    if (cert is None) != (key is None):
        raise ConfigError("cert, key: one is of no use without the other")
    return grpc.ssl_channel_credentials(
        root_certificates=_read(ca),
        private_key=None if key is None else _read(key),
        certificate_chain=None if cert is None else _read(cert),
    )


def leader_in(error: grpc.aio.AioRpcError) -> str:
    """Where the leader is, as a daemon that does not lead has told; empty when it has not."""
    if error.code() != grpc.StatusCode.UNAVAILABLE:
        return ""
    for name, value in error.trailing_metadata() or ():
        if name == LEADER_KEY:
            return value if isinstance(value, str) else bytes(value).decode("ascii", "replace")
    return ""


def read_token(path: Path | None) -> str:
    """The token in a file, without the line's end.

    Raises:
        ConfigError: The file cannot be read, or holds nothing or more than one word.
    """
    if path is None:
        return ""
    words = _read(path).split()
    if len(words) != 1:
        raise ConfigError(f"{path}: expected one token, found {len(words)} words")
    return words[0].decode("ascii", "replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


_KINDS: tuple[type, ...] = (
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
)


def _bearer(token: str, kind: type) -> Any:
    """An interceptor of one kind of call that adds the token; gRPC wants a class for each kind."""

    async def intercept(_: Any, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {token}")
        return await continuation(details._replace(metadata=metadata), request)

    method = {
        "UnaryUnaryClientInterceptor": "intercept_unary_unary",
        "UnaryStreamClientInterceptor": "intercept_unary_stream",
        "StreamUnaryClientInterceptor": "intercept_stream_unary",
        "StreamStreamClientInterceptor": "intercept_stream_stream",
    }[kind.__name__]
    return type("Bearer", (kind,), {method: intercept})()
