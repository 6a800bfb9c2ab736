"""The forecaster of load that ships: for nodes never seen, without torch, and made by the project's own script."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shunter.cli import app
from shunter.predictors.bundle import load_forecaster, shipped_forecaster
from shunter.predictors.live import LiveForecaster
from shunter.predictors.load import LoadForecaster
from shunter.predictors.reasons import Reason
from shunter.predictors.shapes import HISTORY, HORIZON, MEDIAN
from shunter.scheduler.errors import UsageError
from shunter.traces.series_readers import write_series
from tests.predictors.loads import noisy_days


@pytest.fixture(scope="module")
def forecaster() -> LoadForecaster:
    return load_forecaster(shipped_forecaster())


def test_it_is_small_and_fits_this_program(forecaster: LoadForecaster) -> None:
    assert forecaster.general
    assert sum(path.stat().st_size for path in shipped_forecaster().iterdir() if path.is_file()) <= 400_000


def test_it_starts_without_what_trains() -> None:
    program = (
        "import sys, numpy as np\n"
        "from shunter.predictors.bundle import load_forecaster, shipped_forecaster\n"
        "from shunter.predictors.live import LiveForecaster\n"
        "live = LiveForecaster(load_forecaster(shipped_forecaster()))\n"
        "live.step(live.begin(['a']), np.ones((1, 1)), 0.0)\n"
        "sys.exit(' '.join({'torch', 'onnx', 'lightgbm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_card_says_where_it_comes_from(forecaster: LoadForecaster) -> None:
    card = forecaster.card
    assert card.command == "make train-load"
    assert len(card.seeds) == 3
    assert set(card.versions) == {"shunter", "torch", "onnx", "onnxruntime", "numpy"}
    assert {row["role"] for row in card.trained_on} == {"training", "validation"}
    for row in card.trained_on:
        assert row["last_row"] < 0.7 * row["points"] + 1
        sums = [row["sha256"]] if isinstance(row["sha256"], str) else list(row["sha256"])
        assert sums
        assert all(len(part) == 64 for part in " ".join(sums).split())
    learned_from = {row["name"] for row in card.trained_on}
    strangers = {name for name, found in card.evaluation.items() if "own" not in found}
    assert learned_from == set(card.evaluation) - strangers
    assert len(strangers) >= 3
    assert all(len(found["stranger"]["relative"]) == HORIZON for found in card.evaluation.values())


def test_a_new_node_is_answered_once_it_has_a_history(forecaster: LoadForecaster) -> None:
    live, rng = LiveForecaster(forecaster, guarded=False, step_s=300.0), np.random.default_rng(0)
    state, reasons = live.begin(["never-seen", "nor-this"]), []
    for step in range(HISTORY + 3):
        state, found = live.step(state, rng.normal(50.0, 9.0, (2, 1)), 300.0 * step)
        reasons.append(found.answer.reasons.tolist())
        assert np.isfinite(found.answer.quantiles).all()
        assert (np.diff(found.answer.quantiles, axis=-1) >= 0).all()
    assert reasons == [[int(Reason.NEW_NODE)] * 2] * (HISTORY - 1) + [[int(Reason.MODEL)] * 2] * 4


def test_it_knows_no_unit(forecaster: LoadForecaster) -> None:
    """A load in percent is forecast as the same load as a ratio is, a hundred times as large."""
    history = np.random.default_rng(0).uniform(0.2, 0.9, (50, HISTORY, 1))
    ratio, percent = (forecaster.forecast(factor * history, np.zeros(50)) for factor in (1.0, 100.0))
    assert np.abs(ratio[..., MEDIAN] - history[:, -1]).max() > 0.05
    np.testing.assert_allclose(100.0 * ratio, percent, atol=0.01)


def test_loads_that_wander_about_a_level_are_forecast_to_come_back(forecaster: LoadForecaster) -> None:
    """White noise: the best forecast is the mean, whose mean absolute error is 1/√2 of persistence's."""
    values = np.random.default_rng(1).normal(50.0, 9.0, (4000, HISTORY + HORIZON))
    found = forecaster.forecast(values[:, :HISTORY, None], np.zeros(4000))[..., MEDIAN]
    targets = values[:, HISTORY:]
    mine, naive = np.abs(targets - found).mean(), np.abs(targets - values[:, HISTORY - 1, None]).mean()
    assert mine < 0.85 * naive


def test_steps_must_be_steps(forecaster: LoadForecaster) -> None:
    for step_s in (0.0, -60.0, np.nan):
        with pytest.raises(UsageError, match="a step of"):
            LiveForecaster(forecaster, step_s=step_s)


def test_evaluate_knows_it_by_name(tmp_path: Path) -> None:
    series = tmp_path / "days.parquet"
    write_series(noisy_days(num_points=600, num_nodes=2), series)
    result = CliRunner().invoke(app, ["evaluate", "learned-load", str(series), "--quiet", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["feature"] == "load"
    assert document["step_s"] == 3600.0
    assert document["errors"]["persistence"]["relative"] == [1.0] * HORIZON
    assert document["errors"]["lstm"]["relative"][0] != 1.0


def test_the_script_makes_the_same_bytes_again_and_never_looks_at_the_last_30_percent() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from scripts.train_load import made
    from shunter.predictors.training import Plan

    plan = Plan(hidden=4, width=8, epochs=2, many_epochs=2, steps=10, least_steps=10)
    one, two = (noisy_days(num_points=900, seed=seed).select(features=["load"]) for seed in (0, 1))
    changed = two.values.copy()
    changed[630:] = 1e6
    pairs = []
    for series in ([one, two], [one, two], [one, replace(two, values=changed)], [one, one]):
        forecaster, onnx = made(series, 0, plan, shown=2_000)
        pairs.append((json.dumps(forecaster.card.as_json()), onnx))
    assert pairs[0] == pairs[1] == pairs[2]
    assert pairs[0][1] != pairs[3][1]
