"""What happened in a replay, cut into stretches of time that fit into memory.

A run's tables are each in the order of one time: jobs by submission, placements by begin, attempts by end. They are
read side by side, a batch of each, and cut at instants up to which all of them are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.sim.stored import batches, scan, slices

if TYPE_CHECKING:
    import polars as pl

BEGUN = ("job", "attempt", "node", "gpu", "gpus", "cpus", "start_s")
SLICES = ("slice", "slices")
"""What is read of placements; the slices only where there are any."""

ENDED = ("job", "attempt", "start_s", "end_s", "ended")


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time.

    Attributes:
        submitted: ``job`` (row of the job table) and ``submit_s``, by time.
        begun: ``job, attempt, start_s``, one row an attempt, by time.
        ended: ``job, attempt, start_s, end_s, ended``, one row an attempt, by time.
        taken: Placements that begin, as in the table; None where they were not noted.
        given_back: Those that end, with ``end_s`` and ``ended``.
        outages: Events of outages, as ``derived.outage_events`` gives them; None where nothing could fail.
    """

    submitted: pl.DataFrame
    begun: pl.DataFrame
    ended: pl.DataFrame
    taken: pl.DataFrame | None = None
    given_back: pl.DataFrame | None = None
    outages: pl.DataFrame | None = None

    @property
    def last_s(self) -> float:
        """Time of the last thing that happened; −inf when nothing did."""
        times = ((self.submitted, "submit_s"), (self.begun, "start_s"), (self.ended, "end_s"), (self.outages, "time_s"))
        return max((_last(table, time) for table, time in times if table is not None), default=-math.inf)

    @classmethod
    def empty(cls) -> Window:
        """A stretch in which nothing happened."""
        import polars as pl

        tables = ({"job": pl.UInt32, time: pl.Float64} for time in ("submit_s", "start_s", "end_s"))
        return cls(*(pl.DataFrame(schema=schema) for schema in tables))


def windows_of_jobs(jobs: pl.DataFrame) -> Iterator[Window]:
    """The windows of a run in which every job ran once at most, from its job table."""
    import polars as pl

    row = pl.int_range(pl.len(), dtype=pl.UInt32).alias("job")
    numbered = jobs.lazy().select(row, "submit_s", "start_s", "end_s")
    ran = numbered.filter(pl.col("start_s").is_not_null())

    def by(table: pl.LazyFrame, time: str) -> Iterator[pl.DataFrame]:
        sorted_rows = table.select("job", time).sort(time, maintain_order=True).collect()
        return slices(sorted_rows)

    streams = (by(numbered, "submit_s"), by(ran, "start_s"), by(ran, "end_s"))
    for submitted, begun, ended in side_by_side(streams, ("submit_s", "start_s", "end_s")):
        yield Window(submitted, begun, ended)


def windows_of_attempts(
    jobs: pl.DataFrame, tables: Mapping[str, pl.DataFrame], outages: pl.DataFrame | None = None
) -> Iterator[Window]:
    """The windows of a run with ``attempts`` and ``placements``.

    Args:
        jobs: Per-job table.
        tables: The two others.
        outages: Events of outages.
    """
    import polars as pl

    row = pl.int_range(pl.len(), dtype=pl.UInt32).alias("job")
    submissions = jobs.lazy().select(row, "submit_s").sort("submit_s", maintain_order=True).collect()
    streams = (
        slices(submissions),
        begun_of(tables),
        batches(tables, "attempts", ENDED),
        *(() if outages is None else (slices(outages),)),
    )
    times = ("submit_s", "start_s", "end_s", "time_s")[: len(streams)]
    held = HeldNow()
    for submitted, taken, ended, *failed in side_by_side(streams, times):
        begun = taken.select("job", "attempt", "start_s").unique(["job", "attempt"], keep="first", maintain_order=True)
        yield Window(submitted, begun, ended, taken, held.after(taken, ended), *failed)


def begun_of(tables: Mapping[str, pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """What is read of a run's placements, in batches."""
    known = scan(tables, "placements").collect_schema().names()
    return batches(tables, "placements", [*BEGUN, *(name for name in SLICES if name in known)])


class HeldNow:
    """The placements of running attempts: those that have begun and not ended."""

    def __init__(self) -> None:
        self.open: pl.DataFrame | None = None

    def after(self, taken: pl.DataFrame, ended: pl.DataFrame) -> pl.DataFrame:
        """Take in what begins and what ends, and return the placements that end, with ``end_s`` and ``ended``."""
        import polars as pl

        held = taken if self.open is None else pl.concat([self.open, taken])
        of_attempt = ended.select("job", "attempt", "end_s", "ended")
        joined = held.join(of_attempt, on=["job", "attempt"], how="left", maintain_order="left")
        self.open = held.filter(joined["end_s"].is_null())
        return joined.filter(pl.col("end_s").is_not_null())


def side_by_side(streams: Sequence[Iterator[pl.DataFrame]], times: Sequence[str]) -> Iterator[tuple[pl.DataFrame, ...]]:
    """Several tables, each in batches and sorted by its time, cut at the same instants.

    All rows of one instant are in one cut. What is kept in memory is about a batch of each table.

    Args:
        streams: Batches of each table; at least one of each, which may be empty.
        times: Name of the time column of each.

    Raises:
        UsageError: A table is not sorted.
    """
    import polars as pl

    heads = [next(stream) for stream in streams]
    reached_s = [_last(head, time) for head, time in zip(heads, times, strict=True)]
    more = [True] * len(streams)
    while any(more):
        behind_s = min(reached_s[i] for i in range(len(heads)) if more[i])
        for i, stream in enumerate(streams):
            if more[i] and reached_s[i] <= behind_s:
                batch = next(stream, None)
                more[i] = batch is not None
                if batch is not None:
                    refuse_disorder(batch[times[i]].to_numpy(), reached_s[i], times[i])
                    heads[i] = pl.concat([heads[i], batch])
                    reached_s[i] = max(reached_s[i], _last(batch, times[i]))
        known_s = min((reached_s[i] for i in range(len(heads)) if more[i]), default=None)
        cuts = []
        for i, head in enumerate(heads):
            count = head.height if known_s is None else int(np.searchsorted(head[times[i]].to_numpy(), known_s))
            cuts.append(head[:count])
            heads[i] = head[count:]
        if any(cut.height for cut in cuts):
            yield tuple(cuts)


def _last(table: pl.DataFrame, time: str) -> float:
    """Time of the last row; −inf without rows."""
    return float(table[time][-1]) if table.height else -math.inf


def refuse_disorder(time_s: np.ndarray[tuple[int], np.dtype[np.float64]], after_s: float, name: str) -> None:
    """Raise UsageError when times go back."""
    if len(time_s) and (time_s[0] < after_s or (np.diff(time_s) < 0).any()):
        raise UsageError(f"a table of the run is not in the order of its {name}; was it written by something else?")
