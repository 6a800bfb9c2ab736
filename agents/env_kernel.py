"""The compiled steps of the scheduling environments: from decision to decision over the core's packed state.

Owns the order of choices within an instant, what is shown and what is rewarded. Events are those of
``sim.rollout_kernel``; starts, reservations and the test whether a job may be backfilled are the core's own. One call
steps any number of environments, each on arrays of its own, which may be of different sizes: the caller hands over
their addresses (``TABLE`` of ``agents.batch``), so that one environment and many are the same compiled code.

An instant: with at least one job that fits, the visible jobs are chosen and their features written once. Jobs that fit
start as they are named; the first one named that does not fit is the head, and from then on only jobs may be named that
may be backfilled beside its reservation. What leaves no choice is done without asking.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from shunter.scheduler.jit import compiled_after, move_block
from shunter.scheduler.kernels.easy import NOT_NOW, backfill_behind, backfill_one, may_backfill, reserve_first
from shunter.scheduler.kernels.features import (
    Facts,
    Histories,
    Scratch,
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
from shunter.sim import rollout_kernel
from shunter.sim.rollout_kernel import LAST, NEXT, PENDING, Jobs, Loop, Watched, next_instant, push_end, time_of_next

compiled = compiled_after(Path(rollout_kernel.__file__))

# Actions that name no job
LEAVE = -2  # nothing happens to this environment
BEGIN = -1  # go to the first decision

# Episode.at (NUM_MARKS,)
PHASE = 0
SEEN = 1  # visible jobs at the beginning of the instant
WRITTEN = 2  # 1 once their features have been written
SHOWN = 3  # rows of the observation that are not zero
OPEN = 4  # jobs that may be named now
FIRST = 5  # row of the first job that counts; those before warm the queue up
TO_START = 6  # jobs that count and have not started
COUNTED = 7  # jobs that count
STEPS = 8
WARM = 9  # 1 while a fixed score decides
MODE = 10
STRATEGY = 11
MAY_WAIT = 12  # 1 when the last action ends the instant
NUM_USERS = 13
NUM_MARKS = 14

# Phases
BETWEEN = 0  # the instant is over
HEADS = 1  # no head is reserved for
BEHIND = 2  # jobs may start beside the reservation of a head
OVER = 3  # every job that counts has started
STUCK = 4  # jobs wait and nothing will happen: never

# Episode.value (NUM_VALUES,)
SHADOW_S = 0  # of the head
REWARD = 1  # collected since the last step
POTENTIAL = 2  # at the last decision
LAST_END_S = 3  # of the jobs that count, those that have not started taken to start at once
BEGIN_S = 4  # first submission of a job that counts
WORK_S = 5  # processor-seconds of the jobs that count, over the processors
OF_SLOWDOWN = 6  # weights of what is rewarded
OF_WAIT = 7
OF_FAIRNESS = 8
OF_SPAN = 9
OF_USE = 10
SHAPING = 11  # weight of the potential
DISCOUNT = 12
SUM = 13  # of ``excess``
SQUARES = 14
NUM_VALUES = 15

NUM_ORDERS = 3  # fixed orders by which visible jobs are chosen
NUM_TURNS = NUM_ORDERS + 3

WAITS = 1  # Episode.mark
CHOSEN = 2

BOUND_S = 10.0
"""Run times below this count as this in the bounded slowdown."""


class Episode(NamedTuple):
    """One environment's episode; W rows of jobs, K visible at most, U users.

    Attributes:
        at: (NUM_MARKS,) where it stands.
        value: (NUM_VALUES,) the same in seconds and rewards.
        visible: (K,) rows of the visible jobs, in the order of submission.
        mark: (W,) scratch: zeros.
        order: (NUM_ORDERS, W) rows by request, area and size.
        turn: (NUM_TURNS,) scratch.
        user: (W,) row of the job's user in the next two.
        jobs_of: (U,) jobs of each user that count.
        excess: (U,) mean bounded slowdown of a user's jobs, less 1; jobs that have not started count as 1.
        observation: (K, F + 1) features, and 1 where there is a job.
        mask: (K + 1,) what may be named.
    """

    at: IntArray
    value: FloatArray
    visible: IntArray
    mark: IntArray
    order: IntArray
    turn: IntArray
    user: IntArray
    jobs_of: FloatArray
    excess: FloatArray
    observation: FloatArray
    mask: BoolArray


class Slot(NamedTuple):
    """Everything of one environment."""

    st: State
    jobs: Jobs
    loop: Loop
    watched: Watched
    episode: Episode


def _view(dtype: Any, ndim: int) -> Any:
    """``view(entry)``: the array whose address, rows and columns an entry (3,) has; it holds no reference."""

    def typed(_typing: Any, entry: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array_type = signature.return_type
            numbers = context.make_array(signature.args[0])(context, builder, args[0]).data
            address, rows, columns = (
                builder.load(builder.gep(numbers, [context.get_constant(types.intp, i)])) for i in range(3)
            )
            element = context.get_data_type(dtype)
            size = context.get_constant(types.intp, context.get_abi_sizeof(element))
            shape = [rows, columns][:ndim]
            strides = [builder.mul(columns, size), size][2 - ndim :]
            array = make_array(array_type)(context, builder)
            populate_array(
                array,
                data=builder.inttoptr(address, array.data.type),
                shape=cgutils.pack_array(builder, shape),
                strides=cgutils.pack_array(builder, strides),
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()

        return types.Array(dtype, ndim, "C")(entry), generate

    return intrinsic(typed)


ints = _view(types.int64, 1)
floats = _view(types.float64, 1)
flags = _view(types.boolean, 1)
int_table = _view(types.int64, 2)
float_table = _view(types.float64, 2)
single_table = _view(types.float32, 2)


@compiled
def state_at(t: IntArray) -> State:
    """The state in the first 16 entries of a table (·, 3)."""
    return State(
        int_table(t[0]), float_table(t[1]), ints(t[2]), int_table(t[3]), int_table(t[4]), int_table(t[5]),
        int_table(t[6]), int_table(t[7]), int_table(t[8]), int_table(t[9]), floats(t[10]), int_table(t[11]),
        int_table(t[12]), float_table(t[13]), single_table(t[14]), int_table(t[15]),
    )  # fmt: skip


@compiled
def slot_at(t: IntArray) -> Slot:
    """An environment from a table (NUM_ENTRIES, 3), in the order of the fields of ``Slot`` and theirs."""
    jobs = Jobs(floats(t[16]), floats(t[17]), floats(t[18]), floats(t[19]))
    loop = Loop(
        ints(t[20]), floats(t[21]), floats(t[22]), ints(t[23]), ints(t[24]), floats(t[25]), float_table(t[26])
    )  # fmt: skip
    facts = Facts(
        floats(t[27]), floats(t[28]), floats(t[29]), floats(t[30]), floats(t[31]), ints(t[32]), ints(t[33]),
        floats(t[34]),
    )  # fmt: skip
    histories = Histories(float_table(t[35]), float_table(t[36]))
    watched = Watched(facts, histories, Scratch(floats(t[37]), floats(t[38]), floats(t[39])))
    episode = Episode(
        ints(t[40]), floats(t[41]), ints(t[42]), ints(t[43]), int_table(t[44]), ints(t[45]), ints(t[46]),
        floats(t[47]), floats(t[48]), single_table(t[49]), flags(t[50]),
    )  # fmt: skip
    return Slot(state_at(t), jobs, loop, watched, episode)


# --- what is shown ----------------------------------------------------------------------------------------------------


@compiled
def next_in_turn(slot: Slot, view: Int, now_s: float) -> Int:
    """The best waiting job by one view that has not been chosen yet; −1 when it has none.

    Views: by submission; by request, area and size; those that fit now, by submission; by wait over request.
    """
    st, episode = slot.st, slot.episode
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
                ratio = (now_s - slot.watched.facts.submit_s[row]) / slot.watched.facts.request_s[row]
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
            row = next_in_turn(slot, view, now_s)
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
    clear_observation(slot, seen)


@compiled
def clear_observation(slot: Slot, first: Int) -> None:
    """Let the rows from ``first`` on be zero."""
    episode = slot.episode
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
def potential_now(slot: Slot) -> float:
    """Minus what the waiting jobs that count have lost so far, in rewards, by their requests; 0 at the end."""
    st, at, value, facts = slot.st, slot.episode.at, slot.episode.value, slot.watched.facts
    if at[PHASE] == OVER:
        return 0.0
    lost = 0.0
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        if row >= at[FIRST]:
            wait_s = slot.loop.now_s[0] - facts.submit_s[row]
            lost += wait_s * (value[OF_SLOWDOWN] / max(facts.request_s[row], BOUND_S) + value[OF_WAIT])
    return -value[SHAPING] * lost / at[COUNTED]


@compiled
def settle(slot: Slot) -> float:
    """The reward of the step that ends here, shaped by γΦ(s′) − Φ(s) (Ng, Harada & Russell, ICML 1999)."""
    value = slot.episode.value
    reward = value[REWARD]
    value[REWARD] = 0.0
    if value[SHAPING] != 0.0:
        potential = potential_now(slot)
        reward += value[DISCOUNT] * potential - value[POTENTIAL]
        value[POTENTIAL] = potential
    return reward


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


@compiled
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


@compiled
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


@compiled
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


@compiled
def may_wait(slot: Slot) -> bool:
    """Whether the instant may be ended: something must still happen."""
    at = slot.loop.at
    return slot.episode.at[MAY_WAIT] == 1 and (at[PENDING] > 0 or at[NEXT] < at[LAST])


@compiled
def narrow(slot: Slot, now_s: float) -> None:
    """Behind a head: leave in the mask what may be backfilled now. What may not be cannot be later in the instant."""
    st, at, episode = slot.st, slot.episode.at, slot.episode
    for i in range(at[SEEN]):
        if episode.mask[i]:
            row = episode.visible[i]
            if may_backfill(st, row, now_s, episode.value[SHADOW_S], at[MODE]) == NOT_NOW:
                episode.mask[i] = False
                at[OPEN] -= 1


@compiled
def any_visible_fits(slot: Slot) -> bool:
    """Whether a job that may be named fits now."""
    for i in range(slot.episode.at[SEEN]):
        if slot.episode.mask[i] and fits_now(slot.st, slot.episode.visible[i]):
            return True
    return False


@compiled
def find_decision(slot: Slot, now_s: float) -> bool:
    """Whether there is something to decide now; otherwise what follows without asking is done, or the instant ends."""
    st, at, episode = slot.st, slot.episode.at, slot.episode
    if at[PHASE] == BEHIND:
        narrow(slot, now_s)
    elif at[OPEN] == 0 and st.counters[QUEUE_HI] > st.counters[QUEUE_LO]:
        choose_visible(slot, now_s)
    if at[OPEN] == 0 or (at[PHASE] == HEADS and not any_visible_fits(slot)):
        at[PHASE] = BETWEEN
        return False
    waiting = may_wait(slot)
    only = 0
    while not episode.mask[only]:
        only += 1
    # An episode has at least one step, even if its last start leaves no choice.
    is_last = at[TO_START] == 1 and at[STEPS] == 0 and episode.visible[only] >= at[FIRST]
    if at[OPEN] == 1 and not waiting and not is_last:
        name_visible(slot, only, now_s)
        return False
    if at[WRITTEN] == 0:
        write_observation(slot, now_s)
    episode.mask[len(episode.mask) - 1] = waiting
    return True


@compiled
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


@compiled
def enter_instant(slot: Slot) -> None:
    """Take in the next instant; while the queue is warmed up, make its pass by the score."""
    st, at, loop = slot.st, slot.episode.at, slot.loop
    if time_of_next(slot.jobs, loop) == np.inf:
        at[PHASE] = STUCK
        return
    if at[WARM] == 1 and slot.jobs.submit_s[at[FIRST]] <= time_of_next(slot.jobs, loop):
        end_warm_up(slot)
    now_s = next_instant(st, slot.jobs, loop, slot.watched, at[MODE])
    if at[WARM] == 1:
        run_pass(st, now_s, at[MODE], at[STRATEGY], 0)
        note_starts(slot, now_s)
    elif st.counters[QUEUE_HI] > st.counters[QUEUE_LO]:
        choose_visible(slot, now_s)
        at[PHASE] = HEADS


@compiled
def go_on(slot: Slot) -> None:
    """Go to the next decision, or to the end of the episode."""
    at = slot.episode.at
    while at[TO_START] > 0:
        if at[PHASE] == BETWEEN:
            enter_instant(slot)
        elif find_decision(slot, slot.loop.now_s[0]):
            return
        if at[PHASE] == STUCK:
            return
    at[PHASE] = OVER
    slot.episode.mask[:] = False
    clear_observation(slot, 0)


@compiled
def step(table: IntArray, actions: IntArray, rewards: FloatArray) -> None:
    """Step environments.

    Args:
        table: (N, NUM_ENTRIES, 3) addresses and sizes of their arrays.
        actions: (N,) places of visible jobs, or K to wait, each allowed by the mask; or BEGIN, or LEAVE.
        rewards: (N,) what the steps bring; written unless the action is BEGIN or LEAVE.
    """
    for e in range(len(actions)):
        if actions[e] == LEAVE:
            continue
        slot = slot_at(table[e])
        at = slot.episode.at
        if actions[e] == BEGIN:
            go_on(slot)
            slot.episode.value[POTENTIAL] = potential_now(slot)
            continue
        at[STEPS] += 1
        if actions[e] == len(slot.episode.visible):
            at[PHASE] = BETWEEN
        else:
            name_visible(slot, actions[e], slot.loop.now_s[0])
        go_on(slot)
        rewards[e] = settle(slot)


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
