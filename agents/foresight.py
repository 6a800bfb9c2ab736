"""A first score by regression: what a job's wait costs an hour, over what its run costs the others.

To keep a weighted sum of waits small where run times are random, jobs go first whose expected weight over expected
work is greatest (Smith, Nav. Res. Logist. Q. 3, 1956; Rothkopf, Manage. Sci. 12(9), 1966). For the mean bounded
slowdown a waiting hour of a job costs 1 / max(run, 10 s), and its work is processors · run. Neither is known before it
has ended; both means are regressed on the features of waiting jobs. The logarithm of each is a small network, fitted
by Poisson pseudo-likelihood, which finds a conditional mean whatever the distribution (Gourieroux, Monfort & Trognon,
Econometrica 52(3), 1984). Both networks share their hidden layers, so that their difference is one such network: a
score that PPO can go on from.

Work goes partly by the request itself (``foresight.request_share``), which keeps jobs of unknown users in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shunter.agents.lessons import Lesson
from shunter.scheduler.features import FEATURES
from shunter.scheduler.kernels.features import COUNT_SPAN, LOG_SPAN, NUM_FEATURES
from shunter.scheduler.kernels.network import Network, new_network
from shunter.scheduler.metrics import SLOWDOWN_BOUND_S
from shunter.scheduler.types import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from shunter.agents.settings import ForesightSettings, Settings

MOST_RATIO = 1.5
"""Run times beyond so many requests count as this: a few overruns would decide the fit."""

COLUMN = {feature.name: place for place, feature in enumerate(FEATURES)}


@dataclass(frozen=True, slots=True)
class Glimpses:
    """Waiting jobs as they were seen, with what came of them.

    Attributes:
        features: (R, F) float32.
        weight: (R,) 10 s / max(run, 10 s).
        ratio: (R,) run over request.
        lesson: (R,) which trace.
    """

    features: FloatArray
    weight: FloatArray
    ratio: FloatArray
    lesson: IntArray

    def __len__(self) -> int:
        return len(self.weight)


def foresee(
    lessons: Sequence[Lesson], settings: Settings, *, seed: int, should_stop: Callable[[], bool] | None = None
) -> Network:
    """The score that the regression gives, as a kernel network of the settings' hidden sizes.

    Args:
        lessons: What is learned from.
        settings: ``foresight``, ``network.hidden`` and what an episode is.
        seed: Of the windows, the weights and the order of rows.
        should_stop: Asked now and then; the score is then that of what has been seen.
    """
    asked = settings.foresight
    glimpses = look(lessons, settings, seed=seed, should_stop=should_stop)
    return fit_score(glimpses, asked, settings.network.hidden, seed=seed, should_stop=should_stop)


def fit_score(
    glimpses: Glimpses,
    asked: ForesightSettings,
    hidden: Sequence[int],
    *,
    seed: int,
    should_stop: Callable[[], bool] | None = None,
) -> Network:
    """The mean of several scores, each regressed with its share of the hidden units: they err in different places."""
    shares = shares_of(asked, hidden)
    return averaged(
        [
            composed(fit_means(glimpses, asked, share, seed=seed * len(shares) + i, should_stop=should_stop), asked)
            for i, share in enumerate(shares)
        ]
    )


def shares_of(asked: ForesightSettings, hidden: Sequence[int]) -> list[tuple[int, int]]:
    """The hidden units of each member."""
    count = max(1, min(asked.members, *hidden))
    return [
        (hidden[0] // count + (i < hidden[0] % count), hidden[1] // count + (i < hidden[1] % count))
        for i in range(count)
    ]


def averaged(members: Sequence[Network]) -> Network:
    """One network whose score is the mean of those of several: their hidden units side by side."""
    wide, narrow = sum(len(each.b1) for each in members), sum(len(each.b2) for each in members)
    w2 = np.zeros((narrow, wide))
    row = column = 0
    for each in members:
        w2[row : row + len(each.b2), column : column + len(each.b1)] = each.w2
        row, column = row + len(each.b2), column + len(each.b1)
    return new_network(
        skip=np.mean([each.skip for each in members], axis=0),
        w1=np.concatenate([each.w1 for each in members]),
        b1=np.concatenate([each.b1 for each in members]),
        w2=w2,
        b2=np.concatenate([each.b2 for each in members]),
        w3=np.concatenate([each.w3 for each in members]) / len(members),
    )


def look(
    lessons: Sequence[Lesson], settings: Settings, *, seed: int, should_stop: Callable[[], bool] | None = None
) -> Glimpses:
    """Schedule windows of the lessons by expected work, and note some waiting jobs at every decision."""
    from shunter.agents.teaching import greedy
    from shunter.agents.vector import VectorSchedulingEnv

    asked, windows = settings.foresight, settings.windows
    jobs = min(asked.jobs, *(lesson.last - lesson.first - windows.warm_jobs for lesson in lessons))
    env = VectorSchedulingEnv(
        [lesson.given for lesson in lessons],
        settings.ppo.environments,
        jobs=jobs,
        warm_jobs=windows.warm_jobs,
        backfill=windows.backfill,
        visible=windows.visible,
        seed=seed,
    )
    rng, skip = np.random.default_rng(seed), by_expected_work()
    observation = env.reset()
    found: list[AnyArray] = []
    which: list[tuple[int, int]] = []
    while len(which) < asked.rows and not (should_stop is not None and which and should_stop()):
        seen = observation[:, :, :NUM_FEATURES].astype(np.float64)
        for place, window in enumerate(env.batch.window):
            assert window is not None
            rows = env.batch.visible(place)
            taken = rng.choice(len(rows), min(asked.glimpses, len(rows)), replace=False)
            found.append(observation[place, taken, :NUM_FEATURES].copy())
            which += [(window.source, int(row)) for row in rows[taken]]
        observation = env.step(greedy(seen @ skip, np.stack(env.env_method("action_masks"))))[0]
    env.close()
    lesson, row = np.asarray(which, dtype=np.int64).T
    run_s, request_s = np.zeros(len(lesson)), np.zeros(len(lesson))
    for number, each in enumerate(lessons):
        own = lesson == number
        run_s[own] = each.workload.run_s[row[own]]
        request_s[own] = np.maximum(each.workload.columns.requested_s[row[own]], 1.0)
    ratio = np.minimum(np.maximum(run_s, 1.0) / request_s, MOST_RATIO)
    return Glimpses(np.concatenate(found), SLOWDOWN_BOUND_S / np.maximum(run_s, SLOWDOWN_BOUND_S), ratio, lesson)


def by_expected_work() -> FloatArray:
    """(F,) weights of the score by which jobs are scheduled while they are looked at: expected run time, squared, and
    processors.
    """
    skip = np.zeros(NUM_FEATURES)
    skip[COLUMN["log_expected"]], skip[COLUMN["log_processors"]] = 2.0 * LOG_SPAN, COUNT_SPAN
    return skip


def fit_means(
    glimpses: Glimpses,
    asked: ForesightSettings,
    hidden: tuple[int, int],
    *,
    seed: int,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Network, Network]:
    """Networks whose values are the logarithms of the mean weight and of the mean run time over the request.

    What is regressed is by how much the means differ from those of a job that runs as long as its histories lead to
    expect, so that without any rows that is what remains. Every trace counts alike. The loss of a prediction z of
    log y is exp(z) − y · z, the Poisson deviance but for terms that do not depend on z, over the mean of y.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    model = two_heads(hidden, generator)
    x = torch.as_tensor(glimpses.features, dtype=torch.float32)
    expected = x @ torch.as_tensor(as_expected(), dtype=torch.float32)
    y = torch.as_tensor(np.stack([glimpses.weight, glimpses.ratio], 1), dtype=torch.float32)
    counts = np.bincount(glimpses.lesson)
    share = torch.as_tensor(len(glimpses) / (counts > 0).sum() / counts[glimpses.lesson], dtype=torch.float32)
    means = (share[:, None] * y).mean(0)
    batch = min(asked.batch, len(glimpses))
    batches = len(glimpses) // batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=asked.learning_rate, weight_decay=asked.decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, asked.learning_rate, total_steps=asked.epochs * batches + 1)
    for _ in range(asked.epochs):
        order = torch.randperm(len(glimpses), generator=generator)
        for number in range(batches):
            rows = order[number * batch : (number + 1) * batch]
            z = values_of(model, x[rows]) + expected[rows]
            loss = (share[rows, None] * (z.exp() - y[rows] * z) / means).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            rate.step()
        if should_stop is not None and should_stop():
            break
    weight, ratio = head_of(model, 0), head_of(model, 1)
    of_weight, of_ratio = as_expected().T
    return weight._replace(skip=weight.skip + of_weight), ratio._replace(skip=ratio.skip + of_ratio)


def as_expected() -> FloatArray:
    """(F, 2) weights of features: of −log(run) and of log(run / request), were the run as long as expected."""
    skip = np.zeros((NUM_FEATURES, 2))
    skip[COLUMN["log_expected"]] = -LOG_SPAN, LOG_SPAN
    skip[COLUMN["log_request"], 1] = -LOG_SPAN
    return skip


def two_heads(hidden: tuple[int, int], generator: Generator) -> nn.ModuleDict:
    """Two networks with common hidden layers; at first both are constant."""
    import torch
    from torch import nn

    layers = {
        "skip": nn.Linear(NUM_FEATURES, 2),
        "first": nn.Linear(NUM_FEATURES, hidden[0]),
        "second": nn.Linear(hidden[0], hidden[1]),
        "last": nn.Linear(hidden[1], 2, bias=False),
    }
    with torch.no_grad():
        for name, layer in layers.items():
            bound = layer.in_features**-0.5 if name in ("first", "second") else 0.0
            layer.weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        layers["skip"].bias[0] = np.log(SLOWDOWN_BOUND_S)
    return nn.ModuleDict(layers)


def values_of(model: nn.ModuleDict, x: Tensor) -> Tensor:
    """(R, 2) values of both networks."""
    import torch

    hidden = torch.relu(model["second"](torch.relu(model["first"](x))))
    values: Tensor = model["skip"](x) + model["last"](hidden)
    return values


def head_of(model: nn.ModuleDict, number: int) -> Network:
    """One of both as a compiled network, less its constant, which changes no order."""

    def array(name: str, kind: str = "weight") -> FloatArray:
        values: FloatArray = getattr(model[name], kind).detach().numpy().astype(np.float64)
        return values

    return new_network(
        skip=array("skip")[number],
        w1=array("first"),
        b1=array("first", "bias"),
        w2=array("second"),
        b2=array("second", "bias"),
        w3=array("last")[number],
    )


def composed(heads: tuple[Network, Network], asked: ForesightSettings) -> Network:
    """log(expected work) − log(expected weight), lower first, and what else the settings add."""
    weight, ratio = heads
    share = 1.0 - asked.request_share
    skip = share * ratio.skip - weight.skip
    skip[COLUMN["log_request"]] += LOG_SPAN  # of run = request · ratio, and of the request alone
    skip[COLUMN["log_processors"]] += COUNT_SPAN
    for name, value in asked.terms.items():
        skip[COLUMN[name]] += value
    return weight._replace(skip=skip, w3=share * ratio.w3 - weight.w3)
