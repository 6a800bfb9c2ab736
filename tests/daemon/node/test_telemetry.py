"""Telemetry of a whole agent, over the wire, with a library that pretends to be NVML."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from shunter.daemon.node import telemetry
from shunter.daemon.node.telemetry import Telemetry
from tests.daemon.node.peer import ENDED, AgentProcess, Peer, pb, wait_for
from tests.nvml.conftest import WELL, standin  # noqa: F401  (a fixture)


def test_gpus_are_offered_used_and_watched(
    tmp_path: Path,
    standin: Path,  # noqa: F811
    peers: Callable[..., Peer],
    agents: Callable[..., AgentProcess],
) -> None:
    file = tmp_path / "gpus"

    def tell(text: str) -> None:
        file.with_suffix(".new").write_text(text)
        file.with_suffix(".new").rename(file)

    tell(f"gpu {WELL}\ngpu {WELL}\nmig slice=4 used=1 total=10240 profile=1g.10gb\n")
    peer = peers(lease_s=20.0)
    agent = agents("--daemon", peer.address, environment={"LD_LIBRARY_PATH": str(standin), "FAKE_NVML": str(file)})
    wait_for(lambda: peer.registrations)
    description = peer.registrations[0].description
    assert (description.gpu_type, description.driver_version) == ("NVIDIA H100 (pretended)", "580.00")
    assert [len(gpu.instances) for gpu in description.gpus] == [0, 1]
    instance = description.gpus[1].instances[0]
    assert (instance.profile, instance.first_slice) == ("1g.10gb", 4)

    script = ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
    peer.assign(1, *script, placement={"node": "n1", "tasks": 1, "gpus": [0]})
    peer.assign(2, *script, placement={"node": "n1", "tasks": 1, "gpus": [1], "first_slice": 4})
    seen = []
    for job in (1, 2):
        assert peer.await_report(job, ENDED).end == pb.Report.END_EXITED
        seen.append(next(agent.state.glob(f"*/{job}.1/logs/*")).read_text().strip())
    assert seen == [description.gpus[0].uuid, instance.uuid]

    wait_for(lambda: peer.samples)
    first = peer.samples[0]
    assert (first.is_change, first.nvml, first.gpus[0].temperature_c) == (False, "", 50.0)
    assert 0 <= first.cpu_utilisation <= 1
    assert first.memory_used_gib > 0
    assert first.disk_free_gib > 0
    tell(f"gpu {WELL} xid=79\ngpu {WELL} lost=1\n")
    wait_for(lambda: any(list(gpu.xids) == [79] for one in peer.samples for gpu in one.gpus))
    lost = wait_for(lambda: [one for one in list(peer.samples) if any(gpu.fault == "lost" for gpu in one.gpus)])[0]
    assert (lost.is_change, [gpu.fault for gpu in lost.gpus]) == (False, ["", "lost"])


def test_what_nobody_fetches_is_bounded_and_xids_are_kept(tmp_path: Path) -> None:
    async def main() -> Telemetry:
        telling = Telemetry("n1", tmp_path, sample_s=1.0, fixed=True)
        for number in range(telemetry.MAX_WAITING + 10):
            one = await telling.sample()
            if number == 0:
                one.gpus.add(index=3, xids=[48])
            telling._add(one)
        return telling

    telling = asyncio.run(main())
    assert telling.dropped == 10
    assert len(telling._waiting) == telemetry.MAX_WAITING
    assert [(gpu.index, list(gpu.xids)) for gpu in telling._waiting[0].gpus] == [(3, [48])]
