"""``shunter train policy --protocol rlscheduler``: direct search under the published protocol."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shunter.cli.console import note, output, print_json, stop_on_signals
from shunter.cli.training_runs import check_out, interrupted, need_packages, progress
from shunter.scheduler.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.agents.bundle import Bundle
    from shunter.agents.published import Order, Trained
    from shunter.agents.published_search import Point

NEEDED = ("cmaes", "onnx")
"""Packages of the extra that the search imports."""

GENERATIONS = 100


def train_under_protocol(
    protocol: str,
    traces: Sequence[str],
    *,
    refused: Sequence[str],
    kind: str | None,
    backfill: str | None,
    hidden: str | None,
    generations: int | None,
    warm_start: str | None,
    seeds: Sequence[int],
    executor: str,
    trace_format: str | None,
    skip_bad: bool,
    out: Path,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Search with all seeds, write their bundles and say what came of it.

    Arguments are the command's options; ``refused`` are those that were given and do not go with a protocol.

    Raises:
        UsageError: An option is unknown or does not go with the protocol.
        TraceError: A trace cannot be read, or has too few jobs.
    """
    if protocol != "rlscheduler":
        raise UsageError(f"unknown --protocol {protocol!r}{nearest(protocol, ['rlscheduler'])}")
    if refused:
        raise UsageError(f"--{refused[0]} does not go with --protocol rlscheduler, which is searched by --generations")
    units = hidden_units(hidden or "0x0")
    start = start_of(warm_start)
    need_packages(NEEDED)
    from shunter.agents.published import Order, train_published
    from shunter.cli.runs import prepare_kernels

    order = Order(
        sources=[open_source(text, trace_format, skip_bad=skip_bad, quiet=quiet) for text in traces],
        kind=kind or "general",
        backfill=backfill or "easy",
        hidden=units,
        generations=generations or GENERATIONS,
        seeds=seeds,
        out=out,
        start=start,
        executor=executor,
        resume=resume,
        command=" ".join(["shunter", *sys.argv[1:]]),
    )
    check_out(out, resume=resume)
    prepare_kernels(quiet=quiet)
    with stop_on_signals() as stop, progress(order.seeds, quiet, state_of) as report:
        trained = train_published(order, report, stop)
    if not trained.complete:
        done = min(outcome.curve[-1].generation for outcome in trained.outcomes)
        interrupted(f"{done} generations")
        raise typer.Exit(130)
    if as_json:
        print_json(as_document(order, trained))
    else:
        show(order, trained)


def hidden_units(text: str) -> tuple[int, int]:
    """``16x8`` as the units of two hidden layers; ``0x0`` for none.

    Raises:
        UsageError: Anything else.
    """
    found = re.fullmatch(r"(\d{1,3})x(\d{1,3})", text)
    if found is None:
        raise UsageError(
            f"--hidden {text!r}: expected the units of two layers, such as 16x8, or 0x0 for a linear score"
        )
    return int(found[1]), int(found[2])


def start_of(warm_start: str | None) -> Bundle | None:
    """The policy that a search begins at; None: the best of a few heuristics.

    Raises:
        UsageError: No bundle.
        BundleError: The bundle cannot be used.
    """
    if warm_start in (None, "auto"):
        return None
    from shunter.agents.bundle import load_bundle

    path = Path(str(warm_start))
    if not path.is_dir():
        raise UsageError(f"--warm-start {warm_start}: with --protocol, auto or a bundle's folder")
    return load_bundle(path)


def open_source(text: str, trace_format: str | None, *, skip_bad: bool, quiet: bool) -> Any:
    """Read a trace for the search.

    Raises:
        UsageError: It is no file.
    """
    from shunter.agents.courses import Source
    from shunter.cli.runs import open_trace
    from shunter.traces.periods import parse_trace

    name, rows = parse_trace(text)
    if name.startswith("demo:"):
        raise UsageError(f"{name}: protocol rlscheduler reads SWF files by its own rules")
    trace, _ = open_trace(name, trace_format=trace_format, skip_bad=skip_bad, quiet=quiet)
    return Source(trace, Path(name), rows)


def state_of(point: Point) -> str:
    """Where a seed stands, in a line."""
    return f"generation {point.generation}, mean bounded slowdown {point.mean:.1f}, best cost {point.best:.3f}"


def as_document(order: Order, trained: Trained) -> dict[str, Any]:
    """The JSON document of a run."""
    from dataclasses import asdict

    from shunter.agents.published import run_document

    return run_document(order) | {
        "bundle": str(trained.bundle),
        "seed": trained.seed,
        "searches": [
            asdict(outcome.curve[-1])
            | {"seed": outcome.seed, "cost_on_windows_of_all_seeds": trained.costs[outcome.seed]}
            | {"bundle": str(order.out / f"seed-{outcome.seed}" / "bundle")}
            for outcome in trained.outcomes
        ],
    }


def show(order: Order, trained: Trained) -> None:
    """Print what came of a run."""
    output().print(table_of(order, trained))
    note(f"{trained.bundle}: the policy, for `shunter evaluate {trained.bundle} TRACE --protocol rlscheduler`")


def table_of(order: Order, trained: Trained) -> Table:
    """How each seed does on its own windows and on those of all seeds."""
    from rich import box
    from rich.table import Table

    title = f"trained {order.kind} under protocol rlscheduler, backfilling {order.backfill}"
    table = Table(box=box.SIMPLE_HEAD, title=title, caption="on windows that were trained on")
    for heading in ("seed", "generations", "minutes", "mean bounded slowdown", "cost, windows of all seeds", ""):
        table.add_column(heading, justify="right")
    for outcome in trained.outcomes:
        point = outcome.curve[-1]
        table.add_row(
            str(outcome.seed),
            str(point.generation),
            f"{point.spent_s / 60:.1f}",
            f"{point.mean:.1f}",
            f"{trained.costs[outcome.seed]:.3f}",
            "kept" if outcome.seed == trained.seed else "",
        )
    return table
