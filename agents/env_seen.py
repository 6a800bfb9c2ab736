"""What an environment shows and what it rewards, compiled; the same under the engine's rules and a protocol's."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from pathlib import Path

import numpy as np

from shunter.agents import env_layout
from shunter.agents.env_layout import (
    BEGIN_S,
    BOUND_S,
    CHOSEN,
    COUNTED,
    DISCOUNT,
    FIRST,
    FITS,
    LAST_END_S,
    NUM_ORDERS,
    NUM_TURNS,
    NUM_USERS,
    OF_FAIRNESS,
    OF_SLOWDOWN,
    OF_SPAN,
    OF_USE,
    OF_WAIT,
    OPEN,
    OVER,
    PHASE,
    POTENTIAL,
    REWARD,
    SEEN,
    SHAPING,
    SHOWN,
    SQUARES,
    SUM,
    TO_START,
    WAITS,
    WORK_S,
    WRITTEN,
    Episode,
)
from shunter.scheduler.jit import compiled_after, inlined
from shunter.scheduler.kernels.features import Facts, Histories, Scene, Scratch, note_context, write_row
from shunter.scheduler.types import FloatArray, Int, IntArray
from shunter.sim import rollout_kernel

compiled = compiled_after(Path(rollout_kernel.__file__), Path(env_layout.__file__), Path(__file__))


@compiled
def next_in_turn(queue: IntArray, facts: Facts, episode: Episode, view: Int, now_s: float) -> Int:
    """The best waiting job by one view that has not been chosen yet; −1 when it has none.

    Views: by submission; by request, area and size; those that fit now, by submission; by wait over request.
    """
    mark = episode.mark
    if 0 < view <= NUM_ORDERS:
        order = episode.order[view - 1]
        while episode.turn[view] < len(order):
            row = order[episode.turn[view]]
            episode.turn[view] += 1
            if WAITS <= mark[row] < CHOSEN:
                return row
        return -1
    if view == NUM_TURNS - 1:
        best, most = np.int64(-1), -1.0
        for row in queue:
            if mark[row] < CHOSEN:
                ratio = (now_s - facts.submit_s[row]) / facts.request_s[row]
                if ratio > most:
                    best, most = row, ratio
        return best
    while episode.turn[view] < len(queue):
        row = queue[episode.turn[view]]
        episode.turn[view] += 1
        if mark[row] == FITS or (mark[row] == WAITS and view == 0):
            return row
    return -1


@compiled
def choose_from(queue: IntArray, facts: Facts, episode: Episode, now_s: float) -> None:
    """Let waiting jobs be seen: all, or as many as there is room for, the best by several views in turn.

    Args:
        queue: (Q,) waiting rows in the order of submission; their marks say whether they fit, and are set back.
        facts: Of the jobs.
        episode: Is told who is seen.
        now_s: The time.
    """
    room, count = len(episode.visible), len(queue)
    chosen = 0
    view = 0
    episode.turn[:] = 0
    while chosen < room < count:
        row = next_in_turn(queue, facts, episode, view, now_s)
        view = (view + 1) % NUM_TURNS
        if row >= 0:
            episode.mark[row] += CHOSEN
            chosen += 1
    seen = 0
    for row in queue:
        if count <= room or episode.mark[row] >= CHOSEN:
            episode.visible[seen] = row
            episode.fits[seen] = episode.mark[row] % CHOSEN == FITS
            episode.mask[seen] = True
            seen += 1
        episode.mark[row] = 0
    for i in range(seen, room):
        episode.mask[i] = False
    episode.at[SEEN] = seen
    episode.at[OPEN] = seen
    episode.at[WRITTEN] = 0


@compiled
def write_seen(
    facts: Facts,
    histories: Histories,
    scratch: Scratch,
    scene: Scene,
    features: FloatArray,
    episode: Episode,
    now_s: float,
) -> None:
    """Write the features (K, F) of the visible jobs, and the observation, which then holds for the whole instant."""
    observation, seen, width = episode.observation, episode.at[SEEN], features.shape[1]
    note_context(facts, scratch, scene, now_s)
    for i in range(seen):
        x = features[i]
        write_row(facts, histories, scratch, len(scene.running), now_s, episode.visible[i], episode.fits[i], x)
        for f in range(width):
            observation[i, f] = x[f]
        observation[i, width] = 1.0
    clear_observation(episode, seen)


@inlined
def clear_observation(episode: Episode, first: Int) -> None:
    """Let the rows from ``first`` on be zero."""
    for i in range(first, episode.at[SHOWN]):
        for f in range(episode.observation.shape[1]):
            episode.observation[i, f] = 0.0
    episode.at[SHOWN] = first
    episode.at[WRITTEN] = 1


@compiled
def reward_start(episode: Episode, row: Int, submit_s: float, run_s: float, now_s: float) -> None:
    """Count a start: its share of the means, and by how much it changes the span and the users' differences."""
    at, value, excess = episode.at, episode.value, episode.excess
    if row < at[FIRST]:
        return
    at[TO_START] -= 1
    wait_s = now_s - submit_s
    slowdown = max(1.0, (wait_s + run_s) / max(run_s, BOUND_S))
    value[REWARD] -= (value[OF_SLOWDOWN] * slowdown + value[OF_WAIT] * wait_s) / at[COUNTED]
    end_s = now_s + run_s
    if end_s > value[LAST_END_S]:
        value[REWARD] -= value[OF_SPAN] * (end_s - value[LAST_END_S])
        if value[OF_USE] != 0.0:
            before = value[WORK_S] / (value[LAST_END_S] - value[BEGIN_S]) if value[LAST_END_S] > value[BEGIN_S] else 0.0
            value[REWARD] += value[OF_USE] * (value[WORK_S] / (end_s - value[BEGIN_S]) - before)
        value[LAST_END_S] = end_s
    if value[OF_FAIRNESS] != 0.0:
        user, users = episode.user[row], at[NUM_USERS]
        before = value[SQUARES] / users - (value[SUM] / users) ** 2
        more = (slowdown - 1.0) / episode.jobs_of[user]
        value[SQUARES] += more * (2.0 * excess[user] + more)
        value[SUM] += more
        excess[user] += more
        value[REWARD] -= value[OF_FAIRNESS] * (value[SQUARES] / users - (value[SUM] / users) ** 2 - before)


@compiled
def potential_now(queue: IntArray, facts: Facts, episode: Episode, now_s: float) -> float:
    """Minus what the waiting jobs that count have lost so far, in rewards, by their requests; 0 at the end."""
    at, value = episode.at, episode.value
    if at[PHASE] == OVER or value[SHAPING] == 0.0:
        return 0.0
    lost = 0.0
    for row in queue:
        if row >= at[FIRST]:
            wait_s = now_s - facts.submit_s[row]
            lost += wait_s * (value[OF_SLOWDOWN] / max(facts.request_s[row], BOUND_S) + value[OF_WAIT])
    return -value[SHAPING] * lost / at[COUNTED]


@inlined
def settle(
    queue: IntArray, facts: Facts, episode: Episode, now_s: float, env: Int, begins: bool, rewards: FloatArray
) -> None:
    """Give the reward of a step, shaped by γΦ(s′) − Φ(s); what comes before the first decision waits for its step."""
    value = episode.value
    potential = potential_now(queue, facts, episode, now_s)
    if not begins:
        rewards[env] = value[REWARD] + value[DISCOUNT] * potential - value[POTENTIAL]
        value[REWARD] = 0.0
    value[POTENTIAL] = potential
