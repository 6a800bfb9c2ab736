"""Parameters of generators: their description, their defaults, and the check of what a caller gives.

A generator declares its parameters as a tuple of ``Parameter``; help texts and checks both come from it, so that a
parameter cannot be accepted without being documented. Also here: the named random streams.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shunter.scheduler.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a generator.

    Attributes:
        name: Name as given by a caller.
        default: Value when it is not given; None means derived or off, as ``meaning`` says.
        unit: Unit, or ``-``.
        meaning: What it does, in one sentence, with its source where it has one.
        choices: Allowed words of a text parameter.
        low: Least number allowed.
        high: Greatest number allowed.
        whole: Only whole numbers are allowed.
        text: Any text is allowed (a path, a list).
    """

    name: str
    default: float | str | None
    unit: str
    meaning: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    text: bool = False


class Values:
    """Resolved parameter values, by name. ``number`` and ``word`` say which kind the caller expects."""

    def __init__(self, values: Mapping[str, float | str | None]) -> None:
        self._values = dict(values)

    def number(self, name: str) -> float:
        """A number that has a default or was given."""
        value = self._values[name]
        assert isinstance(value, float), name
        return value

    def optional(self, name: str) -> float | None:
        """A number, or None when it was not given and has no default."""
        return None if self._values[name] is None else self.number(name)

    def word(self, name: str) -> str:
        """A text."""
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def header(self) -> dict[str, str]:
        """Given and default values as text, for the trace's header; what is off is left out."""
        return {
            name: value if isinstance(value, str) else f"{value:g}"
            for name, value in self._values.items()
            if value is not None
        }


def resolve(model: str, specs: Sequence[Parameter], given: Mapping[str, float | str] | None) -> Values:
    """Given values over defaults, each checked.

    Raises:
        UsageError: A name that the model does not have, or a value that is not of its kind or range.
    """
    known = {spec.name: spec for spec in specs}
    for name in given or {}:
        if name not in known:
            raise UsageError(f"model {model!r} has no parameter {name!r}{nearest(name, list(known))}")
    values: dict[str, float | str | None] = {}
    for spec in specs:
        raw = (given or {}).get(spec.name)
        values[spec.name] = spec.default if raw is None else parse(model, spec, raw)
    return Values(values)


def parse(model: str, spec: Parameter, raw: float | str) -> float | str:
    """One given value as the kind that ``spec`` asks for.

    Raises:
        UsageError: It is not of that kind, or out of range.
    """
    place = f"model {model!r}, parameter {spec.name!r}"
    if spec.text:
        return str(raw)
    if spec.choices:
        if raw not in spec.choices:
            hint = nearest(str(raw), list(spec.choices))
            raise UsageError(f"{place}: {raw!r} is none of {', '.join(spec.choices)}{hint if 'mean' in hint else ''}")
        return str(raw)
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise UsageError(f"{place}: {raw!r} is not a number") from None
    if not math.isfinite(number) or (spec.whole and number != round(number)):
        raise UsageError(f"{place}: {raw!r} is not a {'whole' if spec.whole else 'finite'} number")
    if not spec.low <= number <= spec.high:
        raise UsageError(f"{place}: {number:g} does not lie in {interval(spec)}")
    return number


def interval(spec: Parameter) -> str:
    """The allowed range in words, such as ``0 .. 1`` or ``at least 1``."""
    if math.isinf(spec.high):
        return f"the range from {spec.low:g} upwards"
    if math.isinf(spec.low):
        return f"the range up to {spec.high:g}"
    return f"{spec.low:g} .. {spec.high:g}"


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream ``name`` of ``seed``: equal on every machine, and independent of how much others draw."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))
