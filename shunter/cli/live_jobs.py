"""``shunter queue``, ``show``, ``cancel``, ``explain``, ``eta`` and ``reprioritise``: what there is to do with jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.live import AsJson, Connection, live

if TYPE_CHECKING:
    from shunter.cli.live_text import Cell
    from shunter.daemon.client import Client

JobId = Annotated[str, typer.Argument(metavar="ID", help="Of the job.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID…", help="Of jobs.")]
STATES = ("pending", "starting", "running", "stopping", "completed", "failed", "cancelled", "timed-out")
COLOUR_OF = {
    "pending": "yellow", "starting": "cyan", "running": "green", "stopping": "cyan",
    "failed": "red", "timed-out": "red", "cancelled": "dim", "completed": "",
}  # fmt: skip
PAGE = 500


@live
def queue_command(
    connection: Connection,
    everything: Annotated[bool, typer.Option("--all", help="Also jobs that have ended.")] = False,
    finished: Annotated[bool, typer.Option("--finished", help="Only jobs that have ended.")] = False,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only these.")] = None,
    user: Annotated[str, typer.Option("--user", help="Only this user's.")] = "",
    queue: Annotated[str, typer.Option("--queue", help="Only this queue's.")] = "",
    group: Annotated[str, typer.Option("--group", help="Only this group's.")] = "",
    name: Annotated[str, typer.Option("--name", help="Only with this in the name.")] = "",
    array: Annotated[str | None, typer.Option("--array", metavar="ID", help="Only of this array.")] = None,
    node: Annotated[str, typer.Option("--node", help="Only what runs or ran there.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option("--every", metavar="SPAN", help="With --watch.")] = "2s",
    as_json: AsJson = False,
) -> None:
    """Jobs: what runs first, then what waits; each newest first.

    Example: `shunter queue --user ada --watch`
    """
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_watch import again_and_again
    from shunter.daemon.pb.scheduler_pb2 import JobFilter
    from shunter.scheduler.errors import UsageError

    if watch and as_json:
        raise UsageError("--watch: not with --json; `shunter events --follow --json` tells of every change")
    groups = _state_groups(everything=everything, finished=finished, names=state or [])
    base = JobFilter(
        user=user, queue=queue, group=group, name=name, node=node,
        array=None if array is None else ids_of([array], "--array")[0],
    )  # fmt: skip
    filters = []
    for states in groups:
        one = states_filter(states)
        one.MergeFrom(base)
        filters.append(one)
    with connection.open() as client:

        def show() -> None:
            found = _limited(jobs_of(client, filters), limit)
            print_jobs_json(found) if as_json else print_jobs(found)

        again_and_again(show, every) if watch else show()


def states_filter(states: Sequence[Any]) -> Any:
    """Jobs in these states, by their numbers."""
    from shunter.daemon.pb.scheduler_pb2 import JobFilter

    return JobFilter(states=states)


def _state_groups(*, everything: bool, finished: bool, names: Sequence[str]) -> list[list[int]]:
    """Numbers of states, in the order in which they are shown."""
    from shunter.scheduler.errors import UsageError, nearest

    for word in names:
        if word not in STATES:
            raise UsageError(f"--state: there is no {word!r}{nearest(word, list(STATES))}")
    if names:
        return [[STATES.index(word) + 1 for word in names]]
    if finished:
        return [[5, 6, 7, 8]]
    return [[2, 3, 4], [1], [5, 6, 7, 8]] if everything else [[2, 3, 4], [1]]


def jobs_of(client: Client, filters: Sequence[Any]) -> Iterator[Any]:
    """Jobs page by page; one that changes its state meanwhile is told once."""
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    told: set[int] = set()
    for wanted in filters:
        token = ""
        while True:
            request = scheduler_pb2.ListJobsRequest(filter=wanted, page_size=PAGE, page_token=token)
            answer = client.call(scheduler_pb2_grpc.SchedulerStub, "ListJobs", request)
            for job in answer.jobs:
                if len(filters) == 1:
                    yield job
                elif job.id not in told:
                    told.add(job.id)
                    yield job
            token = answer.next_page_token
            if not token:
                break


def _limited(jobs: Iterator[Any], limit: int) -> Iterator[Any]:
    for number, job in enumerate(jobs, 1):
        yield job
        if number == limit:
            return


def print_jobs_json(jobs: Iterator[Any]) -> None:
    """One document, written as the pages come: there may be a million."""
    import json

    from shunter.cli.live_text import document

    sys.stdout.write('{"jobs": [')
    for number, job in enumerate(jobs):
        sys.stdout.write(",\n" if number else "\n")
        sys.stdout.write(json.dumps(document(job), ensure_ascii=False))
    sys.stdout.write("\n]}\n")


def print_jobs(jobs: Iterator[Any]) -> None:
    """A table, page by page; the first page sets the widths."""
    from itertools import islice

    from shunter.cli.live_text import heading, table_lines, width_of_output, widths_of

    now_s = time.time()
    rows = [job_row(job, now_s) for job in islice(jobs, PAGE)]
    columns = job_columns()
    widths = widths_of(columns, rows, width_of_output())
    sys.stdout.write(heading(columns, widths) + "\n")
    while rows:
        sys.stdout.write("\n".join(table_lines(columns, rows, widths)) + "\n")
        rows = [job_row(job, now_s) for job in islice(jobs, PAGE)]


def job_columns() -> list[Any]:
    """Of the queue."""
    from shunter.cli.live_text import Column

    return [
        Column("ID", is_right=True), Column("NAME", least=6), Column("USER", least=4), Column("QUEUE", least=5),
        Column("STATE"), Column("REASON", least=6), Column("TIME", is_right=True), Column("NEEDS", least=8),
        Column("NODES", least=6),
    ]  # fmt: skip


def job_row(job: Any, now_s: float) -> list[Cell]:
    """Of one job; its time is how long it waits, runs or ran."""
    from shunter.cli.live_text import clean
    from shunter.cli.spans import short_span

    state = STATES[job.state - 1] if 1 <= job.state <= len(STATES) else str(job.state)
    begin_s = job.start_unix_s if job.HasField("start_unix_s") and state != "pending" else job.submit_unix_s
    end_s = job.end_unix_s if job.HasField("end_unix_s") else now_s
    index = f"[{job.array_index}]" if job.HasField("array_index") else ""
    reason = "" if job.reason == state else job.reason
    if state == "failed" and job.HasField("exit_code"):
        reason = f"exit {job.exit_code}"
    return [
        str(job.id), clean(job.spec.name) + index, clean(job.user), clean(job.spec.queue),
        (state, COLOUR_OF.get(state, "")), reason, short_span(end_s - begin_s), needs(job.spec), nodes_of(job),
    ]  # fmt: skip


def needs(spec: Any) -> str:
    """``4 × 1 GPU 8 CPU 16 GiB``."""
    per = spec.per_task
    parts = [
        f"{amount:g} {unit}"
        for amount, unit in ((per.gpus, spec.gpu_type or "GPU"), (per.cpus, "CPU"), (per.memory_gib, "GiB"))
        if amount
    ]
    return (f"{spec.tasks} × " if spec.tasks > 1 else "") + (" ".join(parts) or "nothing")


def nodes_of(job: Any) -> str:
    """Of the last attempt; nothing where the job waits."""
    if not job.attempts or job.state == 1:
        return ""
    return ",".join(placement.node for placement in job.attempts[-1].placement)


@live
def show_command(connection: Connection, job: JobId, as_json: AsJson = False) -> None:
    """A job with all that is known of it, and its attempts.

    Example: `shunter show 4711`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_show import print_job
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_text import document
    from shunter.cli.live_waiting import job_of

    with connection.open() as client:
        found = job_of(client, _one(ids_of([job], "ID")))
    print_json(document(found)) if as_json else print_job(found)


def _one(ids: list[int]) -> int:
    from shunter.scheduler.errors import UsageError

    if len(ids) != 1:
        raise UsageError(f"ID: expected one job, got {len(ids)}")
    return ids[0]


@live
def cancel_command(
    connection: Connection,
    jobs: JobIds,
    array: Annotated[bool, typer.Option("--array", help="Also all others of their arrays.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the event.")] = "",
    as_json: AsJson = False,
) -> None:
    """End jobs: those that wait at once, those that run after their grace period.

    Example: `shunter cancel 4711 4712`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_text import document
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    request = scheduler_pb2.CancelRequest(jobs=ids_of(jobs, "ID"), whole_array=array, reason=reason)
    with connection.open() as client:
        answer = client.call(scheduler_pb2_grpc.SchedulerStub, "Cancel", request)
    if as_json:
        print_json(document(answer))
        return
    for word, ids in (("cancelled", answer.cancelled), ("had ended", answer.ended)):
        sys.stdout.write("".join(f"{job} {word}\n" for job in ids))


@live
def reprioritise_command(
    connection: Connection,
    jobs: JobIds,
    priority: Annotated[int, typer.Option("--priority", help="A higher one goes first, always.")],
    as_json: AsJson = False,
) -> None:
    """Give jobs another priority; only an operator may raise it.

    Example: `shunter reprioritise 4711 --priority 10`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_text import document
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc
    from shunter.scheduler.errors import UsageError

    if not -(2**31) <= priority < 2**31:
        raise UsageError(f"--priority: {priority} is out of range")
    request = scheduler_pb2.ReprioritiseRequest(jobs=ids_of(jobs, "ID"), priority=priority)
    with connection.open() as client:
        answer = client.call(scheduler_pb2_grpc.SchedulerStub, "Reprioritise", request)
    if as_json:
        print_json(document(answer))
        return
    changed = set(answer.changed)
    for job in request.jobs:
        sys.stdout.write(f"{job} {f'has priority {priority}' if job in changed else 'had ended'}\n")


@live
def explain_command(connection: Connection, job: JobId, as_json: AsJson = False) -> None:
    """Why a job stands where it stands.

    Example: `shunter explain 4711`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_show import print_explanation
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_text import document
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    request = scheduler_pb2.ExplainRequest(job=_one(ids_of([job], "ID")))
    with connection.open() as client:
        answer = client.call(scheduler_pb2_grpc.SchedulerStub, "Explain", request)
    print_json(document(answer)) if as_json else print_explanation(answer)


@live
def eta_command(connection: Connection, job: JobId, as_json: AsJson = False) -> None:
    """When a waiting job will start, as far as anybody can say.

    Example: `shunter eta 4711`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_show import estimate_words
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_text import document
    from shunter.cli.live_waiting import job_of
    from shunter.cli.spans import iso, short_span
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    request = scheduler_pb2.EstimateStartRequest(job=_one(ids_of([job], "ID")))
    with connection.open() as client:
        answer = client.call(scheduler_pb2_grpc.SchedulerStub, "EstimateStart", request)
        if as_json:
            print_json(document(answer))
            return
        found = job_of(client, request.job)
    if found.HasField("start_unix_s") and found.state != 1:
        ago = short_span(time.time() - found.start_unix_s)
        sys.stdout.write(f"{request.job} started {ago} ago, at {iso(found.start_unix_s)}\n")
    else:
        sys.stdout.write(f"{request.job} {estimate_words(answer.start, time.time())}\n")
