"""How many random examples a test takes: few in every run, many where new ones are looked for."""

from __future__ import annotations

import os

MORE = 4
"""``make test-slow`` takes so many times as many, and other ones (EXPLORE=1)."""


def examples(count: int) -> int:
    """``count`` in a fast run."""
    return count * MORE if os.environ.get("EXPLORE") else count
