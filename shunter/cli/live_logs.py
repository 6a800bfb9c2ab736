"""``shunter logs``: what a job has written."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from shunter.cli.live import Connection, live
from shunter.cli.live_jobs import JobId

if TYPE_CHECKING:
    from shunter.daemon.client import Client

SIZE = re.compile(r"(\d{1,12})([kKmMgG]?)")
FACTOR = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
LOOK_S = 0.5
FIRST_END = 5


@live
def logs_command(
    connection: Connection,
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends, or Ctrl-C.")] = False,
    attempt: Annotated[int, typer.Option("--attempt", min=0, help="Default: the last.")] = 0,
    task: Annotated[int | None, typer.Option("--task", min=0, help="Of a gang. Default: all, each line named.")] = None,
    tail: Annotated[str, typer.Option("--tail", metavar="SIZE", help="Only the last 4k, 2M … of each task.")] = "0",
) -> None:
    """Print the output of a job as it is.

    Example: `shunter logs 4711 --follow --tail 4k`
    """
    from shunter.cli.live_submit import ids_of
    from shunter.cli.live_waiting import job_of
    from shunter.daemon.pb import scheduler_pb2_grpc
    from shunter.daemon.pb.scheduler_pb2 import ReadLogsRequest
    from shunter.scheduler.errors import UsageError

    ids = ids_of([job], "ID")
    if len(ids) != 1:
        raise UsageError(f"ID: expected one job, got {len(ids)}")
    request = ReadLogsRequest(job=ids[0], attempt=attempt, task=task, tail_bytes=size_of(tail), follow=follow)
    with connection.open() as client, contextlib.suppress(*([KeyboardInterrupt] if follow else [])):
        found = job_of(client, request.job)
        printer = Printer(sys.stdout.buffer, named=task is None and found.spec.tasks > 1)
        try:
            if follow:
                _follow(client, request, printer)
            else:
                for chunk in client.stream(scheduler_pb2_grpc.SchedulerStub, "ReadLogs", request):
                    printer.take(chunk)
        finally:
            printer.end()


def size_of(text: str) -> int:
    """Bytes of ``4096``, ``4k``, ``2M``.

    Raises:
        UsageError: It is no size.
    """
    from shunter.scheduler.errors import UsageError

    found = SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"--tail: expected a size in bytes such as 4k or 2M, got {text!r}")
    return min(int(found[1]) * FACTOR[found[2].lower()], 2**62)


def _follow(client: Client, request: Any, printer: Printer) -> None:
    """Print one attempt, or each in turn until the job has ended."""
    from shunter.cli.console import note

    only, before = request.attempt, 0
    while (number := _next_attempt(client, request.job, only, before)) is not None:
        if before:
            note(f"attempt {number}")
            printer.begin_anew()
            request.tail_bytes = 0
        request.attempt = number
        job = _copy(client, request, printer)
        if only or job.state >= FIRST_END:
            return
        before = number


def _next_attempt(client: Client, job_id: int, only: int, before: int) -> int | None:
    """Number of the attempt to print, as soon as there is one; None: the job ended without."""
    from shunter.cli.console import note
    from shunter.cli.live_waiting import job_of
    from shunter.daemon.client import UnreachableError

    has_said = False
    while True:
        with contextlib.suppress(UnreachableError):
            job = job_of(client, job_id)
            numbers = [one.number for one in job.attempts]
            if only in numbers:
                return only
            if not only and numbers and numbers[-1] > before:
                return int(numbers[-1])
            if job.state >= FIRST_END:
                return only or None
            if not has_said:
                note(f"job {job.id} waits ({job.reason or 'new'})")
                has_said = True
        time.sleep(LOOK_S)


def _copy(client: Client, request: Any, printer: Printer) -> Any:
    """Print an attempt to its end; returns the job.

    A connection that breaks is opened again, and nothing is printed twice.
    """
    from shunter.cli.console import note
    from shunter.cli.live_waiting import job_of
    from shunter.daemon.client import UnreachableError
    from shunter.daemon.errors import ConflictError
    from shunter.daemon.pb import scheduler_pb2_grpc

    number = 0
    while True:
        problem: Exception | None = None
        try:
            for chunk in client.stream(scheduler_pb2_grpc.SchedulerStub, "ReadLogs", request):
                printer.take(chunk)
                number = 0
        except (UnreachableError, ConflictError) as error:
            # The daemon is away, or the node is for the moment: both come back, or the attempt ends.
            problem = error
        with contextlib.suppress(UnreachableError):
            job = job_of(client, request.job)
            if job.state >= FIRST_END or any(
                a.number == request.attempt and a.HasField("end_unix_s") for a in job.attempts
            ):
                if problem is not None and printer.is_new:
                    raise problem
                return job
        if number == 3 and problem is not None:
            note(f"{problem}; goes on as soon as it can")
        client.pause(number)
        number += 1
        if not printer.is_new:
            # What was printed is asked for again, and left out: only then is nothing missing.
            request.tail_bytes = 0


class Printer:
    """Writes chunks of several tasks, each byte once.

    Args:
        out: Where to.
        named: Whether each line begins with the number of its task.
    """

    def __init__(self, out: BinaryIO, *, named: bool) -> None:
        self._out, self._named = out, named
        self._next: dict[int, int] = {}
        self._rest: dict[int, bytes] = {}

    @property
    def is_new(self) -> bool:
        """Whether nothing has been written yet."""
        return not self._next

    def begin_anew(self) -> None:
        """Another attempt: its output begins at 0."""
        self.end()
        self._next.clear()
        self._rest.clear()

    def take(self, chunk: Any) -> None:
        """Write what is new of a chunk; a gap is said."""
        from shunter.cli.console import note

        known = self._next.get(chunk.task)
        skip = 0 if known is None else max(known - chunk.offset, 0)
        if known is not None and chunk.offset > known:
            note(f"{chunk.offset - known} bytes of task {chunk.task} are missing here")
        data = chunk.data[skip:]
        self._next[chunk.task] = max(known or 0, chunk.offset + len(chunk.data))
        if not data:
            return
        if self._named:
            *lines, rest = (self._rest.get(chunk.task, b"") + data).split(b"\n")
            self._rest[chunk.task] = rest
            data = b"".join(b"%d: %s\n" % (chunk.task, line) for line in lines)
        self._out.write(data)
        self._out.flush()

    def end(self) -> None:
        """Write what has no end of line yet."""
        for task, rest in sorted(self._rest.items()):
            if rest:
                self._out.write(b"%d: %s\n" % (task, rest))
        self._out.flush()
