"""The Gantt chart of single GPUs: which attempt held which GPU when, for a few blocks of neighbouring nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.sim.report.held import Held, HeldRun, node_amounts
from shunter.sim.report.series import Window, pack_lanes
from shunter.traces.cluster_spec import ClusterSpec

MAX_LANES = 32
"""GPUs of a block of nodes: rows that can still be told apart."""
MAX_BLOCKS = 16
MAX_BARS = 1500
"""Bars of all blocks and runs together, so that the page stays small."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring nodes that are drawn together.

    Attributes:
        nodes: Rows of the nodes.
        lanes: (nodes,) first lane of each node, the first node on top; a lane is a GPU.
        size: Lanes of all.
    """

    nodes: IntArray
    lanes: IntArray
    size: int


@dataclass(frozen=True, slots=True)
class Bars:
    """Attempts on the GPUs of a block, one row a stretch of lanes, all arrays (K,).

    Attributes:
        row: Row of ``Held``.
        lane: First lane, with a fraction where a GPU is shared.
        width: Lanes.
    """

    row: IntArray
    lane: FloatArray
    width: FloatArray


def blocks_of(spec: ClusterSpec, max_lanes: int = MAX_LANES) -> list[Block]:
    """The nodes with GPUs, cut into blocks of at most ``max_lanes`` GPUs (or one node)."""
    gpus = np.ceil(node_amounts(spec, "gpus")).astype(np.int64)
    found: list[list[int]] = []
    size = max_lanes
    for node in np.flatnonzero(gpus).tolist():
        if size + gpus[node] > max_lanes:
            found.append([])
            size = 0
        found[-1].append(node)
        size += int(gpus[node])
    blocks = []
    for nodes in found:
        index = np.asarray(nodes, dtype=np.int64)
        ends = np.cumsum(gpus[index])
        blocks.append(Block(index, ends - gpus[index], int(ends[-1])))
    return blocks


def in_window(held: Held, window: Window) -> BoolArray:
    """(P,) whether a placement holds GPUs inside the window."""
    inside: BoolArray = (held.start_s < window.end_s) & (held.end_s > window.start_s) & (held.gpus > 0)
    return inside


def chosen_blocks(
    blocks: Sequence[Block],
    runs: Sequence[Held | HeldRun],
    window: Window,
    most: int = MAX_BLOCKS,
    max_bars: int = MAX_BARS,
) -> list[int]:
    """The blocks whose GPUs are held longest in the window over all runs, the first the longest; at least one.

    As many as give no more than ``max_bars`` placements together.
    """
    if not blocks:
        return []
    block_of = np.full(runs[0].spec.num_nodes, -1, dtype=np.int64)
    for i, block in enumerate(blocks):
        block_of[block.nodes] = i
    seconds, bars = np.zeros(len(blocks)), np.zeros(len(blocks))
    for part in (part for run in runs for part in run.windows()):
        inside = in_window(part, window)
        where = block_of[part.node[inside]]
        seconds += np.bincount(where, held_inside(part, window)[inside], len(blocks))
        bars += np.bincount(where, minlength=len(blocks))
    order = np.lexsort((np.arange(len(blocks)), -seconds))[:most]
    fitting = int(np.sum(np.cumsum(bars[order]) <= max_bars))
    return [int(i) for i in order[: max(1, fitting)]]


def held_inside(held: Held, window: Window) -> FloatArray:
    """(P,) GPU-seconds that lie in the window, of those that do."""
    length_s = np.minimum(held.end_s, window.end_s) - np.maximum(held.start_s, window.start_s)
    inside: FloatArray = length_s * held.gpus
    return inside


def holds_gpus(run: Held | HeldRun) -> bool:
    """Whether any attempt held a GPU."""
    return any(bool((part.gpus > 0).any()) for part in run.windows())


def gathered(run: Held | HeldRun, blocks: Sequence[Block], window: Window) -> Held:
    """What held GPUs of some blocks inside the window, sorted by start, then job, node and GPU."""
    nodes = np.concatenate([block.nodes for block in blocks])
    parts = [part.take(np.flatnonzero(in_window(part, window) & np.isin(part.node, nodes))) for part in run.windows()]
    held = Held.joined(parts)
    return held.take(np.lexsort((held.gpu, held.node, held.job, held.start_s)))


def bars_of(held: Held, block: Block, window: Window, most: int = MAX_BARS) -> Bars:
    """The attempts that hold GPUs of a block inside the window; the first ``most`` of them.

    Where the run tells GPUs apart, a bar lies on its GPU, beside those that share it, and that of a MIG instance where
    its memory lies. Elsewhere an attempt takes the lowest lanes of its node that are free when it begins, and keeps
    them until it ends.
    """
    inside = np.flatnonzero(in_window(held, window) & np.isin(held.node, block.nodes))[:most]
    rows: list[int] = []
    lanes: list[float] = []
    widths: list[float] = []
    place = {int(node): int(lane) for node, lane in zip(block.nodes, block.lanes, strict=True)}
    if held.slices is not None:
        is_cut = ~np.isnan(held.slices[0, inside])
        for row in inside[is_cut].tolist():
            rows.append(row)
            lanes.append(place[int(held.node[row])] + int(held.gpu[row]) + float(held.slices[0, row]))
            widths.append(float(held.slices[1, row]))
        inside = inside[~is_cut]
    for node, gpu in sorted(set(zip(held.node[inside].tolist(), held.gpu[inside].tolist(), strict=True))):
        these = inside[(held.node[inside] == node) & (held.gpu[inside] == gpu)]
        pieces, _ = pack_lanes(held.start_s[these], held.end_s[these], held.gpus[these])
        for row, stretches in zip(these.tolist(), pieces, strict=True):
            for low, width in stretches:
                rows.append(row)
                lanes.append(place[node] + max(gpu, 0) + low)
                widths.append(width)
    return Bars(np.asarray(rows, dtype=np.int64), np.asarray(lanes), np.asarray(widths))


def busiest(run: Held | HeldRun, windows: Sequence[Window]) -> Window:
    """Of several windows the one in which most GPUs are held on average; the first of equals."""
    held_s = np.zeros(len(windows))
    for part in run.windows():
        held_s += [float(held_inside(part, w)[in_window(part, w)].sum()) for w in windows]
    return windows[int(np.argmax(held_s / [window.end_s - window.start_s for window in windows]))]
