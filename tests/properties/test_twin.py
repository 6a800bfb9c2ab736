"""The compiled decision equals its plain-Python twin, and the engine's fused path equals snapshot → plan → commit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.scheduler import layout as at
from shunter.scheduler.decide import Settings, check_plan, plan
from shunter.scheduler.policies.registry import choose_ordering
from shunter.scheduler.reference import reference_plan
from shunter.scheduler.types import FloatArray
from shunter.sim.engine import Options, Simulation
from shunter.sim.workload import prepare
from tests.examples import examples
from tests.properties.strategies import MODES, PLACES, POLICIES, node_clusters, pools, traces


class Witness(Simulation):
    """A simulation that, before every pass, asks ``plan`` and its twin for the same decision."""

    def _decide(self, now_s: float, num_finished: int, arrived: int) -> None:
        state = self.state
        finished = self._finished[:num_finished].copy()
        self._account_ends(num_finished, now_s)
        state.absorb(now_s, finished, num_finished, self._absorbed, arrived)
        self._absorbed = arrived
        snapshot = state.snapshot(now_s)
        usage_s = self.ledger.usage_at(now_s) if self.ledger is not None else None
        chosen = self.options.settings
        proposed = plan(snapshot, chosen, usage_s=usage_s)
        expected = reference_plan(snapshot, chosen, usage_s=usage_s)
        assert proposed.starts == expected.starts
        assert proposed.reservations == expected.reservations
        assert proposed.extensions == expected.extensions
        assert proposed.next_pass_s == expected.next_pass_s
        assert {row for row, _ in proposed.skipped} | {s.row for s in proposed.starts} == set(
            snapshot.rows[snapshot.num_running :].tolist()
        )
        assert check_plan(snapshot, proposed) == []
        self.num_passes += 1
        self.num_done += num_finished
        state.commit(proposed, now_s)
        if state.num_started:
            self._start(now_s, state.num_started)
        if proposed.next_pass_s < np.inf:
            self._wake_at(proposed.next_pass_s)


def starts_of(simulation: Simulation, loads: FloatArray | None = None) -> list[float]:
    if loads is not None:
        simulation.state.set_loads(loads)
    assert simulation.run()
    return simulation.state.jobs_f[at.START_S].tolist()


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_plan_equals_its_twin_and_the_fused_engine(data: st.DataObject) -> None:
    cluster = data.draw(st.one_of(pools(), node_clusters()))
    trace = data.draw(traces(cluster))
    chosen = Settings(
        choose_ordering(data.draw(st.sampled_from(POLICIES))),
        data.draw(st.sampled_from(MODES)),
        data.draw(st.sampled_from(PLACES)),
        depth=data.draw(st.sampled_from([0, 0, 1, 3])),
        strict_classes=data.draw(st.booleans()),
    )
    ties = data.draw(st.sampled_from(["instant", "per-event"]))
    interval_s = data.draw(st.sampled_from([0.0, 0.0, 7.0])) if ties == "instant" else 0.0
    options = Options(chosen, ties=ties, interval_s=interval_s)
    workload = prepare(trace, cluster, clairvoyant=data.draw(st.booleans()))
    num_nodes = workload.capacity.units.shape[1]
    loads = np.asarray(data.draw(st.lists(st.floats(0, 1), min_size=num_nodes, max_size=num_nodes)))
    slow = starts_of(Witness(workload, options), loads)
    fast = starts_of(Simulation(workload, options), loads)
    np.testing.assert_array_equal(fast, slow)
