"""What ``cluster.js`` draws for runs on a cluster of nodes: aggregates, and the attempts of a few blocks of GPUs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.report import cluster_series, gpu_timeline, heatmap, series
from shunter.sim.report.formats import HOUR_S, ONE_UNIT_HOURS, amount
from shunter.sim.report.held import HeldRun, cluster_of, held_of_all
from shunter.sim.report.page_data import TIME_POINTS, rounded, significant
from shunter.sim.report.people import TOP, people
from shunter.sim.result import Result

LEVELS = 200
"""Steps in which shares are sent: half a percent."""


def cluster_data(results: Sequence[Result], resource: str, gantt_start_s: float | None) -> dict[str, Any]:
    """Everything about nodes, GPUs, waiting reasons, people and fairness; keys only for what the runs tell."""
    held = held_of_all(results)
    span = series.time_span(results)
    found = {
        "heat": heat_data(held, resource, span),
        "gpus": gpu_data(results, held, gantt_start_s),
        "free": free_data(results, held, span),
        "power": power_data(held, span),
        "waiting": waiting_data(results),
        "people": people_data(results, resource),
        "rho": rho_data(results, resource),
    }
    return {name: value for name, value in found.items() if value}


def bytes_of(values: FloatArray | IntArray) -> str:
    """Whole numbers up to 255 as base64, row by row; larger ones are cut off."""
    return base64.b64encode(np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()).decode()


def same_nodes(held: Sequence[HeldRun | None]) -> list[HeldRun]:
    """The runs with placements, if all of them are on nodes of the same names and amounts; else none."""
    known = [h for h in held if h is not None]
    nodes = [[(g.name, g.count, g.cpus, g.gpus) for g in h.spec.groups] for h in known]
    return known if all(n == nodes[0] for n in nodes) else []


def heat_data(held: Sequence[HeldRun | None], resource: str, span: tuple[float, float]) -> dict[str, Any] | None:
    """The node × time pictures; None without placements, or where the runs are on different nodes."""
    known = same_nodes(held)
    if not known or not sum(g.count for g in known[0].spec.groups if getattr(g, resource)):
        return None
    rows = heatmap.node_rows(known[0].spec, resource)
    edges = heatmap.time_edges(span, heatmap.columns_for(len(rows.amount), len(known)))
    maps = [None if h is None else heatmap.heat_map(h, rows, resource, edges) for h in held]
    without = int((rows.row_of < 0).sum())
    return {
        "rows": heatmap.row_names(known[0].spec, rows),
        "nodes": [int(n) for n in np.bincount(rows.row_of[rows.row_of >= 0], minlength=len(rows.amount))],
        "amounts": rounded(rows.amount),
        "columns": len(edges) - 1,
        "levels": LEVELS,
        "without": without,
        "runs": [
            None
            if m is None
            else {
                "share": bytes_of(m.share * LEVELS),
                "down": bytes_of(m.down * LEVELS) if m.down.any() else None,
                "jobs": bytes_of(m.jobs),
            }
            for m in maps
        ],
    }


def gpu_data(
    results: Sequence[Result], held: Sequence[HeldRun | None], gantt_start_s: float | None
) -> dict[str, Any] | None:
    """The attempts on the GPUs of a few blocks of nodes in one window; None without placements or GPUs."""
    known = same_nodes(held)
    blocks = gpu_timeline.blocks_of(known[0].spec) if known else []
    if not blocks or not any(gpu_timeline.holds_gpus(h) for h in known):
        return None
    window = gpu_timeline.busiest(known[0], series.interesting_windows(results, gantt_start_s))
    chosen = gpu_timeline.chosen_blocks(blocks, known, window)
    names = known[0].spec.node_names()
    runs = [gpu_run(r, h, [blocks[i] for i in chosen], window, len(known)) for r, h in zip(results, held, strict=True)]
    return {
        "title": window.title,
        "start": float(window.start_s),
        "end": float(window.end_s),
        "of": len(blocks),
        "order": [int(i) for i in np.argsort(chosen)],
        "blocks": [
            {
                "nodes": [names[n] for n in blocks[i].nodes],
                "lanes": blocks[i].lanes.tolist(),
                "size": blocks[i].size,
            }
            for i in chosen
        ],
        "runs": runs,
    }


def gpu_run(
    result: Result, held: HeldRun | None, blocks: Sequence[gpu_timeline.Block], window: series.Window, num_runs: int
) -> dict[str, Any] | None:
    """A run's bars, a list a block: ``[job, attempt, start, end, ended, lane, lanes]``, and the jobs that they name.

    Times of bars are relative to the window's start; ``ended`` is the first letter, as the table names it.
    """
    if held is None:
        return None
    drawn = gpu_timeline.gathered(held, blocks, window)
    most = max(1, gpu_timeline.MAX_BARS // num_runs)
    known: dict[int, int] = {}
    lists = []
    for block in blocks:
        bars = gpu_timeline.bars_of(drawn, block, window, most)
        lists.append(
            [
                [
                    known.setdefault(int(drawn.job[row]), len(known)),
                    int(drawn.attempt[row]),
                    significant(drawn.start_s[row] - window.start_s, 8),
                    significant(drawn.end_s[row] - window.start_s, 8),
                    drawn.ended[row][0],
                    significant(lane),
                    significant(width),
                ]
                for row, lane, width in zip(bars.row, bars.lane, bars.width, strict=True)
            ]
        )
    jobs = result.jobs[list(known)] if known else result.jobs.head(0)
    columns = jobs.select("job_id", "user", "group", "gpus", "wait_s").iter_rows()
    return {
        "bars": lists,
        "jobs": [[i, u, g, significant(n or 0), significant(w or 0)] for i, u, g, n, w in columns],
        "down": [row for i, block in enumerate(blocks) for row in away_rows(held, block, i, window)],
    }


def away_rows(held: HeldRun, block: gpu_timeline.Block, number: int, window: series.Window) -> list[list[float]]:
    """Outages of a block inside a window: ``[number, row of the node in it, gpu, from, until]``, as times of bars."""
    down = held.down
    inside = (down.from_s < window.end_s) & (down.until_s > window.start_s) & np.isin(down.node, block.nodes)
    place = {int(node): row for row, node in enumerate(block.nodes)}
    return [
        [
            number,
            place[int(down.node[i])],
            int(down.gpu[i]),
            significant(max(float(down.from_s[i]) - window.start_s, 0.0), 8),
            significant(min(float(down.until_s[i]), window.end_s) - window.start_s, 8),
        ]
        for i in np.flatnonzero(inside)
    ]


def free_data(
    results: Sequence[Result], held: Sequence[HeldRun | None], span: tuple[float, float]
) -> dict[str, Any] | None:
    """Means over time of GPUs that are free and of those that are fragmented."""
    edges = np.linspace(*span, TIME_POINTS + 1)
    runs: list[dict[str, Any] | None] = []
    for result, h in zip(results, held, strict=True):
        means = None if h is None else cluster_series.free_means(result, edges)
        if means is None:
            runs.append(None)
            continue
        free, fragmented = means
        share = f", {100 * fragmented.mean() / free.mean():.1f} % of those free" if free.mean() > 0 else ""
        runs.append(
            {
                "fragmented": rounded(fragmented, 4),
                "note": f"{amount(float(fragmented.mean()))} on average{share}",
            }
        )
    return {"runs": runs} if any(runs) else None


def power_data(held: Sequence[HeldRun | None], span: tuple[float, float]) -> dict[str, Any] | None:
    """Mean power over time in kW, and the cap."""
    edges = np.linspace(*span, TIME_POINTS + 1)
    means = [None if h is None else cluster_series.power_means(h, edges) for h in held]
    if not any(m is not None for m in means):
        return None
    caps = {h.spec.power_cap_w for h in held if h is not None}
    cap = caps.pop() if len(caps) == 1 else None
    return {
        "cap": None if cap is None else cap / 1000,
        "runs": [
            None
            if watts is None
            else {"kw": rounded(watts / 1000, 5), "note": f"{amount(float(watts.mean()) / 1000)} kW on average"}
            for watts in means
        ],
    }


def waiting_data(results: Sequence[Result]) -> dict[str, Any] | None:
    """Hours of waiting by reason, of each run and of its groups (else users); None where nothing waited or tells."""
    if not all(cluster_series.has_reasons(r) for r in results):
        return None
    totals = [cluster_series.waiting_reasons(r) / HOUR_S for r in results]
    if not sum(t.sum() for t in totals):
        return None
    by, column = cluster_series.reasons_by(results, "group"), "group"
    if not by:
        by, column = cluster_series.reasons_by(results, "user"), "user"
    return {
        "names": cluster_series.REASON_NAMES,
        "meanings": cluster_series.REASON_MEANINGS,
        "totals": [rounded(t, 7) for t in totals],
        "column": column,
        "by": [{"name": name, "hours": [rounded(v / HOUR_S) for v in values]} for name, values in by],
    }


def people_data(results: Sequence[Result], resource: str) -> dict[str, Any] | None:
    """The rows of the tables of groups and users of each run that has attempts."""
    tables: list[dict[str, Any]] = []
    for column, name in (("group", "Groups"), ("user", "Users")):
        runs = [people(r, column, resource) if "attempts" in r.tables else [] for r in results]
        if any(runs):
            tables.append({"name": name, "runs": [[short_row(row) for row in run] for run in runs]})
    return {"tables": tables, "hours": ONE_UNIT_HOURS[resource], "top": TOP} if tables else None


PEOPLE_COLUMNS = ("jobs", "hours", "share", "wait_s", "p95_wait_s", "jct_s", "preemptions", "lost_hours", "rho")


def short_row(row: Mapping[str, Any]) -> list[Any]:
    """A row of ``people`` as a list: its name, whether it is the sum of others, and the numbers."""
    name = f"{row['others']} others" if "others" in row else row["name"] or "not named"
    numbers = [row.get(column) for column in PEOPLE_COLUMNS]
    return [name, int("others" in row), *(None if v is None else significant(float(v)) for v in numbers)]


def rho_data(results: Sequence[Result], resource: str) -> dict[str, Any] | None:
    """The distribution of finish-time fairness of the runs on clusters of nodes."""
    on_nodes = [r if "attempts" in r.tables and cluster_of(r) is not None else None for r in results]
    values = [None if r is None else cluster_series.fairness_rho(r, resource) for r in on_nodes]
    known = [v for v in values if v is not None and np.isfinite(v).any()]
    if not known:
        return None
    grid = cluster_series.rho_grid(known)
    return {
        "x": rounded(grid),
        "runs": [None if v is None else {"y": rounded(cluster_series.share_at_most(v, grid))} for v in values],
    }
