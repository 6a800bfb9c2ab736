"""``--watch``: the same output again and again."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable

CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def again_and_again(show: Callable[[], None], every: str) -> None:
    """Show something until Ctrl-C, which is how one leaves: the exit code is 0.

    In a terminal each output takes the place of the one before; elsewhere they follow one another, with an empty line
    between. A daemon that cannot be reached for a while is said, and asked again.

    Raises:
        UsageError: The span is none.
    """
    from shunter.cli.console import note
    from shunter.cli.spans import span_s
    from shunter.daemon.client import UnreachableError

    pause_s = max(span_s(every, "--every"), 0.1)
    number = 0
    # What is shown is made whole first: a terminal that is cleared and then waited for flickers.
    out = sys.stdout
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            try:
                text = _text_of(show)
            except UnreachableError as problem:
                note(f"{problem}; asked again in {pause_s:g} s")
            else:
                out.write((CLEAR if out.isatty() else "\n" if number else "") + text)
                out.flush()
                number += 1
            time.sleep(pause_s)


class _Held(io.StringIO):
    """Takes output, and is a terminal where standard output is one."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def _text_of(show: Callable[[], None]) -> str:
    held = _Held(sys.stdout.isatty())
    with contextlib.redirect_stdout(held):
        show()
    return held.getvalue()
