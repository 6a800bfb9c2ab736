"""The least that a gRPC server of one process can do: answers every call with nothing. The yardstick of submissions.

``python -m benchmarks.daemon_echo`` prints its address and serves until it is ended.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from benchmarks.daemon_client import ECHO, OPTIONS


async def answer(_request: bytes, _context: Any) -> bytes:
    """Nothing."""
    return b""


class Echo(grpc.GenericRpcHandler):
    """Knows one method."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Its handler."""
        return grpc.unary_unary_rpc_method_handler(answer) if details.method == ECHO else None


async def serve() -> None:
    """Serve on a free port of loopback."""
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
