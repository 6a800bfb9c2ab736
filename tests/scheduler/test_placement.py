"""Which nodes a gang gets, worked out by hand."""

from __future__ import annotations

import pytest

from shunter.scheduler.decide import plan
from shunter.traces.tables import ClusterSpec, NodeGroup
from tests.scheduler.cases import settings, table, waiting_state

UNEVEN = ClusterSpec(
    name="uneven",
    groups=tuple(NodeGroup(name=f"n{i}", count=1, cpus=float(cpus)) for i, cpus in enumerate((2, 8, 4, 3))),
)
"""Room for 2, 8, 4 and 3 tasks of one CPU."""


def placed(text: str, cluster: ClusterSpec, placement: str) -> list[tuple[tuple[int, int], ...]]:
    chosen = settings(placement=placement)
    state = waiting_state(table(text, cluster), chosen)
    return [start.placement for start in plan(state.snapshot(0.0), chosen).starts]


@pytest.mark.parametrize(
    ("tasks", "placement", "expected"),
    [
        (4, "first-fit", ((0, 2), (1, 2))),
        (4, "best-fit", ((2, 4),)),  # the tightest node that holds all four
        (4, "worst-fit", ((1, 4),)),  # node 1 still has 5 free before the fourth task, more than any other
        (4, "packed", ((2, 4),)),
        (10, "first-fit", ((0, 2), (1, 8))),
        (10, "best-fit", ((0, 2), (1, 1), (2, 4), (3, 3))),  # no node holds ten: tightest first, 2 + 3 + 4 + 1
        # Down to a level of 2 the nodes give 0, 6, 2 and 1; the tenth task goes to the first node on that level.
        (10, "worst-fit", ((0, 1), (1, 6), (2, 2), (3, 1))),
        (10, "packed", ((0, 2), (1, 8))),  # node 1 whole; the other two fit tightest on node 0
        (11, "packed", ((1, 8), (3, 3))),
        (17, "worst-fit", ((0, 2), (1, 8), (2, 4), (3, 3))),
    ],
)
def test_gang_on_uneven_nodes(tasks: int, placement: str, expected: tuple[tuple[int, int], ...]) -> None:
    text = f"""
        job submit runs tasks
        a   0      10   {tasks}
    """
    assert placed(text, UNEVEN, placement) == [expected]


def test_the_scarcest_resource_counts() -> None:
    """Nodes of 8 CPUs, 16 GiB and 4 GPUs; a task of 1 CPU, 6 GiB and 1 GPU fits twice for its memory."""
    cluster = ClusterSpec("gpu", (NodeGroup("g", 3, cpus=8.0, memory_gib=16.0, gpus=4.0),))
    text = """
        job submit runs tasks cpus memory_gib gpus
        a   0      10   5     1    6          1
    """
    assert placed(text, cluster, "first-fit") == [((0, 2), (1, 2), (2, 1))]


def test_fractions_of_a_gpu_share_it_exactly() -> None:
    """Ten tenths of a GPU are one GPU; an eleventh does not fit, however often 0.1 was added."""
    cluster = ClusterSpec("one", (NodeGroup("g", 1, cpus=64.0, gpus=1.0),))
    rows = "\n".join(f"j{i} 0 10 1 1 0.1" for i in range(11))
    assert len(placed("job submit runs tasks cpus gpus\n" + rows, cluster, "best-fit")) == 10


def test_a_resource_that_the_log_does_not_state_never_runs_out() -> None:
    cluster = ClusterSpec("cpus only", (NodeGroup("n", 1, cpus=2.0),))
    text = """
        job submit runs tasks cpus memory_gib
        a   0      10   2     1    100000
    """
    assert placed(text, cluster, "first-fit") == [((0, 2),)]


def test_jobs_that_need_nothing_always_fit() -> None:
    text = """
        job submit runs tasks cpus
        a   0      10   17    1
        b   0      10   1000  0
    """
    assert [sum(tasks for _, tasks in one) for one in placed(text, UNEVEN, "first-fit")] == [17, 1000]
