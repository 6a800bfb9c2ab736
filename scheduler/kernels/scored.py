"""Placements that score every node for each task of a gang, and take the best: the scores of ``scoring`` on a state.

The points of a shape are kept, and worked out anew only for nodes that have changed since.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.kernels.fragmentation import Typical
from shunter.scheduler.kernels.scoring import Nodes, Scoring, Tasks, choose_gpus, kind_of, node_score, refresh
from shunter.scheduler.layout import (
    CHANGED_AT,
    CHOSEN_GPUS,
    CPU_ROW,
    DRAWN,
    FGD,
    GPU_SCRATCH,
    GPUS,
    LEVEL_SHARE,
    LEVEL_TOO_FULL,
    LEVEL_USABLE,
    MAX_CPU,
    MAX_GPU,
    MEASURED_AT,
    MEMORY_ROW,
    NO_NEED,
    NODE_CLASS,
    NOTHING,
    NUM_GPUS,
    NUM_LEVELS,
    NUM_NODE_ROWS,
    NUM_OF_GPUS,
    NUM_SHAPE_ROWS,
    NUM_TYPICAL_ROWS,
    PARTS,
    PER_GPU,
    RANDOM,
    SCORED_AT,
    SEED,
    TICK,
    TYPICAL_CPU,
    TYPICAL_GPUS,
    TYPICAL_LEVEL,
    TYPICAL_WEIGHT,
    State,
)
from shunter.scheduler.types import Int, IntArray


@compiled
def nodes_of(st: State) -> Nodes:
    """What is free on the nodes, as the scores read it."""
    gpus = st.counters[GPUS]
    cpu, memory = st.counters[CPU_ROW], st.counters[MEMORY_ROW]
    kinds = NUM_NODE_ROWS + 2 * gpus + st.counters[PARTS]
    return Nodes(
        st.node_free[cpu] if cpu >= 0 else st.node_i[NOTHING],
        st.node_free[memory] if memory >= 0 else st.node_i[NOTHING],
        st.node_i[NUM_NODE_ROWS : NUM_NODE_ROWS + gpus].T,
        st.node_i[NUM_GPUS],
        st.node_i[NODE_CLASS],
        st.node_i[kinds:].T,
        st.points[0],
    )


@compiled
def tasks_of(st: State) -> Tasks:
    """What tasks of each shape ask for, as the scores read it."""
    cpu, memory = st.counters[CPU_ROW], st.counters[MEMORY_ROW]
    return Tasks(
        st.need[cpu] if cpu >= 0 else st.shapes[NO_NEED],
        st.need[memory] if memory >= 0 else st.shapes[NO_NEED],
        st.shapes[PER_GPU],
        st.shapes[NUM_OF_GPUS],
        st.shapes[NUM_SHAPE_ROWS:].T,
    )


@compiled
def scoring_of(st: State) -> Scoring:
    """What the scores are measured against."""
    levels = st.counters[NUM_LEVELS]
    typical = Typical(
        st.typical[TYPICAL_CPU],
        st.typical[TYPICAL_GPUS],
        st.typical[TYPICAL_WEIGHT].view(np.float64),
        st.typical[NUM_TYPICAL_ROWS:].T,
        st.typical[TYPICAL_LEVEL],
        st.typical[LEVEL_SHARE, :levels],
        st.typical[LEVEL_USABLE, :levels],
        st.typical[LEVEL_TOO_FULL, :levels],
    )
    return Scoring(
        float(st.counters[MAX_CPU]),
        float(st.counters[MAX_GPU]),
        False,
        st.counters[SEED],
        typical,
        st.typical[GPU_SCRATCH],
    )


@compiled
def note_change(st: State, node: Int) -> None:
    """The points of a node are no longer right."""
    st.counters[TICK] += 1
    st.node_i[CHANGED_AT, node] = st.counters[TICK]


@compiled
def note_kind(st: State, shape: Int, node: Int, tasks: Int) -> None:
    """Count the tasks that run on a node by their kind."""
    if st.shapes[NUM_OF_GPUS, shape] > 0:
        kind = kind_of(tasks_of(st), shape)
        st.node_i[NUM_NODE_ROWS + 2 * st.counters[GPUS] + st.counters[PARTS] + kind, node] += tasks


@compiled
def best_scored(st: State, shape: Int, placement: Int, usable: IntArray) -> Int:
    """The node with the most points among those with usable slots, the lowest row among equals."""
    nodes, tasks, using = nodes_of(st), tasks_of(st), scoring_of(st)
    points = st.points[1 + shape]
    scored_at = st.shapes[SCORED_AT, shape]
    best = -1
    for n in range(len(usable)):
        if placement == RANDOM:
            if usable[n] > 0:
                points[n] = node_score(nodes, tasks, n, shape, placement, using, st.counters[DRAWN])
        elif st.node_i[CHANGED_AT, n] > scored_at:
            if placement == FGD and st.node_i[MEASURED_AT, n] < st.node_i[CHANGED_AT, n]:
                refresh(nodes, n, using)
                st.node_i[MEASURED_AT, n] = st.node_i[CHANGED_AT, n]
            points[n] = node_score(nodes, tasks, n, shape, placement, using, 0)
        if usable[n] > 0 and (best < 0 or points[n] > points[best]):
            best = n
    st.shapes[SCORED_AT, shape] = st.counters[TICK]
    return best


@compiled
def scored_gpus(st: State, shape: Int, node: Int, placement: Int) -> Int:
    """Bits of the GPUs that one task takes of a node."""
    chosen = st.typical[CHOSEN_GPUS]
    using = scoring_of(st)
    count = choose_gpus(nodes_of(st), tasks_of(st), node, shape, placement, using, st.counters[DRAWN], chosen)
    mask = np.int64(0)
    for i in range(count):
        mask |= np.int64(1) << chosen[i]
    return mask
