"""A process that leads a store, writes without end, and prints what was acknowledged; tests kill or pause it.

``python -m tests.daemon.store.writes_until_killed URL LEASE_S``. Lines: ``leads TOKEN``, then ``LAST FIRST`` for every
change that is durable (the numbers of its jobs), then ``refused ERROR`` when one was not.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from concurrent.futures import Future

from shunter.daemon.errors import DaemonError
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.rows import Change
from shunter.daemon.store.sql_store import open_store
from tests.daemon.store.made import attempt, event, job, key, update

IN_FLIGHT = 24


def change(first: int) -> Change:
    """One to five jobs, each with an event, a key, an update and an attempt."""
    ids = range(first, first + 1 + first % 5)
    return Change(
        jobs=[job(number) for number in ids],
        events=[event(number, last_job=first) for number in ids],
        idempotency=[key(number) for number in ids],
        updates=[update(number) for number in ids],
        attempts=[attempt(number) for number in ids],
    )


def say(words: str) -> None:
    os.write(1, words.encode() + b"\n")


def main(url: str, lease_s: float) -> None:
    lease = open_lease(url, holder=f"child-{os.getpid()}")
    while (token := lease.acquire(lease_s)) is None:
        time.sleep(0.01)
    store = open_store(url, token=token)
    say(f"leads {token}")
    following = store.load().last_job + 1
    flying: deque[tuple[int, int, Future[None]]] = deque()
    try:
        while True:
            while len(flying) < IN_FLIGHT:
                made = change(following)
                last = made.jobs[-1].id
                flying.append((last, following, store.write(made)))
                following = last + 1
            last, first, future = flying.popleft()
            future.result(60)
            say(f"{last} {first}")
    except DaemonError as error:
        say(f"refused {type(error).__name__}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
