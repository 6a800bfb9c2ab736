"""What the verbs of the live cluster share: how they reach the daemon, and the options for it."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from shunter.daemon.client import Client

DEFAULT_ADDRESS = "127.0.0.1:7070"
PANEL = "Connection"

Address = Annotated[
    list[str] | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        envvar="SHUNTER_ADDRESS",
        help=f"Of the daemon; repeat it, or put commas, for several. Default: {DEFAULT_ADDRESS}.",
        rich_help_panel=PANEL,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="SHUNTER_TOKEN_FILE", help="File with your token.", rich_help_panel=PANEL),
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", envvar="SHUNTER_CA", help="Whose signature the daemon has.", rich_help_panel=PANEL),
]
Cert = Annotated[
    Path | None, typer.Option("--cert", envvar="SHUNTER_CERT", help="Your certificate.", rich_help_panel=PANEL)
]
Key = Annotated[Path | None, typer.Option("--key", envvar="SHUNTER_KEY", help="Its key.", rich_help_panel=PANEL)]
Timeout = Annotated[
    str,
    typer.Option("--timeout", metavar="SPAN", help="For one call, all tries together.", rich_help_panel=PANEL),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """What the options say about the daemon."""

    address: list[str] | None
    token_file: Path | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    timeout: str

    def open(self) -> Client:
        """A client.

        Raises:
            UsageError: An address or a span that is none.
            ConfigError: A file that cannot be used.
        """
        # What goes wrong is said once, by us.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from shunter.cli.console import note
        from shunter.cli.spans import span_s
        from shunter.daemon.channel import read_token
        from shunter.daemon.client import Client, Target
        from shunter.scheduler.errors import UsageError

        given = [part.strip() for item in self.address or () for part in item.split(",") if part.strip()]
        for address in given:
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise UsageError(f"--address: expected HOST:PORT, got {address!r}")
        timeout_s = span_s(self.timeout, "--timeout")
        if timeout_s <= 0:
            raise UsageError(f"--timeout: expected more than 0 s, got {self.timeout!r}")
        target = Target(
            addresses=tuple(dict.fromkeys(given)) or (DEFAULT_ADDRESS,),
            token=read_token(self.token_file),
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            timeout_s=timeout_s,
        )
        return Client(target, note)


def live(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first argument is a ``Connection``, with the options for it after its own."""
    inner = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in list(inner.parameters.items())[1:]
    ]
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("address", keyword, default=None, annotation=Address),
        inspect.Parameter("token_file", keyword, default=None, annotation=TokenFile),
        inspect.Parameter("ca", keyword, default=None, annotation=Ca),
        inspect.Parameter("cert", keyword, default=None, annotation=Cert),
        inspect.Parameter("key", keyword, default=None, annotation=Key),
        inspect.Parameter("timeout", keyword, default="10s", annotation=Timeout),
    ]
    names = [parameter.name for parameter in shared]

    @functools.wraps(command)
    def wired(**options: Any) -> None:
        command(Connection(**{name: options.pop(name) for name in names}), **options)

    wired.__signature__ = inner.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    wired.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    del wired.__wrapped__  # its annotations are strings of another module's names
    return wired
