"""The last sample of every node, put together from changes."""

from __future__ import annotations

from shunter.daemon.pb.nodes_pb2 import GpuSample, NodeSample


class Telemetry:
    """Keeps whole samples; what agents send may leave out what has not changed."""

    def __init__(self) -> None:
        self._last: dict[str, NodeSample] = {}
        self.num_samples = 0

    def take(self, node: str, sample: NodeSample) -> NodeSample:
        """Take in a sample; returns the whole of it."""
        self.num_samples += 1
        before = self._last.get(node)
        if not sample.is_change or before is None:
            self._last[node] = sample
            return sample
        gpus = {gpu.index: gpu for gpu in before.gpus}
        whole = NodeSample()
        whole.CopyFrom(before)
        del whole.gpus[:]
        rest = NodeSample()
        rest.CopyFrom(sample)
        del rest.gpus[:]
        whole.MergeFrom(rest)
        for gpu in sample.gpus:
            merged = GpuSample()
            if gpu.index in gpus:
                merged.CopyFrom(gpus[gpu.index])
                for once in ("xids", "processes", "instances", "fault"):
                    merged.ClearField(once)
            merged.MergeFrom(gpu)
            gpus[gpu.index] = merged
        whole.gpus.extend(gpus[index] for index in sorted(gpus))
        whole.is_change = False
        self._last[node] = whole
        return whole

    def last(self, node: str) -> NodeSample | None:
        """The last sample; None: none has come yet."""
        return self._last.get(node)
