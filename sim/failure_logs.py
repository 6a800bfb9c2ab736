"""Recorded failures of machines: Google's machine events of 2011, and a plain CSV.

A log is read whole and judged whole: what is wrong with it is told with line and column, several defects at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import TraceError, nearest
from shunter.sim.failures import (
    CAUSE_DRAIN,
    CAUSE_FAILURE,
    EVENTS,
    FAIL,
    REPAIR,
    RESUME,
    WHOLE_NODE,
    Outages,
    Spans,
    outages_of,
)
from shunter.traces.compression import read_bytes
from shunter.traces.readers.base import Head
from shunter.traces.readers.table import RawTable, read_table
from shunter.traces.readers.whole import WholeSource
from shunter.traces.tables import ClusterSpec

if TYPE_CHECKING:
    import polars as pl

GOOGLE_COLUMNS = ("time", "machine", "event", "platform", "cpus", "memory")
GOOGLE_ADD, GOOGLE_REMOVE, GOOGLE_UPDATE = range(3)
US = 1e-6


def read_outages(path: Path, spec: ClusterSpec, *, origin_s: float = 0.0) -> Outages:
    """Failures, repairs and drains of a log, as events of the nodes of ``spec``.

    Two shapes are told apart by their first line: a CSV with the heading ``time_s,node,event[,gpu]`` (``event`` one of
    fail, repair, drain, resume; ``node`` a name or a row of the specification), and Google's machine events of 2011.

    Args:
        path: The log, plain or compressed.
        spec: The cluster whose nodes it speaks of.
        origin_s: Second on the log's clock at which the trace starts; what lasts then is down from 0 on.

    Raises:
        TraceError: Neither shape; an unknown node or event, a repair without a failure, times that go back.

    Source: Reiss, Wilkes & Hellerstein, Google cluster-usage traces: format + schema, 2011 (machine events).
    """
    data = read_bytes(path)
    head = Head.of(data)
    source = WholeSource(path, data)
    if head.has("time_s", "node", "event"):
        return _read_plain(source, spec, origin_s)
    if _is_google(head):
        return _read_google(source, spec, origin_s)
    first = head.lines[0][:80] if head.lines else ""
    raise TraceError(
        f"{path}:1: no failure log: expected the heading time_s,node,event[,gpu] or Google's six columns of machine "
        f"events (time, machine, 0|1|2, platform, CPUs, memory), got {first!r}"
    )


# --- walking through a log ------------------------------------------------------------------------------------------


class _Switches:
    """Spans that are switched on and off by the rows of a log, and the rows that make no sense."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int, float, float, bool]] = []
        self.bad: dict[tuple[str, str], list[int]] = {}
        self._open: dict[tuple[int, int, bool], float] = {}

    def flag(self, row: int, column: str, expected: str) -> None:
        """Note a row as bad."""
        self.bad.setdefault((column, expected), []).append(row)

    def on(self, node: int, gpu: int, time_s: float, *, is_down: bool) -> bool:
        """An outage begins; False when it lasts already."""
        key = (node, gpu, is_down)
        if key in self._open:
            return False
        self._open[key] = time_s
        return True

    def off(self, node: int, gpu: int, time_s: float, *, is_down: bool) -> bool:
        """An outage ends; False when there is none."""
        begun = self._open.pop((node, gpu, is_down), None)
        if begun is None:
            return False
        self.spans.append((node, gpu, begun, time_s, is_down))
        return True

    def outages(self, table: RawTable, origin_s: float, notes: tuple[str, ...] = ()) -> Outages:
        """The events, with what still lasts at the end of the log going on for ever.

        Raises:
            TraceError: There are bad rows.
        """
        import polars as pl

        for (column, expected), rows in self.bad.items():
            mask = np.zeros(len(table.lines), dtype=np.bool_)
            mask[rows] = True
            table.flag(pl.Series(mask), column, expected)
        table.settle()
        lasting = [(node, gpu, begun, math.inf, down) for (node, gpu, down), begun in self._open.items()]
        if lasting:
            some = "one node or GPU is" if len(lasting) == 1 else f"{len(lasting):,} nodes or GPUs are"
            notes = (*notes, f"{some} out of service when the log ends, and stay so in the replay")
        rows_of = [*self.spans, *lasting]
        node, gpu = (np.asarray([row[i] for row in rows_of], dtype=np.int64) for i in (0, 1))
        from_s, until_s = (np.asarray([row[i] for row in rows_of], dtype=np.float64) - origin_s for i in (2, 3))
        is_down = np.asarray([row[4] for row in rows_of], dtype=np.bool_)
        cause = np.where(is_down, CAUSE_FAILURE, CAUSE_DRAIN).astype(np.int64)
        return outages_of(Spans(node, gpu, from_s, until_s, cause, is_down), notes=notes)


def _refuse_disorder(time_s: pl.Series, switches: _Switches, column: str) -> None:
    """Flag every row that is earlier than one before it."""
    for row in (time_s < time_s.cum_max().shift(1)).fill_null(False).arg_true().to_list():
        switches.flag(row, column, "expected a time of at least that of the row before")


# --- the plain CSV --------------------------------------------------------------------------------------------------


def _read_plain(source: WholeSource, spec: ClusterSpec, origin_s: float) -> Outages:
    table = read_table(source)
    time_s = table.number("time_s", minimum=None)
    names = table.text("node", optional=False)
    events = table.text("event", optional=False).str.to_lowercase()
    gpus = table.number("gpu", optional=True, whole=True) if table.has("gpu") else time_s.clear(len(time_s))
    switches = _Switches()
    _refuse_disorder(time_s, switches, "time_s")
    find = _node_finder(spec)
    size = spec.node_table().gpus
    rows = zip(time_s.to_list(), names.to_list(), events.to_list(), gpus.to_list(), strict=True)
    for row, (at_s, name, event, gpu) in enumerate(rows):
        if at_s is None or name is None or event is None:
            continue  # flagged as the cell was read
        node = find(name)
        if node is None:
            switches.flag(row, "node", f"the cluster has no such node{_near(name, spec)}")
        elif event not in EVENTS:
            switches.flag(row, "event", f"expected {', '.join(EVENTS)}")
        else:
            _switch(switches, row, at_s, node, EVENTS.index(event), gpu, int(size[node]))
    return switches.outages(table, origin_s)


def _switch(
    switches: _Switches, row: int, at_s: float, node: int, event: int, gpu: float | None, num_gpus: int
) -> None:
    """Apply one row whose cells are all known."""
    is_down = event in (FAIL, REPAIR)
    if gpu is not None and not is_down:
        switches.flag(row, "gpu", "drain and resume are of whole nodes: expected an empty cell")
    elif gpu is not None and gpu >= num_gpus:
        switches.flag(row, "gpu", f"the node has {num_gpus} GPUs, counted from 0")
    else:
        where = WHOLE_NODE if gpu is None else int(gpu)
        is_end = event in (REPAIR, RESUME)
        done = (switches.off if is_end else switches.on)(node, where, at_s, is_down=is_down)
        if not done:
            opposite = {"repair": "failure", "resume": "drain"}.get(EVENTS[event], "")
            expected = f"{EVENTS[event]} without a {opposite} before" if is_end else f"a second {EVENTS[event]}"
            switches.flag(row, "event", f"{expected} of the same {'node' if gpu is None else 'GPU'}")


def _node_finder(spec: ClusterSpec) -> Callable[[str], int | None]:
    """Row of a node by its name, else by its number."""
    rows = {name: row for row, name in enumerate(spec.node_names())}

    def find(name: str) -> int | None:
        if name in rows:
            return rows[name]
        row = int(name) if name.isascii() and name.isdigit() else -1
        return row if 0 <= row < len(rows) else None

    return find


def _near(name: str, spec: ClusterSpec) -> str:
    """A hint for an unknown node, as long as the list of nodes is short enough to compare with."""
    count = spec.num_nodes
    if name.isdigit():
        return f", there are {count}, counted from 0"
    return nearest(name, spec.node_names()) if count <= 2000 else ""


# --- Google 2011 ----------------------------------------------------------------------------------------------------


def _is_google(head: Head) -> bool:
    cells = head.lines[0].split(",") if head.lines else []
    return len(cells) == len(GOOGLE_COLUMNS) and all(cell.strip().isdigit() for cell in cells[:3])


def _read_google(source: WholeSource, spec: ClusterSpec, origin_s: float) -> Outages:
    """A removed machine has failed, an added one is repaired; one that is added later was down until then."""
    table = read_table(source, names=GOOGLE_COLUMNS, quoted=False)
    time_s = table.number("time", scale=US)
    machines = table.text("machine", optional=False)
    events = table.number("event", whole=True)
    switches = _Switches()
    _refuse_disorder(time_s, switches, "time")
    rows: dict[str, int] = {}
    beyond: set[str] = set()
    late = 0
    cells = zip(time_s.to_list(), machines.to_list(), events.to_list(), strict=True)
    for row, (at_s, machine, event) in enumerate(cells):
        if at_s is None or machine is None or event is None:
            continue  # flagged as the cell was read
        if event > GOOGLE_UPDATE:
            switches.flag(row, "event", "expected 0 (add), 1 (remove) or 2 (update)")
            continue
        is_new = machine not in rows and machine not in beyond
        if is_new and len(rows) == spec.num_nodes:
            beyond.add(machine)
        if machine in beyond:
            continue
        node = rows.setdefault(machine, len(rows))
        if is_new and event == GOOGLE_ADD and at_s > 0:
            switches.on(node, WHOLE_NODE, 0.0, is_down=True)
            late += 1
        if event == GOOGLE_REMOVE and not switches.on(node, WHOLE_NODE, at_s, is_down=True):
            switches.flag(row, "event", "the machine is removed a second time")
        is_known = not is_new or at_s > 0
        if event == GOOGLE_ADD and is_known and not switches.off(node, WHOLE_NODE, at_s, is_down=True):
            switches.flag(row, "event", "the machine is added a second time")
    return switches.outages(table, origin_s, _google_notes(len(rows), len(beyond), spec.num_nodes, late))


def _google_notes(used: int, beyond: int, num_nodes: int, late: int) -> tuple[str, ...]:
    notes = []
    if beyond:
        notes.append(f"the log has {used + beyond:,} machines, the cluster {num_nodes:,} nodes: the first are taken")
    if used < num_nodes:
        notes.append(f"the log has {used:,} machines, the cluster {num_nodes:,} nodes: the last never fail")
    if late:
        notes.append(f"{late:,} machines were added later: their nodes are down until then")
    return tuple(notes)
