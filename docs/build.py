"""``python -m docs.build [--check]``: generated reference pages, pictures, and the check of every link.

A full build writes the reference pages that follow from the code (command line, policies, metrics, features), the
blocks of the README between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``, and the pictures. ``--check`` writes
nothing: it says which page is not what the code makes it, and which link or documented command leads nowhere. The block
``speed`` is copied from ``benchmarks/latest.json`` by a full build only, because measurements differ from machine to
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs.links import broken_links, unknown_commands
from docs.pages import cli_page, features_page, live_metrics_page, metrics_page, policies_page

if TYPE_CHECKING:
    from shunter.sim.result import Result

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
IMAGES = DOCS / "images"
MEASUREMENTS = REPOSITORY / "benchmarks" / "latest.json"

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/policies.md": policies_page,
    "reference/metrics.md": metrics_page,
    "reference/features.md": features_page,
    "reference/live-metrics.md": live_metrics_page,
}
"""Page below ``docs/`` → what writes it."""

DEMO_RUNS = [(policy, backfill) for policy in ("fcfs", "sjf", "wfp3") for backfill in ("none", "easy")]
"""The runs of ``shunter demo`` on its first workload."""

TABLE_WIDTH = 100

BROWSER_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1400,1700",
)
"""A picture of a page and nothing else: no window, no network of the browser's own, no profile of the user's."""


def main(arguments: list[str] | None = None) -> int:
    """Build, or check with ``--check``; 0 when everything is in order, 1 with one line a problem otherwise."""
    parser = argparse.ArgumentParser(prog="python -m docs.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only say what is stale or broken")
    asked = parser.parse_args(arguments)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(variable, "1")
    results = demo_results()
    wanted = generated_texts(results, measurements=not asked.check)
    if asked.check:
        problems = stale(wanted)
    else:
        problems = []
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        for line in draw(results):
            sys.stderr.write(f"docs: {line}\n")
    problems += broken_links(REPOSITORY) + unknown_commands(REPOSITORY)
    for problem in problems:
        sys.stderr.write(f"docs: {problem}\n")
    return 1 if problems else 0


def demo_results() -> list[Result]:
    """The replays that the README shows, as ``shunter demo`` makes them."""
    from shunter.sim import simulate
    from shunter.traces import demo_trace

    trace = demo_trace("hpc")
    return [simulate(trace, policy=policy, backfill=backfill, placement="best-fit") for policy, backfill in DEMO_RUNS]


def generated_texts(results: list[Result], *, measurements: bool) -> dict[Path, str]:
    """Every file with generated text, as it should be; ``measurements`` also fills the block of measured speeds."""
    wanted = {DOCS / name: page() for name, page in PAGES.items()}
    readme = replace_block(README.read_text("utf-8"), "demo", demo_table(results))
    if measurements and MEASUREMENTS.exists():
        readme = replace_block(readme, "speed", speed_table(json.loads(MEASUREMENTS.read_text("utf-8"))))
    return wanted | {README: readme}


def stale(wanted: Mapping[Path, str]) -> list[str]:
    """Files that do not hold the text that they should."""
    return [
        f"{path.relative_to(REPOSITORY)}: not current; run `make docs`"
        for path, text in wanted.items()
        if not path.exists() or path.read_text("utf-8") != text
    ]


def replace_block(text: str, name: str, content: str) -> str:
    """The text with the block called ``name`` replaced.

    Raises:
        ValueError: The text has no such block.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"no block {begin} … {end}")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{content.rstrip()}\n{end}{after}"


def demo_table(results: list[Result]) -> str:
    """What ``shunter demo`` prints for its first workload, as a code block."""
    from rich.console import Console

    from shunter.cli.tables import render_comparison_table

    console = Console(width=TABLE_WIDTH, highlight=False, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(render_comparison_table(results, width=TABLE_WIDTH))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "```text\n" + "\n".join(line for line in lines if line) + "\n```"


SPEED_ROWS = ("ricc", "sdsc", "million")
"""Benchmarks that the README shows; benchmarks/latest.json has them all."""


def speed_table(document: Mapping[str, Any]) -> str:
    """The replays that have targets as a Markdown table: jobs per second and the ratio to the reference loop."""
    machine, versions = document["machine"], document["versions"]
    rows = [
        "| replay | jobs | jobs/s | CPU time over the reference loop's | target |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row in document["benchmarks"]:
        if "jobs_per_s" not in row or row["benchmark"] not in SPEED_ROWS:
            continue
        ratio = f"{row['ratio_cpu']:.2f}" if "ratio_cpu" in row else "–"
        case = row["case"] if row["benchmark"] != "million" else f"{row['jobs']:,} jobs on {row['case']}"
        rows.append(
            f"| {case} | {row['jobs']:,} | {row['jobs_per_s']:,.0f} | {ratio} | {_targets(row.get('targets', ()))} |"
        )
    note = (
        f"Medians on one core of {machine['cpu']} ({machine['cores']} cores), Python {versions['python']}, "
        f"{machine['time'][:10]}. Replays alone, without reading and importing; "
        "the million jobs are the whole call, tables and metrics included."
    )
    return "\n".join([*rows, "", note])


def _targets(targets: Any) -> str:
    """Bounds of a row and whether they were reached."""
    parts = []
    for target in targets:
        bound = f"≥ {target['at_least']:,g}" if "at_least" in target else f"< {target['at_most']:,g}"
        parts.append(f"{target['figure']} {bound}: {'reached' if target['reached'] else 'missed'}")
    return "; ".join(parts) or "–"


# --- pictures --------------------------------------------------------------------------------------------------------


def draw(results: list[Result]) -> list[str]:
    """Write the pictures into ``docs/images``; returns what was written or left out, a line each."""
    from shunter.sim.report import figures

    IMAGES.mkdir(exist_ok=True)
    curves = IMAGES / "demo-wait-cdf.png"
    figures.write_figure(figures.wait_cdf, results, curves)
    return [written(curves), screenshot(results, IMAGES / "report.png")]


def screenshot(results: list[Result], path: Path) -> str:
    """Picture of the demo's report in a headless browser, if there is one."""
    import shutil
    import subprocess
    import tempfile

    from shunter.sim.report.html import write_report

    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for found in map(shutil.which, names) if found), None)
    if browser is None:
        return f"left {path.name} as it was: none of {', '.join(names)} is installed"
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder) / "report.html", Path(folder) / "report.png"
        write_report(results, page)
        command = [
            browser,
            *BROWSER_OPTIONS,
            f"--user-data-dir={folder}/profile",
            f"--screenshot={picture}",
            page.as_uri(),
        ]
        done = subprocess.run(command, check=False, capture_output=True, timeout=120)
        if done.returncode or not picture.exists():
            return f"left {path.name} as it was: {Path(browser).name} ended with {done.returncode}"
        shrink(picture, path)
    return written(path)


def written(path: Path) -> str:
    """What to say of a picture that was written."""
    return f"wrote {path.relative_to(REPOSITORY)}, {path.stat().st_size // 1024} kB"


def shrink(source: Path, target: Path) -> None:
    """Write a picture with a palette, so that the file stays small in the repository.

    A report has thousands of shades from smoothed edges and a few colours that matter. Refining the palette by k-means
    keeps two similar curve colours apart, which median cut alone merges.
    """
    from PIL import Image

    with Image.open(source) as image:
        image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=4).save(target, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
