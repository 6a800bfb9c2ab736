"""``shunter policy``: what decides, and who may change it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from shunter.cli.live import AsJson, Connection, live

app = typer.Typer(
    help="See and change what decides: the heuristic, or a learned order under its guard.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MODES = ("heuristic", "shadow", "active")


@app.command("status")
@live
def status_command(connection: Connection, as_json: AsJson = False) -> None:
    """What decides now, and who leads.

    Example: `shunter policy status`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document, enum_word, print_pairs
    from shunter.daemon.pb import admin_pb2, admin_pb2_grpc

    with connection.open() as client:
        said = client.call(admin_pb2_grpc.AdminStub, "PolicyStatus", admin_pb2.PolicyStatusRequest())
        address = client.address
    if as_json:
        print_json(document(said))
        return
    mode = enum_word(said.DESCRIPTOR.fields_by_name["mode"].enum_type, said.mode)
    leads = "leads" if said.is_leader else f"follows {said.leader_address or 'nobody'}"
    pairs = [("mode", mode), ("heuristic", said.heuristic), ("backfilling", said.backfill)]
    pairs += [("placement", said.placement), ("decisions", str(said.decisions))]
    if said.model:
        pairs += [("model", f"{said.model} ({said.model_sha256[:12]})")]
    if said.previous_model:
        pairs += [("model before", said.previous_model)]
    pairs += [(f"guard: {name}", str(count)) for name, count in sorted(said.guard.items())]
    pairs += [("daemon", f"{address} {leads}, term {said.fencing_token}")]
    print_pairs(pairs)


@app.command("mode")
@live
def mode_command(
    connection: Connection,
    mode: Annotated[str, typer.Argument(metavar="MODE", help="heuristic, shadow or active.")],
    as_json: AsJson = False,
) -> None:
    """Let the heuristic decide, compute the learned order beside it (shadow), or let that decide (active).

    Example: `shunter policy mode shadow`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document, enum_word
    from shunter.daemon.pb import admin_pb2, admin_pb2_grpc
    from shunter.scheduler.errors import UsageError, nearest

    if mode not in MODES:
        raise UsageError(f"MODE: there is no {mode!r}{nearest(mode, list(MODES))}")
    number: Any = admin_pb2.PolicyMode.Value(f"POLICY_MODE_{mode.upper()}")
    with connection.open() as client:
        answer = client.call(admin_pb2_grpc.AdminStub, "SetMode", admin_pb2.SetModeRequest(mode=number))
    if as_json:
        print_json(document(answer))
        return
    before = enum_word(answer.DESCRIPTOR.fields_by_name["before"].enum_type, answer.before)
    sys.stdout.write(f"mode is {mode}; before it was {before}\n")


@app.command("promote")
@live
def promote_command(
    connection: Connection,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its name in the registry of models.")],
    as_json: AsJson = False,
) -> None:
    """Take another model.

    Example: `shunter policy promote learned-gpu`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document
    from shunter.daemon.pb import admin_pb2, admin_pb2_grpc

    with connection.open() as client:
        answer = client.call(admin_pb2_grpc.AdminStub, "Promote", admin_pb2.PromoteRequest(model=model), again=False)
    if as_json:
        print_json(document(answer))
    else:
        sys.stdout.write(f"model is {model}; before it was {answer.before or 'none'}\n")


@app.command("rollback")
@live
def rollback_command(connection: Connection, as_json: AsJson = False) -> None:
    """Take the model again that was there before.

    Example: `shunter policy rollback`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document
    from shunter.daemon.pb import admin_pb2, admin_pb2_grpc

    with connection.open() as client:
        answer = client.call(admin_pb2_grpc.AdminStub, "Rollback", admin_pb2.RollbackRequest(), again=False)
    print_json(document(answer)) if as_json else sys.stdout.write(f"model is {answer.model or 'none'}\n")
