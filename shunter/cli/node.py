"""``shunter node``: the agent of one node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """
Example:

`shunter node --daemon scheduler:7421 --name gpu-07 --state /var/lib/shunter --token-file /etc/shunter/node.token`
"""


def node_command(
    daemon: Annotated[
        list[str] | None, typer.Option("--daemon", help="HOST:PORT of a daemon; give all there are. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the node, unique in the cluster.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder on a local disk for what must outlive the agent.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the same keys; flags go over it.")
    ] = None,
    cpus: Annotated[float | None, typer.Option("--cpus", help="CPUs to offer. Default: all.")] = None,
    memory_gib: Annotated[float | None, typer.Option("--memory-gib", help="Memory to offer. Default: all.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="GPUs to offer. Default: those that NVML finds.")] = None,
    gpu_type: Annotated[str | None, typer.Option("--gpu-type", help="Their type. Default: as NVML calls them.")] = None,
    rack: Annotated[str | None, typer.Option("--rack", help="Where the node stands.")] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="Where the rack stands.")] = None,
    run_as: Annotated[
        str | None,
        typer.Option("--run-as", help="Account that jobs run under. Default: the one of the user's own name."),
    ] = None,
    accounts: Annotated[
        list[str] | None,
        typer.Option("--accounts", help="Account that a job may name beside these two. Repeatable."),
    ] = None,
    allow_root: Annotated[bool, typer.Option("--allow-root", help="Jobs may run as root.")] = False,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="File with the agent's token.")] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="Certificates of those who may sign the daemon's.")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="The agent's own certificate.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its private key.")] = None,
    sample_s: Annotated[
        float | None, typer.Option("--sample-s", help="Seconds between samples. Default: as the daemon says.")
    ] = None,
    stop_jobs: Annotated[
        bool, typer.Option("--stop-jobs", help="When told to end, stop the jobs first. Default: they go on.")
    ] = False,
    log_part_mib: Annotated[
        float | None, typer.Option("--log-part-mib", help="Size of a file of a task's output. Default: 16.")
    ] = None,
    log_parts: Annotated[int | None, typer.Option("--log-parts", help="Files kept for a task. Default: 4.")] = None,
    keep_days: Annotated[
        float | None, typer.Option("--keep-days", help="Days for which output is kept. Default: 7.")
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
) -> None:
    """Run the agent of a node: offer what it has, run jobs, tell how it is."""
    flags = dict(locals())
    file = flags.pop("config")
    # A switch that is not given says nothing against the file's.
    flags = {name: value for name, value in flags.items() if value is not False}
    from shunter.daemon.logs import set_up_logs
    from shunter.daemon.node.settings import read_settings

    settings = read_settings(file, flags)
    set_up_logs("text", settings.log_level)
    from shunter.daemon.node.agent import run_agent

    run_agent(settings)


node_command.__doc__ = f"{node_command.__doc__}\n{EXAMPLE}"
