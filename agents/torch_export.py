"""Trained networks as ONNX files, and the check that they score as they did in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from shunter.agents.networks import AttentionNetwork, KernelNetwork, QueueNetwork, to_compiled
from shunter.traces.bundles import ParityError, quiet, session_of

if TYPE_CHECKING:
    pass

TOLERANCE = 1e-5
"""Largest difference between a score in torch and in ONNX Runtime, for scores of the size of 1."""

QUEUE_LENGTHS = (1, 2, 37, 1000)


def to_onnx(network: QueueNetwork) -> bytes:
    """A network as ONNX: ``features`` (jobs, F) float32 in, ``score`` (jobs,) out, any number of jobs."""
    if isinstance(network, KernelNetwork):
        from shunter.agents.export import kernel_onnx

        return kernel_onnx(to_compiled(network))
    assert isinstance(network, AttentionNetwork)
    num_features = len(network.skip)
    example = torch.zeros(5, num_features)
    with quiet():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=["features"],
            output_names=["score"],
            dynamic_shapes=({0: torch.export.Dim("jobs")},),
            external_data=False,
            verbose=False,
        )
    onnx: bytes = program.model_proto.SerializeToString()
    return onnx


def check_parity(network: QueueNetwork, onnx: bytes, seed: int = 0) -> float:
    """Compare torch and ONNX Runtime on random queues of several lengths.

    Returns:
        The largest difference, over the largest score where that is above 1.

    Raises:
        ParityError: It is above ``TOLERANCE``.
    """
    session = session_of(onnx)
    num_features = len(next(iter(network.parameters())))
    rng, worst = np.random.default_rng(seed), 0.0
    for length in QUEUE_LENGTHS:
        features = rng.normal(scale=0.7, size=(length, num_features)).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.as_tensor(features)).numpy()
        found = session.run(["score"], {"features": features})[0]
        if found.shape != expected.shape:
            raise ParityError(f"the exported network gives {found.shape} scores for {length} jobs")
        worst = max(worst, float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
    if not worst <= TOLERANCE:
        raise ParityError(f"the exported network differs from the trained one by {worst:.2g}, above {TOLERANCE:g}")
    return worst
