"""``--hold-for`` and what goes with it: capacity that is held for favoured jobs to come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from shunter.predictors.load import LoadForecaster
    from shunter.scheduler.types import FloatArray
    from shunter.sim.holding import Holding
    from shunter.traces.tables import ClusterSpec, Trace

FORECASTS = ("usual", "perfect", "learned")
MODEL = "model:"
LEVELS = (0.1, 0.5, 0.9)
"""Quantiles that a forecaster tells."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What was asked for.

    Attributes:
        whom: ``short:SECONDS`` or ``priority:LEAST``; None: nothing is held.
        forecast: A name of ``FORECASTS``, ``model:FOLDER``, or a number of processors that is held always.
        step_s: Length of the steps that are forecast.
        level: Quantile of what is expected that is held.
    """

    whom: str | None = None
    forecast: str = "usual"
    step_s: float = 600.0
    level: float = 0.9

    def check(self) -> None:
        """Raise UsageError for an unknown forecast or a number out of range."""
        if not (self.forecast in FORECASTS or self.forecast.startswith(MODEL) or self._constant() is not None):
            raise UsageError(
                f"--hold-forecast {self.forecast!r}: expected {', '.join(FORECASTS)}, model:FOLDER or a number"
            )
        if not (np.isfinite(self.step_s) and self.step_s > 0):
            raise UsageError(f"--hold-step {self.step_s!r}: expected a positive number of seconds")
        asked = self.forecast == "learned" or self.forecast.startswith(MODEL)
        if not 0 < self.level < 1 or (asked and self.level not in LEVELS):
            known = f"one of {', '.join(map(str, LEVELS))}" if asked else "a share between 0 and 1"
            raise UsageError(f"--hold-level {self.level:g}: expected {known}")

    def _constant(self) -> float | None:
        try:
            value = float(self.forecast)
        except ValueError:
            return None
        return value if np.isfinite(value) and value >= 0 else None

    def resolve(
        self, trace: Trace, cluster: ClusterSpec, window: tuple[int, int] | None, *, quiet: bool = False
    ) -> Holding | None:
        """For which jobs of the trace, or of a window of it, how much is held; None without ``--hold-for``.

        What happened before the window is known in it.

        Raises:
            ShunterError: The rule means no job, or the forecaster is missing or learned other steps.
        """
        from shunter.sim.holding import Holding, arrivals, favoured_jobs
        from shunter.sim.workload import prepare

        self.check()
        if self.whom is None:
            return None
        workload = prepare(trace, cluster)
        favoured = favoured_jobs(workload, self.whom)
        told = self._told(arrivals(workload, favoured, self.step_s), trace, quiet=quiet)
        if window is not None:
            favoured = favoured[window[0] : sum(window)]
        return Holding(favoured, self.step_s, told, self.forecast)

    def _told(self, asked: FloatArray, trace: Trace, *, quiet: bool) -> FloatArray:
        from shunter.sim.holding import usual_quantile

        constant = self._constant()
        if constant is not None:
            return np.full(len(asked), constant)
        if self.forecast == "perfect":
            return asked
        if self.forecast == "usual":
            return usual_quantile(asked, self.level)
        from shunter.predictors.bundle import load_forecaster, shipped_forecaster

        if self.forecast == "learned":
            return self._by(load_forecaster(shipped_forecaster()), asked, trace, quiet=quiet)
        return self._by(load_forecaster(Path(self.forecast.removeprefix(MODEL))), asked, trace, quiet=quiet)

    def _by(self, forecaster: LoadForecaster, asked: FloatArray, trace: Trace, *, quiet: bool) -> FloatArray:
        from shunter.cli.console import counting_bar
        from shunter.predictors.over_series import told_quantiles
        from shunter.sim.holding import arrival_series

        series = arrival_series(trace, asked, self.step_s)
        with counting_bar("steps ·", quiet) as progress:
            told = told_quantiles(forecaster, series, progress)[:, 0, 0, LEVELS.index(self.level)]
        return np.maximum(np.nan_to_num(told, nan=0.0), 0.0)
