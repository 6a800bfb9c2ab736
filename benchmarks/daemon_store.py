"""The daemon's store on SQLite: changes stored by group commit, what is read beside a million jobs, and a restart."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Record, Spread, Target, Timing
from benchmarks.workloads import Setup

if TYPE_CHECKING:
    from shunter.daemon.errors import DaemonError
    from shunter.daemon.store.rows import Change, JobQuery, JobRow
    from shunter.daemon.store.sql_store import SqlStore

IN_FLIGHT = 64
BATCH, BATCHES_IN_FLIGHT = 100, 16
SINGLES, BATCHED, WAITING, FINISHED = 50_000, 300_000, 100_000, 1_000_000
RAW_AT_ONCE = 1000
NOW_S = 1.7e9
SPEC = bytes(range(120))
LOOKS = 15


def daemon_store(setup: Setup) -> Iterator[Record]:
    """The daemon's store: single submissions, batches, lists beside a million jobs that have ended, a restart."""
    numbers = iter(range(1, 1 << 40))
    with _opened() as store:
        singles = setup.jobs(SINGLES)
        pairs = [_timed(partial(_store_singles, store, _take(numbers, singles))) for _ in range(setup.repeat)]
        timing = Timing.of(pairs)
        yield Record(
            "daemon-store",
            f"single submissions, {IN_FLIGHT} in flight",
            timing=timing,
            jobs=singles,
            figures={"cpu_us_per_job": timing.cpu_s.median / singles * 1e6},
            targets=(Target("jobs_per_s", at_least=20_000),),
        )
    yield _batches(setup)
    yield from _beside_many(setup)
    yield _restart(setup)


def _batches(setup: Setup) -> Record:
    """Changes of a hundred jobs, and in the same rounds the same rows put into one bare table of SQLite."""
    batched = setup.jobs(BATCHED)
    ours, bare = [], []
    with _opened() as store, _bare() as connection:
        for turn in range(setup.repeat):
            ids = range(turn * batched + 1, (turn + 1) * batched + 1)
            changes = [_batch(ids[first : first + BATCH]) for first in range(0, batched, BATCH)]
            ours.append(_timed(partial(_store_all, store, changes, BATCHES_IN_FLIGHT)))
            rows = [tuple(row) for change in changes for row in change.jobs]
            bare.append(_timed(partial(_store_bare, connection, rows)))
    timing, yardstick = Timing.of(ours), Timing.of(bare)
    return Record(
        "daemon-store",
        f"batches of {BATCH}, {BATCHES_IN_FLIGHT} in flight; yardstick: bare rows",
        timing=timing,
        jobs=batched,
        yardstick=yardstick,
        figures={"cpu_us_per_job": timing.cpu_s.median / batched * 1e6},
        targets=(Target("jobs_per_s", at_least=150_000), Target("cpu_us_per_job", at_most=5.0)),
    )


def _beside_many(setup: Setup) -> Iterator[Record]:
    """What is asked while a million jobs that have ended are kept."""
    finished = setup.jobs(FINISHED)
    with _opened() as store:
        _store_all(store, [_ended(range(first, first + BATCH)) for first in range(1, finished, BATCH)], IN_FLIGHT)
        for name, ask in _questions(store, finished).items():
            pairs = [_timed(ask) for _ in range(LOOKS)]
            walls = Spread.of([1000 * wall for wall, _ in pairs])
            yield Record(
                "daemon-store",
                f"{name}, {finished:,} ended jobs",
                timing=Timing.of(pairs),
                figures={"median_ms": walls.median, "max_ms": walls.max},
                targets=(Target("median_ms", at_most=20.0),),
            )


def _questions(store: SqlStore, finished: int) -> dict[str, Callable[[], object]]:
    from shunter.daemon.store.rows import JobQuery

    middle = finished // 2
    queries: dict[str, JobQuery] = {
        "list all": JobQuery(),
        "list a page in the middle": JobQuery(before=middle),
        "list a state": JobQuery(states=(8,)),
        "list a user": JobQuery(owner="user-77"),
        "list a user with few jobs": JobQuery(owner="rare"),
        "list a queue": JobQuery(queue="q3", before=middle),
        "list a group": JobQuery(group="g7"),
        "list an array": JobQuery(array=1001),
        "list a node": JobQuery(node="n5"),
        "list a part of a name, many": JobQuery(name="TRAIN"),
        "list a part of a name, few": JobQuery(name=f"-{middle}-"),
        "list a part of a name, none": JobQuery(name="nothing"),
    }
    asked: dict[str, Callable[[], object]] = {name: partial(store.jobs, query) for name, query in queries.items()}
    return asked | {
        "one job": lambda: store.job(middle),
        "attempts of a job": lambda: store.attempts([middle]),
        "100 events": lambda: store.events(finished // BATCH // 2, 100),
    }


def _restart(setup: Setup) -> Record:
    """Loading what waits."""
    waiting = setup.jobs(WAITING)
    with _opened() as store:
        _store_all(store, [_batch(range(first, first + BATCH)) for first in range(1, waiting, BATCH)], IN_FLIGHT)
        timing = Timing.of([_timed(store.load) for _ in range(setup.repeat)])
    return Record(
        "daemon-store", "load what waits", timing=timing, jobs=waiting, targets=(Target("wall_s", at_most=2.0),)
    )


@contextmanager
def _opened() -> Iterator[SqlStore]:
    from shunter.daemon.store.lease import open_lease
    from shunter.daemon.store.sql_store import open_store

    folder = Path(tempfile.mkdtemp(prefix="shunter-store-"))
    try:
        url = f"sqlite:///{folder}/store.db"
        lease = open_lease(url, holder="benchmark")
        store = open_store(url, token=lease.acquire(60.0))
        try:
            yield store
        finally:
            store.close()
            lease.close()
    finally:
        shutil.rmtree(folder)


@contextmanager
def _bare() -> Iterator[sqlite3.Connection]:
    """A table of the columns of a job, without an index, under the same durability."""
    from shunter.daemon.store.rows import JobRow

    folder = Path(tempfile.mkdtemp(prefix="shunter-store-"))
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"CREATE TABLE jobs (id INTEGER PRIMARY KEY, {', '.join(JobRow._fields[1:])})")
        yield connection
    finally:
        connection.close()
        shutil.rmtree(folder)


def _store_bare(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    insert = f"INSERT INTO jobs VALUES ({', '.join('?' * len(rows[0]))})"
    for first in range(0, len(rows), RAW_AT_ONCE):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, rows[first : first + RAW_AT_ONCE])
        connection.execute("COMMIT")


def _store_singles(store: SqlStore, ids: Sequence[int]) -> None:
    """As the service does: every submission makes its change and waits until it is durable."""
    _store_all(store, map(_single, ids), IN_FLIGHT)


def _store_all(store: SqlStore, changes: Iterator[Change] | Sequence[Change] | map[Change], in_flight: int) -> None:
    asyncio.run(_clients(store, iter(changes), in_flight))


async def _clients(store: SqlStore, changes: Iterator[Change], in_flight: int) -> None:
    loop = asyncio.get_running_loop()
    store.deliver_by(loop.call_soon_threadsafe)

    async def client() -> None:
        for change in changes:
            future: asyncio.Future[None] = loop.create_future()
            store.put(change, partial(_resolve, future))
            await future

    await asyncio.gather(*[client() for _ in range(in_flight)])
    store.deliver_by(None)


def _resolve(future: asyncio.Future[None], failure: DaemonError | None) -> None:
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)


def _take(numbers: Iterator[int], count: int) -> list[int]:
    return [next(numbers) for _ in range(count)]


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _job(number: int, state: int = 1) -> JobRow:
    from shunter.daemon.store.rows import JobRow

    owner = f"user-{number % 199}" if number % 100_003 else "rare"
    queue, group, name = f"q{number % 5}", f"g{number % 21}", f"train-{number}-net"
    array = number // 1000 * 1000 + 1 if number % 10 == 0 else None
    return JobRow(
        number, owner, group, queue, name, state, "new", 0, 1, NOW_S, 0.0, array, None, 0, number, SPEC
    )  # fmt: skip


def _single(number: int) -> Change:
    from shunter.daemon.store.rows import Change, EventRow, IdempotencyRow

    row = _job(number)
    event = EventRow(number, NOW_S, "submitted", number, number, None, None, None, 1, row.owner, "")
    key = IdempotencyRow(row.owner, f"key-{number * 7919 % 1_000_003}-{number}", SPEC[:32], number, 1, NOW_S)
    return Change(events=[event], jobs=[row], idempotency=[key])


def _batch(ids: Sequence[int], state: int = 1) -> Change:
    from shunter.daemon.store.rows import Change, EventRow

    event = EventRow(ids[-1] // BATCH, NOW_S, "submitted", ids[0], ids[-1], None, None, None, 1, "user-1", "")
    return Change(events=[event], jobs=[_job(number, state) for number in ids])


def _ended(ids: Sequence[int]) -> Change:
    """A hundred jobs that have ended, each on one of a hundred nodes; one in a thousand was timed out."""
    from shunter.daemon.store.rows import AttemptRow

    change = _batch(ids, 5)
    change.jobs[0] = change.jobs[0]._replace(state=8 if ids[0] % 1000 == 1 else 5)
    for number in ids:
        placement = f'[{{"node": "n{number % 100}", "tasks": 1}}]'
        change.attempts.append(AttemptRow(number, 1, placement, NOW_S, NOW_S, NOW_S, 0, "completed", "", 1))
    return change
