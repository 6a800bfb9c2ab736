"""A picture of a cluster: racks as columns of nodes, each node a box with its GPUs as squares, coloured by type.

``layout`` turns a specification into boxes in units of one GPU square; drawing only scales them. Groups stand beside
each other in shelves, zones below each other; a rack too tall for the page goes on in a second column.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.scheduler.errors import UsageError
from shunter.traces.cluster_info import gpu_type_facts
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from shunter.traces.compression import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito, Color Universal Design, 2008; without yellow, which vanishes on white paper."""
GREY, LIGHT, DARK = "#9ca3af", "#f3f4f6", "#374151"

MOST_SQUARES = 32
"""A node with more GPUs is drawn as one box with their number."""
TALLEST_RACK = 42
"""Nodes of a rack that stand in one column (a rack has 42 units); a larger one, or one of unknown size, is wrapped."""
MOST_NODES = 20_000
"""More boxes than this are no picture any more."""

PADDING, GAP = 0.25, 0.35
"""Around the GPUs of a node, and between nodes; a GPU with its margin is 1."""
BIG_NODE, EMPTY_NODE = (6.0, 2.0), (2.5, 0.9)
WIDTHS = (0.7, 1.0, 1.3, 1.7, 2.2, 3.0)
"""Widths of the page that are tried, in sides of the square that has the area of all boxes."""
ASPECT = 1.5
SMALLEST_IN, LARGEST_IN = 0.045, (15.0, 9.5)
"""Inches of a GPU that can still be seen, and of a page that can still be held."""
COLUMN_SHARE = 0.45
"""Height of a wrapped rack in such sides."""
AREA_IN2 = 55.0
"""Area that the boxes aim at on paper."""
CHARACTER_IN, LINE_IN = 0.078, 0.155
"""A character and a line of the labels' 8-point letters."""

Box = tuple[float, float, float, float]
"""Left, top, width, height; down is positive."""


@dataclass
class Layout:
    """Boxes of a cluster in units of a GPU square, ``scale`` inches each.

    Attributes:
        scale: Inches of one unit.
        width: Of everything.
        height: Of everything.
        nodes: A box each, in the order of the specification.
        gpus: GPU type (its name, or ``GPU``), box, and whether it is cut into MIG instances.
        frames: Group, its box.
        backs: A box each rack.
        racks: Number of a rack, its box; only where a group has several.
        texts: Left, bottom, text, whether bold.
        counts: Centre of a big node, and what to write there.
    """

    scale: float
    width: float = 0.0
    height: float = 0.0
    nodes: list[Box] = field(default_factory=list)
    gpus: list[tuple[str, Box, bool]] = field(default_factory=list)
    frames: list[tuple[NodeGroup, Box]] = field(default_factory=list)
    backs: list[Box] = field(default_factory=list)
    racks: list[tuple[int, Box]] = field(default_factory=list)
    texts: list[tuple[float, float, str, bool]] = field(default_factory=list)
    counts: list[tuple[float, float, str]] = field(default_factory=list)


def plot_cluster(spec: ClusterSpec, path: str | Path) -> None:
    """Write the picture of a cluster as PNG, PDF or SVG, by the name's ending.

    Raises:
        UsageError: Another ending, or more nodes than can be drawn.
        OutputError: The file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    place = Path(path)
    kind = place.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"{place}: cannot tell the kind of picture; expected a name ending in .png, .pdf or .svg")
    if spec.num_nodes > MOST_NODES:
        raise UsageError(f"cluster {spec.name!r} has {spec.num_nodes:,} nodes; up to {MOST_NODES:,} can be drawn")
    with mpl.rc_context({"font.size": 8, "font.family": "sans-serif", "svg.hashsalt": "shunter"}):
        figure = Figure(facecolor="white")
        FigureCanvasAgg(figure)
        _draw(figure, spec, layout(spec))
        buffer = io.BytesIO()
        # No date and version inside: equal clusters give equal files.
        metadata: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}.get(kind, {"Date": None})
        figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    write_atomically(place, buffer.getvalue())


def layout(spec: ClusterSpec) -> Layout:
    """Where everything goes, on a page of pleasant shape; boxes never overlap and labels have the room they need."""
    sizes = [node_size(group) for group in spec.groups]
    side = math.sqrt(sum(g.count * (w + GAP) * (h + GAP) for g, (w, h) in zip(spec.groups, sizes, strict=True)))
    scale = min(0.3, max(SMALLEST_IN, math.sqrt(AREA_IN2) / side))
    while True:
        pages = [_page(spec, scale, max(share * side, 4.0 / scale), side * COLUMN_SHARE) for share in WIDTHS]
        page = min(pages, key=lambda page: abs(math.log(page.width / page.height / ASPECT)))
        shrink = min(LARGEST_IN[0] / (page.width * scale), LARGEST_IN[1] / (page.height * scale))
        if shrink >= 1.0 or scale <= SMALLEST_IN:
            return page
        # Letters do not shrink with the boxes, so labels need more room on the next page.
        scale = max(SMALLEST_IN, scale * min(shrink, 0.95))


def _page(spec: ClusterSpec, scale: float, widest: float, tallest: float) -> Layout:
    """All groups in shelves at most ``widest`` wide, zone by zone."""
    line = LINE_IN / scale
    first_racks = [0, *accumulate(group.num_racks for group in spec.groups)]
    zones: dict[tuple[str, str], list[Layout]] = {}
    for group, first_rack in zip(spec.groups, first_racks, strict=False):
        block = _group_block(group, first_rack, scale, widest, tallest)
        zones.setdefault((group.region, group.zone), []).append(block)
    parts = []
    for (region, zone), blocks in zones.items():
        heading = f"{region} / {zone}" if len(zones) > 1 else ""
        part = Layout(scale)
        _shelve(part, blocks, widest, 1.6 * line if heading else 0.0)
        if heading:
            part.width = max(part.width, len(heading) * CHARACTER_IN / scale)
            part.texts.append((0.0, 0.8 * line, heading, True))
        parts.append(part)
    page = Layout(scale)
    _shelve(page, parts, widest, 0.0)
    page.width, page.height = page.width + GAP, page.height + GAP
    return page


def _shelve(page: Layout, blocks: list[Layout], widest: float, top: float) -> None:
    """Put blocks beside each other from ``top`` down, a new shelf whenever the page is full."""
    left = shelf = 0.0
    for block in blocks:
        if left and left + block.width > widest:
            left, top, shelf = 0.0, top + shelf + LINE_IN / page.scale, 0.0
        _add(page, block, left, top)
        left += block.width + 2.5 * GAP
        shelf = max(shelf, block.height)
        page.height = max(page.height, top + block.height)


def node_size(group: NodeGroup) -> tuple[float, float]:
    """Width and height of a node's box."""
    gpus = int(group.gpus or 0)
    if not 0 < gpus <= MOST_SQUARES:
        return BIG_NODE if gpus else EMPTY_NODE
    rows = square_rows(gpus)
    return -(-gpus // rows) + 2 * PADDING, rows + 2 * PADDING


def square_rows(gpus: int) -> int:
    """Rows in which the GPUs of a node are drawn."""
    return 1 if gpus <= 2 else 2 if gpus <= 16 else 4


def _group_block(group: NodeGroup, first_rack: int, scale: float, widest: float, tallest: float) -> Layout:
    """One group by itself: its label, and its racks beside each other, or in rows where they are too many."""
    block = Layout(scale)
    width, _ = node_size(group)
    line = LINE_IN / scale
    label_top = line * (1.1 if group.num_racks == 1 else 2.2)
    left, top, shelf = GAP, label_top + GAP, 0.0
    for rack in range(group.num_racks):
        rack_nodes = min(group.rack_size or group.count, group.count - rack * (group.rack_size or group.count))
        most = _column_nodes(group, rack_nodes, widest, tallest)
        rack_width = -(-rack_nodes // most) * (width + GAP) + GAP
        if left > GAP and left + rack_width > widest:
            left, top, shelf = GAP, top + shelf + 1.3 * line, 0.0
        rack_height = _rack(block, group, rack_nodes, most, left, top)
        place = (left, top, rack_width, rack_height)
        block.backs.append(place)
        if group.num_racks > 1:
            block.racks.append((first_rack + rack, place))
        shelf = max(shelf, rack_height)
        left += rack_width + GAP
        block.width = max(block.width, left)
    block.height = top + shelf + GAP
    text = _label(group, block.width * scale)
    block.width = max(block.width, len(text) * CHARACTER_IN / scale)
    block.texts.append((0.0, line * 0.8, text, True))
    block.frames.append((group, (0.0, line, block.width, block.height - line)))
    return block


def _column_nodes(group: NodeGroup, nodes: int, widest: float, tallest: float) -> int:
    """Nodes of a rack in one column: all of a real rack; of others as many as the page is meant to be high."""
    if group.rack_size is not None and nodes <= TALLEST_RACK:
        return nodes
    width, height = node_size(group)
    columns = max(1, int((widest - 3 * GAP) / (width + GAP)))
    most = max(4, int(tallest / (height + GAP)), -(-nodes // columns))
    return -(-nodes // -(-nodes // most))  # columns of nearly equal length


def _rack(block: Layout, group: NodeGroup, nodes: int, most: int, left: float, top: float) -> float:
    """Put the nodes of one rack into the block; returns the rack's height. Leaf switches are set apart."""
    width, height = node_size(group)
    gpus = int(group.gpus or 0)
    rows = square_rows(gpus)
    switch = group.switch_size or nodes
    tallest = 0.0
    for i in range(nodes):
        column, place = divmod(i, most)
        above = (i // switch - column * most // switch) * GAP
        x, y = left + GAP + column * (width + GAP), top + GAP + place * (height + GAP) + above
        block.nodes.append((x, y, width, height))
        tallest = max(tallest, y + height + GAP - top)
        if gpus > MOST_SQUARES:
            block.counts.append((x + width / 2, y + height / 2, f"{gpus:,} GPUs"))
            block.gpus.append((group.gpu_type or "GPU", (x, y, width, height), bool(group.mig)))
            continue
        for g in range(gpus):
            row, place_in_row = divmod(g, -(-gpus // rows))
            square = (x + PADDING + place_in_row + 0.08, y + PADDING + row + 0.08, 0.84, 0.84)
            block.gpus.append((group.gpu_type or "GPU", square, bool(group.mig)))
    return tallest


def _label(group: NodeGroup, room_in: float) -> str:
    """The longest of a group's labels that fits over it, at least its name."""
    nodes = f"{group.count:,} node{'s'[: group.count != 1]}"
    name = group.name
    if group.owner is not None:
        name = f"{group.owner} only" if group.owner == group.name else f"{group.name} ({group.owner} only)"
    short = name + (" spot" if group.spot else "")
    kind = f" ({group.gpus:,g} × {group.gpu_type or 'GPU'})" if group.gpus else ""
    for text in (f"{short}: {nodes}{kind}", f"{short}: {nodes}"):
        if len(text) * CHARACTER_IN <= room_in:
            return text
    return short


def _add(page: Layout, block: Layout, left: float, top: float) -> None:
    """Copy a block onto the page."""

    def moved(box: Box) -> Box:
        return box[0] + left, box[1] + top, box[2], box[3]

    page.nodes += [moved(box) for box in block.nodes]
    page.gpus += [(kind, moved(box), mig) for kind, box, mig in block.gpus]
    page.frames += [(group, moved(box)) for group, box in block.frames]
    page.backs += [moved(box) for box in block.backs]
    page.racks += [(number, moved(box)) for number, box in block.racks]
    page.texts += [(x + left, y + top, text, bold) for x, y, text, bold in block.texts]
    page.counts += [(x + left, y + top, text) for x, y, text in block.counts]
    page.width = max(page.width, left + block.width)


def _draw(figure: Figure, spec: ClusterSpec, page: Layout) -> None:
    """Scale the boxes to paper, with a title above and the legend below."""
    margin_in, title_in = 0.2, 0.42
    legend = _legend(spec, page)
    columns = max(1, min(len(legend), int(page.width * page.scale / 1.9)))
    legend_in = 0.2 + 0.19 * -(-len(legend) // columns)
    width_in = page.width * page.scale + 2 * margin_in
    height_in = page.height * page.scale + title_in + legend_in + margin_in
    figure.set_size_inches(width_in, height_in)
    axes = figure.add_axes(
        (
            margin_in / width_in,
            (legend_in + margin_in / 2) / height_in,
            page.width * page.scale / width_in,
            page.height * page.scale / height_in,
        )
    )
    axes.set_xlim(0, page.width)
    axes.set_ylim(page.height, 0)
    axes.axis("off")
    _boxes(axes, spec, page)
    figure.text(
        margin_in / width_in,
        1 - 0.16 / height_in,
        _title(spec, width_in),
        fontsize=10,
        fontweight="bold",
        va="top",
        color="#111827",
    )
    figure.legend(
        handles=legend,
        loc="lower left",
        bbox_to_anchor=(margin_in / width_in - 0.01, 0.02 / height_in),
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.5,
        borderaxespad=0.0,
    )


def _boxes(axes: Axes, spec: ClusterSpec, page: Layout) -> None:
    """Frames, racks, nodes, GPUs and labels, from the back to the front."""
    thin = min(0.8, page.scale * 4)
    for group, box in page.frames:
        _rectangles(
            axes, [box], "none", GREY if group.owner is None else DARK, 0.7, "-" if group.owner is None else "--"
        )
    _rectangles(axes, page.backs, LIGHT, "none", 0.0)
    _rectangles(axes, page.nodes, "white", GREY, thin)
    for kind, colour in colours(spec).items():
        _rectangles(axes, [box for name, box, _ in page.gpus if name == kind], colour, "none", 0.0)
    # Lines through a GPU show that it is cut into instances.
    cuts = [(x + w * part, y, w * 0.07, h) for _, (x, y, w, h), mig in page.gpus if mig for part in (0.28, 0.64)]
    _rectangles(axes, cuts, "white", "none", 0.0)
    for x, y, text in page.counts:
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white", fontweight="bold")
    for x, y, text, bold in page.texts:
        axes.text(x, y, text, va="baseline", fontsize=8, color=DARK, fontweight="bold" if bold else "normal")
    gap = 0.05 / page.scale
    for number, (x, y, width, _) in page.racks:
        label = f"rack {number}"
        if len(label) * CHARACTER_IN * 0.75 > width * page.scale:
            label = str(number)
        axes.text(x, y - gap, label, va="baseline", fontsize=6.5, color="#6b7280")


def _rectangles(axes: Axes, boxes: list[Box], face: str, edge: str, width: float, style: str = "-") -> None:
    from matplotlib.collections import PolyCollection

    if boxes:
        corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes]
        axes.add_collection(
            PolyCollection(corners, facecolors=face, edgecolors=edge, linewidths=width, linestyles=style, clip_on=False)
        )


def colours(spec: ClusterSpec) -> dict[str, str]:
    """A colour for each GPU type that is there; types beyond the palette share its colours."""
    kinds = [name for name, facts in gpu_type_facts(spec).items() if facts["gpus"]]
    return {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}


def _legend(spec: ClusterSpec, page: Layout) -> list[Any]:
    """One entry a GPU type with its number, and one for each other sign that occurs."""
    from matplotlib.patches import Patch

    facts = gpu_type_facts(spec)
    entries = [
        Patch(facecolor=colour, label=f"{facts[kind]['gpus']:,.0f} {kind}") for kind, colour in colours(spec).items()
    ]
    empty = sum(group.count for group in spec.groups if not group.gpus)
    if empty:
        entries.append(
            Patch(facecolor="white", edgecolor=GREY, label=f"{empty:,} node{'s'[: empty != 1]} without GPUs")
        )
    if any(group.owner is not None for group in spec.groups):
        entries.append(Patch(facecolor="none", edgecolor=DARK, linestyle="--", label="jobs of one group only"))
    if any(mig for _, _, mig in page.gpus):
        entries.append(Patch(facecolor=GREY, hatch="|||", edgecolor="white", label="cut into MIG instances"))
    return entries


def _title(spec: ClusterSpec, width_in: float) -> str:
    """Name and totals; the totals go where the picture is too narrow for both."""
    units = (("gpus", "GPUs"), ("cpus", "CPUs"), ("memory_gib", "GiB"))
    totals = [f"{total:,.0f} {unit}" for kind, unit in units if (total := spec.total(kind))]
    parts = [f"{spec.name}: {spec.num_nodes:,} node{'s'[: spec.num_nodes != 1]}", *totals]
    while len(parts) > 1 and len(", ".join(parts)) * 0.09 > width_in:
        parts.pop()
    return ", ".join(parts)
