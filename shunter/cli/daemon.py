"""``shunter daemon``: run it, and look after what it keeps."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shunter.cli.console import note, print_json
from shunter.cli.live import AsJson

if TYPE_CHECKING:
    from shunter.daemon.store.sql_store import SqlStore

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
    from shunter.cli.policies import find_policy
    from shunter.daemon.config import read_config
    from shunter.daemon.logs import set_up_logs
    from shunter.daemon.planner import ProcessPlanner
    from shunter.daemon.run import Daemon, Parts
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
        planner=ProcessPlanner(find_policy),
        on_listening=lambda address: note(f"daemon listens on {address}, keeps its state in {state}"),
    )

    async def serve() -> None:
        await Daemon(parts).run()

    asyncio.run(serve())


@app.command("check-config")
def check_config_command(config: Annotated[Path, typer.Argument(help="YAML file.")]) -> None:
    """Check a configuration: all problems at once, each with its path; exit code 2 when there are any.

    Example: `shunter daemon check-config /etc/shunter/daemon.yaml`
    """
    from shunter.daemon.config import read_config

    read_config(config)
    sys.stdout.write(f"{config}: can be used\n")


@app.command("example-config")
def example_config_command() -> None:
    """Write a configuration with every key at its default, each explained.

    Example: `shunter daemon example-config > daemon.yaml`
    """
    from shunter.daemon.config import example

    sys.stdout.write(example())


State = Annotated[Path, typer.Option("--state", help="Folder of the daemon.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Appears when it is whole, or not at all.")]


@app.command("export")
def export_command(
    file: File, state: State = DEFAULT_STATE, config: Annotated[Path | None, CONFIG] = None, as_json: AsJson = False
) -> None:
    """Write everything that the daemon keeps into one file, to move it to another database. The daemon may run.

    Example: `shunter daemon export shunter.jsonl.zst --state /var/lib/shunter`
    """
    from shunter.daemon.store.transfer import export_to

    _refuse_existing(file)
    with _opened(state, config) as store, _slow_bar("rows") as progress:
        rows = export_to(store, file, progress)
    _tell({"file": str(file), "rows": rows}, f"{file}: {rows} rows", as_json=as_json)


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="From `shunter daemon export`.")],
    state: State = DEFAULT_STATE,
    config: Annotated[Path | None, CONFIG] = None,
    as_json: AsJson = False,
) -> None:
    """Fill an empty database from an export; all of it or nothing. No daemon may run on it.

    Example: `shunter daemon import shunter.jsonl.zst --config /etc/shunter/daemon.yaml`
    """
    from shunter.daemon.config import read_config
    from shunter.daemon.run import store_url
    from shunter.daemon.store.transfer import import_from
    from shunter.scheduler.errors import OutputError, UsageError

    if not file.is_file():
        raise UsageError(f"{file}: there is no such file")
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise OutputError(f"{state}: cannot be made: {problem.strerror}") from None
    with _slow_bar("rows") as progress:
        rows = import_from(file, store_url(read_config(config), state), progress)
    _tell({"file": str(file), "rows": rows}, f"{rows} rows from {file}", as_json=as_json)


@app.command("backup")
def backup_command(
    file: File, state: State = DEFAULT_STATE, config: Annotated[Path | None, CONFIG] = None, as_json: AsJson = False
) -> None:
    """Copy the database of a daemon, which may run: as a database (SQLite), or as an export (PostgreSQL).

    Example: `shunter daemon backup /backup/shunter-monday.db --state /var/lib/shunter`
    """
    from shunter.daemon.store.transfer import backup

    _refuse_existing(file)
    with _opened(state, config) as store, _slow_bar("pages") as progress:
        backup(store, file, progress)
    size = file.stat().st_size
    _tell({"file": str(file), "bytes": size}, f"{file}: {size / 2**20:.1f} MiB", as_json=as_json)


def _refuse_existing(file: Path) -> None:
    from shunter.scheduler.errors import OutputError

    if file.exists():
        raise OutputError(f"{file}: is there already; remove it, or choose another name")
    if not file.absolute().parent.is_dir():
        raise OutputError(f"{file}: there is no folder {file.absolute().parent}")


@contextmanager
def _opened(state: Path, config: Path | None) -> Iterator[SqlStore]:
    """The store of a daemon, to read.

    Raises:
        UsageError: There is none.
    """
    from shunter.daemon.config import read_config
    from shunter.daemon.run import store_url
    from shunter.daemon.store.engines import place_of
    from shunter.daemon.store.sql_store import open_store
    from shunter.scheduler.errors import UsageError

    url = store_url(read_config(config), state)
    path = place_of(url).path
    if path is not None and not path.is_file():
        raise UsageError(f"{path}: there is no database; is --state the folder of a daemon?")
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


BAR_AFTER_S = 2.0


@contextmanager
def _slow_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress line for what takes longer than a moment."""
    from shunter.cli.console import counting_bar

    begun_s = time.monotonic()
    with ExitStack() as stack:
        bar: list[Callable[[float, float, str], None] | None] = []

        def tell(done: int, of: int) -> None:
            if time.monotonic() - begun_s < BAR_AFTER_S:
                return
            if not bar:
                bar.append(stack.enter_context(counting_bar(unit, quiet=False)))
            if bar[0] is not None:
                bar[0](done, of, "")

        yield tell


def _tell(document: dict[str, object], text: str, *, as_json: bool) -> None:
    print_json(document) if as_json else sys.stdout.write(text + "\n")
