"""Which jobs are replayed for an evaluation, and which of them are counted.

A stretch is replayed from an empty cluster. Of its jobs only those of its windows count: the ones before them fill the
cluster and the queue under the very policy that is judged (warm-up), the ones after them keep competing with the last
that are counted (cool-down), so that neither an empty beginning nor an easy end flatters anybody.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.sim.compare import MIN_WINDOWS
from shunter.traces.periods import Period
from shunter.traces.shaking import SPAN_S

PROTOCOLS = {
    "windows": "many windows from warm queues, in the test period, under the project's own engine",
    "full": "the whole test period in one replay, warm-up and cool-down cut, under the project's own engine",
    "rlscheduler": "the published evaluation of RLScheduler: ten windows from empty clusters, by its own simulator",
}

WINDOW_JOBS = 1024
"""Jobs of a window unless said, as in the published evaluations."""

LEAST_WINDOWS = 20
"""Unless the size of windows is given, it is lowered until there are so many …"""

LEAST_WINDOW_JOBS = 128
"""… but not below this."""

WARM_UP = 1000
COOL_DOWN = 1000
"""Jobs before and after what is counted, unless the period is too short for them."""

PUBLISHED_JOBS = 10_000
"""The published windows lie in so many first jobs of a log."""

PUBLISHED_SEED = 1
PUBLISHED_WINDOWS = 10
PUBLISHED_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Protocol:
    """How policies are judged.

    Attributes:
        name: One of ``PROTOCOLS``.
        window_jobs: Jobs of a window; None: chosen by the period's length.
        warm_up: Jobs replayed before what is counted; None: ``WARM_UP``, or a quarter of a short period.
        cool_down: Jobs replayed after it; None: ``COOL_DOWN``, or an eighth of a short period.
        whole: All jobs of each trace instead of its test period.
        shakes: Shaken copies (``traces.shaking``) of every stretch that are replayed in its place; 0: the log itself.
        shake_s: Largest shift of a submission in them, in seconds.
    """

    name: str = "windows"
    window_jobs: int | None = None
    warm_up: int | None = None
    cool_down: int | None = None
    whole: bool = False
    shakes: int = 0
    shake_s: float = SPAN_S

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise UsageError(f"unknown protocol {self.name!r}{nearest(self.name, list(PROTOCOLS))}")
        for name, value, least in (
            ("window-jobs", self.window_jobs, 1),
            ("warm-up", self.warm_up, 0),
            ("cool-down", self.cool_down, 0),
            ("shake", self.shakes, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"--{name} {value}: expected at least {least}")
        if not (np.isfinite(self.shake_s) and self.shake_s > 0):
            raise UsageError(f"--shake-by {self.shake_s:g}: expected a finite number of seconds above 0")
        if self.name == "rlscheduler" and (self.window_jobs, self.warm_up, self.cool_down) != (None, None, None):
            raise UsageError(
                f"protocol rlscheduler fixes its windows ({PUBLISHED_WINDOWS} of {PUBLISHED_LENGTH:,} jobs from empty "
                "clusters): --window-jobs, --warm-up and --cool-down do not go with it"
            )
        if self.name == "rlscheduler" and self.shakes:
            raise UsageError("protocol rlscheduler replays the log as it is: --shake does not go with it")

    @property
    def copies(self) -> range:
        """Seeds of the copies of a stretch that are replayed; 0 is the log itself."""
        return range(1, self.shakes + 1) if self.shakes else range(1)

    @property
    def consecutive(self) -> bool:
        """Whether the windows follow each other in time."""
        return self.name != "rlscheduler"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Jobs that are replayed together, rows [first, last), and the windows of them that are counted."""

    first: int
    last: int
    windows: tuple[tuple[int, int], ...]


def stretches(protocol: Protocol, period: Period) -> list[Stretch]:
    """The stretches of a period under ``windows`` or ``full``.

    Raises:
        TraceError: The period is too short.
    """
    warm_up = min(WARM_UP, len(period) // 4) if protocol.warm_up is None else protocol.warm_up
    cool_down = min(COOL_DOWN, len(period) // 8) if protocol.cool_down is None else protocol.cool_down
    counted = len(period) - warm_up - cool_down
    size = protocol.window_jobs or max(LEAST_WINDOW_JOBS, min(WINDOW_JOBS, counted // LEAST_WINDOWS))
    number = counted // size
    if number < 1:
        raise TraceError(
            f"{period}: {len(period):,} jobs are too few for a warm-up of {warm_up:,} jobs, a window of {size:,} and a "
            f"cool-down of {cool_down:,}; make one of them shorter, or take the whole trace"
        )
    first = period.first + warm_up
    if protocol.name == "windows":
        begins = [first + i * size for i in range(number)]
        return [Stretch(b - warm_up, b + size + cool_down, ((b, b + size),)) for b in begins]
    # All jobs between warm-up and cool-down count, in windows of nearly equal numbers.
    bounds = np.linspace(first, first + counted, number + 1).round().astype(int).tolist()
    return [Stretch(period.first, period.last, tuple(itertools.pairwise(bounds)))]


def published_stretches(num_jobs: int) -> list[Stretch]:
    """The ten windows of RLScheduler's published tables, in a log of ``num_jobs`` jobs, in the order drawn.

    Raises:
        TraceError: The log is too short for them.
    """
    from shunter.sim.compat.rlscheduler import published_starts

    try:
        starts = published_starts(PUBLISHED_SEED, min(num_jobs, PUBLISHED_JOBS), PUBLISHED_LENGTH, PUBLISHED_WINDOWS)
    except UsageError as error:
        raise TraceError(f"protocol rlscheduler: {error}") from None
    return [Stretch(s, s + PUBLISHED_LENGTH, ((s, s + PUBLISHED_LENGTH),)) for s in starts]


def has_intervals(num_windows: int) -> bool:
    """Whether so many windows give an interval."""
    return num_windows >= MIN_WINDOWS
