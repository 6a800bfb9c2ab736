"""``shunter certs``: a private authority, and certificates for daemons, agents and users."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from shunter.cli.console import note

app = typer.Typer(
    help="A private authority, and certificates of daemons, agents and users for mutual TLS.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DIR = typer.Option("--dir", help="Folder of the authority; keep ca.key in it to yourself.")
DEFAULT_DIR = Path("certs")
DAYS = typer.Option("--days", help="For how long it holds.")


@app.command("init")
def init_command(
    folder: Annotated[Path, DIR] = DEFAULT_DIR,
    name: Annotated[str, typer.Option("--name", help="Of the authority.")] = "Shunter authority",
    days: Annotated[int, DAYS] = 3650,
) -> None:
    """Make an authority: ca.pem, which everybody may have, and ca.key, which signs.

    Example: `shunter certs init --dir certs`
    """
    from shunter.daemon.security.certificates import make_authority

    made = make_authority(folder, name, days)
    note(f"wrote {made} and {folder / 'ca.key'}")


@app.command("issue")
def issue_command(
    folder: Annotated[Path, DIR] = DEFAULT_DIR,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", help="For a daemon: a name or address at which it is reached; may be repeated."),
    ] = None,
    agent: Annotated[str, typer.Option("--agent", help="For the agent of this node.")] = "",
    user: Annotated[str, typer.Option("--user", help="For a user.")] = "",
    role: Annotated[str, typer.Option("--role", help="Of the user: viewer, submitter or operator.")] = "submitter",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the files; default: the authority's.")] = None,
    days: Annotated[int, DAYS] = 365,
) -> None:
    """Make a key and a certificate for one daemon, agent or user.

    Example: `shunter certs issue --server scheduler.example.org --server 10.0.0.5`
    """
    from shunter.daemon.security.certificates import issue_caller, issue_server, read_authority
    from shunter.daemon.service.access import Role
    from shunter.scheduler.errors import UsageError

    if sum(map(bool, (server, agent, user))) != 1:
        raise UsageError("exactly one of --server, --agent and --user is needed")
    if role not in {Role.VIEWER, Role.SUBMITTER, Role.OPERATOR}:
        raise UsageError(f"--role: {role!r} is none of viewer, submitter, operator")
    authority = read_authority(folder)
    name = "server" if server else f"agent-{agent}" if agent else f"user-{user}"
    target = out or folder
    cert, key = target / f"{name}.pem", target / f"{name}.key"
    if server:
        issue_server(authority, server, cert, key, days)
    elif agent:
        issue_caller(authority, Role.AGENT, agent, cert, key, days)
    else:
        issue_caller(authority, Role(role), user, cert, key, days)
    note(f"wrote {cert} and {key}")


@app.command("renew")
def renew_command(
    cert: Annotated[Path, typer.Argument(help="Certificate; its key lies beside it with the ending .key.")],
    folder: Annotated[Path, DIR] = DEFAULT_DIR,
    days: Annotated[int, DAYS] = 365,
) -> None:
    """Make the same certificate again with a new key and a new end; a running daemon takes it at once.

    Example: `shunter certs renew certs/server.pem`
    """
    from shunter.daemon.security.certificates import read_authority, renew

    renew(read_authority(folder), cert, cert.with_suffix(".key"), days)
    note(f"renewed {cert} and {cert.with_suffix('.key')} for {days} days")


@app.command("show")
def show_command(certs: Annotated[list[Path], typer.Argument(help="Certificates.")]) -> None:
    """Show for whom certificates are and when they end.

    Example: `shunter certs show certs/ca.pem certs/server.pem`
    """
    from shunter.daemon.security.certificates import names_in, read_certificate

    for path in certs:
        found = read_certificate(path)
        days = int((found.not_valid_after_utc.timestamp() - time.time()) // 86400)
        ends = f"until {found.not_valid_after_utc:%Y-%m-%d} ({days} days)" if days >= 0 else "EXPIRED"
        whom = ", ".join(names_in(found)) or found.subject.rfc4514_string()
        sys.stdout.write(f"{path}: {whom}; {ends}; serial {found.serial_number:x}\n")
