"""How often somebody may call: token buckets, one for each user and one for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from shunter.daemon.errors import LimitError

MAX_USERS = 10_000
"""Buckets that are kept; those that are full again say nothing and are thrown away first."""


@dataclass(frozen=True, slots=True)
class RateRules:
    """How often.

    Attributes:
        user_calls_per_s: Of one user in the long run.
        user_burst: At once after a pause.
        all_calls_per_s: Of all together.
        all_burst: At once after a pause.
        user_streams: Streams (watching, logs) of one user that are open at a time; agents' are not counted.
    """

    user_calls_per_s: float = 10_000.0
    user_burst: float = 20_000.0
    all_calls_per_s: float = 20_000.0
    all_burst: float = 40_000.0
    user_streams: int = 200


class Bucket:
    """Fills at a rate up to a burst; each call takes one.

    Args:
        rate: Per second.
        burst: Most that it holds.
        now_s: Now.
    """

    __slots__ = ("_burst", "_rate", "_since_s", "level")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst, self._since_s, self.level = rate, burst, now_s, burst

    def take(self, now_s: float) -> float:
        """Take one; returns 0, or the seconds after which there will be one."""
        self.level = min(self.level + (now_s - self._since_s) * self._rate, self._burst)
        self._since_s = now_s
        if self.level >= 1.0:
            self.level -= 1.0
            return 0.0
        return (1.0 - self.level) / self._rate

    def is_full(self, now_s: float) -> bool:
        """Whether nothing has been taken for long."""
        return self.level + (now_s - self._since_s) * self._rate >= self._burst


class Rates:
    """Counts calls and streams.

    Args:
        rules: How often.
        monotonic_s: Time.
    """

    def __init__(self, rules: RateRules, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._rules, self._monotonic_s = rules, monotonic_s
        self._all = Bucket(rules.all_calls_per_s, rules.all_burst, monotonic_s())
        self._users: dict[str, Bucket] = {}
        self._streams: dict[str, int] = {}

    def take_any(self) -> None:
        """A call has come, from whomever.

        Raises:
            LimitError: Too many calls.
        """
        wait_s = self._all.take(self._monotonic_s())
        if wait_s:
            raise LimitError(f"too many calls to this daemon; try again in {wait_s:.3f} s")

    def take(self, user: str) -> None:
        """A call has come from a user.

        Raises:
            LimitError: Too many of that user's.
        """
        now_s = self._monotonic_s()
        bucket = self._users.get(user)
        if bucket is None:
            if len(self._users) >= MAX_USERS:
                self._users = {name: one for name, one in self._users.items() if not one.is_full(now_s)}
            bucket = self._users[user] = Bucket(self._rules.user_calls_per_s, self._rules.user_burst, now_s)
        wait_s = bucket.take(now_s)
        if wait_s:
            most = self._rules.user_calls_per_s
            raise LimitError(f"more than {most:g} calls a second of {user!r}; try again in {wait_s:.3f} s")

    def open_stream(self, user: str) -> None:
        """A user opens a stream; ``close_stream`` follows.

        Raises:
            LimitError: Too many are open.
        """
        count = self._streams.get(user, 0)
        if count >= self._rules.user_streams:
            raise LimitError(f"{user!r} has {count} open streams; at most {self._rules.user_streams} are allowed")
        self._streams[user] = count + 1

    def close_stream(self, user: str) -> None:
        """It has ended."""
        left = self._streams[user] - 1
        if left:
            self._streams[user] = left
        else:
            del self._streams[user]
