"""Clusters of published studies, ready for ``--cluster NAME``; each file says where every figure comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

READY: Final = {
    "openb": "Alibaba 2023: 1,213 nodes, 6,212 GPUs of seven models, made for sharing GPUs",
    "philly": "Microsoft 2017: 552 servers with 2 or 8 GPUs, 2,490 GPUs in racks",
    "helios-venus": "SenseTime 2020: 135 nodes of 8 V100 in 15 virtual clusters",
    "sia-64": "Sia (SOSP 2023): 24 T4, 24 RTX 2080 Ti and 16 A100 on 11 nodes",
    "sdsc-sp2": "San Diego 1998: 128 processors as one pool",
}
"""Names with a line for people."""


def ready_path(name: str) -> Path:
    """The YAML file of a ready cluster."""
    return Path(__file__).parent / f"{name}.yaml"
