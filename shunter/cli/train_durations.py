"""``shunter train durations`` and ``shunter evaluate`` on its bundles: predicted run times."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.console import counting_bar, note, output, print_json, stop_on_signals
from shunter.cli.runs import check_folder, open_trace
from shunter.cli.training_runs import need_packages
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.predictors.duration_bundle import DurationBundle
    from shunter.predictors.duration_metrics import Judged
    from shunter.predictors.durations import Trained
    from shunter.traces.periods import Period
    from shunter.traces.tables import Trace

NEEDED = ("lightgbm", "onnx")
"""Packages of the extra that training imports."""

SHIPPED = "learned-durations"
"""What `shunter evaluate` calls the predictor that comes with the package."""


def durations_command(
    trace: Annotated[list[str], typer.Argument(help="Trace files (any known format), or demo:hpc, demo:gpu.")],
    trees: Annotated[int, typer.Option("--trees", min=1, help="Most trees of each quantile.")] = 300,
    leaves: Annotated[int, typer.Option("--leaves", min=2, help="Most leaves of a tree.")] = 31,
    level: Annotated[
        float, typer.Option("--level", help="Quantile that decisions count with: 0.1, 0.5, 0.75 or 0.9.")
    ] = 0.9,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the drawing of jobs and features.")] = 0,
    trace_format: Annotated[
        str | None, typer.Option("--format", help="Format of the traces; see `shunter traces list`.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows and report them, instead of refusing the file.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle.")] = Path("durations"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train a predictor of run times on traces and write it as a bundle.

    Learns from the first 60 % of each trace's jobs, chooses by the next 15 %, never looks at the rest.

    Example: `shunter train durations SDSC-SP2-1998-4.2-cln.swf.gz --out durations`
    """
    need_packages(NEEDED)
    from dataclasses import replace

    from shunter.predictors.boosting import Boosting
    from shunter.predictors.durations import LEVELS, Order, Stopped, train, write_trained
    from shunter.traces.bundles import CARD

    if level not in LEVELS:
        raise UsageError(f"--level {level:g}: expected one of {', '.join(f'{known:g}' for known in LEVELS)}")
    if len(set(trace)) < len(trace):
        raise UsageError("a trace is given twice")
    if (out / CARD).exists():
        raise UsageError(f"{out} holds a bundle; give another --out")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; give another --out")
    check_folder(out.resolve().parent)
    traces = [open_trace(name, trace_format=trace_format, skip_bad=skip_bad, quiet=quiet)[0] for name in trace]
    order = Order(
        traces,
        replace(Boosting(), trees=trees, leaves=leaves, seed=seed),
        expected=level,
        command=" ".join(["shunter", *sys.argv[1:]]),
    )
    with stop_on_signals() as stop, counting_bar("% ·", quiet) as told:
        report = None if told is None else lambda share, what: told(100 * share, 100, what)
        try:
            trained = train(order, report, stop)
        except Stopped:
            note("interrupted; nothing was written")
            raise typer.Exit(130) from None
    document = validation(traces, trained)
    bundle = write_trained(trained, order, out, {"validation": document})
    if as_json:
        print_json(
            {"bundle": str(bundle.path), "trees": list(trained.trees), "parity": trained.parity, "validation": document}
        )
        return
    for name, found in document.items():
        show(f"{name}, validation period", found)
    if not quiet:
        note(f"{bundle.path}: the predictor, for `shunter simulate --estimates model:{bundle.path}`")


def validation(traces: Sequence[Trace], trained: Trained) -> dict[str, Any]:
    """How the predictor does on the jobs that chose its trees, trace by trace."""
    from shunter.predictors.duration_metrics import judged, summary

    found = dict[str, Any]()
    for trace, material in zip(traces, trained.materials, strict=True):
        told = judged(trace, material.periods[1], {"model": trained.model})["model"]
        found[trace.name] = summary(told, "model")
    return found


def is_predictor(name: str) -> bool:
    """Whether an argument of `shunter evaluate` is a predictor of run times."""
    from shunter.predictors.duration_bundle import is_durations

    return name == SHIPPED or is_durations(Path(name.removeprefix("model:")))


def evaluate_durations(
    what: Sequence[str],
    *,
    whole: bool,
    allow_overlap: bool,
    trace_format: str | None,
    skip_bad: bool,
    seed: int,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Judge a predictor of run times on the test period of traces, beside requests and simple rules.

    Raises:
        UsageError: Not one predictor and at least one trace, or one that has seen the jobs.
        BundleError: The bundle cannot be used.
        TraceError: A trace cannot be read.
    """
    from shunter.predictors.duration_metrics import judged, summary
    from shunter.traces.periods import parse_trace
    from shunter.traces.periods import whole as all_of

    bundles = [name for name in what if is_predictor(name)]
    names = [name for name in what if name not in bundles]
    if len(bundles) != 1 or not names:
        raise UsageError(f"expected one predictor and traces, got {len(bundles)} and {len(names)} traces")
    if out is not None:
        check_folder(out)
    bundle = load(bundles[0])
    cases = []
    for text in names:
        name, rows = parse_trace(text)
        trace = open_trace(name, trace_format=trace_format, skip_bad=skip_bad, quiet=quiet)[0]
        trace = trace if rows is None else trace.window(*rows)
        period = all_of(trace) if whole else test_period(trace)
        refuse_seen(bundle, trace, period, allow_overlap=allow_overlap, quiet=quiet)
        cases.append((trace, period))
    found, figures = list[dict[str, Any]](), dict[str, bytes]()
    for trace, period in cases:
        told = judged(trace, period, {"model": bundle.model})["model"]
        row: dict[str, Any] = {"trace": trace.name, "first": period.first, "last": period.last}
        row |= summary(told, "model", seed)
        found.append(row)
        if out is not None:
            figures |= draw(trace.name, told)
    document: dict[str, Any] = {
        "kind": "durations",
        "bundle": str(bundle.path),
        "model_sha256": bundle.card.model_sha256,
    }
    document |= {"traces": found}
    if out is not None:
        import json

        (out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        for name, contents in figures.items():
            (out / name).write_bytes(contents)
        if not quiet:
            note(f"wrote {out / 'evaluation.json'} and figures")
    if as_json:
        print_json(document)
        return
    for row in found:
        show(f"{row['trace']}, jobs {row['first']:,} to {row['last'] - 1:,}", row)


def load(name: str) -> DurationBundle:
    """The predictor of an argument."""
    from shunter.predictors.duration_bundle import load_durations, shipped_durations

    return load_durations(shipped_durations() if name == SHIPPED else Path(name.removeprefix("model:")))


def test_period(trace: Trace) -> Period:
    """The last 25 % of a trace's jobs."""
    from shunter.traces.periods import split

    return split(trace)[2]


def refuse_seen(bundle: DurationBundle, trace: Trace, period: Period, *, allow_overlap: bool, quiet: bool) -> None:
    """Raise UsageError where the predictor was trained or chosen on jobs of a period, unless that is allowed."""
    from shunter.traces.bundles import CARD
    from shunter.traces.periods import overlapping, seen_by

    pairs = overlapping([period], seen_by(bundle.card.traces, str(bundle.path / CARD)))
    if not pairs:
        return
    count = sum(pair[2] for pair in pairs)
    said = f"{bundle.path} has seen {count:,} of the {len(period):,} jobs of {trace.name} that it is judged on"
    if not allow_overlap:
        raise UsageError(f"{said}; judge it on other jobs, or say --allow-overlap")
    if not quiet:
        note(f"{said}: what follows says nothing about jobs that are new to it")


def draw(name: str, told: Judged) -> dict[str, bytes]:
    """The figures of one trace."""
    from shunter.cli.duration_figures import coverage_over_time, quantile_figure

    return {
        f"quantiles-{name}.png": quantile_figure(name, told),
        f"coverage-{name}.png": coverage_over_time(name, told),
    }


def show(title: str, found: dict[str, Any]) -> None:
    """Print the errors of all contenders, and how the intervals held."""
    console = output()
    console.print(table_of(title, found))
    covered = found["coverage"]
    console.print(
        f"80 % interval: holds {covered['value']:.1%} ({covered['low']:.1%} to {covered['high']:.1%}), "
        f"{found['coverage_uncalibrated']:.1%} without calibration; its ends lie a factor of "
        f"{found['interval_ratio']:.1f} apart in the middle"
    )


def table_of(title: str, found: dict[str, Any]) -> Table:
    """The errors of all contenders, with 95 % intervals over days."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{title}: {found['jobs']:,} jobs of {found['days']:,} days",
        caption="ratio error max(p / r, r / p); 95 % intervals over days",
    )
    table.add_column("", no_wrap=True)
    for heading in ("median ratio", "mean |log|", "under", "model better by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found["contenders"]:
        ratio, error, gain = row["median_ratio_error"], row["mean_log_error"], row["difference"]
        is_model = row["name"] == "model"
        table.add_row(
            row["name"],
            f"{ratio['value']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})",
            f"{error['value']:.2f} ({error['low']:.2f}–{error['high']:.2f})",
            f"{row['under_share']['value']:.0%}",
            "" if is_model else f"{-gain['value']:+.2f} ({-gain['high']:+.2f}, {-gain['low']:+.2f})",
        )
    return table
