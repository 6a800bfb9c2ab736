"""``shunter demo``: the first five minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results and pictures.")] = Path(
        "demo-report"
    ),
    live: Annotated[
        bool, typer.Option("--live", help="A daemon, three nodes and 60 jobs on this machine; one node is killed.")
    ] = False,
) -> None:
    """Compare real scheduling policies on the two workloads that come with the package.

    Needs no files and no network. Writes report.html and PNG figures. With --live it runs a small cluster instead,
    kills a node of it, and shows how its jobs are started elsewhere; nothing is left behind.

    Example: `shunter demo --out demo-report`
    """
    if live:
        from shunter.cli.demo_live import print_figures, run_demo

        figures = run_demo()
        print_figures(figures)
        raise typer.Exit(1 if figures.lost or figures.doubled else 0)
    from shunter.cli.console import note, output
    from shunter.cli.runs import Request, check_writable, open_trace, run_all, save_all
    from shunter.cli.tables import render_comparison_table

    check_writable(out)
    console = output()
    for name, policies, backfills in (
        ("hpc", ["fcfs", "sjf", "wfp3"], ["none", "easy"]),
        ("gpu", ["fcfs", "sjf", "saf"], ["none", "easy"]),
    ):
        request = Request(
            policies=policies,
            backfills=backfills,
            placement="best-fit",
            window=None,
            ties="instant",
            depth=0,
            interval_s=0.0,
            clairvoyant=False,
            seed=0,
            out=out / name,
            resume=False,
            quiet=False,
        )
        check_writable(out / name)
        trace, cluster = open_trace(f"demo:{name}")
        results = run_all(trace, cluster, request)
        save_all(results, out / name, figures=True, quiet=True)
        console.print(render_comparison_table(results))
    note(f"open {out / 'hpc' / 'report.html'} and {out / 'gpu' / 'report.html'} in a browser")
