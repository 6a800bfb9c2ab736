"""Which jobs are replayed and counted, and that an evaluation taken up again is the unbroken one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shunter.agents.contenders import Contender, heuristics
from shunter.agents.evaluation import Evaluation, Stopped, Work, evaluate, make_case, refuse_seen
from shunter.agents.evaluation_files import window_frame
from shunter.agents.protocols import Protocol, Stretch, published_stretches, stretches
from shunter.agents.replays import replay, windows_of
from shunter.agents.verdicts import judge, scores_of
from shunter.scheduler.errors import OutputError, TraceError, UsageError
from shunter.sim.replay import simulate
from shunter.traces.demo import demo_trace
from shunter.traces.periods import Period, part, whole
from shunter.traces.shaking import shaken
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool


def queue_of_six() -> Trace:
    """One processor; six jobs of 100 s (the fourth 10 s), submitted at 0, 10, … 50 s."""
    return Trace(
        "six",
        make_jobs(
            {
                "job_id": list("abcdef"),
                "submit_s": [0.0, 10.0, 20.0, 30.0, 40.0, 50.0],
                "duration_s": [100.0, 100.0, 100.0, 10.0, 100.0, 100.0],
                "requested_s": [100.0, 100.0, 100.0, 10.0, 100.0, 100.0],
                "cpus": [1.0] * 6,
                "user": ["x", "x", "y", "x", "y", "z"],
            }
        ),
        pool(1),
    )


def test_only_the_windows_jobs_count_and_their_queue_is_warm() -> None:
    """First come, first served: starts 0 100 200 300 310 410. Window: jobs c and d, waits 180 and 270 s.

    Bounded slowdowns (180 + 100) / 100 and (270 + 10) / 10; completion times 280 and 280. They arrive from 20 to 40 s
    (the next submission), while job a runs: utilisation 1. Shares of x 10/280 and of y 100/280: Jain's index
    (110/280)² / (2 · (10² + 100²) / 280²) = 12100 / 20200.
    """
    trace = queue_of_six()
    stretch = Stretch(0, 6, ((2, 4),))
    schedule = replay(trace, trace.cluster, 0, 6, policy="fcfs", backfill="easy")
    assert schedule is not None
    [found] = windows_of(schedule, stretch)
    assert found["jobs"] == 2
    assert found["avg_wait_s"] == pytest.approx(225.0)
    assert found["avg_bounded_slowdown"] == pytest.approx((2.8 + 28.0) / 2)
    assert found["avg_jct_s"] == pytest.approx(280.0)
    assert found["utilisation"] == pytest.approx(1.0)
    assert found["jain_fairness"] == pytest.approx(12100 / 20200)
    cold = replay(trace, trace.cluster, 2, 6, policy="fcfs", backfill="easy")
    assert cold is not None
    assert windows_of(cold, Stretch(2, 6, ((2, 4),)))[0]["avg_wait_s"] == pytest.approx(45.0)


def test_jobs_after_a_window_compete_with_its_last_ones() -> None:
    """Shortest first: job d (10 s, after the window) goes before b and c, which then start at 110 and 210 s."""
    trace = queue_of_six()
    waits = []
    for last in (3, 6):
        schedule = replay(trace, trace.cluster, 0, last, policy="sjf", backfill="none")
        assert schedule is not None
        waits.append(windows_of(schedule, Stretch(0, last, ((1, 3),)))[0]["avg_wait_s"])
    assert waits == pytest.approx([(90 + 180) / 2, (100 + 190) / 2])


def test_waiting_between_two_attempts_counts_as_waiting() -> None:
    """Least attained first stops job a (100 s, from 0 s) for job b (10 s, at 50 s): a ends at 110 s, 10 s late."""
    trace = Trace(
        "two",
        make_jobs({"job_id": ["a", "b"], "submit_s": [0.0, 50.0], "duration_s": [100.0, 10.0], "gpus": [1.0, 1.0]}),
        ClusterSpec("one GPU", (NodeGroup("gpu", 1, cpus=1.0, gpus=1.0),)),
    )
    schedule = replay(trace, trace.cluster, 0, 2, policy="las", backfill="none", preempts=True)
    assert schedule is not None
    found = schedule.window(0, 2)
    assert found["avg_wait_s"] == pytest.approx(5.0)
    assert found["avg_bounded_slowdown"] == pytest.approx((1.1 + 1.0) / 2)
    assert "utilisation" not in found


@pytest.mark.parametrize("policy", ["sjf", "wfp3", "fairshare"])
def test_a_replay_is_that_of_simulate(policy: str) -> None:
    trace = demo_trace("hpc")
    schedule = replay(trace, trace.cluster, 100, 700, policy=policy, backfill="easy")
    assert schedule is not None
    result = simulate(trace, policy=policy, backfill="easy", window=(100, 600))
    assert np.array_equal(schedule.start_s, result.jobs["start_s"].to_numpy())
    found = replace(schedule, warm=False).window(0, 600)
    names = [name for name in found if name not in ("jobs", "utilisation")]
    assert [found[n] for n in names] == pytest.approx([result.metrics[n] for n in names])
    assert found["utilisation"] == pytest.approx(result.metrics["utilisation"])


def test_windows_lie_in_the_period_with_warm_up_and_cool_down() -> None:
    period = Period("test", "t", 1000, 2000, "")
    found = stretches(Protocol("windows", 200, 100, 50), period)
    assert [s.windows for s in found] == [((b, b + 200),) for b in (1100, 1300, 1500, 1700)]
    assert [(s.first, s.last) for s in found] == [(b - 100, b + 250) for b in (1100, 1300, 1500, 1700)]
    [one] = stretches(Protocol("full", 200, 100, 50), period)
    assert (one.first, one.last) == (1000, 2000)
    assert one.windows[0][0] == 1100
    assert one.windows[-1][1] == 1950
    assert all(a[1] == b[0] for a, b in zip(one.windows[:-1], one.windows[1:], strict=True))


def test_a_period_too_short_for_a_window_is_refused() -> None:
    with pytest.raises(TraceError, match="too few for a warm-up of 50 jobs, a window of 1,024 and a cool-down of 25"):
        stretches(Protocol("windows", 1024), Period("test", "t", 0, 200, ""))
    with pytest.raises(TraceError, match="windows of 1024 jobs need more than 2049"):
        published_stretches(500)


def test_the_published_windows() -> None:
    """Golden results of RLScheduler: the ten starts of its tables for 10,000 jobs."""
    expected = [1981, 2756, 4299, 8850, 3316, 2714, 5228, 7762, 4022, 7085]
    assert [s.first for s in published_stretches(59_705)] == expected


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown protocol 'window'; did you mean 'windows'"):
        Protocol("window")
    with pytest.raises(UsageError, match="did you mean 'sjf'"):
        heuristics(Protocol(), ["easy"], ["sfj"])
    with pytest.raises(UsageError, match="fixes its windows"):
        Protocol("rlscheduler", window_jobs=10)
    with pytest.raises(UsageError, match="decides by rounds"):
        heuristics(Protocol(), ["easy"], ["het-las"])


def test_bounds_stand_apart_from_heuristics() -> None:
    kinds = {c.label: c.kind for c in heuristics(Protocol(), ["easy"])}
    assert kinds["sjf-oracle"] == "bound"
    assert kinds["sjf"] == "heuristic"
    assert "het-las" not in kinds


def test_what_stands_behind_a_name_is_how_it_runs() -> None:
    found = heuristics(Protocol(), ["easy"], ["las+preempt", "fcfs+tsafrir", "multifactor:age=1e+3"])
    assert [(c.label, c.policy, c.preempts, c.predicts) for c in found] == [
        ("las+preempt", "las", True, False),
        ("fcfs+tsafrir", "fcfs", False, True),
        ("multifactor", "multifactor:age=1e+3", False, False),
    ]
    assert len({c.identity for c in found}) == 3
    every = [c.label for c in heuristics(Protocol(), ["easy"])]
    assert "fcfs+tsafrir" in every
    assert "fcfs+tsafrir" not in [c.label for c in heuristics(Protocol(), ["conservative"])]
    trace = demo_trace("hpc")
    starts = []
    for estimates in ("request", "tsafrir"):
        schedule = replay(trace, trace.cluster, 0, 400, policy="fcfs", backfill="easy", estimates=estimates)
        assert schedule is not None
        starts.append(schedule.start_s)
    result = simulate(trace, policy="fcfs", backfill="easy", window=(0, 400), estimates="tsafrir")
    assert np.array_equal(starts[1], result.jobs["start_s"].to_numpy())
    assert not np.array_equal(*starts)


def test_windows_that_a_policy_has_seen_are_found() -> None:
    trace = demo_trace("hpc")
    rules = Protocol("windows", 100, 50, 50)
    case = make_case(trace, rules)
    seen = part(trace, "train", 0, case.period.first + 60)
    fresh = part(trace, "train", 0, case.period.first + 50)
    learned = [Contender(name, "learned", "x", seen=(p,)) for name, p in (("old", seen), ("new", fresh))]
    [sentence] = refuse_seen([case], learned)
    assert sentence.startswith("old has seen 10 of the ")
    assert f"train (0 to {case.period.first + 59:,})" in sentence
    # In a shaken copy jobs of the warm-up may change places with those that count.
    assert [s.split(" ")[0] for s in refuse_seen([case], learned, copies=True)] == ["old", "new"]


def small_work(protocol: str = "windows") -> Work:
    """Two heuristics and a bound on eight windows of the demo trace."""
    trace = demo_trace("hpc")
    rules = Protocol(protocol, 100, 50, 50, whole=True)
    case = make_case(trace, rules)
    case = replace(case, period=whole(trace), stretches=case.stretches[:8])
    return Work(rules, (case,), tuple(heuristics(rules, ["easy"], ["fcfs", "edf", "sjf", "sjf-oracle"])), ("easy",))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, bytes]:
    path = tmp_path_factory.mktemp("unbroken") / "results.jsonl"
    return evaluate(small_work(), results=path), path.read_bytes()


@pytest.mark.parametrize("cut", [0, 1, 37])
def test_a_half_done_evaluation_taken_up_gives_the_same_file(
    tmp_path: Path, unbroken: tuple[Evaluation, bytes], cut: int
) -> None:
    """Stopped after nine replays, and as if killed in the middle of writing the last line (``cut`` bytes missing)."""
    whole_evaluation, expected = unbroken
    path = tmp_path / "results.jsonl"
    done = 0

    def count(number: int, total: int, what: str) -> None:
        nonlocal done
        done = number

    with pytest.raises(Stopped) as stopped:
        evaluate(small_work(), results=path, progress=count, should_stop=lambda: done >= 9)
    assert stopped.value.done == 9
    content = path.read_bytes()
    assert content.count(b"\n") == 9
    path.write_bytes(content[: len(content) - cut])
    again = evaluate(small_work(), results=path, resume=True)
    assert path.read_bytes() == expected
    assert window_frame(again).equals(window_frame(whole_evaluation))
    assert judge(again) == judge(whole_evaluation)


def test_without_resume_an_evaluation_begins_anew(tmp_path: Path, unbroken: tuple[Evaluation, bytes]) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(unbroken[1] + b"torn")
    evaluate(small_work(), results=path)
    assert path.read_bytes() == unbroken[1]


def test_a_damaged_results_file_is_refused(tmp_path: Path, unbroken: tuple[Evaluation, bytes]) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"nonsense\n" + unbroken[1])
    with pytest.raises(UsageError, match=r"results\.jsonl:1: not a line of an evaluation's results"):
        evaluate(small_work(), results=path, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        evaluate(small_work(), results=tmp_path / "file" / "results.jsonl")


def test_what_is_said_of_an_evaluation(unbroken: tuple[Evaluation, bytes]) -> None:
    document = judge(unbroken[0])
    [table] = document["traces"]
    assert (table["windows"], table["jobs"]) == (8, 800)
    rows = {row["policy"]: row for row in table["policies"]}
    assert rows["edf"]["same_as"] == "fcfs"  # no job of the trace has a deadline
    assert rows["sjf"]["same_as"] is None
    assert table["best_heuristic"]["avg_bounded_slowdown"] == "sjf"
    assert document["matrix"] is None
    [scores] = scores_of(unbroken[0])
    mean = float(scores.values["avg_wait_s"][0].mean())
    assert rows["fcfs"]["metrics"]["avg_wait_s"]["mean"] == pytest.approx(mean)
    low, high = rows["fcfs"]["metrics"]["avg_wait_s"]["interval"]
    assert low < mean < high


def test_full_and_windows_count_the_same_jobs_but_not_the_same_queue() -> None:
    work = small_work("full")
    found = evaluate(work)
    [stretch] = work.cases[0].stretches
    assert sum(w["jobs"] for w in found.windows[0, "easy", 0]) == stretch.windows[-1][1] - stretch.windows[0][0]


@pytest.mark.slow
def test_two_processes_write_the_same_file_as_one(tmp_path: Path, unbroken: tuple[Evaluation, bytes]) -> None:
    path = tmp_path / "results.jsonl"
    evaluate(small_work(), results=path, workers=2)
    assert path.read_bytes() == unbroken[1]


def test_a_window_of_shaken_copies_is_their_mean_and_the_log_itself_is_not_among_them() -> None:
    work = small_work()
    shaken_work = replace(work, protocol=replace(work.protocol, shakes=2, shake_s=600.0))
    found = evaluate(shaken_work).windows[0, "easy", 0]
    case = work.cases[0]
    stretch = case.stretches[3]
    copies = []
    for seed in (1, 2):
        copy = shaken(case.trace, seed, span_s=600.0, rows=(stretch.first, stretch.last))
        schedule = replay(copy, case.cluster, stretch.first, stretch.last, policy="fcfs", backfill="easy")
        assert schedule is not None
        copies.append(windows_of(schedule, stretch)[0])
    assert found[3]["avg_wait_s"] == pytest.approx((copies[0]["avg_wait_s"] + copies[1]["avg_wait_s"]) / 2)
    assert copies[0]["avg_wait_s"] != copies[1]["avg_wait_s"]
    assert found[3]["jobs"] == 100.0


def test_a_shaken_evaluation_taken_up_uses_only_its_own_replays(
    tmp_path: Path, unbroken: tuple[Evaluation, bytes]
) -> None:
    """What was replayed of the log itself, or by another span, is none of its copies."""
    path = tmp_path / "results.jsonl"
    path.write_bytes(unbroken[1])
    shaken_rules = replace(small_work().protocol, shakes=1, shake_s=600.0)
    first = evaluate(replace(small_work(), protocol=shaken_rules), results=path, resume=True)
    assert first.windows != unbroken[0].windows
    other = evaluate(replace(small_work(), protocol=replace(shaken_rules, shake_s=60.0)), results=path, resume=True)
    assert other.windows != first.windows


def test_over_several_traces_every_heuristic_is_compared_as_one_that_is_fixed_beforehand() -> None:
    """The same trace twice: pooled ratios are its own."""
    work = small_work()
    twice = replace(work, cases=(work.cases[0], replace(work.cases[0])))
    evaluation = evaluate(twice)
    fcfs, *rest = twice.contenders
    as_learned = replace(evaluation, work=replace(twice, contenders=(replace(fcfs, kind="learned"), *rest)))
    pooled = {(p["against"], p["metric"]): p for p in judge(as_learned)["pooled"]}
    assert {against for against, _ in pooled} == {"edf", "sjf"}
    rows = {row["policy"]: row["metrics"] for row in judge(evaluation)["traces"][0]["policies"]}
    for metric in ("avg_bounded_slowdown", "p95_bounded_slowdown"):
        expected = rows["fcfs"][metric]["mean"] / rows["sjf"][metric]["mean"]
        found = pooled["sjf", metric]
        assert found["ratio"] == pytest.approx(expected)
        assert found["interval"][0] < expected < found["interval"][1]
        assert pooled["edf", metric]["interval"] == pytest.approx((1.0, 1.0))
    assert judge(evaluate(work))["pooled"] == []


def test_shaking_is_refused_where_it_has_no_meaning() -> None:
    with pytest.raises(UsageError, match="--shake does not go with it"):
        Protocol("rlscheduler", shakes=3)
    with pytest.raises(UsageError, match="--shake -1"):
        Protocol(shakes=-1)
    with pytest.raises(UsageError, match="--shake-by 0"):
        Protocol(shake_s=0.0)
