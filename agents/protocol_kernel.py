"""The compiled step of the environment under the RLScheduler protocol; its event rules are ``sim.compat.rls_kernel``.

A choice binds: the job that is named starts as soon as it fits, and until then time goes on, others arrive, end and,
with the protocol's backfilling, overtake it. Jobs submitted together are looked at in the order of their rows.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from shunter.agents import env_layout, env_seen
from shunter.agents.env_layout import (
    BEGIN,
    HEADS,
    LEAVE,
    MODE,
    OVER,
    PHASE,
    STEPS,
    Episode,
    episode_at,
    facts_at,
    float_table,
    floats,
    ints,
    single_table,
    singles,
)
from shunter.agents.env_seen import choose_from, clear_observation, reward_start, settle, write_seen
from shunter.scheduler.jit import compiled_after, inlined
from shunter.scheduler.kernels.features import Facts, Histories, Scene, Scratch
from shunter.scheduler.kernels.network import Network
from shunter.scheduler.types import FloatArray, Int, IntArray
from shunter.sim.compat import rls_kernel, sorting
from shunter.sim.compat.rls_kernel import (
    FREE,
    HEAD,
    NEXT,
    NOW,
    QUEUED,
    STARTED,
    TAIL,
    Jobs,
    Learned,
    State,
    advance,
    begin,
    drop,
    join,
    wait_backfilling,
)

compiled = compiled_after(*(Path(str(module.__file__)) for module in (rls_kernel, sorting, env_layout, env_seen)))

FITS, WAITS = env_layout.FITS, env_layout.WAITS

# Where the groups of a table's entries begin
JOBS_AT = 0
STATE_AT = JOBS_AT + 7
FACTS_AT = STATE_AT + len(State._fields)
HISTORIES_AT = FACTS_AT + len(Facts._fields)
SCRATCH_AT = HISTORIES_AT + len(Histories._fields)
NETWORK_AT = SCRATCH_AT + len(Scratch._fields)
ROOM_AT = NETWORK_AT + len(Network._fields)
FEATURES_AT = ROOM_AT + 4
EPISODE_AT = FEATURES_AT + 1


class ProtocolSlot(NamedTuple):
    """Everything of one environment; the network in ``learned`` scores nothing.

    Attributes:
        jobs: Rows of the window.
        state: Where the protocol stands.
        learned: What features need.
        features: (K, F) of the visible jobs.
        episode: As under the engine's rules.
    """

    jobs: Jobs
    state: State
    learned: Learned
    features: FloatArray
    episode: Episode


@inlined
def learned_at(t: IntArray) -> Learned:
    """What features need, from a table of entries."""
    h, s, n, r = t[HISTORIES_AT:], t[SCRATCH_AT:], t[NETWORK_AT:], t[ROOM_AT:]
    return Learned(
        facts_at(t[FACTS_AT:]),
        Histories(float_table(h[0]), float_table(h[1])),
        Scratch(floats(s[0]), floats(s[1]), floats(s[2])),
        Network(
            floats(n[0]),
            single_table(n[1]),
            singles(n[2]),
            single_table(n[3]),
            singles(n[4]),
            singles(n[5]),
            singles(n[6]),
        ),
        floats(r[0]),
        floats(r[1]),
        ints(r[2]),
        floats(r[3]),
    )


@compiled
def protocol_slot_at(t: IntArray) -> ProtocolSlot:
    """An environment from a table (NUM_ENTRIES, 3): the jobs' six arrays, nodes and processors of one, and the rest."""
    s, machine = t[STATE_AT:], floats(t[6])
    jobs = Jobs(
        ints(t[0]), ints(t[1]), ints(t[2]), ints(t[3]), ints(t[4]), ints(t[5]),
        rls_kernel.LEARNED, int(machine[0]), machine[1],
    )  # fmt: skip
    state = State(ints(s[0]), ints(s[1]), ints(s[2]), ints(s[3]), ints(s[4]), ints(s[5]), ints(s[6]))
    return ProtocolSlot(jobs, state, learned_at(t), float_table(t[FEATURES_AT]), episode_at(t[EPISODE_AT:]))


@inlined
def carry_out(slot: ProtocolSlot, row: Int) -> None:
    """Start a job as soon as it fits, and go on until another waits or none is left."""
    jobs, state, learned = slot.jobs, slot.state, slot.learned
    at = state.at
    first = at[STARTED]
    if jobs.nodes[row] > at[FREE] and slot.episode.at[MODE] != 0:
        wait_backfilling(jobs, state, row, learned)
    while jobs.nodes[row] > at[FREE]:
        advance(jobs, state, False, learned)
    drop(state, row)
    begin(jobs, state, row, learned)
    while at[QUEUED] == 0 and at[NEXT] < len(jobs.submit):
        advance(jobs, state, False, learned)
    for i in range(first, at[STARTED]):
        started = state.order[i]
        reward_start(
            slot.episode,
            started,
            float(jobs.submit[started]),
            float(jobs.run[started]),
            float(state.start[started]),
        )


@compiled
def show(slot: ProtocolSlot) -> None:
    """Choose which of the waiting jobs are seen, and write their features."""
    jobs, state, learned, episode = slot.jobs, slot.state, slot.learned, slot.episode
    at, num_running = state.at, state.at[TAIL] - state.at[HEAD]
    scene = Scene(state.queue[: at[QUEUED]], learned.running[:num_running], learned.limit_s[:num_running])
    now_s = float(at[NOW])
    for row in scene.queue:
        episode.mark[row] = FITS if jobs.nodes[row] <= at[FREE] else WAITS
    choose_from(scene.queue, learned.facts, episode, now_s)
    write_seen(learned.facts, learned.histories, learned.scratch, scene, slot.features, episode, now_s)


@compiled
def step(table: IntArray, actions: IntArray, rewards: FloatArray) -> None:
    """As ``env_kernel.step``, under the protocol."""
    for e in range(len(actions)):
        if actions[e] == LEAVE:
            continue
        slot = protocol_slot_at(table[e])
        episode, at = slot.episode, slot.state.at
        row = np.int64(-1)
        if actions[e] == BEGIN:
            at[NOW] = slot.jobs.submit[0]
            join(slot.jobs, slot.state, False, slot.learned)
        else:
            episode.at[STEPS] += 1
            row = episode.visible[actions[e]]
        while True:
            if row >= 0:
                carry_out(slot, row)
            if at[QUEUED] == 0:
                episode.at[PHASE] = OVER
                episode.mask[:] = False
                clear_observation(episode, 0)
                break
            # An episode has at least one step, even if its last start leaves no choice.
            is_last = episode.at[STEPS] == 0 and at[NEXT] == len(slot.jobs.submit)
            if at[QUEUED] > 1 or is_last:
                episode.at[PHASE] = HEADS
                show(slot)
                break
            row = slot.state.queue[0]
        queue = slot.state.queue[: at[QUEUED]]
        settle(queue, slot.learned.facts, episode, float(at[NOW]), e, actions[e] == BEGIN, rewards)
