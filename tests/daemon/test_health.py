"""The health machine: every transition from a table, and what holds for any order of events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.daemon.health import step
from shunter.daemon.health_facts import (
    GPU_LEGAL,
    LEGAL,
    BadEnd,
    Drain,
    Event,
    GoodEnd,
    GpuMemory,
    GpuSeen,
    Health,
    Heartbeat,
    Lost,
    Memory,
    NvmlSeen,
    Registered,
    Resume,
    Silence,
    decode,
    encode,
)
from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.xids import XIDS, Blame, judge

H = Health
RULES = LeaseRules()
DISK = (("operator", "disk"),)
HOT, COOL, WARM = GpuSeen(1, temperature_c=91.0), GpuSeen(1, temperature_c=80.0), GpuSeen(1, temperature_c=85.0)


def node(state: Health = H.HEALTHY, **more: Any) -> Memory:
    return Memory(state, num_gpus=4, **more)


def gpu(state: Health, **more: Any) -> Memory:
    """GPU 1 of four."""
    return node(gpus={1: GpuMemory(state, why="GPU 1: before", **more)})


def after(memory: Memory, *events: Event, at_s: float = 1000.0, rules: LeaseRules = RULES) -> tuple[Memory, list[str]]:
    """Kinds of findings with the last memory."""
    kinds = []
    for event in events:
        memory, findings = step(memory, event, at_s, rules)
        kinds += [finding.kind for finding in findings]
    return memory, kinds


@pytest.mark.parametrize(
    ("memory", "event", "state", "kinds"),
    [
        (node(), Heartbeat(), H.HEALTHY, []),
        (node(), Silence(7.0), H.SUSPECT, ["node-suspect"]),
        (node(), Lost(10.0), H.FAILED, ["node-failed"]),
        (node(), Drain("disk"), H.DRAINING, ["node-drained", "node-draining"]),
        (node(), Resume(), H.HEALTHY, ["node-resumed"]),
        (node(H.SUSPECT), Silence(9.0), H.SUSPECT, []),
        (node(H.SUSPECT), Heartbeat(), H.HEALTHY, ["node-healthy"]),
        (node(H.SUSPECT), Registered(4), H.HEALTHY, ["node-healthy"]),
        (node(H.SUSPECT, grounds=DISK), Heartbeat(), H.DRAINING, ["node-draining"]),
        (node(H.SUSPECT, trusted_s=1001.0), Heartbeat(), H.RECOVERING, ["node-recovering"]),
        (node(H.SUSPECT), Drain("disk"), H.SUSPECT, ["node-drained"]),
        (node(H.SUSPECT), Lost(10.0), H.FAILED, ["node-failed"]),
        (node(H.DRAINING, grounds=DISK), Heartbeat(), H.DRAINING, []),
        (node(H.DRAINING, grounds=DISK), Silence(7.0), H.SUSPECT, ["node-suspect"]),
        (node(H.DRAINING, grounds=DISK), Lost(10.0), H.FAILED, ["node-failed"]),
        (node(H.DRAINING, grounds=DISK), Resume(), H.HEALTHY, ["node-resumed", "node-healthy"]),
        (node(H.DRAINING, grounds=(("nvml", "gone"),)), NvmlSeen(""), H.RECOVERING, ["node-recovering"]),
        (node(H.FAILED), Heartbeat(), H.FAILED, []),
        (node(H.FAILED), Silence(99.0), H.FAILED, []),
        (node(H.FAILED), Lost(99.0), H.FAILED, []),
        (node(H.FAILED), Drain("disk"), H.FAILED, ["node-drained"]),
        (node(H.FAILED), Resume(), H.FAILED, ["node-resumed"]),
        (node(H.FAILED), Registered(4), H.RECOVERING, ["node-recovering"]),
        (node(H.RECOVERING, trusted_s=1001.0), Heartbeat(), H.RECOVERING, []),
        (node(H.RECOVERING, trusted_s=1000.0), Heartbeat(), H.HEALTHY, ["node-healthy"]),
        (node(H.RECOVERING, grounds=DISK), Heartbeat(), H.DRAINING, ["node-draining"]),
        (node(H.RECOVERING, trusted_s=1001.0), Silence(7.0), H.SUSPECT, ["node-suspect"]),
        (node(H.RECOVERING, trusted_s=1001.0), Lost(10.0), H.FAILED, ["node-failed"]),
        (node(H.RECOVERING, trusted_s=1001.0), Drain("disk"), H.DRAINING, ["node-drained", "node-draining"]),
        (node(H.RECOVERING, trusted_s=1001.0), Resume(), H.HEALTHY, ["node-resumed", "node-healthy"]),
    ],
)  # fmt: skip
def test_transitions_of_a_node(memory: Memory, event: Event, state: Health, kinds: list[str]) -> None:
    assert (after(memory, event)[0].state, after(memory, event)[1]) == (state, kinds)


@pytest.mark.parametrize(
    ("memory", "events", "state", "kinds"),
    [
        (node(), [GpuSeen(1, xids=(48,))], H.FAILED, ["gpu-failed"]),
        (node(), [GpuSeen(1, xids=(31,))], H.HEALTHY, ["gpu-noted"]),
        (node(), [GpuSeen(1, xids=(31,))] * 3, H.HEALTHY, ["gpu-noted"]),  # told once
        (node(), [GpuSeen(1, xids=(9999,))], H.HEALTHY, ["gpu-noted"]),
        (node(), [GpuSeen(1, ecc=3), GpuSeen(1, ecc=3)], H.HEALTHY, []),  # what it had before we looked
        (node(), [GpuSeen(1, ecc=3), GpuSeen(1, ecc=0), GpuSeen(1, ecc=1)], H.FAILED, ["gpu-failed"]),
        (node(), [GpuSeen(1, retired=1), GpuSeen(1, retired=2)], H.HEALTHY, ["gpu-noted"]),
        (node(), [GpuSeen(1, remapping_failed=True)], H.FAILED, ["gpu-failed"]),
        (node(), [GpuSeen(1, fault="lost")], H.FAILED, ["gpu-failed"]),
        (node(), [GpuSeen(1, fault="hung")], H.SUSPECT, ["gpu-suspect"]),
        (node(), [GpuSeen(1, fault="hung")] * 2, H.FAILED, ["gpu-suspect", "gpu-failed"]),
        (node(), [GpuSeen(1, fault="hung"), GpuSeen(1)], H.HEALTHY, ["gpu-suspect", "gpu-healthy"]),
        (gpu(H.FAILED, is_fault=True), [GpuSeen(1)], H.RECOVERING, ["gpu-recovering"]),
        (gpu(H.FAILED, is_fault=True), [GpuSeen(1, xids=(48,)), GpuSeen(1)], H.FAILED, []),
        (gpu(H.FAILED), [GpuSeen(1), COOL], H.FAILED, []),
        (gpu(H.FAILED), [Registered(4)], H.FAILED, []),
        (gpu(H.FAILED), [Registered(4, has_booted=True)], H.RECOVERING, ["gpu-recovering"]),
        (gpu(H.FAILED), [Resume()], H.HEALTHY, ["node-resumed", "gpu-healthy"]),
        (node(), [HOT, HOT], H.SUSPECT, ["gpu-suspect"]),
        (node(), [HOT, HOT, WARM, HOT, HOT], H.SUSPECT, ["gpu-suspect", "gpu-healthy", "gpu-suspect"]),
        (node(), [HOT] * 3, H.DRAINING, ["gpu-suspect", "gpu-draining"]),
        (node(), [GpuSeen(1, temperature_c=70.0, throttle=0x40)] * 3, H.DRAINING, ["gpu-suspect", "gpu-draining"]),
        (node(), [GpuSeen(1, temperature_c=70.0, throttle=0x04)] * 3, H.HEALTHY, []),  # power cap: as set
        (gpu(H.DRAINING), [COOL, COOL, WARM, COOL, COOL], H.DRAINING, []),
        (gpu(H.DRAINING), [COOL] * 3, H.RECOVERING, ["gpu-recovering"]),
        (gpu(H.DRAINING), [GpuSeen(1, xids=(79,))], H.FAILED, ["gpu-failed", "node-draining"]),
        (gpu(H.DRAINING), [Resume()], H.HEALTHY, ["node-resumed", "gpu-healthy"]),
        (gpu(H.RECOVERING, trusted_s=1001.0), [Heartbeat()], H.RECOVERING, []),
        (gpu(H.RECOVERING, trusted_s=1000.0), [Heartbeat()], H.HEALTHY, ["gpu-healthy"]),
        (gpu(H.RECOVERING, trusted_s=1001.0), [HOT] * 3, H.DRAINING, ["gpu-draining"]),
        (gpu(H.RECOVERING, trusted_s=1001.0), [GpuSeen(1, xids=(95,))], H.FAILED, ["gpu-failed"]),
        (gpu(H.SUSPECT, hot=1), [GpuSeen(1, xids=(64,))], H.FAILED, ["gpu-failed"]),
    ],
)  # fmt: skip
def test_transitions_of_a_gpu(memory: Memory, events: list[Event], state: Health, kinds: list[str]) -> None:
    made, told = after(memory, *events)
    assert (made.gpus.get(1, GpuMemory()).state, told) == (state, kinds)
    assert made.closed_gpus == (set() if state is H.HEALTHY else {1})
    assert made.leaving_gpus == ({1} if state in (H.DRAINING, H.FAILED) else set())


def test_half_of_the_gpus_out_of_service_drain_the_node_until_they_are_back() -> None:
    memory, kinds = after(node(), GpuSeen(0, xids=(48,)))
    assert (memory.state, kinds) == (H.HEALTHY, ["gpu-failed"])
    memory, kinds = after(memory, GpuSeen(2, fault="lost"))
    assert (memory.state, kinds) == (H.DRAINING, ["gpu-failed", "node-draining"])
    assert "2 of its 4 GPUs are out of service" in memory.reason
    memory, kinds = after(memory, GpuSeen(2))
    assert (memory.state, kinds) == (H.RECOVERING, ["gpu-recovering", "node-recovering"])


def test_a_gpu_off_the_bus_drains_the_node_until_it_was_booted() -> None:
    memory, kinds = after(node(), GpuSeen(1, xids=(79,)))
    assert kinds == ["gpu-failed", "node-draining"]
    assert "Xid 79: GPU has fallen off the bus; the machine has to be booted" in memory.reason
    assert after(memory, Registered(4), Heartbeat())[0].state is H.DRAINING
    memory, kinds = after(memory, Registered(4, has_booted=True))
    assert (memory.state, kinds) == (H.RECOVERING, ["gpu-recovering", "node-recovering"])


def test_nvml_that_is_gone_drains_a_node_with_gpus_only() -> None:
    assert after(node(), NvmlSeen("no-driver"))[0].state is H.HEALTHY
    assert after(node(), *[NvmlSeen("no-driver")] * 2)[0].state is H.DRAINING
    assert after(Memory(), *[NvmlSeen("no-library")] * 9) == (Memory(), [])


def bad(owner: str, name: str, *elsewhere: tuple[str, str], ran_s: float = 5.0) -> BadEnd:
    return BadEnd(owner, name, ran_s, frozenset(elsewhere))


def test_a_black_hole_needs_many_jobs_of_several_kinds_that_succeed_elsewhere() -> None:
    good = ("ann", "a")
    swallowed = [bad("ann", "a", good), bad("bob", "b", good)] * 2
    assert after(node(), *swallowed)[0].state is H.HEALTHY
    memory, kinds = after(node(), *swallowed, bad("bob", "b", good))
    assert (memory.state, kinds) == (H.DRAINING, ["node-draining"])
    assert "5 jobs of 2 kinds failed here within 60 s" in memory.reason
    assert after(node(), *[bad("ann", "a", good)] * 9)[0].state is H.HEALTHY  # one user's bad program
    assert after(node(), *[bad("ann", "a"), bad("bob", "b")] * 9)[0].state is H.HEALTHY  # fails everywhere
    late = [bad("ann", "a", good, ran_s=61.0), bad("bob", "b", good, ran_s=61.0)]
    assert after(node(), *late * 9)[0].state is H.HEALTHY
    assert after(node(), *swallowed, GoodEnd(), *swallowed)[0].state is H.HEALTHY
    memory, _ = after(node(), *swallowed)
    assert after(memory, *swallowed, at_s=1601.0)[0].state is H.HEALTHY  # the first have been forgotten


def test_a_node_that_flaps_is_held_out_and_an_operator_can_trust_it() -> None:
    memory, held = node(), []
    for at_s in (1000.0, 2000.0, 3000.0):
        memory, _ = after(memory, Lost(10.0), Registered(4), at_s=at_s)
        held.append(memory.trusted_s - at_s)
        memory, _ = after(memory, Heartbeat(), at_s=at_s + 10.0)
    assert held == [10.0, 10.0, 3600.0]
    assert memory.state is H.RECOVERING
    assert "failed 3 times of late and is held out" in memory.reason
    assert after(memory, Heartbeat(), at_s=6600.0)[0].state is H.HEALTHY
    trusted, _ = after(memory, Resume(), at_s=3011.0)
    assert (trusted.state, trusted.failed_s) == (H.HEALTHY, ())
    memory, _ = after(memory, Heartbeat(), Lost(10.0), Registered(4), at_s=3000.0 + 25 * 3600.0)  # a day later
    assert memory.trusted_s - (3000.0 + 25 * 3600.0) == 10.0


def test_a_node_is_not_given_up_within_its_lease() -> None:
    with pytest.raises(AssertionError, match="within its lease"):
        step(node(), Lost(9.99), 0.0, RULES)


def test_an_operators_lists_come_before_the_table() -> None:
    assert judge(31)[1] is Blame.APPLICATION
    assert judge(31, fatal=(31,))[1] is Blame.GPU
    assert judge(48, ignored=(48,))[1] is Blame.APPLICATION
    assert judge(79, fatal=(79,))[1] is Blame.NODE
    rules = LeaseRules(failover=FailoverRules(ignored_xids=(48,)))
    assert after(node(), GpuSeen(1, xids=(48,)), rules=rules)[0].closed_gpus == set()


EVENTS = st.one_of(
    st.just(Heartbeat()),
    st.floats(7, 20).map(Silence),
    st.floats(10, 20).map(Lost),
    st.builds(Registered, st.sampled_from([0, 2, 4]), st.booleans()),
    st.builds(
        GpuSeen,
        st.integers(0, 4),
        st.lists(st.sampled_from([*XIDS, 9999]), max_size=2).map(tuple),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([None, 0, 1]),
        st.sampled_from([False, False, True]),
        st.sampled_from([None, 60.0, 85.0, 95.0]),
        st.sampled_from([0, 0, 0x40]),
        st.sampled_from(["", "", "hung", "lost"]),
    ),
    st.sampled_from(["", "no-driver"]).map(NvmlSeen),
    st.builds(
        BadEnd,
        st.sampled_from("ab"),
        st.sampled_from("xy"),
        st.sampled_from([1.0, 99.0]),
        st.just(frozenset({("a", "x")})),
    ),
    st.just(GoodEnd()),
    st.builds(Drain, st.just("work"), st.sampled_from([None, 5000.0])),
    st.just(Resume()),
)


@given(st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 5.0, 700.0])), max_size=40))
@settings(deadline=None)
def test_whatever_happens_transitions_are_legal_and_memory_survives_json(events: list[tuple[Event, float]]) -> None:
    """The machine asserts its own table; here it is checked from outside, with the reasons that people are told."""
    memory, now_s = Memory(), 0.0
    for event, seconds in events:
        now_s += seconds
        made, findings = step(memory, event, now_s, RULES)
        told: dict[int | None, list[str]] = {}
        for finding in findings:
            told.setdefault(finding.gpu, []).append(finding.kind.partition("-")[2])
        walk(memory.state, told.get(None, []), made.state, LEGAL)
        for index, one in made.gpus.items():
            walk(memory.gpus.get(index, GpuMemory()).state, told.get(index, []), one.state, GPU_LEGAL)
        assert decode(json.loads(json.dumps(encode(made)))) == made
        assert (made.state is H.HEALTHY) or made.reason
        if made.state is H.HEALTHY:
            assert not made.grounds
        if made.state is H.DRAINING:
            assert made.grounds
        memory = made


def walk(begin: Health, told: list[str], end: Health, table: dict[Health, frozenset[Health]]) -> None:
    """Every state that was told follows from the one before, and the last is where it ended."""
    state = begin
    for word in told:
        if word in set(Health) and word != state:
            assert Health(word) in table[state], f"{state} → {word}"
            state = Health(word)
    assert state is end
