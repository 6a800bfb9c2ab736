"""Standard output and error of the command line: results on the one, progress and notes on the other."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def note(text: str) -> None:
    """A line for the person at the terminal, on standard error."""
    sys.stderr.write(f"shunter: {text}\n")


def print_json(document: Any) -> None:
    """The one JSON document of ``--json``: strict JSON, so a number that is not finite becomes null."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def output() -> Console:
    """Rich console on standard output."""
    from rich.console import Console

    return Console(highlight=False)


class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; a second Ctrl-C ends the process in the usual way."""

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.is_set


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """While inside, the first Ctrl-C or SIGTERM asks the work to stop at a point from which it can be resumed."""
    flag = StopFlag()

    def ask(number: int, _frame: object) -> None:
        if flag.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        flag.is_set = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def counting_bar(unit: str, quiet: bool) -> Iterator[Callable[[float, float, str], None] | None]:
    """A progress line on standard error that is told (done, all, what); nothing when it is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn(f"{unit} {{task.description}}")
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), text, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(task, completed=round(done), total=round(total), description=what)
