"""Weighted sums of features as bundles of the kind ``linear``: what a tuned control is kept in.

Weights lie in a JSON document, ``{"weights": {"log_request": 1.0, …}}``, by the names of ``scheduler.features``; a
feature that is not named has weight 0. Writing a bundle needs the package ``onnx``, using one does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.agents.bundle import Bundle, Card, write_bundle
from shunter.scheduler.errors import BundleError, nearest
from shunter.scheduler.features import FEATURES, SCHEMA
from shunter.scheduler.learned import linear_network

if TYPE_CHECKING:
    from shunter.scheduler.kernels.network import Network


def network_of(weights: Mapping[str, object]) -> Network:
    """The score that adds up features with these weights, lower first.

    Raises:
        BundleError: A name that no feature has, or a weight that is no finite number.
    """
    names = [feature.name for feature in FEATURES]
    skip = np.zeros(SCHEMA.size)
    for name, weight in weights.items():
        if name not in names:
            raise BundleError(f"weights.{name}: no such feature{nearest(name, names)}")
        if not isinstance(weight, int | float) or not np.isfinite(weight):
            raise BundleError(f"weights.{name}: {weight!r} is not a finite number")
        skip[names.index(name)] = weight
    return linear_network(skip)


def weights_of(network: Network) -> dict[str, float]:
    """The weights of a linear score that are not 0, by feature."""
    names = [feature.name for feature in FEATURES]
    return {name: float(weight) for name, weight in zip(names, network.skip, strict=True) if weight}


def read_weights(path: Path) -> dict[str, object]:
    """The weights of a JSON document.

    Raises:
        BundleError: It cannot be read, is no JSON, or has no weights.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise BundleError(f"{path}: not JSON") from None
    weights = document.get("weights") if isinstance(document, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise BundleError(f"{path}: weights: missing; expected an object of feature names and numbers")
    return weights


def write_linear(folder: Path, weights: Mapping[str, object], card: Card) -> Bundle:
    """Write a bundle of the kind ``linear``; its card must say so.

    Raises:
        BundleError: The card is another kind's, or a weight has no feature.
        OutputError: The folder cannot be written.
    """
    from shunter.agents.export import kernel_onnx

    if card.kind != "linear":
        raise BundleError(f"kind: {card.kind!r}, expected 'linear'")
    return write_bundle(folder, kernel_onnx(network_of(weights)), card)
