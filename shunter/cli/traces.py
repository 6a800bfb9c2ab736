"""``shunter traces``: everything about trace files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.console import note, output, print_json
from shunter.cli.load_series import convert_series, is_load_series, open_series, show_series
from shunter.cli.tables import duration_text, pairs
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.traces.load_series import LoadSeries
    from shunter.traces.tables import Trace

app = typer.Typer(
    help="List, inspect, convert, generate and download workload traces.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="Trace file (any known format), or demo:hpc, demo:gpu.")
]
AnyFileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Trace file (any known format), demo:hpc, demo:gpu, or a load series (also a folder of files).",
    ),
]
FormatOption = Annotated[str | None, typer.Option("--format", help="Reader to use; by default told from the content.")]
MappingOption = Annotated[Path | None, typer.Option("--mapping", help="YAML file that maps the columns of a CSV.")]
StepOption = Annotated[
    float | None, typer.Option("--step", help="Of a load series: seconds between two points; by default as sampled.")
]
FeatureOption = Annotated[
    str | None, typer.Option("--feature", help="Of a load series: what forecasts are about, shown first.")
]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out and count them.")]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", help="YAML file, node list, or 128 (CPUs), 64gpus, 100x8 (nodes × GPUs).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

DEMOS = {"hpc": "batch jobs on 128 CPUs with user estimates", "gpu": "training jobs on 16 nodes × 8 GPUs"}


def _open(text: str, *, trace_format: str | None, mapping: Path | None, skip_bad: bool, cluster: str | None) -> Trace:
    """The trace of a command's argument, with a note on rows that were left out."""
    from dataclasses import replace

    from shunter.traces.clusters import load_cluster

    spec = load_cluster(cluster) if cluster is not None else None
    if text.startswith("demo:"):
        from shunter.traces.demo import demo_trace

        trace = demo_trace(text.removeprefix("demo:"))
        return replace(trace, cluster=spec) if spec is not None else trace
    from shunter.traces.read import read

    trace = read(text, format=trace_format, mapping=mapping, skip_bad=skip_bad, cluster=spec)
    for row in trace.cleaning.bad_rows:
        note(f"left out {text}:{row}")
    return trace


def _open_series(
    text: str,
    trace_format: str | None,
    mapping: Path | None,
    cluster: str | None,
    step_s: float | None,
    feature: str | None,
    skip_bad: bool,
) -> LoadSeries | None:
    """The load series of a command's argument; None for a list of jobs."""
    is_asked_for = step_s is not None or feature is not None
    if not is_asked_for and (trace_format is not None or mapping is not None or not is_load_series(text)):
        return None
    if trace_format is not None or mapping is not None or cluster is not None:
        raise UsageError(f"{text}: a load series; --format, --mapping and --cluster are for lists of jobs")
    return open_series(text, step_s=step_s, feature=feature, skip_bad=skip_bad)


@app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """Formats that can be read, traces that come with the package, generators, and logs that can be fetched.

    Example: `shunter traces list`
    """
    from shunter.traces.catalogue import CATALOGUE, TERMS
    from shunter.traces.generate import MODELS
    from shunter.traces.readers.registry import FORMATS
    from shunter.traces.series_readers import FORMATS as SERIES

    if as_json:
        print_json(
            {
                "formats": [{"name": f.name, "description": f.description} for f in FORMATS],
                "load_series": [{"name": f.name, "description": f.description} for f in SERIES],
                "demos": [{"name": f"demo:{name}", "description": text} for name, text in DEMOS.items()],
                "generators": [{"name": name, "description": text} for name, text in MODELS.items()],
                "logs": [
                    {
                        "name": e.name,
                        "url": e.url,
                        "machine": e.machine,
                        "acknowledge": e.acknowledge,
                        "sha256": e.sha256,
                    }
                    for e in CATALOGUE
                ],
                "terms": TERMS,
            }
        )
        return
    console = output()
    console.print(pairs("Formats that can be read", ((f.name, f.description) for f in FORMATS)))
    console.print(pairs("Load series that can be read", ((f.name, f.description) for f in SERIES)))
    console.print(pairs("Traces in the package", ((f"demo:{name}", text) for name, text in DEMOS.items())))
    console.print(pairs("Generators (shunter traces generate)", MODELS.items()))
    console.print(pairs("Logs to fetch (shunter traces fetch)", ((e.name, e.machine) for e in CATALOGUE)))
    console.print(f"Logs are {TERMS}.", style="dim")


@app.command("info")
def info_command(
    file: AnyFileArgument,
    *,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw the trace into this PNG, PDF or SVG.")] = None,
    trace_format: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipOption = False,
    cluster: ClusterOption = None,
    step: StepOption = None,
    feature: FeatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Counts, span, load, sizes, run times, estimates and defects of a trace; grid and course of a load series.

    Example: `shunter traces info SDSC-SP2-1998-4.2-cln.swf.gz --plot sdsc.png`
    """
    series = _open_series(file, trace_format, mapping, cluster, step, feature, skip_bad)
    if series is not None:
        show_series(series, plot=plot, as_json=as_json)
        return
    from shunter.traces.info import describe

    trace = _open(file, trace_format=trace_format, mapping=mapping, skip_bad=skip_bad, cluster=cluster)
    facts = describe(trace)
    if plot is not None:
        from shunter.traces.picture import plot as draw

        draw(trace, plot)
        note(f"wrote {plot}")
    if as_json:
        print_json(facts)
    else:
        _print_facts(facts)


def _print_facts(facts: Mapping[str, Any]) -> None:
    from rich.markup import escape

    console = output()
    console.print(f"[bold]{escape(facts['name'])}[/bold]  [dim]{escape(facts['format'])}[/dim]")
    console.print(pairs("", _overview(facts)))
    console.print(_quantile_table(facts))
    cleaning = facts["cleaning"]
    counts = [(f"{n:,}", f"dropped: {why}") for why, n in cleaning["dropped"].items()]
    counts += [(f"{n:,}", f"adjusted: {why}") for why, n in cleaning["adjusted"].items()]
    if counts:
        console.print(pairs(f"Cleaning ({cleaning['rows_read']:,} rows read)", counts))
    if facts["defects"]:
        console.print(pairs("Worth knowing", (("!", text) for text in facts["defects"])))


def _overview(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The headline figures as name and text."""
    cluster, estimates, size = facts["cluster"], facts["estimates"], facts["size"]
    machine = ", ".join(f"{cluster[kind]:,.0f} {unit}" for kind, unit in _UNITS if kind in cluster)
    load = ", ".join(f"{value:.3f} ({kind})" for kind, value in facts["offered_load"].items())
    peak = max(range(24), key=lambda hour: facts["daily_cycle"][hour])
    rows = [
        ("jobs", f"{facts['jobs']:,}  (" + ", ".join(f"{n:,} {name}" for name, n in facts["outcomes"].items()) + ")"),
        ("span", f"{duration_text(facts['span_s'])}" + (f" from {facts['start']}" if facts["start"] else "")),
        ("cluster", f"{cluster['name']}: {cluster['nodes']:,} node{'s'[: cluster['nodes'] != 1]}, {machine}"),
        ("offered load", load or "not known"),
        ("users, groups, queues", f"{facts['users']:,}, {facts['groups']:,}, {facts['queues']:,}"),
        ("single, power of two", f"{size['single_share']:.1%}, {size['power_of_two_share']:.1%} of the jobs"),
        (
            "busiest hour",
            f"{peak}:00 to {peak + 1}:00 ({facts['clock']}), {facts['daily_cycle'][peak]:.1%} of the jobs",
        ),
        ("requested time known", f"{estimates['known_share']:.1%}"),
    ]
    arrivals = facts["interarrival_s"]
    if arrivals and "cv" in arrivals:
        rows.append(
            ("burstiness of arrivals", f"{arrivals['burstiness']:.2f} (CV {arrivals['cv']:.2f}; Poisson 0 and 1)")
        )
    if note_text := facts["header"].get("cluster_note"):
        rows.append(("cluster note", note_text))
    return rows


_UNITS = (("cpus", "CPUs"), ("gpus", "GPUs"), ("memory_gib", "GiB"))


def _quantile_table(facts: Mapping[str, Any]) -> Table:
    """Quantiles down, quantities across: that is narrow enough for 80 columns."""
    from rich import box
    from rich.table import Table

    columns: list[tuple[str, Mapping[str, float] | None, Any]] = [
        (f"size ({facts['size']['resource']})", facts["size"], lambda v: f"{v:,.4g}"),
        ("run time", facts["duration_s"], duration_text),
        ("run / requested", facts["estimates"].get("accuracy"), lambda v: f"{v:.3g}"),
        ("arrival gap", facts["interarrival_s"], duration_text),
        ("recorded wait", facts["recorded_wait_s"], duration_text),
    ]
    known = [(title, values, show) for title, values, show in columns if values]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", style="cyan")
    for title, _, _ in known:
        table.add_column(title, justify="right")
    for name in ("mean", "min", "p05", "p25", "p50", "p75", "p95", "p99", "max"):
        table.add_row(name, *(show(values[name]) for _, values, show in known))
    return table


@app.command("convert")
def convert_command(
    file: AnyFileArgument,
    *,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: .parquet, .swf[.gz], .csv[.gz] ...")],
    trace_format: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipOption = False,
    cluster: ClusterOption = None,
    step: StepOption = None,
    feature: FeatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trace in another format, told by the ending of OUT; a load series as .parquet or .csv.

    Example: `shunter traces convert philly_jobs.csv.gz philly.swf.gz`
    """
    series = _open_series(file, trace_format, mapping, cluster, step, feature, skip_bad)
    if series is not None:
        convert_series(series, target, as_json=as_json)
        return
    from shunter.traces.write import write

    trace = _open(file, trace_format=trace_format, mapping=mapping, skip_bad=skip_bad, cluster=cluster)
    write(trace, target)
    _report(trace, target, as_json=as_json)


@app.command("import")
def import_command(
    file: FileArgument,
    *,
    target: Annotated[
        Path | None, typer.Argument(metavar="OUT.parquet", help="File to write; by default NAME.parquet here.")
    ] = None,
    trace_format: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipOption = False,
    cluster: ClusterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a trace of any format, report how it was cleaned, and keep it as Parquet with all that is known of it.

    Example: `shunter traces import sacct.txt last-month.parquet --cluster cluster.yaml`
    """
    from shunter.traces.write import write

    trace = _open(file, trace_format=trace_format, mapping=mapping, skip_bad=skip_bad, cluster=cluster)
    place = target or Path(f"{trace.name}.parquet")
    if place.suffix != ".parquet":
        raise UsageError(f"{place}: import writes Parquet; expected a name ending in .parquet, or use `convert`")
    write(trace, place)
    _report(trace, place, as_json=as_json)


def _report(trace: Trace, target: Path, *, as_json: bool) -> None:
    """What was read, what was left out or changed, and where the rest went."""
    cleaning = trace.cleaning
    if as_json:
        print_json(
            {
                "out": str(target),
                "format": trace.format,
                "jobs": len(trace.jobs),
                "cluster": trace.cluster.name,
                "rows_read": cleaning.rows_read,
                "dropped": dict(cleaning.dropped),
                "adjusted": dict(cleaning.adjusted),
                "bad_rows": [str(row) for row in cleaning.bad_rows],
            }
        )
        return
    rows = [("rows read", f"{cleaning.rows_read:,} ({trace.format})")]
    rows += [("dropped", f"{count:,}  {reason}") for reason, count in cleaning.dropped.items()]
    rows += [("adjusted", f"{count:,}  {rule}") for rule, count in cleaning.adjusted.items()]
    rows += [("jobs", f"{len(trace.jobs):,} on {trace.cluster.name}"), ("written", str(target))]
    output().print(pairs("", rows))


@app.command("generate")
def generate_command(
    model: Annotated[str, typer.Argument(help="Generator; `shunter traces generate MODEL --parameters` explains it.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .parquet, .swf[.gz], .csv[.gz].")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-n", help="Number of jobs.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed; the same one gives the same trace.")] = 0,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="KEY=VALUE", help="Parameter of the model; repeatable."),
    ] = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="List the model's parameters and stop.")] = False,
) -> None:
    """Draw a trace from a model.

    Example: `shunter traces generate lublin99 --jobs 5000 --seed 1 -p load=0.8 --out lublin.swf.gz`
    """
    from shunter.traces.generate import generate
    from shunter.traces.generate import parameters as known_parameters

    if parameters:
        _print_parameters(model, known_parameters(model))
        return
    if out is None:
        raise UsageError("generate: where to? give --out FILE (.parquet, .swf, .csv)")
    given = dict(_key_value(text) for text in parameter or [])
    trace = generate(model, jobs=jobs, seed=seed, params=given)
    from shunter.traces.write import write

    write(trace, out)
    note(f"wrote {len(trace.jobs):,} jobs on {trace.cluster.name} to {out}")


def _print_parameters(model: str, known: Iterable[Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Parameters of {model}", title_style="bold", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("name", "default", "unit", "meaning"):
        table.add_column(heading)
    for entry in known:
        default = "" if entry.default is None else str(entry.default)
        choices = f" ({', '.join(entry.choices)})" if entry.choices else ""
        table.add_row(Text(entry.name, style="cyan"), default, Text(entry.unit), Text(entry.meaning + choices))
    output().print(table)


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"parameter {text!r}: expected KEY=VALUE, such as load=0.8")
    return key.strip(), value.strip()


@app.command("fit")
def fit_command(
    file: FileArgument,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file to write the model to.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the fit.")] = 0,
    trace_format: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipOption = False,
    cluster: ClusterOption = None,
) -> None:
    """Learn a model of a trace, from which `generate fitted` draws new ones.

    Example: `shunter traces fit sdsc.swf.gz --out sdsc.json`, then
    `shunter traces generate fitted -p file=sdsc.json --jobs 20000 --out more.parquet`
    """
    from shunter.traces.compression import write_atomically
    from shunter.traces.generate import fit

    trace = _open(file, trace_format=trace_format, mapping=mapping, skip_bad=skip_bad, cluster=cluster)
    model = fit(trace, seed=seed)
    write_atomically(out, model.to_json().encode())
    note(f"wrote the model of {len(trace.jobs):,} jobs to {out}")


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="Name of a log; see `shunter traces list`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to put the file into.")] = Path(),
    url: Annotated[str | None, typer.Option("--url", help="Address to use instead of the catalogue's.")] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the content's checksum.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Download a public log, resuming an interrupted download, and check its content.

    Prints the file's path.

    Example: `shunter traces fetch SDSC-SP2-1998-4.2-cln --out logs`
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from shunter.traces.fetch import fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task(name, total=None)
        place = fetch(
            name,
            out,
            url=url,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            verify=not no_verify,
        )
    typer.echo(str(place))
