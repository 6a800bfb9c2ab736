"""Figures of a running daemon for Prometheus: counted where things happen, read when somebody asks.

Counting costs a dictionary and an addition, because calls and events pass by thousands a second. The objects of
prometheus-client are made when the endpoint is asked only. Everything here runs on the daemon's event loop, but
``stored``, which the writing thread of the store calls and nobody else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from shunter.daemon.errors import DaemonError, StoreError
from shunter.daemon.jobs import JobState, Reason
from shunter.daemon.metrics_table import BY_NAME, COUNTER, HISTOGRAM
from shunter.daemon.store.rows import EventRow
from shunter.scheduler.types import UNITS_PER

if TYPE_CHECKING:
    from shunter.daemon.leader import Leader
    from shunter.daemon.pb.nodes_pb2 import GpuSample, NodeSample
    from shunter.daemon.service.server import Server

LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
WAITS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 86400.0, 3 * 86400.0, 7 * 86400.0)
ROWS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)
FAILOVERS = frozenset((Reason.NODE_FAILED, Reason.GPU_FAILED, Reason.LOST, Reason.DRAINED))
MAX_CLASSES = 32
MAX_MOVING = 100_000
"""Jobs of which it is known since when they wait after they lost their nodes."""
CHUNK = 20_000
"""Jobs that are counted before others get a turn."""
GIB = 2.0**30
Labels = tuple[str, ...]
Values = dict[Labels, float]


class Tally:
    """Counts of a histogram.

    Args:
        bounds: Upper ends of the buckets; one more has the rest.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus has them."""
        told, below = [], 0
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            told.append((bound, float(below)))
        return told


class Metrics:
    """Counts what happens; see ``metrics_table`` for what each figure is."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, grpc.StatusCode], int] = {}
        self._call_s: dict[str, Tally] = {}
        self._stage_s: dict[str, Tally] = {}
        self._wait_s: dict[str, Tally] = {}
        self._failover_s: dict[str, Tally] = {}
        self._store_s, self._store_rows, self._store_failures = Tally(LATENCIES_S), Tally(ROWS), 0
        self._counts: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._requeued: Counter[str] = Counter()
        self._guard: Counter[str] = Counter()
        self._moving: dict[int, tuple[str, float]] = {}
        self._leader: Leader | None = None

    # --- counting ----------------------------------------------------------------------------------------------------

    def called(self, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call has ended; see ``security.guard.Meter``."""
        key = (method, code)
        self._calls[key] = self._calls.get(key, 0) + 1
        tally = self._call_s.get(method)
        if tally is None:
            tally = self._call_s[method] = Tally(LATENCIES_S)
        tally.add(seconds)

    def stored(self, rows: int, seconds: float, failure: DaemonError | None) -> None:
        """A transaction has ended; called by the writing thread."""
        self._store_s.add(seconds)
        self._store_rows.add(rows)
        self._store_failures += failure is not None

    def stage(self, stage: str, seconds: float) -> None:
        """A stage of a decision is over."""
        self._stage_s.setdefault(stage, Tally(LATENCIES_S)).add(seconds)

    def watch(self, leader: Leader) -> None:
        """Count what a leader does from now on."""
        self._leader = leader
        leader.on_stage = self.stage
        leader.on_guard = self._guard.update
        leader.listeners.append(self.happened)

    def happened(self, events: Sequence[EventRow]) -> None:
        """Events have become durable."""
        for event in events:
            kind = event.kind
            if kind == "submitted":
                self._counts[kind] += (event.last_job or event.job or 0) - (event.job or 0) + 1
            elif kind == "started":
                self._started(event)
            elif kind == "requeued":
                self._requeued[event.message] += 1
                if event.message in FAILOVERS and event.job is not None and len(self._moving) < MAX_MOVING:
                    self._moving[event.job] = (event.message, event.at_s)
            elif kind == "ended":
                self._ended[JobState(event.state).name.lower().replace("_", "-")] += 1
                self._moving.pop(event.job or 0, None)
            else:
                self._counts[kind] += 1

    def _started(self, event: EventRow) -> None:
        moved = self._moving.pop(event.job or 0, None)
        if moved is not None:
            self._failover_s.setdefault(moved[0], Tally(LATENCIES_S)).add(event.at_s - moved[1])
        job = self._leader.state.jobs.get(event.job or 0) if self._leader else None
        if job is not None and job.start_s == event.at_s:
            self._wait_s.setdefault(job.spec.queue, Tally(WAITS_S)).add(event.at_s - job.submit_s)

    # --- telling -----------------------------------------------------------------------------------------------------

    async def families(self, server: Server, *, max_nodes: int, certificate: Path | None = None) -> list[Any]:
        """All figures as they are now, for prometheus-client; call it on the event loop.

        Args:
            server: Whose figures they are.
            max_nodes: Nodes that get series of their own.
            certificate: The daemon's; None: it has none.
        """
        leader = server.leader
        told: dict[str, Mapping[Labels, Any]] = {}
        told |= await _jobs(leader)
        told |= _nodes(server, max_nodes)
        told |= self._history()
        told |= _leading(leader)
        told["shunter_agents_connected"] = _one(len(server.sessions.open))
        told["shunter_heartbeats_total"] = _one(server.sessions.heartbeats)
        told["shunter_telemetry_samples_total"] = _one(server.telemetry.num_samples)
        if certificate is not None:
            told["shunter_certificate_end_timestamp_seconds"] = await asyncio.to_thread(_end_of, certificate)
        made = [_family(name, values) for name, values in told.items() if values]
        return [*made, *ProcessCollector(registry=None).collect()]

    def _history(self) -> dict[str, Mapping[Labels, Any]]:
        counts = self._counts
        return {
            "shunter_jobs_submitted_total": _one(counts["submitted"]),
            "shunter_jobs_ended_total": _by(self._ended),
            "shunter_assignments_total": _one(counts["assigned"]),
            "shunter_requeues_total": _by(self._requeued),
            "shunter_job_wait_seconds": _by(self._wait_s),
            "shunter_decision_seconds": _by(self._stage_s),
            "shunter_guard_orders_total": _by(self._guard),
            "shunter_node_failures_total": _one(counts["node-failed"]),
            "shunter_failovers_total": {(cause,): self._requeued[cause] for cause in sorted(FAILOVERS)},
            "shunter_failover_seconds": _by(self._failover_s),
            "shunter_rpc_total": {(method, code.name): n for (method, code), n in self._calls.items()},
            "shunter_rpc_seconds": _by(self._call_s),
            "shunter_store_seconds": {(): self._store_s},
            "shunter_store_group_rows": {(): self._store_rows},
            "shunter_store_failures_total": _one(self._store_failures),
        }


def _one(value: float) -> Values:
    return {(): float(value)}


def _by(values: Mapping[str, Any]) -> dict[Labels, Any]:
    return {(name,): value for name, value in values.items()}


async def _jobs(leader: Leader) -> dict[str, Mapping[Labels, Any]]:
    """Jobs that have not ended, counted a part at a time: others get their turn between."""
    jobs, now_s = list(leader.state.jobs.values()), leader.clock.now_s()
    count: Counter[tuple[str, int, JobState]] = Counter()
    since_s: dict[str, float] = {}
    queues = leader.conduct.queues
    for begin in range(0, len(jobs), CHUNK):
        for job in jobs[begin : begin + CHUNK]:
            queue = job.spec.queue
            count[queue, job.priority, job.state] += 1
            if job.state is JobState.PENDING and job.queued_s < since_s.get(queue, float("inf")):
                since_s[queue] = job.queued_s
        await asyncio.sleep(0)
    by_class: Counter[int] = Counter()
    of_queue = {name: rules.priority for name, rules in queues.items()}
    for (queue, priority, _), number in count.items():
        by_class[of_queue.get(queue, 0) + priority] += number
    known = {number for number, _ in by_class.most_common(MAX_CLASSES)}
    told: Counter[Labels] = Counter()
    for (queue, priority, state), number in count.items():
        of_class = of_queue.get(queue, 0) + priority
        told[queue, str(of_class) if of_class in known else "other", state.name.lower()] += number
    decision = leader.decision
    skipped = Counter(reason.value for _, reason in decision.answer.plan.skipped) if decision else Counter[str]()
    return {
        "shunter_jobs": told or {("default", "0", "pending"): 0},
        "shunter_waiting_oldest_seconds": _by({queue: max(now_s - at_s, 0.0) for queue, at_s in since_s.items()}),
        "shunter_jobs_skipped": _by(skipped),
    }


HEALTHS = ("healthy", "suspect", "draining", "failed", "recovering")


def _nodes(server: Server, max_nodes: int) -> dict[str, Mapping[Labels, Any]]:
    state, now_s = server.leader.state, server.leader.clock.now_s()
    nodes = sorted(state.nodes.values(), key=lambda node: node.name)
    health: Counter[str] = Counter(dict.fromkeys(HEALTHS, 0))
    has, used, failed_gpus = [0, 0, 0], [0, 0, 0], 0
    for node in nodes:
        health[node.health] += 1
        failed_gpus += len(node.failed_gpus)
        if node.health != "failed":
            for i in range(3):
                has[i] += node.units[i]
                used[i] += node.used[i]
    told: dict[str, dict[Labels, Any]] = {
        "shunter_nodes": _by(health),
        "shunter_nodes_open": _one(sum(node.is_open for node in nodes)),
        "shunter_nodes_left_out": _one(max(len(nodes) - max_nodes, 0)),
        "shunter_gpus_failed": _one(failed_gpus),
        "shunter_node_silence_seconds": {},
    }
    names = (("shunter_cpus", 1.0, ""), ("shunter_memory", GIB, "_bytes"), ("shunter_gpus", 1.0, ""))
    for i, (name, factor, unit) in enumerate(names):
        told[f"{name}{unit}"] = _one(has[i] / UNITS_PER[i] * factor)
        told[f"{name}_allocated{unit}"] = _one(used[i] / UNITS_PER[i] * factor)
    for node in nodes[:max_nodes]:
        told["shunter_node_silence_seconds"][node.name,] = max(now_s - node.heard_s, 0.0)
        sample = server.telemetry.last(node.name)
        if sample is not None:
            _take(told, (node.name,), sample, OF_NODE)
            for gpu in sample.gpus:
                labels = (node.name, str(gpu.index))
                _take(told, labels, gpu, OF_GPU)
                told.setdefault("shunter_gpu_fault", {})[labels] = float(bool(gpu.fault))
    return dict(told)


OF_NODE = (
    ("cpu_utilisation", "shunter_node_cpu_utilisation_ratio", 1.0),
    ("memory_used_gib", "shunter_node_memory_used_bytes", GIB),
    ("disk_free_gib", "shunter_node_disk_free_bytes", GIB),
    ("network_rx_bytes_per_s", "shunter_node_network_receive_bytes_per_second", 1.0),
    ("network_tx_bytes_per_s", "shunter_node_network_transmit_bytes_per_second", 1.0),
)
OF_GPU = (
    ("utilisation", "shunter_gpu_utilisation_ratio", 1.0),
    ("memory_used_gib", "shunter_gpu_memory_used_bytes", GIB),
    ("temperature_c", "shunter_gpu_temperature_celsius", 1.0),
    ("power_w", "shunter_gpu_power_watts", 1.0),
    ("sm_clock_mhz", "shunter_gpu_sm_clock_hertz", 1e6),
    ("ecc_corrected", "shunter_gpu_ecc_corrected_total", 1.0),
    ("ecc_uncorrected", "shunter_gpu_ecc_uncorrected_total", 1.0),
)


def _take(
    told: dict[str, dict[Labels, Any]],
    labels: Labels,
    sample: NodeSample | GpuSample,
    fields: Iterable[tuple[Any, str, float]],
) -> None:
    """What a sample has; what was not measured is absent."""
    for field, name, factor in fields:
        if sample.HasField(field):
            told.setdefault(name, {})[labels] = getattr(sample, field) * factor


def _leading(leader: Leader) -> dict[str, Mapping[Labels, Any]]:
    counts = leader.counts
    told: dict[str, Mapping[Labels, Any]] = {
        "shunter_decisions_total": _one(counts["decisions"]),
        "shunter_decisions_refused_total": _one(counts["refused"]),
        "shunter_planner_failures_total": _one(counts["planner_failures"]),
        "shunter_store_reloads_total": _one(counts["reloads"]),
        "shunter_store_failing": _one(isinstance(leader.failure, StoreError)),
        "shunter_leader": _one(leader.leads),
        "shunter_fencing_token": _one(leader.token),
        "shunter_last_event_number": _one(leader.state.last_event),
        "shunter_policy_mode": {(mode,): float(mode == leader.mode) for mode in ("heuristic", "shadow", "active")},
    }
    if leader.decision is not None:
        told["shunter_last_decision_timestamp_seconds"] = _one(leader.decision.at_s)
    for name, figure in leader.figures.items():
        values = figure()
        if values is not None:
            told[name] = values
    return told


def _end_of(certificate: Path) -> Values:
    from shunter.daemon.security.certificates import read_certificate
    from shunter.scheduler.errors import ConfigError

    try:
        return _one(read_certificate(certificate).not_valid_after_utc.timestamp())
    except ConfigError:
        return {}


def _family(name: str, values: Mapping[Labels, Any]) -> Any:
    series = BY_NAME[name]
    if series.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(name, series.help, labels=series.labels)
        for labels, tally in values.items():
            histogram.add_metric(list(labels), tally.buckets(), tally.total)
        return histogram
    kind = CounterMetricFamily if series.kind == COUNTER else GaugeMetricFamily
    family = kind(name, series.help, labels=series.labels)
    for labels, value in values.items():
        family.add_metric(list(labels), float(value))
    return family


class Collected(Collector):
    """Families that have been made, in the form in which prometheus-client writes them."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        """All of them."""
        return self._families
