"""Group commit: one thread stores whatever has been asked for while the last transaction ran, as one transaction."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from shunter.daemon.errors import DaemonError, StoreError
from shunter.daemon.store.faults import meaning
from shunter.daemon.store.rows import Change
from shunter.daemon.store.writing import Work

Done = Callable[[DaemonError | None], None]
"""Told once how it ended: None when it is durable."""

Deliver = Callable[[Callable[[], None]], object]
"""Calls a function somewhere, such as ``loop.call_soon_threadsafe``."""

GROUP_ROWS = 20_000
"""No further change joins a group of so many rows: bounds memory, and how long the first of them waits."""


class Target(Protocol):
    """Where a group goes, such as ``writing.Transaction``."""

    def store(self, changes: Sequence[Change], works: Sequence[Work]) -> None:
        """All of it, or nothing."""
        ...


class GroupCommit:
    """Stores changes in the order in which they were put. After a failure everything is refused until ``resume``.

    Args:
        path: Of SQLite's database, to tell what an error means.
        observe: Told of every transaction: rows, seconds, error.
    """

    def __init__(self, path: Path | None, observe: Callable[[int, float, DaemonError | None], None]) -> None:
        self._path = path
        self._observe = observe
        self._wake = threading.Condition(threading.Lock())
        self._waiting: deque[tuple[Change | Work, Done]] = deque()
        self._target: Target | None = None
        self._failure: DaemonError | None = StoreError("store: nothing has been opened for writing")
        self._is_closing = False
        self._is_busy = False
        self.deliver: Deliver | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Changes that no transaction has taken yet."""
        return len(self._waiting)

    @property
    def failure(self) -> DaemonError | None:
        """Why nothing is taken now."""
        return self._failure

    def put(self, what: Change | Work, done: Done) -> None:
        """Store this after all that was put before; never waits for the disk."""
        with self._wake:
            failure = self._failure
            if failure is None:
                self._waiting.append((what, done))
                self._wake.notify()
                return
        self._tell([done], failure)

    def resume(self, target: Target) -> None:
        """Take changes (again), for this target; waits for a transaction that is under way."""
        with self._wake:
            self._wake.wait_for(lambda: not self._is_busy)
            self._target = target
            self._failure = None

    def stop(self, failure: DaemonError) -> None:
        """Refuse whatever waits and comes, until ``resume``; waits for a transaction that is under way."""
        with self._wake:
            self._failure = failure
            left = [done for _, done in self._waiting]
            self._waiting.clear()
            self._wake.wait_for(lambda: not self._is_busy)
        self._tell(left, failure)

    def close(self) -> None:
        """Store what was put, then end."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._is_busy = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    self._failure = self._failure or StoreError("store: it is closed")
                    return
                changes, works, dones, rows = self._take()
                self._is_busy = True
            failure = self._store(changes, works, rows)
            if failure is not None:
                with self._wake:
                    self._failure = failure
                    dones += [done for _, done in self._waiting]
                    self._waiting.clear()
            self._tell(dones, failure)

    def _take(self) -> tuple[list[Change], list[Work], list[Done], int]:
        changes: list[Change] = []
        works: list[Work] = []
        dones: list[Done] = []
        rows = 0
        while self._waiting and rows < GROUP_ROWS and not works:
            what, done = self._waiting.popleft()
            dones.append(done)
            if isinstance(what, Change):
                changes.append(what)
                rows += what.num_rows
            else:
                works.append(what)
        return changes, works, dones, rows

    def _store(self, changes: list[Change], works: list[Work], rows: int) -> DaemonError | None:
        assert self._target is not None
        began = time.perf_counter()
        failure: DaemonError | None = None
        try:
            self._target.store(changes, works)
        except Exception as error:  # whatever it is, those who wait have to be told, and nothing may follow it
            failure = meaning(error, self._path)
        self._observe(rows, time.perf_counter() - began, failure)
        return failure

    def _tell(self, dones: list[Done], failure: DaemonError | None) -> None:
        def tell() -> None:
            for done in dones:
                done(failure)

        if self.deliver is None or not dones:
            tell()
        else:
            self.deliver(tell)
