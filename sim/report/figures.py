"""Figures for papers: PNG or PDF, sized for one or two columns, readable in grey and by colour-blind people.

Uses matplotlib's objects on the Agg canvas and never ``pyplot``: no window, no global state, safe in threads. Fonts are
8 points at the printed size, so a figure goes into a paper without scaling. Curves differ in dash as well as in colour.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import OutputError, UsageError
from shunter.scheduler.types import FloatArray
from shunter.sim.report import series
from shunter.sim.report.formats import DAY_S, HOUR_S, MINUTE_S, UNITS, duration, human, metric_view
from shunter.sim.result import Result
from shunter.sim.run_folder import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE_COLUMN_IN = 3.4
DOUBLE_COLUMN_IN = 7.0
DPI = 300
TIME_POINTS = 500

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito, Color Universal Design, 2008; without yellow, which vanishes on white paper."""

DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)

WAIT_LIMITS_S = (MINUTE_S, 10 * MINUTE_S, HOUR_S, 6 * HOUR_S, DAY_S)
WAIT_COLOURS = ("#c8d2db", "#fee08b", "#fdb84b", "#ee8422", "#bd5208", "#742b02")
WAIT_NAMES = ("≤ 1 min", "≤ 10 min", "≤ 1 h", "≤ 6 h", "≤ 1 d", "longer")
WAIT_TICKS = (1.0, 10.0, MINUTE_S, 10 * MINUTE_S, HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S, 30 * DAY_S, 365 * DAY_S)

BAR_METRICS = ("avg_wait_s", "p95_wait_s", "avg_bounded_slowdown", "avg_jct_s", "avg_queue_length", "utilisation")

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


def write_figures(results: Sequence[Result], folder: Path, *, suffix: str = ".png") -> list[Path]:
    """Write every figure that the results can give into ``folder`` and return the files.

    Args:
        results: Runs of the same jobs, at least one.
        folder: Made when it does not exist.
        suffix: ``.png`` (300 dpi) or ``.pdf`` (fonts embedded as TrueType).

    Raises:
        UsageError: No run, or another suffix.
        OutputError: A file cannot be written.
    """
    from shunter.sim.report.cluster_figures import CLUSTER_FIGURES

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror or error}") from error
    written = []
    for name, draw in FIGURES.items():
        if name == "comparison" and len(results) < 2:
            continue
        path = folder / f"{name}{suffix}"
        write_figure(draw, results, path)
        written.append(path)
    for name, (is_known, draw) in CLUSTER_FIGURES.items():
        if is_known(results):
            written.append(folder / f"{name}{suffix}")
            write_figure(draw, results, written[-1])
    return written


def write_figure(draw: Callable[[Sequence[Result]], Figure], results: Sequence[Result], path: Path) -> None:
    """Draw one figure of ``FIGURES`` and write it aside and rename it; the suffix chooses PNG or PDF.

    Raises:
        UsageError: No run, or another suffix.
        OutputError: The file cannot be written.
    """
    if not results:
        raise UsageError("figures need at least one run")
    if path.suffix not in (".png", ".pdf"):
        raise UsageError(f"{path}: figures are written as .png or .pdf, got {path.suffix!r}")
    buffer = io.BytesIO()
    with paper_style():
        # No creation date in the file, so that equal runs give equal bytes.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        draw(results).savefig(buffer, format=path.suffix[1:], dpi=DPI, metadata=metadata)
    write_aside(path, buffer.getvalue())


@contextmanager
def paper_style() -> Iterator[None]:
    """The figures' fonts, lines and grid for the duration of a block."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


# Building blocks --------------------------------------------------------------------------------------------------


def new_figure(width_in: float, height_in: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with ``rows`` axes below each other that share their x axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, list(axes[:, 0])


def line_style(index: int) -> dict[str, Any]:
    """Colour and dash of a run."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


def legend_above(figure: Figure, axes: Axes, num_entries: int, columns: int) -> None:
    """One legend above the axes, so that it never covers a curve."""
    if num_entries > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=min(num_entries, columns))


def duration_axis(axes: Axes, longest_s: float) -> None:
    """A logarithmic x axis with ticks at a second, a minute, an hour, a day."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(1, longest_s)
    axes.xaxis.set_major_locator(FixedLocator([t for t in WAIT_TICKS if t <= longest_s * 1.001]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "1 d" if value == DAY_S else duration(value)))


def time_unit(span_s: float) -> tuple[float, str]:
    """Seconds of the unit in which a span reads best, and its name."""
    return (
        (DAY_S, "days") if span_s > 3 * DAY_S else (HOUR_S, "hours") if span_s > 3 * HOUR_S else (MINUTE_S, "minutes")
    )


def percent_axis(axes: Axes) -> None:
    """A y axis from 0 to 100 %."""
    from matplotlib.ticker import PercentFormatter

    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


# Figures ----------------------------------------------------------------------------------------------------------


def wait_cdf(results: Sequence[Result]) -> Figure:
    """Share of jobs by the wait that they did not exceed."""
    figure, (axes,) = new_figure(SINGLE_COLUMN_IN, 2.4)
    grid = series.wait_grid(results, points=400)
    labels = series.unique_labels(results)
    for i, (result, label) in enumerate(zip(results, labels, strict=True)):
        axes.plot(grid, series.wait_cdf(result, grid), label=label, **line_style(i))
    duration_axis(axes, float(grid[-1]))
    percent_axis(axes)
    axes.set_xlabel("Wait")
    axes.set_ylabel("Jobs that waited at most")
    legend_above(figure, axes, len(results), 3)
    return figure


def over_time(results: Sequence[Result], column: str, scale: Sequence[float], label: str) -> tuple[Figure, list[Axes]]:
    """One panel a run with a timeline column over time, filled; all panels have the same axes."""
    edges = np.linspace(*series.time_span(results), TIME_POINTS + 1)
    values = [series.timeline_means(r, column, edges) / s for r, s in zip(results, scale, strict=True)]
    return strips(series.unique_labels(results), edges, values, label)


def strips(
    names: Sequence[str], edges_s: FloatArray, values: Sequence[FloatArray], label: str
) -> tuple[Figure, list[Axes]]:
    """One panel a run with means over stretches of time as steps, filled; all panels have the same axes."""
    figure, panels = new_figure(DOUBLE_COLUMN_IN, 0.5 + 0.95 * max(1.6, len(values)), rows=len(values))
    first, last = float(edges_s[0]), float(edges_s[-1])
    unit_s, unit = time_unit(last - first)
    middle = ((edges_s[1:] + edges_s[:-1]) / 2 - first) / unit_s
    top = max(1e-9, *(float(v.max()) for v in values))
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        axes.fill_between(middle, values[i], step="mid", color=colour, alpha=0.18, linewidth=0)
        axes.plot(middle, values[i], drawstyle="steps-mid", color=colour, linewidth=0.8)
        axes.set_title(name, loc="left", pad=3)
        axes.set_ylim(0, top * 1.05)
        axes.set_xlim(0, (last - first) / unit_s)
    panels[-1].set_xlabel(f"Time since the first submit ({unit})")
    figure.supylabel(label, fontsize=8)
    return figure, panels


def utilisation(results: Sequence[Result]) -> Figure:
    """Share of the cluster that is allocated over time; amounts where the capacity is not known."""
    resource = series.primary_resource(results)
    capacities = [r.capacity(resource) for r in results]
    if None in capacities:
        return over_time(results, f"used_{resource}", [1.0] * len(results), f"{UNITS[resource]} in use")[0]
    figure, panels = over_time(results, f"used_{resource}", [c or 1.0 for c in capacities], "Utilisation")
    for axes in panels:
        percent_axis(axes)
    return figure


def queue(results: Sequence[Result]) -> Figure:
    """Waiting jobs over time."""
    return over_time(results, "queue_length", [1.0] * len(results), "Queue length (jobs)")[0]


def slowdown_by_size(results: Sequence[Result]) -> Figure:
    """Boxes of the bounded slowdown by job size: quartiles, median, whisker to the 95th percentile."""
    from matplotlib.ticker import FuncFormatter

    resource = series.primary_resource(results)
    sizes = np.concatenate([series.sizes(r, resource) for r in results])
    classes = series.size_classes(sizes)
    figure, (axes,) = new_figure(DOUBLE_COLUMN_IN if len(results) > 3 else SINGLE_COLUMN_IN * 1.25, 2.5)
    width = 0.8 / len(results)
    for i, (result, label) in enumerate(zip(results, series.unique_labels(results), strict=True)):
        cells = series.slowdown_by_size(result, classes, resource)
        boxes = [(k, c) for k, c in enumerate(cells) if c is not None]
        stats = [
            {"q1": c["p25"], "med": c["p50"], "q3": c["p75"], "whislo": c["p25"], "whishi": c["p95"], "fliers": []}
            for _, c in boxes
        ]
        where = [k + (i - (len(results) - 1) / 2) * width for k, _ in boxes]
        colour = COLOURS[i % len(COLOURS)]
        line = {"color": colour, "linewidth": 0.9}
        axes.bxp(
            stats,
            positions=where,
            widths=width * 0.75,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour + "40", "edgecolor": colour, "linewidth": 0.8},
            medianprops={"color": colour, "linewidth": 1.8},
            whiskerprops=line,
            capprops=line,
            manage_ticks=False,
        )
        axes.plot([], [], color=colour, linewidth=4, alpha=0.6, label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", "\u202f")))
    axes.set_xticks(range(len(classes.labels)), classes.labels, rotation=30 if len(classes.labels) > 6 else 0)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"Job size ({UNITS[resource]})")
    axes.set_ylabel("Bounded slowdown")
    legend_above(figure, axes, len(results), 3)
    return figure


def comparison(results: Sequence[Result]) -> Figure:
    """Bars of the main metrics of each run relative to the first run's, whose value stands below the name."""
    from matplotlib.ticker import FuncFormatter

    base = results[0].metrics
    names = [n for n in BAR_METRICS if base.get(n) and all(n in r.metrics for r in results)]
    if not names:
        raise UsageError("the runs have no main metric in common that is not zero in the first")
    figure, (axes,) = new_figure(DOUBLE_COLUMN_IN, 2.5)
    width = 0.8 / len(results)
    labels = series.unique_labels(results)
    ratios = np.array([[r.metrics[n] / base[n] for n in names] for r in results])
    log = bool(ratios.max() > 5)
    for i, label in enumerate(labels):
        where = np.arange(len(names)) + (i - (len(results) - 1) / 2) * width
        # On a logarithmic axis bars grow from 1: shorter or longer than the first run's, with no arbitrary foot.
        heights, foot = (ratios[i] - 1, 1.0) if log else (ratios[i], 0.0)
        axes.bar(where, heights, width * 0.88, bottom=foot, color=COLOURS[i % len(COLOURS)], label=label)
        for x, ratio in zip(where, ratios[i] if i else [], strict=i > 0):
            up = not log or ratio >= 1
            axes.annotate(
                f"{ratio:.2g}×" if ratio < 9.5 else f"{ratio:.0f}×",
                (x, ratio),
                xytext=(0, 2 if up else -2),
                textcoords="offset points",
                ha="center",
                va="bottom" if up else "top",
                fontsize=6,
            )
    axes.axhline(1, color="#56636f", linewidth=0.8)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(ratios.min() / 1.6, ratios.max() * 1.6)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.set_xticks(range(len(names)), [f"{metric_view(n).short}\n{human(n, base[n])}" for n in names])
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(f"Relative to {labels[0]}")
    legend_above(figure, axes, len(results), 6)
    return figure


def gantt(results: Sequence[Result]) -> Figure:
    """Jobs of the first interesting window as rectangles, one panel a run (three at most), coloured by wait."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Patch, Rectangle

    shown = list(results)[:3]
    resource = series.primary_resource(results)
    window = series.interesting_windows(results)[0]
    unit_s, unit = time_unit(window.end_s - window.start_s)
    figure, panels = new_figure(DOUBLE_COLUMN_IN, 0.7 + 1.4 * len(shown), rows=len(shown))
    for axes, result, label in zip(panels, shown, series.unique_labels(results), strict=False):
        packed = series.gantt(result, window, resource)
        boxes, colours = [], []
        for (start, end, wait), pieces in zip(
            packed.jobs.select("start_s", "end_s", "wait_s").iter_rows(), packed.pieces, strict=True
        ):
            left = (max(start, window.start_s) - window.start_s) / unit_s
            right = (min(end, window.end_s) - window.start_s) / unit_s
            for lane, lanes in pieces:
                boxes.append(Rectangle((left, lane), right - left, lanes))
                colours.append(WAIT_COLOURS[int(np.searchsorted(WAIT_LIMITS_S, wait))])
        axes.add_collection(PatchCollection(boxes, facecolor=colours, edgecolor="white", linewidth=0.25))
        axes.set_xlim(0, (window.end_s - window.start_s) / unit_s)
        axes.set_ylim(0, max(1.0, packed.lanes))
        axes.grid(visible=False)
        axes.set_title(label, loc="left", pad=3)
        axes.set_ylabel(UNITS[resource])
    origin = duration(window.start_s - series.time_span(results)[0])
    panels[-1].set_xlabel(f"Time ({unit}) from {origin} after the first submit on")
    handles = [Patch(color=c, label=n) for c, n in zip(WAIT_COLOURS, WAIT_NAMES, strict=True)]
    figure.legend(handles=handles, title="Waited", loc="outside upper center", ncols=6, title_fontsize=7)
    return figure


FIGURES: dict[str, Callable[[Sequence[Result]], Figure]] = {
    "wait-cdf": wait_cdf,
    "utilisation": utilisation,
    "queue": queue,
    "slowdown-by-size": slowdown_by_size,
    "comparison": comparison,
    "gantt": gantt,
}
"""File name to the function that draws it."""
