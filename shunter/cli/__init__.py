"""The command line: parses, wires the parts together, renders. Nothing imports it."""

from __future__ import annotations

from typing import Annotated

import typer

from shunter import __version__
from shunter.cli.certs import app as certs_app
from shunter.cli.cluster import app as cluster_app
from shunter.cli.compare import compare_command
from shunter.cli.daemon import app as daemon_app
from shunter.cli.demo import demo_command
from shunter.cli.evaluate import evaluate_command
from shunter.cli.live_events import events_command
from shunter.cli.live_jobs import (
    cancel_command,
    eta_command,
    explain_command,
    queue_command,
    reprioritise_command,
    show_command,
)
from shunter.cli.live_logs import logs_command
from shunter.cli.live_nodes import drain_command, nodes_command, resume_command
from shunter.cli.live_policy import app as policy_app
from shunter.cli.live_submit import submit_command
from shunter.cli.live_top import top_command
from shunter.cli.models import app as models_app
from shunter.cli.node import node_command
from shunter.cli.simulate import simulate_command
from shunter.cli.tokens import app as tokens_app
from shunter.cli.traces import app as traces_app
from shunter.cli.train import app as train_app

app = typer.Typer(
    name="shunter",
    help="Replay, compare and improve the scheduling of GPU and HPC clusters.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("simulate")(simulate_command)
app.command("compare")(compare_command)
app.command("evaluate")(evaluate_command)
app.command("demo")(demo_command)
LIVE = "The live cluster"
# What stands after the program of a job are that program's options.
app.command("submit", rich_help_panel=LIVE, context_settings={"allow_interspersed_args": False})(submit_command)
app.command("queue", rich_help_panel=LIVE)(queue_command)
app.command("show", rich_help_panel=LIVE)(show_command)
app.command("cancel", rich_help_panel=LIVE)(cancel_command)
app.command("logs", rich_help_panel=LIVE)(logs_command)
app.command("explain", rich_help_panel=LIVE)(explain_command)
app.command("eta", rich_help_panel=LIVE)(eta_command)
app.command("reprioritise", rich_help_panel=LIVE)(reprioritise_command)
app.command("events", rich_help_panel=LIVE)(events_command)
app.command("nodes", rich_help_panel=LIVE)(nodes_command)
app.command("top", rich_help_panel=LIVE)(top_command)
app.command("drain", rich_help_panel=LIVE)(drain_command)
app.command("resume", rich_help_panel=LIVE)(resume_command)
app.command("node", rich_help_panel=LIVE)(node_command)
app.add_typer(cluster_app, name="cluster")
app.add_typer(daemon_app, name="daemon", rich_help_panel=LIVE)
app.add_typer(policy_app, name="policy", rich_help_panel=LIVE)
app.add_typer(tokens_app, name="token", rich_help_panel=LIVE)
app.add_typer(certs_app, name="certs", rich_help_panel=LIVE)
app.add_typer(traces_app, name="traces")
app.add_typer(models_app, name="models")
app.add_typer(train_app, name="train")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shunter {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Replay, compare and improve the scheduling of GPU and HPC clusters."""
