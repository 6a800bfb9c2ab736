"""What training aims at: the metric of jobs by hand, and what a policy that is no better gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shunter.agents.objective import WAIT_FLOOR_S, Gain, Ground
from shunter.agents.search import GroundTrial, unpacked
from shunter.scheduler.errors import UsageError
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.types import FloatArray
from shunter.traces.generate import generate
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs


def two_waits() -> tuple[Trace, ClusterSpec]:
    """One GPU; jobs of 100 s each, submitted at 0, 0, 0 and 1000: they wait 0, 100, 200 and 0 s."""
    jobs = {"job_id": list("abcd"), "submit_s": [0.0, 0.0, 0.0, 1000.0], "duration_s": [100.0] * 4, "gpus": [1.0] * 4}
    return Trace("four", make_jobs(jobs), ClusterSpec("c", (NodeGroup("n", 1, gpus=1.0),))), ClusterSpec(
        "c", (NodeGroup("n", 1, gpus=1.0),)
    )


def test_completion_times_in_the_mean_and_waits_in_the_tail() -> None:
    trace, cluster = two_waits()
    ground = Ground.of(trace, cluster, (0, 4), length=4, warm_up=1, metric="avg_jct_s", heuristics=("fcfs",))
    assert ground.references["fcfs"][0].tolist() == [200.0, 300.0, 100.0]  # the first is warm-up
    waits = ground.tails(ground.references["fcfs"], [0])[0] - WAIT_FLOOR_S
    assert waits.tolist() == [100.0, 200.0, 0.0]
    twice = [2 * ground.references["fcfs"][0]]
    gain = ground.gain(twice, np.array([0]))
    assert gain.mean == pytest.approx(np.log(2.0))
    # Waits of 300, 500 and 100 s: the 95th percentile is 300 + 0.9 · 200 = 480 s, against 190 s.
    assert gain.tail == pytest.approx(np.log((480 + WAIT_FLOOR_S) / (190 + WAIT_FLOOR_S)))


def test_slowdowns_unless_said() -> None:
    trace, cluster = two_waits()
    ground = Ground.of(trace, cluster, (0, 4), length=4, warm_up=1, heuristics=("fcfs",))
    assert ground.references["fcfs"][0].tolist() == [2.0, 3.0, 1.0]
    assert ground.gain(ground.references["fcfs"], np.array([0])) == Gain(0.0, 0.0)


def test_a_score_by_submission_is_fcfs_on_a_pool_of_nodes() -> None:
    """The default request makes all jobs look alike, so a score without weights orders by submission."""
    trace = generate("gpu", jobs=300, seed=2, params={"nodes": 3, "load": 1.0})
    ground = Ground.of(
        trace,
        trace.cluster,
        (0, 300),
        length=100,
        warm_up=10,
        metric="avg_jct_s",
        heuristics=("fcfs",),
        default_request_s=3600.0,
    )
    assert GroundTrial.of(ground).gain(unpacked(np.zeros(NUM_FEATURES), (0, 0))) == Gain(0.0, 0.0)


def test_an_unknown_metric_is_named() -> None:
    trace, cluster = two_waits()
    with pytest.raises(UsageError, match="avg_jct_s"):
        Ground.of(trace, cluster, (0, 4), metric="avg_jct")


def test_stretches_lie_on_every_shaken_copy_and_windows_count_alike() -> None:
    """Two copies of 2,048 jobs after a warm-up: two windows each. What is the best heuristic itself gains nothing."""
    trace = generate("lublin99", jobs=2100, seed=5, params={"load": 1.1})
    ground = Ground.of(
        trace, trace.cluster, (0, 2100), length=2100, warm_up=52, shakes=2, heuristics=("fcfs", "saf", "sjf")
    )
    assert (len(ground.workloads), ground.copy.tolist(), ground.first.tolist()) == (2, [0, 1], [0, 0])
    first, second = (workload.columns.submit_s for workload in ground.workloads)
    assert not np.array_equal(first, second)
    saf = ground.references["saf"]
    parts = [part for values in saf for part in np.split(values, 2)]
    expected = np.mean([np.percentile(part, 95) for part in parts])
    by_hand = np.log(expected / min(tail_of(ground.references[name]) for name in ground.references))
    assert ground.gain(saf, np.arange(2)).tail == pytest.approx(by_hand)
    shortest = np.zeros(NUM_FEATURES)
    shortest[0] = 1.0
    gain = GroundTrial.of(ground).gain(unpacked(shortest, (0, 0)))
    own = ground.gain(ground.references["sjf"], np.arange(2))
    assert (gain.mean, gain.tail) == pytest.approx((own.mean, own.tail))


def tail_of(values: Sequence[FloatArray]) -> float:
    """Mean over halves of stretches of the 95th percentile."""
    return float(np.mean([np.percentile(part, 95) for each in values for part in np.split(each, 2)]))
