"""``shunter evaluate`` and ``shunter models`` as they are typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from shunter.agents.bundle import Card, write_bundle
from shunter.cli import app
from shunter.scheduler.errors import BundleError, OutputError, ShunterError, TraceError, UsageError
from shunter.scheduler.features import FEATURES
from shunter.scheduler.learned import linear_network
from shunter.traces.demo import demo_trace
from shunter.traces.periods import part, split

pytest.importorskip("onnx")

from shunter.agents.export import kernel_onnx

SMALL = ("--window-jobs", "60", "--warm-up", "60", "--cool-down", "60", "--workers", "1", "--quiet")


def run(*arguments: str | Path) -> Result:
    """The command line's answer; errors for people are left to the caller."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(kind: type[ShunterError], *arguments: str | Path) -> str:
    """The message of a command that is refused."""
    result = run(*arguments)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def bundle(folder: Path, periods: Sequence[dict[str, Any]] | None = None, **weights: float) -> Path:
    """A bundle whose score is a weighted sum of features, trained on the demo trace's first periods unless said."""
    if periods is None:
        periods = [period.to_dict() for period in split(demo_trace("hpc"))[:2]]
    score = np.asarray([weights.get(feature.name, 0.0) for feature in FEATURES])
    low, high = ((f.low - 1 for f in FEATURES), (f.high + 1 for f in FEATURES))
    card = Card("kernel", tuple(low), tuple(high), traces=tuple(periods), seeds=(7,), evaluation={"demo": {"sjf": 1.5}})
    return write_bundle(folder, kernel_onnx(linear_network(score)), card).path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shortest request first as a model."""
    return bundle(tmp_path_factory.mktemp("bundles") / "short", log_request=1.0)


@pytest.fixture(scope="module")
def judged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the document of an evaluation of that model."""
    out = tmp_path_factory.mktemp("judged") / "out"
    policies = ("-P", "fcfs", "-P", "sjf", "-P", "sjf-oracle")
    result = run("evaluate", folder, "demo:hpc", *policies, *SMALL, "--out", out, "--json")
    assert result.exit_code == 0, result.exception
    return out, json.loads(result.stdout)


def test_a_model_that_is_a_heuristic_gives_its_values_and_is_told_so(judged: tuple[Path, dict[str, Any]]) -> None:
    """The guard lets a job that has waited long go first, so only nearly: most windows are tied."""
    [table] = judged[1]["traces"]
    rows = {row["policy"]: row for row in table["policies"]}
    assert [row["kind"] for row in table["policies"]] == ["learned", "heuristic", "heuristic", "bound"]
    against = {c["against"]: c for c in table["comparisons"] if c["metric"] == "avg_wait_s"}
    assert set(against) == {"fcfs", "sjf"}
    assert against["sjf"]["ties"] > table["windows"] / 2
    assert rows["short"]["metrics"]["avg_wait_s"]["mean"] < rows["fcfs"]["metrics"]["avg_wait_s"]["mean"]
    [found] = table["degeneracy"]
    assert found["orders"]["sjf"]["kendall_tau"] == 1.0
    assert found["told_apart"] == 0
    assert judged[1]["policies"][0]["origin"] == "general"


def test_the_folder_of_an_evaluation(judged: tuple[Path, dict[str, Any]]) -> None:
    out, document = judged
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [
        "figures/bars-demo-hpc+easy.png",
        "figures/windows-demo-hpc+easy.png",
        "report.html",
        "results.jsonl",
        "summary.json",
        "windows.parquet",
    ]
    assert json.loads((out / "summary.json").read_text()) == document
    frame = pl.read_parquet(out / "windows.parquet")
    [table] = document["traces"]
    assert frame.height == 4 * table["windows"]
    mean = frame.filter(pl.col("policy") == "sjf")["avg_wait_s"].mean()
    rows = {row["policy"]: row for row in table["policies"]}
    assert mean == pytest.approx(rows["sjf"]["metrics"]["avg_wait_s"]["mean"])
    page = (out / "report.html").read_text()
    assert "short" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_resumed_it_writes_the_same_bytes(folder: Path, judged: tuple[Path, dict[str, Any]]) -> None:
    out = judged[0]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]) + b'{"key": {')
    policies = ("-P", "fcfs", "-P", "sjf", "-P", "sjf-oracle")
    result = run("evaluate", folder, "demo:hpc", *policies, *SMALL, "--out", out, "--resume")
    assert result.exit_code == 0, result.exception
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_jobs_that_a_bundle_has_seen_are_refused_unless_allowed(tmp_path: Path) -> None:
    trace = demo_trace("hpc")
    seen = bundle(tmp_path / "seen", [part(trace, "train", 0, len(trace.jobs)).to_dict()], log_request=1.0)
    arguments = ("evaluate", seen, "demo:hpc:0:300", "-P", "sjf", *SMALL)
    message = refused(UsageError, *arguments)
    assert "seen has seen 180 of the 180 jobs of demo-hpc" in message
    assert "--allow-overlap" in message
    result = run(*arguments, "--allow-overlap", "--json")
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["overlaps"] == [message.partition(";")[0]]


def test_what_evaluate_refuses(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.swf"
    empty.write_text("")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert "empty.swf" in refused(TraceError, "evaluate", empty)
    assert "no trace to judge on" in refused(UsageError, "evaluate", folder)
    assert "is this a model bundle" in refused(BundleError, "evaluate", tmp_path / "nothing", "demo:hpc")
    assert "did you mean 'windows'" in refused(UsageError, "evaluate", "demo:hpc", "--protocol", "window")
    assert "did you mean 'easy'" in refused(UsageError, "evaluate", "demo:hpc", "--backfill", "eazy")
    assert "did you mean 'sjf'" in refused(UsageError, "evaluate", "demo:hpc", "-P", "sfj")
    assert "name its bundle" in refused(UsageError, "evaluate", "demo:hpc", "-P", "learned")
    assert "needs at least two bundles" in refused(UsageError, "evaluate", folder, "demo:hpc", "--seeds")
    assert "--resume needs the --out" in refused(UsageError, "evaluate", "demo:hpc", "--resume")
    assert "given twice" in refused(UsageError, "evaluate", "demo:hpc", "demo:hpc")
    assert "is none" in refused(UsageError, "evaluate", "demo:hpc", "--protocol", "rlscheduler")
    assert "too few" in refused(TraceError, "evaluate", "demo:hpc:0:100")
    assert "'thesis.tex'" in refused(OutputError, "evaluate", "demo:hpc", "--out", tmp_path / "mine")
    for name in ("absent.swf", "absent"):
        assert name in refused(TraceError, "evaluate", tmp_path / name)


def test_a_card_that_does_not_say_what_was_seen_is_refused(tmp_path: Path) -> None:
    damaged = bundle(tmp_path / "damaged", [{"name": "train", "trace": "x"}], log_request=1.0)
    message = refused(BundleError, "evaluate", damaged, "demo:hpc")
    assert message.endswith("damaged/card.json: traces[0]: period: first is None, expected int")


def test_models_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    other = bundle(tmp_path / "small", size=1.0)
    registry = ("--registry", tmp_path / "models")
    assert run("models", "list", *registry).exit_code == 0
    for path in (folder, other):
        assert run("models", "add", path, *registry).exit_code == 0
    for name in ("short", "small"):
        assert run("models", "promote", name, *registry).exit_code == 0
    document = json.loads(run("models", "list", *registry, "--json").stdout)
    assert [(m["name"], m["promoted"]) for m in document["models"]] == [("short", False), ("small", True)]
    assert run("models", "rollback", *registry).exit_code == 0
    listed = run("models", "list", *registry).stdout
    assert listed.index("in use") < listed.index("small")
    shown = run("models", "show", "short", *registry).stdout
    assert "short, in use" in shown
    assert "demo-hpc" in shown
    assert "rollback short (before: small)" in shown
    assert "did you mean 'small'" in refused(UsageError, "models", "show", "smal", *registry)
    assert "nothing to go back to" in refused(UsageError, "models", "rollback", *registry)
    assert "is this a model bundle" in refused(BundleError, "models", "add", tmp_path, *registry)


def test_a_tampered_model_is_not_promoted(folder: Path, tmp_path: Path) -> None:
    registry = ("--registry", tmp_path / "models")
    assert run("models", "add", folder, "--name", "mine", *registry).exit_code == 0
    with (tmp_path / "models" / "bundles" / "mine" / "model.onnx").open("ab") as file:
        file.write(b"more")
    assert "not those that were added" in refused(UsageError, "models", "promote", "mine", *registry)
