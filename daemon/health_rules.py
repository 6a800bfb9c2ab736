"""What the health of nodes and GPUs is judged by; the sections ``leases`` and ``failover`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shunter.scheduler.failover import Flapping


@dataclass(frozen=True, slots=True)
class FailoverRules:
    """See ``docs/reference/failover.md`` for why each default is what it is.

    Attributes:
        detector: How silence becomes suspicion: ``fixed`` after ``LeaseRules.suspect_s``, or ``phi``.
        phi_window: Heartbeats that the phi detector remembers of a node.
        phi_threshold: Suspicion at which a node is suspect: a false one in 10 to the power of it heartbeats.
        phi_min_deviation_s: Least standard deviation of the times between heartbeats that is believed.
        blast_radius: Share of the nodes, of the running jobs and of their GPUs that may be evicted at once.
        blast_window_s: An evicted job that does not run again counts against it for so long.
        thermal_limit_c: Temperature from which a GPU is too hot.
        thermal_hysteresis_c: Degrees below it at which it has cooled.
        thermal_samples: Samples in a row that make either.
        fault_samples: Samples in a row in which a GPU hangs, or NVML does not answer, before it counts.
        fatal_xids: Codes that take a GPU out of service beside those of ``daemon.xids``.
        ignored_xids: Codes of which nothing follows.
        gpu_probation_s: A GPU that is back gets no work for so long.
        node_gpu_share: Share of a node's GPUs out of service from which the node drains.
        black_hole_jobs: Bad ends in a row on one node, soon after the start, after which it drains …
        black_hole_kinds: … when they are of so many different owners or job names …
        black_hole_start_s: … each within so long of its start …
        black_hole_window_s: … all within so long.
        flapping_failures: A node that failed so often …
        flapping_window_s: … within so long …
        flapping_probation_s: … is held out for so long.
    """

    detector: Literal["fixed", "phi"] = "fixed"
    phi_window: int = 100
    phi_threshold: float = 8.0
    phi_min_deviation_s: float = 0.5
    blast_radius: float = 0.3
    blast_window_s: float = 60.0
    thermal_limit_c: float = 90.0
    thermal_hysteresis_c: float = 10.0
    thermal_samples: int = 3
    fault_samples: int = 2
    fatal_xids: tuple[int, ...] = ()
    ignored_xids: tuple[int, ...] = ()
    gpu_probation_s: float = 600.0
    node_gpu_share: float = 0.5
    black_hole_jobs: int = 5
    black_hole_kinds: int = 2
    black_hole_start_s: float = 60.0
    black_hole_window_s: float = 600.0
    flapping_failures: int = 3
    flapping_window_s: float = 24 * 3600.0
    flapping_probation_s: float = 3600.0

    @property
    def flapping(self) -> Flapping:
        """The core's rule."""
        return Flapping(self.flapping_failures, self.flapping_window_s, self.flapping_probation_s)


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """When a node that is silent is suspected, and when its jobs must be gone.

    Attributes:
        heartbeat_s: How often an agent is heard.
        suspect_s: Silence after which a node gets no new work, with the fixed detector.
        lease_s: An agent stops its jobs when it was not answered for so long.
        margin_s: What stopping them takes, and what clocks may drift, at most.
        probation_s: A node that had failed gets no work for so long after it has come back.
        failover: What is concluded from other signs, and what follows.
    """

    heartbeat_s: float = 3.0
    suspect_s: float = 7.0
    lease_s: float = 9.0
    margin_s: float = 1.0
    probation_s: float = 10.0
    failover: FailoverRules = field(default_factory=FailoverRules)

    @property
    def fence_s(self) -> float:
        """Silence after which nothing runs on a node any more."""
        return self.lease_s + self.margin_s
