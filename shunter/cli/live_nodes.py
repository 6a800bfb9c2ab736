"""``shunter nodes``, ``drain`` and ``resume``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.live import AsJson, Connection, live

if TYPE_CHECKING:
    from shunter.cli.live_text import Cell
    from shunter.daemon.client import Client

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Its name.")]
HEALTHS = ("unknown", "healthy", "suspect", "draining", "failed", "recovering")
COLOUR_OF = {"healthy": "green", "suspect": "yellow", "draining": "blue", "failed": "red", "recovering": "cyan"}
BAR = 8
HOT_C = 85.0


@live
def nodes_command(
    connection: Connection,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option("--every", metavar="SPAN", help="With --watch.")] = "2s",
    as_json: AsJson = False,
) -> None:
    """Nodes: health, what is used of them, and what their sensors say.

    Example: `shunter nodes --watch`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document
    from shunter.cli.live_watch import again_and_again
    from shunter.scheduler.errors import UsageError

    if watch and as_json:
        raise UsageError("--watch: not with --json")
    with connection.open() as client:

        def show() -> None:
            nodes = list(nodes_of(client))
            print_json({"nodes": [document(node) for node in nodes]}) if as_json else print_nodes(nodes)

        again_and_again(show, every) if watch else show()


def nodes_of(client: Client) -> Iterator[Any]:
    """All nodes, by name."""
    from shunter.daemon.pb import nodes_pb2, nodes_pb2_grpc

    token = ""
    while True:
        request = nodes_pb2.ListNodesRequest(page_size=500, page_token=token)
        answer = client.call(nodes_pb2_grpc.NodesStub, "ListNodes", request)
        yield from answer.nodes
        token = answer.next_page_token
        if not token:
            return


def print_nodes(nodes: list[Any]) -> None:
    """A table; columns about GPUs and their sensors only where a node has any."""
    from shunter.cli.live_text import Column, print_table

    now_s = time.time()
    titles = ["NODE", "HEALTH", "REASON", "GPUS", "TYPE", "BUSY", "TEMP", "CPUS", "MEMORY", "JOBS", "HEARD"]
    rows = [node_row(node, now_s) for node in nodes]
    always = {"NODE", "HEALTH", "CPUS", "JOBS", "HEARD"}
    kept = [i for i, title in enumerate(titles) if title in always or any(_shown(row[i]) for row in rows)]
    right = {"GPUS", "TEMP", "CPUS", "MEMORY", "JOBS", "HEARD"}
    columns = [Column(titles[i], titles[i] in right, 6 if titles[i] in ("REASON", "TYPE") else None) for i in kept]
    print_table(columns, [[row[i] for i in kept] for row in rows])


def _shown(cell: Cell) -> bool:
    return bool(cell if isinstance(cell, str) else cell[0])


def node_row(node: Any, now_s: float) -> list[Cell]:
    """Of one node: used / there."""
    from shunter.cli.live_text import clean
    from shunter.cli.spans import short_span

    has, health = node.description, HEALTHS[node.health] if node.health < len(HEALTHS) else str(node.health)
    failed = f" −{len(node.failed_gpus)}" if node.failed_gpus else ""
    heard = f"{short_span(now_s - node.last_heartbeat_unix_s)} ago" if node.HasField("last_heartbeat_unix_s") else ""
    return [
        clean(node.name), (health, COLOUR_OF.get(health, "")), clean(node.reason),
        f"{node.gpus_used:g}/{len(has.gpus)}{failed}" if has.gpus else "", clean(has.gpu_type),
        busy_bar(node), hottest(node), f"{node.cpus_used:g}/{has.cpus:g}",
        f"{node.memory_used_gib:g}/{has.memory_gib:.4g}" if has.memory_gib else "", str(len(node.jobs)), heard,
    ]  # fmt: skip


def busy_bar(node: Any) -> Cell:
    """Mean utilisation of its GPUs as a bar, or of its CPUs where it has none; empty where nothing was measured."""
    from statistics import fmean

    if not node.HasField("telemetry"):
        return ""
    told = [gpu.utilisation for gpu in node.telemetry.gpus if gpu.HasField("utilisation")]
    if not told and not node.description.gpus and node.telemetry.HasField("cpu_utilisation"):
        told = [node.telemetry.cpu_utilisation]
    return (bar(fmean(told)), "green") if told else ""


def bar(share: float, size: int = BAR) -> str:
    """``████░░░░ 52%``."""
    full = round(min(max(share, 0.0), 1.0) * size)
    return "█" * full + "░" * (size - full) + f" {share:4.0%}"


def hottest(node: Any) -> Cell:
    """Temperature of its hottest GPU."""
    found = [gpu.temperature_c for gpu in node.telemetry.gpus if gpu.HasField("temperature_c")]
    return (f"{max(found):.0f} °C", "red" if max(found) >= HOT_C else "") if found else ""


@live
def drain_command(
    connection: Connection,
    node: NodeName,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="SPAN", help="Jobs are moved by then. Default: they end by themselves."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Shown to everybody.")] = "",
    as_json: AsJson = False,
) -> None:
    """Give a node no new work, so that it can be taken out of service.

    Example: `shunter drain gpu-07 --deadline 10m --reason "new power supply"`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document
    from shunter.cli.spans import short_span, span_s
    from shunter.daemon.pb import nodes_pb2, nodes_pb2_grpc

    left_s = None if deadline is None else span_s(deadline, "--deadline")
    request = nodes_pb2.DrainRequest(
        node=node, reason=reason, deadline_unix_s=0.0 if left_s is None else time.time() + left_s
    )
    with connection.open() as client:
        answer = client.call(nodes_pb2_grpc.NodesStub, "Drain", request)
    if as_json:
        print_json(document(answer))
    elif not answer.jobs:
        sys.stdout.write(f"{node} gets no new work and is empty\n")
    else:
        until = "end by themselves" if left_s is None else f"end, or are moved, within {short_span(left_s)}"
        ids = ", ".join(map(str, answer.jobs))
        sys.stdout.write(f"{node} gets no new work; its {len(answer.jobs)} jobs {until}: {ids}\n")


@live
def resume_command(connection: Connection, node: NodeName, as_json: AsJson = False) -> None:
    """Give a node work again that was drained.

    Example: `shunter resume gpu-07`
    """
    from shunter.cli.console import print_json
    from shunter.daemon.pb import nodes_pb2, nodes_pb2_grpc

    with connection.open() as client:
        client.call(nodes_pb2_grpc.NodesStub, "Resume", nodes_pb2.ResumeRequest(node=node))
    print_json({"node": node}) if as_json else sys.stdout.write(f"{node} gets work again\n")
