"""Time: the SimPy engine that replays traces through the decision core, its results and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shunter.sim.engine import Options, Simulation
    from shunter.sim.replay import simulate
    from shunter.sim.result import Result
    from shunter.sim.workload import Workload, prepare

__all__ = ["Options", "Result", "Simulation", "Workload", "prepare", "simulate"]

_HOMES = {
    "Options": "engine",
    "Simulation": "engine",
    "simulate": "replay",
    "Result": "result",
    "Workload": "workload",
    "prepare": "workload",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use, so that importing the package stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
