"""The findings as text, as plain values, and as a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from examples.static_partitions.findings import Findings, Smallest, change
from examples.static_partitions.jobs import DAY_S, GPUS_PER_NODE
from examples.static_partitions.replays import HOUR_S, PARTITION_EASY, PARTITION_FCFS, POOL_EASY, SWEEP, Measured
from shunter.sim.report.formats import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLAIM = {"utilisation": (0.62, 0.89), "wait_s": -0.62, "cost_per_useful_gpu_hour": -0.60}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first column to the left, the others to the right."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


HEAD = ("", "Util.", "Wait", "p95 wait", "JCT", "Jain", "FTF ρ", "$/GPU-h", "kWh/GPU-h", "Preempted")


def row_of(name: str, arm: Measured) -> tuple[str, ...]:
    """An arm's figures for people."""
    found = arm.figures()
    return (
        name,
        f"{found['utilisation']:.1%}",
        duration(found["wait_s"]),
        duration(found["p95_wait_s"]),
        duration(found["jct_s"]),
        f"{found['jain_fairness']:.3f}",
        f"{found['ftf_rho']:,.2f}",
        f"{found['cost_per_useful_gpu_hour']:.2f}",
        f"{found['energy_kwh_per_useful_gpu_hour']:.3f}",
        f"{found['preemptions_per_1000_jobs']:.1f} ‰",
    )


def shown(found: Mapping[str, Any]) -> str:
    """A change with its interval: per cent, or points for ratios."""
    value, unit = (found["difference"], " pt") if "difference" in found else (found["relative"], " %")
    if value is None:
        return "–"
    text = f"{100 * value:+,.1f}{unit}"
    if found["interval"] is None:
        return text
    return text + " ({:+,.1f} to {:+,.1f})".format(*(100 * bound for bound in found["interval"]))


CHANGES = (
    "utilisation",
    "wait_s",
    "p95_wait_s",
    "jct_s",
    "jain_fairness",
    "cost_per_useful_gpu_hour",
    "energy_kwh_per_useful_gpu_hour",
)


def report(findings: Findings) -> str:
    """Everything as text."""
    study, main_load = findings.study, findings.main_load
    at_main = findings.loads[main_load]
    first = findings.arms[PARTITION_FCFS.name]
    num_windows = len(first.sums["windows"])
    parts = [
        f"{study.note}: {len(study.submit_s):,} jobs; {num_windows} windows of {study.window_s / DAY_S:.1f} days after "
        f"{study.calibrated_s / DAY_S:.0f} days of calibration, {int(first.sums['jobs'].sum()):,} jobs measured, "
        f"{first.left_out} left out of every arm because their own partition cannot hold them.",
        "Nodes by virtual cluster: "
        + ", ".join(f"{study.groups[v]} {n}" for v, n in enumerate(findings.nodes) if n)
        + ".",
        f"\n{at_main['gpus']} GPUs: load {main_load:.0%} in calibration, {at_main['offered']:.0%} in the windows\n",
        table([HEAD, *(row_of(name, arm) for name, arm in findings.arms.items())]),
        f"\nChange against {PARTITION_FCFS.name} / {PARTITION_EASY.name}, 95 % interval over the windows\n",
        table([("", *(f"{name} …" for name in (PARTITION_FCFS.name, PARTITION_EASY.name))), *_changes(findings)]),
        "\nOther loads\n",
        table([("Load: calibration, windows; GPUs; arm", *HEAD[1:]), *_sweep(findings)]),
    ]
    if findings.sizings:
        rows = [
            row_of(f"{sizing}: {name}", arm) for sizing, arms in findings.sizings.items() for name, arm in arms.items()
        ]
        parts += ["\nPartitions sized otherwise, on as many nodes\n", table([HEAD, *rows])]
    if findings.smallest:
        rows = [_smallest_row(name, found) for name, found in findings.smallest.items()]
        head = ("The pool that waits no longer than", "GPUs", "fewer", "Wait", "Util.", "$/GPU-h", "change of $/GPU-h")
        parts += ["", table([head, *rows])]
    parts += [
        "\nWait by virtual cluster\n",
        table([("", "jobs", PARTITION_FCFS.name, PARTITION_EASY.name, POOL_EASY.name), *_by_group(findings)]),
    ]
    parts += ["", verdict(findings)]
    return "\n".join(parts)


def _changes(findings: Findings) -> Iterator[tuple[str, ...]]:
    bases = [findings.arms[arm.name] for arm in (PARTITION_FCFS, PARTITION_EASY)]
    for arm in SWEEP[1:]:
        for name in CHANGES:
            b = findings.arms[arm.name]
            cells = ["–" if base is b else shown(change(base, b, name)) for base in bases]
            yield f"{arm.name}: {name}", *cells


def _sweep(findings: Findings) -> Iterator[tuple[str, ...]]:
    for load, found in findings.loads.items():
        for arm in SWEEP:
            yield row_of(f"{load:.0%}, {found['offered']:.0%}; {found['gpus']}; {arm.name}", found["arms"][arm.name])


def _smallest_row(name: str, found: Smallest) -> tuple[str, ...]:
    return (
        name,
        f"{found.nodes * GPUS_PER_NODE} of {found.total * GPUS_PER_NODE}",
        f"{1 - found.nodes / found.total:.0%}",
        duration(found.pool.figure("wait_s")),
        f"{found.pool.figure('utilisation'):.1%}",
        f"{found.pool.figure('cost_per_useful_gpu_hour'):.2f}",
        shown(change(found.base, found.pool, "cost_per_useful_gpu_hour")),
    )


def _by_group(findings: Findings) -> Iterator[tuple[str, ...]]:
    arms = [findings.arms[arm.name].waits for arm in SWEEP]
    for v in np.flatnonzero(arms[0][0]):
        means = [duration(float(waits[1, v] / waits[0, v])) for waits in arms]
        yield findings.study.groups[int(v)], f"{int(arms[0][0, v]):,}", *means


def verdict(findings: Findings) -> str:
    """The claim beside what was found, at every load."""
    lines = [
        "The claim: utilisation 62 % to 89 %, waiting −62 %, cost of a useful GPU-hour −60 %. Found, pool with EASY:"
    ]
    for load, found in findings.loads.items():
        arms = found["arms"]
        for base in (PARTITION_FCFS, PARTITION_EASY):
            before, after = arms[base.name], arms[POOL_EASY.name]
            lines.append(
                f"  load {load:.0%} against {base.name}: utilisation {before.figure('utilisation'):.0%} to "
                f"{after.figure('utilisation'):.0%}, waiting {shown(change(before, after, 'wait_s'))}, cost "
                f"{shown(change(before, after, 'cost_per_useful_gpu_hour'))}"
            )
    for name, least in findings.smallest.items():
        lines.append(
            f"  the smallest pool that waits no longer than {name}: {1 - least.nodes / least.total:.0%} fewer GPUs, "
            f"utilisation {least.base.figure('utilisation'):.0%} to {least.pool.figure('utilisation'):.0%}, cost "
            f"{shown(change(least.base, least.pool, 'cost_per_useful_gpu_hour'))}"
        )
    return "\n".join(lines)


def as_json(findings: Findings) -> dict[str, Any]:
    """Everything as plain values."""
    base = {arm.name: findings.arms[arm.name] for arm in (PARTITION_FCFS, PARTITION_EASY)}
    pools = [name for name in findings.arms if name not in base]
    return {
        "trace": findings.study.source,
        "claim": CLAIM,
        "windows": len(findings.arms[PARTITION_FCFS.name].sums["windows"]),
        "window_s": findings.study.window_s,
        "calibrated_s": findings.study.calibrated_s,
        "left_out": findings.arms[PARTITION_FCFS.name].left_out,
        "nodes": {findings.study.groups[v]: int(n) for v, n in enumerate(findings.nodes) if n},
        "main_load": findings.main_load,
        "arms": {name: arm.figures() for name, arm in findings.arms.items()},
        "changes": {
            f"{name} against {a}": {figure: change(base[a], findings.arms[name], figure) for figure in CHANGES}
            for a in base
            for name in (*pools, *(other for other in base if other != a))
        },
        "loads": [
            {
                "calibrated": load,
                "offered": found["offered"],
                "gpus": found["gpus"],
                "arms": {name: arm.figures() for name, arm in found["arms"].items()},
                "changes": {
                    f"{POOL_EASY.name} against {a}": {
                        figure: change(found["arms"][a], found["arms"][POOL_EASY.name], figure) for figure in CHANGES
                    }
                    for a in base
                },
            }
            for load, found in findings.loads.items()
        ],
        "sizings": {
            name: {label: arm.figures() for label, arm in arms.items()} for name, arms in findings.sizings.items()
        },
        "smallest_pool": {
            name: {"gpus_before": found.total * GPUS_PER_NODE, "gpus": found.nodes * GPUS_PER_NODE}
            | found.pool.figures()
            | {"change_of_cost": change(found.base, found.pool, "cost_per_useful_gpu_hour")}
            for name, found in findings.smallest.items()
        },
    }


def draw(findings: Findings, path: Path) -> None:
    """The figure: waiting and utilisation over the load, and completion times at the main one, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    colours = dict(zip((arm.name for arm in SWEEP), ("#D55E00", "#E69F00", "#0072B2"), strict=True))
    loads = [found["offered"] for found in findings.loads.values()]
    for name, colour in colours.items():
        for axes, figure_name, scale in ((left, "wait_s", HOUR_S), (middle, "utilisation", 0.01)):
            values = [found["arms"][name].figure(figure_name) / scale for found in findings.loads.values()]
            axes.plot([100 * load for load in loads], values, "o-", color=colour, label=name)
        times_h = np.sort(findings.arms[name].jct_s) / HOUR_S
        right.plot(np.maximum(times_h, 1 / 60), np.linspace(0, 100, len(times_h)), color=colour, label=name)
    _label(left, "Offered load in the measured weeks (%)", "Mean wait (h)", log_y=True)
    _label(middle, "Offered load in the measured weeks (%)", "GPUs held, measured weeks (%)")
    middle.plot(
        [100 * load for load in loads],
        [min(100 * load, 100.0) for load in loads],
        ":",
        color="0.5",
        zorder=0,
        label="offered",
    )
    middle.legend(frameon=False, fontsize=8)
    right.set_xscale("log")
    _label(right, f"Completion time at {findings.loads[findings.main_load]['gpus']} GPUs (h)", "Jobs (%)")
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=200, metadata={"Software": None})


def _label(axes: Axes, x: str, y: str, *, log_y: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if log_y:
        axes.set_yscale("log")
