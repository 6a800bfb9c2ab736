"""Spans and points in time, as people write and read them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from shunter.scheduler.errors import UsageError

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
PARTS = re.compile(r"(?:\d+(?:\.\d*)?(?:ms|[smhdw]))+")
PART = re.compile(r"(\d+(?:\.\d*)?)(ms|[smhdw])")
CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d{2})(?::(\d{2}))?")
MAX_S = 1e9


def span_s(text: str, option: str) -> float:
    """Seconds of ``90``, ``1h30m``, ``2d``, ``01:30:00`` (hours first) or ``1-12:00`` (days first).

    Raises:
        UsageError: It is none of these; names the option.
    """
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d*)?", text):
        seconds = float(text)
    elif PARTS.fullmatch(text):
        seconds = sum(float(number) * UNITS_S[unit] for number, unit in PART.findall(text))
    elif clock := CLOCK.fullmatch(text):
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = days * 86400.0 + hours * 3600.0 + minutes * 60.0 + rest
    else:
        raise UsageError(f"{option}: expected a span such as 90s, 1h30m, 2d or 01:30:00, got {text!r}")
    if seconds > MAX_S:
        raise UsageError(f"{option}: {text!r} is too long")
    return seconds


def moment_s(text: str, option: str, now_s: float | None = None) -> float:
    """Unix time of ``+2h`` (from now), or of ``2027-01-31T18:00`` (local time unless it names a zone).

    Raises:
        UsageError: It is neither; names the option.
    """
    if text.startswith("+"):
        return (time.time() if now_s is None else now_s) + span_s(text[1:], option)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{option}: expected a time such as 2027-01-31T18:00 or +2h, got {text!r}") from None


def short_span(seconds: float) -> str:
    """For tables: the two largest units, ``3m 20s``."""
    whole = max(round(seconds), 0)
    for unit, smaller in (("d", "h"), ("h", "m"), ("m", "s")):
        size, below = int(UNITS_S[unit]), int(UNITS_S[smaller])
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // below}{smaller}"
    return f"{whole}s"


def iso(unix_s: float) -> str:
    """In UTC, to the second."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
