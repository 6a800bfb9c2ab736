"""Outages of nodes, racks and GPUs on the simulator's clock: what they are, and drawing them from failure rates.

Owns ``Outages``, the events that a replay carries out, and ``Spans``, the same as intervals. Whatever the source, the
events of a node alternate legally:

- a node is up, draining (its jobs go on, nothing new starts) or down; DRAIN and RESUME lead from up to draining and
  back, FAIL from either to down, and REPAIR from down to up;
- a GPU fails and is repaired only while its node is up or draining: the part of its outage that lies inside an outage
  of the node is cut out;
- at one instant repairs and resumptions come first, so that an outage may begin where another one ends.

Recorded logs are read in ``failure_logs``. What to do about a failure is decided in ``scheduler.failover``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shunter.scheduler.errors import ConfigError, UsageError
from shunter.scheduler.types import BoolArray, FloatArray, IntArray
from shunter.traces.generate.params import stream
from shunter.traces.tables import ClusterSpec, Trace

FAIL, REPAIR, DRAIN, RESUME = range(4)
EVENTS = ("fail", "repair", "drain", "resume")
"""Names of the kinds of event, by number."""

CAUSE_FAILURE, CAUSE_RACK, CAUSE_DRAIN, CAUSE_PROBATION = range(4)
CAUSES = ("failure", "rack", "drain", "probation")
"""Names of the causes of an outage, by number; where several overlap, the first to begin (then the least) names it."""

WHOLE_NODE = -1
HOUR_S = 3600.0

MOST_FAILURES = 20_000_000
"""Failures that are drawn at most: about 2 GB of events; more are a mean time between failures in the wrong unit."""


@dataclass(frozen=True, slots=True)
class Outages:
    """Events, sorted by time; each array has shape (E,).

    Attributes:
        time_s: Seconds since the trace's start.
        node: Row of the node.
        gpu: Index of the GPU on its node; −1 for the whole node.
        kind: FAIL, REPAIR, DRAIN or RESUME.
        cause: Row of ``CAUSES``: of the outage that the event begins or ends.
        notes: What a reader had to assume, for people.
    """

    time_s: FloatArray
    node: IntArray
    gpu: IntArray
    kind: IntArray
    cause: IntArray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(frozen=True, slots=True)
class Spans:
    """Outages as intervals; each array has shape (I,). ``until_s`` is inf where nothing ends an outage.

    Attributes:
        node: Row of the node.
        gpu: Index of the GPU on its node; −1 for the whole node.
        from_s: Begin.
        until_s: End.
        cause: Row of ``CAUSES``.
        is_down: False while a node drains or is on probation: it is powered and runs what it has.
    """

    node: IntArray
    gpu: IntArray
    from_s: FloatArray
    until_s: FloatArray
    cause: IntArray
    is_down: BoolArray

    @classmethod
    def of(
        cls,
        node: IntArray,
        from_s: FloatArray,
        until_s: FloatArray,
        *,
        cause: int,
        gpu: IntArray | None = None,
        is_down: bool = True,
    ) -> Spans:
        """Intervals in which nodes, or single GPUs, are down, or nodes take nothing new, for one cause."""
        count = len(node)
        whole = np.full(count, WHOLE_NODE, dtype=np.int64) if gpu is None else gpu
        return cls(node, whole, from_s, until_s, np.full(count, cause, np.int64), np.full(count, is_down))

    @classmethod
    def joined(cls, parts: Sequence[Spans]) -> Spans:
        """All intervals of several tables, overlapping as they are."""
        none = cls.of(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), cause=CAUSE_FAILURE)
        columns = ("node", "gpu", "from_s", "until_s", "cause", "is_down")
        return cls(*(np.concatenate([getattr(part, name) for part in (none, *parts)]) for name in columns))

    def take(self, rows: BoolArray) -> Spans:
        """The intervals of a mask."""
        columns = (self.node, self.gpu, self.from_s, self.until_s, self.cause, self.is_down)
        return Spans(*(column[rows] for column in columns))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.node)


@dataclass(frozen=True, slots=True)
class PlannedDrain:
    """Maintenance of a node: no new work from ``notice_s`` before ``from_s`` on, away from then until ``until_s``."""

    node: int
    from_s: float
    until_s: float
    notice_s: float = 0.0


# --- intervals and events -------------------------------------------------------------------------------------------


def outages_of(spans: Spans, *, notes: tuple[str, ...] = ()) -> Outages:
    """Intervals, which may overlap, as legally alternating events. Empty intervals and the time before 0 are left out.

    Cost: O(I log I).
    """
    kept = spans.take((spans.until_s > 0) & (spans.until_s > spans.from_s))
    begin = np.maximum(kept.from_s, 0.0)
    whole = kept.gpu == WHOLE_NODE
    is_node, is_gpu, is_idle = kept.is_down & whole, kept.is_down & ~whole, ~kept.is_down
    node, from_s, until_s, cause = _pieces(
        kept.node[is_node], begin[is_node], kept.until_s[is_node], kept.cause[is_node]
    )
    down = (node, from_s, until_s)
    gpus, key = np.unique(np.stack([kept.node[is_gpu], kept.gpu[is_gpu]]), axis=1, return_inverse=True)
    broken, broken_from, broken_until, _ = _pieces(
        key.reshape(-1), begin[is_gpu], kept.until_s[is_gpu], kept.cause[is_gpu], minus=_of_gpus(gpus[0], *down)
    )
    whole_node = np.full(len(node), WHOLE_NODE, dtype=np.int64)
    failed = np.full(len(broken), CAUSE_FAILURE, dtype=np.int64)
    events: list[_Events] = [
        (from_s, node, whole_node, FAIL, cause),
        (until_s, node, whole_node, REPAIR, cause),
        (broken_from, gpus[0][broken], gpus[1][broken], FAIL, failed),
        (broken_until, gpus[0][broken], gpus[1][broken], REPAIR, failed),
    ]
    failing = set(zip(node.tolist(), from_s.tolist(), strict=True)) if is_idle.any() else set()
    away = [down]
    for reason in (CAUSE_DRAIN, CAUSE_PROBATION):  # a node that drains while it is on probation drains
        rows = is_idle & ((kept.cause == CAUSE_PROBATION) == (reason == CAUSE_PROBATION))
        idle, idle_from, idle_until, _ = _pieces(
            kept.node[rows], begin[rows], kept.until_s[rows], kept.cause[rows], minus=_joined(away)
        )
        ends = zip(idle.tolist(), idle_until.tolist(), strict=True)
        resumes = np.asarray([end not in failing for end in ends], np.bool_)
        same, why = np.full(len(idle), WHOLE_NODE, dtype=np.int64), np.full(len(idle), reason, dtype=np.int64)
        events.append((idle_from, idle, same, DRAIN, why))
        events.append((np.where(resumes, idle_until, np.inf), idle, same, RESUME, why))
        away.append((idle, idle_from, idle_until))
    return _sorted_events(events, notes)


def spans_of(outages: Outages, *, until_s: float = math.inf) -> Spans:
    """The intervals that events stand for, cut at ``until_s``, in order of their begin."""
    order = np.lexsort((np.arange(len(outages)), outages.gpu, outages.node))
    node, gpu, kind = outages.node[order], outages.gpu[order], outages.kind[order]
    time_s, cause = np.minimum(outages.time_s[order], until_s), outages.cause[order]
    begins = np.isin(kind, (FAIL, DRAIN))
    end_s = np.append(time_s[1:], until_s)[: len(order)]
    has_end = np.append((node[1:] == node[:-1]) & (gpu[1:] == gpu[:-1]), False)[: len(order)]
    spans = Spans(node, gpu, time_s, np.where(has_end, end_s, until_s), cause, kind == FAIL)
    found = spans.take(begins & (spans.until_s > time_s))
    chosen = np.lexsort((found.gpu, found.node, found.from_s))
    columns = (found.node, found.gpu, found.from_s, found.until_s, found.cause, found.is_down)
    return Spans(*(column[chosen] for column in columns))  # type: ignore[arg-type]


def merged(*parts: Outages) -> Outages:
    """Several sources of outages at once: a node is down while any of them says so."""
    notes = tuple(note for part in parts for note in part.notes)
    return outages_of(Spans.joined([spans_of(part) for part in parts]), notes=notes)


def availability(outages: Outages, num_nodes: int, until_s: float) -> float:
    """Node-seconds up over all node-seconds until ``until_s``. Draining nodes and nodes with a failed GPU are up."""
    spans = spans_of(outages, until_s=until_s)
    counted = spans.is_down & (spans.gpu == WHOLE_NODE)
    return 1.0 - float((spans.until_s - spans.from_s)[counted].sum()) / (num_nodes * until_s)


_Events = tuple[FloatArray, IntArray, IntArray, int, IntArray]
_Pieces = tuple[IntArray, FloatArray, FloatArray]


def _sorted_events(parts: Sequence[_Events], notes: tuple[str, ...]) -> Outages:
    """Columns (time, node, GPU, kind, cause) by time; what ends comes before what begins; events at inf are none."""
    time_s = np.concatenate([part[0] for part in parts])
    node = np.concatenate([part[1] for part in parts])
    gpu = np.concatenate([part[2] for part in parts])
    kind = np.concatenate([np.full(len(part[0]), part[3], dtype=np.int64) for part in parts])
    cause = np.concatenate([part[4] for part in parts])
    order = np.lexsort((gpu, node, np.isin(kind, (FAIL, DRAIN)), time_s))
    order = order[np.isfinite(time_s[order])]
    return Outages(time_s[order], node[order], gpu[order], kind[order], cause[order], notes)


def _pieces(
    key: IntArray, from_s: FloatArray, until_s: FloatArray, cause: IntArray, *, minus: _Pieces | None = None
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Per key, the union of intervals without those of ``minus``, as maximal pieces, and the cause of each.

    All begins and ends are swept once in order of key and time, counting how many intervals are open: the depth is back
    at zero after the last event of a key, so that one running sum serves all keys.
    """
    less = minus or (np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    count, away = len(key), len(less[0])
    keys = np.concatenate([key, key, less[0], less[0]])
    times = np.concatenate([from_s, until_s, less[1], less[2]])
    causes = np.concatenate([cause, cause, np.zeros(2 * away, np.int64)])
    opens = np.repeat([1, -1, 0, 0], [count, count, away, away])
    hides = np.repeat([0, 0, 1, -1], [count, count, away, away])
    order = np.lexsort((causes, times, keys))
    keys, times, causes = keys[order], times[order], causes[order]
    is_new = np.append(True, (keys[1:] != keys[:-1]) | (times[1:] != times[:-1]))[: len(order)]
    is_last = np.append(is_new[1:], True)[: len(order)]
    active = (np.cumsum(opens[order])[is_last] > 0) & (np.cumsum(hides[order])[is_last] == 0)
    before = np.append(False, active[:-1])[: len(active)]
    begins, ends = active & ~before, before & ~active
    return keys[is_new][begins], times[is_new][begins], times[is_new][ends], causes[is_new][begins]


def _joined(parts: Sequence[_Pieces]) -> _Pieces:
    """Several tables of pieces as one."""
    key, from_s, until_s = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return key, from_s, until_s


def _of_gpus(gpu_node: IntArray, node: IntArray, from_s: FloatArray, until_s: FloatArray) -> _Pieces:
    """Outages of nodes, repeated for each of the GPUs (rows of ``gpu_node``) on them; ``node`` is sorted."""
    gpu, row = _ranges(np.searchsorted(node, gpu_node, side="left"), np.searchsorted(node, gpu_node, side="right"))
    return gpu, from_s[row], until_s[row]


def _ranges(first: IntArray, after: IntArray) -> tuple[IntArray, IntArray]:
    """The numbers of all ranges ``first[i] … after[i] − 1`` in one array, and before it the ``i`` of each."""
    counts = after - first
    which = np.repeat(np.arange(len(first), dtype=np.int64), counts)
    return which, np.arange(counts.sum(), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts - first, counts)


# --- drawing --------------------------------------------------------------------------------------------------------


def draw_outages(spec: ClusterSpec, *, until_s: float, seed: int) -> Outages:
    """Failures of nodes, GPUs and racks by the rates of a specification, all of them beginning before ``until_s``.

    Times from a repair to the next failure have the stated mean and are exponential, or Weibull of the group's
    ``failure_shape``; times to repair are exponential. Everything is up, and as good as new, at 0. A node's own
    failures and those of its rack and GPUs are independent of one another. Each failure has its repair, even if that
    lies beyond ``until_s``.

    Every group has a stream of random numbers for its nodes, one for its GPUs and one for its racks, named by the
    group: adding a group does not change the others, and a longer ``until_s`` only adds later failures.

    Raises:
        ConfigError: A mean time between failures without a mean time to repair, or so short that there would be more
            than 20 million failures; all of them at once, each with its path.
        UsageError: ``until_s`` is no finite time.

    Source: Schroeder & Gibson, A large-scale study of failures in high-performance computing systems, DSN 2006
    (Weibull of shape 0.7 to 0.8 fits the times between failures of a node).
    """
    if not (math.isfinite(until_s) and until_s >= 0):
        raise UsageError(f"failures until {until_s} s: expected a finite time of at least 0 s")
    rates = _rates_of(spec)
    problems = dict.fromkeys(problem for kinds in rates for rate in kinds for problem in _rate_problems(rate, until_s))
    if problems:
        raise ConfigError(f"cluster {spec.name!r}: " + "; ".join(problems))
    parts: list[Spans] = []
    first_node = 0
    for group, label, (nodes, cards, racks) in zip(spec.groups, _labels(spec), rates, strict=True):
        node, begin, end = _renewals(stream(seed, f"failures/{label}/nodes"), nodes, until_s)
        parts.append(Spans.of(first_node + node, begin, end, cause=CAUSE_FAILURE))

        card, begin, end = _renewals(stream(seed, f"failures/{label}/gpus"), cards, until_s)
        node, gpu = np.divmod(card, max(int(group.gpus or 0), 1))
        parts.append(Spans.of(first_node + node, begin, end, cause=CAUSE_FAILURE, gpu=gpu))

        rack, begin, end = _renewals(stream(seed, f"failures/{label}/racks"), racks, until_s)
        size = group.rack_size or group.count
        row, node = _ranges(rack * size, np.minimum((rack + 1) * size, group.count))
        parts.append(Spans.of(first_node + node, begin[row], end[row], cause=CAUSE_RACK))
        first_node += group.count
    return outages_of(Spans.joined(parts))


def horizon_s(trace: Trace, spec: ClusterSpec) -> float:
    """A time by which a replay of the trace is over, with much to spare: until then failures are drawn.

    Twice the time that the work takes on the whole cluster, at a quarter of its speed, and four times the longest job.
    """
    jobs = trace.jobs
    run_s = jobs.floats("duration_s")
    last_s = float(jobs.floats("submit_s").max(initial=0.0))
    work = [
        float((run_s * jobs.ints("tasks") * jobs.floats(name)).sum()) / total
        for name in ("gpus", "cpus")
        if (total := spec.total(name))
    ]
    return 2.0 * (last_s + 4.0 * max(work, default=0.0) + 4.0 * float(run_s.max(initial=0.0)))


def planned_drains(drains: Sequence[PlannedDrain], num_nodes: int) -> Outages:
    """Maintenance with notice: DRAIN at ``from_s − notice_s``, FAIL (taken away) at ``from_s``, REPAIR at ``until_s``.

    Raises:
        UsageError: A node that does not exist, an end before the begin, a negative or endless notice; all at once.
    """
    problems = [
        f"drains[{i}]: {reason}" for i, drain in enumerate(drains) for reason in _drain_problems(drain, num_nodes)
    ]
    if problems:
        raise UsageError("; ".join(problems))
    node = np.asarray([drain.node for drain in drains], dtype=np.int64)
    from_s = np.asarray([drain.from_s for drain in drains], dtype=np.float64)
    until_s = np.asarray([drain.until_s for drain in drains], dtype=np.float64)
    notice_s = np.asarray([drain.notice_s for drain in drains], dtype=np.float64)
    away = Spans.of(node, from_s, until_s, cause=CAUSE_DRAIN)
    idle = Spans.of(node, from_s - notice_s, from_s, cause=CAUSE_DRAIN, is_down=False)
    return outages_of(Spans.joined([away, idle]))


@dataclass(frozen=True, slots=True)
class _Rates:
    """How often ``units`` equal parts fail; ``path`` is where the specification says so."""

    units: int
    mtbf_h: float | None
    mttr_h: float | None
    shape: float
    path: str


def _renewals(rng: np.random.Generator, rates: _Rates, until_s: float) -> _Pieces:
    """Outages of independent units that are as good as new after each repair: (unit, begin, end).

    Drawn in rounds over all units, so that a longer time only adds rounds.
    """
    units: list[IntArray] = [np.zeros(0, np.int64)]
    begins, ends = [np.zeros(0)], [np.zeros(0)]
    if rates.units and rates.mtbf_h is not None:
        assert rates.mttr_h is not None
        mean_s, repair_s = rates.mtbf_h * HOUR_S, rates.mttr_h * HOUR_S
        scale_s = mean_s / math.gamma(1.0 + 1.0 / rates.shape)
        now_s = np.zeros(rates.units)
        while now_s.min() < until_s:
            is_exponential = rates.shape == 1.0  # exact on every machine: no power is taken
            life = rng.standard_exponential(rates.units) if is_exponential else rng.weibull(rates.shape, rates.units)
            begin_s = now_s + scale_s * life
            now_s = begin_s + repair_s * rng.standard_exponential(rates.units)
            hit = np.flatnonzero(begin_s < until_s)
            units.append(hit)
            begins.append(begin_s[hit])
            ends.append(now_s[hit])
    return np.concatenate(units), np.concatenate(begins), np.concatenate(ends)


def _rates_of(spec: ClusterSpec) -> list[tuple[_Rates, _Rates, _Rates]]:
    """The rates of the nodes, the GPUs and the racks of each group."""
    found = []
    for i, group in enumerate(spec.groups):
        at, shape = f"groups[{i}].", group.failure_shape
        nodes = _Rates(group.count, group.mtbf_h, group.mttr_h, shape, at)
        cards = _Rates(group.count * int(group.gpus or 0), group.gpu_mtbf_h, group.gpu_mttr_h, shape, f"{at}gpu_")
        racks = _Rates(group.num_racks, spec.rack_mtbf_h, spec.rack_mttr_h, 1.0, "rack_")
        found.append((nodes, cards, racks))
    return found


def _rate_problems(rates: _Rates, until_s: float) -> list[str]:
    """Why failures cannot be drawn with these rates."""
    if rates.mtbf_h is None or not rates.units:
        return []
    assert rates.mttr_h is not None  # the specification sees to it
    expected = rates.units * until_s / ((rates.mtbf_h + rates.mttr_h) * HOUR_S)
    if expected > MOST_FAILURES:
        return [
            f"{rates.path}mtbf_h: {rates.mtbf_h:g} h between failures are about {expected:.2g} failures in "
            f"{until_s / HOUR_S:g} h, more than {MOST_FAILURES:,}; is the unit hours?"
        ]
    return []


def _drain_problems(drain: PlannedDrain, num_nodes: int) -> list[str]:
    problems = []
    if not 0 <= drain.node < num_nodes:
        problems.append(f"node {drain.node} does not exist, there are {num_nodes}")
    if not 0 <= drain.from_s < drain.until_s:
        problems.append(f"expected 0 <= from_s < until_s, got {drain.from_s:g} and {drain.until_s:g}")
    if not (math.isfinite(drain.notice_s) and drain.notice_s >= 0):
        problems.append(f"expected a finite notice_s of at least 0, got {drain.notice_s:g}")
    return problems


def _labels(spec: ClusterSpec) -> list[str]:
    """A name for each group's streams: the group's own, with a number where several share it."""
    seen: Counter[str] = Counter()
    labels = []
    for group in spec.groups:
        seen[group.name] += 1
        labels.append(group.name if seen[group.name] == 1 else f"{group.name}#{seen[group.name]}")
    return labels
