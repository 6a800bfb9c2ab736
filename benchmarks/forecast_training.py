"""A training of the ``forecasts`` benchmark, in a process of its own: ``python -m benchmarks.forecast_training E P S``.

``E`` epochs of one seed on ``P`` minutes of 100 nodes, generated from seed ``S``; with 0 the whole of
``shunter train forecaster`` with three seeds. Prints one JSON object. ``epoch_s`` is the median of the epochs,
``other_s`` all that is not one: windows, export, calibration, baselines but for trees, and judging. ``reference_s`` is
the median time of products of matrices of the size of a network's largest layer, as many as an epoch has updates.
Peak memory covers everything, torch as well.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.million import peak_memory

NODES = 100


def main() -> None:
    """Train once and report."""
    epochs, points, seed = (int(argument) for argument in sys.argv[1:])
    sys.stdout.write(json.dumps(run(epochs, points, seed)) + "\n")


def run(epochs: int, points: int, seed: int) -> dict[str, Any]:
    """Generate the series, train, judge."""
    from dataclasses import replace

    from shunter.predictors.orders import Order, train_forecaster
    from shunter.predictors.training import Plan
    from shunter.predictors.windows import split, windows_in

    series = minutes(points, seed)
    plan = Plan() if epochs == 0 else replace(Plan(), epochs=epochs, many_epochs=epochs)
    reference_s = reference(plan.steps, plan.batch)
    with tempfile.TemporaryDirectory() as name:
        order = Order(series, Path(name), plan, seeds=range(1 if epochs else 3), trees=False)
        begun, begun_cpu_s = time.perf_counter(), time.process_time()
        found = train_forecaster(order)
        wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu_s
    peak = peak_memory()
    spent = [np.diff([0.0, *(point.spent_s for point in member.curve)]) for member in found.members]
    return {
        "windows": len(windows_in(series.values, split(points).train)),
        "epochs": sum(map(len, spent)),
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "epoch_s": float(np.median(np.concatenate(spent))),
        "other_s": wall_s - float(sum(each.sum() for each in spent)),
        "reference_s": reference_s,
        "peak_bytes": peak,
    }


def minutes(points: int, seed: int) -> Any:
    """Loads of 100 nodes by the minute: each its own level, a daily rhythm, and noise that comes back to it."""
    from shunter.traces.load_series import LoadSeries

    rng = np.random.default_rng(seed)
    at = np.arange(points)[:, None] * (2 * np.pi / 1440.0)
    values = 0.5 + 0.2 * np.sin(at + rng.uniform(0.0, 2 * np.pi, NODES))
    noise = np.zeros(NODES)
    for row in range(points):
        noise = 0.9 * noise + rng.normal(0.0, 0.03, NODES)
        values[row] += noise
    table = np.clip(values, 0.0, 1.0).astype(np.float32)[..., None]
    names = tuple(f"node-{i}" for i in range(NODES))
    return LoadSeries("month", names, ("gpu_utilization",), table, 60.0, 1.6e9, True, ("ratio",))


def reference(steps: int, batch: int) -> float:
    """Seconds that so many products of (batch, 128) and (128, 128) take, forward and back, in NumPy."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=shape).astype(np.float32) for shape in ((batch, 128), (128, 128)))
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(steps):
            product = left @ right
            left.T @ product
            product @ right.T
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
