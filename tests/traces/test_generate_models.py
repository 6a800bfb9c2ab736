"""The registry, parameter errors, and the Lublin–Feitelson, GPU and theory models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import UsageError
from shunter.scheduler.types import FloatArray
from shunter.traces.generate import MODELS, generate, model_names, parameters
from shunter.traces.generate.compare import hour_profile, ks_distance, offered_load
from shunter.traces.generate.lublin import (
    ALL,
    BATCH,
    BUCKET_S,
    BUCKETS,
    INTERACTIVE,
    Constants,
    day_clock,
    merge,
)
from shunter.traces.tables import Trace

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
DRAWN = [name for name in MODELS if name != "fitted"]


def columns(trace: Trace) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Submit times, run times and sizes (over the gang) of a trace."""
    jobs = trace.jobs
    per_task = jobs.floats("gpus") if jobs.floats("gpus").any() else jobs.floats("cpus")
    return jobs.floats("submit_s"), jobs.floats("duration_s"), jobs.ints("tasks") * per_task


@pytest.mark.parametrize("model", DRAWN)
def test_equal_seeds_give_equal_traces_and_others_do_not(model: str) -> None:
    first, again, other = (generate(model, jobs=300, seed=s) for s in (5, 5, 6))
    assert first.jobs.frame.equals(again.jobs.frame)
    assert first.header == again.header
    assert first.jobs.frame.equals(other.jobs.frame) == (model == "deterministic")


@pytest.mark.parametrize("model", model_names())
def test_every_parameter_has_unit_and_meaning_and_a_unique_name(model: str) -> None:
    specs = parameters(model)
    assert len({spec.name for spec in specs}) == len(specs)
    assert all(spec.unit and spec.meaning for spec in specs)


@pytest.mark.parametrize("model", DRAWN)
def test_defaults_given_as_text_change_nothing(model: str) -> None:
    given_as_text = {spec.name: str(spec.default) for spec in parameters(model) if spec.default is not None}
    assert generate(model, jobs=50, seed=1).jobs.frame.equals(
        generate(model, jobs=50, seed=1, params=given_as_text).jobs.frame
    )


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        ("lublin98", {}, "unknown model 'lublin98'; did you mean 'lublin99'?"),
        ("poisson", {"lod": 0.5}, "no parameter 'lod'; did you mean 'load'?"),
        ("lublin99", {"serial": 1.5}, "parameter 'serial': 1.5 does not lie in 0 .. 1"),
        ("lublin99", {"cpus": "many"}, "parameter 'cpus': 'many' is not a number"),
        ("lublin99", {"cpus": 12.5}, "12.5 is not a whole number"),
        ("lublin99", {"cpus": math.nan}, "nan is not a whole number"),
        ("lublin99", {"load": math.inf}, "inf is not a finite number"),
        ("lublin99", {"variant": "interactve"}, "did you mean 'interactive'?"),
        ("lublin99", {"ulow": 9}, "'ulow': 9 lies above uhi, 7"),
        ("lublin99", {"a2": 3000, "pa": 0, "pb": 0}, "nearly every log run time exceeds"),
        ("lublin99", {"anum": 200, "bnum": 50}, "no weight on the day"),
        ("poisson", {"size": "1:x"}, "'1:x' is no size or size:weight"),
        ("poisson", {"size": "2", "servers": 1}, "2 is no whole number from 1 to servers, 1"),
        ("poisson", {"size": "1:0"}, "add up to 0"),
        ("poisson", {"service": "hyperexponential", "cv": 0.5}, "0.5 is below 1"),
        ("deterministic", {"size": 2}, "2 exceeds servers, 1"),
        ("gpu", {"cpus_per_node": 4}, "at least one CPU"),
    ],
)
def test_bad_models_and_parameters_are_refused_with_the_value(model: str, params: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        generate(model, jobs=10, seed=0, params=params)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("jobs", "seed"), [(0, 1), (-3, 1), (1, -1)])
def test_counts_out_of_range_are_refused(jobs: int, seed: int) -> None:
    with pytest.raises(UsageError, match=r"jobs|seed"):
        generate("poisson", jobs=jobs, seed=seed)


@pytest.mark.parametrize("model", DRAWN)
def test_a_single_job_is_a_trace(model: str) -> None:
    assert len(generate(model, jobs=1, seed=0).jobs) == 1


def test_lublin_sizes_follow_the_published_probabilities() -> None:
    _, _, size = columns(generate("lublin99", jobs=200_000, seed=2, params={"cpus": 256}))
    assert (size == 1).mean() == pytest.approx(ALL.serial, abs=0.003)
    # Besides the 57.6 % drawn as powers of two, some of the other 18 % round to 2 or 4.
    assert ((np.log2(size) % 1 == 0) & (size > 1)).mean() == pytest.approx(0.615, abs=0.005)
    assert size.max() == 256
    # umed = 8 − 2.5 = 5.5, and rounding takes no parallel job across 2^5.5 = 45: 5.5 itself rounds to 6.
    share = (size > 45).mean() / (1 - ALL.serial)
    assert share == pytest.approx(1 - ALL.uprob, abs=0.003)


def test_lublin_run_times_grow_with_size_and_stay_below_the_limit() -> None:
    _, run, size = columns(generate("lublin99", jobs=100_000, seed=3, params={"cpus": 128}))
    assert run.min() >= 1
    assert run.max() <= math.exp(12)
    # The second gamma (e^9.36 = 11,600 s) has probability 1 − (pa·n + pb): 0.225 for n = 1, 0.91 for n = 128.
    for n in (1, 128):
        second = (run[size == n] > 3000).mean()
        first_above = 0.038 if n == 1 else 0.01  # part of the first gamma above e^8, less at 128 as it is rare there
        assert second == pytest.approx(1 - (ALL.pa * n + ALL.pb) + first_above, abs=0.03)


def test_lublin_arrivals_equal_the_loop_over_buckets() -> None:
    """The published algorithm: pay points to half-hours one after the other."""
    rng = np.random.default_rng(1)
    paid = np.exp(np.minimum(rng.gamma(ALL.aarr * ALL.arar, ALL.barr, 400), 13.0)) / BUCKET_S
    clock = day_clock(ALL)
    weights = np.diff(clock)
    expected, bucket, start, left = [], 0, 0.0, 0.0
    for points in paid:
        left += points
        while left > weights[bucket]:
            left -= weights[bucket]
            bucket = (bucket + 1) % BUCKETS
            start += BUCKET_S
        expected.append(start + BUCKET_S * left / weights[bucket])
    submit, order = merge([clock], [paid.cumsum()], 1.0, 400)
    assert np.abs(submit - np.floor(expected)).max() <= 1.0  # a float's last digit may decide a whole second
    assert order.tolist() == list(range(400))


def test_lublin_mixed_joins_both_published_streams() -> None:
    trace = generate("lublin99", jobs=20_000, seed=4, params={"variant": "mixed"})
    queue = np.array(trace.jobs.frame["queue"].to_list())
    _, run, size = columns(trace)
    assert set(queue) == {"batch", "interactive"}
    assert (size[queue == "batch"] == 1).mean() == pytest.approx(BATCH.serial, abs=0.02)
    assert (size[queue == "interactive"] == 1).mean() == pytest.approx(INTERACTIVE.serial, abs=0.02)
    assert size[queue == "interactive"].max() <= 45  # 2^5.5
    assert np.median(run[queue == "interactive"]) < np.median(run[queue == "batch"])


def test_lublin_constants_can_be_changed_one_by_one() -> None:
    names = [n for n in Constants.__dataclass_fields__ if "uhi" not in n]
    assert {spec.name for spec in parameters("lublin99")} >= set(names)
    _, _, size = columns(generate("lublin-feitelson", jobs=2000, seed=1, params={"serial": 1.0}))
    assert (size == 1).all()


@pytest.mark.parametrize("cpus", [1, 2, 3, 7, 100, 1000, 93_312])
def test_lublin_fits_machines_of_any_size(cpus: int) -> None:
    _, _, size = columns(generate("lublin99", jobs=2000, seed=1, params={"cpus": cpus}))
    assert size.min() >= 1
    assert size.max() <= cpus


@pytest.mark.parametrize("variant", ["all", "batch", "interactive", "mixed"])
@pytest.mark.parametrize("load", [0.3, 0.85, 1.4])
def test_load_is_reached_and_the_daily_cycle_kept(variant: str, load: float) -> None:
    trace = generate("lublin99", jobs=6000, seed=5, params={"variant": variant, "load": load})
    assert offered_load(trace) == pytest.approx(load, rel=0.01)
    if trace.jobs.floats("submit_s")[-1] < 20 * 86400:
        return  # too few days for a profile: short interactive jobs come by the thousand to make a load
    plain = generate("lublin99", jobs=60_000, seed=5, params={"variant": variant})
    profiles = [hour_profile(t.jobs.floats("submit_s")) for t in (trace, plain)]
    assert np.corrcoef(profiles[0], profiles[1])[0, 1] > 0.8


def test_switching_users_and_estimates_on_changes_nothing_else() -> None:
    bare = generate("lublin99", jobs=500, seed=6)
    full = generate("lublin99", jobs=500, seed=6, params={"users": 20, "estimates": "tsafrir"})
    assert bare.jobs.frame.drop("user", "requested_s").equals(full.jobs.frame.drop("user", "requested_s"))
    assert bare.jobs.frame["requested_s"].null_count() == 500
    assert full.jobs.frame["requested_s"].null_count() == 0


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(["exact", "uniform", "tsafrir"]),
    max_estimate=st.floats(0.1, 100),
    max_share=st.floats(0, 1),
    badness=st.floats(0, 10),
    seed=st.integers(0, 1000),
)
def test_estimates_are_never_below_the_run_time_without_overruns(
    kind: str, max_estimate: float, max_share: float, badness: float, seed: int
) -> None:
    params = {"estimates": kind, "max_estimate": max_estimate, "max_share": max_share, "badness": badness}
    jobs = generate("lublin99", jobs=300, seed=seed, params=params).jobs
    assert (jobs.floats("requested_s") >= jobs.floats("duration_s")).all()


def test_tsafrir_estimates_are_modal_and_overruns_have_their_share() -> None:
    params = {"estimates": "tsafrir", "max_share": 0.2, "max_estimate": 18, "overrun_share": 0.3}
    jobs = generate("lublin99", jobs=50_000, seed=7, params=params).jobs
    requested, run = jobs.floats("requested_s"), jobs.floats("duration_s")
    over = requested < run
    values, counts = np.unique(requested[~over], return_counts=True)
    assert np.sort(counts)[-20:].sum() / counts.sum() > 0.85  # the paper: twenty values cover about 89 %
    assert 18 * 3600.0 in values[np.argsort(counts)[-3:]]
    assert over[run > 10].mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.skipif(not SHARED.exists(), reason="the trace collection ../shared is not there")
def test_lublin_agrees_with_the_authors_programs_output() -> None:
    """10,000 jobs of m_lublin99 for 256 nodes. Two samples of this size differ by up to 0.028 (0.1 % level)."""
    from shunter.traces.read import read

    real = read(SHARED / "traces" / "swf" / "lublin_256.swf.gz")
    ours = generate("lublin99", jobs=len(real.jobs), seed=1, params={"cpus": 256})
    submit, run, size = columns(real)
    our_submit, our_run, our_size = columns(ours)
    assert ks_distance(size, our_size) < 0.028
    assert ks_distance(run, our_run) < 0.028
    assert ks_distance(np.diff(submit), np.diff(our_submit)) < 0.028
    assert np.corrcoef(hour_profile(submit), hour_profile(our_submit))[0, 1] > 0.95
    assert (size == 1).mean() == pytest.approx((our_size == 1).mean(), abs=0.02)
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    assert np.quantile(run, quantiles) == pytest.approx(np.quantile(our_run, quantiles), rel=0.15)


def exponential_distance(values: FloatArray, mean: float) -> float:
    """Distance of a sample from the exponential distribution."""
    x = np.sort(values)
    return float(np.abs(1 - np.exp(-x / mean) - (np.arange(len(x)) + 0.5) / len(x)).max())


def test_poisson_has_exponential_gaps_and_the_rate_of_its_load() -> None:
    params = {"servers": 8, "load": 0.6, "mean": 50, "size": "1:3,2:1"}
    submit, run, size = columns(generate("poisson", jobs=100_000, seed=1, params=params))
    rate = 0.6 * 8 / (50 * 1.25)
    assert exponential_distance(np.diff(submit), 1 / rate) < 0.006  # 0.1 % level: 1.95 / √100,000
    assert exponential_distance(run, 50) < 0.006
    assert (size == 1).mean() == pytest.approx(0.75, abs=0.005)
    assert abs(np.corrcoef(run[:-1], run[1:])[0, 1]) < 0.01


@pytest.mark.parametrize(
    ("service", "cv", "expected"),
    [
        ("exponential", 2.0, 1.0),
        ("deterministic", 2.0, 0.0),
        ("lognormal", 1.5, 1.5),
        ("hyperexponential", 3.0, 3.0),
        ("hyperexponential", 1.0, 1.0),
    ],
)
def test_service_distributions_have_their_moments(service: str, cv: float, expected: float) -> None:
    params = {"service": service, "cv": cv, "mean": 20}
    _, run, _ = columns(generate("poisson", jobs=400_000, seed=3, params=params))
    assert run.mean() == pytest.approx(20, rel=0.02)
    assert run.std() / run.mean() == pytest.approx(expected, rel=0.03, abs=1e-9)


@pytest.mark.parametrize(("service", "cv2"), [("exponential", 1.0), ("deterministic", 0.0), ("lognormal", 2.25)])
def test_waits_of_a_single_server_match_pollaczek_khinchine(service: str, cv2: float) -> None:
    """E[W] = ρ/(1 − ρ) · (1 + cv²)/2 · E[S], here with ρ = 0.5 and E[S] = 1; waits by Lindley's recursion."""
    params = {"service": service, "cv": 1.5, "mean": 1, "load": 0.5}
    means = []
    for seed in range(10):
        submit, run, _ = columns(generate("poisson", jobs=40_000, seed=seed, params=params))
        steps = run[:-1] - np.diff(submit)
        walk = np.concatenate(([0.0], np.cumsum(steps)))
        means.append(float((walk - np.minimum.accumulate(walk)).mean()))
    error = np.std(means, ddof=1) / math.sqrt(len(means))
    assert np.mean(means) == pytest.approx((1 + cv2) / 2, abs=4 * error)


def test_deterministic_is_plain_arithmetic() -> None:
    params = {"interval": 3, "duration": 7, "size": 2, "servers": 4, "resource": "gpus"}
    trace = generate("deterministic", jobs=5, seed=0, params=params)
    submit, run, size = columns(trace)
    assert submit.tolist() == [0, 3, 6, 9, 12]
    assert run.tolist() == [7] * 5
    assert size.tolist() == [2] * 5
    assert trace.cluster.total("gpus") == 4


@settings(deadline=None, max_examples=20)
@given(nodes=st.integers(1, 40), per_node=st.integers(1, 16), seed=st.integers(0, 100))
def test_gpu_gangs_fit_their_nodes(nodes: int, per_node: int, seed: int) -> None:
    params = {"nodes": nodes, "gpus_per_node": per_node, "cpus_per_node": 96, "memory_per_node": 512}
    trace = generate("gpu", jobs=200, seed=seed, params=params)
    jobs, node = trace.jobs, trace.cluster.groups[0]
    assert node.cpus is not None
    assert node.memory_gib is not None
    total = jobs.ints("tasks") * jobs.floats("gpus")
    assert set(total.tolist()) <= {1, 2, 4, 8, 16, 32}
    assert (jobs.floats("gpus") <= per_node).all()
    assert (jobs.floats("cpus") <= node.cpus).all()
    assert (jobs.floats("memory_gib") <= node.memory_gib).all()
    tasks_per_node = per_node // jobs.floats("gpus").astype(int)
    assert (jobs.ints("tasks") <= nodes * tasks_per_node).all()


def test_gpu_jobs_are_mostly_small_but_the_gpu_time_is_not() -> None:
    trace = generate("gpu", jobs=20_000, seed=1)
    _, run, size = columns(trace)
    assert 0.5 < (size == 1).mean() < 0.7
    gpu_time = size * run
    assert gpu_time[size >= 8].sum() / gpu_time.sum() > 0.6
    assert run.mean() > 5 * np.median(run)  # heavy tail
    assert offered_load(trace) == pytest.approx(0.85, rel=0.01)
    by_user = trace.jobs.frame.unique(["user", "group"])
    assert len(by_user) == trace.jobs.frame["user"].n_unique()  # a user belongs to one virtual cluster


def test_the_reference_page_lists_every_parameter_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "generators.md").read_text(encoding="utf-8")
    for model in MODELS:
        assert f"`{model}`" in page
        for spec in parameters(model):
            default = (
                spec.default
                if isinstance(spec.default, str)
                else f"{spec.default:g}"
                if spec.default is not None
                else "–"
            )
            assert f"| `{spec.name}` | {default} | {spec.unit} | {spec.meaning} |" in page
