"""The loop over a run's events that follows free and fragmented GPUs, compiled."""

from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.fragmentation import WHOLE_GPU, Typical, fragmentation
from shunter.scheduler.types import FloatArray, IntArray


class FreeNow:
    """Free and fragmented GPUs of a cluster, followed through events.

    Args:
        typical: The tasks that stand for the workload.
        cpus: (N,) milli-CPU of each node.
        gpus: (N,) GPUs of each node.
    """

    def __init__(self, typical: Typical, cpus: IntArray, gpus: IntArray) -> None:
        widest = max(1, int(gpus.max(initial=1)))
        free_gpu = np.where(np.arange(widest) < gpus[:, None], WHOLE_GPU, 0).astype(np.int64)
        self._followed = (
            cpus.copy(), gpus, free_gpu, gpus * WHOLE_GPU, np.zeros(len(gpus), np.int64), np.zeros_like(free_gpu),
            np.zeros((2, len(gpus))), np.zeros(widest, np.int64),
        )  # fmt: skip
        self._typical = typical
        self._sums = np.zeros(2)
        none = np.zeros(0, np.int64)
        _follow(typical, *self._followed, none, none, none, none, none, self._sums, True, np.zeros((2, 1)))

    def after(
        self, *, node: IntArray, gpu: IntArray, cpu_step: IntArray, gpu_step: IntArray, down_step: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Free GPUs and fragmented GPUs of the cluster before the first event and after each, both (E + 1,).

        Args:
            node: (E,) node of each event.
            gpu: (E,) GPU on it; −1: the whole node, or of an allocation where GPUs are not told apart. The free amount
                of such a node is taken as whole GPUs and at most one part of a GPU.
            cpu_step: (E,) milli-CPU that become free.
            gpu_step: (E,) milli-GPU that become free.
            down_step: (E,) 1 where the node or GPU goes out of service, −1 where it comes back.
        """
        out = np.zeros((2, len(node) + 1))
        _follow(
            self._typical, *self._followed, node, gpu, cpu_step, gpu_step, down_step, self._sums, False, out
        )  # fmt: skip
        return out[0] / WHOLE_GPU, np.maximum(out[1], 0.0) / WHOLE_GPU


@compiled
def _follow(
    typical: Typical,
    free_cpu: IntArray,
    num_gpus: IntArray,
    free_gpu: IntArray,
    free_any: IntArray,
    node_down: IntArray,
    gpu_down: IntArray,
    of_node: FloatArray,
    usable: IntArray,
    node: IntArray,
    gpu: IntArray,
    cpu_step: IntArray,
    gpu_step: IntArray,
    down_step: IntArray,
    sums: FloatArray,
    from_start: bool,
    out: FloatArray,
) -> None:
    """Carry out the events; ``of_node`` (2, N) holds each node's free and fragmented milli-GPU, ``sums`` of all.

    ``out`` (2, E + 1) is the sums before the first event and after each.
    """
    free, lost = sums[0], sums[1]
    out[0, 0], out[1, 0] = free, lost
    for event in range(-len(num_gpus) if from_start else 0, len(node)):
        if event < 0:
            n = event + len(num_gpus)
        else:
            n, g = node[event], gpu[event]
            free_cpu[n] += cpu_step[event]
            if g < 0:
                node_down[n] += down_step[event]
                if gpu_step[event] != 0:
                    free_any[n] += gpu_step[event]
                    for i in range(num_gpus[n]):
                        free_gpu[n, i] = min(WHOLE_GPU, max(0, free_any[n] - i * WHOLE_GPU))
            else:
                free_gpu[n, g] += gpu_step[event]
                gpu_down[n, g] += down_step[event]
        idle = 0
        for i in range(num_gpus[n]):
            usable[i] = 0 if node_down[n] > 0 or gpu_down[n, i] > 0 else max(0, free_gpu[n, i])
            idle += usable[i]
        now = fragmentation(typical, free_cpu[n], usable, num_gpus[n], 0)
        free += idle - of_node[0, n]
        lost += now - of_node[1, n]
        of_node[0, n], of_node[1, n] = idle, now
        out[0, max(event, -1) + 1], out[1, max(event, -1) + 1] = free, lost
    sums[0], sums[1] = free, lost
