"""How fast models train on each GPU type, on how many GPUs, packed or spread: tables of measurements and what follows.

Owns ``Throughputs`` (measured rates), the relative speeds, slowdowns by tier and speed-up curves derived from them, and
the tables that ship with the package (``data/speeds.yaml``, written by ``make_speeds``). The files of Gavel, Sia and
ElasticFlow are read in ``throughput_files``. Not a number means: not measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from shunter.scheduler.errors import ConfigError, nearest
from shunter.scheduler.types import FloatArray, IntArray

DEFAULT = "default"
"""Stands for every model class without measurements: the geometric mean over those that were measured."""

BEYOND_NODE = ("switch", "rack", "zone", "cluster")
"""Tiers that a gang on more than one node may cross. The tables know one network only, so all of them cost the same."""

STRONG_SCALING = ("sia", "elasticflow")
"""Tables measured at a fixed global batch size, as an elastic job keeps it; Gavel's gangs grow their batch instead."""


@dataclass(frozen=True, slots=True)
class Throughputs:
    """Measured training rates.

    Attributes:
        name: Short name of the table, such as ``gavel``.
        unit: What a rate counts: ``steps/s``.
        reference: The GPU type whose relative speed is 1.
        models: (M,) model classes.
        gpu_types: (T,) GPU types, in lower case without punctuation.
        gpus: (G,) increasing gang sizes.
        packed: (M, T, G) rate of a gang on as few nodes as possible.
        spread: (M, T, G) rate of a gang that would fit into one node on several; what "several" means is the source's.
    """

    name: str
    unit: str
    reference: str
    models: tuple[str, ...]
    gpu_types: tuple[str, ...]
    gpus: tuple[int, ...]
    packed: FloatArray
    spread: FloatArray

    def type_idx(self, gpu_type: str) -> int:
        """Index of a GPU type; case and punctuation do not matter, so ``RTX 2080 Ti`` is ``rtx2080ti``.

        Raises:
            ConfigError: The table does not have it; names those that it has.
        """
        name = re.sub(r"[^a-z0-9]", "", gpu_type.lower())
        if name not in self.gpu_types:
            hint = nearest(name, list(self.gpu_types))
            raise ConfigError(f"GPU type {gpu_type!r} is not in the throughput table {self.name!r}{hint}")
        return self.gpu_types.index(name)

    def relative_speeds(self, gpus: int = 1) -> FloatArray:
        """(M + 1, T) speed of each model on a gang of that size relative to the reference type; last the default.

        A size between two measured ones takes the smaller; where the model was not measured on that many, the ratio on
        one GPU stands for it.
        """
        column = max(int(np.searchsorted(self.gpus, gpus, side="right")) - 1, 0)
        home = self.type_idx(self.reference)
        ratios = self.packed / self.packed[:, home : home + 1, :]
        speeds = np.where(np.isnan(ratios[:, :, column]), ratios[:, :, 0], ratios[:, :, column])
        return np.vstack([speeds, _geometric_mean(speeds)[None, :]])

    def speeds(self, gpu_types: Sequence[str]) -> dict[str, dict[str, float]]:
        """For each GPU type, as it is written, the relative speed of a job on one GPU by model class, and the default.

        Raises:
            ConfigError: A GPU type is not in the table.
        """
        table = self.relative_speeds()
        names = (*self.models, DEFAULT)
        columns = {kind: table[:, self.type_idx(kind)] for kind in gpu_types}
        return {
            kind: {name: float(value) for name, value in zip(names, column, strict=True) if np.isfinite(value)}
            for kind, column in columns.items()
        }

    def spread_ratios(self) -> FloatArray:
        """(M + 1,) rate on several nodes over the rate on one, on the reference type; last the default.

        Geometric mean over the gang sizes with both measurements, and at most 1: that some gangs were measured faster
        when spread (they share a node's PCIe lanes otherwise) must not make distance an advantage.
        """
        home = self.type_idx(self.reference)
        ratios = _geometric_mean((self.spread[:, home, :] / self.packed[:, home, :]).T)
        return np.minimum(np.append(ratios, _geometric_mean(ratios[:, None])), 1.0)

    def tier_speed(self) -> dict[str, dict[str, float]]:
        """Relative speed of a gang by the tier that it crosses, for every model class and the default."""
        ratios = self.spread_ratios()
        names = (*self.models, DEFAULT)
        return {
            name: {"node": 1.0, **dict.fromkeys(BEYOND_NODE, float(ratio))}
            for name, ratio in zip(names, ratios, strict=True)
            if np.isfinite(ratio)
        }

    def points(self, model: int) -> tuple[IntArray, FloatArray]:
        """Gang sizes and rates of a model on the reference type, packed, where both 1 GPU and that size are known."""
        rates = self.packed[model, self.type_idx(self.reference)]
        known = np.isfinite(rates)
        known &= bool(known[0])
        return np.array(self.gpus, dtype=np.int64)[known], rates[known]

    def rate(self, model: str, gpus: float) -> tuple[float, bool]:
        """Rate of a gang of any size on the reference type, and whether it was measured or lies between measurements.

        Beyond the largest measured gang, rates grow in proportion to the GPUs. A model that was measured on fewer sizes
        than others grows there as their geometric mean does.

        Raises:
            KeyError: The model is not in the table.
        """
        if model not in self.models:
            raise KeyError(model)
        sizes, rates = self.points(self.models.index(model))
        if gpus <= sizes[-1]:
            return float(np.interp(gpus, sizes, rates)), True
        growth = self._mean_growth()
        largest = float(self.gpus[-1])
        within = np.interp(min(gpus, largest), self.gpus, growth) / np.interp(sizes[-1], self.gpus, growth)
        return float(rates[-1] * within * max(gpus / largest, 1.0)), False

    def _mean_growth(self) -> FloatArray:
        """(G,) geometric mean of rate over the rate on one GPU, of the models measured on all sizes."""
        rates = self.packed[:, self.type_idx(self.reference)]
        complete = rates[np.isfinite(rates).all(axis=1)]
        growth: FloatArray = np.exp(np.mean(np.log(complete / complete[:, :1]), axis=0))
        return growth


def _geometric_mean(values: FloatArray) -> FloatArray:
    """Geometric mean over the rows, leaving out what is not a number; nan where nothing is left."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.sum(np.log(np.where(known, values, 1.0)), axis=0)
    mean: FloatArray = np.where(count > 0, np.exp(total / np.maximum(count, 1)), np.nan)
    return mean


def data_file(name: str) -> Path:
    """A YAML file of the package's ``data`` folder."""
    return Path(__file__).resolve().parent / "data" / name


def load_yaml(name: str) -> Any:
    """The content of a packaged YAML file, with the fast parser where PyYAML was built with it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(data_file(name).read_bytes(), Loader=loader)


@lru_cache(maxsize=1)
def _packaged() -> Mapping[str, Any]:
    content: Mapping[str, Any] = load_yaml("speeds.yaml")
    return content


def packaged_tables() -> tuple[str, ...]:
    """Names of the throughput tables that ship with the package."""
    return tuple(_packaged())


@lru_cache(maxsize=8)
def packaged_throughputs(name: str) -> Throughputs:
    """A throughput table of the package: ``gavel``, ``sia`` or ``elasticflow``.

    Raises:
        ConfigError: There is no table of that name; suggests the nearest.
    """
    tables = _packaged()
    if name not in tables:
        raise ConfigError(f"unknown throughput table {name!r}{nearest(name, list(tables))}")
    return from_document(name, tables[name])


def from_document(name: str, table: Mapping[str, Any]) -> Throughputs:
    """A table as it stands in YAML: ``unit, reference, gpus, gpu_types, models``; a missing list is all nan.

    A model maps GPU types to lists of rates by gang size; ``packed`` and ``spread`` stand side by side.
    """
    sizes, kinds, models = table["gpus"], tuple(table["gpu_types"]), table["models"]
    arrays = {how: np.full((len(models), len(kinds), len(sizes)), np.nan) for how in ("packed", "spread")}
    for i, entry in enumerate(models.values()):
        for t, kind in enumerate(kinds):
            for how, array in arrays.items():
                for g, value in enumerate(entry.get(kind, {}).get(how, ())):
                    array[i, t, g] = np.nan if value is None else value
    return Throughputs(
        name=name,
        unit=table["unit"],
        reference=table["reference"],
        models=tuple(models),
        gpu_types=kinds,
        gpus=tuple(sizes),
        packed=arrays["packed"],
        spread=arrays["spread"],
    )


def packaged_speeds(
    name: str, gpu_types: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """What a cluster specification with ``speeds: NAME`` takes over.

    Args:
        name: A packaged table.
        gpu_types: The specification's GPU types as it writes them, which become the keys; None: the table's own.

    Returns:
        ``(speeds, tier_speed)``: GPU type → model class → relative speed on one GPU, and model class → tier → relative
        speed of a gang; both with a ``default``.

    Raises:
        ConfigError: There is no table of that name, or it does not have one of the GPU types.
    """
    table = packaged_throughputs(name)
    return table.speeds(table.gpu_types if gpu_types is None else gpu_types), table.tier_speed()


def measured_curves() -> dict[str, tuple[IntArray, FloatArray]]:
    """Speed-ups by model class over all packaged tables: (P,) gang sizes from 1 on, (P,) speed-ups.

    A model class that occurs in several tables is taken from the first.
    """
    found: dict[str, tuple[IntArray, FloatArray]] = {}
    for name in packaged_tables():
        table = packaged_throughputs(name)
        for i, model in enumerate(table.models):
            sizes, rates = table.points(i)
            if len(sizes) > 1 and model not in found:
                found[model] = (sizes, rates / rates[0])
    return found


@lru_cache(maxsize=1)
def default_parallel_ratio() -> float:
    """Amdahl's parallel part of an unknown model: the best fit to the concave curves measured at a fixed batch size."""
    from shunter.scheduler.elastic import amdahl_ratio, concave_curve

    sizes, speed_ups = list[IntArray](), list[FloatArray]()
    for table in (packaged_throughputs(name) for name in STRONG_SCALING):
        for i in range(len(table.models)):
            gpus, rates = table.points(i)
            sizes.append(gpus[1:])
            speed_ups.append(concave_curve(gpus, rates, int(gpus[-1]))[gpus[1:]])
    return amdahl_ratio(np.concatenate(sizes), np.concatenate(speed_ups))


def speed_up_curves(model_classes: Sequence[str | None], max_gpus: int) -> FloatArray:
    """(K, max_gpus + 1) concave speed-up curves, one a model class.

    Measured classes have the curve through their measurements (beyond the last flat), others Amdahl's law with
    ``default_parallel_ratio``.
    """
    from shunter.scheduler.elastic import amdahl_curve, concave_curve

    measured = measured_curves()
    curves = np.empty((len(model_classes), max_gpus + 1))
    for row, name in enumerate(model_classes):
        if name in measured:
            curves[row] = concave_curve(*measured[name], max_gpus)
        else:
            curves[row] = amdahl_curve(default_parallel_ratio(), max_gpus)
    return curves
