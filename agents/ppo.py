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
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from shunter.agents.actor_critic import LENGTH_SPAN, TOLD, QueueBuffer, QueuePolicy
from shunter.agents.env_layout import COUNTED, TO_START
from shunter.agents.lessons import Pace, Yardstick
from shunter.agents.networks import KINDS, QueueNetwork
from shunter.agents.rewards import TERMS
from shunter.agents.settings import PpoSettings, Settings
from shunter.scheduler.types import AnyArray, FloatArray

REWARDS = {"avg_bounded_slowdown": "bsld", "avg_wait_s": "wait", "avg_jct_s": "wait"}
"""Metric → reward of the environment; from submission to end is the wait and what no order changes."""

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


class SpreadOfReturns:
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
    """Rewards decisions by how far they get ahead of the baseline on the same window, divided by the spread of returns.

    With c the part of the metric that has been lost by now, waiting jobs included, and b what the baseline had lost by
    the same time, both over the baseline's metric of the whole window, a policy is ahead by log(1 + b) − log(1 + c)
    (``log-ratio``) or b − c (``difference``). A step is worth by how much that changes. The sum over an episode is what
    it is in the end: 0 where as much is reached as by the baseline. The former does not let one lost window outweigh
    many won. What the baseline loses meanwhile depends on the window and the time alone, so it is a potential (Ng,
    Harada & Russell, ICML 1999) that takes out of returns what the window does by itself (Mao et al., ICLR 2019).

    One more row is added to observations: ``told``, for the critic alone.

    Attributes:
        episodes: Those that ended since they were last taken.
        spread: Of the returns.
    """

    def __init__(self, venv: VecEnv, yardstick: Yardstick, settings: Settings, spread: SpreadOfReturns) -> None:
        places, columns = venv.observation_space.shape
        super().__init__(venv, spaces.Box(-np.inf, np.inf, (places + 1, columns), np.float32))
        self.yardstick, self.spread, self.gamma = yardstick, spread, settings.ppo.gamma
        self.by_log = settings.windows.reward == "log-ratio"
        self.measured = TERMS[REWARDS[settings.windows.metric]].metric
        self.episodes: list[Episode] = []
        self.pace: list[Pace] = [Pace.nothing()] * self.num_envs
        self.lost = np.zeros(self.num_envs)
        self.ahead = np.zeros(self.num_envs)
        self.discounted = np.zeros(self.num_envs)
        self.steps = np.zeros(self.num_envs, np.int64)
        self.told = np.zeros((self.num_envs, 1, columns), np.float32)

    def reset(self) -> AnyArray:
        """Begin new episodes in all environments."""
        observation = self.venv.reset()
        for env in range(self.num_envs):
            self._begin(env)
        return self._with_told(observation)

    def step_wait(self) -> tuple[AnyArray, AnyArray, AnyArray, list[dict[str, Any]]]:
        """One step of all environments."""
        observation, gained, done, infos = self.venv.step_wait()
        self.lost -= gained
        self.steps += 1
        before = self.ahead.copy()
        for env in range(self.num_envs):
            self.ahead[env] = self._end(env, infos[env]) if done[env] else self._look(env)
        rewards = self.ahead - before
        self.discounted = self.discounted * self.gamma + rewards
        self.spread.add(self.discounted)
        for ended in np.flatnonzero(done):
            self._begin(int(ended))
        scaled = (rewards / self.spread.deviation).astype(np.float32)
        return self._with_told(observation), scaled, done, infos

    def take_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call."""
        taken, self.episodes = self.episodes, []
        return taken

    def _begin(self, env: int) -> None:
        """Measure the baseline on an environment's new window; up to the first decision, both have lost alike."""
        window = self.venv.batch.window[env]
        self.pace[env] = self.yardstick.pace(window.source, window.first, window.warm)
        self.lost[env], _ = self.pace[env].lost(self.venv.batch.now_s(env))
        self.discounted[env] = 0.0
        self.steps[env] = 0
        self.ahead[env] = self._look(env)

    def _look(self, env: int) -> float:
        """By how much an environment is ahead now; tells the critic where it stands."""
        pace, batch = self.pace[env], self.venv.batch
        now_s = batch.now_s(env)
        lost, waiting = pace.lost(now_s)
        whole = pace.total + pace.floor
        theirs = self._grown((lost + pace.floor) / whole)
        own = self._grown((self.lost[env] + pace.floor) / whole)
        marks = batch.marks[env]
        span_s = max(pace.end_s - pace.begin_s, 1.0)
        self.told[env, 0, : len(TOLD)] = (
            marks[TO_START] / marks[COUNTED],
            max(0.0, (pace.end_s - now_s) / span_s),
            theirs,
            own,
            theirs - own,
            np.log1p(waiting) / LENGTH_SPAN,
        )
        return theirs - own

    def _end(self, env: int, info: dict[str, Any]) -> float:
        """By how much an episode that is over was ahead in the end."""
        pace = self.pace[env]
        ratio = (info["metrics"][self.measured] + pace.floor) / (pace.total + pace.floor)
        ahead = self._grown(1.0) - self._grown(ratio)
        self.episodes.append(Episode(ratio, ahead, int(self.steps[env])))
        return ahead

    def _grown(self, part: float) -> float:
        """What a part of the baseline's metric counts."""
        return float(np.log1p(part)) if self.by_log else part

    def _with_told(self, observation: AnyArray) -> AnyArray:
        return np.concatenate([observation, self.told], 1)


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
