"""The HTML report and the figures: complete, well formed, safe to open, small, and drawn without an error."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shunter.scheduler.errors import OutputError, UsageError
from shunter.sim.replay import simulate
from shunter.sim.report import series
from shunter.sim.report.figures import FIGURES, write_figures
from shunter.sim.report.formats import amount, best_indices, duration, human, metric_order, metric_view
from shunter.sim.report.html import render_report, write_report
from shunter.sim.result import Result
from shunter.traces.tables import Trace, make_jobs, pool
from tests.sim.browser import CHROMIUM, opened

Pair = tuple[Result, Result]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that elements nest, and collects what stands in the page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data: dict[str, object] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.elements[-1][1].get("type") == "application/json":
            self.data = json.loads(data)
        elif self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(two_results: Pair) -> Page:
    return Page(render_report(two_results, gantt_start_s=0.0))  # the first job has the most hostile name


# Page -------------------------------------------------------------------------------------------------------------


def test_every_policy_and_metric_is_there(page: Page, two_results: Pair) -> None:
    text = " ".join(page.words)
    for result in two_results:
        assert result.label in text
        for name, value in result.metrics.items():
            assert metric_view(name).label in text
            assert name in text
            assert human(name, value) in text
    for setting in ("synthetic", "64 cpus", "first-fit", "versions.shunter", "0.1.0"):
        assert setting in text


def test_exact_values_stand_in_the_titles(page: Page, two_results: Pair) -> None:
    titles = {cell.get("title") for cell in page.all("td")}
    for result in two_results:
        assert f"{result.metrics['avg_wait_s']!r} s" in titles


def test_the_best_of_each_column_is_marked(two_results: Pair) -> None:
    text = render_report(two_results)
    table = text[text.index("<tbody>") : text.index("</tbody>")]
    fcfs, sjf = table.split("</tr>")[:2]

    def marked(row: str, name: str) -> bool:
        value = {"fcfs": two_results[0], "sjf": two_results[1]}["sjf" if row is sjf else "fcfs"].metrics[name]
        return f'<td class="best" data-value="{value!r}"' in row

    assert marked(sjf, "avg_wait_s")
    assert not marked(fcfs, "avg_wait_s")
    assert marked(fcfs, "max_wait_s")  # the shortest first let one job wait longest
    assert marked(sjf, "utilisation")  # higher is better here


def test_names_from_a_trace_cannot_become_markup(page: Page) -> None:
    assert "<script>alert('user')</script>" in " ".join(page.words)
    assert "needs more CPUs than the <cluster> has" in " ".join(page.words)
    assert len(page.all("script")) == 2
    assert "</script><script>alert(1)</script>" in json.dumps(page.data)


def test_hostile_settings_and_titles_are_escaped(two_results: Pair) -> None:
    bad = "\"><img src=x onerror=alert(1)> & \ud800 '"
    result = replace(two_results[0], trace=bad, policy=bad, cluster=bad, manifest={"warnings": [bad], bad: bad})
    page = Page(render_report([result, two_results[1]]))
    assert page.all("img") == []
    assert len(page.all("script")) == 2
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]


def test_the_page_asks_the_network_for_nothing(page: Page, two_results: Pair) -> None:
    text = render_report(two_results)
    assert [a for _, a in page.elements if a.get("src") or a.get("href")] == []
    assert re.findall(r"url\((?!#)|@import", text) == []
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_tables_have_headers_and_one_run_has_no_legend(page: Page, two_results: Pair) -> None:
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert any(a.get("id") == "legend" for _, a in page.elements)
    single = Page(render_report(two_results[:1]))
    assert not any(a.get("id") == "legend" for _, a in single.elements)
    assert "best" not in {td.get("class") for td in single.all("td")}


def test_equal_runs_give_equal_pages_whatever_the_clock_said(two_results: Pair) -> None:
    slower = [replace(r, wall_s=50.0) for r in two_results]
    assert render_report(slower) == render_report(two_results)


def test_the_file_is_written_aside_and_errors_are_one_line(two_results: Pair, tmp_path: Path) -> None:
    write_report(two_results, tmp_path / "report.html", title="Quarter <3>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert "<title>Quarter &lt;3&gt;</title>" in (tmp_path / "report.html").read_text()
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        write_report(two_results, tmp_path / "nowhere" / "report.html")
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "report.html")


def test_many_jobs_make_no_larger_page(two_results: Pair) -> None:
    """200 copies of the run, one after the other: 80,000 jobs, and a page well below 1 MB."""
    result = two_results[0]
    span = result.metrics["makespan_s"] + 1000
    times = ["submit_s", "start_s", "end_s"]
    jobs = pl.concat(result.jobs.with_columns(pl.col(times) + k * span, pl.col("job_id") + f".{k}") for k in range(200))
    timeline = pl.concat(result.timeline.with_columns(pl.col("time_s") + k * span) for k in range(200))
    text = render_report([replace(result, jobs=jobs, tables={**result.tables, "timeline": timeline})])
    assert len(text) < 300_000


def test_gpu_jobs_are_counted_in_gpus(two_results: Pair, tmp_path: Path) -> None:
    """The same jobs with 64 GPUs in place of 64 CPUs, the small ones sharing one."""
    groups = [{"name": "g", "count": 8, "cpus": 32.0, "gpus": 8.0}]
    results = [
        replace(
            r,
            jobs=r.jobs.with_columns(pl.col("cpus").replace(1.0, 0.5).alias("gpus"), pl.lit(0.0).alias("cpus")),
            tables=r.tables
            | {"timeline": r.timeline.with_columns(pl.col("used_cpus").alias("used_gpus"), used_cpus=pl.lit(0.0))},
            manifest={"cluster": {"name": "c", "groups": groups}},
        )
        for r in two_results
    ]
    text = render_report(results)
    assert "Users by GPU hours and their mean wait" in text
    assert "(64 GPUs)" in text
    assert '"unit":"GPUs"' in text
    assert '"labels":["< 1","2",' in text.replace("\\u003c", "<")
    write_figures(results, tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_hardly_any_jobs_are_no_problem(two_results: Pair, kept: int, tmp_path: Path) -> None:
    few = [
        replace(r, jobs=r.jobs.head(kept), tables={"timeline": r.timeline.head(3 if kept else 0)}, metrics={})
        for r in two_results
    ]
    Page(render_report(few))
    if kept:
        assert len(write_figures(few[:1], tmp_path)) == len(FIGURES) - 1


def test_all_jobs_rejected_is_said(two_results: Pair) -> None:
    rejected = two_results[0].jobs.with_columns(
        pl.lit(None, pl.Float64).alias("start_s"),
        pl.lit(None, pl.Float64).alias("end_s"),
        pl.lit(None, pl.Float64).alias("wait_s"),
        pl.lit("rejected").alias("state"),
        pl.lit("too large").alias("reason"),
    )
    result = replace(two_results[0], jobs=rejected, tables={"timeline": two_results[0].timeline.clear()})
    assert "400 jobs rejected: too large" in " ".join(Page(render_report([result])).words)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("number", [1, 2])
def test_a_browser_draws_every_chart_without_an_error(two_results: Pair, tmp_path: Path, number: int) -> None:
    write_report(two_results[:number], tmp_path / "report.html", gantt_start_s=0.0)
    stdout, stderr = opened(tmp_path / "report.html")
    assert "Uncaught" not in stderr
    assert "CONSOLE" not in stderr
    assert "alert(1)</script>" not in stdout.replace("\\u003c", "<").split('id="data"')[0]
    charts = re.findall(r'<div class="chart" id="(\w+)">(<svg.*?</svg>)', stdout, re.DOTALL)
    assert [name for name, _ in charts] == ["cdf", "size", "utilisation", "queue", "gantt"]
    for _, svg in charts:
        assert "<title" in svg
        assert "<desc" in svg
        assert "NaN" not in svg
    assert charts[-1][1].count('class="job') > 20


# Figures ----------------------------------------------------------------------------------------------------------


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_figures_have_their_size_and_are_not_blank(two_results: Pair, tmp_path: Path) -> None:
    from matplotlib.image import imread

    written = write_figures(two_results, tmp_path / "figures")
    assert [p.stem for p in written] == list(FIGURES)
    for path in written:
        width, height = png_size(path)
        assert width in (1020, 1275, 2100)  # 3.4, 4.25 and 7 inches at 300 dots
        assert 500 < height < 2400
        colours = (imread(path)[::4, ::4, :3] * 255).astype(np.int64) @ np.array([65536, 256, 1])
        assert len(np.unique(colours)) > 30
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == sorted(p.name for p in written)


def test_figures_as_pdf_are_the_same_every_time(two_results: Pair, tmp_path: Path) -> None:
    first = write_figures(two_results[:1], tmp_path / "a", suffix=".pdf")
    second = write_figures(two_results[:1], tmp_path / "b", suffix=".pdf")
    assert [p.stem for p in first] == [name for name in FIGURES if name != "comparison"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes().startswith(b"%PDF")
        assert one.read_bytes() == other.read_bytes()


def test_figures_refuse_what_they_cannot_write(two_results: Pair, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written as \.png or \.pdf, got '\.gif'"):
        write_figures(two_results, tmp_path, suffix=".gif")
    with pytest.raises(UsageError, match="at least one run"):
        write_figures([], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write_figures(two_results, tmp_path / "file")


# Series -----------------------------------------------------------------------------------------------------------


def test_step_means_by_hand() -> None:
    """2 from 0 to 4, 6 from 4 to 6, 0 afterwards. Bins [0, 5), [5, 10): (2·4 + 6·1) / 5 = 2.8 and 6 / 5 = 1.2."""
    means = series.step_means(np.array([0.0, 4.0, 6.0]), np.array([2.0, 6.0, 0.0]), np.array([0.0, 5.0, 10.0]))
    assert means.tolist() == pytest.approx([2.8, 1.2])
    assert series.step_means(np.zeros(0), np.zeros(0), np.array([0.0, 1.0])).tolist() == [0.0]


def test_mean_utilisation_and_queue_agree_with_the_metrics(two_results: Pair) -> None:
    for result in two_results:
        edges = np.array(series.time_span([result]))
        used = series.timeline_means(result, "used_cpus", edges)[0] / 64
        waited_s = result.jobs["wait_s"].sum() / (edges[1] - edges[0])
        assert used == pytest.approx(result.metrics["utilisation"])
        assert series.timeline_means(result, "queue_length", edges)[0] == pytest.approx(waited_s)


def test_cdf_ends_at_one_and_counts_the_jobs(two_results: Pair) -> None:
    grid = series.wait_grid(two_results)
    for result in two_results:
        cdf = series.wait_cdf(result, grid)
        waits = result.jobs["wait_s"].drop_nulls()
        assert cdf[0] == pytest.approx((waits <= 1.0).mean())
        assert cdf[-1] == 1.0
        assert (np.diff(cdf) >= 0).all()


@pytest.mark.parametrize(
    ("amounts", "labels"),
    [
        ([1, 2, 3, 4, 5, 64], ("1", "2", "3–4", "5–8", "33–64")),
        ([0.25, 0.5, 1, 8], ("< 1", "1", "5–8")),
        ([1, 100_000], ("1", "32\u202f769–262\u202f144")),
        ([7], ("5–8",)),
        ([1], ("1",)),
    ],
)
def test_size_classes(amounts: Sequence[float], labels: tuple[str, ...]) -> None:
    values = np.asarray(amounts, dtype=np.float64)
    classes = series.size_classes(values)
    assert classes.labels == labels
    assert (classes.bounds[classes.index(values)] >= values).all()


def test_packed_jobs_never_overlap_and_keep_their_size() -> None:
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 100, 300))
    ends = starts + rng.exponential(10, 300)
    ends[::50] = starts[::50]  # jobs of no length hold no lane afterwards
    wanted = rng.choice([0.5, 1.0, 2.0, 7.0, 16.0], 300)
    pieces, lanes = series.pack_lanes(starts, ends, wanted)
    for job, held in enumerate(pieces):
        assert sum(length for _, length in held) == pytest.approx(wanted[job])
        for low, length in held:
            assert low >= 0
            assert low + length <= lanes
        for other in range(job):
            if ends[other] > starts[job]:
                for low, length in held:
                    assert all(low >= o + n - 1e-9 or low + length <= o + 1e-9 for o, n in pieces[other])


def test_packing_fits_the_cluster(two_results: Pair) -> None:
    for result in two_results:
        for window in series.interesting_windows(two_results):
            assert series.gantt(result, window, "cpus").lanes == 64.0


def test_a_window_ends_with_the_run() -> None:
    """Two jobs of a minute: the pictures show two minutes, not a day."""
    jobs = make_jobs({"job_id": ["a", "b"], "submit_s": [0.0, 0.0], "duration_s": [60.0, 60.0], "cpus": [1.0, 1.0]})
    result = simulate(Trace("two", jobs, pool(1)))
    [window] = series.interesting_windows([result])
    assert (window.start_s, window.end_s) == (0.0, 120.0)


def test_waits_by_user_add_up(two_results: Pair) -> None:
    rows = series.waits_by(two_results, "user", "cpus")
    assert len(rows) == 5
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert sum(row["jobs"] for row in rows) == 399
    total_wait = sum(row["jobs"] * row["waits_s"][1] for row in rows)
    assert total_wait / 399 == pytest.approx(two_results[1].metrics["avg_wait_s"])
    nobody = replace(two_results[0], jobs=two_results[0].jobs.with_columns(pl.lit(None, pl.String).alias("user")))
    assert series.waits_by([nobody], "user", "cpus") == []


def test_warnings_tell_what_was_left_out(two_results: Pair) -> None:
    manifest = {
        "trace": {"dropped": {"no run time": 3, "none": 0}, "adjusted": {"limit below run time": 1}},
        "passes_cut_short": 1,
        "passes_put_off": 2000,
        "warnings": ["the log ends in the middle"],
    }
    assert series.warnings(replace(two_results[0], manifest=manifest)) == [
        "1 job rejected: needs more CPUs than the <cluster> has",
        "3 rows of the log left out: no run time",
        "1 row of the log adjusted: limit below run time",
        "1 scheduling pass cut short at the backfill depth",
        "2\u202f000 scheduling passes put off by the interval between passes",
        "the log ends in the middle",
    ]


def test_labels_are_told_apart(two_results: Pair) -> None:
    a = two_results[0]
    assert series.unique_labels([a, replace(a, placement="packed")]) == ["fcfs (first-fit)", "fcfs (packed)"]
    assert series.unique_labels([a, replace(a, seed=2), two_results[1]]) == ["fcfs seed 1", "fcfs seed 2", "sjf"]
    assert series.unique_labels([a, a]) == ["fcfs", "fcfs #2"]


# Formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.5, "0.5 s"),
        (59.4, "59 s"),
        (59.7, "1 min"),
        (61.0, "1 min 1 s"),
        (3599.9, "1 h"),
        (20460.0, "5 h 41 min"),
        (172799.0, "2 d"),
        (1e6, "11 d 14 h"),
        (1e8, "1\u202f157 d"),
        (-90.0, "−1 min 30 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0123, "0.0123"), (12.2, "12.2"), (999.6, "1\u202f000"), (-5.25, "−5.25")]
)
def test_amounts(value: float, text: str) -> None:
    assert amount(value) == text


def test_direction_order_and_unknown_metrics() -> None:
    assert best_indices("avg_wait_s", [3.0, None, 1.0]) == {2}
    assert best_indices("utilisation", [0.5, 0.7, 0.7]) == {1, 2}
    assert best_indices("utilisation", [0.5, 0.5]) == frozenset()
    assert best_indices("backfilled_jobs", [1.0, 2.0]) == frozenset()
    assert metric_order(["zeta", "makespan_s", "avg_wait_s", "alpha_s"]) == [
        "avg_wait_s",
        "makespan_s",
        "alpha_s",
        "zeta",
    ]
    assert human("alpha_s", 61.0) == "1 min 1 s"
    assert human("utilisation", None) == "–"
