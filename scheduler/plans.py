"""A plan: what a decision proposes. Whoever carries it out checks it against the state of that moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar, overload

from shunter.scheduler.types import FloatArray, IntArray

Item = TypeVar("Item")


class Reason(Enum):
    """Why a job was not started; each member says what happens next."""

    NO_CAPACITY = "no-capacity"  # the head waits until enough is released
    BEHIND_HEAD = "behind-head"  # waits for the head, which may not be overtaken
    WOULD_DELAY = "would-delay"  # fits now, but would delay a reservation; tried again at the next pass
    BEYOND_DEPTH = "beyond-depth"  # not looked at; tried again when fewer jobs wait ahead
    OVER_QUOTA = "over-quota"  # its group's limit, or the power cap; tried again when something is given back
    LOCALITY = "locality"  # waits for nodes nearer to one another, up to a bound


REASONS = tuple(Reason)
"""The reasons by their numbers in arrays."""


@dataclass(frozen=True, slots=True)
class Start:
    """Run a waiting job now on these nodes.

    Attributes:
        row: The job's row in the state.
        placement: (node, tasks) pairs; the tasks sum to the gang's size.
        backfilled: Whether a job ahead of it in the queue still waits.
        gpus: (node, tasks, bits of the GPUs there) where GPUs are told apart; else empty.
        slices: For each entry of ``gpus`` the first memory slice of the MIG instance that it is; empty for other jobs.
    """

    row: int
    placement: tuple[tuple[int, int], ...]
    backfilled: bool = False
    gpus: tuple[tuple[int, int, int], ...] = ()
    slices: tuple[int, ...] = ()

    @property
    def entries(self) -> tuple[tuple[int, int, int, int], ...]:
        """(node, tasks, bits of the GPUs or 0, first slice or −1)."""
        if not self.gpus:
            return tuple((node, tasks, 0, -1) for node, tasks in self.placement)
        firsts = self.slices or (-1,) * len(self.gpus)
        return tuple((*entry, first) for entry, first in zip(self.gpus, firsts, strict=True))


@dataclass(frozen=True, slots=True)
class Preempt:
    """Stop a running job for another: it saves its work, gives back what it holds by ``end_s``, and waits again."""

    row: int
    end_s: float


@dataclass(frozen=True, slots=True)
class Reserve:
    """Promise a waiting job a start time."""

    row: int
    start_s: float


@dataclass(frozen=True, slots=True)
class Extend:
    """Expect an overdue running job to end at another time than its request says."""

    row: int
    end_s: float


class Listed(Sequence[Item]):
    """A sequence of small values that lies in arrays, as long queues need; equal to a tuple of the same values."""

    def __len__(self) -> int:
        raise NotImplementedError

    def _items(self) -> tuple[Item, ...]:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item, ...]: ...
    def __getitem__(self, index: int | slice) -> Item | tuple[Item, ...]:
        return self._items()[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items())

    def __eq__(self, other: object) -> bool:
        return self._items() == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._items())

    def __repr__(self) -> str:
        return repr(self._items())


class Reserves(Listed[Reserve]):
    """Promised starts: ``rows`` (Q,) and ``start_s`` (Q,)."""

    __slots__ = ("rows", "start_s")

    def __init__(self, rows: IntArray, start_s: FloatArray) -> None:
        self.rows, self.start_s = rows, start_s

    def __len__(self) -> int:
        return len(self.rows)

    def _items(self) -> tuple[Reserve, ...]:
        return tuple(map(Reserve, self.rows.tolist(), self.start_s.tolist()))


class Skips(Listed[tuple[int, Reason]]):
    """Jobs that were not started: ``rows`` (Q,) and ``reasons`` (Q,), numbers in ``REASONS``."""

    __slots__ = ("reasons", "rows")

    def __init__(self, rows: IntArray, reasons: IntArray) -> None:
        self.rows, self.reasons = rows, reasons

    def __len__(self) -> int:
        return len(self.rows)

    def _items(self) -> tuple[tuple[int, Reason], ...]:
        return tuple(
            (row, REASONS[reason]) for row, reason in zip(self.rows.tolist(), self.reasons.tolist(), strict=True)
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order.

    Attributes:
        based_on: Version of the snapshot.
        starts: Jobs to start.
        reservations: Promised starts of jobs that go on waiting; ``plan`` gives ``Reserves``, with arrays.
        extensions: New expected ends of running jobs that overran theirs.
        skipped: Jobs not started, with the reason; ``plan`` gives ``Skips``, with arrays.
        next_pass_s: When a pass is due even if nothing happens before; inf when there is no such time.
        preemptions: Running jobs to stop before anything is started.
        guard: Names of ``guard.REASONS`` that say what became of a learned order; empty for other orderings, and where
            the order made no difference.
    """

    based_on: int
    starts: tuple[Start, ...] = ()
    reservations: Sequence[Reserve] = ()
    extensions: tuple[Extend, ...] = ()
    skipped: Sequence[tuple[int, Reason]] = ()
    next_pass_s: float = math.inf
    preemptions: tuple[Preempt, ...] = ()
    guard: tuple[str, ...] = ()
