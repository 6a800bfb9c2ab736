"""``shunter train forecaster`` and ``shunter evaluate`` on its bundles: forecasts of load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.console import note, output, print_json, stop_on_signals
from shunter.cli.runs import check_folder
from shunter.cli.training_runs import interrupted, need_packages, progress
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.predictors.orders import Order, Trained
    from shunter.predictors.training import Point

NEEDED = ("torch", "onnx")
"""Packages of the extra that training imports; judging beside trees takes another."""

SHIPPED = "learned-load"
"""What `shunter evaluate` calls the forecaster that comes with the package."""


def forecaster_command(
    series: Annotated[list[Path], typer.Argument(help="Files of one load series, or a folder of them.")],
    feature: Annotated[
        str | None, typer.Option("--feature", help="What to forecast. Default: the series' first feature.")
    ] = None,
    step: Annotated[
        float | None, typer.Option("--step", help="Seconds between two points. Default: the series' own.")
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", help="For all seeds together, a time (5m, 1h); training may end earlier.")
    ] = "5m",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many networks, whose answers are averaged.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed.")] = 0,
    trees: Annotated[
        bool, typer.Option("--trees/--no-trees", help="Judge beside boosted trees, too, which take longest to fit.")
    ] = True,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out bad rows and report them.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run and its bundle.")] = Path("forecaster"),
    resume: Annotated[bool, typer.Option("--resume", help="Take up the interrupted training in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train a forecaster of load on a series, judge it beside the baselines, and write it as a bundle.

    Learns from the first 60 % of the points, chooses by the next 10 %, and is judged on the last 30 %.

    Example: `shunter train forecaster philly_node_sequence.csv.gz --out forecaster`
    """
    from shunter.agents.settings import Budget

    asked = Budget.parse(budget)
    if not asked.time_s:
        raise UsageError(f"--budget {budget!r}: a forecaster is trained for a time, such as 5m")
    need_packages((*NEEDED, "lightgbm") if trees else NEEDED)
    from shunter.predictors.orders import RUN_FILE, Order, narrowed
    from shunter.traces.series_readers import read_series

    begun = (out / RUN_FILE).exists()
    if resume and not begun:
        raise UsageError(f"{out} holds no training to resume")
    if begun and not resume:
        raise UsageError(f"{out} holds a training; take it up with --resume, or give another --out")
    check_folder(out)
    found = read_series(series[0] if len(series) == 1 else series, step_s=step, skip_bad=skip_bad)
    order = Order(
        series=narrowed(found, feature),
        out=out,
        seeds=range(seed, seed + seeds),
        budget_s=asked.time_s,
        resume=resume,
        trees=trees,
        command=" ".join(["shunter", *sys.argv[1:]]),
    )
    trained = run(order, quiet=quiet)
    if as_json:
        print_json({"bundle": str(trained.bundle), "parity": trained.parity, "evaluation": trained.evaluation})
        return
    show(trained.evaluation)
    if not quiet:
        note(
            f"{trained.bundle}: the forecaster; `shunter evaluate {trained.bundle} SERIES` judges it on another series"
        )


def run(order: Order, *, quiet: bool) -> Trained:
    """Train, with progress; Ctrl-C ends it so that it can be resumed."""
    from shunter.predictors.orders import train_forecaster

    with stop_on_signals() as stop, progress(order.seeds, quiet, state_of) as report:
        trained = train_forecaster(order, report, stop)
    if not trained.complete:
        done = sum(member.curve[-1].share if member.curve else 0.0 for member in trained.members)
        interrupted(f"{done / len(order.seeds):.0%} of the training")
        raise typer.Exit(130)
    return trained


def state_of(point: Point) -> str:
    """Where a seed stands, in a line."""
    return f"epoch {point.epoch}, pinball loss on validation {point.validation:.4f}, best {point.best:.4f}"


def is_forecaster(name: str) -> bool:
    """Whether an argument of `shunter evaluate` is a forecaster: a folder, or the one that ships."""
    from shunter.predictors.bundle import is_forecaster as says_so

    return name == SHIPPED or says_so(Path(name))


def evaluate_forecaster(
    what: Sequence[str],
    *,
    skip_bad: bool,
    seed: int,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Judge a forecaster on the last 30 % of a load series, beside baselines that learn from the rest of it.

    Raises:
        UsageError: Not one forecaster and the files of one series.
        BundleError: The bundle cannot be used.
        TraceError: The series cannot be read, or is too short.
    """
    from shunter.predictors.bundle import load_forecaster, shipped_forecaster
    from shunter.predictors.judging import Parts, baselines, figures, judge_series
    from shunter.traces.series_readers import read_series

    bundles = [name for name in what if is_forecaster(name)]
    files = [name for name in what if name not in bundles]
    if len(bundles) != 1 or not files:
        raise UsageError(f"expected one forecaster and a load series, got {len(bundles)} and {len(files)} files")
    if out is not None:
        check_folder(out)
    forecaster = load_forecaster(shipped_forecaster() if bundles[0] == SHIPPED else Path(bundles[0]))
    card = forecaster.card
    step_s = None if forecaster.general else card.step_s
    found = read_series(files[0] if len(files) == 1 else files, step_s=step_s, skip_bad=skip_bad)
    parts = Parts.of(found.select(features=found.features[:1] if forecaster.general else card.features))
    others = baselines(parts, report=None if quiet else lambda name: note(f"fitting {name}"))
    document, forecasts = judge_series(parts, forecaster, others, seed=seed)
    if out is not None:
        import json

        out.mkdir(parents=True, exist_ok=True)
        (out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        for name, contents in figures(parts, document, forecasts).items():
            (out / name).write_bytes(contents)
        if not quiet:
            note(f"wrote {out / 'evaluation.json'} and figures")
    if as_json:
        print_json(document)
    else:
        show(document)


def show(document: dict[str, Any]) -> None:
    """Print the errors by step, and coverage."""
    console = output()
    for title, name in (("MASE", "mase"), ("mean absolute error over that of persistence", "relative")):
        console.print(table_of(document, title, name))
    covered = document["calibrated"]["coverage"]
    before = document["errors"]["lstm"]["coverage"]
    console.print(
        "80 % interval, coverage by step: "
        + " ".join(f"{value:.1%}" for value in before)
        + "; calibrated online: "
        + " ".join("–" if value is None else f"{value:.1%}" for value in covered)
    )


def table_of(document: dict[str, Any], title: str, name: str) -> Table:
    """One error of all forecasters by step."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=f"{document['series']}, {document['feature']}: {title}")
    table.add_column("forecaster")
    for heading in ("1", "2", "3", "4", "5", "mean"):
        table.add_column(heading, justify="right")
    for forecaster, errors in document["errors"].items():
        values = errors[name]
        table.add_row(forecaster, *(f"{value:.3f}" for value in [*values, sum(values) / len(values)]))
    return table
