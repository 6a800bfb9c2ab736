"""What orders by a network: equal scores alone and in blocks, sorting, and the names of the features."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from shunter.scheduler.decide import Settings
from shunter.scheduler.errors import UsageError
from shunter.scheduler.features import FEATURES, SCHEMA, facts_of
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.kernels.network import BLOCK, score_row
from shunter.scheduler.kernels.sorting import LONG, SHORT, new_sorting, sort_queue
from shunter.scheduler.learned import KernelScorer
from shunter.scheduler.policies.registry import choose_ordering
from tests.networks import drawn_network, linear
from tests.scheduler.cases import columns


def test_every_column_has_a_name() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names) == NUM_FEATURES == SCHEMA.size
    assert SCHEMA.sha256 == hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert all(feature.low < feature.high for feature in FEATURES)


@pytest.mark.parametrize(("first", "second"), [(32, 16), (7, 5), (1, 1), (0, 0)])
@pytest.mark.parametrize("count", [1, BLOCK, 2 * BLOCK + 3])
def test_a_job_scores_alone_what_it_scores_in_a_block(first: int, second: int, count: int) -> None:
    """To the bit: a job's sums are added up in one order."""
    network = drawn_network(3, first, second)
    features = np.random.default_rng(5).normal(size=(count, NUM_FEATURES))
    alone = [score_row(network, row) for row in features]
    np.testing.assert_array_equal(KernelScorer(network)(features), alone)
    np.testing.assert_array_equal(KernelScorer(network)(features[::-1]), alone[::-1])


@pytest.mark.parametrize("count", [0, 1, SHORT, SHORT + 1, 700, LONG + 900])
@pytest.mark.parametrize("spread", [3, 10**6])
def test_queues_are_sorted_by_score_then_row(count: int, spread: int) -> None:
    draw = np.random.default_rng(count + spread)
    rows = draw.permutation(3 * count)[:count]
    key = draw.integers(-spread, spread, count) / 7.0 * draw.choice([1.0, 1e-300, 1e300], count)
    key[: count // 3] *= -0.0
    key[count // 2 : count // 2 + 2] = -np.inf
    expected = rows[np.lexsort((rows, key))]
    stable = rows[np.argsort(key, kind="stable")]
    for wanted, by_row in ((expected, True), (stable, False)):
        mine, scores = rows.copy(), key.copy()
        sort_queue(scores, mine, new_sorting(count), scores.view(np.int64), by_row)
        np.testing.assert_array_equal(mine, wanted)


def test_jobs_that_are_alike_share_a_history() -> None:
    jobs = columns(
        4,
        user_idx=[2, 2, -1, 2],
        requested_s=[60.0, 60.0, 60.0, 61.0],
        processors=[4.0, 4.0, 4.0, 4.0],
    )
    facts = facts_of(jobs, 8.0)
    assert facts.user.tolist() == [3, 3, 0, 3]
    assert facts.alike[0] == facts.alike[1]
    assert len(set(facts.alike.tolist())) == 3
    np.testing.assert_allclose(facts.log_size, np.log(5.0) / np.log(9.0))


def test_a_network_has_to_be_handed_in() -> None:
    with pytest.raises(UsageError, match="'learned' needs a model"):
        Settings(choose_ordering("learned"))


def test_linear_scores_name_their_features() -> None:
    features = np.arange(NUM_FEATURES, dtype=np.float64)[None]
    assert KernelScorer(linear(size=2.0, log_wait=-1.0))(features).tolist() == [2 * 2 - 3]


def test_logarithms_and_exponentials_by_arithmetic() -> None:
    """Within a few last digits of the C library's; what is no number stays none."""
    from shunter.scheduler.kernels.logs import exp_of, log_of

    draw = np.random.default_rng(1)
    for x in np.exp(draw.uniform(-30.0, 40.0, 500)).tolist():
        assert log_of(x) == pytest.approx(np.log(x), rel=1e-15, abs=1e-15)
    for x in draw.uniform(-15.0, 15.0, 500).tolist():
        assert exp_of(x) == pytest.approx(np.exp(x), rel=2e-15)
    assert (log_of(1.0), exp_of(0.0)) == (0.0, 1.0)
    assert np.isnan([log_of(np.nan), exp_of(np.nan)]).all()


def test_blocks_of_jobs_have_the_features_of_single_jobs() -> None:
    """To the bit, with histories, several users and sizes, free processors and a queue of more than a block."""
    from benchmarks.inference import waiting

    state, learned = waiting(2 * BLOCK + 5, seed=3)
    now_s = 3.1e5
    learned.score(state, now_s)
    assert learned.compiled is not None
    one_by_one = [score_row(learned.compiled.network, row) for row in learned.source.matrix(state, now_s)]
    np.testing.assert_array_equal(learned.key[: len(state.queue)], one_by_one)
    assert len(set(one_by_one)) > BLOCK
