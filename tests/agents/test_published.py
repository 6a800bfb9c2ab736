"""Direct search under the published protocol: windows, kinds, cards, and the same result broken or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cmaes", reason="needs shunter[train]")
pytest.importorskip("onnx", reason="needs shunter[train]")

from shunter.agents.bundle import load_bundle
from shunter.agents.courses import (
    AS_PUBLISHED,
    GENERAL,
    Source,
    courses_of,
    first_score,
    spread_starts,
    unplayable_starts,
    whole_cost,
)
from shunter.agents.protocols import Protocol
from shunter.agents.published import Order, tasks_of, train_published
from shunter.agents.published_search import CHECKPOINT
from shunter.agents.search import unpacked
from shunter.scheduler.errors import TraceError, UsageError
from shunter.sim.compat import rlscheduler
from shunter.traces.generate import generate
from shunter.traces.tables import Trace
from tests.agents.small import small_trace
from tests.e2e.conftest import Shunter, shunter

__all__ = ["shunter"]

LENGTH = 100


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A log of a busy machine, as a file."""
    from shunter.traces import read
    from shunter.traces.write import write

    path = tmp_path_factory.mktemp("published") / "small.swf.gz"
    write(small_trace(2100), path)
    return Source(read(path), path)


def idle_trace() -> Trace:
    """Jobs that hardly ever wait, so that windows of the published length are quick."""
    return generate("lublin99", jobs=1100, seed=3, params={"cpus": 64, "load": 0.2})


def order(source: Source, out: Path, **others: object) -> Order:
    given = {"kind": GENERAL, "backfill": "easy", "hidden": (0, 0), "generations": 8, "seeds": (0,), "population": 8}
    return Order([source], out=out, length=LENGTH, windows=8, **given | others)  # type: ignore[arg-type]


def test_a_search_improves_on_where_it_begins_and_says_what_it_was(source: Source, tmp_path: Path) -> None:
    tasks = tasks_of(order(source, tmp_path, seeds=(0, 1), generations=15))
    outcomes = [task.run(None, None) for task in tasks]
    for task, outcome in zip(tasks, outcomes, strict=True):
        assert outcome.complete
        found = whole_cost(task.courses, unpacked(outcome.weights, (0, 0)))
        assert found < whole_cost(task.courses, first_score(task.courses))
        assert found == outcome.curve[-1].best
    # Each seed has windows and draws of its own.
    assert not np.array_equal(outcomes[0].weights, outcomes[1].weights)


def test_a_stopped_search_ends_as_an_unbroken_one_and_leaves_bundles_with_cards(source: Source, tmp_path: Path) -> None:
    unbroken = train_published(order(source, tmp_path / "a", kind=AS_PUBLISHED))
    counted: list[int] = []
    stopped = train_published(
        order(source, tmp_path / "b", kind=AS_PUBLISHED), should_stop=lambda: counted.append(0) or len(counted) > 3
    )
    assert not stopped.complete
    assert stopped.bundle is None
    resumed = train_published(order(source, tmp_path / "b", kind=AS_PUBLISHED, resume=True))
    np.testing.assert_array_equal(resumed.outcomes[0].weights, unbroken.outcomes[0].weights)
    cards = [json.loads((tmp_path / run / "bundle" / "card.json").read_text()) for run in "ab"]
    assert cards[0]["model_sha256"] == cards[1]["model_sha256"]
    assert cards[0]["trained_on"] == "as-published"
    assert cards[0]["kind"] == "linear"
    assert cards[0]["evaluation"]["protocol"]["backfill"] == "easy"
    assert "in-distribution" in cards[0]["notes"]
    [period] = cards[0]["traces"]
    assert (period["name"], period["first"], period["last"]) == ("train", 0, 2100)
    # More generations may be asked for; another search may not.
    longer = train_published(order(source, tmp_path / "b", kind=AS_PUBLISHED, resume=True, generations=10))
    assert longer.outcomes[0].curve[-1].generation == 10
    with pytest.raises(UsageError, match="other kind, backfill"):
        train_published(order(source, tmp_path / "b", resume=True, backfill="none"))
    with pytest.raises(UsageError, match="other settings"):
        train_published(order(source, tmp_path / "b", resume=True, kind=AS_PUBLISHED, population=9))
    (tmp_path / "b" / "seed-0" / CHECKPOINT).write_bytes(b"cut")
    with pytest.raises(UsageError, match="damaged"):
        train_published(order(source, tmp_path / "b", resume=True, kind=AS_PUBLISHED))


def test_no_window_as_published_begins_where_a_published_one_does(source: Source) -> None:
    asked = {"kind": AS_PUBLISHED, "backfill": "none", "length": LENGTH}
    taken = set(rlscheduler.published_starts(1, 2100, LENGTH, 10))
    drawn: set[int] = set()
    for seed in range(3):
        [course] = courses_of([source], count=600, seed=seed, **asked)  # type: ignore[arg-type]
        drawn |= set(course.first.tolist())
        assert len(set(course.first.tolist())) == 600
    assert not drawn & taken
    assert {start + 1 for start in taken} & drawn, "windows are close to the published ones all the same"
    assert max(drawn) <= 2100 - LENGTH


def test_windows_are_spread_and_lie_inside_the_jobs_given(source: Source) -> None:
    starts = spread_starts(500, 900, 100, 4, np.random.default_rng(0), [])
    assert [(start - 500) * 4 // 301 for start in starts] == [0, 1, 2, 3]
    part = Source(source.trace, source.path, (500, 400))
    [course] = courses_of([part], kind=GENERAL, backfill="none", length=LENGTH, count=4, seed=0)
    assert course.first.min() >= 500
    assert course.first.max() + LENGTH <= 900
    assert (course.period.first, course.period.last) == (500, 900)
    with pytest.raises(TraceError, match="400 jobs to train on"):
        courses_of([part], kind=GENERAL, backfill="none", length=LENGTH, count=400, seed=0)


def test_windows_leave_out_jobs_that_cannot_run(source: Source) -> None:
    log = rlscheduler.load(source.path)
    assert unplayable_starts(log, LENGTH).tolist() == []
    nodes = log.jobs.nodes.copy()
    nodes[[40, 300]] = [-1, log.num_nodes + 1]
    broken = replace(log, jobs=replace(log.jobs, nodes=nodes))
    assert unplayable_starts(broken, LENGTH).tolist() == [*range(41), *range(201, 301)]


def test_kinds_are_judged_apart(source: Source, tmp_path: Path) -> None:
    """A general policy is refused on jobs that it has seen; one as published is labelled, under its protocol only."""
    from shunter.cli.evaluate import make_work

    given = {"policies": ["fcfs"], "backfills": ("easy",), "cluster": None, "trace_format": None}
    given |= {"skip_bad": False, "allow_overlap": False, "quiet": True}
    for kind in (GENERAL, AS_PUBLISHED):
        train_published(order(source, tmp_path / kind, kind=kind, generations=1))
    general, published = (str(tmp_path / kind / "bundle") for kind in (GENERAL, AS_PUBLISHED))
    rules = Protocol("rlscheduler")
    with pytest.raises(UsageError, match="of small that it would be judged on"):
        make_work(rules, [general], [str(source.path)], **given)  # type: ignore[arg-type]
    work, overlaps = make_work(rules, [published], [str(source.path)], **given)  # type: ignore[arg-type]
    assert [contender.origin for contender in work.contenders] == ["as published", ""]
    assert "has seen" in overlaps[0]
    with pytest.raises(UsageError, match="nothing that begins at it is general"):
        order(source, tmp_path / "tuned", start=load_bundle(Path(published)))
    tuned = order(source, tmp_path / "tuned", kind=AS_PUBLISHED, generations=1, start=load_bundle(Path(general)))
    roles = load_bundle(train_published(tuned).bundle).card.traces  # type: ignore[arg-type]
    assert len(roles) == 2, "its own windows, and those of where it began"
    with pytest.raises(UsageError, match="has seen"):
        make_work(Protocol("windows", whole=True), [published], [str(source.path)], **given)  # type: ignore[arg-type]


def test_the_command_ends_with_a_bundle_a_seed(shunter: Shunter, tmp_path: Path) -> None:
    from shunter.traces.write import write

    write(idle_trace(), tmp_path / "idle.swf")
    asked = ("train", "policy", tmp_path / "idle.swf", "--protocol", "rlscheduler", "--kind", "as-published")
    ran = shunter(*asked, "--generations", 1, "--hidden", "2x2", "--json", "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    document = ran.document
    assert (document["kind"], document["backfill"], document["seed"]) == ("as-published", "easy", 0)
    assert document["searches"][0]["generation"] == 1
    card = json.loads((Path(document["searches"][0]["bundle"]) / "card.json").read_text())
    assert (card["kind"], card["command"].split()[:3]) == ("kernel", ["shunter", "train", "policy"])
    assert "generation 1, mean bounded slowdown" in ran.err


def test_what_cannot_be_searched_is_refused_in_one_line(source: Source, shunter: Shunter, tmp_path: Path) -> None:
    asked = ("train", "policy", source.path, "--out", tmp_path / "run")
    protocol = (*asked, "--protocol", "rlscheduler")
    shunter(*asked, "--protocol", "rlschedule").failed_cleanly(2, "did you mean 'rlscheduler'")
    shunter(*asked, "--kind", "general").failed_cleanly(2, "--kind", "--protocol")
    shunter(*protocol, "--budget", "5m").failed_cleanly(2, "--budget", "--generations")
    shunter(*protocol, "--hidden", "16").failed_cleanly(2, "--hidden '16'", "16x8")
    shunter(*protocol, "--hidden", "16x0").failed_cleanly(2, "both have units")
    shunter(*protocol, "--kind", "generel").failed_cleanly(2, "did you mean 'general'")
    shunter(*protocol, "--warm-start", tmp_path / "none").failed_cleanly(2, "bundle's folder")
    shunter(*protocol, "--resume").failed_cleanly(2, "no training to resume")
    part = f"{source.path}:0:500"
    shunter("train", "policy", part, *protocol[3:], "--kind", "as-published").failed_cleanly(2, "without :FIRST:COUNT")
    shunter("train", "policy", part, *protocol[3:]).failed_cleanly(2, "500 jobs to train on", "1,024")
    assert not (tmp_path / "run" / "run.json").exists()
