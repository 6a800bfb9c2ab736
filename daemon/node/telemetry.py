"""Samples of this node: taken at a set rate whether or not there is a daemon, kept in a bounded queue, sent in batches.

When the queue is full the oldest sample is dropped and counted, and the next one is told whole, since changes to what
was dropped mean nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import structlog

from shunter.daemon.node.changes import Compressor
from shunter.daemon.node.gpu_watch import GpuWatch
from shunter.daemon.node.nvml import Xid
from shunter.daemon.pb import nodes_pb2

GIB = 2.0**30
MAX_WAITING = 120
MAX_BATCH = 50
RETRY_S = 5.0
_pb: Any = nodes_pb2
log = structlog.get_logger()


class Telemetry:
    """Takes samples and sends them.

    Args:
        node: Its name.
        disk: A folder on the disk whose room is told.
        sample_s: Seconds between samples; changed by the daemon unless it is fixed.
        fixed: The daemon does not change it.
    """

    def __init__(self, node: str, disk: Path, *, sample_s: float, fixed: bool) -> None:
        self._node = node
        self._disk = str(disk)
        self._sample_s = sample_s
        self._fixed = fixed
        self._compressor = Compressor()
        self._waiting: deque[Any] = deque()
        self._something = asyncio.Event()
        self._sooner = asyncio.Event()
        self._network: tuple[float, int, int] | None = None
        self.dropped = 0
        self.gpus = GpuWatch(self._on_xid)
        psutil.cpu_percent(None)  # the first call only sets the mark from which the next one measures

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self._add(self._compressor.compress(await self.sample()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), self._sample_s)
            self._sooner.clear()

    async def sample(self) -> Any:
        """This node as it is now, whole."""
        gpus = await self.gpus.sample()
        sample = _pb.NodeSample(at_unix_s=time.time(), gpus=gpus, nvml=self.gpus.problem)
        sample.cpu_utilisation = psutil.cpu_percent(None) / 100.0
        memory = psutil.virtual_memory()
        sample.memory_used_gib = (memory.total - memory.available) / GIB
        with contextlib.suppress(OSError):
            sample.disk_free_gib = psutil.disk_usage(self._disk).free / GIB
        self._add_network(sample)
        return sample

    async def send(self, nodes: Any, registration: int, telemetry_s: float) -> None:
        """Send what there is, over and over, until cancelled; begins with a whole sample."""
        if not self._fixed and telemetry_s > 0:
            self._sample_s = telemetry_s
        self._compressor.reset()
        self._sooner.set()
        while True:
            try:
                call = nodes.Telemetry()
                while True:
                    await self._some()
                    batch = _pb.TelemetryBatch(node=self._node, registration=registration, samples=self._take())
                    await call.write(batch)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                log.warning("telemetry-refused", why=str(error).splitlines()[0] if str(error) else "")
                self._compressor.reset()
                await asyncio.sleep(RETRY_S)

    async def _some(self) -> None:
        while not self._waiting:
            self._something.clear()
            await self._something.wait()

    def _take(self) -> list[Any]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]

    def _add(self, sample: Any) -> None:
        if len(self._waiting) >= MAX_WAITING:
            dropped = self._waiting.popleft()
            for gpu in dropped.gpus:  # what may tell of a fault is not dropped with it
                if gpu.xids:
                    self._waiting[0].gpus.add(index=gpu.index, xids=gpu.xids)
            self.dropped += 1
            self._compressor.reset()
        self._waiting.append(sample)
        self._something.set()

    def _on_xid(self, xid: Xid) -> None:
        """Told at once, as a change of nothing else."""
        log.error("xid", gpu=xid.gpu, number=xid.number)
        sample = _pb.NodeSample(at_unix_s=time.time(), is_change=True)
        sample.gpus.add(index=xid.gpu, xids=[xid.number])
        self._add(sample)

    def _add_network(self, sample: Any) -> None:
        with contextlib.suppress(OSError, AttributeError):
            counters = psutil.net_io_counters(nowrap=True)
            now = (time.monotonic(), counters.bytes_recv, counters.bytes_sent)
            if self._network is not None and now[0] > self._network[0]:
                span_s = now[0] - self._network[0]
                sample.network_rx_bytes_per_s = max(now[1] - self._network[1], 0) / span_s
                sample.network_tx_bytes_per_s = max(now[2] - self._network[2], 0) / span_s
            self._network = now
