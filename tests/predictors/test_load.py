"""A trained forecaster: the same in ONNX as in torch, an answer for whatever comes, and memory that is explicit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shunter.predictors.bundle import CARD, MODEL, is_forecaster, load_forecaster
from shunter.predictors.live import LiveForecaster, LiveState
from shunter.predictors.load import LoadForecaster
from shunter.predictors.over_series import told_quantiles
from shunter.predictors.reasons import Reason
from shunter.predictors.scaling import NodeScales
from shunter.predictors.shapes import HISTORY, HORIZON, MEDIAN
from shunter.scheduler.errors import BundleError, OutputError, UsageError
from tests.predictors.loads import noisy_days

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two small seeds."""
    from shunter.predictors.orders import Order, train_forecaster
    from shunter.predictors.training import Plan

    plan = Plan(hidden=4, width=8, epochs=3, steps=20, least_steps=20)
    out = tmp_path_factory.mktemp("forecaster")
    found = train_forecaster(Order(noisy_days(), out, plan, seeds=(0, 1), judge=False))
    assert found.complete
    assert found.parity <= 1e-5
    assert found.bundle is not None
    return found.bundle


@pytest.fixture(scope="module")
def forecaster(trained: Path) -> LoadForecaster:
    return load_forecaster(trained)


def histories(num: int = 3) -> np.ndarray:
    """(num, HISTORY, 2) of the series' end."""
    return np.moveaxis(noisy_days().values[-HISTORY:, :num].astype(float), 0, 1)


def test_all_nodes_at_once_are_each_node_alone(forecaster: LoadForecaster) -> None:
    history, time_s = histories(), np.full(3, 1.6e9)
    together = forecaster.answer(history, time_s).quantiles
    for node in range(3):
        alone = forecaster.answer(history[node : node + 1], time_s[:1]).quantiles
        np.testing.assert_allclose(alone[0], together[node], rtol=1e-5, atol=1e-5)


def test_eight_bit_weights_answer_about_the_same(trained: Path, forecaster: LoadForecaster) -> None:
    coarse = load_forecaster(trained, int8=True)
    first, second = (each.forecast(histories(), np.zeros(3)) for each in (forecaster, coarse))
    np.testing.assert_allclose(first, second, rtol=0.05)
    assert 0.0 <= forecaster.card.int8["median_error"] < 0.2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda h: h.__setitem__((slice(None), slice(None)), np.nan), Reason.NOTHING),
        (lambda h: h.__setitem__((slice(None), slice(0, 20)), np.nan), Reason.GAP),
        (lambda h: h.__setitem__((slice(None), slice(3, 9)), np.nan), Reason.MODEL),
        (lambda h: h.__setitem__((slice(None), -1), np.inf), Reason.NOT_FINITE),
        (lambda h: h.__setitem__((slice(None), slice(None)), 5.0), Reason.CONSTANT),
        (lambda h: h.__setitem__((slice(None), slice(None), 1), np.nan), Reason.MODEL),
        (lambda h: h.__imul__(1e30), Reason.MODEL),
    ],
)
def test_every_history_has_an_answer(forecaster: LoadForecaster, damage: object, reason: Reason) -> None:
    history = histories()
    damage(history)  # type: ignore[operator]
    answer = forecaster.answer(history, np.zeros(3))
    assert set(answer.reasons.tolist()) == {int(reason)}
    assert np.isfinite(answer.quantiles).all()
    assert (np.diff(answer.quantiles, axis=-1) >= 0).all()


@pytest.mark.parametrize("shape", [(3, 5, 2), (3, 0, 2), (3, HISTORY, 1), (3, HISTORY + 7, 4), (0, HISTORY, 2)])
def test_every_shape_has_an_answer(forecaster: LoadForecaster, shape: tuple[int, ...]) -> None:
    history = np.cumsum(np.random.default_rng(0).normal(size=shape), axis=1)
    answer = forecaster.answer(history, np.full(shape[0], np.nan))
    assert answer.quantiles.shape == (shape[0], HORIZON, 3)
    assert np.isfinite(answer.quantiles).all()
    if shape[1] and shape[1] < HISTORY:
        assert set(answer.reasons.tolist()) == {int(Reason.SHORT)}
        np.testing.assert_allclose(answer.quantiles[:, 0, MEDIAN], history[:, -1, 0].clip(min=-np.inf))


def replayed(live: LiveForecaster, state: LiveState, first: int, last: int) -> tuple[LiveState, list[object]]:
    series, answers = noisy_days(), []
    for row in range(first, last):
        state, answer = live.step(state, series.values[row].astype(float), series.begin_s + row * HOUR_S)
        answers.append(answer)
    return state, answers


def test_intervals_cover_in_operation_and_short_histories_are_told(forecaster: LoadForecaster) -> None:
    live, series = LiveForecaster(forecaster, guarded=False), noisy_days()
    state, answers = replayed(live, live.begin(series.nodes), 500, 900)
    reasons = [answer.answer.reasons[0] for answer in answers]
    assert set(reasons[: HISTORY - 1]) == {int(Reason.SHORT)}
    assert set(reasons[HISTORY - 1 :]) == {int(Reason.MODEL)}
    low, high = (np.array([answer.answer.quantiles[:, 0, end] for answer in answers])[:-1] for end in (0, 2))
    actual = series.values[501:900, :, 0]
    assert 0.74 < ((actual >= low) & (actual <= high))[100:].mean() < 0.86
    assert state.now_s == series.begin_s + 899 * HOUR_S


def test_a_forecaster_of_known_nodes_keeps_its_step(forecaster: LoadForecaster) -> None:
    assert LiveForecaster(forecaster, step_s=HOUR_S).step_s == HOUR_S
    with pytest.raises(UsageError, match="this forecaster has steps of 3600 s"):
        LiveForecaster(forecaster, step_s=60.0)


def test_a_series_of_other_steps_or_features_is_refused(forecaster: LoadForecaster) -> None:
    days = noisy_days(40)
    with pytest.raises(UsageError, match="learned steps of 3600 s, days has steps of 60 s"):
        told_quantiles(forecaster, replace(days, step_s=60.0))
    with pytest.raises(UsageError, match="has no feature 'load'"):
        told_quantiles(forecaster, replace(days, features=("cpus", "other")))


def test_a_clock_that_goes_back_changes_nothing(forecaster: LoadForecaster) -> None:
    live, series = LiveForecaster(forecaster), noisy_days()
    state, _ = replayed(live, live.begin(series.nodes), 500, 530)
    for now_s in (state.now_s, state.now_s - HOUR_S, np.nan, np.inf):
        after, answer = live.step(state, np.full((3, 2), 7.0), now_s)
        assert after is state
        assert set(answer.answer.reasons.tolist()) == {int(Reason.CLOCK)}


def test_steps_left_out_are_missing(forecaster: LoadForecaster) -> None:
    live, series = LiveForecaster(forecaster), noisy_days()
    state, _ = replayed(live, live.begin(series.nodes), 500, 530)
    state, _ = live.step(state, series.values[533].astype(float), state.now_s + 4 * HOUR_S)
    assert np.isnan(state.history[:, -4:-1]).all()
    assert np.isfinite(state.history[:, -1]).all()
    state, answer = live.step(state, series.values[534].astype(float), state.now_s + 1e9)
    assert set(answer.answer.reasons.tolist()) == {int(Reason.GAP)}


def test_new_nodes_are_told_until_they_have_a_history_and_others_keep_theirs(forecaster: LoadForecaster) -> None:
    live, series = LiveForecaster(forecaster, guarded=False), noisy_days()
    state, _ = replayed(live, live.begin(series.nodes), 500, 540)
    state = live.with_nodes(state, ["stranger", series.nodes[1]])
    np.testing.assert_array_equal(state.history[1, :, 0], series.values[516:540, 1, 0])
    reasons = []
    for row in range(540, 540 + HISTORY):
        values = series.values[row, [0, 1]].astype(float) * [[9.0], [1.0]]
        state, answer = live.step(state, values, series.begin_s + row * HOUR_S)
        reasons.append(answer.answer.reasons.tolist())
    assert reasons[:-1] == [[int(Reason.NEW_NODE), int(Reason.MODEL)]] * (HISTORY - 1)
    assert reasons[-1] == [int(Reason.MODEL)] * 2


def test_scales_are_the_cards_for_known_nodes_and_the_historys_for_new_ones(forecaster: LoadForecaster) -> None:
    history = histories(3)
    names = ("nobody", forecaster.card.nodes[1], forecaster.card.nodes[0])
    own, known = NodeScales.of_histories(history), forecaster.card.node_scales()
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        rows = np.array(order)
        found, new = forecaster.scales_of(tuple(names[i] for i in order), history[rows])
        assert new.tolist() == [names[i] == "nobody" for i in order]
        for name, values in vars(found).items():
            wanted = (getattr(own, name)[0], getattr(known, name)[1], getattr(known, name)[0])
            np.testing.assert_array_equal(values, [wanted[i] for i in order])


def test_persistence_answers_while_the_network_loses(forecaster: LoadForecaster) -> None:
    live, rng = LiveForecaster(forecaster), np.random.default_rng(0)
    state = live.begin(["node-0"])
    level = 50.0
    for row in range(200):
        level += 10.0 * (rng.random() < 0.02) * rng.normal()
        state, answer = live.step(state, np.array([[level, 0.0]]), row * HOUR_S)
    assert answer.answer.reasons.tolist() == [int(Reason.LOSING)]
    assert answer.answer.quantiles[0, 0, MEDIAN] == pytest.approx(level, rel=1e-6)


def test_a_shift_is_told_once(forecaster: LoadForecaster) -> None:
    live, series = LiveForecaster(forecaster), noisy_days(num_nodes=40)
    live.reference = replace(live.reference, error=1.0) if live.reference else None
    state = live.begin(["node-0", "node-1", "node-2"])
    events = []
    for row in range(200):
        values = 500.0 + 5.0 * series.values[row, :3].astype(float)
        state, answer = live.step(state, values, row * HOUR_S)
        events += answer.events
    assert events
    assert len(events) == len(set(events))


def test_a_card_that_does_not_fit_is_refused_with_the_field(trained: Path, tmp_path: Path) -> None:
    card = json.loads((trained / CARD).read_text())
    for change, message in (
        ({"history": 12}, "history: 12"),
        ({"belief": [1.0]}, "belief: shape"),
        ({"cycles": 7}, "cycles: 7"),
        ({"strange": 1}, "strange: unknown field"),
        ({"model_sha256": "0"}, "cut short or changed"),
        ({"kind": "kernel"}, "kind: 'kernel'"),
    ):
        (tmp_path / CARD).write_text(json.dumps(card | change))
        (tmp_path / MODEL).write_bytes((trained / MODEL).read_bytes())
        with pytest.raises(BundleError, match=message):
            load_forecaster(tmp_path)
    assert not is_forecaster(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        load_forecaster(tmp_path)


def test_other_folders_are_left_alone(trained: Path, tmp_path: Path) -> None:
    from shunter.predictors.bundle import write_forecaster

    forecaster = load_forecaster(trained)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="no forecaster"):
        write_forecaster(tmp_path, (trained / MODEL).read_bytes(), forecaster.card)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    from shunter.predictors.training import Material, Plan, train_member

    series = noisy_days()
    material = Material.of(series.values, begin_s=series.begin_s, step_s=series.step_s, dated=True)
    plan = Plan(hidden=4, width=8, epochs=4, steps=6, least_steps=6)
    whole = train_member(material, plan, 3)
    file = tmp_path / "checkpoint.pt"
    asked = iter([False] * 15 + [True] * 99)
    stopped = train_member(material, plan, 3, checkpoint=file, should_stop=lambda: next(asked))
    assert not stopped.complete
    assert len(stopped.curve) == 2
    resumed = train_member(material, plan, 3, checkpoint=file)
    assert resumed.complete
    for name, value in whole.best.items():
        assert torch.equal(value, resumed.best[name]), name
    with pytest.raises(UsageError, match="epochs is 5"):
        train_member(material, replace(plan, epochs=5), 3, checkpoint=file)


def test_training_never_looks_at_the_last_30_percent() -> None:
    from shunter.predictors.training import Material, Plan, train_member

    series, plan = noisy_days(), Plan(hidden=4, width=8, epochs=1, steps=4, least_steps=4)
    other = series.values.copy()
    other[630:] = 1e6
    members = []
    for values in (series.values, other):
        material = Material.of(values, begin_s=series.begin_s, step_s=series.step_s, dated=True)
        members.append(train_member(material, plan, 0))
    for name, value in members[0].best.items():
        assert torch.equal(value, members[1].best[name]), name
