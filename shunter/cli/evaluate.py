"""``shunter evaluate``: learned policies and heuristics on the same windows, with intervals; forecasters of load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from shunter.agents.contenders import Contender
    from shunter.agents.evaluation import Case, Evaluation, Work
    from shunter.agents.protocols import Protocol

EXAMPLE = """
Examples:

`shunter evaluate models/mine SDSC-SP2-1998-4.2-cln.swf.gz --out judged`

`shunter evaluate SDSC-SP2-1998-4.2-cln.swf.gz --protocol rlscheduler --policy sjf --policy f1`

`shunter evaluate forecaster/bundle philly_node_sequence.csv.gz`

`shunter evaluate learned-load philly_node_sequence.csv.gz`
"""


def evaluate_command(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[BUNDLE]… TRACE…",
            help="Bundles of learned policies (folders; learned and tuned-linear: those that ship) and traces (files "
            "of any known format, demo:hpc, demo:gpu), each trace with :FIRST:COUNT behind it to take only these jobs.",
            show_default=False,
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="windows (many, from warm queues), full (the test period in one replay) or rlscheduler (the ten "
            "published windows, by that simulator's rules).",
        ),
    ] = "windows",
    backfill: Annotated[
        list[str] | None,
        typer.Option(
            "--backfill",
            "-b",
            help="As for simulate; several are judged apart. Default: easy; rlscheduler: easy, none.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-P",
            help="Heuristic to set against, several times; NAME+preempt stops running jobs. Default: all.",
        ),
    ] = None,
    window_jobs: Annotated[
        int | None, typer.Option("--window-jobs", help="Jobs of a window. Default: 1024, fewer in short periods.")
    ] = None,
    warm_up: Annotated[
        int | None, typer.Option("--warm-up", help="Jobs replayed before what is counted. Default: 1000, or a quarter.")
    ] = None,
    cool_down: Annotated[
        int | None, typer.Option("--cool-down", help="Jobs replayed after it. Default: 1000, or an eighth.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="All jobs of each trace, not only its test period (the last 25 %).")
    ] = False,
    shake: Annotated[
        int,
        typer.Option(
            "--shake",
            metavar="N",
            help="Replay every window on N copies of its jobs, each session submitted a little earlier or later, and "
            "take means: what is left is less luck. 10 is a good number.",
        ),
    ] = 0,
    shake_by: Annotated[
        float, typer.Option("--shake-by", metavar="SECONDS", help="Largest shift of --shake.")
    ] = 3600.0,
    seeds: Annotated[
        bool, typer.Option("--seeds", help="The bundles are seeds of one training: also print worst, median and best.")
    ] = False,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Judge a bundle even on jobs that it was trained or chosen on.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="As for simulate. Default: the cluster of each trace.")
    ] = None,
    default_request: Annotated[
        float | None,
        typer.Option("--default-request", help="Requested time (s) of jobs without one. Default: their run time."),
    ] = None,
    trace_format: Annotated[
        str | None, typer.Option("--format", help="Format of the traces; see `shunter traces list`.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out bad rows and report them.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resampling.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for windows.parquet, summary.json, report.html and figures."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take up an evaluation that was interrupted with the same --out.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Judge learned policies against every heuristic, on jobs that they have not seen.

    A forecaster of load (learned-load ships) is judged beside baselines on the last 30 % of a series: --out, --seed
    and --skip-bad apply.

    A predictor of run times (learned-durations ships) is judged beside requests and simple rules on the last 25 %
    of each trace: --whole, --allow-overlap, --format, --skip-bad, --out and --seed apply.
    """
    from dataclasses import replace

    from shunter.cli.train_forecaster import evaluate_forecaster, is_forecaster

    if any(is_forecaster(name) for name in what):
        evaluate_forecaster(what, skip_bad=skip_bad, seed=seed, out=out, quiet=quiet, as_json=as_json)
        return

    from shunter.cli.train_durations import evaluate_durations, is_predictor

    if any(is_predictor(name) for name in what):
        evaluate_durations(
            what,
            whole=whole,
            allow_overlap=allow_overlap,
            trace_format=trace_format,
            skip_bad=skip_bad,
            seed=seed,
            out=out,
            quiet=quiet,
            as_json=as_json,
        )
        return

    from shunter.agents.protocols import Protocol

    rules = Protocol(protocol, window_jobs, warm_up, cool_down, whole, shake, shake_by)
    if resume and out is None:
        raise UsageError("--resume needs the --out of the interrupted evaluation")
    bundles, traces = told_apart(what)
    if not traces:
        raise UsageError("no trace to judge on: give a trace file, demo:hpc or demo:gpu behind the bundles")
    if seeds and len(bundles) < 2:
        raise UsageError(f"--seeds needs at least two bundles, got {len(bundles)}")
    backfills = tuple(dict.fromkeys(backfill or (["easy", "none"] if protocol == "rlscheduler" else ["easy"])))
    work, overlaps = make_work(
        rules,
        bundles,
        traces,
        policies=policy,
        backfills=backfills,
        cluster=cluster,
        trace_format=trace_format,
        skip_bad=skip_bad,
        allow_overlap=allow_overlap,
        quiet=quiet,
    )
    work = replace(work, default_request_s=check_request(default_request, rules))
    if out is not None:
        from shunter.agents.evaluation_files import refuse_strangers

        refuse_strangers(out)
    evaluation = run(work, out, resume=resume, workers=workers, quiet=quiet)
    report(evaluation, overlaps, out, seed=seed, seeds=seeds, quiet=quiet, as_json=as_json)


evaluate_command.__doc__ = f"{evaluate_command.__doc__}\n{EXAMPLE}"


def told_apart(what: Sequence[str]) -> tuple[list[str], list[str]]:
    """Bundles (folders) and traces.

    Raises:
        UsageError: Something is named twice.
    """
    for name in what:
        if what.count(name) > 1:
            raise UsageError(f"{name!r} is given twice")
    from shunter.agents.bundle import SHIPPED

    bundles = [name for name in what if name in SHIPPED or name.startswith("model:") or Path(name).is_dir()]
    return bundles, [name for name in what if name not in bundles]


def make_work(
    rules: Protocol,
    bundles: Sequence[str],
    traces: Sequence[str],
    *,
    policies: Sequence[str] | None,
    backfills: tuple[str, ...],
    cluster: str | None,
    trace_format: str | None,
    skip_bad: bool,
    allow_overlap: bool,
    quiet: bool,
) -> tuple[Work, list[str]]:
    """Read everything and refuse what cannot be judged, before anything long begins; say what overlaps, if allowed.

    Raises:
        ShunterError: An unknown name, a bundle or trace that cannot be read, or a bundle that has seen the jobs.
    """
    from shunter.agents.contenders import heuristics
    from shunter.agents.evaluation import Work, refuse_seen
    from shunter.cli.console import note

    check_backfills(backfills, rules)
    controls = heuristics(rules, backfills, policies)
    learned = load_learned(bundles, rules, {control.label for control in controls})
    cases = [
        open_case(name, rules, cluster=cluster, trace_format=trace_format, skip_bad=skip_bad, quiet=quiet)
        for name in traces
    ]
    copies = bool(rules.shakes)
    seen = refuse_seen(cases, learned, copies=copies)
    refused = refuse_seen(cases, [each for each in learned if not each.may_have_seen(rules)], copies=copies)
    if refused and not allow_overlap:
        raise UsageError("; ".join(refused) + "; judge it on other jobs, or say --allow-overlap")
    if not quiet:
        for sentence in seen:
            note(f"{sentence}: what follows says nothing about jobs that are new to it")
    return Work(rules, tuple(cases), (*learned, *controls), backfills), seen


def check_backfills(backfills: Sequence[str], rules: Protocol) -> None:
    """Raise UsageError for an unknown backfilling."""
    from shunter.scheduler.errors import nearest
    from shunter.scheduler.state import BACKFILLS

    known = ["none", "easy"] if rules.name == "rlscheduler" else list(BACKFILLS)
    for name in backfills:
        if name not in known:
            raise UsageError(f"unknown --backfill {name!r} for protocol {rules.name}{nearest(name, known)}")


def check_request(request_s: float | None, rules: Protocol) -> float | None:
    """The request of jobs without one.

    Raises:
        UsageError: It is no number above 0, or the protocol has its own rule.
    """
    from shunter.sim.estimates import check_default_request

    check_default_request(request_s)
    if request_s is not None and rules.name == "rlscheduler":
        raise UsageError("protocol rlscheduler takes the run time for a missing request, whatever --default-request")
    return request_s


def load_learned(names: Sequence[str], rules: Protocol, taken: set[str]) -> list[Contender]:
    """Learned policies from their bundles, each called as its folder, by its path where that name is ``taken``.

    Raises:
        UsageError: Two bundles hold the same policy.
    """
    from shunter.agents.bundle import SHIPPED, shipped
    from shunter.agents.contenders import learned

    found: list[Contender] = []
    for name in names:
        folder = shipped(name) if name in SHIPPED else Path(name.removeprefix("model:"))
        label = name if name in SHIPPED else folder.resolve().name
        contender = learned(folder, str(folder) if label in taken else label, rules)
        same = [other.policy for other in found if other.sha256 == contender.sha256]
        if same:
            raise UsageError(f"{folder}: holds the same policy as {same[0]}; give one of them")
        taken = taken | {contender.label}
        found.append(contender)
    return found


def open_case(
    text: str, rules: Protocol, *, cluster: str | None, trace_format: str | None, skip_bad: bool, quiet: bool
) -> Case:
    """Read a trace, and what is to be judged on of it."""
    from dataclasses import replace

    from shunter.agents.evaluation import make_case
    from shunter.agents.protocols import stretches
    from shunter.cli.runs import open_trace
    from shunter.traces.periods import TEST, parse_trace, part

    name, rows = parse_trace(text)
    trace, spec = open_trace(name, trace_format=trace_format, skip_bad=skip_bad, cluster=cluster, quiet=quiet)
    if rows is None:
        return make_case(trace, rules, cluster=spec, path=None if name.startswith("demo:") else Path(name))
    if rules.name == "rlscheduler":
        raise UsageError(f"{text}: protocol rlscheduler fixes its windows; give the trace without :FIRST:COUNT")
    period = part(trace, TEST, rows[0], sum(rows))
    case = make_case(trace, replace(rules, whole=True), cluster=spec)
    return replace(case, period=period, stretches=tuple(stretches(rules, period)))


def run(work: Work, out: Path | None, *, resume: bool, workers: int, quiet: bool) -> Evaluation:
    """Make the replays; Ctrl-C keeps what is done when there is a folder for it."""
    from shunter.agents.evaluation import Stopped, evaluate
    from shunter.agents.evaluation_files import RESULTS
    from shunter.cli.console import counting_bar, note, stop_on_signals
    from shunter.cli.runs import check_folder, prepare_kernels

    if out is not None:
        check_folder(out)
    prepare_kernels(quiet=quiet)
    with stop_on_signals() as stop, counting_bar("replays ·", quiet) as progress:
        try:
            return evaluate(
                work,
                results=None if out is None else out / RESULTS,
                resume=resume,
                workers=workers,
                progress=progress,
                should_stop=stop,
            )
        except Stopped as stopped:
            how = "" if out is None else "; the same command with --resume takes it up"
            note(f"interrupted after {stopped.done:,} of {stopped.total:,} replays{how}")
            raise typer.Exit(130) from None


def report(
    evaluation: Evaluation,
    overlaps: Sequence[str],
    out: Path | None,
    *,
    seed: int,
    seeds: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check the learned orders, judge, print what was found, and write it."""
    from shunter.agents.degeneracy import check_orders
    from shunter.agents.verdicts import judge
    from shunter.cli.console import note, output, print_json

    document = judge(evaluation, seed=seed, seeds=seeds, degeneracy=check_orders(evaluation), overlaps=overlaps)
    if out is not None:
        from shunter.agents.evaluation_files import write_evaluation

        write_evaluation(evaluation, document, out)
        if not quiet:
            note(f"wrote {out / 'report.html'}")
    if as_json:
        print_json(document)
        return
    from shunter.cli.evaluation_tables import render_evaluation

    console = output()
    for part in render_evaluation(document):
        if isinstance(part, str):
            console.print(part, markup=False)
        else:
            console.print(part)
