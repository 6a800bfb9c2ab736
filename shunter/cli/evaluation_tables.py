"""Tables of ``shunter evaluate``: policies × metrics, learned policies against heuristics, seeds, other traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

VERDICT_STYLES = {"better": "bold green", "worse": "bold red"}
KIND_NAMES = {"learned": "learned", "heuristic": "", "bound": "bound"}
MAIN_METRIC = "avg_bounded_slowdown"
LABEL_WIDTH = 30
PADDING = 3
"""Columns of the terminal between two cells: a space on either side and the line."""


def render_evaluation(document: Mapping[str, Any]) -> Iterator[Table | str]:
    """Everything that a terminal shows of an evaluation: tables, and lines between them."""
    for table in document["traces"]:
        yield render_metrics(table)
        yield from remarks(table)
        for policy in dict.fromkeys(found["policy"] for found in table["comparisons"]):
            yield render_against_best(table, policy)
        yield from (degeneracy_line(found) for found in table["degeneracy"])
    if document.get("seeds"):
        yield render_seeds(document["seeds"])
    matrix = document.get("matrix")
    if matrix and len(matrix["columns"]) > 1:
        yield render_matrix(matrix)
    for backfill, policy in dict.fromkeys((found["backfill"], found["policy"]) for found in document["pooled"]):
        yield render_pooled([f for f in document["pooled"] if (f["backfill"], f["policy"]) == (backfill, policy)])


def render_metrics(table: Mapping[str, Any], *, width: int | None = None) -> Table:
    """Policies × metrics of one trace, as many as fit; the best of each column in bold green, bounds below a line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = ordered(table)
    num_judged = sum(row["kind"] != "bound" for row in rows)
    labels = [row["policy"] + (f" ({KIND_NAMES[row['kind']]})" if KIND_NAMES[row["kind"]] else "") for row in rows]
    shown = Table(title=title_of(table), title_style="bold", box=box.SIMPLE_HEAD)
    shown.add_column("Policy", max_width=LABEL_WIDTH, no_wrap=True)
    left = (width or Console().width) - min(LABEL_WIDTH, max(map(len, labels))) - PADDING - 1
    columns = []
    for heading, cells, style in metric_columns(rows, num_judged):
        left -= max(*map(len, heading.split()), *(cell.cell_len for cell in cells)) + PADDING
        if left >= 0:
            shown.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True, vertical="bottom", style=style)
            columns.append(cells)
    for i, label in enumerate(labels):
        if i == num_judged:
            shown.add_section()
        shown.add_row(Text(label), *(column[i] for column in columns))
    return shown


def metric_columns(rows: Sequence[Mapping[str, Any]], num_judged: int) -> Iterator[tuple[str, list[Text], str]]:
    """Heading, cells and style of every metric's means, and last of the main metric's intervals."""
    from rich.text import Text

    from shunter.sim.report.formats import best_indices, human, metric_view

    for name in rows[0]["metrics"]:
        means = [row["metrics"][name]["mean"] for row in rows]
        best = best_indices(name, means[:num_judged])
        cells = [Text(human(name, mean), style="bold green" if i in best else "") for i, mean in enumerate(means)]
        yield metric_view(name).short, cells, ""
    intervals = [row["metrics"].get(MAIN_METRIC, {}).get("interval") for row in rows]
    if any(intervals):
        heading = f"{metric_view(MAIN_METRIC).short} 95 % interval".replace("95 %", "95\u202f%")
        yield heading, [Text(span(MAIN_METRIC, interval)) for interval in intervals], "dim"


def ordered(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Learned policies and heuristics by the main metric, then the bounds; those equal to an earlier one left out."""
    rows = [row for row in table["policies"] if row["same_as"] is None or row["kind"] == "learned"]
    name = MAIN_METRIC if MAIN_METRIC in rows[0]["metrics"] else next(iter(rows[0]["metrics"]))
    return sorted(rows, key=lambda row: (row["kind"] == "bound", row["metrics"][name]["mean"]))


def title_of(table: Mapping[str, Any]) -> str:
    """Which jobs a table is about."""
    from rich.markup import escape

    backfill = "without backfilling" if table["backfill"] == "none" else f"with {table['backfill']} backfilling"
    windows = f"{table['windows']} windows" if table["windows"] > 1 else "one window"
    copies = f" on {table['shakes']} shaken copies" if table["shakes"] else ""
    return f"{escape(table['trace'])}, {backfill}: means over {windows}{copies}, {table['jobs']:,} jobs"


def remarks(table: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before trusting the numbers."""
    from shunter.agents.protocols import has_intervals

    same: dict[str, list[str]] = {}
    for row in table["policies"]:
        if row["same_as"] is not None and row["kind"] != "learned":
            same.setdefault(row["same_as"], []).append(row["policy"])
    if same:
        yield "Not shown, because the jobs give them nothing else to go by: " + "; ".join(
            f"{', '.join(others)} (as {name})" for name, others in same.items()
        )
    if not table["has_requests"]:
        yield "The log has no requested times: every policy, with or without a model, is told the true run times."
    if not has_intervals(table["windows"]):
        yield f"{table['windows']} windows are too few for intervals."


def render_against_best(table: Mapping[str, Any], policy: str, *, width: int | None = None) -> Table:
    """A learned policy against the best heuristic of each metric; as many columns as fit, the verdict among them."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from shunter.sim.report.formats import metric_view

    rows = [found for found in table["comparisons"] if found["is_best"] and found["policy"] == policy]
    columns = {
        "Metric": [Text(metric_view(found["metric"]).short) for found in rows],
        "Best heuristic": [Text(found["against"]) for found in rows],
        "Ratio": [Text(ratio(found["ratio"])) for found in rows],
        "95\u202f% interval": [Text(ratio_span(found["interval"])) for found in rows],
        "Verdict": [Text(found["verdict"], style=VERDICT_STYLES.get(found["verdict"], "")) for found in rows],
        "Won/tied/lost": [Text(f"{found['wins']}/{found['ties']}/{found['losses']}") for found in rows],
        "Typical window": [Text(ratio(found["typical"])) for found in rows],
    }
    title = f"{escape(policy)} against the best heuristic of each metric"
    shown = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD)
    left = (width or Console().width) - 1
    cells = []
    for heading, column in columns.items():
        left -= max(*map(len, heading.split(" ")), *(cell.cell_len for cell in column)) + PADDING
        if left >= 0:
            justify: Literal["left", "right"] = "left" if heading in ("Metric", "Best heuristic") else "right"
            shown.add_column(heading.replace(" ", "\n"), justify=justify, no_wrap=True, vertical="bottom")
            cells.append(column)
    for i in range(len(rows)):
        shown.add_row(*(column[i] for column in cells))
    return shown


def render_seeds(seeds: Sequence[Mapping[str, Any]]) -> Table:
    """Worst, middle and best seed on every trace."""
    from rich import box
    from rich.table import Table

    from shunter.sim.report.formats import human, metric_view

    found = [entry for entry in seeds if entry]
    view = metric_view(found[0]["metric"]).label
    shown = Table(title=f"{found[0]['num']} seeds: {view}", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("Trace", "Backfilling"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("Worst", "Median", "Best"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for entry in found:
        cells = (human(entry["metric"], entry[which]["mean"]) for which in ("worst", "median", "best"))
        shown.add_row(entry["trace"], entry["backfill"], *cells)
    return shown


def render_matrix(matrix: Mapping[str, Any]) -> Table:
    """Learned policies × traces: ratio to the best heuristic, green where surely below 1."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shunter.sim.report.formats import metric_view

    title = f"{metric_view(matrix['metric']).label}, ratio to the best heuristic"
    shown = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD)
    shown.add_column("Trace", no_wrap=True)
    for row in matrix["rows"]:
        shown.add_column(Text(row["policy"]), justify="right")
    for i, column in enumerate(matrix["columns"]):
        cells = [row["cells"][i] for row in matrix["rows"]]
        several = len({c["backfill"] for c in matrix["columns"]}) > 1
        name = f"{column['trace']} ({column['backfill']})" if several else column["trace"]
        shown.add_row(
            Text(name),
            *(
                Text(ratio(cell["ratio"]), style=VERDICT_STYLES.get(cell["verdict"], "")) if cell else Text("–")
                for cell in cells
            ),
        )
    return shown


def render_pooled(pooled: Sequence[Mapping[str, Any]]) -> Table:
    """A learned policy against heuristics that are fixed for all traces, the strongest first."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from shunter.sim.report.formats import metric_view

    metrics = list(dict.fromkeys(found["metric"] for found in pooled))
    by = {(found["against"], found["metric"]): found for found in pooled}
    title = f"{escape(pooled[0]['policy'])} over {pooled[0]['traces']} traces, against one heuristic for all"
    shown = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD)
    shown.add_column("Heuristic", max_width=LABEL_WIDTH, no_wrap=True)
    for name in metrics:
        heading = metric_view(name).short.replace(" ", "\n")
        shown.add_column(f"{heading}\nratio (95\u202f%)", justify="right", no_wrap=True, vertical="bottom")
    order = sorted((f for f in pooled if f["metric"] == metrics[0]), key=lambda f: -(f["ratio"] or 0.0))
    for against in (found["against"] for found in order):
        row = [by[against, name] for name in metrics if (against, name) in by]
        cells = (Text(pooled_cell(found), style=VERDICT_STYLES.get(found["verdict"], "")) for found in row)
        shown.add_row(Text(against), *cells)
    return shown


def pooled_cell(found: Mapping[str, Any]) -> str:
    """Ratio and interval in one cell."""
    if found["ratio"] is None:
        return "–"
    return f"{found['ratio']:.2f}" + (
        "" if found["interval"] is None else " ({:.2f}–{:.2f})".format(*found["interval"])
    )


def degeneracy_line(found: Mapping[str, Any]) -> str:
    """The degeneracy check of one learned policy in a few sentences."""
    from shunter.agents.degeneracy import sentences

    return f"{found['policy']}: " + " ".join(sentences(found))


def span(metric: str, interval: Sequence[float] | None) -> str:
    """``10–20`` in the metric's words; an en dash where there is none."""
    from shunter.sim.report.formats import human

    return "–" if interval is None else f"{human(metric, interval[0])} – {human(metric, interval[1])}"


def ratio(value: float | None) -> str:
    """A ratio with three decimals, or fewer where it is large."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value < 9.995 else f"{value:,.0f}"


def ratio_span(interval: Sequence[float] | None) -> str:
    """An interval of a ratio."""
    return "–" if interval is None else f"{ratio(interval[0])} – {ratio(interval[1])}"
