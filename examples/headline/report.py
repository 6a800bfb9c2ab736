"""The findings as text, as plain values, and as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.headline.arms import PARTITION_EASY, PARTITION_FCFS, POOL_EASY, POOL_SJF
from examples.headline.findings import Findings, Level
from examples.static_partitions.findings import change
from examples.static_partitions.jobs import DAY_S
from examples.static_partitions.replays import HOUR_S
from examples.static_partitions.report import CLAIM, HEAD, row_of, shown, table
from shunter.sim.report.formats import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEARNED_POOL = "pool with quotas, learned"
LEARNED = "learned, EASY"
CHANGES = ("utilisation", "wait_s", "p95_wait_s", "jct_s", "cost_per_useful_gpu_hour")
BASES = (PARTITION_FCFS.name, PARTITION_EASY.name, POOL_EASY.name, POOL_SJF.name)


def report(findings: Findings) -> str:
    """Everything as text."""
    parts = [f"{findings.study.note}: {len(findings.study.submit_s):,} jobs. No arm knows run times."]
    for level in findings.pooling:
        parts += [_title(level), table([HEAD, *(row_of(name, arm) for name, arm in level.arms.items())])]
        parts += [
            f"\n{LEARNED_POOL} against …, 95 % interval over the windows\n",
            table([("", *BASES), *_gained(level)]),
        ]
    parts += ["", *claim(findings)]
    for level in findings.policies:
        parts += [f"\nPolicies on one pool. {_title(level).strip()}\n", table([_POLICY_HEAD, *_compared(level)])]
    return "\n".join(parts)


_POLICY_HEAD = ("", "JCT", "p95 wait", "wait", "preempted", f"JCT of {LEARNED}, against this", "p95 wait, likewise")


def _title(level: Level) -> str:
    arm = next(iter(level.arms.values()))
    return (
        f"\n{level.study.note}, {level.gpus} GPUs: load {level.load:.0%} in calibration, {level.offered:.0%} in "
        f"{len(arm.sums['windows'])} windows of {level.study.window_s / DAY_S:.1f} days, "
        f"{int(arm.sums['jobs'].sum()):,} jobs, {arm.left_out} left out\n"
    )


def _gained(level: Level) -> Iterator[tuple[str, ...]]:
    for name in CHANGES:
        yield name, *(shown(change(level.arms[base], level.arms[LEARNED_POOL], name)) for base in BASES)


def _compared(level: Level) -> Iterator[tuple[str, ...]]:
    policy = level.arms[LEARNED]
    for name, arm in level.arms.items():
        gains = [shown(change(arm, policy, figure)) if arm is not policy else "–" for figure in ("jct_s", "p95_wait_s")]
        times = [duration(float(arm.figure(figure))) for figure in ("jct_s", "p95_wait_s", "wait_s")]
        yield name, *times, f"{arm.figure('preemptions_per_1000_jobs'):.1f} ‰", *gains


def claim(findings: Findings) -> Iterator[str]:
    """The field's claim beside what was found."""
    rows = [("", "utilisation", "waiting", "cost of a useful GPU-hour"), ("the claim", "62 → 89 %", "−62 %", "−60 %")]
    for level in findings.pooling:
        for base in (PARTITION_FCFS, PARTITION_EASY):
            before, after = level.arms[base.name], level.arms[LEARNED_POOL]
            held = "{:.0f} → {:.0f} %".format(*(100 * arm.figure("utilisation") for arm in (before, after)))
            costs = [shown(change(before, after, name)) for name in ("wait_s", "cost_per_useful_gpu_hour")]
            rows.append((f"{level.gpus} GPUs, {base.name} → {LEARNED_POOL}", held, *costs))
    yield table(rows)


def as_json(findings: Findings) -> dict[str, Any]:
    """Everything as plain values, with each window's."""
    return {
        "trace": findings.study.source,
        "claim": CLAIM,
        "pooling": [_level(level, LEARNED_POOL, CHANGES) for level in findings.pooling],
        "policies": [_level(level, LEARNED, ("jct_s", "wait_s", "p95_wait_s")) for level in findings.policies],
    }


def _level(level: Level, policy: str, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "log": level.study.note,
        "load": level.load,
        "offered": level.offered,
        "gpus": level.gpus,
        "arms": {name: arm.figures() for name, arm in level.arms.items()},
        "windows": {
            name: {quantity: values.tolist() for quantity, values in arm.sums.items()}
            for name, arm in level.arms.items()
        },
        f"{policy} against": {
            name: {figure: change(arm, level.arms[policy], figure) for figure in names}
            for name, arm in level.arms.items()
            if name != policy
        },
    }


def draw(findings: Findings, path: Path) -> None:
    """The figure as a PNG: waits and utilisation at the main load, and completion times under each policy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    level = findings.main
    waits_h = {name: arm.figure("wait_s") / HOUR_S for name, arm in level.arms.items()}
    _bars(left, waits_h, LEARNED_POOL, dots=True)
    left.set_xscale("log")
    _label(left, f"Mean wait (h), {level.gpus} GPUs")
    _bars(middle, {name: 100 * arm.figure("utilisation") for name, arm in level.arms.items()}, LEARNED_POOL)
    for share, style in zip(CLAIM["utilisation"], (":", "--"), strict=True):  # type: ignore[arg-type]
        middle.axvline(100 * share, color="0.4", linestyle=style, linewidth=1)
    middle.set_yticklabels([])
    _label(middle, "GPUs held (%); lines: the claim")
    compared = findings.policies[0]
    _bars(right, {name: arm.figure("jct_s") / HOUR_S for name, arm in compared.arms.items()}, LEARNED)
    _label(right, f"Mean completion time (h), {compared.gpus} GPUs")
    figure.savefig(path, dpi=200, metadata={"Software": None})


def _bars(axes: Axes, values: dict[str, float], mark: str, *, dots: bool = False) -> None:
    """Values by name; as dots where the axis has no zero."""
    colours = ["#D55E00" if name == mark else "#0072B2" for name in values]
    places = np.arange(len(values))
    if dots:
        axes.scatter(list(values.values()), places, color=colours, s=60)
    else:
        axes.barh(places, list(values.values()), color=colours)
    axes.set_yticks(places, list(values), fontsize=8)
    axes.set_ylim(len(values) - 0.4, -0.6)


def _label(axes: Axes, x: str) -> None:
    axes.set_xlabel(x, fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(visible=True, axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
