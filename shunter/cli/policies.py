"""Policies as they are named on the command line: orderings by name, and models by their folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shunter.agents.bundle import Bundle
    from shunter.predictors.load import LoadForecaster
    from shunter.scheduler.durations import RunModel
    from shunter.scheduler.policies.registry import ChosenOrdering

MODEL, LEARNED, TUNED_LINEAR = "model:", "learned", "tuned-linear"


@lru_cache(maxsize=64)
def find_policy(text: str) -> ChosenOrdering:
    """The ordering that ``NAME``, ``NAME:key=value,…``, ``learned``, ``tuned-linear`` or ``model:FOLDER`` means.

    ``learned`` is the model that comes with the package, ``tuned-linear`` the weighted sum of features that comes with
    it as a control; their settings, and those after a model's folder, are the guard's.

    Raises:
        UsageError: An unknown name or setting.
        BundleError: A model that is missing or does not fit.
    """
    from shunter.scheduler.policies.registry import choose_ordering

    name, _, settings = text.partition(":")
    if name in {LEARNED, TUNED_LINEAR}:
        from shunter.agents.bundle import shipped

        choose_ordering(f"{LEARNED}:{settings}")  # a wrong setting is told first
        return _bundle(shipped(name)).ordering(settings, label=name)
    if text.startswith(MODEL):
        folder, settings = split_settings(text.removeprefix(MODEL))
        return _bundle(Path(folder)).ordering(settings)
    return choose_ordering(text)


def find_live_policy(text: str) -> ChosenOrdering:
    """As ``find_policy``, for a program that goes on while models change: each is read anew; registry names, too.

    Raises:
        UsageError: An unknown name or setting.
        BundleError: A model that is missing or does not fit.
    """
    from shunter.agents.bundle import load_bundle, shipped
    from shunter.scheduler.policies import ORDERINGS
    from shunter.scheduler.policies.registry import choose_ordering

    name, _, settings = text.partition(":")
    if name in {LEARNED, TUNED_LINEAR}:
        return load_bundle(shipped(name)).ordering(settings, label=name)
    if text.startswith(MODEL):
        folder, settings = split_settings(text.removeprefix(MODEL))
        return load_bundle(Path(folder)).ordering(settings)
    if name in ORDERINGS:
        return choose_ordering(text)
    from shunter.agents.registry import Registry, default_folder

    name, settings = split_settings(text)
    return load_bundle(Registry(default_folder(), load_bundle).find(name).path).ordering(settings)


def is_forecast(text: str) -> bool:
    """Whether a forecaster is asked for: ``learned`` or ``model:FOLDER``."""
    return text == LEARNED or text.startswith(MODEL)


def find_forecaster(text: str) -> LoadForecaster:
    """The forecaster of load that ``learned``, the one that comes with the package, or ``model:FOLDER`` means.

    Raises:
        BundleError: A forecaster that is missing or does not fit.
    """
    from shunter.predictors.bundle import load_forecaster, shipped_forecaster

    return load_forecaster(shipped_forecaster() if text == LEARNED else Path(text.removeprefix(MODEL)))


@lru_cache(maxsize=16)
def find_estimates(text: str) -> str | RunModel:
    """What ``--estimates`` means: a name of ``sim.estimates.ESTIMATES``, or a predictor of run times.

    ``learned`` is the predictor that comes with the package, ``model:FOLDER`` any other; ``:level=0.75`` behind either
    counts with that quantile instead of the bundle's own.

    Raises:
        UsageError: An unknown name or level.
        BundleError: A predictor that is missing or does not fit.
    """
    from dataclasses import replace

    from shunter.scheduler.errors import UsageError

    if not (text.startswith(MODEL) or text.partition(":")[0] == LEARNED):
        from shunter.sim.estimates import ESTIMATES

        known = (*ESTIMATES, LEARNED)
        if text not in known:
            from shunter.scheduler.errors import nearest

            raise UsageError(f"unknown --estimates {text!r}{nearest(text, list(known))}; or model:FOLDER")
        return text
    from shunter.predictors.duration_bundle import load_durations, shipped_durations

    where, settings = split_settings(text)
    if where == LEARNED:
        model = load_durations(shipped_durations(), LEARNED).model
    else:
        model = load_durations(Path(where.removeprefix(MODEL))).model
    if not settings:
        return model
    key, _, value = settings.partition("=")
    levels = [f"{level:g}" for level in model.levels]
    if key != "level" or value not in levels:
        raise UsageError(f"--estimates {text!r}: expected level= one of {', '.join(levels)} behind the model")
    level = model.levels[levels.index(value)]
    return replace(model, expected=level, name=f"{model.name}:{settings}")


def split_settings(text: str) -> tuple[str, str]:
    """``FOLDER`` or ``FOLDER:key=value,…`` as the folder and the settings; a folder's name may have colons itself."""
    folder, colon, settings = text.rpartition(":")
    return (folder, settings) if colon and "=" in settings else (text, "")


@lru_cache(maxsize=16)
def _bundle(path: Path) -> Bundle:
    from shunter.agents.bundle import load_bundle

    return load_bundle(path)


def guard_said(label: str, counts: Mapping[str, int]) -> str | None:
    """Where the guard stepped in during a run, in one line; None where it did not."""
    orders = sum(counts[name] for name in counts if name != "starving")
    causes = {
        "not_finite": "with a feature or score that is no finite number",
        "outside": "with features outside the range seen in training",
        "slow": "after inference was too slow",
        "starving": "with jobs first that had waited beyond the bound",
    }
    parts = [f"{counts[name]:,} {cause}" for name, cause in causes.items() if counts.get(name)]
    return f"{label}: the guard stepped in; of {orders:,} orders {', '.join(parts)}" if parts else None
