"""The simulator and metrics of RLScheduler's evaluation (Zhang et al., SC'20), reproduced exactly.

Owns the protocol's loading rules, scores and metrics; the event loop is in ``rls_kernel``. Its semantics are not those
of a textbook simulator, and deliberately stay apart from the engine's:

* The policy's choice binds: the head of the queue is not reconsidered while it waits for room.
* A start does not move time, and completions and arrivals up to now are collected only while the head waits or when
  the queue runs dry, arrivals one at a time and before a completion at the same instant.
* Backfilling scans the queue in submit order whatever the policy, has no "extra nodes" rule, and does not renew its
  reservation.
* Resources are whole nodes; the machine is empty at the start of a window, which ends with its last *start*.
* The published WFP3 and UNICEP read a start time that is not set yet (−1) instead of the clock, so that they do not
  depend on waiting. They are ``wfp3-published`` and ``unicep-published`` here; the plain names use the true wait.

Times are whole seconds since the log's start.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shunter.scheduler import scores
from shunter.scheduler.errors import TraceError, UsageError, nearest
from shunter.scheduler.types import FloatArray, IntArray
from shunter.sim.compat import rls_plain

BOUND_S = 10
"""Run times below this count as this in the bounded slowdown."""

RUN_OF_NEGATIVE_S = 10
"""What the protocol takes for a run time below 0."""

UNSET_START_S = -1.0
"""What the published WFP3 and UNICEP read in place of the clock."""

FIELDS_READ = {
    "number": "job",
    "submit": "submit_s",
    "run": "run_s",
    "allocated": "allocated",
    "requested_procs": "requested",
    "requested": "requested_s",
    "memory": "requested_memory_kb",
    "user": "user",
    "group": "group",
    "executable": "executable",
}
"""This module's names of the SWF fields that the protocol reads."""

StaticScore = Callable[["RlsJobs"], tuple[FloatArray, ...]]
"""Sort keys of jobs, each (J,), the first the most significant; lower first."""

STATIC_SCORES: Mapping[str, StaticScore] = {
    "fcfs": lambda jobs: (as_float(jobs.submit_s),),
    "sjf": lambda jobs: (as_float(jobs.requested_s), as_float(jobs.submit_s)),
    "smallest": lambda jobs: (as_float(jobs.procs), as_float(jobs.submit_s)),
    "largest": lambda jobs: (-as_float(jobs.procs), as_float(jobs.submit_s)),
    "saf": lambda jobs: (as_float(jobs.requested_s * jobs.procs), as_float(jobs.submit_s)),
    "sqrt-area": lambda jobs: (scores.sqrt_area(*jobs.arguments[:2]), as_float(jobs.submit_s)),
    "f1": lambda jobs: (scores.f1(*jobs.arguments),),
    "f2": lambda jobs: (unguarded(scores.f2(*jobs.arguments), jobs.requested_s, jobs.submit_s),),
    "f3": lambda jobs: (unguarded(scores.f3(*jobs.arguments), jobs.submit_s),),
    "f4": lambda jobs: (unguarded(scores.f4(*jobs.arguments), jobs.procs, jobs.submit_s),),
    "wfp3-published": lambda jobs: (scores.wfp3(*jobs.arguments, UNSET_START_S),),
    "unicep-published": lambda jobs: (unguarded(scores.unicep(*jobs.arguments, UNSET_START_S), jobs.procs),),
}
WAIT_SCORES = ("wfp3", "unicep")
POLICIES = (*STATIC_SCORES, *WAIT_SCORES)
"""Every policy of the protocol. All but ``WAIT_SCORES`` give a job the same score for ever."""


def unguarded(score: FloatArray, *operands: IntArray) -> FloatArray:
    """``score`` with NaN where a root or logarithm had a negative operand, as in the original; all (J,)."""
    return np.where(np.any([operand < 0 for operand in operands], axis=0), np.nan, score)


def as_float(values: IntArray) -> FloatArray:
    """Whole numbers as float64, shape kept."""
    return values.astype(np.float64)


@dataclass(frozen=True, slots=True)
class RlsJobs:
    """Jobs after the protocol's loading rules, sorted by number; every array is (J,) int64.

    Attributes:
        number: SWF job number.
        submit_s: Submit time.
        run_s: Run time, at least 1.
        requested_s: Requested time; the run time where the log has −1.
        procs: The larger of allocated and requested processors.
        nodes: Whole nodes that the job takes.
        memory: Requested memory, −1 when unknown; so are the next three.
        user: User number.
        group: Group number.
        executable: Executable number.
    """

    number: IntArray
    submit_s: IntArray
    run_s: IntArray
    requested_s: IntArray
    procs: IntArray
    nodes: IntArray
    memory: IntArray
    user: IntArray
    group: IntArray
    executable: IntArray

    def __len__(self) -> int:
        return len(self.number)

    @property
    def arguments(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Requested time, processors and submit time, the arguments of the formulas in ``scheduler.scores``."""
        return as_float(self.requested_s), as_float(self.procs), as_float(self.submit_s)

    def rows(self, start: int, count: int) -> RlsJobs:
        """The ``count`` jobs from row ``start`` on, as views."""
        return RlsJobs(*(getattr(self, name)[start : start + count] for name in RlsJobs.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class RlsTrace:
    """A log as the protocol sees it.

    Attributes:
        name: Short name.
        jobs: Jobs kept.
        num_nodes: Whole nodes.
        max_procs: Processors over all nodes.
        maxima: Largest ``run_s``, ``memory``, ``user``, ``group`` and ``executable`` over all lines of the log, those
            of dropped jobs included, and at least 0; the observation is scaled by them.
        lines: Data lines of the log.
    """

    name: str
    jobs: RlsJobs
    num_nodes: int
    max_procs: int
    maxima: Mapping[str, int]
    lines: int

    @property
    def procs_per_node(self) -> float:
        """Processors of one node; may be fractional."""
        return self.max_procs / self.num_nodes

    def __len__(self) -> int:
        return len(self.jobs)


@dataclass(frozen=True, slots=True)
class RlsRun:
    """One window under one policy.

    Attributes:
        jobs: The jobs of the window, in the log's order.
        start_s: (J,) start times on the log's clock.
        order: (J,) rows of the window in the order in which they were started.
        metrics: ``avg_bsld, avg_wait, avg_turnaround, avg_sld, util_rls, last_start_rel, makespan, max_wait``.
    """

    jobs: RlsJobs
    start_s: IntArray
    order: IntArray
    metrics: Mapping[str, float]

    @property
    def starts_rel(self) -> IntArray:
        """(J,) start times relative to the submission of the window's first job."""
        first: np.int64 = self.jobs.submit_s[0]
        return self.start_s - first

    @property
    def starts_crc32(self) -> str:
        """CRC-32 of ``starts_rel`` as little-endian int64, eight hexadecimal digits."""
        return crc32(self.starts_rel)

    @property
    def order_crc32(self) -> str:
        """CRC-32 of ``order`` as little-endian int64, eight hexadecimal digits."""
        return crc32(self.order)


def crc32(values: IntArray) -> str:
    """CRC-32 of an array as little-endian int64, eight hexadecimal digits."""
    return f"{zlib.crc32(values.astype('<i8').tobytes()):08x}"


def load(path: Path | str) -> RlsTrace:
    """Read an SWF log by the protocol's own rules.

    Requested time −1 becomes the run time; a negative run time becomes 10 s; a job with run time 0 is dropped; jobs
    are sorted by number. The machine is ``MaxNodes`` nodes of ``MaxProcs / MaxNodes`` processors. Where the header has
    only one of the two, nodes have one processor each.

    Raises:
        TraceError: The file cannot be read, a field is no whole number, or the header has neither size.
    """
    header, columns = raw_columns(Path(path))
    max_nodes, max_procs = header_size(header, "MaxNodes"), header_size(header, "MaxProcs")
    if max_nodes == 0 and max_procs == 0:
        raise TraceError(f"{path}: the header has neither MaxNodes nor MaxProcs; expected the machine's size")
    num_nodes, max_procs = max_nodes or max_procs, max_procs or max_nodes
    run = columns["run"]
    requested = np.where(columns["requested"] == -1, run, columns["requested"])
    maxima = {name: max(0, int(columns[name].max())) for name in ("run", "memory", "user", "group", "executable")}
    procs = np.maximum(columns["allocated"], columns["requested_procs"])
    nodes = np.ceil(procs / (max_procs / num_nodes)).astype(np.int64)
    order = np.argsort(columns["number"], kind="stable")
    kept = order[run[order] != 0]
    jobs = RlsJobs(
        number=columns["number"][kept],
        submit_s=columns["submit"][kept],
        run_s=np.where(run < 0, RUN_OF_NEGATIVE_S, run)[kept],
        requested_s=requested[kept],
        procs=procs[kept],
        nodes=nodes[kept],
        memory=columns["memory"][kept],
        user=columns["user"][kept],
        group=columns["group"][kept],
        executable=columns["executable"][kept],
    )
    return RlsTrace(Path(path).name.split(".swf")[0], jobs, num_nodes, max_procs, maxima, len(run))


def raw_columns(path: Path) -> tuple[Mapping[str, str], dict[str, IntArray]]:
    """Header fields, and the SWF fields that the protocol reads as (J,) int64 in the file's order.

    Raises:
        TraceError: The file cannot be read as SWF, or one of these fields has a fraction.
    """
    from shunter.traces.readers.swf import FIELDS, read_swf_table

    header, frame, lines = read_swf_table(path)
    columns: dict[str, IntArray] = {}
    for name, source in FIELDS_READ.items():
        values = frame[source].to_numpy()
        fractions = values != np.round(values)
        if fractions.any():
            row = int(np.argmax(fractions))
            place = f"{path}:{lines[row]}:{FIELDS.index(source) + 1}"
            raise TraceError(f"{place}: {source}: protocol rlscheduler expects whole numbers, got {values[row]:g}")
        columns[name] = values.astype(np.int64)
    return header, columns


def header_size(header: Mapping[str, str], name: str) -> int:
    """The whole number that a header field starts with, the last one if it is given twice; 0 without one."""
    from shunter.traces.readers.swf import leading_integer

    return leading_integer(header.get(name, "").rpartition("\n")[2]) or 0


def run(trace: RlsTrace, start: int, length: int, policy: str, backfill: bool) -> RlsRun:
    """Replay ``length`` jobs from row ``start`` on, on an empty machine.

    Args:
        trace: The log.
        start: First row, counted over the jobs kept.
        length: Number of jobs.
        policy: One of ``POLICIES``.
        backfill: Whether jobs are backfilled while the head of the queue waits.

    Raises:
        UsageError: Unknown policy.
        TraceError: The window does not lie inside the log, or a job of it cannot run on the machine.
    """
    check_policy(policy)
    jobs = window(trace, start, length)
    keys = STATIC_SCORES[policy](jobs) if policy in STATIC_SCORES else ()
    if any(np.isnan(key).any() for key in keys):
        [key] = (values.tolist() for values in keys)
        start_s, order = rls_plain.replay(empty_machine(trace, jobs), lambda row, _: key[row], backfill=backfill)
    else:
        start_s, order = run_compiled(trace, jobs, policy, keys, backfill)
    return RlsRun(jobs, start_s, order, metrics(jobs, start_s, trace.max_procs))


def run_compiled(
    trace: RlsTrace, jobs: RlsJobs, policy: str, keys: tuple[FloatArray, ...], backfill: bool
) -> tuple[IntArray, IntArray]:
    """Start times (J,) and rows in the order of their starts (J,); ``keys`` is empty for one of ``WAIT_SCORES``."""
    from shunter.sim.compat import rls_kernel as kernel

    kind = {"wfp3": kernel.WFP3, "unicep": kernel.UNICEP}.get(policy, kernel.STATIC)
    rank = ranks(keys, strict=not backfill) if keys else np.zeros(len(jobs), np.int64)
    arrays = (jobs.submit_s, jobs.run_s, jobs.requested_s, jobs.procs, jobs.nodes, rank)
    start_s, order = kernel.simulate(
        kernel.Jobs(*arrays, kind, trace.num_nodes, trace.procs_per_node), bool(backfill), None
    )
    return start_s, order


def empty_machine(trace: RlsTrace, jobs: RlsJobs) -> rls_plain.Machine:
    """The plain machine at the submission of the window's first job."""
    return rls_plain.Machine.at_first_submit(
        submit=jobs.submit_s,
        run=jobs.run_s,
        requested=jobs.requested_s,
        procs=jobs.procs,
        nodes=jobs.nodes,
        num_nodes=trace.num_nodes,
        procs_per_node=trace.procs_per_node,
    )


def warm_up() -> None:
    """Compile the loop, or load it from the disk cache, so that the next run measures the replay alone."""
    one = np.ones(1, dtype=np.int64)
    jobs = RlsJobs(*(one for _ in RlsJobs.__dataclass_fields__))
    run(RlsTrace("one job", jobs, 1, 1, {}, 1), 0, 1, "fcfs", backfill=False)


def check_policy(policy: str) -> None:
    """Raise UsageError, with the nearest name, unless the protocol has ``policy``."""
    if policy not in POLICIES:
        raise UsageError(f"protocol rlscheduler has no policy {policy!r}{nearest(policy, list(POLICIES))}")


def window(trace: RlsTrace, start: int, length: int) -> RlsJobs:
    """The jobs of a window, each of which can run on the empty machine.

    The original asserts that something is running when a job does not fit, so it stops at a job that never will.

    Raises:
        TraceError: See ``run``.
    """
    if start < 0 or length < 1 or start + length > len(trace):
        raise TraceError(f"window {start}:{length} does not lie inside {trace.name!r}, which has {len(trace)} jobs")
    jobs = trace.jobs.rows(start, length)
    for bad, expected in (
        (jobs.nodes > trace.num_nodes, f"expected at most the machine's {trace.max_procs}"),
        (jobs.nodes < 0, "expected a number of at least 0"),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            job = f"job {jobs.number[row]} (row {start + row})"
            raise TraceError(f"{trace.name}: {job} needs {jobs.procs[row]} processors; {expected}")
    return jobs


def ranks(keys: tuple[FloatArray, ...], *, strict: bool) -> IntArray:
    """Whole numbers that sort as ``keys`` do, (J,): equal keys share a rank, or stand in row order if ``strict``."""
    order = np.lexsort(keys[::-1])
    step = np.zeros(len(order), dtype=bool)
    for key in keys:
        ordered = key[order]
        step[1:] |= ordered[1:] != ordered[:-1]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) if strict else np.cumsum(step)
    return rank


def metrics(jobs: RlsJobs, start_s: IntArray, max_procs: int) -> dict[str, float]:
    """The protocol's metrics of a finished window; ``util_rls`` is absent when all jobs started at the first submit.

    ``util_rls`` divides the work by processors × the time from the first submission to the last *start*, not to the
    last end, so it can exceed 1.
    """
    first = int(jobs.submit_s[0])
    wait = as_float(start_s - jobs.submit_s)
    run_s = as_float(jobs.run_s)
    last_start = int(start_s.max()) - first
    values = {
        "avg_bsld": float(np.mean(np.maximum(1.0, (wait + run_s) / np.maximum(run_s, BOUND_S)))),
        "avg_wait": float(np.mean(wait)),
        "avg_turnaround": float(np.mean(wait + run_s)),
        "avg_sld": float(np.mean((wait + run_s) / run_s)),
        "last_start_rel": float(last_start),
        "makespan": float((start_s + jobs.run_s).max() - first),
        "max_wait": float(wait.max()),
    }
    if last_start > 0:
        values["util_rls"] = float(np.sum(run_s * jobs.procs) / (last_start * max_procs))
    return values


def published_starts(seed: int, num_jobs: int, length: int, iterations: int) -> list[int]:
    """First rows of the windows that the published tables average over.

    Each is ``randint(length, num_jobs − length − 1)`` of NumPy's legacy generator, seeded as old Gym does: with the
    32-bit words of the first 8 bytes of the SHA-512 of the decimal seed, lowest word first.

    Raises:
        UsageError: ``num_jobs`` leaves no room for a window.
    """
    if num_jobs - length - 1 <= length:
        raise UsageError(f"windows of {length} jobs need more than {2 * length + 1} jobs, got {num_jobs}")
    number = int.from_bytes(hashlib.sha512(str(seed).encode()).digest()[:8], "little")
    words = [number & 0xFFFFFFFF]
    while number := number >> 32:
        words.append(number & 0xFFFFFFFF)
    generator = np.random.RandomState(words)
    return [int(generator.randint(length, num_jobs - length - 1)) for _ in range(iterations)]
