"""What is old goes, what is needed stays."""

from __future__ import annotations

from collections.abc import Callable

from shunter.daemon.store.retention import Pruned, prune
from shunter.daemon.store.rows import Change
from shunter.daemon.store.sql_store import SqlStore
from tests.daemon.store.conftest import Led
from tests.daemon.store.made import NOW_S, attempt, ended, event, job, key, only


def fill(store: SqlStore) -> None:
    """3,000 jobs, of which the odd ones end at their own second; an event and a key each."""
    numbers = range(1, 3001)
    odd = [number for number in numbers if number % 2]
    store.write(
        Change(
            jobs=[job(number) for number in numbers],
            events=[event(number) for number in numbers],
            idempotency=[key(number) for number in numbers],
            updates=[ended(number, end_s=NOW_S + number) for number in odd],
            attempts=[attempt(number, nodes=("n1", f"m{number}"), end_s=NOW_S + number) for number in odd],
        )
    ).result(30)


def test_old_rows_go_in_steps(store: SqlStore) -> None:
    fill(store)
    before = store.load()
    found = prune(store, NOW_S + 2001, 100, step=170)
    assert found == Pruned(jobs=1000, events=2900, idempotency=2000)
    assert store.load() == before
    assert store.job(1999) is None
    assert store.job(2001) is not None
    assert store.job(2) is not None
    assert store.attempts([1999]) == []
    assert len(store.attempts([2001])) == 1
    assert [row.number for row in store.events(0, 1000)] == list(range(2901, 3001))
    assert store.repeated("ann", "key-2000") is None
    assert store.repeated("ann", "key-2001") is not None
    assert store.jobs(only(node="m1999")) == []
    assert [row.made.id for row in store.jobs(only(node="n1", limit=1000))] == list(range(2999, 2000, -2))
    assert [row.made.id for row in store.jobs(only(name="n-19"))] == [1999 - 1 - 2 * i for i in range(50)] + [
        198, 196, 194, 192, 190,
    ]  # fmt: skip
    assert prune(store, NOW_S + 2001, 100) == Pruned(0, 0, 0)


def test_numbers_go_on_when_everything_is_old(url: str, leading: Callable[[str], Led]) -> None:
    led = leading(url)
    led.store.write(
        Change(
            jobs=[job(number) for number in range(1, 6)],
            events=[event(number) for number in range(1, 6)],
            updates=[ended(number) for number in range(1, 6)],
        )
    ).result(30)
    assert prune(led.store, NOW_S + 1e6, 0) == Pruned(4, 4, 0)
    led.close()
    found = leading(url).store.load()
    assert (found.last_job, found.last_event) == (5, 5)


def test_pruning_stops_when_it_is_told_to(store: SqlStore) -> None:
    fill(store)
    asked = iter([True, True])
    found = prune(store, NOW_S + 2001, 100, step=100, is_wanted=lambda: next(asked, False))
    assert found == Pruned(200, 0, 0)
