"""The store on SQLite or PostgreSQL: ``open_store``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from shunter.daemon.errors import DaemonError, FencedError, StoreError
from shunter.daemon.store import engines, migrate
from shunter.daemon.store.faults import translated
from shunter.daemon.store.group_commit import Deliver, Done, GroupCommit
from shunter.daemon.store.reading import Reader
from shunter.daemon.store.rows import (
    AttemptRow,
    Change,
    EventRow,
    IdempotencyRow,
    JobQuery,
    Stored,
    StoredJob,
)
from shunter.daemon.store.writing import Transaction, Work

Observe = Callable[[int, float, DaemonError | None], None]


def open_store(url: str, *, token: int | None = None, observe: Observe | None = None) -> SqlStore:
    """Open a store that ``lease.open_lease`` has made or brought up to date.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql+psycopg://…``.
        token: Fencing token, from ``Lease.acquire``; None: only reads, until ``lead``.
        observe: Told, in the writing thread, of every transaction: rows, seconds, error.

    Raises:
        StoreError: It cannot be read, or has tables of another version.
        FencedError: ``token`` is not the highest.
    """
    place = engines.place_of(url)
    if place.path is not None and not place.path.exists():
        raise StoreError(f"store: {place.path} does not exist; a daemon makes it when it first leads")
    store = SqlStore(place, observe or _ignore)
    try:
        store.check()
        if token is not None:
            store.lead(token)
    except BaseException:
        store.close()
        raise
    return store


def _ignore(_rows: int, _seconds: float, _failure: DaemonError | None) -> None:
    """Nobody wants to know."""


class SqlStore:
    """``daemon.ports.Store`` on a database.

    A group of changes is one transaction. When the connection is lost while it commits (PostgreSQL), nobody can know
    whether it was stored: its futures fail, and ``load`` tells. So after a failure ``load`` gives what was
    acknowledged, and possibly whole groups beyond it, never a part of one.

    Args:
        place: Where it lies.
        observe: Told of every transaction.
    """

    def __init__(self, place: engines.Place, observe: Observe) -> None:
        self._place = place
        self._readers = engines.reading(place)
        self._writers: Engine | None = None
        self._connection: Connection | None = None
        self._token: int | None = None
        self._writer = GroupCommit(place.path, observe)

    @property
    def url(self) -> str:
        """Where it lies, without a password."""
        return self._place.url.render_as_string(hide_password=True)

    @property
    def place(self) -> engines.Place:
        """Where it lies."""
        return self._place

    @property
    def token(self) -> int | None:
        """Under which it writes; None: it only reads."""
        return self._token

    @property
    def num_waiting(self) -> int:
        """Changes that no transaction has taken yet."""
        return self._writer.num_waiting

    @property
    def failure(self) -> DaemonError | None:
        """Why nothing can be written now; None: it can."""
        return self._writer.failure

    def check(self) -> None:
        """See that it can be read and has the tables of this version.

        Raises:
            StoreError: It has not.
        """
        with self._reading() as reader:
            migrate.check(reader.connection)

    def lead(self, token: int) -> None:
        """Write under this token from now on.

        Raises:
            FencedError: It is not the highest.
            StoreError: It cannot be written.
        """
        self._token = token
        self.recover()

    def follow(self) -> None:
        """Only read from now on; what waits to be stored fails."""
        self._token = None
        self._writer.stop(FencedError("store: this daemon does not lead"))
        self._disconnect()

    def recover(self) -> None:
        """Take writes again, on a new connection; see ``daemon.ports.Store``."""
        if self._token is None:
            raise FencedError("store: this daemon does not lead")
        self._writer.stop(StoreError("store: it is being opened anew"))
        self._disconnect()
        try:
            with translated(self._place.path):
                self._writers = engines.writing(self._place)
                self._connection = self._writers.connect()
                transaction = Transaction(self._connection, self._token)
                transaction.probe()
        except DaemonError as failure:
            self._writer.stop(failure)
            self._disconnect()
            raise
        self._writer.resume(transaction)

    def write(self, change: Change) -> Future[None]:
        """Store a change."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # it can no longer be cancelled

        def done(failure: DaemonError | None) -> None:
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(type(failure)(*failure.args))

        self._writer.put(change, done)
        return future

    def put(self, change: Change, done: Done) -> None:
        """As ``write``, without a future: ``done`` is told how it ended, where ``deliver_by`` says.

        Several times cheaper for a caller with an event loop: one call into the loop for a whole group.
        """
        self._writer.put(change, done)

    def deliver_by(self, deliver: Deliver | None) -> None:
        """Tell the callers of a group of changes by one call of ``deliver``, such as ``loop.call_soon_threadsafe``.

        None, as at first: in the thread that writes, where it has to be quick and must not raise.
        """
        self._writer.deliver = deliver

    def do(self, work: Work) -> None:
        """Do something in a transaction after everything that was asked for before, and wait for it.

        Raises:
            StoreError: As ``write``.
        """
        future: Future[None] = Future()

        def done(failure: DaemonError | None) -> None:
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

        self._writer.put(work, done)
        future.result()

    def load(self) -> Stored:
        """Everything that has not ended."""
        with self._reading() as reader:
            return reader.load()

    def job(self, job: int) -> StoredJob | None:
        """One job, ended or not."""
        with self._reading() as reader:
            return reader.job(job)

    def jobs(self, query: JobQuery) -> list[StoredJob]:
        """Jobs, newest first."""
        with self._reading() as reader:
            return reader.jobs(query)

    def attempts(self, jobs: Sequence[int]) -> list[AttemptRow]:
        """Their attempts, by (job, number)."""
        with self._reading() as reader:
            return reader.attempts(jobs)

    def events(self, after: int, limit: int) -> list[EventRow]:
        """Events with a higher number, in order."""
        with self._reading() as reader:
            return reader.events(after, limit)

    def repeated(self, owner: str, key: str) -> IdempotencyRow | None:
        """The call that was made with this key before."""
        with self._reading() as reader:
            return reader.repeated(owner, key)

    def repeated_calls(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], IdempotencyRow]:
        """The same for several (user, key)."""
        with self._reading() as reader:
            return reader.repeated_calls(asked)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads one state of the store, for as long as it is held."""
        with self._reading() as reader:
            yield reader.connection

    def close(self) -> None:
        """Store what was asked for and let go of everything."""
        self._writer.close()
        self._disconnect()
        self._readers.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Reader]:
        with translated(self._place.path), self._readers.connect() as connection:
            yield Reader(connection)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        engine, self._writers = self._writers, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # it may be broken already: that is why it is let go of
                connection.invalidate()
        if engine is not None:
            engine.dispose()
