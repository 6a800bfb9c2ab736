"""Small load series that tests learn from."""

from __future__ import annotations

import numpy as np

from shunter.traces.load_series import LoadSeries


def noisy_days(num_points: int = 900, num_nodes: int = 3, seed: int = 0, missing: float = 0.0) -> LoadSeries:
    """Hourly loads that come back to a daily rhythm; a tenth of a node's range is noise."""
    rng = np.random.default_rng(seed)
    hours = np.arange(num_points)[:, None]
    rhythm = np.sin(2 * np.pi * hours / 24.0 + rng.uniform(0, 6, num_nodes))
    values = 50.0 + 20.0 * rhythm + rng.normal(0, 4.0, (num_points, num_nodes))
    values[rng.random(values.shape) < missing] = np.nan
    other = 3.0 * values + rng.normal(0, 1.0, values.shape)
    names = tuple(f"node-{i}" for i in range(num_nodes))
    table = np.stack([values, other], axis=-1).astype(np.float32)
    return LoadSeries("days", names, ("load", "other"), table, 3600.0, 1.6e9, True, ("ratio", "count"))
