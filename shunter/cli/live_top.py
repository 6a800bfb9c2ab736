"""``shunter top``: the cluster at a glance, full screen."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.live import Connection, live

if TYPE_CHECKING:
    from rich.console import RenderableType

    from shunter.daemon.client import Client

MOST_WAITING = 5000
"""Waiting jobs that are counted by class; a longer queue is said to be longer."""
ROWS_BESIDE = 14
NODES_OF_STRIP = 400
MARK_OF = {"healthy": "green", "suspect": "yellow", "draining": "blue", "failed": "red", "recovering": "cyan"}


@live
def top_command(
    connection: Connection,
    every: Annotated[str, typer.Option("--every", metavar="SPAN", help="Between two looks.")] = "2s",
) -> None:
    """Show the cluster live: what is used, what waits, what runs, how nodes are. q or Ctrl-C leaves.

    Example: `shunter top`
    """
    from shunter.cli.spans import span_s
    from shunter.scheduler.errors import UsageError

    pause_s = max(span_s(every, "--every"), 0.2)
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise UsageError("shunter top needs a terminal; `shunter nodes --json` and `shunter queue --json` do not")
    with connection.open() as client:
        _live(client, pause_s)


def _live(client: Client, pause_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from shunter.daemon.client import UnreachableError

    console = Console(highlight=False)
    seen = look(client)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as screen:
        problem = ""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                screen.update(picture(seen, console.size.height, problem), refresh=True)
                if pressed(pause_s) in ("q", "Q", "\x1b", "\x03"):
                    return
                try:
                    seen, problem = look(client), ""
                except UnreachableError as error:
                    problem = str(error)


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Keys as they are pressed; the terminal is as it was afterwards, whatever happens."""
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed(within_s: float) -> str:
        ready, _, _ = select.select([number], [], [], within_s)
        return sys.stdin.read(1) if ready else ""

    try:
        tty.setcbreak(number)
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def look(client: Client) -> dict[str, Any]:
    """What there is now."""
    from itertools import islice

    from shunter.cli.live_jobs import jobs_of, states_filter
    from shunter.cli.live_nodes import nodes_of
    from shunter.daemon.pb import admin_pb2, admin_pb2_grpc

    return {
        "nodes": list(nodes_of(client)),
        "running": list(islice(jobs_of(client, [states_filter([2, 3, 4])]), 200)),
        "waiting": list(islice(jobs_of(client, [states_filter([1])]), MOST_WAITING)),
        "policy": client.call(admin_pb2_grpc.AdminStub, "PolicyStatus", admin_pb2.PolicyStatusRequest()),
        "address": client.address,
    }


def picture(seen: dict[str, Any], height: int, problem: str = "") -> RenderableType:
    """One screen."""
    from rich.console import Group
    from rich.text import Text

    policy, nodes = seen["policy"], seen["nodes"]
    head = Text.assemble(
        ("shunter top", "bold"), f"  {seen['address']}  {time.strftime('%H:%M:%S')}  ",
        f"{policy.heuristic}+{policy.backfill}, {policy.decisions} decisions", ("   q leaves", "dim"),
    )  # fmt: skip
    alarm = [Text(problem, style="red")] if problem else []
    rows = max(height - ROWS_BESIDE - len(_classes(seen["waiting"])), 3)
    return Group(
        head, *alarm, Text(), *_used(nodes), Text(), _strip(nodes), Text(),
        _queue(seen["waiting"]), Text(), _running(seen["running"], rows),
    )  # fmt: skip


def _used(nodes: list[Any]) -> list[RenderableType]:
    from rich.text import Text

    from shunter.cli.live_nodes import bar

    lines: list[RenderableType] = []
    for name, used, there in (
        ("GPUs", sum(n.gpus_used for n in nodes), sum(len(n.description.gpus) for n in nodes)),
        ("CPUs", sum(n.cpus_used for n in nodes), sum(n.description.cpus for n in nodes)),
        ("GiB ", sum(n.memory_used_gib for n in nodes), sum(n.description.memory_gib for n in nodes)),
    ):
        if there:
            lines.append(Text.assemble(f"{name} ", (bar(used / there, 30), "green"), f"  {used:g} of {there:g}"))
    return lines or [Text("no nodes yet; start `shunter node` on them", style="yellow")]


def _strip(nodes: list[Any]) -> RenderableType:
    """A mark for each node."""
    from rich.text import Text

    from shunter.cli.live_nodes import HEALTHS

    strip, counts = Text("nodes "), Counter[str]()
    for i, node in enumerate(nodes):
        health = HEALTHS[node.health] if node.health < len(HEALTHS) else "unknown"
        counts[health] += 1
        if i < NODES_OF_STRIP:
            strip.append("■" if node.jobs else "□", style=MARK_OF.get(health, "dim"))
    for health, count in sorted(counts.items()):
        strip.append(f"  {count} {health}", style=MARK_OF.get(health, "dim"))
    return strip


def _classes(waiting: list[Any]) -> list[tuple[tuple[str, int], int]]:
    counts = Counter((job.spec.queue, job.spec.priority) for job in waiting)
    return sorted(counts.items(), key=lambda item: (-item[0][1], item[0][0]))[:8]


def _queue(waiting: list[Any]) -> RenderableType:
    from rich.table import Table

    from shunter.cli.spans import short_span

    more = " or more" if len(waiting) == MOST_WAITING else ""
    table = Table(box=None, title=f"{len(waiting)}{more} waiting", title_justify="left", pad_edge=False)
    for name, side in (("QUEUE", "left"), ("PRIORITY", "right"), ("JOBS", "right"), ("LONGEST", "right")):
        table.add_column(name, justify=side, header_style="bold")  # type: ignore[arg-type]
    for (queue, priority), count in _classes(waiting):
        first_s = min(job.submit_unix_s for job in waiting if (job.spec.queue, job.spec.priority) == (queue, priority))
        table.add_row(queue, str(priority), str(count), short_span(time.time() - first_s))
    return table


def _running(running: list[Any], most: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from shunter.cli.live_jobs import job_columns, job_row

    now_s = time.time()
    title = f"{len(running)}{' or more' if len(running) == 200 else ''} running, newest first"
    table = Table(box=None, title=title, title_justify="left", pad_edge=False)
    for column in job_columns():
        side: Any = "right" if column.is_right else "left"
        table.add_column(column.title, justify=side, header_style="bold", no_wrap=True, overflow="ellipsis")
    for job in running[:most]:
        cells = job_row(job, now_s)
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(cell[0], style=cell[1]) for cell in cells))
    return table
