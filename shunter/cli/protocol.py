"""``shunter simulate --protocol``: replay under another system's semantics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter import __version__

PLACEMENT_OF = {"rlscheduler": "first-fit", "helios": "consolidate"}
"""Where a protocol places jobs; those of fgd-openb are its policies."""

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.cli.runs import Request
    from shunter.sim.compat import ProtocolRun
    from shunter.sim.result import Result


def run_under_protocol(name: str, source: Path, request: Request, *, cluster: str | None, as_json: bool) -> None:
    """Replay ``source`` under protocol ``name`` with every policy and backfilling asked for; print and save.

    Raises:
        UsageError: Unknown protocol or policy, or an option that the protocol has no meaning for.
    """
    from shunter.cli.console import output, print_json
    from shunter.cli.runs import check_writable
    from shunter.scheduler.errors import UsageError
    from shunter.sim.compat import find_protocol, load_nodes, load_source, run_protocol
    from shunter.sim.load import check_step

    find_protocol(name)
    check_step(request.load_step_s)
    estimated = request.clairvoyant or request.estimates != "request" or request.default_request_s is not None
    if request.resume or request.depth or request.interval_s or estimated or request.ties != "instant":
        raise UsageError(
            f"protocol {name} fixes its own semantics: --ties, --backfill-depth, --interval, --estimates, "
            "--clairvoyant, --default-request and --resume do not go with it"
        )
    if request.out is not None:
        check_writable(request.out)
    nodes = None if cluster is None else load_nodes(name, cluster)
    loaded = load_source(name, source)
    runs = [
        run_protocol(
            name,
            loaded,
            policy=policy,
            backfill=backfill,
            window=request.window,
            cluster=nodes,
            seed=request.seed,
        )
        for policy, backfill in request.runs
    ]
    if request.out is not None:
        _save(runs, request.out, request)
    if as_json:
        print_json(_as_document(runs, request.seed))
    else:
        output().print(_as_curve_table(runs) if "curves" in runs[0] else _as_table(runs))


def _save(runs: Sequence[ProtocolRun], out: Path, request: Request) -> None:
    """Write runs with times as results with a report, others as curves with a figure."""
    if "curves" not in runs[0]:
        from shunter.cli.runs import save_all

        found = [_as_result(run, request.seed) for run in runs]
        save_all(found, out, figures=False, quiet=request.quiet, load_step_s=request.load_step_s)
        return
    from shunter.cli.console import note
    from shunter.sim.compat import fgd_report

    fgd_report.save(runs, out, __version__)
    if not request.quiet:
        note(f"wrote {out / 'curves.parquet'} and {out / 'figures' / 'curves.png'}")


def _as_document(runs: Sequence[ProtocolRun], seed: int) -> dict[str, Any]:
    return {
        "trace": runs[0]["trace"],
        "cluster": runs[0]["cluster"],
        "seed": seed,
        "protocol": runs[0]["protocol"],
        "runs": [
            {
                "policy": run["policy"],
                "backfill": run["backfill"],
                "placement": PLACEMENT_OF.get(run["protocol"], run["policy"]),
                "window": list(run["window"]) if run["window"] else None,
                "jobs": run["jobs"].height,
                "metrics": run["metrics"],
                "wall_s": run["wall_s"],
                "events": (1 if "curves" in run else 2) * run["jobs"].height,
                "engine": run["protocol"],
            }
            | ({"curves": run["curves"].to_dict(as_series=False)} if "curves" in run else {})
            for run in runs
        ],
    }


def _as_result(run: ProtocolRun, seed: int) -> Result:
    from shunter.sim.derived import events, timeline
    from shunter.sim.result import Result

    return Result(
        trace=run["trace"],
        cluster=run["cluster"],
        policy=run["policy"],
        backfill=run["backfill"],
        placement="protocol",
        window=run["window"],
        seed=seed,
        jobs=run["jobs"],
        tables={"timeline": timeline(run["jobs"]), "events": events(run["jobs"])},
        metrics=run["metrics"],
        manifest={"shunter": __version__, "protocol": run["protocol"], "cluster": {"name": run["cluster"]}},
        wall_s=run["wall_s"],
        num_events=2 * run["jobs"].height,
    )


def _as_table(runs: Sequence[ProtocolRun]) -> Table:
    """One row a metric, one column a run: the protocols' metric names are too long for the other way round."""
    from rich.table import Table

    first = runs[0]
    table = Table(title=f"{first['trace']}, {first['protocol']} protocol, {first['jobs'].height:,} jobs")
    table.add_column("metric")
    for run in runs:
        label = run["policy"] if run["backfill"] == "none" else f"{run['policy']}+{run['backfill']}"
        table.add_column(label, justify="right")
    for name in first["metrics"]:
        table.add_row(name, *(f"{run['metrics'][name]:,.4f}".rstrip("0").rstrip(".") for run in runs))
    return table


def _as_curve_table(runs: Sequence[ProtocolRun]) -> Table:
    """One row a policy: allocated and fragmented GPUs by the GPU demand that has arrived."""
    from rich import box
    from rich.table import Table

    from shunter.sim.compat.results import FGD_POINTS

    first = runs[0]
    title = f"{first['trace']}, {first['protocol']} protocol, seed {first['seed']}"
    caption = "Allocated/fragmented GPUs when so much has been asked for, all in % of the cluster's GPUs"
    table = Table(title=f"{title}\n{first['cluster']}", caption=caption, box=box.SIMPLE_HEAD)
    table.add_column("policy")
    for percent in FGD_POINTS:
        table.add_column(f"at {percent} %", justify="right")
    table.add_column("dropped", justify="right")
    for run in runs:
        metrics = run["metrics"]
        cells = [
            f"{metrics[f'allocated_pct_at_{percent}']:.2f}/{metrics[f'fragmented_pct_at_{percent}']:.2f}"
            if f"allocated_pct_at_{percent}" in metrics
            else "–"
            for percent in FGD_POINTS
        ]
        table.add_row(run["policy"], *cells, f"{metrics['pods_dropped']:,.0f}")
    return table
