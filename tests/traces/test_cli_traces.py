from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shunter.cli.tables import duration_text
from shunter.cli.traces import app
from shunter.scheduler.errors import ShunterError
from shunter.traces.read import read
from tests.traces.conftest import swf_row


def run(*arguments: str | Path) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.swf"
    rows = [swf_row(job=1, submit=0), swf_row(job=2, submit=50, run=0), swf_row(job=3, submit=100, limit=-1)]
    path.write_text("; MaxProcs: 8\n" + "\n".join(rows) + "\n")
    return path


def test_list_as_text_and_json() -> None:
    text = run("list")
    for part in ("swf", "sacct", "demo:hpc", "lublin99", "SDSC-SP2-1998-4.2-cln"):
        assert part in text
    document = json.loads(run("list", "--json"))
    assert {"formats", "demos", "generators", "logs", "terms"} <= set(document)


def test_info_as_text_and_json(log: Path, tmp_path: Path) -> None:
    text = run("info", log)
    for part in ("8 CPUs", "never ran", "p95", "requested time unknown"):
        assert part in text
    document = json.loads(run("info", log, "--json", "--plot", tmp_path / "p.png"))
    assert document["jobs"] == 2
    assert document["cleaning"]["dropped"] == {"never ran (run time of 0 or unknown)": 1}
    assert (tmp_path / "p.png").exists()
    assert json.loads(run("info", log, "--json", "--cluster", "2x8"))["cluster"]["gpus"] == 16


def test_info_of_a_demo_trace() -> None:
    assert json.loads(run("info", "demo:hpc", "--json"))["jobs"] > 1000


def test_import_and_convert(log: Path, tmp_path: Path) -> None:
    text = run("import", log, tmp_path / "t.parquet")
    assert "dropped" in text
    document = json.loads(run("convert", tmp_path / "t.parquet", tmp_path / "t.csv.zst", "--json"))
    assert document["jobs"] == 2
    frames = [read(path).jobs.frame for path in (log, tmp_path / "t.parquet", tmp_path / "t.csv.zst")]
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    with pytest.raises(ShunterError, match="import writes Parquet"):
        run("import", log, tmp_path / "t.csv")


def test_skipped_rows_are_told_on_standard_error(log: Path) -> None:
    log.write_text(log.read_text() + "x\n")
    with pytest.raises(ShunterError, match=r"log.swf:5:1: expected 18 fields, got '1'"):
        run("info", log)
    result = CliRunner().invoke(app, ["info", str(log), "--skip-bad", "--json"], catch_exceptions=False)
    json.loads(result.stdout)
    assert "left out" in result.stderr
    assert "5:1: expected 18 fields" in result.stderr


def test_generate_and_fit(tmp_path: Path) -> None:
    run("generate", "poisson", "--jobs", "3000", "--seed", "3", "--out", tmp_path / "a.parquet")
    run("generate", "poisson", "--jobs", "3000", "--seed", "3", "--out", tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert len(read(tmp_path / "a.parquet").jobs) == 3000
    assert "meaning" in run("generate", "lublin99", "--parameters")
    run("fit", tmp_path / "a.parquet", "--out", tmp_path / "m.json")
    run("generate", "fitted", "-p", f"file={tmp_path / 'm.json'}", "-n", "50", "-o", tmp_path / "c.swf")
    assert len(read(tmp_path / "c.swf").jobs) == 50
    with pytest.raises(ShunterError, match="expected KEY=VALUE"):
        run("generate", "poisson", "-p", "rate", "-o", tmp_path / "d.swf")
    with pytest.raises(ShunterError, match="where to"):
        run("generate", "poisson")


def test_fetch_of_an_unknown_log(tmp_path: Path) -> None:
    with pytest.raises(ShunterError, match="unknown log 'sdsc'"):
        run("fetch", "sdsc", "--out", tmp_path)


@pytest.mark.parametrize("command", ["list", "info", "convert", "import", "generate", "fit", "fetch"])
def test_every_command_has_an_example(command: str) -> None:
    assert "Example" in run(command, "--help")


def test_durations_for_people() -> None:
    cases = {0.0: "0 s", 59.0: "59 s", 90.0: "1.5 min", 7200.0: "2 h", 86400.0 * 729: "729 d", 1e9: "11,574 d"}
    assert {seconds: duration_text(seconds) for seconds in cases} == cases


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, shunter.traces, shunter.traces.read, shunter.traces.readers.registry, shunter.traces.write\n"
        "print([m for m in ('polars', 'matplotlib', 'pydantic', 'rich', 'numba') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_functions_whatever_was_imported_first() -> None:
    import shunter.traces.generate
    import shunter.traces.read
    import shunter.traces.write
    from shunter import traces

    for name in traces.__all__:
        assert not isinstance(getattr(traces, name), type(sys)), name
    assert traces.read is shunter.traces.read
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        traces.nothing  # noqa: B018
