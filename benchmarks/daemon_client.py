"""The other side of the daemon's load benchmarks: a process of its own that calls and prints one JSON line.

``python -m benchmarks.daemon_client ADDRESS KIND SECONDS IN_FLIGHT``
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from shunter.daemon.pb import agent_pb2, agent_pb2_grpc, common_pb2, nodes_pb2, nodes_pb2_grpc
from shunter.daemon.pb import scheduler_pb2 as messages
from shunter.daemon.pb import scheduler_pb2_grpc as services
from shunter.daemon.security.discovery import find_token

BATCH = 100
ECHO = "/benchmark.Echo/Call"
OPTIONS = (("grpc.max_receive_message_length", 1 << 26), ("grpc.max_send_message_length", 1 << 26))


def spec_of(number: int) -> common_pb2.JobSpec:
    """A job with an argument of its own, as a sweep submits them."""
    return common_pb2.JobSpec(
        name="sweep",
        command=["/opt/train/run", "--seed", str(number), "--epochs", "30"],
        tasks=1,
        per_task=common_pb2.Resources(cpus=4, gpus=1),
        time_limit_s=3600,
    )


def single(number: int) -> messages.SubmitRequest:
    """One job."""
    return messages.SubmitRequest(spec=spec_of(number))


def keyed(number: int) -> messages.SubmitRequest:
    """One job under an idempotency key."""
    return messages.SubmitRequest(spec=spec_of(number), idempotency_key=f"{os.getpid()}-{number}")


def batch(number: int) -> messages.SubmitBatchRequest:
    """A hundred jobs."""
    return messages.SubmitBatchRequest(specs=[spec_of(number * BATCH + i) for i in range(BATCH)])


def bearer(address: str) -> tuple[tuple[str, str], ...]:
    """The token that a daemon on this machine offers, as metadata."""
    token = find_token(address)
    return (("authorization", f"Bearer {token}"),) if token else ()


async def calls(address: str, kind: str, seconds: float, in_flight: int) -> dict[str, float]:
    """Call for so long; jobs a second and latencies in ms. Messages are made beforehand."""
    make: Callable[[int], object] = {"single": single, "keyed": keyed, "batch": batch}[kind.removeprefix("echo-")]
    jobs = BATCH if kind.endswith("batch") else 1
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        stub = services.SchedulerStub(channel)
        call: Callable[..., Awaitable[object]] = stub.SubmitBatch if jobs > 1 else stub.Submit
        metadata = bearer(address)
        if kind.startswith("echo-"):
            call = channel.unary_unary(ECHO)
        ready = [make(i) for i in range(2000 if jobs == 1 else 50)]
        waits: list[float] = []
        sent = 0
        until_s = time.monotonic() + seconds

        async def one() -> None:
            nonlocal sent
            while time.monotonic() < until_s:
                request = ready[sent % len(ready)] if kind != "keyed" else keyed(sent)
                sent += 1
                if kind.startswith("echo-"):
                    request = request.SerializeToString()  # type: ignore[attr-defined]
                begun_s = time.perf_counter()
                await call(request, metadata=metadata)
                waits.append(time.perf_counter() - begun_s)

        begun_s = time.monotonic()
        await asyncio.gather(*[one() for _ in range(in_flight)])
        elapsed_s = time.monotonic() - begun_s
    waits.sort()
    return {
        "jobs_per_s": len(waits) * jobs / elapsed_s,
        "p50_ms": 1000 * waits[len(waits) // 2],
        "p99_ms": 1000 * waits[int(len(waits) * 0.99)],
        "calls": len(waits),
        "elapsed_s": elapsed_s,
    }


async def nodes(address: str, seconds: float, count: int) -> dict[str, float]:
    """So many nodes register, send heartbeats and telemetry; figures of the last ``seconds`` after all are there."""
    channels = [grpc.aio.insecure_channel(address, options=(*OPTIONS, ("id", i))) for i in range(max(count // 100, 1))]
    heard = [0, 0]
    over = asyncio.Event()
    ready = asyncio.Semaphore(0)
    who = bearer(address)
    tasks = [asyncio.create_task(_node(channels[i % len(channels)], i, heard, ready, over, who)) for i in range(count)]
    for _ in range(count):
        await ready.acquire()
    await asyncio.sleep(min(6.0, seconds))  # every node has sent its first sample
    print(json.dumps({"ready": True}), flush=True)
    before, begun_s = list(heard), time.monotonic()
    await asyncio.sleep(seconds)
    elapsed_s = time.monotonic() - begun_s
    figures = {"grants_per_s": (heard[0] - before[0]) / elapsed_s, "samples_per_s": (heard[1] - before[1]) / elapsed_s}
    over.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return figures


async def _node(
    channel: grpc.aio.Channel,
    i: int,
    heard: list[int],
    ready: asyncio.Semaphore,
    over: asyncio.Event,
    who: tuple[tuple[str, str], ...],
) -> None:
    gpus = [nodes_pb2.GpuDescription(index=g, uuid=f"GPU-{i}-{g}") for g in range(8)]
    request = nodes_pb2.RegisterRequest(
        node=f"n{i}", description=nodes_pb2.NodeDescription(cpus=64, memory_gib=512, gpus=gpus), state_id=str(i)
    )
    registered = await nodes_pb2_grpc.NodesStub(channel).Register(request, timeout=120, metadata=who)
    ready.release()

    async def say() -> AsyncIterator[agent_pb2.AgentMessage]:
        yield agent_pb2.AgentMessage(hello=agent_pb2.Hello(node=request.node, registration=registered.registration))
        sequence = 0
        await asyncio.sleep(registered.heartbeat_s * (i % 100) / 100)
        while not over.is_set():
            sequence += 1
            yield agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(sequence=sequence))
            await asyncio.sleep(registered.heartbeat_s)

    async def samples() -> AsyncIterator[nodes_pb2.TelemetryBatch]:
        await asyncio.sleep(registered.telemetry_s * (i % 97) / 97)
        is_first = True
        while not over.is_set():
            heard[1] += 1
            changed = range(8) if is_first else range(2)
            gpus = [nodes_pb2.GpuSample(index=g, utilisation=0.5, temperature_c=60 + g, power_w=300) for g in changed]
            sample = nodes_pb2.NodeSample(at_unix_s=time.time(), cpu_utilisation=0.3, gpus=gpus, is_change=not is_first)
            is_first = False
            yield nodes_pb2.TelemetryBatch(node=request.node, registration=registered.registration, samples=[sample])
            await asyncio.sleep(registered.telemetry_s)

    sending = asyncio.ensure_future(nodes_pb2_grpc.NodesStub(channel).Telemetry(samples(), metadata=who))
    try:
        async for _ in agent_pb2_grpc.AgentStub(channel).Session(say(), metadata=who):
            heard[0] += 1
    finally:
        sending.cancel()


def main() -> None:
    """Run what is asked for."""
    address, kind, seconds, in_flight = sys.argv[1:5]
    if kind == "nodes":
        found = asyncio.run(nodes(address, float(seconds), int(in_flight)))
    else:
        found = asyncio.run(calls(address, kind, float(seconds), int(in_flight)))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
