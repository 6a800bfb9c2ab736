"""SimPy's clock with events at absolute times.

SimPy schedules by delay and adds it to the present time; for times that are no whole seconds that sum can miss the
absolute time by a rounding, and two events of one instant would become two instants. ``EventClock`` puts an event at
exactly the time asked for, and orders the events of an instant by the design: ends, stops, failures of jobs, failures
and repairs of nodes, loads of nodes by other work, retries, arrivals, pass.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from heapq import heappush
from typing import Any

from simpy import Environment, Event

Callbacks = list[Callable[[Any], None]]


class Order(IntEnum):
    """Order of the events of one instant."""

    END = 0
    STOP = 1  # the grace period of a job that is to stop is over
    FAULT = 2  # an attempt fails by a fault of the job's own
    OUTAGE = 3  # a failure, drain, repair or resumption
    LOAD = 4  # nodes are busier, or less so, with work that is not the scheduler's
    RETRY = 5  # a job that has failed may wait for nodes again
    ARRIVAL = 6
    PASS = 7


class Occurrence(Event):
    """An event that has been decided: it only waits for its time. Its value is what the callback needs to know."""

    def __init__(self, env: Environment, callbacks: Callbacks, value: object) -> None:
        # Event.__init__ would build a callbacks list for each event; one list serves all events of a kind.
        self.env = env
        self.callbacks = callbacks
        self._value = value
        self._ok = True


class EventClock(Environment):
    """A SimPy environment whose events stand at absolute times."""

    def at(self, time_s: float, order: int, callbacks: Callbacks, value: object) -> None:
        """Call ``callbacks`` with an event that carries ``value`` at ``time_s``."""
        heappush(self._queue, (time_s, order, next(self._eid), Occurrence(self, callbacks, value)))  # type: ignore[misc]

    @property
    def instant_is_over(self) -> bool:
        """Whether no event of the present time is left."""
        return not self._queue or self._queue[0][0] > self._now

    @property
    def pending(self) -> list[tuple[float, int, object]]:
        """(time, order, value) of every event to come, in the order in which they will take place."""
        return [(t, int(order), event.value) for t, order, _, event in sorted(self._queue, key=lambda entry: entry[:3])]
