"""``shunter train policy`` as a person meets it: a bundle at the end, cheap interruptions, clear refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sb3_contrib", reason="needs shunter[train]")

from tests.agents.small import SMALL, small_trace
from tests.e2e.conftest import Shunter


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log and the settings of a small training."""
    import yaml

    from shunter.traces.write import write

    folder = tmp_path_factory.mktemp("training")
    write(small_trace(), folder / "small.parquet")
    sections: dict[str, Any] = {}
    for name, value in SMALL.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    (folder / "small.yaml").write_text(yaml.safe_dump(sections))
    return folder / "small.parquet", folder / "small.yaml"


def test_a_small_training_ends_with_a_bundle_that_can_be_simulated(
    shunter: Shunter, files: tuple[Path, Path], tmp_path: Path
) -> None:
    trace, settings = files
    out = tmp_path / "run"
    asked = ("train", "policy", trace, "--settings", settings, "--budget", "128steps", "--out", out, "--json")
    ran = shunter(*asked)
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["seed"] == 0
    assert document["parity"] <= 1e-5
    assert document["seeds"][0]["decisions"] == 128
    assert "beats the best heuristic" in ran.err
    card = json.loads((out / "bundle" / "card.json").read_text())
    assert [(entry["name"], entry["first"], entry["last"]) for entry in card["traces"]] == [
        ("train", 0, 300),
        ("validation", 300, 375),
    ]
    assert (out / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    replayed = shunter("simulate", trace, "--policy", f"model:{out / 'bundle'}", "--window", "375:50", "--json")
    assert replayed.code == 0, replayed.err
    shunter(*asked).failed_cleanly(2, str(out), "--resume")


def test_what_cannot_be_trained_is_refused_in_one_line(
    shunter: Shunter, files: tuple[Path, Path], tmp_path: Path
) -> None:
    trace, _ = files
    short = ("train", "policy", trace, "--budget", "100steps", "--out")
    shunter(*short, tmp_path / "a").failed_cleanly(2, "300 jobs to train on", "fewer than the 320 of a window")
    (tmp_path / "file").write_text("in the way")
    shunter(*short, tmp_path / "file" / "run").failed_cleanly(1, "cannot write")
    bad = tmp_path / "bad.yaml"
    bad.write_text("ppo: {clipp: 1, epochs: 0}")
    shunter(*short, tmp_path / "b", "--settings", bad).failed_cleanly(2, "ppo.clipp", "did you mean 'clip'", "epochs")


@pytest.mark.slow
def test_other_refusals(shunter: Shunter, files: tuple[Path, Path], tmp_path: Path) -> None:
    trace, settings = files
    asked = ("train", "policy", trace, "--settings", settings, "--out", tmp_path / "run")
    shunter(*asked, "--budget", "10").failed_cleanly(2, "budget '10'", "such as 10m")
    shunter(*asked, "--metric", "makespan_s").failed_cleanly(2, "windows.metric", "avg_wait_s")
    shunter(*asked, "--budget", "64steps", "--resume").failed_cleanly(2, "holds no training to resume")
    shunter(*asked, "--budget", "64steps", "--executor", "rai").failed_cleanly(2, "did you mean 'ray'")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_training_that_was_killed_or_interrupted_ends_as_the_unbroken_one(
    shunter: Shunter, files: tuple[Path, Path], tmp_path: Path, number: int, code: int
) -> None:
    trace, settings = files
    asked = ("train", "policy", trace, "--settings", settings, "--budget", "1280steps", "--out")
    assert shunter(*asked, tmp_path / "unbroken", "--quiet", "--json").code == 0
    broken = tmp_path / "broken"
    process = subprocess.Popen(
        [sys.executable, "-m", "shunter", *map(str, (*asked, broken))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = broken / "seed-0" / "progress.jsonl"
    until = time.monotonic() + 300
    while not (lines.exists() and lines.read_text().count("\n") >= 3):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, number)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == code
    if number == signal.SIGINT:
        assert "--resume takes it up" in told.splitlines()[-1]
    assert not (broken / "bundle").exists()
    resumed = shunter(*asked, broken, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert (broken / "bundle" / "model.onnx").read_bytes() == (
        tmp_path / "unbroken" / "bundle" / "model.onnx"
    ).read_bytes()


@pytest.mark.slow
def test_hyper_parameters_are_searched_for(shunter: Shunter, files: tuple[Path, Path], tmp_path: Path) -> None:
    trace, settings = files
    quick = tmp_path / "tuned.yaml"
    quick.write_text(settings.read_text() + "tuning: {trials: 2, share: 0.5}\n")
    ran = shunter(
        "train", "policy", trace, "--settings", quick, "--budget", "256steps", "--tune", "--out", tmp_path / "run"
    )
    assert ran.code == 0, ran.err
    assert "trial 2 of 2" in ran.err
    assert (tmp_path / "run" / "tuning.log").exists()
    tuned = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert tuned["ppo"]["learning_rate"] != pytest.approx(5e-4)


@pytest.mark.slow
def test_an_attention_network_is_trained_and_written(
    shunter: Shunter, files: tuple[Path, Path], tmp_path: Path
) -> None:
    trace, settings = files
    asked = ("train", "policy", trace, "--settings", settings, "--network", "attention", "--budget", "64steps")
    ran = shunter(*asked, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["network"] == "attention"
    assert ran.document["parity"] <= 1e-5
