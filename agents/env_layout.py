"""Where the arrays of an environment lie, and what stands in them: names for ``env_kernel`` and ``batch``.

The compiled step is handed addresses, so that environments on clusters of different sizes are stepped by one call of
one compiled function. Whoever makes the table (``batch.Slot``) keeps the arrays alive and in their places.
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from shunter.scheduler.jit import compiled_after, inlined
from shunter.scheduler.kernels.features import Facts, Histories, Scratch
from shunter.scheduler.layout import State
from shunter.scheduler.types import AnyArray, BoolArray, FloatArray, IntArray
from shunter.sim import rollout_kernel

compiled = compiled_after(Path(rollout_kernel.__file__), Path(__file__))

# Actions that name no job
LEAVE = -2  # nothing happens to this environment
BEGIN = -1  # go to the first decision

# What ``find_decision`` says instead of a visible job
ASK = -2
NOTHING = -1

# Episode.at (NUM_MARKS,)
PHASE = 0
SEEN = 1  # visible jobs at the beginning of the instant
WRITTEN = 2  # 1 once their features have been written
SHOWN = 3  # rows of the observation that are not zero
OPEN = 4  # jobs that may be named now
FIRST = 5  # row of the first job that counts; those before warm the queue up
TO_START = 6  # jobs that count and have not started
COUNTED = 7  # jobs that count
STEPS = 8
WARM = 9  # 1 while a fixed score decides
MODE = 10
STRATEGY = 11
MAY_WAIT = 12  # 1 when the last action ends the instant
NUM_USERS = 13
NUM_MARKS = 14

# Phases
BETWEEN = 0  # the instant is over
HEADS = 1  # no head is reserved for
BEHIND = 2  # jobs may start beside the reservation of a head
OVER = 3  # every job that counts has started
STUCK = 4  # jobs wait and nothing will happen: never

# Episode.value (NUM_VALUES,)
SHADOW_S = 0  # of the head
REWARD = 1  # collected since the last step
POTENTIAL = 2  # at the last decision
LAST_END_S = 3  # of the jobs that count, those that have not started taken to start at once
BEGIN_S = 4  # first submission of a job that counts
WORK_S = 5  # processor-seconds of the jobs that count, over the processors
OF_SLOWDOWN = 6  # weights of what is rewarded
OF_WAIT = 7
OF_FAIRNESS = 8
OF_SPAN = 9
OF_USE = 10
SHAPING = 11  # weight of the potential
DISCOUNT = 12
SUM = 13  # of ``excess``
SQUARES = 14
NUM_VALUES = 15

NUM_ORDERS = 3  # fixed orders by which visible jobs are chosen
NUM_TURNS = NUM_ORDERS + 3

# Episode.mark of waiting jobs
WAITS = 1
FITS = 2  # it could start now
CHOSEN = 4  # added to either once it is to be seen

BOUND_S = 10.0
"""Run times below this count as this in the bounded slowdown."""


class Episode(NamedTuple):
    """One environment's episode; W rows of jobs, K visible at most, U users.

    Attributes:
        at: (NUM_MARKS,) where it stands.
        value: (NUM_VALUES,) the same in seconds and rewards.
        visible: (K,) rows of the visible jobs, in the order of submission.
        fits: (K,) whether they could start when they were chosen.
        mark: (W,) scratch: zeros.
        order: (NUM_ORDERS, W) rows by request, area and size.
        turn: (NUM_TURNS,) scratch.
        user: (W,) row of the job's user in the next two.
        jobs_of: (U,) jobs of each user that count.
        excess: (U,) mean bounded slowdown of a user's jobs, less 1; jobs that have not started count as 1.
        observation: (K, F + 1) features, and 1 where there is a job.
        mask: (K + 1,) what may be named.
    """

    at: IntArray
    value: FloatArray
    visible: IntArray
    fits: BoolArray
    mark: IntArray
    order: IntArray
    turn: IntArray
    user: IntArray
    jobs_of: FloatArray
    excess: FloatArray
    observation: AnyArray
    mask: BoolArray


class Jobs(NamedTuple):
    """What the events are made of; (W,) each.

    Attributes:
        submit_s: Submit times.
        run_s: Actual run times.
    """

    submit_s: FloatArray
    run_s: FloatArray


class Loop(NamedTuple):
    """Where the events stand: what ``rollout_kernel`` reads and writes of its own ``Loop``, and the features.

    Attributes:
        at: (NUM_LOOP_ROWS,) where it stands.
        now_s: (1,) the last instant.
        end_s: (W,) heap of the running jobs' ends.
        end_row: (W,) their rows.
        finished: (W,) rows that ended at this instant.
        features: (K, F) of the visible jobs.
    """

    at: IntArray
    now_s: FloatArray
    end_s: FloatArray
    end_row: IntArray
    finished: IntArray
    features: FloatArray


class Watched(NamedTuple):
    """What features are made from."""

    facts: Facts
    histories: Histories
    scratch: Scratch


class Slot(NamedTuple):
    """Everything of one environment."""

    st: State
    jobs: Jobs
    loop: Loop
    watched: Watched
    episode: Episode


def _view(dtype: Any, ndim: int) -> Any:
    """``view(entry)``: the array whose address, rows and columns an entry (3,) has; it holds no reference."""

    def typed(_typing: Any, entry: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array_type = signature.return_type
            numbers = context.make_array(signature.args[0])(context, builder, args[0]).data
            address, rows, columns = (
                builder.load(builder.gep(numbers, [context.get_constant(types.intp, i)])) for i in range(3)
            )
            element = context.get_data_type(dtype)
            size = context.get_constant(types.intp, context.get_abi_sizeof(element))
            shape = [rows, columns][:ndim]
            strides = [builder.mul(columns, size), size][2 - ndim :]
            array = make_array(array_type)(context, builder)
            populate_array(
                array,
                data=builder.inttoptr(address, array.data.type),
                shape=cgutils.pack_array(builder, shape),
                strides=cgutils.pack_array(builder, strides),
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()

        return types.Array(dtype, ndim, "C")(entry), generate

    return intrinsic(typed)


ints = _view(types.int64, 1)
floats = _view(types.float64, 1)
singles = _view(types.float32, 1)
flags = _view(types.boolean, 1)
int_table = _view(types.int64, 2)
float_table = _view(types.float64, 2)
single_table = _view(types.float32, 2)


# Where the groups of a table's entries begin
STATE_AT = 0
JOBS_AT = len(State._fields)
LOOP_AT = JOBS_AT + len(Jobs._fields)
FACTS_AT = LOOP_AT + len(Loop._fields)
HISTORIES_AT = FACTS_AT + len(Facts._fields)
SCRATCH_AT = HISTORIES_AT + len(Histories._fields)
EPISODE_AT = SCRATCH_AT + len(Scratch._fields)
NUM_ENTRIES = EPISODE_AT + len(Episode._fields)


@inlined
def state_at(t: IntArray) -> State:
    """The state in a group of a table's entries (·, 3)."""
    return State(
        int_table(t[0]), float_table(t[1]), ints(t[2]), int_table(t[3]), int_table(t[4]), int_table(t[5]),
        int_table(t[6]), int_table(t[7]), int_table(t[8]), int_table(t[9]), floats(t[10]), int_table(t[11]),
        int_table(t[12]), float_table(t[13]), single_table(t[14]), int_table(t[15]),
    )  # fmt: skip


@inlined
def loop_at(t: IntArray) -> Loop:
    """The loop."""
    return Loop(ints(t[0]), floats(t[1]), floats(t[2]), ints(t[3]), ints(t[4]), float_table(t[5]))


@inlined
def facts_at(t: IntArray) -> Facts:
    """The facts about jobs."""
    return Facts(
        floats(t[0]), floats(t[1]), floats(t[2]), floats(t[3]), floats(t[4]), ints(t[5]), ints(t[6]), floats(t[7])
    )


@inlined
def watched_at(t: IntArray) -> Watched:
    """Facts, histories and room for features."""
    h, s = t[HISTORIES_AT:], t[SCRATCH_AT:]
    return Watched(
        facts_at(t[FACTS_AT:]),
        Histories(float_table(h[0]), float_table(h[1])),
        Scratch(floats(s[0]), floats(s[1]), floats(s[2])),
    )


@inlined
def episode_at(t: IntArray) -> Episode:
    """The episode."""
    return Episode(
        ints(t[0]), floats(t[1]), ints(t[2]), flags(t[3]), ints(t[4]), int_table(t[5]), ints(t[6]), ints(t[7]),
        floats(t[8]), floats(t[9]), single_table(t[10]), flags(t[11]),
    )  # fmt: skip


@compiled
def slot_at(t: IntArray) -> Slot:
    """An environment from a table (NUM_ENTRIES, 3), in the order of the fields of ``Slot`` and theirs."""
    j = t[JOBS_AT:]
    jobs = Jobs(floats(j[0]), floats(j[1]))
    return Slot(state_at(t), jobs, loop_at(t[LOOP_AT:]), watched_at(t), episode_at(t[EPISODE_AT:]))
