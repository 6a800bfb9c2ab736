"""Bundles of duration predictors: a folder with the trees, their card and figures; written, checked, and loaded.

Needs neither LightGBM nor ``onnx``: the trees are read from the ONNX file and walked by the core's compiled functions,
and held to ONNX Runtime when the bundle is written. What does not fit is refused with the file and the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shunter.predictors.tree_files import INPUT, OUTPUT, read_forest
from shunter.scheduler.durations import RATE, SCHEMA, WINDOW, RunModel
from shunter.scheduler.errors import BundleError
from shunter.traces.bundles import CARD, FIGURES, MODEL, card_fields, kind_of, read_bundle, session_of, sha256_of
from shunter.traces.folders import write_whole

KIND = "durations"
CARD_VERSION = 1

PARITY = 1e-5
"""Largest difference between the compiled trees and ONNX Runtime's, in logarithms, over the larger of 1 and these."""

PROBES = 512
"""Random jobs on which the two are compared."""


@dataclass(frozen=True, slots=True)
class DurationCard:
    """What a predictor is and where it comes from.

    Attributes:
        levels: Of its quantiles, rising.
        expected: The level that decisions count with.
        window: Ended jobs by which the outer quantiles are calibrated.
        rate: Of the calibration's level.
        traces: What it was trained on: name, sha256, and ``first`` and ``last`` job of each period, by role.
        seeds: Of training.
        settings: Of the trees.
        command: That trained it.
        versions: Of packages.
        evaluation: Tables of results.
        notes: Anything else.
        features: The schema of its features.
        model_sha256: Of ``model.onnx``; written with the bundle.
        kind: ``durations``.
        version: Of the card's layout.
    """

    levels: tuple[float, ...]
    expected: float
    window: int = WINDOW
    rate: float = RATE
    traces: tuple[Mapping[str, Any], ...] = ()
    seeds: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    features: Mapping[str, Any] = field(default_factory=SCHEMA.as_json)
    model_sha256: str = ""
    kind: str = KIND
    version: int = CARD_VERSION

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise BundleError(f"kind: {self.kind!r}, expected {KIND!r}: not a predictor of run times")
        if self.version != CARD_VERSION:
            raise BundleError(f"version: {self.version!r}, this program reads {CARD_VERSION}")
        features: Any = self.features
        for name, value in SCHEMA.as_json().items():
            found = features.get(name) if isinstance(features, Mapping) else None
            if found != value:
                raise BundleError(
                    f"features.{name}: {found!r}, this program has {value!r}: the model was trained with other "
                    "features and has to be trained anew"
                )
        self._check_numbers(self.window, self.rate)

    def _check_numbers(self, window: Any, rate: Any) -> None:
        levels: tuple[Any, ...] = self.levels
        if not all(isinstance(level, int | float) and 0 < level < 1 for level in levels):
            raise BundleError(f"levels: {list(self.levels)}, expected numbers between 0 and 1")
        if len(self.levels) < 2 or list(self.levels) != sorted(set(self.levels)):
            raise BundleError(f"levels: {list(self.levels)}, expected at least two rising numbers")
        if self.expected not in self.levels:
            raise BundleError(f"expected: {self.expected!r}, none of the levels {list(self.levels)}")
        if not isinstance(window, int) or window < 0:
            raise BundleError(f"window: {window!r}, expected a number of jobs of at least 0")
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise BundleError(f"rate: {rate!r}, expected a number from 0 to 1")

    @classmethod
    def from_json(cls, document: object) -> DurationCard:
        """A card from its JSON document.

        Raises:
            BundleError: A field is missing, unknown or out of range; says which.
        """
        if not isinstance(document, dict):
            raise BundleError("not a JSON object")
        if document.get("kind") != KIND:
            raise BundleError(f"kind: {document.get('kind')!r}, expected {KIND!r}: not a predictor of run times")
        required = ("levels", "expected", "features", "model_sha256")
        given = card_fields(cls, document, required=required, lists=("levels", "traces", "seeds"))
        return cls(**given)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class DurationBundle:
    """A loaded predictor.

    Attributes:
        path: Its folder.
        card: What it is.
        model: What tells run times.
    """

    path: Path
    card: DurationCard
    model: RunModel


def is_durations(path: Path) -> bool:
    """Whether a folder's card says that it is a predictor of run times; nothing else of it is looked at."""
    return kind_of(path) == KIND


def load_durations(path: Path, name: str | None = None) -> DurationBundle:
    """A predictor, checked.

    Args:
        path: The bundle's folder.
        name: What tables call it; ``model:NAME`` by default, with the name of the folder.

    Raises:
        BundleError: A file is missing or damaged, or the model does not fit this program; says which field.
    """
    card, onnx = read_bundle(path, DurationCard.from_json, lambda card: card.model_sha256, what="a predictor's bundle")
    return DurationBundle(path, card, _model(path / MODEL, onnx, card, name or f"model:{path.resolve().name}"))


def _model(file: Path, onnx: bytes, card: DurationCard, name: str) -> RunModel:
    try:
        forest = read_forest(onnx, SCHEMA.size)
    except BundleError as error:
        raise BundleError(f"{file}: {error}") from None
    if len(forest.first) - 1 != len(card.levels):
        raise BundleError(f"{file}: {len(forest.first) - 1} ensembles of trees for {len(card.levels)} levels")
    return RunModel(
        forest, tuple(card.levels), card.expected, card.window, float(card.rate), name=name, sha256=card.model_sha256
    )


def write_durations(
    folder: Path, onnx: bytes, card: DurationCard, figures: Mapping[str, bytes] | None = None
) -> DurationBundle:
    """Write a bundle, whole or not at all; one that stood there before is replaced.

    Raises:
        BundleError: ONNX Runtime tells other run times than the compiled trees, or the trees do not fit the card.
        OutputError: The folder cannot be written, or holds something else.
    """
    card = replace(card, model_sha256=sha256_of(onnx))
    check_parity(folder / MODEL, onnx, _model(folder / MODEL, onnx, card, "written"))
    text = json.dumps(card.as_json(), indent=1, sort_keys=True) + "\n"
    files = {MODEL: onnx, CARD: text.encode()} | {f"{FIGURES}/{name}": png for name, png in (figures or {}).items()}
    write_whole(folder, files, mark=CARD, what="model bundle")
    return load_durations(folder)


def check_parity(file: Path, onnx: bytes, model: RunModel) -> float:
    """The largest difference between ONNX Runtime and the compiled trees on random jobs, see ``PARITY``.

    Raises:
        BundleError: It is too large, or ONNX Runtime cannot run the file.
    """
    from shunter.scheduler.kernels.durations import TYPICAL
    from shunter.scheduler.kernels.forest import predict_rows

    random = np.random.default_rng(0)
    probe = random.normal(0.0, 3.0, (PROBES, SCHEMA.size)).astype(np.float32)
    probe[random.random(probe.shape) < 0.2] = np.nan
    probe[:, TYPICAL] = random.uniform(0.0, 14.0, PROBES)
    try:
        theirs = session_of(onnx).run([OUTPUT], {INPUT: probe})[0]
    except BundleError as error:
        raise BundleError(f"{file}: {error}") from None
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise BundleError(f"{file}: ONNX Runtime cannot run it: {str(error).splitlines()[0]}") from None
    rows = probe.astype(np.float64)
    mine = np.empty((PROBES, len(model.levels)))
    predict_rows(model.forest, rows, mine)
    mine += rows[:, [TYPICAL]]
    difference = float((np.abs(mine - theirs) / np.maximum(np.abs(mine), 1.0)).max())
    if not difference <= PARITY:
        raise BundleError(f"{file}: ONNX Runtime differs from its trees by {difference:.1e}, at most {PARITY:.0e}")
    return difference


def shipped_folder() -> Path:
    """Where the package keeps its predictor of run times."""
    return Path(__file__).resolve().parent / "shipped_durations"


def shipped_durations() -> Path:
    """The folder of the predictor that comes with the package.

    Raises:
        BundleError: This installation has none.
    """
    folder = shipped_folder()
    if not (folder / CARD).exists():
        raise BundleError(
            "no predictor of run times comes with this installation: train one with `shunter train durations`, and "
            "name its folder with --estimates model:FOLDER"
        )
    return folder
