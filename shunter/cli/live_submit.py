"""``shunter submit``: one job, an array, or a file of jobs."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.live import AsJson, Connection, live

if TYPE_CHECKING:
    from shunter.daemon.client import Client
    from shunter.daemon.pb.common_pb2 import JobSpec
    from shunter.daemon.pb.scheduler_pb2 import ArrayRange

ARRAY = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?(?:%(\d{1,9}))?")
JOBS_A_CALL = 1000
BYTES_A_CALL = 8 * 2**20
RESOURCES, WHEN, FAILING = "Resources", "When", "Failing and stopping"


@live
def submit_command(
    connection: Connection,
    command: Annotated[list[str] | None, typer.Argument(help="Program and arguments, after --.")] = None,
    name: Annotated[str, typer.Option("--name", help="Default: the program's.")] = "",
    queue: Annotated[str, typer.Option("--queue", help="Default: the daemon's first.")] = "",
    group: Annotated[str, typer.Option("--group", help="Whose quota it counts in.")] = "",
    priority: Annotated[int, typer.Option("--priority", help="A higher one goes first, always.")] = 0,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="K=V", help="Variable; K alone takes your value.")
    ] = None,
    chdir: Annotated[
        Path | None, typer.Option("--chdir", help="Working directory on the nodes. Default: one of the job's own.")
    ] = None,
    tasks: Annotated[
        int, typer.Option("--tasks", min=1, help="That start and stop together.", rich_help_panel=RESOURCES)
    ] = 1,
    gpus: Annotated[
        float, typer.Option("--gpus", min=0, help="Of one task; below 1: a share.", rich_help_panel=RESOURCES)
    ] = 0.0,
    cpus: Annotated[float, typer.Option("--cpus", min=0, help="Of one task.", rich_help_panel=RESOURCES)] = 1.0,
    memory_gib: Annotated[
        float, typer.Option("--memory-gib", min=0, help="Of one task.", rich_help_panel=RESOURCES)
    ] = 0.0,
    gpu_type: Annotated[str, typer.Option("--gpu-type", help="Default: any.", rich_help_panel=RESOURCES)] = "",
    time_limit: Annotated[
        str | None,
        typer.Option("--time-limit", metavar="SPAN", help="1h30m. Default: the queue's.", rich_help_panel=RESOURCES),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option("--array", metavar="0-99%5", help="A job for each index; 5 at a time.", rich_help_panel=WHEN),
    ] = None,
    after_ok: Annotated[
        list[str] | None,
        typer.Option("--after-ok", metavar="ID", help="When that job has completed.", rich_help_panel=WHEN),
    ] = None,
    after_any: Annotated[
        list[str] | None,
        typer.Option("--after-any", metavar="ID", help="When it has ended, however.", rich_help_panel=WHEN),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--begin", metavar="TIME", help="+2h or 2027-01-31T18:00.", rich_help_panel=WHEN),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="TIME", help="When it should have ended.", rich_help_panel=WHEN),
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", min=0, help="After it failed by itself.", rich_help_panel=FAILING)
    ] = 0,
    backoff: Annotated[
        str, typer.Option("--backoff", metavar="SPAN", help="Before the first; doubles.", rich_help_panel=FAILING)
    ] = "0",
    checkpoint_interval: Annotated[
        str | None,
        typer.Option("--checkpoint-interval", metavar="SPAN", help="It saves its work.", rich_help_panel=FAILING),
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option("--grace", metavar="SPAN", help="From asking it to stop to its end.", rich_help_panel=FAILING),
    ] = None,
    stop_signal: Annotated[
        str, typer.Option("--signal", help="That asks it. Default: TERM.", rich_help_panel=FAILING)
    ] = "",
    preemptible: Annotated[
        bool, typer.Option("--preemptible", help="It may have to make way.", rich_help_panel=FAILING)
    ] = False,
    no_requeue: Annotated[
        bool, typer.Option("--no-requeue", help="A failed node ends it for good.", rich_help_panel=FAILING)
    ] = False,
    idempotency_key: Annotated[
        str, typer.Option("--idempotency-key", help="The same key gives the same job again.")
    ] = "",
    batch: Annotated[
        Path | None, typer.Option("--batch", metavar="FILE", help="One job a line, as JSON; - is standard input.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; exit code as the job's.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hand in a job. Prints its id, once it is durably stored.

    Example: `id=$(shunter submit --gpus 2 --time-limit 4h -- python train.py)`
    """
    from shunter.cli.console import print_json
    from shunter.cli.live_text import document
    from shunter.cli.live_waiting import ends_of, last_event
    from shunter.scheduler.errors import UsageError

    own = {key: value for key, value in locals().items() if key in SPEC_OPTIONS}
    if batch is not None and command:
        raise UsageError("--batch: the file has the commands; leave out what follows --")
    if batch is not None and array is not None:
        raise UsageError("--array: not with --batch")
    specs = None if batch is None else list(_specs_of(batch))
    one = None if specs is not None else _spec(command or [], own)
    with connection.open() as client:
        before = last_event(client) if wait else 0
        if specs is not None:
            answers = list(_submit_batch(client, specs, idempotency_key))
            ids = [job for answer in answers for job in range(answer.first_job, answer.first_job + answer.count)]
            shown: Any = {"batches": [document(answer) for answer in answers], "count": len(ids)}
        else:
            answer = _submit(client, one, array, idempotency_key)
            answers, ids = [answer], list(range(answer.job, answer.job + answer.count))
            shown = document(answer)
        if as_json and not wait:
            print_json(shown)
        elif not as_json:
            sys.stdout.write("".join(f"{job}\n" for job in (ids if specs is not None else ids[:1])))
            sys.stdout.flush()
        if wait:
            if any(answer.repeated_call for answer in answers):
                before = 0
            ended = ends_of(client, ids, before)
            if as_json:
                print_json({**shown, "jobs": [document(job) for job in ended]})
            raise typer.Exit(exit_code_of(ended))


SPEC_OPTIONS = frozenset((
    "name", "queue", "group", "priority", "env", "chdir", "tasks", "gpus", "cpus", "memory_gib", "gpu_type",
    "time_limit", "after_ok", "after_any", "begin", "deadline", "retries", "backoff", "checkpoint_interval", "grace",
    "stop_signal", "preemptible", "no_requeue",
))  # fmt: skip


def exit_code_of(jobs: Iterable[Any]) -> int:
    """That of the first job that did not complete: its own where it has one other than 0, or else 1."""
    from shunter.daemon.pb import common_pb2

    for job in jobs:
        if job.state != common_pb2.JOB_STATE_COMPLETED:
            return job.exit_code & 255 or 1 if job.HasField("exit_code") else 1
    return 0


def _spec(command: list[str], said: dict[str, Any]) -> JobSpec:
    """What the options say.

    Raises:
        UsageError: One of them cannot be.
    """
    from shunter.cli.spans import moment_s, span_s
    from shunter.daemon.pb.common_pb2 import Dependency, JobSpec, Resources
    from shunter.scheduler.errors import UsageError

    if not command:
        raise UsageError("there is no command; put it after --, as in: shunter submit -- python train.py")
    spec = JobSpec(
        command=command,
        environment=environment_of(said["env"] or []),
        working_directory="" if said["chdir"] is None else str(Path.cwd() / said["chdir"]),
        per_task=Resources(cpus=said["cpus"], memory_gib=said["memory_gib"], gpus=said["gpus"]),
        max_retries=said["retries"],
        retry_backoff_s=span_s(said["backoff"], "--backoff"),
        **{key: said[key] for key in ("name", "queue", "group", "priority", "tasks", "gpu_type", "stop_signal")},
        **{key: said[key] for key in ("preemptible", "no_requeue")},
    )
    for option, field in (
        ("time_limit", "time_limit_s"),
        ("checkpoint_interval", "checkpoint_interval_s"),
        ("grace", "grace_s"),
    ):
        if said[option] is not None:
            setattr(spec, field, span_s(said[option], f"--{option.replace('_', '-')}"))
    for option in ("begin", "deadline"):
        if said[option] is not None:
            setattr(spec, f"{option}_unix_s", moment_s(said[option], f"--{option}"))
    for option, condition in (
        ("after_ok", Dependency.CONDITION_AFTER_OK),
        ("after_any", Dependency.CONDITION_AFTER_ANY),
    ):
        for job in ids_of(said[option] or [], f"--{option.replace('_', '-')}"):
            spec.dependencies.add(job=job, condition=condition)
    return spec


def ids_of(given: Iterable[str], option: str) -> list[int]:
    """Job ids; several may stand in one word, with commas.

    Raises:
        UsageError: One is no number.
    """
    from shunter.scheduler.errors import UsageError

    words = [word for item in given for word in item.split(",") if word]
    for word in words:
        if not word.isascii() or not word.isdecimal() or not 0 < int(word) < 2**63:
            raise UsageError(f"{option}: expected the id of a job, a number, got {word!r}")
    return [int(word) for word in words]


def environment_of(given: list[str]) -> dict[str, str]:
    """Variables of ``K=V``, or of our own environment for ``K``.

    Raises:
        UsageError: There is no such variable here.
    """
    from shunter.scheduler.errors import UsageError

    found = {}
    for item in given:
        key, has_value, value = item.partition("=")
        if not has_value and key not in os.environ:
            raise UsageError(f"--env: {key!r} is not set here; give its value, as in {key}=VALUE")
        found[key] = value if has_value else os.environ[key]
    return found


def array_of(text: str) -> ArrayRange:
    """``0-99``, ``0-99:2`` or ``0-99%5``.

    Raises:
        UsageError: It is none of these, or empty.
    """
    from shunter.daemon.pb.scheduler_pb2 import ArrayRange
    from shunter.scheduler.errors import UsageError

    found = ARRAY.fullmatch(text)
    if found is None:
        raise UsageError(f"--array: expected FIRST-LAST, FIRST-LAST:STEP or FIRST-LAST%MOST, got {text!r}")
    first, last, step, most = (int(part or 0) for part in found.groups())
    if last < first or (found[3] is not None and step == 0):
        raise UsageError(f"--array: {text!r} has no index")
    return ArrayRange(first=first, last=last, step=step or 1, max_running=most)


def _submit(client: Client, spec: Any, array: str | None, key: str) -> Any:
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    request = scheduler_pb2.SubmitRequest(
        spec=spec, idempotency_key=key or uuid.uuid4().hex, array=None if array is None else array_of(array)
    )
    return client.call(scheduler_pb2_grpc.SchedulerStub, "Submit", request)


def _submit_batch(client: Client, specs: list[JobSpec], key: str) -> Iterator[Any]:
    """In calls of a size that the daemon takes; each call is all or nothing, with a key of its own."""
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    key = key or uuid.uuid4().hex
    for number, part in enumerate(_parts(specs)):
        request = scheduler_pb2.SubmitBatchRequest(specs=part, idempotency_key=f"{key}/{number}")
        yield client.call(scheduler_pb2_grpc.SchedulerStub, "SubmitBatch", request)


def _parts(specs: list[JobSpec]) -> Iterator[list[JobSpec]]:
    part: list[JobSpec] = []
    size = 0
    for spec in specs:
        if part and (len(part) == JOBS_A_CALL or size + spec.ByteSize() > BYTES_A_CALL):
            yield part
            part, size = [], 0
        part.append(spec)
        size += spec.ByteSize()
    if part:
        yield part


def _specs_of(path: Path) -> Iterator[JobSpec]:
    """Jobs of a file: one JSON object a line, with the names of the protocol's ``JobSpec``.

    Raises:
        UsageError: The file cannot be read, or a line is no job; names the line.
    """
    from shunter.scheduler.errors import UsageError

    where = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeError) as problem:
        raise UsageError(f"{where}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    found = 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            found += 1
            yield spec_of_line(line, f"{where}:{number}")
    if not found:
        raise UsageError(f"{where}: has no jobs")


def spec_of_line(line: str, where: str) -> JobSpec:
    """One line of a batch. ``after_ok`` and ``after_any`` are lists of ids, beside the protocol's own fields.

    Raises:
        UsageError: Names the place and what is wrong.
    """
    import json

    from google.protobuf import json_format

    from shunter.daemon.pb.common_pb2 import Dependency, JobSpec
    from shunter.scheduler.errors import UsageError

    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{where}: is no JSON: {problem}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{where}: expected an object with a job's fields, got {line[:40]!r}")
    waits = [
        (job, condition)
        for name, condition in (
            ("after_ok", Dependency.CONDITION_AFTER_OK),
            ("after_any", Dependency.CONDITION_AFTER_ANY),
        )
        for job in ids_of(map(str, content.pop(name, [])), f"{where}: {name}")
    ]
    try:
        spec = json_format.ParseDict(content, JobSpec())
    except (json_format.ParseError, TypeError, ValueError) as problem:
        raise UsageError(f"{where}: {' '.join(str(problem).split())}") from None
    for job, condition in waits:
        spec.dependencies.add(job=job, condition=condition)
    return spec
