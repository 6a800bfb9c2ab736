"""``shunter train``: learn from traces and load series."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.console import note, output, print_json, stop_on_signals
from shunter.cli.train_durations import durations_command
from shunter.cli.train_forecaster import forecaster_command
from shunter.cli.training_runs import check_out, interrupted, need_packages, progress
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.agents.seeds import Point
    from shunter.agents.settings import Settings
    from shunter.agents.training import Order, Trained

app = typer.Typer(
    help="Learn from traces: scheduling policies, forecasters of load, and predictors of run times.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

NEEDED = ("torch", "gymnasium", "stable_baselines3", "sb3_contrib", "onnx", "onnxscript", "tensorboard")
"""Packages of the extra that training imports."""


@app.callback()
def options() -> None:
    """Learn from traces: scheduling policies, forecasters of load, and predictors of run times."""


app.command("forecaster")(forecaster_command)
app.command("durations")(durations_command)


@app.command("policy")
def policy_command(
    trace: Annotated[list[str], typer.Argument(help="Trace files (any known format), or demo:hpc, demo:gpu.")],
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="rlscheduler: direct search under that simulator's rules, on SWF files, each with :FIRST:COUNT behind "
            "it to take only these jobs. Default: the project's own engine.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="With --protocol: general (all jobs given; to be tested on others) or as-published (the first 10,000 "
            "jobs, which the protocol also tests on). Default: general.",
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option("--hidden", help="With --protocol: units of two hidden layers, 16x8. Default: 0x0, linear."),
    ] = None,
    generations: Annotated[
        int | None, typer.Option("--generations", min=1, help="With --protocol: of each seed's search. Default: 100.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="avg_bounded_slowdown, avg_wait_s or avg_jct_s. Default: the settings'."),
    ] = None,
    backfill: Annotated[str | None, typer.Option("--backfill", "-b", help="none or easy. Default: easy.")] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="For each seed: a time (10m, 2h) or decisions (2e6steps). Default: 10m."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds; the best on validation is kept.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed.")] = 0,
    network: Annotated[
        str | None, typer.Option("--network", help="kernel (small, replays compiled) or attention.")
    ] = None,
    warm_start: Annotated[
        str | None,
        typer.Option(
            "--warm-start",
            help="Where to begin: foresight (expected work over expected weight, by regression; the default), search "
            "(a linear score found by direct search), auto (imitate the best heuristic), a heuristic, a bundle's "
            "folder, a file of recorded choices (.npz), or none.",
        ),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="First search for hyper-parameters, with half of the budget.")
    ] = False,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="YAML file with hyper-parameters that differ from the defaults.")
    ] = None,
    executor: Annotated[
        str, typer.Option("--executor", help="local (a process a seed, as many as cores) or ray.")
    ] = "local",
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="As for `shunter simulate`. Default: each trace's own.")
    ] = None,
    trace_format: Annotated[
        str | None, typer.Option("--format", help="Format of the traces; see `shunter traces list`.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows and report them, instead of refusing the file.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run and its bundle.")] = Path("training"),
    resume: Annotated[bool, typer.Option("--resume", help="Take up the interrupted training in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Train a scheduling policy on traces and write it as a bundle.

    Learns from the first 60 % of each trace's jobs, chooses among networks by the next 15 %, never looks at the rest.

    With --protocol the jobs are those that --kind says.

    Example: `shunter train policy SDSC-SP2-1998-4.2-cln.swf.gz --budget 10m --seeds 2 --out policy`
    """
    from shunter.agents.settings import Budget

    if protocol is not None:
        from shunter.cli.train_published import train_under_protocol

        others: list[tuple[str, object]] = [("metric", metric), ("budget", budget), ("network", network)]
        others += [("tune", tune or None), ("settings", settings), ("cluster", cluster)]
        train_under_protocol(
            protocol,
            trace,
            refused=[name for name, value in others if value is not None],
            kind=kind,
            backfill=backfill,
            hidden=hidden,
            generations=generations,
            warm_start=warm_start,
            seeds=range(seed, seed + seeds),
            executor=executor,
            trace_format=trace_format,
            skip_bad=skip_bad,
            out=out,
            resume=resume,
            quiet=quiet,
            as_json=as_json,
        )
        return
    for name, value in (("kind", kind), ("hidden", hidden), ("generations", generations)):
        if value is not None:
            raise UsageError(f"--{name} goes with --protocol rlscheduler only")
    chosen = chosen_settings(settings, metric=metric, backfill=backfill, network=network, warm_start=warm_start)
    asked = Budget.parse(budget or "10m")
    need_packages((*NEEDED, "optuna") if tune else NEEDED)
    from shunter.agents.training import Order
    from shunter.cli.runs import open_trace, prepare_kernels

    traces = [
        open_trace(name, trace_format=trace_format, skip_bad=skip_bad, cluster=cluster, quiet=quiet) for name in trace
    ]
    order = Order(
        traces=traces,
        settings=chosen,
        budget=asked,
        seeds=range(seed, seed + seeds),
        out=out,
        executor=executor,
        resume=resume,
        command=" ".join(["shunter", *sys.argv[1:]]),
    )
    check_out(out, resume=resume, tune=tune)
    prepare_kernels(quiet=quiet)
    trained = run(order, tune=tune, quiet=quiet)
    if as_json:
        print_json(as_document(order, trained))
    else:
        show(order, trained)


def chosen_settings(path: Path | None, **asked: str | None) -> Settings:
    """The settings of a file or the defaults, with what was asked for on the command line.

    Raises:
        ConfigError: All that is wrong with them.
    """
    from shunter.agents.settings import load_settings

    places = {
        "metric": "windows.metric",
        "backfill": "windows.backfill",
        "network": "network.kind",
        "warm_start": "imitation.teacher",
    }
    values = {places[name]: value for name, value in asked.items() if value is not None}
    return load_settings(path).with_values(values)


def run(order: Order, *, tune: bool, quiet: bool) -> Trained:
    """Train, with progress; Ctrl-C ends it so that it can be resumed."""
    from dataclasses import replace

    from shunter.agents.training import train_policy

    with stop_on_signals() as stop:
        if tune:
            from shunter.agents.tuning import tune as search

            found, rest = search(order, None if quiet else tell_trial, stop)
            if found is None:
                interrupted("the search for hyper-parameters")
                raise typer.Exit(130)
            order = replace(order, settings=found, budget=rest)
        with progress(order.seeds, quiet, state_of) as report:
            trained = train_policy(order, report, stop)
    if not trained.complete:
        done = min(outcome.progress.curve[-1].share if outcome.progress.curve else 0.0 for outcome in trained.outcomes)
        interrupted(f"{done:.0%} of the budget")
        raise typer.Exit(130)
    return trained


def tell_trial(done: int, of: int, least: float) -> None:
    """A line about a trial of the search for hyper-parameters."""
    note(f"hyper-parameters: trial {done} of {of}, least cost on validation {least:.3f}")


def state_of(point: Point) -> str:
    """Where a seed stands, in a line."""
    parts = [f"{point.steps:,} decisions", f"best cost {point.best:.3f}"]
    if point.reward is not None and point.wins is not None:
        parts[1:1] = [f"reward {point.reward:+.3f}", f"beats the best heuristic in {point.wins:.0%}"]
    return ", ".join(parts)


def as_document(order: Order, trained: Trained) -> dict[str, Any]:
    """The JSON document of a training."""
    from dataclasses import asdict

    from shunter.agents.training import kept_point

    return {
        "traces": [trace.name for trace, _ in order.traces],
        "metric": order.settings.windows.metric,
        "backfill": order.settings.windows.backfill,
        "network": order.settings.network.kind,
        "baseline": trained.heuristic,
        "best_heuristics": {name: list(pair) for name, pair in trained.best_heuristics.items()},
        "bundle": str(trained.bundle),
        "seed": trained.seed,
        "parity": trained.parity,
        "seeds": [
            {"seed": outcome.seed, "decisions": outcome.progress.steps, "spent_s": outcome.progress.spent_s}
            | {"validation": asdict(kept_point(outcome))}
            for outcome in trained.outcomes
        ],
    }


def show(order: Order, trained: Trained) -> None:
    """Print what came of a training."""
    output().print(table_of(trained))
    note(f"{trained.bundle}: the policy, for `shunter simulate --policy model:{trained.bundle}`")
    note(f"{order.out / 'learning-curve.png'}: how it was learned")


def table_of(trained: Trained) -> Table:
    """How each seed's best network does on validation, against the best heuristics there."""
    import math

    from rich import box
    from rich.table import Table

    from shunter.agents.training import kept_point

    names = "; ".join(f"{name}: {mean} (mean), {tail} (p95)" for name, (mean, tail) in trained.best_heuristics.items())
    table = Table(box=box.SIMPLE_HEAD, title="validation, policy over best heuristic", caption=names)
    for heading in ("seed", "decisions", "minutes", "mean", "p95", "cost", ""):
        table.add_column(heading, justify="right")
    for outcome in trained.outcomes:
        point = kept_point(outcome)
        table.add_row(
            str(outcome.seed),
            f"{outcome.progress.steps:,}",
            f"{outcome.progress.spent_s / 60:.1f}",
            f"{math.exp(point.mean):.3f}",
            f"{math.exp(point.tail):.3f}",
            f"{point.cost:.3f}",
            "kept" if outcome.seed == trained.seed else "",
        )
    return table
