"""What jobs ask of GPUs beyond their number: MIG instances, and the memory of a GPU; on which nodes they find it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.mig import GEOMETRIES, milli_of, offered
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.traces.tables import ClusterSpec, Trace

MIB = 1024
"""MiB of a GiB."""

UNKNOWN = 1 << 42
"""MiB of a GPU of which nobody says how much it has: more than any task asks for."""


def parts_of_gpus(
    trace: Trace, cluster: ClusterSpec, geometries: tuple[str | None, ...]
) -> tuple[IntArray | None, BoolArray, IntArray]:
    """(J,) row of what follows for each job, or None; (P, C) classes that it may use for its GPUs; kinds of instances.

    The rows are the profiles that jobs ask for; then jobs that use GPUs as they are, which must not be cut; then jobs
    without GPUs, which may run everywhere.

    Raises:
        UsageError: A job asks for a profile that no node offers, or for several GPUs beside it.
    """
    profile_idx, profiles = trace.jobs.codes("gpu_profile")
    cut = [name is not None for name in geometries]
    if not any(cut) and not profiles:
        return None, np.ones((0, len(cut)), dtype=np.bool_), np.zeros((0, len(cut)), dtype=np.int64)
    known = offered(name for name in geometries if name is not None)
    for profile in profiles:
        if profile not in known:
            _refuse_profile(trace, cluster, profile, known)
    gpus = trace.jobs.floats("gpus")
    odd = np.flatnonzero((profile_idx >= 0) & (gpus > 1))
    if len(odd):
        raise UsageError(
            f"{_job(trace, int(odd[0]))} asks for MIG instance {profiles[profile_idx[odd[0]]]!r} and for "
            f"{gpus[odd[0]]:g} GPUs: a task takes one instance; give the job more tasks instead"
        )
    kinds = np.full((len(profiles) + 2, len(cut)), -1, dtype=np.int64)
    for c, name in enumerate(geometries):
        if name is not None:
            kinds[: len(profiles), c] = [GEOMETRIES[name].profiles.get(profile, -1) for profile in profiles]
    allowed = kinds >= 0
    allowed[-2] = [not is_cut for is_cut in cut]
    allowed[-1] = True
    plain = np.where(gpus > 0, len(profiles), len(profiles) + 1)
    return np.where(profile_idx >= 0, profile_idx, plain), allowed, kinds


def task_gpus(trace: Trace, cluster: ClusterSpec) -> FloatArray:
    """(J,) GPUs of a task: what the trace says, or its instance's part of a GPU."""
    gpus = trace.jobs.floats("gpus")
    profile_idx, profiles = trace.jobs.codes("gpu_profile")
    if not profiles:
        return gpus
    cut = [name for name in map(cluster.geometry_of, cluster.groups) if name is not None]
    milli = [next(milli_of(p, name) for name in cut if p in GEOMETRIES[name].profiles) for p in profiles]
    return np.where(profile_idx >= 0, np.asarray([*milli, 0])[profile_idx] / UNITS_PER[2], gpus)


def memory_of_gpus(
    trace: Trace, cluster: ClusterSpec, types: tuple[str | None, ...]
) -> tuple[IntArray, IntArray | None]:
    """(C,) MiB of one GPU of each type, ``UNKNOWN`` where nothing is said; (J,) what tasks need of it, or None.

    A MIG instance brings its own memory: what a job says beside its profile is not read.
    """
    kinds = [cluster.gpu_types.get(name or "") for name in types]
    known = [None if kind is None else kind.memory_gib for kind in kinds]
    of_class = np.asarray([UNKNOWN if gib is None else int(gib * MIB) for gib in known], dtype=np.int64)
    jobs = trace.jobs
    asked_gib = np.where(jobs.floats("gpus") > 0, jobs.floats("gpu_memory_gib", 0.0), 0.0)
    asked_gib[jobs.frame["gpu_profile"].is_not_null().to_numpy()] = 0.0
    if not asked_gib.any() or (of_class == UNKNOWN).all():
        return of_class, None
    return of_class, np.minimum(np.ceil(np.round(asked_gib * MIB, 6)), UNKNOWN - 1).astype(np.int64)


def _job(trace: Trace, row: int) -> str:
    return f"{trace.name}: job {trace.jobs.frame['job_id'][row]!r} (row {row})"


def _refuse_profile(trace: Trace, cluster: ClusterSpec, profile: str, known: list[str]) -> None:
    import polars as pl

    row = int(trace.jobs.frame.select((pl.col("gpu_profile") == profile).fill_null(False).arg_true()).to_series()[0])
    what = f"it offers {', '.join(known)}" if known else "none of its groups has mig"
    close = nearest(profile, known) if known else ""
    hint = close if close.startswith("; did") else ""
    raise UsageError(
        f"{_job(trace, row)} asks for MIG instance {profile!r}, which no node of cluster {cluster.name!r} offers; "
        f"{what}{hint}"
    )
