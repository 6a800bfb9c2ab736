"""What the daemon keeps of users is what the simulator keeps: the same story, told to both."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.daemon.jobs import End, Phase
from shunter.scheduler.features import FeatureSource
from shunter.scheduler.snapshot import JobColumns
from tests.daemon.world import World
from tests.examples import examples

USERS = ("ann", "bob", "eve")


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_the_same_story_teaches_the_same(data: st.DataObject) -> None:
    """Jobs come, start, end, or lose their node and start again; a restart in the middle changes nothing."""
    count = data.draw(st.integers(1, 8))
    owner = [data.draw(st.integers(0, 2)) for _ in range(count)]
    limit_s = [data.draw(st.sampled_from([0.5, 60.0, 600.0])) for _ in range(count)]
    cpus = [data.draw(st.sampled_from([1.0, 2.0])) for _ in range(count)]
    columns = JobColumns.of(
        np.full(count, 1000.0), requested_s=np.asarray(limit_s), processors=np.asarray(cpus), user_idx=np.asarray(owner)
    )
    source, world = FeatureSource.of(columns, 8.0), World()
    world.node("n1", cpus=8)
    ids: list[int] = []
    begun: dict[int, float] = {}
    run_s = np.zeros(count)
    for _ in range(data.draw(st.integers(1, 30))):
        what = data.draw(st.sampled_from(["come", "start", "end", "lose", "restart"]))
        world.pass_time(data.draw(st.sampled_from([0.0, 1.0, 50.0, 100_000.0])))
        now_s = world.clock.now_s()
        if what == "come" and len(ids) < count:
            i = len(ids)
            ids.append(world.submit(USERS[owner[i]], cpus=cpus[i], time_limit_s=limit_s[i]))
            source.submitted([i])
        elif what == "start":
            world.decide()
            for i, job in enumerate(ids):
                if job in world.state.active and job not in begun:
                    begun[job] = now_s
                    source.started([i], now_s)
                    world.says("n1", job, Phase.STARTED)
        elif what == "end" and begun:
            job = min(begun)
            i = ids.index(job)
            run_s[i] = now_s - begun.pop(job)
            world.says("n1", job, Phase.ENDED, end=End.EXITED, exit_code=0)
            source.ended([i], run_s, now_s)
        elif what == "lose" and begun:
            world.pass_time(world.leases.fence_s, silent=("n1",))
            now_s = world.clock.now_s()
            for job in sorted(begun):
                source.stopped(ids.index(job), now_s)
                source.submitted([ids.index(job)])
            begun.clear()
            world.node("n1", cpus=8)
            world.pass_time(20.0)
        elif what == "restart":
            world.state = world.restarted()
            world.snapshots = type(world.snapshots)()
    if not world.state.waiting and not world.state.active:
        return
    view = world.snapshots.take(world.state, world.clock.now_s(), with_histories=True)
    known = view.snapshot.histories
    assert known is not None
    expected = source.known_of(np.asarray([ids.index(job) for job in view.snapshot.rows.tolist()]))
    np.testing.assert_allclose(known.users, expected.users, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(known.alike, expected.alike, rtol=1e-12, atol=1e-9)
