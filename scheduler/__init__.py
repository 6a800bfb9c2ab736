"""The pure decision core: a frozen snapshot of the cluster in, a plan out; no clock, no files, no global state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shunter.scheduler.decide import Settings, check_plan, plan
    from shunter.scheduler.plans import Plan, Reason, Start
    from shunter.scheduler.policies import ORDERINGS, choose_ordering
    from shunter.scheduler.snapshot import Snapshot
    from shunter.scheduler.state import ClusterState

__all__ = [
    "ORDERINGS",
    "ClusterState",
    "Plan",
    "Reason",
    "Settings",
    "Snapshot",
    "Start",
    "check_plan",
    "choose_ordering",
    "plan",
]

_HOMES = {
    "ORDERINGS": "policies",
    "ClusterState": "state",
    "Plan": "plans",
    "Reason": "plans",
    "Settings": "decide",
    "Snapshot": "snapshot",
    "Start": "plans",
    "check_plan": "decide",
    "choose_ordering": "policies",
    "plan": "decide",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module on first use, so that importing the package stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
