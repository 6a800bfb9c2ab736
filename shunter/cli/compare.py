"""``shunter compare``: the paired difference of two saved runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare_command(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Run folder to compare with.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The other run folder.", show_default=False)],
    windows: Annotated[
        int, typer.Option("--windows", min=5, help="Windows of consecutive jobs that are resampled and listed.")
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
) -> None:
    """Paired difference of two runs of the same jobs, with 95 % intervals, per job and per window.

    Example: `shunter compare runs/fcfs+easy runs/sjf+easy`
    """
    from shunter.sim.compare import MEASURES, compare
    from shunter.sim.result import Result

    a, b = Result.load(run_a), Result.load(run_b)
    # The same policy on two clusters or windows: the folders' names say more than a number would.
    names = (run_a.resolve().name, run_b.resolve().name) if a.label == b.label and run_a.name != run_b.name else None
    comparison = compare(a, b, seed=seed, windows=windows, names=names)
    if as_json:
        import json

        typer.echo(json.dumps(comparison.to_dict(), sort_keys=True, indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.markup import escape

    from shunter.cli.tables import render_difference_table, render_window_table
    from shunter.sim.report.series import counted

    console = Console(highlight=False)
    statements = dict.fromkeys(comparison.statement(measure.name) for measure in MEASURES)
    for i, statement in enumerate(statements):
        console.print(escape(statement) + ".", style="" if i else "bold")
    console.print(render_difference_table(comparison))
    console.print(render_window_table(comparison))
    if comparison.num_left_out:
        console.print(f"{counted(comparison.num_left_out, 'job')} left out: not started in both runs.")
