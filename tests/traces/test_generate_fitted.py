"""Fitting a model to a trace, its JSON form, and the likeness of what it generates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import ConfigError, ShunterError, TraceError
from shunter.traces.generate import fit, generate
from shunter.traces.generate.compare import compare, ks_distance, lag1, offered_load
from shunter.traces.generate.drawing import previous_of_source
from shunter.traces.generate.fitted import FittedModel
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"


@pytest.fixture(scope="module")
def gpu_trace() -> Trace:
    return generate("gpu", jobs=6000, seed=3)


@pytest.fixture(scope="module")
def model(gpu_trace: Trace) -> FittedModel:
    return fit(gpu_trace)


def test_json_keeps_the_model_exactly(model: FittedModel, tmp_path: Path) -> None:
    text = model.to_json()
    again = FittedModel.from_json(text)
    assert again.to_json() == text
    model.save(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text() == text
    loaded = FittedModel.load(tmp_path / "m.json")
    assert loaded.generate(200, 1).jobs.frame.equals(model.generate(200, 1).jobs.frame)
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_the_registry_draws_from_a_file(model: FittedModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m.json")
    params: dict[str, float | str] = {"file": str(tmp_path / "m.json"), "load": 0.5, "trend": "no"}
    drawn = generate("fitted", jobs=300, seed=2, params=params)
    assert drawn.jobs.frame.equals(model.generate(300, 2, load=0.5, trend=False).jobs.frame)
    with pytest.raises(ConfigError, match="needs the parameter 'file'"):
        generate("fitted", jobs=10, seed=0)


def test_fit_and_draws_are_deterministic(gpu_trace: Trace, model: FittedModel) -> None:
    assert fit(gpu_trace).to_json() == model.to_json()
    assert model.generate(500, 4).jobs.frame.equals(model.generate(500, 4).jobs.frame)
    assert not model.generate(500, 4).jobs.frame.equals(model.generate(500, 5).jobs.frame)


def test_no_name_of_the_log_is_in_the_model(gpu_trace: Trace) -> None:
    frame = gpu_trace.jobs.frame.with_columns(user="person-" + gpu_trace.jobs.frame["user"])
    named = replace(gpu_trace, jobs=make_jobs({name: frame[name] for name in frame.columns}))
    assert "person" not in fit(named).to_json()


def test_generated_gpu_jobs_resemble_the_log(gpu_trace: Trace, model: FittedModel) -> None:
    figures = compare(gpu_trace, model.generate(len(gpu_trace.jobs), 1))
    assert figures["ks_size"] < 0.06
    assert figures["ks_duration"] < 0.06
    assert figures["ks_gap"] < 0.06
    assert figures["hour_correlation"] > 0.9
    for name in ("gap", "duration", "size"):
        assert figures[f"lag1_{name}_generated"] == pytest.approx(figures[f"lag1_{name}_real"], abs=0.12)
    assert figures["load_generated"] == pytest.approx(figures["load_real"], rel=0.35)


def test_demands_stay_joint(gpu_trace: Trace, model: FittedModel) -> None:
    names = ["tasks", "cpus", "memory_gib", "gpus", "gpu_type", "queue"]
    seen = gpu_trace.jobs.frame.select(names).unique()
    drawn = model.generate(3000, 1).jobs.frame.select(names).unique()
    assert drawn.join(seen, on=names, how="anti", nulls_equal=True).height == 0


def test_users_keep_their_groups_shares_and_habits(gpu_trace: Trace, model: FittedModel) -> None:
    drawn = model.generate(20_000, 1).jobs.frame
    assert drawn.unique(["user", "group"]).height == drawn["user"].n_unique()
    shares = [
        np.sort(f["user"].value_counts()["count"].to_numpy())[::-1] / f.height for f in (gpu_trace.jobs.frame, drawn)
    ]
    assert shares[1][:5] == pytest.approx(shares[0][:5], abs=0.05)


def test_requests_are_popular_values_and_suffice() -> None:
    real = generate("lublin99", jobs=20_000, seed=2, params={"estimates": "tsafrir", "users": 30, "overrun_share": 0.1})
    drawn = fit(real).generate(20_000, 1)
    figures = []
    for trace in (real, drawn):
        run, asked = trace.jobs.floats("duration_s"), trace.jobs.floats("requested_s")
        figures.append((run / asked, asked, (asked < run).mean()))
    assert ks_distance(figures[0][0], figures[1][0]) < 0.08
    assert ks_distance(figures[0][1], figures[1][1]) < 0.08
    assert figures[1][2] == pytest.approx(figures[0][2], abs=0.01)


@pytest.mark.parametrize("load", [0.3, 0.9, 2.0])
def test_load_is_reached(model: FittedModel, load: float) -> None:
    assert offered_load(model.generate(4000, 1, load=load)) == pytest.approx(load, rel=0.01)


def test_load_needs_a_capacity() -> None:
    trace = generate("poisson", jobs=100, seed=1)
    unknown = replace(trace, cluster=ClusterSpec("gpus only", (NodeGroup("n", 1, gpus=8.0),)))
    with pytest.raises(ConfigError, match="does not say its cpus"):
        fit(unknown).generate(50, 1, load=0.5)


def test_the_trend_over_weeks_can_be_left_out() -> None:
    """A log whose second half is five times as busy: with the trend the draw is, too."""
    rng = np.random.default_rng(0)
    week = 7 * 86400.0
    submit = np.sort(np.concatenate([rng.uniform(0, 4 * week, 500), rng.uniform(4 * week, 8 * week, 2500)]))
    jobs = make_jobs(
        {"job_id": np.arange(3000), "submit_s": submit, "duration_s": np.full(3000, 60.0), "cpus": np.ones(3000)}
    )
    learnt = fit(Trace("rising", jobs, pool(8)))
    halves = []
    for trend in (True, False):
        drawn = learnt.generate(2900, 1, trend=trend).jobs.floats("submit_s")
        halves.append(float((drawn < drawn[-1] / 2).mean()))
    assert halves[0] == pytest.approx(1 / 6, abs=0.06)
    assert halves[1] == pytest.approx(1 / 2, abs=0.06)


def test_bursts_come_back_with_their_user_and_size() -> None:
    """Users who submit five equal jobs at once, every ten minutes or so."""
    rng = np.random.default_rng(1)
    starts = rng.exponential(600, 800).cumsum()
    user, size = rng.integers(0, 10, 800), 2 ** rng.integers(0, 5, 800)
    table = {
        "job_id": np.arange(4000),
        "submit_s": np.floor(np.repeat(starts, 5) + np.tile(np.arange(5), 800)),
        "duration_s": np.repeat(np.round(rng.lognormal(5, 1, 800)), 5),
        "tasks": np.repeat(size, 5),
        "cpus": np.ones(4000),
        "user": np.repeat(user, 5).astype(str),
    }
    real = Trace("bursts", make_jobs(table), pool(64))
    learnt = fit(real)
    assert learnt.arrivals.burst_share == pytest.approx(0.8, abs=0.02)
    assert learnt.sources.batch_share == pytest.approx(0.8, abs=0.05)
    figures = compare(real, learnt.generate(4000, 1))
    assert figures["ks_gap"] < 0.05
    for name in ("duration", "size"):
        assert figures[f"lag1_{name}_real"] > 0.75
        assert figures[f"lag1_{name}_generated"] > 0.65


@settings(deadline=None, max_examples=40)
@given(
    jobs=st.integers(50, 300),
    users=st.integers(0, 5),
    groups=st.integers(0, 20),
    gpus=st.booleans(),
    missing=st.floats(0, 1),
    whole=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_small_log_can_be_fitted_and_drawn_from(
    *, jobs: int, users: int, groups: int, gpus: bool, missing: float, whole: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-1, 5)
    submit, run = rng.exponential(scale, jobs).cumsum(), rng.lognormal(rng.uniform(-2, 8), rng.uniform(0, 3), jobs)
    if whole:
        submit, run = np.floor(submit), np.floor(run)
    submit[-1] += 1.0
    table: dict[str, object] = {
        "job_id": np.arange(jobs),
        "submit_s": submit,
        "duration_s": run,
        "tasks": rng.integers(1, 9, jobs),
        "cpus": np.ones(jobs),
        "gpus": rng.integers(0, 3, jobs) * 1.0 if gpus else np.zeros(jobs),
        "requested_s": [None if rng.random() < missing else float(r) + 1.0 for r in run],
        "outcome": rng.choice(["completed", "failed", "killed"], jobs).tolist(),
    }
    if groups:
        table["group"] = [f"g{i}" for i in rng.integers(0, groups, jobs)]
    if users:
        table["user"] = [f"u{i}" if i else None for i in rng.integers(0, users, jobs)]
    learnt = fit(Trace("small", make_jobs(table), pool(64)))
    again = FittedModel.from_json(learnt.to_json())
    drawn = again.generate(200, seed).jobs
    submit_s = drawn.floats("submit_s")
    assert (np.diff(submit_s) >= 0).all()
    run_s = drawn.floats("duration_s")
    assert run_s.min() >= run.min() * (1 - 1e-5) - 0.5
    assert run_s.max() <= run.max() * (1 + 1e-5) + 0.5
    assert drawn.frame["requested_s"].null_count() >= (200 if missing == 1 else 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("arrivals"), "arrivals: missing"),
        (lambda d: d.update(schema=99), "schema is 99"),
        (lambda d: d["arrivals"].update(week_rates=[1.0]), "arrivals.week_rates"),
        (lambda d: d["arrivals"].update(burst_share="x"), "'x' is no float"),
        (lambda d: d["arrivals"].update(trend=[-1.0]), "arrivals.trend"),
        (lambda d: d["sources"]["habit_idx"].append(3), "sources.habit_idx"),
        (lambda d: d["shapes"]["shape_idx"].__setitem__(0, 10_000), "shapes.shape_idx"),
        (lambda d: d["durations"]["quantiles_s"][0].pop(), "no (rectangular) list"),
        (lambda d: d["durations"]["quantiles_s"][0].__setitem__(0, "NaN?"), "no (rectangular) list"),
        (lambda d: d["cluster"]["groups"][0].update(count=0), "not a positive number of nodes"),
        (lambda d: d["cluster"]["groups"][0].update(colour="red"), "colour"),
        (lambda d: d["cluster"].pop("name"), "name: missing"),
        (lambda d: d.update(jobs="many"), "jobs: 'many' is no int"),
    ],
)
def test_a_damaged_model_is_refused_with_its_place(model: FittedModel, change: object, said: str) -> None:
    data = json.loads(model.to_json())
    change(data)  # type: ignore[operator]
    with pytest.raises(TraceError) as caught:
        FittedModel.from_json(json.dumps(data), "m.json")
    assert said in str(caught.value)
    assert str(caught.value).startswith("m.json")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("{\n  no json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list").write_text("[1, 2]")
    for name, said in (
        ("text", ":2:3: no JSON"),
        ("bytes", "no UTF-8"),
        ("list", "schema is 'list'"),
        ("none", "No such file"),
    ):
        with pytest.raises(ShunterError, match=said):
            FittedModel.load(tmp_path / name)


def test_a_log_too_small_or_without_time_is_refused() -> None:
    with pytest.raises(TraceError, match="has 49 jobs; a fit needs at least 50"):
        fit(generate("poisson", jobs=49, seed=0))
    with pytest.raises(TraceError, match="all jobs arrive at"):
        fit(generate("deterministic", jobs=60, seed=0, params={"interval": 0}))


def test_an_unwritable_model_leaves_nothing_behind(model: FittedModel, tmp_path: Path) -> None:
    (tmp_path / "m.json").mkdir()
    with pytest.raises(ShunterError, match="cannot be written"):
        model.save(tmp_path / "m.json")
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_previous_of_source_skips_others_and_long_pauses() -> None:
    source = np.array([0, 1, 0, 0, 1] + [2] * 600 + [1])
    parent = previous_of_source(source)
    assert parent[:5].tolist() == [0, 1, 0, 2, 1]
    assert parent[-1] == len(source) - 1  # 601 jobs back is a new session


def test_lag1_and_ks_of_known_series() -> None:
    assert ks_distance(np.array([1.0, 2.0]), np.array([1.0, 3.0])) == pytest.approx(0.5)
    assert lag1(np.array([1.0, -1.0, 1.0, -1.0])) == pytest.approx(-0.75)
    assert lag1(np.ones(5)) == 0.0


REAL_LOGS = [
    # file, and per figure what three seeds' mean may reach
    (
        "swf/SDSC-SP2-1998-4.2-cln.swf.gz",
        {"ks_size": 0.04, "ks_duration": 0.03, "ks_gap": 0.08, "hour": 0.97, "load": 0.25},
    ),
    ("philly/philly_jobs.csv.gz", {"ks_size": 0.04, "ks_duration": 0.03, "ks_gap": 0.09, "hour": 0.8, "load": 0.6}),
    (
        "helios/helios_15k_part1.csv.gz",
        {"ks_size": 0.12, "ks_duration": 0.1, "ks_gap": 0.09, "hour": 0.7, "load": 0.5},
    ),
]


@pytest.mark.skipif(not SHARED.exists(), reason="the trace collection ../shared is not there")
@pytest.mark.parametrize(("file", "limit"), REAL_LOGS, ids=["SDSC-SP2", "Philly", "Helios"])
def test_models_of_real_logs_resemble_them(file: str, limit: dict[str, float]) -> None:
    from shunter.traces.read import read

    real = read(SHARED / "traces" / file)
    learnt = fit(real)
    runs = [compare(real, learnt.generate(len(real.jobs), seed)) for seed in range(3)]
    mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    for name in ("ks_size", "ks_duration", "ks_gap"):
        assert mean[name] < limit[name], mean
    assert mean["hour_correlation"] > limit["hour"]
    assert mean["load_generated"] == pytest.approx(mean["load_real"], rel=limit["load"])
    for name in ("gap", "duration", "size"):
        assert mean[f"lag1_{name}_generated"] == pytest.approx(mean[f"lag1_{name}_real"], abs=0.25)
