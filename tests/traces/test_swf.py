from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.scheduler.errors import TraceError
from shunter.traces.read import read
from shunter.traces.readers.swf import FIELDS, leading_integer, parse_header, read_swf_table
from tests.traces.conftest import swf_row

HEADER = """\
; Version: 2.2
; Computer: Test machine
; UnixStartTime: 893466664
; TimeZoneString: US/Pacific
; MaxNodes: 338 (430 after the upgrade)
; MaxProcs: 338
; Note: first line
;       and its continuation
; Queue: 0 interactive
; Queue: 1 batch
"""


def test_header_values_may_carry_text_and_repeat() -> None:
    header = parse_header(HEADER.splitlines())
    assert leading_integer(header["MaxNodes"]) == 338
    assert header["Note"] == "first line and its continuation"
    assert header["Queue"] == "0 interactive\n1 batch"
    assert leading_integer(header.get("MaxRuntime")) is None


def test_a_log_becomes_a_trace(write_text: Callable[..., Path]) -> None:
    rows = [
        swf_row(job=1, submit=10, run=60, alloc=4, req=8, limit=120, wait=5, user=3, status=1),
        swf_row(job=2, submit=20, run=30, alloc=4, req=-1, limit=-1, wait=-1, user=-1, status=0),
        swf_row(job=3, submit=30, run=1, alloc=-1, req=2, limit=0, status=5),
        swf_row(job=4, submit=40, run=0),
        swf_row(job=5, submit=50, run=-1),
        swf_row(job=6, submit=60, alloc=-1, req=0),
    ]
    trace = read(write_text(HEADER + "\n".join(rows) + "\n", "log.swf"))
    frame = trace.jobs.frame
    assert frame["job_id"].to_list() == ["1", "2", "3"]
    assert frame["submit_s"].to_list() == [10.0, 20.0, 30.0]  # the log's own clock is kept
    assert frame["tasks"].to_list() == [8, 4, 2]  # requested, or allocated where that is unknown
    assert frame["cpus"].to_list() == [1.0, 1.0, 1.0]
    assert frame["requested_s"].to_list() == [120.0, None, None]
    assert frame["recorded_wait_s"].to_list() == [5.0, None, 5.0]
    assert frame["outcome"].to_list() == ["completed", "failed", "killed"]
    assert frame["user"].to_list() == ["3", None, "3"]
    assert (frame["group"][0], frame["queue"][0]) == ("7", "2")
    assert trace.cluster.total("cpus") == 338
    assert trace.start_unix_s == 893466664
    assert (trace.name, trace.format) == ("log", "swf")
    assert trace.cleaning.rows_read == 6
    assert trace.cleaning.rows_dropped == 3
    assert dict(trace.cleaning.adjusted) == {
        "requested processors unknown: allocated ones taken": 1,
        "requested time unknown (0 or less)": 2,
    }


def test_parts_of_a_checkpointed_job_are_counted_once(write_text: Callable[..., Path]) -> None:
    rows = [swf_row(job=1, status=1, run=100), swf_row(job=1, status=2, run=40), swf_row(job=1, status=3, run=60)]
    trace = read(write_text("\n".join(rows)))
    assert trace.jobs.frame["duration_s"].to_list() == [100.0]
    assert trace.cleaning.dropped == {"part of a checkpointed job that is listed as a whole": 2}


def test_without_a_header_the_size_is_the_peak_of_the_recorded_schedule(write_text: Callable[..., Path]) -> None:
    # Jobs hold 4 in [5, 65), 4 in [15, 75), 3 in [65, 125): at 65 the first has just ended, so the peak is 8.
    rows = [
        swf_row(job=1, submit=0, wait=5, req=4),
        swf_row(job=2, submit=10, wait=5, req=4),
        swf_row(job=3, submit=60, wait=5, req=3),
    ]
    trace = read(write_text("\n".join(rows)))
    assert trace.cluster.total("cpus") == 8
    assert "recorded schedule" in trace.header["cluster_note"]
    alone = read(write_text(swf_row(req=50)))
    assert alone.cluster.total("cpus") == 50


def test_max_nodes_stands_in_for_max_procs(write_text: Callable[..., Path]) -> None:
    trace = read(write_text("; Version: 2\n; MaxNodes: 256\n" + swf_row()))
    assert trace.cluster.total("cpus") == 256
    assert "MaxNodes" in trace.header["cluster_note"]


def test_unix_submit_times_are_counted_from_the_first(write_text: Callable[..., Path]) -> None:
    rows = [swf_row(job=1, submit=1356996147), swf_row(job=2, submit=1356996247)]
    trace = read(write_text("\n".join(rows)))
    assert trace.jobs.frame["submit_s"].to_list() == [0.0, 100.0]
    assert trace.start_unix_s == 1356996147


def test_more_fields_decimals_tabs_comments_and_line_ends(write_text: Callable[..., Path]) -> None:
    lines = [
        "; MaxProcs: 16",
        "  " + swf_row(job=1, submit="10.5", run="60.25").replace(" ", "\t ") + " {1,2} q_1d 1:ppn=4",
        "",
        "; a comment in between",
        swf_row(job=2, submit=20) + " {3} q_2w x",
    ]
    path = write_text("\r\n".join(lines) + "\r\n")
    table = read_swf_table(path)
    assert table.lines.tolist() == [2, 5]
    assert table.frame["submit_s"].to_list() == [10.5, 20.0]
    trace = read(path)
    assert trace.jobs.frame["duration_s"].to_list() == [60.25, 60.0]
    assert "3 fields beyond" in trace.header["extra_fields_note"]


def test_the_raw_table_has_all_rows_and_fields(write_text: Callable[..., Path]) -> None:
    rows = [swf_row(job=9, run=-1), swf_row(job=3, run=0, alloc="1.5")]
    header, frame, lines = read_swf_table(write_text(HEADER + "\n".join(rows)))
    assert tuple(frame.columns) == FIELDS
    assert frame["job"].to_list() == [9, 3]
    assert str(frame["requested"].dtype) == "Int64"
    assert frame["allocated"].to_list() == [4.0, 1.5]  # a field with fractions stays a float
    assert header["MaxProcs"] == "338"
    assert lines.tolist() == [11, 12]


def test_a_job_larger_than_the_machine_is_kept(write_text: Callable[..., Path]) -> None:
    trace = read(write_text("; MaxProcs: 4\n" + swf_row(req=64)))
    assert trace.jobs.frame["tasks"].to_list() == [64]


BAD = {
    "no number": (swf_row(run="abc"), r":2:4: run_s: expected a finite number, got 'abc'"),
    "NaN": (swf_row(submit="nan"), r":2:2: submit_s: expected a finite number, got 'nan'"),
    "infinite": (swf_row(limit="inf"), r":2:9: requested_s: expected a finite number, got 'inf'"),
    "too few": ("1 2 3", r":2:3: expected 18 fields, got '3'"),
    "negative submit": (swf_row(submit=-5), r":2:2: submit_s: expected a submit time of at least 0, got '-5'"),
    "negative run": (swf_row(run=-7), r":2:4: run_s: expected a run time of at least 0, or -1, got '-7'"),
    "negative limit": (swf_row(limit=-9), r":2:9: requested_s: .* got '-9'"),
    "repeated": (swf_row(job=1), r":2:1: job_id: the identifier occurred on an earlier line, got '1'"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_bad_row_is_named_and_can_be_skipped(write_text: Callable[..., Path], case: str) -> None:
    row, message = BAD[case]
    row = row if case == "repeated" else row.replace("1 ", "2 ", 1)
    path = write_text("\n".join([swf_row(job=1), row, swf_row(job=3)]))
    with pytest.raises(TraceError, match=message):
        read(path)
    trace = read(path, skip_bad=True)
    assert trace.jobs.frame["job_id"].to_list() == ["1", "3"]
    assert trace.cleaning.rows_dropped == 1
    assert [row.line for row in trace.cleaning.bad_rows] == [2]
    assert trace.cleaning.rows_read == 3


def test_only_comments_or_nothing_usable(write_text: Callable[..., Path]) -> None:
    with pytest.raises(TraceError, match="no job lines"):
        read(write_text(HEADER))
    with pytest.raises(TraceError, match=r"no usable job among 1 rows \(1 never ran"):
        read(write_text(swf_row(run=0)))


def test_a_cluster_given_by_the_caller_wins(write_text: Callable[..., Path]) -> None:
    from shunter.traces.tables import pool

    assert read(write_text(HEADER + swf_row()), cluster=pool(7)).cluster.total("cpus") == 7


KEPT = {
    "SDSC-SP2-1998-4.2-cln": (54_034, 128),
    "CTC-SP2-1996-3.1-cln": (77_205, 338),
    "KTH-SP2-1996-2.1-cln": (28_467, 100),
    "CEA-Curie-2011-2.1-cln": (295_540, 93_312),
    "RICC-2010-2": (447_784, 8192),
    "lublin_256": (10_000, 256),
}
"""Jobs with a run time above 0 and a known size, counted with awk on the raw files, and processors."""


@pytest.mark.parametrize("name", sorted(KEPT))
def test_public_logs(shared: Path, name: str) -> None:
    jobs, processors = KEPT[name]
    trace = read(shared / "swf" / f"{name}.swf.gz")
    assert len(trace.jobs) == jobs
    assert trace.cluster.total("cpus") == processors
    assert len(trace.jobs) + trace.cleaning.rows_dropped == trace.cleaning.rows_read


def test_a_log_with_impossible_times_is_refused_unless_asked(shared: Path) -> None:
    path = shared / "swf" / "CERIT-SC-wagap-2013-alea.swf.gz"
    with pytest.raises(TraceError, match=r":4186:4: run_s: .* got '-1359980917'"):
        read(path)
    assert len(read(path, skip_bad=True).jobs) == 17_898


def test_truncated_log(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "swf" / "lublin_256.swf.gz").read_bytes()
    path = tmp_path / "cut.swf.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match="truncated gzip file"):
        read(path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-20]))  # the last line ends early
    with pytest.raises(TraceError, match=r":10\d\d\d:\d+: expected 18 fields"):
        read(path)
