"""A trained network as an ONNX file of any number of nodes, and its copy in eight-bit numbers. Needs torch and onnx."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from shunter.predictors.card import CONTEXT, OUTPUT, SEQUENCE
from shunter.predictors.runtime import answers
from shunter.predictors.scaling import sizes
from shunter.predictors.shapes import HISTORY
from shunter.traces.bundles import ParityError, quiet, session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shunter.predictors.network import Ensemble
    from shunter.predictors.runtime import Float32Array

TOLERANCE = 1e-5
"""Largest difference between torch and ONNX Runtime, over the size of the answer where that is above 1."""

OPSET = 17

BATCHES = (1, 2, 37, 1000)


def to_onnx(network: Ensemble, num_features: int) -> bytes:
    """The network as ONNX: ``sequence`` and ``context`` of any number of nodes in, ``quantiles`` out."""
    channels, facts = sizes(num_features)
    example = (torch.zeros(2, HISTORY, channels), torch.zeros(2, facts))
    buffer = io.BytesIO()
    with quiet():
        torch.onnx.export(
            network.eval(),
            example,
            buffer,
            input_names=[SEQUENCE, CONTEXT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "nodes"} for name in (SEQUENCE, CONTEXT, OUTPUT)},
            opset_version=OPSET,
            # The newer exporter takes seconds, and unrolls nothing that this one does not; neither changes the file.
            dynamo=False,
        )
    return buffer.getvalue()


def check_parity(network: Ensemble, onnx: bytes, num_features: int, seed: int = 0) -> float:
    """Compare torch and ONNX Runtime on random inputs for several numbers of nodes.

    Returns:
        The largest difference, over the size of the answer where that is above 1.

    Raises:
        ParityError: It is above ``TOLERANCE``.
    """
    session, worst = session_of(onnx), 0.0
    for sequence, context in probes(num_features, seed):
        with torch.no_grad():
            expected = network(torch.as_tensor(sequence), torch.as_tensor(context)).numpy()
        found = answers(session, sequence, context)
        if found.shape != expected.shape:
            raise ParityError(f"the exported network answers {found.shape}, the trained one {expected.shape}")
        worst = max(worst, float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max()))
    if not worst <= TOLERANCE:
        raise ParityError(f"the exported network differs from the trained one by {worst:.2g}, above {TOLERANCE:g}")
    return worst


def to_int8(onnx: bytes) -> bytes:
    """The file with eight-bit weights, quantised dynamically (``onnxruntime.quantization``)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, quiet():
        before, after = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(onnx)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8)
        return after.read_bytes()


def int8_error(onnx: bytes, int8: bytes, sequence: Float32Array, context: Float32Array) -> float:
    """Mean absolute difference of the medians, over the mean absolute change that they forecast."""
    exact, coarse = (answers(session_of(file), sequence, context)[..., 1] for file in (onnx, int8))
    return float(np.abs(exact - coarse).mean() / max(float(np.abs(exact).mean()), 1e-9))


def probes(num_features: int, seed: int) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Random inputs of the usual size."""
    channels, facts = sizes(num_features)
    rng = np.random.default_rng(seed)
    for batch in BATCHES:
        yield (
            rng.normal(size=(batch, HISTORY, channels)).astype(np.float32),
            rng.normal(size=(batch, facts)).astype(np.float32),
        )
