"""What the benchmarks run on: public logs where they lie beside the repository, and generated jobs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shunter.traces.tables import ClusterSpec, Trace

REPOSITORY = Path(__file__).resolve().parents[1]
TRACES = (REPOSITORY / ".." / "shared" / "traces").resolve()

LOGS = {
    "sdsc-sp2": "swf/SDSC-SP2-1998-4.2-cln.swf.gz",
    "ctc-sp2": "swf/CTC-SP2-1996-3.1-cln.swf.gz",
    "kth-sp2": "swf/KTH-SP2-1996-2.1-cln.swf.gz",
    "curie": "swf/CEA-Curie-2011-2.1-cln.swf.gz",
    "ricc": "swf/RICC-2010-2.swf.gz",
    "philly": "philly/philly_jobs.csv.gz",
}
"""Short name → file below the folder of traces."""

OPENB_LISTS = "alibaba-openb-2023"
"""Folder of the lists of nodes and pods, below that of the traces."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How much is run.

    Attributes:
        repeat: Rounds of each benchmark.
        most_jobs: Logs are cut to, and generated traces drawn with, at most this many jobs; 0 means no limit.
        full: Run what takes minutes, too.
        traces: Folder with the public logs.
        seed: Seed of everything generated.
    """

    repeat: int = 5
    most_jobs: int = 0
    full: bool = False
    traces: Path = TRACES
    seed: int = 1

    def jobs(self, wanted: int) -> int:
        """``wanted`` jobs, or the limit."""
        return min(wanted, self.most_jobs) if self.most_jobs else wanted

    def path(self, log: str) -> Path:
        """Where a log of ``LOGS`` should lie."""
        return self.traces / LOGS[log]

    def missing(self, log: str) -> str:
        """Why a log cannot be used; empty when it is there."""
        return "" if self.path(log).is_file() else f"{LOGS[log]} is not in {self.traces.name}/"

    def load(self, log: str) -> Trace:
        """A log, cut to the limit."""
        from shunter.traces.read import read

        trace = read(self.path(log))
        return trace.window(0, self.jobs(len(trace.jobs)))


def single_gpus(jobs: int, gpus: int, seed: int) -> Trace:
    """One-GPU jobs on a pool at load 0.9: Poisson arrivals, log-normal run times (σ = 1.5) of 1,000 s on average."""
    from shunter.traces.tables import pool

    return drawn(jobs, pool(gpus, resource="gpus"), sizes={1: 1.0}, load=0.9, seed=seed)


def gangs_on_pool(jobs: int, seed: int) -> Trace:
    """Jobs of 1 to 64 CPUs on a pool of 512 at load 0.7."""
    from shunter.traces.tables import pool

    return drawn(jobs, pool(512), sizes={1: 0.3, 4: 0.25, 8: 0.2, 16: 0.15, 64: 0.1}, load=0.7, seed=seed)


def gangs_on_nodes(jobs: int, seed: int) -> Trace:
    """Jobs of 1 to 8 GPUs and gangs of 2 to 4 whole nodes on 64 nodes of 8 GPUs at load 0.7."""
    from shunter.traces.tables import ClusterSpec, NodeGroup

    cluster = ClusterSpec("64 nodes × 8 GPUs", (NodeGroup("nodes", 64, gpus=8.0),))
    sizes = {1: 0.5, 2: 0.15, 4: 0.15, 8: 0.15, 16: 0.03, 32: 0.02}
    return drawn(jobs, cluster, sizes=sizes, load=0.7, seed=seed)


def drawn(jobs: int, cluster: ClusterSpec, *, sizes: dict[int, float], load: float, seed: int) -> Trace:
    """Poisson arrivals, log-normal run times, sizes with the given shares; users ask for 1 to 5 times the run time.

    Arrivals are stationary, unlike those of the ``gpu`` model with its weeks, so that the cost of a job may be compared
    between traces of different length. Gangs beyond 8 GPUs are tasks of 8.
    """
    from shunter.traces.tables import Trace, make_jobs

    rng = np.random.default_rng(seed)
    resource = "gpus" if cluster.total("gpus") is not None else "cpus"
    total = cluster.total(resource) or 0.0
    size = rng.choice(np.asarray(list(sizes)), size=jobs, p=np.asarray(list(sizes.values())))
    run_s = rng.lognormal(np.log(1000.0) - 1.5**2 / 2, 1.5, jobs)
    mean_size = sum(amount * share for amount, share in sizes.items())
    gaps_s = rng.exponential(1000.0 * mean_size / (total * load), jobs)
    per_task = np.minimum(size, 8) if cluster.num_nodes > 1 else size
    return Trace(
        name=f"generated-{jobs}",
        jobs=make_jobs(
            {
                "job_id": np.arange(1, jobs + 1).astype(str).tolist(),
                "submit_s": np.cumsum(gaps_s),
                "duration_s": run_s,
                "requested_s": run_s * rng.uniform(1.0, 5.0, jobs),
                "tasks": size // per_task,
                resource: per_task.astype(np.float64),
            }
        ),
        cluster=cluster,
        format="generated",
    )


def million(jobs: int, seed: int) -> Trace:
    """The ``gpu`` model on 1,000 nodes of 8 GPUs at load 0.9: CPUs and memory count, too; gangs are tasks of 8 GPUs."""
    from shunter.traces.generate import generate

    trace = generate("gpu", jobs=jobs, seed=seed, params={"nodes": 1000, "load": 0.9})
    return replace(trace, name=f"gpu-{jobs}")
