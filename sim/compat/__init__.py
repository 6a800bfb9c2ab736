"""Protocols of published systems, reproduced exactly and kept apart from the engine.

Published systems disagree about semantics: when a choice is revisited, what an overrun means, how backfilling reserves.
Comparison with them is therefore a feature of its own: each protocol is a small compiled loop with its own loading
rules, and the engine has no branch for any. ``run_protocol`` is the one entry; docs/reference/protocols.md describes
the protocols and how closely they match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from shunter.scheduler.errors import UsageError, nearest
from shunter.sim.compat import fgd, fgd_files, helios, rlscheduler
from shunter.sim.compat.fgd_files import FgdNodes, FgdPods
from shunter.sim.compat.helios import HeliosJobs
from shunter.sim.compat.rlscheduler import RlsTrace
from shunter.traces.tables import ClusterSpec, Trace

if TYPE_CHECKING:
    import polars as pl

Loaded = RlsTrace | HeliosJobs | FgdPods
Source = Path | str | Trace | Loaded
"""A file, a trace, or what ``load_source`` made of one."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the command line needs to know of a protocol.

    Attributes:
        name: Its name.
        description: One line.
        policies: Orderings it has.
        backfills: Kinds of backfilling it has; the first is the default.
    """

    name: str
    description: str
    policies: tuple[str, ...]
    backfills: tuple[str, ...]


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "rlscheduler",
            "RLScheduler's evaluation (SC'20) on an SWF log: binding choices, whole nodes, its own backfilling",
            rlscheduler.POLICIES,
            ("none", "easy-noextra"),
        ),
        Protocol(
            "helios",
            "the Helios and Lucid simulators (SC'21, ASPLOS'23): virtual clusters of 8-GPU nodes, one-second ticks",
            helios.POLICIES,
            ("none",),
        ),
        Protocol(
            "fgd-openb",
            "the inflation runs of FGD (ATC'23): pods arrive until they ask for 130 % of the GPUs, and never leave",
            fgd.POLICIES,
            ("none",),
        ),
    )
}


LOADED_OF: Mapping[str, type[Loaded]] = {"rlscheduler": RlsTrace, "helios": HeliosJobs, "fgd-openb": FgdPods}
"""What ``load_source`` makes of a source."""


class ProtocolRun(TypedDict):
    """One replay under a protocol.

    ``jobs`` has a row a job in the source's order: ``job_id, submit_s, start_s, end_s, wait_s, attempts, state,
    reason, duration_s, requested_s, tasks, cpus, gpus, user, group``, and ``start_order`` (rlscheduler: its place in
    the order of starts) or ``queue_s`` (helios: waiting over all attempts). ``metrics`` uses the project's names where
    the definition is the same, else the protocol's. ``wall_s`` is the replay alone.

    fgd-openb has no times: its ``jobs`` has a row a pod in order of arrival: ``job_id, copy_of, cpus, memory_gib, gpus,
    gpu_type, node`` (null: dropped), ``gpu_index`` (such as ``0-1``), and after the pod, in percent of the cluster's
    GPUs, ``arrived_pct, allocated_pct, fragmented_pct``; ``curves`` has a row a whole percent that arrived:
    ``arrived_pct, allocated_pct, fragmented_pct``.
    """

    protocol: str
    trace: str
    cluster: str
    policy: str
    backfill: str
    window: tuple[int, int] | None
    metrics: dict[str, float]
    jobs: pl.DataFrame
    wall_s: float
    seed: NotRequired[int]
    curves: NotRequired[pl.DataFrame]


def find_protocol(name: str) -> Protocol:
    """The protocol called ``name``; UsageError with the nearest name when there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}{nearest(name, list(PROTOCOLS))}")
    return PROTOCOLS[name]


def load_source(name: str, source: Source) -> Loaded:
    """What protocol ``name`` makes of a file or trace; worth keeping when several policies run on it.

    Raises:
        UsageError: Unknown protocol; ``rlscheduler`` with a trace that is no SWF log, or ``fgd-openb`` with one that is
            no openb list: they have their own rules for raw rows, which a cleaned trace no longer has.
        TraceError: The file cannot be read.
    """
    find_protocol(name)
    if isinstance(source, RlsTrace | HeliosJobs | FgdPods):
        if not isinstance(source, LOADED_OF[name]):
            raise UsageError(f"protocol {name} cannot use what another protocol has loaded")
        return source
    if name == "helios":
        return helios.from_trace(source) if isinstance(source, Trace) else helios.load(source)
    wanted, kind = ("swf", "an SWF file") if name == "rlscheduler" else ("openb", "an openb list")
    if isinstance(source, Trace):
        if source.format != wanted or not source.source:
            raise UsageError(f"protocol {name} needs {kind}; trace {source.name!r} is {source.format!r}")
        source = source.source
    return rlscheduler.load(source) if name == "rlscheduler" else fgd_files.load(source)


def load_nodes(name: str, cluster: str) -> ClusterSpec | FgdNodes:
    """The cluster that protocol ``name`` makes of a size, a YAML file or a node list.

    ``fgd-openb`` keeps the order of a node list, which its ranks of nodes go by; a specification has groups of nodes.

    Raises:
        ConfigError: Not a specification.
        TraceError: A node list with a bad cell.
    """
    from shunter.traces.clusters import load_cluster

    if name == "fgd-openb" and fgd_files.is_node_list(cluster):
        return fgd_files.load_nodes(cluster)
    return load_cluster(cluster)


def run_protocol(
    name: str,
    source: Source,
    *,
    policy: str,
    backfill: str | None = None,
    window: tuple[int, int] | None = None,
    cluster: ClusterSpec | FgdNodes | None = None,
    nodes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> ProtocolRun:
    """Replay a trace under a protocol.

    Args:
        name: One of ``PROTOCOLS``.
        source: A file, a trace, or what ``load_source`` made of one.
        policy: One of the protocol's policies.
        backfill: One of the protocol's kinds of backfilling; None is its default.
        window: First row and number of rows, over the jobs that the protocol keeps; None is the whole trace.
        cluster: helios: node groups named after the virtual clusters. fgd-openb: the nodes.
        nodes: helios: nodes per virtual cluster, in place of ``cluster``.
        seed: fgd-openb: seed of the order of arrival and of the ranks of nodes; the others draw nothing.

    Raises:
        UsageError: Unknown protocol, policy or backfilling; fgd-openb: a window, or no cluster.
        ConfigError: helios: a virtual cluster has no nodes. fgd-openb: the cluster has no GPUs.
        TraceError: The source cannot be read, the window does not lie inside it, or a job can never run. fgd-openb: a
            pod names GPU models of which no node has any.
    """
    from shunter.sim.compat import results

    protocol = find_protocol(name)
    if policy not in protocol.policies:
        raise UsageError(f"protocol {name} has no policy {policy!r}{nearest(policy, list(protocol.policies))}")
    backfill = protocol.backfills[0] if backfill is None else backfill
    if backfill not in protocol.backfills:
        raise UsageError(
            f"protocol {name} has no backfilling {backfill!r}{nearest(backfill, list(protocol.backfills))}"
        )
    loaded = load_source(name, source)
    if isinstance(loaded, RlsTrace):
        return results.run_rlscheduler(loaded, policy, backfill, window)
    if isinstance(loaded, FgdPods):
        if window is not None:
            raise UsageError("protocol fgd-openb shuffles the whole list: it has no windows")
        if cluster is None:
            raise UsageError("protocol fgd-openb needs the nodes: give openb_node_list_gpu_node.csv as the cluster")
        return results.run_fgd(loaded, policy, cluster, seed)
    if isinstance(cluster, FgdNodes):
        raise UsageError(f"protocol {name} cannot use what another protocol has loaded")
    return results.run_helios(loaded, policy, window, cluster=cluster, nodes=nodes)
