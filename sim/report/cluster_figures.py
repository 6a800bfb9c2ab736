"""Figures for papers of runs on clusters of nodes: the same data as in the HTML report, see ``figures``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import FloatArray
from shunter.sim.report import cluster_series, gpu_timeline, heatmap, series
from shunter.sim.report.cluster_page import same_nodes
from shunter.sim.report.cluster_series import REASON_NAMES
from shunter.sim.report.figures import (
    COLOURS,
    DOUBLE_COLUMN_IN,
    SINGLE_COLUMN_IN,
    TIME_POINTS,
    legend_above,
    line_style,
    new_figure,
    percent_axis,
    strips,
    time_unit,
)
from shunter.sim.report.formats import HOUR_S, UNITS, amount, duration
from shunter.sim.report.held import Held, HeldRun, held_of_all, node_amounts
from shunter.sim.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 3
GREY, DARK = "#c4c8cd", "#5c646c"
REASON_COLOURS = (COLOURS[0], COLOURS[4], COLOURS[3], COLOURS[2], COLOURS[1])
MOST_NAMES = 6


def known_runs(results: Sequence[Result]) -> list[tuple[str, Result, HeldRun]]:
    """Label, run and placements of the runs that have any."""
    rows = zip(series.unique_labels(results), results, held_of_all(results), strict=True)
    return [(label, result, held) for label, result, held in rows if held is not None]


def has_nodes(results: Sequence[Result]) -> bool:
    """Whether the runs tell what ran on which nodes, of the same cluster."""
    known = same_nodes([held for _, _, held in known_runs(results)])
    resource = series.primary_resource(results)
    return bool(known) and bool((node_amounts(known[0].spec, resource) > 0).any())


def has_gpus(results: Sequence[Result]) -> bool:
    """Whether the runs held GPUs of nodes."""
    return has_nodes(results) and any(gpu_timeline.holds_gpus(held) for _, _, held in known_runs(results))


def node_heatmap(results: Sequence[Result]) -> Figure:
    """Share held of each node over time, one panel a run (three at most); grey with hatching is out of service."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shown, resource = known_runs(results)[:MAX_PANELS], series.primary_resource(results)
    rows = heatmap.node_rows(shown[0][2].spec, resource)
    names = heatmap.row_names(shown[0][2].spec, rows)
    first, last = series.time_span(results)
    unit_s, unit = time_unit(last - first)
    edges = heatmap.time_edges((first, last), heatmap.MAX_COLUMNS)
    tall = min(2.6, max(1.2, 0.09 * len(names)))
    figure, panels = new_figure(DOUBLE_COLUMN_IN, 0.7 + tall * len(shown), rows=len(shown))
    # Nothing held is nearly white, like paper; ColorBrewer's YlGnBu without its palest yellow.
    colours = LinearSegmentedColormap.from_list("held", ["#eef1f4", "#bfe3b6", "#43b4c3", "#2360a6", "#0a1c58"])
    extent = (0.0, (last - first) / unit_s, len(names), 0.0)
    picture: Any = None
    for axes, (label, _, held) in zip(panels, shown, strict=True):
        image = heatmap.heat_map(held, rows, resource, edges)
        options: dict[str, Any] = {"extent": extent, "aspect": "auto", "interpolation": "nearest"}
        picture = axes.imshow(image.share, cmap=colours, norm=Normalize(0, 1), **options)
        axes.add_collection(away(image.down, extent[1] / heatmap.MAX_COLUMNS))
        axes.set_title(label, loc="left", pad=3)
        every = max(1, -(-len(names) * 0.1 // tall))
        ticks = np.arange(0, len(names), int(every))
        axes.set_yticks(ticks + 0.5, [names[i].split(" … ")[0] for i in ticks], fontsize=6)
        axes.grid(visible=False)
    panels[-1].set_xlabel(f"Time since the first submit ({unit})")
    bar = figure.colorbar(picture, ax=panels, pad=0.01, aspect=30)
    bar.set_label(f"Share of the {UNITS[resource]} in service that is held")
    return figure


def away(down: FloatArray, column: float) -> Any:
    """Hatched rectangles, ``column`` wide a cell, over the cells that were out of service for half of the time."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    edges = np.diff(np.pad((down >= 0.5).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, begins = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    spans = zip(rows.tolist(), begins.tolist(), ends.tolist(), strict=True)
    boxes = [Rectangle((a * column, row), (b - a) * column, 1) for row, a, b in spans]
    return PatchCollection(boxes, facecolor=GREY, edgecolor=DARK, linewidth=0, hatch="//////")


def gpus(results: Sequence[Result]) -> Figure:
    """Attempts on the GPUs of the busiest block of nodes in one window, one panel a run (three at most)."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Patch, Rectangle

    shown = known_runs(results)[:MAX_PANELS]
    window = gpu_timeline.busiest(shown[0][2], series.interesting_windows(results))
    blocks = gpu_timeline.blocks_of(shown[0][2].spec)
    block = blocks[gpu_timeline.chosen_blocks(blocks, [held for _, _, held in shown], window)[0]]
    names = shown[0][2].spec.node_names()
    unit_s, unit = time_unit(window.end_s - window.start_s)
    placed = [(label, result, gpu_timeline.gathered(held, [block], window)) for label, result, held in shown]
    drawn = [gpu_timeline.bars_of(held, block, window) for _, _, held in placed]
    column, ranked = owners([(r, h, b) for (_, r, h), b in zip(placed, drawn, strict=True)])
    tall = min(2.6, max(1.2, 0.075 * block.size))
    figure, panels = new_figure(DOUBLE_COLUMN_IN, 0.8 + tall * len(shown), rows=len(shown))
    for axes, (label, result, held), bars in zip(panels, placed, drawn, strict=True):
        owner = result.jobs[column].to_list() if column else [None] * result.jobs.height
        boxes, fills = [], []
        for row, lane, width in zip(bars.row, bars.lane, bars.width, strict=True):
            left = (max(held.start_s[row], window.start_s) - window.start_s) / unit_s
            right = (min(held.end_s[row], window.end_s) - window.start_s) / unit_s
            gap = min(0.04, 0.15 * width)
            boxes.append(Rectangle((left, lane + gap), right - left, max(width - 2 * gap, 0.02)))
            fills.append(owner_colour(owner[held.job[row]], ranked))
        draw_outages(axes, held, block, window, unit_s)
        axes.add_collection(PatchCollection(boxes, facecolor=fills, edgecolor="white", linewidth=0.25))
        draw_ends(axes, held, bars, window, unit_s)
        axes.set_xlim(0, (window.end_s - window.start_s) / unit_s)
        axes.set_ylim(block.size, 0)
        axes.set_yticks(block.lanes, [names[n] for n in block.nodes], fontsize=6, va="top")
        axes.set_title(label, loc="left", pad=3)
        axes.grid(visible=False, axis="x")
    origin = duration(window.start_s - series.time_span(results)[0])
    panels[-1].set_xlabel(f"Time ({unit}) from {origin} after the first submit on")
    figure.supylabel("GPUs, by node", fontsize=8)
    if column:
        handles: list[Any] = [Patch(color=owner_colour(name, ranked), label=name) for name in ranked[:MOST_NAMES]]
        if len(ranked) > MOST_NAMES:
            handles.append(Patch(color=GREY, label=f"{len(ranked) - MOST_NAMES} others"))
        title = f"{column.capitalize()} (triangle: stopped for another job, cross: lost)"
        figure.legend(handles=handles, title=title, loc="outside upper center", ncols=7, title_fontsize=7)
    return figure


def owners(runs: Sequence[tuple[Result, Held, gpu_timeline.Bars]]) -> tuple[str, list[str]]:
    """``user`` or ``group``, the first that tells jobs apart, and its values by GPU time drawn; empty where neither."""
    for column in ("user", "group"):
        seconds: dict[str, float] = {}
        for result, held, bars in runs:
            names = result.jobs[column].to_list()
            for row, width in zip(bars.row, bars.width, strict=True):
                name = names[held.job[row]]
                if name is not None:
                    seconds[name] = seconds.get(name, 0.0) + float(width * (held.end_s[row] - held.start_s[row]))
        if len(seconds) > 1:
            return column, sorted(seconds, key=lambda name: (-seconds[name], name))
    return "", []


def owner_colour(name: str | None, ranked: Sequence[str]) -> str:
    """One of six colours for the first owners, grey for the others; blue where there are none."""
    if not ranked:
        return COLOURS[0]
    return COLOURS[ranked.index(name)] if name is not None and name in ranked[:MOST_NAMES] else GREY


def draw_outages(axes: Axes, held: Held, block: gpu_timeline.Block, window: series.Window, unit_s: float) -> None:
    """What was out of service, hatched."""
    from matplotlib.patches import Rectangle

    lanes = np.append(block.lanes, block.size)
    down = held.down
    for node, gpu, begin, end in zip(down.node, down.gpu, down.from_s, down.until_s, strict=True):
        if node not in block.nodes or begin >= window.end_s or end <= window.start_s:
            continue
        at = int(np.flatnonzero(block.nodes == node)[0])
        low, high = (lanes[at], lanes[at + 1]) if gpu < 0 else (lanes[at] + gpu, lanes[at] + gpu + 1)
        left = (max(begin, window.start_s) - window.start_s) / unit_s
        right = (min(end, window.end_s) - window.start_s) / unit_s
        style: dict[str, Any] = {"facecolor": GREY, "edgecolor": DARK, "linewidth": 0, "hatch": "//////"}
        axes.add_patch(Rectangle((left, low), right - left, high - low, **style))


def draw_ends(axes: Axes, held: Held, bars: gpu_timeline.Bars, window: series.Window, unit_s: float) -> None:
    """Marks where attempts were stopped or lost."""
    for kinds, marker in ((("preempted",), "<"), (("lost", "failed"), "x")):
        these = [i for i, row in enumerate(bars.row) if held.ended[row] in kinds and held.end_s[row] <= window.end_s]
        if these:
            x = (held.end_s[bars.row[these]] - window.start_s) / unit_s
            edge = {"edgecolors": "white", "linewidths": 0.3} if marker == "<" else {"linewidths": 0.8}
            y = bars.lane[these] + bars.width[these] / 2
            axes.scatter(x, y, s=11, c="black", marker=marker, zorder=3, **edge)


def fragmented_of(results: Sequence[Result]) -> list[tuple[str, Any]]:
    """Label and means over time of the fragmented GPUs of the runs that tell them."""
    edges = np.linspace(*series.time_span(results), TIME_POINTS + 1)
    found = [(label, cluster_series.free_means(result, edges)) for label, result, _ in known_runs(results)]
    return [(label, means[1]) for label, means in found if means is not None]


def fragmentation(results: Sequence[Result]) -> Figure:
    """Fragmented GPUs, as FGD defines them, over time."""
    edges = np.linspace(*series.time_span(results), TIME_POINTS + 1)
    found = fragmented_of(results)
    return strips([n for n, _ in found], edges, [means for _, means in found], "Fragmented GPUs")[0]


def power_of(results: Sequence[Result]) -> list[tuple[str, Any]]:
    """Label and mean power over time (W) of the runs whose cluster tells it."""
    edges = np.linspace(*series.time_span(results), TIME_POINTS + 1)
    found = [(label, cluster_series.power_means(held, edges)) for label, _, held in known_runs(results)]
    return [(label, watts) for label, watts in found if watts is not None]


def power(results: Sequence[Result]) -> Figure:
    """Power of the cluster over time."""
    edges = np.linspace(*series.time_span(results), TIME_POINTS + 1)
    found = power_of(results)
    return strips([n for n, _ in found], edges, [watts / 1000 for _, watts in found], "Power (kW)")[0]


def has_waiting(results: Sequence[Result]) -> bool:
    """Whether every run tells what its jobs waited for, and any job waited."""
    told = all(cluster_series.has_reasons(r) for r in results)
    return told and any(cluster_series.waiting_reasons(r).sum() > 0 for r in results)


def waiting_reasons(results: Sequence[Result]) -> Figure:
    """What jobs waited for: hours by reason, one bar a run."""
    figure, (axes,) = new_figure(DOUBLE_COLUMN_IN, 0.9 + 0.28 * len(results))
    hours = np.asarray([cluster_series.waiting_reasons(r) for r in results]) / HOUR_S
    before = np.zeros(len(results))
    for i, name in enumerate(REASON_NAMES):
        style: dict[str, Any] = {"color": REASON_COLOURS[i], "edgecolor": "white", "linewidth": 0.4}
        axes.barh(range(len(results)), hours[:, i], 0.7, left=before, label=name, **style)
        before += hours[:, i]
    for i, total in enumerate(before):
        axes.annotate(
            f"{amount(float(total))} h", (total, i), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6
        )
    axes.set_yticks(range(len(results)), series.unique_labels(results))
    axes.invert_yaxis()
    axes.set_xlim(0, max(1e-9, float(before.max())) * 1.1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Waiting of all jobs (hours)")
    legend_above(figure, axes, len(REASON_NAMES), len(REASON_NAMES))
    return figure


def rho_of(results: Sequence[Result]) -> list[tuple[int, str, Any]]:
    """Number, label and finish-time fairness of the runs on clusters of nodes that tell it."""
    labels, resource = series.unique_labels(results), series.primary_resource(results)
    on_nodes = [(i, r) for i, r in enumerate(results) if "attempts" in r.tables]
    found = [(i, labels[i], cluster_series.fairness_rho(r, resource)) for i, r in on_nodes]
    return [(i, label, rho) for i, label, rho in found if rho is not None and np.isfinite(rho).any()]


def fairness(results: Sequence[Result]) -> Figure:
    """Share of jobs by the finish-time fairness that they did not exceed."""
    from matplotlib.ticker import FuncFormatter

    found = rho_of(results)
    grid = cluster_series.rho_grid([rho for _, _, rho in found])
    figure, (axes,) = new_figure(SINGLE_COLUMN_IN, 2.4)
    for i, label, rho in found:
        axes.plot(grid, cluster_series.share_at_most(rho, grid), label=label, **line_style(i))
    axes.axvline(1, color=DARK, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_xscale("log")
    axes.set_xlim(float(grid[0]), float(grid[-1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    percent_axis(axes)
    axes.set_xlabel("Finish-time fairness ρ")
    axes.set_ylabel("Jobs with at most")
    legend_above(figure, axes, len(found), 3)
    return figure


Draw = Callable[[Sequence[Result]], "Figure"]
CLUSTER_FIGURES: dict[str, tuple[Callable[[Sequence[Result]], bool], Draw]] = {
    "nodes": (has_nodes, node_heatmap),
    "gpus": (has_gpus, gpus),
    "fragmented": (lambda results: bool(fragmented_of(results)), fragmentation),
    "power": (lambda results: bool(power_of(results)), power),
    "waiting-reasons": (has_waiting, waiting_reasons),
    "fairness": (lambda results: bool(rho_of(results)), fairness),
}
"""File name to whether the runs tell enough, and the function that draws it."""
