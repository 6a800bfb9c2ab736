"""Every value and every fault of NVML, by a library that says what the test wants."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from shunter.daemon.node import nvml
from shunter.daemon.node.gpu_watch import GpuWatch
from shunter.daemon.node.inventory import cuda_names
from tests.nvml.conftest import WELL, Tell


def test_every_value_is_read(tell: Tell) -> None:
    tell(f"gpu {WELL}", "process pid=41 memory=512", "process pid=42 memory=-1")
    nvml.start()
    found = nvml.sample(0)
    assert found.utilisation == pytest.approx(0.4)
    assert (found.memory_used_gib, found.temperature_c, found.power_w, found.sm_clock_mhz) == (1.0, 50.0, 300.0, 1500.0)
    assert (found.throttle_reasons, found.ecc_corrected, found.ecc_uncorrected) == (4, 2, 0)
    assert (found.retired_pages, found.remapped_rows, found.remapping_failed) == (1, 3, False)
    assert (found.nvlink_errors, found.pcie_replays) == (6, 7)  # two links with three each
    assert [(one.pid, one.HasField("memory_gib")) for one in found.processes] == [(41, True), (42, False)]
    assert found.HasField("ecc_uncorrected")  # measured, and none: not the same as not measured


def test_what_is_not_supported_is_absent(tell: Tell) -> None:
    tell("gpu temp=50")
    nvml.start()
    found = nvml.sample(0)
    present = {field.name for field, _ in found.ListFields()}
    assert present == {"temperature_c"}


def test_instances_have_memory_of_their_own(tell: Tell) -> None:
    instances = ("mig slice=0 used=100 total=20480 profile=3g.20gb", "mig slice=4 used=200 total=10240 profile=1g.10gb")
    tell(f"gpu {WELL}", *instances, f"gpu {WELL}")
    nvml.start()
    gpus = [nvml.describe(0), nvml.describe(1)]
    assert [(one.profile, one.first_slice) for one in gpus[0].instances] == [("3g.20gb", 0), ("1g.10gb", 4)]
    used = [one.memory_used_gib for one in nvml.sample(0).instances]
    assert used == [100 / 1024, 200 / 1024]
    names = cuda_names(gpus)
    assert names[1, None] == gpus[1].uuid
    assert names[0, 4] == gpus[0].instances[1].uuid
    assert names[0, 4].startswith("MIG-")


@pytest.mark.parametrize(
    ("line", "fault"), [("lost=1", "lost"), ("error=16", "reset-required"), ("error=999", "nvml-error-999")]
)
def test_a_gpu_that_does_not_answer_has_a_fault(tell: Tell, line: str, fault: str) -> None:
    tell(f"gpu {WELL}", f"gpu {WELL}")
    nvml.start()
    tell(f"gpu {WELL} {line}", f"gpu {WELL}")
    with pytest.raises(nvml.GpuFaultError, match=fault):
        nvml.sample(0)
    assert nvml.sample(1).temperature_c == 50.0


def watch(act: Any, **settings: Any) -> Any:
    """Run ``act(watch, xids)`` with the watch in a loop."""

    async def main() -> Any:
        xids: list[nvml.Xid] = []
        gpus = GpuWatch(xids.append, **settings)
        try:
            await gpus.start()
            return await act(gpus, xids)
        finally:
            gpus.close()

    return asyncio.run(main())


def test_a_fault_shows_in_the_sample_and_goes_away(tell: Tell) -> None:
    tell(f"gpu {WELL}", f"gpu {WELL}")

    async def act(gpus: GpuWatch, _: Any) -> list[list[str]]:
        found = [[one.fault for one in await gpus.sample()]]
        tell(f"gpu {WELL}", f"gpu {WELL} lost=1")
        found.append([one.fault for one in await gpus.sample()])
        tell(f"gpu {WELL}", f"gpu {WELL}")
        return [*found, [one.fault for one in await gpus.sample()]]

    assert watch(act) == [["", ""], ["", "lost"], ["", ""]]


def test_a_call_that_hangs_stops_nothing_else(tell: Tell) -> None:
    tell(f"gpu {WELL}", f"gpu {WELL}")

    async def act(gpus: GpuWatch, _: Any) -> None:
        tell(f"gpu {WELL} hang=1", f"gpu {WELL}")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        assert [one.fault for one in await gpus.sample()] == ["hung", ""]
        assert ticks > 5  # the loop went on
        ticking.cancel()
        began = time.monotonic()
        assert [one.fault for one in await gpus.sample()] == ["hung", ""]
        assert time.monotonic() - began < 0.2  # not asked again so soon
        tell(f"gpu {WELL}", f"gpu {WELL}")
        await asyncio.sleep(0.45)
        assert [one.fault for one in await gpus.sample()] == ["", ""]

    watch(act, call_limit_s=0.3, retry_s=0.4)


@pytest.mark.parametrize(
    ("line", "problem"), [("driver=0", "no-driver"), ("hang_init=1", "hung"), ("error_count=999", "nvml-error-999")]
)
def test_what_stops_all_of_it_is_told_and_tried_again(tell: Tell, line: str, problem: str) -> None:
    tell(line, f"gpu {WELL}")

    async def act(gpus: GpuWatch, _: Any) -> None:
        assert gpus.problem == problem
        assert await gpus.sample() == []
        tell(f"gpu {WELL}")
        await asyncio.sleep(0.25)
        assert [one.temperature_c for one in await gpus.sample()] == [50.0]
        assert gpus.problem == ""

    watch(act, call_limit_s=0.2, retry_s=0.2)


def test_xids_are_told_at_once(tell: Tell) -> None:
    tell(f"gpu {WELL}", f"gpu {WELL}")

    async def act(gpus: GpuWatch, xids: list[nvml.Xid]) -> None:
        await asyncio.sleep(0.05)
        tell(f"gpu {WELL}", f"gpu {WELL} xid=79")
        async with asyncio.timeout(5):
            while not xids:
                await asyncio.sleep(0.01)
        assert xids == [nvml.Xid(1, 79)]

    watch(act)
