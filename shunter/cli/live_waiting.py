"""Streams of the daemon that go on over restarts: events, and the ends of jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shunter.daemon.client import Client

FIRST_STATE_OF_END = 5
NUM_TRIES = 5


def last_event(client: Client) -> int:
    """Number of the last event that there is."""
    *_, last = _past(client, None, (), "")
    return int(last.up_to)


def past_events(client: Client, after: int, jobs: Sequence[int] = (), user: str = "") -> Iterator[Any]:
    """Responses with what has happened after an event, up to now; the last one has no events."""
    yield from _past(client, after, jobs, user)


def _past(client: Client, after: int | None, jobs: Sequence[int], user: str) -> Iterator[Any]:
    from shunter.daemon.client import UnreachableError
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    for number in range(100):
        request = scheduler_pb2.WatchRequest(after=after, jobs=jobs, user=user, until_now=True)
        try:
            for response in client.stream(scheduler_pb2_grpc.SchedulerStub, "Watch", request):
                after = response.up_to
                yield response
            return
        except UnreachableError:
            if number == NUM_TRIES:
                raise
            client.pause(number)


def events(client: Client, after: int | None, jobs: Sequence[int] = (), user: str = "") -> Iterator[Any]:
    """Responses with events after a number, or those to come, without end.

    A connection that breaks is opened again, and the stream goes on from the number that it had come to.
    """
    from shunter.cli.console import note
    from shunter.daemon.client import UnreachableError
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    if after is None:
        after = last_event(client)
    number = 0
    while True:
        request = scheduler_pb2.WatchRequest(after=after, jobs=jobs, user=user)
        try:
            for response in client.stream(scheduler_pb2_grpc.SchedulerStub, "Watch", request):
                after, number = response.up_to, 0
                yield response
        except UnreachableError as problem:
            if number == 2:
                note(f"{problem}; goes on as soon as somebody answers")
            client.pause(number)
            number += 1


def job_of(client: Client, job: int) -> Any:
    """A job with its attempts."""
    from shunter.daemon.pb import scheduler_pb2, scheduler_pb2_grpc

    return client.call(scheduler_pb2_grpc.SchedulerStub, "GetJob", scheduler_pb2.GetJobRequest(job=job))


def ends_of(client: Client, ids: Sequence[int], after: int) -> list[Any]:
    """The jobs when all of them have ended.

    Args:
        client: Asks.
        ids: Jobs.
        after: An event before any of their ends.
    """
    left = set(ids)
    few = ids if len(ids) <= 1000 else ()
    for response in events(client, after, jobs=few):
        for event in response.events:
            if event.state >= FIRST_STATE_OF_END:
                left.difference_update(range(event.job, (event.last_job or event.job) + 1))
        if not left:
            break
    return [job_of(client, job) for job in ids]
