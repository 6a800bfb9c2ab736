"""Time for the daemon: wall-clock seconds that never go back."""

from __future__ import annotations

import time


class SystemClock:
    """Seconds since the Unix epoch, counted on from the start by the monotonic clock.

    A wall clock that is set back, or forward, does not change how long anything has lasted; the next start follows it.

    Args:
        not_before_s: Latest time that an earlier process has stored: this one never tells an earlier one.
    """

    def __init__(self, not_before_s: float = 0.0) -> None:
        self._offset_s = max(time.time(), not_before_s) - time.monotonic()

    def now_s(self) -> float:
        """Now."""
        return self._offset_s + time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved: for tests and for replays at any speed.

    Args:
        at_s: What it shows first.
    """

    def __init__(self, at_s: float = 0.0) -> None:
        self.at_s = at_s

    def now_s(self) -> float:
        """What it shows."""
        return self.at_s

    def advance(self, seconds: float) -> float:
        """Move it on; returns what it then shows."""
        self.at_s += seconds
        return self.at_s
