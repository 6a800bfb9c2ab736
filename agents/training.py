"""Training a policy from traces to a bundle: periods, seeds, the best network on validation, its check and its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shunter.agents.lessons import Material, best_heuristic, lessons_of
from shunter.agents.settings import Budget, Settings
from shunter.scheduler.errors import OutputError, UsageError
from shunter.traces.periods import Period, split

if TYPE_CHECKING:
    from shunter.agents.bundle import Card
    from shunter.agents.executors import Report
    from shunter.agents.networks import QueueNetwork
    from shunter.agents.seeds import Outcome, Point, Task
    from shunter.agents.teaching import Teacher
    from shunter.scheduler.kernels.network import Network
    from shunter.traces.tables import ClusterSpec, Trace

RUN_FILE = "run.json"
CURVE_FILE = "learning-curve.png"
BUNDLE = "bundle"

PACKAGES = ("numpy", "torch", "stable-baselines3", "sb3-contrib", "onnx", "onnxruntime")
"""Whose versions a card notes."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be trained.

    Attributes:
        traces: Traces, each with the cluster that its jobs run on.
        settings: Hyper-parameters.
        budget: For each seed.
        seeds: The seeds.
        out: Folder of the run.
        executor: ``local`` or ``ray``.
        resume: Take up the run in ``out``.
        command: How it was asked for, for the card.
    """

    traces: Sequence[tuple[Trace, ClusterSpec]]
    settings: Settings
    budget: Budget
    seeds: Sequence[int]
    out: Path
    executor: str = "local"
    resume: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it.

    Attributes:
        complete: Whether all seeds used up their budget; otherwise the run can be resumed.
        outcomes: Of the seeds.
        heuristic: The baseline: the best fixed heuristic on the training periods.
        best_heuristics: By trace, the best ones on validation, in the mean and in the tail.
        seed: The seed whose network was kept; None while the run is not complete.
        bundle: Where the bundle was written; None likewise.
        parity: Largest difference between torch and ONNX Runtime.
    """

    complete: bool
    outcomes: Sequence[Outcome]
    heuristic: str
    best_heuristics: Mapping[str, tuple[str, str]]
    seed: int | None = None
    bundle: Path | None = None
    parity: float | None = None


def train_policy(order: Order, report: Report | None = None, should_stop: Callable[[], bool] | None = None) -> Trained:
    """Train all seeds, keep the network that does best on validation, and write it as a bundle.

    Args:
        order: What to train.
        report: Called with a seed and where it stands, after every round.
        should_stop: Asked several times a second; training then stops, and can be resumed.

    Raises:
        TraceError: A trace has fewer jobs than a window.
        UsageError: The folder holds another training, or what is asked for does not exist.
        OutputError: Something cannot be written.
        ParityError: The exported network does not score as the trained one.
    """
    from shunter.agents.executors import run_tasks

    prepared = prepare_run(order, should_stop)
    outcomes = run_tasks(prepared.tasks, order.executor, report, should_stop)
    validation = prepared.tasks[0].validation
    trained = Trained(
        complete=all(outcome.complete for outcome in outcomes),
        outcomes=outcomes,
        heuristic=prepared.tasks[0].heuristic,
        best_heuristics=validation.best_heuristics,
    )
    return finish(order, prepared, trained) if trained.complete else trained


def train_trial(order: Order, should_stop: Callable[[], bool] | None = None) -> float | None:
    """Train without writing a bundle, for the search over hyper-parameters.

    Returns:
        The least cost on validation; None when it was stopped.
    """
    from shunter.agents.executors import run_tasks

    (outcome,) = run_tasks(prepare_run(order, should_stop).tasks, "local", None, should_stop)
    return outcome.progress.best_cost if outcome.complete else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run whose seeds can begin.

    Attributes:
        tasks: One a seed.
        periods: By trace, its training and validation period.
    """

    tasks: Sequence[Task]
    periods: Sequence[tuple[Period, Period]]


def prepare_run(order: Order, should_stop: Callable[[], bool] | None = None) -> Prepared:
    """Check everything that can be checked before anything long begins, and set the seeds' tasks up."""
    from shunter.agents.seeds import Task
    from shunter.agents.validation import Validation

    material, periods = materials_of(order)
    settings = order.settings
    lessons = lessons_of(material, settings.with_values({"curriculum.generated_share": 0.0}), 0, 0)
    fingerprint = fingerprint_of(order, periods)
    open_folder(order, fingerprint)
    baseline = settings.windows.baseline
    heuristic = best_heuristic(lessons, settings.windows) if baseline == "auto" else baseline
    teacher = teacher_of(order, heuristic, material, should_stop)
    foresees = settings.imitation.teacher == "foresight"
    judged_by = Validation(material, settings)
    tasks = [
        Task(
            seed=seed,
            material=material,
            settings=settings,
            budget=order.budget,
            heuristic=heuristic,
            teacher=foreseen(order, material, seed, should_stop) if foresees else teacher,
            validation=judged_by,
            folder=order.out / f"seed-{seed}",
            resume=order.resume,
            fingerprint=f"{fingerprint}-{seed}",
        )
        for seed in order.seeds
    ]
    return Prepared(tasks, periods)


def materials_of(order: Order) -> tuple[list[Material], list[tuple[Period, Period]]]:
    """The traces with the rows that may be looked at; and by trace, its training and validation period."""
    material, periods = [], []
    for trace, cluster in order.traces:
        training, validation, _ = split(trace)
        periods.append((training, validation))
        material.append(Material(trace, cluster, (training.first, training.last), (validation.first, validation.last)))
    return material, periods


def fingerprint_of(order: Order, periods: Sequence[tuple[Period, Period]]) -> str:
    """What must be the same for a training to be taken up: settings, budget, jobs, clusters and features."""
    from shunter.scheduler.kernels.features import NUM_FEATURES

    content = {
        "settings": order.settings.model_dump(mode="json"),
        "budget": str(order.budget),
        "traces": [training.sha256 for training, _ in periods],
        "clusters": [repr(cluster) for _, cluster in order.traces],
        "features": NUM_FEATURES,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def open_folder(order: Order, fingerprint: str) -> None:
    """Make the folder of a new run, or check that of one that is to be taken up.

    Raises:
        UsageError: It holds another training, or none.
        OutputError: It cannot be written.
    """
    path = order.out / RUN_FILE
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if not order.resume:
            raise UsageError(f"{order.out} holds a training; take it up with --resume, or give another --out")
        if known["fingerprint"] != fingerprint:
            raise UsageError(
                f"{order.out} holds a training with other {_differences(known, order)}; give those of the interrupted "
                "one, or train anew in another --out"
            )
        return
    content = {
        "fingerprint": fingerprint,
        "command": order.command,
        "budget": str(order.budget),
        "seeds": list(order.seeds),
        "traces": [trace.name for trace, _ in order.traces],
        "settings": order.settings.model_dump(mode="json"),
    }
    write_whole(path, json.dumps(content, indent=2).encode() + b"\n")


def _differences(known: Mapping[str, Any], order: Order) -> str:
    """Which settings differ from those of the run in the folder."""
    now = order.settings.model_dump(mode="json")
    names = [
        f"{section}.{name}"
        for section, values in now.items()
        for name, value in values.items()
        if known["settings"].get(section, {}).get(name) != value
    ]
    if known["budget"] != str(order.budget):
        names.append("budget")
    if known["traces"] != [trace.name for trace, _ in order.traces]:
        names.append("traces")
    return ", ".join(names) or "jobs or clusters"


def teacher_of(
    order: Order, heuristic: str, material: Sequence[Material], should_stop: Callable[[], bool] | None
) -> Teacher:
    """Whom to imitate: a heuristic, a bundle's network, recorded choices, what a search finds, or nobody.

    Raises:
        UsageError: There is no such heuristic or file.
    """
    asked = order.settings.imitation.teacher
    if asked in ("none", "foresight"):  # which each seed does for itself
        return None
    if asked == "auto":
        return heuristic
    if asked == "search":
        return searched(order, material, should_stop)
    path = Path(asked)
    if path.is_dir():
        from shunter.agents.bundle import load_bundle

        network = load_bundle(path).network()
        if network is None:
            raise UsageError(f"{path}: its network does not replay compiled; only a kernel bundle can be a teacher")
        return network
    if path.suffix == ".npz":
        if not path.is_file():
            raise UsageError(f"--warm-start {asked}: no such file")
        return path
    from shunter.scheduler.policies.registry import choose_ordering

    choose_ordering(asked)
    return asked


def foreseen(order: Order, material: Sequence[Material], seed: int, should_stop: Callable[[], bool] | None) -> Teacher:
    """The score by expected weight and work (``agents.foresight``), from the training periods as they are.

    A seed that has a checkpoint needs no teacher any more.
    """
    from shunter.agents.foresight import foresee
    from shunter.agents.seeds import CHECKPOINT

    if order.resume and (order.out / f"seed-{seed}" / CHECKPOINT).is_file():
        return None
    plain = order.settings.with_values(
        {"curriculum.generated_share": 0.0, "curriculum.loads": (1.0,), "curriculum.until": (1.0,)}
    )
    return foresee(lessons_of(material, plain, 0, seed), plain, seed=seed, should_stop=should_stop)


def searched(order: Order, material: Sequence[Material], should_stop: Callable[[], bool] | None) -> Network:
    """A score linear in the features, found by direct search on the training periods (``agents.search``)."""
    from shunter.agents.objective import Ground
    from shunter.agents.search import GroundTrial, Plan, Search

    selection = order.settings.selection
    grounds = []
    for each in material:
        length = min(selection.jobs, each.training[1] - each.training[0])
        grounds.append(
            Ground.of(
                each.trace,
                each.cluster,
                each.training,
                backfill=order.settings.windows.backfill,
                length=length,
                warm_up=min(selection.warm_up, length // 4),
                shakes=selection.shakes,
            )
        )
    search = Search.begin(Plan(generations=order.settings.imitation.generations))
    search.run([GroundTrial.of(ground) for ground in grounds], should_stop=should_stop)
    return search.network


def finish(order: Order, prepared: Prepared, trained: Trained) -> Trained:
    """Choose the best seed, check its export, and write learning curve and bundle."""
    from shunter.agents.bundle import write_bundle
    from shunter.agents.curves import learning_curve
    from shunter.agents.torch_export import check_parity, to_onnx

    best = min(trained.outcomes, key=lambda outcome: outcome.progress.best_cost)
    network = network_of(order.settings, best.progress.best)
    onnx = to_onnx(network)
    parity = check_parity(network, onnx)
    names = (
        ", ".join(trace.name for trace, _ in order.traces) if len(order.traces) < 3 else f"{len(order.traces)} traces"
    )
    curve = learning_curve({each.seed: each.progress.curve for each in trained.outcomes}, f"trained on {names}")
    write_whole(order.out / CURVE_FILE, curve)
    folder = order.out / BUNDLE
    write_bundle(folder, onnx, card_of(order, prepared, trained, best), {CURVE_FILE: curve})
    return replace(trained, seed=best.seed, bundle=folder, parity=parity)


def card_of(order: Order, prepared: Prepared, trained: Trained, best: Outcome) -> Card:
    """What is to be known of the trained network."""
    from importlib.metadata import version

    from shunter import __version__
    from shunter.agents.bundle import Card

    windows, progress = order.settings.windows, best.progress
    return Card(
        kind=order.settings.network.kind,
        low=tuple(progress.low.tolist()),
        high=tuple(progress.high.tolist()),
        traces=tuple(period.to_dict() for periods in prepared.periods for period in periods),
        seeds=tuple(order.seeds),
        objective=(
            f"{windows.metric} with backfilling {windows.backfill}: mean and p95 against the best heuristic, "
            f"{windows.reward} of windows of {windows.jobs} jobs against {trained.heuristic}"
        ),
        command=order.command,
        versions={"shunter": __version__} | {name: version(name) for name in PACKAGES},
        evaluation={
            "validation": {
                "best_heuristics": {name: list(pair) for name, pair in trained.best_heuristics.items()},
                "seeds": [asdict(kept_point(outcome)) | {"seed": outcome.seed} for outcome in trained.outcomes],
            }
        },
        notes=f"seed {best.seed} was kept",
    )


def kept_point(outcome: Outcome) -> Point:
    """Where the network stood that a seed keeps."""
    return min(outcome.progress.curve, key=lambda point: point.cost)


def network_of(settings: Settings, state: Mapping[str, Any]) -> QueueNetwork:
    """A network with given parameters."""
    from shunter.agents.ppo import network_maker

    network = network_maker(settings)()
    network.load_state_dict(dict(state))
    return network


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written: {problem.strerror or problem}") from None
