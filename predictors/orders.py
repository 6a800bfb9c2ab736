"""From a load series to a bundle: trains all seeds, exports, checks, judges, writes. Needs torch and ``onnx``."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter import __version__
from shunter.predictors.baselines import Persistence
from shunter.predictors.bundle import write_forecaster
from shunter.predictors.card import ForecastCard
from shunter.predictors.decoding import Decoding
from shunter.predictors.drift import Reference
from shunter.predictors.evaluation import forecast_windows
from shunter.predictors.export import check_parity, int8_error, to_int8, to_onnx
from shunter.predictors.judging import Parts, baselines, calibration_of, figures, judge_series
from shunter.predictors.load import LoadForecaster
from shunter.predictors.runtime import answers
from shunter.predictors.scaling import NodeScales, encode
from shunter.predictors.shapes import HISTORY, HORIZON, MEDIAN
from shunter.predictors.training import Material, Member, Plan, Point, ensemble, train_member
from shunter.predictors.windows import MOST_FEATURES, thinned
from shunter.traces.bundles import session_of

if TYPE_CHECKING:
    from shunter.scheduler.types import FloatArray
    from shunter.traces.load_series import LoadSeries

RUN_FILE, BUNDLE, CHECKPOINT, RESULT = "run.json", "bundle", "checkpoint.pt", "evaluation.json"
PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")
TIMED_NODES = (1000, 10_000)


@dataclass(frozen=True)
class Order:
    """A training as it was asked for.

    Attributes:
        series: What to forecast; its first feature is the target.
        out: Folder of the run.
        plan: How to train.
        seeds: Whose answers are averaged.
        budget_s: Seconds for all seeds together.
        resume: Whether to take up what is in ``out``.
        judge: Whether to judge the result on the test part.
        trees: Whether boosted trees are among the baselines.
        command: For the card.
    """

    series: LoadSeries
    out: Path
    plan: Plan = field(default_factory=Plan)
    seeds: Sequence[int] = (0, 1, 2)
    budget_s: float = math.inf
    resume: bool = False
    judge: bool = True
    trees: bool = True
    command: str = ""

    def told(self) -> dict[str, Any]:
        """What a checkpoint must have been made with."""
        series = self.series
        return {"series": series.name, "feature": series.features[0], "shape": list(series.values.shape)} | {
            "step_s": series.step_s,
            "begin_s": series.begin_s,
        }


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        members: Seeds, trained as far as it went.
        complete: Whether all are.
        bundle: Where the forecaster is.
        parity: Largest difference between torch and ONNX Runtime.
        evaluation: On the test part.
    """

    members: tuple[Member, ...]
    complete: bool
    bundle: Path | None = None
    parity: float = math.nan
    evaluation: dict[str, Any] = field(default_factory=dict)


def narrowed(series: LoadSeries, feature: str | None = None) -> LoadSeries:
    """A series whose first feature is the one asked for, with as many others as the network takes.

    Raises:
        UsageError: It has no such feature.
    """
    wanted = series if feature is None else series.about(feature)
    return wanted.select(features=wanted.features[:MOST_FEATURES])


def train_forecaster(
    order: Order,
    report: Callable[[int, Point], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Trained:
    """Train all seeds one after the other, and write the bundle.

    Raises:
        TraceError: The series is too short.
        UsageError: Nothing to learn from, or a checkpoint of another training.
        OutputError: Something cannot be written.
    """
    series = order.series
    material = Material.of(series.values, begin_s=series.begin_s, step_s=series.step_s, dated=series.dated)
    order.out.mkdir(parents=True, exist_ok=True)
    run = {"command": order.command, "plan": asdict(order.plan), "seeds": list(order.seeds)} | order.told()
    (order.out / RUN_FILE).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    members: list[Member] = []
    for seed in order.seeds:
        checkpoint = order.out / f"seed-{seed}" / CHECKPOINT
        if not order.resume:
            checkpoint.unlink(missing_ok=True)
        member = train_member(
            material,
            order.plan,
            seed,
            budget_s=order.budget_s / len(order.seeds),
            checkpoint=checkpoint,
            told=order.told(),
            report=report,
            should_stop=should_stop,
        )
        members.append(member)
        if not member.complete:
            return Trained(tuple(members), complete=False)
    return _finish(order, material, members)


def _finish(order: Order, material: Material, members: list[Member]) -> Trained:
    """Export, check, calibrate, judge, write."""
    series, num_features = order.series, len(order.series.features)
    network = ensemble(order.plan, num_features, members)
    onnx = to_onnx(network, num_features)
    parity = check_parity(network, onnx, num_features)
    probe = thinned(material.validation, order.plan.validation)
    encoded = encode(probe.history(), probe.time_s(), material.scales.take(probe.nodes), material.cycles)
    raw = answers(session_of(onnx), encoded.sequence, encoded.context).astype(np.float64)
    targets = (probe.targets() - encoded.last[:, None]) / encoded.scale[:, None]
    decoding = Decoding.fit(raw, targets, np.minimum(encoded.weight, order.plan.heaviest))
    int8 = to_int8(onnx)
    parts = Parts.of(series)
    naive = Persistence()
    naive.calibrate(parts.validation, parts.scales)
    card = _card(order, parts, decoding, naive.offsets[0])
    facts = {"median_error": int8_error(onnx, int8, encoded.sequence, encoded.context), "bytes": len(int8)}
    card = replace(card, int8=facts | {"bytes_float32": len(onnx)}, notes=f"parity torch to ONNX Runtime {parity:.1e}")
    forecaster = LoadForecaster(card, onnx)
    calibration = calibration_of(parts, forecaster)
    card = replace(card, offset=_nested(calibration.offset.mean(axis=0)), size=_nested(calibration.size.mean(axis=0)))
    card = replace(card, reference=_reference(parts, forecaster))
    document: dict[str, Any] = {}
    pictures: dict[str, bytes] = {}
    if order.judge:
        document, forecasts = judge_series(parts, LoadForecaster(card, onnx), baselines(parts, trees=order.trees))
        pictures = figures(parts, document, forecasts)
        (order.out / RESULT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    card = replace(card, evaluation=document | {"milliseconds": timed(forecaster)})
    write_forecaster(order.out / BUNDLE, onnx, card, int8=int8, figures=pictures)
    return Trained(tuple(members), complete=True, bundle=order.out / BUNDLE, parity=parity, evaluation=document)


def _card(order: Order, parts: Parts, decoding: Decoding, persistence: FloatArray) -> ForecastCard:
    """The card but for what the network itself has to be asked for."""
    series = order.series
    rows = (parts.train.instants[[0, -1]], parts.validation.instants[[0, -1]])
    source = {"name": series.name, "sha256": series.facts.get("source_sha256"), "points": len(series.values)}
    roles = [
        {"role": role, "first_row": int(first) - HISTORY + 1, "last_row": int(last) + HORIZON}
        for role, (first, last) in zip(("training", "validation"), rows, strict=True)
    ]
    return ForecastCard(
        features=tuple(series.features),
        units=tuple(series.units),
        step_s=float(series.step_s),
        dated=bool(series.dated),
        cycles=parts.cycles,
        nodes=tuple(series.nodes),
        scales={each.name: _nested(getattr(parts.scales, each.name)) for each in fields(NodeScales)},
        belief=_nested(decoding.belief),
        threshold=_nested(decoding.threshold),
        persistence=_nested(persistence),
        offset=_nested(np.zeros((HORIZON, 2))),
        size=_nested(np.zeros(HORIZON)),
        trained_on=tuple(source | role for role in roles),
        seeds=tuple(order.seeds),
        command=order.command,
        versions={"shunter": __version__} | {name: version(name) for name in PACKAGES},
    )


def _reference(parts: Parts, forecaster: LoadForecaster) -> dict[str, Any]:
    """What drift is measured against."""
    quantiles = forecast_windows(forecaster, parts.validation, parts.scales).quantiles
    error = np.abs(parts.validation.targets() - quantiles[..., MEDIAN])
    usual = parts.scales.unit()[parts.validation.nodes, 0]
    loads = parts.series.values[: int(parts.validation.instants[-1]) + 1, :, 0]
    return asdict(Reference.fit(loads, parts.scales, float(np.nanmean(error / usual[:, None]))))


def _nested(values: Any) -> Any:
    """An array as nested tuples of floats."""
    found = np.asarray(values, dtype=np.float64)
    return tuple(_nested(row) for row in found) if found.ndim > 1 else tuple(found.tolist())


def timed(forecaster: LoadForecaster, repeats: int = 5) -> dict[str, float]:
    """Processor time, in ms, that forecasts of so many nodes take: the median of a few passes."""
    rng, found = np.random.default_rng(0), {}
    for nodes in TIMED_NODES:
        history = np.cumsum(rng.normal(size=(nodes, HISTORY, len(forecaster.card.features))), axis=1)
        scales, taken = NodeScales.of_histories(history), []
        for _ in range(repeats):
            begun = time.process_time()
            forecaster.answer(history, np.zeros(nodes), scales)
            taken.append(1e3 * (time.process_time() - begun))
        found[str(nodes)] = float(np.median(taken))
    return found
