"""``shunter models``: the registry of learned policies, and which of them is in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shunter.cli.console import note, output, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from shunter.agents.registry import Registry

app = typer.Typer(
    help="Keep learned policies: add, list, show, promote, roll back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

RegistryOption = Annotated[
    Path | None,
    typer.Option("--registry", help="Folder of the models. Default: $SHUNTER_MODELS or ~/.local/share/shunter/models."),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name in the registry.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

NAMED_LAST = ("features", "low", "high", "versions")
"""Parts of a card that are long, and that a reader seldom asks for."""


def open_registry(folder: Path | None) -> Registry:
    """The registry of a folder, by default the user's."""
    from shunter.agents.bundle import load_bundle
    from shunter.agents.registry import Registry, default_folder

    return Registry(default_folder() if folder is None else folder, load_bundle)


@app.command("list")
def list_command(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """The models of the registry, and which of them is in use.

    Example: `shunter models list`
    """
    found = open_registry(registry)
    models = found.models()
    if as_json:
        from shunter.agents.registry import as_document

        print_json(as_document(models, found.history()))
        return
    if not models:
        note(f"{found.folder}: no models; `shunter models add BUNDLE` adds one")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Models", title_style="bold", box=box.SIMPLE_HEAD)
    for heading in ("Name", "", "Kind", "Origin", "Trained on", "Added", "SHA-256"):
        table.add_column(heading)
    for model in models:
        card = read_card(model.path)
        traces = ", ".join(dict.fromkeys(str(t.get("trace", t.get("name", ""))) for t in traces_of(card)))
        mark = Text("in use", style="bold green") if model.promoted else Text("")
        cells = (str(card.get("kind", "")), str(card.get("origin", "")), traces, model.added, model.sha256[:12])
        table.add_row(Text(model.name), mark, *(Text(cell) for cell in cells))
    output().print(table)


@app.command("show")
def show_command(name: NameArgument, registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """The card of a model: what it was trained on, with which seeds, and how it was judged; and its history.

    Example: `shunter models show sdsc-3`
    """
    found = open_registry(registry)
    model = found.find(name)
    card = read_card(model.path)
    events = [event for event in found.history() if name in (event.name, event.previous)]
    if as_json:
        from shunter.agents.registry import as_document

        print_json(as_document([model], events) | {"card": card})
        return
    console = output()
    console.print(f"{model.name}{', in use' if model.promoted else ''}: {model.path}", style="bold", markup=False)
    for part in card_parts(card):
        console.print(part, markup=False)
    for event in events:
        replaced = f" (before: {event.previous})" if event.previous else ""
        console.print(f"{event.time}  {event.kind} {event.name}{replaced}", markup=False)


@app.command("add")
def add_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="What to call it. Default: the folder's name.")] = None,
    registry: RegistryOption = None,
) -> None:
    """Copy a bundle into the registry.

    Example: `shunter models add trained/sdsc-3`
    """
    model = open_registry(registry).add(bundle, name)
    note(f"added {model.name} as {model.path}")


@app.command("promote")
def promote_command(name: NameArgument, registry: RegistryOption = None) -> None:
    """Take a model into use in place of the present one.

    Example: `shunter models promote sdsc-3`
    """
    found = open_registry(registry)
    before = found.promoted()
    model = found.promote(name)
    note(f"{model.name} is in use" + (f" in place of {before.name}" if before is not None else ""))


@app.command("rollback")
def rollback_command(registry: RegistryOption = None) -> None:
    """Take back the last promotion: the model promoted before it is in use again.

    Example: `shunter models rollback`
    """
    found = open_registry(registry)
    before = found.promoted()
    model = found.rollback()
    note(f"{model.name} is in use again" + (f" in place of {before.name}" if before is not None else ""))


def read_card(bundle: Path) -> dict[str, Any]:
    """A bundle's card as plain values.

    Raises:
        UsageError: It cannot be read.
    """
    from shunter.sim.run_folder import read_json

    return read_json(bundle / "card.json")


def traces_of(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a card says of the traces."""
    found = card.get("periods") or card.get("traces") or []
    return [entry for entry in found if isinstance(entry, Mapping)]


def card_parts(card: Mapping[str, Any]) -> Iterator[Table | str]:
    """A card for people: plain values as lines, lists of records as tables, long parts last."""
    ordered = sorted(card, key=lambda name: (name in NAMED_LAST, list(card).index(name)))
    for name in ordered:
        value = card[name]
        title = name.replace("_", " ")
        if isinstance(value, Mapping):
            yield f"{title}:"
            yield from (f"  {key}: {plain(item)}" for key, item in value.items())
        elif isinstance(value, Sequence) and value and all(isinstance(entry, Mapping) for entry in value):
            yield records(title, value)
        elif value not in ("", None, [], ()):
            yield f"{title}: {plain(value)}"


def records(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Records with the same keys as a table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    numeric = {key for key in columns if all(isinstance(row.get(key, 0), int | float) for row in rows)}
    for key in columns:
        table.add_column(key.replace("_", " "), justify="right" if key in numeric else "left")
    for row in rows:
        table.add_row(*(Text(plain(row.get(key, ""))) for key in columns))
    return table


def plain(value: Any) -> str:
    """A value of a card on one line; long hashes shortened, numbers with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "–"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
