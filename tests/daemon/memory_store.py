"""A store in memory: the twin of the real one for tests of what stands on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from shunter.daemon.errors import DaemonError, StoreError
from shunter.daemon.jobs import JobState
from shunter.daemon.store.rows import (
    AttemptRow,
    Change,
    EventRow,
    IdempotencyRow,
    JobQuery,
    JobRow,
    JobUpdate,
    NodeRow,
    Stored,
    StoredJob,
    UsageRow,
)


class MemoryStore:
    """Stores at once; `failing` makes it fail as a disk would."""

    def __init__(self) -> None:
        self.made: dict[int, JobRow] = {}
        self.now: dict[int, JobUpdate] = {}
        self.attempt_rows: dict[tuple[int, int], AttemptRow] = {}
        self.nodes: dict[str, NodeRow] = {}
        self.usage: dict[str, UsageRow] = {}
        self.keys: dict[tuple[str, str], IdempotencyRow] = {}
        self.settings: dict[str, str] = {}
        self.event_rows: list[EventRow] = []
        self.failing: DaemonError | None = None
        self.has_failed = False
        self.deliver: Callable[[Callable[[], None]], object] = lambda call: call()

    def write(self, change: Change) -> Future[None]:
        future: Future[None] = Future()
        if self.failing is not None:
            self.has_failed = True
        if self.has_failed:
            future.set_exception(self.failing or StoreError("has failed before"))
            return future
        for row in change.jobs:
            assert row.id not in self.made
            self.made[row.id] = row
            self.now[row.id] = JobUpdate(
                row.state, row.reason, row.priority, row.eligible_s, None, None, None, 0, 0, row.submit_s, 0.0, 0.0,
                row.version, row.id,
            )  # fmt: skip
        for update in change.updates:
            assert update.id in self.made
            self.now[update.id] = update
        for attempt in change.attempts:
            self.attempt_rows[attempt.job, attempt.number] = attempt
        for node in change.nodes:
            self.nodes[node.name] = node
        for usage in change.usage:
            self.usage[usage.owner] = usage
        for key in change.idempotency:
            assert (key.owner, key.key) not in self.keys
            self.keys[key.owner, key.key] = key
        for setting in change.settings:
            self.settings[setting.name] = setting.value
        for event in change.events:
            assert event.number == len(self.event_rows) + 1
            self.event_rows.append(event)
        future.set_result(None)
        return future

    @property
    def num_waiting(self) -> int:
        return 0

    def put(self, change: Change, done: Callable[[DaemonError | None], None]) -> None:
        failure = self.write(change).exception()
        assert failure is None or isinstance(failure, DaemonError)
        self.deliver(lambda: done(failure))

    def deliver_by(self, deliver: Callable[[Callable[[], None]], object] | None) -> None:
        self.deliver = deliver or (lambda call: call())

    def recover(self) -> None:
        if self.failing is not None:
            raise self.failing
        self.has_failed = False

    def load(self) -> Stored:
        open_jobs = [self.job(i) for i in sorted(self.made) if not JobState(self.now[i].state).is_final]
        jobs = [job for job in open_jobs if job is not None]
        return Stored(
            jobs=jobs,
            attempts=self.attempts([job.made.id for job in jobs]),
            nodes=[self.nodes[name] for name in sorted(self.nodes)],
            usage=list(self.usage.values()),
            settings=dict(self.settings),
            last_event=len(self.event_rows),
            last_job=max(self.made, default=0),
            last_s=max((row.at_s for row in self.event_rows), default=0.0),
        )

    def job(self, job: int) -> StoredJob | None:
        return StoredJob(self.made[job], self.now[job]) if job in self.made else None

    def jobs(self, query: JobQuery) -> list[StoredJob]:
        found = []
        for i in sorted(self.made, reverse=True):
            made, now = self.made[i], self.now[i]
            if (query.before and i >= query.before) or (query.owner and made.owner != query.owner):
                continue
            if query.states and now.state not in query.states:
                continue
            found.append(StoredJob(made, now))
        return found[: query.limit]

    def attempts(self, jobs: Sequence[int]) -> list[AttemptRow]:
        wanted = set(jobs)
        return [self.attempt_rows[key] for key in sorted(self.attempt_rows) if key[0] in wanted]

    def events(self, after: int, limit: int) -> list[EventRow]:
        return self.event_rows[after : after + limit]

    def repeated(self, owner: str, key: str) -> IdempotencyRow | None:
        return self.keys.get((owner, key))

    def repeated_calls(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], IdempotencyRow]:
        return {key: self.keys[key] for key in asked if key in self.keys}

    def close(self) -> None:
        pass
