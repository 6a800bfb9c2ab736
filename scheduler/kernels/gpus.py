"""Single GPUs of a node: what fits on each, which ones a task takes, and where on a GPU a MIG instance lies.

Two rows of ``node_i`` are looked at together, ``row`` and ``also``: what is free now, and what may be taken without
touching EASY's reservation. They are one and the same where there is no reservation to mind. With PARTS, the row that
many further down holds what is free of the GPU's memory, or on GPUs that are cut the bits of the free memory slices.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.layout import (
    AS_INSTANCE,
    FIRST_FIT,
    GPU_MEMORY,
    NODE_CLASS,
    NUM_GPUS,
    NUM_SHAPE_ROWS,
    PARTS,
    SHARE,
    WHOLE,
    WORST_FIT,
    State,
)
from shunter.scheduler.mig import BITS, KINDS, choice_table, open_table
from shunter.scheduler.types import Int

NUM_OPEN = open_table()
"""(K, 2^BITS) instances of each kind that fit into free slices."""

CHOICE = choice_table()
"""(K, 2^BITS) ``BITS`` times the places that the best start closes, plus that start."""

SIZE = np.asarray([kind.size for kind in KINDS])
"""(K,) memory slices."""


@compiled
def kind_on(st: State, shape: Int, node: Int) -> Int:
    """The kind of MIG instance that a task of a shape takes on a node; negative when it takes none."""
    return st.shapes[NUM_SHAPE_ROWS + st.node_i[NODE_CLASS, node], shape] - AS_INSTANCE


@compiled
def room_of_gpu(st: State, row: Int, also: Int, shape: Int, node: Int, gpu: Int) -> Int:
    """Tasks of a shape that shares a GPU, that fit on one GPU."""
    room = min(st.node_i[row + gpu, node], st.node_i[also + gpu, node]) // st.shapes[SHARE, shape]
    parts = st.counters[PARTS]
    if parts == 0:
        return room
    kind = kind_on(st, shape, node)
    here, there = st.node_i[row + parts + gpu, node], st.node_i[also + parts + gpu, node]
    if kind >= 0:
        return NUM_OPEN[kind, here & there]
    memory = st.shapes[GPU_MEMORY, shape]
    if memory > 0:
        room = min(room, min(here, there) // memory)
    return room


@compiled
def room_of_gpus(st: State, row: Int, also: Int, shape: Int, node: Int) -> Int:
    """Tasks of a shape that uses GPUs, that fit on the GPUs of a node."""
    total = np.int64(0)
    if st.shapes[SHARE, shape] > 0:
        for g in range(st.node_i[NUM_GPUS, node]):
            total += room_of_gpu(st, row, also, shape, node, g)
        return total
    for g in range(st.node_i[NUM_GPUS, node]):
        if st.node_i[row + g, node] == 1000 and st.node_i[also + g, node] == 1000:
            total += 1
    return total // st.shapes[WHOLE, shape]


@compiled
def change_part(st: State, part_row: Int, node: Int, shape: Int, tasks: Int, first: Int) -> None:
    """Take or give back what tasks hold of a GPU's memory, or the slices of an instance that begins at ``first``."""
    if first < 0:
        st.node_i[part_row, node] -= tasks * st.shapes[GPU_MEMORY, shape]
        return
    bits = ((np.int64(1) << SIZE[kind_on(st, shape, node)]) - 1) << first
    if tasks > 0:
        st.node_i[part_row, node] &= ~bits
    else:
        st.node_i[part_row, node] |= bits


@compiled
def pick_gpus(st: State, row: Int, also: Int, node: Int, shape: Int, tasks: Int) -> Int:
    """Bits of the GPUs for ``tasks`` that take whole ones: the lowest that nobody uses."""
    wanted = tasks * st.shapes[WHOLE, shape]
    mask = np.int64(0)
    for g in range(st.node_i[NUM_GPUS, node]):
        if wanted == 0:
            break
        if st.node_i[row + g, node] == 1000 and st.node_i[also + g, node] == 1000:
            mask |= np.int64(1) << g
            wanted -= 1
    return mask


@compiled
def pick_shared(st: State, row: Int, also: Int, node: Int, shape: Int, strategy: Int) -> tuple[Int, Int]:
    """The GPU for one task that shares, and the first slice for an instance, else −1; ties to the lowest.

    A share goes to the fullest GPU on which it fits, an instance to that where it closes the fewest places for others
    (first-fit: to the first); under worst-fit both go to the emptiest.
    """
    kind: Int = np.int64(-1)
    if st.counters[PARTS] > 0:
        kind = kind_on(st, shape, node)
    best = -1
    most = np.int64(0)
    first: Int = np.int64(-1)
    for g in range(st.node_i[NUM_GPUS, node]):
        if room_of_gpu(st, row, also, shape, node, g) <= 0:
            continue
        points = st.node_i[row + g, node]
        choice: Int = np.int64(0)
        if kind >= 0:
            parts = st.counters[PARTS]
            choice = CHOICE[kind, st.node_i[row + parts + g, node] & st.node_i[also + parts + g, node]]
        if strategy != WORST_FIT:
            points = -points if kind < 0 else np.int64(0) if strategy == FIRST_FIT else -(choice // BITS)
        if best < 0 or points > most:
            best = g
            most = points
            first = choice % BITS if kind >= 0 else np.int64(-1)
    return best, first


@compiled
def has_room(st: State, row: Int, also: Int, shape: Int, node: Int, mask: Int) -> bool:
    """Whether one task may take the GPUs of ``mask``."""
    for g in range(st.node_i[NUM_GPUS, node]):
        if (mask >> g) & 1 == 0:
            continue
        if st.shapes[SHARE, shape] > 0:
            if room_of_gpu(st, row, also, shape, node, g) <= 0:
                return False
        elif min(st.node_i[row + g, node], st.node_i[also + g, node]) < 1000:
            return False
    return True
