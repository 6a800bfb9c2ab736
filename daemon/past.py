"""Jobs that have ended of late, for estimates of starts: in memory as they end, from the store after a restart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shunter.daemon.histories import MOST_ENDED, EndedJob
from shunter.daemon.jobs import ENDS
from shunter.daemon.live import LiveState
from shunter.daemon.pb.common_pb2 import JobSpec
from shunter.daemon.ports import Store
from shunter.daemon.snapshots import Snapshots
from shunter.daemon.specs import units_of_task
from shunter.daemon.store.rows import JobQuery
from shunter.scheduler.start_times import Past
from shunter.scheduler.types import UNITS_PER


def recently_ended(store: Store, snapshots: Snapshots, state: LiveState) -> Iterator[EndedJob]:
    """The last jobs that have ended, by id, of those that ran at all; none before the first node has come."""
    if not state.nodes:
        return
    scarce = snapshots.fleet(state).capacity.scarce
    found = store.jobs(JobQuery(states=tuple(int(end) for end in ENDS), limit=MOST_ENDED))
    for made, now in reversed(found):
        spec = JobSpec.FromString(made.spec)
        processors = made.tasks * units_of_task(spec)[scarce] / UNITS_PER[scarce]
        if now.start_s is not None and processors > 0:
            yield EndedJob(made.owner, spec.time_limit_s, processors, now.attained_s / processors)


def past_of(state: LiveState, snapshots: Snapshots) -> Past:
    """The same as arrays, users numbered as in snapshots."""
    ended = state.histories.ended
    users = snapshots.users
    return Past(
        user_idx=np.asarray([users[job.owner] for job in ended], dtype=np.int64),
        requested_s=np.asarray([job.request_s for job in ended], dtype=np.float64),
        processors=np.asarray([job.processors for job in ended], dtype=np.float64),
        run_s=np.asarray([job.run_s for job in ended], dtype=np.float64),
    )
