"""Load series at the command line: `shunter traces info` and `convert` of files that are no lists of jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.cli.console import note, output, print_json
from shunter.cli.tables import duration_text, pairs

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.traces.load_series import LoadSeries

SHOWN_FEATURES, SHOWN_NODES = 12, 8

BARS = "▁▂▃▄▅▆▇█"


def is_load_series(text: str) -> bool:
    """Whether a command's argument is a load series: a folder, or a file whose content is that of one.

    Raises:
        TraceError: The file cannot be read.
    """
    from shunter.traces.compression import read_bytes
    from shunter.traces.series_readers import format_of

    place = Path(text)
    return not text.startswith("demo:") and (place.is_dir() or format_of(read_bytes(place)) is not None)


def open_series(text: str, *, step_s: float | None, feature: str | None, skip_bad: bool) -> LoadSeries:
    """The load series of a command's argument, with a note on rows that were left out."""
    from shunter.traces.series_readers import read_series

    series = read_series(text, step_s=step_s, feature=feature, skip_bad=skip_bad)
    for row in series.facts.get("bad_rows", ()):
        note(f"left out {row}")
    return series


def show_series(series: LoadSeries, *, plot: Path | None, as_json: bool) -> None:
    """Print what a series contains, and draw it."""
    from shunter.traces.series.info import describe_series

    facts = describe_series(series)
    if plot is not None:
        from shunter.traces.series.picture import plot_series

        plot_series(series, plot)
        note(f"wrote {plot}")
    if as_json:
        print_json(facts)
    else:
        _print(facts)


def convert_series(series: LoadSeries, target: Path, *, as_json: bool) -> None:
    """Write a series, and say what was read and left out."""
    from shunter.traces.series_readers import write_series

    write_series(series, target)
    noted = series.facts
    document = {
        "out": str(target),
        "format": noted.get("format", ""),
        "points": len(series),
        "nodes": len(series.nodes),
        "features": list(series.features),
        "step_s": series.step_s,
        "rows_read": noted.get("rows_read", 0),
        "dropped": dict(noted.get("dropped", {})),
        "bad_rows": list(noted.get("bad_rows", ())),
    }
    if as_json:
        print_json(document)
        return
    rows = [("rows read", f"{document['rows_read']:,} ({document['format']})")]
    rows += [("dropped", f"{count:,}  {reason}") for reason, count in noted.get("dropped", {}).items()]
    rows += [("points", f"{_grid(len(series), series.step_s, len(series.nodes))}"), ("written", str(target))]
    output().print(pairs("", rows))


def _grid(points: int, step_s: float, nodes: int) -> str:
    return f"{points:,} every {step_s:g} s, of {nodes:,} node{'s'[: nodes != 1]}"


def _print(facts: Mapping[str, Any]) -> None:
    from rich.markup import escape

    console = output()
    console.print(
        f"[bold]{escape(facts['name'])}[/bold]  [dim]load series: {escape(facts['format'] or 'native')}[/dim]"
    )
    console.print(pairs("", _overview(facts)))
    console.print(_feature_table(facts))
    if facts["nodes"] > 1:
        console.print(_node_table(facts))
    dropped = [(f"{n:,}", f"dropped: {why}") for why, n in facts["notes"].get("dropped", {}).items()]
    if dropped:
        console.print(pairs(f"Cleaning ({facts['notes'].get('rows_read', 0):,} rows read)", dropped))
    if facts["defects"]:
        console.print(pairs("Worth knowing", (("!", text) for text in facts["defects"])))


def _overview(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    span = duration_text(facts["span_s"])
    if facts["start"]:
        span += f" from {facts['start']} to {facts['end']}"
    target = facts["features"][0]
    unit = f" {target['unit']}" if target["unit"] else ""
    rows = [
        ("points", _grid(facts["points"], facts["step_s"], facts["nodes"])),
        ("span", span),
        ("forecasts are about", f"{target['name']}: {target['min']:,.4g} to {target['max']:,.4g}{unit}"),
        ("not measured", f"{facts['missing_share']:.2%} (longest gap {duration_text(facts['longest_gap_s'])})"),
    ]
    if facts["unchanged_share"] is not None:
        rows.append(("as one step before", f"{facts['unchanged_share']:.1%} of the points"))
    rows.append(("course", sparkline(facts["profile"])))
    if facts["daily_cycle"]:
        rows.append(("0:00 to 24:00", sparkline(facts["daily_cycle"])))
    return rows


def sparkline(values: list[float]) -> str:
    """Numbers as bars from the least to the largest; a space where one is not known."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in values)


def _feature_table(facts: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("feature", style="cyan")
    table.add_column("unit")
    for heading in ("missing", "mean", "min", "p50", "p95", "max"):
        table.add_column(heading, justify="right")
    for feature in facts["features"][:SHOWN_FEATURES]:
        numbers = (f"{feature[key]:,.4g}" if key in feature else "" for key in ("mean", "min", "p50", "p95", "max"))
        table.add_row(feature["name"], feature["unit"], f"{feature['missing_share']:.1%}", *numbers)
    if len(facts["features"]) > SHOWN_FEATURES:
        table.add_row(f"and {len(facts['features']) - SHOWN_FEATURES} more", *[""] * 7)
    return table


def _node_table(facts: Mapping[str, Any]) -> Table:
    """The nodes with the highest means."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    ranked = sorted(facts["by_node"], key=lambda node: -node.get("mean", -math.inf))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("busiest nodes", style="cyan")
    for heading in ("missing", "mean", "min", "max"):
        table.add_column(heading, justify="right")
    for node in ranked[:SHOWN_NODES]:
        numbers = (f"{node[key]:,.4g}" if key in node else "" for key in ("mean", "min", "max"))
        table.add_row(Text(node["node"]), f"{node['missing_share']:.1%}", *numbers)
    if len(ranked) > SHOWN_NODES:
        table.add_row(f"and {len(ranked) - SHOWN_NODES:,} more", *[""] * 4)
    return table
