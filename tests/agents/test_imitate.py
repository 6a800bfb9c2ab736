"""Imitation: networks take over a teacher's order, from scores or from recorded choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs shunter[train]")

from shunter.agents.imitate import Decisions, imitate, same_choice, sharpen  # noqa: E402
from shunter.agents.networks import KINDS, KernelNetwork  # noqa: E402
from shunter.scheduler.errors import TraceError, UsageError  # noqa: E402
from shunter.scheduler.kernels.features import NUM_FEATURES  # noqa: E402

torch.set_num_threads(1)

PLACES = 12


def decisions(count: int, seed: int = 0, *, known: bool = True) -> Decisions:
    """A teacher that takes the job with the smallest product of two features among those with a positive third."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0.0, 1.0, (count, PLACES, NUM_FEATURES + 1))
    rows[:, :, 2] -= 0.5
    rows[:, :, -1] = np.arange(PLACES) < rng.integers(1, PLACES + 1, (count, 1))
    scores = rows[:, :, 0] * rows[:, :, 1]
    allowed = rows[:, :, 2] > 0
    chosen = np.where(allowed & (rows[:, :, -1] > 0), scores, np.inf).argmin(1)
    return Decisions.of_queues(rows, allowed, scores if known else np.full_like(scores, np.nan), chosen)


def test_decisions_are_packed_without_what_could_not_be_decided() -> None:
    rows = np.zeros((3, 4, NUM_FEATURES + 1))
    rows[0, [0, 2], -1] = 1.0  # jobs on places 0 and 2
    rows[1, 0, -1] = 1.0  # one job, not allowed
    rows[2, :3, -1] = 1.0
    rows[0, 2, 0], rows[2, 1, 0] = 7.0, 8.0
    allowed = np.ones((3, 4), dtype=np.bool_)
    allowed[1] = False
    scores = np.array([[5.0, -9.0, 1.0, 0.0], [0.0] * 4, [3.0, 2.0, 2.0, 1.0]])
    packed = Decisions.of_queues(rows, allowed, scores)
    assert packed.first.tolist() == [0, 2, 5]
    assert packed.chosen.tolist() == [1, 1]  # place 2 is the second job; of two equal scores the first
    assert packed.rows[:, 0].tolist() == [0.0, 7.0, 0.0, 8.0, 0.0]
    assert packed.scores.tolist() == [5.0, 1.0, 3.0, 2.0, 2.0]


@pytest.mark.parametrize(("kind", "loss"), [("kernel", "choice"), ("kernel", "pairs"), ("attention", "choice")])
def test_a_network_learns_to_choose_as_its_teacher(kind: str, loss: str) -> None:
    torch.manual_seed(0)
    network = KINDS[kind]()
    before = same_choice(network, decisions(500, seed=9))
    imitate(network, decisions(2000), seed=0, epochs=8, batch=128, learning_rate=1e-2, loss=loss)
    assert before < 0.6
    assert same_choice(network, decisions(500, seed=9)) > 0.8


def test_the_same_seed_learns_the_same() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        network = KernelNetwork()
        imitate(network, decisions(200), seed=1, epochs=2)
        found.append(network.skip.detach().numpy())
    np.testing.assert_array_equal(*found)


def test_sharpening_changes_the_entropy_and_no_order() -> None:
    torch.manual_seed(0)
    network, record = KernelNetwork(), decisions(400)
    imitate(network, record, seed=0, epochs=2)
    features = torch.as_tensor(record.rows[:200])
    order = network(features).argsort(stable=True)
    sharpen(network, record, 0.5)
    assert sharpen(network, record, 0.5) == pytest.approx(1.0, rel=1e-3)
    assert sharpen(network, record, 0.1) > 1.0
    assert torch.equal(network(features).argsort(stable=True), order)
    assert sharpen(KernelNetwork(), record, 0.5) == 1.0


def test_jobs_that_are_alike_do_not_sharpen_without_end() -> None:
    """Three of four jobs are the same one: whatever the scale, a choice among them stays a lottery."""
    rng = np.random.default_rng(4)
    rows = np.zeros((200, 4, NUM_FEATURES + 1), np.float32)
    rows[:, :, :NUM_FEATURES] = rng.normal(size=(200, 1, NUM_FEATURES))
    rows[:, 3, :NUM_FEATURES] += 0.5 * rng.normal(size=(200, NUM_FEATURES))
    rows[:, :, NUM_FEATURES] = 1.0
    network = KernelNetwork()
    with torch.no_grad():
        network.skip[0] = 1.0
    record = Decisions.of_queues(rows, np.ones((200, 4), dtype=bool), rows[:, :, 0])
    assert 0.1 < sharpen(network, record, 0.1) < 1e3


def test_recorded_choices_come_back_from_a_file(tmp_path: Path) -> None:
    record = decisions(20, known=False)
    record.save(tmp_path / "choices.npz")
    again = Decisions.load(tmp_path / "choices.npz")
    np.testing.assert_array_equal(again.rows, record.rows)
    np.testing.assert_array_equal(again.chosen, record.chosen)
    assert len(Decisions.joined([record, again])) == 2 * len(record)
    with pytest.raises(UsageError, match="needs the teacher's scores"):
        imitate(KernelNetwork(), record, seed=0, loss="pairs")


def test_files_that_are_no_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        Decisions.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    with pytest.raises(TraceError, match="no recorded decisions"):
        Decisions.load(tmp_path / "bad.npz")
    record = decisions(5)
    np.savez(
        tmp_path / "wrong.npz",
        **{n: getattr(record, n) for n in record.__dataclass_fields__} | {"chosen": record.chosen + 99},
    )
    with pytest.raises(TraceError, match="not among the jobs"):
        Decisions.load(tmp_path / "wrong.npz")
