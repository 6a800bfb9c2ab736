"""Cluster specifications: what they mean, what is refused and how it is told, files, the ready ones, pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ConfigError, TraceError, UsageError
from shunter.traces.cluster_info import describe_cluster
from shunter.traces.cluster_picture import layout, plot_cluster
from shunter.traces.cluster_spec import TIERS, ClusterSpec, GpuType, NodeGroup, Quota, pool
from shunter.traces.clusters import load_cluster, save_cluster
from shunter.traces.read import read
from shunter.traces.specs import READY
from shunter.traces.tables import Trace, make_jobs
from shunter.traces.write import write

Write = Callable[..., Path]

GPU_NODES = NodeGroup("gpu", 4, cpus=64.0, gpus=8.0, gpu_type="A100")


def spec(*groups: NodeGroup, **fields: Any) -> ClusterSpec:
    return ClusterSpec("c", groups or (GPU_NODES,), **fields)


# --- what a specification means --------------------------------------------------------------------------------------


def test_racks_and_switches_are_numbered_over_the_cluster() -> None:
    groups = (
        NodeGroup("a", 7, gpus=8.0, rack_size=4, switch_size=2),  # racks of 4 and 3, switches of 2, 2, 2, 1
        NodeGroup("b", 3, gpus=4.0),  # one rack, one switch
        NodeGroup("c", 3, cpus=8.0, switch_size=2),  # one rack of unknown size, two switches
    )
    table = spec(*groups).node_table()
    assert table.rack_idx.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert table.switch_idx.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 5, 5, 6]
    assert table.group_idx.tolist() == [0] * 7 + [1] * 3 + [2] * 3
    assert table.gpus.tolist() == [8] * 7 + [4] * 3 + [0] * 3
    assert [group.num_racks for group in groups] == [2, 1, 1]


def test_zones_of_two_regions_differ_even_with_one_name() -> None:
    places = (("x", "north"), ("x", "south"), ("y", "north"), ("x", "north"))
    groups = [NodeGroup(f"g{i}", 1, gpus=1.0, zone=zone, region=region) for i, (zone, region) in enumerate(places)]
    table = spec(*groups).node_table()
    assert table.zone_idx.tolist() == [0, 1, 2, 0]
    assert table.region_idx.tolist() == [0, 1, 0, 0]


def test_node_names_are_unique() -> None:
    groups = (NodeGroup("a", 2, cpus=1.0), NodeGroup("b", 1, cpus=1.0), NodeGroup("a", 2, cpus=2.0))
    assert spec(*groups).node_names() == ["a-0", "a-1", "b", "a-2", "a-3"]


def test_a_tier_that_is_not_given_costs_what_the_one_before_costs() -> None:
    tiers = {"default": {"rack": 0.9, "cluster": 0.5}, "llm": {"node": 0.95}}
    cluster = spec(tier_speed=tiers)
    assert TIERS == ("node", "switch", "rack", "zone", "cluster")
    assert cluster.tier_speeds("resnet") == (1.0, 1.0, 0.9, 0.9, 0.5)
    assert cluster.tier_speeds(None) == cluster.tier_speeds("resnet")
    assert cluster.tier_speeds("llm") == (0.95,) * 5
    assert spec().tier_speeds("llm") == (1.0,) * 5


def test_speed_by_model_class() -> None:
    kind = GpuType(speed={"default": 2.0, "llm": 3.0})
    assert [kind.speed_of(name) for name in ("llm", "resnet", None)] == [3.0, 2.0, 2.0]
    assert GpuType(speed={"llm": 3.0}).speed_of("resnet") == 1.0


def test_a_specification_is_json_and_hashable() -> None:
    whole = full_spec()
    assert ClusterSpec.from_dict(json.loads(json.dumps(asdict(whole)))) == whole
    assert len({whole, full_spec(), spec()}) == 2


def test_facts_add_up() -> None:
    groups = (
        NodeGroup("a", 2, gpus=4.0, gpu_type="A", price_per_h=3.0, idle_w=100.0, peak_w=300.0, owner="q"),
        NodeGroup("b", 1, cpus=8.0, price_per_h=1.0),
    )
    facts = describe_cluster(
        spec(*groups, gpu_types={"A": GpuType(idle_w=10.0, peak_w=50.0)}, quotas={"q": Quota(2.0)}, borrowing=False)
    )
    assert facts["price_per_h"] == 2 * 3.0 + 1.0
    assert (facts["idle_w"], facts["peak_w"]) == (2 * (100.0 + 40.0), 2 * (300.0 + 200.0))
    assert facts["quotas"]["q"] == {"guaranteed_gpus": 2.0, "limit_gpus": 2.0, "weight": None, "share": 0.25}
    assert "idle_w" not in facts["groups"][1]
    json.dumps(facts)


# --- what is refused -------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"count": 0}, {}, "groups[0].count: 0 is not a positive number of nodes"),
    ({"cpus": -1.0}, {}, "groups[0].cpus: -1.0 is not a finite number of at least 0"),
    ({"cpus": None, "gpus": None}, {}, "groups[0]: none of cpus, memory_gib, gpus is given"),
    ({"price_per_h": float("inf")}, {}, "groups[0].price_per_h: inf is not a finite number of at least 0"),
    ({"rack_size": 0}, {}, "groups[0].rack_size: 0 is not a positive number of nodes"),
    ({"rack_size": 6, "switch_size": 4}, {}, "groups[0].switch_size: 4 nodes a switch do not divide a rack of 6 nodes"),
    ({"mttr_h": 5.0}, {}, "groups[0].mttr_h: a time to repair needs mtbf_h too"),
    ({"gpu_mttr_h": 5.0}, {}, "groups[0].gpu_mttr_h: a time to repair needs gpu_mtbf_h too"),
    ({"mtbf_h": 5.0}, {}, "groups[0].mtbf_h: a time between failures needs mttr_h too"),
    ({"gpu_mtbf_h": 5.0}, {}, "groups[0].gpu_mtbf_h: a time between failures needs gpu_mttr_h too"),
    ({"mtbf_h": 0.0}, {}, "groups[0].mtbf_h: 0.0 is not a finite number above 0"),
    ({"failure_shape": -1.0}, {}, "groups[0].failure_shape: -1.0 is not a finite number above 0"),
    ({"idle_w": 5.0, "peak_w": 4.0}, {}, "groups[0].peak_w: 4 is below idle_w of 5"),
    ({"gpus": 0.0, "mig": True}, {}, "groups[0].mig: the nodes of this group have no GPUs"),
    ({"mig": True, "gpu_type": "A100"}, {}, "groups[0].mig: GPU type 'A100' and its memory do not tell how the GPUs"),
    ({"mig": "a100-80"}, {}, "groups[0].mig: unknown geometry 'a100-80'; did you mean 'a100-80gb'?"),
    ({"owner": ""}, {}, "groups[0].owner: a name cannot be empty"),
    ({"gpu_type": "A10O"}, {"gpu_types": {"A100": GpuType()}}, "groups[0].gpu_type: unknown GPU type 'A10O'; did you"),
    ({}, {"gpu_types": {"A100": GpuType(speed={"llm": 0.0})}}, "gpu_types.A100.speed.llm: 0.0 is not a finite number"),
    ({}, {"gpu_types": {"A100": GpuType(memory_gib=0.0)}}, "gpu_types.A100.memory_gib: 0.0 is not a finite number"),
    ({}, {"gpu_types": {"A100": GpuType(idle_w=9.0, peak_w=3.0)}}, "gpu_types.A100.peak_w: 3 is below idle_w of 9"),
    ({}, {"quotas": {"a": Quota(40.0)}}, "quotas.a.guaranteed_gpus: 40 is more than the 32 GPUs"),
    (
        {},
        {"quotas": {"a": Quota(20.0), "b": Quota(20.0)}},
        "quotas: 40 GPUs are guaranteed in all, but the cluster has",
    ),
    ({}, {"quotas": {"a": Quota(8.0, limit_gpus=4.0)}}, "quotas.a.limit_gpus: 4 is below guaranteed_gpus of 8"),
    ({}, {"quotas": {"a": Quota(8.0, weight=0.0)}}, "quotas.a.weight: 0.0 is not a finite number above 0"),
    ({"owner": "b"}, {"quotas": {"a": Quota(8.0)}}, "quotas.a.guaranteed_gpus: 8 is more than the 0 GPUs (of 32) that"),
    ({}, {"tier_speed": {"llm": {"rack": 1.5}}}, "tier_speed.llm.rack: 1.5 is not above 0 and at most 1"),
    ({}, {"tier_speed": {"llm": {"rack": 0.0}}}, "tier_speed.llm.rack: 0.0 is not above 0 and at most 1"),
    ({}, {"tier_speed": {"llm": {"rak": 0.5}}}, "tier_speed.llm.rak: unknown tier; did you mean 'rack'?"),
    ({}, {"rack_mttr_h": 5.0}, "rack_mttr_h: a time to repair needs rack_mtbf_h too"),
    ({}, {"rack_mtbf_h": 5.0}, "rack_mtbf_h: a time between failures needs rack_mttr_h too"),
    ({}, {"power_cap_w": 0.0}, "power_cap_w: 0.0 is not a finite number above 0"),
    ({}, {"carbon_g_per_kwh": {"region-0": -1.0}}, "carbon_g_per_kwh.region-0: -1.0 is not a finite number"),
    ({}, {"carbon_g_per_kwh": {"regoin-0": 1.0}}, "carbon_g_per_kwh.regoin-0: no group lies in this region; did you"),
    ({}, {"currency": ""}, "currency: a name cannot be empty"),
]


@pytest.mark.parametrize(("group", "fields", "message"), BAD, ids=[message.split(":")[0] for _, _, message in BAD])
def test_bad_values_are_told_with_path_and_reason(group: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"cluster 'c': {message}")) as caught:
        spec(replace(GPU_NODES, **group), **fields)
    assert "\n" not in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        spec(
            replace(GPU_NODES, mttr_h=1.0, gpu_type="B"),
            gpu_types={"A": GpuType(speed={"default": -1.0})},
            quotas={"a": Quota(4.0, limit_gpus=2.0)},
            tier_speed={"default": {"node": 2.0}},
        )
    for path in ("groups[0].mttr_h", "groups[0].gpu_type", "gpu_types.A.speed", "quotas.a.limit", "tier_speed.default"):
        assert path in str(caught.value)


def test_all_problems_of_a_file_are_told_at_once(write_text: Write) -> None:
    text = """
gpu_types: {A100: {spede: 2, idle_w: 3}, V100: {speed: 0}}
quotas: {a: {guaranteed_gpus: 8, limit_gpus: 4}, b: {}}
tier_speed: {default: {rack: 1.5}}
groups:
  - {count: 2, gpus: many}
  - {count: 2, gpus: 8, gpu_type: A10O, rack_size: 5, switch_size: 2, mttr_h: 3}
boorowing: true
"""
    with pytest.raises(ConfigError) as caught:
        load_cluster(write_text(text, "lab.yaml"))
    for part in (
        "lab.yaml: ",
        "gpu_types.A100.spede: unknown key; did you mean 'speed'?",
        "gpu_types.V100.speed.default: input should be greater than 0, got 0",
        "quotas.a.limit_gpus: 4 is below guaranteed_gpus of 8",
        "quotas.b.guaranteed_gpus: field required",
        "tier_speed.default.rack: 1.5 is not above 0 and at most 1",
        "groups[0].gpus: input should be a valid number",
        "groups[1].gpu_type: unknown GPU type 'A10O'; did you mean 'A100'?",
        "groups[1].switch_size: 2 nodes a switch do not divide a rack of 5 nodes evenly",
        "groups[1].mttr_h: a time to repair needs mtbf_h too",
        "boorowing: unknown key; did you mean 'borrowing'?",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_problems_between_the_parts_of_a_file(write_text: Write) -> None:
    text = "{groups: [{gpus: 8, owner: 7}], quotas: {7: 4, 8: 2}, rack_mttr_h: 1, carbon_g_per_kwh: {north: 3}}"
    with pytest.raises(ConfigError) as caught:
        load_cluster(write_text(text, "lab.yaml"))
    assert "rack_mttr_h: a time to repair needs rack_mtbf_h too" in str(caught.value)
    assert "carbon_g_per_kwh.north: no group lies in this region" in str(caught.value)
    assert "quotas.8.guaranteed_gpus: 2 is more than the 0 GPUs (of 8) that are open to it" in str(caught.value)
    assert "quotas.7" not in str(caught.value)


# --- files -----------------------------------------------------------------------------------------------------------


def full_spec() -> ClusterSpec:
    """Every field with a value that is not its default."""
    group = NodeGroup(
        name="gpu",
        count=8,
        cpus=96.0,
        memory_gib=1024.0,
        gpus=8.0,
        gpu_type="A100",
        rack_size=4,
        switch_size=2,
        zone="a",
        region="north",
        price_per_h=30.5,
        spot=True,
        idle_w=200.0,
        peak_w=900.0,
        mtbf_h=3692.0,
        mttr_h=6.0,
        gpu_mtbf_h=50_000.0,
        gpu_mttr_h=24.0,
        failure_shape=0.7,
        mig=True,
        owner="research",
    )
    return ClusterSpec(
        name="full",
        groups=(group, NodeGroup("cpu", 2, cpus=64.0)),
        kill_at_limit=True,
        gpu_types={"A100": GpuType(80.0, {"default": 1.5, "llm": 2.0}, 50.0, 400.0), "plain": GpuType()},
        quotas={"research": Quota(32.0, 48.0, 2.0)},
        borrowing=False,
        tier_speed={"default": {"rack": 0.9}, "llm": {"node": 1.0, "cluster": 0.25}},
        rack_mtbf_h=8760.0,
        rack_mttr_h=4.0,
        currency="EUR",
        carbon_g_per_kwh={"north": 30.0},
        power_cap_w=30_000.0,
    )


def test_every_field_of_the_full_specification_is_set() -> None:
    plain = asdict(spec(NodeGroup("n", 1, cpus=1.0)))
    full = asdict(full_spec())
    assert [name for name, value in full.items() if value == plain[name]] == []
    assert [name for name, value in full["groups"][0].items() if value == plain["groups"][0][name]] == []


def test_the_full_specification_is_written_and_read_back(tmp_path: Path) -> None:
    save_cluster(full_spec(), tmp_path / "full.yaml")
    assert load_cluster(tmp_path / "full.yaml") == full_spec()


def test_short_forms_and_names_that_are_numbers(write_text: Write) -> None:
    text = "{gpu_types: {V100: {speed: 2}}, quotas: {103959: 4}, groups: [{gpus: 8, gpu_type: V100, owner: 103959}]}"
    cluster = load_cluster(write_text(text, "lab.yaml"))
    assert cluster.gpu_types["V100"].speed == {"default": 2.0}
    assert cluster.quotas == {"103959": Quota(4.0)}
    assert cluster.groups[0].owner == "103959"


names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=8)
amounts = st.floats(0, 1e6)
positive = st.floats(0.01, 1e6)


@st.composite
def groups(draw: st.DrawFn, kinds: list[str]) -> NodeGroup:
    switch_size = draw(st.none() | st.integers(1, 4))
    idle_w, mtbf_h = draw(st.none() | amounts), draw(st.none() | positive)
    return NodeGroup(
        name=draw(names),
        count=draw(st.integers(1, 40)),
        cpus=draw(st.none() | amounts),
        gpus=float(draw(st.integers(1, 16))),
        gpu_type=draw(st.none() | st.sampled_from(kinds)) if kinds else None,
        rack_size=draw(st.none() | st.integers(1, 5).map(lambda k: k * (switch_size or 1))),
        switch_size=switch_size,
        zone=draw(names),
        region=draw(names),
        price_per_h=draw(st.none() | amounts),
        spot=draw(st.booleans()),
        idle_w=idle_w,
        peak_w=None if idle_w is None else idle_w + draw(amounts),
        mtbf_h=mtbf_h,
        mttr_h=None if mtbf_h is None else draw(positive),
        failure_shape=draw(positive),
        mig=draw(st.sampled_from([False, "a30-24gb", "h100-80gb"])),
    )


@st.composite
def specs(draw: st.DrawFn) -> ClusterSpec:
    kinds = draw(st.lists(names, max_size=3, unique=True))
    parts = tuple(draw(st.lists(groups(kinds), min_size=1, max_size=3)))
    gpus = sum(group.count * (group.gpus or 0.0) for group in parts)
    accounts = draw(st.lists(names, max_size=3, unique=True))
    speeds = st.dictionaries(names, positive, max_size=3)
    tiers = st.dictionaries(st.sampled_from(TIERS), st.floats(0.01, 1.0), max_size=5)
    return ClusterSpec(
        name=draw(names),
        groups=parts,
        gpu_types={kind: GpuType(draw(st.none() | positive), draw(speeds)) for kind in kinds},
        quotas={name: Quota(gpus / len(accounts) * draw(st.floats(0, 0.99))) for name in accounts},
        borrowing=draw(st.booleans()),
        tier_speed=draw(st.dictionaries(names, tiers, max_size=2)),
        carbon_g_per_kwh={group.region: draw(amounts) for group in parts},
        power_cap_w=draw(st.none() | positive),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs())
def test_saved_specifications_load_back(tmp_path: Path, cluster: ClusterSpec) -> None:
    save_cluster(cluster, tmp_path / "c.yaml")
    assert load_cluster(tmp_path / "c.yaml") == cluster
    assert ClusterSpec.from_dict(json.loads(json.dumps(asdict(cluster)))) == cluster


@settings(max_examples=40, deadline=None)
@given(specs())
def test_nodes_of_a_switch_share_a_rack_and_those_of_a_rack_a_zone(cluster: ClusterSpec) -> None:
    table = cluster.node_table()
    chain = (table.switch_idx, table.rack_idx, table.group_idx, table.zone_idx, table.region_idx)
    assert {len(column) for column in chain} == {cluster.num_nodes}
    for inner, outer in pairwise(chain):
        assert len(set(zip(inner.tolist(), outer.tolist(), strict=True))) == len(set(inner.tolist()))
        assert set(inner.tolist()) == set(range(len(set(inner.tolist()))))  # numbered without gaps
    for i, group in enumerate(cluster.groups):
        racks = table.rack_idx[table.group_idx == i]
        assert int(np.bincount(racks).max()) <= (group.rack_size or group.count)
    assert len(cluster.node_names()) == cluster.num_nodes


# --- traces ----------------------------------------------------------------------------------------------------------

JOBS = {"job_id": ["a", "b"], "submit_s": [0, 1], "duration_s": [5, 6]}


def test_new_job_columns_default_to_unknown_and_are_kept() -> None:
    assert make_jobs(JOBS).frame.select("gpu_memory_gib", "gpu_profile", "min_gpus", "max_gpus").null_count().row(
        0
    ) == ((2,) * 4)
    jobs = make_jobs(JOBS | {"gpu_memory_gib": [0, 7.5], "gpu_profile": ["1g.10gb", None], "min_gpus": [1, None]})
    assert jobs.frame["gpu_memory_gib"].to_list() == [0.0, 7.5]
    assert jobs.frame["gpu_profile"].to_list() == ["1g.10gb", None]
    assert jobs.frame["min_gpus"].to_list() == [1, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"gpu_memory_gib": [1, -1]},
            "row 1, column 'gpu_memory_gib': expected a finite amount of at least 0, got -1.0",
        ),
        ({"gpu_memory_gib": [float("inf"), 1]}, "row 0, column 'gpu_memory_gib': expected a finite amount"),
        ({"gpu_profile": ["", "1g.10gb"]}, "row 0, column 'gpu_profile': expected a profile's name"),
        ({"min_gpus": [0, 1]}, "row 0, column 'min_gpus': expected at least one GPU, got 0"),
        ({"max_gpus": [1, -2]}, "row 1, column 'max_gpus': expected at least one GPU, got -2"),
        ({"min_gpus": [4, 1], "max_gpus": [2, 1]}, "row 0, column 'max_gpus': expected at least min_gpus, got 2"),
    ],
)
def test_bad_job_columns(change: dict[str, list[object]], message: str) -> None:
    with pytest.raises(TraceError, match=re.escape(message)):
        make_jobs(JOBS | change)


def test_new_job_columns_survive_csv(tmp_path: Path) -> None:
    jobs = make_jobs(
        JOBS
        | {"gpus": [1, 1], "gpu_memory_gib": [7.5, None], "gpu_profile": ["1g.10gb", None]}
        | {"min_gpus": [1, None], "max_gpus": [4, None]}
    )
    write(Trace("t", jobs, pool(4, resource="gpus")), tmp_path / "t.csv")
    assert read(tmp_path / "t.csv").jobs.frame.equals(jobs.frame)
    bad = (tmp_path / "t.csv").read_text().replace("1g.10gb,1,4", "1g.10gb,1.5,4")
    (tmp_path / "bad.csv").write_text(bad)
    with pytest.raises(TraceError, match=r"bad.csv:2:\d+: column 'min_gpus': expected a whole number"):
        read(tmp_path / "bad.csv")


def test_native_files_keep_the_specification_and_read_without_new_columns(tmp_path: Path) -> None:
    trace = Trace("t", make_jobs(JOBS), full_spec())
    write(trace, tmp_path / "new.parquet")
    assert read(tmp_path / "new.parquet").cluster == full_spec()
    # A file as it was written before these columns and keys were there.
    old = trace.jobs.frame.drop("gpu_memory_gib", "gpu_profile", "min_gpus", "max_gpus")
    group = {"name": "n", "count": 2, "cpus": 4.0, "memory_gib": None, "gpus": None, "gpu_type": None}
    metadata = json.loads(pl.read_parquet_metadata(tmp_path / "new.parquet")["shunter.trace"])
    metadata["cluster"] = {"name": "c", "groups": [group], "kill_at_limit": True}
    old.write_parquet(tmp_path / "old.parquet", metadata={"shunter.trace": json.dumps(metadata)})
    again = read(tmp_path / "old.parquet")
    assert again.jobs.frame.equals(trace.jobs.frame)
    assert again.cluster == ClusterSpec("c", (NodeGroup("n", 2, cpus=4.0),), kill_at_limit=True)


@pytest.mark.parametrize("cluster", [{"groups": 5}, {"name": "c", "groups": [], "quotas": 3}, {"groups": [{"x": 1}]}])
def test_damaged_metadata_is_told_in_a_line(tmp_path: Path, cluster: dict[str, Any]) -> None:
    write(Trace("t", make_jobs(JOBS), pool(4)), tmp_path / "t.parquet")
    metadata = json.loads(pl.read_parquet_metadata(tmp_path / "t.parquet")["shunter.trace"]) | {"cluster": cluster}
    pl.read_parquet(tmp_path / "t.parquet").write_parquet(
        tmp_path / "bad.parquet", metadata={"shunter.trace": json.dumps(metadata)}
    )
    with pytest.raises(TraceError, match="damaged trace metadata"):
        read(tmp_path / "bad.parquet")


# --- ready clusters --------------------------------------------------------------------------------------------------

TOTALS = {
    "openb": (1213, 6212.0),
    "philly": (552, 2490.0),
    "helios-venus": (135, 1080.0),
    "sia-64": (11, 64.0),
    "sdsc-sp2": (1, None),
}


@pytest.mark.parametrize("name", READY)
def test_ready_clusters_have_the_documented_totals(name: str) -> None:
    cluster = load_cluster(name)
    assert (cluster.num_nodes, cluster.total("gpus")) == TOTALS[name]
    assert cluster.name == name
    assert load_cluster(f" {name.upper()} ") == cluster
    for group in cluster.groups:
        assert group.gpu_type is None or group.gpu_type in cluster.gpu_types


def test_ready_clusters_by_part() -> None:
    assert load_cluster("sdsc-sp2").groups == pool(128).groups
    venus = load_cluster("helios-venus")
    assert len(venus.quotas) == 15
    for group in venus.groups:  # each virtual cluster is entitled to all of its own nodes
        assert venus.quotas[group.owner or ""].guaranteed_gpus == group.count * (group.gpus or 0)
    sia = describe_cluster(load_cluster("sia-64"))["gpu_types"]
    assert {kind: facts["gpus"] for kind, facts in sia.items()} == {"T4": 24.0, "RTX-2080-Ti": 24.0, "A100": 16.0}
    assert [(g.count, g.gpus) for g in load_cluster("philly").groups] == [(321, 2.0), (231, 8.0)]


@pytest.mark.parametrize("name", READY)
def test_ready_files_name_their_sources(name: str) -> None:
    text = (Path(__file__).resolve().parents[2] / "traces" / "specs" / f"{name}.yaml").read_text()
    assert len([line for line in text.splitlines() if line.startswith("#")]) >= 5
    unpriced = not re.search(r"price_per_h", text)
    assert unpriced or "assumption" in text


def test_names_that_are_nearly_right() -> None:
    with pytest.raises(ConfigError, match=r"'opneb' is no size, no ready cluster \(openb, .*sdsc-sp2\).*'openb'\?"):
        load_cluster("opneb")


def test_openb_is_the_public_node_list(shared: Path) -> None:
    listed = load_cluster(shared / "alibaba-openb-2023" / "openb_node_list_gpu_node.csv.gz")

    def plain(cluster: ClusterSpec) -> list[tuple[object, ...]]:
        return [(g.name, g.count, g.cpus, g.memory_gib, g.gpus, g.gpu_type) for g in cluster.groups]

    assert plain(load_cluster("openb")) == plain(listed)


def test_venus_is_the_public_configuration(shared: Path) -> None:
    config = pl.read_csv(shared / "helios" / "venus_vc_config.csv.gz")
    nodes = {group.owner: group.count for group in load_cluster("helios-venus").groups}
    assert nodes == dict(config.select(pl.col(config.columns[0]), "num").iter_rows())


def test_documented_examples_load(write_text: Write) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "clusters.md"
    examples = re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        load_cluster(write_text(example, "example.yaml"))


def test_every_key_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "clusters.md").read_text("utf-8")
    for part in (ClusterSpec, NodeGroup, GpuType, Quota):
        for entry in fields(part):
            assert f"`{entry.name}`" in text, entry.name
    for name in READY:
        assert f"`{name}`" in text


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*READY, "64gpus", "3x8"])
def test_every_node_and_gpu_is_drawn_once_and_nothing_overlaps(name: str) -> None:
    cluster = load_cluster(name)
    page = layout(cluster)
    assert len(page.nodes) == cluster.num_nodes
    assert len(page.backs) == sum(group.num_racks for group in cluster.groups)
    if not page.counts:
        assert len(page.gpus) == (cluster.total("gpus") or 0)
    for boxes in (page.nodes, [box for _, box in page.frames]):
        assert _overlapping(boxes) == []
    assert max(x + w for x, _, w, _ in page.nodes) <= page.width
    assert max(y + h for _, y, _, h in page.nodes) <= page.height


def _overlapping(boxes: list[tuple[float, float, float, float]]) -> list[tuple[int, int]]:
    """Pairs of boxes that have area in common."""
    order = sorted(range(len(boxes)), key=lambda i: boxes[i][1])
    found = []
    for n, i in enumerate(order):
        x, y, w, h = boxes[i]
        for j in order[n + 1 :]:
            a, b, c, _ = boxes[j]
            if b >= y + h:
                break
            if a < x + w and x < a + c:
                found.append((i, j))
    return found


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_pictures_are_written_and_equal_for_equal_clusters(tmp_path: Path, ending: str) -> None:
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for name in ("a", "b"):
        plot_cluster(full_spec(), tmp_path / f"{name}.{ending}")
    first = (tmp_path / f"a.{ending}").read_bytes()
    assert first.startswith(starts[ending])
    assert first == (tmp_path / f"b.{ending}").read_bytes()


def test_pictures_that_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a name ending in .png, .pdf or .svg"):
        plot_cluster(full_spec(), tmp_path / "c.gif")
    with pytest.raises(UsageError, match=r"100,000 nodes; up to 20,000 can be drawn"):
        plot_cluster(load_cluster("100000x8"), tmp_path / "c.png")
