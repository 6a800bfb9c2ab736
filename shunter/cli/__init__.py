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
app.command("node")(node_command)
app.add_typer(cluster_app, name="cluster")
app.add_typer(daemon_app, name="daemon")
app.add_typer(tokens_app, name="token")
app.add_typer(certs_app, name="certs")
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
