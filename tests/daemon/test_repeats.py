"""A submission whose caller hangs up before the disk has answered, and calls again under the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest

from shunter.daemon.clock import SystemClock
from shunter.daemon.errors import DaemonError
from shunter.daemon.leader import Conduct, Leader
from shunter.daemon.pb import common_pb2, scheduler_pb2, scheduler_pb2_grpc
from shunter.daemon.planner import ThreadPlanner
from shunter.daemon.service.access import OpenAccess
from shunter.daemon.service.server import Server
from shunter.daemon.store.rows import Change
from tests.daemon.memory_store import MemoryStore


class SlowStore(MemoryStore):
    """Stores nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = True
        self.waiting: list[tuple[Change, Callable[[DaemonError | None], None]]] = []

    def put(self, change: Change, done: Callable[[DaemonError | None], None]) -> None:
        if self.is_slow:
            self.waiting.append((change, done))
        else:
            super().put(change, done)

    def go_on(self) -> None:
        self.is_slow = False
        for change, done in self.waiting:
            super().put(change, done)


def test_a_key_is_taken_until_the_disk_has_answered() -> None:
    async def story() -> tuple[int, int, bool]:
        store = SlowStore()
        leader = Leader(store, SystemClock(), ThreadPlanner(), Conduct())
        leader.lead(store, 1)
        server = Server(leader, OpenAccess("ann"))
        port = await server.start("127.0.0.1:0")
        request = scheduler_pb2.SubmitRequest(spec=common_pb2.JobSpec(command=["true"]), idempotency_key="once")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = scheduler_pb2_grpc.SchedulerStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Submit(request, timeout=0.3)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert len(store.waiting) == 1
            again = asyncio.ensure_future(stub.Submit(request, timeout=10))
            await asyncio.wait([again], timeout=0.3)
            assert not again.done()
            store.go_on()
            answer = await again
        await server.stop()
        await leader.step_down()
        return answer.job, len(store.made), answer.repeated_call

    assert asyncio.run(story()) == (1, 1, True)
