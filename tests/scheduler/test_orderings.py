"""Every ordering's formula against numbers worked out by hand, and how orderings are named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shunter.scheduler.errors import UsageError
from shunter.scheduler.policies import ORDERINGS
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.snapshot import QueueView
from tests.scheduler.cases import columns

NOW_S = 110.0


def view(now_s: float = NOW_S) -> QueueView:
    """Two jobs that have waited 100 s and 10 s on 16 processors; their users used 300 and 100 processor-seconds."""
    jobs = columns(
        2,
        submit_s=[10.0, 100.0],
        requested_s=[100.0, 10_000.0],
        expected_s=[80.0, 9_000.0],
        oracle_s=[40.0, 7_000.0],
        processors=[4.0, 9.0],
        priority=[1.0, 2.0],
        attained_s=[120.0, 0.0],
        deadline_s=[500.0, 9_200.0],
        user_idx=[0, 1],
        queue_idx=[1, 0],
    )
    usage_s, shares = np.asarray([300.0, 100.0]), np.asarray([0.25, 0.5])
    loads = np.asarray([0.5, 0.05])
    return QueueView(now_s, jobs, total_processors=16.0, usage_s=usage_s, shares=shares, loads=loads)


WEEK_S = 7 * 86400.0

EXPECTED = {
    "fcfs": (10, 100),
    "sjf": (100, 10_000),
    "sjf-predicted": (80, 9_000),
    "sjf-oracle": (40, 7_000),
    "ljf": (-100, -10_000),
    "smallest": (4, 9),
    "largest": (-4, -9),
    "saf": (100 * 4, 10_000 * 9),
    "sqrt-area": (100 * 2, 10_000 * 3),
    "f1": (2 * 4 + 870 * 1, 4 * 9 + 870 * 2),
    "f2": (10 * 4 + 25600 * 1, 100 * 9 + 25600 * 2),
    "f3": (100 * 4 + 6860000 * 1, 10_000 * 9 + 6860000 * 2),
    "f4": (100 * 2 + 530000 * 1, 10_000 * 3 + 530000 * 2),
    "wfp3": (-((100 / 100) ** 3) * 4, -((10 / 10_000) ** 3) * 9),
    "unicep": (-100 / (2 * 100), -10 / (math.log2(9) * 10_000)),
    "srtf": (80, 9_000),  # what is expected is what is left
    # Job 0: 100 s in the system and 80 s to go, of 110 s in all. Job 1 asks for 9 of the 16/2 processors of its share.
    "ftf": (-(100 + 80) / (80 + 120 / 4), -(10 + 9_000) / (9_000 * 2 * 9 / 16)),
    "las": (120, 0),
    "tiresias": (10, 100),  # both below the first threshold: by submission
    "edf": (500, 9_200),
    "slack": (500 - 80, 9_200 - 9_000),
    "priority": (-1, -2),
    "predicted-load": (-1 / 0.5, -2 / 0.1),  # classes 1 and 2; a load of 0.05 counts as 0.1
    # Usage shares 3/4 and 1/4 over an equal share of 1/2 each.
    "fairshare": (-(2**-1.5), -(2**-0.5)),
    "multifactor": (
        -(1000 * 100 / WEEK_S + 1000 * 4 / 16 + 10_000 * 2**-1.5 + 1000 * 1 / 2 + 0),
        -(1000 * 10 / WEEK_S + 1000 * 9 / 16 + 10_000 * 2**-0.5 + 1000 * 2 / 2 + 0),
    ),
    "drf": (0.25, 0.5),
    "het-las": (120, 0),  # what decides between equal shares, and who fills idle nodes
    "het-makespan": (-80, -9_000),
    "elastic": (10, 100),
}


def test_every_ordering_has_a_hand_computed_case() -> None:
    assert set(EXPECTED) == {name for name, ordering in ORDERINGS.items() if not ordering.needs_features}


@pytest.mark.parametrize("name", EXPECTED)
def test_formula(name: str) -> None:
    np.testing.assert_allclose(choose_ordering(name).score(view()), EXPECTED[name], rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, ordering in ORDERINGS.items() if ordering.static])
def test_static_scores_do_not_change_while_a_job_waits(name: str) -> None:
    chosen = choose_ordering(name)
    np.testing.assert_array_equal(chosen.score(view()), chosen.score(view(5000.0)))


def test_formulas_outside_their_domain() -> None:
    first = QueueView(0.0, columns(1, submit_s=[0.0], requested_s=[100.0], processors=[4.0]), 16.0)
    assert choose_ordering("f1").score(first)[0] == 2 * 4 + 870 * -1  # a submit time of 0 counts as 0.1
    assert choose_ordering("f2").score(first)[0] == -math.inf
    instant = QueueView(5.0, columns(1, submit_s=[0.0], requested_s=[0.0]), 16.0)
    assert choose_ordering("wfp3").score(instant)[0] == -math.inf
    narrow = QueueView(5.0, columns(1, requested_s=[10.0]), 16.0)
    assert choose_ordering("unicep").score(narrow)[0] < -1e14  # log2(1 + 1e-15) is about 1.6e-15


def test_multifactor_parameters_are_weights() -> None:
    """Only the partition counts: of two, the first by name has 1, the second 1/2, a job without one 0."""
    chosen = choose_ordering("multifactor:age=0,size=0,fairshare=0,qos=0,partition=10")
    jobs = columns(3, queue_idx=[0, 1, -1])
    np.testing.assert_array_equal(chosen.score(QueueView(0.0, jobs, 1.0)), [-10, -5, 0])


def test_multifactor_age_is_capped() -> None:
    chosen = choose_ordering("multifactor:age=5,size=0,fairshare=0,qos=0,max_age_days=2")
    jobs = columns(3, submit_s=[0.0, 2 * 86400.0, 3 * 86400.0])
    # Waits of 3, 1 and 0 days against a largest age of 2 days.
    np.testing.assert_array_equal(chosen.score(QueueView(3 * 86400.0, jobs, 1.0)), [-5.0, -2.5, 0.0])


def test_tiresias_moves_jobs_down_a_queue_at_each_threshold() -> None:
    """Queues 0 to 3 by attained GPU-seconds, a threshold itself belonging to the next; inside a queue by submission."""
    attained = [3249.0, 3250.0, 7200.0, 17_999.0, 18_000.0, 0.0]
    jobs = columns(6, submit_s=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], attained_s=attained)
    chosen = choose_ordering("tiresias")
    now = QueueView(10.0, jobs, 16.0)
    assert chosen.rank(now).tolist() == [0, 1, 2, 2, 3, 0]
    assert np.argsort(chosen.score(now)).tolist() == [0, 5, 1, 2, 3, 4]
    two = choose_ordering("tiresias:first=10,second=20,third=20")
    assert two.rank(now).tolist() == [3, 3, 3, 3, 3, 0]


def test_jobs_without_a_deadline_come_last() -> None:
    jobs = columns(3, deadline_s=[np.inf, 50.0, 40.0], expected_s=[1.0, 30.0, 5.0])
    now = QueueView(0.0, jobs, 1.0)
    assert np.argsort(choose_ordering("edf").score(now)).tolist() == [2, 1, 0]
    assert choose_ordering("slack").score(now).tolist() == [np.inf, 20.0, 35.0]


def test_unknown_users_and_an_unused_cluster_have_the_full_share() -> None:
    jobs = columns(2, user_idx=[-1, 0])
    chosen = choose_ordering("fairshare")
    assert chosen.score(QueueView(0.0, jobs, 1.0, np.asarray([8.0]))).tolist() == [-1.0, -0.5]
    assert chosen.score(QueueView(0.0, jobs, 1.0, np.zeros(1))).tolist() == [-1.0, -1.0]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("fcfs", "fcfs"),
        ("multifactor:age=5", "multifactor:age=5"),
        ("multifactor:age=1000", "multifactor"),
        ("multifactor:qos=2.5,age=5,", "multifactor:age=5,qos=2.5"),
    ],
)
def test_label_writes_out_what_differs_from_the_defaults(text: str, label: str) -> None:
    chosen = choose_ordering(text)
    assert chosen.label == label
    assert choose_ordering(chosen.label) == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fcsf", "unknown policy 'fcsf'; did you mean 'fcfs'?"),
        ("multifactor:ages=5", "policy 'multifactor' has no parameter 'ages'; did you mean 'age'?"),
        ("sjf:age=5", "policy 'sjf' has no parameter 'age'; it has none"),
        ("multifactor:age=much", "policy 'multifactor': age='much' is not a number"),
        ("multifactor:age", "policy 'multifactor': age='' is not a number"),
        ("multifactor:age=nan", "policy 'multifactor': 'age=nan' is not of the form key=number"),
    ],
)
def test_names_that_do_not_exist(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        choose_ordering(text)
    assert str(error.value) == message


def test_a_name_that_resembles_none_gets_the_list() -> None:
    with pytest.raises(UsageError, match=r"unknown policy 'zzzz'; known: .*f1, f2, .*, wfp3$"):
        choose_ordering("zzzz")


def test_every_ordering_says_what_it_does() -> None:
    for name, ordering in ORDERINGS.items():
        assert ordering.name == name
        assert ordering.summary
        assert "\n" not in ordering.summary


def test_finish_time_fairness_counts_the_jobs_that_run() -> None:
    """Beside two that run, a share is 4 of 16 processors: a job of 4 needs no more, one of 8 takes twice as long."""
    jobs = columns(2, submit_s=[0.0, 0.0], expected_s=[100.0, 100.0], processors=[4.0, 8.0])
    found = choose_ordering("ftf").score(QueueView(50.0, jobs, 16.0, num_others=2))
    np.testing.assert_allclose(found, [-150 / 100, -150 / 200])
