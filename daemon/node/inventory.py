"""What this node has to offer, as it was found or as the settings say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import psutil

from shunter import __version__
from shunter.daemon.node.settings import NodeSettings
from shunter.daemon.node.shim.lease import boot_id
from shunter.daemon.pb import nodes_pb2

GIB = 2.0**30
ABSENT = ("no-library", "no-driver")
_pb: Any = nodes_pb2


def describe_node(settings: NodeSettings, gpus: Sequence[Any], *, driver: str, nvml: str) -> Any:
    """The description that goes into a registration.

    Args:
        settings: Of the agent; what they name goes over what was found.
        gpus: As NVML describes them.
        driver: Its version.
        nvml: Why there is nothing to say of GPUs; empty: there is.
    """
    wanted = len(gpus) if settings.gpus is None else settings.gpus
    offered = [gpu for gpu in gpus if gpu.index < wanted]
    if nvml in ABSENT:  # an operator may know better; a GPU that is there and does not answer is not offered
        offered = [_pb.GpuDescription(index=index) for index in range(wanted)]
    return _pb.NodeDescription(
        cpus=settings.cpus if settings.cpus is not None else float(len(os.sched_getaffinity(0))),
        memory_gib=settings.memory_gib if settings.memory_gib is not None else psutil.virtual_memory().total / GIB,
        gpus=sorted(offered, key=lambda gpu: int(gpu.index)),
        gpu_type=settings.gpu_type if settings.gpu_type is not None else next((gpu.name for gpu in gpus), ""),
        rack=settings.rack,
        zone=settings.zone,
        agent_version=__version__,
        driver_version=driver,
        boot_id=boot_id(),
    )


def cuda_names(gpus: Sequence[Any]) -> dict[tuple[int, int | None], str]:
    """What CUDA calls each GPU, and each MIG instance by the memory slice at which it begins."""
    names: dict[tuple[int, int | None], str] = {(gpu.index, None): gpu.uuid for gpu in gpus if gpu.uuid}
    for gpu in gpus:
        names |= {(gpu.index, instance.first_slice): instance.uuid for instance in gpu.instances}
    return names
