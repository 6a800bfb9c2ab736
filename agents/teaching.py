"""Teachers for a warm start: their decisions in the environment, and how a network takes them over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.imitate import Decisions, imitate, sharpen
from shunter.agents.lessons import Lesson, fixed_scores
from shunter.scheduler.kernels.network import Network
from shunter.scheduler.types import AnyArray, BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from shunter.agents.networks import QueueNetwork
    from shunter.agents.settings import Settings

Teacher = str | Network | Path | None
"""A heuristic's name, a network that a search has found, a file of recorded choices, or nobody."""

Opinion = Callable[[Any, FloatArray], FloatArray]
"""Scores (N, K) of what N environments show (N, K, F + 1)."""


def teach(
    network: QueueNetwork,
    teacher: Teacher,
    env: Any,
    lessons: Sequence[Lesson],
    settings: Settings,
    *,
    seed: int,
    should_stop: Callable[[], bool] | None = None,
) -> AnyArray:
    """Let a network take over a teacher's order; one of the same kind is copied, any other imitated.

    Args:
        network: Learns in place.
        teacher: From whom.
        env: A ``VectorSchedulingEnv`` on the lessons, in which the teacher decides.
        lessons: Where its jobs come from.
        settings: How many decisions, how often they are looked at.
        seed: Of the episodes and of the order in which decisions are looked at.
        should_stop: Asked now and then.

    Returns:
        (R, F) features that the teacher has seen.

    Raises:
        TraceError: A file of recorded choices cannot be read.
        UsageError: A heuristic whose scores change while jobs wait, or of which there is none.
    """
    from shunter.agents.networks import KernelNetwork

    asked = settings.imitation
    if teacher is None:
        return np.zeros((0, 0))
    if isinstance(teacher, Path):
        decisions = Decisions.load(teacher)
    else:
        opinion = of_network(teacher) if isinstance(teacher, Network) else of_heuristic(teacher, lessons)
        env.seed(seed)
        decisions = collect(env, opinion, asked.decisions, should_stop)
    if isinstance(teacher, Network) and isinstance(network, KernelNetwork) and copy_weights(network, teacher):
        sharpen(network, decisions, asked.entropy)
        return decisions.rows
    imitate(
        network,
        decisions,
        seed=seed,
        epochs=asked.epochs,
        batch=asked.batch,
        learning_rate=asked.learning_rate,
        loss=asked.loss,
        should_stop=should_stop,
    )
    sharpen(network, decisions, asked.entropy)
    return decisions.rows


def copy_weights(network: QueueNetwork, teacher: Network) -> bool:
    """Take over a compiled network's weights; returns whether the sizes allow it."""
    from shunter.agents.networks import from_compiled

    own = network.state_dict()
    theirs = from_compiled(teacher, (len(own["b1"]), len(own["b2"]))).state_dict()
    if any(own[name].shape != theirs[name].shape for name in own):
        return False
    network.load_state_dict(theirs)
    return True


def of_heuristic(name: str, lessons: Sequence[Lesson]) -> Opinion:
    """What a heuristic with a fixed score thinks of the visible jobs."""
    scores = [fixed_scores(lesson.workload, name) for lesson in lessons]

    def opinion(batch: Any, observation: FloatArray) -> FloatArray:
        found = np.full(observation.shape[:2], np.nan)
        for env, window in enumerate(batch.window):
            rows = batch.visible(env)
            found[env, : len(rows)] = scores[window.source][rows]
        return found

    return opinion


def of_network(teacher: Network) -> Opinion:
    """What a compiled network thinks."""

    def opinion(_batch: Any, observation: FloatArray) -> FloatArray:
        x = observation[:, :, :-1].astype(np.float64)
        first = np.maximum(x @ teacher.w1.T + teacher.b1, 0.0)
        second = np.maximum(first @ teacher.w2.T + teacher.b2, 0.0)
        score: FloatArray = x @ teacher.skip + second @ teacher.w3
        return score

    return opinion


def collect(env: Any, opinion: Opinion, count: int, should_stop: Callable[[], bool] | None = None) -> Decisions:
    """At least ``count`` decisions of a teacher that schedules in the environments itself."""
    observation = env.reset()
    parts: list[Decisions] = []
    found = 0
    while found < count and not (should_stop is not None and parts and should_stop()):
        allowed = np.stack(env.env_method("action_masks"))
        shown = observation[:, : allowed.shape[1] - 1]  # without what a wrapper tells the critic
        scores = opinion(env.batch, shown)
        part = Decisions.of_queues(shown, allowed[:, :-1], scores)
        parts.append(part)
        found += len(part)
        observation = env.step(greedy(scores, allowed))[0]
    return Decisions.joined(parts)


def greedy(scores: FloatArray, allowed: BoolArray) -> IntArray:
    """(N,) the allowed job with the lowest score (N, K), or to wait, the last of what masks (N, K + 1) speak of."""
    jobs = allowed[:, :-1]
    actions: IntArray = np.where(jobs.any(1), np.where(jobs, scores, np.inf).argmin(1), jobs.shape[1])
    return actions
