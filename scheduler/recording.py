"""A decision as bytes: what was known, how it was decided, and the plan, exact to the bit; and deciding it again.

A record is a fixed head (magic, version, lengths, checksum), a JSON header with everything small, and the arrays one
after the other. An array of one value is kept once and whole numbers in as few bytes as they need; compressing takes
longer than deciding, so it is for those who ask for it. No code is in a record: a model is named by its name and the
SHA-256 of its file, and whoever reads the record finds it. Records may simply be written one behind the other.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, BinaryIO

import numpy as np

from shunter.scheduler.capacity import Capacity, Quotas
from shunter.scheduler.decide import Settings, plan
from shunter.scheduler.errors import RecordError
from shunter.scheduler.guard import Seen
from shunter.scheduler.plans import REASONS, Extend, Plan, Preempt, Reserves, Skips, Start
from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.policies.registry import ChosenOrdering, Scorer
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.snapshot import JobColumns, JobHistories, Snapshot
from shunter.scheduler.types import AnyArray, FloatArray, ResourceDemand

MAGIC = b"SHUNTREC"
VERSION = 1
HEAD = struct.Struct("<8sHBxIQI")
"""Magic, version, whether the body is compressed, bytes of the header and of the body, Adler-32 over all but itself."""

NESTED: Mapping[str, type[Any]] = {
    "columns": JobColumns,
    "demand": ResourceDemand,
    "capacity": Capacity,
    "quotas": Quotas,
    "histories": JobHistories,
}
"""Fields that hold further fields."""

NARROW = tuple(np.dtype(kind) for kind in ("i1", "i2", "i4"))

FindScorer = Callable[[str, str], tuple[Scorer, Seen | None]]
"""The scorer of a model of this name and SHA-256, and the range of features seen in training."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision.

    Attributes:
        snapshot: What was known.
        settings: How it was decided.
        usage_s: (U,) decayed usage of users; None where none was given.
        preemption: When running jobs were stopped; None where nothing was said.
        plan: What was decided.
    """

    snapshot: Snapshot
    settings: Settings
    usage_s: FloatArray | None
    preemption: Preemption | None
    plan: Plan


def encode(
    snapshot: Snapshot,
    settings: Settings,
    usage_s: FloatArray | None,
    preemption: Preemption | None,
    decided: Plan,
    *,
    level: int = 0,
) -> bytes:
    """A decision as bytes.

    Args:
        snapshot: What was known.
        settings: How it was decided.
        usage_s: As given to ``plan``.
        preemption: As given to ``plan``.
        decided: What ``plan`` said.
        level: Of zlib, for the arrays; 0: they are not compressed.
    """
    arrays = _Arrays()
    header = {
        "snapshot": _plain(snapshot, arrays),
        "settings": _plain_settings(settings),
        "usage_s": _plain(usage_s, arrays),
        "preemption": None if preemption is None else _plain(preemption, arrays),
        "plan": _plain_plan(decided, arrays),
        "arrays": arrays.known,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    parts = arrays.parts
    if level > 0:
        parts = [zlib.compress(b"".join(parts), level)]
    head = HEAD.pack(MAGIC, VERSION, int(level > 0), len(text), sum(map(len, parts)), 0)
    head = HEAD.pack(*HEAD.unpack(head)[:-1], _check(head, text, *parts))
    return b"".join([head, text, *parts])


def decode(record: bytes, find_scorer: FindScorer | None = None) -> Recorded:
    """The decision of one record.

    Args:
        record: What ``encode`` returned.
        find_scorer: Finds the model of an ordering that needs one.

    Raises:
        RecordError: Damaged, cut off, of a later version, or with a model where none can be found.
    """
    compressed, text_size, body_size = _head(record[: HEAD.size], len(record))
    text, body = record[HEAD.size : HEAD.size + text_size], record[HEAD.size + text_size :]
    if len(body) != body_size:
        raise RecordError(f"a record of {HEAD.size + text_size + body_size} bytes has {len(record)}")
    if _check(record, text, body) != HEAD.unpack_from(record)[-1]:
        raise RecordError("a record is damaged: its checksum is another")
    try:
        header = json.loads(text)
        arrays = _read_arrays(header["arrays"], zlib.decompress(body) if compressed else body)
        return Recorded(
            snapshot=_made(Snapshot, header["snapshot"], arrays),
            settings=_settings(header["settings"], find_scorer),
            usage_s=_value(header["usage_s"], arrays),
            preemption=None if header["preemption"] is None else _made(Preemption, header["preemption"], arrays),
            plan=_plan(header["plan"], arrays),
        )
    except (KeyError, TypeError, ValueError, IndexError, zlib.error) as error:
        raise RecordError(f"a record cannot be read: {error!r}") from error


def replay(recorded: Recorded) -> Plan:
    """The decision made again."""
    return plan(recorded.snapshot, recorded.settings, usage_s=recorded.usage_s, preemption=recorded.preemption)


def difference(recorded: Plan, again: Plan) -> str | None:
    """The first field in which two plans differ, with the first entry there; None when they are equal."""
    for field in fields(Plan):
        old, new = getattr(recorded, field.name), getattr(again, field.name)
        if old == new:
            continue
        if isinstance(old, (int, float)):
            return f"{field.name}: recorded {old}, now {new}"
        for i in range(max(len(old), len(new))):
            pair = [str(side[i]) if i < len(side) else "nothing" for side in (old, new)]
            if pair[0] != pair[1]:
                return f"{field.name}[{i}]: recorded {pair[0]}, now {pair[1]}"
    return None


def records(stream: BinaryIO) -> Iterator[bytes]:
    """The records that stand one behind the other in a file.

    Raises:
        RecordError: What follows is no record, or is cut off.
    """
    while head := stream.read(HEAD.size):
        _, text_size, body_size = _head(head, len(head))
        rest = stream.read(text_size + body_size)
        if len(rest) < text_size + body_size:
            raise RecordError(f"the last record is cut off: {len(rest)} of {text_size + body_size} bytes")
        yield head + rest


def _check(head: bytes, *parts: bytes) -> int:
    """The checksum of a record: Adler-32, which takes a third of the time of CRC-32."""
    check = zlib.adler32(head[: HEAD.size - 4])
    for part in parts:
        check = zlib.adler32(part, check)
    return check


def _head(head: bytes, size: int) -> tuple[bool, int, int]:
    """Whether the body is compressed, and the bytes of header and body."""
    if len(head) < HEAD.size:
        raise RecordError(f"a record begins with {HEAD.size} bytes, not {size}")
    magic, version, compressed, text_size, body_size, _ = HEAD.unpack(head)
    if magic != MAGIC:
        raise RecordError("this is no record of a decision")
    if version > VERSION:
        raise RecordError(f"a record of version {version}: this program reads versions up to {VERSION}")
    return bool(compressed), text_size, body_size


# --- arrays ----------------------------------------------------------------------------------------------------------


class _Arrays:
    """Arrays on their way into a record: bytes, and for each its type, shape, kept type, and if it is one value."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.known: list[tuple[str, list[int], str, bool]] = []

    def add(self, array: AnyArray) -> int:
        """The array's number."""
        given = np.ascontiguousarray(array)
        flat = given.reshape(-1)
        bits = flat.view(f"u{flat.dtype.itemsize}")
        one = bool(len(bits)) and bool((bits[:64] == bits[0]).all()) and bool((bits == bits[0]).all())
        if one:
            flat = flat[:1]
        elif flat.dtype == np.int64 and len(flat):
            low, high = int(flat.min()), int(flat.max())
            kind = next((k for k in NARROW if np.iinfo(k).min <= low and high <= np.iinfo(k).max), flat.dtype)
            flat = flat.astype(kind, copy=False)
        self.parts.append(flat.tobytes())
        self.known.append((given.dtype.str, list(array.shape), flat.dtype.str, one))
        return len(self.known) - 1


def _read_arrays(known: list[tuple[str, list[int], str, bool]], body: bytes) -> list[AnyArray]:
    found, place = list[AnyArray](), 0
    for dtype, shape, kept, one in known:
        size = int(np.prod(shape))
        stored = np.frombuffer(body, np.dtype(kept), 1 if one else size, place)
        place += stored.nbytes
        array = np.full(size, stored[0], np.dtype(dtype)) if one else stored.astype(np.dtype(dtype))
        found.append(array.reshape(shape))
    if place != len(body):
        raise ValueError(f"{len(body) - place} bytes too many")
    return found


# --- values ----------------------------------------------------------------------------------------------------------


def _plain(value: Any, arrays: _Arrays) -> Any:
    """A value for JSON; arrays are named by their numbers."""
    if isinstance(value, np.ndarray):
        return {"array": arrays.add(value)}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
    if isinstance(value, JobHistories):
        return {name: _plain(part, arrays) for name, part in value._asdict().items()}
    return value.item() if isinstance(value, np.generic) else value


def _value(value: Any, arrays: list[AnyArray]) -> Any:
    if isinstance(value, dict):
        return arrays[value["array"]]
    return tuple(value) if isinstance(value, list) else value


def _made(kind: type[Any], given: Mapping[str, Any], arrays: list[AnyArray]) -> Any:
    """An instance of a class with fields."""
    made = {}
    for name, value in given.items():
        nested = NESTED.get(name)
        is_made = nested is not None and value is not None
        made[name] = _made(nested, value, arrays) if nested is not None and is_made else _value(value, arrays)
    return kind(**made)


def _plain_settings(settings: Settings) -> dict[str, Any]:
    chosen = settings.ordering
    if ORDERINGS.get(chosen.ordering.name) is not chosen.ordering:
        raise RecordError(f"decisions of policy {chosen.label!r} are not recorded: it decides by more than a snapshot")
    ordering = {
        "name": chosen.ordering.name,
        "parameters": dict(chosen.parameters),
        "model": chosen.model,
        "model_sha256": chosen.model_sha256,
        "fallback": chosen.fallback,
    }
    rest = {f.name: getattr(settings, f.name) for f in fields(Settings) if f.name != "ordering"}
    return {"ordering": ordering, **rest}


def _settings(given: Mapping[str, Any], find_scorer: FindScorer | None) -> Settings:
    told = given["ordering"]
    ordering = ORDERINGS[told["name"]]
    scorer: Scorer | None = None
    seen: Seen | None = None
    if ordering.needs_features:
        if find_scorer is None:
            raise RecordError(f"the record needs model {told['model']!r} with SHA-256 {told['model_sha256']}")
        scorer, seen = find_scorer(told["model"], told["model_sha256"])
    chosen = ChosenOrdering(
        ordering, told["parameters"], scorer, seen, told["model"], told["model_sha256"], told["fallback"]
    )
    return Settings(chosen, **{name: value for name, value in given.items() if name != "ordering"})


def _plain_plan(decided: Plan, arrays: _Arrays) -> dict[str, Any]:
    promised, skipped = decided.reservations, decided.skipped
    if not isinstance(promised, Reserves):
        rows = np.asarray([promise.row for promise in promised], dtype=np.int64)
        promised = Reserves(rows, np.asarray([promise.start_s for promise in promised], dtype=np.float64))
    if not isinstance(skipped, Skips):
        numbers = np.asarray([REASONS.index(reason) for _, reason in skipped], dtype=np.int64)
        skipped = Skips(np.asarray([row for row, _ in skipped], dtype=np.int64), numbers)
    return {
        "based_on": decided.based_on,
        "starts": [[s.row, s.placement, s.backfilled, s.gpus, s.slices] for s in decided.starts],
        "reserved": [arrays.add(promised.rows), arrays.add(promised.start_s)],
        "extensions": [[moved.row, moved.end_s] for moved in decided.extensions],
        "skipped": [arrays.add(skipped.rows), arrays.add(skipped.reasons)],
        "next_pass_s": decided.next_pass_s,
        "preemptions": [[stop.row, stop.end_s] for stop in decided.preemptions],
        "guard": decided.guard,
    }


def _plan(given: Mapping[str, Any], arrays: list[AnyArray]) -> Plan:
    def pairs(entries: list[list[int]]) -> tuple[Any, ...]:
        return tuple(map(tuple, entries))

    promised, skipped = ([arrays[number] for number in given[name]] for name in ("reserved", "skipped"))
    return Plan(
        based_on=given["based_on"],
        starts=tuple(
            Start(row, pairs(placement), backfilled, pairs(gpus), tuple(slices))
            for row, placement, backfilled, gpus, slices in given["starts"]
        ),
        reservations=Reserves(promised[0].astype(np.int64), promised[1].astype(np.float64)),
        extensions=tuple(Extend(*moved) for moved in given["extensions"]),
        skipped=Skips(skipped[0].astype(np.int64), skipped[1].astype(np.int64)),
        next_pass_s=given["next_pass_s"],
        preemptions=tuple(Preempt(*stop) for stop in given["preemptions"]),
        guard=tuple(given["guard"]),
    )
