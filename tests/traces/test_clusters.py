from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ConfigError
from shunter.traces.clusters import load_cluster, save_cluster
from shunter.traces.tables import ClusterSpec, NodeGroup

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "nodes", "cpus", "gpus"),
    [
        ("128", 1, 128, None),
        ("cpus=128", 1, 128, None),
        ("128cpus", 1, 128, None),
        ("gpus=64", 1, None, 64),
        ("64gpus", 1, None, 64),
        ("64 GPUs", 1, None, 64),
        ("1000x8", 1000, None, 8000),
        ("1000x8gpus", 1000, None, 8000),
        ("1000×8", 1000, None, 8000),
        ("100x64cpus", 100, 6400, None),
    ],
)
def test_short_texts(text: str, nodes: int, cpus: float | None, gpus: float | None) -> None:
    spec = load_cluster(text)
    assert (spec.num_nodes, spec.total("cpus"), spec.total("gpus")) == (nodes, cpus, gpus)


@pytest.mark.parametrize("text", ["", "x", "-5", "12q", "8x", "none.yaml", "1.5"])
def test_texts_that_mean_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match="expected 128, 64gpus"):
        load_cluster(text or "none")


@pytest.mark.parametrize("text", ["0", "0x8", "5x0", "gpus=0"])
def test_empty_clusters(text: str) -> None:
    with pytest.raises(ConfigError, match="nothing to run on"):
        load_cluster(text)


def test_contradiction() -> None:
    with pytest.raises(ConfigError, match="names two resources"):
        load_cluster("cpus=5gpus")


YAML = """
name: lab
kill_at_limit: true
groups:
  - {name: big, count: 4, cpus: 64, memory_gib: 512, gpus: 8, gpu_type: A100}
  - {count: 2, cpus: 32}
"""


def test_yaml(write_text: Write) -> None:
    spec = load_cluster(write_text(YAML, "lab.yaml"))
    assert (spec.name, spec.kill_at_limit, spec.num_nodes) == ("lab", True, 6)
    assert spec.groups[0] == NodeGroup("big", 4, 64.0, 512.0, 8.0, "A100")
    assert spec.groups[1] == NodeGroup("group-1", 2, cpus=32.0)


def test_all_problems_at_once_each_with_its_path(write_text: Write) -> None:
    text = """
nmae: lab
groups:
  - {count: 0, cpus: 4}
  - {count: 2, cpus: many}
  - {count: 2, gpu: 8}
  - {cpus: -1}
"""
    with pytest.raises(ConfigError) as caught:
        load_cluster(write_text(text, "lab.yaml"))
    message = str(caught.value)
    for part in (
        "nmae: unknown key; did you mean 'name'?",
        "groups[0].count: input should be greater than or equal to 1, got 0",
        "groups[1].cpus: input should be a valid number",
        "groups[2].gpu: unknown key; did you mean 'gpus'?",
        "groups[3].cpus: input should be greater than or equal to 0, got -1",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: []", "groups: list should have at least 1 item"),
        ("name: x", "groups: field required"),
        ("groups: [{name: a, count: 1}]", r"groups\[0\]: at least one of cpus, memory_gib, gpus is needed"),
        ("groups: [", r"lab.yaml:1:\d+: no valid YAML"),
        ("just text", "expected keys and values, got str"),
    ],
)
def test_yaml_mistakes(write_text: Write, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_cluster(write_text(text, "lab.yaml"))


def test_a_file_of_another_kind(write_text: Write) -> None:
    with pytest.raises(ConfigError, match="no cluster file"):
        load_cluster(write_text("1 2 3", "lab.txt"))
    with pytest.raises(ConfigError, match="is a folder"):
        load_cluster(write_text("", "x").parent)


def test_node_list(write_text: Write) -> None:
    text = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P100\nb,32000,131072,0,\nc,64000,262144,2,P100\n"
    spec = load_cluster(write_text(text, "nodes.csv"))
    assert spec.groups == (
        NodeGroup("P100-0", 2, 64.0, 256.0, 2.0, "P100"),
        NodeGroup("cpu-1", 1, 32.0, 128.0, 0.0, None),
    )


def test_public_node_list(shared: Path) -> None:
    spec = load_cluster(shared / "alibaba-openb-2023" / "openb_node_list_all_node.csv.gz")
    assert (spec.num_nodes, spec.total("gpus")) == (1523, 6212)


amounts = st.none() | st.floats(0, 1e6, allow_nan=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(1, 9), amounts, amounts, st.floats(0, 16)), min_size=1, max_size=4), st.booleans()
)
def test_saved_clusters_load_back(tmp_path: Path, rows: list[tuple[int, float, float, float]], kill: bool) -> None:
    groups = tuple(NodeGroup(f"g{i}", n, c, m, g, "T4") for i, (n, c, m, g) in enumerate(rows))
    spec = ClusterSpec("name: with, signs", groups, kill_at_limit=kill)
    save_cluster(spec, tmp_path / "c.yaml")
    assert load_cluster(tmp_path / "c.yaml") == spec
