"""The compiled steps of the scheduling environments: from decision to decision over the core's packed state.

Owns the order of choices within an instant, what is shown and what is rewarded. Events are those of
``sim.rollout_kernel``; starts, reservations and the test whether a job may be backfilled are the core's own. One call
steps any number of environments, each on arrays of its own, which may be of different sizes: the caller hands over
their addresses (``batch.Slot``), so that one environment and many are the same compiled code.

An instant: with at least one job that fits, the visible jobs are chosen and their features written once. Jobs that fit
start as they are named; the first one named that does not fit is the head, and from then on only jobs may be named that
may be backfilled beside its reservation. What leaves no choice is done without asking.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.agents.env_layout import (
    ASK,
    BEGIN,
    BEHIND,
    BETWEEN,
    FIRST,
    FITS,
    HEADS,
    LEAVE,
    MAY_WAIT,
    MODE,
    NOTHING,
    OPEN,
    OVER,
    PHASE,
    SEEN,
    SHADOW_S,
    STEPS,
    STRATEGY,
    STUCK,
    TO_START,
    WAITS,
    WARM,
    WRITTEN,
    Episode,
    Slot,
    slot_at,
)
from shunter.agents.env_seen import choose_from, clear_observation, compiled, reward_start, settle, write_seen
from shunter.scheduler.jit import inlined, move_block
from shunter.scheduler.kernels.easy import NOT_NOW, backfill_behind, backfill_one, may_backfill, reserve_first
from shunter.scheduler.kernels.features import fits_now, note_started, note_submitted, scene_of
from shunter.scheduler.kernels.lists import queue_remove
from shunter.scheduler.kernels.passes import absorb, run_pass
from shunter.scheduler.kernels.starting import start_job
from shunter.scheduler.layout import (
    EASY_SJBF,
    NO_BACKFILL,
    NUM_OUT,
    OUT,
    QUEUE,
    QUEUE_HI,
    QUEUE_LO,
    SCORE,
    SHAPE,
    TASKS,
    State,
)
from shunter.scheduler.types import BoolArray, FloatArray, Int, IntArray
from shunter.sim.rollout_kernel import LAST, NEXT, PENDING, push_end, take_ends, time_of_next


@compiled
def choose_visible(slot: Slot, now_s: float) -> None:
    """Choose which of the waiting jobs are seen at this instant."""
    st, mark = slot.st, slot.episode.mark
    queue = scene_of(st).queue
    for row in queue:
        mark[row] = FITS if fits_now(st, row) else WAITS
    choose_from(queue, slot.watched.facts, slot.episode, now_s)


# --- one instant ------------------------------------------------------------------------------------------------------


@compiled
def note_starts(slot: Slot, now_s: float) -> None:
    """Take in the jobs that the core has just started."""
    st = slot.st
    for i in range(st.counters[NUM_OUT]):
        row = st.jobs_i[OUT, i]
        push_end(slot.loop, now_s + slot.jobs.run_s[row], row)
        note_started(slot.watched.facts, slot.watched.histories, row, now_s)
        reward_start(slot.episode, row, slot.jobs.submit_s[row], slot.jobs.run_s[row], now_s)
    st.counters[NUM_OUT] = 0


@inlined
def place_in_queue(st: State, row: Int) -> Int:
    """The position of a waiting job in the queue, which is in the order of rows."""
    left, right = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    while left < right:
        middle = (left + right) // 2
        if st.jobs_i[QUEUE, middle] < row:
            left = middle + 1
        else:
            right = middle
    return left


@inlined
def name_visible(slot: Slot, i: Int, now_s: float) -> None:
    """Carry out the choice of a visible job: it starts, or is the head."""
    st, at, episode = slot.st, slot.episode.at, slot.episode
    row = episode.visible[i]
    episode.mask[i] = False
    at[OPEN] -= 1
    mode, strategy = at[MODE], at[STRATEGY]
    position = place_in_queue(st, row)
    if at[PHASE] == BEHIND:
        backfill_one(st, row, now_s, episode.value[SHADOW_S], mode, strategy)
        queue_remove(st, position)
    elif fits_now(st, row):
        start_job(st, row, now_s, strategy, 0, st.slots[st.jobs_i[SHAPE, row]])
        queue_remove(st, position)
    elif mode == NO_BACKFILL:
        at[PHASE] = BETWEEN
    elif mode == EASY_SJBF:  # a fixed order behind the head: the core's own pass
        backfill_by_length(st, position, now_s, strategy)
        at[PHASE] = BETWEEN
    else:
        episode.value[SHADOW_S] = reserve_first(st, row, now_s, strategy)
        at[PHASE] = BEHIND
    note_starts(slot, now_s)


@inlined
def backfill_by_length(st: State, position: Int, now_s: float, strategy: Int) -> None:
    """Backfill behind the job at a position, shortest expected run time first, and keep the queue in order of rows."""
    queue = st.jobs_i[QUEUE]
    head, lo = queue[position], st.counters[QUEUE_LO]
    move_block(queue, lo + 1, lo, position - lo)
    queue[lo] = head
    backfill_behind(st, EASY_SJBF, now_s, strategy, 0)
    i = st.counters[QUEUE_LO]
    while i + 1 < st.counters[QUEUE_HI] and queue[i + 1] < head:
        queue[i] = queue[i + 1]
        i += 1
    queue[i] = head


@inlined
def may_wait(slot: Slot) -> bool:
    """Whether the instant may be ended: something must still happen."""
    at = slot.loop.at
    return slot.episode.at[MAY_WAIT] == 1 and (at[PENDING] > 0 or at[NEXT] < at[LAST])


@inlined
def narrow(st: State, episode: Episode, now_s: float) -> None:
    """Behind a head: leave in the mask what may be backfilled now. What may not be cannot be later in the instant."""
    at = episode.at
    for i in range(at[SEEN]):
        if episode.mask[i]:
            row = episode.visible[i]
            if may_backfill(st, row, now_s, episode.value[SHADOW_S], at[MODE]) == NOT_NOW:
                episode.mask[i] = False
                at[OPEN] -= 1


@inlined
def any_visible_fits(st: State, episode: Episode) -> bool:
    """Whether a job that may be named fits now."""
    found = False
    for i in range(episode.at[SEEN]):
        found = found or (episode.mask[i] and fits_now(st, episode.visible[i]))
    return found


@compiled
def find_decision(slot: Slot, now_s: float) -> Int:
    """What to do now: ASK for a decision, name a visible job without asking, or NOTHING: the instant is over."""
    st, at, episode = slot.st, slot.episode.at, slot.episode
    if at[PHASE] == BEHIND:
        narrow(st, episode, now_s)
    elif at[OPEN] == 0 and st.counters[QUEUE_HI] > st.counters[QUEUE_LO]:
        choose_visible(slot, now_s)
    if at[OPEN] == 0 or (at[PHASE] == HEADS and not any_visible_fits(st, episode)):
        at[PHASE] = BETWEEN
        return NOTHING
    waiting = may_wait(slot)
    only = np.int64(0)
    while not episode.mask[only]:
        only += 1
    # An episode has at least one step, even if its last start leaves no choice.
    is_last = at[TO_START] == 1 and at[STEPS] == 0 and episode.visible[only] >= at[FIRST]
    if at[OPEN] == 1 and not waiting and not is_last:
        return only
    if at[WRITTEN] == 0:
        watched = slot.watched
        write_seen(watched.facts, watched.histories, watched.scratch, scene_of(st), slot.loop.features, episode, now_s)
    episode.mask[len(episode.mask) - 1] = waiting
    return ASK


@inlined
def end_warm_up(slot: Slot) -> None:
    """From now on decisions are asked for: the queue is kept in the order of rows."""
    st, queue = slot.st, slot.st.jobs_i[QUEUE]
    slot.episode.at[WARM] = 0
    st.jobs_f[SCORE, :] = 0.0
    for i in range(st.counters[QUEUE_LO] + 1, st.counters[QUEUE_HI]):
        row = queue[i]
        k = i
        while k > st.counters[QUEUE_LO] and queue[k - 1] > row:
            queue[k] = queue[k - 1]
            k -= 1
        queue[k] = row


@inlined
def next_instant(slot: Slot) -> float:
    """Take in everything that happens at the next instant, and return its time; its decisions are still to be made."""
    st, jobs, loop, watched = slot.st, slot.jobs, slot.loop, slot.watched
    now_s = time_of_next(jobs, loop)
    ended = take_ends(jobs, loop, watched, True, now_s)
    first = loop.at[NEXT]
    while loop.at[NEXT] < loop.at[LAST] and jobs.submit_s[loop.at[NEXT]] <= now_s:
        if st.jobs_i[TASKS, loop.at[NEXT]] > 0:
            note_submitted(watched.facts, watched.histories, loop.at[NEXT])
        loop.at[NEXT] += 1
    loop.now_s[0] = now_s
    absorb(st, now_s, loop.finished, ended, first, loop.at[NEXT], slot.episode.at[MODE])
    return now_s


@inlined
def enter_instant(slot: Slot) -> None:
    """Take in the next instant; while the queue is warmed up, make its pass by the score."""
    st, at, loop = slot.st, slot.episode.at, slot.loop
    if at[WARM] == 1 and slot.jobs.submit_s[at[FIRST]] <= time_of_next(slot.jobs, loop):
        end_warm_up(slot)
    now_s = next_instant(slot)
    if at[WARM] == 1:
        run_pass(st, now_s, at[MODE], at[STRATEGY], 0)
        note_starts(slot, now_s)
    elif st.counters[QUEUE_HI] > st.counters[QUEUE_LO]:
        choose_visible(slot, now_s)
        at[PHASE] = HEADS


@inlined
def go_on(slot: Slot, named: Int) -> None:
    """Name a visible job, unless it is NOTHING, and go to the next decision or to the end of the episode."""
    at = slot.episode.at
    asks = False
    while not asks:
        if named >= 0:
            name_visible(slot, named, slot.loop.now_s[0])
        named = np.int64(NOTHING)
        if at[TO_START] == 0:
            at[PHASE] = OVER
            slot.episode.mask[:] = False
            clear_observation(slot.episode, 0)
            asks = True
        elif at[PHASE] != BETWEEN:
            named = find_decision(slot, slot.loop.now_s[0])
            asks = named == ASK
        elif time_of_next(slot.jobs, slot.loop) < np.inf:
            enter_instant(slot)
        else:
            at[PHASE] = STUCK
            asks = True


# One function holds all that calls the core: each level of calls around it would cost as much compiling again.
@compiled
def step(table: IntArray, actions: IntArray, rewards: FloatArray) -> None:
    """Step environments.

    Args:
        table: (N, NUM_ENTRIES, 3) addresses and sizes of their arrays.
        actions: (N,) places of visible jobs, or K to wait, each allowed by the mask; or BEGIN, or LEAVE.
        rewards: (N,) what the steps bring, shaped by γΦ(s′) − Φ(s); written unless the action is BEGIN or LEAVE.
    """
    for e in range(len(actions)):
        if actions[e] == LEAVE:
            continue
        slot = slot_at(table[e])
        episode = slot.episode
        named = actions[e]
        if named != BEGIN:
            episode.at[STEPS] += 1
        if named == len(episode.visible):
            episode.at[PHASE] = BETWEEN
            named = np.int64(NOTHING)
        go_on(slot, named)
        queue, now_s = scene_of(slot.st).queue, slot.loop.now_s[0]
        settle(queue, slot.watched.facts, episode, now_s, e, actions[e] == BEGIN, rewards)


@compiled
def sample(masks: BoolArray, draws: FloatArray, actions: IntArray) -> None:
    """Choose one allowed action a row, each as likely as the others.

    Args:
        masks: (N, K + 1) what is allowed; a row without anything gives 0.
        draws: (N,) uniform numbers in [0, 1).
        actions: (N,) written.
    """
    for e in range(len(actions)):
        count = 0
        for i in range(masks.shape[1]):
            count += masks[e, i]
        left = np.int64(draws[e] * count)
        actions[e] = 0
        for i in range(masks.shape[1]):
            if masks[e, i]:
                if left == 0:
                    actions[e] = i
                    break
                left -= 1
