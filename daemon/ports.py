"""What the daemon needs from outside, as small protocols; each has a real implementation and one for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from shunter.daemon.errors import DaemonError
from shunter.daemon.store.rows import (
    AttemptRow,
    Change,
    EventRow,
    IdempotencyRow,
    JobQuery,
    Stored,
    StoredJob,
)


class Clock(Protocol):
    """Time as a value."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch; never goes back within a process, whatever happens to the wall clock."""
        ...


class Store(Protocol):
    """Durable memory. Reading methods may be called from any thread; ``write`` too, and it never blocks on the disk.

    Raises (all methods, or the future of ``write``):
        StoreError: And its leaves StoreFullError, StoreReadOnlyError.
        FencedError: A later leader has taken over.
    """

    @property
    def num_waiting(self) -> int:
        """Changes that have been asked for and that no transaction has taken yet."""
        ...

    def load(self) -> Stored:
        """Everything that has not ended."""
        ...

    def write(self, change: Change) -> Future[None]:
        """Store a change; the future is done when it is durable. Changes are stored in the order of the calls.

        What is asked for while another transaction is under way goes into one transaction together (group commit). When
        one fails, so do all later ones until ``recover``: the caller's memory is ahead of the store and has to be made
        anew from ``load``.
        """
        ...

    def put(self, change: Change, done: Callable[[DaemonError | None], None]) -> None:
        """As ``write``; ``done`` is told how it ended, in the order of the calls, where ``deliver_by`` says."""
        ...

    def deliver_by(self, deliver: Callable[[Callable[[], None]], object] | None) -> None:
        """How ``done`` of ``put`` is called, such as ``loop.call_soon_threadsafe``; None: in any thread."""
        ...

    def recover(self) -> None:
        """Take writes again after a failure: tries one, and raises as it does."""
        ...

    def job(self, job: int) -> StoredJob | None:
        """One job, ended or not."""
        ...

    def jobs(self, query: JobQuery) -> list[StoredJob]:
        """Jobs, newest first."""
        ...

    def attempts(self, jobs: Sequence[int]) -> list[AttemptRow]:
        """Their attempts, by (job, number)."""
        ...

    def events(self, after: int, limit: int) -> list[EventRow]:
        """Events with a higher number, in order."""
        ...

    def repeated(self, owner: str, key: str) -> IdempotencyRow | None:
        """The call that was made with this key before."""
        ...

    def repeated_calls(self, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], IdempotencyRow]:
        """The same for several (user, key) at once; without those that nobody has used."""
        ...

    def close(self) -> None:
        """Store what was asked for and let go of everything."""
        ...
