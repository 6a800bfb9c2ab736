"""A replay that was stopped, saved and taken up again ends in the same bytes as one that never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import OutputError, UsageError
from shunter.scheduler.policies.registry import choose_ordering
from shunter.sim.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from shunter.sim.engine import Options, Simulation
from shunter.sim.replay import Interrupted, simulate
from shunter.sim.run_folder import RUN_FILES
from shunter.sim.saving import COUNTS, counts
from shunter.sim.workload import prepare
from shunter.traces.generate import generate
from shunter.traces.tables import Trace, make_jobs, pool
from tests.properties.strategies import MODES, POLICIES, lanes

MANIFEST: dict[str, Any] = {"trace": {"name": "random", "jobs": 3}, "policy": "fcfs", "seed": 0}


def outcome(simulation: Simulation) -> dict[str, Any]:
    """Everything that a result is made of."""
    found = simulation.state.arrays() | {"backfilled": simulation.backfilled}
    numbers = counts(simulation)
    return found | {name: np.asarray(numbers[name]) for name in COUNTS}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_resumed_replay_equals_one_that_never_stopped(data: st.DataObject, tmp_path: Path) -> None:
    cluster, trace = data.draw(lanes())
    interval_s = data.draw(st.sampled_from([0.0, 0.0, 5.0]))
    how = Options(
        Settings(choose_ordering(data.draw(st.sampled_from(POLICIES))), data.draw(st.sampled_from(MODES))),
        ties=data.draw(st.sampled_from(["instant", "per-event"])) if not interval_s else "instant",
        interval_s=interval_s,
    )
    workload = prepare(trace, cluster)
    whole = Simulation(workload, how)
    assert whole.run()
    path, current = tmp_path / "run.checkpoint", Simulation(workload, how)
    while not current.run(lambda: True, every=data.draw(st.integers(1, 12))):
        save_checkpoint(path, current, MANIFEST, 1.5)
        current = Simulation(workload, how)
        assert load_checkpoint(path, current, MANIFEST) == 1.5
    expected = outcome(whole)
    for name, values in outcome(current).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.fixture(scope="module")
def long_trace() -> Trace:
    """More than 20,000 events, after which a replay first asks whether to stop."""
    trace = generate("poisson", jobs=12_000, seed=3, params={"servers": 8, "load": 0.9, "size": "1,2,4"})
    users = np.asarray(["ada", "bob", "cyd"])[np.arange(12_000) % 3]
    return replace(trace, jobs=make_jobs(trace.jobs.frame.with_columns(user=users).to_dict(as_series=True)))


def file_bytes(folder: Path) -> dict[str, bytes]:
    """The files of a run folder but the one that holds what the clock said."""
    return {name: (folder / name).read_bytes() for name in RUN_FILES if name != "timing.json"}


@pytest.mark.parametrize(
    ("policy", "backfill"),
    [("fcfs", "none"), ("sjf", "easy"), ("wfp3", "easy"), ("multifactor", "easy-sjbf"), ("fcfs", "conservative")],
)
def test_saved_results_are_the_same_bytes(policy: str, backfill: str, long_trace: Trace, tmp_path: Path) -> None:
    simulate(long_trace, policy=policy, backfill=backfill).save(tmp_path / "whole")
    path = tmp_path / "run.checkpoint"
    with pytest.raises(Interrupted) as stopped:
        simulate(long_trace, policy=policy, backfill=backfill, checkpoint=path, should_stop=lambda: True)
    assert stopped.value.checkpoint == path
    assert 0 < stopped.value.simulation.num_done < 12_000
    simulate(long_trace, policy=policy, backfill=backfill, checkpoint=path, resume=True).save(tmp_path / "resumed")
    assert file_bytes(tmp_path / "resumed") == file_bytes(tmp_path / "whole")


def test_an_interrupted_replay_without_a_file_to_save_to(long_trace: Trace) -> None:
    with pytest.raises(Interrupted) as stopped:
        simulate(long_trace, should_stop=lambda: True)
    assert stopped.value.checkpoint is None


def test_progress_is_told_how_far_the_replay_is(long_trace: Trace) -> None:
    done: list[int] = []
    simulate(long_trace, progress=lambda simulation: done.append(simulation.num_done))
    assert done == sorted(done)
    assert done


@pytest.fixture
def saved(long_trace: Trace, tmp_path: Path) -> Path:
    path = tmp_path / "run.checkpoint"
    with pytest.raises(Interrupted):
        simulate(long_trace, checkpoint=path, should_stop=lambda: True)
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"policy": "sjf"}, "policy"),
        ({"backfill": "easy"}, "backfill"),
        ({"placement": "packed"}, "placement"),
        ({"depth": 3, "interval_s": 5.0}, "backfill_depth, interval_s"),
        ({"clairvoyant": True, "seed": 7}, "estimates, seed"),
        ({"ties": "per-event"}, "ties"),
        ({"window": (0, 6000)}, "window"),
        ({"cluster": pool(9)}, "cluster"),
    ],
)
def test_other_settings_are_refused_by_name(
    changes: dict[str, Any], named: str, long_trace: Trace, saved: Path
) -> None:
    with pytest.raises(UsageError) as error:
        simulate(long_trace, checkpoint=saved, resume=True, **changes)
    assert str(error.value) == f"{saved}: belongs to another replay; different: {named}"


def test_another_trace_is_refused(long_trace: Trace, saved: Path) -> None:
    for other in (replace(long_trace, sha256="0" * 64), replace(long_trace, name="other")):
        with pytest.raises(UsageError, match=r"belongs to another replay; different: trace$"):
            simulate(other, checkpoint=saved, resume=True)


@pytest.mark.parametrize("damage", ["text", "flipped"])
def test_a_damaged_file_is_refused(damage: str, long_trace: Trace, saved: Path) -> None:
    content = saved.read_bytes()
    middle = len(content) // 2
    saved.write_bytes(
        {
            "text": b"not a checkpoint\n",
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
        }[damage]
    )
    with pytest.raises(UsageError) as error:
        simulate(long_trace, checkpoint=saved, resume=True)
    assert str(error.value).startswith(f"{saved}: not a checkpoint, or a damaged one")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(long_trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.checkpoint: no checkpoint to resume from"):
        simulate(long_trace, checkpoint=tmp_path / "none.checkpoint", resume=True)


def test_another_format_is_refused(saved: Path, long_trace: Trace) -> None:
    with np.load(saved) as archive:
        arrays = dict(archive)
    head = arrays["head"].tobytes().replace(f'"format": {FORMAT}'.encode(), b'"format": 9')
    arrays["head"] = np.frombuffer(head, dtype=np.uint8)
    with saved.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(UsageError, match=f"checkpoint format 9, expected {FORMAT}"):
        simulate(long_trace, checkpoint=saved, resume=True)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(long_trace: Trace, tmp_path: Path) -> None:
    blocked = tmp_path / "folder.checkpoint"
    blocked.mkdir()
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        simulate(long_trace, checkpoint=blocked, should_stop=lambda: True)
    assert sorted(tmp_path.iterdir()) == [blocked]


def test_a_checkpoint_of_another_seed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    first, second = (generate("poisson", jobs=12_000, seed=seed) for seed in (1, 2))
    with pytest.raises(Interrupted):
        simulate(first, checkpoint=path, should_stop=lambda: True)
    with pytest.raises(UsageError, match="different: trace"):
        simulate(second, checkpoint=path, resume=True)


@pytest.mark.parametrize("damage", ["empty", "array", "cut"])
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    trace = generate("poisson", jobs=12_000, seed=1)
    with pytest.raises(Interrupted):
        simulate(trace, checkpoint=path, should_stop=lambda: True)
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, np.arange(3))
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-200])
    with pytest.raises(UsageError, match="not a checkpoint, or a damaged one"):
        simulate(trace, checkpoint=path, resume=True)


def test_a_replay_that_is_killed_leaves_its_last_saving(tmp_path: Path) -> None:
    """A run that nobody stops saves itself now and then, so that one that is killed can be taken up from there."""
    path = tmp_path / "x.checkpoint"
    trace = generate("poisson", jobs=30_000, seed=3)
    whole = simulate(trace, backfill="easy", checkpoint=path, autosave_s=0.0)
    assert path.exists()
    resumed = simulate(trace, backfill="easy", checkpoint=path, resume=True)
    assert resumed.jobs.equals(whole.jobs)
    assert resumed.metrics == whole.metrics
    assert resumed.num_events == whole.num_events
