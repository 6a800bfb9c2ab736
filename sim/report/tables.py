"""The tables of the HTML report, and the escaping of everything that stands in it."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shunter.sim.report import series
from shunter.sim.report.formats import (
    HEADLINE_METRICS,
    HOUR_S,
    MINUS,
    ONE_UNIT_HOURS,
    MetricView,
    amount,
    best_indices,
    exact,
    grouped,
    human,
    metric_order,
    metric_view,
)
from shunter.sim.result import Result

SERIES_COLOURS = 7

CLUSTER_METRICS = (
    "goodput",
    "fragmentation",
    "preemptions",
    "restarts",
    "lost_gpu_s",
    "jain_fairness",
    "avg_ftf_rho",
    "slo_attainment",
    "energy_kwh",
    "carbon_kg",
    "cost_total",
    "cost_per_useful_gpu_hour",
)
"""Columns of the second table, for clusters of nodes."""


def text(value: object) -> str:
    """``value`` as HTML text or attribute, every special character escaped; lone surrogates become ``?``."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: no ``<``, ``>``, ``&`` in it, so nothing can close the element.

    ASCII only, so that U+2028 and lone surrogates are escaped as well.
    """
    encoded = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return encoded.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def change(name: str, value: float | None, reference: float | None) -> str:
    """``−36 %`` or, for a percentage, ``+2.1 points``; empty where it says nothing."""
    if value is None or reference is None or value == reference:
        return ""
    if metric_view(name).kind == "percent":
        if abs(value - reference) < 0.0005:
            return ""
        return f"{100 * (value - reference):+.1f} points".replace("-", MINUS)
    if reference == 0 or abs(value / reference - 1) < 0.0005:
        return ""
    return signed_percent(value / reference - 1)


def signed_percent(ratio: float) -> str:
    """``+12 %``, ``−3.4 %``; a large growth as ``×12``."""
    if ratio >= 9:
        return f"×{amount(ratio + 1)}"
    digits = 0 if abs(ratio) >= 0.0995 else 1
    return f"{100 * ratio:+.{digits}f} %".replace("-", MINUS)


def colour(index: int) -> str:
    """The CSS variable of a run's colour."""
    return f"var(--s{index % SERIES_COLOURS})"


def figure(chart_id: str, name: str, sub: str, *, controls: bool = False) -> str:
    """A card with a heading and the place of a chart, with places for buttons and a colour scale if asked for."""
    buttons = f'<div class="controls" id="{chart_id}-controls"></div>' if controls else ""
    scale = f'<div class="scale" id="{chart_id}-scale"></div>' if controls else ""
    return (
        f'<figure class="card"><figcaption><div><h3>{text(name)}</h3><p class="sub">{text(sub)}</p></div>{buttons}'
        f'</figcaption>{scale}<div class="chart" id="{chart_id}"></div></figure>'
    )


def comparison_section(results: Sequence[Result], labels: Sequence[str], *, on_nodes: bool = False) -> str:
    """The table of policies × headline metrics, one of ``CLUSTER_METRICS`` for runs ``on_nodes``, and one of all."""
    names = metric_order([n for r in results for n in r.metrics])
    headline = [n for n in HEADLINE_METRICS if n in names] or names[:9]
    for name in ("backfilled_jobs", "jobs_rejected"):
        if any(r.metrics.get(name) for r in results):
            headline.append(name)
    nodes = [n for n in CLUSTER_METRICS if any(r.metrics.get(n) for r in results)] if on_nodes else []
    second = f'<div class="card scroll more">{headline_table(results, labels, nodes)}</div>' if nodes else ""
    several = len(results) > 1
    hint = (
        f'<p class="note below">Best value of each column marked; small print: change against {text(labels[0])}.</p>'
        if several
        else ""
    )
    return (
        "<section><h2>Policies and metrics</h2>"
        + f'<div class="card scroll">{headline_table(results, labels, headline)}</div>{second}{hint}'
        + f'<details class="card"><summary>All {len(names)} metrics</summary><div class="scroll">'
        + all_metrics_table(results, labels, names)
        + "</div></details></section>"
    )


def headline_table(results: Sequence[Result], labels: Sequence[str], names: Sequence[str]) -> str:
    """Rows are runs, columns metrics: sortable, the best of each column marked."""
    best = {n: best_indices(n, [r.metrics.get(n) for r in results]) for n in names}
    head = "".join(metric_heading(metric_view(n)) for n in names)
    rows = []
    for i, (result, label) in enumerate(zip(results, labels, strict=True)):
        cells = "".join(
            metric_cell(n, result.metrics.get(n), i in best[n], results[0].metrics.get(n) if i else None) for n in names
        )
        dot = f'<span class="dot" style="--c:{colour(i)}"></span>'
        rows.append(f'<tr><th scope="row" data-value="{i}">{dot}{text(label)}</th>{cells}</tr>')
    return (
        '<table class="wide sortable"><thead><tr><th scope="col">Policy</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def metric_heading(view: MetricView) -> str:
    """A column's short name, with the full one and its meaning on hover."""
    full = f"{view.label}: {view.meaning}" if view.meaning else view.label
    return f'<th scope="col" title="{text(full)}">{text(view.short)}</th>'


def metric_cell(name: str, value: float | None, best: bool, reference: float | None) -> str:
    """One value for people, the exact one on hover, and its change against ``reference`` below."""
    mark = ' class="best"' if best else ""
    raw = "" if value is None else repr(value)
    delta = change(name, value, reference) if metric_view(name).less_is_better is not None else ""
    small = f'<span class="delta">{text(delta)}</span>' if delta else ""
    return (
        f'<td{mark} data-value="{raw}" title="{text(exact(name, value))}">'
        f"<span>{text(human(name, value))}</span>{small}</td>"
    )


def all_metrics_table(results: Sequence[Result], labels: Sequence[str], names: Sequence[str]) -> str:
    """Rows are metrics, columns runs."""
    head = "".join(f'<th scope="col">{text(label)}</th>' for label in labels)
    rows = []
    for name in names:
        values = [r.metrics.get(name) for r in results]
        best = best_indices(name, values)
        view = metric_view(name)
        cells = "".join(metric_cell(name, v, i in best, None) for i, v in enumerate(values))
        rows.append(
            f'<tr><th scope="row" title="{text(view.meaning)}">{text(view.label)} '
            f'<span class="note">{text(name)}</span></th>'
            f"{cells}</tr>"
        )
    return (
        f'<table class="wide"><thead><tr><th scope="col">Metric</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def people_section(results: Sequence[Result], labels: Sequence[str], resource: str, further: str = "") -> str:
    """Who waits: mean waits of the users and groups that used most, and what is ``further`` known of them."""
    tables = []
    for column, name in (("user", "Users"), ("group", "Groups")):
        rows = series.waits_by(results, column, resource)
        if rows:
            tables.append(people_table(rows, labels, name, resource))
    if not tables and not further:
        return ""
    grid = ' class="grid"' if len(tables) > 1 and len(labels) <= 3 else ' class="stack"'
    return f"<section><h2>Who waits</h2><div{grid}>{''.join(tables)}</div>{further}</section>"


def people_table(rows: Iterable[Mapping[str, Any]], labels: Sequence[str], name: str, resource: str) -> str:
    """The users or groups with the most resource time, with their mean wait under each run."""
    used = ONE_UNIT_HOURS[resource]
    waits = "".join(f'<th scope="col" title="Mean wait under {text(s)}">{text(s)}</th>' for s in labels)
    body = []
    for row in rows:
        best = best_indices("avg_wait_s", row["waits_s"])
        cells = "".join(metric_cell("avg_wait_s", w, i in best, None) for i, w in enumerate(row["waits_s"]))
        hours = row["resource_s"] / HOUR_S
        body.append(
            f'<tr><th scope="row" title="{text(row["name"])}">{text(row["name"])}</th>'
            f'<td data-value="{row["jobs"]}">{grouped(row["jobs"])}</td>'
            f'<td data-value="{hours!r}" title="{text(f"{hours!r} {used}")}">{100 * row["share"]:.1f} %</td>'
            f"{cells}</tr>"
        )
    return (
        f'<figure class="card"><figcaption><h3>{name} by {used} and their mean wait</h3></figcaption>'
        f'<div class="scroll"><table class="names wide sortable"><thead><tr><th scope="col">{name[:-1]}</th>'
        f'<th scope="col">Jobs</th><th scope="col" title="Share of all {used}">Share</th>{waits}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></figure>"
    )


def manifest_table(results: Sequence[Result], labels: Sequence[str]) -> str:
    """The manifests, one row a value: once where all runs agree, else with the run's label."""
    flat = [dict(flattened(r.manifest)) for r in results]
    rows = []
    for key in dict.fromkeys(k for f in flat for k in f):
        values = [f.get(key) for f in flat]
        if len(set(values)) == 1:
            rows.append((key, values[0] or ""))
        else:
            rows += [(f"{key} ({label})", v) for label, v in zip(labels, values, strict=True) if v is not None]
    body = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in rows)
    return (
        '<table class="plain"><thead><tr><th scope="col">Setting</th><th scope="col">Value</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def flattened(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings and lists as ``a.b[0]`` and text."""
    if isinstance(value, Mapping):
        return [pair for k in sorted(value) for pair in flattened(value[k], f"{prefix}.{k}" if prefix else str(k))]
    if isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value):
        return [pair for i, v in enumerate(value) for pair in flattened(v, f"{prefix}[{i}]")]
    if isinstance(value, list | tuple):
        return [(prefix, ", ".join(map(str, value)))]
    return [(prefix, "–" if value is None else str(value))]
