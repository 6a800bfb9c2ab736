"""Forecasts of all nodes from a bundle: ONNX Runtime only, an answer for whatever comes, never an exception in a pass.

What a pass cannot forecast with the network it answers with persistence, and says why, node by node (``Reason``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.decoding import possible
from shunter.predictors.reasons import Reason
from shunter.predictors.runtime import answers, check_network
from shunter.predictors.scaling import NodeScales, encode
from shunter.predictors.shapes import HISTORY, HORIZON, fan
from shunter.traces.bundles import session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shunter.predictors.card import ForecastCard
    from shunter.scheduler.types import BoolArray, FloatArray, IntArray

LEAST_KNOWN = 0.25
"""Share of a history that must have been measured for the network to be asked."""


@dataclass(frozen=True)
class Answer:
    """Forecasts of B nodes.

    Attributes:
        quantiles: (B, HORIZON, 3), finite, none below the one before it.
        persistence: (B, HORIZON, 3) what persistence says.
        scale: (B,) of the windows; calibration counts in these.
        reasons: (B,) members of ``Reason`` as numbers; 0 where the network answered.
    """

    quantiles: FloatArray
    persistence: FloatArray
    scale: FloatArray
    reasons: IntArray

    def instead(self, nodes: BoolArray, reason: Reason) -> Answer:
        """This with persistence for some of the nodes that the network answered for."""
        chosen = nodes & (self.reasons == Reason.MODEL)
        quantiles = np.where(chosen[:, None, None], self.persistence, self.quantiles)
        return Answer(quantiles, self.persistence, self.scale, np.where(chosen, int(reason), self.reasons))


class LoadForecaster:
    """A trained network, ready to forecast; thread-safe, without memory.

    Args:
        card: Of its bundle.
        onnx: The network.

    Raises:
        BundleError: The network does not load or does not fit the card.
    """

    name = "lstm"

    def __init__(self, card: ForecastCard, onnx: bytes) -> None:
        self.card = card
        self._session: Any = session_of(onnx)
        check_network(self._session, len(card.features))
        self._decoding = card.decoding()
        self._offsets = np.asarray(card.persistence, np.float64)[None]
        self._known = card.node_scales()

    @property
    def general(self) -> bool:
        """Whether it was trained to know no node: what it knows of each it learns from the history that is given."""
        return not self.card.nodes

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.card.nodes)}

    def scales_of(self, nodes: Sequence[str], history: FloatArray) -> tuple[NodeScales, BoolArray]:
        """What is known of nodes by name; from their (B, HISTORY, F) histories where they are new, and which are."""
        return self.scales_at(self.places_of(nodes), history)

    def places_of(self, nodes: Sequence[str]) -> IntArray:
        """(B,) rows of nodes on the card; -1 for those that training did not know."""
        return np.array([self._places.get(name, -1) for name in nodes], dtype=np.int64)

    def scales_at(self, places: IntArray, history: FloatArray) -> tuple[NodeScales, BoolArray]:
        """As ``scales_of``, by the rows of the nodes on the card."""
        new = places < 0
        if new.all():
            return NodeScales.of_histories(history), new
        known = self._known.take(np.maximum(places, 0))
        if not new.any():
            return known, new
        own = vars(NodeScales.of_histories(history[new]))
        mixed = {name: theirs.copy() for name, theirs in vars(known).items()}
        for name, values in mixed.items():
            values[new] = own[name]
        return NodeScales(**mixed), new

    def forecast(self, history: FloatArray, time_s: FloatArray, scales: NodeScales | None = None) -> FloatArray:
        """Quantiles, as ``Forecaster`` says; a general one takes no scales."""
        return self.answer(history, time_s, None if self.general else scales).quantiles

    def answer(
        self,
        history: FloatArray,
        time_s: FloatArray,
        scales: NodeScales | None = None,
        *,
        new: BoolArray | None = None,
        points: IntArray | None = None,
    ) -> Answer:
        """Forecasts with the reasons behind them.

        Args:
            history: (B, HISTORY, F), oldest first. NaN and infinite values are missing. Fewer points than a history
                are filled with missing ones in front, more are cut there; a wrong number of features is filled up or
                cut as well.
            time_s: (B,) time of the last point; not finite: 0.
            scales: What is known of the nodes; found from the histories where it is not given.
            new: (B,) nodes that training did not know.
            points: (B,) since a node appeared; as many as the histories have where it is not given.
        """
        if points is None:
            points = np.full(len(history), history.shape[1] if np.ndim(history) > 1 else 0, np.int64)
        history, infinite = _fitted(history, len(self.card.features))
        time_s = np.nan_to_num(np.broadcast_to(np.asarray(time_s, np.float64), len(history)), posinf=0.0, neginf=0.0)
        scales = NodeScales.of_histories(history) if scales is None else scales
        reasons = reasons_for(history, scales, infinite, points < HISTORY, new)
        with np.errstate(all="ignore"):
            encoded = encode(history, time_s, scales, self.card.cycles)
            persistence = fan(
                np.repeat(encoded.last[:, None], HORIZON, axis=1), self._offsets * encoded.scale[:, None, None]
            )
            persistence = np.nan_to_num(possible(persistence, scales))
            quantiles = persistence.copy()
            asked = np.flatnonzero(reasons == Reason.MODEL)
            if len(asked):
                everyone = len(asked) == len(reasons)
                sequence = encoded.sequence if everyone else encoded.sequence[asked]
                context = encoded.context if everyone else encoded.context[asked]
                raw = answers(self._session, sequence, context).astype(np.float64)
                found = self._decoding.decode(
                    raw, encoded.last[asked], encoded.scale[asked], scales if everyone else scales.take(asked)
                )
                finite = np.isfinite(found).all(axis=(1, 2))
                quantiles[asked[finite]] = found[finite]
                reasons[asked[~finite]] = Reason.FAILED
        return Answer(quantiles, persistence, encoded.scale, reasons)


def reasons_for(
    history: FloatArray, scales: NodeScales, infinite: BoolArray, short: BoolArray, new: BoolArray | None = None
) -> IntArray:
    """(B,) why the network is not asked; 0 where it is."""
    target = np.ascontiguousarray(history[..., 0])
    known = np.isfinite(target)
    count = known.sum(axis=1)
    unknown = np.zeros(len(history), dtype=bool) if new is None else new
    if known.all():
        flat = target.max(axis=1) == target.min(axis=1)
    else:
        flat = np.where(known, target, -np.inf).max(axis=1) == np.where(known, target, np.inf).min(axis=1)
    conditions: list[tuple[BoolArray, Reason]] = [
        (count == 0, Reason.NOTHING),
        (infinite, Reason.NOT_FINITE),
        (unknown & short, Reason.NEW_NODE),
        (short, Reason.SHORT),
        (count < LEAST_KNOWN * HISTORY, Reason.GAP),
        (flat & (scales.high[:, 0] == scales.low[:, 0]), Reason.CONSTANT),
    ]
    found: IntArray = np.select(
        [condition for condition, _ in conditions], [int(reason) for _, reason in conditions], int(Reason.MODEL)
    ).astype(np.int64)
    return found


def _fitted(history: FloatArray, num_features: int) -> tuple[FloatArray, BoolArray]:
    """(B, HISTORY, F) histories whatever came, with infinite values as missing; which ones ended in such a value."""
    given = np.asarray(history, dtype=np.float64)
    if given.ndim != 3:
        given = np.full((len(given) if given.ndim else 0, 0, 0), np.nan)
    if given.shape[1:] != (HISTORY, num_features):
        fitted = np.full((len(given), HISTORY, num_features), np.nan)
        points, features = min(HISTORY, given.shape[1]), min(num_features, given.shape[2])
        if points and features:
            fitted[:, -points:, :features] = given[:, -points:, :features]
        given = fitted
    infinite = np.isinf(given[:, -1, 0])
    wild = np.isinf(given)
    return (np.where(wild, np.nan, given) if wild.any() else given), infinite
