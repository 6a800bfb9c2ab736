"""``--node-load`` and ``--load-forecast``: other work on the nodes of a replay, and what is predicted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shunter.cli.policies import LEARNED, find_forecaster, is_forecast
from shunter.scheduler.errors import UsageError, nearest

if TYPE_CHECKING:
    from shunter.scheduler.types import FloatArray
    from shunter.sim.other_work import OtherWork
    from shunter.traces.load_series import LoadSeries
    from shunter.traces.tables import ClusterSpec

FORECASTS = ("none", "present", "usual", "perfect", LEARNED)


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What was asked for.

    Attributes:
        series: Load series of the nodes' other work; None without any.
        forecast: A name of ``FORECASTS``, or ``model:FOLDER``.
    """

    series: str | None = None
    forecast: str = "present"

    def check(self) -> None:
        """Raise UsageError for an unknown forecast, or one without a series."""
        if not (self.forecast in FORECASTS or is_forecast(self.forecast)):
            hint = nearest(self.forecast, list(FORECASTS))
            raise UsageError(f"unknown --load-forecast {self.forecast!r}{hint}; or model:FOLDER")
        if self.series is None and self.forecast != "present":
            raise UsageError("--load-forecast needs the loads that are to be forecast: give --node-load SERIES")

    def resolve(self, cluster: ClusterSpec, *, quiet: bool = False) -> OtherWork | None:
        """The load of the cluster's nodes, its first step at the trace's start; None without a series.

        Raises:
            ShunterError: The series cannot be read, has fewer nodes than the cluster, or no shares; the forecaster is
                missing or does not fit it.
        """
        import numpy as np

        from shunter.cli.console import note
        from shunter.cli.load_series import open_series
        from shunter.sim.other_work import OtherWork

        self.check()
        if self.series is None:
            return None
        series = open_series(self.series, step_s=None, feature=None, skip_bad=False)
        wanted = cluster.num_nodes
        if len(series.nodes) < wanted:
            raise UsageError(
                f"{self.series}: loads of {len(series.nodes)} nodes, but cluster {cluster.name!r} has {wanted}"
            )
        if wanted == 1 < len(series.nodes) and not quiet:
            note(f"cluster {cluster.name!r} is one node: all jobs run beside the load of {series.nodes[0]!r} alone")
        series = series.select(nodes=series.nodes[:wanted])
        load = filled(np.asarray(series.values[..., 0], dtype=np.float64))
        if load.min() < 0 or load.max() > 1:
            raise UsageError(
                f"{self.series}: {series.features[0]} lies between {load.min():g} and {load.max():g}; the load of a "
                "node has to be a share of it, 0 to 1"
            )
        if not quiet and series.missing_share:
            note(f"{series.name}: {series.missing_share:.1%} not measured; the load of the step before stands for it")
        return OtherWork(0.0, series.step_s, load, self._predicted(series, load, quiet=quiet), self.forecast)

    def _predicted(self, series: LoadSeries, load: FloatArray, *, quiet: bool) -> FloatArray:
        import numpy as np

        from shunter.sim import other_work

        simple = {"present": other_work.last_known, "usual": other_work.usual, "perfect": other_work.foreseen}
        if self.forecast == "none":
            return np.zeros_like(load)
        if self.forecast in simple:
            return simple[self.forecast](load)
        from shunter.cli.console import counting_bar
        from shunter.predictors.over_series import told_means

        forecaster = find_forecaster(self.forecast)
        with counting_bar("steps ·", quiet) as progress:
            return told_means(forecaster, series, progress)


def filled(load: FloatArray) -> FloatArray:
    """(T, N) loads without gaps: the last known one goes on, and before the first one it is taken; 0 without any."""
    import numpy as np

    known = np.isfinite(load)
    last = np.maximum.accumulate(np.where(known, np.arange(len(load))[:, None], -1), axis=0)
    first = np.argmax(known, axis=0)
    rows = np.where(last >= 0, last, first)
    return np.nan_to_num(np.take_along_axis(load, rows, axis=0), nan=0.0)
