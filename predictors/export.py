"""A trained network as an ONNX file of any number of nodes, and its copy in eight-bit numbers. Needs torch and onnx.

The LSTM is written out step by step (``Steps``): ONNX Runtime's own operator takes twice the time, most of it in
activations one by one.
"""

from __future__ import annotations

import copy
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from shunter.predictors.card import CONTEXT, OUTPUT, SEQUENCE
from shunter.predictors.network import TOGETHER
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


class Steps(nn.Module):
    """An LSTM of one layer as products and activations, units before nodes, so that gates lie apart in memory."""

    def __init__(self, recurrent: nn.LSTM) -> None:
        super().__init__()
        self.units = recurrent.hidden_size
        bias = recurrent.bias_ih_l0 + recurrent.bias_hh_l0
        first = torch.cat([recurrent.weight_ih_l0, bias[:, None]], dim=1)
        self.first = nn.Parameter(first.detach())
        self.later = nn.Parameter(torch.cat([first, recurrent.weight_hh_l0], dim=1).detach())

    def forward(self, sequence: torch.Tensor) -> tuple[None, tuple[torch.Tensor, None]]:
        """The last state of (B, HISTORY // TOGETHER, ·) sequences, in the place where an LSTM gives it."""
        inputs = sequence.permute(1, 2, 0)
        inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
        shown, cell = torch.empty(0), torch.empty(0)
        for step in range(HISTORY // TOGETHER):
            gates = self.later @ torch.cat([inputs[step], shown]) if step else self.first @ inputs[0]
            enter, keep, news, leave = gates.split(self.units)
            entered = torch.sigmoid(enter) * torch.tanh(news)
            cell = torch.sigmoid(keep) * cell + entered if step else entered
            shown = torch.sigmoid(leave) * torch.tanh(cell)
        return None, (shown.t()[None], None)


def written_out(network: Ensemble) -> Ensemble:
    """The same network with its LSTMs as ``Steps``."""
    found = copy.deepcopy(network)
    found.eval()
    for parent in list(found.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM):
                setattr(parent, name, Steps(child))
    return found


def to_onnx(network: Ensemble, num_features: int) -> bytes:
    """The network as ONNX: ``sequence`` and ``context`` of any number of nodes in, ``quantiles`` out."""
    channels, facts = sizes(num_features)
    example = (torch.zeros(2, HISTORY, channels), torch.zeros(2, facts))
    buffer = io.BytesIO()
    with quiet():
        torch.onnx.export(
            written_out(network),
            example,
            buffer,
            input_names=[SEQUENCE, CONTEXT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "nodes"} for name in (SEQUENCE, CONTEXT, OUTPUT)},
            opset_version=OPSET,
            # The newer exporter takes seconds, and unrolls nothing that this one does not; neither changes the file.
            dynamo=False,
        )
    return shortened(buffer.getvalue())


def shortened(onnx: bytes) -> bytes:
    """The same file with numbers for the names of everything inside, which are most of it otherwise."""
    import onnx as package

    model = package.load_model_from_string(onnx)
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    names = [constant.name for constant in graph.initializer] + [name for node in graph.node for name in node.output]
    short = {name: f"{place:x}" for place, name in enumerate(names) if name not in kept}
    for constant in graph.initializer:
        constant.name = short.get(constant.name, constant.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    del graph.value_info[:]
    written: bytes = model.SerializeToString()
    return written


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
