"""The parts of the HTML report that only runs on a cluster of nodes have; ``cluster.js`` fills their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shunter.sim.report import series
from shunter.sim.report.cluster_series import (
    REASON_MEANINGS,
    REASON_NAMES,
    held_by_job,
    total_waiting_s,
    waiting_reasons,
)
from shunter.sim.report.formats import HOUR_S, amount, duration, grouped
from shunter.sim.report.held import availability, held_of
from shunter.sim.report.people import TOP
from shunter.sim.report.tables import colour, figure, text
from shunter.sim.result import Result
from shunter.sim.stored import batches

CLUSTER_CARDS = ("energy_kwh", "carbon_kg", "cost_total")
"""Metrics that get a card in the heading where a run gives them."""

EQUAL_WITHIN = 1e-6
"""Relative difference below which the sum of the reasons counts as equal to the waiting: rounding of sums."""


def waiting_figures(results: Sequence[Result], cluster: Mapping[str, Any]) -> str:
    """Where the waiting came from, by run and by group."""
    if "waiting" not in cluster:
        return ""
    said = [f"{name}: {meaning}." for name, meaning in zip(REASON_NAMES, REASON_MEANINGS, strict=True)]
    note = f'<p class="sub">{text(" ".join(said))}</p></figure>'
    figures = figure("reasons", "Where the waiting came from", waiting_sentence(results), controls=True)
    figures = figures.removesuffix("</figure>") + note
    if cluster["waiting"]["by"]:
        column = cluster["waiting"]["column"]
        figures += figure(
            "reasons-by", f"The same by {column}", f"The {column}s that waited longest over all runs", controls=True
        )
    return f'<div class="stack more">{figures}</div>'


def waiting_sentence(results: Sequence[Result]) -> str:
    """Whether the reasons sum to the waiting of the job table, in one sentence."""
    pairs = [(float(waiting_reasons(r).sum()), total_waiting_s(r)) for r in results]
    off = [(a, b) for a, b in pairs if abs(a - b) > EQUAL_WITHIN * max(b, 1.0)]
    if off:
        return (
            f"The reasons give {amount(off[0][0] / HOUR_S)} h, but the jobs waited {amount(off[0][1] / HOUR_S)} h: "
            "the run's tables do not agree."
        )
    hours = " and ".join(dict.fromkeys(f"{amount(b / HOUR_S)} h" for _, b in pairs)) if len(pairs) < 3 else ""
    total = f" ({hours})" if hours else ""
    return (
        f"Every waiting second has one reason: they sum to all waiting{total}, before the first start and after stops."
    )


def over_time_figures(cluster: Mapping[str, Any]) -> str:
    """Fragmentation and power."""
    found = ""
    if "free" in cluster:
        found += figure(
            "fragmented",
            "Fragmented GPUs",
            "Free GPUs that the workload's usual tasks cannot use: the mean over its most common task shapes, weighted "
            "by how common they are (FGD, ATC 2023)",
        )
    if "power" in cluster:
        found += figure(
            "power", "Power", "Of all nodes and GPUs that are up, in kW; what is held counts as fully busy"
        )  # fmt: skip
    return found


def gpus_section(results: Sequence[Result], labels: Sequence[str], cluster: Mapping[str, Any]) -> str:
    """Nodes and GPUs: the picture of all nodes, single GPUs in a window, failures."""
    parts = ""
    if heat := cluster.get("heat"):
        each = max(heat["nodes"], default=1)
        rows = "Each row a node" if each == 1 else f"Each row up to {each} neighbouring nodes of a group"
        without = f"; {series.counted(heat['without'], 'node')} without any left out" if heat["without"] else ""
        parts += figure(
            "heat", "Nodes over time", f"{rows}, in the order of the cluster specification{without}", controls=True
        )
    if gpus := cluster.get("gpus"):
        shown, blocks = len(gpus["blocks"]), gpus["of"]
        some = "" if shown == blocks else f" The {shown} busiest of {blocks} blocks of nodes can be chosen."
        apart = "Where a run does not tell a node's GPUs apart, an attempt is drawn on the lowest free ones."
        what = f"{gpus['title']}, {duration(gpus['end'] - gpus['start'])}; each bar an attempt on its GPUs."
        parts += figure("gpus", "GPUs over time", f"{what} {apart}{some}", controls=True)
    parts += failures(results, labels)
    return f'<section><h2>Nodes and GPUs</h2><div class="stack">{parts}</div></section>' if parts else ""


def failures(results: Sequence[Result], labels: Sequence[str]) -> str:
    """Outages, availability and what they cost, one row a run; empty where nothing could fail."""
    if not any("outages" in r.tables for r in results):
        return ""
    heads = (
        ("Outages of nodes", "times that a node was out of service"),
        ("of GPUs", "times that a single GPU was out of service"),
        ("Availability", "node-hours up over node-hours, first submit to last end"),
        ("Least", "availability of the node that was away longest"),
        ("Attempts lost", "attempts that an outage ended"),
        ("Hours lost", "run time of jobs thrown away, or spent on restarts"),
    )
    rows = "".join(
        f'<tr><th scope="row" data-value="{i}"><span class="dot" style="--c:{colour(i)}"></span>{text(label)}</th>'
        + "".join(f'<td data-value="{value!r}">{text(said)}</td>' for value, said in failure_cells(result))
        + "</tr>"
        for i, (result, label) in enumerate(zip(results, labels, strict=True))
    )
    head = "".join(f'<th scope="col" title="{text(meaning)}">{text(name)}</th>' for name, meaning in heads)
    return (
        '<figure class="card"><figcaption><h3>Failures and maintenance</h3></figcaption><div class="scroll">'
        f'<table class="wide sortable"><thead><tr><th scope="col">Run</th>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div></figure>"
    )


def failure_cells(result: Result) -> list[tuple[float, str]]:
    """A run's values and texts for the columns of ``failures``."""
    held = held_of(result)
    if held is None or "outages" not in result.tables:
        return [(float("nan"), "–")] * 6
    first, last = series.time_span([result])
    inside = (held.down.from_s < last) & (held.down.until_s > first)
    whole = held.down.gpu < 0
    nodes, gpus = int((inside & whole).sum()), int((inside & ~whole).sum())
    up = availability(held, first, last)
    least = int(up.argmin())
    lost = sum(int((part["ended"].cast(str) == "lost").sum()) for part in batches(result.tables, "attempts", ["ended"]))
    hours = float(held_by_job(result)[1].sum()) / HOUR_S
    return [
        (nodes, grouped(nodes)),
        (gpus, grouped(gpus)),
        (float(up.mean()), f"{100 * up.mean():.2f} %"),
        (float(up[least]), f"{100 * up[least]:.1f} % ({held.spec.node_names()[least]})"),
        (lost, grouped(lost)),
        (hours, amount(hours)),
    ]


def people_places(results: Sequence[Result], cluster: Mapping[str, Any]) -> str:
    """Fairness and the places of the tables of groups and users."""
    parts = ""
    if "rho" in cluster:
        jain = [r.metrics.get("jain_fairness") for r in results]
        known = [f"{v:.3f}" for v in jain if v is not None]
        index = f" Jain's index over users: {', '.join(known)}." if known else ""
        parts += figure(
            "rho",
            "Finish-time fairness",
            "Share of jobs whose time in the system, over that on a private equal share, is at most ρ; higher is "
            f"better, and right of 1 are jobs that sharing slowed.{index}",
        )
    for i, table in enumerate(cluster.get("people", {}).get("tables", ())):
        parts += (
            f'<figure class="card"><figcaption><div><h3>{table["name"]} in numbers</h3><p class="sub">The {TOP} with '
            f'the most resource time, the rest in one row</p></div><div class="controls" id="people-{i}-controls">'
            f'</div></figcaption><div class="scroll" id="people-{i}"></div></figure>'
        )
    return f'<div class="stack more">{parts}</div>' if parts else ""
