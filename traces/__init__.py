"""Traces: canonical tables, readers, writers and generators.

The names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shunter.traces.cluster_spec import ClusterSpec, GpuType, NodeGroup, Quota, pool
    from shunter.traces.clusters import load_cluster, save_cluster
    from shunter.traces.demo import demo_trace
    from shunter.traces.generate import fit, generate
    from shunter.traces.info import describe
    from shunter.traces.load_series import LoadSeries
    from shunter.traces.picture import plot
    from shunter.traces.read import read
    from shunter.traces.series_readers import read_series, write_series
    from shunter.traces.tables import JobTable, Trace, make_jobs
    from shunter.traces.write import write

_HOME = {
    "ClusterSpec": "cluster_spec",
    "GpuType": "cluster_spec",
    "JobTable": "tables",
    "LoadSeries": "load_series",
    "NodeGroup": "cluster_spec",
    "Quota": "cluster_spec",
    "Trace": "tables",
    "demo_trace": "demo",
    "describe": "info",
    "fit": "generate",
    "generate": "generate",
    "load_cluster": "clusters",
    "make_jobs": "tables",
    "plot": "picture",
    "pool": "cluster_spec",
    "read": "read",
    "read_series": "series_readers",
    "save_cluster": "clusters",
    "write": "write",
    "write_series": "series_readers",
}

__all__ = [
    "ClusterSpec",
    "GpuType",
    "JobTable",
    "LoadSeries",
    "NodeGroup",
    "Quota",
    "Trace",
    "demo_trace",
    "describe",
    "fit",
    "generate",
    "load_cluster",
    "make_jobs",
    "plot",
    "pool",
    "read",
    "read_series",
    "save_cluster",
    "write",
    "write_series",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that owns it (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps ``traces.read`` the function: importing the submodule ``traces/read.py`` would bind the module there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
