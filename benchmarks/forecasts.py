"""Forecasts of load: how long one takes for all nodes of a cluster, and how long a forecaster takes to train."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Prepared, Record, Subject, Target, interleave
from benchmarks.workloads import REPOSITORY, Setup

if TYPE_CHECKING:
    from shunter.predictors.card import ForecastCard
    from shunter.predictors.load import LoadForecaster
    from shunter.predictors.network import Ensemble

NODES = {1_000: 0.015, 10_000: 0.150}
"""Nodes → seconds that one live forecast of all of them may take."""

FEATURES = (1, 6)
WARM_STEPS = 30
TRAINING_S = 300.0
LIVE_GROWTH_MIB, TRAINING_GROWTH_MIB = 4.0, 16.0
"""Memory that may be more after many steps than after few: what allocators keep, nothing that is proportional."""

MONTH, LEAST_POINTS = 43_200, 1_000
"""Minutes; fewer than the second number cannot be learned from."""

NEEDED = ("torch", "onnx")


def forecasts(setup: Setup) -> Iterator[Record]:
    """One live forecast of 1,000 and 10,000 nodes on one core, its network alone; training on a month of minutes."""
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        yield Record("forecasts", "all", skipped=f"{', '.join(missing)} is not installed")
        return
    for nodes, at_most in NODES.items():
        for num_features in FEATURES:
            yield from latency(setup, nodes, num_features, at_most)
    yield from shipped(setup)
    yield live_memory(setup)
    yield from training(setup)


def latency(setup: Setup, wanted: int, num_features: int, at_most: float) -> Iterator[Record]:
    """The live forecast and the network alone, in floats and in eight-bit numbers, beside the networks in NumPy."""
    from shunter.predictors.export import to_int8, to_onnx
    from shunter.predictors.load import LoadForecaster

    nodes, network = setup.jobs(wanted), untrained(num_features, setup.seed)
    onnx = to_onnx(network, num_features)
    loads = walks(nodes, num_features, setup.seed)
    card = card_of(loads)
    forecasters = {"float32": LoadForecaster(card, onnx), "int8": LoadForecaster(card, to_int8(onnx))}
    subjects: dict[str, Subject] = {"numpy": _always(in_numpy(network, nodes, num_features))}
    for name, forecaster in forecasters.items():
        subjects[f"step {name}"] = _always(stepping(forecaster, loads))
        subjects[f"network {name}"] = _always(asking(forecaster, nodes, num_features))
    timings = interleave(subjects, repeat=4 * setup.repeat + 1)
    for case, timing in timings.items():
        if case != "numpy":
            yield Record(
                "forecasts",
                f"{case}, {wanted} nodes, {num_features} feature{'s' if num_features > 1 else ''}",
                timing=timing,
                yardstick=timings["numpy"],
                targets=(Target("wall_s", at_most=at_most),) if case.startswith("step") else (),
                facts={"nodes": nodes, "features": num_features},
            )


def shipped(setup: Setup) -> Iterator[Record]:
    """The forecaster that ships, on nodes that it does not know."""
    from shunter.predictors.bundle import load_forecaster, shipped_forecaster

    forecaster = load_forecaster(shipped_forecaster())
    for wanted, at_most in NODES.items():
        many = setup.jobs(wanted)
        reference = _always(in_numpy(untrained(1, setup.seed), many, 1))
        subjects = {"numpy": reference, "step": _always(stepping(forecaster, walks(many, 1, setup.seed)))}
        timings = interleave(subjects, repeat=4 * setup.repeat + 1)
        yield Record(
            "forecasts",
            f"step of the one that ships, {wanted} new nodes",
            timing=timings["step"],
            yardstick=timings["numpy"],
            targets=(Target("wall_s", at_most=at_most),),
            facts={"nodes": many, "features": 1},
        )


def live_memory(setup: Setup) -> Record:
    """What stays resident while a forecaster steps on and on."""
    from benchmarks.memory import resident
    from shunter.predictors.export import to_onnx
    from shunter.predictors.live import LiveForecaster
    from shunter.predictors.load import LoadForecaster

    loads = walks(100, 1, setup.seed)
    live = LiveForecaster(LoadForecaster(card_of(loads), to_onnx(untrained(1, setup.seed), 1)))
    state, steps = live.begin(live.forecaster.card.nodes), 3_000
    halfway = 0
    for step in range(steps):
        state, _ = live.step(state, loads[step % len(loads)], 60.0 * step)
        if step == steps // 2:
            halfway = resident()
    grown = (resident() - halfway) / 2**20
    return Record(
        "forecasts",
        f"memory of 100 nodes, steps {steps // 2:,} to {steps:,}",
        figures={"grown_mib": grown},
        targets=(Target("grown_mib", at_most=LIVE_GROWTH_MIB),),
        facts={"nodes": 100, "steps": steps},
    )


def training(setup: Setup) -> Iterator[Record]:
    """A month of 100 nodes by the minute: a few epochs in processes of their own, or all of it with ``--full``."""
    from shunter.predictors.training import Plan

    plan, points = Plan(), max(setup.jobs(MONTH), LEAST_POINTS)
    runs = {epochs: trained(epochs, points, setup.seed) for epochs in (1, 4)}
    few, more = runs[1], runs[4]
    epochs = 3 * plan.epochs_for(more["windows"])
    epoch_cpu_s = (more["cpu_s"] - few["cpu_s"]) / (more["epochs"] - few["epochs"])
    yield Record(
        "forecasts",
        f"training on 100 nodes × {points:,} minutes, extrapolated",
        figures={
            "train_s": more["other_s"] + epochs * more["epoch_s"],
            "train_cpu_s": few["cpu_s"] + (epochs - few["epochs"]) * epoch_cpu_s,
            "epoch_s": more["epoch_s"],
            "other_s": more["other_s"],
            "peak_mib": more["peak_bytes"] / 2**20,
            "grown_mib": (more["peak_bytes"] - few["peak_bytes"]) / 2**20,
            "ratio_epoch": more["epoch_s"] / more["reference_s"],
        },
        targets=(Target("train_s", at_most=TRAINING_S), Target("grown_mib", at_most=TRAINING_GROWTH_MIB)),
        facts={"windows": more["windows"], "epochs": epochs, "measured_epochs": 4, "seeds": 3},
    )
    if setup.full:
        whole = trained(0, points, setup.seed)
        yield Record(
            "forecasts",
            f"training on 100 nodes × {points:,} minutes, in full",
            figures={
                "train_s": whole["wall_s"],
                "train_cpu_s": whole["cpu_s"],
                "peak_mib": whole["peak_bytes"] / 2**20,
            },
            targets=(Target("train_s", at_most=TRAINING_S),),
            facts={"windows": whole["windows"], "epochs": whole["epochs"], "seeds": 3},
        )


def trained(epochs: int, points: int, seed: int) -> dict[str, Any]:
    """What a training in a process of its own found; so many epochs of one seed, or with 0 three seeds to their end."""
    command = [sys.executable, "-m", "benchmarks.forecast_training", str(epochs), str(points), str(seed)]
    found = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def _always(work: Prepared) -> Subject:
    return lambda: work


def stepping(forecaster: LoadForecaster, loads: np.ndarray) -> Callable[[], object]:
    """One step of a live forecaster with histories and a whole day behind it, always from the same state."""
    from shunter.predictors.live import LiveForecaster

    live = LiveForecaster(forecaster)
    state = live.begin([f"node-{i}" for i in range(loads.shape[1])])
    for row in range(WARM_STEPS):
        state, _ = live.step(state, loads[row], 60.0 * row)
    day = [np.resize(counts, (live.day_points, counts.shape[1])) for counts in vars(state.recent).values()]
    state = replace(state, recent=type(state.recent)(*day))
    return lambda: live.step(state, loads[WARM_STEPS], 60.0 * WARM_STEPS)


def asking(forecaster: LoadForecaster, nodes: int, num_features: int) -> Callable[[], object]:
    """The network alone."""
    from shunter.predictors.runtime import answers

    sequence, context = inputs(nodes, num_features)
    return lambda: answers(forecaster._session, sequence, context)


def in_numpy(network: Ensemble, nodes: int, num_features: int) -> Callable[[], object]:
    """The yardstick: the LSTMs of the same networks in plain NumPy, all nodes together."""
    from shunter.predictors.network import TOGETHER

    points, _ = inputs(nodes, num_features)
    sequence = points.reshape(nodes, -1, TOGETHER * points.shape[2])
    weights = [[w.detach().numpy() for w in member.recurrent.parameters()] for member in network.members]

    def run() -> None:
        for inside, recurrent, bias, other in weights:
            units = recurrent.shape[1]
            shown = cell = np.zeros((nodes, units), np.float32)
            for step in range(sequence.shape[1]):
                gates = sequence[:, step] @ inside.T + shown @ recurrent.T + (bias + other)
                enter, keep, leave = (
                    1.0 / (1.0 + np.exp(-gates[:, first : first + units])) for first in (0, units, 3 * units)
                )
                cell = keep * cell + enter * np.tanh(gates[:, 2 * units : 3 * units])
                shown = leave * np.tanh(cell)

    return run


def inputs(nodes: int, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs of a network."""
    from shunter.predictors.scaling import sizes
    from shunter.predictors.shapes import HISTORY

    channels, facts = sizes(num_features)
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(nodes, HISTORY, channels)).astype(np.float32),
        rng.normal(size=(nodes, facts)).astype(np.float32),
    )


def untrained(num_features: int, seed: int) -> Ensemble:
    """Three networks of the usual size with random weights."""
    import torch

    from shunter.predictors.network import Ensemble, LoadNetwork
    from shunter.predictors.training import Plan

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    plan = Plan()
    network = Ensemble([LoadNetwork(num_features, plan.hidden, plan.width) for _ in range(3)])
    for weight in network.parameters():
        torch.nn.init.normal_(weight, 0.0, 0.1)
    return network.eval()


def walks(nodes: int, num_features: int, seed: int) -> np.ndarray:
    """(T, N, F) random walks."""
    return np.cumsum(np.random.default_rng(seed).normal(size=(WARM_STEPS + 10, nodes, num_features)), axis=0)


def card_of(loads: np.ndarray) -> ForecastCard:
    """The card of a forecaster that knows every node, with a reference for drift, as training writes it."""
    from dataclasses import asdict

    from shunter.predictors.card import ForecastCard
    from shunter.predictors.drift import Reference
    from shunter.predictors.scaling import NodeScales
    from shunter.predictors.shapes import HORIZON

    scales = NodeScales.fit(loads)
    num_features = loads.shape[2]
    return ForecastCard(
        features=tuple(f"feature-{i}" for i in range(num_features)),
        units=("",) * num_features,
        step_s=60.0,
        dated=True,
        cycles=1,
        nodes=tuple(f"node-{i}" for i in range(loads.shape[1])),
        scales={each.name: getattr(scales, each.name).tolist() for each in fields(NodeScales)},
        belief=(1.0,) * HORIZON,
        threshold=((0.02, 0.02, 0.02),) * HORIZON,
        persistence=((-1.0, 1.0),) * HORIZON,
        offset=((0.0, 0.0),) * HORIZON,
        size=(1.0,) * HORIZON,
        reference=asdict(Reference.fit(loads[..., 0], scales, 1.0)),
    )
