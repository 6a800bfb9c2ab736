"""Forests from ONNX files, without the package ``onnx``; ``tree_export`` writes such files.

The graph takes features (jobs, F) and gives log(run time) (jobs, Q): a ``TreeEnsembleRegressor`` a quantile, to which
the typical run time, one of the features, is added. Thresholds are stored in single precision, rounded down: features
are single precision numbers, so the same ones lie below. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.errors import BundleError
from shunter.scheduler.protobuf import fields, varints
from shunter.scheduler.types import FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.forest import Forest

INPUT, OUTPUT = "features", "log_run"
MODEL_GRAPH, GRAPH_NODE = 7, 1
NODE_OP, NODE_ATTRIBUTE = 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_FLOATS, ATTRIBUTE_INTS, ATTRIBUTE_STRINGS = 1, 7, 8, 9
ENSEMBLE = "TreeEnsembleRegressor"
ASKS, ENDS = "BRANCH_LEQ", "LEAF"


def read_forest(data: bytes, num_features: int) -> Forest:
    """The forest of an ONNX file, as ``forest_onnx`` writes it.

    Args:
        data: The file.
        num_features: That rows of features have.

    Raises:
        BundleError: Not an ONNX file, one that is cut short, or one with other trees; says what.
    """
    try:
        graphs = [value for field, value in fields(data) if field == MODEL_GRAPH]
        nodes = [value for graph in graphs for field, value in fields(graph) if field == GRAPH_NODE]
        ensembles = [found for node in nodes if (found := _ensemble(node)) is not None]
    except (IndexError, ValueError, UnicodeDecodeError, TypeError):
        raise BundleError("not an ONNX file, or one that is cut short") from None
    if not ensembles:
        raise BundleError(f"no {ENSEMBLE} in it: not a predictor of run times")
    try:
        return _joined(ensembles, num_features)
    except (KeyError, IndexError, ValueError) as error:
        raise BundleError(f"its trees cannot be read: {error}") from None


def _ensemble(node: bytes | int) -> dict[str, Any] | None:
    """The attributes of a tree ensemble; None for other nodes."""
    attributes = dict[str, Any]()
    kind = b""
    for field, value in fields(node):
        if field == NODE_OP and isinstance(value, bytes):
            kind = value
        elif field == NODE_ATTRIBUTE:
            name, found = _attribute(value)
            attributes[name] = found
    return attributes if kind == ENSEMBLE.encode() else None


def _attribute(data: bytes | int) -> tuple[str, Any]:
    """Name and values of an AttributeProto, as far as tree ensembles use it."""
    name, numbers, texts, floats = "", list[int](), list[str](), b""
    for field, value in fields(data):
        if field == ATTRIBUTE_NAME and isinstance(value, bytes):
            name = value.decode()
        elif field == ATTRIBUTE_INTS:
            numbers += [value] if isinstance(value, int) else varints(value)
        elif field == ATTRIBUTE_STRINGS and isinstance(value, bytes):
            texts.append(value.decode())
        elif field == ATTRIBUTE_FLOATS and isinstance(value, bytes):
            floats += value
    if texts:
        return name, texts
    return name, np.frombuffer(floats, "<f4").astype(np.float64) if floats else np.asarray(numbers, np.int64)


def _joined(ensembles: list[dict[str, Any]], num_features: int) -> Forest:
    """One forest of all ensembles.

    Raises:
        ValueError: They break a rule of theirs; says which.
        KeyError: An attribute is missing.
    """
    from shunter.scheduler.kernels.forest import Forest

    parts = dict[str, list[Any]]()
    roots, first, offset = list[int](), [0], 0
    for found in ensembles:
        tree, number = found["nodes_treeids"], found["nodes_nodeids"]
        starts = np.flatnonzero(number == 0)
        place = starts[tree] + number
        count = len(number)
        if not np.array_equal(place, np.arange(count)):
            raise ValueError("their nodes are not numbered one after another")
        modes = np.asarray(found["nodes_modes"])
        if not np.isin(modes, (ASKS, ENDS)).all():
            raise ValueError(f"nodes of other kinds than {ASKS} and {ENDS}")
        is_leaf = modes == ENDS
        feature = found["nodes_featureids"]
        if len(feature) != count or feature.min(initial=0) < 0 or feature.max(initial=0) >= num_features:
            raise ValueError(f"a split looks at a column that is none of the {num_features}")
        value = np.zeros(count)
        value[starts[found["target_treeids"]] + found["target_nodeids"]] = found["target_weights"]
        sides = [np.where(is_leaf, place, starts[tree] + found[f"nodes_{side}nodeids"]) for side in ("true", "false")]
        _check_below(sides, place, is_leaf)
        for name, values in (
            ("feature", feature),
            ("threshold", found["nodes_values"]),
            ("left", sides[0] + offset),
            ("right", sides[1] + offset),
            ("missing_left", found["nodes_missing_value_tracks_true"]),
            ("value", value),
        ):
            if len(values) != count:
                raise ValueError(f"{len(values)} values of {name} for {count} nodes")
            parts.setdefault(name, []).append(values)
        roots += (starts + offset).tolist()
        first.append(len(roots))
        offset += count
    arrays = {name: np.ascontiguousarray(np.concatenate(values)) for name, values in parts.items()}
    return Forest(**arrays, roots=np.asarray(roots, np.int64), first=np.asarray(first, np.int64))


def _check_below(sides: list[IntArray], place: IntArray, is_leaf: FloatArray) -> None:
    """Raise ValueError unless every split leads on: a walk down a tree then ends."""
    for side in sides:
        if (side >= len(place)).any() or (side[~is_leaf.astype(np.bool_)] <= place[~is_leaf.astype(np.bool_)]).any():
            raise ValueError("a split leads back")
