"""The packed arrays of a state as they stand before anything has run: facts about jobs, shapes, nodes and groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from shunter.scheduler import layout as at
from shunter.scheduler.capacity import GPU, Capacity
from shunter.scheduler.mig import open_table
from shunter.scheduler.snapshot import JobColumns
from shunter.scheduler.types import UNITS_PER, FloatArray, IntArray, ResourceDemand, numbers_of

WHOLE_GPU = UNITS_PER[GPU]


def units_and_needs(capacity: Capacity, demand: ResourceDemand, rows: list[int]) -> tuple[IntArray, IntArray]:
    """(R, N) units of the counted resources and (R, S) what one task takes of them.

    Where GPUs are told apart the GPU row counts GPUs that nobody uses, which a task that shares one does not need; a
    further row counts what is free over all GPUs of the node.
    """
    units, needs = capacity.units[rows], demand.shapes[:, rows].T
    if capacity.gpus is not None:
        shared = (demand.shapes[:, GPU] > 0) & (demand.shapes[:, GPU] < WHOLE_GPU) | demand.is_instance
        units = np.concatenate([units, capacity.units[[GPU]]])
        needs = np.concatenate([needs, demand.shapes[:, [GPU]].T])
        needs[rows.index(GPU), shared] = 0
    return np.ascontiguousarray(units), np.ascontiguousarray(needs)


def shape_facts(demand: ResourceDemand, capacity: Capacity) -> IntArray:
    """(NUM_SHAPE_ROWS + C, S) facts about shapes."""
    num_classes = int(capacity.classes.max(initial=0)) + 1 if demand.class_ok is None else demand.class_ok.shape[1]
    facts = np.zeros((at.NUM_SHAPE_ROWS + num_classes, len(demand.shapes)), dtype=np.int64)
    facts[at.ACTIVE_POS] = -1
    facts[at.NUM_SHAPE_ROWS :] = 1 if demand.class_ok is None else demand.class_ok.T
    gpus = demand.shapes[:, GPU]
    if capacity.gpus is not None:
        shared = (gpus < WHOLE_GPU) | demand.is_instance
        facts[at.SHARE] = np.where(shared, gpus, 0)
        facts[at.WHOLE] = np.where(shared, 0, gpus // WHOLE_GPU)
    if capacity.parts is not None and demand.gpu_memory is not None:
        facts[at.GPU_MEMORY] = demand.gpu_memory
    if capacity.parts is not None and demand.instances is not None:
        kinds = demand.instances.T
        facts[at.NUM_SHAPE_ROWS :] = np.where(kinds >= 0, at.AS_INSTANCE + kinds, 1) * facts[at.NUM_SHAPE_ROWS :]
    facts[at.PER_GPU] = np.minimum(gpus, WHOLE_GPU)
    facts[at.NUM_OF_GPUS] = -(-gpus // WHOLE_GPU)
    facts[at.SCORED_AT] = -1
    return facts


def node_facts(capacity: Capacity) -> IntArray:
    """(NUM_NODE_ROWS + 3 G + PARTS + 1, N) facts about nodes and scratch; G + 1 kinds of tasks use GPUs."""
    num_nodes = capacity.units.shape[1]
    num_gpus = 0 if capacity.gpus is None else int(capacity.gpus.max(initial=0))
    num_parts = 0 if capacity.parts is None else 2 * num_gpus
    facts = np.zeros((at.NUM_NODE_ROWS + 3 * num_gpus + num_parts + 1, num_nodes), dtype=np.int64)
    facts[at.NODE_CLASS] = capacity.classes
    facts[at.OPEN] = 1
    facts[at.MEASURED_AT] = -1  # an empty node may be fragmented, too: some typical tasks cannot use it
    if capacity.domains is not None:
        facts[at.SWITCH : at.ZONE + 1] = capacity.domains
    if capacity.gpus is not None:
        facts[at.NUM_GPUS] = capacity.gpus
        facts[at.NUM_NODE_ROWS : at.NUM_NODE_ROWS + num_gpus] = WHOLE_GPU * (
            np.arange(num_gpus)[:, None] < capacity.gpus
        )
        if capacity.parts is not None:
            facts[at.PART] = capacity.parts
            first = at.NUM_NODE_ROWS + num_parts
            facts[first : first + num_gpus] = capacity.parts * (np.arange(num_gpus)[:, None] < capacity.gpus)
    return facts


def group_facts(capacity: Capacity) -> IntArray:
    """(NUM_GROUP_ROWS, max(Q, L)) quotas, and the lanes' heads."""
    quotas = capacity.quotas
    size = max(1, capacity.num_lanes, 0 if quotas is None else len(quotas.names))
    facts = np.zeros((at.NUM_GROUP_ROWS, size), dtype=np.int64)
    facts[at.HEAD] = -1
    if quotas is not None:
        facts[at.GUARANTEED, : len(quotas.names)] = quotas.guaranteed
        facts[at.LIMIT, : len(quotas.names)] = quotas.limit
        if quotas.weight is not None:
            facts[at.WEIGHT, : len(quotas.names)] = np.maximum(np.rint(1000 * quotas.weight), 1)
    return facts


def rates_of(capacity: Capacity) -> FloatArray:
    """(M, C + NUM_TIERS) speeds; all 1 where the cluster does not say."""
    if capacity.speeds is not None:
        return np.ascontiguousarray(capacity.speeds, dtype=np.float64)
    return np.ones((1, int(capacity.classes.max(initial=0)) + 1 + at.NUM_TIERS))


def slowest_rate(demand: ResourceDemand, columns: JobColumns, rates: FloatArray) -> FloatArray:
    """(J,) lowest speed that each job may be given: on the slowest class it may use, as far apart as can be."""
    num_classes = rates.shape[1] - at.NUM_TIERS
    speeds, tiers = rates[:, :num_classes], rates[:, num_classes:]
    allowed = np.ones((len(demand.shapes), num_classes), bool) if demand.class_ok is None else demand.class_ok
    by_pair = np.where(allowed[None], speeds[:, None, :], np.inf).min(axis=2)
    apart = np.where(demand.tasks > 1, tiers.min(axis=1)[columns.model_idx], tiers[columns.model_idx, 0])
    slowest: FloatArray = by_pair[columns.model_idx, demand.shape_idx] * apart
    return np.where(np.isfinite(slowest), slowest, 1.0)


def job_numbers(demand: ResourceDemand, columns: JobColumns, capacity: Capacity) -> IntArray:
    """(NUM_JOB_INTS, J) whole-number columns of jobs."""
    table = np.zeros((at.NUM_JOB_INTS, len(demand)), dtype=np.int64)
    table[at.TASKS] = demand.tasks
    table[at.SHAPE] = demand.shape_idx
    table[at.ALLOC] = -1
    table[at.GROUP] = columns.group_idx if capacity.quotas is not None else -1
    table[at.LANE] = columns.lane_idx
    table[at.MODEL] = columns.model_idx
    table[at.PREEMPTIBLE] = columns.preemptible
    table[at.POWER_W] = np.ceil(columns.power_w)
    if len(demand):
        table[at.SIZE] = demand.tasks * demand.shapes[demand.shape_idx, capacity.scarce]
    return table


def job_times(
    demand: ResourceDemand, columns: JobColumns, capacity: Capacity, rates: FloatArray, score: FloatArray | None
) -> FloatArray:
    """(NUM_JOB_FLOATS, J) columns of jobs with fractions."""
    table = np.full((at.NUM_JOB_FLOATS, len(demand)), np.nan)
    table[at.SUBMIT_S] = columns.submit_s
    table[at.EXPECTED_S] = columns.expected_s
    table[at.SCORE] = 0.0 if score is None else score
    table[at.OVERHEAD_S] = 0.0
    table[at.RATE] = 1.0
    table[at.SLOWEST] = 1.0
    if capacity.speeds is not None and len(demand):
        table[at.SLOWEST] = slowest_rate(demand, columns, rates)
    table[at.BOUND_S] = table[at.EXPECTED_S] / table[at.SLOWEST]
    return table


def typical_tasks(demand: ResourceDemand, capacity: Capacity, coverage: float = 0.95) -> tuple[IntArray, int]:
    """(NUM_TYPICAL_ROWS + C, T) the commonest shapes until they cover that share of the jobs; number of levels.

    Source: Weng et al., USENIX ATC 2023, section 3: the workload that fragmentation is measured against.
    """
    jobs = demand.jobs_of_shape
    if jobs is None:
        jobs = np.bincount(demand.shape_idx, minlength=len(demand.shapes))
    order = np.argsort(-jobs, kind="stable")
    covered = np.cumsum(jobs[order]) / max(jobs.sum(), 1)
    chosen = order[: int(np.searchsorted(covered, coverage)) + 1]
    shapes = shape_facts(demand, capacity)
    share, level = np.unique(shapes[at.PER_GPU, chosen], return_inverse=True)
    most_gpus = 0 if capacity.gpus is None else int(capacity.gpus.max(initial=0))
    table = np.zeros((at.NUM_TYPICAL_ROWS + len(shapes) - at.NUM_SHAPE_ROWS, max(len(chosen), most_gpus)), np.int64)
    width = slice(0, len(chosen))
    table[at.TYPICAL_CPU, width] = demand.shapes[chosen, 0]
    table[at.TYPICAL_GPUS, width] = shapes[at.NUM_OF_GPUS, chosen]
    table[at.TYPICAL_LEVEL, width] = level
    table[at.TYPICAL_WEIGHT, width] = (jobs[chosen] / max(jobs[chosen].sum(), 1)).view(np.int64)
    table[at.LEVEL_SHARE, : len(share)] = share
    table[at.NUM_TYPICAL_ROWS :, width] = shapes[at.NUM_SHAPE_ROWS :, chosen]
    return table, len(share)


def max_entries(demand: ResourceDemand, capacity: Capacity, need: IntArray, *, one_by_one: bool) -> int:
    """Placement entries in use at once, at most: each is a job and a node, a GPU that is shared, or an instance.

    Args:
        demand: What jobs ask for.
        capacity: What there is.
        need: (R, S) units of a task.
        one_by_one: Every task has an entry of its own.
    """
    if one_by_one:
        return int(demand.tasks.sum()) + 1
    if capacity.gpus is not None:
        on_gpu = 1 if demand.instances is None else int(open_table().max())
        places = on_gpu * int(capacity.gpus.sum()) + capacity.units.shape[1]
        return int(np.minimum(demand.tasks, places).sum()) + 1
    num_nodes = capacity.units.shape[1]
    by_jobs = int(np.minimum(demand.tasks, num_nodes).sum())
    if need.shape[1] == 0 or (need == 0).all(axis=0).any():
        return by_jobs + 1
    smallest = np.where(need > 0, need, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
    counted = capacity.units[[r for r in range(len(capacity.tracked)) if capacity.tracked[r]]]
    return max(1, min(by_jobs, int((counted // smallest).sum()))) + 1


def packed_arrays(
    capacity: Capacity,
    demand: ResourceDemand,
    columns: JobColumns,
    score: FloatArray | None,
    *,
    mode: int,
    strategy: int,
    rows: list[int],
    most_tasks: IntArray | None,
) -> at.State:
    """All arrays that the kernels share; nothing waits or runs yet.

    Args:
        capacity: What the nodes have.
        demand: What the jobs ask for.
        columns: (J,) facts about the jobs.
        score: (J,) policy scores; None: zeros.
        mode: Number of the backfilling.
        strategy: Number of the placement.
        rows: Resources that are counted.
        most_tasks: (J,) largest gang that each job may be resized to; None: none is resized.
    """
    scores = strategy >= at.DOT_PRODUCT
    num_jobs, num_nodes = len(demand), capacity.units.shape[1]
    jobs_i, rates = job_numbers(demand, columns, capacity), rates_of(capacity)
    jobs_f = job_times(demand, columns, capacity, rates, score)
    if mode == at.CONSERVATIVE and num_jobs:
        alike = np.column_stack([demand.tasks, demand.shape_idx, jobs_f[at.BOUND_S]])
        jobs_i[at.KIND] = numbers_of(alike)
    node_free, need = units_and_needs(capacity, demand, rows)
    largest = demand if most_tasks is None else replace(demand, tasks=np.maximum(demand.tasks, most_tasks))
    one_by_one = scores or (strategy == at.WORST_FIT and capacity.gpus is not None)
    alloc = np.full((5, max_entries(largest, capacity, need, one_by_one=one_by_one)), -1, dtype=np.int64)
    alloc[at.NEXT, :-1] = np.arange(1, alloc.shape[1])
    groups = group_facts(capacity)
    steps = 2 * num_jobs + 8 if mode == at.CONSERVATIVE else 2 * groups.shape[1]
    profile_free = np.zeros((node_free.shape[0], steps), dtype=np.int64)
    profile_free[:, 0] = node_free.sum(axis=1)
    typical, num_levels = typical_tasks(demand, capacity)
    counters = features(capacity, demand, rows, num_classes=rates.shape[1] - at.NUM_TIERS)
    counters[at.SCORED] = strategy if scores else 0
    counters[at.NUM_LEVELS] = num_levels
    return at.State(
        jobs_i=jobs_i,
        jobs_f=jobs_f,
        counters=counters,
        node_free=node_free,
        need=need,
        slots=np.zeros((len(demand.shapes), num_nodes), dtype=np.int64),
        shapes=shape_facts(demand, capacity),
        alloc=alloc,
        node_i=node_facts(capacity),
        spare=np.zeros_like(node_free),
        profile_s=np.zeros(steps),
        profile_free=profile_free,
        groups=groups,
        rates=rates,
        points=np.zeros((1 + len(demand.shapes), num_nodes)) if scores else np.zeros((1, 1), at.NO_POINTS),
        typical=typical,
    )


def features(capacity: Capacity, demand: ResourceDemand, rows: list[int], *, num_classes: int) -> IntArray:
    """(NUM_COUNTERS,) counters that tell the kernels which of the rarer rules there are, and what nodes have."""
    counters = np.zeros(at.NUM_COUNTERS, dtype=np.int64)
    counters[at.PROFILE_LEN] = 1
    counters[at.GPUS] = 0 if capacity.gpus is None else int(capacity.gpus.max(initial=0))
    restricted = demand.class_ok is not None or capacity.gpus is not None or capacity.can_close
    counters[at.RESTRICTED] = 2 if capacity.parts is not None else int(restricted)
    counters[at.PARTS] = 0 if capacity.parts is None else 2 * counters[at.GPUS]
    counters[at.WHOLE_ROW] = rows.index(GPU) if GPU in rows else -1
    counters[at.NUM_CLASSES] = num_classes
    counters[at.RATED] = int(capacity.speeds is not None)
    counters[at.NUM_LANES] = capacity.num_lanes
    counters[at.NUM_GROUPS] = 0 if capacity.quotas is None else len(capacity.quotas.names)
    counters[at.WEIGHTED] = int(capacity.quotas is not None and capacity.quotas.weight is not None)
    counters[at.POWER_CAP_W] = capacity.power_cap_w
    listed = capacity.num_lanes > 1 or capacity.quotas is not None or capacity.power_cap_w >= 0
    counters[at.LISTED] = int(listed)
    counters[at.CPU_ROW] = rows.index(0) if 0 in rows else -1
    counters[at.MEMORY_ROW] = rows.index(1) if 1 in rows else -1
    counters[at.MAX_CPU] = max(int(capacity.units[0].max(initial=0)), 1)
    counters[at.MAX_GPU] = max(int(capacity.units[GPU].max(initial=0)), 1)
    return counters
