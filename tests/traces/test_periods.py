"""Periods of a trace: in order, without a shared job, and the same trace under any name."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from shunter.scheduler.errors import TraceError, UsageError
from shunter.traces.demo import demo_trace
from shunter.traces.periods import Period, overlap, overlapping, parse_trace, part, split, whole
from shunter.traces.tables import JobTable, Trace, make_jobs, pool


def small(num_jobs: int) -> Trace:
    """Jobs of a second each."""
    columns = {"job_id": [str(i) for i in range(num_jobs)], "submit_s": range(num_jobs), "duration_s": [1.0] * num_jobs}
    return Trace("small", make_jobs(columns), pool(1))


def test_twenty_jobs_are_split_into_twelve_three_and_five() -> None:
    periods = split(small(20))
    assert [(p.name, p.first, p.last) for p in periods] == [("train", 0, 12), ("validation", 12, 15), ("test", 15, 20)]
    assert [p.window for p in periods] == [(0, 12), (12, 3), (15, 5)]
    assert not overlapping(periods[2:], periods[:2])


def test_too_few_jobs_and_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(TraceError, match="2 jobs are too few"):
        split(small(2))
    for shares in ((0.9, 0.1), (0.0, 0.5), (-0.1, 0.5)):
        with pytest.raises(UsageError, match="left to test on"):
            split(small(20), *shares)
    with pytest.raises(TraceError, match="rows 15 to 21 do not lie inside 'small', which has 20 jobs"):
        part(small(20), "test", 15, 21)


def test_overlap_counts_shared_rows_of_one_trace_whatever_its_name() -> None:
    trace = demo_trace("hpc")
    renamed = replace(trace, name="copy", source="elsewhere", sha256="")
    other = replace(trace, jobs=JobTable(trace.jobs.frame.with_columns(pl.col("duration_s") + 1.0)))
    seen = part(trace, "train", 0, 100)
    assert overlap(part(renamed, "test", 60, 300), seen) == 40
    assert overlap(part(renamed, "test", 100, 300), seen) == 0
    assert overlap(part(other, "test", 60, 300), seen) == 0
    assert overlapping([whole(trace)], [seen]) == [(whole(trace), seen, 100)]


def test_a_period_survives_its_card_and_damage_is_named() -> None:
    period = split(small(20))[0]
    assert Period.from_dict(period.to_dict()) == period
    with pytest.raises(UsageError, match="last is 'x', expected int"):
        Period.from_dict(period.to_dict() | {"last": "x"})
    with pytest.raises(UsageError, match="first 12, last 12"):
        Period.from_dict(period.to_dict() | {"first": 12})


@pytest.mark.parametrize(
    ("text", "name", "rows"),
    [("a.swf.gz", "a.swf.gz", None), ("demo:hpc", "demo:hpc", None), ("demo:hpc:5:100", "demo:hpc", (5, 100))],
)
def test_a_trace_argument(text: str, name: str, rows: tuple[int, int] | None) -> None:
    assert parse_trace(text) == (name, rows)


def test_a_trace_argument_without_jobs_is_refused() -> None:
    with pytest.raises(UsageError, match="COUNT of at least 1"):
        parse_trace("a.swf:5:0")
    with pytest.raises(UsageError, match="expected a file"):
        parse_trace("")
