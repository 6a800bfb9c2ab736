"""Paired comparison on cases whose answer is known."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shunter.scheduler.errors import UsageError
from shunter.sim.compare import compare, expanded_quantiles, paired_difference, window_draws
from shunter.sim.report.formats import duration
from shunter.sim.result import Result, save_all

from .conftest import make_result, make_workload

Pair = tuple[Result, Result]


def shifted(result: Result, seconds: float | np.ndarray) -> Result:
    """The same run with every job started ``seconds`` later."""
    delay = pl.lit(seconds) if isinstance(seconds, float) else pl.Series(seconds)
    return replace(result, policy="later", jobs=result.jobs.with_columns(pl.col("start_s", "end_s", "wait_s") + delay))


def test_a_constant_shift_is_found_exactly_and_the_interval_closes(two_results: Pair) -> None:
    found = compare(two_results[0], shifted(two_results[0], 60.0)).difference("wait_s")
    assert found.difference == pytest.approx(60.0, abs=1e-6)
    assert found.interval == pytest.approx((60.0, 60.0), abs=1e-6)
    assert (found.better, found.equal, found.worse) == (0.0, 0.0, 1.0)
    assert found.is_clear


def test_equal_runs_differ_by_nothing(two_results: Pair) -> None:
    comparison = compare(two_results[0], two_results[0])
    for found in comparison.differences:
        assert found.difference == 0.0
        assert found.interval == (0.0, 0.0)
        assert (found.better, found.equal, found.worse) == (0.0, 1.0, 0.0)
        assert not found.is_clear
    assert comparison.statement() == "fcfs #2 and fcfs give every job the same wait"


def test_means_and_shares_by_hand() -> None:
    """Five jobs of 20 s; waits 0 0 10 20 30 against 10 0 0 20 0: mean 12 and 6, two better, two equal, one worse."""
    workload = make_workload(5).with_columns(
        pl.lit(20.0).alias("duration_s"), pl.lit(1.0).alias("cpus"), submit_s=pl.int_range(5).cast(pl.Float64)
    )

    def run(waits: list[float], name: str) -> Result:
        rows = zip(workload["job_id"], workload["submit_s"], waits, strict=True)
        return make_result(workload, {job: (s + w, s + w + 20.0) for job, s, w in rows}, name)

    comparison = compare(run([0, 0, 10, 20, 30], "a"), run([10, 0, 0, 20, 0], "b"))
    wait = comparison.difference("wait_s")
    assert (wait.mean_a, wait.mean_b, wait.difference) == pytest.approx((12.0, 6.0, -6.0))
    assert wait.relative == pytest.approx(-0.5)
    assert (wait.better, wait.equal, wait.worse) == pytest.approx((0.4, 0.4, 0.2))
    assert comparison.difference("jct_s").mean_a == pytest.approx(32.0)
    slowdown = comparison.difference("bounded_slowdown")
    assert slowdown.mean_a == pytest.approx((1 + 1 + 1.5 + 2 + 2.5) / 5)
    assert comparison.windows["wait_s_difference"].to_list() == pytest.approx([10, 0, -10, 0, -30])


def test_shortest_first_beats_first_come_and_the_sentence_says_so(two_results: Pair) -> None:
    comparison = compare(*two_results)
    assert comparison.num_jobs == 399
    assert comparison.num_left_out == 1
    found = comparison.difference("wait_s")
    assert found.mean_a == pytest.approx(two_results[0].metrics["avg_wait_s"])
    assert found.mean_b == pytest.approx(two_results[1].metrics["avg_wait_s"])
    assert found.interval is not None
    assert found.interval[0] < found.difference < found.interval[1] < 0
    sentence = comparison.statement()
    assert sentence.startswith("sjf waits 55 % less than fcfs (95 % interval ")
    assert compare(two_results[1], two_results[0]).statement().startswith("fcfs waits 123 % more than sjf")


def test_noise_is_not_taken_for_a_difference(two_results: Pair) -> None:
    noise = np.random.default_rng(4).normal(0.0, 50.0, two_results[0].jobs.height)
    a = shifted(two_results[0], 1000.0)
    comparison = compare(a, replace(shifted(a, noise), policy="noisy"))
    assert not comparison.difference("wait_s").is_clear
    assert "can tell from zero" in comparison.statement()


def test_windows_cover_every_job_once_in_submit_order(two_results: Pair) -> None:
    comparison = compare(*two_results, windows=7)
    assert comparison.windows.height == 7
    assert comparison.windows["num_jobs"].sum() == comparison.num_jobs
    assert comparison.windows["num_jobs"].max() - comparison.windows["num_jobs"].min() <= 1  # type: ignore[operator]
    assert comparison.windows["submit_from_s"].is_sorted()
    weighted = (comparison.windows["wait_s_difference"] * comparison.windows["num_jobs"]).sum() / comparison.num_jobs
    assert weighted == pytest.approx(comparison.difference("wait_s").difference)


def test_the_seed_decides(two_results: Pair) -> None:
    assert compare(*two_results, seed=3).to_dict() == compare(*two_results, seed=3).to_dict()
    first, other = (compare(*two_results, seed=s).difference("wait_s").interval for s in (3, 4))
    assert first is not None
    assert first != other
    assert first == pytest.approx(other, abs=0.05 * 1670)  # the mean difference is −1,670 s


def test_the_order_of_rows_does_not_matter(two_results: Pair) -> None:
    a, b = two_results
    shuffled = replace(b, jobs=b.jobs.sample(fraction=1.0, shuffle=True, seed=1))
    assert compare(a, shuffled).to_dict() == compare(a, b).to_dict()


def test_few_jobs_give_no_interval(two_results: Pair) -> None:
    few = [replace(r, jobs=r.jobs.head(3)) for r in two_results]
    comparison = compare(*few)
    assert comparison.difference("wait_s").interval is None
    assert comparison.statement() == "3 jobs are too few for an interval; at least 5 are needed"
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_other_jobs_are_refused_with_the_first_one(two_results: Pair) -> None:
    a, b = two_results
    with pytest.raises(UsageError, match=r"1 only in the first run, 0 only in the second; job 'j399' is only in"):
        compare(a, replace(b, jobs=b.jobs.head(399)))
    longer = (pl.col("duration_s") + pl.int_range(pl.len()).clip(upper_bound=1)).alias("duration_s")
    with pytest.raises(UsageError, match=r"duration_s of job 'j1' is .* \(399 jobs differ\)"):
        compare(a, replace(b, jobs=b.jobs.with_columns(longer)))
    with pytest.raises(UsageError, match="no job started both"):
        compare(a, replace(b, jobs=b.jobs.with_columns(pl.lit(None, pl.Float64).alias("start_s"))))
    with pytest.raises(UsageError, match="at least 5 windows"):
        compare(a, b, windows=4)


@pytest.mark.parametrize(("windows", "student"), [(5, 2.776), (10, 2.262), (20, 2.093), (101, 1.984)])
def test_quantiles_are_students(windows: int, student: float) -> None:
    """Tables of Student's t at 97.5 %: 2.776 for 4 degrees of freedom, 2.262 for 9, 2.093 for 19, 1.984 for 100."""
    from statistics import NormalDist

    low, high = expanded_quantiles(windows)
    widened = -NormalDist().inv_cdf(low) / np.sqrt(windows / (windows - 1))
    assert widened == pytest.approx(student, abs=0.01)
    assert low + high == pytest.approx(1.0)


def test_the_interval_covers_the_truth_for_correlated_jobs() -> None:
    """Differences that follow each other with correlation 0.97 (as in a backlog of some thirty jobs), true mean 1.

    Taking the jobs for independent would cover the truth in about one case in five; windows cover it in nine in ten.
    """
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=2500)
        walk = np.empty(2500)
        walk[0] = noise[0] / np.sqrt(1 - 0.97**2)
        for i in range(1, 2500):
            walk[i] = 0.97 * walk[i - 1] + noise[i]
        a = np.full(2000, 100.0)
        bounds = np.linspace(0, 2000, 21).astype(np.int64)
        found = paired_difference("wait_s", a, a + 1.0 + walk[500:], bounds, window_draws(20, rng))
        assert found.interval is not None
        hits += found.interval[0] <= 1.0 <= found.interval[1]
    assert hits >= 85


# Command line -----------------------------------------------------------------------------------------------------


def run_command(arguments: list[str]) -> tuple[int, str]:
    import typer
    from typer.testing import CliRunner

    from shunter.cli.compare import compare_command

    app = typer.Typer()
    app.command()(compare_command)
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_the_command_prints_the_finding_and_the_windows(two_results: Pair, tmp_path: Path) -> None:
    save_all(two_results, tmp_path / "out")
    code, text = run_command([str(tmp_path / "out" / "fcfs"), str(tmp_path / "out" / "sjf"), "--windows", "6"])
    assert code == 0
    assert text.startswith("sjf waits 55 % less than fcfs (95 % interval ")
    assert "Mean wait in 6 windows" in text
    assert "1 job left out: not started in both runs." in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_command_prints_one_json_document(two_results: Pair, tmp_path: Path) -> None:
    save_all(two_results, tmp_path / "out")
    code, text = run_command([str(tmp_path / "out" / "fcfs"), str(tmp_path / "out" / "sjf"), "--json"])
    assert code == 0
    assert json.loads(text) == json.loads(json.dumps(compare(*two_results).to_dict()))


def test_the_command_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        run_command([str(tmp_path), str(tmp_path)])


@pytest.mark.parametrize(("width", "columns"), [(100, 7), (60, 4), (30, 2)])
def test_the_table_of_runs_fits_the_terminal(two_results: Pair, width: int, columns: int) -> None:
    from rich.console import Console

    from shunter.cli.tables import render_comparison_table

    table = render_comparison_table(two_results, width=width)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert len(table.columns) >= columns
    assert sum("fcfs" in line for line in lines) == 1
    assert any("Wait" in line for line in lines)


def test_the_best_value_is_bold_green_and_names_are_no_markup(two_results: Pair) -> None:
    from rich.console import Console

    from shunter.cli.tables import render_comparison_table

    hostile = replace(two_results[0], policy="[red]x", trace="[bold]t")
    console = Console(width=100, force_terminal=True, file=io.StringIO(), color_system="standard", legacy_windows=False)
    with console.capture() as capture:
        console.print(render_comparison_table([hostile, two_results[1]], width=100))
    text = capture.get()
    assert "[red]x" in text
    assert "[bold]t" in text
    best = duration(two_results[1].metrics["avg_wait_s"])
    assert f"\x1b[1;32m{best}\x1b[0m" in text
