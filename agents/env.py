"""``SchedulingEnv``: one cluster and its queue as a Gymnasium environment, from decision to decision.

A thin shell around ``agents.batch``; the page docs/reference/environment.md says what is seen, chosen and rewarded.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from shunter.agents import env_layout as layout
from shunter.agents.batch import Batch
from shunter.agents.rewards import Reward
from shunter.agents.sources import Given, Rules, Window, sources_of
from shunter.scheduler.errors import UsageError, nearest
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.types import BoolArray, FloatArray, IntArray

FEATURE_BOUND = 100.0
"""Features are logarithms and ratios of about 1; none of a real queue comes near this."""

INVALID = ("first", "error")
"""What becomes of an action that the mask forbids."""


def make_rules(
    *,
    jobs: int = 256,
    warm_jobs: int = 0,
    backfill: str | None = None,
    placement: str = "first-fit",
    warm_policy: str = "fcfs",
    reward: str | Reward = "bsld",
    shaping: float = 0.0,
    discount: float = 1.0,
    allow_wait: bool = False,
    visible: int = 128,
    protocol: str | None = None,
) -> Rules:
    """How episodes are played; see ``SchedulingEnv`` for the arguments.

    Raises:
        UsageError: An unknown name, or a number out of range.
    """
    return Rules(
        jobs=jobs,
        warm_jobs=warm_jobs,
        backfill=backfill or ("easy" if protocol is None else "easy-noextra"),
        placement=placement,
        warm_policy=warm_policy,
        reward=Reward.parse(reward) if isinstance(reward, str) else reward,
        shaping=shaping,
        discount=discount,
        allow_wait=allow_wait,
        visible=visible,
        protocol=protocol,
    )


def observation_space(visible: int) -> spaces.Box:
    """(K, F + 1) float32: features, and 1 in the last column where there is a job."""
    bound = np.full((visible, NUM_FEATURES + 1), FEATURE_BOUND, np.float32)
    bound[:, NUM_FEATURES] = 1.0
    low = -bound
    low[:, NUM_FEATURES] = 0.0
    return spaces.Box(low, bound, dtype=np.float32)


def check_limits(max_steps: int | None, invalid: str) -> None:
    """Raise UsageError unless there is no step limit or one of at least 1, and ``invalid`` is one of ``INVALID``."""
    if max_steps is not None and max_steps < 1:
        raise UsageError(f"max_steps {max_steps} is not a whole number of at least 1")
    if invalid not in INVALID:
        raise UsageError(f"invalid={invalid!r}{nearest(str(invalid), list(INVALID))}")


def checked(batch: Batch, env: int, action: Any, invalid: str) -> tuple[int, bool]:
    """An allowed action and whether it takes the place of one that the mask forbids.

    Raises:
        UsageError: The action is no whole number from 0 to K, or it is forbidden and that is an error.
    """
    choices = batch.mask.shape[1]
    given = np.asarray(action)
    number = int(given) if given.ndim == 0 and given.dtype.kind in "iu" else -1
    if not 0 <= number < choices:
        raise UsageError(f"action {action!r} is not a whole number from 0 to {choices - 1}")
    if batch.mask[env, number]:
        return number, False
    if invalid == "error":
        what = "waiting" if number == choices - 1 else f"place {number}"
        raise UsageError(
            f"action {number}: {what} may not be chosen now; choose what action_masks() allows, "
            "or let the first allowed action take its place (invalid='first')"
        )
    return batch.first_allowed(env), True


class SchedulingEnv(gymnasium.Env[Any, Any]):
    """A cluster replaying windows of traces, asking which waiting job is next.

    Args:
        traces: A trace, a workload (``sim.workload.prepare``), a file, ``demo:NAME``, one of these with the rows that
            may be used ``(trace, first, last)``, or a list of them, of which each episode draws one.
        jobs: Jobs of an episode that count.
        warm_jobs: Jobs before them, which fill the queue under ``warm_policy`` and do not count.
        backfill: ``none``, ``easy``, ``easy-noextra`` or ``easy-sjbf``; ``easy`` by default.
        placement: ``first-fit``, ``best-fit``, ``worst-fit``, ``packed`` or ``topology``.
        warm_policy: Ordering with a fixed score.
        reward: Names of ``agents.rewards.TERMS`` with weights, as ``0.8*bsld+0.2*wait``.
        shaping: Weight of the potential; 0: none.
        discount: γ of the shaping: that of the learner.
        allow_wait: Whether the last action ends the instant.
        visible: K, jobs that are shown at most.
        protocol: ``rlscheduler``: the rules of that published evaluation, on an SWF file or ``RlsTrace``.
        max_steps: Steps after which an episode is truncated; None: never.
        invalid: An action that the mask forbids is replaced by the ``first`` allowed one, or is an ``error``.
        seed: Of the first reset that is given none.
        render_mode: None: there is no picture.

    Raises:
        UsageError: An unknown name or a number out of range, or a cluster whose rules the environment does not know.
        TraceError: A trace that cannot be read, or has fewer jobs than an episode.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's name and form

    def __init__(
        self,
        traces: Given = "demo:hpc",
        *,
        max_steps: int | None = None,
        invalid: str = "first",
        seed: int | None = None,
        render_mode: str | None = None,
        **rules: Any,
    ) -> None:
        self.rules = make_rules(**rules)
        self.batch = Batch(sources_of(traces, self.rules), self.rules, 1)
        check_limits(max_steps, invalid)
        self.max_steps = max_steps
        self.invalid = invalid
        self.render_mode = render_mode
        self.observation_space = observation_space(self.rules.visible)
        self.action_space = spaces.Discrete(self.rules.visible + 1)
        self._first_seed = seed
        self._action = np.zeros(1, np.int64)
        self._sampler: np.random.Generator | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Of the windows from now on.
            options: ``{"window": (trace, first)}`` sets the window: number of the trace, and the row of its first job
                that counts.

        Raises:
            UsageError: An unknown option, or a window that does not lie inside the trace.
        """
        seed, self._first_seed = self._first_seed if seed is None else seed, None
        super().reset(seed=seed)
        if seed is not None:
            self._sampler = None
        self.batch.begin(0, window_of(self.batch, options, self.np_random))
        return self.batch.observation[0].copy(), self._info()

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Name a visible job, or wait; see ``reset`` for what is returned.

        Raises:
            UsageError: The episode is over, or the action is none; see ``checked``.
        """
        batch = self.batch
        if batch.is_over[0]:
            raise UsageError("the episode is over, or none has begun: call reset()")
        self._action[0], replaced = checked(batch, 0, action, self.invalid)
        batch.step(self._action)
        over = bool(batch.is_over[0])
        cut = not over and self.max_steps is not None and int(batch.marks[0, layout.STEPS]) >= self.max_steps
        info = self._info()
        if replaced:
            info["replaced_action"] = int(action)
        if over:
            info["metrics"] = batch.metrics(0)
        return batch.observation[0].copy(), float(batch.reward[0]), over, cut, info

    def action_masks(self) -> BoolArray:
        """(K + 1,) what may be chosen: places of visible jobs, and last whether to wait."""
        mask: BoolArray = self.batch.mask[0].copy()
        return mask

    def sample(self) -> int:
        """An allowed action, each as likely as the others; the windows to come do not depend on how many are drawn."""
        if self._sampler is None:
            self._sampler = self.np_random.spawn(1)[0]
        return int(self.batch.sample(self._sampler.random(1))[0])

    def features(self) -> FloatArray:
        """(V, F) features of the visible jobs in double precision, as they were when the instant began."""
        return self.batch.features(0).copy()

    def visible_rows(self) -> IntArray:
        """(V,) rows of the trace of the visible jobs."""
        return self.batch.visible(0)

    def start_times(self) -> FloatArray:
        """(n,) start times of the jobs that count, NaN where there is none yet."""
        return self.batch.starts(0)

    def _info(self) -> dict[str, Any]:
        return info_of(self.batch, 0)


def info_of(batch: Batch, env: int) -> dict[str, Any]:
    """Where an episode stands: time of the decision, trace, and the rows that count."""
    window = batch.window[env]
    assert window is not None
    return {
        "time_s": batch.now_s(env),
        "trace": batch.sources[window.source].name,
        "window": (window.source, window.first),
    }


def window_of(batch: Batch, options: dict[str, Any] | None, rng: np.random.Generator) -> Window:
    """The window that options of ``reset`` name, or a random one.

    Raises:
        UsageError: An unknown option, or a window that does not lie inside the trace.
    """
    for name in options or {}:
        if name != "window":
            raise UsageError(f"reset: unknown option {name!r}{nearest(str(name), ['window'])}")
    if options is None or options.get("window") is None:
        return batch.draw(rng)
    try:
        source, first = (int(number) for number in options["window"])
    except (TypeError, ValueError):
        raise UsageError(f"reset: window {options['window']!r} is not (number of the trace, first row)") from None
    return batch.at(source, first)
