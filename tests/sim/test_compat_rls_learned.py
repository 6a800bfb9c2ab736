"""A learned score under the RLScheduler protocol: equal to the protocol's policies where it is one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler.errors import TraceError
from shunter.scheduler.kernels import features
from shunter.scheduler.kernels.features import NUM_FEATURES
from shunter.scheduler.kernels.network import Network, new_network, score_row
from shunter.sim.compat import rls_plain, rlscheduler
from shunter.sim.compat.rls_learned import RlsRollout, facts_of, run_learned
from shunter.sim.compat.rlscheduler import RlsJobs, RlsTrace

jobs_strategy = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(-1, 2)),
    min_size=1,
    max_size=40,
)


def make_trace(rows, nodes=5):
    """A trace from (submit, run, requested, processors, user) rows on one-processor nodes; numbers count from 1."""
    submit, run, requested, procs, user = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    unknown = np.full(len(rows), -1)
    jobs = RlsJobs(np.arange(1, len(rows) + 1), submit, run, requested, procs, procs, unknown, user, unknown, unknown)
    return RlsTrace("hand-made", jobs, nodes, nodes, {}, len(rows))


def linear(**weights: float) -> Network:
    """A score that is a sum of features, by number (``f0`` …)."""
    skip = np.zeros(NUM_FEATURES)
    for name, weight in weights.items():
        skip[int(name[1:])] = weight
    return new_network(skip)


def drawn_trace(count=600, seed=4):
    """A loaded machine of 64 processors, with users and loose requests."""
    generator = np.random.default_rng(seed)
    run = np.maximum(1, generator.lognormal(5.0, 1.5, count)).astype(int)
    columns = (
        np.cumsum(generator.integers(0, 120, count)),
        run,
        (run * generator.uniform(1, 6, count)).astype(int) + 1,
        2 ** generator.integers(0, 7, count),
        generator.integers(-1, 9, count),
    )
    return make_trace([*zip(*(column.tolist() for column in columns), strict=True)], nodes=64)


@settings(max_examples=60)
@given(rows=jobs_strategy, backfill=st.booleans())
def test_a_score_of_the_request_is_shortest_job_first(rows, backfill):
    trace = make_trace(rows)
    learned = RlsRollout(trace, backfill).starts(linear(f0=1.0), [0], len(trace))
    assert learned[0].tolist() == rlscheduler.run(trace, 0, len(trace), "sjf", backfill).start_s.tolist()


@settings(max_examples=60)
@given(
    rows=jobs_strategy,
    backfill=st.booleans(),
    weights=st.tuples(st.sampled_from([-1.0, 0.0, 0.3]), st.sampled_from([-0.7, 0.0, 0.7])),
)
def test_a_score_that_never_changes_is_a_rank(rows, backfill, weights):
    """Request and size, ties by (submit time, row): the loop for ranks made beforehand starts every job alike."""
    trace = make_trace(rows)
    facts, (request, size) = facts_of(trace), weights
    keys = (request * facts.log_request + size * facts.log_size, rlscheduler.as_float(trace.jobs.submit_s))
    expected, _ = rlscheduler.run_compiled(trace, trace.jobs, "fixed", keys, backfill)
    learned = RlsRollout(trace, backfill).starts(linear(f0=request, f1=size), [0], len(trace))
    assert learned[0].tolist() == expected.tolist()


@pytest.mark.parametrize("backfill", [False, True])
def test_windows_do_not_know_of_one_another(backfill):
    """Each as if it were alone, in any order, also under a score that reads histories and who runs."""
    trace = drawn_trace()
    network = linear(f0=1.0, f3=-0.5, f8=0.3, f11=0.7, f13=0.2, f14=0.1, f15=0.4, f18=0.1, f22=0.3)
    rollout = RlsRollout(trace, backfill)
    together = rollout.starts(network, [0, 150, 400], 200)
    for start, expected in zip([400, 150, 0], together[::-1], strict=True):
        np.testing.assert_array_equal(RlsRollout(trace, backfill).starts(network, [start], 200)[0], expected)


def test_means_are_those_of_the_protocol():
    trace = drawn_trace()
    means = run_learned(trace, [0, 300], 300, linear(f0=1.0), backfill=True)
    expected = [rlscheduler.run(trace, start, 300, "sjf", True).metrics["avg_bsld"] for start in (0, 300)]
    assert means.tolist() == expected
    with pytest.raises(TraceError, match="does not lie inside"):
        run_learned(trace, [400], 300, linear(f0=1.0), backfill=True)


class Watched(rls_plain.Machine):
    """The plain machine, with every event told to the features as it happens."""

    __slots__ = ("facts", "histories")

    def join(self):
        features.note_submitted(self.facts, self.histories, self.arrived)
        super().join()

    def begin(self, row):
        super().begin(row)
        features.note_started(self.facts, self.histories, row, float(self.now))

    def advance(self):
        before = list(self.running)
        super().advance()
        for row in set(before) - set(self.running):
            features.note_ended(self.facts, self.histories, row, float(self.run[row]), float(self.now))

    def score(self, row, network):
        """The score of a waiting row, from features written for it alone."""
        limit = {other: self.start[other] + self.requested[other] for other in self.running}
        running = sorted(self.running, key=limit.__getitem__)
        queue = [other for other in range(self.arrived) if other not in self.start]  # a list being sorted shows empty
        scene = features.Scene(
            np.array(queue),
            np.array(running, dtype=np.int64),
            np.array([float(limit[other]) for other in running]),
        )
        scratch = features.Scratch(
            np.zeros(len(self.submit)), np.zeros(len(self.submit)), np.zeros(features.NUM_CONTEXT)
        )
        x = np.zeros(NUM_FEATURES)
        features.note_context(self.facts, scratch, scene, float(self.now))
        features.write_row(self.facts, self.histories, scratch, len(running), float(self.now), row, self.fits(row), x)
        return score_row(network, x)


@pytest.mark.parametrize("backfill", [False, True])
def test_compiled_loop_equals_the_plain_machine_told_of_every_event(backfill):
    trace = drawn_trace(120)
    generator = np.random.default_rng(1)
    draw = generator.normal
    network = new_network(
        draw(size=NUM_FEATURES),
        draw(size=(4, NUM_FEATURES)),
        draw(size=4),
        draw(size=(3, 4)),
        draw(size=3),
        draw(size=3),
    )
    rollout, plain = RlsRollout(trace, backfill), rlscheduler.empty_machine(trace, trace.jobs)
    machine = Watched(plain.submit, plain.run, plain.requested, plain.procs, plain.nodes, plain.free, 1.0, plain.now)
    machine.facts = rollout.facts
    machine.histories = features.Histories(*(np.zeros_like(values) for values in rollout.histories))
    machine.join()
    start_s, _ = rls_plain.replay(
        machine, lambda row, _: (machine.score(row, network), machine.submit[row], row), backfill=backfill
    )
    assert rollout.starts(network, [0], len(trace))[0].tolist() == start_s.tolist()
    assert not np.array_equal(start_s, rlscheduler.run(trace, 0, len(trace), "sjf", backfill).start_s)
