"""Row numbers of the packed state arrays that the compiled kernels share.

The state is a structure of arrays, packed by element type so that a compiled call takes a dozen arguments instead of
forty: unpacking one NumPy array costs 70 ns, as much as many decisions. Names, not numbers, are used everywhere.

Array letters: J jobs, N nodes, S shapes (distinct per-task demands), R resource kinds, A placement entries.
"""

from __future__ import annotations

from typing import NamedTuple

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
        shapes: (NUM_SHAPE_ROWS, S) facts about shapes.
        alloc: (3, A) placement entries.
        node_i: (NUM_NODE_ROWS, N) scratch of a placement.
        spare: (R, N) scratch of EASY: what is free at the shadow time beside the head.
        profile_s: (P,) begins of the profile's steps (conservative).
        profile_free: (R, P) free units of each step, over all nodes.
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


# jobs_i (NUM_JOB_INTS, J) int64: columns of jobs, then lists of job rows that never hold more than J entries.
TASKS = 0  # gang size
SHAPE = 1  # row of the job's per-task demand in ``need``
ALLOC = 2  # first entry of the job's placement in ``alloc``; −1 while it does not run
QUEUE = 3  # waiting jobs in policy order, entries QUEUE_LO..QUEUE_HI
RUN = 4  # running jobs by expected end, entries 0..NUM_RUNNING
OUT = 5  # jobs started by the last pass, entries 0..NUM_OUT
BACKFILLED = 6  # 1 where the job's start overtook a job that still waited
PICK = 7  # scratch
KIND = 8  # jobs with equal tasks, shape and expected run time are of one kind (conservative)
KIND_PASS = 9  # by kind: value of PASS_NUMBER that the kind's other entries belong to
KIND_SEEN = 10  # by kind: entries of the list of freed times that have been taken into account
NUM_JOB_INTS = 11

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
NUM_JOB_FLOATS = 10

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
NUM_COUNTERS = 13

# shapes (NUM_SHAPE_ROWS, S) int64
FREE_SLOTS = 0  # tasks of this shape that fit now, over all nodes
WAITING = 1  # jobs of this shape in the queue
ACTIVE = 2  # list of active shapes, entries 0..NUM_ACTIVE
ACTIVE_POS = 3  # position in that list; −1 when inactive
SPARE_BOUND = 4  # EASY, during a pass: no more tasks than this fit beside the head's reservation
NUM_SHAPE_ROWS = 5

# alloc (3, A) int64: linked lists of (node, tasks), one list a running job, and the list of free entries
NODE = 0
COUNT = 1
NEXT = 2

# node_i (NUM_NODE_ROWS, N) int64: scratch of a placement
CHOSEN = 0  # nodes chosen, entries 0..k
CHOSEN_TASKS = 1
USABLE = 2  # slots that a placement may use
ORDER = 3
FUTURE_SLOTS = 4
NUM_NODE_ROWS = 5

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

KEEP_ACTIVE_SHAPES = 32
"""So many shapes stay active when no job of theirs waits any more, so that the next one need not count all nodes."""

OVERRUN_GRACE_S = 60.0
"""Shortest time by which conservative backfilling puts off the expected end of a job that overran its request."""

ANY_SLOTS = 1 << 40
"""How often a shape that needs nothing fits on a node: more than any gang, and summable over millions of nodes."""
