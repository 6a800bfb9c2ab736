"""One seed's training: warm start, PPO, and a look at the validation period now and then.

A seed is a function of its task alone: it runs in this process, in another one, or on another machine. Training goes in
rounds. Every round begins with new episodes and with random streams that follow from the seed and the round's number,
and ends with a look at validation and a checkpoint, so a training that was killed and taken up does just what it would
have done unbroken; what is lost is the round that it was in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.agents.lessons import Lesson, Material, Yardstick, lessons_of
from shunter.agents.settings import Budget, Settings
from shunter.scheduler.errors import OutputError, UsageError
from shunter.scheduler.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from sb3_contrib import MaskablePPO

    from shunter.agents.networks import QueueNetwork
    from shunter.agents.ppo import AgainstBaseline, Rate, SpreadOfReturns
    from shunter.agents.validation import Standing, Validation
    from shunter.scheduler.kernels.network import Network

FORMAT = 1
"""Version of the checkpoint's layout."""

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Task:
    """All that a seed's training depends on.

    Attributes:
        seed: The seed.
        material: Traces, and which of their jobs may be looked at.
        settings: Hyper-parameters.
        budget: How long to train. Only one in steps gives the same result every time.
        heuristic: The baseline of the rewards.
        teacher: Whom to imitate first: a heuristic's name, a network that a search has found, a file of recorded
            choices, or None for nobody.
        validation: What networks are judged by.
        folder: Where checkpoint, log and progress are written.
        resume: Take up the checkpoint in ``folder``, if there is one.
        fingerprint: Of all that must be the same to take it up.
    """

    seed: int
    material: Sequence[Material]
    settings: Settings
    budget: Budget
    heuristic: str
    teacher: str | Network | Path | None
    validation: Validation
    folder: Path
    resume: bool
    fingerprint: str

    def run(self, report: Callable[[int, Point], None] | None, should_stop: Callable[[], bool] | None) -> Outcome:
        """Train; see ``train_seed``."""
        return train_seed(self, report, should_stop)

    def point(self, values: dict[str, Any]) -> Point:
        """A point from the values of its line in ``progress.jsonl``."""
        return Point(**values)


@dataclass(frozen=True, slots=True)
class Point:
    """Where training stands after a round; one line of ``progress.jsonl``.

    Attributes:
        steps: Decisions made so far.
        spent_s: Seconds of work so far.
        share: Of the budget.
        cost: Of the network on validation; see ``agents.validation.Standing``.
        mean: Logarithm of its mean over the best heuristic's.
        tail: Of its 95th percentile.
        best: Least cost so far.
        reward: Mean return of the episodes that ended; None when none did.
        wins: Share of them that beat the baseline.
    """

    steps: int
    spent_s: float
    share: float
    cost: float
    mean: float
    tail: float
    best: float
    reward: float | None = None
    wins: float | None = None


@dataclass(slots=True)
class Progress:
    """How far a seed has come.

    Attributes:
        round: Rounds that are done.
        steps: Decisions.
        spent_s: Seconds of work, those before an interruption included.
        best: Parameters of the best network on validation.
        best_cost: Its cost.
        curve: A point a round; the first one is the warm start.
        low: (F,) least features seen.
        high: (F,) greatest.
    """

    round: int = 0
    steps: int = 0
    spent_s: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    best_cost: float = np.inf
    curve: list[Point] = field(default_factory=list)
    low: FloatArray = field(default_factory=lambda: np.zeros(0))
    high: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed.

    Attributes:
        seed: The seed.
        complete: Whether the budget was used up; otherwise it was stopped, and can be resumed.
        progress: How far it came.
    """

    seed: int
    complete: bool
    progress: Progress


class Stopped(Exception):  # noqa: N818
    """Training was asked to stop in the middle of a round."""


def train_seed(
    task: Task,
    report: Callable[[int, Point], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Train one seed until its budget is used up.

    Args:
        task: What to do.
        report: Called with the seed after every round.
        should_stop: Asked at every step.

    Raises:
        UsageError: The checkpoint to be resumed is of other settings.
        OutputError: A checkpoint cannot be written.
    """
    from shunter.agents.ppo import Rate

    training = Training(task, Rate(task.settings.ppo))
    before_s = training.progress.spent_s
    begin_s = time.perf_counter()

    def spent_s() -> float:
        return before_s + time.perf_counter() - begin_s

    try:
        if not training.progress.curve:
            training.warm_start(should_stop)
            training.finish_round(spent_s())
        while not training.is_over:
            if report is not None:
                report(task.seed, training.progress.curve[-1])
            training.one_round(should_stop)
            training.finish_round(spent_s())
    except Stopped:
        return Outcome(task.seed, False, training.progress)
    if report is not None:
        report(task.seed, training.progress.curve[-1])
    return Outcome(task.seed, True, training.progress)


class Training:
    """The state of a seed's training between two rounds.

    Args:
        task: What to do.
        rate: The learning rate, which follows the budget.
    """

    def __init__(self, task: Task, rate: Rate) -> None:
        import torch

        from shunter.agents.ppo import SpreadOfReturns

        self.task, self.rate = task, rate
        self.progress, self.spread = Progress(), SpreadOfReturns()
        self.model: MaskablePPO | None = None
        self.stage = -1
        self.lessons: list[Lesson] = []
        self.env: AgainstBaseline | None = None
        torch.set_num_threads(1)
        task.folder.mkdir(parents=True, exist_ok=True)
        self.enter_stage()
        if task.resume and (task.folder / CHECKPOINT).exists():
            self._load()

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up."""
        return self.share >= 1.0

    @property
    def share(self) -> float:
        """Of the budget that is used up."""
        return self.task.budget.share(self.progress.steps, self.progress.spent_s)

    @property
    def network(self) -> QueueNetwork:
        """The network that learns."""
        assert self.model is not None
        network: QueueNetwork = self.model.policy.network
        return network

    def enter_stage(self) -> None:
        """Make the environments of the stage that the budget has reached."""
        from shunter.agents.ppo import make_model

        until = self.task.settings.curriculum.until
        stage = next((i for i, share in enumerate(until) if self.share < share), len(until) - 1)
        if stage == self.stage:
            return
        self.stage = stage
        self.lessons = lessons_of(self.task.material, self.task.settings, stage, self.task.seed)
        self.env = make_env(self.lessons, self.task.settings, self.task.heuristic, self.spread)
        if self.model is None:
            self.model = make_model(self.env, self.task.settings, self.task.seed, self.rate)
            self._log()
        else:
            self.model.set_env(self.env)

    def warm_start(self, should_stop: Callable[[], bool] | None) -> None:
        """Let the network learn from the teacher."""
        from shunter.agents.teaching import teach

        assert self.env is not None
        self._seed_streams()
        self._see(
            teach(
                self.network,
                self.task.teacher,
                self.env.venv,
                self.lessons,
                self.task.settings,
                seed=stream_seed(self.task.seed, 0),
                should_stop=should_stop,
            )
        )
        if should_stop is not None and should_stop():
            raise Stopped

    def one_round(self, should_stop: Callable[[], bool] | None) -> None:
        """Several updates, from new episodes on."""
        self.enter_stage()
        assert self.model is not None
        assert self.env is not None
        settings = self.task.settings
        self.progress.round += 1
        self._seed_streams()
        self.model._last_obs = None  # begin new episodes, with the seed just given
        self.rate.share = self.share
        steps = settings.selection.every * settings.ppo.steps * settings.ppo.environments
        if self.task.budget.steps:
            steps = min(steps, self.task.budget.steps - self.progress.steps)
        self.model.learn(steps, callback=stopper(should_stop, self._see), reset_num_timesteps=False)
        self.progress.steps = int(self.model.num_timesteps)

    def finish_round(self, spent_s: float) -> None:
        """Look at validation, keep the best network, note where training stands, write the checkpoint."""
        from shunter.agents.networks import state_of

        assert self.env is not None
        standing = self.task.validation.judge(self.network)
        progress, episodes = self.progress, self.env.take_episodes()
        progress.spent_s = spent_s
        if standing.cost < progress.best_cost:
            progress.best_cost, progress.best = standing.cost, state_of(self.network)
        point = Point(
            steps=progress.steps,
            spent_s=spent_s,
            share=self.share,
            cost=standing.cost,
            mean=standing.mean,
            tail=standing.tail,
            best=progress.best_cost,
            reward=float(np.mean([episode.reward for episode in episodes])) if episodes else None,
            wins=float(np.mean([episode.ratio < 1.0 for episode in episodes])) if episodes else None,
        )
        progress.curve.append(point)
        self._record(standing, point)
        self._save()

    def _seed_streams(self) -> None:
        """Let everything random of this round follow from the seed and the round's number."""
        assert self.model is not None
        self.model.set_random_seed(stream_seed(self.task.seed, self.progress.round))

    def _see(self, rows: AnyArray) -> None:
        """Take in the range of features (R, F)."""
        if not len(rows):
            return
        low, high = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
        known = len(self.progress.low) > 0
        self.progress.low = np.minimum(self.progress.low, low) if known else low
        self.progress.high = np.maximum(self.progress.high, high) if known else high

    def _log(self) -> None:
        from stable_baselines3.common.logger import configure

        assert self.model is not None
        self.model.set_logger(configure(str(self.task.folder / "tensorboard"), ["tensorboard"]))

    def _record(self, standing: Standing, point: Point) -> None:
        assert self.model is not None
        logger = self.model.logger
        for name, value in (("cost", standing.cost), ("mean", standing.mean), ("tail", standing.tail)):
            logger.record(f"validation/{name}", value)
        if point.reward is not None and point.wins is not None:
            logger.record("episodes/reward", point.reward)
            logger.record("episodes/wins", point.wins)
        logger.dump(self.progress.steps)

    def _save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        import torch

        assert self.model is not None
        progress = self.progress
        content = {
            "format": FORMAT,
            "fingerprint": self.task.fingerprint,
            "policy": self.model.policy.state_dict(),
            "optimiser": self.model.policy.optimizer.state_dict(),
            "updates": self.model._n_updates,
            "spread": self.spread.state(),
            "round": progress.round,
            "steps": progress.steps,
            "spent_s": progress.spent_s,
            "best": progress.best,
            "best_cost": progress.best_cost,
            "curve": [asdict(point) for point in progress.curve],
            "low": progress.low.tolist(),
            "high": progress.high.tolist(),
        }
        path = self.task.folder / CHECKPOINT
        partial = path.with_name(f".{path.name}.partial")
        try:
            torch.save(content, partial)
            partial.replace(path)
        except (OSError, RuntimeError) as problem:
            raise OutputError(f"{path}: cannot write the checkpoint: {problem}") from None

    def _load(self) -> None:
        assert self.model is not None
        content = read_checkpoint(self.task.folder / CHECKPOINT, self.task.fingerprint)
        self.model.policy.load_state_dict(content["policy"])
        self.model.policy.optimizer.load_state_dict(content["optimiser"])
        self.model._n_updates, self.model.num_timesteps = content["updates"], content["steps"]
        self.spread.load(content["spread"])
        self.progress = progress_of(content)
        self.enter_stage()


def read_checkpoint(path: Path, fingerprint: str | None = None) -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        UsageError: It cannot be read, or is of other settings than ``fingerprint``.
    """
    import pickle
    import zipfile

    import torch

    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("cut short, or something else")
        content = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as problem:
        raise UsageError(f"{path}: no checkpoint that can be read: {str(problem).splitlines()[0]}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{path}: a checkpoint of another version; train anew in another --out")
    if fingerprint is not None and content["fingerprint"] != fingerprint:
        raise UsageError(
            f"{path}: a checkpoint of other settings, traces or seeds; give those of the interrupted training, "
            "or train anew in another --out"
        )
    return content


def progress_of(content: dict[str, Any]) -> Progress:
    """How far the training of a checkpoint had come."""
    return Progress(
        round=content["round"],
        steps=content["steps"],
        spent_s=content["spent_s"],
        best=content["best"],
        best_cost=content["best_cost"],
        curve=[Point(**point) for point in content["curve"]],
        low=np.asarray(content["low"]),
        high=np.asarray(content["high"]),
    )


def make_env(lessons: Sequence[Lesson], settings: Settings, heuristic: str, spread: SpreadOfReturns) -> AgainstBaseline:
    """The environments of a stage, rewarded against the baseline."""
    from shunter.agents.ppo import REWARDS, AgainstBaseline
    from shunter.agents.vector import VectorSchedulingEnv

    windows = settings.windows
    env = VectorSchedulingEnv(
        [lesson.given for lesson in lessons],
        num_envs=settings.ppo.environments,
        jobs=windows.jobs,
        warm_jobs=windows.warm_jobs,
        warm_policy=heuristic,
        backfill=windows.backfill,
        reward=REWARDS[windows.metric],
        shaping=1.0,  # what waiting jobs lose is felt while they wait
        visible=windows.visible,
        allow_wait=windows.allow_wait,
    )
    return AgainstBaseline(env, Yardstick(lessons, windows, heuristic), settings, spread)


def stream_seed(seed: int, number: int) -> int:
    """A seed for a round of a seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] % (1 << 31))


def stopper(should_stop: Callable[[], bool] | None, see: Callable[[FloatArray], None]) -> Any:
    """A callback of SB3 that ends training in the middle of a round, and looks at the features of each update."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Stopper(BaseCallback):
        """Asks at every step of the environments."""

        def _on_step(self) -> bool:
            if should_stop is not None and should_stop():
                raise Stopped
            return True

        def _on_rollout_end(self) -> None:
            buffer = self.model.rollout_buffer
            see(buffer.rows[: buffer.num_rows])

    return Stopper()
