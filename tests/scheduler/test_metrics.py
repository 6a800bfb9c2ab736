"""Metrics of four jobs worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shunter.scheduler.metrics import METRICS, Outcome, bounded_slowdown, queue_lengths, summarise


def outcome(**changes: object) -> Outcome:
    """Four jobs on 4 CPUs: the second and third wait for the first, the last finds the cluster empty."""
    fields: dict[str, object] = {
        "submit_s": np.asarray([0.0, 0.0, 10.0, 100.0]),
        "start_s": np.asarray([0.0, 20.0, 20.0, 100.0]),
        "end_s": np.asarray([20.0, 60.0, 25.0, 120.0]),
        "run_s": np.asarray([20.0, 40.0, 5.0, 20.0]),
        "used": {"cpus": np.asarray([4.0, 2.0, 2.0, 1.0]), "gpus": np.zeros(4)},
        "available": {"cpus": 4.0, "gpus": 0.0},
        "deadline_s": np.asarray([np.nan, 60.0, 24.0, np.nan]),
        "failed": 1,
        "rejected": 2,
        "backfilled": 3,
    }
    return Outcome(**(fields | changes))  # type: ignore[arg-type]


def test_hand_computed_metrics() -> None:
    metrics = summarise(outcome())
    assert metrics == pytest.approx(
        {
            "avg_wait_s": (0 + 20 + 10 + 0) / 4,
            "p50_wait_s": 5.0,  # between 0 and 10
            "p95_wait_s": 10 + 0.85 * 10,  # at 0.95 · 3 = 2.85 places behind the smallest
            "p99_wait_s": 10 + 0.97 * 10,
            "max_wait_s": 20,
            "avg_jct_s": (20 + 60 + 15 + 20) / 4,
            "p50_jct_s": 20,
            "p95_jct_s": 20 + 0.85 * 40,
            "p99_jct_s": 20 + 0.97 * 40,
            "avg_slowdown": (1 + 60 / 40 + 15 / 5 + 1) / 4,
            "avg_bounded_slowdown": (1 + 60 / 40 + 15 / 10 + 1) / 4,  # the run of 5 s counts as 10 s
            "p95_bounded_slowdown": 1.5,
            "makespan_s": 120,
            "utilisation": (80 + 80 + 10 + 20) / (4 * 120),
            "cpu_utilisation": (80 + 80 + 10 + 20) / (4 * 120),
            "allocation_ratio": (80 + 80 + 10 + 20) / (4 * 120),
            "throughput_jobs_per_h": 3 / 120 * 3600,
            "avg_queue_length": (20 + 10) / 120,
            "max_queue_length": 2,  # from 10 s to 20 s
            # Of 20 s the first job shares 10 s with one other and 10 s with two: n = 2.5; its whole cluster would be a
            # 2.5th of that, and the jobs of 2 CPUs have n = 95/60 and 40/15. Completion over run time · max(1, n·g/4):
            # 20/(20 · 2.5), 60/(40 · 1), 15/(5 · 4/3), 20/20.
            "avg_ftf_rho": (0.4 + 1.5 + 2.25 + 1) / 4,
            "p95_ftf_rho": 1.5 + 0.85 * 0.75,
            "slo_attainment": 1 / 2,  # ends at 60 (due at 60) and at 25 (due at 24)
            "jobs_completed": 3,
            "jobs_failed": 1,
            "jobs_rejected": 2,
            "backfilled_jobs": 3,
        }
    )


def test_metrics_come_in_the_order_of_the_table() -> None:
    names = list(summarise(outcome()))
    assert names == [name for name in METRICS if name in names]


def test_what_is_not_known_is_absent() -> None:
    metrics = summarise(outcome(deadline_s=np.full(4, np.nan), available={}))
    assert not {"slo_attainment", "utilisation", "cpu_utilisation", "gpu_utilisation"} & set(metrics)


def test_gpus_are_the_main_resource_where_there_are_any() -> None:
    used = {"cpus": np.asarray([4.0, 2.0, 2.0, 1.0]), "gpus": np.asarray([1.0, 0.0, 0.0, 0.0])}
    metrics = summarise(outcome(used=used, available={"cpus": 4.0, "gpus": 2.0}))
    assert metrics["gpu_utilisation"] == metrics["utilisation"] == pytest.approx(20 / (2 * 120))
    assert metrics["cpu_utilisation"] == pytest.approx(190 / 480)


def test_a_run_without_a_started_job_has_only_counts() -> None:
    nothing = {name: np.zeros(0) for name in ("submit_s", "start_s", "end_s", "run_s", "deadline_s")}
    metrics = summarise(outcome(**nothing, used={}, failed=0, backfilled=0))
    assert metrics == {"jobs_completed": 0, "jobs_failed": 0, "jobs_rejected": 2, "backfilled_jobs": 0}


def test_slowdown_of_jobs_of_no_length_is_absent_but_bounded_slowdown_is_not() -> None:
    metrics = summarise(outcome(run_s=np.asarray([20.0, 40.0, 0.0, 20.0])))
    assert "avg_slowdown" not in metrics
    assert metrics["avg_bounded_slowdown"] == pytest.approx((1 + 1.5 + 1 + 1) / 4)  # (10 + 0) / 10


def test_bounded_slowdown_is_at_least_one() -> None:
    wait, run = np.asarray([0.0, 3.0, 30.0, 100.0]), np.asarray([1.0, 1.0, 20.0, 10.0])
    np.testing.assert_allclose(bounded_slowdown(wait, run), [1, 1, 2.5, 11])


def test_queue_length_after_each_change() -> None:
    """A job that starts at once never counts; a start and an arrival at one instant are one step."""
    times, lengths = queue_lengths(np.asarray([0.0, 0.0, 5.0, 8.0]), np.asarray([0.0, 8.0, 9.0, 9.0]))
    assert times.tolist() == [0.0, 5.0, 8.0, 9.0]
    assert lengths.tolist() == [1, 2, 2, 0]
