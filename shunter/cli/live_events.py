"""``shunter events``: what happened, in the order in which it was stored."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Annotated, Any

import typer

from shunter.cli.live import AsJson, Connection, live

COLOUR_OF = {
    "failed": "red", "node-failed": "red", "node-suspect": "yellow", "lost": "red", "gpu-failed": "red",
    "failover-held": "red", "gpu-suspect": "yellow", "gpu-draining": "yellow", "node-draining": "yellow",
    "completed": "green", "started": "green",
}  # fmt: skip


@live
def events_command(
    connection: Connection,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also those to come, until Ctrl-C.")] = False,
    job: Annotated[list[str] | None, typer.Option("--job", metavar="ID", help="Only of this one.")] = None,
    user: Annotated[str, typer.Option("--user", help="Only of this user's jobs.")] = "",
    after: Annotated[
        int | None, typer.Option("--after", min=0, metavar="NUMBER", help="From the one after this event on.")
    ] = None,
    last: Annotated[int, typer.Option("--last", min=0, help="How far back, in events of all jobs.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Print events; --follow goes on after a restart of the daemon where it was. With --json and --follow, one a line.

    Example: `shunter events --follow --job 4711`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_text import document
    from shunter.cli.live_waiting import events, last_event, past_events

    jobs = ids_of(job or [], "--job")
    with connection.open() as client, contextlib.suppress(*([KeyboardInterrupt] if follow else [])):
        if after is None:
            # All of a job's, however long ago; else the last ones.
            after = 0 if jobs else max(last_event(client) - last, 0)
        responses = events(client, after, jobs, user) if follow else past_events(client, after, jobs, user)
        if as_json and not follow:
            found = list(responses)
            listed = [document(event) for response in found for event in response.events]
            print_json({"events": listed, "up_to": found[-1].up_to})
            return
        for response in responses:
            for event in response.events:
                sys.stdout.write((json.dumps(document(event)) if as_json else event_line(event)) + "\n")
            sys.stdout.flush()


def event_line(event: Any) -> str:
    """``  17 2027-01-31T18:00:01Z  started  job 4 attempt 1 on gpu-07``."""
    from shunter.cli.live_text import clean, enum_word, painted
    from shunter.cli.spans import iso

    parts = []
    if event.HasField("job"):
        several = event.HasField("last_job") and event.last_job != event.job
        parts.append(f"jobs {event.job}–{event.last_job}" if several else f"job {event.job}")
    if event.HasField("attempt"):
        parts.append(f"attempt {event.attempt}")
    if event.node:
        parts.append(f"on {clean(event.node)}" if parts else clean(event.node))
    if event.state:
        kind = event.DESCRIPTOR.fields_by_name["state"].enum_type
        parts.append(f"→ {enum_word(kind, event.state)}")
    if event.message:
        parts.append(f"({clean(event.message)})")
    if event.HasField("cause"):
        parts.append(painted(f"[because of {event.cause}]", "dim"))
    named = painted(event.kind.ljust(14), COLOUR_OF.get(event.kind, ""))
    return f"{event.number:>7}  {iso(event.at_unix_s)}  {named}  {' '.join(parts)}".rstrip()
