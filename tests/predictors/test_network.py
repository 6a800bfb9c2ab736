"""What the network of load forecasts answers before it has learned, and what its pointer does."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shunter.predictors.network import LoadNetwork  # noqa: E402
from shunter.predictors.scaling import encode  # noqa: E402
from shunter.predictors.shapes import HISTORY, HORIZON, MEDIAN  # noqa: E402


def inputs(history: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """What the network sees of (B, HISTORY, F) histories, and their changes to the last value over the scale."""
    encoded = encode(history, np.zeros(len(history)), None)
    changes = (history[..., 0] - encoded.last[:, None]) / encoded.scale[:, None]
    return torch.as_tensor(encoded.sequence), torch.as_tensor(encoded.context), changes


@pytest.mark.parametrize("features", [1, 6])
def test_an_untrained_network_is_persistence(features: int) -> None:
    rng = np.random.default_rng(0)
    sequence, context, _ = inputs(np.cumsum(rng.normal(size=(7, HISTORY, features)), axis=1))
    found = LoadNetwork(features, 16, 32).eval()(sequence, context).detach().numpy()
    np.testing.assert_array_equal(found[..., MEDIAN], 0.0)
    assert (found[..., 0] < 0).all()
    assert (found[..., 2] > 0).all()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_a_pointer_answers_the_value_that_it_points_at(size: float) -> None:
    rng = np.random.default_rng(1)
    history = size * rng.choice([0.0, 1.0, 5.0, 400.0], size=(9, HISTORY, 1))
    sequence, context, changes = inputs(history)
    network = LoadNetwork(1, 16, 32).eval()
    places = np.arange(HORIZON) * 4 + 1
    with torch.no_grad():
        network.trust.fill_(1.0)
        bias = torch.full((HORIZON, HISTORY), -1e3)
        bias[np.arange(HORIZON), places] = 1e3
        network.pointer.bias.copy_(bias.flatten())
        found = network(sequence, context).numpy()
    np.testing.assert_allclose(found[..., MEDIAN], changes[:, places], rtol=1e-5, atol=1e-5)
