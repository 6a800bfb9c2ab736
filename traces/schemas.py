"""What the YAML files of this folder may contain: cluster specifications and column mappings, validated by pydantic.

All problems of a file are reported at once, each with its path (``groups[2].count: ...``); unknown keys are errors.
Imported only where such a file is read: pydantic takes a tenth of a second to load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shunter.scheduler.errors import ConfigError, nearest
from shunter.scheduler.yaml_files import clauses, read_mapping
from shunter.traces.cluster_checks import (
    Problem,
    gpu_type_name_problems,
    gpu_type_problems,
    group_pair_problems,
    quota_problems,
    spec_pair_problems,
    tier_problems,
)
from shunter.traces.cluster_spec import TIERS, ClusterSpec
from shunter.traces.tables import job_schema

EXTRA_COLUMNS = ("start_s", "end_s", "interval_s", "gpus_total", "cpus_total")
"""Columns that a mapping may name beside the canonical ones: run times and sizes are computed from them."""

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Nodes = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]
Scalar = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)


class _Part(_Strict):
    """A part of a cluster file. Names of groups and accounts may be numbers there."""

    model_config = ConfigDict(coerce_numbers_to_str=True)


class GroupFile(_Part):
    """A node group as a cluster file has it; the keys are the fields of ``NodeGroup``."""

    name: str | None = None
    count: Nodes = 1
    cpus: Amount | None = None
    memory_gib: Amount | None = None
    gpus: Amount | None = None
    gpu_type: str | None = None
    rack_size: Nodes | None = None
    switch_size: Nodes | None = None
    zone: Name = "zone-0"
    region: Name = "region-0"
    price_per_h: Amount | None = None
    spot: bool = False
    idle_w: Amount | None = None
    peak_w: Amount | None = None
    mtbf_h: Positive | None = None
    mttr_h: Positive | None = None
    gpu_mtbf_h: Positive | None = None
    gpu_mttr_h: Positive | None = None
    failure_shape: Positive = 1.0
    mig: bool | str = False
    owner: Name | None = None

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> GroupFile:
        """GPU types are looked up in the whole file, which pydantic could judge only if it had no other mistake."""
        if self.cpus is None and self.memory_gib is None and self.gpus is None:
            raise ValueError("at least one of cpus, memory_gib, gpus is needed")
        kinds = (info.context or {}).get("gpu_types")
        known = [str(name) for name in kinds] if isinstance(kinds, dict) else []
        return _judged(self, [*gpu_type_name_problems(self, known), *group_pair_problems(self)])


class GpuTypeFile(_Part):
    """A GPU type as a cluster file has it; ``speed: 2`` is short for ``speed: {default: 2}``."""

    memory_gib: Positive | None = None
    speed: dict[str, Positive] = Field(default_factory=lambda: {"default": 1.0})
    idle_w: Amount | None = None
    peak_w: Amount | None = None

    @field_validator("speed", mode="before")
    @classmethod
    def _one_speed(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return {"default": value} if is_number else value

    @model_validator(mode="after")
    def _fits_together(self) -> GpuTypeFile:
        return _judged(self, gpu_type_problems(self))


class QuotaFile(_Part):
    """A quota as a cluster file has it; ``vc-1: 64`` is short for ``vc-1: {guaranteed_gpus: 64}``."""

    guaranteed_gpus: Amount
    limit_gpus: Amount | None = None
    weight: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, content: Any) -> Any:
        is_number = isinstance(content, int | float) and not isinstance(content, bool)
        return {"guaranteed_gpus": content} if is_number else content

    @model_validator(mode="after")
    def _fits_together(self) -> QuotaFile:
        return _judged(self, quota_problems(self))


class ClusterFile(_Part):
    """A cluster file; the keys are the fields of ``ClusterSpec``."""

    name: str | None = None
    kill_at_limit: bool = False
    groups: Annotated[list[GroupFile], Field(min_length=1)]
    gpu_types: dict[str, GpuTypeFile] = Field(default_factory=dict)
    speeds: str | None = None
    quotas: dict[str, QuotaFile] = Field(default_factory=dict)
    borrowing: bool = True
    tier_speed: dict[str, dict[str, float]] = Field(default_factory=dict)
    rack_mtbf_h: Positive | None = None
    rack_mttr_h: Positive | None = None
    currency: Name = "USD"
    carbon_g_per_kwh: dict[str, Amount] = Field(default_factory=dict)
    power_cap_w: Positive | None = None

    @field_validator("tier_speed")
    @classmethod
    def _known_tiers(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        return _judged(value, tier_problems(value, TIERS))

    @model_validator(mode="after")
    def _fits_together(self) -> ClusterFile:
        return _judged(self, spec_pair_problems(self))

    @field_validator("speeds")
    @classmethod
    def _known_table(cls, value: str | None) -> str | None:
        from shunter.traces.throughputs import packaged_tables

        known = [name for name in packaged_tables() if name != "elasticflow"]  # which measured one GPU type only
        if value is not None and value not in known:
            raise ValueError(f"unknown table of speeds {value!r}{nearest(value, known)}")
        return value

    def spec(self, default_name: str) -> ClusterSpec:
        """The specification; groups without a name are numbered, and measured speeds are filled in.

        Raises:
            ConfigError: The table of measured speeds does not have one of the GPU types.
        """
        content = self.model_dump(exclude={"speeds"}) | {"name": self.name or default_name}
        if self.speeds is not None:
            from shunter.traces.throughputs import packaged_speeds

            unsaid = [name for name, kind in self.gpu_types.items() if "speed" not in kind.model_fields_set]
            by_type, by_tier = packaged_speeds(self.speeds, unsaid)
            for name in unsaid:
                content["gpu_types"][name]["speed"] = by_type[name]
            content["tier_speed"] = content["tier_speed"] or by_tier
        for i, group in enumerate(content["groups"]):
            group["name"] = group["name"] or f"group-{i}"
        return ClusterSpec.from_dict(content)


Judged = TypeVar("Judged")


def _judged(part: Judged, problems: Iterable[Problem]) -> Judged:
    """``part`` if there are no problems; else one pydantic error that carries all of them, see ``_lines``."""
    found = list(problems)
    if found:
        raise PydanticCustomError("problems", "does not fit together", {"problems": found})
    return part


class Column(_Strict):
    """Where a canonical column comes from.

    Attributes:
        column: Name in the file.
        unit: Unit of a time in the file.
        scale: Factor to the canonical unit, instead of ``unit``.
        format: strptime layout of a time stamp, read as UTC unless the layout has a zone.
        missing: Cells that mean "not known".
        values: Replacements for text cells, such as ``{Pass: completed}``.
    """

    column: str
    unit: Literal["s", "ms", "us", "ns", "min", "h", "d"] | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    format: str | None = None
    missing: list[str] = Field(default_factory=list)
    values: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_unit(self) -> Column:
        if sum(value is not None for value in (self.unit, self.scale, self.format)) > 1:
            raise ValueError("only one of unit, scale, format may be given")
        return self


class ColumnMapping(_Strict):
    """A column mapping for the generic CSV reader."""

    name: str | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    cluster: str | None = None
    columns: dict[str, Column]
    constants: dict[str, Scalar] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, content: Any) -> Any:
        """``duration_s: runtime`` is short for ``duration_s: {column: runtime}``."""
        if isinstance(content, dict) and isinstance(content.get("columns"), dict):
            columns = {
                name: {"column": rule} if isinstance(rule, str) else rule for name, rule in content["columns"].items()
            }
            return {**content, "columns": columns}
        return content

    @model_validator(mode="after")
    def _known_names(self) -> ColumnMapping:
        known = [*job_schema(), *EXTRA_COLUMNS]
        given = {*self.columns, *self.constants}
        problems = [f"unknown canonical column {name!r}{nearest(name, known)}" for name in given - set(known)]
        problems += [f"{name!r} is both a column and a constant" for name in set(self.columns) & set(self.constants)]
        if not {"submit_s", "interval_s"} & set(self.columns):
            problems.append("submit_s (or interval_s) is needed")
        if "duration_s" not in given and not {"start_s", "end_s"} <= set(self.columns):
            problems.append("duration_s (or both start_s and end_s) is needed")
        if problems:
            raise ValueError("; ".join(sorted(problems)))
        return self


class MaintenanceWindow(_Strict):
    """Nodes that are taken away for a while, once or again and again; times are hours since the trace's start."""

    nodes: Name | Annotated[list[Name], Field(min_length=1)]
    from_h: Amount
    hours: Positive
    notice_h: Amount = 0.0
    every_h: Positive | None = None
    times: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _repetition(self) -> MaintenanceWindow:
        if self.every_h is not None and self.every_h < self.hours:
            raise ValueError(f"every_h {self.every_h:g} is shorter than the window of {self.hours:g} h")
        if self.times is not None and self.every_h is None:
            raise ValueError("times needs every_h")
        return self


class MaintenanceFile(_Strict):
    """A plan of maintenance."""

    windows: Annotated[list[MaintenanceWindow], Field(min_length=1)]


Model = TypeVar("Model", bound=_Strict)


def load_yaml(path: Path, model: type[Model]) -> Model:
    """A YAML file as ``model``.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or breaks the schema; all problems at once.
    """
    content = read_mapping(path)
    try:
        return model.model_validate(content, context=content)
    except ValidationError as problem:
        raise ConfigError(
            f"{path}: " + "; ".join(clauses(problem.errors(), lambda place: _keys_at(model, place)))
        ) from None


def _keys_at(model: type[_Strict], location: Sequence[int | str]) -> list[str]:
    """Keys that are allowed where an unknown one was found."""
    inner: dict[str, type[_Strict]] = {
        "groups": GroupFile,
        "gpu_types": GpuTypeFile,
        "quotas": QuotaFile,
        "columns": Column,
        "windows": MaintenanceWindow,
    }
    place = inner.get(str(location[0]), model) if location else model
    return list(place.model_fields)


def load_mapping(path: Path) -> ColumnMapping:
    """A column mapping from a YAML file.

    Raises:
        ConfigError: As ``load_yaml``.
    """
    return load_yaml(path, ColumnMapping)


def canonical_mapping(names: Sequence[str]) -> ColumnMapping:
    """The mapping of a file that uses the canonical names."""
    return ColumnMapping(columns={name: Column(column=name) for name in names})
