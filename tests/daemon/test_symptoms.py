"""From samples to events of the health machine."""

from __future__ import annotations

import time

from shunter.daemon.health import step
from shunter.daemon.health_facts import GpuSeen, Health, Memory, NvmlSeen
from shunter.daemon.health_rules import FailoverRules, LeaseRules
from shunter.daemon.pb.nodes_pb2 import GpuSample, NodeSample
from shunter.daemon.symptoms import symptoms
from shunter.daemon.telemetry import Telemetry

RULES = FailoverRules()
LONGEST_US = 40.0
"""Four times what it takes on an idle machine: tests run beside others."""


def sample(num_gpus: int = 8, **odd: object) -> NodeSample:
    """All is well on every GPU; on GPU 1 as told."""
    gpus = [
        GpuSample(
            index=i,
            utilisation=0.9,
            memory_used_gib=60.0,
            temperature_c=55.0,
            power_w=500.0,
            throttle_reasons=4,
            ecc_corrected=1,
            ecc_uncorrected=0,
            remapped_rows=0,
            remapping_failed=False,
        )
        for i in range(num_gpus)
    ]
    if odd:
        gpus[1].MergeFrom(GpuSample(**odd))  # type: ignore[arg-type]
    return NodeSample(cpu_utilisation=0.5, gpus=gpus)


class Node:
    """Telemetry and memory of one node."""

    def __init__(self, num_gpus: int = 8) -> None:
        self.telemetry, self.memory = Telemetry(), Memory(num_gpus=num_gpus)

    def takes(self, said: NodeSample) -> list[object]:
        whole = self.telemetry.take("n1", said)
        events = symptoms(said, whole, self.memory, RULES)
        for event in events:
            self.memory, _ = step(self.memory, event, 1000.0, LeaseRules())
        return list(events)

    @property
    def state(self) -> Health:
        """Of GPU 1."""
        return self.memory.gpus[1].state


def change(*gpus: GpuSample, nvml: str = "") -> NodeSample:
    return NodeSample(gpus=gpus, is_change=True, nvml=nvml)


def test_a_sample_in_which_nothing_is_wrong_gives_nothing_once_its_counters_are_known() -> None:
    node = Node()
    assert len(node.takes(sample())) == 8
    assert node.takes(sample()) == []
    assert node.takes(change(GpuSample(index=3, power_w=300.0))) == []
    assert Node(0).takes(NodeSample(cpu_utilisation=0.1)) == []


def test_what_the_agent_leaves_out_is_as_it_was_and_an_xid_happens_once() -> None:
    node = Node()
    node.takes(sample())
    node.takes(change(GpuSample(index=1, temperature_c=95.0)))
    assert node.state is Health.SUSPECT
    node.takes(change())  # still as hot
    node.takes(change(GpuSample(index=1, power_w=1.0)))  # and again: only its power has changed
    assert node.state is Health.DRAINING
    noted = Node()
    noted.takes(sample())
    assert noted.takes(change(GpuSample(index=1, xids=[31])))[0] == GpuSeen(
        1, (31,), ecc=0, retired=0, temperature_c=55.0, throttle=4
    )
    assert noted.takes(change()) == []


def test_a_fault_lasts_until_the_agent_says_otherwise() -> None:
    node = Node()
    node.takes(sample())
    node.takes(change(GpuSample(index=1, fault="hung")))
    assert node.state is Health.SUSPECT
    node.takes(change())
    assert node.state is Health.FAILED
    node.takes(change(GpuSample(index=1)))
    assert node.state is Health.RECOVERING


def test_counters_that_rise_and_flags_are_seen() -> None:
    for odd, state in (
        ({"ecc_uncorrected": 1}, Health.FAILED),
        ({"remapping_failed": True}, Health.FAILED),
        ({"fault": "lost"}, Health.FAILED),
        ({"throttle_reasons": 0x40}, Health.SUSPECT),
        ({"remapped_rows": 1}, Health.HEALTHY),
    ):
        node = Node()
        node.takes(sample())
        node.takes(sample(**odd))
        assert node.state is state, odd


def test_nvml_that_is_gone_is_told_until_gpus_are_seen_again() -> None:
    node = Node()
    node.takes(sample())
    assert node.takes(NodeSample(nvml="no-driver", is_change=True)) == [NvmlSeen("no-driver")]
    assert node.takes(change())[0] == NvmlSeen("no-driver")
    assert node.memory.state is Health.DRAINING
    assert node.takes(sample())[0] == NvmlSeen("")
    assert node.memory.state is Health.RECOVERING


def test_a_good_sample_costs_microseconds() -> None:
    """Eight GPUs, whole samples; the least of many rounds, so that neighbours on the machine do not count."""
    node = Node()
    node.takes(sample())
    said = sample()
    whole = node.telemetry.take("n1", said)
    best = float("inf")
    for _ in range(200):
        begun = time.perf_counter()
        symptoms(said, whole, node.memory, RULES)
        best = min(best, time.perf_counter() - begun)
    assert best * 1e6 <= LONGEST_US
