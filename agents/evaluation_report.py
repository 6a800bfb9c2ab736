"""``report.html`` of an evaluation: one self-contained page in the style of the run reports, without a script.

Figures lie in the page as PNG. Every text from a trace or a bundle is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shunter.agents.degeneracy import sentences
from shunter.agents.protocols import PROTOCOLS, has_intervals
from shunter.agents.verdicts import MAIN_METRIC
from shunter.sim.report.formats import best_indices, exact, grouped, human, metric_view
from shunter.sim.report.html import packaged
from shunter.sim.report.tables import text

VERDICT_WORDS = {
    "better": "better: the 95 % interval leaves out 1",
    "worse": "worse: the 95 % interval leaves out 1",
    "equal": "equal: surely within the margin",
    "undecided": "undecided: neither a difference nor equality is sure",
}


def render_evaluation(document: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        document: What ``verdicts.judge`` says.
        figures: File name to PNG, as ``evaluation_figures.draw_all`` gives them.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    names = list(dict.fromkeys(table["trace"] for table in document["traces"]))
    heading = f"{names[0]}: policies judged" if len(names) == 1 else f"Policies judged on {len(names)} traces"
    left = dict(figures)
    body = [header(document, heading), "<main>", *warnings(document)]
    for table in document["traces"]:
        mine = [name for name in left if name.startswith(("bars-", "windows-"))][: 1 + bool(table["comparisons"])]
        body.append(trace_section(table, {name: left.pop(name) for name in mine}))
    if document["matrix"] is not None and len(document["traces"]) > 1:
        body.append(matrix_section(document["matrix"], left.get("matrix.png")))
    if document["pooled"]:
        body.append(pooled_section(document["pooled"]))
    if document.get("seeds"):
        body.append(seeds_section(document["seeds"]))
    body += [settings_section(document), "</main>", footer(document)]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{text(heading)}</title>\n'
        f"<style>\n{packaged('report.css')}img {{ max-width: 100%; height: auto; background: #ffffff; }}\n</style>\n"
        "</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def header(document: Mapping[str, Any], heading: str) -> str:
    """Title, facts, and the finding in a sentence a trace."""
    protocol = document["protocol"]["name"]
    facts = [
        f"protocol {protocol}: {PROTOCOLS[protocol]}",
        f"{len(document['policies'])} policies",
        f"{grouped(sum(table['windows'] for table in document['traces']))} windows",
    ]
    lead = "".join(f'<p class="lead">{text(sentence)}</p>' for sentence in findings(document))
    return (
        '<header class="top"><p class="brand"><b>Shunter</b> evaluation report</p>'
        f'<h1>{text(heading)}</h1><p class="facts">{text(" · ".join(facts))}</p>{lead}</header>'
    )


def findings(document: Mapping[str, Any]) -> Iterator[str]:
    """One sentence a trace and backfilling: the best learned policy against the best heuristic, by the main metric."""
    for table in document["traces"]:
        where = f"{table['trace']} ({table['backfill']})"
        rows = {row["policy"]: row for row in table["policies"]}
        best = table["best_heuristic"].get(MAIN_METRIC)
        if best is None:
            continue
        value = human(MAIN_METRIC, rows[best]["metrics"][MAIN_METRIC]["mean"])
        against = [c for c in table["comparisons"] if c["is_best"] and c["metric"] == MAIN_METRIC and c["ratio"]]
        if not against:
            yield f"{where}: the best heuristic is {best}, with a mean bounded slowdown of {value}."
            continue
        found = min(against, key=lambda c: float(c["ratio"]))
        interval = "" if found["interval"] is None else " (95 % interval {:.2f} to {:.2f})".format(*found["interval"])
        yield (
            f"{where}: {found['policy']} gives {found['ratio']:.2f} times the mean bounded slowdown of {best}, the "
            f"best heuristic ({value}){interval}: {found['verdict']}."
        )


def warnings(document: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the numbers."""
    said = [
        f"{p['policy']} is marked “{p['origin']}”: it was trained on the very jobs that the published tables test on."
        for p in document["policies"]
        if p["origin"] not in ("", "general")
    ]
    said += document.get("overlaps", [])
    for table in document["traces"]:
        if not has_intervals(table["windows"]):
            said.append(f"{table['trace']}: {table['windows']} windows are too few for intervals.")
        if not table["has_requests"]:
            said.append(
                f"{table['trace']} has no requested times: every policy, learned or not, is told the run times."
            )
    items = "".join(f"<li>{text(line)}</li>" for line in dict.fromkeys(said))
    if not items:
        return []
    return [
        '<section class="warnings" aria-label="Warnings"><h2>Before you read the numbers</h2>'
        f"<ul>{items}</ul></section>"
    ]


def trace_section(table: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """One trace under one backfilling."""
    backfill = "without backfilling" if table["backfill"] == "none" else f"with {table['backfill']} backfilling"
    copies = f", each on {table['shakes']} shaken copies" if table["shakes"] else ""
    parts = [
        f"<section><h2>{text(table['trace'])}, {text(backfill)}</h2>",
        f'<p class="note">{grouped(table["windows"])} windows, {grouped(table["jobs"])} jobs, of jobs '
        f"{grouped(table['period']['first'])} to {grouped(table['period']['last'] - 1)} of the trace. Means over the "
        f"windows{copies}, with 95 % intervals; best of each column marked, bounds apart.</p>",
        f'<div class="card scroll">{metrics_table(table)}</div>',
        same_note(table),
    ]
    if table["comparisons"]:
        parts.append(f'<div class="card scroll more">{comparison_table(table)}</div>')
    for found in table.get("degeneracy", ()):
        said = f"{found['policy']}: {' '.join(sentences(found))}"
        parts.append(f'<p class="note below">{text(said)}</p>')
    parts.append('<div class="stack more">' + "".join(picture(n, c) for n, c in figures.items()) + "</div></section>")
    return "".join(parts)


def metrics_table(table: Mapping[str, Any]) -> str:
    """Policies × metrics, each with its interval."""
    rows = [row for row in table["policies"] if row["same_as"] is None or row["kind"] == "learned"]
    names = list(rows[0]["metrics"])
    main = MAIN_METRIC if MAIN_METRIC in names else names[0]
    rows.sort(key=lambda row: (row["kind"] == "bound", row["metrics"][main]["mean"]))
    judged = sum(row["kind"] != "bound" for row in rows)
    best = {name: best_indices(name, [row["metrics"][name]["mean"] for row in rows[:judged]]) for name in names}
    head = "".join(
        f'<th scope="col" title="{text(metric_view(n).meaning)}">{text(metric_view(n).short)}</th>' for n in names
    )
    body = []
    for i, row in enumerate(rows):
        cells = "".join(metric_cell(name, row["metrics"][name], i in best[name]) for name in names)
        kind = "" if row["kind"] == "heuristic" else f' <span class="note">{row["kind"]}</span>'
        body.append(f'<tr><th scope="row">{text(row["policy"])}{kind}</th>{cells}</tr>')
    return (
        f'<table class="wide"><thead><tr><th scope="col">Policy</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def metric_cell(name: str, found: Mapping[str, Any], best: bool) -> str:
    """A mean, with its interval below and the exact value on hover."""
    mark = ' class="best"' if best else ""
    interval = found["interval"]
    small = "" if interval is None else f"{human(name, interval[0])} – {human(name, interval[1])}"
    return (
        f'<td{mark} title="{text(exact(name, found["mean"]))}"><span>{text(human(name, found["mean"]))}</span>'
        f'<span class="delta">{text(small)}</span></td>'
    )


def same_note(table: Mapping[str, Any]) -> str:
    """Which heuristics came out as others did."""
    same: dict[str, list[str]] = {}
    for row in table["policies"]:
        if row["same_as"] is not None and row["kind"] != "learned":
            same.setdefault(row["same_as"], []).append(row["policy"])
    if not same:
        return ""
    words = "; ".join(f"{', '.join(others)} as {name}" for name, others in same.items())
    return f'<p class="note below">Not shown, because the jobs give them nothing else to go by: {text(words)}.</p>'


def comparison_table(table: Mapping[str, Any]) -> str:
    """Every learned policy against the best heuristic of each metric."""
    headings = ("Metric", "Best heuristic", "Ratio of means", "Typical window", "Won, tied, lost", "Verdict")
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = []
    for found in table["comparisons"]:
        if not found["is_best"]:
            continue
        cells = "".join(
            f"<td>{cell}</td>"
            for cell in (
                text(metric_view(found["metric"]).label),
                text(found["against"]),
                ratio_cell(found["ratio"], found["interval"]),
                ratio_cell(found["typical"], found["typical_interval"]),
                f"{found['wins']}, {found['ties']}, {found['losses']}",
            )
        )
        mark = ' class="best"' if found["verdict"] == "better" else ""
        cells += f'<td{mark} title="{VERDICT_WORDS[found["verdict"]]}"><span>{found["verdict"]}</span></td>'
        body.append(f'<tr><th scope="row">{text(found["policy"])}</th>{cells}</tr>')
    return (
        f'<table class="wide"><thead><tr><th scope="col">Learned policy</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def ratio_cell(value: float | None, interval: Sequence[float] | None) -> str:
    """A ratio with its interval below."""
    if value is None:
        return "–"
    small = "" if interval is None else f"{interval[0]:.3f} – {interval[1]:.3f}"
    return f'{value:.3f}<span class="delta">{small}</span>'


def picture(name: str, content: bytes) -> str:
    """A figure in the page."""
    encoded = base64.b64encode(content).decode()
    kind = "Windows one by one" if name.startswith("windows-") else "Means and intervals"
    width = 460 if name.startswith("windows-") else 1100
    return (
        f'<figure class="card"><figcaption><h3>{kind}</h3></figcaption>'
        f'<img alt="{text(name.removesuffix(".png"))}" width="{width}" src="data:image/png;base64,{encoded}"></figure>'
    )


def matrix_section(matrix: Mapping[str, Any], content: bytes | None) -> str:
    """Learned policies × traces."""
    if content is None:
        return ""
    encoded = base64.b64encode(content).decode()
    return (
        "<section><h2>Across traces</h2>"
        f'<figure class="card"><figcaption><p class="sub">{text(metric_view(matrix["metric"]).label)}: ratio to the '
        "best heuristic of each trace; below 1 is better, bold where the 95 % interval leaves out 1.</p></figcaption>"
        f'<img alt="matrix" width="900" src="data:image/png;base64,{encoded}"></figure></section>'
    )


def pooled_section(pooled: Sequence[Mapping[str, Any]]) -> str:
    """Learned policies against heuristics that are fixed for all traces."""
    metrics = list(dict.fromkeys(found["metric"] for found in pooled))
    by = {(found["backfill"], found["policy"], found["against"], found["metric"]): found for found in pooled}
    rows = []
    for backfill, policy, against in dict.fromkeys(key[:3] for key in by):
        cells = "".join(pooled_cell(by.get((backfill, policy, against, name))) for name in metrics)
        label = text(f"{policy} against {against} ({backfill})")
        rows.append((by[backfill, policy, against, metrics[0]]["ratio"] or 0.0, f"{label}</th>{cells}"))
    rows.sort(reverse=True)
    body = "".join(f'<tr><th scope="row">{row}</tr>' for _, row in rows)
    head = "".join(
        f'<th scope="col">{text(name)}</th>' for name in ("Pair", *(metric_view(name).short for name in metrics))
    )
    return (
        f"<section><h2>Over all {pooled[0]['traces']} traces</h2>"
        '<p class="note">Against one heuristic for all traces: geometric mean of the ratios, with 95 % intervals; '
        f'below 1 is better.</p><div class="card scroll"><table class="wide"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def pooled_cell(found: Mapping[str, Any] | None) -> str:
    """Ratio with its interval."""
    if found is None or found["ratio"] is None:
        return "<td>–</td>"
    interval = "" if found["interval"] is None else "{:.2f} – {:.2f}".format(*found["interval"])
    sure = "<b>{:.2f}</b>" if found["verdict"] in ("better", "worse") else "{:.2f}"
    return f'<td>{sure.format(found["ratio"])}<span class="delta">{interval}</span></td>'


def seeds_section(seeds: Sequence[Mapping[str, Any]]) -> str:
    """Worst, middle and best seed on every trace."""
    rows = []
    for found in seeds:
        if not found:
            continue
        cells = "".join(
            f"<td>{text(human(found['metric'], found[which]['mean']))}"
            f'<span class="delta">{text(found[which]["policy"])}</span></td>'
            for which in ("worst", "median", "best")
        )
        rows.append(f'<tr><th scope="row">{text(found["trace"])} ({text(found["backfill"])})</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Trace", "Worst", "Median", "Best"))
    return (
        f'<section><h2>Seeds</h2><div class="card scroll"><table class="wide"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def settings_section(document: Mapping[str, Any]) -> str:
    """What was evaluated, and how."""
    resampling, protocol = document["resampling"], document["protocol"]
    facts = [
        ("Protocol", protocol["name"]),
        *(
            (name.replace("_", "-"), value)
            for name, value in protocol.items()
            if name not in ("name", "shakes", "shake_s") and value is not None
        ),
        (
            "Shaken copies",
            f"{protocol['shakes']}, by up to {protocol['shake_s']:g} s" if protocol["shakes"] else "none",
        ),
        ("Replicates", grouped(resampling["replicates"])),
        ("Seed of the resampling", resampling["seed"]),
        ("Margin of equality", f"± {100 * resampling['margin']:g} %"),
        *(
            (f"Bundle {p['policy']}", f"{p['origin']}, sha256 {p['sha256'][:12]}…")
            for p in document["policies"]
            if p["sha256"]
        ),
        *((f"Jobs of {t['trace']}", f"sha256 {t['sha256'][:12]}…") for t in document["traces"]),
    ]
    items = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in dict(facts).items())
    return f'<section><h2>Settings</h2><div class="card"><dl class="settings">{items}</dl></div></section>'


def footer(document: Mapping[str, Any]) -> str:
    """How to read the numbers."""
    margin = f"{100 * document['resampling']['margin']:g} %"
    return (
        "<footer>Made by Shunter. Intervals resample windows, in blocks where these follow each other. The best "
        "heuristic is chosen on the very windows that it is compared on, to its advantage. Typical window: geometric "
        f"mean of the windows' ratios. Equal: the 90 % interval of the ratio lies within ± {margin}.</footer>"
    )
