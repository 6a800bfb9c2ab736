"""The card of a forecaster's bundle: what it forecasts, of which nodes, where it comes from and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from shunter.predictors.decoding import Decoding
from shunter.predictors.scaling import NodeScales
from shunter.predictors.shapes import HISTORY, HORIZON, QUANTILES
from shunter.predictors.windows import MOST_FEATURES
from shunter.scheduler.errors import BundleError
from shunter.traces.bundles import card_fields

KIND = "load-lstm"
CARD_VERSION = 1
SEQUENCE, CONTEXT, OUTPUT = "sequence", "context", "quantiles"
"""Names of the network's inputs and output."""

PER_FEATURE = ("step", "low", "high")
"""Fields of ``NodeScales`` with a number for each feature."""


@dataclass(frozen=True)
class ForecastCard:
    """All that is known of a forecaster.

    Attributes:
        kind: ``load-lstm``.
        features: Names; the first one is forecast.
        units: Of the features.
        step_s: Seconds between two points; the shortest that it learned from where it knows no nodes: it takes any.
        dated: Whether the times are dates.
        cycles: How much of the calendar it uses: 0 nothing, 1 the time of day, 2 the day of the week as well.
        nodes: Names of the nodes that it was trained on; none for one that knows only what histories say.
        scales: What is known of them: lists by the fields of ``NodeScales``.
        belief: Of ``Decoding``.
        threshold: Of ``Decoding``.
        persistence: (HORIZON, 2) quantiles of the errors of persistence on validation, in scales of the window.
        offset: (HORIZON, 2) where calibration begins: what it had learned on validation, the mean over the nodes.
        size: (HORIZON,) mean error there.
        reference: What drift is measured against; see ``drift.Reference``.
        trained_on: Sources, rows and times.
        seeds: Whose answers are averaged.
        command: That trained it.
        versions: Of packages.
        evaluation: Of the test part, and speed.
        int8: Error, size and speed of ``model.int8.onnx``.
        notes: Anything else.
        model_sha256: Of ``model.onnx``.
        version: Of the card's layout.
    """

    features: tuple[str, ...]
    units: tuple[str, ...]
    step_s: float
    dated: bool
    cycles: int
    nodes: tuple[str, ...]
    scales: Mapping[str, Any]
    belief: tuple[float, ...]
    threshold: tuple[tuple[float, ...], ...]
    persistence: tuple[tuple[float, ...], ...]
    offset: tuple[tuple[float, ...], ...]
    size: tuple[float, ...]
    reference: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[Mapping[str, Any], ...] = ()
    seeds: tuple[int, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    int8: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    model_sha256: str = ""
    kind: str = KIND
    history: int = HISTORY
    horizon: int = HORIZON
    quantiles: tuple[float, ...] = QUANTILES
    version: int = CARD_VERSION

    def __post_init__(self) -> None:
        """Refuse what this program cannot use, with the field."""
        expected = {"kind": KIND, "version": CARD_VERSION, "history": HISTORY, "horizon": HORIZON}
        for name, value in expected.items():
            if getattr(self, name) != value:
                raise BundleError(f"{name}: {getattr(self, name)!r}, this program reads {value!r}")
        if tuple(self.quantiles) != QUANTILES:
            raise BundleError(f"quantiles: {list(self.quantiles)}, this program reads {list(QUANTILES)}")
        if not 1 <= len(self.features) <= MOST_FEATURES or len(self.units) != len(self.features):
            raise BundleError(
                f"features: {len(self.features)} with {len(self.units)} units, expected 1 to {MOST_FEATURES} of each"
            )
        if not self.step_s > 0:
            raise BundleError(f"step_s: {self.step_s!r}, expected seconds above 0")
        if self.cycles not in (0, 1, 2):
            raise BundleError(f"cycles: {self.cycles!r}, expected 0, 1 or 2")
        shapes = {"belief": (HORIZON,), "threshold": (HORIZON, 3), "persistence": (HORIZON, 2)}
        for name, shape in (shapes | {"offset": (HORIZON, 2), "size": (HORIZON,)}).items():
            _numbers(name, getattr(self, name), shape)
        for each in fields(NodeScales):
            shape = (
                (len(self.nodes), len(self.features)) if self.nodes and each.name in PER_FEATURE else (len(self.nodes),)
            )
            _numbers(f"scales.{each.name}", self.scales.get(each.name), shape)

    @classmethod
    def from_json(cls, document: object) -> ForecastCard:
        """A card from its JSON document.

        Raises:
            BundleError: A field is missing, unknown or out of range; says which.
        """
        if not isinstance(document, dict):
            raise BundleError("not a JSON object")
        given = card_fields(cls, document, required=("kind", *sorted(_REQUIRED)), lists=_LISTS)
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def node_scales(self) -> NodeScales:
        """What is known of its nodes."""
        rows = {each.name: np.asarray(self.scales[each.name], np.float64) for each in fields(NodeScales)}
        if not self.nodes:  # no rows say nothing of their length
            rows |= {name: np.zeros((0, len(self.features))) for name in PER_FEATURE}
        return NodeScales(**rows)

    def decoding(self) -> Decoding:
        """How its network's numbers become forecasts."""
        return Decoding(np.asarray(self.belief, np.float64), np.asarray(self.threshold, np.float64))


_LISTS = {"features", "units", "nodes", "belief", "threshold", "persistence", "offset", "size"}
_LISTS |= {"trained_on", "seeds", "quantiles"}
_REQUIRED = {"features", "units", "step_s", "dated", "cycles", "nodes", "scales", "belief", "threshold", "persistence"}
_REQUIRED |= {"offset", "size", "model_sha256", "version"}


def _numbers(name: str, values: object, shape: tuple[int, ...]) -> None:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BundleError(f"{name}: not numbers") from None
    if found.shape != shape or not np.isfinite(found).all():
        raise BundleError(f"{name}: shape {found.shape}, expected {shape} finite numbers")
