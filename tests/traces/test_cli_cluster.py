from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shunter.cli.cluster import app, rack_picture
from shunter.traces.clusters import load_cluster
from shunter.traces.specs import READY


def run(*arguments: str | Path, columns: int = 100) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(
        app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": str(columns), "TERM": "dumb"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_names_every_ready_cluster() -> None:
    text = run("list")
    for name in READY:
        assert name in text
    assert [entry["name"] for entry in json.loads(run("list", "--json"))] == list(READY)


def test_show_has_groups_totals_types_quotas_and_racks() -> None:
    text = run("show", "helios-venus")
    for part in ("135 nodes, 1,080 GPUs", "vcJsw", "own jobs", "V100", "Quotas (GPUs), no borrowing", "23.7%", "3,305"):
        assert part in text
    assert text.count("■") == 135 + 2  # a sign a node, two in the legend


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("columns", [80, 120])
def test_show_fits_the_terminal_and_cuts_no_number(name: str, columns: int) -> None:
    text = run("show", name, columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text


def test_show_as_json(tmp_path: Path) -> None:
    document = json.loads(run("show", "philly", "--json", "--out", tmp_path / "philly.svg"))
    assert (document["nodes"], document["gpus"], document["racks"]) == (552, 2490, 41)
    assert document["spec"]["groups"][0]["rack_size"] == 20
    assert (tmp_path / "philly.svg").read_bytes().startswith(b"<?xml")


def test_racks_of_a_small_cluster_show_each_gpu(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "groups: [{name: a, count: 3, gpus: 4, gpu_type: A, rack_size: 2}, {name: b, count: 2, cpus: 8, owner: x}]"
    )
    lines = rack_picture(load_cluster(path), 80).plain.splitlines()
    assert lines[:2] == ["a  [■■■■][■■■■]|[■■■■]", "b  [·][·]"]
    assert lines[2].startswith("■ is one GPU, [ ] a node, | between racks  ■ A")


def test_racks_of_a_huge_cluster_fit_on_a_page() -> None:
    picture = rack_picture(load_cluster("100000x8"), 80).plain
    assert len(picture.splitlines()) < 30
    assert "■ is 63 nodes" in picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "opneb"], "did you mean 'openb'?"),
        (["show", "openb", "--out", "racks.gif"], "expected a name ending in .png, .pdf or .svg"),
        (["show", "0"], "nothing to run on"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shunter", "cluster", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
