"""Compiled placements choose what their plain twins choose, whatever is free on the nodes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler import reference
from shunter.scheduler.kernels.placing import place
from shunter.scheduler.state import PLACEMENTS
from shunter.traces.tables import ClusterSpec, NodeGroup
from tests.scheduler.cases import settings, table, waiting_state

TWINS = ("first-fit", "best-fit", "worst-fit", "packed", "least-loaded")
MOST_NODES = 12
STATES: dict[int, Any] = {}


def state_of(nodes: int) -> Any:
    """A state of as many nodes, whose scratch rows the placements write to."""
    if nodes not in STATES:
        cluster = ClusterSpec("c", (NodeGroup("n", nodes, cpus=9.0),))
        STATES[nodes] = waiting_state(table("job submit runs tasks\na 0 10 1", cluster), settings())
    return STATES[nodes]


@pytest.mark.parametrize("name", TWINS)
@given(
    usable=st.lists(st.one_of(st.integers(0, 4), st.just(8), st.integers(0, 9)), min_size=1, max_size=MOST_NODES),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_placement_equals_its_twin(name: str, usable: list[int], share: float, seed: int) -> None:
    room = np.asarray(usable, dtype=np.int64)
    tasks = max(1, round(share * int(room.sum())))
    assume(tasks <= room.sum())
    state = state_of(len(usable))
    load = np.random.default_rng(seed).choice([0.0, 0.25, 0.5, 1.0], len(usable))
    state.set_loads(load)
    twin = reference.PLACE[name]
    if name == "least-loaded":
        twin = partial(reference.least_loaded, load=load)
    count = place(state.packed, PLACEMENTS[name], tasks, room)
    chosen = list(zip(*state.node_i[[at.CHOSEN, at.CHOSEN_TASKS], :count].tolist(), strict=True))
    assert sorted(chosen) == sorted(twin(tasks, room))
