"""What trainings of all kinds share on the command line: their packages, their folders, progress and interruption."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shunter.cli.console import note
from shunter.cli.runs import check_folder
from shunter.scheduler.errors import UsageError

TOLD_EVERY = 0.1
"""Share of the budget after which a note is printed where there is no terminal for a progress bar."""

Report = Callable[[int, Any], None]
"""Called with a seed and where it stands, of which ``share`` is how much of its training is done."""


def need_packages(names: Sequence[str]) -> None:
    """Raise UsageError when a package that training needs is not installed."""
    from importlib.util import find_spec

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(f"training needs {', '.join(missing)}: pip install 'shunter[train]'")


def check_out(out: Path, *, resume: bool, tune: bool = False) -> None:
    """Make sure before anything long that the folder can be written, and holds what --resume is to take up.

    Raises:
        UsageError: There is nothing to take up, or something that is not to be taken up.
        OutputError: Nothing can be written there.
    """
    from shunter.agents.training import RUN_FILE
    from shunter.agents.tuning import STUDY

    begun = (out / RUN_FILE).exists() or (tune and (out / STUDY).exists())
    if resume and not begun:
        raise UsageError(f"{out} holds no training to resume")
    if not resume and begun:
        raise UsageError(f"{out} holds a training; take it up with --resume, or give another --out")
    check_folder(out)


@contextmanager
def progress(seeds: Sequence[int], quiet: bool, state: Callable[[Any], str]) -> Iterator[Report | None]:
    """A progress bar on standard error; where it is no terminal, a note now and then."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield notes(seeds, state)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {seed: bar.add_task(f"seed {seed}", total=1.0, state="begins") for seed in seeds}

        def report(seed: int, point: Any) -> None:
            bar.update(tasks[seed], completed=point.share, state=state(point))

        yield report


def notes(seeds: Sequence[int], state: Callable[[Any], str]) -> Report:
    """A report that prints a line whenever a seed has used up another tenth of its budget."""
    told = dict.fromkeys(seeds, -1.0)

    def report(seed: int, point: Any) -> None:
        if point.share >= told[seed] + TOLD_EVERY or point.share >= 1.0 > told[seed]:
            told[seed] = point.share
            note(f"seed {seed}, {point.share:.0%}: {state(point)}")

    return report


def interrupted(done: str) -> None:
    """Say how to go on."""
    note(f"interrupted after {done}; saved: the same command with --resume takes it up")
