"""What every store does, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from shunter.daemon.errors import FencedError, StoreError
from shunter.daemon.jobs import JobState
from shunter.daemon.store.lease import open_lease
from shunter.daemon.store.rows import Change, JobQuery, JobRow, Stored
from shunter.daemon.store.sql_store import SqlStore, open_store
from tests.daemon.store.conftest import Led
from tests.daemon.store.made import (
    NOW_S,
    attempt,
    event,
    everything,
    job,
    key,
    node,
    only,
    submission,
    update,
)

SOON_S = 30.0


def wrote(store: SqlStore, *changes: Change) -> None:
    """Store changes, each in a call of its own."""
    for future in [store.write(change) for change in changes]:
        future.result(SOON_S)


def ids(store: SqlStore, query: JobQuery) -> list[int]:
    return [found.made.id for found in store.jobs(query)]


def test_a_new_store_is_empty(store: SqlStore) -> None:
    assert store.load() == Stored()
    assert store.job(1) is None
    assert store.jobs(JobQuery()) == []
    assert store.events(0, 10) == []
    assert store.repeated("ann", "key-1") is None


def test_what_was_written_is_loaded_after_a_restart(url: str, leading: Callable[[str], Led]) -> None:
    first = leading(url)
    change = everything()
    wrote(first.store, change)
    before = first.store.load()
    first.close()
    found = leading(url).store.load()
    assert found == before
    assert [row.made.id for row in found.jobs] == [1, 2]
    assert found.jobs[0].made == change.jobs[0]
    second = change.jobs[1]._replace(state=3, reason="", priority=3, eligible_s=1.5, version=1002)
    assert found.jobs[1].made == second
    assert found.jobs[1].now == change.updates[0]
    assert found.attempts == change.attempts[:1]
    assert found.nodes == [change.nodes[1], change.nodes[0]]
    assert found.nodes[1].is_drained is True
    assert found.usage == change.usage
    assert found.settings == {"mode": '"shadow"'}
    assert found.histories == {"u:ann": b"\x00\x01\xfe"}
    assert (found.last_event, found.last_job, found.last_s) == (2, 3, NOW_S + 2)


def test_a_job_that_was_never_changed_waits_since_it_was_submitted(store: SqlStore) -> None:
    wrote(store, Change(jobs=[job(1)]))
    found = store.job(1)
    assert found is not None
    assert found.now == update(
        1,
        state=JobState.PENDING,
        reason="new",
        priority=0,
        eligible_s=0.0,
        start_s=None,
        attempts=0,
        queued_s=NOW_S + 1,
        work_kept_s=0.0,
        attained_s=0.0,
        version=1,
    )


def test_single_rows_are_found(store: SqlStore) -> None:
    change = everything()
    wrote(store, change)
    assert store.events(0, 10) == change.events
    assert store.events(1, 10) == change.events[1:]
    assert store.events(0, 1) == change.events[:1]
    assert store.repeated("ann", "key-1") == change.idempotency[0]
    assert store.repeated("bob", "key-1") is None
    assert store.attempts([3, 2, 1]) == change.attempts
    third = store.job(3)
    assert third is not None
    assert third.now == change.updates[1]


def test_later_rows_replace_earlier_ones_within_a_change_and_across_changes(store: SqlStore) -> None:
    first = everything()
    twice = Change(
        updates=[update(1, priority=1), update(1, priority=2)],
        attempts=[attempt(2, message="a"), attempt(2, message="b")],
        nodes=[node("n1", reason="a"), node("n1", reason="b")],
        idempotency=[key(1, num_jobs=5), key(1, num_jobs=6)],
    )
    wrote(store, first, twice, Change(nodes=[node("n2", reason="c")]))
    found = store.load()
    assert found.jobs[0].now.priority == 2
    assert [row.message for row in found.attempts] == ["b"]
    assert [row.reason for row in found.nodes] == ["b", "c"]
    repeated = store.repeated("ann", "key-1")
    assert repeated is not None
    assert repeated.num_jobs == 6


def test_a_job_or_an_event_is_never_stored_twice(store: SqlStore) -> None:
    wrote(store, submission(1))
    with pytest.raises(StoreError):
        wrote(store, Change(jobs=[job(1, owner="bob")]))
    store.recover()
    with pytest.raises(StoreError):
        wrote(store, Change(jobs=[job(2)], events=[event(1)]))
    store.recover()
    found = store.job(1)
    assert found is not None
    assert found.made.owner == "ann"
    assert store.job(2) is None


def many() -> list[JobRow]:
    """Jobs of several owners, queues, groups and arrays; a third of them wait, a third run, a third have ended."""
    return [
        job(
            number,
            owner=("ann", "bob", "cy")[number % 3],
            queue=("normal", "urgent")[number % 2],
            group_name=("lab", "shop", "lab", "desk")[number % 4],
            name=("Train", "train-50%", "eval_x", "ÜBER")[number // 7 % 4] + f"-{number}",
            array_id=number // 10 * 10 if number % 5 == 0 else None,
        )
        for number in range(1, 121)
    ]


def changed(number: int) -> int:
    return (JobState.PENDING, JobState.RUNNING, JobState.COMPLETED, JobState.FAILED, JobState.PENDING)[number % 5]


QUERIES = [
    only(),
    only(owner="bob"),
    only(queue="urgent"),
    only(group="lab"),
    only(array=20),
    only(node="n2"),
    only(states=(JobState.RUNNING,)),
    only(states=(JobState.PENDING, JobState.FAILED)),
    only(name="TRAIN"),
    only(name="%"),
    only(name="_x"),
    only(name="über"),
    only(name="nothing"),
    only(owner="ann", queue="normal", states=(JobState.COMPLETED, JobState.RUNNING)),
    only(owner="cy", name="train", node="n1"),
    only(node="n0", states=(JobState.PENDING,), group="lab"),
    only(owner="nobody"),
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_lists_are_what_a_filter_over_all_jobs_gives(store: SqlStore, query: JobQuery) -> None:
    jobs = many()
    states = {row.id: changed(row.id) for row in jobs}
    at = {row.id: f"n{row.id % 3}" for row in jobs if row.id % 5}
    wrote(
        store,
        Change(jobs=jobs, attempts=[attempt(number, nodes=(name,)) for number, name in at.items()]),
        Change(updates=[update(number, state=state) for number, state in states.items() if state != 1]),
    )
    wanted = [
        row.id
        for row in reversed(jobs)
        if (not query.states or states[row.id] in query.states)
        and query.owner in {"", row.owner}
        and query.queue in {"", row.queue}
        and query.group in {"", row.group_name}
        and query.name.lower() in row.name.lower()
        and query.array in {0, row.array_id}
        and query.node in {"", at.get(row.id)}
    ]
    assert ids(store, query) == wanted[:100]
    assert ids(store, replace(query, limit=7)) == wanted[:7]
    pages, before = [], 0
    while page := ids(store, replace(query, limit=7, before=before)):
        pages += page
        before = page[-1]
    assert pages == wanted


def test_names_are_found_across_blocks_and_beyond_them(store: SqlStore) -> None:
    rows = [job(number, name=f"job {number} x") for number in range(1, 5001)]
    for first in range(0, 5000, 700):
        wrote(store, Change(jobs=rows[first : first + 700]))
    assert ids(store, only(name="B 77")) == [*range(779, 769, -1), 77]
    assert ids(store, only(name=" 4999 ")) == [4999]
    assert ids(store, only(name="x", before=1030, limit=10)) == [*range(1029, 1019, -1)]
    assert ids(store, only(name="job 1 x")) == [1]


def test_a_job_whose_number_comes_late_is_found_by_its_name(store: SqlStore) -> None:
    rows = [job(number) for number in range(1, 3001) if number != 500]
    wrote(store, Change(jobs=rows))
    wrote(store, Change(jobs=[job(500, name="late")]))
    assert ids(store, only(name="late")) == [500]


def test_awkward_text_survives(store: SqlStore) -> None:
    text = "tab\t, newline\n, quote ', %s, ?, 😀, \\x00"
    wrote(store, Change(jobs=[job(1, name=text, owner=text)], events=[event(1, message=text)]))
    found = store.job(1)
    assert found is not None
    assert (found.made.name, found.made.owner) == (text, text)
    assert store.events(0, 1)[0].message == text
    assert ids(store, only(owner=text)) == [1]
    assert ids(store, only(name="NEWLINE\n,")) == [1]


def test_a_reader_does_not_write_and_sees_what_a_leader_wrote(url: str, leading: Callable[[str], Led]) -> None:
    leader = leading(url)
    wrote(leader.store, submission(1))
    reader = open_store(url)
    assert [row.made.id for row in reader.load().jobs] == [1]
    wrote(leader.store, submission(2))
    assert reader.job(2) is not None
    with pytest.raises(StoreError):
        reader.write(submission(3)).result(SOON_S)
    with pytest.raises(FencedError):
        reader.recover()
    reader.close()


def test_a_token_that_is_not_the_highest_is_refused(url: str) -> None:
    lease = open_lease(url, holder="a")
    token = lease.acquire(60.0)
    assert token is not None
    for wrong in (token - 1, token + 1):
        with pytest.raises(FencedError):
            open_store(url, token=wrong)
    lease.release(token)
    again = lease.acquire(60.0)
    assert again is not None
    assert again > token
    with pytest.raises(FencedError):
        open_store(url, token=token)
    lease.close()


def test_put_delivers_a_group_by_one_call_into_the_loop(store: SqlStore) -> None:
    calls = 0

    async def write_all() -> None:
        nonlocal calls
        loop = asyncio.get_running_loop()

        def deliver(tell: Callable[[], None]) -> None:
            nonlocal calls
            calls += 1
            loop.call_soon_threadsafe(tell)

        store.deliver_by(deliver)
        futures = [loop.create_future() for _ in range(200)]
        for number, future in enumerate(futures, 1):
            store.put(submission(number), lambda failure, future=future: future.set_result(failure))
        assert set(await asyncio.wait_for(asyncio.gather(*futures), SOON_S)) == {None}

    asyncio.run(write_all())
    store.deliver_by(None)
    assert calls < 200
    assert len(store.load().jobs) == 200


def test_closing_stores_what_was_asked_for(url: str, leading: Callable[[str], Led]) -> None:
    led = leading(url)
    futures = [led.store.write(submission(number)) for number in range(1, 301)]
    led.close()
    assert all(future.result(0) is None for future in futures)
    assert len(leading(url).store.load().jobs) == 300


def test_a_closed_store_refuses(url: str, leading: Callable[[str], Led]) -> None:
    led = leading(url)
    led.close()
    with pytest.raises(StoreError):
        led.store.write(submission(1)).result(SOON_S)
