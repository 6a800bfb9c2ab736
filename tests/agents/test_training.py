"""Training: the same whenever it is repeated, killed or not, and refused where it could not work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs shunter[train]")
pytest.importorskip("sb3_contrib", reason="needs shunter[train]")

from shunter.agents.executors import run_tasks  # noqa: E402
from shunter.agents.seeds import CHECKPOINT, Outcome, Point, train_seed  # noqa: E402
from shunter.agents.training import Order, prepare_run  # noqa: E402
from shunter.scheduler.errors import TraceError, UsageError  # noqa: E402
from tests.agents.small import small_order, small_settings, small_trace  # noqa: E402


def learned(outcome: Outcome) -> dict[str, Any]:
    """All that must not depend on interruptions: the curve without its clock, and the kept network."""
    curve = [replace(point, spent_s=0.0) for point in outcome.progress.curve]
    best = {name: value.tolist() for name, value in outcome.progress.best.items()}
    return {"curve": curve, "best": best, "low": outcome.progress.low.tolist(), "high": outcome.progress.high.tolist()}


def stop_after(calls: int) -> Callable[[], bool]:
    """Says stop when asked for the so-manieth time."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    order = small_order(tmp_path_factory.mktemp("unbroken") / "run")
    return train_seed(prepare_run(order).tasks[0])


def test_training_uses_its_budget_and_learns_something(unbroken: Outcome) -> None:
    curve = unbroken.progress.curve
    assert unbroken.complete
    assert [point.steps for point in curve] == [0, 64, 128, 192, 256]
    assert curve[-1].share == 1.0
    assert unbroken.progress.best_cost == min(point.cost for point in curve)
    assert len({point.cost for point in curve}) > 1
    assert (unbroken.progress.low <= unbroken.progress.high).all()


@pytest.mark.parametrize("calls", [50, 70])
def test_a_training_that_was_stopped_and_resumed_is_the_unbroken_one(
    unbroken: Outcome, tmp_path: Path, calls: int
) -> None:
    """Stopped in the middle of the second or third round: that round is done again."""
    order = small_order(tmp_path / "run")
    broken = train_seed(prepare_run(order).tasks[0], should_stop=stop_after(calls))
    assert not broken.complete
    assert 0 < broken.progress.curve[-1].steps < 256
    resumed = train_seed(prepare_run(replace(order, resume=True)).tasks[0])
    assert resumed.complete
    assert learned(resumed) == learned(unbroken)


def test_another_seed_learns_something_else(unbroken: Outcome, tmp_path: Path) -> None:
    order = replace(small_order(tmp_path / "run", steps=64), seeds=[1])
    other = train_seed(prepare_run(order).tasks[0])
    assert learned(other)["best"] != learned(unbroken)["best"]


def test_progress_is_told_and_written(tmp_path: Path) -> None:
    told: list[Point] = []
    order = small_order(tmp_path / "run", steps=128)
    (outcome,) = run_tasks(prepare_run(order).tasks, report=lambda _, point: told.append(point))
    lines = (order.out / "seed-0" / "progress.jsonl").read_text().splitlines()
    assert [Point(**json.loads(line)) for line in lines] == told == outcome.progress.curve
    assert list((order.out / "seed-0" / "tensorboard").glob("events.out.tfevents.*"))


def test_a_folder_with_another_training_is_refused(tmp_path: Path) -> None:
    order = small_order(tmp_path / "run", steps=64)
    prepare_run(order)
    with pytest.raises(UsageError, match="take it up with --resume"):
        prepare_run(order)
    others = small_settings().with_values({"ppo.clip": 0.1, "windows.jobs": 48})
    with pytest.raises(UsageError, match=r"other windows\.jobs, ppo\.clip"):
        prepare_run(replace(order, settings=others, resume=True))
    with pytest.raises(UsageError, match="other budget"):
        prepare_run(small_order(order.out, steps=65, resume=True))
    shorter = small_trace(400)
    with pytest.raises(UsageError, match="other jobs or clusters"):
        prepare_run(replace(order, traces=[(shorter, shorter.cluster)], resume=True))


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    order = small_order(tmp_path / "run", steps=64)
    task = prepare_run(order).tasks[0]
    task.folder.mkdir()
    (task.folder / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(UsageError, match="no checkpoint that can be read"):
        train_seed(replace(task, resume=True))
    train_seed(task)
    with pytest.raises(UsageError, match="a checkpoint of other settings"):
        train_seed(replace(task, resume=True, fingerprint="another"))


def test_a_trace_with_fewer_jobs_than_a_window_is_refused(tmp_path: Path) -> None:
    short = small_trace().window(0, 50)
    with pytest.raises(TraceError, match=r"30 jobs to train on .* fewer than the 40 of a window"):
        prepare_run(Order([(short, short.cluster)], small_settings(), small_order(tmp_path).budget, [0], tmp_path))
    assert not list(tmp_path.iterdir())


def test_unknown_executors_and_teachers_are_refused(tmp_path: Path) -> None:
    order = small_order(tmp_path / "run", steps=64)
    with pytest.raises(UsageError, match="unknown --executor 'rai'; did you mean 'ray'"):
        run_tasks(prepare_run(order).tasks, "rai")
    for teacher, reason in (("sfj", "unknown policy 'sfj'"), ("none.npz", "no such file")):
        asked = small_settings().with_values({"imitation.teacher": teacher})
        with pytest.raises(UsageError, match=reason):
            prepare_run(replace(order, settings=asked, out=tmp_path / teacher))


@pytest.mark.slow
def test_a_ray_cluster_trains_the_same_networks_and_tells_what_failed(tmp_path: Path) -> None:
    """Where Ray is installed (``shunter[sweep]``)."""
    ray = pytest.importorskip("ray")
    here = run_tasks(prepare_run(small_order(tmp_path / "here", steps=64)).tasks, workers=1)
    tasks = prepare_run(small_order(tmp_path / "there", steps=64)).tasks
    reported: list[int] = []
    try:
        there = run_tasks(tasks, "ray", lambda seed, _: reported.append(seed))
        assert reported
        for one, other in zip(here, there, strict=True):
            assert learned(one) == learned(other)
        for task in tasks:
            (task.folder / CHECKPOINT).write_bytes(b"half a file")
        with pytest.raises(UsageError, match="no checkpoint that can be read"):
            run_tasks([replace(task, resume=True) for task in tasks], "ray")
    finally:
        ray.shutdown()


@pytest.mark.parametrize("teacher", ["none", "search", "foresight"])
def test_other_warm_starts(tmp_path: Path, teacher: str) -> None:
    settings = small_settings().with_values(
        {"imitation.teacher": teacher, "imitation.generations": 2, "foresight.rows": 500, "foresight.jobs": 100}
    )
    task = prepare_run(small_order(tmp_path / "run", steps=64, settings=settings)).tasks[0]
    outcome = train_seed(task)
    assert outcome.complete
    assert (task.teacher is None) == (teacher == "none")
    assert np.isfinite(outcome.progress.best_cost)


@pytest.mark.slow
def test_seeds_in_processes_learn_what_they_learn_alone(unbroken: Outcome, tmp_path: Path) -> None:
    order = replace(small_order(tmp_path / "run"), seeds=[0, 1])
    told: set[int] = set()
    outcomes = run_tasks(prepare_run(order).tasks, report=lambda seed, _: told.add(seed))
    assert learned(outcomes[0]) == learned(unbroken)
    assert told == {0, 1}


@pytest.mark.slow
def test_seeds_on_ray_learn_what_they_learn_alone(unbroken: Outcome, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs shunter[sweep]")
    outcomes = run_tasks(prepare_run(small_order(tmp_path / "run")).tasks, "ray")
    assert learned(outcomes[0]) == learned(unbroken)


@pytest.mark.slow
def test_training_alone_comes_near_the_best_heuristics(tmp_path: Path) -> None:
    """Without a teacher: from the order of submission, which does far worse."""
    settings = small_settings().with_values(
        {
            "imitation.teacher": "none",
            "windows.jobs": 64,
            "ppo.environments": 8,
            "ppo.steps": 64,
            "ppo.batch": 256,
            "ppo.learning_rate": 0.005,
            "selection.every": 4,
        }
    )
    outcome = train_seed(prepare_run(small_order(tmp_path / "run", steps=20_000, settings=settings)).tasks[0])
    curve = outcome.progress.curve
    assert curve[0].mean > 0.3
    assert min(point.mean for point in curve) < 0.25 * curve[0].mean
    assert min(point.tail for point in curve) < 0.25 * curve[0].tail
