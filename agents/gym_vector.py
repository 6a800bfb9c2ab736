"""The vectorised environment as Gymnasium's ``VectorEnv``, for learners that ask for one (``gymnasium.make_vec``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from shunter.agents.sources import Given
from shunter.agents.vector import VectorSchedulingEnv
from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import AnyArray, BoolArray, IntArray


class GymVectorSchedulingEnv(VectorEnv[Any, Any, Any]):
    """N environments that begin their next episode in the step that ends one.

    Args:
        num_envs: N.
        traces: As for ``SchedulingEnv``.
        arguments: As for ``VectorSchedulingEnv``.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, traces: Given = "demo:hpc", **arguments: Any) -> None:
        self.inner = VectorSchedulingEnv(traces, num_envs, **arguments)
        self.num_envs = num_envs
        self.render_mode = None
        self.single_observation_space = self.inner.observation_space
        self.single_action_space = self.inner.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[AnyArray, dict[str, Any]]:
        """First observations (N, K, F + 1) and infos; a single seed *s* gives environment *i* the seed *s + i*.

        Raises:
            UsageError: Not as many seeds as environments, or options that ``SchedulingEnv.reset`` does not take.
        """
        if isinstance(seed, int | np.integer):
            self.inner.seed(int(seed))
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise UsageError(f"{len(seed)} seeds for {self.num_envs} environments")
            self.inner._seeds = list(seed)
        self.inner.set_options(options)
        observations = self.inner.reset()
        return observations, self._gather(self.inner.reset_infos)

    def step(self, actions: IntArray) -> tuple[AnyArray, AnyArray, BoolArray, BoolArray, dict[str, Any]]:
        """Observations, rewards, terminations and truncations of all; what an episode ended with is in the infos."""
        observations, rewards, dones, ended = self.inner.step(np.asarray(actions))
        cut = np.asarray([info.get("TimeLimit.truncated", False) for info in ended], dtype=np.bool_)
        finals = []
        for info in ended:
            final = dict(info)
            observation = final.pop("terminal_observation", None)
            finals.append({} if observation is None else {"final_obs": observation, "final_info": final})
        return observations, rewards, dones & ~cut, cut, self._gather(finals)

    def action_masks(self) -> BoolArray:
        """(N, K + 1) what each environment allows."""
        return self.inner.action_masks()

    def _gather(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """One info of arrays from one info an environment."""
        gathered: dict[str, Any] = {}
        for env, info in enumerate(infos):
            gathered = self._add_info(gathered, info, env)
        return gathered
