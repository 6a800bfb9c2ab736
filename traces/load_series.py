"""Load of nodes over time on a regular grid: what forecasts learn from, and how irregular samples get there.

Owns ``LoadSeries`` and ``regular``; knows nothing of files. Point ``i`` of a series stands for the step from
``begin_s + i·step_s`` up to, not including, the next one, and is the mean of what was measured in it. A step without a
measurement is NaN: nothing is ever interpolated, carried forward or made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.scheduler.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

Float32Array = npt.NDArray[np.float32]

LARGEST = 1 << 28
"""Values of a series (1 GiB): more is a damaged time or a step far too short, not a load."""

SAME_INSTANT = 1e-6
"""Share of a step by which a time may miss the grid: Unix seconds as float64 are known to 0.2 µs."""


@dataclass(frozen=True, eq=False)
class LoadSeries:
    """Load of nodes over time, on a regular grid.

    Attributes:
        name: Of the source.
        nodes: (N,) names, in the order in which the source has them first.
        features: (F,) names; the first one is what forecasts are about unless another is asked for.
        values: (T, N, F), not writeable; NaN where nothing was measured in that step.
        step_s: Seconds between two points.
        begin_s: Time of the first point: Unix seconds (UTC, or the source's own clock where it names no zone), or
            seconds on the clock of a source without a calendar.
        dated: Whether ``begin_s`` is a real date, so that hours and weekdays mean something.
        units: (F,) such as ``ratio``, ``gpus``, ``cpus``, ``jobs``, ``nodes``, ``mhz``, ``gib``, ``count``; empty when
            the source does not say.
        facts: What the reader noted: ``format, source_sha256, samples, missing_share, out_of_order, duplicates``, rows
            read and left out, and how derived features were made.
    """

    name: str
    nodes: tuple[str, ...]
    features: tuple[str, ...]
    values: Float32Array
    step_s: float
    begin_s: float = 0.0
    dated: bool = True
    units: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what does not fit together, and keep the values from being written to."""
        values = np.asarray(self.values, dtype=np.float32)
        if values.flags.writeable:
            values = values.view()
            values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "units", tuple(self.units) or ("",) * len(self.features))
        shape = (len(self.nodes), len(self.features))
        if values.ndim != 3 or values.shape[1:] != shape:
            raise TraceError(f"load series {self.name!r}: values of shape {values.shape}, expected (T, {shape})")
        if not all(shape) or not len(values):
            raise TraceError(f"load series {self.name!r}: no points; needs at least a node, a feature and an instant")
        for what, names in (("node", self.nodes), ("feature", self.features)):
            if len(set(names)) < len(names):
                raise TraceError(f"load series {self.name!r}: a {what}'s name occurs more than once")
        if len(self.units) != len(self.features):
            raise TraceError(f"load series {self.name!r}: {len(self.units)} units for {len(self.features)} features")
        if not (np.isfinite(self.step_s) and self.step_s > 0 and np.isfinite(self.begin_s)):
            raise TraceError(f"load series {self.name!r}: step {self.step_s!r} s from {self.begin_s!r} s is no grid")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing_share(self) -> float:
        """Share of all values that were not measured."""
        return float(np.isnan(self.values).mean())

    def times_s(self) -> FloatArray:
        """(T,) time of each point."""
        return self.begin_s + np.arange(len(self), dtype=np.float64) * self.step_s

    def window(self, first: int, last: int) -> LoadSeries:
        """The points ``first`` up to, not including, ``last``.

        Raises:
            TraceError: The window is empty or does not lie inside the series.
        """
        if not 0 <= first < last <= len(self):
            raise TraceError(f"window {first}:{last} does not lie inside {self.name!r}, which has {len(self)} points")
        return replace(self, values=self.values[first:last], begin_s=self.begin_s + first * self.step_s)

    def select(self, *, nodes: Sequence[str] | None = None, features: Sequence[str] | None = None) -> LoadSeries:
        """Some nodes and features, in the order in which they are named; all by default.

        Raises:
            UsageError: A name that the series does not have.
        """
        kept = self.nodes if nodes is None else tuple(nodes)
        columns = self.features if features is None else tuple(features)
        node_idx = _positions("node", kept, self.nodes, self.name)
        feature_idx = _positions("feature", columns, self.features, self.name)
        return replace(
            self,
            nodes=kept,
            features=columns,
            units=tuple(self.units[i] for i in feature_idx),
            values=self.values[:, node_idx][:, :, feature_idx],
        )

    def about(self, feature: str) -> LoadSeries:
        """The same series with this feature first.

        Raises:
            UsageError: It does not have it.
        """
        return self.select(features=[feature, *(name for name in self.features if name != feature)])

    def is_whole_step(self, step_s: float) -> bool:
        """Whether a step is one or several of the series' own."""
        many = round(step_s / self.step_s) if np.isfinite(step_s) else 0
        return many >= 1 and abs(many * self.step_s - step_s) <= SAME_INSTANT * step_s

    def resampled(self, step_s: float) -> LoadSeries:
        """Longer steps, each the mean of the points in it that are known; the last one may have fewer points.

        Raises:
            UsageError: ``step_s`` is no whole multiple of the step.
        """
        if not self.is_whole_step(step_s):
            raise UsageError(
                f"a step of {step_s:g} s is no whole multiple of the {self.step_s:g} s that {self.name!r} has"
            )
        many = round(step_s / self.step_s)
        if many == 1:
            return self
        count = -(-len(self) // many)
        padded = np.full((count * many, *self.values.shape[1:]), np.nan, dtype=np.float32)
        padded[: len(self)] = self.values
        cells = padded.reshape(count, many, *self.values.shape[1:])
        known = (~np.isnan(cells)).sum(axis=1)
        sums = np.nansum(cells, axis=1, dtype=np.float64)
        means = np.divide(sums, known, out=np.full(sums.shape, np.nan), where=known > 0)
        return replace(self, values=means.astype(np.float32), step_s=float(step_s))


def _positions(what: str, wanted: Sequence[str], known: Sequence[str], name: str) -> list[int]:
    place = {text: i for i, text in enumerate(known)}
    for text in wanted:
        if text not in place:
            raise UsageError(f"load series {name!r} has no {what} {text!r}{nearest(text, list(known[:200]))}")
    if not len(wanted):
        raise UsageError(f"load series {name!r}: no {what} is left")
    return [place[text] for text in wanted]


def regular(
    name: str,
    time_s: npt.ArrayLike,
    node: Iterable[str],
    columns: Mapping[str, npt.ArrayLike],
    *,
    step_s: float | None = None,
    dated: bool = True,
    units: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> LoadSeries:
    """Samples in any order, put on a grid; see the module's text.

    The grid begins at the first sample. Where samples come once a step, but not exactly, it begins half a step earlier:
    then a sample that is a second late does not leave its own step empty and share the next one.

    Args:
        name: Of the source.
        time_s: (S,) seconds.
        node: (S,) names.
        columns: Feature to its (S,) values; NaN is not measured.
        step_s: Of the grid; by default the median time between two instants of a node.
        dated: Whether the times are real dates.
        units: Feature to unit.
        facts: What else is known; counts of this function are added.

    Raises:
        TraceError: No samples, a time or value that is not finite, a single instant without a step, or a grid of more
            than ``LARGEST`` values.
    """
    import polars as pl

    times = np.asarray(time_s, dtype=np.float64)
    names = node.cast(pl.String) if isinstance(node, pl.Series) else pl.Series(list(map(str, node)), dtype=pl.String)
    values = {feature: np.asarray(column, dtype=np.float64) for feature, column in columns.items()}
    _check_samples(name, times, len(names), values, step_s)
    nodes, code = numbered(names)
    told = order_of(times, code)
    gap_s = told.gap_s
    step = gap_s if step_s is None else float(step_s)
    if step is None:
        raise TraceError(f"{name}: all samples are of one instant, so the step cannot be told; give it")
    begin_s = float(times.min())
    if _jitters(times - begin_s, step) and gap_s is not None and gap_s > step / 2:
        begin_s -= step / 2
    row = np.floor((times - begin_s) / step + SAME_INSTANT)
    points = row.max() + 1.0
    if points * len(nodes) * len(values) > LARGEST:
        raise TraceError(
            f"{name}: {points:,.0f} steps of {step:g} s for {len(nodes):,} nodes and {len(values)} features are more "
            f"than can be held; is a time damaged, or the step too short?"
        )
    grid = _means(row.astype(np.int64) * len(nodes) + code, values, int(points) * len(nodes))
    counted = {
        "samples": len(times),
        "missing_share": float(np.isnan(grid).mean()),
        "out_of_order": told.out_of_order,
        "duplicates": told.duplicates,
    }
    return LoadSeries(
        name=name,
        nodes=tuple(nodes),
        features=tuple(values),
        values=grid.reshape(int(points), len(nodes), len(values)),
        step_s=step,
        begin_s=begin_s,
        dated=dated,
        units=tuple((units or {}).get(feature, "") for feature in values),
        facts={**(facts or {}), **counted},
    )


def numbered(names: pl.Series) -> tuple[list[str], IntArray]:
    """The different names in the order of their first appearance, and the number of each."""
    import polars as pl

    different = names.unique(maintain_order=True)
    return different.to_list(), names.cast(pl.Enum(different)).to_physical().to_numpy().astype(np.int64)


def _check_samples(
    name: str, times: FloatArray, nodes: int, values: Mapping[str, FloatArray], step_s: float | None
) -> None:
    if step_s is not None and not (np.isfinite(step_s) and step_s > 0):
        raise UsageError(f"{name}: a step of {step_s!r} s, expected a positive number")
    if not len(times):
        raise TraceError(f"{name}: no samples")
    if not values:
        raise TraceError(f"{name}: no features")
    lengths = {len(times), nodes, *(len(column) for column in values.values())}
    if len(lengths) > 1:
        raise TraceError(f"{name}: times, nodes and columns of different lengths: {sorted(lengths)}")
    if not np.isfinite(times).all():
        raise TraceError(f"{name}: a time is not finite")
    endless = [feature for feature, column in values.items() if (np.abs(column) > np.finfo(np.float32).max).any()]
    if endless:
        raise TraceError(f"{name}: a value of {endless[0]!r} is infinite, or too large for 32 bits")


@dataclass(frozen=True, slots=True)
class Order:
    """How samples follow each other.

    Attributes:
        gap_s: Median time between two instants of a node; None where every node has one instant.
        out_of_order: Samples that are earlier than the one of their node before them.
        duplicates: Samples of a node and an instant beyond the first.
    """

    gap_s: float | None
    out_of_order: int
    duplicates: int


def order_of(times: FloatArray, code: IntArray) -> Order:
    """How samples follow each other, of (S,) times and numbers of nodes in the order of the file."""
    # Numbers of 16 bits are sorted by radix, many times as fast.
    small = code.astype(np.uint16) if len(code) and code.max() < 1 << 16 else code
    by_node = np.argsort(small, kind="stable")
    same: BoolArray = np.diff(code[by_node]) == 0
    steps = np.diff(times[by_node])
    backwards = int((same & (steps < 0)).sum())
    if backwards:
        sorted_ = np.lexsort((times, code))
        steps = np.diff(times[sorted_])
    gaps = steps[same & (steps > 0)]
    # The lower of the two in the middle: their mean would be a step that no sample keeps.
    gap_s = float(np.sort(gaps)[(len(gaps) - 1) // 2]) if len(gaps) else None
    return Order(gap_s, backwards, int((same & (steps == 0)).sum()))


def _jitters(since_s: FloatArray, step: float) -> bool:
    """Whether some sample lies off the grid that begins at the first one."""
    phase = since_s / step
    return bool((np.abs(phase - np.rint(phase)) > SAME_INSTANT).any())


def _means(cell: IntArray, values: Mapping[str, FloatArray], cells: int) -> Float32Array:
    """(cells, F) mean of the known samples of each cell; NaN where there is none."""
    grid = np.full((cells, len(values)), np.nan, dtype=np.float32)
    alone = np.bincount(cell, minlength=1).max() == 1 if cells <= 4 * len(cell) else len(np.unique(cell)) == len(cell)
    for i, column in enumerate(values.values()):
        if alone:
            grid[cell, i] = column
            continue
        known = ~np.isnan(column)
        counts = np.bincount(cell[known], minlength=cells)
        sums = np.bincount(cell[known], weights=column[known], minlength=cells)
        filled = counts > 0
        grid[filled, i] = sums[filled] / counts[filled]
    return grid
