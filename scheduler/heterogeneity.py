"""Sharing GPUs of several types among jobs that profit from them differently: Gavel's allocation and its rounds.

An allocation X (J, T) says which share of the time job j runs on GPU type t; a job runs on one type at a time, so a row
sums to at most 1, and the GPUs of a type are not exceeded on average. The effective throughput of a job is
Σ_t X[j, t] · speed[j, t]. Both objectives are max–min problems of one form, solved as a linear program by HiGHS
(``scipy.optimize.linprog``). Rounds of fixed length then approach the allocation: ``round_assignment`` names the jobs
of the next one.
Source: Narayanan et al., OSDI 2020 (Gavel), sections 4.1, 4.2 and 5.

A pair whose speed is 0 or not a number, or whose gang is larger than the GPUs of the type, is never used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

NO_TYPE = -1
"""Type of a job that does not run in the next round."""

METHOD = "highs-ipm"
"""Interior point with crossover: at 500 jobs and 4 types up to three times as fast as the simplex method."""

TOLERANCE = 1e-9
"""How far HiGHS may overstep a row; jobs that need little would otherwise get nothing."""

LEAST_NEED = 1e-6
"""Least need of a job over the largest one. What needs less counts as this, so that it stands clear of ``TOLERANCE``;
J such jobs lengthen a makespan by at most J millionths."""

FLOOR_SLACK = 1e-7
"""Share of a level that later programs may give up again, so that rounding does not make them infeasible."""

BINDING_PRICE = 1e-7
"""Least dual value, of duals that sum to about 1, for which a job counts as the reason that a level is not higher."""

NEVER_RECEIVED = 1e9
"""Weight of a share of which a job has received nothing yet: it comes before all that have received some."""


def het_las(
    speeds: FloatArray,
    gpus: IntArray,
    capacity: IntArray,
    weights: FloatArray | None = None,
    *,
    levels: int = 2,
) -> FloatArray:
    """Max–min fair allocation of effective throughput: the heterogeneity-aware form of least attained service.

    Maximises min_j (gpus_j / weight_j) · throughput_j(X) / throughput_j(equal), where *equal* splits a job's time over
    the types in proportion to their GPUs. Time spent in proportion to GPUs makes a job of one GPU run longer than a
    gang, as in LAS.

    Args:
        speeds: (J, T) speed of a job on a type, in any unit of its own.
        gpus: (J,) gang sizes, ≥ 1.
        capacity: (T,) GPUs of each type.
        weights: (J,) priority weights, > 0; None: all equal.
        levels: Rounds of water filling: once the worst-off cannot be helped any more, what they leave is shared
            max–min fair among the others, and so on. What is left after the last level goes where it adds most.

    Returns:
        (J, T) shares of time. The row of a job that can run nowhere is 0.

    Raises:
        ValueError: Shapes that do not fit, gangs below 1, weights that are not positive.
    """
    usable = _usable(speeds, gpus, capacity)
    rate = np.where(usable, speeds, 0.0)
    share = np.asarray(capacity, dtype=np.float64)
    equal = rate @ (share / max(share.sum(), 1.0))
    weight = np.ones(len(gpus)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (len(gpus),) or np.any(~(weight > 0)):
        raise ValueError("expected one positive weight a job")
    return _max_min(rate, usable, weight * equal / gpus, gpus, share, levels)


def het_makespan(
    speeds: FloatArray, gpus: IntArray, capacity: IntArray, work_s: FloatArray, *, levels: int = 1
) -> FloatArray:
    """The allocation under which the last of the jobs ends as early as possible.

    Maximises min_j throughput_j(X) / work_j, the reciprocal of the makespan. (Gavel searches for the makespan by
    bisection; the reciprocal is linear, so one program does.)

    Args:
        speeds: (J, T) speed of a job on a type relative to the reference type.
        gpus: (J,) gang sizes, ≥ 1.
        capacity: (T,) GPUs of each type.
        work_s: (J,) remaining work in seconds on the reference type, > 0.
        levels: As for ``het_las``: further levels let the jobs end early that do not decide the makespan.

    Returns:
        (J, T) shares of time. ``makespan_s`` gives the time it takes.

    Raises:
        ValueError: Shapes that do not fit, gangs below 1, work that is not positive.
    """
    usable = _usable(speeds, gpus, capacity)
    if work_s.shape != (len(gpus),) or np.any(~(work_s > 0)):
        raise ValueError("expected a positive amount of remaining work a job")
    rate = np.where(usable, speeds, 0.0)
    return _max_min(rate, usable, work_s.astype(np.float64), gpus, np.asarray(capacity, dtype=np.float64), levels)


def makespan_s(allocation: FloatArray, speeds: FloatArray, work_s: FloatArray) -> float:
    """Seconds until the last job ends if the allocation (J, T) is kept; inf where one has no share, 0 without jobs."""
    throughput = effective_throughput(allocation, speeds)
    with np.errstate(divide="ignore"):
        return float(np.max(work_s / throughput, initial=0.0))


def effective_throughput(allocation: FloatArray, speeds: FloatArray) -> FloatArray:
    """(J,) throughput of each job under an allocation (J, T); a speed that is not a number counts as 0."""
    throughput: FloatArray = np.sum(allocation * np.nan_to_num(speeds, nan=0.0), axis=1)
    return throughput


def _usable(speeds: FloatArray, gpus: IntArray, capacity: IntArray) -> BoolArray:
    """(J, T) pairs of job and type that may be used.

    Raises:
        ValueError: Shapes that do not fit, or gangs below 1.
    """
    if speeds.ndim != 2 or speeds.shape != (len(gpus), len(capacity)):
        raise ValueError(f"speeds {speeds.shape} do not fit {len(gpus)} jobs and {len(capacity)} GPU types")
    if np.any(gpus < 1) or np.any(capacity < 0):
        raise ValueError("expected gangs of at least 1 GPU and no negative number of GPUs of a type")
    usable: BoolArray = np.isfinite(speeds) & (speeds > 0) & (gpus[:, None] <= capacity[None, :])
    return usable


@dataclass(frozen=True, slots=True)
class _Program:
    """The part that all levels share: one variable a usable pair, and the rows that keep time and GPUs in bounds.

    Jobs that do not differ get equal shares and are one class c of the program; by symmetry that costs nothing.

    Attributes:
        job: (V,) class of a variable.
        kind: (V,) its GPU type.
        rate: (V,) its speed, over the largest speed of the class.
        count: (C,) jobs of the class.
        need: (C,) amount of throughput that counts as 1 for a job, in the same unit, over the largest one.
        limits: (C + T, V) time of a job of each class (≤ 1) and GPUs of each type (≤ capacity).
        bounds: (C + T,) right-hand sides.
    """

    job: IntArray
    kind: IntArray
    rate: FloatArray
    count: IntArray
    need: FloatArray
    limits: csc_matrix
    bounds: FloatArray


def _program(rate: FloatArray, need: FloatArray, gpus: IntArray, capacity: FloatArray) -> tuple[_Program, IntArray]:
    """The program over jobs that can run somewhere (J of them), and (J,) the class of each."""
    from scipy.sparse import csc_matrix

    fastest = rate.max(axis=1)
    relative = rate / fastest[:, None]
    scaled = need / fastest
    scaled = np.maximum(scaled / scaled.max(), LEAST_NEED)
    described = np.column_stack([relative, scaled, gpus])
    classes, class_of, count = np.unique(described, axis=0, return_inverse=True, return_counts=True)
    rates, needs, gang = classes[:, :-2], classes[:, -2], classes[:, -1]
    job, kind = np.nonzero(rates)
    num = len(job)
    columns = np.concatenate([np.arange(num), np.arange(num)])
    rows = np.concatenate([job, len(classes) + kind])
    values = np.concatenate([np.ones(num), (gang * count)[job]])
    limits = csc_matrix((values, (rows, columns)), shape=(len(classes) + len(capacity), num))
    bounds = np.concatenate([np.ones(len(classes)), capacity])
    return _Program(job, kind, rates[job, kind], count, needs, limits, bounds), class_of.reshape(-1)


def _max_min(
    rate: FloatArray, usable: BoolArray, need: FloatArray, gpus: IntArray, capacity: FloatArray, levels: int
) -> FloatArray:
    """The allocation (J, T) that lifts min_j throughput_j / need_j, level by level, and then uses up what is left."""
    allocation = np.zeros(rate.shape)
    able = np.flatnonzero(usable.any(axis=1))
    if len(able) == 0:
        return allocation
    program, class_of = _program(rate[able], need[able], gpus[able], capacity)
    floors = np.zeros(len(program.need))
    settled = np.zeros(len(program.need), dtype=np.bool_)
    for _ in range(max(levels, 1)):
        level, price, found = _lift(program, floors, settled)
        floors = np.where(settled, floors, program.need * level)
        binding = ~settled & (price > BINDING_PRICE)
        settled |= binding
        if settled.all() or not binding.any():
            break
    shares = np.zeros((len(program.need), len(capacity)))
    # Where every class is held, its throughput is the same in all solutions, and nothing can be added.
    shares[program.job, program.kind] = found if settled.all() else _fill(program, floors)
    allocation[able] = shares[class_of]
    return _within(allocation, gpus, capacity)


def _throughput_rows(program: _Program) -> csc_matrix:
    """(C, V) matrix that makes throughputs of shares, with the sign of a "no less than" row."""
    from scipy.sparse import csc_matrix

    num = len(program.job)
    return csc_matrix((-program.rate, (program.job, np.arange(num))), shape=(len(program.need), num))


def _lift(program: _Program, floors: FloatArray, settled: BoolArray) -> tuple[float, FloatArray, FloatArray]:
    """The highest level that all jobs not yet settled can reach together, (C,) each class's share of the blame that it
    is not higher, and (V,) shares of time that reach it.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csc_matrix, hstack, vstack

    need = np.where(settled, 0.0, program.need)
    level_column = csc_matrix(np.concatenate([need, np.zeros(program.limits.shape[0])])[:, None])
    matrix = hstack([vstack([_throughput_rows(program), program.limits]), level_column], format="csc")
    bounds = np.concatenate([np.where(settled, -floors * (1.0 - FLOOR_SLACK), 0.0), program.bounds])
    objective = np.zeros(matrix.shape[1])
    objective[-1] = -1.0
    found = linprog(objective, A_ub=matrix, b_ub=bounds, bounds=(0, None), method=METHOD, options=_options())
    _require(found.status, found.message)
    price = -found.ineqlin.marginals[: len(floors)] * need
    return float(found.x[-1]), price, found.x[:-1]


def _fill(program: _Program, floors: FloatArray) -> FloatArray:
    """(V,) shares with the largest sum of relative throughputs that leave nobody below its floor."""
    from scipy.optimize import linprog
    from scipy.sparse import vstack

    matrix = vstack([_throughput_rows(program), program.limits], format="csc")
    bounds = np.concatenate([-floors * (1.0 - FLOOR_SLACK), program.bounds])
    gain = program.rate * program.count[program.job]
    found = linprog(-gain, A_ub=matrix, b_ub=bounds, bounds=(0, None), method=METHOD, options=_options())
    _require(found.status, found.message)
    shares: FloatArray = found.x
    return shares


def _options() -> dict[str, float]:
    return {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}


def _require(status: int, message: str) -> None:
    """Every program here is feasible (all zero, or the level before) and bounded, so another answer is a bug."""
    if status != 0:
        raise ArithmeticError(f"the allocation program was not solved: {message}")


def _within(allocation: FloatArray, gpus: IntArray, capacity: FloatArray) -> FloatArray:
    """The allocation without the solver's rounding: no share below 0, no row and no type over its bound."""
    shares = np.where(allocation > TOLERANCE, allocation, 0.0)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
    used = gpus @ shares
    with np.errstate(divide="ignore", invalid="ignore"):
        shares *= np.where(used > capacity, capacity / used, 1.0)
    return shares


def round_assignment(
    allocation: FloatArray,
    received: FloatArray,
    gpus: IntArray,
    capacity: IntArray,
    running: IntArray,
    usable: BoolArray | None = None,
) -> IntArray:
    """Which jobs run in the next round, and on which type, so that the rounds received approach the allocation.

    Pairs of job and type are served by falling X / rounds received, as long as the gang fits into what is left of the
    type; a share of which nothing was received yet comes first. Among equals a pair that continues a running job wins,
    then the larger share, then the earlier job. Pairs without a share fill up what is left, if ``usable`` says so.

    Args:
        allocation: (J, T) shares of time.
        received: (J, T) rounds, or seconds, received so far.
        gpus: (J,) gang sizes.
        capacity: (T,) GPUs of each type.
        running: (J,) type on which a job runs now, −1 for none.
        usable: (J, T) pairs that may run without a share; None: only pairs with a share run.

    Returns:
        (J,) type for the next round, −1 for none.

    Source: Narayanan et al., OSDI 2020, section 5 and its algorithm 1.
    """
    has_share = allocation > 0
    candidates = has_share if usable is None else has_share | usable
    priority = np.where(received > 0, allocation / np.where(received > 0, received, 1.0), allocation * NEVER_RECEIVED)
    jobs, kinds = np.nonzero(candidates)
    continues = running[jobs] == kinds
    order = np.lexsort((kinds, jobs, -allocation[jobs, kinds], ~continues, -priority[jobs, kinds]))
    left = np.array(capacity, dtype=np.int64)
    chosen = np.full(len(gpus), NO_TYPE, dtype=np.int64)
    for i in order:
        job, kind = jobs[i], kinds[i]
        if chosen[job] == NO_TYPE and gpus[job] <= left[kind]:
            chosen[job] = kind
            left[kind] -= gpus[job]
    return chosen
