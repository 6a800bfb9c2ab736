from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.scheduler.errors import ConfigError, TraceError
from shunter.traces.read import read
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool
from shunter.traces.write import write

Write = Callable[..., Path]

TABLE = """JobID;Submitted;Minutes;Limit;GPUs;CPUs;Who;End state
a;2024-01-15 10:00:00;2;1;16;32;ann;Pass
b;2024-01-15 10:00:30;1.5;-1;1;4;bob;Killed
"""
MAPPING = """
name: my-cluster
separator: ";"
cluster: 4x8gpus
columns:
  job_id: JobID
  submit_s: {column: Submitted, format: "%Y-%m-%d %H:%M:%S"}
  duration_s: {column: Minutes, unit: min}
  requested_s: {column: Limit, unit: h, missing: ["-1"]}
  gpus_total: GPUs
  cpus_total: CPUs
  user: Who
  outcome: {column: End state, values: {Pass: completed, Killed: killed}}
constants: {priority: 3, preemptible: true}
"""


def test_a_mapped_table(write_text: Write) -> None:
    trace = read(write_text(TABLE), mapping=write_text(MAPPING, "map.yaml"))
    frame = trace.jobs.frame
    assert (trace.name, trace.format, trace.cluster.name) == ("my-cluster", "csv", "4x8 gpus")
    assert frame["submit_s"].to_list() == [0.0, 30.0]
    assert trace.start_unix_s == 1705312800.0
    assert frame["duration_s"].to_list() == [120.0, 90.0]
    assert frame["requested_s"].to_list() == [3600.0, None]
    assert frame["tasks"].to_list() == [2, 1]
    assert frame["cpus"].to_list() == [16.0, 4.0]
    assert frame["outcome"].to_list() == ["completed", "killed"]
    assert frame["priority"].to_list() == [3.0, 3.0]
    assert frame["preemptible"].to_list() == [True, True]


def test_start_end_intervals_and_scales(write_text: Write) -> None:
    text = "gap,begin,finish,n\n0,5,65,4\n10000,12,42,2\n5000,20,20,1\n"
    mapping = """
columns:
  interval_s: {column: gap, unit: ms}
  start_s: {column: begin, scale: 1}
  end_s: {column: finish, scale: 1}
  tasks: n
constants: {cpus: 1}
"""
    trace = read(write_text(text), mapping=write_text(mapping, "map.yaml"))
    frame = trace.jobs.frame
    assert frame["job_id"].to_list() == ["0", "1"]
    assert frame["submit_s"].to_list() == [0.0, 10.0]
    assert frame["duration_s"].to_list() == [60.0, 30.0]
    assert frame["recorded_wait_s"].to_list() == [5.0, 2.0]
    assert trace.cluster.total("cpus") == 6
    assert trace.cleaning.rows_dropped == 1


def sample() -> Trace:
    jobs = make_jobs(
        {
            "job_id": ["x", "y, z"],
            "submit_s": [0.1, 1 / 3],
            "duration_s": [0.0, 1e9 / 7],
            "requested_s": [None, 5.0],
            "tasks": [1, 3],
            "gpus": [0.5, 2.0],
            "memory_gib": [1.0, None],
            "user": [None, 'a "b"'],
            "preemptible": [True, False],
            "deadline_s": [None, 7.25],
        }
    )
    return Trace(name="s", jobs=jobs, cluster=pool(8, resource="gpus"))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".csv.xz"])
def test_canonical_csv_round_trip(tmp_path: Path, ending: str) -> None:
    trace = sample()
    write(trace, tmp_path / f"t{ending}")
    back = read(tmp_path / f"t{ending}")
    assert back.jobs.frame.equals(trace.jobs.frame)
    assert back.name == "t"
    assert "peak" in back.header["cluster_note"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("duration_s: {column: Minutes, unit: min}", "durations: Minutes"),
            "unknown canonical column 'durations'; did",
        ),
        (("unit: min", "unit: fortnight"), r"columns.duration_s.unit: input should be .* got 'fortnight'"),
        (("unit: h,", "unit: h, scale: 2,"), "columns.requested_s: only one of unit, scale, format"),
        (("separator", "seperator"), "seperator: unknown key; did you mean 'separator'"),
        (("  job_id: JobID", "  job_id: {col: JobID}"), "columns.job_id.column: field required; columns.job_id.col:"),
        (("  submit_s:", "  start_s:"), "submit_s .or interval_s. is needed"),
        (("priority: 3", "user: me"), "'user' is both a column and a constant"),
    ],
)
def test_mapping_mistakes(write_text: Write, change: tuple[str, str], message: str) -> None:
    assert change[0] in MAPPING
    path = write_text(MAPPING.replace(*change), "map.yaml")
    with pytest.raises(ConfigError, match=message) as caught:
        read(write_text(TABLE), mapping=path)
    assert "\n" not in str(caught.value)


def test_all_problems_of_a_mapping_are_told_at_once(write_text: Write) -> None:
    path = write_text("columns:\n  submit_s: {column: 5, unit: x}\n  cpus: {}\nextra: 1\n", "map.yaml")
    with pytest.raises(ConfigError) as caught:
        read(write_text(TABLE), mapping=path)
    for part in ("columns.submit_s.column", "columns.submit_s.unit", "columns.cpus.column", "extra: unknown key"):
        assert part in str(caught.value)


def test_yaml_that_is_none(write_text: Write) -> None:
    with pytest.raises(ConfigError, match=r"map.yaml:1:\d+: no valid YAML"):
        read(write_text(TABLE), mapping=write_text("a: [1, 2", "map.yaml"))
    with pytest.raises(ConfigError, match="expected keys and values, got list"):
        read(write_text(TABLE), mapping=write_text("- 1", "map.yaml"))
    with pytest.raises(ConfigError, match="no such file"):
        read(write_text(TABLE), mapping=Path("none.yaml"))


def test_data_that_does_not_fit_the_mapping(write_text: Write) -> None:
    mapping = write_text(MAPPING, "map.yaml")
    with pytest.raises(TraceError, match=r":1: column 'Minutes' missing; the file has: JobID, Submitted, Mins"):
        read(write_text(TABLE.replace("Minutes", "Mins")), mapping=mapping)
    with pytest.raises(TraceError, match=r":3:8: column 'End state': expected one of completed.* got 'Lost'"):
        read(write_text(TABLE.replace("Killed", "Lost")), mapping=mapping)
    with pytest.raises(TraceError, match=r":2:2: column 'Submitted': expected a time such as '2021-03-14 15:09:26'"):
        read(write_text(TABLE.replace("2024-01-15 10:00:00", "15.1.2024")), mapping=mapping)


def test_an_unknown_table_asks_for_a_mapping(write_text: Write) -> None:
    with pytest.raises(TraceError, match=r":1: format not recognised, got 'a,b'; name it with --format, or describe"):
        read(write_text("a,b\n1,2\n"))
    with pytest.raises(TraceError, match="columns job_id, submit_s, duration_s missing; give a column mapping"):
        read(write_text("a,b\n1,2\n"), format="csv")


def test_canonical_rules_are_checked_with_lines(write_text: Write) -> None:
    text = "job_id,submit_s,duration_s,tasks,gpus\na,0,1,1,1\nb,1,1,0,1\nc,2,1,1,1.5\na,3,1,1,1\n"
    path = write_text(text)
    with pytest.raises(TraceError, match=r":3:1: tasks: expected at least one task, got '0'"):
        read(path)
    trace = read(path, skip_bad=True)
    assert trace.jobs.frame["job_id"].to_list() == ["a"]
    assert [row.line for row in trace.cleaning.bad_rows] == [3, 4, 5]


def test_a_group_keeps_its_fields_when_a_cluster_is_given(write_text: Write) -> None:
    spec = ClusterSpec(name="c", groups=(NodeGroup(name="n", count=2, gpus=8.0),))
    text = "job_id,submit_s,duration_s\na,0,1\n"
    assert read(write_text(text), cluster=spec).cluster is spec
