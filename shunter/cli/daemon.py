"""``shunter daemon``: run it, and look after what it keeps."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from shunter.cli.console import note

app = typer.Typer(
    help="Run the daemon that schedules a live cluster, and look after what it keeps.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CONFIG = typer.Option("--config", help="YAML file; `shunter daemon example-config` writes one with every key.")
DEFAULT_STATE = Path("shunter-state")


@app.callback()
def daemon_command(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to serve; default 127.0.0.1:7070.")
    ] = None,
    state: Annotated[Path, typer.Option("--state", help="Folder for the database and all else it keeps.")] = (
        DEFAULT_STATE
    ),
    config: Annotated[Path | None, CONFIG] = None,
    log_format: Annotated[str, typer.Option("--log-format", help="text or json, on standard error.")] = "text",
) -> None:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM; SIGHUP makes it read its configuration again.

    Example: `shunter daemon --listen 127.0.0.1:7070 --state /var/lib/shunter`
    """
    if context.invoked_subcommand is not None:
        return
    from shunter.cli.policies import find_live_policy
    from shunter.cli.start_times import tell_starts
    from shunter.daemon.config import read_config
    from shunter.daemon.logs import set_up_logs
    from shunter.daemon.planner import ProcessPlanner
    from shunter.daemon.run import Daemon, Parts
    from shunter.daemon.service.access import OpenAccess
    from shunter.scheduler.errors import OutputError

    set_up_logs(log_format)
    overrides = {"listen": listen}
    checked = read_config(config, overrides)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise OutputError(f"{state}: cannot be made: {problem.strerror}") from None
    parts = Parts(
        config=checked,
        config_path=config,
        overrides=overrides,
        state_dir=state,
        planner=ProcessPlanner(find_live_policy, keep=checked.scheduling.keep_decisions),
        asker=ProcessPlanner(find_live_policy, tell_starts=tell_starts),
        access=OpenAccess(_user()),
        on_listening=lambda address: note(f"daemon listens on {address}, keeps its state in {state}"),
    )

    async def serve() -> None:
        await Daemon(parts).run()

    asyncio.run(serve())


def _user() -> str:
    import getpass

    return getpass.getuser()


@app.command("check-config")
def check_config_command(config: Annotated[Path, typer.Argument(help="YAML file.")]) -> None:
    """Check a configuration: all problems at once, each with its path; exit code 2 when there are any.

    Example: `shunter daemon check-config /etc/shunter/daemon.yaml`
    """
    from shunter.daemon.config import read_config

    read_config(config)
    sys.stdout.write(f"{config}: can be used\n")
