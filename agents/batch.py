"""N environments on arrays of their own, stepped in one compiled call.

Owns the arrays and how an episode begins; what a step does is in ``env_kernel``. Both environments, the single one and
the vectorised one, are thin shells around this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from shunter.agents import env_kernel as kernel
from shunter.agents import env_layout as layout
from shunter.agents.rewards import Weights
from shunter.agents.sources import AnySource, Rules, Source, Window
from shunter.scheduler import layout as at
from shunter.scheduler.errors import EngineError, TraceError, UsageError
from shunter.scheduler.features import new_histories, new_scratch
from shunter.scheduler.kernels.features import NUM_FEATURES, NUM_HISTORY_ROWS, Facts, Histories, learn_past
from shunter.scheduler.state import BACKFILLS, PLACEMENTS
from shunter.scheduler.types import AnyArray, BoolArray, FloatArray, IntArray
from shunter.sim import rollout_kernel

CHANGING = ("counters", "node_free", "slots", "shapes", "alloc", "node_i", "groups")
"""Arrays of a state that are set back when an episode begins; those of jobs are copied from the trace."""

RATED_FACTS = ("submit_s", "request_s", "log_request", "processors", "log_size")


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

    def __init__(self, sources: Sequence[AnySource], rules: Rules, num_envs: int) -> None:
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
        self._slots: dict[tuple[int, int], AnySlot] = {}
        self._table = np.zeros((num_envs, *self._slot(0, 0).table.shape), np.int64)
        self._step = kernel.step
        if rules.protocol is not None:
            from shunter.agents import protocol_kernel

            self._step = protocol_kernel.step

    def __reduce__(self) -> str:
        raise TypeError("an environment is not copied or pickled, its arrays do not move: make another of the same")

    def draw(self, rng: np.random.Generator) -> Window:
        """A random trace, and a random window of it with as much warm-up as the rules ask for."""
        source = int(rng.integers(len(self.sources)))
        first, last = self.sources[source].rows
        low, high = first + self.rules.warm_jobs, last - self.rules.jobs
        return self.at(source, int(rng.integers(low, high + 1)))

    def at(self, source: int, first: int) -> Window:
        """The window whose first job that counts is a certain row.

        Raises:
            UsageError: There is no such trace, or the window does not lie inside its rows.
        """
        if not 0 <= source < len(self.sources):
            raise UsageError(f"window: there is no trace {source}; expected 0 to {len(self.sources) - 1}")
        (low, high), count = self.sources[source].rows, self.rules.jobs
        if not low <= first <= high - count:
            raise UsageError(
                f"window: {count} jobs from row {first} on do not lie inside the rows {low} to {high} "
                f"of {self.sources[source].name}"
            )
        return Window(source, first, min(self.rules.warm_jobs, first - low), count)

    def begin(self, env: int, window: Window) -> None:
        """Let an environment stand at the first decision of a window.

        Raises:
            TraceError: None of the jobs can run on the cluster.
        """
        slot = self._slot(env, window.source)
        slot.load(window)
        self.window[env] = window
        self._table[env] = slot.table
        self.begin_action[env] = layout.BEGIN
        self._step(self._table, self.begin_action, self.reward)
        self.begin_action[env] = layout.LEAVE
        self._check()

    def step(self, actions: IntArray) -> None:
        """Carry out one allowed action in each environment; see ``observation``, ``mask``, ``reward``, ``is_over``."""
        self._step(self._table, actions, self.reward)
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
        return self._of(env).now_s

    def starts(self, env: int) -> FloatArray:
        """(n,) start times of the jobs that count; NaN for those that have not started."""
        window = self.window[env]
        assert window is not None
        return self._of(env).start_s[window.warm : window.warm + window.count].copy()

    def metrics(self, env: int) -> dict[str, float]:
        """Metrics of an episode that is over."""
        window = self.window[env]
        assert window is not None
        return self.sources[window.source].metrics(window.first, self.starts(env))

    def features(self, env: int) -> FloatArray:
        """(V, F) features of the visible jobs in double precision, as at the beginning of the instant."""
        seen = int(self.marks[env, layout.SEEN])
        return self._of(env).features[:seen]

    def visible(self, env: int) -> IntArray:
        """(V,) rows of the trace of the visible jobs."""
        window = self.window[env]
        assert window is not None
        seen = int(self.marks[env, layout.SEEN])
        rows: IntArray = self._of(env).episode.visible[:seen] + window.rows.start
        return rows

    def sample(self, draws: FloatArray) -> IntArray:
        """(N,) allowed actions, each as likely as the others, by uniform ``draws`` (N,) from [0, 1)."""
        actions = np.zeros(self.num_envs, np.int64)
        kernel.sample(self.mask, draws, actions)
        return actions

    def first_allowed(self, env: int) -> int:
        """The first action that the mask allows."""
        return int(self.mask[env].argmax())

    def _of(self, env: int) -> AnySlot:
        window = self.window[env]
        if window is None:
            raise UsageError("the environment has not been reset")
        return self._slot(env, window.source)

    def _slot(self, env: int, source: int) -> AnySlot:
        """The arrays of an environment for one trace, made when they are first needed."""
        if (env, source) not in self._slots:
            own = (self.marks[env], self.value[env], self.observation[env], self.mask[env])
            self._slots[env, source] = slot_for(self.sources[source], self.rules, *own)
        return self._slots[env, source]


class AnySlot(Protocol):
    """The arrays of one environment for one trace.

    Attributes:
        table: (NUM_ENTRIES, 3) their addresses and sizes. They must not move.
        episode: What both kinds of environments have.
        features: (K, F) of the visible jobs.
    """

    table: IntArray
    episode: layout.Episode
    features: FloatArray

    @property
    def now_s(self) -> float:
        """Time of the decision."""

    @property
    def start_s(self) -> FloatArray:
        """(W,) start times; NaN for jobs that have not started."""

    def load(self, window: Window) -> None:
        """Put the jobs of a window into the arrays, on an empty cluster and without histories."""


def slot_for(
    source: AnySource, rules: Rules, marks: IntArray, value: FloatArray, observation: AnyArray, mask: BoolArray
) -> AnySlot:
    """Arrays that fit a source; ``marks`` to ``mask`` are the environment's rows of those of the batch."""
    episode = new_episode(rules, marks, value, observation, mask)
    if isinstance(source, Source):
        return Slot(source, rules, episode)
    from shunter.agents.protocol_env import ProtocolSlot, ProtocolSource

    assert isinstance(source, ProtocolSource)
    return ProtocolSlot(source, rules, episode)


class Slot:
    """The arrays of one environment for one trace, under the engine's rules; see ``AnySlot``."""

    def __init__(self, source: Source, rules: Rules, episode: layout.Episode) -> None:
        self.source, self.rules, self.episode = source, rules, episode
        width = rules.jobs + rules.warm_jobs
        empty = source.state
        state = empty._replace(
            jobs_i=np.zeros((at.NUM_JOB_INTS, width), np.int64),
            jobs_f=np.zeros((at.NUM_JOB_FLOATS, width)),
            **{name: getattr(empty, name).copy() for name in (*CHANGING, "spare", "profile_s", "profile_free")},
        )
        watched = new_watched(source.facts, width)
        self.features = np.zeros((rules.visible, NUM_FEATURES))
        loop = layout.Loop(
            at=np.zeros(rollout_kernel.NUM_LOOP_ROWS, np.int64),
            now_s=np.zeros(1),
            end_s=np.zeros(width),
            end_row=np.zeros(width, np.int64),
            finished=np.zeros(width, np.int64),
            features=self.features,
        )
        jobs = layout.Jobs(watched.facts.submit_s, np.zeros(width))
        self.packed = layout.Slot(state, jobs, loop, watched, episode)
        self.table = entries([*state, *jobs, *loop, *watched.facts, *watched.histories, *watched.scratch, *episode])
        self._known = new_histories(source.facts)

    @property
    def now_s(self) -> float:
        """Time of the decision."""
        return float(self.packed.loop.now_s[0])

    @property
    def start_s(self) -> FloatArray:
        """(W,) start times; NaN for jobs that have not started."""
        started: FloatArray = self.packed.st.jobs_f[at.START_S]
        return started

    def load(self, window: Window) -> None:
        """Put the jobs of a window into the arrays, on an empty cluster, with what the jobs before it taught.

        Raises:
            TraceError: None of the jobs that count can run on the cluster.
        """
        st, jobs, loop, watched, episode = self.packed
        source, rows, size = self.source, window.rows, window.warm + window.count
        for name in CHANGING:
            getattr(st, name)[...] = getattr(source.state, name)
        st.jobs_i[:, :size] = source.state.jobs_i[:, rows]
        st.jobs_f[:, :size] = source.state.jobs_f[:, rows]
        st.jobs_f[at.SCORE, :size] = source.warm_score[rows] if window.warm else 0.0
        load_facts(watched, source.facts, rows, size)
        self._load_histories(rows)
        jobs.run_s[:size] = source.workload.run_s[rows]
        loop.at[:] = 0
        loop.at[rollout_kernel.LAST] = size
        loop.now_s[0] = 0.0
        counts = np.flatnonzero(st.jobs_i[at.TASKS, :size] > 0)
        counts = counts[counts >= window.warm]
        if not len(counts):
            raise TraceError(f"{source.name}: none of {window.count} jobs from row {window.first} on can ever run")
        load_episode(episode, window, self.rules, source.order[:, rows])
        load_rewards(episode, self.rules, source.weights, watched.facts, counts, jobs.run_s[counts])

    def _load_histories(self, rows: slice) -> None:
        """Let users and equal jobs be known as they are before a window, under the numbers that its facts have."""
        source, watched = self.source, self.packed.watched
        columns = np.concatenate([[0], source.facts.user[rows]]), source.facts.alike[rows]
        order, end_s = source.past
        until_s = source.facts.submit_s[rows.start]
        learn_past(source.facts, self._known, order, source.workload.run_s, end_s, rows.start, until_s)
        for own, known, numbers in zip(watched.histories, self._known, columns, strict=True):
            occurring = np.unique(numbers)
            own[:, : len(occurring)] = known[:, occurring]


def new_episode(
    rules: Rules, marks: IntArray, value: FloatArray, observation: AnyArray, mask: BoolArray
) -> layout.Episode:
    """Room for an episode."""
    width = rules.jobs + rules.warm_jobs
    return layout.Episode(
        at=marks,
        value=value,
        visible=np.zeros(rules.visible, np.int64),
        fits=np.zeros(rules.visible, np.bool_),
        mark=np.zeros(width, np.int64),
        order=np.zeros((layout.NUM_ORDERS, width), np.int64),
        turn=np.zeros(layout.NUM_TURNS, np.int64),
        user=np.zeros(width, np.int64),
        jobs_of=np.zeros(width),
        excess=np.zeros(width),
        observation=observation,
        mask=mask,
    )


def new_watched(facts: Facts, width: int) -> layout.Watched:
    """Room for so many jobs."""
    numbers = {name: np.zeros(width) for name in RATED_FACTS}
    rows = np.zeros((NUM_HISTORY_ROWS, width + 1))
    own = Facts(**numbers, user=np.zeros(width, np.int64), alike=np.zeros(width, np.int64), total=facts.total.copy())
    return layout.Watched(own, Histories(rows, rows.copy()), new_scratch(width))


def load_episode(episode: layout.Episode, window: Window, rules: Rules, ranks: IntArray) -> None:
    """Let an episode stand before its first instant; ``ranks`` (3, ·) are those of its jobs by the fixed views."""
    size, shown = ranks.shape[1], episode.at[layout.SHOWN]
    episode.order[:, :size] = np.argsort(ranks, axis=1)
    episode.order[:, size:] = episode.order[:, size - 1 : size]  # a row that has been passed by then
    episode.at[:] = 0
    episode.at[layout.SHOWN] = shown
    episode.at[layout.FIRST] = window.warm
    episode.at[layout.WARM] = int(window.warm > 0)
    episode.at[layout.MODE], episode.at[layout.STRATEGY] = BACKFILLS[rules.backfill], PLACEMENTS[rules.placement]
    episode.at[layout.MAY_WAIT] = int(rules.allow_wait)


def load_rewards(
    episode: layout.Episode, rules: Rules, weights: Weights, facts: Facts, counts: IntArray, run_s: FloatArray
) -> None:
    """Set back what is rewarded, and give at once what no decision can change: the first step's reward has it.

    Args:
        episode: Of the environment.
        rules: How it is played.
        weights: What is rewarded.
        facts: Of its jobs.
        counts: (n,) rows that count and can run.
        run_s: (n,) their run times.
    """
    users, user = np.unique(facts.user[counts], return_inverse=True)
    episode.user[counts] = user
    episode.jobs_of[: len(users)] = np.bincount(user)
    episode.excess[:] = 0.0
    episode.at[layout.TO_START] = episode.at[layout.COUNTED] = len(counts)
    episode.at[layout.NUM_USERS] = len(users)
    submit_s = facts.submit_s[counts]
    begin_s, least_s = submit_s.min(), (submit_s + run_s).max()
    work_s = (run_s * facts.processors[counts]).sum() / facts.total[0]
    value = episode.value
    value[:] = 0.0
    value[layout.BEGIN_S], value[layout.LAST_END_S], value[layout.WORK_S] = begin_s, least_s, work_s
    value[layout.OF_SLOWDOWN], value[layout.OF_WAIT] = weights.slowdown, weights.wait_s
    value[layout.OF_FAIRNESS], value[layout.OF_SPAN] = weights.fairness, weights.span_s
    value[layout.OF_USE] = weights.use
    value[layout.SHAPING], value[layout.DISCOUNT] = rules.shaping, rules.discount
    known = -weights.jct_s * run_s.mean() - weights.span_s * (least_s - begin_s)
    value[layout.REWARD] = known + (weights.use * work_s / (least_s - begin_s) if least_s > begin_s else 0.0)


def load_facts(watched: layout.Watched, facts: Facts, rows: slice, size: int) -> None:
    """Copy what features say of jobs, with users and equal requests counted anew, so that histories are short."""
    own = watched.facts
    for name in RATED_FACTS:
        getattr(own, name)[:size] = getattr(facts, name)[rows]
    known = np.concatenate([[0], facts.user[rows]])  # row 0 stays that of unknown users
    own.user[:size] = np.unique(known, return_inverse=True)[1].reshape(-1)[1:]
    own.alike[:size] = np.unique(facts.alike[rows], return_inverse=True)[1].reshape(-1)
    watched.histories.users[:] = 0.0
    watched.histories.alike[:] = 0.0


def entries(arrays: Sequence[AnyArray]) -> IntArray:
    """(·, 3) address, rows and columns of arrays; of a list its length and 1."""
    table = np.zeros((len(arrays), 3), np.int64)
    for i, array in enumerate(arrays):
        assert array.flags.c_contiguous
        table[i] = (array.ctypes.data, array.shape[0], array.shape[1] if array.ndim == 2 else 1)
    return table
