"""The tables of groups and users: what each asked for, got, waited and lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.sim.report.cluster_series import fairness_rho, held_by_job
from shunter.sim.report.formats import HOUR_S
from shunter.sim.report.series import started
from shunter.sim.result import Result

if TYPE_CHECKING:
    import polars as pl

TOP = 50


def people(result: Result, column: str, resource: str, top: int = TOP) -> list[dict[str, Any]]:
    """One row a ``group`` or ``user``, by resource time; those after the first ``top`` in one row, their sum.

    Args:
        result: A run with the table ``attempts``.
        column: ``group`` or ``user``.
        resource: ``gpus`` or ``cpus``.
        top: Rows of single groups or users.

    Returns:
        ``name`` (None: not named), ``jobs`` (those that started), ``hours`` (of the resource, over all attempts),
        ``share`` (of those of all), ``wait_s`` and ``p95_wait_s`` (before the first start), ``jct_s``, ``preemptions``,
        ``lost_hours`` (work thrown away and restart overhead, as in ``lost_gpu_s``), ``rho`` (mean; absent where the
        capacity is not known), and for the last row ``others``: how many it stands for. Empty where the log names
        nobody or only one.
    """
    import polars as pl

    frame = _by_job(result, resource)
    if frame[column].drop_nulls().n_unique() < 2:
        return []
    amounts = frame.group_by(column).agg(pl.col("hours").sum()).sort(
        "hours", column, descending=[True, False], nulls_last=True
    )  # fmt: skip
    rank = amounts.select(column, pl.int_range(pl.len()).clip(upper_bound=top).alias("rank"))
    if amounts.height == top + 1:
        rank = amounts.select(column, pl.int_range(pl.len()).alias("rank"))
    frame = frame.join(rank, on=column, nulls_equal=True, how="left")
    rows = frame.group_by("rank").agg(
        pl.col(column).first().alias("name"),
        pl.col(column).n_unique().alias("others"),
        pl.len().alias("jobs"),
        pl.col("hours").sum(),
        pl.col("wait_s").mean(),
        pl.col("wait_s").quantile(0.95, "linear").alias("p95_wait_s"),
        (pl.col("end_s") - pl.col("submit_s")).mean().alias("jct_s"),
        pl.col("preemptions").sum(),
        pl.col("lost_hours").sum(),
        *([pl.col("rho").fill_nan(None).mean()] if "rho" in frame.columns else []),
    )
    total = float(rows["hours"].sum()) or 1.0
    rows = rows.sort("rank").with_columns((pl.col("hours") / total).alias("share"))
    found: list[dict[str, Any]] = rows.drop("rank").to_dicts()
    for row in found:
        if row["others"] == 1:
            del row["others"]
    return found


def _by_job(result: Result, resource: str) -> pl.DataFrame:
    """The started jobs with their resource hours, lost hours, preemptions and ρ."""
    held_s, wasted_s, preemptions = held_by_job(result)
    amount = result.jobs[resource].fill_null(0).to_numpy().astype(np.float64)
    columns: dict[str, Any] = {
        "hours": amount * held_s / HOUR_S,
        "lost_hours": amount * wasted_s / HOUR_S,
        "preemptions": preemptions,
    }
    names = [name for name in ("user", "group") if name in result.jobs.columns]
    frame = started(replace(result, jobs=result.jobs.with_columns(**columns)))
    rho = fairness_rho(result, resource)
    if rho is not None:
        frame = frame.with_columns(rho=rho)
    return frame.select("submit_s", "end_s", "wait_s", *names, *columns, *(["rho"] if rho is not None else []))
