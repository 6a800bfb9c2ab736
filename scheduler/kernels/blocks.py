"""Features of many jobs at once, column by column: the same numbers as ``features.write_row``, to the bit, sooner.

What jobs share is worked out once an instant: the terms of their user, and the time until a number of processors is
free. Logarithms are taken of a block of jobs in one loop. Fastest where the rows of the queue ascend.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import arithmetic, compiled
from shunter.scheduler.kernels.features import (
    CONTEXT_DRAIN_S,
    CONTEXT_FREE,
    CONTEXT_LEFT,
    CONTEXT_LENGTH,
    CONTEXT_OLDEST,
    CONTEXT_QUEUED,
    LOG_SPAN,
    RATIO_SPAN,
    Facts,
    Histories,
    Scene,
    Scratch,
    age,
    alike_terms,
    fits_now,
    log_expected,
    log_processors,
    log_relative_wait,
    log_slowdown,
    log_until,
    log_wait,
    relative_age,
    user_terms,
)
from shunter.scheduler.kernels.logs import log_of
from shunter.scheduler.kernels.network import BLOCK
from shunter.scheduler.layout import State
from shunter.scheduler.types import FloatArray, Int, IntArray

SIZES = 64
"""Numbers of processors whose waiting time is remembered."""

USER_TERMS = 12
"""What ``features.user_terms`` returns."""


class Memo(NamedTuple):
    """What is worked out once an instant, and the instant's number.

    Attributes:
        turn: (1,) number of the instant.
        user_turn: (U,) for which instant a user's terms hold …
        users: (U, USER_TERMS) … and these terms.
        size_turn: (SIZES,) for which instant …
        size: (SIZES,) … and for how many processors …
        until: (SIZES,) … feature 15 holds.
        wait_s: (BLOCK,) waits of the jobs of a block.
        request_s: (BLOCK,) their requests.
        log_run: (BLOCK,) logarithms of their expected run times.
        wanted: (BLOCK,) processors that they ask for.
        mean_alike: (BLOCK,) means of log(run / request) of equal jobs.
    """

    turn: IntArray
    user_turn: IntArray
    users: FloatArray
    size_turn: IntArray
    size: FloatArray
    until: FloatArray
    wait_s: FloatArray
    request_s: FloatArray
    log_run: FloatArray
    wanted: FloatArray
    mean_alike: FloatArray


def new_memo(num_users: int) -> Memo:
    """Nothing has been worked out."""
    return Memo(
        turn=np.zeros(1, np.int64),
        user_turn=np.zeros(num_users, np.int64),
        users=np.zeros((num_users, USER_TERMS)),
        size_turn=np.zeros(SIZES, np.int64),
        size=np.zeros(SIZES),
        until=np.zeros(SIZES),
        wait_s=np.zeros(BLOCK),
        request_s=np.ones(BLOCK),
        log_run=np.zeros(BLOCK),
        wanted=np.zeros(BLOCK),
        mean_alike=np.zeros(BLOCK),
    )


@compiled
def begin_instant(facts: Facts, scratch: Scratch, memo: Memo, x: FloatArray) -> None:
    """After ``note_context``: forget the last instant, and write what all jobs share into the block ``x``."""
    memo.turn[0] += 1
    context = scratch.context
    for i in range(BLOCK):
        x[17, i] = context[CONTEXT_FREE] / facts.total[0]
        x[18, i] = context[CONTEXT_LENGTH]
        x[19, i] = context[CONTEXT_QUEUED]
        x[20, i] = context[CONTEXT_LEFT]
        x[21, i] = context[CONTEXT_OLDEST]


@compiled
def remember_user(facts: Facts, histories: Histories, memo: Memo, user: Int, now_s: float) -> None:
    """Work out a user's terms."""
    terms = user_terms(facts, histories, user, now_s)
    for k in range(USER_TERMS):
        memo.users[user, k] = terms[k]
    memo.user_turn[user] = memo.turn[0]


@compiled
def until_free(scratch: Scratch, memo: Memo, num_running: Int, free: float, wanted: float) -> float:
    """Feature 15, remembered for the instant."""
    place = np.int64(wanted) & (SIZES - 1)
    if memo.size_turn[place] != memo.turn[0] or memo.size[place] != wanted:
        memo.size_turn[place] = memo.turn[0]
        memo.size[place] = wanted
        memo.until[place] = log_until(scratch, num_running, free, wanted)
    return memo.until[place]


@compiled
def write_block(
    st: State,
    facts: Facts,
    histories: Histories,
    scratch: Scratch,
    memo: Memo,
    scene: Scene,
    now_s: float,
    start: Int,
    count: Int,
    x: FloatArray,
) -> None:
    """Write the features of the jobs ``start`` to ``start + count`` of the queue into the columns of ``x`` (F, BLOCK).

    After ``begin_instant``, which ``x`` has to have been given, too.
    """
    free = scratch.context[CONTEXT_FREE]
    for i in range(count):
        row = scene.queue[start + i]
        user = facts.user[row]
        if memo.user_turn[user] != memo.turn[0]:
            remember_user(facts, histories, memo, user, now_s)
        mean_user, of_user = memo.users[user, 0], memo.users[user, 1]
        short_user, last_user = memo.users[user, 8], memo.users[user, 9]
        mean_alike, of_alike, x[28, i], x[30, i] = alike_terms(
            histories, facts.alike[row], mean_user, short_user, last_user
        )
        log_request, log_size, wanted = facts.log_request[row], facts.log_size[row], facts.processors[row]
        memo.wait_s[i] = max(now_s - facts.submit_s[row], 0.0)
        memo.request_s[i] = facts.request_s[row]
        memo.wanted[i] = wanted
        memo.mean_alike[i] = mean_alike
        memo.log_run[i] = log_expected(log_request, of_user, mean_user, of_alike, mean_alike)
        x[0, i] = log_request
        x[1, i] = log_size
        x[6, i] = 1.0 if fits_now(st, row) else 0.0
        x[8, i] = memo.users[user, 2]
        x[9, i] = of_user
        x[10, i] = memo.users[user, 3]
        x[12, i] = of_alike
        x[13, i] = memo.users[user, 4]
        x[14, i] = memo.users[user, 5]
        x[15, i] = until_free(scratch, memo, len(scene.running), free, wanted)
        x[22, i] = memo.users[user, 6]
        x[23, i] = memo.users[user, 7]
        x[27, i] = short_user
        x[29, i] = last_user
        x[31, i] = memo.users[user, 10]
        x[32, i] = memo.users[user, 11]
    write_formulas(memo, facts.total[0], free, scratch.context[CONTEXT_DRAIN_S], (count + 7) // 8 * 8, x)


@arithmetic
def write_formulas(memo: Memo, total: float, free: float, drain_s: float, width: Int, x: FloatArray) -> None:
    """Write the columns that are formulas of what ``write_block`` has gathered, several jobs at once."""
    log_total = log_of(1.0 + total)
    for i in range(width):
        x[2, i] = memo.wanted[i] / total
    for i in range(width):
        x[3, i] = log_wait(memo.wait_s[i])
    for i in range(width):
        x[4, i] = log_relative_wait(memo.wait_s[i], memo.request_s[i])
    for i in range(width):
        x[5, i] = x[0, i] * x[1, i]
    for i in range(width):
        x[7, i] = (free - memo.wanted[i]) / total
    for i in range(width):
        x[11, i] = memo.mean_alike[i] / RATIO_SPAN
    for i in range(width):
        x[16, i] = memo.log_run[i] / LOG_SPAN
    for i in range(width):
        x[24, i] = log_slowdown(memo.wait_s[i], memo.log_run[i])
    for i in range(width):
        x[25, i] = age(memo.wait_s[i])
    for i in range(width):
        x[26, i] = relative_age(memo.wait_s[i], drain_s)
    for i in range(width):
        x[33, i] = log_processors(x[1, i], log_total)
