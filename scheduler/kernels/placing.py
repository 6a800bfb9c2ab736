"""Which nodes a gang takes."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.layout import (
    ANY_SLOTS,
    BEST_FIT,
    CHOSEN,
    CHOSEN_TASKS,
    DOMAIN_SUM,
    FIRST_FIT,
    LEAST_LOADED,
    LOAD,
    NEAR,
    SWITCH,
    TOPOLOGY,
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
        return fill_in_order(st, tasks, usable)
    if strategy == WORST_FIT:
        return fill_level(st, tasks, usable)
    if strategy == LEAST_LOADED:
        return fill_least_loaded(st, tasks, usable)
    tightest = tightest_node(tasks, usable)
    if tightest >= 0:
        st.node_i[CHOSEN, 0] = tightest
        st.node_i[CHOSEN_TASKS, 0] = tasks
        return 1
    if strategy == BEST_FIT:
        return fill_fullest(st, tasks, usable)
    if strategy == TOPOLOGY:
        return fill_nearest(st, tasks, usable)
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


@compiled
def fill_in_order(st: State, tasks: Int, usable: IntArray) -> Int:
    """Fill nodes one after the other, by number."""
    chosen = 0
    for n in range(len(usable)):
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
def next_level(usable: IntArray, level: Int, ascending: bool) -> Int:
    """The least number of usable slots above ``level``, or the largest below it; −1 when no node has any such.

    Nodes have few different numbers of slots: going through the levels is a scan for each of those that a gang needs,
    where sorting the nodes was a hundred times as long.
    """
    best = np.int64(-1)
    for n in range(len(usable)):
        here = usable[n]
        if ascending:
            if here > level and (best < 0 or here < best):
                best = here
        elif here < level:
            best = max(best, here)
    return best


@compiled
def fill_fullest(st: State, tasks: Int, usable: IntArray) -> Int:
    """Fill the nodes with the fewest usable slots first, ties to the lowest node."""
    chosen = 0
    level = next_level(usable, np.int64(0), True)
    while tasks > 0:
        for n in range(len(usable)):
            if usable[n] == level:
                here = min(tasks, level)
                st.node_i[CHOSEN, chosen] = n
                st.node_i[CHOSEN_TASKS, chosen] = here
                chosen += 1
                tasks -= here
                if tasks == 0:
                    return chosen
        level = next_level(usable, level, True)
    return chosen


@compiled
def next_load(st: State, usable: IntArray, load: Int) -> Int:
    """The least predicted load above ``load`` of a node with usable slots; −1 when there is none."""
    best = np.int64(-1)
    for n in range(len(usable)):
        here = st.node_i[LOAD, n]
        if usable[n] > 0 and here > load and (best < 0 or here < best):
            best = here
    return best


@compiled
def fill_least_loaded(st: State, tasks: Int, usable: IntArray) -> Int:
    """Fill the nodes with the least predicted load by other work first, ties to the lowest node."""
    chosen = 0
    load = next_load(st, usable, np.int64(-1))
    while tasks > 0 and load >= 0:
        for n in range(len(usable)):
            if usable[n] > 0 and st.node_i[LOAD, n] == load:
                here = min(tasks, usable[n])
                st.node_i[CHOSEN, chosen] = n
                st.node_i[CHOSEN_TASKS, chosen] = here
                chosen += 1
                tasks -= here
                if tasks == 0:
                    return chosen
        load = next_load(st, usable, load)
    return chosen


@compiled
def load_of_gang(st: State, tasks: Int, usable: IntArray) -> Int:
    """The highest predicted load among the nodes that ``fill_least_loaded`` takes, which is the last one's."""
    chosen = fill_least_loaded(st, tasks, usable)
    return st.node_i[LOAD, st.node_i[CHOSEN, chosen - 1]] if chosen > 0 else np.int64(0)


@compiled
def tightest_rest(tasks: Int, usable: IntArray, level: Int, first: Int) -> Int:
    """As ``tightest_node``, among nodes below ``level`` slots and, from node ``first`` on, those of just so many."""
    best = -1
    best_slots = level + 1
    for n in range(len(usable)):
        if tasks <= usable[n] < best_slots and (usable[n] < level or n >= first):
            best = n
            best_slots = usable[n]
            if best_slots == tasks:
                break
    return best


@compiled
def fill_packed(st: State, tasks: Int, usable: IntArray) -> Int:
    """Fewest nodes: the emptiest first, and the remainder on the tightest node that holds it."""
    chosen = 0
    best: Int = np.int64(-1)
    level: Int = np.int64(ANY_SLOTS + 1)
    while best < 0:
        level = next_level(usable, level, False)
        n = np.int64(0)
        while n < len(usable) and tasks > level:
            if usable[n] == level:
                st.node_i[CHOSEN, chosen] = n
                st.node_i[CHOSEN_TASKS, chosen] = level
                tasks -= level
                chosen += 1
            n += 1
        if tasks <= level:
            best = tightest_rest(tasks, usable, level, n)
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


# --- near to one another ---------------------------------------------------------------------------------------------


@compiled
def sum_domains(st: State, row: Int, usable: IntArray) -> Int:
    """Sum ``usable`` over the domains (switches, racks or zones) of node row ``row``; returns their number."""
    count = np.int64(0)
    for n in range(len(usable)):
        st.node_i[DOMAIN_SUM, n] = 0
        count = max(count, st.node_i[row, n] + 1)
    for n in range(len(usable)):
        st.node_i[DOMAIN_SUM, st.node_i[row, n]] += usable[n]
    return count


@compiled
def nearest_tier(st: State, tasks: Int, usable: IntArray) -> Int:
    """The nearest that a gang can be now: 0 one node, 1 one switch, 2 one rack, 3 one zone, 4 farther apart."""
    if tightest_node(tasks, usable) >= 0:
        return 0
    for tier in range(1, 4):
        count = sum_domains(st, SWITCH + tier - 1, usable)
        for domain in range(count):
            if st.node_i[DOMAIN_SUM, domain] >= tasks:
                return tier
    return 4


@compiled
def fill_nearest(st: State, tasks: Int, usable: IntArray) -> Int:
    """Within the nearest tier that holds the gang, and there in the tightest domain: as ``fill_packed``.

    A node is taken before a switch, a switch before a rack, a rack before a zone. Jeon et al., USENIX ATC 2019.
    """
    for tier in range(1, 4):
        best = -1
        count = sum_domains(st, SWITCH + tier - 1, usable)
        for domain in range(count):
            here = st.node_i[DOMAIN_SUM, domain]
            if here >= tasks and (best < 0 or here < st.node_i[DOMAIN_SUM, best]):
                best = domain
        if best >= 0:
            for n in range(len(usable)):
                inside = st.node_i[SWITCH + tier - 1, n] == best
                st.node_i[NEAR, n] = usable[n] if inside else 0
            return fill_packed(st, tasks, st.node_i[NEAR])
    return fill_packed(st, tasks, usable)
