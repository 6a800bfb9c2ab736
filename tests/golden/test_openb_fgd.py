"""The ``fgd-openb`` protocol against the recorded runs of the authors' simulator."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from shunter.sim.compat import check, check_fgd

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
GOLDEN = SHARED / "golden" / "openb-fgd"
LISTS = SHARED / "traces" / "alibaba-openb-2023"

BAND_OF_FEW_SEEDS = 1.7
"""Percentage points: the ten recorded runs of ``random`` have a standard deviation of 0.33, so the difference of two
means of two runs has 0.33 too, and five of those mean that something is wrong."""

pytestmark = pytest.mark.skipif(
    not (GOLDEN.is_dir() and LISTS.is_dir()), reason="the golden results and the openb lists lie outside the repository"
)


def test_events_of_the_recorded_run():
    """Allocated and fragmented GPUs after each of 10,866 pods; then the same pods, nodes and GPUs chosen anew."""
    result = check.summarise("openb-fgd", "events", islice(check_fgd.events(GOLDEN, LISTS), 2))
    assert result.unequal == ()
    assert (result.compared, result.equal) == (2, 2)
    assert result.largest_difference <= check_fgd.HALF_CENT_MILLI


def test_loss_in_the_end_after_the_first_events():
    """The simulator's other measure of fragmentation, as printed to two decimals."""
    assert check_fgd.loss_difference(GOLDEN, LISTS, events=150) <= check_fgd.HALF_CENT_MILLI


def test_two_seeds_of_every_policy_on_the_default_list():
    cells = {c.policy: c for c in check_fgd.cells(GOLDEN, LISTS, workloads=("openb_pod_list_default",), seeds=2)}
    assert set(cells) == set(check_fgd.POLICY_OF.values())
    random = cells.pop("random")
    assert random.difference_at_full < BAND_OF_FEW_SEEDS
    assert random.equal == 0  # other random numbers: it would be strange if they were the same
    assert {policy: (cell.equal, cell.seeds) for policy, cell in cells.items()} == dict.fromkeys(cells, (2, 2))
    advantage = cells["fgd"].allocated[0] - cells["best-fit"].allocated[0]
    assert advantage == pytest.approx(cells["fgd"].allocated[1] - cells["best-fit"].allocated[1], abs=0.02)
    assert advantage > 2


@pytest.mark.parametrize("workload", ["openb_pod_list_gpuspec33", "openb_pod_list_multigpu40"])
def test_one_seed_with_gpu_models_and_of_a_list_that_is_thinned_out(workload):
    """multigpu40 has no times and asks for more than 130 % of the cluster; gpuspec33 names GPU models."""
    [*cells] = check_fgd.cells(GOLDEN, LISTS, workloads=(workload,), seeds=1)
    assert [cell.policy for cell in cells if cell.policy != "random" and cell.equal != 1] == []


@pytest.mark.slow
def test_loss_in_the_end_after_every_event():
    assert check_fgd.loss_difference(GOLDEN, LISTS) <= check_fgd.HALF_CENT_MILLI


@pytest.mark.slow
def test_every_recorded_run():
    cells = list(check_fgd.cells(GOLDEN, LISTS))
    assert len(cells) == 60
    result = check.summarise("openb-fgd", "curves", check_fgd.outcomes(cells))
    assert result.unequal == ()
    assert max(cell.difference_at_full for cell in cells) < check_fgd.MEAN_PCT
    assert max(cell.mean_difference for cell in cells) < check_fgd.MEAN_PCT
