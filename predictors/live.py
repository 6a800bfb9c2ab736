"""Forecasting as time goes on: histories, calibration, guard and drift of all nodes, one step after the other.

``step(state, …) -> (state, answer)``: nothing is remembered elsewhere, and no clock is read. A pass never raises for
what is measured; a time that does not move on, or a gap, has a defined answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shunter.predictors.conformal import Calibration, adjust, learn, remember
from shunter.predictors.drift import ALARM, PSI_LIMIT, Drift, Guard, Reference, Tally
from shunter.predictors.reasons import Reason
from shunter.predictors.shapes import HISTORY, HORIZON, MEDIAN
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shunter.predictors.load import Answer, LoadForecaster
    from shunter.predictors.scaling import NodeScales
    from shunter.scheduler.types import BoolArray, FloatArray, IntArray

DAY_S = 86_400.0
MOST_DAY_POINTS = 1440
STEPS = np.arange(HORIZON)


@dataclass(frozen=True)
class LiveState:
    """What is known by now; row i is node i.

    Attributes:
        nodes: (N,) names.
        places: (N,) rows on the forecaster's card; -1 for nodes unknown from training.
        history: (N, HISTORY, F).
        points: (N,) since a node was first measured, at most HISTORY.
        now_s: Time of the last point; NaN before the first.
        calibration: Of intervals.
        guard: Against persistence.
        raw: (HORIZON, N, HORIZON) the network's medians, newest first.
        naive: (HORIZON, N) last values that they were made from.
        recent: Into which bins the loads of the last day fell, those of nodes known from training.
        told: Drifts that were told already.
    """

    nodes: tuple[str, ...]
    places: IntArray
    history: FloatArray
    points: IntArray
    now_s: float
    calibration: Calibration
    guard: Guard
    raw: FloatArray
    naive: FloatArray
    recent: Tally
    told: frozenset[Drift] = frozenset()


@dataclass(frozen=True)
class LiveAnswer:
    """What a step says.

    Attributes:
        answer: Forecasts of all nodes with calibrated intervals, and why.
        events: Drifts noticed for the first time: the forecaster should be trained anew.
        psi: Population stability index of changes and of levels over the last day; 0 while too few points are known.
    """

    answer: Answer
    events: tuple[Drift, ...] = ()
    psi: tuple[float, float] = (0.0, 0.0)


class LiveForecaster:
    """Steps of a forecaster; all memory is in the state.

    Args:
        forecaster: A loaded bundle.
        guarded: Whether persistence answers for a node while it was better over the last day.
        step_s: Seconds from one step to the next. Only a forecaster that knows no nodes takes any; others have theirs.

    Raises:
        UsageError: Another step than the forecaster's.
    """

    def __init__(self, forecaster: LoadForecaster, *, guarded: bool = True, step_s: float | None = None) -> None:
        self.forecaster = forecaster
        self.guarded = guarded
        self.step_s = forecaster.card.step_s if step_s is None else step_s
        if not (np.isfinite(self.step_s) and self.step_s > 0):
            raise UsageError(f"a step of {self.step_s!r} s, expected a positive number")
        if self.step_s != forecaster.card.step_s and not forecaster.general:
            raise UsageError(f"a step of {self.step_s:g} s, this forecaster has steps of {forecaster.card.step_s:g} s")
        card = forecaster.card
        self.reference = Reference.from_json(card.reference) if card.reference else None
        self.day_points = int(np.clip(round(DAY_S / self.step_s), HISTORY, MOST_DAY_POINTS))

    def begin(self, nodes: Sequence[str]) -> LiveState:
        """Nothing measured yet."""
        card, many = self.forecaster.card, len(nodes)
        return LiveState(
            nodes=tuple(nodes),
            places=self.forecaster.places_of(nodes),
            history=np.full((many, HISTORY, len(card.features)), np.nan),
            points=np.zeros(many, np.int64),
            now_s=float("nan"),
            calibration=Calibration.begin(many, np.asarray(card.offset), np.asarray(card.size)),
            guard=Guard.begin(many),
            raw=np.full((HORIZON, many, HORIZON), np.nan),
            naive=np.full((HORIZON, many), np.nan),
            recent=Tally.begin(self.reference),
        )

    def with_nodes(self, state: LiveState, nodes: Sequence[str]) -> LiveState:
        """The state for other nodes: those that stay keep what is known of them."""
        fresh, place = self.begin(nodes), {name: row for row, name in enumerate(state.nodes)}
        to = np.array([row for row, name in enumerate(nodes) if name in place], dtype=np.int64)
        of = np.array([place[name] for name in nodes if name in place], dtype=np.int64)

        def moved(new: FloatArray, old: FloatArray, axis: int) -> FloatArray:
            found = np.moveaxis(new.copy(), axis, 0)
            found[to] = np.moveaxis(old, axis, 0)[of]
            return np.moveaxis(found, 0, axis)

        mine, theirs = fresh.calibration, state.calibration
        return replace(
            fresh,
            history=moved(fresh.history, state.history, 0),
            points=moved(fresh.points.astype(np.float64), state.points.astype(np.float64), 0).astype(np.int64),
            now_s=state.now_s,
            calibration=Calibration(
                moved(mine.offset, theirs.offset, 0),
                moved(mine.size, theirs.size, 0),
                moved(mine.pending, theirs.pending, 1),
                moved(mine.scale, theirs.scale, 1),
                moved(mine.missed, theirs.missed, 0),
            ),
            guard=Guard(
                moved(fresh.guard.mine, state.guard.mine, 0),
                moved(fresh.guard.theirs, state.guard.theirs, 0),
                moved(fresh.guard.judged, state.guard.judged, 0),
                state.guard.grown,
            ),
            raw=moved(fresh.raw, state.raw, 1),
            naive=moved(fresh.naive, state.naive, 1),
            recent=state.recent,
            told=state.told,
        )

    def step(self, state: LiveState, values: FloatArray, now_s: float) -> tuple[LiveState, LiveAnswer]:
        """Take what was measured, and forecast.

        Args:
            state: Until now.
            values: (N, F) of the step that ended, NaN where nothing was measured.
            now_s: Its time. Steps that were left out count as missing; a time that is not after the last one changes
                nothing, and persistence answers.
        """
        given = _shaped(values, state.history.shape)
        ahead = 1.0 if np.isnan(state.now_s) else (now_s - state.now_s) / self.step_s
        if not (np.isfinite(now_s) and ahead >= 0.5):
            scales, new = self.forecaster.scales_at(state.places, state.history)
            answer = self._answer(state, scales, new, state.now_s)
            return state, LiveAnswer(answer.instead(np.ones(len(state.nodes), bool), Reason.CLOCK))
        for _ in range(min(round(ahead) - 1, HISTORY + HORIZON)):
            state = self._unforecast(self._noted(state, np.full_like(given, np.nan)))
        state = self._noted(state, given)
        scales, new = self.forecaster.scales_at(state.places, state.history)
        answer = self._answer(state, scales, new, now_s)
        model = np.where((answer.reasons == Reason.MODEL)[:, None], answer.quantiles[..., MEDIAN], np.nan)
        naive = answer.persistence[:, 0, MEDIAN]
        if self.guarded:
            answer = answer.instead(state.guard.losing(), Reason.LOSING)
        shown = adjust(state.calibration, answer.quantiles, answer.scale)
        shown = np.maximum(shown, np.where(scales.low[:, 0] >= 0, 0.0, -np.inf)[:, None, None])
        events, psi = self._drifts(state)
        state = replace(
            state,
            now_s=now_s,
            calibration=remember(state.calibration, shown, answer.scale),
            raw=np.concatenate([model[None], state.raw[:-1]]),
            naive=np.concatenate([naive[None], state.naive[:-1]]),
            told=state.told | set(events),
        )
        return state, LiveAnswer(replace(answer, quantiles=shown), events, psi)

    def _answer(self, state: LiveState, scales: NodeScales, new: BoolArray, now_s: float) -> Answer:
        time_s = np.full(len(state.nodes), now_s)
        return self.forecaster.answer(state.history, time_s, scales, new=new, points=state.points)

    def _noted(self, state: LiveState, given: FloatArray) -> LiveState:
        """The state a step later: errors known, history moved on; forecasts of this step are still to come."""
        actual = np.where(np.isfinite(given[:, 0]), given[:, 0], np.nan)
        made, naive = state.raw[STEPS, :, STEPS], state.naive
        errors = np.abs(actual - made), np.abs(actual - naive)
        known = np.isfinite(errors[0]) & np.isfinite(errors[1])
        count = known.sum(axis=0)
        mine, theirs = (
            np.where(count > 0, np.where(known, error, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
            for error in errors
        )
        usual, recent = np.ones(len(actual)), state.recent
        if self.reference is not None:
            scales, new = self.forecaster.scales_at(state.places, state.history)
            usual = scales.unit()[:, 0]
            old = np.flatnonzero(~new)
            before = state.history[old, -1, 0]
            recent = recent.counting(self.reference, before, actual[old], scales.take(old), self.day_points)
        appeared = (state.points > 0) | np.isfinite(actual)
        return replace(
            state,
            history=np.concatenate([state.history[:, 1:], given[:, None]], axis=1),
            points=np.minimum(state.points + appeared, HISTORY),
            calibration=learn(state.calibration, actual),
            guard=state.guard.learn(
                mine,
                theirs,
                day_points=self.day_points,
                usual=usual,
                expected=self.reference.error if self.reference else 0.0,
            ),
            recent=recent,
        )

    def _unforecast(self, state: LiveState) -> LiveState:
        """A step in which nothing was forecast: older forecasts grow older by it."""
        blank, many = np.full((HORIZON, 3), np.nan), len(state.nodes)
        return replace(
            state,
            calibration=remember(state.calibration, np.broadcast_to(blank, (many, HORIZON, 3)), np.ones(many)),
            raw=np.concatenate([np.full_like(state.raw[:1], np.nan), state.raw[:-1]]),
            naive=np.concatenate([np.full_like(state.naive[:1], np.nan), state.naive[:-1]]),
        )

    def _drifts(self, state: LiveState) -> tuple[tuple[Drift, ...], tuple[float, float]]:
        """Drifts noticed now for the first time; the last day is looked at once it is full."""
        found: list[Drift] = []
        psi = (0.0, 0.0)
        if self.reference is not None:
            if len(state.recent) >= self.day_points:
                psi = state.recent.indices(self.reference)
            for index, drift in zip(psi, (Drift.CHANGES, Drift.LEVELS), strict=True):
                if index > PSI_LIMIT:
                    found.append(drift)
            if state.guard.grown > ALARM:
                found.append(Drift.ERRORS)
        return tuple(drift for drift in found if drift not in state.told), psi


def _shaped(values: object, shape: tuple[int, ...]) -> FloatArray:
    """(N, F) values whatever came: missing where it does not fit."""
    wanted = np.full((shape[0], shape[2]), np.nan)
    try:
        given = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return wanted
    if given.ndim == 1:
        given = given[:, None]
    if given.ndim == 2:
        nodes, features = min(given.shape[0], shape[0]), min(given.shape[1], shape[2])
        wanted[:nodes, :features] = given[:nodes, :features]
    return wanted
