"""Networks in ONNX Runtime, on one thread. Needs neither torch nor ``onnx``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.card import CONTEXT, OUTPUT, SEQUENCE
from shunter.predictors.scaling import sizes
from shunter.predictors.shapes import HISTORY, HORIZON, QUANTILES
from shunter.scheduler.errors import BundleError

if TYPE_CHECKING:
    import numpy.typing as npt

    Float32Array = npt.NDArray[np.float32]

TOGETHER = 1000
"""Nodes of a call: enough that the single operations do not count, few enough that states stay in the cache."""


def answers(session: Any, sequence: Float32Array, context: Float32Array) -> Float32Array:
    """(B, HORIZON, 3) of (B, HISTORY, C) and (B, K) inputs, some nodes at a time."""
    parts = [
        session.run(
            [OUTPUT], {SEQUENCE: sequence[first : first + TOGETHER], CONTEXT: context[first : first + TOGETHER]}
        )[0]
        for first in range(0, len(sequence), TOGETHER)
    ]
    found: Float32Array = np.concatenate(parts) if parts else np.zeros((0, HORIZON, len(QUANTILES)), np.float32)
    return found


def check_network(session: Any, num_features: int) -> None:
    """Make sure that a network takes and gives what it should.

    Raises:
        BundleError: It does not; says in what.
    """
    channels, facts = sizes(num_features)
    wanted = {SEQUENCE: [HISTORY, channels], CONTEXT: [facts]}
    found = {value.name: value.shape[1:] for value in session.get_inputs()}
    if found != wanted:
        raise BundleError(f"takes {found}, expected {wanted}")
    rng = np.random.default_rng(0)
    sequence = rng.normal(size=(2, HISTORY, channels)).astype(np.float32)
    try:
        answer = answers(session, sequence, rng.normal(size=(2, facts)).astype(np.float32))
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise BundleError(f"cannot forecast two nodes: {str(error).splitlines()[0]}") from None
    if answer.shape != (2, HORIZON, len(QUANTILES)) or not np.isfinite(answer).all():
        raise BundleError(f"answers {answer.shape}, or no finite numbers; expected {(2, HORIZON, len(QUANTILES))}")
