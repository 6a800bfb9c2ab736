"""Workload generators: published models, workloads with known answers, and models fitted to a trace.

``generate`` draws a trace, ``parameters`` lists what a model takes, ``fit`` learns a model from a trace. A trace is a
function of the model, its parameters, the number of jobs and the seed. Every source of randomness has its own stream,
so that switching estimates or users on changes nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shunter.scheduler.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from shunter.traces.generate.fitted import FittedModel
    from shunter.traces.generate.params import Parameter, Values
    from shunter.traces.tables import Trace

MODELS: Mapping[str, str] = {
    "lublin99": "rigid jobs on a parallel machine (Lublin & Feitelson, JPDC 63(11), 2003)",
    "gpu": "training jobs on a shared GPU cluster: gangs, virtual clusters, heavy-tailed run times",
    "poisson": "Poisson arrivals for queueing theory: M/G/1 and M/M/c",
    "deterministic": "equal jobs at equal intervals",
    "fitted": "a model learnt from a trace by fit",
}
"""Model name → one line for help texts."""

ALIASES: Mapping[str, str] = {"lublin-feitelson": "lublin99"}


def model_names() -> list[str]:
    """Every name that ``generate`` takes."""
    return [*MODELS, *ALIASES]


def parameters(model: str) -> tuple[Parameter, ...]:
    """The parameters of a model: names, defaults, units and meaning.

    Raises:
        UsageError: Unknown model.
    """
    return lookup(model)[1]


def generate(model: str, *, jobs: int, seed: int, params: Mapping[str, float | str] | None = None) -> Trace:
    """A trace of ``jobs`` jobs drawn from ``model``.

    Args:
        model: A name of ``model_names``.
        jobs: Number of jobs, at least 1.
        seed: Seed, at least 0.
        params: Values by parameter name; numbers may be given as text. See ``parameters``.

    Raises:
        UsageError: Unknown model or parameter (the nearest is suggested), or a value that is not of its kind or range.
        TraceError: The file of a fitted model cannot be used.
    """
    from shunter.traces.generate.params import resolve

    draw, specs = lookup(model)
    check_counts(jobs, seed)
    return draw(jobs, seed, resolve(ALIASES.get(model, model), specs, params))


def fit(trace: Trace, *, seed: int = 0) -> FittedModel:
    """A model of a trace; see ``shunter.traces.generate.fitting``.

    Raises:
        TraceError: The trace has fewer jobs than a fit needs, or they all arrive at once.
    """
    from shunter.traces.generate.fitting import fit_trace

    return fit_trace(trace, seed=seed)


def check_counts(jobs: int, seed: int) -> None:
    """Refuse a number of jobs below 1 and a negative seed.

    Raises:
        UsageError: Either is out of range.
    """
    if jobs < 1:
        raise UsageError(f"jobs: {jobs} is not a positive number of jobs")
    if seed < 0:
        raise UsageError(f"seed: {seed} is negative; expected 0 or more")


def lookup(model: str) -> tuple[Callable[[int, int, Values], Trace], tuple[Parameter, ...]]:
    """The drawing function and the parameters of a model. Its module is imported only now.

    Raises:
        UsageError: Unknown model.
    """
    name = ALIASES.get(model, model)
    if name == "lublin99":
        from shunter.traces.generate.lublin import LUBLIN_PARAMETERS, lublin99

        return lublin99, LUBLIN_PARAMETERS
    if name == "gpu":
        from shunter.traces.generate.gpu import GPU_PARAMETERS, gpu_cluster

        return gpu_cluster, GPU_PARAMETERS
    if name in ("poisson", "deterministic"):
        from shunter.traces.generate import theory

        if name == "poisson":
            return theory.poisson, theory.POISSON_PARAMETERS
        return theory.deterministic, theory.DETERMINISTIC_PARAMETERS
    if name == "fitted":
        from shunter.traces.generate.fitted import FITTED_PARAMETERS, draw_fitted

        return draw_fitted, FITTED_PARAMETERS
    raise UsageError(f"unknown model {model!r}{nearest(model, model_names())}")
