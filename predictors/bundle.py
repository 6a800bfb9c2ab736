"""Bundles of forecasters: a folder with ``model.onnx``, ``card.json`` and ``figures/``, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from shunter.predictors.card import KIND, ForecastCard
from shunter.predictors.load import LoadForecaster
from shunter.scheduler.errors import BundleError, OutputError
from shunter.traces.bundles import CARD, FIGURES, MODEL, kind_of, read_bundle, sha256_of
from shunter.traces.folders import write_whole

INT8 = "model.int8.onnx"


def is_forecaster(path: Path) -> bool:
    """Whether a folder holds a forecaster, by the kind on its card; a card that cannot be read is none."""
    return kind_of(path) == KIND


def load_forecaster(path: Path, *, int8: bool = False) -> LoadForecaster:
    """A bundle's forecaster, checked.

    Args:
        path: Its folder.
        int8: Whether to take the network in eight-bit numbers; the card says how far off it is.

    Raises:
        BundleError: A file is missing or damaged, or does not fit this program; says which field.
    """
    name = INT8 if int8 else MODEL
    told_in = "int8.sha256" if int8 else "model_sha256"

    def checksum(card: ForecastCard) -> object:
        return card.int8.get("sha256") if int8 else card.model_sha256

    card, onnx = read_bundle(path, ForecastCard.from_json, checksum, what="a forecaster", model=name, told_in=told_in)
    try:
        return LoadForecaster(card, onnx)
    except BundleError as error:
        raise BundleError(f"{path / name}: {error}") from None


def shipped_folder() -> Path:
    """Where the package keeps its forecaster of load."""
    return Path(__file__).resolve().parent / "shipped_load"


def shipped_forecaster() -> Path:
    """The folder of the forecaster that comes with the package, for nodes never seen and steps of any length.

    Raises:
        BundleError: This installation has none.
    """
    folder = shipped_folder()
    if not (folder / CARD).exists():
        raise BundleError(
            "no forecaster of load comes with this installation: train one with `shunter train forecaster`"
        )
    return folder


def write_forecaster(
    folder: Path,
    onnx: bytes,
    card: ForecastCard,
    *,
    int8: bytes | None = None,
    figures: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle; one that stood there before is replaced.

    Raises:
        BundleError: The network does not fit the card.
        OutputError: The folder cannot be written, or holds something else.
    """
    facts = dict(card.int8) | ({} if int8 is None else {"sha256": sha256_of(int8)})
    card = replace(card, model_sha256=sha256_of(onnx), int8=facts)
    LoadForecaster(card, onnx)
    if (folder / CARD).exists() and not is_forecaster(folder):  # another kind of model is not replaced
        raise OutputError(f"{folder}: holds something that is no forecaster")
    files = {MODEL: onnx, CARD: (json.dumps(card.as_json(), indent=1) + "\n").encode()}
    files |= {} if int8 is None else {INT8: int8}
    files |= {f"{FIGURES}/{name}": contents for name, contents in (figures or {}).items()}
    write_whole(folder, files, mark=CARD, what="forecaster", folders=(FIGURES,))
