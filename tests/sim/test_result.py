"""Run folders: everything comes back, nothing half-written stays, nobody else's files are touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from shunter.scheduler.errors import OutputError, UsageError
from shunter.sim.result import Result, save_all
from shunter.sim.run_folder import LOAD_FILE, RUN_FILES, distinct_names, staged_folder

Pair = tuple[Result, Result]


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_load_gives_back_what_save_wrote(two_results: Pair, tmp_path: Path) -> None:
    result = replace(two_results[0], window=(0, 400), policy="multifactor:age=1000", backfill="easy")
    result.save(tmp_path / "run")
    loaded = Result.load(tmp_path / "run")
    for table in ("jobs", "timeline", "events"):
        assert_frame_equal(getattr(loaded, table), getattr(result, table))
    for field in ("trace", "cluster", "policy", "backfill", "placement", "window", "seed", "wall_s", "num_events"):
        assert getattr(loaded, field) == getattr(result, field)
    assert dict(loaded.metrics) == dict(result.metrics)
    assert loaded.manifest == result.manifest
    assert loaded.capacity("cpus") == 64.0
    assert loaded.capacity("gpus") is None


def test_folder_holds_the_documented_files_and_nothing_else(two_results: Pair, tmp_path: Path) -> None:
    two_results[0].save(tmp_path / "run")
    assert sorted(read_all(tmp_path / "run")) == sorted([*RUN_FILES, LOAD_FILE])
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_equal_runs_give_equal_bytes_except_the_timing(two_results: Pair, tmp_path: Path) -> None:
    result = two_results[0]
    slower = replace(
        result,
        wall_s=99.0,
        jobs=pl.concat([result.jobs[:100], result.jobs[100:]], rechunk=False),  # another layout in memory
        metrics=dict(reversed(list(result.metrics.items()))),
    )
    result.save(tmp_path / "a")
    slower.save(tmp_path / "b")
    a, b = read_all(tmp_path / "a"), read_all(tmp_path / "b")
    assert {name for name in a if a[name] != b[name]} == {"timing.json"}


def test_saving_again_replaces_the_whole_run(two_results: Pair, tmp_path: Path) -> None:
    two_results[0].save(tmp_path / "run")
    (tmp_path / "run" / "report.html").write_text("old")
    two_results[1].save(tmp_path / "run")
    assert Result.load(tmp_path / "run").policy == "sjf"
    assert not (tmp_path / "run" / "report.html").exists()


def test_an_empty_folder_and_missing_parents_are_accepted(two_results: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    two_results[0].save(tmp_path / "empty")
    two_results[0].save(tmp_path / "some" / "where" / "run")
    assert Result.load(tmp_path / "empty").jobs.height == Result.load(tmp_path / "some" / "where" / "run").jobs.height


@pytest.mark.parametrize("stranger", ["thesis.tex", "figures/data.csv", "deep/er/file"])
def test_a_folder_with_other_files_is_refused_and_kept(two_results: Pair, tmp_path: Path, stranger: str) -> None:
    precious = tmp_path / "run" / stranger
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(OutputError, match="is not a run folder") as caught:
        two_results[0].save(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert precious.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_file_of_that_name_is_refused(two_results: Pair, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match="not a folder"):
        two_results[0].save(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "a file"


def test_a_failure_in_the_middle_keeps_the_old_run(two_results: Pair, tmp_path: Path) -> None:
    two_results[0].save(tmp_path / "run")
    before = read_all(tmp_path / "run")
    broken = replace(two_results[1], metrics={"avg_wait_s": float("nan")})  # found after the tables are written
    with pytest.raises(ValueError, match="JSON"):
        broken.save(tmp_path / "run")
    assert read_all(tmp_path / "run") == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staged_folder(tmp_path / "run") as partial:
            (partial / "jobs.parquet").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_leftover_of_a_killed_process_is_cleared(two_results: Pair, tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "jobs.parquet").write_bytes(b"half")
    two_results[0].save(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_is_one_line_and_leaves_nothing(two_results: Pair, tmp_path: Path) -> None:
    """The kernel refuses to write past RLIMIT_FSIZE just as it refuses on a full disk, without needing root."""
    two_results[0].save(tmp_path / "good")
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from shunter.scheduler.errors import OutputError\n"
        "from shunter.sim.result import Result\n"
        "result = Result.load(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "try:\n"
        "    result.save(Path(sys.argv[2]))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "good"), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'run'}: cannot be written: File too large\n"
    assert done.stderr == ""
    assert [p.name for p in tmp_path.iterdir()] == ["good"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_one_line(two_results: Pair, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        two_results[0].save(tmp_path / "run")


def test_a_place_below_a_file_is_one_line(two_results: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written: (Not a directory|File exists)$"):
        two_results[0].save(tmp_path / "file" / "run")


def test_load_says_what_is_missing(two_results: Pair, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Result.load(tmp_path / "nowhere")
    two_results[0].save(tmp_path / "run")
    (tmp_path / "run" / "events.parquet").unlink()
    with pytest.raises(UsageError, match=r"events\.parquet missing"):
        Result.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", b'{"avg_wait_s": }', r"metrics\.json:1:16: not JSON"),
        ("metrics.json", b"[1]", "expected a JSON object, got list"),
        ("metrics.json", b'{"avg_wait_s": "long"}', "damaged run folder"),
        ("timing.json", b"\xff\xfe", "not UTF-8"),
        ("manifest.json", b'{"run_format": 99}', "run_format is 99, expected 1"),
        ("manifest.json", b'{"run_format": 1, "run": {}}', "damaged run folder"),
        ("jobs.parquet", b"PAR1 garbage", r"jobs\.parquet: not a Parquet table"),
    ],
)
def test_load_refuses_damage_in_one_line(
    two_results: Pair, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    two_results[0].save(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        Result.load(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_load_refuses_a_table_without_a_column(two_results: Pair, tmp_path: Path) -> None:
    two_results[0].save(tmp_path / "run")
    two_results[0].jobs.drop("wait_s").write_parquet(tmp_path / "run" / "jobs.parquet")
    with pytest.raises(UsageError, match="columns wait_s are missing"):
        Result.load(tmp_path / "run")


def test_several_runs_get_a_folder_each(two_results: Pair, tmp_path: Path) -> None:
    twins = [two_results[0], two_results[1], replace(two_results[0], seed=2)]
    save_all(twins, tmp_path / "out", finish=lambda folder: (folder / "report.html").write_text("<html>"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["fcfs", "fcfs-2", "report.html", "sjf"]
    assert Result.load(tmp_path / "out" / "fcfs-2").seed == 2
    save_all(twins[:1], tmp_path / "out")  # a run's own output may be replaced, whatever its form
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*RUN_FILES, LOAD_FILE])


def test_folder_names_are_safe_and_distinct() -> None:
    labels = ["../../etc", "multifactor:age=1", "a/b", "a b", ".."]
    assert distinct_names(labels) == ["_.._etc", "multifactor_age=1", "a_b", "a_b-2", "run"]


def test_json_files_are_sorted_and_readable(two_results: Pair, tmp_path: Path) -> None:
    two_results[0].save(tmp_path / "run")
    text = (tmp_path / "run" / "metrics.json").read_text()
    assert list(json.loads(text)) == sorted(two_results[0].metrics)
    assert text.startswith('{\n  "avg_bounded_slowdown": ')
    assert text.endswith("}\n")
