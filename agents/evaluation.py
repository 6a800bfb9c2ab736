"""``evaluate``: replay many policies on the same windows of several traces, and keep what each window gave.

Owns what is replayed, in which order, by which process; ``verdicts`` judges it. A replay is one policy on a stretch of
one trace, or of a shaken copy of it, with one backfilling. Replays do not depend on each other, so any number of
processes gives the same results.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter import __version__
from shunter.agents.contenders import Contender, published_starts
from shunter.agents.protocols import Protocol, Stretch, published_stretches, stretches
from shunter.agents.replays import replay, schedule_of, windows_of
from shunter.agents.results_file import ResultsFile, key_of
from shunter.scheduler.errors import EngineError, UsageError
from shunter.traces.periods import TEST, Period, overlapping, split, whole
from shunter.traces.shaking import shaken

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from shunter.agents.bundle import Bundle
    from shunter.scheduler.policies import ChosenOrdering
    from shunter.sim.compat.rlscheduler import RlsTrace
    from shunter.traces.tables import ClusterSpec, Trace

QUEUED = 2
"""Replays handed to each process beyond the one that it works on."""


@dataclass(frozen=True, slots=True)
class Case:
    """A trace and the part of it that policies are judged on.

    Attributes:
        trace: The trace.
        cluster: What it runs on.
        period: The jobs that may be replayed.
        stretches: What is replayed and counted of it; for protocol rlscheduler, rows of ``published``.
        published: The log by the rules of protocol rlscheduler; None under other protocols.
    """

    trace: Trace
    cluster: ClusterSpec
    period: Period
    stretches: tuple[Stretch, ...]
    published: RlsTrace | None = None

    @property
    def name(self) -> str:
        """The trace's name."""
        return self.trace.name

    @property
    def num_windows(self) -> int:
        """Windows that are counted."""
        return sum(len(stretch.windows) for stretch in self.stretches)

    def counted(self, *, copies: bool = False) -> list[Period]:
        """The windows as rows of the trace; of shaken copies whole stretches, whose jobs change places."""
        if copies:
            windows = [(stretch.first, stretch.last) for stretch in self.stretches]
        else:
            windows = [window for stretch in self.stretches for window in stretch.windows]
        rows = (self.rows(Stretch(a, b, ())) for a, b in windows)
        return [Period(TEST, self.trace.name, a, b, self.period.sha256) for a, b in rows]

    def rows(self, stretch: Stretch) -> tuple[int, int]:
        """Rows of the trace, [first, last), that a stretch takes.

        Those of protocol rlscheduler are counted over other jobs (it drops those with run time 0) and in the order of
        their numbers: of these, from the first to the last that the trace has.
        """
        if self.published is None:
            return stretch.first, stretch.last
        numbers = self.published.jobs.number[stretch.first : stretch.last]
        known = np.flatnonzero(self.trace.jobs.frame["job_id"].is_in(numbers.astype(str)).to_numpy())
        return (int(known.min()), int(known.max()) + 1) if len(known) else (0, 1)


def make_case(
    trace: Trace, protocol: Protocol, *, cluster: ClusterSpec | None = None, path: Path | None = None
) -> Case:
    """What a protocol replays of a trace.

    Args:
        trace: The trace.
        protocol: The protocol.
        cluster: What to run on; by default what it ran on.
        path: The trace's file, which protocol rlscheduler reads by its own rules.

    Raises:
        TraceError: The trace or its test period is too short.
        UsageError: Protocol rlscheduler without a file.
    """
    spec = cluster or trace.cluster
    if protocol.name == "rlscheduler":
        from shunter.sim.compat import rlscheduler

        if path is None:
            raise UsageError(f"protocol rlscheduler reads an SWF file by its own rules; {trace.name!r} is none")
        published = rlscheduler.load(path)
        return Case(trace, spec, whole(trace), tuple(published_stretches(len(published))), published)
    period = whole(trace) if protocol.whole else split(trace)[2]
    return Case(trace, spec, period, tuple(stretches(protocol, period)))


def refuse_seen(cases: Sequence[Case], learned: Sequence[Contender], *, copies: bool = False) -> list[str]:
    """One sentence for every learned policy and trace of which it has seen jobs that it is to be judged on.

    Args:
        cases: Traces.
        learned: Policies.
        copies: Shaken copies are replayed: jobs of the warm-up and cool-down may come to count.
    """
    sentences = []
    for case in cases:
        counted = case.counted(copies=copies)
        for contender in learned:
            pairs = overlapping(counted, contender.seen)
            if pairs:
                shared = len(set().union(*(range(max(a.first, b.first), min(a.last, b.last)) for a, b, _ in pairs)))
                seen = ", ".join(dict.fromkeys(f"{b.name} ({b.first:,} to {b.last - 1:,})" for _, b, _ in pairs))
                jobs = len(set().union(*(range(each.first, each.last) for each in counted)))
                sentences.append(
                    f"{contender.label} has seen {shared:,} of the {jobs:,} jobs of {case.name} that it would be "
                    f"judged on, in its periods {seen}"
                )
    return sentences


@dataclass(frozen=True, slots=True)
class Work:
    """What the processes have in common.

    Attributes:
        protocol: The protocol.
        cases: Traces.
        contenders: Policies.
        backfills: Backfillings; each policy runs with each.
        default_request_s: Request of jobs without one; None: their actual run time.
    """

    protocol: Protocol
    cases: tuple[Case, ...]
    contenders: tuple[Contender, ...]
    backfills: tuple[str, ...]
    default_request_s: float | None = None

    def tasks(self) -> list[Task]:
        """Every replay, in the order in which results are written."""
        return [
            Task(case, backfill, contender, stretch, copy)
            for case in range(len(self.cases))
            for backfill in self.backfills
            for contender in range(len(self.contenders))
            for stretch in range(len(self.cases[case].stretches))
            for copy in self.protocol.copies
        ]

    def identity(self, task: Task) -> dict[str, Any]:
        """What a replay is, whatever else is evaluated with it."""
        case, contender = self.cases[task.case], self.contenders[task.contender]
        stretch = case.stretches[task.stretch]
        return {
            "shunter": __version__,
            "protocol": self.protocol.name,
            "trace": case.period.sha256,
            "cluster": case.cluster.name,
            "backfill": task.backfill,
            "default_request_s": self.default_request_s,
            "policy": contender.identity,
            "rows": [stretch.first, stretch.last],
            "windows": [list(window) for window in stretch.windows],
        } | ({"shaken": [task.copy, self.protocol.shake_s]} if task.copy else {})


@dataclass(frozen=True, slots=True)
class Task:
    """One replay: positions in ``Work``, and the seed of the copy that is replayed, 0 for the log itself."""

    case: int
    backfill: str
    contender: int
    stretch: int
    copy: int = 0


@dataclass(slots=True)
class Player:
    """Makes replays in one process; what was loaded for a policy is kept."""

    work: Work
    should_stop: Callable[[], bool]
    loaded: dict[str, Bundle] = field(default_factory=dict)

    def play(self, task: Task) -> list[dict[str, float]] | None:
        """The metrics of the windows of one replay; None when it was stopped."""
        case, contender = self.work.cases[task.case], self.work.contenders[task.contender]
        stretch = case.stretches[task.stretch]
        if case.published is not None:
            from shunter.sim.compat import rlscheduler

            count, backfill = stretch.last - stretch.first, task.backfill != "none"
            if contender.kind == "learned":
                start_s = published_starts(self._bundle(contender), case.published, stretch.first, count, backfill)
            else:
                start_s = rlscheduler.run(case.published, stretch.first, count, contender.policy, backfill).start_s
            jobs = case.published.jobs.rows(stretch.first, count)
            return windows_of(schedule_of(jobs, start_s, case.published.max_procs), stretch)
        trace = case.trace
        if task.copy:
            rows = stretch.first, stretch.last
            trace = shaken(trace, task.copy, span_s=self.work.protocol.shake_s, rows=rows)
        schedule = replay(
            trace,
            case.cluster,
            stretch.first,
            stretch.last,
            policy=self._ordering(contender),
            backfill=task.backfill,
            preempts=contender.preempts,
            estimates="tsafrir" if contender.predicts else "request",
            default_request_s=self.work.default_request_s,
            should_stop=self.should_stop,
        )
        return None if schedule is None else windows_of(schedule, stretch)

    def _ordering(self, contender: Contender) -> str | ChosenOrdering:
        """What the engine orders queues by."""
        if contender.kind != "learned":
            return contender.policy
        return self._bundle(contender).ordering(label=contender.label)

    def _bundle(self, contender: Contender) -> Bundle:
        """The bundle of a learned policy, loaded once."""
        from shunter.agents.bundle import load_bundle

        if contender.policy not in self.loaded:
            self.loaded[contender.policy] = load_bundle(Path(contender.policy))
        return self.loaded[contender.policy]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        work: What was replayed.
        windows: ``(case, backfill, contender)`` → one dictionary a window, in time order: ``METRICS`` and ``jobs``,
            means over the copies.
    """

    work: Work
    windows: dict[tuple[int, str, int], list[dict[str, float]]]


class Stopped(Exception):  # noqa: N818 - not an error: the evaluation can be taken up again
    """The evaluation was stopped before its end; ``done`` of ``total`` replays are kept."""

    def __init__(self, done: int, total: int) -> None:
        super().__init__("stopped")
        self.done = done
        self.total = total


def evaluate(
    work: Work,
    *,
    results: Path | None = None,
    resume: bool = False,
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Replay every policy on every window.

    Args:
        work: What to replay.
        results: File to which every finished replay is appended.
        resume: Take up what ``results`` holds.
        workers: Processes.
        progress: Called with the replays done, their number, and what the last one was.
        should_stop: Asked now and then.

    Raises:
        ShunterError: A policy cannot run on a trace, or ``results`` cannot be written.
        EngineError: A process was ended from outside.
        Stopped: ``should_stop`` said so.
    """
    tasks = work.tasks()
    keys = {task: key_of(work.identity(task)) for task in tasks}
    stop = should_stop or (lambda: False)
    with ResultsFile(results, resume=resume) as kept:
        missing = [task for task in tasks if keys[task] not in kept.lines]
        done = len(tasks) - len(missing)
        if progress is not None:
            progress(done, len(tasks), "")
        for task, windows in zip(missing, _played(work, missing, workers, stop), strict=True):
            if windows is None:
                raise Stopped(done, len(tasks))
            contender, case = work.contenders[task.contender], work.cases[task.case]
            names = {"trace": case.name, "policy": contender.label}
            kept.add({"key": work.identity(task), "names": names, "windows": windows})
            done += 1
            if progress is not None:
                progress(done, len(tasks), f"{case.name}, {contender.label}")
        windows_by: dict[tuple[int, str, int], list[dict[str, float]]] = {}
        for place, copies in itertools.groupby(
            tasks, lambda task: (task.case, task.backfill, task.contender, task.stretch)
        ):
            windows = mean_windows([kept.lines[keys[task]]["windows"] for task in copies])
            windows_by.setdefault(place[:3], []).extend(windows)
    return Evaluation(work, windows_by)


def mean_windows(copies: Sequence[list[dict[str, float]]]) -> list[dict[str, float]]:
    """The windows of a stretch with the means over its copies, of what all of them give."""
    if len(copies) == 1:
        return copies[0]
    return [
        {name: float(np.mean([one[name] for one in same])) for name in same[0] if all(name in one for one in same)}
        for same in zip(*copies, strict=True)
    ]


def _played(
    work: Work, tasks: Sequence[Task], workers: int, should_stop: Callable[[], bool]
) -> Iterator[list[dict[str, float]] | None]:
    """What the tasks give, in their order; None for one that was stopped, after which nothing more is begun."""
    if workers <= 1 or len(tasks) < 2:
        player = Player(work, should_stop)
        for task in tasks:
            yield None if should_stop() else player.play(task)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    waiting: list[Future[list[dict[str, float]] | None]] = []
    remaining = iter(tasks)
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work, stop)) as pool:
        try:
            for task in remaining:
                waiting.append(pool.submit(_play, task))
                if len(waiting) >= workers * (1 + QUEUED):
                    yield _wait(waiting.pop(0), should_stop, stop)
            while waiting:
                yield _wait(waiting.pop(0), should_stop, stop)
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def _wait(
    future: Future[list[dict[str, float]] | None], should_stop: Callable[[], bool], stop: Event
) -> list[dict[str, float]] | None:
    """The result of a replay in another process; tells the processes when they are to stop."""
    while True:
        try:
            return future.result(timeout=0.25)
        except TimeoutError:
            if should_stop():
                stop.set()
        except BrokenProcessPool:
            raise EngineError(
                "a process that made replays was ended from outside (out of memory?); what it had finished is kept: "
                "--resume takes it up, --workers 1 needs the least memory"
            ) from None


_PLAYER: list[Player] = []
"""Of a process of the pool, set once when it begins."""


def _begin(work: Work, stop: Event) -> None:
    """Prepare a process of the pool; Ctrl-C is for the one that holds the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _PLAYER.append(Player(work, stop.is_set))


def _play(task: Task) -> list[dict[str, float]] | None:
    return _PLAYER[0].play(task)
