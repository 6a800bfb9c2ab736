"""``--hold-for`` and what goes with it: capacity that is held for favoured jobs to come."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shunter.cli.policies import LEARNED, find_forecaster, is_forecast
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from shunter.predictors.load import LoadForecaster
    from shunter.scheduler.types import FloatArray
    from shunter.sim.holding import Holding
    from shunter.traces.tables import ClusterSpec, Trace

FORECASTS = ("usual", "perfect", LEARNED)


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
        from shunter.predictors.shapes import QUANTILES

        by_model = is_forecast(self.forecast)
        if not (by_model or self.forecast in FORECASTS or self._constant() is not None):
            raise UsageError(
                f"--hold-forecast {self.forecast!r}: expected {', '.join(FORECASTS)}, model:FOLDER or a number"
            )
        if not (math.isfinite(self.step_s) and self.step_s > 0):
            raise UsageError(f"--hold-step {self.step_s!r}: expected a positive number of seconds")
        if not 0 < self.level < 1 or (by_model and self.level not in QUANTILES):
            known = f"one of {', '.join(map(str, QUANTILES))}" if by_model else "a share between 0 and 1"
            raise UsageError(f"--hold-level {self.level:g}: expected {known}")

    def _constant(self) -> float | None:
        try:
            value = float(self.forecast)
        except ValueError:
            return None
        return value if math.isfinite(value) and value >= 0 else None

    def resolve(
        self,
        trace: Trace,
        cluster: ClusterSpec,
        window: tuple[int, int] | None,
        *,
        default_request_s: float | None = None,
        quiet: bool = False,
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
        workload = prepare(trace, cluster, default_request_s=default_request_s)
        favoured = favoured_jobs(workload, self.whom)
        told = self._told(arrivals(workload, favoured, self.step_s), trace, quiet=quiet)
        if window is not None:
            favoured = favoured[window[0] : sum(window)]
        return Holding(favoured, self.step_s, told, self.forecast)

    def _told(self, asked: FloatArray, trace: Trace, *, quiet: bool) -> FloatArray:
        import numpy as np

        from shunter.sim.holding import usual_quantile

        constant = self._constant()
        if constant is not None:
            return np.full(len(asked), constant)
        if self.forecast == "perfect":
            return asked
        if self.forecast == "usual":
            return usual_quantile(asked, self.level)
        return self._by(find_forecaster(self.forecast), asked, trace, quiet=quiet)

    def _by(self, forecaster: LoadForecaster, asked: FloatArray, trace: Trace, *, quiet: bool) -> FloatArray:
        import numpy as np

        from shunter.cli.console import counting_bar
        from shunter.predictors.over_series import told_quantiles
        from shunter.predictors.shapes import QUANTILES
        from shunter.sim.holding import arrival_series

        series = arrival_series(trace, asked, self.step_s)
        with counting_bar("steps ·", quiet) as progress:
            told = told_quantiles(forecaster, series, progress)[:, 0, 0, QUANTILES.index(self.level)]
        return np.maximum(np.nan_to_num(told, nan=0.0), 0.0)
