"""The load of a replay as a load series: what forecasts of a simulated cluster learn from.

Every value is the mean over its step, weighted by time, not a sample; arrivals are counts. Worked out from the tables
of the result, a stretch at a time, so that memory grows with the length of the replay over the step alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.stored import batches
from shunter.sim.windows import windows_of_attempts
from shunter.traces.load_series import LoadSeries

if TYPE_CHECKING:
    import polars as pl

    from shunter.sim.result import Result

LOAD_STEP_S = 60.0

MOST_POINTS = 1 << 21
"""Four years of minutes: longer replays get longer steps."""

QUEUE, JOBS, USED = "queue_length", "running_jobs", "used_{}"


@dataclass(frozen=True, slots=True)
class Grid:
    """Steps of the trace's clock.

    Attributes:
        first_s: Begin of the first one, a whole multiple of ``step_s``.
        step_s: Length of one.
        points: How many.
    """

    first_s: float
    step_s: float
    points: int

    @classmethod
    def over(cls, first_s: float, last_s: float, step_s: float) -> Grid:
        """The steps that hold both times; longer ones, by a whole factor, where there would be too many.

        Raises:
            UsageError: The step is not positive.
        """
        check_step(step_s)
        step_s *= max(1.0, np.ceil((last_s - first_s) / step_s / MOST_POINTS))
        first = np.floor(first_s / step_s)
        return cls(float(first * step_s), float(step_s), max(1, int(np.ceil(last_s / step_s) - first)))

    def cell(self, time_s: FloatArray) -> IntArray:
        """The step of each time."""
        cells = np.floor((time_s - self.first_s) / self.step_s).astype(np.int64)
        return np.clip(cells, 0, self.points - 1)


def check_step(step_s: float) -> None:
    """Raise UsageError for a step that is not positive."""
    if not (np.isfinite(step_s) and step_s > 0):
        raise UsageError(f"load step {step_s!r} s, expected a positive number of seconds")


def load_of(result: Result, step_s: float = LOAD_STEP_S) -> LoadSeries | None:
    """The load of a replay; None when no job ran.

    The first node is the whole cluster. Where placements were noted and the cluster has several groups of nodes, each
    of them follows: its use, and the jobs that run on it; queue and arrivals are the cluster's alone.

    Args:
        result: A replay, with its tables in memory or in a folder.
        step_s: Seconds between two points; more for a replay of more than ``MOST_POINTS`` steps.

    Raises:
        UsageError: The step is not positive, or a table of the run is damaged.
    """
    import polars as pl

    last_s = result.jobs["end_s"].cast(pl.Float64).max()
    if last_s is None:
        return None
    resource = _resource(result)
    grid = Grid.over(float(_submissions(result).min()), float(last_s), step_s)  # type: ignore[arg-type]
    whole = timeline_means(result, grid, resource)
    capacities = [result.capacity(resource)]
    names, use = [result.cluster], [whole[2]]
    running = [whole[1]]
    groups = _groups(result, resource)
    if groups is not None:
        parts = group_means(result, grid, groups, resource)
        names += _distinct([f"{result.cluster}/{name}" for name in groups.names])
        capacities += groups.capacities
        use += list(parts[0])
        running += list(parts[1])
    arrivals = np.bincount(grid.cell(_submissions(result)), minlength=grid.points).astype(np.float64)
    none = np.full(grid.points, np.nan)
    spare = len(names) - 1
    with_nothing = [none] * spare
    columns = [
        [held / capacity if capacity else none for held, capacity in zip(use, capacities, strict=True)],
        use,
        [whole[0], *with_nothing],
        running,
        [arrivals, *with_nothing],
    ]
    begin = result.manifest.get("trace", {}).get("start_unix_s")
    singular = resource.removesuffix("s")
    return LoadSeries(
        name=f"{result.trace} {result.label}",
        nodes=tuple(names),
        features=(f"{singular}_utilisation", f"running_{resource}", QUEUE, JOBS, "arrivals"),
        units=("ratio", resource, "jobs", "jobs", "jobs"),
        values=np.stack([np.stack(column, axis=-1) for column in columns], axis=-1).astype(np.float32),
        step_s=grid.step_s,
        begin_s=grid.first_s + (begin or 0.0),
        dated=begin is not None,
        facts={"format": "replay", "source": result.trace, "policy": result.label, "cluster": result.cluster},
    )


def load_bytes(result: Result, step_s: float = LOAD_STEP_S) -> bytes | None:
    """The content of ``load.parquet``; None when no job ran."""
    from shunter.traces.series.native import parquet_bytes

    series = load_of(result, step_s)
    return None if series is None else parquet_bytes(series)


def _resource(result: Result) -> str:
    """What utilisation is told of: GPUs where jobs hold any, else CPUs."""
    known = "gpus" in result.jobs.columns
    return "gpus" if known and float(result.jobs["gpus"].fill_null(0.0).sum()) > 0 else "cpus"


def _submissions(result: Result) -> FloatArray:
    """Submissions of jobs that the cluster could hold."""
    jobs = result.jobs
    return jobs.filter(jobs["start_s"].is_not_null())["submit_s"].to_numpy()


def timeline_means(result: Result, grid: Grid, resource: str) -> FloatArray:
    """(3, points) mean queue length, running jobs and units of ``resource`` in use of the whole cluster."""
    columns = (QUEUE, JOBS, USED.format(resource))
    sums = np.zeros((len(columns), grid.points))
    before = np.empty((1 + len(columns), 0))
    for batch in batches(result.tables, "timeline", ["time_s", *columns]):
        rows = np.stack([batch[name].to_numpy().astype(np.float64) for name in ("time_s", *columns)])
        rows = np.concatenate([before, rows], axis=1)
        add_steps(sums, grid, rows[0], rows[1:])
        before = rows[:, -1:]
    return np.round(sums / grid.step_s, 9) + 0.0


def add_steps(sums: FloatArray, grid: Grid, time_s: FloatArray, values: FloatArray) -> None:
    """Add the integral of (F, K) step functions, from the first of (K,) times to the last, to (F, points) sums."""
    if len(time_s) < 2:
        return
    low, high = grid.cell(time_s[[0, -1]])
    edges = grid.first_s + grid.step_s * np.arange(low + 1, high + 1)
    bounds = np.concatenate([time_s[:1], edges, time_s[-1:]])
    lengths = np.diff(time_s)
    for i, value in enumerate(values):
        integral = np.concatenate([[0.0], np.cumsum(value[:-1] * lengths)])
        sums[i, low : high + 1] += np.diff(np.interp(bounds, time_s, integral))


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of a cluster's nodes.

    Attributes:
        names: (G,) of the groups.
        of_node: (N,) group of each node.
        capacities: (G,) units of the resource; None where a group does not say.
    """

    names: list[str]
    of_node: IntArray
    capacities: list[float | None]


def _groups(result: Result, resource: str) -> Groups | None:
    """The groups that can be told apart; None for a single one, or without placements."""
    found = result.manifest.get("cluster", {}).get("groups", ())
    if len(found) < 2 or "placements" not in result.tables or "attempts" not in result.tables:
        return None
    counts = [int(group.get("count", 1)) for group in found]
    amounts = [group.get(resource) for group in found]
    capacities = [None if not each else count * float(each) for count, each in zip(counts, amounts, strict=True)]
    return Groups([group["name"] for group in found], np.repeat(np.arange(len(found)), counts), capacities)


def group_means(result: Result, grid: Grid, groups: Groups, resource: str) -> FloatArray:
    """(2, G, points) mean units of ``resource`` in use in each group, and jobs that run there."""
    num = len(groups.names)
    held, running = Spans(num, grid), Spans(num, grid)
    for placements in _placements_that_end(result):
        group = groups.of_node[placements["node"].to_numpy()]
        start_s, end_s = placements["start_s"].to_numpy(), placements["end_s"].to_numpy()
        held.add(group, start_s, end_s, placements[resource].to_numpy())
        numbered = placements.with_columns(group=group)
        firsts = _first_of_attempt(numbered)
        running.add(group[firsts], start_s[firsts], end_s[firsts], np.ones(int(firsts.sum())))
    return np.stack([held.means(), running.means()])


def _first_of_attempt(placements: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """One placement of each attempt and group."""
    import polars as pl

    return placements.select(pl.struct("job", "attempt", "group").is_first_distinct()).to_series().to_numpy()


def _placements_that_end(result: Result) -> Iterator[pl.DataFrame]:
    for window in windows_of_attempts(result.jobs, result.tables):
        if window.given_back is not None and window.given_back.height:
            yield window.given_back


class Spans:
    """Integrals over each step of what intervals hold, one row a group.

    Args:
        num: Groups.
        grid: The steps.
    """

    def __init__(self, num: int, grid: Grid) -> None:
        self._grid = grid
        self._parts = np.zeros(num * grid.points)
        self._rates = np.zeros(num * (grid.points + 1))

    def add(self, group: IntArray, start_s: FloatArray, end_s: FloatArray, amount: FloatArray) -> None:
        """Add (I,) intervals: the part of the first and the last step that each covers, and all steps in between."""
        grid = self._grid
        first, last = grid.cell(start_s), grid.cell(end_s)
        begin_s, length_s = grid.first_s, grid.step_s
        same = first == last
        head_s = np.where(same, end_s - start_s, begin_s + (first + 1) * length_s - start_s)
        tail_s = np.where(same, 0.0, end_s - (begin_s + last * length_s))
        row, wide = group * grid.points, group * (grid.points + 1)
        np.add.at(self._parts, row + first, amount * head_s)
        np.add.at(self._parts, row + last, amount * tail_s)
        np.add.at(self._rates, wide + np.minimum(first + 1, last), np.where(same, 0.0, amount))
        np.add.at(self._rates, wide + last, np.where(same, 0.0, -amount))

    def means(self) -> FloatArray:
        """(groups, points) mean over each step."""
        points = self._grid.points
        full = np.cumsum(self._rates.reshape(-1, points + 1), axis=1)[:, :points]
        return np.round(full + self._parts.reshape(-1, points) / self._grid.step_s, 9) + 0.0


def _distinct(names: list[str]) -> list[str]:
    """Names, numbered where two would be equal."""
    found: list[str] = []
    for name in names:
        number, text = 1, name
        while text in found:
            number += 1
            text = f"{name}-{number}"
        found.append(text)
    return found
