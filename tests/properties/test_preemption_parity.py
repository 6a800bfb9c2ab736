"""What ``plan`` proposes under preemption is what the engine does: the same jobs are stopped, the same are started."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings, check_plan, plan
from shunter.scheduler.plans import Plan
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.preemption import Preemption
from shunter.sim.engine import Options, Simulation
from shunter.sim.holding import Holding
from shunter.sim.other_work import OtherWork
from shunter.sim.workload import prepare
from shunter.traces.tables import Quota, Trace, make_jobs, pool
from tests.examples import examples
from tests.networks import by_network, drawn_network
from tests.properties.strategies import MODES, lanes

PREEMPTING = [mode for mode in MODES if mode != "conservative"]
RULES = [("policy",), ("priority",), ("quota",), ("priority", "quota"), ("policy", "priority", "quota")]


class Witness(Simulation):
    """A simulation that asks ``plan`` before every pass, and compares what it says with what the pass does."""

    proposed = Plan(0)
    num_stops = 0

    def _take_in(self, now_s: float, num_finished: int, arrived: int) -> None:
        super()._take_in(now_s, num_finished, arrived)
        self.started, self.stopped = list[int](), list[int]()
        snapshot = self.snapshot(now_s)
        rules, chosen = self.options.preemption, self.options.settings
        self.proposed = plan(snapshot, chosen, usage_s=self._usage(now_s), preemption=rules)
        assert check_plan(snapshot, self.proposed) == []

    def _begin(self, rows, now_s):  # type: ignore[no-untyped-def]
        self.started += rows
        super()._begin(rows, now_s)

    def _make_way(self, rows, now_s):  # type: ignore[no-untyped-def]
        self.stopped += rows
        super()._make_way(rows, now_s)

    def _decide_dynamic(self, now_s: float, num_finished: int, arrived: int) -> float:
        next_s = super()._decide_dynamic(now_s, num_finished, arrived)
        assert [start.row for start in self.proposed.starts] == self.started
        assert [preempted.row for preempted in self.proposed.preemptions] == self.stopped
        assert self.proposed.next_pass_s == next_s
        self.num_stops += len(self.stopped)
        return next_s


@pytest.mark.parametrize("policy", ["fcfs", "srtf", "las", "fairshare", "predicted-load", "learned"])
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_a_plan_stops_and_starts_what_the_engine_stops_and_starts(policy: str, data: st.DataObject) -> None:
    cluster, trace = data.draw(lanes(max_jobs=20))
    gpus = sum(group.count * (group.gpus or 0.0) for group in cluster.groups)
    if gpus >= 1:
        cluster = replace(cluster, quotas={"ada": Quota(1.0), "bob": Quota(gpus - 1.0)})
        trace = replace(trace, jobs=replace(trace.jobs, frame=trace.jobs.frame.with_columns(group=pl.col("user"))))
    ordering = by_network(drawn_network(3)) if policy == "learned" else choose_ordering(policy)
    rules = data.draw(st.sampled_from(RULES if policy in {"srtf", "las", "predicted-load"} else RULES[1:4]))
    options = Options(
        Settings(
            ordering,
            data.draw(st.sampled_from(PREEMPTING)),
            data.draw(st.sampled_from(["first-fit", "least-loaded"])),
            strict_classes=data.draw(st.booleans()),
        ),
        preemption=Preemption(rules, data.draw(st.sampled_from([0.0, 5.0])), data.draw(st.sampled_from([0.0, 3.0]))),
    )
    workload = prepare(trace, cluster)
    busy = None
    if data.draw(st.booleans()):
        size = (data.draw(st.integers(1, 4)), workload.capacity.units.shape[1])
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        busy = OtherWork(0.0, data.draw(st.sampled_from([4.0, 10.0, 25.0])), rng.random(size), rng.random(size))
    held = None
    if workload.capacity.quotas is None and data.draw(st.booleans()):
        favoured = np.asarray(data.draw(st.lists(st.booleans(), min_size=len(trace.jobs), max_size=len(trace.jobs))))
        told = np.asarray(data.draw(st.lists(st.floats(0, 6), min_size=3, max_size=9)))
        held = Holding(favoured, data.draw(st.sampled_from([5.0, 20.0])), told)
    witness = Witness(workload, options, other_work=busy, holding=held)
    assert witness.run()
    event("stops jobs" if witness.num_stops else "stops none")
    plain = Simulation(workload, options, other_work=busy, holding=held)
    assert plain.run()
    np.testing.assert_array_equal(witness.state.jobs_f[at.START_S], plain.state.jobs_f[at.START_S])


def test_equal_ranks_of_stopped_and_waiting_jobs_end_in_their_submission() -> None:
    """Jobs that are stopped are numbered before waiting ones in a snapshot, whenever they were submitted."""
    columns = {"job_id": list("abcd"), "submit_s": [0.0, 3.0, 5.0, 6.0], "duration_s": [7.0, 9.0, 10.0, 5.0]}
    columns |= {"requested_s": columns["duration_s"], "tasks": [2, 1, 2, 1], "cpus": [1.0] * 4}
    trace = Trace("ties", make_jobs(columns), pool(2))
    options = Options(Settings(choose_ordering("las"), "easy"), preemption=Preemption(("policy",)))
    assert Witness(prepare(trace, trace.cluster), options).run()
