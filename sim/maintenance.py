"""A plan of maintenance: which nodes are taken away when, for how long, how often, and how long before it is known."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from shunter.scheduler.errors import ConfigError, nearest
from shunter.sim.failures import HOUR_S, Outages, PlannedDrain, planned_drains
from shunter.traces.tables import ClusterSpec

if TYPE_CHECKING:
    from shunter.traces.schemas import MaintenanceWindow

MOST_DRAINS = 1_000_000
"""Drains of single nodes that a plan may stand for; more are a repetition in the wrong unit."""


def read_maintenance(path: Path, spec: ClusterSpec, *, until_s: float) -> Outages:
    """The drains that a plan in YAML stands for; windows that repeat do so until ``until_s``.

    Raises:
        ConfigError: The file breaks the schema, names nodes that there are not, or a window is longer than the time
            after which it is repeated; all problems at once with their path.
    """
    from shunter.traces.schemas import MaintenanceFile, load_yaml

    windows = load_yaml(path, MaintenanceFile).windows
    names = spec.node_names()
    problems: list[str] = []
    drains: list[PlannedDrain] = []
    for i, window in enumerate(windows):
        nodes = _nodes_of(window, names, f"windows[{i}].nodes", problems)
        times = _begins_h(window, until_s / HOUR_S)
        if len(nodes) * len(times) > MOST_DRAINS:
            problems.append(f"windows[{i}].every_h: {len(nodes) * len(times):,} drains, more than {MOST_DRAINS:,}")
            continue
        drains += [
            PlannedDrain(node, at_h * HOUR_S, (at_h + window.hours) * HOUR_S, window.notice_h * HOUR_S)
            for at_h in times
            for node in nodes
        ]
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    return planned_drains(drains, spec.num_nodes)


def _nodes_of(window: MaintenanceWindow, names: list[str], where: str, problems: list[str]) -> list[int]:
    """Rows of the nodes whose name matches any of the window's patterns."""
    patterns = [window.nodes] if isinstance(window.nodes, str) else window.nodes
    found: set[int] = set()
    for pattern in patterns:
        hits = [row for row, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not hits:
            near = nearest(pattern, names) if len(names) <= 2000 else ""
            problems.append(f"{where}: the cluster has no node {pattern!r}{near}")
        found |= set(hits)
    return sorted(found)


def _begins_h(window: MaintenanceWindow, until_h: float) -> list[float]:
    """When the window begins, in hours since the trace's start."""
    if window.every_h is None:
        return [window.from_h]
    count = max(1, math.ceil((until_h - window.from_h) / window.every_h))
    count = min(count, window.times or count)
    return [window.from_h + i * window.every_h for i in range(min(count, MOST_DRAINS + 1))]
