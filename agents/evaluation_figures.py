"""Figures of an evaluation, in the style of the run reports: bars with intervals, single windows, and the matrix."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.verdicts import MAIN_METRIC, Scores
from shunter.sim.report.figures import COLOURS, DOUBLE_COLUMN_IN, DPI, SINGLE_COLUMN_IN, new_figure, paper_style
from shunter.sim.report.formats import amount, metric_view
from shunter.sim.run_folder import distinct_names, run_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND_COLOURS = {"learned": COLOURS[1], "heuristic": COLOURS[0], "bound": "#9aa3ab"}
KIND_NAMES = {"learned": "learned", "heuristic": "heuristics", "bound": "told the true run times"}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_IN_SCATTER = 3
"""Learned policies in one picture of windows; more cannot be told apart."""


def draw_all(document: Mapping[str, Any], scores: Sequence[Scores]) -> dict[str, bytes]:
    """File name to PNG of every figure that the evaluation can give.

    Args:
        document: What ``verdicts.judge`` says.
        scores: What it says it of.
    """
    found: dict[str, bytes] = {}
    names = distinct_names([run_label(table["trace"], table["backfill"]) for table in document["traces"]])
    with paper_style():
        for name, table, values in zip(names, document["traces"], scores, strict=True):
            if MAIN_METRIC not in values.values:
                continue
            found[f"bars-{name}.png"] = png(bars(table))
            if table["comparisons"]:
                found[f"windows-{name}.png"] = png(scatter(table, values))
        cells = [cell for row in (document["matrix"] or {"rows": ()})["rows"] for cell in row["cells"]]
        if len(cells) > 1 and any(cells):
            found["matrix.png"] = png(matrix(document["matrix"]))
    return found


def png(figure: Figure) -> bytes:
    """A figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def bars(table: Mapping[str, Any], metric: str = MAIN_METRIC) -> Figure:
    """A bar a policy, or a point where they are far apart, the best on top, with the 95 % interval of its mean."""
    from matplotlib.patches import Patch

    rows = [row for row in table["policies"] if row["same_as"] is None or row["kind"] == "learned"]
    rows.sort(key=lambda row: -row["metrics"][metric]["mean"])
    figure, (axes,) = new_figure(DOUBLE_COLUMN_IN, 0.9 + 0.19 * len(rows))
    means = np.asarray([row["metrics"][metric]["mean"] for row in rows])
    ends = [row["metrics"][metric]["interval"] or (mean, mean) for row, mean in zip(rows, means, strict=True)]
    low, high = np.asarray(ends).T
    place = np.arange(len(rows))
    colours = [KIND_COLOURS[row["kind"]] for row in rows]
    if any(row["metrics"][metric]["interval"] for row in rows):
        spread = np.maximum([means - low, high - means], 0.0)
        axes.errorbar(means, place, xerr=spread, fmt="none", ecolor="#16202b", elinewidth=0.8, capsize=2, zorder=3)
    if means.max() > 20 * means.min() > 0:
        # The foot of a bar on a logarithmic axis would be arbitrary, and so its length: points instead.
        axes.scatter(means, place, s=22, color=colours, zorder=4)
        axes.set_xscale("log")
        axes.set_xlim(float(np.where(low > 0, low, means).min()) * 0.8, None)
    else:
        axes.barh(place, means, 0.72, color=colours)
    for x, y, mean in zip(high, place, means, strict=True):
        axes.annotate(amount(float(mean)), (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=6.5)
    axes.margins(x=0.08)
    axes.set_yticks(place, [row["policy"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    plain_numbers(axes, "x")
    axes.set_xlabel(f"{metric_view(metric).label}, mean over {table['windows']} windows and 95 % interval")
    kinds = [kind for kind in KIND_COLOURS if any(row["kind"] == kind for row in rows)]
    handles = [Patch(color=KIND_COLOURS[kind], label=KIND_NAMES[kind]) for kind in kinds]
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def scatter(table: Mapping[str, Any], scores: Scores, metric: str = MAIN_METRIC) -> Figure:
    """Every window once a learned policy: its value under the best heuristic and under the policy."""
    best = scores.best(metric)
    assert best is not None
    values = scores.values[metric]
    learned = [i for i, c in enumerate(scores.contenders) if c.kind == "learned"]
    learned = sorted(learned, key=lambda i: float(values[i].mean()))[:MOST_IN_SCATTER]
    figure, (axes,) = new_figure(SINGLE_COLUMN_IN, 3.3)
    shown = values[[best, *learned]]
    ends = shown.min() / 1.25, shown.max() * 1.25
    axes.plot(ends, ends, color="#56636f", linewidth=0.8)
    for place, i in enumerate(learned):
        wins = int((values[i] < values[best]).sum())
        axes.plot(
            values[best],
            values[i],
            MARKERS[place % len(MARKERS)],
            color=COLOURS[(place + 1) % len(COLOURS)],
            markersize=4,
            markerfacecolor="none",
            markeredgewidth=0.9,
            label=f"{scores.contenders[i].label}: better in {wins} of {values.shape[1]}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_aspect("equal")
    plain_numbers(axes, "both")
    axes.text(0.97, 0.03, "learned better", transform=axes.transAxes, ha="right", fontsize=6.5, color="#56636f")
    axes.text(0.03, 0.95, "heuristic better", transform=axes.transAxes, fontsize=6.5, color="#56636f")
    name = metric_view(metric).label
    axes.set_xlabel(f"{name} under {scores.contenders[best].label}")
    axes.set_ylabel(f"{name}, learned")
    axes.set_title(table["trace"], loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure


def matrix(found: Mapping[str, Any]) -> Figure:
    """Ratio to the best heuristic, policies × traces: blue where better, red where worse, bold where surely so."""
    from matplotlib.colors import TwoSlopeNorm

    several = len({column["backfill"] for column in found["columns"]}) > 1
    labels = [run_label(c["trace"], c["backfill"]) if several else c["trace"] for c in found["columns"]]
    ratios = np.asarray(
        [
            [np.nan if cell is None or cell["ratio"] is None else cell["ratio"] for cell in row["cells"]]
            for row in found["rows"]
        ]
    )
    height = 1.7 + 0.28 * len(found["rows"])
    figure, (axes,) = new_figure(min(DOUBLE_COLUMN_IN, 2.4 + 0.62 * len(labels)), height)
    away = max(0.1, float(np.nanmax(np.abs(np.log(ratios)), initial=0.0)))
    picture = axes.imshow(np.log(ratios), cmap="RdBu_r", norm=TwoSlopeNorm(0.0, -away, away), aspect="auto")
    for i, row in enumerate(found["rows"]):
        for j, cell in enumerate(row["cells"]):
            if cell is not None and cell["ratio"] is not None:
                sure = cell["verdict"] in ("better", "worse")
                dark = abs(np.log(cell["ratio"])) > 0.6 * away
                axes.text(
                    j,
                    i,
                    f"{cell['ratio']:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    fontweight="bold" if sure else "normal",
                    color="white" if dark else "#16202b",
                )
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(found["rows"])), [row["policy"] for row in found["rows"]])
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(picture, ax=axes, pad=0.02, ticks=[-away, 0.0, away])
    bar.ax.set_yticklabels([f"{np.exp(x):.2f}" for x in (-away, 0.0, away)])
    bar.outline.set_visible(False)
    figure.suptitle(f"{metric_view(found['metric']).label}: ratio to the best heuristic", fontsize=8, x=0.02, ha="left")
    return figure


def plain_numbers(axes: Axes, which: str) -> None:
    """Numbers instead of powers on the axes."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if which in (name, "both"):
            axis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
            axis.set_minor_formatter(NullFormatter())
