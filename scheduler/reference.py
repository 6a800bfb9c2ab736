"""The decision in plain NumPy and Python, straight from the definitions: the oracle that the kernels are tested with.

Slow on purpose: nothing is kept between two questions, every answer is worked out from the running jobs and the
promises. ``reference_plan`` must return what ``decide.plan`` returns, for every snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from shunter.scheduler.decide import Settings
from shunter.scheduler.layout import ANY_SLOTS, OVERRUN_GRACE_S
from shunter.scheduler.plans import Extend, Plan, Reserve, Start
from shunter.scheduler.policies.drf import shares_of
from shunter.scheduler.snapshot import QueueView, Snapshot
from shunter.scheduler.types import FloatArray, IntArray

Placement = list[tuple[int, int]]


@dataclass(slots=True)
class _Running:
    row: int
    started_s: float
    expected_s: float
    end_s: float
    units: IntArray  # (R, N) held


class _Cluster:
    """Free capacity and the running jobs, with the questions that decisions ask."""

    def __init__(self, snapshot: Snapshot, settings: Settings) -> None:
        self.snapshot = snapshot
        self.now_s = snapshot.now_s
        self.place_tasks = PLACE[settings.placement]
        if settings.placement == "topology":
            self.place_tasks = partial(topology, domains=snapshot.capacity.domains)
        if settings.placement == "least-loaded":
            self.place_tasks = partial(least_loaded, load=snapshot.node_load)
        self.tracked = [r for r, yes in enumerate(snapshot.capacity.tracked) if yes]
        self.free = snapshot.free_units()[self.tracked]
        self.running: list[_Running] = []
        self.starts: list[Start] = []
        for i in range(snapshot.num_running):
            held = np.zeros_like(self.free)
            for node, tasks in zip(
                snapshot.alloc_node[snapshot.alloc_job == i], snapshot.alloc_tasks[snapshot.alloc_job == i], strict=True
            ):
                held[:, node] += tasks * self.need(i)
            self.running.append(
                _Running(i, float(snapshot.started_s[i]), self.length_s(i), float(snapshot.expected_end_s[i]), held)
            )

    def need(self, row: int) -> IntArray:
        shape: IntArray = self.snapshot.demand.shapes[self.snapshot.demand.shape_idx[row]][self.tracked]
        return shape

    def tasks(self, row: int) -> int:
        return int(self.snapshot.demand.tasks[row])

    def length_s(self, row: int) -> float:
        return float(self.snapshot.columns.expected_s[row])

    def slots(self, row: int, free: IntArray) -> IntArray:
        """(N,) tasks of the job that fit on each node of ``free``."""
        need = self.need(row)
        if not need.any():
            return np.full(free.shape[1], ANY_SLOTS)
        slots: IntArray = (free[need > 0] // need[need > 0, None]).min(axis=0)
        return slots

    def fits(self, row: int) -> bool:
        return bool(self.slots(row, self.free).sum() >= self.tasks(row))

    def target_load(self, row: int) -> float:
        """The highest predicted load of the nodes that the job would take; of empty ones if it does not fit now."""
        free = self.free if self.fits(row) else self.snapshot.capacity.units[self.tracked]
        load = self.snapshot.node_load
        return float(max(load[n] for n, _ in least_loaded(self.tasks(row), self.slots(row, free), load)))

    def start(self, row: int, usable: IntArray, *, backfilled: bool) -> Placement:
        chosen = self.place_tasks(self.tasks(row), usable)
        held = np.zeros_like(self.free)
        for node, tasks in chosen:
            held[:, node] += tasks * self.need(row)
        self.free -= held
        self.running.append(_Running(row, self.now_s, self.length_s(row), self.now_s + self.length_s(row), held))
        name = int(self.snapshot.rows[row])
        self.starts.append(Start(name, tuple(sorted(chosen)), backfilled))
        return chosen


# --- placement -------------------------------------------------------------------------------------------------------


def _fill(tasks: int, usable: IntArray, order: list[int]) -> Placement:
    chosen = []
    for node in order:
        here = min(tasks, int(usable[node]))
        if here > 0:
            chosen.append((node, here))
            tasks -= here
    return chosen


def first_fit(tasks: int, usable: IntArray) -> Placement:
    """Nodes by number."""
    return _fill(tasks, usable, list(range(len(usable))))


def best_fit(tasks: int, usable: IntArray) -> Placement:
    """The fullest node that holds the gang; without one, each task on the fullest node that takes it."""
    whole = [n for n in range(len(usable)) if usable[n] >= tasks]
    if whole:
        return [(min(whole, key=lambda n: (usable[n], n)), tasks)]
    return _fill(tasks, usable, sorted(range(len(usable)), key=lambda n: (usable[n], n)))


def worst_fit(tasks: int, usable: IntArray) -> Placement:
    """Each task on the emptiest node."""
    left = usable.astype(object)
    taken = dict.fromkeys(range(len(usable)), 0)
    for _ in range(tasks):
        node = int(np.argmax(left))
        left[node] -= 1
        taken[node] += 1
    return [(node, count) for node, count in taken.items() if count]


def packed(tasks: int, usable: IntArray) -> Placement:
    """Fewest nodes: whole nodes from the emptiest on, the rest on the fullest node that holds it."""
    chosen: Placement = []
    left = {n: int(usable[n]) for n in range(len(usable))}
    while True:
        whole = [n for n in left if left[n] >= tasks]
        if whole:
            return [*chosen, (min(whole, key=lambda n: (left[n], n)), tasks)]
        emptiest = min(left, key=lambda n: (-left[n], n))
        chosen.append((emptiest, left[emptiest]))
        tasks -= left.pop(emptiest)


def topology(tasks: int, usable: IntArray, domains: IntArray | None = None) -> Placement:
    """As ``packed``, inside the tightest switch that holds the gang, else the tightest rack, else zone."""
    fits_one = bool((usable >= tasks).any())
    for domain in [] if domains is None or fits_one else domains:
        holds = [(usable[domain == d].sum(), d) for d in np.unique(domain)]
        enough = [entry for entry in holds if entry[0] >= tasks]
        if enough:
            return packed(tasks, np.where(domain == min(enough)[1], usable, 0))
    return packed(tasks, usable)


def least_loaded(tasks: int, usable: IntArray, load: FloatArray | None = None) -> Placement:
    """Nodes by predicted load."""
    loads = np.zeros(len(usable)) if load is None else load
    return _fill(tasks, usable, sorted(range(len(usable)), key=lambda n: (loads[n], n)))


PLACE: dict[str, Callable[[int, IntArray], Placement]] = {
    "first-fit": first_fit,
    "best-fit": best_fit,
    "worst-fit": worst_fit,
    "packed": packed,
    "topology": topology,
    "least-loaded": least_loaded,
}


# --- backfilling -----------------------------------------------------------------------------------------------------


def _start_heads(cluster: _Cluster, queue: list[int]) -> None:
    while queue and cluster.fits(queue[0]):
        row = queue.pop(0)
        cluster.start(row, cluster.slots(row, cluster.free), backfilled=False)


def _shadow(cluster: _Cluster, head: int) -> tuple[float, IntArray]:
    """Shadow time of the head, and (R, N) what is free then beside it."""
    spare = cluster.free.copy()
    shadow_s = cluster.now_s
    ends = sorted({max(job.end_s, cluster.now_s) for job in cluster.running})
    for end_s in ends:
        if cluster.slots(head, spare).sum() >= cluster.tasks(head):
            break
        shadow_s = end_s
        for job in cluster.running:
            if max(job.end_s, cluster.now_s) == end_s:
                spare += job.units
    for node, tasks in cluster.place_tasks(cluster.tasks(head), cluster.slots(head, spare)):
        spare[:, node] -= tasks * cluster.need(head)
    return shadow_s, spare


def _easy(cluster: _Cluster, queue: list[int], settings: Settings) -> None:
    _start_heads(cluster, queue)
    candidates = queue[1 : settings.depth + 1] if settings.depth else queue[1:]
    if not candidates:
        return
    if settings.backfill == "easy-sjbf":
        candidates = sorted(candidates, key=cluster.length_s)
    shadow_s, spare = _shadow(cluster, queue[0])
    extra_allowed = settings.backfill != "easy-noextra"
    for row in candidates:
        if not cluster.fits(row):
            continue
        end_s = cluster.now_s + cluster.length_s(row)
        usable = cluster.slots(row, cluster.free)
        if end_s < shadow_s or (end_s == shadow_s and extra_allowed):
            cluster.start(row, usable, backfilled=True)
            queue.remove(row)
        elif extra_allowed:
            usable = np.minimum(usable, cluster.slots(row, spare))
            if usable.sum() >= cluster.tasks(row):
                for node, tasks in cluster.start(row, usable, backfilled=True):
                    spare[:, node] -= tasks * cluster.need(row)
                queue.remove(row)


class _Promises:
    """Reservations of waiting jobs on total capacity."""

    def __init__(self, cluster: _Cluster, reserved_s: dict[int, float]) -> None:
        self.cluster = cluster
        self.reserved_s = reserved_s

    def _taken(self) -> list[tuple[float, float, IntArray]]:
        now_s = self.cluster.now_s
        taken = [(now_s, max(job.end_s, now_s), job.units.sum(axis=1)) for job in self.cluster.running]
        for row, start_s in self.reserved_s.items():
            amount = self.cluster.tasks(row) * self.cluster.need(row)
            taken.append((max(start_s, now_s), start_s + self.cluster.length_s(row), amount))
        return taken

    def earliest(self, row: int, from_s: float, before_s: float) -> float:
        """Earliest start in [from_s, before_s) that delays nobody; inf when there is none."""
        cluster = self.cluster
        total = cluster.free.sum(axis=1) + sum((job.units.sum(axis=1) for job in cluster.running), np.int64(0))
        taken = self._taken()
        need = cluster.tasks(row) * cluster.need(row)

        def room(at_s: float) -> bool:
            used = sum((amount for a, b, amount in taken if a <= at_s < b), np.zeros_like(need))
            return bool((need <= total - used).all())

        begins = sorted({from_s, *(b for _, b, _ in taken if b > from_s)})
        changes = sorted({a for a, _, _ in taken})
        for start_s in begins:
            if start_s >= before_s:
                break
            until_s = start_s + cluster.length_s(row)
            if room(start_s) and all(room(t) for t in changes if start_s < t < until_s):
                return start_s
        return math.inf


def _conservative(
    cluster: _Cluster, queue: list[int], reserved_s: dict[int, float], released: bool, depth: int
) -> tuple[dict[int, float], dict[int, float]]:
    """Start what is due; returns the reservations of the others and the expected ends that were put off."""
    now_s = cluster.now_s
    promises = _Promises(cluster, {row: s for row, s in reserved_s.items() if not math.isnan(s)})
    held = promises.reserved_s
    if any(start_s < now_s for start_s in held.values()):
        had = [row for row in queue if row in held]
        held.clear()
        for row in had:
            held[row] = promises.earliest(row, now_s, math.inf)
    elif released:
        for row in queue:
            if held.get(row, -math.inf) > now_s:
                before_s = held.pop(row)
                held[row] = min(promises.earliest(row, now_s, before_s), before_s)
    extended: dict[int, float] = {}
    while True:
        for row in queue[: depth + 1] if depth else queue:
            if row not in held:
                held[row] = promises.earliest(row, now_s, math.inf)
        overtaken = False
        blocked_by_overrun = False
        any_started = False
        for row in list(queue):
            due = row in held and held[row] <= now_s
            if due and cluster.fits(row):
                del held[row]
                queue.remove(row)
                cluster.start(row, cluster.slots(row, cluster.free), backfilled=overtaken)
                any_started = True
                continue
            if due:
                if min(job.end_s for job in cluster.running) <= now_s:
                    blocked_by_overrun = True
                    break
                del held[row]
                held[row] = promises.earliest(row, min(job.end_s for job in cluster.running), math.inf)
            overtaken = True
        if blocked_by_overrun:
            for job in cluster.running:
                if job.end_s <= now_s:
                    job.end_s = now_s + max(OVERRUN_GRACE_S, now_s - (job.started_s + job.expected_s))
                    extended[job.row] = job.end_s
            had = [row for row in queue if row in held]
            held.clear()
            for row in had:
                held[row] = promises.earliest(row, now_s, math.inf)
        elif not (depth and any_started):
            return held, extended


def reference_plan(snapshot: Snapshot, settings: Settings, *, usage_s: FloatArray | None = None) -> Plan:
    """What ``decide.plan`` returns, without the reasons; see there for the arguments."""
    first = snapshot.num_running
    rows = np.arange(first, len(snapshot.rows))
    usage = np.zeros(0) if usage_s is None else usage_s
    shares = shares_of(snapshot) if settings.ordering.ordering.needs_shares else np.zeros(0)
    view = QueueView(snapshot.now_s, snapshot.columns.take(rows), snapshot.total_processors, usage, shares, first)
    cluster = _Cluster(snapshot, settings)
    by = rows
    if settings.ordering.ordering.needs_load:
        view = replace(view, loads=np.asarray([cluster.target_load(int(row)) for row in rows]))
        by = snapshot.rows[first:]
    score = settings.ordering.score(view)
    first_by = -view.jobs.priority if settings.strict_classes else np.zeros(len(rows))
    queue = [int(rows[i]) for i in sorted(range(len(rows)), key=lambda i: (first_by[i], score[i], by[i]))]
    held: dict[int, float] = {}
    extended: dict[int, float] = {}
    if settings.backfill == "none":
        _start_heads(cluster, queue)
    elif settings.backfill == "conservative":
        before = {int(row): float(snapshot.reserved_s[i]) for i, row in enumerate(rows)}
        held, extended = _conservative(cluster, queue, before, snapshot.released, settings.depth)
    else:
        _easy(cluster, queue, settings)
    name = snapshot.rows
    return Plan(
        based_on=snapshot.version,
        starts=tuple(cluster.starts),
        reservations=tuple(Reserve(int(name[row]), held[row]) for row in queue if row in held),
        extensions=tuple(Extend(int(name[row]), end_s) for row, end_s in sorted(extended.items()) if row < first),
        next_pass_s=min((held[row] for row in queue if row in held), default=math.inf),
    )
