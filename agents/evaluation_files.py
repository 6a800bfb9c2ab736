"""The folder of an evaluation: what every window gave, what follows from it, and the pages for people.

``results.jsonl`` grows while the evaluation runs and lets it be taken up; the other files are written at its end, each
aside and renamed, and depend on nothing but what was measured: equal evaluations give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.agents.evaluation import Evaluation
from shunter.agents.replays import METRICS
from shunter.agents.verdicts import scores_of
from shunter.scheduler.errors import OutputError
from shunter.sim.run_folder import FIGURES_FOLDER, json_bytes, parquet_bytes, told_as_output_error, write_aside

if TYPE_CHECKING:
    import polars as pl

RESULTS = "results.jsonl"
FILES = (RESULTS, "windows.parquet", "summary.json", "report.html")


def refuse_strangers(folder: Path) -> None:
    """Raise OutputError when ``folder`` is no folder, or holds anything that no evaluation writes."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: exists and is not a folder; name another folder for the evaluation")
    for entry in sorted(folder.iterdir()):
        known = entry.name.removesuffix(".partial") in FILES and entry.is_file()
        pictures = entry.name == FIGURES_FOLDER and entry.is_dir()
        if not known and not pictures:
            raise OutputError(f"{folder}: holds {entry.name!r}, which no evaluation wrote; name another folder")


def window_frame(evaluation: Evaluation) -> pl.DataFrame:
    """One row a trace, backfilling, policy and window: where the window lies, its jobs, and every metric.

    ``first`` and ``last`` are the rows of the window's first job and of the one after its last, in the trace's submit
    order (under protocol rlscheduler, in that of the jobs it keeps). A metric that a window cannot give is null.
    """
    import polars as pl

    work, rows = evaluation.work, []
    for (case, backfill, contender), windows in evaluation.windows.items():
        bounds = [bound for stretch in work.cases[case].stretches for bound in stretch.windows]
        who = work.contenders[contender]
        for number, ((first, last), window) in enumerate(zip(bounds, windows, strict=True)):
            rows.append(
                {
                    "trace": work.cases[case].name,
                    "backfill": backfill,
                    "policy": who.label,
                    "kind": who.kind,
                    "window": number,
                    "first": first,
                    "last": last,
                    "jobs": int(window["jobs"]),
                }
                | {name: window.get(name) for name in METRICS}
            )
    numbers = dict.fromkeys(("window", "first", "last", "jobs"), pl.Int64) | dict.fromkeys(METRICS, pl.Float64)
    return pl.DataFrame(rows, schema_overrides=numbers)


def write_evaluation(evaluation: Evaluation, document: Mapping[str, Any], folder: Path) -> None:
    """Write everything but ``results.jsonl``.

    Args:
        evaluation: What was measured.
        document: What ``verdicts.judge`` says of it.
        folder: Exists already.

    Raises:
        OutputError: A file cannot be written.
    """
    from shunter.agents.evaluation_figures import draw_all
    from shunter.agents.evaluation_report import render_evaluation

    figures = draw_all(document, scores_of(evaluation))
    write_aside(folder / "windows.parquet", parquet_bytes(window_frame(evaluation)))
    write_aside(folder / "summary.json", json_bytes(document))
    write_aside(folder / "report.html", render_evaluation(document, figures).encode())
    with told_as_output_error(folder):
        (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
        for old in (folder / FIGURES_FOLDER).glob("*.png"):
            if old.name not in figures:
                old.unlink()
    for name, content in figures.items():
        write_aside(folder / FIGURES_FOLDER / name, content)
