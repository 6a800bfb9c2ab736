"""A weighted sum of features as a bundle: by name, exact, and refused where it is something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="writing bundles needs shunter[train]")

from shunter.agents import bundle as bundles
from shunter.agents.bundle import Card, load_bundle, write_bundle
from shunter.agents.export import kernel_onnx
from shunter.agents.linear import network_of, read_weights, weights_of, write_linear
from shunter.cli.policies import find_policy
from shunter.scheduler.errors import BundleError, UsageError
from shunter.scheduler.features import FEATURES, SCHEMA
from shunter.scheduler.kernels.network import new_network
from shunter.sim.replay import simulate
from shunter.traces.generate import generate

LOW, HIGH = (-100.0,) * SCHEMA.size, (100.0,) * SCHEMA.size


def card() -> Card:
    return Card("linear", LOW, HIGH, objective="none")


def test_weights_by_name_and_back() -> None:
    weights = {"log_request": 1.5, "log_wait": -0.25}
    network = network_of(weights)
    names = [feature.name for feature in FEATURES]
    assert network.skip[names.index("log_wait")] == -0.25
    assert weights_of(network) == weights
    with pytest.raises(BundleError, match=r"weights\.log_requst: no such feature; did you mean 'log_request'"):
        network_of({"log_requst": 1.0})
    with pytest.raises(BundleError, match=r"weights\.size: nan is not a finite number"):
        network_of({"size": float("nan")})


def test_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"weights": {"size": 2.0}}))
    assert read_weights(path) == {"size": 2.0}
    for text, message in (("{", "not JSON"), ("{}", "weights: missing"), ('{"weights": 3}', "weights: missing")):
        path.write_text(text)
        with pytest.raises(BundleError, match=message):
            read_weights(path)


def test_the_packaged_one_is_named_like_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of the request alone is SJF, also by the name ``tuned-linear``."""
    written = write_linear(tmp_path / "tuned", {"log_request": 1.0}, card())
    network = written.network()
    assert network is not None
    assert weights_of(network) == {"log_request": 1.0}
    monkeypatch.setitem(bundles.SHIPPED, "tuned-linear", str(tmp_path / "tuned"))
    find_policy.cache_clear()
    trace = generate("poisson", jobs=300, seed=3, params={"servers": 4, "load": 0.95})
    chosen = find_policy("tuned-linear:bound_h=0")
    assert chosen.label.startswith("tuned-linear")
    found = simulate(trace, policy=chosen, backfill="easy").jobs
    assert found["start_s"].equals(simulate(trace, policy="sjf", backfill="easy").jobs["start_s"])
    with pytest.raises(UsageError, match="no parameter"):
        find_policy("tuned-linear:bund_h=0")
    find_policy.cache_clear()


def test_where_none_is_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bundles.SHIPPED, "tuned-linear", str(tmp_path))
    find_policy.cache_clear()
    with pytest.raises(BundleError, match="no policy 'tuned-linear' comes with this installation"):
        find_policy("tuned-linear")
    find_policy.cache_clear()


def test_what_is_not_linear_is_refused(tmp_path: Path) -> None:
    one = np.ones(1)
    curved = new_network(np.zeros(SCHEMA.size), np.ones((1, SCHEMA.size)), one, np.ones((1, 1)), one, one)
    with pytest.raises(BundleError, match="1 hidden units, but its kind is 'linear'"):
        write_bundle(tmp_path / "b", kernel_onnx(curved), card())
    with pytest.raises(BundleError, match="kind: 'kernel', expected 'linear'"):
        write_linear(tmp_path / "b", {"size": 1.0}, Card("kernel", LOW, HIGH))
    assert load_bundle(write_linear(tmp_path / "c", {"size": 1.0}, card()).path).card.kind == "linear"
