from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.scheduler.errors import TraceError
from shunter.traces.read import read

HEADING = (
    "JobID|User|Account|Partition|QOS|Priority|Submit|Start|End|ElapsedRaw|Timelimit|NNodes|NCPUS|ReqMem|ReqTRES|"
    "AllocTRES|State"
)


def line(job: str, **changes: str) -> str:
    """One accounting row; columns that are not given have usual values."""
    usual = {
        "User": "ann",
        "Account": "physics",
        "Partition": "gpu",
        "QOS": "normal",
        "Priority": "1000",
        "Submit": "2024-01-15T10:00:00",
        "Start": "2024-01-15T10:01:00",
        "End": "2024-01-15T11:01:00",
        "ElapsedRaw": "3600",
        "Timelimit": "1-02:03:04",
        "NNodes": "1",
        "NCPUS": "4",
        "ReqMem": "16G",
        "ReqTRES": "billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=16G,node=1",
        "AllocTRES": "billing=4,cpu=4,gres/gpu:a100=2,gres/gpu=2,mem=16G,node=1",
        "State": "COMPLETED",
    }
    return "|".join([job, *(usual | changes).values()])


def test_accounting_becomes_a_trace(write_text: Callable[..., Path]) -> None:
    rows = [
        line("1"),
        line("1.batch", User="", Partition="", Timelimit=""),
        line("1.extern", User=""),
        line("2_4", Timelimit="UNLIMITED", Submit="2024-01-15T10:00:30", State="CANCELLED by 1000"),
        line("3+0", Timelimit="Partition_Limit", State="TIMEOUT", ReqTRES="cpu=8,mem=500M,node=2", AllocTRES=""),
        line("4", State="PENDING", Start="Unknown", End="Unknown", ElapsedRaw="0"),
        line("5", State="RUNNING", End="Unknown"),
        line("6", State="CANCELLED by 7", Start="None", ElapsedRaw="0"),
        line("7", ElapsedRaw="0", State="NODE_FAIL"),
        line("8", State="OUT_OF_MEMORY", ReqTRES="", AllocTRES="", ReqMem="4000Mc"),
    ]
    trace = read(write_text("\n".join([HEADING, *rows]) + "\n"))
    frame = trace.jobs.frame.sort("job_id")
    assert trace.format == "sacct"
    assert frame["job_id"].to_list() == ["1", "2_4", "3+0", "8"]
    assert frame["submit_s"].to_list() == [0.0, 30.0, 0.0, 0.0]
    assert trace.start_unix_s == 1705312800.0  # 2024-01-15 10:00:00 read as UTC
    assert frame["recorded_wait_s"].to_list() == [60.0, 30.0, 60.0, 60.0]
    assert frame["duration_s"].to_list() == [3600.0] * 4
    assert frame["requested_s"].to_list() == [86400 + 2 * 3600 + 3 * 60 + 4, None, None, 93784.0]
    assert frame["tasks"].to_list() == [1, 1, 2, 1]
    assert frame["cpus"].to_list() == [4.0, 4.0, 4.0, 4.0]
    assert frame["gpus"].to_list() == [2.0, 2.0, 0.0, 0.0]
    assert frame["memory_gib"].to_list() == pytest.approx([16.0, 16.0, 250 / 1024, 4 * 4000 / 1024])
    assert frame["gpu_type"].to_list() == ["a100", "a100", None, None]
    assert frame["outcome"].to_list() == ["completed", "killed", "killed", "failed"]
    assert (frame["user"][0], frame["group"][0], frame["queue"][0]) == ("ann", "physics", "gpu")
    assert frame["priority"][0] == 1000.0
    assert trace.cleaning.dropped == {
        "job step (.batch, .extern, .0 ...)": 2,
        "never started": 2,
        "still running when the log was taken": 1,
        "never ran (run time of 0 or unknown)": 1,
    }
    assert trace.cleaning.adjusted["component of a heterogeneous job: a job of its own"] == 1
    assert trace.cluster.total("cpus") == 20
    assert trace.cluster.total("gpus") == 4


def test_every_run_of_a_requeued_job_gets_a_name(write_text: Callable[..., Path]) -> None:
    rows = [line("5", State="NODE_FAIL"), line("5"), line("5")]
    trace = read(write_text("\n".join([HEADING, *rows])))
    assert trace.jobs.frame["job_id"].to_list() == ["5", "5#2", "5#3"]


def test_uneven_resources_are_rounded_up_per_task(write_text: Callable[..., Path]) -> None:
    rows = [
        line("1", AllocTRES="cpu=100,node=3", ReqTRES=""),  # one task a CPU
        line("2", AllocTRES="cpu=10,node=4,gres/gpu=4", ReqTRES=""),  # one task a node, 3 CPUs each
        line("3", AllocTRES="cpu=10,node=2,gres/gpu=3", ReqTRES=""),  # one task a GPU, 4 CPUs each
    ]
    frame = read(write_text("\n".join([HEADING, *rows]))).jobs.frame
    assert frame["tasks"].to_list() == [100, 4, 3]
    assert frame["cpus"].to_list() == [1.0, 3.0, 4.0]
    assert frame["gpus"].to_list() == [0.0, 1.0, 1.0]


def test_few_columns_old_units_and_elapsed_as_a_clock(write_text: Callable[..., Path]) -> None:
    text = (
        "JobID|Submit|Start|Elapsed|NCPUS|NNodes|ReqMem|State|TimelimitRaw|\n"
        "1|1705312800|1705312860|1-00:00:10|8|2|2Gn|COMPLETED|90|\n"
        "2|1705312801|1705312860|05:30|1|1|512|COMPLETED||\n"
    )
    frame = read(write_text(text)).jobs.frame
    assert frame["duration_s"].to_list() == [86410.0, 330.0]
    assert frame["memory_gib"].to_list() == [2.0, 0.5]
    assert frame["requested_s"].to_list() == [5400.0, None]
    assert frame["tasks"].to_list() == [2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Submit": "yesterday"}, r":2:7: column 'Submit': expected a time such as .*, got 'yesterday'"),
        ({"ElapsedRaw": "-5"}, r":2:10: column 'ElapsedRaw': expected a number of at least 0, got '-5'"),
        ({"Timelimit": "soon"}, r":2:11: column 'Timelimit': expected a time such as 1-02:03:04, got 'soon'"),
        ({"Priority": "high"}, r":2:6: column 'Priority': expected a number"),
        ({"State": "COMPLETED|x"}, r":2:17: expected 17 columns, got '18'"),
    ],
)
def test_bad_cells(write_text: Callable[..., Path], changes: dict[str, str], message: str) -> None:
    path = write_text("\n".join([HEADING, line("1", **changes), line("2")]))
    with pytest.raises(TraceError, match=message):
        read(path)
    assert read(path, skip_bad=True).jobs.frame["job_id"].to_list() == ["2"]


def test_columns_that_are_needed(write_text: Callable[..., Path]) -> None:
    with pytest.raises(TraceError, match="column 'Submit' missing"):
        read(write_text("JobID|State\n1|COMPLETED\n"))
    with pytest.raises(TraceError, match="a run time is needed"):
        read(write_text("JobID|Submit|NCPUS\n1|2024-01-15T10:00:00|4\n"))
