"""From an assignment to what a shim does: accounts above all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from shunter.daemon.errors import InvalidError
from shunter.daemon.node.cgroups import find_cgroups
from shunter.daemon.node.orders import choose_account, make_order
from shunter.daemon.node.settings import NodeSettings
from shunter.daemon.node.state import StateFolder
from shunter.daemon.pb import agent_pb2

pb: Any = agent_pb2
ROOT = os.geteuid() == 0


def settings(folder: Path = Path("/s"), **more: Any) -> NodeSettings:
    return NodeSettings(daemon=("a:1",), name="n1", state=folder, **more)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "state")
    yield folder
    folder.close()


@pytest.mark.skipif(not ROOT, reason="rules for an agent that runs as root")
@pytest.mark.parametrize(
    ("more", "user", "run_as", "expected"),
    [
        ({}, "daemon", "", "daemon"),  # the user's own
        ({}, "root", "", None),
        ({}, "root", "root", None),
        ({}, "nobody-of-that-name", "", None),
        ({}, "daemon", "nobody", None),  # somebody else's
        ({"accounts": ("nobody",)}, "daemon", "nobody", "nobody"),
        ({"accounts": ("root",)}, "daemon", "root", None),
        ({"run_as": "nobody"}, "daemon", "", "nobody"),
        ({"run_as": "nobody"}, "daemon", "daemon", "daemon"),
        ({"run_as": "root"}, "daemon", "", None),
        ({"allow_root": True}, "daemon", "", "root"),
        ({"allow_root": True, "run_as": "nobody"}, "daemon", "", "nobody"),
        ({"allow_root": True}, "daemon", "nobody", None),
    ],
)
def test_who_runs_a_job(more: dict[str, Any], user: str, run_as: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(InvalidError):
            choose_account(settings(**more), user, run_as)
    else:
        account = choose_account(settings(**more), user, run_as)
        assert (account.name, account.switch) == (expected, expected != "root")


def test_a_missing_instance_is_refused(state: StateFolder) -> None:
    assignment = pb.Assignment(
        job=1,
        attempt=1,
        spec={"command": ["true"]},
        placement={"node": "n1", "tasks": 1, "gpus": [0], "first_slice": 4},
    )
    names: dict[tuple[int, int | None], str] = {(0, None): "GPU-a", (0, 4): "MIG-b"}
    allowed = settings(allow_root=True)
    order = make_order(assignment, settings=allowed, state=state, gpu_uuids=names)
    assert order["tasks"][0]["environment"]["CUDA_VISIBLE_DEVICES"] == "MIG-b"
    with pytest.raises(InvalidError, match="memory slice 4"):
        make_order(assignment, settings=allowed, state=state, gpu_uuids={(0, None): "GPU-a"})


@given(st.binary(max_size=200))
def test_any_assignment_is_taken_or_refused(data: bytes) -> None:
    assignment = pb.Assignment(job=1, attempt=1)
    try:
        assignment.spec.ParseFromString(data)
    except DecodeError:
        return
    assignment.spec.working_directory = "/"
    try:
        order = make_order(assignment, settings=settings(allow_root=True), state=None, gpu_uuids={})  # type: ignore[arg-type]
    except InvalidError:
        return
    assert order["argv"]


@pytest.mark.parametrize("amount", [float("inf"), float("nan"), -1.0, 1e300])
def test_amounts_that_make_no_sense_do_no_harm(state: StateFolder, amount: float) -> None:
    assignment = pb.Assignment(
        job=1,
        attempt=1,
        spec={"command": ["true"], "per_task": {"memory_gib": amount, "cpus": amount}},
        placement={"node": "n1", "tasks": 1},
        time_limit_s=amount,
        grace_s=amount,
    )
    order = make_order(assignment, settings=settings(allow_root=True), state=state, gpu_uuids={})
    assert all(0 <= value < 2**63 for _, value in order["limits"])
    assert 0 <= order["time_limit_s"] < float("inf")


def test_what_a_shim_loads_is_little() -> None:
    import subprocess
    import sys

    from shunter.daemon.node.launch import ROOT as TREE

    code = "import sys; sys.path.insert(0, sys.argv[1]); import shunter.daemon.node.shim.main; print(*sys.modules)"
    run = [sys.executable, "-I", "-S", "-c", code, TREE]
    loaded = set(subprocess.run(run, capture_output=True, text=True, check=True, env={}).stdout.split())
    slow = {"json", "dataclasses", "enum", "pathlib", "typing", "re", "subprocess", "signal", "contextlib", "threading"}
    assert loaded.isdisjoint(slow)


def test_the_agent_loads_nothing_that_decides() -> None:
    import subprocess
    import sys

    code = "import sys, shunter.daemon.node.agent; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    loaded = set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    assert loaded.isdisjoint({"numpy", "numba", "sqlalchemy", "polars", "scipy", "pydantic", "onnxruntime"})


def test_a_cgroup_ends_what_has_left_its_session() -> None:
    import subprocess

    from shunter.daemon.node.shim import groups

    cgroups = find_cgroups("test-of-cgroups")
    if cgroups is None:
        pytest.skip("needs cgroups (version 2) that may be made")
    folder = cgroups.make("1.1", memory_gib=0.0, cpus=0.0)
    process = subprocess.Popen(["setsid", "sleep", "1000"])
    try:
        (Path(folder) / "cgroup.procs").write_text(str(process.pid))
        groups.kill(folder)
        assert process.wait(10) == -9
    finally:
        process.kill()
        process.wait()
        groups.remove(folder)
        cgroups.path.rmdir()
    assert not Path(folder).exists()
