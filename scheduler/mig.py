"""MIG: into which instances NVIDIA's GPUs can be cut, and where on a GPU each of them may lie.

A GPU has compute slices and memory slices. An instance takes a run of memory slices that begins at one of a few places,
with the compute slices that belong to it. The names differ by the GPU's memory, the places do not: all GPUs with seven
compute slices have one set of kinds, the A30 with four has another. No two instances that lie apart ever ask for more
compute slices than there are, so memory slices alone decide what fits; and the places of one kind never overlap one
another, so that as many of a kind fit as it has free places, whichever of them are taken first.

Source: NVIDIA Multi-Instance GPU User Guide, "Supported MIG Profiles", and ``nvidia-smi mig -lgipp`` for the places.
Profiles with media engines (``+me``) are not modelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from shunter.scheduler.types import IntArray

BITS = 8
"""Memory slices of a GPU, at most."""

FULL = (1 << BITS) - 1
"""Bits of so many slices."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of instance.

    Attributes:
        compute: Compute slices.
        size: Memory slices.
        starts: First memory slices that it may have.
    """

    compute: int
    size: int
    starts: tuple[int, ...]


OF_SEVEN = (
    Kind(1, 1, (0, 1, 2, 3, 4, 5, 6)),
    Kind(1, 2, (0, 2, 4, 6)),
    Kind(2, 2, (0, 2, 4)),
    Kind(3, 4, (0, 4)),
    Kind(4, 4, (0,)),
    Kind(7, 8, (0,)),
)
"""Kinds on GPUs with seven compute and eight memory slices."""

OF_FOUR = (Kind(1, 1, (0, 1, 2, 3)), Kind(2, 2, (0, 2)), Kind(4, 4, (0,)))
"""Kinds on GPUs with four compute and four memory slices."""

KINDS = (*OF_SEVEN, *OF_FOUR)
"""All kinds; the core knows them by their row."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How one product is cut.

    Attributes:
        memory_gb: Its memory, by which it is told from others of its family.
        compute: Compute slices.
        slices: Memory slices.
        profiles: Name of each profile → row of ``KINDS``.
    """

    memory_gb: int
    compute: int
    slices: int
    profiles: Mapping[str, int]

    @property
    def full(self) -> int:
        """Bits of all memory slices."""
        return (1 << self.slices) - 1


def _seven(memory_gb: int, *names: str) -> Geometry:
    return Geometry(memory_gb, 7, 8, MappingProxyType({name: row for row, name in enumerate(names)}))


GEOMETRIES: Mapping[str, Geometry] = MappingProxyType(
    {
        "a30-24gb": Geometry(24, 4, 4, MappingProxyType({"1g.6gb": 6, "2g.12gb": 7, "4g.24gb": 8})),
        "a100-40gb": _seven(40, "1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"),
        "a100-80gb": _seven(80, "1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
        "h100-80gb": _seven(80, "1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
        "h100-94gb": _seven(94, "1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb"),
        "h100-96gb": _seven(96, "1g.12gb", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb"),
        "h200-141gb": _seven(141, "1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"),
        "b200-180gb": _seven(180, "1g.23gb", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"),
    }
)
"""Geometries by name: family, then memory."""


def geometry_of(gpu_type: str | None, memory_gib: float | None) -> str | None:
    """The geometry of a GPU type: by the family in its name, and its memory; None when that leaves it open.

    A memory that the name says (``A100-80GB``) counts where none is given. GPUs of other names are judged by their
    memory alone.
    """
    text = (gpu_type or "").lower()
    named = [name for name in GEOMETRIES if re.search(rf"(?<![a-z]){name.split('-')[0]}(?!\d)", text)]
    said = re.search(r"(\d+) ?g", text)
    memory_gb = memory_gib if memory_gib is not None else float(said[1]) if said else None
    fitting = named or (list(GEOMETRIES) if memory_gb is not None else [])
    if memory_gb is not None:
        fitting = [name for name in fitting if abs(GEOMETRIES[name].memory_gb - memory_gb) < 1.0]
    alike = {tuple(GEOMETRIES[name].profiles) for name in fitting}
    return fitting[0] if len(alike) == 1 else None


def milli_of(profile: str, geometry: str) -> int:
    """Thousandths of a GPU that an instance counts as: its part of the compute slices, rounded down."""
    cut = GEOMETRIES[geometry]
    return 1000 * KINDS[cut.profiles[profile]].compute // cut.compute


def offered(geometries: Iterable[str]) -> list[str]:
    """Profiles of any of these geometries, the small ones first."""
    known = {profile: KINDS[row] for name in geometries for profile, row in GEOMETRIES[name].profiles.items()}
    return sorted(known, key=lambda profile: (known[profile].compute, known[profile].size, profile))


def kinds_beside(kind: int) -> tuple[Kind, ...]:
    """The kinds of the GPUs that a kind is on."""
    return OF_SEVEN if kind < len(OF_SEVEN) else OF_FOUR


def slices_of(kind: int, start: int) -> int:
    """Bits of the memory slices that an instance takes."""
    return (1 << KINDS[kind].size) - 1 << start


def open_places(kind: Kind, free: int) -> list[int]:
    """Starts at which an instance fits into the free memory slices, a number of bits."""
    bits = (1 << kind.size) - 1
    return [start for start in kind.starts if free >> start & bits == bits]


@cache
def open_table() -> IntArray:
    """(K, 2^BITS) instances of each kind that fit into free memory slices; not to be written."""
    return np.asarray([[len(open_places(kind, free)) for free in range(1 << BITS)] for kind in KINDS])


@cache
def choice_table() -> IntArray:
    """(K, 2^BITS) ``BITS`` times the places that the best start closes, plus that start; −1 where nothing fits.

    Not to be written.

    The best start is the one after which the fewest places of any kind are closed that were open before, the lowest
    among equals: what is left stays of use to most. Fragmentation measured by closed places: Zambianco, Fasol &
    Doriguzzi-Corin, An Online Fragmentation-Aware GPU Scheduler for Multi-Tenant MIG-based Clouds, 2025.
    """
    table = np.full((len(KINDS), 1 << BITS), -1, dtype=np.int64)
    for row, kind in enumerate(KINDS):
        beside = kinds_beside(row)
        left = [sum(len(open_places(other, free)) for other in beside) for free in range(1 << BITS)]
        for free in range(1 << BITS):
            closed = [(left[free] - left[free & ~slices_of(row, start)], start) for start in open_places(kind, free)]
            if closed:
                table[row, free] = BITS * min(closed)[0] + min(closed)[1]
    return table
