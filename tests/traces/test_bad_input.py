"""Whatever a file contains, reading it gives a trace or one line that says what is wrong: never a traceback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ShunterError, TraceError, UsageError
from shunter.traces.read import read
from shunter.traces.readers.registry import FORMATS
from tests.traces.conftest import swf_row
from tests.traces.test_gpu_formats import PODS
from tests.traces.test_sacct import HEADING, line

QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ATTEMPTS = [
    {
        "id": "a",
        "num_gpus": 4,
        "submitted_time": "2017-10-07 01:00:00",
        "attempts": [{"start_time": "2017-10-07 01:00:30", "end_time": "2017-10-07 01:01:30"}],
    }
]
SAMPLES: dict[str, str] = {
    "swf": "; MaxProcs: 8\n" + "\n".join(swf_row(job=i, submit=i) for i in range(4)) + "\n",
    "sacct": "\n".join([HEADING, line("1"), line("2"), line("2.batch")]) + "\n",
    "philly-csv": "timestamp,duration,num_gpus,gpu_time,cluster\n2017-10-09 07:01:55,66.0,16,66.0,v\n" * 1,
    "philly-attempts": json.dumps(ATTEMPTS),
    "openb": PODS,
    "genparallel": "u_id,user,gpu_num,cpu_num,node_num,interval,run_time,wall_time,new_status\n0,1,1,4,1,7,84,0,Pass\n",
    "lucid": 'job_id,vc,gpu_num,submit_time,duration\n1,"a,b",1,5,6\n2,v,8,6,7\n',
    "google-2011-tasks": "5,,1,0,1,0,u,2,9,0.5,0.2,0.1,0\n6,,1,0,1,1,u,2,9,0.5,0.2,0.1,0\n9,,1,0,1,4,u,2,9,,,,0\n",
    "csv": "job_id,submit_s,duration_s,tasks,gpus\na,0,1,1,1\nb,1,1,2,1\n",
}


def outcome(path: Path, **options: object) -> str:
    """``trace``, or the one-line message of the refusal."""
    try:
        read(path, **options)  # type: ignore[arg-type]
    except ShunterError as problem:
        message = str(problem)
    else:
        message = "trace"
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_samples_are_good(write_text: Callable[..., Path], name: str) -> None:
    path = write_text(SAMPLES[name])
    assert read(path).format == name


@QUIET
@given(st.binary(max_size=400))
@example(b"\xff\xfe1\x002\x00")
@example(b"PAR1")
@example(b"PAR1" + b"\x00" * 40 + b"PAR1")
@example(b"[" * 3000)
@example(b'[{"attempts": 1, "submitted_time": 2}]')
@example(b"\x1f\x8b")
@example(b" \n\n  \n")
@example(b'"\n')
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(data)
    assert outcome(path)


@QUIET
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.tuples(st.integers(0, 400), st.integers(0, 30)),
    st.sampled_from(["", "x", "nan", "-1", "-7", "1e999", ",", "\n", '"', "|", "\t", ";", " ", "é", "\r", "[", "0"]),
    st.booleans(),
)
def test_damaged_samples(tmp_path: Path, name: str, place: tuple[int, int], instead: str, skip: bool) -> None:
    start, length = place
    text = SAMPLES[name]
    path = tmp_path / "damaged"
    path.write_text(text[:start] + instead + text[start + length :], newline="")
    assert outcome(path, skip_bad=skip)
    assert outcome(path, format=name, skip_bad=skip)


@QUIET
@given(st.sampled_from([entry.name for entry in FORMATS]), st.sampled_from(sorted(SAMPLES)))
def test_the_wrong_reader(tmp_path: Path, reader: str, sample: str) -> None:
    path = tmp_path / "file"
    path.write_text(SAMPLES[sample])
    assert outcome(path, format=reader)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (b"\n\n\n", "no content but blank lines"),
        (bytes(range(256)) * 10, "binary content"),
        (b"\x01\x02\x03\x04\x05\x06\x07" * 50, "binary content .it is full of control characters"),
        (b"a" * 257 + b"ustar" + b"\0" * 300, "a tar archive"),
        (b"hello world\n", r":1: format not recognised, got 'hello world'"),
    ],
)
def test_contents_that_are_no_trace(write_text: Callable[..., Path], content: bytes, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read(write_text(content))


def test_unknown_format(write_text: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="unknown trace format 'slurm'"):
        read(write_text(SAMPLES["swf"]), format="slurm")
    with pytest.raises(UsageError, match="did you mean 'swf'"):
        read(write_text(SAMPLES["swf"]), format="swff")


def test_many_bad_rows_are_counted_and_the_first_is_shown(write_text: Callable[..., Path]) -> None:
    rows = [swf_row(job=i, run="x" if i % 2 else 5) for i in range(100)]
    path = write_text("\n".join(rows))
    with pytest.raises(TraceError, match=r":2:4: run_s: .* got 'x' \(and 49 more bad rows; --skip-bad leaves them out"):
        read(path)
    cleaning = read(path, skip_bad=True).cleaning
    assert cleaning.rows_dropped == 50
    assert len(cleaning.bad_rows) == 20
    assert cleaning.rows_read == 100


def test_a_byte_order_mark_is_no_part_of_the_file(write_text: Callable[..., Path]) -> None:
    for name in ("swf", "csv", "lucid"):
        path = write_text(b"\xef\xbb\xbf" + SAMPLES[name].encode())
        assert read(path).format == name
