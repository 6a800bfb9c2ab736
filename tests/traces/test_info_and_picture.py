from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shunter.scheduler.errors import UsageError
from shunter.traces.info import calendar, describe, larger_than_cluster
from shunter.traces.picture import plot
from shunter.traces.read import read
from shunter.traces.tables import ClusterSpec, NodeGroup, Trace, make_jobs, pool


def small(**changes: object) -> Trace:
    columns = {
        "job_id": ["a", "b", "c", "d"],
        "submit_s": [0, 100, 200, 400],
        "duration_s": [100, 50, 200, 10],
        "requested_s": [100, 100, 100, None],
        "tasks": [1, 2, 4, 8],
        "cpus": [1] * 4,
        "user": ["u", "u", "v", None],
        "outcome": ["completed", "completed", "failed", "killed"],
    }
    return Trace("small", make_jobs(columns | changes), pool(4))


def test_figures_of_a_small_trace() -> None:
    facts = describe(small())
    # Work: 1·100 + 2·50 + 4·200 + 8·10 = 1080 CPU·s; capacity: 4 CPUs × 400 s.
    assert facts["offered_load"] == {"cpus": pytest.approx(1080 / 1600)}
    assert facts["span_s"] == 400.0
    assert facts["users"] == 2
    assert facts["outcomes"] == {"completed": 2, "failed": 1, "killed": 1}
    assert facts["size"]["max"] == 8.0
    assert facts["size"]["single_share"] == 0.25
    assert facts["size"]["power_of_two_share"] == 1.0
    assert facts["duration_s"]["mean"] == 90.0
    assert facts["interarrival_s"]["mean"] == pytest.approx(400 / 3)
    assert facts["estimates"]["known_share"] == 0.75
    assert facts["estimates"]["exceeding_share"] == pytest.approx(1 / 3)
    assert facts["larger_than_cluster"] == {"jobs": 1, "share": 0.25}
    assert "1 jobs are larger than the cluster" in facts["defects"][0]
    assert json.loads(json.dumps(facts)) == facts


def test_poisson_arrivals_have_no_burstiness() -> None:
    rng = np.random.default_rng(5)
    count = 20_000
    jobs = make_jobs(
        {
            "job_id": [str(i) for i in range(count)],
            "submit_s": np.cumsum(rng.exponential(10.0, count)),
            "duration_s": np.ones(count),
        }
    )
    facts = describe(Trace("p", jobs, pool(1)))
    assert facts["interarrival_s"]["cv"] == pytest.approx(1.0, abs=0.02)
    assert facts["interarrival_s"]["burstiness"] == pytest.approx(0.0, abs=0.01)


def test_hours_are_those_of_the_site() -> None:
    trace = small(submit_s=[0, 3600, 7200, 90000])
    assert calendar(trace)["hour"].to_list() == [0, 1, 2, 1]
    assert calendar(trace)["weekday"].to_list() == [0, 0, 0, 1]  # days since the start
    # 1998-04-25 01:11:04 UTC was a Friday evening, 18:11, in California.
    sited = Trace("s", trace.jobs, pool(4), 893466664.0, header={"TimeZoneString": "US/Pacific"})
    assert calendar(sited)["hour"].to_list() == [18, 19, 20, 19]
    assert calendar(sited)["weekday"].to_list() == [4, 4, 4, 5]
    assert describe(sited)["clock"] == "US/Pacific"
    unknown = Trace("s", trace.jobs, pool(4), 893466664.0, header={"TimeZoneString": "Mars"})
    assert describe(unknown)["clock"] == "UTC"


def test_a_task_must_fit_on_a_node() -> None:
    cluster = ClusterSpec("c", (NodeGroup("n", 4, cpus=2.0, gpus=8.0),))
    trace = Trace("t", small(cpus=[3, 1, 1, 1], tasks=[1, 8, 9, 1]).jobs, cluster)
    assert larger_than_cluster(trace).tolist() == [True, False, True, False]


def test_a_gap_and_a_dominant_user_are_told() -> None:
    facts = describe(small(submit_s=[0, 10, 20, 20 + 5 * 86400]))
    assert any("no arrivals for 5.0 days after day 0.0" in text for text in facts["defects"])
    assert any("user 'u' sent 50% of the jobs" in text for text in facts["defects"])


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_pictures_of_extreme_traces(tmp_path: Path) -> None:
    one = Trace("one", make_jobs({"job_id": ["a"], "submit_s": [5], "duration_s": [1], "gpus": [0.5]}), pool(1))
    same = small(submit_s=[7, 7, 7, 7])
    nothing = Trace("zero", make_jobs({"job_id": ["a"], "submit_s": [5], "duration_s": [0], "cpus": [1]}), pool(1))
    free = Trace("free", make_jobs({"job_id": ["a"], "submit_s": [5], "duration_s": [3]}), pool(1))
    for i, trace in enumerate((one, same, nothing, free)):
        plot(trace, tmp_path / f"{i}.png")
        width, height = image_size(tmp_path / f"{i}.png")
        assert width > 1000
        assert height > 800
        json.dumps(describe(trace))


def test_equal_traces_give_equal_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plot(small(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    plot(small(), tmp_path / "c.svg")
    assert b"<svg" in (tmp_path / "c.svg").read_bytes()
    with pytest.raises(UsageError, match=r"ending in \.png, \.pdf or \.svg"):
        plot(small(), tmp_path / "a.jpg")


def test_a_public_log(shared: Path, tmp_path: Path) -> None:
    trace = read(shared / "swf" / "KTH-SP2-1996-2.1-cln.swf.gz")
    facts = describe(trace)
    assert facts["jobs"] == 28_467
    assert 0.6 < facts["offered_load"]["cpus"] < 0.75  # the archive states 70.4 % utilisation
    assert facts["clock"] == "Europe/Stockholm"
    plot(trace, tmp_path / "kth.png")
