"""Recorded decisions: taken from a daemon, and made again to see that they come out the same."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.live import AsJson, Connection, live

if TYPE_CHECKING:
    from shunter.scheduler.guard import Seen
    from shunter.scheduler.policies.registry import Scorer


@live
def decisions_command(
    connection: Connection,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Appears when it is whole, or not at all.")],
    last: Annotated[int, typer.Option("--last", min=0, help="So many; 0: all that the daemon keeps.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write the daemon's last decisions, with all that they were made from, to a file; `replay-decisions` reads it.

    Example: `shunter policy decisions decisions.bin`
    """
    from shunter.cli.console import print_json
    from shunter.daemon.pb import admin_pb2, admin_pb2_grpc
    from shunter.scheduler.errors import OutputError

    partial = file.with_name(file.name + ".partial")
    count = size = 0
    try:
        with connection.open() as client, partial.open("wb") as stream:
            request = admin_pb2.ExportSnapshotsRequest(count=last)
            for said in client.stream(admin_pb2_grpc.AdminStub, "ExportSnapshots", request):
                stream.write(said.record)
                count, size = count + 1, size + len(said.record)
        partial.replace(file)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    if as_json:
        print_json({"file": str(file), "decisions": count, "bytes": size})
    else:
        sys.stdout.write(f"{file}: {count} decisions, {size:,} bytes\n")


def replay_decisions_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="From `shunter policy decisions`.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Where models of the records may be found: model:FOLDER or a name; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make recorded decisions again and say how many come out the same; exit code 1 when one does not.

    Example: `shunter replay-decisions decisions.bin`
    """
    from shunter.cli.console import counting_bar, print_json
    from shunter.scheduler.recording import decode, difference, records, replay

    found: list[dict[str, Any]] = []
    count = done = 0
    scorer, total = _Models(model or []), sum(file.stat().st_size for file in files if file.exists())
    with counting_bar("bytes", quiet=as_json) as tell:
        for file in files:
            for number, record in enumerate(_records(file, records), start=1):
                recorded = decode(record, scorer)
                differs = difference(recorded.plan, replay(recorded))
                count, done = count + 1, done + len(record)
                if differs is not None:
                    found.append({"file": str(file), "decision": number, "difference": differs})
                if tell is not None:
                    tell(done, total, f"{count} decisions")
    if as_json:
        print_json({"decisions": count, "equal": count - len(found), "differences": found})
    else:
        sys.stdout.write(f"{count - len(found)} of {count} decisions come out the same\n")
        for one in found[:1]:
            sys.stdout.write(f"{one['file']}: decision {one['decision']}: {one['difference']}\n")
    if found:
        raise typer.Exit(1)


def _records(file: Path, read: Any) -> Any:
    from shunter.scheduler.errors import UsageError

    try:
        with file.open("rb") as stream:
            yield from read(stream)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from error


class _Models:
    """Scorers of models by their SHA-256: of those that ship, those of the registry, and those that were named."""

    def __init__(self, named: list[str]) -> None:
        self._named = named
        self._known: dict[str, tuple[Scorer, Seen | None]] = {}

    def __call__(self, model: str, sha256: str) -> tuple[Scorer, Seen | None]:
        from shunter.cli.policies import LEARNED, TUNED_LINEAR, find_live_policy
        from shunter.scheduler.errors import RecordError, ShunterError

        if sha256 in self._known:
            return self._known[sha256]
        for text in (*self._named, LEARNED, TUNED_LINEAR, model.removeprefix("model:")):
            try:
                chosen = find_live_policy(text)
            except ShunterError:
                if text in self._named:
                    raise
                continue
            if chosen.scorer is not None:
                self._known[chosen.model_sha256] = chosen.scorer, chosen.seen
            if sha256 in self._known:
                return self._known[sha256]
        raise RecordError(f"model {model!r} with SHA-256 {sha256[:12]}… is needed: say where it is with --model")
