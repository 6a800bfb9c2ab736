"""``report.html``: one self-contained page for one run or several of the same jobs.

The page holds its style, its script and aggregates of a few hundred kilobytes, whatever the number of jobs: it asks
the network for nothing (a content security policy forbids it) and opens at once. Charts are drawn by ``report.js`` in
place of plotly.js, whose bundle alone has 4.5 MB and takes a second to start. Every text from a trace is escaped, and
only the one known script may run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from shunter.scheduler.errors import UsageError
from shunter.sim.report import series
from shunter.sim.report.cluster_page import cluster_data
from shunter.sim.report.cluster_sections import (
    CLUSTER_CARDS,
    gpus_section,
    over_time_figures,
    people_places,
    waiting_figures,
)
from shunter.sim.report.formats import UNITS, amount, best_indices, duration, exact, grouped, human, metric_view
from shunter.sim.report.page_data import page_data
from shunter.sim.report.tables import (
    change,
    colour,
    comparison_section,
    figure,
    manifest_table,
    people_section,
    script_json,
    text,
)
from shunter.sim.result import Result
from shunter.sim.run_folder import write_aside


def write_report(
    results: Sequence[Result], path: Path, *, title: str | None = None, gantt_start_s: float | None = None
) -> None:
    """Write the page for ``results``, the first of which is the one the others are set against.

    Args:
        results: Runs of the same jobs, at least one.
        path: The file; written aside and renamed.
        title: Heading; by default the trace and what was compared.
        gantt_start_s: Start of the Gantt chart's window; by default the first busy day and the deepest queue.

    Raises:
        UsageError: No run is given.
        OutputError: The file cannot be written.
    """
    write_aside(path, render_report(results, title=title, gantt_start_s=gantt_start_s).encode())


def render_report(results: Sequence[Result], *, title: str | None = None, gantt_start_s: float | None = None) -> str:
    """The page as text; see ``write_report``."""
    if not results:
        raise UsageError("a report needs at least one run")
    labels = series.unique_labels(results)
    resource = series.primary_resource(results)
    heading = title or default_title(results, labels)
    cluster = cluster_data(results, resource, gantt_start_s)
    script = "\n".join([packaged("report.js"), *([packaged("cluster.js")] if cluster else []), "Shunter.start();\n"])
    style = packaged("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    data = page_data(results, labels, resource, gantt_start_s) | ({"cluster": cluster} if cluster else {})
    sections = (
        header(results, labels, heading, resource),
        "<main>",
        notes(results, labels),
        legend(labels),
        comparison_section(results, labels, on_nodes=any("attempts" in r.tables for r in results)),
        charts_section(results, labels, cluster),
        people_section(results, labels, resource, people_places(results, cluster)),
        settings_section(results, labels, resource),
        "</main>",
        "<footer>Made by Shunter. Bounded slowdown is max(1, (wait + run) / max(run, 10 s)); a wait lasts from submit "
        "to first start; utilisation is what was allocated over what was available between the first submit and the "
        "last end. Values on hover are exact.</footer>",
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{text(heading)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n" + "\n".join(s for s in sections if s) + "\n"
        f'<script type="application/json" id="data">{script_json(data)}</script>\n<script>{script}</script>\n'
        "</body>\n</html>\n"
    )


def packaged(name: str) -> str:
    """Text of a file that lies beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


# Heading ----------------------------------------------------------------------------------------------------------


def default_title(results: Sequence[Result], labels: Sequence[str]) -> str:
    """The trace and what was replayed on it."""
    return f"{results[0].trace}: " + (labels[0] if len(labels) == 1 else f"{len(labels)} policies compared")


def header(results: Sequence[Result], labels: Sequence[str], heading: str, resource: str) -> str:
    """Title, facts in one line, the finding in one sentence, and the four most telling numbers."""
    first, last = series.time_span(results)
    capacity = results[0].capacity(resource)
    cluster, size = results[0].cluster, f"{amount(capacity or 0)} {UNITS[resource]}"
    facts = [
        f"{grouped(results[0].jobs.height)} jobs",
        cluster if capacity is None or size.lower() in cluster.lower() else f"{cluster} ({size})",
        duration(last - first),
        f"seed {results[0].seed}",
    ]
    sentence = finding(results, labels)
    cards = (
        "".join(card(results, labels, name) for name in names if any(name in r.metrics for r in results))
        for names in (("avg_wait_s", "p95_wait_s", "avg_bounded_slowdown", "utilisation"), CLUSTER_CARDS)
    )
    return (
        '<header class="top"><p class="brand"><b>Shunter</b> simulation report</p>'
        f'<h1>{text(heading)}</h1><p class="facts">{text(" · ".join(facts))}</p>'
        + (f'<p class="lead">{text(sentence)}</p>' if sentence else "")
        + "".join(f'<div class="kpis">{row}</div>' for row in cards if row)
        + "</header>"
    )


def finding(results: Sequence[Result], labels: Sequence[str], metric: str = "avg_wait_s") -> str:
    """What the comparison says, in words; empty for a single run."""
    values = [r.metrics.get(metric) for r in results]
    known = [(v, i) for i, v in enumerate(values) if v is not None]
    if len(known) < 2:
        return ""
    best, second = sorted(known)[:2]
    if best[0] == max(known)[0]:
        return f"All runs have the same average wait, {duration(best[0])}."
    reference = known[0] if known[0][1] != best[1] else second
    sentence = f"{labels[best[1]]} has the shortest average wait, {duration(best[0])}"
    if reference[0] > best[0]:
        less = f"{100 * (1 - best[0] / reference[0]):.0f} % less"
        sentence += f": {less} than {labels[reference[1]]} ({duration(reference[0])})"
    slowest = [(r.metrics.get("max_wait_s"), i) for i, r in enumerate(results)]
    longest = {i: v for v, i in slowest if v is not None}
    if best[1] in longest and longest[best[1]] > min(longest.values()):
        least = min(longest, key=lambda i: (longest[i], i))
        sentence += (
            f". Its longest wait is {duration(longest[best[1]])}, against {duration(longest[least])} "
            f"under {labels[least]}"
        )
    return sentence + "."


def card(results: Sequence[Result], labels: Sequence[str], name: str) -> str:
    """The best value of a metric, whose it is, and how far it is from the first run's."""
    values = [r.metrics.get(name) for r in results]
    view = metric_view(name)
    known = [i for i, v in enumerate(values) if v is not None]
    best = sorted(best_indices(name, values)) or known[:1]
    value = values[best[0]]
    note = ""
    if len(results) > 1:
        tied = len(best_indices(name, values)) == 0
        dot = "" if tied else f'<span class="dot" style="--c:{colour(best[0])}"></span>'
        delta = change(name, value, values[0])
        against = f", {delta} against {labels[0]}" if delta else ""
        note = dot + text("the same under all" if tied else labels[best[0]] + against)
    return (
        f'<div class="card kpi"><div class="name">{text(view.label)}</div>'
        f'<div class="value" title="{text(exact(name, value))}">{text(human(name, value))}'
        f"{card_unit(results, name)}</div>"
        f'<div class="note">{note}</div></div>'
    )


def card_unit(results: Sequence[Result], name: str) -> str:
    """Unit of a card's value where the number does not tell: of energy and carbon their own, of costs the currency."""
    if name not in CLUSTER_CARDS:
        return ""
    currency = results[0].manifest.get("cluster", {}).get("currency", "")
    return f" <small>{text(metric_view(name).unit or currency)}</small>"


def legend(labels: Sequence[str]) -> str:
    """The place for the chips that hide and show runs; the script fills it."""
    if len(labels) < 2:
        return ""
    return (
        '<div class="legend" id="legend" role="group" aria-label="Runs shown in the charts">'
        '<span class="hint">click to hide, Shift-click to show one alone</span></div>'
    )


def notes(results: Sequence[Result], labels: Sequence[str]) -> str:
    """What a reader must know before trusting the numbers: rejected jobs, passes cut short, warnings of the run."""
    said: dict[str, list[str]] = {}
    for result, label in zip(results, labels, strict=True):
        for line in series.warnings(result):
            said.setdefault(line, []).append(label)
    if not said:
        return ""
    items = [line if len(who) == len(results) else f"{line} ({', '.join(who)})" for line, who in said.items()]
    return (
        '<section class="warnings" aria-label="Warnings"><h2>Before you read the numbers</h2><ul>'
        + "".join(f"<li>{text(item)}</li>" for item in items)
        + "</ul></section>"
    )


# Charts and settings ----------------------------------------------------------------------------------------------


def charts_section(results: Sequence[Result], labels: Sequence[str], cluster: Mapping[str, Any]) -> str:
    """The places of all charts; ``report.js`` and, for what is in ``cluster``, ``cluster.js`` fill them."""
    waits = figure("cdf", "How long jobs wait", "Share of jobs that waited at most so long; higher is better")
    sizes = figure(
        "size", "Bounded slowdown by job size", "Box: middle half of the jobs, bar: median, top: 95th percentile"
    )
    used = figure("utilisation", "Utilisation", "Share of the cluster that is allocated")
    queue = figure("queue", "Queue length", "Jobs that wait")
    shown = " The first three runs shown; hide one above to see another." if len(results) > 3 else ""
    gantt = figure(
        "gantt",
        "Gantt chart",
        "Each rectangle a job, as high as it is large. Drag over a part to enlarge it, double-click to go back, "
        f"Ctrl and wheel to zoom.{shown}",
        controls=True,
    )
    return (
        "<noscript><p>The charts need JavaScript, which is switched off here; the tables of metrics are complete.</p>"
        "</noscript>"
        f'<section><h2>Waiting</h2><div class="grid">{waits}{sizes}</div>'
        f"{waiting_figures(results, cluster)}</section>"
        f'<section><h2>Over time</h2><div class="stack">{used}{queue}'
        f"{over_time_figures(cluster)}</div></section>{gpus_section(results, labels, cluster)}"
        f"<section><h2>A closer look</h2>{gantt}</section>"
    )


def settings_section(results: Sequence[Result], labels: Sequence[str], resource: str) -> str:
    """What was run: the essentials as a list, the whole manifest below it."""
    first, last = series.time_span(results)
    one = results[0]
    capacity = one.capacity(resource)
    facts: list[tuple[str, str]] = [
        ("Trace", one.trace),
        ("Cluster", one.cluster),
        (UNITS[resource], "not given" if capacity is None else amount(capacity)),
        ("Jobs", grouped(one.jobs.height)),
        ("Window", "whole trace" if one.window is None else f"{one.window[1]} jobs from row {one.window[0]}"),
        ("First submit to last end", duration(last - first)),
        ("Seed", ", ".join(dict.fromkeys(str(r.seed) for r in results))),
        ("Policies", ", ".join(labels)),
        ("Backfilling", ", ".join(dict.fromkeys(r.backfill for r in results))),
        ("Placement", ", ".join(dict.fromkeys(r.placement for r in results))),
    ]
    items = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts)
    return (
        f'<section><h2>Settings</h2><div class="card"><dl class="settings">{items}</dl></div>'
        f'<details class="card"><summary>Everything that was recorded about the runs</summary><div class="scroll">'
        f"{manifest_table(results, labels)}</div></details></section>"
    )
