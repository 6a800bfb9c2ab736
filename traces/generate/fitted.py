"""A workload model learnt from a trace: what it holds, and its JSON form.

``fitting`` learns the numbers, ``drawing`` draws from them, ``sections`` says what they are. A draw goes as follows.

1. *Gaps.* A Gaussian series (white noise plus a fast and a slow AR(1) part) gives correlated normal scores. Each score
   is turned by quantile tables into either a burst gap (a few seconds of real time: scripts) or a gap on the clock of
   the cycle, on which the weekly profile and the trend are flat. A two-state MMPP was not chosen: it cannot place the
   large mass that real logs have at 0 to 10 s without spoiling the rest of the distribution.
2. *Users.* A job either follows an earlier job of its user, some jobs back (the lags' distribution depends on whether
   the gap was a burst), or opens a new session of a user drawn by share.
3. *Shapes.* A follower repeats its predecessor's shape (tasks and resources per task) with a learnt probability;
   otherwise a shape is drawn from those of its user. Demands for CPUs, memory and GPUs are therefore joint.
4. *Run times.* A normal score is the user's tendency plus a chain along the followers, and goes through the exact
   distribution of such scores into the quantile table of the shape's size class.
5. *Requests.* A follower may keep its predecessor's request if that suffices; otherwise a popular value, or a ratio to
   the run time, is drawn given the run time. Outcomes are drawn given the run time.

Users and groups get numbers for names, so a model can be passed on without naming anybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from shunter.scheduler.errors import ConfigError, OutputError, TraceError
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.traces.generate import check_counts, drawing
from shunter.traces.generate.numerics import factor_for, knots
from shunter.traces.generate.params import Parameter, Values, stream
from shunter.traces.generate.sections import (
    NEARNESS,
    RATIO_INTERVALS,
    SHAPE_AMOUNTS,
    TABLE_INTERVALS,
    WEEK_HOURS,
    Arrivals,
    Durations,
    Outcomes,
    Requests,
    Shapes,
    Sources,
)
from shunter.traces.tables import OUTCOMES, ClusterSpec, NodeGroup, Trace, make_jobs

SCHEMA = 1

FITTED_PARAMETERS = (
    Parameter("file", None, "-", "the model's JSON file, as `traces fit` writes it (required)", text=True),
    Parameter("load", None, "-", "offered load to reach by scaling the arrivals; not given: as in the log", low=0.001),
    Parameter("trend", "yes", "-", "whether the log's week-to-week trend is repeated", choices=("yes", "no")),
)


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model of one trace: ``name``, the number of ``jobs`` it was learnt from, the cluster, and its parts."""

    name: str
    jobs: int
    start_unix_s: float | None
    cluster: ClusterSpec
    arrivals: Arrivals
    sources: Sources
    shapes: Shapes
    durations: Durations
    requests: Requests
    outcomes: Outcomes

    def generate(self, jobs: int, seed: int, load: float | None = None, *, trend: bool = True) -> Trace:
        """A trace of ``jobs`` jobs.

        Args:
            jobs: Number of jobs, at least 1.
            seed: Seed, at least 0.
            load: Offered load to reach by stretching the gaps; None keeps the log's rate.
            trend: Whether the log's trend over weeks is repeated.

        Raises:
            UsageError: ``jobs`` or ``seed`` is out of range.
            ConfigError: ``load`` is given, but the cluster does not say its capacity.
        """
        check_counts(jobs, seed)
        burst, amount = drawing.gaps(self.arrivals, jobs, stream(seed, "fitted:gaps"))
        _, source = drawing.followers(self.sources, burst, seed)
        # A user may also come back by chance; what a job resembles is the user's previous job, however it got there.
        parent = drawing.previous_of_source(source)
        habit = self.sources.habit_idx[source]
        near = drawing.nearness(parent, burst)
        shape = drawing.draw_shapes(self.shapes, habit, parent, near, seed)
        rng = stream(seed, "fitted:durations")
        duration = drawing.draw_durations(
            self.shapes, self.durations, rng, shape=shape, habit=habit, parent=parent, near=near
        )
        work = (self.shapes.amounts[shape, 0] * self.shapes.amounts[shape, self.main_resource()]) @ duration
        factor = 1.0 if load is None or jobs < 2 else self.gap_factor(burst, amount, float(work), load, trend)
        submit = drawing.walk(self.arrivals, burst, amount * factor, trend)
        columns: dict[str, Any] = {"job_id": np.arange(1, jobs + 1), "submit_s": submit, "duration_s": duration}
        columns |= drawing.shape_columns(self.shapes, shape)
        columns |= drawing.source_columns(self.sources, source)
        columns["requested_s"] = drawing.draw_requests(self.requests, duration, parent, stream(seed, "fitted:requests"))
        columns["outcome"] = drawing.draw_outcomes(self.outcomes, duration, stream(seed, "fitted:outcomes"))
        header = {"model": "fitted", "fitted_to": self.name, "jobs": str(jobs), "seed": str(seed)}
        header |= {"trend": "yes" if trend else "no"} | ({} if load is None else {"load": f"{load:g}"})
        return Trace(
            name=f"{self.name}-fitted",
            jobs=make_jobs(columns),
            cluster=self.cluster,
            start_unix_s=self.start_unix_s,
            source=f"generated by a model fitted to {self.name}, {jobs} jobs, seed {seed}",
            format="fitted",
            header=header,
        )

    def gap_factor(self, burst: BoolArray, amount: FloatArray, work: float, load: float, trend: bool) -> float:
        """The factor on all gaps that makes the offered load ``load``; ``work`` in units of the resource × seconds.

        Raises:
            ConfigError: The cluster does not say its capacity.
        """
        resource = self.main_resource()
        capacity = self.cluster.total(SHAPE_AMOUNTS[resource])
        if not capacity:
            raise ConfigError(
                f"cluster {self.cluster.name!r} does not say its {SHAPE_AMOUNTS[resource]}: no load to set"
            )

        def load_at(factor: float) -> float:
            submit = drawing.walk(self.arrivals, burst, amount * factor, trend)
            return work / (capacity * max(float(submit[-1] - submit[0]), 1.0))

        return factor_for(load_at, load) if work > 0 else 1.0

    def main_resource(self) -> int:
        """Column of ``Shapes.amounts`` in which load is told: GPUs where the log has any, else CPUs."""
        return SHAPE_AMOUNTS.index("gpus" if self.shapes.amounts[:, 3].any() else "cpus")

    def to_json(self) -> str:
        """The model as one JSON document with a schema version."""
        return json.dumps({"schema": SCHEMA, **plain(self)}, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "fitted model") -> FittedModel:
        """The model of a JSON document.

        Args:
            text: The document.
            source: Its name for messages.

        Raises:
            TraceError: It is no such document, its version is another, or a value is missing or out of range; the
                message names the place.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise TraceError(f"{source}:{error.lineno}:{error.colno}: no JSON: {error.msg}") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise TraceError(f"{source}: schema is {found!r}, expected a fitted model of schema {SCHEMA}")
        parts = {f.name: read_part(data, f.name, str(f.type), source) for f in fields(cls)}
        model = cls(**parts)
        check_model(model, source)
        return model

    def save(self, path: Path) -> None:
        """Write the JSON file, aside and then renamed.

        Raises:
            OutputError: It cannot be written.
        """
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_text(self.to_json(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> FittedModel:
        """Read a JSON file.

        Raises:
            TraceError: It cannot be read, or is no fitted model.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TraceError(f"{path}: byte {error.start} is no UTF-8 text; expected a JSON file") from None
        return cls.from_json(text, str(path))


def draw_fitted(jobs: int, seed: int, values: Values) -> Trace:
    """The ``fitted`` model of the registry; see ``FITTED_PARAMETERS``.

    Raises:
        ConfigError: No file is given.
        TraceError: The file cannot be used.
    """
    if "file" not in values.header():
        raise ConfigError("model 'fitted' needs the parameter 'file': a model's JSON file")
    model = FittedModel.load(Path(values.word("file")))
    return model.generate(jobs, seed, values.optional("load"), trend=values.word("trend") == "yes")


def plain(value: Any) -> Any:
    """Dataclasses and arrays as JSON's objects and lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return value


def read_part(data: Mapping[str, Any], name: str, kind: str, source: str) -> Any:
    """The value of ``data[name]`` as the type that a dataclass names ``kind``.

    Raises:
        TraceError: It is missing or of another kind.
    """
    place = f"{source}: {name}"
    if name not in data:
        raise TraceError(f"{place}: missing")
    value = data[name]
    if kind in ("FloatArray", "IntArray"):
        return read_array(value, kind, place)
    if kind == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and isinstance(value, int):
        return value
    if kind.startswith("float") and (isinstance(value, int | float) or (value is None and "None" in kind)):
        return None if value is None else float(value)
    if kind == "ClusterSpec" and isinstance(value, dict):
        return read_cluster(value, place)
    if kind in SECTIONS and isinstance(value, dict):
        section = SECTIONS[kind]
        return section(**{f.name: read_part(value, f.name, str(f.type), place) for f in fields(section)})
    raise TraceError(f"{place}: {str(value)[:40]!r} is no {kind}")


def read_array(value: Any, kind: str, place: str) -> FloatArray | IntArray:
    """A list, or list of equal lists, of finite numbers as an array.

    Raises:
        TraceError: It is none.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TraceError(f"{place}: no (rectangular) list of numbers") from None
    if not np.isfinite(array).all():
        raise TraceError(f"{place}: has a value that is not finite")
    return array.astype(np.int64) if kind == "IntArray" else array


def read_cluster(value: Mapping[str, Any], place: str) -> ClusterSpec:
    """The cluster of a JSON object.

    Raises:
        TraceError: A key is missing, unknown or of the wrong kind.
    """
    try:
        groups = tuple(NodeGroup(**group) for group in value["groups"])
        return ClusterSpec(name=str(value["name"]), groups=groups, kill_at_limit=bool(value["kill_at_limit"]))
    except KeyError as error:
        raise TraceError(f"{place}: {error.args[0]}: missing") from None
    except (TypeError, ConfigError) as error:
        raise TraceError(f"{place}: {error}") from None


SECTIONS: Mapping[str, Any] = {c.__name__: c for c in (Arrivals, Sources, Shapes, Durations, Requests, Outcomes)}


def check_model(model: FittedModel, source: str) -> None:
    """Refuse a model whose parts do not fit together, so that a draw cannot fail half-way.

    Raises:
        TraceError: Some array has the wrong shape, an index points nowhere, or a probability is out of range.
    """
    a, s, sh, d, r, o = model.arrivals, model.sources, model.shapes, model.durations, model.requests, model.outcomes
    width, shapes, habits, classes = len(knots(TABLE_INTERVALS)), len(sh.amounts), len(d.habit_mean), len(d.quantiles_s)
    bins = len(r.edges_s) + 1 if r.missing_share < 1 else 0

    def indices(values: IntArray, low: int, limit: int) -> bool:
        return values.ndim == 1 and bool(((values >= low) & (values < limit)).all())

    def shares(values: FloatArray) -> bool:
        return bool(values.size and (values >= 0).all() and (values.sum(axis=-1) > 0).all())

    rules = {
        "arrivals.week_rates": a.week_rates.shape == (WEEK_HOURS,) and bool((a.week_rates > 0).all()),
        "arrivals.trend": a.trend.ndim == 1 and len(a.trend) > 0 and bool((a.trend > 0).all()),
        "arrivals.burst_share": 0 <= a.burst_share <= 1,
        "arrivals.burst_s": a.burst_s.shape == (width,) and bool((a.burst_s >= 0).all()),
        "arrivals.gap_units": a.gap_units.shape == (width,) and bool((a.gap_units >= 0).all()),
        "arrivals.wave_power": a.wave_power.shape == (2,) and shares(a.wave_power + 1e-300) and a.wave_power.sum() <= 1,
        "arrivals.wave_rho": a.wave_rho.shape == (2,) and bool(((a.wave_rho >= 0) & (a.wave_rho < 1)).all()),
        "arrivals.first_s": a.first_s >= 0,
        "sources.kind": s.kind in ("user", "group", "none"),
        "sources.shares": s.shares.ndim == 1 and shares(s.shares),
        "sources.group_idx": s.group_idx.shape == s.shares.shape and indices(s.group_idx, -1, len(s.shares) + 1),
        "sources.habit_idx": s.habit_idx.shape == s.shares.shape and indices(s.habit_idx, 0, habits),
        "sources.lag_share": s.lag_share.ndim == 2 and len(s.lag_share) == 2 and shares(s.lag_share),
        "shapes.amounts": sh.amounts.ndim == 2 and sh.amounts.shape[1] == 4 and shapes > 0,
        "shapes.gpu_type": len(sh.gpu_type) == shapes,
        "shapes.queue": len(sh.queue) == shapes,
        "shapes.class_idx": len(sh.class_idx) == shapes and indices(sh.class_idx, 0, classes),
        "shapes.habit_idx": np.array_equal(np.unique(sh.habit_idx), np.arange(habits)),
        "shapes.shape_idx": sh.shape_idx.shape == sh.habit_idx.shape and indices(sh.shape_idx, 0, shapes),
        "shapes.weight": sh.weight.shape == sh.habit_idx.shape and bool((sh.weight > 0).all()),
        "shapes.repeat": sh.repeat.shape == (NEARNESS, classes) and bool(((sh.repeat >= 0) & (sh.repeat <= 1)).all()),
        "durations.quantiles_s": d.quantiles_s.shape == (classes, width) and bool((d.quantiles_s >= 0).all()),
        "durations.habit_sd": d.habit_sd.shape == (habits,) and bool((d.habit_sd > 0).all()),
        "durations.rho": d.rho.shape == (NEARNESS, 2) and bool(((d.rho >= 0) & (d.rho < 1)).all()),
        "requests.overrun_share": r.overrun_share.shape == (bins,)
        and bool(((r.overrun_share >= 0) & (r.overrun_share <= 1)).all()),
        "requests.overrun_ratio": r.overrun_ratio.shape == ((RATIO_INTERVALS + 1,) if bins else (0,)),
        "requests.share": r.share.shape == (bins, len(r.values_s) + 1) and shares(r.share)
        if bins
        else r.share.size == 0,
        "requests.ratio": r.ratio.shape == (bins, RATIO_INTERVALS + 1) and bool((r.ratio > 0).all()) if bins else True,
        "outcomes.share": o.share.shape == (len(o.edges_s) + 1, len(OUTCOMES)) and shares(o.share),
    }
    for name, holds in rules.items():
        if not holds:
            raise TraceError(f"{source}: {name}: wrong length, or a value out of range")
