"""Tables of the command line: several runs beside each other, and two runs compared job by job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.sim.compare import Comparison, PairedDifference
    from shunter.sim.result import Result

METRIC_COLUMNS = (
    ("avg_wait_s", "Wait"),
    ("avg_bounded_slowdown", "Bounded slowdown"),
    ("utilisation", "Util."),
    ("p95_wait_s", "Wait p95"),
    ("avg_jct_s", "JCT"),
    ("max_wait_s", "Wait max"),
    ("makespan_s", "Makespan"),
    ("jobs_rejected", "Rejected"),
)
"""Columns with their headings, the most telling first: a narrow terminal shows the first ones only."""

MIN_LABEL_WIDTH = 8
MAX_LABEL_WIDTH = 30
PADDING = 3
"""Columns of the terminal between two cells: a space on either side and the line."""


def render_comparison_table(results: Sequence[Result], *, width: int | None = None) -> Table:
    """Runs × metrics, best value of each column in bold green; as many columns as fit ``width`` or the terminal."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from shunter.sim.report.formats import best_indices, human
    from shunter.sim.report.series import unique_labels

    labels = unique_labels(results)
    label_width = min(MAX_LABEL_WIDTH, max(MIN_LABEL_WIDTH, *map(len, labels)))
    table = Table(
        title=f"{escape(results[0].trace)}, {results[0].jobs.height} jobs", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("Policy", max_width=label_width, no_wrap=True)
    cells: list[list[Text]] = []
    left = (width or Console().width) - label_width - PADDING - 1
    for name, heading in METRIC_COLUMNS:
        values = [r.metrics.get(name) for r in results]
        if not any(v is not None and (v or name != "jobs_rejected") for v in values):
            continue
        best = best_indices(name, values)
        column = [Text(human(name, v), style="bold green" if i in best else "") for i, v in enumerate(values)]
        needed = max(*map(len, heading.split()), *(t.cell_len for t in column)) + PADDING
        if needed > left:
            break
        left -= needed
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True, vertical="bottom")
        cells.append(column)
    for i, label in enumerate(labels):
        table.add_row(Text(label), *(column[i] for column in cells))
    return table


def render_difference_table(comparison: Comparison) -> Table:
    """Mean of each measure under both runs, their difference with its interval, and who gains."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shunter.sim.compare import MEASURES, readable

    table = Table(title=f"{comparison.num_jobs} jobs paired", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for measure in MEASURES:
        table.add_column(measure.label.capitalize().replace(" ", "\n", 1), justify="right", vertical="bottom")
    found = [comparison.difference(measure.name) for measure in MEASURES]
    pairs = list(zip(MEASURES, found, strict=True))
    table.add_row(Text(f"mean, {comparison.a}"), *(readable(f.mean_a, m.unit) for m, f in pairs))
    table.add_row(Text(f"mean, {comparison.b}"), *(readable(f.mean_b, m.unit) for m, f in pairs))
    table.add_row(
        "difference",
        *(Text(readable(f.difference, m.unit, signed=True), style=verdict_style(f)) for m, f in pairs),
    )
    for i, end in enumerate(("95 % interval from", "to")):
        table.add_row(
            end,
            *("too few jobs" if f.interval is None else readable(f.interval[i], m.unit, signed=True) for m, f in pairs),
        )
    table.add_row(
        "jobs better/equal/worse",
        *("/".join(f"{100 * share:.0f}" for share in (f.better, f.equal, f.worse)) + " %" for f in found),
    )
    return table


def render_window_table(comparison: Comparison, measure: str = "wait_s") -> Table:
    """One row a window of consecutive jobs: mean under both runs and the difference."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shunter.sim.compare import MEASURES, readable

    words = {m.name: m for m in MEASURES}[measure]
    table = Table(
        title=f"Mean {words.label} in {comparison.windows.height} windows", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("Window", justify="right")
    table.add_column("Jobs", justify="right")
    table.add_column("First submit", justify="right")
    for label in (comparison.a, comparison.b):
        table.add_column(Text(label), justify="right")
    table.add_column("Difference", justify="right")
    columns = ("window", "num_jobs", "submit_from_s", f"{measure}_a", f"{measure}_b", f"{measure}_difference")
    for window, jobs, submit_s, mean_a, mean_b, difference in comparison.windows.select(columns).iter_rows():
        style = "" if difference == 0 else "green" if difference < 0 else "red"
        table.add_row(
            str(window),
            str(jobs),
            readable(submit_s, "s"),
            readable(mean_a, words.unit),
            readable(mean_b, words.unit),
            Text(readable(difference, words.unit, signed=True), style=style),
        )
    return table


def verdict_style(found: PairedDifference) -> str:
    """Green where the second run is clearly better, red where clearly worse, plain where nobody can tell."""
    if not found.is_clear:
        return ""
    return "bold green" if found.difference < 0 else "bold red"


def pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """A table of two columns: name and explanation."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, title_style="bold", title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False
    )
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def duration_text(seconds: float) -> str:
    """Seconds in the largest unit that leaves a number of at least 1."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1000 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.3g} s"
