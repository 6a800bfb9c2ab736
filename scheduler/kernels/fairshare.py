"""Decayed usage of users and scores made of it, compiled: the arithmetic of ``scheduler.fairshare``.

The engine and the compiled loop both call these functions, so that equal replays are equal to the bit.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import FloatArray, Int, IntArray

# Usage.weights: those of ``multifactor``, then what else the scores need.
AGE = 0
SIZE = 1
SHARE = 2
QUALITY = 3
PARTITION = 4
MAX_AGE_S = 5  # age at which the age factor reaches 1
TOTAL = 6  # processors of the cluster
HALF_LIFE_S = 7  # in which usage that is not renewed halves
NUM_WEIGHTS = 8


class Usage(NamedTuple):
    """What users have had, and what of their jobs is weighed with it.

    Attributes:
        user: (J,) row of the user; −1: unknown, and not counted.
        processors: (J,) size.
        priority: (J,) priority.
        queue_idx: (J,) row of the partition; −1 without one.
        usage_s: (U,) decayed processor-seconds at ``since_s``.
        held: (U,) processors held since then.
        since_s: (U,) time of the last change.
        now_s: (U,) room for the usage at one time.
        weights: (NUM_WEIGHTS,) see above.
    """

    user: IntArray
    processors: FloatArray
    priority: FloatArray
    queue_idx: IntArray
    usage_s: FloatArray
    held: FloatArray
    since_s: FloatArray
    now_s: FloatArray
    weights: FloatArray


def no_usage() -> Usage:
    """The usage of nobody."""
    none, numbers = np.zeros(0), np.zeros(0, np.int64)
    return Usage(numbers, none, none, numbers, none, none, none, none, np.ones(NUM_WEIGHTS))


@compiled
def decayed(usage_s: float, held: float, elapsed_s: float, half_life_s: float) -> float:
    """Usage after ``elapsed_s`` seconds in which a constant number of processors was held."""
    rate = np.log(2.0) / half_life_s
    level = held / rate
    return level + (usage_s - level) * np.exp(-rate * elapsed_s)


@compiled
def fill_decayed(
    usage_s: FloatArray, held: FloatArray, elapsed_s: FloatArray, half_life_s: float, out: FloatArray
) -> None:
    """``decayed`` of every user, into ``out`` (U,)."""
    for user in range(len(usage_s)):
        out[user] = decayed(usage_s[user], held[user], elapsed_s[user], half_life_s)


@compiled
def change_held(
    usage_s: FloatArray,
    held: FloatArray,
    since_s: FloatArray,
    half_life_s: float,
    user: Int,
    processors: float,
    now_s: float,
) -> None:
    """A user takes (> 0) or gives back (< 0) processors now; several changes at one time leave the usage as it is."""
    if now_s > since_s[user]:
        usage_s[user] = decayed(usage_s[user], held[user], now_s - since_s[user], half_life_s)
        since_s[user] = now_s
    held[user] += processors


@compiled
def change_usage(usage: Usage, row: Int, sign: float, now_s: float) -> None:
    """A job starts (1) or ends (−1) now."""
    user = usage.user[row]
    if user >= 0:
        half_life_s = usage.weights[HALF_LIFE_S]
        processors = sign * usage.processors[row]
        change_held(usage.usage_s, usage.held, usage.since_s, half_life_s, user, processors, now_s)


@compiled
def share_factor(usage_s: float, total_s: float, num_users: Int) -> float:
    """2^(−usage share / equal share): 1 where nobody has had anything."""
    return np.exp2(-(usage_s / total_s) * num_users) if total_s > 0 else 1.0


@compiled
def fill_factors(usage_s: FloatArray, user_idx: IntArray, out: FloatArray) -> None:
    """``share_factor`` of the users of jobs, into ``out`` (Q,); 1 for unknown users."""
    total_s = 0.0
    for user in range(len(usage_s)):
        total_s += usage_s[user]
    for i in range(len(user_idx)):
        out[i] = share_factor(usage_s[user_idx[i]], total_s, len(usage_s)) if user_idx[i] >= 0 else 1.0


@compiled
def score_by_usage(
    usage: Usage, submit_s: FloatArray, queue: IntArray, is_multifactor: bool, now_s: float, key: FloatArray
) -> None:
    """Write the scores of ``fairshare`` or ``multifactor`` of waiting jobs (Q,) into ``key``."""
    weights, num_users = usage.weights, len(usage.usage_s)
    total_s = 0.0
    for user in range(num_users):
        elapsed_s = now_s - usage.since_s[user]
        usage.now_s[user] = decayed(usage.usage_s[user], usage.held[user], elapsed_s, weights[HALF_LIFE_S])
        total_s += usage.now_s[user]
    most, num_queues = 0.0, np.int64(0)
    for row in queue:
        most = max(most, usage.priority[row])
        num_queues = max(num_queues, usage.queue_idx[row] + 1)
    for i in range(len(queue)):
        row = queue[i]
        user, place = usage.user[row], usage.queue_idx[row]
        factor = share_factor(usage.now_s[user], total_s, num_users) if user >= 0 else 1.0
        if not is_multifactor:
            key[i] = -factor
            continue
        age = min(max(now_s - submit_s[row], 0.0) / weights[MAX_AGE_S], 1.0)
        quality = usage.priority[row] / most if most > 0 else 0.0
        partition = 1.0 - place / max(num_queues, 1) if place >= 0 else 0.0
        key[i] = -(
            weights[AGE] * age
            + weights[SIZE] * (usage.processors[row] / weights[TOTAL])
            + weights[SHARE] * factor
            + weights[QUALITY] * quality
            + weights[PARTITION] * partition
        )
