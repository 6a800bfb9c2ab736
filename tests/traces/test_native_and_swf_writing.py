from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import OutputError, TraceError, UsageError
from shunter.traces.read import read
from shunter.traces.tables import OUTCOMES, BadRow, Cleaning, ClusterSpec, NodeGroup, Trace, make_jobs, pool
from shunter.traces.write import parquet_bytes, write

Write = Callable[..., Path]
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

seconds = st.floats(min_value=0, max_value=1e9, allow_nan=False).map(lambda x: x + 0.0)
positive = st.floats(min_value=1e-3, max_value=1e9, allow_nan=False)
names = st.none() | st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=8)
numbers = st.none() | st.integers(0, 10**9).map(str)


@st.composite
def any_trace(draw: st.DrawFn) -> Trace:
    """A trace with every column in use."""
    count = draw(st.integers(1, 8))

    def column(strategy: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(strategy, min_size=count, max_size=count))

    jobs = make_jobs(
        {
            "job_id": [f"{i}-{name}" for i, name in enumerate(column(names))],
            "submit_s": column(seconds),
            "duration_s": column(seconds),
            "requested_s": column(st.none() | positive),
            "tasks": column(st.integers(1, 10**6)),
            "cpus": column(st.floats(0, 1e6, allow_nan=False)),
            "memory_gib": column(st.floats(0, 1e6, allow_nan=False)),
            "gpus": column(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 8.0])),
            "gpu_type": column(names),
            "user": column(names),
            "group": column(names),
            "priority": column(st.floats(-1e6, 1e6, allow_nan=False)),
            "deadline_s": column(st.none() | seconds),
            "outcome": column(st.sampled_from(OUTCOMES)),
            "preemptible": column(st.booleans()),
            "recorded_wait_s": column(st.none() | seconds),
        }
    )
    cluster = ClusterSpec("c", (NodeGroup("a", 3, cpus=4.0, gpus=8.0, gpu_type="T4"), NodeGroup("b", 1, cpus=2.5)))
    cleaning = Cleaning(9, {"why": 2}, {"rule": 1}, (BadRow(3, 1, "reason", "x"),))
    start = draw(st.none() | st.floats(0, 2e9, allow_nan=False))
    return Trace("name", jobs, cluster, start, "src", "abc", "generated", cleaning, {"Key": "välue\nline"})


@QUIET
@given(any_trace())
def test_the_native_file_keeps_everything(tmp_path: Path, trace: Trace) -> None:
    write(trace, tmp_path / "t.parquet")
    back = read(tmp_path / "t.parquet")
    assert back.jobs.frame.equals(trace.jobs.frame)
    for field in ("name", "cluster", "start_unix_s", "source", "sha256", "format", "cleaning", "header"):
        assert getattr(back, field) == getattr(trace, field)
    assert parquet_bytes(back) == parquet_bytes(trace)


@st.composite
def swf_trace(draw: st.DrawFn) -> Trace:
    """A trace that SWF can express: whole processors, names that are numbers."""
    count = draw(st.integers(1, 8))

    def column(strategy: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(strategy, min_size=count, max_size=count))

    jobs = make_jobs(
        {
            "job_id": [
                str(i) for i in draw(st.lists(st.integers(0, 10**9), min_size=count, max_size=count, unique=True))
            ],
            "submit_s": column(st.integers(0, 10**8).map(float) | st.floats(0, 1e8, allow_nan=False)),
            "duration_s": column(st.integers(1, 10**7).map(float) | positive),
            "requested_s": column(st.none() | positive),
            "tasks": column(st.integers(1, 10**5)),
            "cpus": [1.0] * count,
            "user": column(numbers),
            "group": column(numbers),
            "queue": column(numbers),
            "outcome": column(st.sampled_from(OUTCOMES)),
            "recorded_wait_s": column(st.none() | seconds),
        }
    )
    start = draw(st.none() | st.integers(1, 2 * 10**9).map(float))
    return Trace("t", jobs, pool(draw(st.integers(1, 10**6))), start, header={"TimeZoneString": "US/Pacific"})


@QUIET
@given(swf_trace(), st.sampled_from(["t.swf", "t.swf.gz", "t.swf.zst"]))
def test_swf_round_trip(tmp_path: Path, trace: Trace, name: str) -> None:
    write(trace, tmp_path / name)
    back = read(tmp_path / name)
    assert back.jobs.frame.equals(trace.jobs.frame)
    assert back.cluster == trace.cluster
    assert back.start_unix_s == trace.start_unix_s
    assert back.header["TimeZoneString"] == "US/Pacific"
    assert back.cleaning.rows_dropped == 0


def test_a_public_log_survives_swf_and_parquet(shared: Path, tmp_path: Path) -> None:
    trace = read(shared / "swf" / "KTH-SP2-1996-2.1-cln.swf.gz")
    for name in ("k.swf.gz", "k.parquet"):
        write(trace, tmp_path / name)
        back = read(tmp_path / name)
        assert back.jobs.frame.equals(trace.jobs.frame)
        assert (back.cluster, back.start_unix_s) == (trace.cluster, trace.start_unix_s)


def test_gpu_jobs_and_names_in_swf(tmp_path: Path) -> None:
    jobs = make_jobs(
        {
            "job_id": ["a", "b"],
            "submit_s": [0, 1],
            "duration_s": [5, 6.5],
            "tasks": [2, 1],
            "gpus": [8, 1],
            "user": ["zoe", "ann\nlee"],
            "outcome": ["killed", "failed"],
        }
    )
    write(Trace("g", jobs, pool(64, resource="gpus")), tmp_path / "g.swf")
    text = (tmp_path / "g.swf").read_text()
    assert "; Note: processors are GPUs" in text
    assert "; User: 1 ann lee\n; User: 2 zoe\n" in text
    assert "; MaxProcs: 64\n" in text
    assert text.endswith(
        "1 0 -1 5 16 -1 -1 16 -1 -1 5 2 -1 -1 -1 -1 -1 -1\n2 1 -1 6.5 1 -1 -1 1 -1 -1 0 1 -1 -1 -1 -1 -1 -1\n"
    )


def test_what_swf_cannot_hold(tmp_path: Path) -> None:
    jobs = make_jobs({"job_id": ["a"], "submit_s": [0], "duration_s": [5], "gpus": [0.5]})
    with pytest.raises(UsageError, match=r"job 'a' takes 0\.5 gpus: SWF holds whole processors only"):
        write(Trace("g", jobs, pool(1, resource="gpus")), tmp_path / "g.swf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["t", "t.txt", "t.gz"])
def test_unknown_endings(tmp_path: Path, name: str) -> None:
    jobs = make_jobs({"job_id": ["a"], "submit_s": [0], "duration_s": [5]})
    with pytest.raises(UsageError, match=r"expected a name ending in \.parquet, \.swf, \.csv"):
        write(Trace("g", jobs, pool(1)), tmp_path / name)
    with pytest.raises(UsageError, match="Parquet is compressed already"):
        write(Trace("g", jobs, pool(1)), tmp_path / "t.parquet.gz")
    with pytest.raises(OutputError, match="cannot be written"):
        write(Trace("g", jobs, pool(1)), tmp_path / "none" / "t.csv")


def test_parquet_of_other_tools(tmp_path: Path) -> None:
    frame = pl.DataFrame({"job_id": ["b", "a"], "submit_s": [2, 1], "duration_s": [1, 1], "tasks": [3, 4], "cpus": 1})
    frame.write_parquet(tmp_path / "x.parquet")
    trace = read(tmp_path / "x.parquet")
    assert trace.jobs.frame["job_id"].to_list() == ["a", "b"]
    assert trace.cluster.total("cpus") == 4  # [1, 2) holds 4 and ends as [2, 3) starts
    frame.drop("duration_s").write_parquet(tmp_path / "y.parquet")
    with pytest.raises(TraceError, match="no job table: column 'duration_s' missing"):
        read(tmp_path / "y.parquet")
    frame.with_columns(duration_s=-1).write_parquet(tmp_path / "z.parquet")
    with pytest.raises(TraceError, match="row 0, column 'duration_s': expected a finite run time"):
        read(tmp_path / "z.parquet")


def test_broken_parquet(tmp_path: Path, write_text: Write) -> None:
    jobs = make_jobs({"job_id": ["a"], "submit_s": [0], "duration_s": [5]})
    whole = parquet_bytes(Trace("g", jobs, pool(1)))
    with pytest.raises(TraceError, match="damaged or truncated Parquet file") as caught:
        read(write_text(whole[: len(whole) // 2], "t.parquet"))
    assert "\n" not in str(caught.value)
    buffer = io.BytesIO()
    jobs.frame.write_parquet(buffer, metadata={"shunter.trace": '{"version": 99}'})
    with pytest.raises(TraceError, match="written by a newer version"):
        read(write_text(buffer.getvalue(), "t.parquet"))
    buffer = io.BytesIO()
    jobs.frame.write_parquet(buffer, metadata={"shunter.trace": '{"version": 1}'})
    with pytest.raises(TraceError, match="damaged trace metadata"):
        read(write_text(buffer.getvalue(), "t.parquet"))
