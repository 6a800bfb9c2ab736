"""Files of load series: every published kind reads to its own facts, and every bad file is refused in one line."""

from __future__ import annotations

import gzip
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ShunterError, TraceError, UsageError
from shunter.traces import LoadSeries, read, read_series, write_series
from shunter.traces.series.formats import FORMATS, virtual_cluster
from shunter.traces.series_readers import format_of

WriteText = Callable[..., Path]

EARTH = "time,running_job_num,pending_job_num,running_gpu_num,pending_gpu_num,idle_gpu_num,gpu_utilization"
SAMPLES = {
    "helios-throughput": (
        "time,submit_job_all,start_job_all,end_job_all,start_gpu_num,end_gpu_num\n"
        "2020-04-01 00:00:00,5,4,1,8,2\n2020-04-01 00:10:00,0,1,4,1,10\n2020-04-01 00:20:00,1,2,0,4,0\n"
    ),
    "helios-sequence": f"{EARTH}\n2020-05-01 00:00:00,3,1,9,8,7,0.5\n2020-05-01 00:01:00,4,0,12,0,4,0.75\n",
    "philly-nodes": "time,active,total\n2017-10-03 00:00:00,312,420\n2017-10-03 00:01:00,309,420\n",
    "spot-hourly": (
        "hour,jobs_active,gpus_active_requested,capacity_gpus,demand_capacity_ratio\n0,10.0,20.5,40,0.5125\n1,9.0,18,40,0.45\n"
    ),
    "spot-models": "hour,A10,H800\n0,20.5,3\n1,18,0\n",
    "spot-submissions": "submit_hour,jobs,gpu_seconds,gpu_demand\n0,10,99.5,20\n1,3,9,2\n",
    "genai-containers": (
        "value,timestamp_anon,container_ip\n50.0,1662858720.0,aa\n25.0,1662858777.0,aa\n10,1662858720.0,\n"
    ),
    "bitbrains": (
        "id,timestamp,duration,cpu_count,cpu_usage\n7,2013-08-12T13:40:46Z,300000,2,11.5\n7,2013-08-12T13:45:46Z,300000,2,0\n"
    ),
    "carbon-intensity": "timestamp,carbon_intensity\n2022-01-01T00:00:00Z,164.5\n2022-01-01T00:15:00Z,162.9\n",
    "marenostrum": "2015-05-24 21:01:30,4.57e+04\n2015-05-24 21:03:00,nan\n2015-05-24 21:04:30,4.5e+04\n",
    "supercloud-cpu": (
        "Step,Node,Series,ElapsedTime,EpochTime,CPUUtilization,RSS,ReadMB,WriteMB\n"
        "-1,n1,0,0,1611618180,50.0,1048576,0,0\nbatch,n1,0,0,1611618180,150.0,1048576,1,2\nbatch,n1,0,10,1611618190,99,0,0,0\n"
    ),
    "series-csv": "time_s,node,load,jobs\n0,a,1,2\n0,b,3,4\n60,a,5,\n60,b,7,8\n",
}


def first(series: LoadSeries) -> list[float]:
    """The first node's and feature's points."""
    return [float(value) for value in series.values[:, 0, 0]]


def message(path: Path | list[Path], **options: object) -> str:
    """The one-line message of the refusal."""
    with pytest.raises(ShunterError) as caught:
        read_series(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_format_has_a_sample_here() -> None:
    assert set(SAMPLES) == {entry.name for entry in FORMATS} - {"series-parquet"}


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_format_is_told_by_its_content_whatever_the_name(write_text: WriteText, name: str) -> None:
    data = gzip.compress(SAMPLES[name].encode())
    series = read_series(write_text(data, "download.bin"), step_s=None)
    assert series.facts["format"] == name
    assert series.facts["dropped"] == {}
    assert len(series.facts["source_sha256"]) == 64


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_load_series_is_no_list_of_jobs(write_text: WriteText, name: str) -> None:
    with pytest.raises(TraceError, match="a load series, not a list of jobs"):
        read(write_text(SAMPLES[name]))


def test_running_gpus_are_starts_minus_ends_lifted_to_zero(write_text: WriteText) -> None:
    series = read_series(write_text(SAMPLES["helios-throughput"], "saturn_throughput.csv"))
    # 8 − 2 = 6, then 6 + 1 − 10 = −3, then −3 + 4 = 1: at least 3 GPUs ran before.
    assert first(series) == [9.0, 0.0, 4.0]
    assert series.features[:3] == ("running_gpus", "running_jobs", "submit_job_all")
    assert series.units[:3] == ("gpus", "jobs", "jobs")
    assert series.facts["running_before"] == {"running_gpus": 3.0, "running_jobs": 0.0}
    assert series.nodes == ("saturn",)
    assert series.begin_s == 1585699200.0  # 2020-04-01 00:00 UTC
    assert (series.step_s, series.dated) == (600.0, True)


def test_running_gpus_do_not_depend_on_the_order_of_the_rows_or_on_the_cut_into_files(write_text: WriteText) -> None:
    whole = read_series(write_text(SAMPLES["helios-throughput"], "w.csv"))
    heading, *rows = SAMPLES["helios-throughput"].splitlines()
    parts = [write_text("\n".join([heading, *cut]) + "\n", f"w{i}.csv") for i, cut in enumerate((rows[2:], rows[:2]))]
    np.testing.assert_array_equal(read_series(parts).values, whole.values)


def test_a_virtual_cluster_is_named_by_the_file_or_its_folder(tmp_path: Path, write_text: WriteText) -> None:
    series = read_series(write_text(SAMPLES["helios-sequence"], "earth_sequence_vc3sl_2020-05.csv"))
    assert series.nodes == ("vc3sl",)
    assert series.features == (
        "gpu_utilization", "running_gpu_num", "pending_gpu_num", "running_job_num", "pending_job_num", "idle_gpu_num",
    )  # fmt: skip
    assert series.units == ("ratio", "gpus", "gpus", "jobs", "jobs", "gpus")
    assert virtual_cluster(tmp_path / "vchbv" / "cluster_sequence_vc.csv") == "vchbv"
    assert virtual_cluster(tmp_path / "x" / "june.csv.gz") == "june"


def test_several_virtual_clusters_are_one_series(tmp_path: Path) -> None:
    for name, shift in (("vcaaa", 0), ("vcbbb", 1)):
        text = SAMPLES["helios-sequence"].replace("00:01:00", "00:02:00") if shift else SAMPLES["helios-sequence"]
        (tmp_path / f"earth_sequence_{name}_2020-05.csv").write_text(text)
    (tmp_path / "notes.txt").write_text("nothing here")
    series = read_series(tmp_path, step_s=60.0, feature="running_job_num")
    assert series.nodes == ("vcaaa", "vcbbb")
    assert series.features[0] == "running_job_num"
    np.testing.assert_array_equal(series.values[:, :, 0], [[3, 3], [4, np.nan], [np.nan, 4]])
    assert series.name == tmp_path.name
    assert len(series.facts["files"]) == 2


def test_a_row_of_bitbrains_stands_for_as_many_samples_as_it_says(write_text: WriteText) -> None:
    heading = "id,timestamp,duration,cpu_count,cpu_usage\n"
    rows = [
        "7,2013-08-12T13:40:46Z,300000,2,11.5",
        "7,2013-08-12T13:55:47Z,900000,2,3",  # three equal samples, the last one a second late
        "7,2013-08-12T14:10:46Z,300000,2,5",  # what was at 14:00 and 14:05 is not told
        "9,2013-08-12T13:50:46Z,7800000,2,1",  # since long before the file begins
    ]
    series = read_series(write_text(heading + "\n".join(rows) + "\n"))
    nan = np.nan
    np.testing.assert_array_equal(
        series.values[:, :, 0].T, [[11.5, 3, 3, 3, nan, nan, 5], [1, 1, 1, nan, nan, nan, nan]]
    )
    assert (series.step_s, series.facts["samples"], series.facts["rows_read"]) == (300.0, 8, 4)
    assert (series.facts["duplicates"], series.facts["out_of_order"]) == (0, 0)
    assert ":2:3: column 'duration'" in message(write_text(heading + rows[0].replace("300000", "long")))


def test_models_of_gpus_are_nodes(write_text: WriteText) -> None:
    series = read_series(write_text(SAMPLES["spot-models"]))
    assert (series.nodes, series.features) == (("A10", "H800"), ("gpus_active_requested",))
    np.testing.assert_array_equal(series.values[..., 0], [[20.5, 3], [18, 0]])
    assert (series.step_s, series.dated, series.begin_s) == (3600.0, False, 0.0)


def test_duty_cycles_are_ratios_and_rows_without_a_container_the_services(write_text: WriteText) -> None:
    series = read_series(write_text(SAMPLES["genai-containers"], "pod_gpu_duty_cycle_anon.csv"))
    assert (series.nodes, series.features, series.units) == (("aa", "service"), ("gpu_duty_cycle",), ("ratio",))
    np.testing.assert_allclose(series.values[..., 0], [[0.5, 0.1], [0.25, np.nan]])
    assert not series.dated
    memory = write_text(
        "timestamp_anon,value,container_ip\n1662858720,2147483648,aa\n", "pod_gpu_memory_used_bytes.csv"
    )
    assert first(read_series(memory, step_s=57.0)) == [2.0]


def test_files_of_one_kind_with_other_quantities_become_features(write_text: WriteText) -> None:
    duty = write_text(SAMPLES["genai-containers"], "pod_gpu_duty_cycle_anon.csv")
    text = "timestamp_anon,value,container_ip\n1662858777,1073741824,aa\n1662858720,2147483648,aa\n"
    memory = write_text(text, "pod_gpu_memory_used_bytes_anon.csv")
    series = read_series([duty, memory])
    assert series.features == ("gpu_duty_cycle", "gpu_memory_used")
    np.testing.assert_allclose(series.values[:, 0], [[0.5, 2.0], [0.25, 1.0]])
    assert (series.facts["duplicates"], series.facts["out_of_order"]) == (0, 1)
    assert series.name == "pod_gpu"


def test_steps_of_a_job_are_added_up_on_its_node(write_text: WriteText) -> None:
    series = read_series(write_text(SAMPLES["supercloud-cpu"]))
    assert series.features == ("cpu_utilization", "rss", "read_mb", "write_mb")
    np.testing.assert_allclose(series.values[:, 0], [[2.0, 2.0, 1.0, 2.0], [0.99, 0, 0, 0]])


def test_nan_and_empty_cells_were_not_measured(write_text: WriteText) -> None:
    assert math.isnan(first(read_series(write_text(SAMPLES["marenostrum"])))[1])
    series = read_series(write_text(SAMPLES["series-csv"]))
    assert math.isnan(series.values[1, 0, 1])
    assert not series.dated


def test_bad_rows_are_told_with_their_place_or_left_out_and_counted(write_text: WriteText) -> None:
    path = write_text(
        "time,active,total\n2017-10-03 00:00:00,3,4\n2017-10-03 00:01:00,many,4\nsoon,3,4\n1,2\n", "p.csv"
    )
    assert message(path) == (
        f"{path}:3:2: column 'active': expected a number, got 'many' (and 2 more bad rows; --skip-bad leaves them out)"
    )
    assert message(write_text("time,active,total\n2017-10-03 00:00:00,inf,4\n")).endswith("got 'inf'")
    series = read_series(path, skip_bad=True, step_s=60.0)
    assert first(series) == [3.0]
    assert series.facts["rows_read"] == 4
    assert sum(series.facts["dropped"].values()) == 3
    assert series.facts["bad_rows"][0].endswith("p.csv:3:2: column 'active': expected a number, got 'many'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("\n\n", "no content but blank lines"),
        ("time,active,total\n", "a heading but no rows"),
        ("when,load\n1,2\n", "no load series that is known, got 'when,load'"),
        ("\0\0\0\0", "binary content"),
        ("time,active,total\n2017-10-03 00:00:00,3,4\n", "the step cannot be told"),
        ("time,active,total\n2017-10-03 00:00:00,,\n2017-10-03 00:01:00,nan,NaN\n", "nothing was measured"),
        ("time,active,total\n2017-10-03 00:00:00,3,4\n2017-10-03 00:01:00,3,4\n9917-10-03 00:00:00,3,4\n", "damaged"),
        ("time_s\n1\n2\n", "expected a column for a feature"),
        ("hour\n1\n2\n", "no load series that is known"),
        ("hour,\n1,\n2,\n", "nothing was measured"),
        ("time_s,node,load\n1,,2\n2,a,3\n", "a value is needed"),
        ("PAR1 and no more", "damaged or truncated Parquet"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(write_text: WriteText, text: str, expected: str) -> None:
    path = write_text(text, "bad.csv")
    found = message(path)
    assert expected in found
    assert found.startswith(str(path))


def test_files_that_cannot_be_read_at_all(tmp_path: Path, write_text: WriteText) -> None:
    assert "no such file" in message(tmp_path / "absent.csv")
    cut = gzip.compress(SAMPLES["philly-nodes"].encode())[:-12]
    assert "truncated gzip file" in message(write_text(cut, "cut.csv.gz"))
    (tmp_path / "empty").mkdir()
    assert "none of its files is a load series" in message(tmp_path / "empty")
    assert "no file" in message([])
    other = write_text(SAMPLES["spot-hourly"], "spot.csv")
    assert "of the format spot-hourly" in message([write_text(SAMPLES["philly-nodes"], "p.csv"), other])


def test_all_rows_bad_leaves_no_series(write_text: WriteText) -> None:
    path = write_text("time,active,total\nx,1,2\ny,1,2\n")
    assert "all 2 rows are bad" in message(path, skip_bad=True)


def test_an_unknown_feature_is_refused(write_text: WriteText) -> None:
    with pytest.raises(UsageError, match="did you mean 'active'"):
        read_series(write_text(SAMPLES["philly-nodes"]), feature="activ")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 400), st.binary(max_size=4))
def test_whatever_is_damaged_gives_a_series_or_one_line(write_text: WriteText, name: str, at: int, put: bytes) -> None:
    data = SAMPLES[name].encode()
    path = write_text(data[:at] + put + data[at + 2 :])
    for skip in (False, True):
        told = ""
        try:
            read_series(path, skip_bad=skip)
        except ShunterError as problem:
            told = str(problem)
        assert "\n" not in told


def test_what_is_written_reads_back_equal(tmp_path: Path, write_text: WriteText) -> None:
    series = read_series(write_text(SAMPLES["series-csv"]))
    write_series(series, tmp_path / "s.parquet")
    back = read_series(tmp_path / "s.parquet")
    for name in ("name", "nodes", "features", "step_s", "begin_s", "dated", "units", "facts"):
        assert getattr(back, name) == getattr(series, name), name
    np.testing.assert_array_equal(back.values, series.values)
    write_series(back, tmp_path / "t.parquet")
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "t.parquet").read_bytes()
    longer = read_series(tmp_path / "s.parquet", step_s=120.0)
    np.testing.assert_array_equal(longer.values[:, :, 0], [[3.0, 5.0]])
    assert longer.name == series.name
    shorter = read_series(tmp_path / "s.parquet", step_s=30.0)
    np.testing.assert_array_equal(shorter.values[:, 0, 0], [1.0, np.nan, 5.0])
    write_series(series, tmp_path / "s.csv")
    np.testing.assert_array_equal(read_series(tmp_path / "s.csv").values, series.values)
    with pytest.raises(UsageError, match=r"ending in \.parquet or \.csv"):
        write_series(series, tmp_path / "s.swf")


def test_a_native_file_with_one_point_keeps_its_step(tmp_path: Path) -> None:
    series = LoadSeries("s", ("a",), ("load",), np.ones((1, 1, 1)), 30.0, 90.0)
    write_series(series, tmp_path / "s.parquet")
    assert read_series(tmp_path / "s.parquet").step_s == 30.0
    assert read_series([tmp_path / "s.parquet", tmp_path / "s.parquet"]).step_s == 30.0


def test_damaged_native_files_are_refused(tmp_path: Path) -> None:
    series = LoadSeries("s", ("a", "b"), ("load",), np.ones((4, 2, 1)), 30.0, 90.0)
    path = tmp_path / "s.parquet"
    write_series(series, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "damaged or truncated Parquet file" in message(path)
    key, frame = "shunter.load_series", pl.DataFrame({"time_s": [1.0, 2.0, 3.0], "node": ["a"] * 3, "load": [1, 2, 3]})
    for text in ("{", '{"version": 99}', '{"version": 1, "nodes": ["a", "b"], "features": ["load"]}', "[]"):
        frame.write_parquet(path, metadata={key: text})
        assert str(path) in message(path)
    frame.write_parquet(path)
    assert first(read_series(path)) == [1, 2, 3]
    pl.DataFrame({"time_s": ["x"], "load": [1]}).write_parquet(path)
    assert "expected numbers" in message(path)
    pl.DataFrame({"job_id": ["x"], "submit_s": [1.0]}).write_parquet(path)
    assert "no load series" in message(path)


def test_a_timeline_of_a_replay_is_no_load_series(tmp_path: Path) -> None:
    path = tmp_path / "timeline.parquet"
    pl.DataFrame({"time_s": [1.0], "queue_length": [1], "running_jobs": [2]}).write_parquet(path)
    assert format_of(path.read_bytes()) is None


FACTS = {
    # file: (points, nodes, features, step, first feature, missing share of it, least and largest value)
    "helios/venus_throughput_10min_2020-04_07.csv.gz": (17_568, 1, 11, 600, "running_gpus", 0.0, 0, 1_027),
    "helios/earth_sequence_vchbv_2020-05.csv.gz": (44_640, 1, 23, 60, "gpu_utilization", 0.0, 0, 1),
    # 70,429 minutes and a gap from which 599 are missing.
    "philly/philly_node_sequence_part1.csv.gz": (71_028, 1, 2, 60, "active", 599 / 71_028, 0, 450),
    "alibaba-spot-2026/hourly_concurrency_part1.csv.gz": (
        2_946, 1, 4, 3600, "gpus_active_requested", 0.0, 5369.64, 12890.45,
    ),
    "alibaba-spot-2026/hourly_concurrency_top_models_part1.csv.gz": (
        2_946, 6, 1, 3600, "gpus_active_requested", 0.0, 0, 4830.35,
    ),
    "alibaba-genai-2026/pod_gpu_duty_cycle_anon_part1.csv.gz": (
        960, 124, 1, 57, "gpu_duty_cycle", 1 - 104_984 / (960 * 124), 0, 0.99666667,
    ),
    # 175,153 runs of 272,149 samples: each has a step of its own, although they come up to a second early and late.
    "bitbrains/bitbrains_small_cpu.csv.gz": (8_641, 34, 2, 300, "cpu_usage", 1 - 272_149 / (8_641 * 34), 0, 22035.8635),
    "carbon/carbon_intensity_2022_NL.csv.gz": (34_944, 1, 1, 900, "carbon_intensity", 0.0, 35.00547, 353.47778),
    "marenostrum3/monthTraces_part1.csv.gz": (23_424, 1, 1, 90, "busy_cores", None, 816, 48_992),
    "mit-supercloud/cpu_timeseries_one_job.csv.gz": (11_172, 1, 4, 10, "cpu_utilization", 0.0, 0, 31.984),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FACTS))
def test_a_public_load_series(shared: Path, name: str) -> None:
    points, nodes, features, step, target, missing, low, high = FACTS[name]
    since = time.perf_counter()
    series = read_series(shared / name)
    assert time.perf_counter() - since < 5.0  # a second on an idle machine
    assert series.values.shape == (points, nodes, features)
    assert (series.step_s, series.features[0]) == (step, target)
    loads = series.values[:, :, 0]
    if missing is not None:
        assert float(np.isnan(loads).mean()) == pytest.approx(missing, abs=1e-9)
    assert float(np.nanmin(loads)) == pytest.approx(low, rel=1e-6)
    assert float(np.nanmax(loads)) == pytest.approx(high, rel=1e-6)
    assert (series.facts["duplicates"], series.facts["dropped"]) == (0, {})


def test_the_virtual_clusters_of_earth_are_one_series(shared: Path) -> None:
    series = read_series(sorted((shared / "helios").glob("earth_sequence_*.csv.gz")))
    assert series.values.shape == (44_640, 11, 23)
    assert series.nodes[0] == "vc3sl"
    busy = series.select(features=["running_gpu_num"]).values
    assert float(np.nanmax(busy)) > 100


def test_venus_never_runs_more_gpus_than_it_has(shared: Path) -> None:
    series = read_series(shared / "helios" / "venus_throughput_10min_2020-04_07.csv.gz")
    assert series.facts["running_before"] == {"running_gpus": 765.0, "running_jobs": 85.0}
    assert float(series.values[:, 0, 0].max()) <= 133 * 8
