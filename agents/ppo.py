"""MaskablePPO on the vectorised environment: rewards against a heuristic, of unit spread, and a queue network.

The return of an episode is what the policy reaches on a window compared with what the baseline heuristic reaches on the
very same one: windows differ a thousandfold in how hard they are, and that difference teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from shunter.agents.actor_critic import QueueBuffer, QueuePolicy
from shunter.agents.lessons import FLOORS, Yardstick
from shunter.agents.networks import KINDS, QueueNetwork
from shunter.agents.settings import PpoSettings, Settings
from shunter.scheduler.types import AnyArray, FloatArray

REWARDS = {"avg_bounded_slowdown": "bsld", "avg_wait_s": "wait", "avg_jct_s": "jct"}
"""Metric → reward of the environment whose sum over an episode is minus that metric."""

LEAST_SPREAD = 1e-4


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode that is over.

    Attributes:
        ratio: Metric reached over that of the baseline on the same window; below 1 is a win.
        reward: Sum of what was rewarded, before it was scaled.
        steps: Decisions.
    """

    ratio: float
    reward: float
    steps: int


class Spread:
    """Running variance of returns, by which rewards are divided (Welford; Chan, Golub & LeVeque, 1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 1e-4, 0.0, 1e-4

    def add(self, values: FloatArray) -> None:
        """Take in a batch."""
        count, mean = len(values), float(values.mean())
        total, difference = self.count + count, mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + difference**2 * self.count * count / total
        self.mean += difference * count / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Standard deviation, not below a tiny one."""
        return max(float(np.sqrt(self.squares / self.count)), LEAST_SPREAD)

    def state(self) -> list[float]:
        """What ``load`` takes."""
        return [self.count, self.mean, self.squares]

    def load(self, state: list[float]) -> None:
        """Go on where ``state`` stood."""
        self.count, self.mean, self.squares = state


class AgainstBaseline(VecEnvWrapper):
    """Rewards an environment's decisions by what they change against the baseline, divided by the spread of returns.

    With the metric's accumulated part c, over the baseline's metric of the same window, a step from c to c′ is worth
    log(1 + c) − log(1 + c′) (``log-ratio``) or c − c′ (``difference``), and the last one so much more that an episode
    which reaches what the baseline does returns 0. The former does not let one lost window outweigh many won.

    Attributes:
        episodes: Those that ended since they were last taken.
        spread: Of the returns.
    """

    def __init__(self, venv: VecEnv, yardstick: Yardstick, settings: Settings, spread: Spread) -> None:
        super().__init__(venv)
        self.yardstick, self.spread, self.gamma = yardstick, spread, settings.ppo.gamma
        self.floor = FLOORS[settings.windows.metric]
        self.by_log = settings.windows.reward == "log-ratio"
        self.episodes: list[Episode] = []
        self.baseline = np.ones(self.num_envs)
        self.par = np.zeros(self.num_envs)
        self.reached = np.zeros(self.num_envs)
        self.returned = np.zeros(self.num_envs)
        self.discounted = np.zeros(self.num_envs)
        self.steps = np.zeros(self.num_envs, np.int64)

    def reset(self) -> AnyArray:
        """Begin new episodes in all environments."""
        observation: AnyArray = self.venv.reset()
        for env in range(self.num_envs):
            self._begin(env)
        return observation

    def step_wait(self) -> tuple[AnyArray, AnyArray, AnyArray, list[dict[str, Any]]]:
        """One step of all environments."""
        observation, cost, done, infos = self.venv.step_wait()
        before = self.reached / self.baseline
        self.reached -= cost
        after = self.reached / self.baseline
        rewards = np.log1p(before) - np.log1p(after) if self.by_log else before - after
        rewards = rewards + done * self.par
        self.returned += rewards
        self.steps += 1
        self.discounted = self.discounted * self.gamma + rewards
        self.spread.add(self.discounted)
        for env in np.flatnonzero(done):
            self.episodes.append(Episode(float(after[env]), float(self.returned[env]), int(self.steps[env])))
            self._begin(int(env))
        return observation, (rewards / self.spread.deviation).astype(np.float32), done, infos

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call."""
        taken, self.episodes = self.episodes, []
        return taken

    def _begin(self, env: int) -> None:
        window = self.venv.batch.window[env]
        self.baseline[env] = self.yardstick.reached(window.source, window.first, window.warm) + self.floor
        self.reached[env] = self.floor
        begun = self.floor / self.baseline[env]
        self.par[env] = np.log(2.0) - np.log1p(begun) if self.by_log else 1.0 - begun
        self.returned[env] = self.discounted[env] = 0.0
        self.steps[env] = 0


def network_maker(settings: Settings) -> Callable[[], QueueNetwork]:
    """Makes networks of the kind and size asked for."""
    asked = settings.network

    def make() -> QueueNetwork:
        if asked.kind == "kernel":
            return KINDS["kernel"](hidden=asked.hidden)
        return KINDS[asked.kind](width=asked.width, heads=asked.heads, blocks=asked.blocks)

    return make


class Rate:
    """The learning rate, falling straight from the first to the last over the budget.

    Attributes:
        share: Of the budget that is used up.
    """

    def __init__(self, settings: PpoSettings) -> None:
        self.first, self.last = settings.learning_rate, settings.learning_rate * settings.learning_rate_end
        self.share = 0.0

    def __call__(self, _remaining: float) -> float:
        """The rate now; how much of one call of ``learn`` remains does not matter."""
        return self.first + (self.last - self.first) * self.share


def make_model(env: VecEnv, settings: Settings, seed: int, rate: Rate) -> MaskablePPO:
    """MaskablePPO with a queue network, on one thread."""
    torch.set_num_threads(1)
    ppo = settings.ppo
    return MaskablePPO(
        QueuePolicy,
        env,
        learning_rate=rate,
        n_steps=ppo.steps,
        batch_size=min(ppo.batch, ppo.steps * env.num_envs),
        n_epochs=ppo.epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip,
        ent_coef=ppo.entropy,
        vf_coef=ppo.value,
        max_grad_norm=ppo.max_gradient,
        target_kl=ppo.target_kl,
        rollout_buffer_class=QueueBuffer,
        policy_kwargs={"make_network": network_maker(settings)},
        device="cpu",
        seed=seed,
    )
