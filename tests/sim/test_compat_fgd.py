"""The inflation runs of FGD: Go's random numbers, what arrives, who gets what, and input that is refused."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest

from shunter.cli.protocol import run_under_protocol
from shunter.cli.runs import Request
from shunter.scheduler.errors import ConfigError, OutputError, TraceError, UsageError
from shunter.scheduler.kernels.scoring import CODE_OF, choose_gpus, hold, node_score, refresh
from shunter.sim.compat import fgd, fgd_files, fgd_report, load_nodes, load_source, run_protocol
from shunter.sim.compat.go_random import GoRandom
from shunter.traces.read import read
from shunter.traces.tables import ClusterSpec, NodeGroup, pool

POD_HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec"
NODE_HEADER = "sn,cpu_milli,memory_mib,gpu,model"


@pytest.fixture
def write(tmp_path):
    def make(name, header, *rows):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return make


@pytest.fixture
def pods(write):
    """Shares, whole GPUs and none: 0.5 + 1 + 2 + 0 + 0.25 GPUs."""
    rows = [
        "e,1000,1024,1,250,",
        "a,2000,2048,1,500,",
        "b,4000,4096,1,1000,T4|V100",
        "c,8000,8192,2,1000,",
        "d,1000,1024,0,0,",
    ]
    return write("pods.csv", POD_HEADER, *rows)


@pytest.fixture
def nodes(write):
    return write("nodes.csv", NODE_HEADER, "n1,16000,65536,4,T4", "n0,8000,32768,2,P100")


# Go's generator ----------------------------------------------------------------------------------------------------


def test_numbers_that_every_go_programmer_knows():
    """``rand.Intn(100)`` after seed 1, the seed of a Go program that sets none (before Go 1.20)."""
    random = GoRandom(1)
    assert [random.intn(100) for _ in range(10)] == [81, 87, 47, 59, 81, 18, 25, 40, 56, 0]


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
def test_permutations_and_numbers_in_range(count):
    random = GoRandom(-5)
    assert sorted(random.perm(count)) == list(range(count))
    items = list(range(count))
    random.shuffle(items)
    assert sorted(items) == list(range(count))
    assert all(0 <= random.intn(count) < count for _ in range(100))


def test_seeds_differ_and_repeat():
    first = [GoRandom(seed).uint64() for seed in (0, 1, 2, -1)]
    assert len(set(first)) == 4
    assert first == [GoRandom(seed).uint64() for seed in (0, 1, 2, -1)]


# Lists -------------------------------------------------------------------------------------------------------------


def test_pods_are_in_order_of_their_names(pods):
    loaded = fgd_files.load(pods)
    assert loaded.pod_names == ("a", "b", "c", "d", "e")
    assert loaded.demand_milli.tolist() == [500, 1000, 2000, 0, 250]
    assert [loaded.models[shape] for shape in loaded.shape_idx] == ["", "T4|V100", "", "", ""]
    assert loaded.memory_kib[loaded.shape_idx].tolist() == [mib * 1024 for mib in (2048, 4096, 8192, 1024, 1024)]


def test_lists_without_models_and_nodes_of_a_specification(write):
    path = write("pods.csv", POD_HEADER.removesuffix(",gpu_spec"), "a,1000,1024,1,500")
    assert fgd_files.load(path).models == ("",)
    spec = ClusterSpec(
        name="mixed",
        groups=(NodeGroup("big", 2, cpus=8, memory_gib=4, gpus=2, gpu_type="T4"), NodeGroup("cpu", 1, cpus=4)),
    )
    nodes = fgd_files.nodes_of(spec)
    assert nodes.node_names == ("big-0", "big-1", "cpu")
    assert (nodes.gpus.tolist(), nodes.models, nodes.gpu_milli) == ([2, 2, 0], ("T4", "T4", ""), 4000)
    assert nodes.memory_kib.tolist() == [4 << 20, 4 << 20, fgd_files.ANY_AMOUNT]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,1000,1024,1.5,1000,", ["pods.csv:2:4", "'num_gpu'", "whole number", "1.5"]),
        ("a,1000,1024,1,1500,", ["pods.csv:2:5", "'gpu_milli'", "1 to 1000", "1500"]),
        ("a,1000,1024,1,0,", ["pods.csv:2:5", "'gpu_milli'", "1 to 1000"]),
        ("a,1000,1024,1,0.5,", ["pods.csv:2:5", "'gpu_milli'", "whole number", "0.5"]),
        ("a,1000,1024,2,500,", ["pods.csv:2:5", "'gpu_milli'", "several GPUs", "500"]),
        ("a,-1,1024,1,500,", ["pods.csv:2:2", "'cpu_milli'", "-1"]),
        (",1000,1024,1,500,", ["pods.csv:2:1", "'name'", "needed"]),
    ],
)
def test_bad_pods_are_refused_with_their_place(write, row, words):
    with pytest.raises(TraceError) as error:
        fgd_files.load(write("pods.csv", POD_HEADER, row))
    for word in words:
        assert word in str(error.value)


def test_missing_columns_are_named(write):
    with pytest.raises(TraceError, match=r"pods\.csv:1: column 'gpu_milli' missing"):
        fgd_files.load(write("pods.csv", "name,cpu_milli,memory_mib,num_gpu", "a,1,1,1"))
    with pytest.raises(TraceError, match=r"nodes\.csv:1: column 'model' missing"):
        fgd_files.load_nodes(write("nodes.csv", "sn,cpu_milli,memory_mib,gpu", "a,1,1,1"))


def test_gpu_models_that_no_node_has_are_all_named(write, nodes):
    rows = ["a,1000,1024,1,500,A100", "b,1000,1024,1,500,A100|T4", "c,1000,1024,1,500,H100|A10", "d,1000,1024,1,500,"]
    path = write("pods.csv", POD_HEADER, *rows)
    with pytest.raises(TraceError) as error:
        run_protocol("fgd-openb", path, policy="fgd", cluster=fgd_files.load_nodes(nodes))
    assert str(error.value) == (
        f"{path}: column 'gpu_spec': 2 pods name GPU models that no node of 'nodes' has (it has P100, T4): "
        "a asks for 'A100'; c asks for 'H100|A10'"
    )


def test_clusters_and_lists_that_cannot_be_used(write, pods, nodes):
    with pytest.raises(ConfigError, match="no node has a GPU"):
        run_protocol("fgd-openb", pods, policy="fgd", cluster=pool(64))
    with pytest.raises(ConfigError, match=r"groups\.half\.gpus: expected a whole number, got 1\.5"):
        fgd_files.nodes_of(ClusterSpec(name="x", groups=(NodeGroup("half", 1, gpus=1.5),)))
    with pytest.raises(UsageError, match="needs the nodes"):
        run_protocol("fgd-openb", pods, policy="fgd")
    with pytest.raises(UsageError, match="has no windows"):
        run_protocol("fgd-openb", pods, policy="fgd", window=(0, 2), cluster=fgd_files.load_nodes(nodes))
    with pytest.raises(UsageError, match="no policy 'best'; did you mean 'best-fit'"):
        run_protocol("fgd-openb", pods, policy="best", cluster=fgd_files.load_nodes(nodes))
    without = write("cpus.csv", POD_HEADER, "a,1000,1024,0,0,")
    with pytest.raises(TraceError, match="no pod asks for a GPU"):
        run_protocol("fgd-openb", without, policy="fgd", cluster=fgd_files.load_nodes(nodes))
    with pytest.raises(UsageError, match="another protocol has loaded"):
        run_protocol("helios", fgd_files.load(pods), policy="fifo")


# Runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.3, 1.3, 3.0])
def test_arrivals_reach_the_ratio_and_no_more(pods, ratio):
    """Six GPUs: 0.3 of them thins the 3.75 asked for out to at most 1.8, more adds copies at the end."""
    loaded = fgd_files.load(pods)
    rows, copies = fgd.arrivals(loaded, 6000, ratio, GoRandom(3))
    asked = int(loaded.demand_milli[rows].sum())
    if ratio < 1:
        assert copies == 0
        assert len(set(rows.tolist())) == len(rows) < len(loaded)
        assert asked <= ratio * 6000
    else:
        assert sorted(rows[: len(loaded)].tolist()) == list(range(len(loaded)))
        assert copies == len(rows) - len(loaded) > 0
        assert ratio * 6000 - 1000 < asked <= ratio * 6000 + 1000  # a pod of two GPUs is let in by one of them


@pytest.mark.parametrize("policy", fgd.POLICIES)
def test_nobody_gets_what_is_not_there(pods, nodes, policy):
    """Sums of what placed pods hold, by node and GPU, against what there is; and against the curve."""
    loaded, cluster = fgd_files.load(pods), fgd_files.load_nodes(nodes)
    run = fgd.run(loaded, cluster, policy, 5, ratio=3.0)
    shape = loaded.shape_idx[run.pod]
    held = np.zeros((2, 4), dtype=int)
    cpu = np.zeros(2, dtype=int)
    for node, s, holds in zip(run.node, shape, run.holds, strict=True):
        if node >= 0:
            held[node] += holds * loaded.share_milli[s]
            cpu[node] += loaded.cpu_milli[s]
            assert holds.sum() == loaded.gpus[s]
            assert fgd_files.may_use(loaded.models[s], cluster.models[node]) or loaded.gpus[s] == 0
        else:
            assert not holds.any()
    assert (held <= 1000 * (np.arange(4) < cluster.gpus[:, None])).all()
    assert (cpu <= cluster.cpu_milli).all()
    assert run.used_milli[-1] == held.sum()
    assert (np.diff(run.used_milli) >= 0).all()
    assert (run.node < 0).any()
    assert (run.fragmented_milli <= run.total_milli - run.used_milli + 1e-6).all()
    replayed = fgd.account(loaded, cluster, run.pod, run.node, run.holds)
    assert np.array_equal(replayed.used_milli, run.used_milli)
    assert np.array_equal(replayed.fragmented_milli, run.fragmented_milli)


@pytest.mark.parametrize("policy", fgd.POLICIES)
def test_remembered_scores_are_those_of_the_moment(pods, nodes, policy):
    """The run beside one that scores every node for every pod, takes whole points and the first of the best nodes."""
    loaded, cluster = fgd_files.load(pods), fgd_files.load_nodes(nodes)
    rows, _, by_rank = fgd.draw(loaded, cluster, 11, 3.0)
    free, tasks, using = fgd.tables(loaded, cluster, by_rank, 11, None)
    chosen = np.zeros(4, dtype=np.int64)
    placed = []
    for pod, shape in enumerate(loaded.shape_idx[rows]):
        for row in range(2):
            refresh(free, row, using)
        points = [node_score(free, tasks, row, shape, CODE_OF[policy], using, pod) for row in range(2)]
        if policy != "random":
            points = [np.floor(p) for p in points]
        best = int(np.argmax(points))
        placed.append(int(by_rank[best]) if points[best] >= 0 else -1)
        if points[best] >= 0:
            count = choose_gpus(free, tasks, best, shape, CODE_OF[policy], using, pod, chosen)
            hold(free, tasks, best, shape, chosen, count, 1)
    assert fgd.run(loaded, cluster, policy, 11, ratio=3.0).node.tolist() == placed


def test_seeds_decide(pods, nodes):
    loaded, cluster = fgd_files.load(pods), fgd_files.load_nodes(nodes)
    orders = [fgd.run(loaded, cluster, "fgd", seed).pod.tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_points_of_a_curve_are_means_over_the_pods_that_round_to_them():
    """Of four GPUs: 25 %, 25.25 % (25 too), 27 %; 26 % takes its neighbours'."""
    none = np.zeros(3, dtype=np.int64)
    run = fgd.FgdRun(
        pod=none,
        cloned=none == 1,
        node=none,
        holds=np.zeros((3, 1), dtype=bool),
        arrived_milli=np.array([1000, 1010, 1080]),
        used_milli=np.array([1000, 1010, 1010]),
        fragmented_milli=np.array([500.0, 490.0, 480.0]),
        total_milli=4000,
    )
    curve = run.allocation_curve()
    assert {25: 25.12, 26: 25.17, 27: 25.25}.items() <= curve.items()
    assert run.fragmentation_curve()[25] == 12.38
    assert 23 not in curve
    assert max(curve) == 27


def test_typical_pods_are_the_most_frequent_ones(write):
    """12 of 20 pods, 7 of 20 and 1 of 20: the first two make up 95 %, so their weights are 12/19 and 7/19."""
    rows = [f"a{i:02},1000,{i},1,500," for i in range(12)] + [f"b{i},2000,1,2,1000,T4" for i in range(7)]
    loaded = fgd_files.load(write("pods.csv", POD_HEADER, *rows, "c,1000,1,0,0,"))
    typical = fgd.typical_pods(loaded, ["P100", "T4"])
    assert typical.weight.tolist() == pytest.approx([12 / 19, 7 / 19])
    assert (typical.cpu.tolist(), typical.gpus.tolist()) == ([1000, 2000], [1, 2])
    assert typical.allowed.tolist() == [[True, True], [False, True]]


# The entry and the command line ------------------------------------------------------------------------------------


def test_run_through_the_entry(pods, nodes):
    assert load_source("fgd-openb", pods).pod_names == ("a", "b", "c", "d", "e")
    cluster = load_nodes("fgd-openb", str(nodes))
    assert isinstance(cluster, fgd_files.FgdNodes)
    assert isinstance(load_nodes("helios", str(nodes)), ClusterSpec)
    run = run_protocol("fgd-openb", pods, policy="fgd", cluster=cluster, seed=4)
    assert (run["protocol"], run["policy"], run["seed"]) == ("fgd-openb", "fgd", 4)
    frame = run["jobs"]
    assert frame["arrived_pct"][-1] <= 130 + 100 / 6
    assert frame.filter(pl.col("node").is_null())["gpu_index"].unique().to_list() in ([""], [])
    assert run["metrics"]["pods_placed"] + run["metrics"]["pods_dropped"] == len(frame)
    assert frame["allocated_pct"][-1] == pytest.approx(
        100 / 6 * frame.filter(pl.col("node").is_not_null())["gpus"].sum()
    )
    assert run["curves"].columns == ["arrived_pct", "allocated_pct", "fragmented_pct"]


def test_a_trace_stands_for_its_file(tmp_path, nodes):
    header = f"{POD_HEADER},qos,pod_phase,creation_time,deletion_time,scheduled_time"
    path = tmp_path / "timed.csv.gz"
    path.write_bytes(gzip.compress(f"{header}\nx,1000,1024,1,500,,LS,Running,0,100,10\n".encode()))
    assert load_source("fgd-openb", read(path)).pod_names == ("x",)


def request(**changes):
    values = {
        "policies": ["fgd", "random"], "backfills": ["none"], "placement": "first-fit", "window": None,
        "ties": "instant", "depth": 0, "interval_s": 0.0, "clairvoyant": False, "seed": 7, "out": None,
        "resume": False, "quiet": True,
    }  # fmt: skip
    return Request(**{**values, **changes})


def test_command_writes_curves_and_a_figure(pods, nodes, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):  # the second time over the results of the first
        run_under_protocol("fgd-openb", pods, request(out=out), cluster=str(nodes), as_json=False)
    printed = capsys.readouterr().out
    assert "fgd-openb protocol, seed 7" in printed
    assert "at 100 %" in printed
    curves = pl.read_parquet(out / "curves.parquet")
    assert curves["policy"].unique().sort().to_list() == ["fgd", "random"]
    arrived = pl.read_parquet(out / "pods.parquet").group_by("policy").agg(pl.len(), pl.col("job_id").n_unique())
    assert arrived["len"].n_unique() == 1
    assert arrived["len"].to_list() == arrived["job_id"].to_list()
    assert json.loads((out / "manifest.json").read_text())["seed"] == 7
    assert set(json.loads((out / "metrics.json").read_text())) == {"fgd", "random"}
    assert (out / "figures" / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not list(tmp_path.glob("*.partial"))


def test_command_prints_one_document(pods, nodes, capsys):
    run_under_protocol("fgd-openb", pods, request(), cluster=str(nodes), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["protocol"], document["seed"]) == ("fgd-openb", 7)
    assert [(run["policy"], run["placement"]) for run in document["runs"]] == [("fgd", "fgd"), ("random", "random")]
    curves = document["runs"][0]["curves"]
    assert len(curves["arrived_pct"]) == len(curves["allocated_pct"]) == len(curves["fragmented_pct"])


def test_results_do_not_replace_what_no_run_wrote(pods, nodes, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    runs = [run_protocol("fgd-openb", pods, policy="fgd", cluster=fgd_files.load_nodes(nodes))]
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        fgd_report.save(runs, tmp_path / "mine", "1")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"
