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
    BEGIN_S,
    BEHIND,
    BETWEEN,
    BOUND_S,
    CHOSEN,
    COUNTED,
    DISCOUNT,
    FIRST,
    HEADS,
    LAST_END_S,
    LEAVE,
    MAY_WAIT,
    MODE,
    NOTHING,
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
    SHADOW_S,
    SHAPING,
    SHOWN,
    SQUARES,
    STEPS,
    STRATEGY,
    STUCK,
    SUM,
    TO_START,
    WAITS,
    WARM,
    WORK_S,
    WRITTEN,
    Episode,
    Slot,
    compiled,
    slot_at,
)
from shunter.scheduler.jit import inlined, move_block
from shunter.scheduler.kernels.easy import NOT_NOW, backfill_behind, backfill_one, may_backfill, reserve_first
from shunter.scheduler.kernels.features import (
    Facts,
    fits_now,
    note_context,
    note_started,
    scene_of,
    write_row,
)
from shunter.scheduler.kernels.lists import queue_remove
from shunter.scheduler.kernels.passes import run_pass
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
    State,
)
from shunter.scheduler.types import BoolArray, FloatArray, Int, IntArray
from shunter.sim.rollout_kernel import LAST, NEXT, PENDING, next_instant, push_end, time_of_next

# --- what is shown ----------------------------------------------------------------------------------------------------


@compiled
def next_in_turn(st: State, facts: Facts, episode: Episode, view: Int, now_s: float) -> Int:
    """The best waiting job by one view that has not been chosen yet; −1 when it has none.

    Views: by submission; by request, area and size; those that fit now, by submission; by wait over request.
    """
    lo, hi = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    if 0 < view <= NUM_ORDERS:
        order = episode.order[view - 1]
        while episode.turn[view] < len(order):
            row = order[episode.turn[view]]
            episode.turn[view] += 1
            if episode.mark[row] == WAITS:
                return row
        return -1
    if view == NUM_TURNS - 1:
        best, most = np.int64(-1), -1.0
        for position in range(lo, hi):
            row = st.jobs_i[QUEUE, position]
            if episode.mark[row] == WAITS:
                ratio = (now_s - facts.submit_s[row]) / facts.request_s[row]
                if ratio > most:
                    best, most = row, ratio
        return best
    while lo + episode.turn[view] < hi:
        row = st.jobs_i[QUEUE, lo + episode.turn[view]]
        episode.turn[view] += 1
        if episode.mark[row] == WAITS and (view == 0 or fits_now(st, row)):
            return row
    return -1


@compiled
def choose_visible(slot: Slot, now_s: float) -> None:
    """Let the waiting jobs be seen: all, or as many as there is room for, the best by several views in turn."""
    st, episode = slot.st, slot.episode
    lo, hi = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    room = len(episode.visible)
    count = hi - lo
    if count > room:
        for position in range(lo, hi):
            episode.mark[st.jobs_i[QUEUE, position]] = WAITS
        episode.turn[:] = 0
        chosen = 0
        view = 0
        while chosen < room:
            row = next_in_turn(st, slot.watched.facts, episode, view, now_s)
            view = (view + 1) % NUM_TURNS
            if row >= 0:
                episode.mark[row] = CHOSEN
                chosen += 1
    seen = 0
    for position in range(lo, hi):
        row = st.jobs_i[QUEUE, position]
        if count <= room or episode.mark[row] == CHOSEN:
            episode.visible[seen] = row
            episode.mask[seen] = True
            seen += 1
        episode.mark[row] = 0
    for i in range(seen, room):
        episode.mask[i] = False
    episode.at[SEEN] = seen
    episode.at[OPEN] = seen
    episode.at[WRITTEN] = 0


@compiled
def write_observation(slot: Slot, now_s: float) -> None:
    """Write the features of the visible jobs, which then hold for the whole instant."""
    st, watched, episode = slot.st, slot.watched, slot.episode
    features, observation = slot.loop.features, episode.observation
    scene = scene_of(st)
    note_context(watched.facts, watched.scratch, scene, now_s)
    running, seen, width = len(scene.running), episode.at[SEEN], features.shape[1]
    for i in range(seen):
        row = episode.visible[i]
        x = features[i]
        write_row(watched.facts, watched.histories, watched.scratch, running, now_s, row, fits_now(st, row), x)
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


# --- what is rewarded -------------------------------------------------------------------------------------------------


@compiled
def reward_start(slot: Slot, row: Int, now_s: float) -> None:
    """Count a start: its share of the means, and by how much it changes the span and the users' differences."""
    at, value, jobs = slot.episode.at, slot.episode.value, slot.jobs
    if row < at[FIRST]:
        return
    at[TO_START] -= 1
    wait_s = now_s - jobs.submit_s[row]
    run_s = jobs.run_s[row]
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
        user, excess, users = slot.episode.user[row], slot.episode.excess, at[NUM_USERS]
        before = value[SQUARES] / users - (value[SUM] / users) ** 2
        more = (slowdown - 1.0) / slot.episode.jobs_of[user]
        value[SQUARES] += more * (2.0 * excess[user] + more)
        value[SUM] += more
        excess[user] += more
        value[REWARD] -= value[OF_FAIRNESS] * (value[SQUARES] / users - (value[SUM] / users) ** 2 - before)


@compiled
def potential_now(st: State, facts: Facts, episode: Episode, now_s: float) -> float:
    """Minus what the waiting jobs that count have lost so far, in rewards, by their requests; 0 at the end."""
    at, value = episode.at, episode.value
    if at[PHASE] == OVER or value[SHAPING] == 0.0:
        return 0.0
    lost = 0.0
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        if row >= at[FIRST]:
            wait_s = now_s - facts.submit_s[row]
            lost += wait_s * (value[OF_SLOWDOWN] / max(facts.request_s[row], BOUND_S) + value[OF_WAIT])
    return -value[SHAPING] * lost / at[COUNTED]


# --- one instant ------------------------------------------------------------------------------------------------------


@compiled
def note_starts(slot: Slot, now_s: float) -> None:
    """Take in the jobs that the core has just started."""
    st = slot.st
    for i in range(st.counters[NUM_OUT]):
        row = st.jobs_i[OUT, i]
        push_end(slot.loop, now_s + slot.jobs.run_s[row], row)
        note_started(slot.watched.facts, slot.watched.histories, row, now_s)
        reward_start(slot, row, now_s)
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
        write_observation(slot, now_s)
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
def enter_instant(slot: Slot) -> None:
    """Take in the next instant; while the queue is warmed up, make its pass by the score."""
    st, at, loop = slot.st, slot.episode.at, slot.loop
    if at[WARM] == 1 and slot.jobs.submit_s[at[FIRST]] <= time_of_next(slot.jobs, loop):
        end_warm_up(slot)
    now_s = next_instant(st, slot.jobs, loop, slot.watched, at[MODE])
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
        episode, value = slot.episode, slot.episode.value
        named = actions[e]
        if named != BEGIN:
            episode.at[STEPS] += 1
        if named == len(episode.visible):
            episode.at[PHASE] = BETWEEN
            named = np.int64(NOTHING)
        go_on(slot, named)
        potential = potential_now(slot.st, slot.watched.facts, episode, slot.loop.now_s[0])
        if actions[e] != BEGIN:
            rewards[e] = value[REWARD] + value[DISCOUNT] * potential - value[POTENTIAL]
            value[REWARD] = 0.0
        value[POTENTIAL] = potential


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
