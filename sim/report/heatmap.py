"""How much of each node was held in each stretch of time: exact overlaps, for pictures with nodes up and time across.

Every cell is an integral over its stretch, not a sample: an interval adds to the cells that it begins and ends in what
lies inside them, and to those between a constant, which a cumulative sum carries through. Cost: O(P log B + R·B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.report.held import Held, HeldRun, node_amounts
from shunter.traces.cluster_spec import ClusterSpec

MAX_ROWS = 120
MAX_COLUMNS = 360


@dataclass(frozen=True, slots=True)
class NodeRows:
    """Nodes gathered into the rows of a picture.

    Attributes:
        row_of: (N,) row of each node; −1 for a node that has none of the resource.
        first: (R,) first node of each row.
        last: (R,) last node of each row.
        amount: (R,) what the row's nodes have.
    """

    row_of: IntArray
    first: IntArray
    last: IntArray
    amount: FloatArray


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A picture of a run; every array has shape (R, B).

    Attributes:
        share: Held over available, 0 where nothing was available.
        down: Share of the row that was out of service.
        jobs: Jobs that ran there for any time.
    """

    share: FloatArray
    down: FloatArray
    jobs: IntArray


def node_rows(spec: ClusterSpec, resource: str, max_rows: int = MAX_ROWS) -> NodeRows:
    """At most ``max_rows`` rows of equally many neighbours each, in the order of the nodes.

    A row holds nodes of one group, unless there are so many groups that this alone would take more rows.
    """
    amounts = node_amounts(spec, resource)
    counts = [group.count for group in spec.groups if getattr(group, resource)]
    if len(counts) > max_rows:
        counts = [sum(counts)]
    size = 1
    while sum(-(-count // size) for count in counts) > max_rows:
        size += 1
    lengths = [min(size, count - i) for count in counts for i in range(0, count, size)]
    nodes = np.flatnonzero(amounts > 0)
    row_of = np.full(len(amounts), -1, dtype=np.int64)
    row_of[nodes] = np.repeat(np.arange(len(lengths)), lengths)
    ends = np.cumsum(lengths, dtype=np.int64)
    first, last = nodes[ends - np.asarray(lengths, dtype=np.int64)], nodes[ends - 1]
    amount = np.bincount(row_of[nodes], amounts[nodes], len(lengths)).astype(np.float64)
    return NodeRows(row_of, first, last, amount)


def overlaps(
    row: IntArray, begin_s: FloatArray, end_s: FloatArray, weight: FloatArray, num_rows: int, edges_s: FloatArray
) -> FloatArray:
    """Weight × seconds of intervals that lie inside each cell, (R, B).

    Args:
        row: (P,) row of each interval; negative: not counted.
        begin_s: (P,) begin; what lies outside the edges is cut off.
        end_s: (P,) end, not before the begin; may be inf.
        weight: (P,) what is held during the interval.
        num_rows: R.
        edges_s: (B + 1,) rising edges of the stretches.
    """
    bins = len(edges_s) - 1
    begin_s, end_s = (np.clip(t, edges_s[0], edges_s[-1]) for t in (begin_s, end_s))
    kept = (row >= 0) & (end_s > begin_s)
    rows = np.concatenate([row[kept], row[kept]])
    times = np.concatenate([begin_s[kept], end_s[kept]])
    steps = np.concatenate([weight[kept], -weight[kept]])
    column = np.minimum(np.searchsorted(edges_s, times, side="right") - 1, bins - 1)
    # A step adds what is left of its own stretch, and all of every later one.
    shape, cell = (num_rows, bins), rows * bins + column
    begun = np.bincount(cell, steps * (edges_s[column + 1] - times), num_rows * bins).reshape(shape)
    carried = np.cumsum(np.bincount(cell, steps, num_rows * bins).reshape(shape), axis=1)
    carried = np.concatenate([np.zeros((num_rows, 1)), carried[:, :-1]], axis=1)
    total: FloatArray = begun + carried * np.diff(edges_s)
    return total


class JobsInCells:
    """Different jobs that ran in each cell for any time; a gang on two nodes of one row is one job.

    Args:
        num_rows: R.
        edges_s: (B + 1,) rising edges of the stretches.
    """

    def __init__(self, num_rows: int, edges_s: FloatArray) -> None:
        self._edges_s = edges_s
        self._steps = np.zeros((num_rows, len(edges_s)), dtype=np.int64)
        none = np.zeros(0, dtype=np.int64)
        self._open = none, none, none  # row, job and the last cell that it has reached, of jobs that go on

    def add(self, held: Held, row: IntArray) -> None:
        """Further placements, none of which ended before those so far; ``row`` (P,) is negative where none counts."""
        edges_s, bins = self._edges_s, len(self._edges_s) - 1
        kept = (row >= 0) & (held.end_s > np.maximum(held.start_s, edges_s[0])) & (held.start_s < edges_s[-1])
        first = np.maximum(np.searchsorted(edges_s, held.start_s[kept], side="right") - 1, 0)
        last = np.minimum(np.searchsorted(edges_s, held.end_s[kept], side="left") - 1, bins - 1)
        rows, jobs, reached = self._open
        before = len(rows)
        rows, jobs = np.concatenate([rows, row[kept]]), np.concatenate([jobs, held.job[kept]])
        first = np.concatenate([np.full(before, -1), first])
        last = np.concatenate([reached, last])
        order = np.lexsort((first, jobs, rows))
        rows, jobs, first, last = rows[order], jobs[order], first[order], last[order]
        # Attempts of a job follow one another and those on several GPUs are equal, so the one before reaches farthest.
        again = np.append(False, (rows[1:] == rows[:-1]) & (jobs[1:] == jobs[:-1]))[: len(rows)]
        so_far = np.append(-1, last[:-1])[: len(last)]
        begin = np.where(again, np.maximum(first, so_far + 1), first)
        fresh = (begin <= last) & (order >= before)
        np.add.at(self._steps, (rows[fresh], begin[fresh]), 1)
        np.subtract.at(self._steps, (rows[fresh], last[fresh] + 1), 1)
        if held.goes_on is not None:
            over = np.unique(held.job[~held.goes_on])
            stays = ~np.isin(jobs, over) & ~np.append(again[1:], False)[: len(again)]
            self._open = rows[stays], jobs[stays], last[stays]

    @property
    def counts(self) -> IntArray:
        """(R, B) jobs."""
        found: IntArray = np.cumsum(self._steps, axis=1)[:, :-1]
        return found


def heat_map(held: Held | HeldRun, rows: NodeRows, resource: str, edges_s: FloatArray) -> HeatMap:
    """The picture of a run: how much of what was in service was held, by rows of nodes and stretches of time."""
    num_rows, width_s = len(rows.amount), np.diff(edges_s)
    used = np.zeros((num_rows, len(edges_s) - 1))
    jobs = JobsInCells(num_rows, edges_s)
    for part in held.windows():
        row = rows.row_of[part.node]
        used += overlaps(row, part.start_s, part.end_s, part.amount(resource), num_rows, edges_s)
        jobs.add(part, row)
    lost = np.zeros_like(used)
    if len(held.down.node):
        whole = node_amounts(held.spec, resource)[held.down.node]
        away = np.where(held.down.gpu < 0, whole, 1.0 if resource == "gpus" else 0.0)
        lost = overlaps(rows.row_of[held.down.node], held.down.from_s, held.down.until_s, away, num_rows, edges_s)
    there = rows.amount[:, None] * width_s
    available = there - lost
    share = np.divide(used, available, out=np.zeros_like(used), where=available > 1e-9 * there)
    return HeatMap(np.clip(share, 0.0, 1.0), np.clip(lost / there, 0.0, 1.0), jobs.counts)


def row_names(spec: ClusterSpec, rows: NodeRows) -> list[str]:
    """Name of each row: its node's, or its first and last."""
    names = spec.node_names()
    return [names[a] if a == b else f"{names[a]} … {names[b]}" for a, b in zip(rows.first, rows.last, strict=True)]


def columns_for(num_rows: int, runs: int, max_cells: int = 120_000) -> int:
    """Stretches of time that pictures of so many rows may have, so that a page of many runs stays small."""
    return max(60, min(MAX_COLUMNS, max_cells // max(1, num_rows * runs)))


def time_edges(span: Sequence[float], columns: int) -> FloatArray:
    """(columns + 1,) edges of equal stretches."""
    return np.linspace(span[0], span[1], columns + 1)
