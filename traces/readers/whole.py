"""Files of which no row can be left out: failure logs and series, where the next row depends on the one before."""

from __future__ import annotations

from dataclasses import dataclass

from shunter.scheduler.errors import TraceError
from shunter.traces.readers.base import Source
from shunter.traces.tables import BadRow

SHOWN_PROBLEMS = 5
"""Defects that are told one by one; the others are counted."""


@dataclass(frozen=True, slots=True)
class WholeSource(Source):
    """A source that is refused for any bad row, and told about several of them at once."""

    def refuse(self, bad: list[BadRow]) -> TraceError:
        """The first defects, each with its place, and how many more there are."""
        return refusal([f"{self.path}:{row}" for row in sorted(bad)])


def refusal(problems: list[str]) -> TraceError:
    """The error that tells the first problems and how many more there are."""
    hidden = len(problems) - SHOWN_PROBLEMS
    more = f"; and {hidden:,} more" if hidden > 0 else ""
    return TraceError("; ".join(problems[:SHOWN_PROBLEMS]) + more)
