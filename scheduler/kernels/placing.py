"""Which nodes a gang takes."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import allocating, compiled
from shunter.scheduler.layout import (
    ANY_SLOTS,
    BEST_FIT,
    CHOSEN,
    CHOSEN_TASKS,
    FIRST_FIT,
    ORDER,
    WORST_FIT,
    State,
)
from shunter.scheduler.types import Int, IntArray


@compiled
def place(st: State, strategy: Int, tasks: Int, usable: IntArray) -> Int:
    """Choose nodes for a gang of ``tasks`` where node n can take ``usable[n]``; their sum must reach ``tasks``.

    Returns the number of nodes chosen; nodes and tasks stand in rows CHOSEN and CHOSEN_TASKS. Ties: lowest node.
    """
    num_nodes = len(usable)
    if num_nodes == 1:
        st.node_i[CHOSEN, 0] = 0
        st.node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == FIRST_FIT:
        return fill_in_order(st, tasks, usable, False)
    if strategy == WORST_FIT:
        return fill_level(st, tasks, usable)
    tightest = tightest_node(tasks, usable)
    if tightest >= 0:
        st.node_i[CHOSEN, 0] = tightest
        st.node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == BEST_FIT:
        order_nodes(st, usable, False)
        return fill_in_order(st, tasks, usable, True)
    return fill_packed(st, tasks, usable)


@compiled
def tightest_node(tasks: Int, usable: IntArray) -> Int:
    """The node with the fewest usable slots that still holds all ``tasks``; −1 when none does."""
    best = -1
    best_slots = ANY_SLOTS + 1
    for n in range(len(usable)):
        if tasks <= usable[n] < best_slots:
            best = n
            best_slots = usable[n]
            if best_slots == tasks:
                break
    return best


@allocating
def order_nodes(st: State, usable: IntArray, descending: bool) -> None:
    """Write the nodes by usable slots, ties by number, into row ORDER."""
    key = -usable if descending else usable
    order = np.argsort(key, kind="mergesort")
    for i in range(len(order)):
        st.node_i[ORDER, i] = order[i]


@compiled
def fill_in_order(st: State, tasks: Int, usable: IntArray, use_order: bool) -> Int:
    """Fill nodes one after the other, by number or in row ORDER."""
    chosen = 0
    for i in range(len(usable)):
        n = st.node_i[ORDER, i] if use_order else i
        if usable[n] > 0:
            here = min(tasks, usable[n])
            st.node_i[CHOSEN, chosen] = n
            st.node_i[CHOSEN_TASKS, chosen] = here
            chosen += 1
            tasks -= here
            if tasks == 0:
                break
    return chosen


@compiled
def fill_packed(st: State, tasks: Int, usable: IntArray) -> Int:
    """Fewest nodes: the emptiest first, and the remainder on the tightest node that holds it."""
    order_nodes(st, usable, True)
    chosen = 0
    i = 0
    while tasks > usable[st.node_i[ORDER, i]]:
        n = st.node_i[ORDER, i]
        st.node_i[CHOSEN, chosen] = n
        st.node_i[CHOSEN_TASKS, chosen] = usable[n]
        tasks -= usable[n]
        chosen += 1
        i += 1
    best = st.node_i[ORDER, i]
    while i < len(usable) and usable[st.node_i[ORDER, i]] >= tasks:
        n = st.node_i[ORDER, i]
        if usable[n] < usable[best]:
            best = n
        i += 1
    st.node_i[CHOSEN, chosen] = best
    st.node_i[CHOSEN_TASKS, chosen] = tasks
    return chosen + 1


@compiled
def fill_level(st: State, tasks: Int, usable: IntArray) -> Int:
    """Each task to the node with the most usable slots left, ties to the lowest node.

    Equal to lowering a water level: all nodes above it give down to it, what is left goes to nodes that stand on it.
    """
    low = np.int64(0)
    high = np.int64(0)
    for n in range(len(usable)):
        high = max(high, usable[n])
    while low < high:  # the lowest level at which no more than ``tasks`` have been taken
        level = (low + high) // 2
        taken = np.int64(0)
        for n in range(len(usable)):
            if usable[n] > level:
                taken += min(usable[n] - level, tasks + 1)
            if taken > tasks:
                break
        if taken <= tasks:
            high = level
        else:
            low = level + 1
    rest = tasks
    for n in range(len(usable)):
        rest -= max(usable[n] - low, 0)
    chosen = 0
    for n in range(len(usable)):
        here = max(usable[n] - low, 0)
        if rest > 0 and usable[n] >= low > 0:
            here += 1
            rest -= 1
        if here > 0:
            st.node_i[CHOSEN, chosen] = n
            st.node_i[CHOSEN_TASKS, chosen] = here
            chosen += 1
    return chosen
