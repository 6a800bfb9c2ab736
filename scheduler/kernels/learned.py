"""A queue put in the order of a small network's scores: features, scores, guard and sorting in one call."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.blocks import Memo, begin_instant, new_memo, write_block
from shunter.scheduler.kernels.features import Facts, Histories, Scratch, note_context, scene_of
from shunter.scheduler.kernels.guarding import Rules, arrange, verdict
from shunter.scheduler.kernels.network import BLOCK, Network, score_block
from shunter.scheduler.kernels.sorting import Sorting, sort_rows
from shunter.scheduler.layout import FREE_SLOTS, QUEUE, QUEUE_HI, QUEUE_LO, SHAPE, TASKS, State
from shunter.scheduler.types import FloatArray, Int, IntArray, SingleArray


class Room(NamedTuple):
    """Room for a block of jobs on its way through a network.

    Attributes:
        x: (F, BLOCK) features of a block.
        single: (F, BLOCK) the same in single precision.
        first: (H1, BLOCK) first hidden layer.
        second: (H2, BLOCK) second hidden layer.
        score: (BLOCK,) scores.
        memo: What jobs share.
    """

    x: FloatArray
    single: SingleArray
    first: SingleArray
    second: SingleArray
    score: FloatArray
    memo: Memo


def room_for(network: Network, num_users: int = 0) -> Room:
    """Room for blocks of jobs of so many users under this network."""

    def layer(units: int) -> SingleArray:
        return np.zeros((units, BLOCK), np.float32)

    size = len(network.skip)
    return Room(
        x=np.zeros((size, BLOCK)),
        single=layer(size),
        first=layer(len(network.b1)),
        second=layer(len(network.b2)),
        score=np.zeros(BLOCK),
        memo=new_memo(num_users),
    )


class Learned(NamedTuple):
    """What an order by a network needs.

    Attributes:
        facts: Of the jobs.
        histories: Of their users.
        scratch: For what is worked out once an instant.
        network: That scores.
        room: For its layers.
        rules: Under which its order is followed.
        key: (J,) scores.
        bits: (J,) the memory of ``key`` as whole numbers.
        sorting: To sort in.
    """

    facts: Facts
    histories: Histories
    scratch: Scratch
    network: Network
    room: Room
    rules: Rules
    key: FloatArray
    bits: IntArray
    sorting: Sorting


@compiled
def anything_fits(st: State) -> bool:
    """Whether any waiting job fits now; if none does, their order makes no difference."""
    for position in range(st.counters[QUEUE_LO], st.counters[QUEUE_HI]):
        row = st.jobs_i[QUEUE, position]
        if st.jobs_i[TASKS, row] <= st.shapes[FREE_SLOTS, st.jobs_i[SHAPE, row]]:
            return True
    return False


@compiled
def count_outside(x: FloatArray, low: FloatArray, high: FloatArray, count: Int) -> tuple[Int, Int]:
    """Of the first ``count`` jobs of a block: values outside the range, and values that are no finite numbers."""
    outside, unknown = np.int64(0), np.int64(0)
    for f in range(len(low)):
        least, most = low[f], high[f]
        inside = np.int64(0)
        for i in range(count):
            inside += np.int64((x[f, i] >= least) & (x[f, i] <= most))
        if inside < count:
            for i in range(count):
                outside += np.int64((x[f, i] < least) | (x[f, i] > most))
                unknown += np.int64(not np.isfinite(x[f, i]))
    return outside, unknown


@compiled
def score_matrix(network: Network, room: Room, features: FloatArray, out: FloatArray) -> None:
    """Write the scores of rows of features (Q, F) into ``out`` (Q,), as ``score_row`` would."""
    for start in range(0, len(features), BLOCK):
        count = min(BLOCK, len(features) - start)
        for i in range(count):
            for f in range(len(network.skip)):
                room.x[f, i] = features[start + i, f]
        score_block(network, room.x, room.single, room.first, room.second, room.score, count)
        for i in range(count):
            out[start + i] = room.score[i]


@compiled
def queue_by_row(st: State, sorting: Sorting) -> None:
    """Put the queue in the order of submission, in which ties of scores end."""
    sort_rows(st.jobs_i[QUEUE, st.counters[QUEUE_LO] : st.counters[QUEUE_HI]], sorting)


@compiled
def score_queue(st: State, learned: Learned, now_s: float) -> tuple[Int, Int]:
    """Write the scores of the waiting jobs, in the order of the queue, into ``key``; returns as ``count_outside``."""
    facts, histories, scratch, room = learned.facts, learned.histories, learned.scratch, learned.room
    scene = scene_of(st)
    note_context(facts, scratch, scene, now_s)
    begin_instant(facts, scratch, room.memo, room.x)
    outside, unknown = np.int64(0), np.int64(0)
    checks = learned.rules.most_outside[0] < np.inf
    for start in range(0, len(scene.queue), BLOCK):
        count = min(BLOCK, len(scene.queue) - start)
        write_block(st, facts, histories, scratch, room.memo, scene, now_s, start, count, room.x)
        if checks:
            more, strange = count_outside(room.x, learned.rules.low, learned.rules.high, count)
            outside += more
            unknown += strange
        score_block(learned.network, room.x, room.single, room.first, room.second, room.score, count)
        for i in range(count):
            learned.key[start + i] = room.score[i]
    return outside, unknown


@compiled
def arrange_queue(st: State, learned: Learned, now_s: float, outside: Int, unknown: Int) -> None:
    """Put the queue, which is in the order of submission, in the order of the scores in ``key``, within the rules."""
    first, last = st.counters[QUEUE_LO], st.counters[QUEUE_HI]
    count = last - first
    reason = verdict(learned.rules, learned.key[:count], outside, count * len(learned.rules.low), unknown)
    arrange(
        learned.rules,
        reason,
        learned.facts.submit_s,
        now_s,
        st.jobs_i[QUEUE, first:last],
        learned.key[:count],
        learned.sorting,
        learned.bits,
    )


@compiled
def order_queue(st: State, learned: Learned, now_s: float) -> None:
    """Put the waiting jobs in the network's order, within the rules."""
    queue_by_row(st, learned.sorting)
    outside, unknown = score_queue(st, learned, now_s)
    arrange_queue(st, learned, now_s, outside, unknown)
