"""Which jobs of a trace a model may learn from, and which ones are kept back to judge it.

A period is a run of rows of a job table in submit order, [first, last), of a trace that is told apart by its content:
a copy under another name, packed or converted, is the same trace. Training looks at the first part of a trace,
selection (early stopping, choice among seeds) at the next, and the last part is looked at only when a finished model
is judged. Time order matters: a model that has seen jobs from after a test window has seen how its users went on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import BundleError, TraceError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from shunter.traces.tables import Trace

TRAIN, VALIDATION, TEST = "train", "validation", "test"

TRAIN_SHARE = 0.6
"""Share of a trace's jobs, from its first on, that training looks at."""

VALIDATION_SHARE = 0.15
"""Share of the jobs after those, by which a model is chosen among several."""


@dataclass(frozen=True, slots=True)
class Period:
    """Consecutive jobs of a trace.

    Attributes:
        name: ``train``, ``validation``, ``test``, or what else the jobs are used for.
        trace: Name of the trace, for people.
        first: Row of the first job, in submit order.
        last: Row after the last job.
        sha256: Content hash of the whole trace's jobs (``jobs_hash``), by which traces are told apart.
    """

    name: str
    trace: str
    first: int
    last: int
    sha256: str

    def __len__(self) -> int:
        return self.last - self.first

    def __str__(self) -> str:
        return f"{self.trace}, jobs {self.first:,} to {self.last - 1:,}"

    @property
    def window(self) -> tuple[int, int]:
        """``(start, count)``, as ``simulate`` and ``Trace.window`` take it."""
        return self.first, len(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a model's card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Period:
        """A period of a model's card.

        Raises:
            UsageError: A field is missing or is not what ``to_dict`` writes.
        """
        expected = {"name": str, "trace": str, "first": int, "last": int, "sha256": str}
        for name, kind in expected.items():
            if not isinstance(values.get(name), kind) or isinstance(values[name], bool):
                raise UsageError(f"period: {name} is {values.get(name)!r}, expected {kind.__name__}")
        period = cls(**{name: values[name] for name in expected})
        if not 0 <= period.first < period.last:
            raise UsageError(f"period: first {period.first}, last {period.last}; expected 0 ≤ first < last")
        return period


def jobs_hash(trace: Trace) -> str:
    """SHA-256 of what a replay depends on: generated traces and windows have no file to be told apart by."""
    digest = hashlib.sha256()
    for name, dtype in trace.jobs.frame.schema.items():
        if dtype.is_numeric():
            digest.update(np.ascontiguousarray(trace.jobs.floats(name)).data)
        else:
            digest.update(_joined(trace.jobs.frame[name]).encode())
    return digest.hexdigest()


def _joined(column: pl.Series) -> str:
    """Values of a column as Python writes them, with zero bytes between them."""
    import polars as pl

    texts = column.cast(pl.String)
    if column.dtype == pl.Boolean:
        texts = texts.str.to_titlecase()
    joined: str = texts.fill_null("None").str.join("\0").item()
    return joined


def whole(trace: Trace, name: str = TEST) -> Period:
    """All jobs of a trace as one period."""
    return part(trace, name, 0, len(trace.jobs))


def part(trace: Trace, name: str, first: int, last: int) -> Period:
    """Rows [first, last) of a trace.

    Raises:
        TraceError: They do not lie inside the trace.
    """
    if not 0 <= first < last <= len(trace.jobs):
        raise TraceError(f"rows {first} to {last} do not lie inside {trace.name!r}, which has {len(trace.jobs)} jobs")
    return Period(name, trace.name, first, last, jobs_hash(trace))


def split(
    trace: Trace, train: float = TRAIN_SHARE, validation: float = VALIDATION_SHARE
) -> tuple[Period, Period, Period]:
    """Training, validation and test period of a trace, in time order, without a gap and without a shared job.

    Args:
        trace: The trace.
        train: Share of the jobs for training.
        validation: Share of the jobs for choosing among models; the rest is for testing.

    Raises:
        UsageError: A share is not above 0, or nothing is left to test on.
        TraceError: The trace has too few jobs for one of the periods.
    """
    if not (train > 0 and validation > 0 and train + validation < 1):
        raise UsageError(
            f"shares {train:g} for training and {validation:g} for validation: expected two numbers above 0 whose sum "
            "is below 1, so that jobs are left to test on"
        )
    total = len(trace.jobs)
    bounds = (0, round(train * total), round((train + validation) * total), total)
    if not bounds[0] < bounds[1] < bounds[2] < bounds[3]:
        raise TraceError(f"{trace.name}: {total} jobs are too few to be split into training, validation and test")
    periods = [part(trace, TRAIN, 0, bounds[1])]
    for name, first, last in ((VALIDATION, bounds[1], bounds[2]), (TEST, bounds[2], bounds[3])):
        periods.append(Period(name, trace.name, first, last, periods[0].sha256))
    return periods[0], periods[1], periods[2]


def overlap(a: Period, b: Period) -> int:
    """How many jobs two periods share; 0 for periods of different traces."""
    return max(0, min(a.last, b.last) - max(a.first, b.first)) if a.sha256 == b.sha256 else 0


def overlapping(wanted: Iterable[Period], seen: Iterable[Period]) -> list[tuple[Period, Period, int]]:
    """Every pair of a wanted and a seen period that share jobs, with their number."""
    seen = list(seen)
    pairs = ((a, b, overlap(a, b)) for a in wanted for b in seen)
    return [pair for pair in pairs if pair[2]]


def seen_by(entries: Iterable[Mapping[str, Any]], where: str) -> tuple[Period, ...]:
    """The periods that a model's card names in ``traces``: each as ``Period.to_dict`` writes it, one a role and trace.

    Raises:
        BundleError: An entry is none; says which, and the card (``where``) that it is in.
    """
    periods = []
    for number, entry in enumerate(entries):
        try:
            periods.append(Period.from_dict(entry))
        except UsageError as error:
            raise BundleError(f"{where}: traces[{number}]: {error}") from None
    return tuple(periods)


def parse_trace(text: str) -> tuple[str, tuple[int, int] | None]:
    """``TRACE`` or ``TRACE:FIRST:COUNT`` as the trace's name and ``(first, count)``; None for all of it.

    Raises:
        UsageError: No name, or no jobs.
    """
    found = re.fullmatch(r"(.+?)(?::(\d+):(\d+))?", text)
    if found is None:
        raise UsageError(f"trace {text!r}: expected a file, demo:NAME, or either followed by :FIRST:COUNT")
    name, first, count = found.groups()
    if count is None:
        return name, None
    if int(count) == 0:
        raise UsageError(f"trace {text!r}: expected a COUNT of at least 1")
    return name, (int(first), int(count))
