"""Predictors of run times: trees as LightGBM's, bundles that say what is wrong with them, and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shunter.cli import app
from shunter.predictors.duration_bundle import (
    CARD,
    MODEL,
    PARITY,
    DurationBundle,
    check_parity,
    load_durations,
    shipped_durations,
)
from shunter.predictors.duration_metrics import baselines, judged, medians, summary
from shunter.scheduler.durations import SCHEMA, Recorded
from shunter.scheduler.errors import BundleError, ShunterError, UsageError
from shunter.scheduler.kernels.forest import predict_rows
from shunter.traces.demo import demo_trace
from shunter.traces.periods import split
from shunter.traces.submissions import recorded, submissions, waits_known
from shunter.traces.tables import Trace, make_jobs, pool
from tests.scheduler.test_durations import table

pytest.importorskip("lightgbm")
pytest.importorskip("onnx")

from shunter.predictors.boosting import Boosting, Rows, forest_of, grow
from shunter.predictors.durations import Order, material_of, train, write_trained
from shunter.predictors.tree_export import forest_onnx, in_single
from shunter.predictors.tree_files import read_forest

SMALL = Boosting(trees=12, leaves=6, least_jobs=20, patience=12)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> DurationBundle:
    """A predictor of the demo trace's jobs."""
    order = Order([demo_trace("hpc")], SMALL)
    return write_trained(train(order), order, tmp_path_factory.mktemp("durations") / "small", {})


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_forest_is_the_booster_to_the_last_digits(missing: float) -> None:
    """Also where values are missing, in training or only afterwards."""
    random = np.random.default_rng(3)
    x = random.normal(size=(1500, 5)).astype(np.float32)
    x[random.random(x.shape) < missing] = np.nan
    y = np.nan_to_num(x[:, 0]) * 2 + np.nan_to_num(x[:, 1]) ** 2 + random.normal(size=1500)
    rows = Rows(x[:1000], y[:1000], np.ones(1000))
    later = Rows(x[1000:], y[1000:], np.ones(500))
    boosters = [grow(rows, later, level, SMALL) for level in (0.1, 0.5)]
    probe = random.normal(size=(400, 5)).astype(np.float32).astype(np.float64)
    probe[random.random(probe.shape) < 0.2] = np.nan
    theirs = np.stack([booster.predict(probe) for booster in boosters], axis=1)
    forest = forest_of(boosters)
    mine = np.empty((400, 2))
    predict_rows(forest, probe, mine)
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    stored = read_forest(forest_onnx(forest, typical=0, num_features=5), 5)
    for name, values in in_single(forest)._asdict().items():
        if name != "feature":  # a leaf's has no meaning
            np.testing.assert_array_equal(values, getattr(stored, name), err_msg=name)


def test_the_bundle_holds_what_was_trained(bundle: DurationBundle) -> None:
    assert check_parity(bundle.path / MODEL, (bundle.path / MODEL).read_bytes(), bundle.model) <= PARITY
    assert bundle.card.kind == "durations"
    assert [period["name"] for period in bundle.card.traces] == ["train", "validation"]
    assert bundle.model.levels == (0.1, 0.5, 0.75, 0.9)
    trace = demo_trace("hpc")
    told = recorded(trace).quantiles(bundle.model)
    assert (np.diff(told, axis=1) >= 0).all()
    assert (told[:, -1] <= np.maximum(trace.jobs.floats("requested_s", np.inf), 1.0)).all()


def test_the_same_order_gives_the_same_file(bundle: DurationBundle) -> None:
    order = Order([demo_trace("hpc")], SMALL)
    assert train(order).onnx == (bundle.path / MODEL).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "kernel"}, "kind: 'kernel', expected 'durations'"),
        ({"version": 9}, "version: 9, this program reads 1"),
        ({"levels": [0.9, 0.1]}, "expected at least two rising numbers"),
        ({"expected": 0.3}, "expected: 0.3, none of the levels"),
        ({"window": -1}, "window: -1"),
        ({"features": SCHEMA.as_json() | {"version": 0}}, r"features\.version: 0, this program has 1"),
        ({"colour": "red"}, "colour: unknown field"),
        ({"model_sha256": "0" * 64}, "cut short or changed"),
    ],
)
def test_a_damaged_bundle_is_refused(
    bundle: DurationBundle, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    card = json.loads((bundle.path / CARD).read_text()) | change
    (tmp_path / CARD).write_text(json.dumps(card))
    (tmp_path / MODEL).write_bytes((bundle.path / MODEL).read_bytes())
    with pytest.raises(BundleError, match=message):
        load_durations(tmp_path)


def test_files_that_are_no_trees_are_refused(bundle: DurationBundle) -> None:
    data = (bundle.path / MODEL).read_bytes()
    for broken, message in ((data[: len(data) // 2], "cut short"), (b"", "no TreeEnsembleRegressor")):
        with pytest.raises(BundleError, match=message):
            read_forest(broken, SCHEMA.size)
    with pytest.raises(BundleError, match="a column that is none of the 3"):
        read_forest(data, 3)


def test_what_ships_is_small_and_fits_this_program() -> None:
    folder = shipped_durations()
    assert load_durations(folder, "learned").model.name == "learned"
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 300_000


def test_rules_say_what_they_should() -> None:
    """User 0's jobs took 10 of 100 s, then 30 of 60 s; the third asks for 1000 s; user 1 is new and asks for 50 s."""
    schedule = table([(0, 0, 10, 100, 1, 0), (20, 20, 30, 60, 1, 0), (60, 60, 5, 1000, 1, 0), (61, 61, 5, 50, 1, 1)])
    found = baselines(schedule)
    assert found["request"].tolist() == [100, 60, 1000, 50]
    assert found["last-two"][2:].tolist() == [20, 50]
    assert found["average"][1:].tolist() == [10, 20, 50]
    assert found["last-two-ratio"][2] == pytest.approx((0.1 + 0.5) / 2 * 1000)
    assert found["average-ratio"][1] == pytest.approx(6.0)
    assert found["average-ratio"][2] == pytest.approx(300.0)


def test_the_table_by_hand(bundle: DurationBundle) -> None:
    trace = demo_trace("hpc")
    told = judged(trace, split(trace)[2], {"model": bundle.model})["model"]
    found = summary(told, "model")
    request = next(row for row in found["contenders"] if row["name"] == "request")
    ratio = np.maximum(told.points["request"] / told.run_s, told.run_s / told.points["request"])
    middle = np.exp(np.median(np.log(ratio)))  # of an even number of jobs the geometric mean of two
    assert request["median_ratio_error"]["value"] == pytest.approx(middle)
    assert request["median_ratio_error"]["low"] <= middle <= request["median_ratio_error"]["high"]
    assert request["difference"]["value"] == pytest.approx(
        np.abs(np.log(told.points["model"] / told.run_s)).mean() - np.log(ratio).mean()
    )
    assert found["coverage"]["value"] == pytest.approx(told.inside.mean())
    assert medians(np.asarray([3.0, 1.0, 2.0]), np.asarray([[1.0, 0.0, 5.0]])).tolist() == [2.0]


def test_waits_come_from_the_log_where_it_has_them() -> None:
    columns = {"job_id": ["a", "b"], "submit_s": [0.0, 5.0], "duration_s": [1.0, 2.0], "recorded_wait_s": [3.0, None]}
    trace = Trace("t", make_jobs(columns), pool(1))
    assert recorded(trace).start_s.tolist() == [3.0, 5.0]
    assert waits_known(trace) == 0.5
    assert np.isnan(submissions(trace).request_s).all()
    assert submissions(trace, 60.0).request_s.tolist() == [60.0, 60.0]
    assert isinstance(recorded(trace, np.asarray([0.0, 9.0])), Recorded)
    with pytest.raises(ShunterError, match=r"t: job 1 starts at 4\.0 s"):
        recorded(trace, np.asarray([0.0, 4.0]))


def run(*arguments: str) -> str:
    """What a command prints on standard output."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    document = json.loads(
        run("train", "durations", "demo:hpc", "--trees", "8", "--leaves", "6", "-o", str(folder), "-q", "--json")
    )
    assert document["bundle"] == str(folder)
    assert document["parity"] <= PARITY
    judged_ = json.loads(run("evaluate", str(folder), "demo:hpc", "--out", str(tmp_path / "e"), "-q", "--json"))
    assert judged_["kind"] == "durations"
    assert {row["name"] for row in judged_["traces"][0]["contenders"]} >= {"model", "request", "last-two", "typical"}
    assert len(list((tmp_path / "e").glob("*.png"))) == 2
    replayed = json.loads(
        run("simulate", "demo:hpc", "-b", "easy", "--estimates", f"model:{folder}:level=0.75", "-q", "--json")
    )
    assert replayed["runs"][0]["metrics"]["jobs_completed"] > 0
    for arguments, error in (
        (("train", "durations", "demo:hpc", "-o", str(folder)), UsageError),
        (("train", "durations", "demo:hpc", "--level", "0.3", "-o", str(tmp_path / "x")), UsageError),
        (("evaluate", str(folder), "demo:hpc", "--whole"), UsageError),  # has seen them
        (("simulate", "demo:hpc", "--estimates", "lerned"), UsageError),
        (("simulate", "demo:hpc", "--estimates", f"model:{folder}:level=0.3"), UsageError),
        (("simulate", "demo:hpc", "--estimates", f"model:{tmp_path}/none"), BundleError),
    ):
        with pytest.raises(error):
            CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert material_of(demo_trace("hpc")).waits_known == 0.0
