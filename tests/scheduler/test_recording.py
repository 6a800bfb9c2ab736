"""Recorded decisions: exact to the bit, decided again alike, and refused where they are damaged or later."""

from __future__ import annotations

import io
import struct
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

from shunter.scheduler.decide import Settings, plan
from shunter.scheduler.errors import RecordError, UsageError
from shunter.scheduler.guard import Seen
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.plans import Plan, Reason, Reserve
from shunter.scheduler.policies.registry import Scorer, choose_ordering
from shunter.scheduler.preemption import Preemption
from shunter.scheduler.recording import HEAD, Recorded, decode, difference, encode, records, replay
from shunter.scheduler.snapshot import Snapshot
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import prepare
from shunter.traces.tables import pool
from tests.examples import examples
from tests.networks import by_network, drawn_network
from tests.properties.gpu_strategies import BACKFILLS, PLACEMENT_NAMES, clusters, traces
from tests.scheduler.cases import settings as chosen_settings
from tests.scheduler.cases import table, waiting_state

POLICIES = (
    "fcfs",
    "sjf",
    "srtf",
    "las",
    "priority",
    "edf",
    "wfp3",
    "fairshare",
    "multifactor",
    "drf",
    "predicted-load",
)
RULES = [(), (), ("priority",), ("quota",), ("priority", "quota")]


class Tape(Simulation):
    """A simulation that records what ``plan`` says before every pass."""

    def _take_in(self, now_s: float, num_finished: int, arrived: int) -> None:
        super()._take_in(now_s, num_finished, arrived)
        self.tape: list[tuple[bytes, Snapshot, Plan]] = getattr(self, "tape", [])
        snapshot, chosen = self.snapshot(now_s), self.options.settings
        usage_s, rules = self._usage(now_s), self.options.preemption
        proposed = plan(snapshot, chosen, usage_s=usage_s, preemption=rules)
        level = len(self.tape) % 2
        self.tape.append((encode(snapshot, chosen, usage_s, rules, proposed, level=level), snapshot, proposed))


def network(name: str, sha256: str) -> tuple[Scorer, Seen | None]:
    assert (name, sha256) == ("", "")
    return KernelScorer(drawn_network(3)), None


def assert_same_bits(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif is_dataclass(one):
        for field in fields(one):
            assert_same_bits(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_bits(a, b)
    else:
        assert one == other


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_recorded_decisions_are_made_again(data: st.DataObject) -> None:
    """Under every ordering and placement, with MIG, shares of GPUs, quotas, power caps, classes and preemption."""
    parts = data.draw(st.booleans())
    cluster = data.draw(clusters(parts=parts))
    trace = data.draw(traces(cluster, parts=parts))
    policy = data.draw(st.sampled_from([*POLICIES, "learned"]))
    ordering = by_network(drawn_network(3)) if policy == "learned" else choose_ordering(policy)
    options = Options(
        Settings(
            ordering,
            data.draw(st.sampled_from(BACKFILLS)),
            data.draw(st.sampled_from(PLACEMENT_NAMES)),
            depth=data.draw(st.sampled_from([0, 2])),
            strict_classes=data.draw(st.booleans()),
        ),
        placements=True,
        preemption=Preemption(data.draw(st.sampled_from(RULES)), 0.0, data.draw(st.sampled_from([0.0, 3.0]))),
    )
    try:
        simulation = Tape(prepare(trace, cluster), options)
    except UsageError:  # what does not go together
        reject()
    assert simulation.run()
    tape = io.BytesIO(b"".join(record for record, _, _ in simulation.tape))
    for record, (_, snapshot, proposed) in zip(records(tape), simulation.tape, strict=True):
        found = decode(record, network)
        assert_same_bits(found.snapshot, snapshot)
        assert found.plan == proposed
        assert replay(found) == proposed
    event("with MIG" if parts else "without MIG")


def small(backfill: str = "conservative") -> tuple[bytes, Recorded]:
    trace = table("job submit runs tasks\na 0 10 2\nb 0 9 2\nc 0 8 1", pool(2))
    settings = chosen_settings(backfill=backfill)
    snapshot = waiting_state(trace, settings).snapshot(0.0)
    record = encode(snapshot, settings, None, None, plan(snapshot, settings))
    return record, decode(record)


def test_conservative_promises_are_recorded() -> None:
    _, found = small()
    assert found.plan.reservations == (Reserve(1, 10.0), Reserve(2, 19.0))
    assert replay(found) == found.plan


def test_every_byte_is_checked() -> None:
    record, _ = small()
    for place in range(len(record)):
        damaged = bytearray(record)
        damaged[place] ^= 0x41
        with pytest.raises(RecordError):
            decode(bytes(damaged))
    for size in range(len(record)):
        with pytest.raises(RecordError):
            decode(record[:size])
        if size:
            with pytest.raises(RecordError):
                list(records(io.BytesIO(record + record[:size])))


def test_a_later_version_is_refused() -> None:
    record, _ = small()
    head = list(HEAD.unpack_from(record))
    head[1] = 2
    with pytest.raises(RecordError, match="a record of version 2: this program reads versions up to 1"):
        decode(struct.pack(HEAD.format, *head) + record[HEAD.size :])


def test_a_model_has_to_be_found() -> None:
    trace = table("job submit runs tasks\na 0 10 2\nb 0 9 2", pool(2))
    settings = Settings(replace(by_network(drawn_network(3)), model="mine", model_sha256="beef"))
    simulation = Simulation(prepare(trace, trace.cluster), Options(settings))
    simulation.state.absorb(0.0, np.zeros(0, np.int64), 0, 0, 2)
    assert simulation.learned is not None
    simulation.learned.source.submitted(range(2))
    snapshot = simulation.snapshot(0.0)
    record = encode(snapshot, settings, None, None, plan(snapshot, settings))
    with pytest.raises(RecordError, match="the record needs model 'mine' with SHA-256 beef"):
        decode(record)


def test_the_first_difference_is_named() -> None:
    _, found = small("easy")
    assert difference(found.plan, replay(found)) is None
    other = replace(found.plan, skipped=((1, Reason.NO_CAPACITY), (2, Reason.OVER_QUOTA)))
    assert difference(other, found.plan) == (
        "skipped[1]: recorded (2, <Reason.OVER_QUOTA: 'over-quota'>), now (2, <Reason.NO_CAPACITY: 'no-capacity'>)"
    )
    assert difference(replace(found.plan, based_on=5), found.plan) == "based_on: recorded 5, now 0"
