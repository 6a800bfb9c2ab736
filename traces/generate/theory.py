"""Workloads with known answers: Poisson arrivals for M/G/1 and M/M/c, and a deterministic stream.

A queue's theory (Pollaczek–Khinchine, Erlang C) predicts the mean wait of ``poisson`` traces under FCFS, and plain
arithmetic predicts every start of ``deterministic`` ones, so a simulator can be checked against them. Times are not
rounded here: rounding would change the distributions that the theory assumes.
"""

from __future__ import annotations

import math

import numpy as np

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray
from shunter.traces.generate.numerics import draw
from shunter.traces.generate.params import Parameter, Values, stream
from shunter.traces.tables import Trace, make_jobs, pool

RESOURCES = ("cpus", "gpus")

POISSON_PARAMETERS = (
    Parameter("servers", 1.0, "processors", "cluster size (the c of M/M/c)", low=1, whole=True),
    Parameter("resource", "cpus", "-", "what a processor is", choices=RESOURCES),
    Parameter("load", 0.8, "-", "offered load; the arrival rate is load · servers / (mean · mean size)", low=1e-6),
    Parameter("rate", None, "jobs/s", "arrival rate; overrides load", low=1e-12),
    Parameter(
        "service",
        "exponential",
        "-",
        "distribution of run times",
        choices=("exponential", "deterministic", "lognormal", "hyperexponential"),
    ),
    Parameter("mean", 100.0, "s", "mean run time", low=1e-9),
    Parameter("cv", 2.0, "-", "coefficient of variation, of lognormal and hyperexponential run times", low=0.0),
    Parameter(
        "size",
        "1",
        "processors",
        "processors a job: a number, or sizes with weights such as 1:0.5,2:0.3,4:0.2",
        text=True,
    ),
)

DETERMINISTIC_PARAMETERS = (
    Parameter("interval", 10.0, "s", "time between arrivals", low=0.0),
    Parameter("duration", 10.0, "s", "run time", low=0.0),
    Parameter("size", 1.0, "processors", "processors a job", low=1, whole=True),
    Parameter("servers", 1.0, "processors", "cluster size", low=1, whole=True),
    Parameter("resource", "cpus", "-", "what a processor is", choices=RESOURCES),
)


def poisson(jobs: int, seed: int, values: Values) -> Trace:
    """Poisson arrivals with independent run times and sizes; requested times equal run times.

    Raises:
        UsageError: ``size`` is not a list of sizes, or asks for more than ``servers``.
    """
    servers = int(values.number("servers"))
    counts, shares = parse_sizes(values.word("size"), servers)
    mean = values.number("mean")
    given = values.optional("rate")
    rate = values.number("load") * servers / (mean * float(counts @ shares)) if given is None else given
    submit = stream(seed, "poisson:arrive").exponential(1.0 / rate, jobs).cumsum()
    duration = service_times(values.word("service"), mean, values.number("cv"), jobs, stream(seed, "poisson:service"))
    size = counts[draw(stream(seed, "poisson:size"), shares, jobs)]
    return processors_trace("poisson", seed, values, submit_s=submit, duration_s=duration, size=size)


def deterministic(jobs: int, seed: int, values: Values) -> Trace:
    """Equal jobs at equal intervals, the first at second 0; the seed has no effect.

    Raises:
        UsageError: A job is larger than the cluster.
    """
    size = values.number("size")
    if size > values.number("servers"):
        raise UsageError(
            f"model 'deterministic', parameter 'size': {size:g} exceeds servers, {values.number('servers'):g}"
        )
    submit = np.arange(jobs, dtype=np.float64) * values.number("interval")
    duration = np.full(jobs, values.number("duration"))
    return processors_trace(
        "deterministic", seed, values, submit_s=submit, duration_s=duration, size=np.full(jobs, size)
    )


def service_times(kind: str, mean: float, cv: float, jobs: int, rng: np.random.Generator) -> FloatArray:
    """(J,) run times with the given mean and, where the distribution has the freedom, coefficient of variation.

    Hyperexponential means two phases with balanced means (each phase carries half of the work); it needs cv ≥ 1.

    Raises:
        UsageError: A hyperexponential distribution with cv below 1.
    """
    if kind == "deterministic":
        return np.full(jobs, mean)
    if kind == "exponential":
        return rng.exponential(mean, jobs)
    if kind == "lognormal":
        sigma2 = math.log1p(cv * cv)
        return rng.lognormal(math.log(mean) - sigma2 / 2, math.sqrt(sigma2), jobs)
    if cv < 1:
        raise UsageError(
            f"model 'poisson', parameter 'cv': {cv:g} is below 1, the least of a hyperexponential distribution"
        )
    p = 0.5 * (1.0 + math.sqrt((cv * cv - 1.0) / (cv * cv + 1.0)))
    short = rng.random(jobs) < p
    return rng.exponential(np.where(short, mean / (2.0 * p), mean / (2.0 * (1.0 - p))))


def parse_sizes(text: str, servers: int) -> tuple[FloatArray, FloatArray]:
    """Sizes and their probabilities, each (S,), from ``"4"`` or ``"1:0.5,2:0.3,4:0.2"`` (weights are normalised).

    Raises:
        UsageError: The text is no such list, a size is no whole number in 1 .. ``servers``, or a weight is negative.
    """
    place = "model 'poisson', parameter 'size'"
    counts, weights = [], []
    for part in text.split(","):
        count, _, weight = part.partition(":")
        try:
            counts.append(float(count))
            weights.append(float(weight or 1.0))
        except ValueError:
            raise UsageError(f"{place}: {part.strip()!r} is no size or size:weight") from None
        if counts[-1] != math.floor(counts[-1]) or not 1 <= counts[-1] <= servers:
            raise UsageError(f"{place}: {count.strip()} is no whole number from 1 to servers, {servers}")
        if not (math.isfinite(weights[-1]) and weights[-1] >= 0):
            raise UsageError(f"{place}: weight {weight.strip()} is no finite number of at least 0")
    if sum(weights) <= 0:
        raise UsageError(f"{place}: the weights of {text!r} add up to 0")
    return np.array(counts), np.array(weights) / sum(weights)


def processors_trace(
    model: str, seed: int, values: Values, *, submit_s: FloatArray, duration_s: FloatArray, size: FloatArray
) -> Trace:
    """A trace of jobs that need nothing but ``size`` processors, on a pool of ``servers``."""
    resource, servers, jobs = values.word("resource"), int(values.number("servers")), len(submit_s)
    columns = {
        "job_id": np.arange(1, jobs + 1),
        "submit_s": submit_s,
        "duration_s": duration_s,
        "requested_s": np.maximum(duration_s, 1e-9),
        "tasks": size.astype(np.int64),
        resource: np.ones(jobs),
    }
    return Trace(
        name=model,
        jobs=make_jobs(columns),
        cluster=pool(servers, resource=resource),
        source=f"generated by {model}, {jobs} jobs, seed {seed}",
        format=model,
        header={"model": model, "jobs": str(jobs), "seed": str(seed), **values.header()},
    )
