"""``VectorSchedulingEnv``: many environments in one process, stepped in one compiled call, for Stable-Baselines3.

Environment *i* under seed *s* plays what ``SchedulingEnv`` plays that is reset with seed *s + i*, whatever the number
of environments; each goes on drawing windows from its own generator.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from shunter.agents import env_layout as layout
from shunter.agents.batch import Batch
from shunter.agents.env import check_limits, checked, info_of, make_rules, observation_space, window_of
from shunter.agents.sources import Given, sources_of
from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import AnyArray, BoolArray, FloatArray, IntArray

PER_ENV = ("action_masks", "features", "visible_rows", "start_times")
"""Methods of ``SchedulingEnv`` that can be called through ``env_method``."""


class VectorSchedulingEnv(VecEnv):
    """N environments as Stable-Baselines3's ``VecEnv``.

    An episode that ends is followed by the next one at once: the observation is then that of the new one, and the
    info has ``terminal_observation``, ``TimeLimit.truncated``, ``episode`` (return ``r``, length ``l`` and seconds
    ``t``, as SB3's ``Monitor`` gives them) and, where it was not truncated, ``metrics``.

    Args:
        traces: As for ``SchedulingEnv``, as are the others.
        num_envs: N.
        max_steps: Steps after which an episode is truncated.
        invalid: ``first`` or ``error``.
        seed: Of the first reset, unless ``seed()`` is called before.
        rules: ``jobs``, ``warm_jobs``, ``backfill``, ``placement``, ``warm_policy``, ``reward``, ``shaping``,
            ``discount``, ``allow_wait``, ``visible``.
    """

    def __init__(
        self,
        traces: Given = "demo:hpc",
        num_envs: int = 16,
        *,
        max_steps: int | None = None,
        invalid: str = "first",
        seed: int | None = None,
        **rules: Any,
    ) -> None:
        self.rules = make_rules(**rules)
        self.batch = Batch(sources_of(traces, self.rules), self.rules, num_envs)
        self.max_steps = max_steps
        check_limits(max_steps, invalid)
        self.invalid = invalid
        self.metadata: dict[str, Any] = {"render_modes": []}
        self.spec = None
        self._rng = [np.random.default_rng() for _ in range(num_envs)]
        self._actions = np.zeros(num_envs, np.int64)
        self._returns = np.zeros(num_envs)
        self._places = np.arange(num_envs)
        self._begun_s = time.perf_counter()
        self.render_mode = None
        super().__init__(num_envs, observation_space(self.rules.visible), spaces.Discrete(self.rules.visible + 1))
        if seed is not None:
            self.seed(seed)

    def reset(self) -> AnyArray:
        """(N, K, F + 1) the first observations; draws with the seeds of ``seed()`` and options of ``set_options``."""
        self._begun_s = time.perf_counter()
        for env in range(self.num_envs):
            if self._seeds[env] is not None:
                self._rng[env] = np.random.default_rng(self._seeds[env])
            self.batch.begin(env, window_of(self.batch, self._options[env] or None, self._rng[env]))
            self.reset_infos[env] = info_of(self.batch, env)
        self._returns[:] = 0.0
        self._reset_seeds()
        self._reset_options()
        return self.batch.observation.copy()

    def step_async(self, actions: IntArray) -> None:
        """Take in actions (N,).

        Raises:
            UsageError: One is no action, or it is forbidden and that is an error; no environment has moved then.
        """
        given = np.asarray(actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu":
            raise UsageError(
                f"actions of shape {given.shape} and type {given.dtype}; expected {self.num_envs} integers"
            )
        if (self.batch.marks[:, layout.PHASE] == layout.OVER).any():
            raise UsageError("the environments have not been reset: call reset()")
        inside = (given >= 0) & (given < self.batch.mask.shape[1])
        allowed = inside & self.batch.mask[self._places, np.where(inside, given, 0)]
        self._actions[:] = given
        for env in np.flatnonzero(~allowed):
            self._actions[env], _ = checked(self.batch, int(env), int(given[env]), self.invalid)

    def step_wait(self) -> tuple[AnyArray, AnyArray, BoolArray, list[dict[str, Any]]]:
        """Step all environments: observations (N, K, F + 1), rewards (N,), whether episodes ended (N,), and infos."""
        batch = self.batch
        batch.step(self._actions)
        self._returns += batch.reward
        rewards = batch.reward.astype(np.float32)
        over = batch.is_over
        done = over if self.max_steps is None else over | (batch.marks[:, layout.STEPS] >= self.max_steps)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for env in np.flatnonzero(done):
            infos[env] = self._end(int(env), bool(over[env]))
        return batch.observation.copy(), rewards, done.copy(), infos

    def _end(self, env: int, over: bool) -> dict[str, Any]:
        """What is said of an episode that ends, and the begin of the next one."""
        batch = self.batch
        info = info_of(batch, env)
        info["terminal_observation"] = batch.observation[env].copy()
        info["TimeLimit.truncated"] = not over
        info["episode"] = {
            "r": float(self._returns[env]),
            "l": int(batch.marks[env, layout.STEPS]),
            "t": round(time.perf_counter() - self._begun_s, 6),
        }
        if over:
            info["metrics"] = batch.metrics(env)
        self._returns[env] = 0.0
        batch.begin(env, batch.draw(self._rng[env]))
        self.reset_infos[env] = info_of(batch, env)
        return info

    def action_masks(self) -> BoolArray:
        """(N, K + 1) what each environment allows."""
        return self.batch.mask.copy()

    def sample(self, rng: np.random.Generator) -> IntArray:
        """(N,) allowed actions, each as likely as the others."""
        draws: FloatArray = rng.random(len(self._actions))
        return self.batch.sample(draws)

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """The attribute, which all environments share; of the methods of one, what ``env_method`` would call."""
        if attr_name in PER_ENV:
            return [lambda env=env: self._call(attr_name, env) for env in self._get_indices(indices)]
        if attr_name.startswith("_") or not hasattr(self, attr_name):
            raise AttributeError(f"the environments have no attribute {attr_name!r}")
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute of all environments.

        Raises:
            UsageError: Some are meant, but not all: they share their settings.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise UsageError(f"{attr_name} can be set for all environments only: they share it")
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        """What a method of ``SchedulingEnv`` returns, environment by environment.

        Raises:
            AttributeError: There is no such method, or it takes arguments.
        """
        if method_name not in PER_ENV or method_args or method_kwargs:
            raise AttributeError(f"{method_name!r} cannot be called; expected one of {', '.join(PER_ENV)}")
        return [self._call(method_name, env) for env in self._get_indices(indices)]

    def _call(self, name: str, env: int) -> Any:
        batch = self.batch
        if name == "action_masks":
            return batch.mask[env].copy()
        if name == "features":
            return batch.features(env).copy()
        return batch.visible(env) if name == "visible_rows" else batch.starts(env)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: int | Iterable[int] | None = None) -> list[bool]:
        """Whether environments are wrapped. Monitors are told yes: ``infos`` say what a ``Monitor`` would."""
        from stable_baselines3.common.monitor import Monitor

        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Environment *i* draws from seed *s + i* from the next reset on; without a seed from one of the system's."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._seeds = [seed + env for env in range(self.num_envs)]
        return self._seeds
