"""Forests as ONNX files: what training a predictor of run times ends with. Needs the package ``onnx``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.tree_files import ASKS, ENDS, ENSEMBLE, INPUT, OUTPUT

if TYPE_CHECKING:
    from shunter.scheduler.kernels.forest import Forest

JOBS = "jobs"
OPSET, ML_OPSET, IR_VERSION = 17, 3, 8


def in_single(forest: Forest) -> Forest:
    """The forest as a file holds it: the same decisions on single precision features, leaves rounded."""
    threshold = forest.threshold.astype(np.float32)
    above = threshold.astype(np.float64) > forest.threshold
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    return forest._replace(
        threshold=threshold.astype(np.float64), value=forest.value.astype(np.float32).astype(np.float64)
    )


def forest_onnx(forest: Forest, typical: int, num_features: int) -> bytes:
    """An ONNX file that tells what the forest does; ``typical`` is the column that is added."""
    from onnx import TensorProto, checker, helper

    stored, nodes, sums = in_single(forest), [], []
    nodes.append(helper.make_node("Gather", [INPUT, "typical"], ["base"], axis=1))
    for ensemble in range(len(forest.first) - 1):
        nodes += [
            helper.make_node(
                ENSEMBLE, [INPUT], [f"above{ensemble}"], domain="ai.onnx.ml", **_attributes(stored, ensemble)
            ),
            helper.make_node("Add", [f"above{ensemble}", "base"], [f"sum{ensemble}"]),
        ]
        sums.append(f"sum{ensemble}")
    nodes.append(helper.make_node("Concat", sums, [OUTPUT], axis=1))
    graph = helper.make_graph(
        nodes,
        "durations",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [JOBS, num_features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [JOBS, len(sums)])],
        [helper.make_tensor("typical", TensorProto.INT64, [1], [typical])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found


def _attributes(forest: Forest, ensemble: int) -> dict[str, Any]:
    """One ensemble as the operator's attributes: nodes of each tree are numbered from its root on."""
    first, last = forest.first[ensemble], forest.first[ensemble + 1]
    roots = np.append(forest.roots, len(forest.feature))
    nodes = np.arange(roots[first], roots[last])
    tree = np.searchsorted(roots, nodes, side="right") - 1
    number = nodes - roots[tree]
    is_leaf = forest.left[nodes] == nodes
    below = [np.where(is_leaf, 0, side[nodes] - roots[tree]).tolist() for side in (forest.left, forest.right)]
    tree -= first
    return {
        "n_targets": 1,
        "nodes_treeids": tree.tolist(),
        "nodes_nodeids": number.tolist(),
        "nodes_featureids": np.where(is_leaf, 0, forest.feature[nodes]).tolist(),
        "nodes_modes": [ENDS if leaf else ASKS for leaf in is_leaf],
        "nodes_values": np.where(is_leaf, 0.0, forest.threshold[nodes]).tolist(),
        "nodes_truenodeids": below[0],
        "nodes_falsenodeids": below[1],
        "nodes_missing_value_tracks_true": np.where(is_leaf, 0, forest.missing_left[nodes]).tolist(),
        "target_treeids": tree[is_leaf].tolist(),
        "target_nodeids": number[is_leaf].tolist(),
        "target_ids": np.zeros(int(is_leaf.sum()), np.int64).tolist(),
        "target_weights": forest.value[nodes[is_leaf]].tolist(),
    }
