"""``shunter train forecaster`` and ``shunter evaluate`` on what it wrote, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from shunter.cli import app
from shunter.scheduler.errors import ShunterError, TraceError, UsageError
from shunter.traces.series_readers import write_series
from tests.predictors.loads import noisy_days

pytest.importorskip("torch")
pytest.importorskip("onnx")


def run(*arguments: str | Path) -> Result:
    """The command line's answer; errors for people are left to the caller."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(kind: type[ShunterError], *arguments: str | Path) -> str:
    """The message of a command that is refused."""
    result = run(*arguments)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("series") / "days.parquet"
    write_series(noisy_days(num_points=600, num_nodes=2), path)
    return path


@pytest.fixture(scope="module")
def trained(series: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "forecaster"
    result = run("train", "forecaster", series, "--budget", "1s", "--seeds", "1", "--no-trees", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document["evaluation"]["errors"]) == {"persistence", "seasonal", "ewma", "linear-ar", "lstm"}
    return out


def test_a_training_leaves_a_bundle_with_figures_and_what_it_was_told(trained: Path) -> None:
    assert {path.name for path in (trained / "bundle").iterdir()} == {
        "model.onnx",
        "model.int8.onnx",
        "card.json",
        "figures",
    }
    assert len(list((trained / "bundle" / "figures").glob("*.png"))) == 2
    card = json.loads((trained / "bundle" / "card.json").read_text())
    assert card["trained_on"][0]["first_row"] == 0
    assert card["trained_on"][1]["last_row"] < 420  # 70 % of 600 points


def test_a_training_is_not_overwritten(series: Path, trained: Path) -> None:
    assert "--resume" in refused(UsageError, "train", "forecaster", series, "--out", trained)


def test_nothing_to_resume_and_other_nonsense(series: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "new")
    assert "no training to resume" in refused(UsageError, "train", "forecaster", series, "--resume", *out)
    assert "for a time" in refused(UsageError, "train", "forecaster", series, "--budget", "100steps", *out)
    assert "did you mean" in refused(UsageError, "train", "forecaster", series, "--feature", "laod", *out)
    refused(TraceError, "train", "forecaster", tmp_path / "missing.csv", *out)
    assert not (tmp_path / "new" / "bundle").exists()


@pytest.mark.slow
def test_evaluate_takes_a_forecaster_and_a_series(series: Path, trained: Path, tmp_path: Path) -> None:
    result = run("evaluate", trained / "bundle", series, "--json", "--quiet", "--out", tmp_path / "judged")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["errors"]["lstm"]["mase"]
    assert (tmp_path / "judged" / "evaluation.json").exists()


def test_evaluate_wants_one_forecaster_and_a_series(series: Path, trained: Path) -> None:
    assert "got 1 and 0 files" in refused(UsageError, "evaluate", trained / "bundle")
