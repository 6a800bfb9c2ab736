"""``shunter simulate``: replay a trace under one policy or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.failing import Failing
from shunter.cli.hold import Hold
from shunter.cli.node_load import NodeLoad
from shunter.cli.runs import Request, Rules, open_trace, run_all, save_all
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shunter.sim.result import Result

EXAMPLE = """
Example:

`shunter simulate SDSC-SP2-1998-4.2-cln.swf.gz --policy fcfs --policy sjf --policy wfp3 --backfill easy --out runs`
"""


def simulate_command(
    trace: Annotated[str, typer.Argument(help="Trace file (any known format), or demo:hpc, demo:gpu.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-P",
            help="Ordering, NAME or NAME:key=value,…; learned is the model that comes with the package, model:FOLDER "
            "any other. Several give a table. Default: fcfs.",
        ),
    ] = None,
    backfill: Annotated[
        list[str] | None,
        typer.Option(
            "--backfill",
            "-b",
            help="none, easy, easy-sjbf, easy-noextra or conservative; several combine with each policy.",
        ),
    ] = None,
    placement: Annotated[
        str,
        typer.Option(
            "--placement",
            help="first-fit, best-fit, worst-fit, packed, topology, least-loaded, dot-product, packing, clustering, "
            "fgd or random.",
        ),
    ] = "first-fit",
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            help="A ready cluster such as openb (see `shunter cluster list`), a YAML file, or 128 (CPUs), 64gpus, "
            "100x8 (nodes × GPUs). Default: the trace's.",
        ),
    ] = None,
    window: Annotated[str | None, typer.Option("--window", help="START:COUNT, jobs of the trace to replay.")] = None,
    ties: Annotated[
        str, typer.Option("--ties", help="instant (one pass an instant) or per-event (one pass an event).")
    ] = "instant",
    backfill_depth: Annotated[
        int, typer.Option("--backfill-depth", help="Waiting jobs behind the head a pass looks at; 0 means all.")
    ] = 0,
    interval: Annotated[
        float, typer.Option("--interval", help="Shortest time between two passes (s); 0 means at every instant.")
    ] = 0.0,
    estimates: Annotated[
        str,
        typer.Option(
            "--estimates",
            help="Run times that reservations count with: request, tsafrir (the mean of the user's last two jobs, "
            "corrected when passed), learned (the predictor that comes with the package), model:FOLDER (any other), "
            "either with :level=0.75 for another quantile, or actual.",
        ),
    ] = "request",
    clairvoyant: Annotated[bool, typer.Option("--clairvoyant", help="The same as --estimates actual.")] = False,
    default_request: Annotated[
        float | None,
        typer.Option(
            "--default-request", help="Requested time (s) of jobs without one. Default: their actual run time."
        ),
    ] = None,
    kill_at_limit: Annotated[bool, typer.Option("--kill-at-limit", help="Stop jobs at their requested time.")] = False,
    preempt: Annotated[
        list[str] | None,
        typer.Option(
            "--preempt",
            help="Stop running jobs for waiting ones: policy (the ordering ranks them behind), priority (a lower "
            "class) or quota (what a group borrowed); may be given several times.",
        ),
    ] = None,
    strict_classes: Annotated[
        bool,
        typer.Option(
            "--strict-classes", help="Jobs of a higher priority come first in the queue, whatever the policy says."
        ),
    ] = False,
    min_run: Annotated[
        float, typer.Option("--min-run", help="Seconds for which a job that has started is not stopped.")
    ] = 0.0,
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds that a job gets to save its work before it is stopped.")
    ] = 0.0,
    checkpoint_interval: Annotated[
        float | None,
        typer.Option("--checkpoint-interval", help="Seconds of work between two savings, for jobs that do not say."),
    ] = None,
    restart_overhead: Annotated[
        float,
        typer.Option(
            "--restart-overhead", help="Seconds that a further attempt begins with, for jobs that do not say."
        ),
    ] = 0.0,
    failures: Annotated[
        list[str] | None,
        typer.Option(
            "--failures",
            help="drawn (from the cluster's failure rates, by --seed), recorded (attempts of the trace's jobs), a log "
            "of outages or of attempts, or a plan of maintenance in YAML; several are joined.",
        ),
    ] = None,
    retries: Annotated[int, typer.Option("--retries", help="Failures after which a job is not tried again.")] = 6,
    retry_wait: Annotated[
        float,
        typer.Option("--retry-wait", help="Seconds that a job waits after a failure; doubles with each, up to 360 s."),
    ] = 0.0,
    failover: Annotated[
        str,
        typer.Option(
            "--failover", help="Jobs that lose their nodes requeue, or move: start elsewhere ahead of the queue."
        ),
    ] = "requeue",
    blast_radius: Annotated[
        float,
        typer.Option("--blast-radius", help="Share of the running jobs that may be on their way from draining nodes."),
    ] = 1.0,
    flap_limit: Annotated[
        int,
        typer.Option(
            "--flap-limit", help="Failures of a node within --flap-window after which it is held out; 0: never."
        ),
    ] = 0,
    flap_window: Annotated[
        float, typer.Option("--flap-window", help="Seconds for which a node's failures are remembered.")
    ] = 86400.0,
    probation: Annotated[
        float, typer.Option("--probation", help="Seconds after its repair for which such a node takes no work.")
    ] = 3600.0,
    consolidate: Annotated[
        float,
        typer.Option("--consolidate", help="Seconds that a gang waits to be placed nearer together than it could be."),
    ] = 0.0,
    interference: Annotated[
        bool, typer.Option("--interference", help="Jobs that share a GPU slow each other, as Lucid measured.")
    ] = False,
    node_load: Annotated[
        str | None,
        typer.Option(
            "--node-load",
            help="Load series (0 to 1) of other work on the nodes, from the trace's start: busy nodes slow their jobs.",
        ),
    ] = None,
    load_forecast: Annotated[
        str,
        typer.Option(
            "--load-forecast",
            help="What least-loaded and predicted-load are told of it: none, present (the last step), usual (the "
            "node's mean so far), learned (the forecaster that comes with the package), model:FOLDER or perfect.",
        ),
    ] = "present",
    hold_for: Annotated[
        str | None,
        typer.Option(
            "--hold-for",
            help="Hold capacity for such jobs to come: short:SECONDS (by request) or priority:LEAST.",
        ),
    ] = None,
    hold_forecast: Annotated[
        str,
        typer.Option(
            "--hold-forecast",
            help="How much: what usual (earlier steps), learned (the forecaster that comes with the package), "
            "model:FOLDER or perfect expects them to ask for in a step, or a number of processors.",
        ),
    ] = "usual",
    hold_step: Annotated[float, typer.Option("--hold-step", help="Seconds of such a step.")] = 600.0,
    hold_level: Annotated[float, typer.Option("--hold-level", help="Quantile of what is expected that is held.")] = 0.9,
    carbon: Annotated[
        Path | None,
        typer.Option("--carbon", help="Series of the carbon intensity (timestamp, g/kWh), for all regions."),
    ] = None,
    details: Annotated[
        bool | None,
        typer.Option(
            "--details/--no-details",
            help="Note the nodes of every attempt and why jobs wait. Default: on a cluster of several nodes.",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Another system's semantics: rlscheduler, helios or fgd-openb.")
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--engine", help="simpy, compiled (plain replays, several times as fast) or auto: where it can."),
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the run.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for results and report.html.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take up a replay that was interrupted with the same --out.")
    ] = False,
    load_step: Annotated[
        float, typer.Option("--load-step", help="Seconds between two points of load.parquet in --out.")
    ] = 60.0,
    figures: Annotated[bool, typer.Option("--figures", help="Also write PNG figures into --out.")] = False,
    trace_format: Annotated[
        str | None, typer.Option("--format", help="Format of the trace; see `shunter traces list`.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option("--mapping", help="YAML file that maps the columns of a CSV.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows and report them, instead of refusing the file.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Replay a trace under one or several policies and print their metrics."""
    job = Request(
        policies=policy or ["fcfs"],
        backfills=backfill or ["none"],
        placement=placement,
        window=parse_window(window),
        ties=ties,
        depth=backfill_depth,
        interval_s=interval,
        clairvoyant=clairvoyant,
        estimates=estimates,
        default_request_s=default_request,
        seed=seed,
        rules=Rules(
            preempt=tuple(preempt or ()),
            min_run_s=min_run,
            grace_s=grace,
            checkpoint_s=checkpoint_interval,
            restart_s=restart_overhead,
            failing=Failing(tuple(failures or ()), flap_limit, flap_window, probation),
            max_retries=retries,
            retry_wait_s=retry_wait,
            failover=failover,
            blast_radius=blast_radius,
            locality_s=consolidate,
            strict_classes=strict_classes,
            interference=interference,
            node_load=NodeLoad(node_load, load_forecast),
            hold=Hold(hold_for, hold_forecast, hold_step, hold_level),
            carbon=carbon,
            details=details,
        ),
        out=out,
        resume=resume,
        quiet=quiet,
        engine=engine,
        load_step_s=load_step,
    )
    if resume and out is None:
        raise UsageError("--resume needs the --out of the interrupted replay")
    if protocol is not None:
        from shunter.cli.protocol import run_under_protocol

        run_under_protocol(protocol, Path(trace), job, cluster=cluster, as_json=as_json)
        return
    job.check()
    loaded, spec = open_trace(
        trace, trace_format=trace_format, mapping=mapping, skip_bad=skip_bad, cluster=cluster, quiet=quiet
    )
    if kill_at_limit:
        from dataclasses import replace

        spec = replace(spec, kill_at_limit=True)
    results = run_all(loaded, spec, job)
    if not quiet and results[0].metrics["jobs_rejected"] == results[0].jobs.height:
        from shunter.cli.console import note

        note(f"every job is larger than the cluster {spec.name!r}: nothing was run")
    if out is not None:
        save_all(results, out, figures=figures, quiet=quiet, load_step_s=load_step)
    show(results, as_json=as_json)


simulate_command.__doc__ = f"{simulate_command.__doc__}\n{EXAMPLE}"


def parse_window(text: str | None) -> tuple[int, int] | None:
    """``START:COUNT`` as numbers.

    Raises:
        UsageError: Not of that form.
    """
    if text is None:
        return None
    start, colon, count = text.partition(":")
    if not (colon and start.isdigit() and count.isdigit() and int(count) > 0):
        raise UsageError(f"window {text!r} is not of the form START:COUNT, such as 1000:256")
    return int(start), int(count)


def as_document(results: Sequence[Result]) -> dict[str, Any]:
    """The JSON document of several runs on one trace."""
    return {
        "trace": results[0].trace,
        "cluster": results[0].cluster,
        "seed": results[0].seed,
        "runs": [
            {
                "policy": result.policy,
                "backfill": result.backfill,
                "placement": result.placement,
                "window": list(result.window) if result.window else None,
                "jobs": result.jobs.height,
                "metrics": dict(result.metrics),
                "wall_s": result.wall_s,
                "events": result.num_events,
                "engine": result.manifest["engine"],
                "passes": result.manifest["passes"],
                "passes_cut_short": result.manifest["passes_cut_short"],
                "passes_put_off": result.manifest["passes_put_off"],
                **({"guard": result.manifest["guard"]} if "guard" in result.manifest else {}),
            }
            | {name: result.manifest[name] for name in ("portfolio",) if name in result.manifest}
            for result in results
        ],
    }


def show(results: Sequence[Result], *, as_json: bool) -> None:
    """Print the comparison, as a table or as JSON."""
    from shunter.cli.console import output, print_json

    if as_json:
        print_json(as_document(results))
        return
    from shunter.cli.tables import render_comparison_table

    output().print(render_comparison_table(results))
