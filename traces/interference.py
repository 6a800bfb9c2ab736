"""Measured slowdown of jobs that share a GPU: Lucid's colocation data as a table by model class.

Owns the packaged table (``data/interference.yaml``, written by ``make_speeds``) and the reader of Lucid's two files.
Pairs that were not measured together follow from the classes' GPU utilisations by a fit to all pairs
(``scheduler.interference.fitted_speed``); classes that were not measured at all count as the average class.
Source: Hu et al., ASPLOS 2023 (Lucid), colocation on one GPU.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from shunter.scheduler.errors import TraceError
from shunter.scheduler.interference import fitted_speed
from shunter.scheduler.types import FloatArray
from shunter.traces.compression import read_bytes
from shunter.traces.throughputs import load_yaml

PERCENT = 0.01

COEFFICIENTS = np.linspace(0.0, 2.0, 2001)
"""Where the fit looks for its coefficient; steps of 0.001 are far finer than the measurements."""


@dataclass(frozen=True, slots=True)
class Interference:
    """Speeds of pairs on one GPU.

    Attributes:
        coefficient: Of ``fitted_speed``.
        utilisation: Mean GPU utilisation of each model class alone, 0 to 1.
        measured: Class → neighbour's class → mean speed over the speed alone, at most 1.
    """

    coefficient: float
    utilisation: Mapping[str, float]
    measured: Mapping[str, Mapping[str, float]]

    def table(self, model_classes: Sequence[str | None]) -> FloatArray:
        """(M, M) speed of the row's class beside one job of the column's class; see the module for what is missing."""
        names = self._measured(model_classes)
        util = self.utilisations(model_classes)
        speeds = fitted_speed(self.coefficient, util[:, None], util[None, :])
        for i, own in enumerate(names):
            row = self.measured.get(own or "", {})
            for k, other in enumerate(names):
                speeds[i, k] = row.get(other or "", speeds[i, k])
        return speeds

    def utilisations(self, model_classes: Sequence[str | None]) -> FloatArray:
        """(M,) GPU utilisation of each class alone; the average class's where it was not measured."""
        average = float(np.mean(list(self.utilisation.values())))
        names = self._measured(model_classes)
        return np.array([average if name is None else self.utilisation[name] for name in names])

    def _measured(self, model_classes: Sequence[str | None]) -> list[str | None]:
        """The name under which each class was measured; None where it was not."""
        known = {_plain(name): name for name in self.utilisation}
        return [known.get(_plain(name or "")) for name in model_classes]


def _plain(name: str) -> str:
    """A model's name without batch size, case and punctuation: ``ResNet-18 (batch size 16)`` is ``ResNet18``."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)", "", name.lower()))


@lru_cache(maxsize=1)
def packaged_interference() -> Interference:
    """The table that ships with the package."""
    content = load_yaml("interference.yaml")
    return Interference(content["coefficient"], content["utilisation"], content["speed"])


def packed_speed(model_a: str | None, model_b: str | None) -> tuple[float, float]:
    """Speeds of two jobs that share one GPU, each over its speed alone, by the packaged table."""
    table = packaged_interference().table([model_a, model_b])
    return float(table[0, 1]), float(table[1, 0])


def interference_table(model_classes: Sequence[str | None]) -> FloatArray:
    """(M, M) speed of the row's model class beside one job of the column's, by the packaged table."""
    return packaged_interference().table(model_classes)


@dataclass(frozen=True, slots=True)
class PairSpeeds:
    """Every measured speed of a job beside another (P,), with what is known of the two.

    Attributes:
        utilisation: Mean GPU utilisation of each model class alone, over its settings.
        own: Model class of the job.
        other: Model class of its neighbour.
        own_util: Its GPU utilisation alone, with the same batch size and precision.
        other_util: That of its neighbour.
        speed: Its speed over that alone, at most 1: a fifth of the measurements lie above, by noise.
    """

    utilisation: Mapping[str, float]
    own: tuple[str, ...]
    other: tuple[str, ...]
    own_util: FloatArray
    other_util: FloatArray
    speed: FloatArray

    def fitted(self, coefficient: float) -> FloatArray:
        """(P,) what ``fitted_speed`` gives for each pair."""
        return fitted_speed(coefficient, self.own_util, self.other_util)


def read_lucid(pairs: str | Path, alone: str | Path) -> PairSpeeds:
    """Lucid's ``colocate_info`` and ``single_data``.

    Raises:
        TraceError: A file lacks a column, holds a cell that is no number, or a pair that was not measured alone.
    """
    try:
        util = {_setting(row, ""): PERCENT * float(row["gpu_util"]) for row in _rows(alone)}
        found = [
            (
                row[f"model{i}"],
                row[f"model{k}"],
                util[_setting(row, i)],
                util[_setting(row, k)],
                float(row[f"speed{i}"]),
            )
            for row in _rows(pairs)
            for i, k in (("1", "2"), ("2", "1"))
        ]
    except (KeyError, ValueError) as problem:
        raise TraceError(f"{pairs}: expected Lucid's colocation data, got {problem}") from None
    by_class: dict[str, list[float]] = defaultdict(list)
    for (model, *_), value in util.items():
        by_class[model].append(value)
    means = {name: float(np.mean(values)) for name, values in sorted(by_class.items())}
    own, other, own_util, other_util, speed = zip(*found, strict=True)
    return PairSpeeds(means, own, other, np.array(own_util), np.array(other_util), np.minimum(speed, 1.0))


def _rows(path: str | Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read_bytes(Path(path)).decode("utf-8"))))


def _setting(row: Mapping[str, str], number: str) -> tuple[str, ...]:
    """Model, data set, batch size and precision of one of the two jobs."""
    return tuple(row[f"{field}{number}"] for field in ("model", "dataset", "batchsize", "amp"))


def fit(pairs: PairSpeeds) -> float:
    """The coefficient of ``fitted_speed`` with the least squared error over all pairs."""
    errors = [np.sum((pairs.fitted(c) - pairs.speed) ** 2) for c in COEFFICIENTS]
    return float(COEFFICIENTS[int(np.argmin(errors))])


def summarise(pairs: PairSpeeds, digits: int = 3) -> Interference:
    """The table by model class: means over all settings of a class."""
    speeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for own, other, speed in zip(pairs.own, pairs.other, pairs.speed, strict=True):
        speeds[own, other].append(float(speed))
    measured: dict[str, dict[str, float]] = defaultdict(dict)
    for (own, other), values in sorted(speeds.items()):
        measured[own][other] = round(float(np.mean(values)), digits)
    return Interference(fit(pairs), {name: round(value, digits) for name, value in pairs.utilisation.items()}, measured)
