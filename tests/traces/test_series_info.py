"""Facts, picture and command line of load series."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from shunter.cli.load_series import sparkline
from shunter.scheduler.errors import ShunterError, UsageError
from shunter.traces.load_series import LoadSeries
from shunter.traces.series.info import daily_cycle, describe_series, longest_gap, profile, unchanged_share
from shunter.traces.series.native import write_series
from shunter.traces.series.picture import heat, plot_series
from shunter.traces.series_readers import read_series
from tests.traces.test_cli_traces import run
from tests.traces.test_info_and_picture import image_size
from tests.traces.test_public_files import EXPECTED
from tests.traces.test_series_readers import SAMPLES

NAN = math.nan


def series(values: object, **fields: object) -> LoadSeries:
    """A series of one feature from (T, N) values."""
    grid = np.array(values, dtype=np.float64)[:, :, None]
    nodes = tuple("abcdefghij"[: grid.shape[1]])
    return LoadSeries("s", nodes, ("load",), grid, 60.0, **fields)  # type: ignore[arg-type]


def test_gaps_and_changes_by_hand() -> None:
    values = np.array([[1, NAN], [NAN, 2], [NAN, 2], [1, 2], [1, NAN]], dtype=np.float32)
    assert longest_gap(values) == 2  # before its first and after its last sample the second node has no gap
    assert unchanged_share(values) == 1.0  # 1 → 1, 2 → 2, 2 → 2
    assert unchanged_share(values[:1]) is None
    assert unchanged_share(np.array([[1], [2], [2]], dtype=np.float32)) == 0.5


def test_the_course_is_the_mean_over_nodes_in_equal_stretches() -> None:
    found = profile(series([[1, 3], [NAN, 4], [NAN, NAN], [NAN, NAN], [5, 5]]), 5)
    np.testing.assert_array_equal(found, [2, 4, NAN, NAN, 5])
    np.testing.assert_array_equal(profile(series([[1], [3], [5], [7]]), 2), [2, 6])


def test_the_daily_cycle_needs_a_calendar_and_a_day() -> None:
    hours = np.repeat(np.arange(48), 60)[:, None] % 24
    assert daily_cycle(series(hours)) == list(range(24))
    assert daily_cycle(series(hours, dated=False)) is None
    assert daily_cycle(series(hours[:60])) is None


def test_facts_are_ready_for_json_and_name_what_to_be_careful_with() -> None:
    facts = describe_series(series([[1, 7, NAN], [1, NAN, NAN], [1, 9, NAN]], dated=False, facts={"out_of_order": 3}))
    json.dumps(facts)
    assert facts["features"][0] == pytest.approx(
        {"name": "load", "unit": "", "missing_share": 4 / 9, "mean": 19 / 5, "min": 1, "max": 9}
        | {name: facts["features"][0][name] for name in ("sd", "p05", "p50", "p95")}
    )
    text = "; ".join(facts["defects"])
    for part in ("44.4% of the points", "1 nodes were never", "1 of 3 nodes", "no calendar", "backwards 3 times"):
        assert part in text
    assert describe_series(series([[1], [2]], begin_s=86400.0 * 365))["start"] == "1971-01-01T00:00:00"
    assert facts["start"] is None


def test_neighbouring_nodes_share_rows_of_the_heat_map() -> None:
    values = np.array([[1, 3, NAN, 8], [3, 5, NAN, NAN]], dtype=np.float32)
    np.testing.assert_array_equal(heat(values, np.array([0, 1, 2]), 2), [[2, 4], [8, NAN]])
    np.testing.assert_array_equal(heat(values, np.array([0, 2]), 4), [[2], [4], [NAN], [8]])


def test_pictures_of_ordinary_and_extreme_series(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    many = LoadSeries("many", tuple(map(str, range(300))), ("load",), rng.random((50, 300, 1)), 60.0, units=("ratio",))
    few = series(rng.random((5000, 3)), begin_s=1.6e9)
    single, flat = series([[1.0]]), series([[5], [NAN], [5]])
    for i, drawn in enumerate((many, few, single, flat)):
        plot_series(drawn, tmp_path / f"{i}.png")
        width, height = image_size(tmp_path / f"{i}.png")
        assert width > 1000
        assert height > 600
    plot_series(flat, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "3.png").read_bytes()
    with pytest.raises(UsageError, match=r"ending in \.png, \.pdf or \.svg"):
        plot_series(flat, tmp_path / "a.jpg")


def test_a_sparkline_goes_from_the_least_to_the_largest() -> None:
    assert sparkline([0.0, 7.0, NAN, 3.5]) == "▁█ ▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    path = tmp_path / "earth_sequence_vc3sl_2020-05.csv"
    path.write_text(SAMPLES["helios-sequence"] + "soon,1,1,1,1,1,1\n")
    return path


def test_info_tells_a_load_series_from_a_list_of_jobs(sequence: Path, tmp_path: Path) -> None:
    text = run("info", sequence, "--skip-bad", "--plot", tmp_path / "p.png")
    for part in ("helios-sequence", "2 every 60 s, of 1 node", "0.5 to 0.75 ratio", "idle_gpu_num", "dropped"):
        assert part in text
    assert (tmp_path / "p.png").exists()
    document = json.loads(
        run("info", sequence, "--skip-bad", "--json", "--feature", "running_job_num", "--step", "120")
    )
    assert (document["kind"], document["points"], document["target"]) == ("load series", 1, "running_job_num")
    assert document["features"][0]["mean"] == 3.5
    for options in (["--cluster", "8"], ["--format", "swf", "--step", "60"]):
        with pytest.raises(ShunterError, match="lists of jobs"):
            run("info", sequence, *options)
    with pytest.raises(ShunterError, match=":4:1: column 'time'"):
        run("info", sequence)
    with pytest.raises(ShunterError, match="no such file"):
        run("info", tmp_path / "absent")


def test_a_folder_is_one_series_with_its_nodes(tmp_path: Path) -> None:
    for name in ("vcaaa", "vcbbb"):
        (tmp_path / f"{name}_x_{name}.csv").write_text(SAMPLES["helios-sequence"])
    assert json.loads(run("info", tmp_path, "--json"))["nodes"] == 2
    assert "busiest nodes" in run("info", tmp_path)


def test_convert_keeps_a_series_as_parquet(sequence: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    text = run("convert", sequence, target, "--skip-bad")
    assert "2 every 60 s" in text
    assert read_series(target).nodes == ("vc3sl",)
    document = json.loads(run("convert", target, tmp_path / "out.csv", "--json"))
    assert (document["points"], document["rows_read"]) == (2, 3)
    assert "out" in run("info", target)
    with pytest.raises(UsageError, match="ending in"):
        run("convert", target, tmp_path / "out.swf")


def test_list_names_the_load_series() -> None:
    assert "helios-sequence" in run("list")
    assert "series-parquet" in {entry["name"] for entry in json.loads(run("list", "--json"))["load_series"]}


def test_no_list_of_jobs_is_taken_for_a_load_series(shared: Path) -> None:
    from shunter.traces.compression import read_bytes
    from shunter.traces.series_readers import format_of

    assert [name for name in EXPECTED if format_of(read_bytes(shared / name)) is not None] == []


def test_a_native_series_of_many_nodes_is_shown(tmp_path: Path) -> None:
    values = np.zeros((1440, 100, 2), dtype=np.float32)
    written = LoadSeries("s", tuple(map(str, range(100))), ("load", "jobs"), values, 60.0)
    write_series(written, tmp_path / "s.parquet")
    assert json.loads(run("info", tmp_path / "s.parquet", "--json"))["nodes"] == 100
