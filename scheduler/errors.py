"""The errors that every part of the project raises for a caller to handle.

One base class and few leaves. A message names the offending value, what was expected and, where there is one, the
place (``file:line:column``). The command line prints the message on one line and exits with ``exit_code``.
"""

from __future__ import annotations


class ShunterError(Exception):
    """Base of all errors that are reported to a person; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(ShunterError):
    """A name, option or combination that does not exist; the message suggests the nearest one that does."""

    exit_code = 2


class ConfigError(ShunterError):
    """A configuration or cluster specification that cannot be used; lists every problem with its path."""

    exit_code = 2


class TraceError(ShunterError):
    """An input file that cannot be read as a trace; the message starts with ``file:line:column`` where known."""

    exit_code = 2


class BundleError(ShunterError):
    """A model bundle that cannot be used; the message starts with the file and names the field."""

    exit_code = 2


class RecordError(ShunterError):
    """A recorded decision that cannot be read: damaged, cut off, or written by a later version."""

    exit_code = 2


class OutputError(ShunterError):
    """A result that could not be written (permission, full disk); nothing stands under the final name."""


class PlanRejectedError(ShunterError):
    """A plan that breaks a rule of ``check_plan``: a bug in a policy, so the process stops."""


class EngineError(ShunterError):
    """An invariant of a replay is broken: a bug, so the process stops rather than report wrong numbers."""


def nearest(name: str, known: list[str]) -> str:
    """A hint ``; did you mean 'x'?`` with the known name closest to ``name``, or the list when none is close."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}"
