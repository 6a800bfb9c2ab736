"""Where seeds are trained: in this process, in others on this machine, or on a Ray cluster; the same code everywhere.

Seeds tell how far they are by a file in their folder and are asked to stop by one beside these folders: that works
across processes and, on a shared file system, across machines.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from shunter.scheduler.errors import ShunterError, UsageError, nearest

EXECUTORS = ("local", "ray")

PROGRESS = "progress.jsonl"
STOP = "stop"

POLL_S = 0.3

Outcome_co = TypeVar("Outcome_co", covariant=True)
Outcome = TypeVar("Outcome")

Report = Callable[[int, Any], None]
"""Called with a seed and where it stands: a dataclass of plain values."""


class AnyTask(Protocol[Outcome_co]):
    """All that the training of one seed depends on; see ``seeds.Task``."""

    @property
    def seed(self) -> int:
        """The seed."""

    @property
    def folder(self) -> Path:
        """Where it writes."""

    @property
    def resume(self) -> bool:
        """Whether it takes up what it finds there."""

    def run(self, report: Report | None, should_stop: Callable[[], bool] | None) -> Outcome_co:
        """Train."""

    def point(self, values: dict[str, Any]) -> Any:
        """Where it stands, from the values of a line of ``PROGRESS``."""


class TrainingError(ShunterError):
    """A seed's training ended by itself, without a result."""


def run_tasks(
    tasks: Sequence[AnyTask[Outcome]],
    executor: str = "local",
    report: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
    *,
    workers: int | None = None,
) -> list[Outcome]:
    """Train all seeds, as many at a time as there are cores.

    Args:
        tasks: What to do; their folders lie in one folder.
        executor: ``local`` or ``ray``.
        report: Called with a seed and where it stands, after every round.
        should_stop: Asked several times a second.
        workers: Processes on this machine; with one, seeds are trained in turn in this very process.

    Raises:
        UsageError: An unknown executor, or Ray is not installed.
        TrainingError: The process of a seed has died.
    """
    if executor not in EXECUTORS:
        raise UsageError(f"unknown --executor {executor!r}{nearest(executor, list(EXECUTORS))}")
    stop = tasks[0].folder.parent / STOP
    stop.unlink(missing_ok=True)
    if executor == "ray":
        return _on_ray(tasks, report, should_stop, stop)
    workers = min(len(tasks), workers or os.cpu_count() or 1)
    if workers == 1:
        return [task.run(_noting(task, report), should_stop) for task in tasks]
    return _in_processes(tasks, workers, report, should_stop, stop)


def train_apart(task: AnyTask[Outcome]) -> Outcome:
    """Train a seed in a process of its own: progress into its file, until done or asked to stop."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[variable] = "1"
    stop = task.folder.parent / STOP
    return task.run(_noting(task, None), stop.exists)


def _noting(task: AnyTask[Any], report: Report | None) -> Report:
    """Writes every point into the seed's file, and passes it on."""
    task.folder.mkdir(parents=True, exist_ok=True)
    path = task.folder / PROGRESS
    if not task.resume:
        path.unlink(missing_ok=True)

    def note(seed: int, point: Any) -> None:
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(point)) + "\n")
        if report is not None:
            report(seed, point)

    return note


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_processes(
    tasks: Sequence[AnyTask[Outcome]],
    workers: int,
    report: Report | None,
    should_stop: Callable[[], bool] | None,
    stop: Path,
) -> list[Outcome]:
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # a forked child would share torch's threads and locks
    poll = _Poll(tasks, report)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_signals_to_the_parent) as pool:
        futures = [pool.submit(train_apart, task) for task in tasks]
        while wait(futures, timeout=POLL_S).not_done:
            poll()
            if should_stop is not None and should_stop():
                stop.touch()
            if any(future.done() and future.exception() is not None for future in futures):
                stop.touch()
        poll()
        try:
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise TrainingError(
                "the process of a seed has died (out of memory?); the same command with --resume takes training up"
            ) from None


def _on_ray(
    tasks: Sequence[AnyTask[Outcome]], report: Report | None, should_stop: Callable[[], bool] | None, stop: Path
) -> list[Outcome]:
    try:
        import ray
    except ImportError:
        raise UsageError("--executor ray needs Ray; pip install 'shunter[sweep]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    remote: Any = ray.remote(num_cpus=1)(train_apart)
    poll = _Poll(tasks, report)
    waiting = [remote.remote(task) for task in tasks]
    results = list(waiting)
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, timeout=POLL_S)
            poll()
            if should_stop is not None and should_stop():
                stop.touch()
            ray.get(ended)
        outcomes: list[Outcome] = ray.get(results)
    except ray.exceptions.RayError as error:
        stop.touch()
        if isinstance(error, ShunterError):  # Ray raises a task's error as one that is its own, too
            raise
        first = str(error).splitlines()[0]
        raise TrainingError(
            f"a seed has failed on Ray: {first}; the same command with --resume takes training up"
        ) from None
    return outcomes


class _Poll:
    """Reports the lines that seeds have added to their files since the last call."""

    def __init__(self, tasks: Sequence[AnyTask[Any]], report: Report | None) -> None:
        self.report = report
        self.tasks = {task.seed: task for task in tasks}
        self.read = {task.seed: (task.folder / PROGRESS, 0) for task in tasks}
        for seed, (path, _) in self.read.items():
            if path.exists():
                self.read[seed] = (path, path.stat().st_size)

    def __call__(self) -> None:
        if self.report is None:
            return
        for seed, (path, place) in self.read.items():
            if not path.exists() or path.stat().st_size <= place:
                continue
            with path.open(encoding="utf-8") as lines:
                lines.seek(place)
                text = lines.read()
            whole = text[: text.rfind("\n") + 1]
            self.read[seed] = (path, place + len(whole.encode()))
            for line in whole.splitlines():
                self.report(seed, self.tasks[seed].point(json.loads(line)))
