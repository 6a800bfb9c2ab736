"""What ran on which node and GPU and when, and what was out of service, as arrays: what cluster charts are drawn from.

Reads the tables ``attempts``, ``placements`` and ``outages`` of a result and the cluster in its manifest. A run without
them gives None, and the report is then the one of a plain pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.energy import Downtimes, Placements
from shunter.scheduler.errors import ConfigError, UsageError
from shunter.scheduler.mig import GEOMETRIES
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.sim.result import Result
from shunter.sim.stored import batches
from shunter.sim.windows import BEGUN, ENDED, HeldNow, begun_of, side_by_side
from shunter.traces.cluster_spec import ClusterSpec

if TYPE_CHECKING:
    import polars as pl

STILL_UP = ("notice", "probation")
"""Kinds of outages in which a node only takes nothing new: it is up and runs what it has."""


COLUMNS = ("job", "attempt", "node", "gpu", "start_s", "end_s", "gpus", "cpus")
"""Of ``Held``, one value a placement."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was held: one row a job, attempt, node and GPU, all arrays (P,), sorted by start, then job, node and GPU.

    Attributes:
        spec: The cluster.
        job: Row of the job table.
        attempt: Number of the attempt, from 1.
        node: Row of the node.
        gpu: GPU on its node; −1 where the GPUs of a node are not told apart.
        start_s: Begin of the attempt.
        end_s: Its end.
        ended: Why it ended, as in the table ``attempts``.
        gpus: GPUs held there.
        cpus: CPUs held there.
        down: What was out of service.
        down_kinds: (D,) why.
        slices: (2, P) begin and width of a MIG instance on its GPU, as parts of the GPU's memory; NaN where there is
            none. None: there are none at all.
        goes_on: Whether the job has a further attempt; None where that does not matter.
    """

    spec: ClusterSpec
    job: IntArray
    attempt: IntArray
    node: IntArray
    gpu: IntArray
    start_s: FloatArray
    end_s: FloatArray
    ended: Sequence[str] | pl.Series
    gpus: FloatArray
    cpus: FloatArray
    down: Downtimes
    down_kinds: list[str]
    slices: FloatArray | None = None
    goes_on: BoolArray | None = None

    def amount(self, resource: str) -> FloatArray:
        """(P,) ``gpus`` or ``cpus``."""
        return self.gpus if resource == "gpus" else self.cpus

    def windows(self) -> Iterator[Held]:
        """All of it at once."""
        yield self

    def take(self, rows: IntArray) -> Held:
        """Some of the rows, in this order."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in COLUMNS}
        columns["slices"] = None if self.slices is None else self.slices[:, rows]
        return replace(self, ended=[self.ended[i] for i in rows.tolist()], goes_on=None, **columns)

    @staticmethod
    def joined(parts: Sequence[Held]) -> Held:
        """The rows of several parts of one run, at least one."""
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
        cut = [part.slices for part in parts if part.slices is not None]
        columns["slices"] = np.concatenate(cut, axis=1) if cut else None
        return replace(parts[0], ended=[why for part in parts for why in part.ended], goes_on=None, **columns)

    def placements(self) -> Placements:
        """The same for ``scheduler.energy``."""
        return Placements(self.job, self.node, self.start_s, self.end_s, self.cpus, self.gpus)


@dataclass(frozen=True, slots=True)
class HeldRun:
    """What ran where in a run, to be read a stretch of time after the other.

    Attributes:
        result: The run.
        spec: The cluster.
        down: What was out of service.
        down_kinds: (D,) why.
    """

    result: Result
    spec: ClusterSpec
    down: Downtimes
    down_kinds: list[str]

    def windows(self) -> Iterator[Held]:
        """The placements that end in each stretch of time, in its order.

        Raises:
            UsageError: The tables name jobs or nodes that there are not, or are not in the order of time.
        """
        result = self.result
        if not set(BEGUN) <= set(result.scan("placements").collect_schema().names()):
            yield from self.whole().windows()  # written by hand, or by another program
            return
        attempts = result.jobs["attempts"].to_numpy()
        streams = (begun_of(result.tables), batches(result.tables, "attempts", ENDED))
        now = HeldNow()
        for taken, ended in side_by_side(streams, ("start_s", "end_s")):
            self._refuse_strangers(taken)
            given_back = self._held(now.after(taken, ended))
            yield replace(given_back, goes_on=given_back.attempt < attempts[given_back.job])

    def whole(self) -> Held:
        """All of it in memory."""
        rows = joined(self.result.tables["placements"], self.result.tables["attempts"])
        self._refuse_strangers(rows)
        return self._held(rows)

    def _refuse_strangers(self, placements: pl.DataFrame) -> None:
        for column, size in (("node", self.spec.num_nodes), ("job", self.result.jobs.height)):
            refuse_strangers("placements", placements, column, size)

    def _held(self, rows: pl.DataFrame) -> Held:
        """Placements with the times and the ends of their attempts."""
        return Held(
            spec=self.spec,
            job=rows["job"].to_numpy(),
            attempt=rows["attempt"].to_numpy(),
            node=rows["node"].to_numpy(),
            gpu=rows["gpu"].to_numpy(),
            start_s=floats(rows, "start_s"),
            end_s=floats(rows, "end_s"),
            gpus=floats(rows, "gpus"),
            cpus=floats(rows, "cpus"),
            ended=rows["ended"],
            down=self.down,
            down_kinds=self.down_kinds,
            slices=slices_held(self.spec, rows),
        )


def node_amounts(spec: ClusterSpec, resource: str) -> FloatArray:
    """(N,) ``gpus`` or ``cpus`` of each node; 0 where it has none or the specification does not say."""
    amounts = [float(getattr(group, resource) or 0.0) for group in spec.groups]
    return np.repeat(np.asarray(amounts, dtype=np.float64), [group.count for group in spec.groups])


def cluster_of(result: Result) -> ClusterSpec | None:
    """The cluster in a run's manifest; None when it is not there or not whole."""
    content = result.manifest.get("cluster")
    try:
        return ClusterSpec.from_dict(content) if content else None
    except (ConfigError, TypeError, AttributeError):
        return None


def held_of(result: Result) -> HeldRun | None:
    """What ran where; None for a run without placements or without its cluster.

    Raises:
        UsageError: The outages name nodes that there are not.
    """
    spec = cluster_of(result)
    if spec is None or "placements" not in result.tables or "attempts" not in result.tables:
        return None
    down = result.tables.get("outages")
    if down is not None:
        refuse_strangers("outages", down, "node", spec.num_nodes)
    kinds = [] if down is None else down.filter(~down["kind"].cast(str).is_in(STILL_UP))["kind"].to_list()
    return HeldRun(result, spec, downtimes(down), kinds)


def refuse_strangers(name: str, table: pl.DataFrame, column: str, size: int) -> None:
    """Raise UsageError when a table names a job or node that there is not."""
    if table.height and not table[column].is_between(0, size - 1).all():
        raise UsageError(f"{name}.parquet: names a {column} that is not one of the run's {size}; the files differ")


def slices_held(spec: ClusterSpec, rows: pl.DataFrame) -> FloatArray | None:
    """See ``Held.slices``."""
    if "slice" not in rows.columns or "slices" not in rows.columns:
        return None
    cuts = [spec.geometry_of(group) for group in spec.groups]
    of_group = [np.nan if cut is None else GEOMETRIES[cut].slices for cut in cuts]
    of_node = np.repeat(np.asarray(of_group, dtype=np.float64), [group.count for group in spec.groups])
    bounds = np.stack([rows[name].to_numpy().astype(np.float64) for name in ("slice", "slices")])
    found: FloatArray = bounds / of_node[rows["node"].to_numpy()]
    return found


def joined(placements: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """The placements with the times and the end of their attempts, in the order of ``Held``."""
    import polars as pl

    rows = placements.join(
        attempts.select("job", "attempt", "start_s", "end_s", pl.col("ended").cast(pl.String)), on=["job", "attempt"]
    )
    return rows.cast(dict.fromkeys(("job", "attempt", "node", "gpu"), pl.Int64)).sort("start_s", "job", "node", "gpu")


def floats(rows: pl.DataFrame, name: str) -> FloatArray:
    """A column as float64, 0 where it is missing."""
    if name not in rows.columns:
        return np.zeros(rows.height)
    return rows[name].fill_null(0).to_numpy().astype(np.float64)


def downtimes(outages: pl.DataFrame | None) -> Downtimes:
    """The outages without those in which a node only takes nothing new."""
    import polars as pl

    if outages is None:
        return Downtimes.none()
    rows = outages.with_columns(pl.col("kind").cast(pl.String)).filter(~pl.col("kind").is_in(STILL_UP))
    return Downtimes(
        *(rows[name].cast(pl.Int64).to_numpy() for name in ("node", "gpu")),
        *(rows[name].cast(pl.Float64).fill_null(np.inf).to_numpy() for name in ("from_s", "until_s")),
    )


def availability(held: Held | HeldRun, first_s: float, last_s: float) -> FloatArray:
    """(N,) share of the time between two instants in which each node was up; outages of single GPUs do not count."""
    whole = held.down.gpu < 0
    length_s = np.minimum(held.down.until_s, last_s) - np.maximum(held.down.from_s, first_s)
    lost_s = np.bincount(held.down.node[whole], np.maximum(length_s[whole], 0.0), held.spec.num_nodes)
    share: FloatArray = 1.0 - lost_s / (last_s - first_s)
    return share


def held_of_all(results: Sequence[Result]) -> list[HeldRun | None]:
    """``held_of`` each run."""
    return [held_of(result) for result in results]
