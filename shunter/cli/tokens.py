"""``shunter token``: who may call the daemon with what."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shunter.cli.console import note

if TYPE_CHECKING:
    from shunter.daemon.security.tokens import Token, TokenFile

app = typer.Typer(
    help="Tokens with which users and agents prove who they are; a running daemon notices changes within a second.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

STATE = typer.Option("--state", help="Folder in which the daemon keeps its state.")
CONFIG = typer.Option("--config", help="The daemon's configuration, where it names another file for tokens.")
DEFAULT_STATE = Path("shunter-state")


def _file(state: Path, config: Path | None) -> TokenFile:
    from shunter.daemon.config import read_config
    from shunter.daemon.security.setting_up import token_file
    from shunter.daemon.security.tokens import TokenFile

    return TokenFile(token_file(read_config(config), state))


@app.command("create")
def create_command(
    role: Annotated[str, typer.Option("--role", help="viewer, submitter, operator or agent.")],
    user: Annotated[str, typer.Option("--user", help="Whose token it is; not for agents.")] = "",
    node: Annotated[str, typer.Option("--node", help="Of an agent: the only node for which it may speak.")] = "",
    expires: Annotated[str, typer.Option("--expires", help="After how long it ends, such as 30d or 12h.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the token, readable by its owner only; else it is printed.")
    ] = None,
    state: Annotated[Path, STATE] = DEFAULT_STATE,
    config: Annotated[Path | None, CONFIG] = None,
) -> None:
    """Make a token and print it, this once: only its SHA-256 is kept.

    Example: `shunter token create --user alice --role submitter --expires 30d --out alice.token`
    """
    from shunter.daemon.security.files import write_private
    from shunter.daemon.security.tokens import span_s
    from shunter.daemon.service.access import Role
    from shunter.scheduler.errors import UsageError

    if role not in set(Role):
        raise UsageError(f"--role: {role!r} is none of {', '.join(Role)}")
    lasts_s = span_s(expires) if expires else None
    secret, token = _file(state, config).create(user, Role(role), node=node, lasts_s=lasts_s)
    if out is None:
        sys.stdout.write(secret + "\n")
    else:
        write_private(out, secret.encode() + b"\n")
    note(f"token {token.id}: {_whose(token)}, {token.role}, {_until(token)}")


@app.command("list")
def list_command(
    state: Annotated[Path, STATE] = DEFAULT_STATE,
    config: Annotated[Path | None, CONFIG] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, without the hashes.")] = False,
) -> None:
    """List tokens: whose they are and until when, not the tokens themselves.

    Example: `shunter token list`
    """
    tokens = _file(state, config).read()
    if as_json:
        rows = [
            {
                "id": token.id,
                "user": token.user,
                "role": token.role,
                "node": token.node,
                "made_unix_s": token.made_unix_s,
                "expires_unix_s": token.expires_unix_s,
            }
            for token in tokens
        ]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for token in tokens:
        sys.stdout.write(f"{token.id}  {token.role:<9}  {_whose(token):<24}  {_until(token)}\n")


@app.command("revoke")
def revoke_command(
    token: Annotated[str, typer.Argument(help="Its id, as `list` shows it, or the beginning of it.")],
    state: Annotated[Path, STATE] = DEFAULT_STATE,
    config: Annotated[Path | None, CONFIG] = None,
) -> None:
    """Take a token back; streams that it opened end with their next message.

    Example: `shunter token revoke 1f0c2a`
    """
    revoked = _file(state, config).revoke(token)
    note(f"token {revoked.id} of {_whose(revoked)} is revoked")


def _whose(token: Token) -> str:
    return token.user or (f"node {token.node}" if token.node else "any node")


def _until(token: Token) -> str:
    if token.expires_unix_s is None:
        return "does not expire"
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(token.expires_unix_s))
    return f"expired {day}" if token.expires_unix_s <= time.time() else f"until {day}"
