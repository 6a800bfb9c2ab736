"""The weights of a kernel network from an ONNX file, without the package ``onnx``; ``export`` writes such files.

Of the file's protocol-buffer messages only the graph's initialisers are looked at.
Field numbers are those of onnx.proto (ONNX IR, ``ModelProto``, ``GraphProto``, ``TensorProto``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import BundleError
from shunter.scheduler.protobuf import fields, varints
from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.network import Network

INPUT, OUTPUT, JOBS = "features", "score", "jobs"
WEIGHTS = ("skip", "w1", "b1", "w2", "b2", "w3")

MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
TENSOR_DIMS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_DOUBLES, TENSOR_RAW = 1, 2, 4, 8, 10, 9
FLOAT, DOUBLE = 1, 11


def kernel_network(data: bytes, size: int) -> Network:
    """The network whose weights are the initialisers of an ONNX file.

    Args:
        data: The file.
        size: Features that it has to take.

    Raises:
        BundleError: Not an ONNX file, or one without such weights; says which.
    """
    from shunter.scheduler.kernels.network import new_network

    found = initialisers(data)
    if "skip" not in found:
        raise BundleError(f"no weights called 'skip'; found: {', '.join(sorted(found)) or 'none'}")
    if len(found.keys() & set(WEIGHTS)) == 1:
        found |= {"w1": np.zeros((0, size)), "b1": np.zeros(0), "w2": np.zeros((0, 0)), "b2": np.zeros(0)}
        found["w3"] = np.zeros(0)
    missing = [name for name in WEIGHTS if name not in found]
    if missing:
        raise BundleError(f"no weights called {', '.join(map(repr, missing))}")
    first, second = len(found["b1"]), len(found["b2"])
    shapes = ((size,), (first, size), (first,), (second, first), (second,), (second,))
    for name, shape in zip(WEIGHTS, shapes, strict=True):
        if found[name].shape != shape:
            raise BundleError(f"weights {name!r} have shape {found[name].shape}, expected {shape}")
    return new_network(**{name: found[name] for name in WEIGHTS})


def initialisers(data: bytes) -> dict[str, FloatArray]:
    """The graph's constant tensors of floating-point numbers, by name.

    Raises:
        BundleError: The file is cut short, or no ONNX file.
    """
    try:
        graphs = [value for field, value in fields(data) if field == MODEL_GRAPH]
        tensors = [value for graph in graphs for field, value in fields(graph) if field == GRAPH_INITIALIZER]
        named = [_tensor(tensor) for tensor in tensors]
    except (IndexError, ValueError, UnicodeDecodeError, TypeError):
        raise BundleError("not an ONNX file, or one that is cut short") from None
    if not graphs:
        raise BundleError("not an ONNX file: it has no graph")
    return {name: values for name, values in named if values is not None}


def _tensor(data: bytes | int) -> tuple[str, FloatArray | None]:
    """A TensorProto's name and values; None where they are no floating-point numbers."""
    dims, name, kind, raw = list[int](), "", 0, b""
    for field, value in fields(data):
        if field == TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else varints(value)
        elif field == TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif field == TENSOR_NAME and isinstance(value, bytes):
            name = value.decode()
        elif field in {TENSOR_RAW, TENSOR_FLOATS, TENSOR_DOUBLES} and isinstance(value, bytes):
            raw += value
    types = {FLOAT: "<f4", DOUBLE: "<f8"}
    if kind not in types:
        return name, None
    return name, np.frombuffer(raw, types[kind]).astype(np.float64).reshape(dims)
