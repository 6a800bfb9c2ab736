"""N environments on arrays of their own, stepped in one compiled call.

Owns the arrays and how an episode begins; what a step does is in ``env_kernel``. Both environments, the single one and
the vectorised one, are thin shells around this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shunter.agents import env_kernel as kernel
from shunter.agents import env_layout as layout
from shunter.agents.sources import Rules, Source
from shunter.scheduler import layout as at
from shunter.scheduler.errors import EngineError, TraceError, UsageError
from shunter.scheduler.kernels.features import (
    NUM_CONTEXT,
    NUM_FEATURES,
    NUM_HISTORY_ROWS,
    Facts,
    Histories,
    Scratch,
)
from shunter.scheduler.types import AnyArray, BoolArray, FloatArray, IntArray
from shunter.sim import rollout_kernel
from shunter.sim.rollout import new_loop
from shunter.sim.rollout_kernel import Jobs, Watched

CHANGING = ("counters", "node_free", "slots", "shapes", "alloc", "node_i", "groups")
"""Arrays of a state that are set back when an episode begins; those of jobs are copied from the trace."""

RATED_FACTS = ("submit_s", "request_s", "log_request", "processors", "log_size")


@dataclass(frozen=True, slots=True)
class Window:
    """The jobs of an episode.

    Attributes:
        source: Which trace.
        first: Row of the first job that counts.
        warm: Jobs before it that warm the queue up.
        count: Jobs that count, those included that can never run.
    """

    source: int
    first: int
    warm: int
    count: int

    @property
    def rows(self) -> slice:
        """All rows, those of the warm-up included."""
        return slice(self.first - self.warm, self.first + self.count)


class Batch:
    """The arrays of N environments.

    Args:
        sources: What episodes are drawn from.
        rules: How they are played.
        num_envs: N.

    Attributes:
        observation: (N, K, F + 1) float32; overwritten by the next step.
        mask: (N, K + 1) bool; the same.
        reward: (N,) of the last step.
        marks: (N, NUM_MARKS) where each stands; names in ``env_layout``.
        value: (N, NUM_VALUES) the same.
        window: The present episodes.
    """

    def __init__(self, sources: Sequence[Source], rules: Rules, num_envs: int) -> None:
        if num_envs < 1:
            raise UsageError(f"num_envs {num_envs} is not at least 1")
        self.sources, self.rules, self.num_envs = list(sources), rules, num_envs
        visible = rules.visible
        self.observation = np.zeros((num_envs, visible, NUM_FEATURES + 1), np.float32)
        self.mask = np.zeros((num_envs, visible + 1), np.bool_)
        self.reward = np.zeros(num_envs)
        self.marks = np.zeros((num_envs, layout.NUM_MARKS), np.int64)
        self.value = np.zeros((num_envs, layout.NUM_VALUES))
        self.marks[:, layout.PHASE] = layout.OVER
        self.window: list[Window | None] = [None] * num_envs
        self.begin_action = np.full(num_envs, layout.LEAVE, np.int64)
        self._slots: dict[tuple[int, int], Slot] = {}
        self._table = np.zeros((num_envs, len(fields_of(self._slot(0, 0).packed)), 3), np.int64)

    def draw(self, rng: np.random.Generator) -> Window:
        """A random trace, and a random window of it with as much warm-up as the rules ask for."""
        source = int(rng.integers(len(self.sources)))
        rows = self.sources[source]
        low, high = rows.first + self.rules.warm_jobs, rows.last - self.rules.jobs
        return self.at(source, int(rng.integers(low, high + 1)))

    def at(self, source: int, first: int) -> Window:
        """The window whose first job that counts is a certain row.

        Raises:
            UsageError: There is no such trace, or the window does not lie inside its rows.
        """
        if not 0 <= source < len(self.sources):
            raise UsageError(f"window: there is no trace {source}; expected 0 to {len(self.sources) - 1}")
        rows, count = self.sources[source], self.rules.jobs
        if not rows.first <= first <= rows.last - count:
            raise UsageError(
                f"window: {count} jobs from row {first} on do not lie inside the rows {rows.first} to {rows.last} "
                f"of {rows.name}"
            )
        return Window(source, first, min(self.rules.warm_jobs, first - rows.first), count)

    def begin(self, env: int, window: Window) -> None:
        """Let an environment stand at the first decision of a window.

        Raises:
            TraceError: None of the jobs can run on the cluster.
        """
        slot = self._slot(env, window.source)
        slot.load(window, self.sources[window.source], self.rules)
        self.window[env] = window
        self._table[env] = slot.table
        self.begin_action[env] = layout.BEGIN
        kernel.step(self._table, self.begin_action, self.reward)
        self.begin_action[env] = layout.LEAVE
        self._check()

    def step(self, actions: IntArray) -> None:
        """Carry out one allowed action in each environment; see ``observation``, ``mask``, ``reward``, ``is_over``."""
        kernel.step(self._table, actions, self.reward)
        self._check()

    def _check(self) -> None:
        if (self.marks[:, layout.PHASE] == layout.STUCK).any():
            raise EngineError("jobs wait and nothing runs: an invariant of the environment is broken")

    @property
    def is_over(self) -> BoolArray:
        """(N,) whether every job that counts has started."""
        over: BoolArray = self.marks[:, layout.PHASE] == layout.OVER
        return over

    def now_s(self, env: int) -> float:
        """Time of the decision, since the trace's begin."""
        return float(self._of(env).packed.loop.now_s[0])

    def starts(self, env: int) -> FloatArray:
        """(n,) start times of the jobs that count; NaN for those that have not started."""
        window = self.window[env]
        assert window is not None
        started: FloatArray = self._of(env).packed.st.jobs_f[at.START_S, window.warm : window.warm + window.count]
        return started.copy()

    def metrics(self, env: int) -> dict[str, float]:
        """Metrics of an episode that is over."""
        window = self.window[env]
        assert window is not None
        return self.sources[window.source].metrics(window.first, self.starts(env))

    def features(self, env: int) -> FloatArray:
        """(V, F) features of the visible jobs in double precision, as at the beginning of the instant."""
        seen = int(self.marks[env, layout.SEEN])
        return self._of(env).packed.loop.features[:seen]

    def visible(self, env: int) -> IntArray:
        """(V,) rows of the trace of the visible jobs."""
        window = self.window[env]
        assert window is not None
        seen = int(self.marks[env, layout.SEEN])
        rows: IntArray = self._of(env).packed.episode.visible[:seen] + window.rows.start
        return rows

    def sample(self, draws: FloatArray) -> IntArray:
        """(N,) allowed actions, each as likely as the others, by uniform ``draws`` (N,) from [0, 1)."""
        actions = np.zeros(self.num_envs, np.int64)
        kernel.sample(self.mask, draws, actions)
        return actions

    def first_allowed(self, env: int) -> int:
        """The first action that the mask allows."""
        return int(self.mask[env].argmax())

    def _of(self, env: int) -> Slot:
        window = self.window[env]
        if window is None:
            raise UsageError("the environment has not been reset")
        return self._slot(env, window.source)

    def _slot(self, env: int, source: int) -> Slot:
        """The arrays of an environment for one trace, made when they are first needed."""
        if (env, source) not in self._slots:
            own = (self.marks[env], self.value[env], self.observation[env], self.mask[env])
            self._slots[env, source] = Slot(self.sources[source], self.rules, *own)
        return self._slots[env, source]


class Slot:
    """The arrays of one environment for one trace.

    Attributes:
        packed: The arrays, as the kernel names them.
        table: (NUM_ENTRIES, 3) their addresses and sizes. They must not move.
    """

    def __init__(
        self, source: Source, rules: Rules, marks: IntArray, value: FloatArray, observation: AnyArray, mask: BoolArray
    ) -> None:
        width = rules.jobs + rules.warm_jobs
        empty = source.state
        state = empty._replace(
            jobs_i=np.zeros((at.NUM_JOB_INTS, width), np.int64),
            jobs_f=np.zeros((at.NUM_JOB_FLOATS, width)),
            **{name: getattr(empty, name).copy() for name in (*CHANGING, "spare", "profile_s", "profile_free")},
        )
        facts = Facts(
            **{name: np.zeros(width) for name in RATED_FACTS},
            user=np.zeros(width, np.int64),
            alike=np.zeros(width, np.int64),
            total=source.facts.total.copy(),
        )
        rows = np.zeros((NUM_HISTORY_ROWS, width + 1))
        watched = Watched(
            facts, Histories(rows, rows.copy()), Scratch(np.zeros(width), np.zeros(width), np.zeros(NUM_CONTEXT))
        )
        unused = np.zeros(0)
        episode = layout.Episode(
            at=marks,
            value=value,
            visible=np.zeros(rules.visible, np.int64),
            mark=np.zeros(width, np.int64),
            order=np.zeros((layout.NUM_ORDERS, width), np.int64),
            turn=np.zeros(layout.NUM_TURNS, np.int64),
            user=np.zeros(width, np.int64),
            jobs_of=np.zeros(width),
            excess=np.zeros(width),
            observation=observation,
            mask=mask,
        )
        loop = new_loop(width)._replace(features=np.zeros((rules.visible, NUM_FEATURES)))
        jobs = Jobs(facts.submit_s, np.zeros(width), unused, unused)
        self.packed = layout.Slot(state, jobs, loop, watched, episode)
        self.table = entries(fields_of(self.packed))

    def load(self, window: Window, source: Source, rules: Rules) -> None:
        """Put the jobs of a window into the arrays, on an empty cluster and without histories.

        Raises:
            TraceError: None of the jobs that count can run on the cluster.
        """
        st, jobs, loop, watched, episode = self.packed
        rows, size = window.rows, window.warm + window.count
        for name in CHANGING:
            getattr(st, name)[...] = getattr(source.state, name)
        st.jobs_i[:, :size] = source.state.jobs_i[:, rows]
        st.jobs_f[:, :size] = source.state.jobs_f[:, rows]
        st.jobs_f[at.SCORE, :size] = source.warm_score[rows] if window.warm else 0.0
        load_facts(watched, source.facts, rows, size)
        jobs.run_s[:size] = source.workload.run_s[rows]
        loop.at[:] = 0
        loop.at[rollout_kernel.LAST] = size
        loop.now_s[0] = 0.0
        order = np.argsort(source.order[:, rows], axis=1)
        episode.order[:] = 0
        episode.order[:, :size] = order
        episode.order[:, size:] = order[:, -1:]  # a row that has been passed by then
        self._load_rewards(window, source, rules)

    def _load_rewards(self, window: Window, source: Source, rules: Rules) -> None:
        """Set back what is rewarded, and give at once what no decision can change."""
        st, jobs, _, watched, episode = self.packed
        shown = episode.at[layout.SHOWN]
        counts = np.flatnonzero(st.jobs_i[at.TASKS, : window.warm + window.count] > 0)
        counts = counts[counts >= window.warm]
        if not len(counts):
            raise TraceError(f"{source.name}: none of {window.count} jobs from row {window.first} on can ever run")
        submit_s, run_s = jobs.submit_s[counts], jobs.run_s[counts]
        users, user = np.unique(watched.facts.user[counts], return_inverse=True)
        episode.user[counts] = user
        episode.jobs_of[:] = 0.0
        episode.jobs_of[: len(users)] = np.bincount(user)
        episode.excess[:] = 0.0
        mode, strategy = source_modes(rules)
        episode.at[:] = 0
        episode.at[layout.SHOWN] = shown
        episode.at[layout.FIRST] = window.warm
        episode.at[layout.TO_START] = episode.at[layout.COUNTED] = len(counts)
        episode.at[layout.NUM_USERS] = len(users)
        episode.at[layout.WARM] = int(window.warm > 0)
        episode.at[layout.MODE], episode.at[layout.STRATEGY] = mode, strategy
        episode.at[layout.MAY_WAIT] = int(rules.allow_wait)
        weights, value = source.weights, episode.value
        begin_s, least_s = submit_s.min(), (submit_s + run_s).max()
        work_s = (run_s * watched.facts.processors[counts]).sum() / watched.facts.total[0]
        value[:] = 0.0
        value[layout.BEGIN_S], value[layout.LAST_END_S], value[layout.WORK_S] = begin_s, least_s, work_s
        value[layout.OF_SLOWDOWN], value[layout.OF_WAIT] = weights.slowdown, weights.wait_s
        value[layout.OF_FAIRNESS], value[layout.OF_SPAN], value[layout.OF_USE] = (
            weights.fairness,
            weights.span_s,
            weights.use,
        )
        value[layout.SHAPING], value[layout.DISCOUNT] = rules.shaping, rules.discount
        # The reward of the first step has the part that is the same in every order.
        known = -weights.jct_s * run_s.mean() - weights.span_s * (least_s - begin_s)
        value[layout.REWARD] = known + (weights.use * work_s / (least_s - begin_s) if least_s > begin_s else 0.0)


def load_facts(watched: Watched, facts: Facts, rows: slice, size: int) -> None:
    """Copy what features say of jobs, with users and equal requests counted anew, so that histories are short."""
    own = watched.facts
    for name in RATED_FACTS:
        getattr(own, name)[:size] = getattr(facts, name)[rows]
    known = np.concatenate([[0], facts.user[rows]])  # row 0 stays that of unknown users
    own.user[:size] = np.unique(known, return_inverse=True)[1].reshape(-1)[1:]
    own.alike[:size] = np.unique(facts.alike[rows], return_inverse=True)[1].reshape(-1)
    watched.histories.users[:] = 0.0
    watched.histories.alike[:] = 0.0


def source_modes(rules: Rules) -> tuple[int, int]:
    """Numbers of the backfilling and the placement."""
    from shunter.scheduler.state import BACKFILLS, PLACEMENTS

    return BACKFILLS[rules.backfill], PLACEMENTS[rules.placement]


def fields_of(slot: layout.Slot) -> list[AnyArray]:
    """The arrays of a slot in the order of its fields and theirs: the order of ``env_layout.slot_at``."""
    st, jobs, loop, watched, episode = slot
    return [*st, *jobs, *loop, *watched.facts, *watched.histories, *watched.scratch, *episode]


def entries(arrays: Sequence[AnyArray]) -> IntArray:
    """(·, 3) address, rows and columns of arrays; of a list its length and 1."""
    table = np.zeros((len(arrays), 3), np.int64)
    for i, array in enumerate(arrays):
        assert array.flags.c_contiguous
        table[i] = (array.ctypes.data, array.shape[0], array.shape[1] if array.ndim == 2 else 1)
    return table
