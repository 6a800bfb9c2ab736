"""Structured logs on standard error: key-value for people, or JSON for machines."""

from __future__ import annotations

import logging
import sys

import structlog

from shunter.scheduler.errors import UsageError

FORMATS = ("text", "json")


class _Stderr:
    """Whatever standard error is when something is written, not when logs were set up."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def set_up_logs(form: str, level: str = "info") -> None:
    """Set up logging of the whole process.

    Args:
        form: A name of ``FORMATS``.
        level: Least level that is logged: debug, info, warning or error.

    Raises:
        UsageError: Unknown form or level.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown log format {form!r}; known: {', '.join(FORMATS)}")
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise UsageError(f"unknown log level {level!r}; known: debug, info, warning, error")
    shown: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form == "text":
        shown = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
