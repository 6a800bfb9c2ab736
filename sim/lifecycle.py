"""What becomes of each job over its attempts: starts, stops, losses, retries, and the tables that tell of them.

The core counts with *expected* run times; here is what only the simulator knows: how long each job really has to run.
Work is counted in seconds on the reference GPU type; an attempt first spends its restart overhead, then works at its
speed until what was left is done or it is stopped.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.failover import work_kept
from shunter.scheduler.mig import KINDS
from shunter.scheduler.state import ClusterState
from shunter.scheduler.types import UNITS_PER, BoolArray, FloatArray, IntArray
from shunter.sim.faults import Faults
from shunter.sim.workload import Workload

if TYPE_CHECKING:
    import polars as pl

ENDED = ("completed", "killed", "failed", "preempted", "lost")
"""How an attempt ended: done; at its time limit; by a fault of its own; stopped for another; its node or GPU failed."""
COMPLETED, KILLED, FAILED, PREEMPTED, LOST = range(len(ENDED))


@dataclass(slots=True)
class Log:
    """Rows of a table as they happen, column by column: eight bytes a value, where a list of numbers takes forty.

    Attributes:
        columns: The rows that are in memory.
        shed: Rows before them, which are in files.
    """

    columns: dict[str, array[float]]
    shed: int = 0

    @classmethod
    def of(cls, *names: str) -> Log:
        """No rows yet."""
        return cls({name: array("d") for name in names})

    def add(self, *values: float) -> None:
        """One more row."""
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def first(self, rows: int | None = None) -> dict[str, FloatArray]:
        """The first rows that are in memory, all by default; each column as float64."""
        return {name: np.array(column[:rows], dtype=np.float64) for name, column in self.columns.items()}

    def drop(self, rows: int) -> None:
        """Forget the first rows: they are in a file now."""
        for column in self.columns.values():
            del column[:rows]
        self.shed += rows


@dataclass(slots=True)
class Lifecycle:
    """The jobs' attempts so far; every array has shape (J,).

    Attributes:
        workload: What is replayed.
        left_s: Reference seconds of work left when the present or next attempt begins.
        count: Attempts begun.
        epoch: Goes up whenever the end of the running attempt changes, so that an end on the clock can be stale.
        losses: Attempts that failures ended.
        first_start_s: First start; NaN before.
        end_s: End for good; NaN before.
        lost_s: Work thrown away.
        requeued_s: Seconds waited after the first start.
        stopped_s: When the last attempt was stopped.
        held_s: Seconds of the attempts that have ended.
        overhead_s: Of these, what restarts took.
        task_s: Seconds times tasks of these attempts.
        gave_up: Jobs that failed for good.
        log: One row an attempt that has ended.
        faults: Which attempts fail by a fault of the job's own; None: none.
        held: One row a job, attempt, node and GPU.
    """

    workload: Workload
    left_s: FloatArray
    count: IntArray
    epoch: IntArray
    losses: IntArray
    first_start_s: FloatArray
    end_s: FloatArray
    lost_s: FloatArray
    requeued_s: FloatArray
    stopped_s: FloatArray
    held_s: FloatArray
    overhead_s: FloatArray
    task_s: FloatArray
    gave_up: BoolArray
    faults: Faults | None = None
    log: Log = field(
        default_factory=lambda: Log.of(
            "job", "attempt", "start_s", "end_s", "ended", "work_s", "lost_s", "overhead_s", "tasks"
        )
    )
    held: Log = field(default_factory=lambda: Log.of("job", "attempt", "node", "gpu", "tasks", "slice", "start_s"))

    @classmethod
    def of(cls, workload: Workload, faults: Faults | None = None) -> Lifecycle:
        """Nothing has run."""
        size = workload.num_jobs
        return cls(
            workload=workload,
            left_s=workload.run_s.copy(),
            count=np.zeros(size, dtype=np.int64),
            epoch=np.zeros(size, dtype=np.int64),
            losses=np.zeros(size, dtype=np.int64),
            first_start_s=np.full(size, np.nan),
            end_s=np.full(size, np.nan),
            lost_s=np.zeros(size),
            requeued_s=np.zeros(size),
            stopped_s=np.full(size, np.nan),
            held_s=np.zeros(size),
            overhead_s=np.zeros(size),
            task_s=np.zeros(size),
            gave_up=np.zeros(size, dtype=np.bool_),
            faults=faults,
        )

    def begin(self, state: ClusterState, row: int, now_s: float) -> float:
        """An attempt begins; returns when it will end if nothing happens to it."""
        self.count[row] += 1
        self.epoch[row] += 1
        if self.count[row] == 1:
            self.first_start_s[row] = now_s
        else:
            self.requeued_s[row] += now_s - self.stopped_s[row]
        self._note_nodes(state, row, now_s)
        return self.end_of(state, row)

    def end_of(self, state: ClusterState, row: int) -> float:
        """When a running job will be done, or fail by a fault of its own, at its present speed."""
        done_s, since_s, rate = state.jobs_f[[at.DONE_S, at.SINCE_S, at.RATE], row].tolist()
        return float(since_s + max(self.to_do_s(row) - done_s, 0.0) / rate)

    def to_do_s(self, row: int) -> float:
        """Work of the present or next attempt if nothing from outside ends it."""
        return self.faults.left_s(row) if self.is_doomed(row) else float(self.left_s[row])  # type: ignore[union-attr]

    def is_doomed(self, row: int) -> bool:
        """Whether the present or next attempt will fail by a fault of the job's own, if nothing else ends it."""
        return self.faults is not None and self.faults.left_s(row) < np.inf

    def finish(self, state: ClusterState, row: int, now_s: float) -> None:
        """A job has done all its work; call it before the state lets go of it."""
        killed = bool(self.workload.killed[row])
        self._close(state, row, now_s, KILLED if killed else COMPLETED, float(self.left_s[row]), 0.0)
        self.end_s[row] = now_s

    def interrupt(self, state: ClusterState, row: int, now_s: float, ended: int) -> float:
        """An attempt is over before its end; call it before the state lets go of the job.

        Returns:
            Reference seconds of the attempt's work that need not be done again: all of it where the job was stopped for
            others, its grace period included, and what its checkpoints have kept where a failure ended it.
        """
        done_s = self.to_do_s(row) if ended == FAILED else min(state.work_done_s(row, now_s), self.to_do_s(row))
        left_s = float(self.left_s[row])
        kept_s = min(done_s, left_s)
        if ended != PREEMPTED:
            before_s = float(self.workload.run_s[row]) - left_s
            kept = work_kept(np.asarray([before_s + done_s]), self.workload.columns.checkpoint_s[[row]])
            kept_s = min(max(float(kept[0]) - before_s, 0.0), kept_s)
        self._close(state, row, now_s, ended, done_s, done_s - kept_s)
        self.left_s[row] -= kept_s
        self.lost_s[row] += done_s - kept_s
        self.stopped_s[row] = now_s
        self.losses[row] += int(ended != PREEMPTED)
        if self.faults is not None and ended == FAILED:
            self.faults.failed(row)
        elif self.faults is not None:
            self.faults.stopped(row, done_s)
        return kept_s

    def give_up(self, row: int, now_s: float) -> None:
        """A job is not tried again: all that it has done is lost."""
        self.gave_up[row] = True
        self.end_s[row] = now_s
        self.lost_s[row] += self.workload.run_s[row] - self.left_s[row]

    def _close(self, state: ClusterState, row: int, now_s: float, ended: int, work_s: float, lost_s: float) -> None:
        start_s = float(state.jobs_f[at.START_S, row])
        overhead_s = min(float(state.jobs_f[at.OVERHEAD_S, row]), now_s - start_s)
        tasks = int(state.jobs_i[at.TASKS, row])
        self.log.add(row, int(self.count[row]), start_s, now_s, ended, work_s, lost_s, overhead_s, tasks)
        self.epoch[row] += 1
        self.held_s[row] += now_s - start_s
        self.overhead_s[row] += overhead_s
        self.task_s[row] += (now_s - start_s) * tasks

    def _note_nodes(self, state: ClusterState, row: int, now_s: float) -> None:
        attempt = int(self.count[row])
        for node, tasks, mask, first in state.places_of(row):
            if mask == 0:
                self.held.add(row, attempt, node, -1, tasks, first, now_s)
                continue
            gpus = [g for g in range(mask.bit_length()) if mask >> g & 1]
            for gpu in gpus:
                self.held.add(row, attempt, node, gpu, tasks / len(gpus), first, now_s)

    def logs(self) -> tuple[tuple[str, Log, Callable[..., pl.DataFrame]], ...]:
        """Each table's name, its rows as they happened, and what makes a table of the first of them."""
        return ("attempts", self.log, self.attempts), ("placements", self.held, self.placements)

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """``attempts`` and ``placements``, as far as they are in memory."""
        return self.attempts(), self.placements()

    def attempts(self, rows: int | None = None) -> pl.DataFrame:
        """Attempts in the order in which they ended: the first ``rows`` that are in memory, all by default."""
        import polars as pl

        log = self.log.first(rows)
        job = log["job"].astype(np.int64)
        working_s = log["end_s"] - log["start_s"] - log["overhead_s"]
        rate = np.divide(log["work_s"], working_s, out=np.full(len(working_s), np.nan), where=working_s > 0)
        return pl.DataFrame(
            {
                "job": job,
                "attempt": log["attempt"].astype(np.int64),
                "start_s": log["start_s"],
                "end_s": log["end_s"],
                "ended": pl.Series(np.asarray(ENDED)[log["ended"].astype(np.int64)], dtype=pl.Enum(ENDED)),
                "work_s": log["work_s"],
                "lost_s": log["lost_s"],
                "overhead_s": log["overhead_s"],
                "rate": rate,
                "gpus": self._asked_gpus(job) * (log["tasks"] / self.workload.demand.tasks[job]),
            }
        ).with_columns(pl.col("rate").fill_nan(None))

    def placements(self, rows: int | None = None) -> pl.DataFrame:
        """Placements in the order in which their attempts began: the first ``rows`` that are in memory, or all."""
        import polars as pl

        held = self.held.first(rows)
        job, tasks = held["job"].astype(np.int64), held["tasks"]
        shapes = self._per_task(job)
        return pl.DataFrame(
            {
                "job": job,
                "attempt": held["attempt"].astype(np.int64),
                "node": held["node"].astype(np.int64),
                "gpu": held["gpu"].astype(np.int64),
                "gpus": tasks * shapes[:, 2],
                "cpus": tasks * shapes[:, 0],
                "memory_gib": tasks * shapes[:, 1],
                **self._slices_held(job, held["node"].astype(np.int64), held["slice"].astype(np.int64)),
                "start_s": held["start_s"],
            }
        )

    def _asked_gpus(self, job: IntArray) -> FloatArray:
        """GPUs that these jobs asked for, all their tasks together."""
        asked: FloatArray = self.workload.trace.jobs.ints("tasks")[job] * self.workload.task_gpus[job]
        return asked

    def _slices_held(self, job: IntArray, node: IntArray, first: IntArray) -> dict[str, pl.Series]:
        """First memory slice of each MIG instance and how many it has, null for what is none; only if there are any."""
        import polars as pl

        demand, classes = self.workload.demand, self.workload.capacity.classes
        if not demand.is_instance.any() or demand.instances is None:
            return {}
        kind = demand.instances[demand.shape_idx[job], classes[node]]
        size = np.asarray([k.size for k in KINDS])[kind]
        is_one = pl.Series(first >= 0)
        return {
            name: pl.select(pl.when(is_one).then(pl.Series(values))).to_series()
            for name, values in (("slice", first), ("slices", size))
        }

    def _per_task(self, job: IntArray) -> FloatArray:
        """(·, R) CPUs, GiB and GPUs of one task of these jobs."""
        demand = self.workload.demand
        amounts: FloatArray = demand.shapes[demand.shape_idx[job]] / np.asarray(UNITS_PER)
        return amounts

    ARRAYS = (
        "left_s", "count", "epoch", "losses", "first_start_s", "end_s", "lost_s", "requeued_s", "stopped_s",
        "held_s", "overhead_s", "task_s", "gave_up",
    )  # fmt: skip

    def arrays(self) -> dict[str, Any]:
        """Everything that changes during a run, by name, for a checkpoint."""
        own: dict[str, Any] = {f"lifecycle_{name}": getattr(self, name) for name in self.ARRAYS}
        for table, log, _ in self.logs():
            own |= {f"{table}_{name}": column for name, column in log.first().items()}
            own[f"{table}_shed"] = np.asarray(log.shed)
        return own if self.faults is None else own | self.faults.arrays()

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take over arrays saved by ``arrays``."""
        for name in self.ARRAYS:
            getattr(self, name)[...] = arrays[f"lifecycle_{name}"]
        for table, log, _ in self.logs():
            for name in log.columns:
                log.columns[name] = array("d", arrays[f"{table}_{name}"])
            log.shed = int(arrays[f"{table}_shed"])
        if self.faults is not None:
            self.faults.restore(arrays)
