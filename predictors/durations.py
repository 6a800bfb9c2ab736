"""Training a predictor of run times from traces to a bundle: periods, one ensemble a quantile, its check and its card.

The first 60 % of each trace's jobs are learned from, the next 15 % choose how many trees are kept, the rest is not
looked at. Every trace weighs the same, however many jobs it has. Histories come from the schedule that the log
recorded, so that what is told of a job in training is what a live queue would have known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.predictors.boosting import Boosting, Rows, Stopped, forest_of, grow
from shunter.predictors.duration_bundle import DurationBundle, DurationCard, check_parity, write_durations
from shunter.predictors.tree_export import forest_onnx, in_single
from shunter.scheduler.durations import SCHEMA, RunModel
from shunter.scheduler.errors import TraceError
from shunter.traces.periods import Period, split
from shunter.traces.submissions import recorded, waits_known

if TYPE_CHECKING:
    from shunter.scheduler.types import FloatArray
    from shunter.traces.tables import Trace

LEVELS = (0.1, 0.5, 0.75, 0.9)
"""Quantiles of a predictor: an interval that 80 % of the jobs end in, the median, and one above it for reservations."""

EXPECTED = 0.9
"""The level that decisions count with, unless another one is asked for: on validation periods the best of the four."""

MOST_JOBS = 60_000
"""Of a trace that are learned from: of more, the newest ones of the training period."""

PACKAGES = ("lightgbm", "numba", "numpy", "onnx")
"""Whose versions a card notes."""

__all__ = ["EXPECTED", "LEVELS", "Material", "Order", "Stopped", "Trained", "material_of", "train", "write_trained"]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained.

    Attributes:
        traces: To learn from.
        settings: Of the trees.
        levels: Of the quantiles.
        expected: The level that decisions count with.
        command: That asked for it, for the card.
    """

    traces: Sequence[Trace]
    settings: Boosting = field(default_factory=Boosting)
    levels: tuple[float, ...] = LEVELS
    expected: float = EXPECTED
    command: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """What one trace gives.

    Attributes:
        training: Rows to learn from.
        choosing: Rows to choose the number of trees by.
        periods: The jobs of both.
        waits_known: Share of the jobs of which the log says how long they waited.
    """

    training: Rows
    choosing: Rows
    periods: tuple[Period, Period]
    waits_known: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training.

    Attributes:
        model: What it found, as its file holds it.
        onnx: The file.
        trees: Trees that each quantile kept.
        parity: Largest difference between ONNX Runtime and the compiled trees.
        materials: What was learned from.
    """

    model: RunModel
    onnx: bytes
    trees: tuple[int, ...]
    parity: float
    materials: tuple[Material, ...]


def material_of(trace: Trace) -> Material:
    """Features and targets of a trace's training and validation period.

    Raises:
        TraceError: It has too few jobs, or a job starts before its submission.
    """
    training, validation, _ = split(trace)
    until = validation.last
    schedule = recorded(trace.window(0, until))
    features = schedule.features()
    target = target_of(schedule.run_s, schedule.jobs.request_s) - features[:, 0]
    if training.last < 2 * Boosting().least_jobs:
        raise TraceError(f"{trace.name}: {training.last} jobs to learn from, expected at least 80")
    first = max(0, training.last - MOST_JOBS)
    return Material(
        _rows(features[first : training.last], target[first : training.last]),
        _rows(features[training.last :], target[training.last :]),
        (training, validation),
        waits_known(trace),
    )


def target_of(run_s: FloatArray, request_s: FloatArray) -> FloatArray:
    """(J,) log(run time) as it is predicted: of at least 1 s, and up to the request."""
    most_s = np.where(np.isnan(request_s), np.inf, np.maximum(request_s, 1.0))
    found: FloatArray = np.log(np.clip(run_s, 1.0, most_s))
    return found


def _rows(features: FloatArray, target: FloatArray) -> Rows:
    return Rows(features.astype(np.float32), target, np.full(len(target), 1.0 / len(target)))


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several traces, of which each weighs the same; their mean weight is 1."""
    weight = np.concatenate([part.weight for part in parts])
    return Rows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.target for part in parts]),
        weight / weight.mean(),
    )


def train(
    order: Order,
    report: Callable[[float, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    materials: Sequence[Material] | None = None,
) -> Trained:
    """Learn from traces.

    Args:
        order: What.
        report: Called with the share that is done and where it stands.
        should_stop: Asked between trees.
        materials: Of the traces, where they are known already.

    Raises:
        TraceError: A trace has too few jobs.
        Stopped: ``should_stop`` said so.
    """
    found = list[Material](materials or ())
    for trace in order.traces if materials is None else ():
        if report is not None:
            report(0.0, f"reads {trace.name}")
        if should_stop is not None and should_stop():
            raise Stopped
        found.append(material_of(trace))
    training, choosing = joined([m.training for m in found]), joined([m.choosing for m in found])
    boosters = []
    for place, level in enumerate(order.levels):

        def grown(trees: int, place: int = place, level: float = level) -> None:
            if report is not None:
                share = (place + min(trees / order.settings.trees, 1.0)) / len(order.levels)
                report(share, f"quantile {level:g}, {trees} trees")

        boosters.append(grow(training, choosing, level, order.settings, grown, should_stop))
    forest = forest_of(boosters)
    onnx = forest_onnx(forest, typical=0, num_features=SCHEMA.size)
    model = RunModel(in_single(forest), order.levels, order.expected)
    parity = check_parity(Path("model.onnx"), onnx, model)
    trees = tuple(np.diff(forest.first).tolist())
    if report is not None:
        report(1.0, "done")
    return Trained(model, onnx, trees, parity, tuple(found))


def write_trained(trained: Trained, order: Order, folder: Path, evaluation: dict[str, Any]) -> DurationBundle:
    """Write what was trained as a bundle.

    Raises:
        OutputError: The folder cannot be written.
    """
    from importlib.metadata import version

    from shunter import __version__

    unknown = [m.periods[0].trace for m in trained.materials if m.waits_known < 1.0]
    card = DurationCard(
        levels=order.levels,
        expected=order.expected,
        traces=tuple(period.to_dict() for material in trained.materials for period in material.periods),
        seeds=(order.settings.seed,),
        settings=asdict(order.settings) | {"trees_kept": list(trained.trees), "parity": trained.parity},
        command=order.command,
        versions={"shunter": __version__} | {name: version(name) for name in PACKAGES},
        evaluation=evaluation,
        notes=f"waits are not recorded for all jobs of {', '.join(unknown)}: those count as started when submitted"
        if unknown
        else "",
    )
    return write_durations(folder, trained.onnx, card)
