"""Row numbers of the packed state arrays that the compiled kernels share.

The state is a structure of arrays, packed by element type so that a compiled call takes a dozen arguments instead of
forty: unpacking one NumPy array costs 70 ns, as much as many decisions. Names, not numbers, are used everywhere.

Array letters: J jobs, N nodes, S shapes (distinct per-task demands), R resource kinds, A placement entries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.types import FloatArray, IntArray


class State(NamedTuple):
    """The arrays that the kernels share.

    Attributes:
        jobs_i: (NUM_JOB_INTS, J) columns and lists of jobs.
        jobs_f: (NUM_JOB_FLOATS, J) columns and lists of jobs.
        counters: (NUM_COUNTERS,) lengths of the lists, flags and counts.
        node_free: (R, N) units free on each node.
        need: (R, S) units that one task of a shape takes.
        slots: (S, N) tasks of an active shape that fit on each node now.
        shapes: (NUM_SHAPE_ROWS + C, S) facts about shapes; the last rows say which classes of nodes a shape may use.
        alloc: (5, A) placement entries.
        node_i: (NUM_NODE_ROWS + 2 GPUS + PARTS + KINDS, N) scratch of a placement, facts about nodes, where GPUs are
            told apart what is free of each, now and in ``spare``, then in the same order what is free of their memory
            or slices, and where nodes are scored how many tasks of each kind run.
        spare: (R, N) scratch of EASY: what is free at the shadow time beside the head, on nodes whose SPARE_AT is
            SPARE_NUMBER; on all others no less than is free now.
        profile_s: (P,) begins of the profile's steps (conservative). In passes with lists: when each group's job over
            the limit may start, then, from the width of ``groups`` on, when each head with a claim to watts may.
        profile_free: (R, P) free units of each step, over all nodes.
        groups: (NUM_GROUP_ROWS, max(Q, L)) quotas of groups, and lanes.
        rates: (M, C + NUM_TIERS) speed of each model on a class of nodes, and of a gang by the tier that it spans.
        points: (1 + S, N) fragmentation of the nodes, then their points for each shape, where nodes are scored;
            elsewhere an array of another type, so that kernels are compiled without what scores nodes.
        typical: (NUM_TYPICAL_ROWS + C, T) tasks that stand for the workload, where fragmentation is measured.
    """

    jobs_i: IntArray
    jobs_f: FloatArray
    counters: IntArray
    node_free: IntArray
    need: IntArray
    slots: IntArray
    shapes: IntArray
    alloc: IntArray
    node_i: IntArray
    spare: IntArray
    profile_s: FloatArray
    profile_free: IntArray
    groups: IntArray
    rates: FloatArray
    points: FloatArray
    typical: IntArray


# jobs_i (NUM_JOB_INTS, J) int64: columns of jobs, then lists of job rows that never hold more than J entries.
TASKS = 0  # gang size
SHAPE = 1  # row of the job's per-task demand in ``need``
ALLOC = 2  # first entry of the job's placement in ``alloc``; −1 while it does not run
QUEUE = 3  # waiting jobs in policy order, entries QUEUE_LO..QUEUE_HI
RUN = 4  # running jobs by expected end, entries 0..NUM_RUNNING
OUT = 5  # jobs started by the last pass, entries 0..NUM_OUT
BACKFILLED = 6  # 1 where the job's start overtook a job that still waited
PICK = 7  # scratch
KIND = 8  # jobs with equal tasks, shape and expected run time are of one kind (conservative); −1: none is like it
KIND_PASS = 9  # by kind: value of PASS_NUMBER that the kind's other entries belong to
KIND_SEEN = 10  # by kind: entries of the list of freed times that have been taken into account
GROUP = 11  # row of the job's quota in ``groups``; −1 without one
LANE = 12  # the job's own queue: 0, or its group's where groups own nodes
SIZE = 13  # units of the scarce resource over the gang: what quotas count
POWER_W = 14  # watts that the job may draw beyond the idle ones, at most
MODEL = 15  # row in ``rates``
PREEMPTIBLE = 16  # 1 when it may be stopped for others
STOPPING = 17  # 1 while it saves its work before it gives up what it holds
BEST_TIER = 18  # the nearest that the gang could be on the empty cluster
WHY = 19  # a WAIT_ number: what it waits for, by the last pass
LIST = 20  # rows of a lane's jobs in the order of a pass; victims of a preemption
BY_LANE = 21  # scratch of a pass: waiting jobs lane by lane, each lane in the order of the queue
LACKING = 22  # waiting jobs with a WHY other than WAIT_QUEUE, entries 0..NUM_LACKING
CLASS = 23  # of its priority, where classes come first; else 0: all jobs are of one class
NUM_JOB_INTS = 24

# jobs_f (NUM_JOB_FLOATS, J) float64
SUBMIT_S = 0
EXPECTED_S = 1  # run time that reservations count with: the request, or the actual one when clairvoyant
SCORE = 2  # policy score at submission, lower first
START_S = 3  # start of the current attempt; NaN while it does not run
END_S = 4  # expected end of the running job
RUN_END_S = 5  # expected ends in the order of RUN, never decreasing
RESERVED_S = 6  # promised start (conservative); NaN while there is none
PICK_S = 7  # scratch; during compression the list of times from which on capacity was freed
KIND_LB_S = 8  # by kind: no job of this kind can be moved to before this time
KIND_HELD_S = 9  # by kind: reservation that the bound was worked out with
BOUND_S = 10  # longest time that an attempt is expected to take, overhead and slowest nodes included
OVERHEAD_S = 11  # restart overhead that the next attempt, or the present one, begins with
RATE = 12  # speed of the present attempt relative to the reference
SINCE_S = 13  # time from which on RATE holds
DONE_S = 14  # reference seconds of work that the present attempt had done by then
ENTERED_S = 15  # when it entered the queue for the present wait
SLOWEST = 16  # lowest speed that the job may be given
NUM_JOB_FLOATS = 17

# counters (NUM_COUNTERS,) int64
QUEUE_LO = 0
QUEUE_HI = 1
NUM_RUNNING = 2
NUM_OUT = 3
ALLOC_FREE = 4  # first free entry of ``alloc``
NUM_ACTIVE = 5  # shapes whose free slots are kept up to date
PROFILE_LEN = 6
RELEASED = 7  # 1 when capacity was freed since the last pass
CUT_SHORT = 8  # passes that the depth limit ended early
BLOCKED = 9  # 1 when the head does not fit and only freed capacity can change that
EXTENDED = 10  # expected ends that were put off because their job overran (conservative)
PASS_NUMBER = 11  # how often reservations were worked out anew, because capacity was freed
NUM_FREED = 12  # entries of the list of times from which on capacity was freed since that pass began
RESTRICTED = 13  # 1 when a shape may not use all nodes, a node may be closed, or GPUs are told apart; 2 with PARTS
GPUS = 14  # GPUs told apart on a node, at most; 0 where they are not
WHOLE_ROW = 15  # row of ``node_free`` that counts GPUs nobody uses; −1 where there are none
NUM_CLASSES = 16
RATED = 17  # 1 when speeds differ by model, class or tier
NUM_LANES = 18
NUM_GROUPS = 19
LISTED = 20  # 1 when a pass needs lists: lanes, quotas, a power cap, or waiting for locality
LOCALITY_MS = 21  # longest time that a gang waits to be placed nearer, in ms; 0: it does not
POWER_CAP_W = 22  # watts beyond the idle ones that may be drawn; −1: any
POWER_USED_W = 23
NUM_STOPPING = 24
DRAWN = 25  # tasks that the random placement has drawn a node for
SCORED = 26  # the placement that scores nodes for each task; 0 without one
TICK = 27  # changes of nodes so far, where they are scored
CPU_ROW = 28  # row of ``node_free`` with CPUs; −1 where they are not counted
MEMORY_ROW = 29
MAX_CPU = 30  # milli-CPU of the largest node
MAX_GPU = 31  # milli-GPU of the largest node
NUM_LEVELS = 32  # different shares that the typical tasks ask for
SEED = 33
TIMED = 34  # 1 when attempts may be cut short: speeds, overheads and work done are kept
PARTS = 35  # rows from a GPU's free thousandths to its free memory or slices; 0 where these are not counted
BESIDE = 36  # 1 while a job is started that may only take what is in ``spare``, too
NUM_LACKING = 37
NUM_CLAIMS = 38  # scratch of a pass: heads for which watts are set aside
WEIGHTED = 39  # 1 when groups borrow by weight
SPARE_NUMBER = 40  # how often ``spare`` was begun anew
NUM_HELD = 41  # EASY, during a pass: nodes on which the head is to start
NUM_COUNTERS = 42

# shapes (NUM_SHAPE_ROWS, S) int64
FREE_SLOTS = 0  # tasks of this shape that fit now, over all nodes
WAITING = 1  # jobs of this shape in the queue
ACTIVE = 2  # list of active shapes, entries 0..NUM_ACTIVE
ACTIVE_POS = 3  # position in that list; −1 when inactive
SPARE_BOUND = 4  # EASY, during a pass: no more tasks than this fit beside the head's reservation
SHARE = 5  # thousandths of one GPU that a task shares; 0 when it takes whole ones or none
WHOLE = 6  # whole GPUs of a task
PER_GPU = 7  # thousandths that a task takes of each of its GPUs: 1000 of whole ones, 0 without GPUs
NUM_OF_GPUS = 8  # GPUs of a task, the shared one included
SCORED_AT = 9  # TICK at which the points of the shape were worked out
NO_NEED = 10  # zeros: what a task needs of a resource that is not counted
GPU_MEMORY = 11  # MiB of its GPU's memory that a task with a share takes; 0: not counted
NUM_SHAPE_ROWS = 12  # then one row a class: 0 where the shape may not use its nodes, 1 where it may, …
AS_INSTANCE = 2  # … and from here on, where it may as a MIG instance: this and the instance's row of ``mig.KINDS``

# alloc (5, A) int64: linked lists of (node, tasks), one list a running job, and the list of free entries
NODE = 0
COUNT = 1
NEXT = 2
MASK = 3  # bits of the GPUs on that node; 0 where GPUs are not told apart
FIRST = 4  # first memory slice of a MIG instance; −1 where the entry is none

# node_i (NUM_NODE_ROWS, N) int64: scratch of a placement
CHOSEN = 0  # nodes chosen, entries 0..k
CHOSEN_TASKS = 1
USABLE = 2  # slots that a placement may use
FUTURE_SLOTS = 3
DOMAIN_SUM = 4  # scratch: usable slots under each switch, in each rack or zone
NEAR = 5  # scratch: usable slots inside one of them
NODE_CLASS = 6
OPEN = 7  # 0 while the node takes no new work
SWITCH = 8
RACK = 9
ZONE = 10
NUM_GPUS = 11
CHANGED_AT = 12  # TICK of the node's last change
MEASURED_AT = 13  # TICK at which its fragmentation was worked out
NOTHING = 14  # zeros: what is free of a resource that is not counted
PART = 15  # memory of each GPU in MiB, or where they are cut into MIG instances the bits of their memory slices
HELD = 16  # EASY, during a pass: nodes on which the head is to start, entries 0..NUM_HELD
SPARE_AT = 17  # SPARE_NUMBER at which the column of ``spare`` was last begun
LOAD = 18  # millionths: predicted load by work that is not the scheduler's
NUM_NODE_ROWS = 19  # then GPUS rows of free thousandths by GPU, and as many that go with ``spare``; then PARTS rows

# groups (NUM_GROUP_ROWS, ·) int64
GUARANTEED = 0  # by quota: units of the scarce resource that are the group's own
LIMIT = 1  # units that it may hold at most
USED = 2  # units that it holds
LISTED_USED = 3  # scratch of a pass: units that it holds, and those that its jobs listed so far ask for
OVER = 4  # scratch of a pass: 1 once a job of the group has not fitted into its guarantee; 2 once one is over its limit
EXTRA = 5  # scratch of a pass: units that jobs may hold beyond the time at which the one over the limit may start
PROMISED = 6  # scratch of a pass: units of its job that is the head of its lane
WEIGHT = 7  # thousandths: its share of what lies beyond the guarantees
HEAD = 8  # by lane: row of the job that did not fit or lacked watts, −1 when there is none
LANE_END = 9  # by lane, scratch of a pass: end of its entries in BY_LANE; they begin where those of the lane before end
LANE_ORDER = 10  # scratch of a pass: lanes with waiting jobs, by their first one
EXTRA_W = 11  # by claim, scratch of a pass: watts that jobs may draw beyond the time at which the head may start
NUM_GROUP_ROWS = 12

# What a job waits for, those ahead of it served
WAIT_QUEUE = 0  # its turn: what is free is asked for ahead of it, or would delay somebody
WAIT_FRAGMENTATION = 1  # enough is free for it, but not where its tasks fit
WAIT_QUOTA = 2  # its group's limit, or the power cap
WAIT_GANG = 3  # enough is free for some of its tasks, or for all of them farther apart
WAIT_FAILURE = 4  # enough would be free if all nodes were up
NUM_WAITS = 5

NUM_TIERS = 5  # node, switch, rack, zone, cluster

# typical (NUM_TYPICAL_ROWS + C, T) int64
TYPICAL_CPU = 0
TYPICAL_GPUS = 1
TYPICAL_LEVEL = 2
TYPICAL_WEIGHT = 3  # bits of float64 numbers
LEVEL_SHARE = 4  # entries 0..NUM_LEVELS
LEVEL_USABLE = 5  # scratch
LEVEL_TOO_FULL = 6  # scratch
GPU_SCRATCH = 7  # scratch: what is free of the GPUs of a node
CHOSEN_GPUS = 8  # scratch: the GPUs of a task, entries 0..k
NUM_TYPICAL_ROWS = 9  # then one row a class: 1 where the task may use its nodes

# Backfilling modes
NO_BACKFILL = 0
EASY = 1
EASY_NOEXTRA = 2
EASY_SJBF = 3
CONSERVATIVE = 4

# Placement strategies
FIRST_FIT = 0
BEST_FIT = 1
WORST_FIT = 2
PACKED = 3
TOPOLOGY = 4
LEAST_LOADED = 5
DOT_PRODUCT = 6  # from here on nodes are scored for each task
PACKING = 7
CLUSTERING = 8
FGD = 9
RANDOM = 10

KEEP_ACTIVE_SHAPES = 64
"""So many shapes stay active when no job of theirs waits any more, so that the next one need not count all nodes."""

OVERRUN_GRACE_S = 60.0
"""Shortest time by which conservative backfilling puts off the expected end of a job that overran its request."""

ANY_SLOTS = 1 << 40
"""How often a shape that needs nothing fits on a node: more than any gang, and summable over millions of nodes."""

LOAD_UNITS = 1_000_000
"""Units of LOAD in a load of 1."""

NO_POINTS = np.dtype(np.float32)
"""Type of ``State.points`` where no node is scored: the scores are a third of all code that there is to compile."""
