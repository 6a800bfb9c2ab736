"""Bundles: written and loaded, scored as by ONNX Runtime, and refused with the file and the field."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from shunter.agents.bundle import PARITY, Bundle, Card, load_bundle, shipped, write_bundle
from shunter.cli import app
from shunter.cli.policies import find_policy, split_settings
from shunter.scheduler.errors import BundleError, OutputError, UsageError
from shunter.scheduler.features import FEATURES, SCHEMA
from shunter.scheduler.guard import PARAMETERS
from shunter.scheduler.kernels.network import Network
from shunter.scheduler.learned import linear_network
from shunter.sim.replay import simulate
from shunter.traces.generate import generate
from tests.networks import drawn_network

pytest.importorskip("onnx")

from shunter.agents.export import kernel_onnx


def card(**given: Any) -> Card:
    usual = {"low": tuple(f.low for f in FEATURES), "high": tuple(f.high for f in FEATURES)}
    return Card(**({"kind": "kernel", "seeds": (1, 2), "objective": "log ratio"} | usual | given))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of a drawn network."""
    return write_bundle(tmp_path / "drawn", kernel_onnx(drawn_network(1, 32, 16)), card(), {"a.png": b"figure"}).path


def attention_onnx() -> bytes:
    """Scores that depend on the whole queue: the first feature less its mean."""
    from onnx import TensorProto, helper, numpy_helper

    first = np.zeros(SCHEMA.size, np.float32)
    first[0] = 1.0
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "first"], ["x"]),
            helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["score"]),
        ],
        "attention",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["jobs", SCHEMA.size])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["jobs"])],
        [numpy_helper.from_array(first, "first")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_what_is_written_is_loaded(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "figures", "model.onnx"]
    assert (folder / "figures" / "a.png").read_bytes() == b"figure"
    assert bundle.card.seeds == (1, 2)
    network = bundle.network()
    assert network is not None
    for name, weights in drawn_network(1, 32, 16)._asdict().items():
        np.testing.assert_array_equal(getattr(network, name), weights)


@pytest.mark.parametrize("network", [drawn_network(2, 32, 16), drawn_network(3, 1, 1), drawn_network(4, 0, 0)])
def test_compiled_scores_are_those_of_onnx_runtime(tmp_path: Path, network: Network) -> None:
    bundle = write_bundle(tmp_path / "b", kernel_onnx(network), card())
    features = np.random.default_rng(7).uniform(-1.0, 2.0, (500, SCHEMA.size)).astype(np.float32).astype(np.float64)
    mine, theirs = bundle.scorer()(features), bundle._runtime_scores(features)
    assert np.abs(mine - theirs).max() <= PARITY * np.ptp(theirs)
    assert np.abs(mine - theirs).max() > 0 or not len(network.w3)


def test_replays_under_a_bundle_are_those_under_its_network(folder: Path) -> None:
    trace = generate("lublin99", jobs=400, seed=3)
    chosen = find_policy(f"model:{folder}:outside=0,bound_h=0,bound_requests=0")
    runs = [simulate(trace, policy=chosen, backfill="easy", engine=engine) for engine in ("simpy", "compiled")]
    assert runs[0].jobs.equals(runs[1].jobs)
    assert runs[0].policy == "model:drawn:bound_h=0,bound_requests=0,outside=0"
    assert runs[0].manifest["model"]["sha256"] == load_bundle(folder).card.model_sha256


def test_a_network_that_looks_at_the_whole_queue_runs_in_onnx_runtime(tmp_path: Path) -> None:
    """Less the mean the first feature orders as it does alone: shortest request first."""
    bundle = write_bundle(tmp_path / "b", attention_onnx(), card(kind="attention"))
    assert bundle.network() is None
    trace = generate("lublin99", jobs=300, seed=3)
    ordering = replace(bundle.ordering(), parameters={})
    run = simulate(trace, policy=ordering, backfill="easy")
    assert run.manifest["engine"] == "simpy"
    assert run.jobs["start_s"].equals(simulate(trace, policy="sjf", backfill="easy").jobs["start_s"])


# --- what is refused -------------------------------------------------------------------------------------------------


def edited(**changes: Any) -> Callable[[Path], None]:
    """Changes of the card; None takes a field away."""

    def edit(folder: Path) -> None:
        document = json.loads((folder / "card.json").read_text())
        document |= changes
        document = {name: value for name, value in document.items() if value is not None}
        (folder / "card.json").write_text(json.dumps(document))

    return edit


def cut(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])


SCHEMA_OF_OTHERS = SCHEMA.as_json() | {"version": 99}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx: cannot be read: No such file"),
        (lambda folder: (folder / "card.json").unlink(), "card.json: cannot be read: No such file"),
        (cut, "model.onnx: cut short or changed: .*model_sha256"),
        (lambda folder: (folder / "card.json").write_text("{"), "card.json: not JSON"),
        (lambda folder: (folder / "card.json").write_bytes(b"\xff\xfe"), "card.json: not JSON"),
        (lambda folder: (folder / "card.json").write_text("[]"), "card.json: not a JSON object"),
        (edited(version=2), "card.json: version: 2, this program reads 1"),
        (edited(version=None), "version: None"),
        (edited(features=SCHEMA_OF_OTHERS), "card.json: features.version: 99, this program has 2"),
        (edited(features=SCHEMA.as_json() | {"sha256": "0"}), "features.sha256: '0'"),
        (edited(features="queue"), "features: not a feature schema"),
        (edited(kind="kernal"), "kind: unknown 'kernal'; did you mean 'kernel'"),
        (edited(kind=["kernel"]), "kind: unknown"),
        (edited(trained_on="paper"), "trained_on: unknown 'paper'"),
        (edited(low=[0.0]), "low: expected [0-9]+ numbers"),
        (edited(low=None), "low: missing"),
        (edited(high=[-9.0] * SCHEMA.size), "low: .* of feature 'log_request' is above its high"),
        (edited(lo=[]), "lo: unknown field; did you mean 'low'"),
        (edited(seeds=3), "seeds: not a list"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def written(tmp_path: Path, data: bytes, **given: Any) -> Bundle:
    return write_bundle(tmp_path / "b", data, card(**given))


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    whole = kernel_onnx(drawn_network(1))
    for data in (b"", b"nothing of the kind", whole[: len(whole) // 2], whole[:-1]):
        with pytest.raises(BundleError, match=r"model\.onnx: "):
            written(tmp_path, data)
    assert not (tmp_path / "b").exists()


def test_a_network_of_other_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"input 'features' has shape \['jobs', 3\], expected \['jobs', [0-9]+\]"):
        written(tmp_path, kernel_onnx(linear_network(np.ones(3))))


def test_a_graph_that_does_not_score_as_its_weights_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_from_string(kernel_onnx(drawn_network(1)))
    model.graph.node[2].op_type = "Sigmoid"
    with pytest.raises(BundleError, match="does not score as its weights do"):
        written(tmp_path, model.SerializeToString())
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"
    with pytest.raises(BundleError, match=r"outputs \['scores'\], expected \['score'\]"):
        written(tmp_path, model.SerializeToString())


def test_weights_that_are_missing_or_misshapen_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no weights called 'skip'; found: first"):
        written(tmp_path, attention_onnx(), kind="kernel")


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="no model bundle"):
        written(tmp_path, kernel_onnx(drawn_network(1)))
    assert (tmp_path / "b" / "thesis.tex").exists()


def test_a_bundle_takes_the_place_of_an_older_one(folder: Path) -> None:
    write_bundle(folder, kernel_onnx(drawn_network(9)), card(notes="new"))
    assert load_bundle(folder).card.notes == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["drawn"]


# --- the command line ------------------------------------------------------------------------------------------------


def test_folders_with_colons_and_settings() -> None:
    assert split_settings("a:b") == ("a:b", "")
    assert split_settings("a:b:bound_h=3,classes=1") == ("a:b", "bound_h=3,classes=1")


def test_models_stand_in_the_table_by_name(folder: Path) -> None:
    policies = [f"model:{folder}", f"model:{folder}:bound_drains=0,bound_h=0.1,bound_requests=0"]
    arguments = ["simulate", "demo:hpc", "--window", "0:200", "--json", "-P", "fcfs"]
    found = CliRunner().invoke(app, [*arguments, *(word for policy in policies for word in ("-P", policy))])
    assert found.exit_code == 0, found.output
    runs = json.loads(found.stdout)["runs"]
    assert [run["policy"] for run in runs] == [
        "fcfs",
        "model:drawn",
        "model:drawn:bound_h=0.1,bound_requests=0,bound_drains=0",
    ]
    assert set(runs[1]["guard"]) == {"followed", "not_finite", "outside", "slow", "starving"}
    assert "guard" not in runs[0]
    assert "with jobs first that had waited beyond the bound" in found.stderr


def test_settings_of_the_guard_default_to_the_documented_ones(folder: Path) -> None:
    assert find_policy(f"model:{folder}").parameters == PARAMETERS
    with pytest.raises(UsageError, match="no parameter 'bound'"):
        find_policy(f"model:{folder}:bound=1")
    with pytest.raises(BundleError, match="no such folder"):
        find_policy("model:nowhere")


def test_without_a_shipped_policy_the_error_says_what_to_do() -> None:
    if (Path(__file__).parents[2] / "agents" / "shipped" / "card.json").exists():
        assert load_bundle(shipped()).card.trained_on == "general"
        return
    with pytest.raises(BundleError, match="model:FOLDER"):
        find_policy("learned")


def test_replays_and_bundles_start_without_what_learns() -> None:
    heavy = ["torch", "gymnasium", "stable_baselines3", "sb3_contrib", "onnx", "optuna"]
    program = (
        "import sys, shunter.cli, shunter.agents.bundle, shunter.agents.onnx_files, shunter.scheduler.learned\n"
        f"sys.exit(' '.join(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""
