"""``shunter cluster``: look at cluster specifications and list the ready ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.console import note, output, print_json

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from shunter.traces.cluster_spec import ClusterSpec, NodeGroup

app = typer.Typer(
    help="Look at clusters: groups, racks, GPU types, quotas, prices, power.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

MOST_GPUS_DRAWN = 400
"""In the terminal, GPUs are drawn one by one up to so many; beyond, a sign is a node."""
MOST_SIGNS = 1600
"""Beyond so many nodes, a sign stands for several."""
COLOURS = ("blue", "dark_orange", "green", "magenta", "yellow", "cyan", "white")
"""Of GPU types, as near to the figures' colours as a terminal gets."""


@app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """The clusters that come with the package; any of them can be given to `--cluster` by its name.

    Example: `shunter cluster list`
    """
    from shunter.traces.clusters import load_cluster
    from shunter.traces.specs import READY

    specs = {name: load_cluster(name) for name in READY}
    if as_json:
        print_json(
            [
                {"name": name, "description": READY[name], "nodes": spec.num_nodes}
                | {kind: spec.total(kind) for kind in ("gpus", "cpus", "memory_gib")}
                for name, spec in specs.items()
            ]
        )
        return
    table = _table("Ready clusters")
    for heading, justify in (("Name", "left"), ("Nodes", "right"), ("GPUs", "right"), ("CPUs", "right"), ("", "left")):
        table.add_column(heading, justify=justify, no_wrap=bool(heading), style="cyan" if heading == "Name" else "")  # type: ignore[arg-type]
    for name, spec in specs.items():
        amounts = (_number(spec.total(kind)) for kind in ("gpus", "cpus"))
        table.add_row(name, _number(spec.num_nodes), *amounts, READY[name])
    output().print(table)
    note("`shunter cluster show NAME` for details; `shunter simulate TRACE --cluster NAME` to use one")


@app.command("show")
def show_command(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="Ready name, YAML file, node list, or 128, 64gpus, 1000x8gpus.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also draw the racks into this PNG, SVG or PDF.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Groups, totals, GPU types, quotas and a picture of the racks of a cluster.

    Example: `shunter cluster show philly --out philly.png`
    """
    from shunter.traces.cluster_info import describe_cluster
    from shunter.traces.clusters import load_cluster

    cluster = load_cluster(spec)
    facts = describe_cluster(cluster)
    if out is not None:
        from shunter.traces.cluster_picture import plot_cluster

        plot_cluster(cluster, out)
        note(f"wrote {out}")
    if as_json:
        print_json(facts)
        return
    _print(cluster, facts)


def _print(cluster: ClusterSpec, facts: Mapping[str, Any]) -> None:
    from rich.markup import escape

    console = output()
    console.print(f"[bold]{escape(cluster.name)}[/bold]  {escape(_headline(facts))}")
    console.print(_group_table(facts))
    tables = (
        _gpu_table(facts),
        _mig_table(facts),
        _speed_table(cluster),
        _quota_table(cluster, facts),
        _tier_table(cluster),
    )
    for table in tables:
        if table is not None:
            console.print(table)
    for line in _rules(cluster):
        console.print(escape(line), style="dim")
    console.print()
    console.print(rack_picture(cluster, console.width))


def _headline(facts: Mapping[str, Any]) -> str:
    """Totals in a line."""
    parts = [_counted(facts["nodes"], "node")]
    units = (("gpus", "GPUs"), ("cpus", "CPUs"), ("memory_gib", "GiB"))
    parts += [f"{_number(facts[kind])} {unit}" for kind, unit in units if facts.get(kind)]
    known = [kind for kind in ("racks", "zones", "regions") if facts[kind] > 1]
    if not any("rack_size" in group for group in facts["groups"]):
        known = [kind for kind in known if kind != "racks"]  # each group is one only because nothing is known
    parts += [_counted(facts[kind], kind[:-1]) for kind in known]
    return ", ".join(parts)


def _group_table(facts: Mapping[str, Any]) -> Table:
    """One row a group; columns that no group fills are left out."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str], str | None]] = [
        ("Nodes", lambda g: _number(g["count"]), "nodes"),
        ("CPUs", lambda g: _number(g.get("cpus")), "cpus"),
        ("GiB", lambda g: _number(g.get("memory_gib")), "memory_gib"),
        ("GPUs", lambda g: _number(g.get("gpus")), "gpus"),
        ("Type", lambda g: g.get("gpu_type", ""), None),
        ("MIG", lambda g: g.get("geometry", ""), None),
        ("Racks", lambda g: _number(g["racks"]) if g.get("rack_size") else "", "racks"),
        (f"{facts['currency']}/h", lambda g: _number(g.get("price_per_h")), "price_per_h"),
        ("Power (W)", _power, "power"),
        ("MTBF (h)", _mtbf, None),
        ("Place", _place, None),
        ("Terms", _terms, None),
    ]
    table = _table("Node groups (amounts of one node)")
    table.add_column("Group", style="cyan", overflow="fold")
    shown = [(h, cell, total) for h, cell, total in columns if any(cell(group) for group in facts["groups"])]
    for heading, _, total in shown:
        table.add_column(
            heading.replace(" ", "\n"),
            justify="right" if total or "MTBF" in heading else "left",
            no_wrap=total is not None,
        )
    totals = dict(facts) | {"power": _power(facts)}
    for group in facts["groups"]:
        table.add_row(_escape(group["name"]), *(_escape(cell(group)) for _, cell, _ in shown))
    if len(facts["groups"]) > 1:
        table.add_section()
        texts = (totals.get(total) if total else "" for _, _, total in shown)
        table.add_row("total", *(text if isinstance(text, str) else _number(text) for text in texts), style="bold")
    return table


def _power(part: Mapping[str, Any]) -> str:
    """Idle to peak, of a node or of all."""
    known = [part[name] for name in ("idle_w", "peak_w") if part.get(name) is not None]
    if known and known[-1] >= 1e5:
        return "–".join(f"{value / 1000:,.0f}" for value in known) + " kW"
    return "–".join(map(_number, known))


def _mtbf(group: Mapping[str, Any]) -> str:
    """Mean time between failures of a node, and of a GPU where that is given."""
    texts = [_number(group["mtbf_h"])] if "mtbf_h" in group else []
    texts += [f"GPU {_number(group['gpu_mtbf_h'])}"] if "gpu_mtbf_h" in group else []
    return ", ".join(texts)


def _place(group: Mapping[str, Any]) -> str:
    usual = (group["region"], group["zone"]) == ("region-0", "zone-0")
    return "" if usual else f"{group['region']} / {group['zone']}"


def _terms(group: Mapping[str, Any]) -> str:
    """Whose jobs may run there, and whether the nodes may be taken back."""
    terms = []
    if "owner" in group:
        terms = ["own jobs" if group["owner"] == group["name"] else f"{group['owner']} only"]
    return ", ".join([*terms, *(["spot"] if group["spot"] else [])])


def _gpu_table(facts: Mapping[str, Any]) -> Table | None:
    """Types with what is known of them; None where nothing is."""
    kinds: Mapping[str, Mapping[str, Any]] = facts["gpu_types"]
    if not any(len(kind) > 1 for kind in kinds.values()):
        return None
    table = _table("GPU types")
    table.add_column("Type", style="cyan")
    for heading in ("GPUs", "Share", "GiB each", "Power (W)", "Speed"):
        table.add_column(heading, justify="right")
    for name, kind in kinds.items():
        share = f"{kind['gpus'] / facts['gpus']:.1%}" if facts.get("gpus") else ""
        table.add_row(
            _escape(name),
            _number(kind["gpus"]),
            share,
            _number(kind.get("memory_gib")),
            _power(kind),
            _speed(kind.get("speed", {})),
        )
    return table


def _mig_table(facts: Mapping[str, Any]) -> Table | None:
    """Profiles of the MIG instances; None where no GPU is cut."""
    cut = [group for group in facts["groups"] if "geometry" in group]
    if not cut:
        return None
    table = _table("MIG instances")
    table.add_column("Geometry", style="cyan")
    table.add_column("GPUs", justify="right")
    table.add_column("Profiles×how many of each fit on a GPU", overflow="fold")
    for name in dict.fromkeys(group["geometry"] for group in cut):
        gpus = sum(group["count"] * group.get("gpus", 0.0) for group in cut if group["geometry"] == name)
        profiles = next(group["profiles"] for group in cut if group["geometry"] == name)
        table.add_row(name, _number(gpus), ", ".join(f"{profile}×{most}" for profile, most in profiles.items()))
    return table


def _speed(speed: Mapping[str, float]) -> str:
    """Speed of all other classes, and the range where classes differ."""
    usual = f"{speed.get('default', 1.0):g}"
    classes = [value for name, value in speed.items() if name != "default"]
    return f"{usual} ({min(classes):g} to {max(classes):g})" if classes else usual


def _speed_table(cluster: ClusterSpec) -> Table | None:
    """Speeds by model class; None where types differ by no class."""
    classes = sorted({name for kind in cluster.gpu_types.values() for name in kind.speed} - {"default"})
    if not classes:
        return None
    table = _table("Speed by model class")
    table.add_column("Model class", style="cyan")
    for name in cluster.gpu_types:
        table.add_column(_escape(name), justify="right")
    for model_class in (*classes, "default"):
        values = (kind.speed_of(model_class) for kind in cluster.gpu_types.values())
        table.add_row(_escape(model_class), *(f"{value:.3g}" for value in values))
    return table


def _quota_table(cluster: ClusterSpec, facts: Mapping[str, Any]) -> Table | None:
    """Guarantee, limit and share of each group of jobs; None without quotas."""
    if not cluster.quotas:
        return None
    table = _table("Quotas (GPUs), " + ("idle ones may be borrowed" if cluster.borrowing else "no borrowing"))
    table.add_column("Jobs of", style="cyan")
    for heading in ("Guaranteed", "Share", "Limit", "Weight"):
        table.add_column(heading, justify="right")
    for name, quota in facts["quotas"].items():
        limit, weight = _number(quota["limit_gpus"]), _number(quota["weight"])
        table.add_row(_escape(name), _number(quota["guaranteed_gpus"]), f"{quota['share']:.1%}", limit, weight)
    table.add_section()
    total = sum(quota["guaranteed_gpus"] for quota in facts["quotas"].values())
    share = sum(quota["share"] for quota in facts["quotas"].values())
    table.add_row("total", _number(total), f"{share:.1%}", "", "", style="bold")
    return table


def _tier_table(cluster: ClusterSpec) -> Table | None:
    """Speed of a gang by how far apart its nodes lie; None where that costs nothing."""
    from shunter.traces.cluster_spec import TIERS

    if not cluster.tier_speed:
        return None
    table = _table("Speed of a gang within")
    table.add_column("Model class", style="cyan")
    for tier in TIERS:
        table.add_column(tier, justify="right")
    for name in cluster.tier_speed:
        table.add_row(_escape(name), *(f"{speed:.3g}" for speed in cluster.tier_speeds(name)))
    return table


def _rules(cluster: ClusterSpec) -> list[str]:
    """What else holds for the whole cluster."""
    lines = []
    if cluster.kill_at_limit:
        lines.append("Jobs are stopped at their requested time.")
    if cluster.rack_mtbf_h is not None:
        repair = "" if cluster.rack_mttr_h is None else f", repaired in {cluster.rack_mttr_h:g} h"
        lines.append(f"A whole rack fails every {cluster.rack_mtbf_h:,g} h on average{repair}.")
    if cluster.power_cap_w is not None:
        lines.append(f"Power is capped at {cluster.power_cap_w:,g} W.")
    lines += [
        f"Electricity in {region}: {value:g} g CO2 per kWh." for region, value in cluster.carbon_g_per_kwh.items()
    ]
    return lines


def rack_picture(cluster: ClusterSpec, width: int) -> Text:
    """Racks in text: a sign is a GPU (nodes in brackets), or a node, or several nodes, whatever fits the terminal."""
    from rich.text import Text

    from shunter.traces.cluster_info import gpu_type_facts

    gpus = cluster.total("gpus") or 0.0
    one_by_one = gpus <= MOST_GPUS_DRAWN and cluster.num_nodes <= MOST_GPUS_DRAWN / 4
    nodes_a_sign = max(1, -(-cluster.num_nodes // MOST_SIGNS))
    kinds = [name for name, facts in gpu_type_facts(cluster).items() if facts["gpus"]]
    styles = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(kinds)}
    picture = Text()
    label_width = min(24, max(len(group.name) for group in cluster.groups)) + 2
    for group in cluster.groups:
        style = styles.get(group.gpu_type or "GPU", "") if group.gpus else "bright_black"
        sign = ("■" * int(group.gpus) if group.gpus else "·") if one_by_one else ("■" if group.gpus else "□")
        picture.append(_shortened(group.name, label_width - 2).ljust(label_width), style="bold")
        _append_racks(picture, _rack_signs(group, sign, one_by_one, nodes_a_sign), style, label_width, width)
    legend = "GPU" if one_by_one else "node" if nodes_a_sign == 1 else f"{nodes_a_sign} nodes"
    picture.append(f"■ is one {legend}" if nodes_a_sign == 1 else f"■ is {legend}", style="dim")
    picture.append(", [ ] a node" if one_by_one else "", style="dim")
    if any(group.num_racks > 1 for group in cluster.groups):
        picture.append(", | between racks", style="dim")
    for name in kinds:
        picture.append("  ■ ", style=styles[name])
        picture.append(name)
    return picture


def _rack_signs(group: NodeGroup, sign: str, one_by_one: bool, nodes_a_sign: int) -> list[list[str]]:
    """The signs of each rack of a group."""
    rack_size = group.rack_size or group.count
    node = f"[{sign}]" if one_by_one else sign
    sizes = [min(rack_size, group.count - start) for start in range(0, group.count, rack_size)]
    return [[node] * max(1, round(size / nodes_a_sign)) for size in sizes]


def _append_racks(picture: Text, racks: list[list[str]], style: str, indent: int, width: int) -> None:
    """Write the signs after a label of ``indent`` columns, going on below it at the edge of the terminal."""
    column = indent
    for number, rack in enumerate(racks):
        for node in ["|", *rack] if number else rack:
            if column > indent and column + len(node) > width - 1:
                picture.append("\n" + " " * indent)
                column = indent
            picture.append(node, style="bright_black" if node == "|" else style)
            column += len(node)
    picture.append("\n")


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s'[: count != 1]}"


def _number(value: float | None) -> str:
    """A number for a cell: two digits behind the point where it is small and not whole; empty when not known."""
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.2f}"
