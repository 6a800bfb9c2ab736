"""The study of what forecasts are worth: its intervals, its scaling, and the whole of it on a small part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.forecasts import __main__ as study
from examples.forecasts.arms import WINDOWS, compared, judged, mean, p95, used
from examples.forecasts.report import as_json, draw, report
from examples.forecasts.trials import TRACES, Demand, _scaled
from shunter.sim.replay import simulate
from shunter.sim.scaling import ahead_of, as_before
from shunter.traces.generate import generate


def test_ratios_are_paired_and_sure_where_every_window_says_so() -> None:
    rng = np.random.default_rng(2)
    before = rng.exponential(100, 4000)
    same, half, other = before.copy(), before / 2, rng.exponential(100, 4000)
    cells = compared([before, same, half, other], mean)
    assert (cells[1].ratio, cells[1].low, cells[1].high) == (1, 1, 1)
    assert cells[2].low == pytest.approx(0.5)
    assert cells[2].is_sure
    assert cells[3].low < 1 < cells[3].high
    assert compared([np.zeros(100), np.ones(100)], p95)[1].value == 1  # nothing to be a ratio of


def test_a_trial_of_two_replays_as_text_and_picture(tmp_path: Path) -> None:
    trace = generate("poisson", jobs=600, seed=4, params={"servers": 8, "load": 0.9, "size": "1,2,4"})
    runs = {arm: simulate(trace, backfill="easy", estimates=arm) for arm in ("request", "actual")}
    assert len(used(runs["request"])) == WINDOWS
    assert 0.5 < used(runs["request"]).mean() <= 1
    trial = judged("run times", "poisson", runs, (("wait_s", "mean wait", mean),))
    assert [cell.value for cell in trial.cells["mean wait"]] == [
        pytest.approx(float(run.metrics["avg_wait_s"])) for run in runs.values()
    ]
    text = report([trial])
    assert "run times: poisson" in text
    assert "actual" in text
    assert as_json([trial])[0]["cells"]["mean wait"][0]["low"] is None
    draw([trial], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_headroom_comes_from_the_part_before_the_one_that_is_judged() -> None:
    rng = np.random.default_rng(1)
    demand = np.round(100 + 30 * np.sin(np.arange(2000) / 24 * 2 * np.pi) + rng.normal(0, 3, 2000))
    told = {"last step": as_before(demand, 5), "perfect": ahead_of(demand, 5)}
    trial = _scaled(Demand("waves", "", 2), demand, told)
    assert trial.arms == ("last step", "perfect")
    paid = trial.cells["mean units paid for"]
    assert paid[1].high < 1
    wild = demand.copy()
    wild[1400:] *= 3  # changes nothing of what was chosen before
    other = _scaled(Demand("waves", "", 2), wild, {"last step": as_before(wild, 5)})
    assert other.cells["mean units paid for"][0].value > 2 * paid[0].value


@pytest.mark.slow
@pytest.mark.skipif(not TRACES.is_dir(), reason="needs ../shared/traces")
def test_the_whole_study_on_a_small_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert study.main(["--quick", "--budget", "5", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    for words in ("run times, fcfs: SDSC-SP2", "placement by load", "held for short jobs", "scaling: spot demand"):
        assert words in text
    assert (tmp_path / "out" / "figure.png").exists()
