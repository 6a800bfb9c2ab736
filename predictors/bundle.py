"""Bundles of forecasters: a folder with ``model.onnx``, ``card.json`` and ``figures/``, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from shunter.predictors.card import KIND, ForecastCard
from shunter.predictors.load import LoadForecaster
from shunter.scheduler.errors import BundleError, OutputError

MODEL, INT8, CARD, FIGURES = "model.onnx", "model.int8.onnx", "card.json", "figures"


def is_forecaster(path: Path) -> bool:
    """Whether a folder holds a forecaster, by the kind on its card; a card that cannot be read is none."""
    try:
        document = json.loads((path / CARD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("kind") == KIND


def load_forecaster(path: Path, *, int8: bool = False) -> LoadForecaster:
    """A bundle's forecaster, checked.

    Args:
        path: Its folder.
        int8: Whether to take the network in eight-bit numbers; the card says how far off it is.

    Raises:
        BundleError: A file is missing or damaged, or does not fit this program; says which field.
    """
    name = INT8 if int8 else MODEL
    if not path.is_dir():
        raise BundleError(f"{path}: no such folder; a forecaster is a folder with {MODEL} and {CARD}")
    try:
        text, onnx = (path / CARD).read_bytes(), (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{error.filename}: cannot be read: {error.strerror}; is this a forecaster?") from None
    try:
        card = ForecastCard.from_json(json.loads(text))
    except ValueError:
        raise BundleError(f"{path / CARD}: not JSON") from None
    except BundleError as error:
        raise BundleError(f"{path / CARD}: {error}") from None
    digest, expected = hashlib.sha256(onnx).hexdigest(), card.int8.get("sha256") if int8 else card.model_sha256
    if digest != expected:
        raise BundleError(
            f"{path / name}: cut short or changed: its SHA-256 begins with {digest[:12]}, not as the card says"
        )
    try:
        return LoadForecaster(card, onnx)
    except BundleError as error:
        raise BundleError(f"{path / name}: {error}") from None


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
    facts = dict(card.int8) | ({} if int8 is None else {"sha256": hashlib.sha256(int8).hexdigest()})
    card = replace(card, model_sha256=hashlib.sha256(onnx).hexdigest(), int8=facts)
    LoadForecaster(card, onnx)
    if folder.exists() and not is_forecaster(folder) and any(folder.iterdir()):
        raise OutputError(f"{folder}: holds something that is no forecaster")
    final = folder.resolve()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            partial.chmod(0o755)
            (partial / MODEL).write_bytes(onnx)
            if int8 is not None:
                (partial / INT8).write_bytes(int8)
            (partial / CARD).write_text(json.dumps(card.as_json(), indent=1) + "\n", encoding="utf-8")
            (partial / FIGURES).mkdir()
            for name, contents in (figures or {}).items():
                (partial / FIGURES / name).write_bytes(contents)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
