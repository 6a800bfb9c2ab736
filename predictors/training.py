"""Training of the recurrent network: several seeds on one series, whose answers are averaged. Needs torch.

Each epoch draws its windows by seed and number of the epoch, and a checkpoint is written after it. So a training that
was stopped and taken up ends with the same weights, to the last bit, as one that ran through. What is kept are running
means of the weights (Polyak & Juditsky, 1992), those of the epoch with the least pinball loss on validation.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from shunter.predictors.network import Ensemble, LoadNetwork, pinball_loss
from shunter.predictors.scaling import NodeScales, cycles_of, encode
from shunter.predictors.windows import split, thinned, windows_in
from shunter.scheduler.errors import UsageError

if TYPE_CHECKING:
    from shunter.predictors.windows import Values, Windows


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train.

    Attributes:
        hidden: Units of a network's LSTM.
        width: Units of the layer behind it.
        dropout: Share of the LSTM's last state left out.
        epochs: At most.
        many_epochs: The same on a series with ``MANY_WINDOWS`` or more.
        patience: Epochs without a better validation before it ends.
        steps: Updates of an epoch, at most; fewer where the series has fewer windows, but not below ``least_steps``.
        least_steps: See there.
        batch: Windows of an update; half of them on a series with few.
        learning_rate: At the beginning; falls along a cosine to a fiftieth of it.
        weight_decay: Of AdamW.
        average: Weight of the past in the running means of the weights, less in the first updates.
        heaviest: A window whose scale is so many usual steps of its node, or more, weighs so much.
        validation: Windows looked at after each epoch, at most.
    """

    hidden: int = 16
    width: int = 128
    dropout: float = 0.05
    epochs: int = 16
    many_epochs: int = 36
    patience: int = 8
    steps: int = 100
    least_steps: int = 100
    batch: int = 512
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    average: float = 0.99
    heaviest: float = 10.0
    validation: int = 20_000

    def epochs_for(self, num_windows: int) -> int:
        """How many epochs a series with so many windows gets, at most."""
        return self.many_epochs if num_windows >= MANY_WINDOWS else self.epochs


FEW_WINDOWS = 30_000
MANY_WINDOWS = 60_000


@dataclass(frozen=True)
class Material:
    """What is learned from: a series' parts, encoded when asked for."""

    values: Values
    scales: NodeScales
    train: Windows
    validation: Windows
    cycles: int

    @classmethod
    def of(cls, values: Values, *, begin_s: float, step_s: float, dated: bool) -> Material:
        """The first 70 % of (T, N, F) values; the rest is never looked at.

        Raises:
            TraceError: Too short.
            UsageError: Nothing to learn from.
        """
        parts = split(len(values))
        train = windows_in(values, parts.train, begin_s=begin_s, step_s=step_s)
        validation = windows_in(values, parts.validation, begin_s=begin_s, step_s=step_s)
        if not (len(train) and len(validation)):
            raise UsageError("nothing was measured in the part to train on, or in the one to validate on")
        return cls(
            values,
            NodeScales.fit(values[: parts.train[1]]),
            train,
            validation,
            cycles_of(parts.train[1] * step_s, dated=dated),
        )

    def tensors(self, windows: Windows, heaviest: float) -> list[torch.Tensor]:
        """Sequence, context, targets over the window's scale, weights."""
        encoded = encode(windows.history(), windows.time_s(), self.scales.take(windows.nodes), self.cycles)
        targets = (windows.targets() - encoded.last[:, None]) / encoded.scale[:, None]
        weight = np.minimum(encoded.weight, heaviest)
        parts = (encoded.sequence, encoded.context, targets, weight)
        return [torch.as_tensor(np.asarray(part, dtype=np.float32)) for part in parts]


@dataclass(frozen=True)
class Point:
    """Where the training of a seed stands after an epoch."""

    epoch: int
    share: float
    loss: float
    validation: float
    best: float
    spent_s: float


@dataclass
class Member:
    """One seed's network on its way."""

    seed: int
    network: LoadNetwork
    average: LoadNetwork
    optimiser: torch.optim.Optimizer
    curve: list[Point] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def begin(cls, plan: Plan, num_features: int, seed: int) -> Member:
        """An untrained one."""
        torch.manual_seed(seed)
        network = LoadNetwork(num_features, plan.hidden, plan.width, plan.dropout)
        average = copy.deepcopy(network).eval()
        optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        return cls(seed, network, average, optimiser)

    def save(self, path: Path, told: dict[str, Any]) -> None:
        """Write all of it, whole or not at all."""
        state = {
            "told": told,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "curve": [asdict(point) for point in self.curve],
            "best": self.best,
            "complete": self.complete,
        }
        partial = path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path, told: dict[str, Any]) -> None:
        """Take up what was saved.

        Raises:
            UsageError: It is of another training, or no checkpoint.
        """
        try:
            state = torch.load(path, weights_only=True)
            before = state["told"]
        except Exception as problem:  # torch's errors have no common base
            raise UsageError(f"{path}: no checkpoint: {str(problem).splitlines()[0]}") from None
        for name, value in told.items():
            if before.get(name) != value:
                raise UsageError(
                    f"--resume: {name} is {value!r}, the training in {path.parent} had {before.get(name)!r}"
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.curve = [Point(**point) for point in state["curve"]]
        self.best, self.complete = state["best"], state["complete"]


def train_member(
    material: Material,
    plan: Plan,
    seed: int,
    *,
    budget_s: float = math.inf,
    checkpoint: Path | None = None,
    told: dict[str, Any] | None = None,
    report: Callable[[int, Point], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Member:
    """Train one seed until validation no longer improves, the time is over, or somebody says stop.

    Args:
        material: What to learn from.
        plan: How.
        seed: Of weights and windows.
        budget_s: Seconds; asked after every epoch.
        checkpoint: Taken up where the file is there, written after every epoch.
        told: What a checkpoint must have been made with.
        report: Called after every epoch.
        should_stop: Asked before every update; the epoch is then lost, and ``complete`` stays False.
    """
    torch.set_num_threads(1)
    member = Member.begin(plan, material.values.shape[2], seed)
    expected = asdict(plan) | {"seed": seed} | (told or {})
    if checkpoint is not None and checkpoint.exists():
        member.load(checkpoint, expected)
    check = material.tensors(thinned(material.validation, plan.validation), plan.heaviest)
    while not member.complete:
        started = time.monotonic()
        loss = _epoch(member, material, plan, budget_s, should_stop)
        if loss is None:
            break
        _judge(member, plan.epochs_for(len(material.train)), plan.patience, check, loss, budget_s, started)
        if checkpoint is not None:
            member.save(checkpoint, expected)
        if report is not None:
            report(seed, member.curve[-1])
    return member


def _epoch(
    member: Member, material: Material, plan: Plan, budget_s: float, should_stop: Callable[[], bool] | None
) -> float | None:
    """One epoch; None where it was stopped."""
    number, many = len(member.curve), len(material.train)
    batch = plan.batch if many > FEW_WINDOWS else plan.batch // 2
    steps = int(min(plan.steps, max(plan.least_steps, many // batch)))
    rng = np.random.default_rng((member.seed, number))
    torch.manual_seed(member.seed * 100_003 + number)
    drawn = np.sort(rng.choice(many, steps * batch, replace=many < steps * batch))
    parts = material.tensors(material.train.take(drawn), plan.heaviest)
    order = torch.as_tensor(rng.permutation(len(drawn)))
    member.network.train()
    # Where time is shorter than the epochs, the learning rate falls with the time.
    late = member.curve[-1].spent_s / budget_s if member.curve else 0.0
    total = 0.0
    for step in range(steps):
        if should_stop is not None and should_stop():
            return None
        share = max((number + step / steps) / plan.epochs_for(many), min(late, 1.0))
        for group in member.optimiser.param_groups:
            group["lr"] = plan.learning_rate * (0.02 + 0.49 * (1.0 + math.cos(math.pi * share)))
        sequence, context, targets, weight = (part[order[step * batch : (step + 1) * batch]] for part in parts)
        loss = pinball_loss(member.network(sequence, context), targets, weight)
        member.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(member.network.parameters(), 1.0)
        member.optimiser.step()
        total += float(loss.detach())
        done = number * steps + step
        past = min(plan.average, (1.0 + done) / (10.0 + done))
        with torch.no_grad():
            for mean, now in zip(member.average.parameters(), member.network.parameters(), strict=True):
                mean.lerp_(now, 1.0 - past)
    return total / steps


def _judge(
    member: Member,
    epochs: int,
    patience: int,
    check: list[torch.Tensor],
    loss: float,
    budget_s: float,
    started: float,
) -> None:
    """Look at validation, keep the best weights, and say whether that was the last epoch."""
    with torch.no_grad():
        found = float(pinball_loss(member.average(check[0], check[1]), check[2], check[3]))
    least = min((point.validation for point in member.curve), default=math.inf)
    if found < least or not member.best:
        member.best = {name: value.clone() for name, value in member.average.state_dict().items()}
    before = member.curve[-1].spent_s if member.curve else 0.0
    spent, epoch = before + time.monotonic() - started, len(member.curve) + 1
    values = [point.validation for point in member.curve] + [found]
    since = len(values) - 1 - int(np.argmin(values))
    member.complete = epoch >= epochs or since >= patience or spent >= budget_s
    share = 1.0 if member.complete else max(epoch / epochs, spent / budget_s)
    member.curve.append(Point(epoch, share, loss, found, min(values), spent))


def ensemble(plan: Plan, num_features: int, members: list[Member]) -> Ensemble:
    """The best networks of all seeds, averaged."""
    networks = []
    for member in members:
        network = LoadNetwork(num_features, plan.hidden, plan.width)
        network.load_state_dict(member.best)
        networks.append(network.eval())
    found = Ensemble(networks)
    found.eval()
    return found
