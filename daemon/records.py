"""The last decisions, as bytes, from the process that made them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shunter.daemon.errors import InvalidError

if TYPE_CHECKING:
    from shunter.daemon.planner import Decider, Planner


@dataclass(frozen=True, slots=True)
class NumbersOfRecords:
    """Which decisions are kept: the first one's number since the process began, and how many."""

    def work(self, decider: Decider) -> tuple[int, int]:
        """See ``planner.Request``."""
        return decider.num_kept - len(decider.records), len(decider.records)


@dataclass(frozen=True, slots=True)
class RecordAt:
    """One kept decision by its number; empty when it is no longer there."""

    number: int

    def work(self, decider: Decider) -> bytes:
        """See ``planner.Request``."""
        place = self.number - (decider.num_kept - len(decider.records))
        return decider.records[place] if 0 <= place < len(decider.records) else b""


async def recorded(planner: Planner, count: int) -> AsyncIterator[bytes]:
    """The last decisions, oldest first, one request each so that decisions go on meanwhile; 0: all that are kept."""
    if count < 0:
        raise InvalidError(f"count: {count} is below 0")
    first, kept = await planner.ask(NumbersOfRecords())
    for number in range(first + (max(kept - count, 0) if count else 0), first + kept):
        record = await planner.ask(RecordAt(number))
        if record:
            yield record
