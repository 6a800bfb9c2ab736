"""A forecaster for nodes never seen: learned from several series together, knows no node by name. Needs torch.

What it knows of a node is what the node's last 24 points say, in training as in operation; it sees no calendar, and
steps of any length. Long series count the same, however many nodes and points they have, and each is also learned from
in longer steps. Only the first 70 % of every series are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shunter import __version__
from shunter.predictors.baselines import Persistence
from shunter.predictors.card import ForecastCard
from shunter.predictors.decoding import Decoding
from shunter.predictors.export import check_parity, to_onnx
from shunter.predictors.judging import Parts, calibration_of
from shunter.predictors.load import LoadForecaster, reasons_for
from shunter.predictors.reasons import Reason
from shunter.predictors.runtime import answers
from shunter.predictors.scaling import NodeScales, encode
from shunter.predictors.shapes import HISTORY, HORIZON
from shunter.predictors.training import Material, Plan, Point, ensemble, train_member
from shunter.predictors.windows import SPAN, Windows, split, thinned, windows_in
from shunter.scheduler.errors import UsageError
from shunter.traces.bundles import session_of, sha256_of

if TYPE_CHECKING:
    from shunter.scheduler.types import FloatArray
    from shunter.traces.load_series import LoadSeries

PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")
TIMES = (1, 5, 15)
"""Every series is also learned from in steps so many times as long."""

SHOWN = 200_000
"""Windows of a series that are drawn, all lengths of steps together; a tenth of them to validate on."""

REPEATED = 8
"""Times that a window is drawn at most: a short series counts less, or it would be learned by heart."""


@dataclass(frozen=True)
class Pool(Material):
    """Windows of several series as one material: each window is a node of its own, of which only its history is known.

    Attributes:
        cost: What an error of one scale of each window weighs: that scale over the usual step of the node in training.
    """

    cost: FloatArray = field(default_factory=lambda: np.ones(0))

    @classmethod
    def of_series(cls, many: Sequence[LoadSeries], *, shown: int = SHOWN, seed: int = 0) -> Pool:
        """The first 70 % of several series of one feature.

        Raises:
            TraceError: One is too short.
            UsageError: In one there is nothing to learn from.
        """
        rng = np.random.default_rng(seed)
        taken = [_drawn(series, shown, rng) for series in many]
        train = [part for pair in taken for part in pair[0]]
        validation = [part for pair in taken for part in pair[1]]
        values = np.concatenate([part[0] for part in train + validation])
        cost = np.concatenate([part[1] for part in train + validation])
        of_train = sum(len(part[0]) for part in train)
        table = np.ascontiguousarray(values.T)[..., None].astype(np.float32)
        found = NodeScales.of_histories(values[:, :HISTORY, None])
        parts = [
            Windows(table, np.full(last - first, HISTORY - 1), np.arange(first, last), 0.0, 1.0)
            for first, last in ((0, of_train), (of_train, len(values)))
        ]
        return cls(table, found, parts[0], parts[1], 0, cost)

    def tensors(self, windows: Windows, heaviest: float) -> list[torch.Tensor]:
        """As ``Material`` has them, with each window's weight from its cost."""
        parts = super().tensors(windows, heaviest)
        parts[3] = torch.as_tensor(np.minimum(self.cost[windows.nodes], heaviest).astype(np.float32))
        return parts


Rows = tuple["FloatArray", "FloatArray"]
"""(M, SPAN) windows and their (M,) costs."""


def _drawn(series: LoadSeries, shown: int, rng: np.random.Generator) -> tuple[list[Rows], list[Rows]]:
    """Windows to train and to validate on, as many of every length of steps that the series is long enough for."""
    parts = split(len(series.values))
    found: tuple[list[Rows], list[Rows]] = ([], [])
    lengths = [times for times in TIMES if (parts.validation[1] - parts.validation[0]) // times >= 2 * SPAN] or [1]
    for times in lengths:
        pieces = [series.window(*rows).resampled(series.step_s * times) for rows in (parts.train, parts.validation)]
        usual = NodeScales.fit(pieces[0].values).unit()[:, 0]
        for place, (piece, most) in enumerate(zip(pieces, (shown, shown // 10), strict=True)):
            found[place].append(_asked(piece, usual, most // len(lengths), rng))
    for rows in found:
        if not sum(len(part[0]) for part in rows):
            raise UsageError(f"{series.name}: nothing moves in the part to train on, or in the one to validate on")
    return found


def _asked(series: LoadSeries, usual: FloatArray, most: int, rng: np.random.Generator) -> Rows:
    """As many windows as wanted of those that a network would be asked about, drawn again where there are too few."""
    windows = windows_in(series.values, (0, len(series.values)))
    if len(windows) > 4 * most:
        windows = windows.take(np.sort(rng.choice(len(windows), 4 * most, replace=False)))
    history = windows.history()
    scales = NodeScales.of_histories(history)
    nothing = np.zeros(len(history), dtype=bool)
    windows = windows.take(np.flatnonzero(reasons_for(history, scales, nothing, nothing) == Reason.MODEL))
    if not len(windows):
        return np.zeros((0, SPAN)), np.zeros(0)
    most = min(most, REPEATED * len(windows))
    windows = windows.take(np.sort(rng.choice(len(windows), most, replace=len(windows) < most)))
    history = windows.history()
    scale = encode(history, windows.time_s(), None).scale
    return np.concatenate([history[..., 0], windows.targets()], axis=1), scale / usual[windows.nodes]


@dataclass(frozen=True)
class GeneralOrder:
    """A training as it was asked for.

    Attributes:
        series: What to learn from, of one feature each.
        plan: How to train.
        seeds: Whose answers are averaged.
        shown: Windows of each series, see ``SHOWN``.
        command: For the card.
    """

    series: Sequence[LoadSeries]
    plan: Plan = field(default_factory=Plan)
    seeds: Sequence[int] = (0, 1, 2)
    shown: int = SHOWN
    command: str = ""


def train_general(
    order: GeneralOrder, report: Callable[[int, Point], None] | None = None
) -> tuple[ForecastCard, bytes, float]:
    """Train on all series together.

    Returns:
        The card, the network as ONNX, and the largest difference between torch and ONNX Runtime.

    Raises:
        TraceError: A series is too short.
        UsageError: Nothing to learn from.
    """
    pool = Pool.of_series(order.series, shown=order.shown, seed=order.seeds[0])
    members = [train_member(pool, order.plan, seed, report=report) for seed in order.seeds]
    network = ensemble(order.plan, 1, members)
    onnx = to_onnx(network, 1)
    parity = check_parity(network, onnx, 1)
    probe = thinned(pool.validation, order.plan.validation)
    encoded = encode(probe.history(), probe.time_s(), pool.scales.take(probe.nodes))
    raw = answers(session_of(onnx), encoded.sequence, encoded.context).astype(np.float64)
    targets = (probe.targets() - encoded.last[:, None]) / encoded.scale[:, None]
    decoding = Decoding.fit(raw, targets, np.minimum(pool.cost[probe.nodes], order.plan.heaviest))
    naive = Persistence()
    naive.calibrate(probe, pool.scales)
    card = replace(_card(order, decoding, naive.offsets[0]), model_sha256=sha256_of(onnx))
    card = replace(card, notes=f"parity torch to ONNX Runtime {parity:.1e}")
    return with_calibration(card, onnx, order.series), onnx, parity


def with_calibration(card: ForecastCard, onnx: bytes, many: Sequence[LoadSeries]) -> ForecastCard:
    """The card with where calibration begins on a new node: what the validation parts of the series taught.

    Medians over nodes, then over series: one that stands still for days has offsets that suit no other.
    """
    learned = [calibration_of(Parts.of(series), LoadForecaster(card, onnx)) for series in many]
    offset = np.median([np.median(state.offset, axis=0) for state in learned], axis=0)
    size = np.median([np.median(state.size, axis=0) for state in learned], axis=0)
    return replace(card, offset=_rounded(offset), size=_rounded(size))


def _card(order: GeneralOrder, decoding: Decoding, persistence: FloatArray) -> ForecastCard:
    """The card but for what the network itself has to be asked for."""
    return ForecastCard(
        features=("load",),
        units=("",),
        step_s=min(float(series.step_s) for series in order.series),
        dated=False,
        cycles=0,
        nodes=(),
        scales={each.name: () for each in fields(NodeScales)},
        belief=_rounded(decoding.belief),
        threshold=_rounded(decoding.threshold),
        persistence=_rounded(persistence),
        offset=_rounded(np.zeros((HORIZON, 2))),
        size=_rounded(np.zeros(HORIZON)),
        trained_on=tuple(row for series in order.series for row in _source(series)),
        seeds=tuple(order.seeds),
        command=order.command,
        versions={"shunter": __version__} | {name: version(name) for name in PACKAGES},
    )


def _source(series: LoadSeries) -> list[Mapping[str, Any]]:
    """What a card says of a series: its checksums, and which rows were looked at."""
    parts = split(len(series.values))
    facts = {"name": series.name, "feature": series.features[0], "nodes": len(series.nodes), "step_s": series.step_s}
    facts |= {"points": len(series.values), "sha256": series.facts.get("source_sha256")}
    return [
        facts | {"role": role, "first_row": rows[0], "last_row": rows[1] - 1}
        for role, rows in (("training", parts.train), ("validation", parts.validation))
    ]


def _rounded(values: Any) -> Any:
    """An array as nested tuples, to six digits."""
    found = np.round(np.asarray(values, dtype=np.float64), 6)
    return tuple(_rounded(row) for row in found) if found.ndim > 1 else tuple(found.tolist())
