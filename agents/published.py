"""Policies for the published protocol of RLScheduler, found by direct search under the protocol itself (``courses``).

Every seed has windows of its own and searches apart, in a process of its own; it leaves a bundle. Which seed is the
best is judged on the windows of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.agents.courses import AS_PUBLISHED, GENERAL, KINDS, TYPICAL, courses_of, whole_cost
from shunter.agents.protocols import PUBLISHED_JOBS, PUBLISHED_LENGTH
from shunter.agents.published_search import Outcome, Point, SeedSearch
from shunter.agents.search import Plan, unpacked
from shunter.scheduler.errors import UsageError, nearest

if TYPE_CHECKING:
    from shunter.agents.bundle import Bundle, Card
    from shunter.agents.courses import Source

WINDOWS = 32
"""Windows over all logs; at least ``LEAST_WINDOWS`` of each."""

LEAST_WINDOWS = 6

DRAWN = 0.25
"""Share of the windows that the candidates of a generation are tried on, the same ones for all of them."""

STEP, STEP_FROM_START = 0.2, 0.1
"""Standard deviation of the first generation, and of one that begins at a policy."""

RUN_FILE = "run.json"
COMPARED = ("protocol", "kind", "backfill", "traces", "hidden", "start")
"""What a run that is taken up must have been asked for with."""

BUNDLE = "bundle"

PACKAGES = ("numpy", "cmaes", "onnx", "onnxruntime")
"""Whose versions a card notes."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained.

    Attributes:
        sources: Logs.
        kind: ``general`` or ``as-published``.
        backfill: ``none`` or ``easy``; the protocol's own backfilling, not the engine's.
        hidden: Units of the two hidden layers; (0, 0) is a linear score.
        generations: Of every seed's search.
        seeds: The seeds; each has windows of its own.
        out: Folder of the run.
        population: Candidates in a generation.
        length: Jobs of a window.
        windows: Windows over all logs.
        start: Policy to begin at; None: the best of a few linear heuristics on the windows.
        executor: ``local`` or ``ray``.
        workers: Processes on this machine; None: as many as cores.
        resume: Take up the run in ``out``.
        command: How it was asked for, for the card.
    """

    sources: Sequence[Source]
    kind: str
    backfill: str
    hidden: tuple[int, int]
    generations: int
    seeds: Sequence[int]
    out: Path
    population: int = 12
    length: int = PUBLISHED_LENGTH
    windows: int = WINDOWS
    start: Bundle | None = None
    executor: str = "local"
    workers: int | None = None
    resume: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for what, value, known in (("kind", self.kind, KINDS), ("backfill", self.backfill, ("none", "easy"))):
            if value not in known:
                raise UsageError(f"unknown --{what} {value!r}{nearest(value, list(known))}")
        if self.kind == AS_PUBLISHED:
            for source in self.sources:
                if source.rows is not None:
                    raise UsageError(
                        f"--kind as-published takes the first {PUBLISHED_JOBS:,} jobs of {source.trace.name}: give the "
                        "trace without :FIRST:COUNT"
                    )
        if self.start is not None and self.kind == GENERAL != self.start.card.trained_on:
            raise UsageError(f"{self.start.path}: was trained as published, so nothing that begins at it is general")
        if self.start is not None and self.start.network() is None:
            raise UsageError(f"{self.start.path}: its network does not replay compiled; it cannot be a start")
        if not self.sources or not self.seeds:
            raise UsageError("a search needs a trace and a seed")
        self.plan(0)

    @property
    def windows_each(self) -> int:
        """Windows of each log."""
        return max(LEAST_WINDOWS, self.windows // len(self.sources))

    def plan(self, seed: int) -> Plan:
        """How a seed searches."""
        return Plan(
            hidden=self.hidden,
            seed=seed,
            generations=self.generations,
            population=self.population,
            step=STEP if self.start is None else STEP_FROM_START,
            stretches=max(1, round(self.windows_each * DRAWN)),
        )


def tasks_of(order: Order) -> list[SeedSearch]:
    """The searches of all seeds, with everything checked that can be checked before anything long begins."""
    tasks = []
    start = None if order.start is None else order.start.network()
    for seed in order.seeds:
        courses = courses_of(
            order.sources,
            kind=order.kind,
            backfill=order.backfill,
            length=order.length,
            count=order.windows_each,
            seed=seed,
        )
        folder = order.out / f"seed-{seed}"
        tasks.append(SeedSearch(seed, courses, order.plan(seed), start, folder, order.resume))
    return tasks


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it.

    Attributes:
        complete: Whether all seeds are done; otherwise the run can be resumed.
        outcomes: Of the seeds.
        costs: Of each seed's best score on the windows of all seeds; empty while the run is not complete.
        seed: The one with the least; None likewise.
        bundle: Its bundle; each seed's own lies in its folder.
    """

    complete: bool
    outcomes: Sequence[Outcome]
    costs: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    bundle: Path | None = None


def train_published(
    order: Order,
    report: Callable[[int, Point], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Trained:
    """Search with all seeds and write a bundle for each, and the best one as that of the run.

    Args:
        order: What to train.
        report: Called with a seed and where it stands, now and then.
        should_stop: Asked after every generation; the run then stops, and can be resumed.

    Raises:
        TraceError: A log has too few jobs, or one that cannot run on its machine.
        UsageError: The folder holds another run, or what is asked for does not exist.
        OutputError: Something cannot be written.
    """
    from shunter.agents.bundle import write_bundle
    from shunter.agents.executors import run_tasks
    from shunter.agents.export import kernel_onnx

    tasks = tasks_of(order)
    open_folder(order)
    outcomes = run_tasks(tasks, order.executor, report, should_stop, workers=order.workers)
    if not all(outcome.complete for outcome in outcomes):
        return Trained(False, outcomes)
    networks = {outcome.seed: unpacked(outcome.weights, order.hidden) for outcome in outcomes}
    courses = [course for task in tasks for course in task.courses]
    costs = {seed: whole_cost(courses, network) for seed, network in networks.items()}
    best = min(costs, key=lambda seed: costs[seed])
    for outcome, task in zip(outcomes, tasks, strict=True):
        card = card_of(order, task, outcome, costs)
        folders = [task.folder / BUNDLE, *([order.out / BUNDLE] if outcome.seed == best else [])]
        for folder in folders:
            write_bundle(folder, kernel_onnx(networks[outcome.seed]), card)
    return Trained(True, outcomes, costs, best, order.out / BUNDLE)


def open_folder(order: Order) -> None:
    """Make the folder of a run, or check that of one that is to be taken up.

    Raises:
        UsageError: It holds another one.
        OutputError: It cannot be written.
    """
    from shunter.agents.training import write_whole

    path, document = order.out / RUN_FILE, run_document(order)
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in COMPARED if known.get(name) != document[name]]
        if other:
            raise UsageError(
                f"{order.out} holds a training with other {', '.join(other)}; give those of the interrupted one, or "
                "train anew in another --out"
            )
    write_whole(path, json.dumps(document, indent=2).encode() + b"\n")


def run_document(order: Order) -> dict[str, Any]:
    """What a run's folder says of it."""
    return {
        "protocol": "rlscheduler",
        "kind": order.kind,
        "backfill": order.backfill,
        "traces": [source.trace.name for source in order.sources],
        "hidden": list(order.hidden),
        "generations": order.generations,
        "seeds": list(order.seeds),
        "start": order.start.card.model_sha256 if order.start else None,
        "command": order.command,
    }


def card_of(order: Order, task: SeedSearch, outcome: Outcome, costs: Mapping[int, float]) -> Card:
    """What is to be known of a seed's policy."""
    from importlib.metadata import version

    from shunter import __version__
    from shunter.agents.bundle import Card
    from shunter.scheduler.features import FEATURES

    shared = "; it is also tested on these jobs: in-distribution" if order.kind == AS_PUBLISHED else ""
    return Card(
        kind="kernel" if order.hidden[0] else "linear",
        low=tuple(feature.low for feature in FEATURES),
        high=tuple(feature.high for feature in FEATURES),
        trained_on=order.kind,
        traces=(
            *(course.period.to_dict() for course in task.courses),
            *(order.start.card.traces if order.start else ()),
        ),
        seeds=(outcome.seed,),
        objective=(
            f"protocol rlscheduler, backfilling {order.backfill}: log of the mean bounded slowdown over "
            f"{len(task.courses[0])} windows of {order.length} jobs of each trace, from empty clusters, plus "
            f"{TYPICAL:g} of the mean of their logs; averaged over the traces"
        ),
        command=order.command,
        versions={"shunter": __version__} | {name: version(name) for name in PACKAGES},
        evaluation={
            "protocol": run_document(order) | {"length": order.length, "population": order.population},
            "training": [asdict(point) for point in outcome.curve],
            "cost_on_windows_of_all_seeds": {str(seed): cost for seed, cost in costs.items()},
        },
        notes=(
            f"Direct search (CMA-ES) under protocol rlscheduler, {order.kind}{shared}. Low and high are the usual "
            "ranges of the features, not those met in training: replays under the protocol do not record them."
        ),
    )
