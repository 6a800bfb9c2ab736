"""One picture of a trace: arrivals and offered load over time, weekly rhythm, job sizes, run times.

Drawn with matplotlib's object interface on the Agg canvas: no display, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray
from shunter.traces.compression import write_atomically
from shunter.traces.info import DAY_S, HOUR_S, calendar, clock_name, offered_load, size_resource, sizes
from shunter.traces.tables import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b7280"
"""Okabe & Ito's palette, told apart by colour-blind readers."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TIME_TICKS = (
    (1, "1 s"),
    (10, "10 s"),
    (60, "1 min"),
    (600, "10 min"),
    (3600, "1 h"),
    (86400, "1 d"),
    (864000, "10 d"),
    (8640000, "100 d"),
)

TINY = 1e-9
"""Stands in for a sum or height of 0 where one is divided by."""

NEAR_CAPACITY = 0.3
"""Below this load the line of the capacity would only flatten the picture."""

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#374151",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def plot(trace: Trace, path: str | Path) -> None:
    """Write the picture of a trace as PNG, PDF or SVG, by the name's ending.

    Raises:
        UsageError: Another ending, or a trace without jobs.
        OutputError: The file cannot be written.
    """
    if not len(trace.jobs):
        raise UsageError(f"trace {trace.name!r} has no jobs to draw")
    save(path, lambda figure: _draw(figure, trace), (12, 9.2))


def save(path: str | Path, draw: Callable[[Figure], None], size: tuple[float, float]) -> None:
    """Write what ``draw`` draws on a figure of ``size`` inches as PNG, PDF or SVG, by the name's ending.

    Raises:
        UsageError: Another ending.
        OutputError: The file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    place = Path(path)
    kind = place.suffix.lower().removeprefix(".")
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"{place}: cannot tell the kind of picture; expected a name ending in .png, .pdf or .svg")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1), facecolor="white")
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        # No date and version inside: equal traces give equal files.
        metadata: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}.get(kind, {"Date": None})
        figure.savefig(buffer, format=kind, dpi=130, metadata=metadata)
    write_atomically(place, buffer.getvalue())


def _draw(figure: Figure, trace: Trace) -> None:
    grid = figure.add_gridspec(3, 3, height_ratios=(1, 1, 1.35))
    axes = figure.add_subplot(grid[0, :])
    _arrivals(axes, trace)
    _load(figure.add_subplot(grid[1, :], sharex=axes), trace)
    _rhythm(figure.add_subplot(grid[2, 0]), trace)
    _sizes(figure.add_subplot(grid[2, 1]), trace)
    _times(figure.add_subplot(grid[2, 2]), trace)
    figure.suptitle(_title(trace), x=0.012, ha="left", fontsize=13, fontweight="bold", color="#111827")


def _title(trace: Trace) -> str:
    resource = size_resource(trace)
    total = trace.cluster.total(resource)
    unit = resource.upper().removesuffix("S") + "s"
    days = float(np.ptp(trace.jobs.floats("submit_s"))) / DAY_S
    span = f"{days:,.0f} days" if days >= 3 else f"{days * 24:,.1f} hours"
    machine = f" on {total:,.0f} {unit}" if total else ""
    return f"{_shortened(trace.name)}: {len(trace.jobs):,} jobs{machine} in {span}"


def _shortened(name: str) -> str:
    return name if len(name) <= 48 else name[:45] + "…"


def _bins(trace: Trace) -> tuple[FloatArray, float, str]:
    """Edges of equal bins over the submissions, at most some 400, their width in s and what to call it."""
    submit = trace.jobs.floats("submit_s")
    low, high = float(submit.min()), float(submit.max())
    widths = ((60.0, "minute"), (600.0, "10 min"), (HOUR_S, "hour"), (6 * HOUR_S, "6 h"), (DAY_S, "day"))
    width, name = next(((w, n) for w, n in widths if (high - low) / w <= 400), (7 * DAY_S, "week"))
    first = np.floor(low / width) * width
    count = int((high - first) // width) + 1
    return first + width * np.arange(count + 1), width, name


def _unit(trace: Trace) -> tuple[float, str]:
    """Unit of the time axis: days, or hours for a short trace."""
    return (DAY_S, "days") if float(np.ptp(trace.jobs.floats("submit_s"))) > 3 * DAY_S else (HOUR_S, "hours")


def _arrivals(axes: Axes, trace: Trace) -> None:
    edges, _, name = _bins(trace)
    unit, _ = _unit(trace)
    counts, _ = np.histogram(trace.jobs.floats("submit_s"), edges)
    axes.stairs(counts, edges / unit, fill=True, color=BLUE, alpha=0.75, linewidth=0)
    axes.set_title(f"Arrivals (jobs per {name})")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.tick_params(labelbottom=False)


def _load(axes: Axes, trace: Trace) -> None:
    """Work that arrives in each bin over what the cluster can do in it, and its mean."""
    edges, width, name = _bins(trace)
    unit, unit_name = _unit(trace)
    resource = size_resource(trace)
    total = trace.cluster.total(resource)
    work = sizes(trace, resource) * trace.jobs.floats("duration_s")
    arriving, _ = np.histogram(trace.jobs.floats("submit_s"), edges, weights=work)
    load = arriving / (width * total) if total else arriving / HOUR_S
    axes.stairs(load, edges / unit, fill=True, color=GREEN, alpha=0.35, linewidth=0, label=f"per {name}")
    span = min(len(load), max(5, round(min(7 * DAY_S, (edges[-1] - edges[0]) / 8) / width)))
    smooth = np.convolve(load, np.ones(span), "same") / np.convolve(np.ones(len(load)), np.ones(span), "same")
    axes.plot((edges[:-1] + edges[1:]) / 2 / unit, smooth, color=GREEN, linewidth=1.6, label="moving mean")
    top = float(np.quantile(load, 0.99)) * 1.15
    if total and top > NEAR_CAPACITY:
        axes.axhline(1.0, color=ORANGE, linewidth=1.0, linestyle="--", label="capacity")
        top = max(top, 1.3)
    axes.set_ylim(0, max(top, float(smooth.max()) * 1.1, TINY))
    mean = offered_load(trace)[resource]
    what = "Offered load (work arriving over capacity"
    axes.set_title(
        f"{what}; mean {mean:{'.2f' if mean >= 0.1 else '.2g'}})"
        if total and mean is not None
        else f"Work arriving ({resource} × h)"
    )
    start = f" since {_start(trace)}" if trace.start_unix_s is not None else " since the trace's start"
    axes.set_xlabel(f"{unit_name}{start}")
    axes.legend(loc="upper right", ncols=3, frameon=False, fontsize=8)


def _start(trace: Trace) -> str:
    from shunter.traces.info import start_text

    return (start_text(trace) or "")[:16].replace("T", " ") + " UTC"


def _rhythm(axes: Axes, trace: Trace) -> None:
    cells = calendar(trace)
    counts = np.zeros((7, 24))
    np.add.at(counts, (cells["weekday"].to_numpy(), cells["hour"].to_numpy()), 1)
    mesh = axes.pcolormesh(np.arange(25), np.arange(8), counts / counts.sum() * 100, cmap="Blues", rasterized=True)
    axes.set_yticks(np.arange(7) + 0.5, WEEKDAYS if trace.start_unix_s is not None else [f"day {i}" for i in range(7)])
    axes.set_xticks(range(0, 25, 4))
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlabel("hour of the day" if trace.start_unix_s is not None else "hour since the start, modulo 24")
    axes.set_title("Arrivals by hour and weekday")
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label(f"% of jobs ({clock_name(trace)})" if trace.start_unix_s is not None else "% of jobs", fontsize=8)
    bar.outline.set_visible(False)


def _sizes(axes: Axes, trace: Trace) -> None:
    """Share of the jobs and of the work per size class; a class ends at a power of two."""
    resource = size_resource(trace)
    held = sizes(trace, resource)
    work = held * trace.jobs.floats("duration_s")
    some = held > 0
    axes.set_title("Job sizes (% of all)")
    axes.set_xlabel(f"{resource.upper().removesuffix('S')}s of a job (up to)")
    if not some.any():
        axes.text(0.5, 0.5, "the log has no sizes", transform=axes.transAxes, ha="center", color=GREY)
        return
    classes = np.ceil(np.log2(np.maximum(held[some], 1e-3)) - 1e-9).astype(np.int64).clip(-1)
    low, high = int(classes.min()), int(classes.max())
    jobs = np.bincount(classes - low, minlength=high - low + 1) / len(held) * 100
    share = np.bincount(classes - low, weights=work[some], minlength=high - low + 1) / max(work.sum(), TINY) * 100
    places = np.arange(low, high + 1)
    axes.bar(places - 0.2, jobs, width=0.4, color=BLUE, label="jobs")
    axes.bar(places + 0.2, share, width=0.4, color=ORANGE, label="work")
    step = max(1, -(-len(places) // 9))
    axes.set_xticks(places[::step], ["<1" if p < 0 else _short(2.0**p) for p in places[::step]])
    axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="x", visible=False)


def _short(value: float) -> str:
    return f"{value / 1024:g}k" if value >= 1024 else f"{value:g}"


def _times(axes: Axes, trace: Trace) -> None:
    series = [("run time", trace.jobs.floats("duration_s"), BLUE, "-")]
    requested = trace.jobs.floats("requested_s")
    series.append(("requested", requested[np.isfinite(requested)], ORANGE, "-"))
    waits = trace.jobs.floats("recorded_wait_s")
    series.append(("recorded wait", waits[np.isfinite(waits)], GREY, "--"))
    low, high = 1.0, 10.0
    for label, values, colour, line in series:
        if len(values):
            levels = np.linspace(0, 1, 501)
            points = np.maximum(np.quantile(values, levels), 1.0)
            axes.step(points, levels * 100, where="post", color=colour, linestyle=line, linewidth=1.6, label=label)
            high = max(high, float(points[-1]))
    axes.set_xscale("log")
    axes.set_xlim(low, high * 1.3)
    axes.set_ylim(0, 100)
    ticks = [(place, text) for place, text in TIME_TICKS if place <= high * 1.3]
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks], rotation=35, ha="right")
    axes.minorticks_off()
    axes.set_title("Run times (% of jobs up to)")
    axes.legend(frameon=False, fontsize=8, loc="best")
