"""MIG instances in the chart of single GPUs."""

from __future__ import annotations

import numpy as np

from shunter.sim.replay import simulate
from shunter.sim.report.gpu_timeline import bars_of, blocks_of
from shunter.sim.report.held import held_of
from shunter.sim.report.series import Window
from shunter.traces.cluster_spec import ClusterSpec, NodeGroup
from tests.scheduler.cases import table

TEXT = """
    job submit runs gpus gpu_profile
    a   0      10   1    3g.20gb
    b   0      10   1    1g.5gb
    c   0      10   1    2g.12gb
    d   0      10   0.5  -
"""


def test_bars_of_instances_lie_where_their_memory_does() -> None:
    """An A100 with eight slices is lane 0, an A30 with four lane 1, a GPU that is shared lane 2."""
    groups = (
        NodeGroup("a100", 1, gpus=1.0, mig="a100-40gb"),
        NodeGroup("a30", 1, gpus=1.0, mig="a30-24gb"),
        NodeGroup("whole", 1, gpus=1.0),
    )
    cluster = ClusterSpec("cut", groups)
    run = held_of(simulate(table(TEXT, cluster), details=True))
    assert run is not None
    held = run.whole()
    bars = bars_of(held, blocks_of(cluster)[0], Window("all", 0.0, 10.0))
    order = np.argsort(held.job[bars.row])
    found = np.stack([bars.lane, bars.width], axis=1)[order]
    np.testing.assert_allclose(found, [(0.5, 0.5), (0.0, 0.125), (1.0, 0.5), (2.0, 0.5)])
