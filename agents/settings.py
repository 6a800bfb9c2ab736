"""How a policy is trained: all hyper-parameters, read from one YAML file and checked before anything begins.

``settings.yaml`` beside this file holds the defaults. A file of one's own names only what differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shunter.scheduler.errors import ConfigError, UsageError, nearest
from shunter.scheduler.yaml_files import clauses, read_mapping

DEFAULTS = Path(__file__).with_name("settings.yaml")

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

METRICS = ("avg_bounded_slowdown", "avg_wait_s", "avg_jct_s")
"""What a policy can be trained for; names of ``scheduler.metrics``."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSettings(_Section):
    """Which network."""

    kind: Literal["kernel", "attention"]
    hidden: Annotated[tuple[Count, Count], Field()]
    width: Count
    heads: Count
    blocks: Count

    @model_validator(mode="after")
    def _heads(self) -> NetworkSettings:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class WindowSettings(_Section):
    """What an episode is."""

    jobs: Annotated[int, Field(ge=16)]
    warm_jobs: Annotated[int, Field(ge=0)]
    visible: Annotated[int, Field(ge=2)]
    backfill: Literal["none", "easy"]
    metric: Literal[METRICS]  # type: ignore[valid-type]
    baseline: str
    reward: Literal["log-ratio", "difference"]
    allow_wait: bool


class CurriculumSettings(_Section):
    """Which jobs are trained on, when."""

    loads: Annotated[tuple[Positive, ...], Field(min_length=1)]
    until: tuple[Share, ...]
    generated_share: Annotated[float, Field(ge=0, lt=1)]
    generated_jobs: Annotated[int, Field(ge=64)]

    @model_validator(mode="after")
    def _shares(self) -> CurriculumSettings:
        if len(self.until) != len(self.loads):
            raise ValueError(f"until has {len(self.until)} shares for {len(self.loads)} loads")
        if list(self.until) != sorted(self.until) or self.until[-1] != 1.0:
            raise ValueError("until must rise to 1.0")
        return self


class ImitationSettings(_Section):
    """How the network is warmed up by a teacher."""

    teacher: str
    generations: Count
    decisions: Count
    epochs: Count
    batch: Count
    learning_rate: Positive
    loss: Literal["choice", "pairs"]
    entropy: Annotated[float, Field(gt=0, lt=1)]


class ForesightSettings(_Section):
    """The regression that a first score is made from (``agents.foresight``)."""

    members: Count
    rows: Count
    glimpses: Count
    jobs: Count
    epochs: Count
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    decay: Amount
    request_share: Share
    terms: dict[str, Annotated[float, Field(allow_inf_nan=False)]]

    @model_validator(mode="after")
    def _terms(self) -> ForesightSettings:
        from shunter.scheduler.features import FEATURES

        names = [feature.name for feature in FEATURES]
        for name in self.terms:
            if name not in names:
                raise ValueError(f"terms: no feature {name!r}{nearest(name, names)}")
        return self


class PpoSettings(_Section):
    """Proximal policy optimisation (Schulman et al., arXiv:1707.06347) with masks (Huang & Ontañón, FLAIRS 2022)."""

    environments: Count
    steps: Annotated[int, Field(ge=2)]
    batch: Annotated[int, Field(ge=2)]
    epochs: Count
    learning_rate: Positive
    learning_rate_end: Share
    gamma: Annotated[float, Field(gt=0, le=1)]
    gae_lambda: Share
    clip: Positive
    entropy: Amount
    value: Amount
    max_gradient: Positive
    target_kl: Positive | None


class SelectionSettings(_Section):
    """How the best of the networks met on the way is found."""

    every: Count
    windows: Count
    shakes: Annotated[int, Field(ge=0)]
    jobs: Count
    warm_up: Annotated[int, Field(ge=0)]


class TuningSettings(_Section):
    """The search over hyper-parameters."""

    trials: Count
    share: Annotated[float, Field(gt=0, lt=1)]


class Settings(_Section):
    """All of them."""

    network: NetworkSettings
    windows: WindowSettings
    curriculum: CurriculumSettings
    imitation: ImitationSettings
    foresight: ForesightSettings
    ppo: PpoSettings
    selection: SelectionSettings
    tuning: TuningSettings

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """These with some values changed, by ``section.name``.

        Raises:
            ConfigError: An unknown name or a bad value.
        """
        content = self.model_dump()
        for name, value in values.items():
            section, _, key = name.partition(".")
            content.setdefault(section, {})[key] = value
        return checked(content, "settings")


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: for a time, or for a number of steps; one of the two is 0.

    Only a budget in steps gives the same policy whenever it is repeated.
    """

    time_s: float = 0.0
    steps: int = 0

    @classmethod
    def parse(cls, text: str) -> Budget:
        """``10m``, ``2h``, ``90s`` or ``2e6steps``.

        Raises:
            UsageError: It is none of these.
        """
        found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*(s|m|h|steps)\s*", text)
        try:
            amount = float(found[1]) if found else 0.0
        except ValueError:
            amount = 0.0
        if found is None or not amount > 0:
            raise UsageError(f"budget {text!r}: expected a time or a number of steps, such as 10m, 2h or 2e6steps")
        if found[2] == "steps":
            return cls(steps=max(1, round(amount)))
        return cls(time_s=amount * {"s": 1.0, "m": 60.0, "h": 3600.0}[found[2]])

    def share(self, steps: int, spent_s: float) -> float:
        """Which share of it is used up, at most 1."""
        return min(1.0, steps / self.steps if self.steps else spent_s / self.time_s)

    def __str__(self) -> str:
        return f"{self.steps}steps" if self.steps else f"{self.time_s:g}s"


def load_settings(path: Path | None = None) -> Settings:
    """The default settings, with what a file says otherwise.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or has unknown keys or bad values; all problems at once.
    """
    content = read_mapping(DEFAULTS)
    if path is None:
        return checked(content, str(DEFAULTS))
    for section, values in read_mapping(path, may_be_empty=True).items():
        inside = isinstance(values, dict) and isinstance(content.get(section), dict)
        content[section] = content[section] | values if inside else values
    return checked(content, str(path))


def checked(content: Mapping[str, Any], where: str) -> Settings:
    """Settings of plain values.

    Raises:
        ConfigError: Unknown keys or bad values; all problems at once.
    """
    try:
        return Settings.model_validate(content)
    except ValidationError as problem:
        raise ConfigError(f"{where}: " + "; ".join(clauses(problem.errors(), _keys_at))) from None


def _keys_at(place: Sequence[int | str]) -> list[str]:
    """Keys that are known in a section, or of the whole."""
    section = Settings.model_fields.get(str(place[0])) if place else None
    model = section.annotation if section is not None else Settings
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
