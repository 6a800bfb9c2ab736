"""A kernel network as an ONNX file: what training ends with. Needs the package ``onnx``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.agents.onnx_files import INPUT, JOBS, OUTPUT, WEIGHTS

if TYPE_CHECKING:
    from shunter.scheduler.kernels.network import Network

OPSET = 17
IR_VERSION = 8


def kernel_onnx(network: Network) -> bytes:
    """An ONNX file that scores as the network does, in float32; its initialisers are named as the network's fields."""
    from onnx import TensorProto, checker, helper, numpy_helper

    names = WEIGHTS if len(network.w3) else WEIGHTS[:1]
    weights = [numpy_helper.from_array(getattr(network, name).astype(np.float32), name) for name in names]
    linear = OUTPUT if len(names) == 1 else "linear"
    nodes = [helper.make_node("MatMul", [INPUT, "skip"], [linear])]
    if len(names) > 1:
        nodes += [
            helper.make_node("Gemm", [INPUT, "w1", "b1"], ["sum1"], transB=1),
            helper.make_node("Relu", ["sum1"], ["hidden1"]),
            helper.make_node("Gemm", ["hidden1", "w2", "b2"], ["sum2"], transB=1),
            helper.make_node("Relu", ["sum2"], ["hidden2"]),
            helper.make_node("MatMul", ["hidden2", "w3"], ["curved"]),
            helper.make_node("Add", [linear, "curved"], [OUTPUT]),
        ]
    graph = helper.make_graph(
        nodes,
        "kernel",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [JOBS, len(network.skip)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [JOBS])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model)
    found: bytes = model.SerializeToString()
    return found
