"""Fragmentation and placement scores, against hand-worked cases and against the definitions in plain Python."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduler.kernels.fragmentation import fragmentation, gradient_points, make_typical
from shunter.scheduler.kernels.scoring import (
    CODE_OF,
    DOES_NOT_FIT,
    Nodes,
    Scoring,
    Tasks,
    choose_gpus,
    drawn,
    fits,
    hold,
    node_score,
    refresh,
)

CPU, GPU = 1000, 1000  # milli
CLASSES = 2


def typical_of(tasks, *, classes=1):
    """Typical tasks from (weight, CPUs, milli-GPU a GPU, GPUs, allowed classes or None)."""
    weight, cpu, share, gpus, allowed = zip(*tasks, strict=True)
    return make_typical(
        cpu=np.array(cpu) * CPU,
        share=np.array(share),
        gpus=np.array(gpus),
        weight=np.array(weight, dtype=float),
        allowed=np.array([[a is None or c in a for c in range(classes)] for a in allowed]),
    )


def fragmented(tasks, *, cpus, gpus, node_class=0, classes=1):
    free = np.array(gpus, dtype=np.int64)
    return fragmentation(typical_of(tasks, classes=classes), int(cpus * CPU), free, len(free), node_class)


# The definition: a node against one task ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "cpus", "gpus", "expected", "why"),
    [
        ((1.0, 4, 500, 1, None), 8, [1000, 300], 300, "300 of the second GPU is less than the 500 asked for"),
        ((1.0, 4, 500, 1, None), 2, [1000, 300], 1300, "too few CPUs: nothing can be used"),
        ((1.0, 4, 500, 1, None), 8, [400, 300], 700, "no GPU has 500 left"),
        ((1.0, 4, 1000, 2, None), 8, [1000, 300], 1300, "two whole GPUs asked for, one there"),
        ((1.0, 4, 1000, 2, None), 8, [1000, 1000, 300], 300, "two whole GPUs fit beside the used one"),
        ((1.0, 4, 0, 0, None), 8, [1000, 300], 1300, "a task without GPUs leaves all of them unused"),
        ((1.0, 4, 500, 1, [1]), 8, [1000, 300], 1300, "the node's class is not allowed"),
        ((1.0, 4, 500, 1, [0]), 8, [1000, 500], 0, "every GPU can be used"),
        ((1.0, 4, 500, 1, None), 8, [0, 0], 0, "nothing is free, so nothing is fragmented"),
    ],
)
def test_one_task(task, cpus, gpus, expected, why):
    assert fragmented([task], cpus=cpus, gpus=gpus, classes=2) == expected, why


def test_mean_over_the_workload():
    """Half the tasks need 500 (lose 300), a quarter two whole GPUs (lose 1300), a quarter none (lose 1300)."""
    tasks = [(0.5, 4, 500, 1, None), (0.25, 4, 1000, 2, None), (0.25, 4, 0, 0, None)]
    assert fragmented(tasks, cpus=8, gpus=[1000, 300]) == 0.5 * 300 + 0.25 * 1300 + 0.25 * 1300


def test_columns_beyond_the_gpus_of_a_node_do_not_count():
    tasks = typical_of([(1.0, 0, 500, 1, None)])
    assert fragmentation(tasks, 0, np.array([300, 900, 900]), 1, 0) == 300


def test_points_of_a_gradient():
    """Unchanged: half of the points. One GPU less fragmented: 100 / (1 + 1/e)."""
    assert gradient_points(1234.5, 1234.5) == 50.0
    assert gradient_points(1000.0, 0.0) == pytest.approx(100 / (1 + math.exp(-1)))
    assert gradient_points(0.0, 1000.0) == pytest.approx(100 / (1 + math.exp(1)))


# Any node and workload ---------------------------------------------------------------------------------------------

shares = st.one_of(
    st.just((0, 0)), st.tuples(st.integers(1, 999), st.just(1)), st.tuples(st.just(GPU), st.integers(1, 4))
)


@st.composite
def one_task(draw):
    share, gpus = draw(shares)
    return (
        draw(st.integers(1, 9)),
        draw(st.integers(0, 16)),
        share,
        gpus,
        draw(st.sampled_from([None, [0], [1], [0, 1]])),
    )


@st.composite
def workloads(draw):
    tasks = draw(st.lists(one_task(), min_size=1, max_size=6))
    total = sum(task[0] for task in tasks)
    return [(task[0] / total, *task[1:]) for task in tasks]


free_gpus = st.lists(st.one_of(st.just(GPU), st.integers(0, GPU)), min_size=1, max_size=5)
node_states = st.tuples(st.integers(0, 16), free_gpus, st.integers(0, CLASSES - 1))


def plain_fragmentation(tasks, cpus, gpus, node_class):
    """Section 3.2 of the paper, word by word."""
    total = 0.0
    for weight, wanted_cpus, share, count, allowed in tasks:
        usable = [free for free in gpus if free >= share]
        can_run = (
            count > 0 and cpus >= wanted_cpus and len(usable) >= count and (allowed is None or node_class in allowed)
        )
        total += weight * (sum(gpus) - sum(usable) if can_run else sum(gpus))
    return total


@given(workloads(), node_states)
def test_kernel_equals_the_definition(tasks, state):
    cpus, gpus, node_class = state
    ours = fragmented(tasks, cpus=cpus, gpus=gpus, node_class=node_class, classes=CLASSES)
    assert ours == pytest.approx(plain_fragmentation(tasks, cpus, gpus, node_class), abs=1e-9)
    assert -1e-9 <= ours <= sum(gpus) + 1e-9


@given(workloads(), node_states, st.permutations(range(5)))
def test_order_of_gpus_does_not_matter(tasks, state, order):
    cpus, gpus, node_class = state
    shuffled = [gpus[i] for i in order if i < len(gpus)]
    same = {"cpus": cpus, "node_class": node_class, "classes": CLASSES}
    assert fragmented(tasks, gpus=gpus, **same) == fragmented(tasks, gpus=shuffled, **same)


# Scores ------------------------------------------------------------------------------------------------------------


def nodes_of(states, kinds=None):
    """Nodes from (CPUs, free GPUs, class); 64 GiB of memory each."""
    most = max(len(gpus) for _, gpus, _ in states)
    free = np.zeros((len(states), most), dtype=np.int64)
    for row, (_, gpus, _) in enumerate(states):
        free[row, : len(gpus)] = gpus
    return Nodes(
        free_cpu=np.array([cpus * CPU for cpus, _, _ in states]),
        free_memory=np.full(len(states), 64 << 20),
        free_gpu=free,
        num_gpus=np.array([len(gpus) for _, gpus, _ in states]),
        node_class=np.array([c for _, _, c in states]),
        kinds=np.zeros((len(states), most + 1), dtype=np.int64) if kinds is None else np.array(kinds),
        fragmentation=np.zeros(len(states)),
    )


def tasks_of(*tasks):
    """Shapes from (CPUs, milli-GPU a GPU, GPUs, allowed classes or None); 1 GiB of memory each."""
    return Tasks(
        cpu=np.array([cpus * CPU for cpus, _, _, _ in tasks]),
        memory=np.full(len(tasks), 1 << 20),
        share=np.array([share for _, share, _, _ in tasks]),
        gpus=np.array([gpus for _, _, gpus, _ in tasks]),
        allowed=np.array([[a is None or c in a for c in range(CLASSES)] for _, _, _, a in tasks]),
    )


def scoring_of(typical=((1.0, 0, 500, 1, None),), *, whole_points=False, seed=1):
    return Scoring(
        max_cpu=16.0 * CPU,
        max_gpu=8.0 * GPU,
        whole_points=whole_points,
        seed=seed,
        typical=typical_of(typical, classes=CLASSES),
        scratch=np.zeros(8, dtype=np.int64),
    )


def points(placement, nodes, tasks, *, using=None, decision=0):
    """Points of every node for the first shape."""
    using = using or scoring_of()
    for node in range(len(nodes.free_cpu)):
        refresh(nodes, node, using)
    code = CODE_OF[placement]
    return [node_score(nodes, tasks, node, 0, code, using, decision) for node in range(len(nodes.free_cpu))]


def gpus_chosen(placement, nodes, tasks, *, using=None, decision=0, node=0):
    using = using or scoring_of()
    refresh(nodes, node, using)
    chosen = np.zeros(8, dtype=np.int64)
    return chosen[: choose_gpus(nodes, tasks, node, 0, CODE_OF[placement], using, decision, chosen)].tolist()


def test_best_fit_and_worst_fit():
    """Left over: (8 − 4)/16 CPUs and (1.5 − 0.5)/8 GPUs: mean (0.25 + 0.125)/2 = 0.1875."""
    nodes, tasks = nodes_of([(8, [1000, 500], 0)]), tasks_of((4, 500, 1, None))
    assert points("best-fit", nodes, tasks) == [pytest.approx(81.25)]
    assert points("worst-fit", nodes, tasks) == [pytest.approx(18.75)]


def test_dot_product():
    """CPUs 8/16 × 4/16 = 0.125, GPUs 1.5/8 × 0.5/8: the mean of both products off 1."""
    nodes, tasks = nodes_of([(8, [1000, 500], 0)]), tasks_of((4, 500, 1, None))
    assert points("dot-product", nodes, tasks) == [pytest.approx(100 * (1 - (0.125 + 1.5 / 8 * 0.5 / 8) / 2))]


def test_packing_prefers_gpus_in_use_then_nodes_in_use():
    """A GPU with 60 % left: 100 − 6. An unused GPU of a used node: 50 − 1. An unused node with two GPUs: 33 − 2."""
    nodes = nodes_of([(8, [600, 700], 0), (8, [1000, 300], 0), (8, [1000, 1000], 0), (8, [400], 0)])
    assert points("packing", nodes, tasks_of((1, 500, 1, None))) == [94, 49, 31, DOES_NOT_FIT]
    assert points("packing", nodes, tasks_of((1, 1000, 2, None))) == [-1, -1, 31, -1]
    assert points("packing", nodes, tasks_of((1, 0, 0, None))) == [0, 0, 0, 0]


def test_clustering_prefers_nodes_of_its_own_kind():
    """Only shares 75, shares and others 50, idle 25, only others 0; plus 25 × what is in use of eight GPUs."""
    states = [(8, [500, 500], 0), (8, [500, 500], 0), (8, [1000, 1000], 0), (8, [1000, 1000], 0)]
    nodes = nodes_of(states, kinds=[[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 2, 0]])
    found = points("clustering", nodes, tasks_of((1, 500, 1, None)))
    assert found == [75 + 25 * 7 / 8, 50 + 25 * 7 / 8, 25 + 25 * 6 / 8, 25 * 6 / 8]


def test_fgd_closes_the_gap_that_nobody_else_can_use():
    """Against tasks of 500, the 300 left on GPU 1 are lost: 200 go there, although GPU 0 is emptier."""
    nodes, tasks = nodes_of([(8, [1000, 300], 0), (8, [1000, 1000], 0)]), tasks_of((1, 200, 1, None))
    before_after = [(300, 100), (0, 0)]
    assert points("fgd", nodes, tasks) == [pytest.approx(gradient_points(b, a)) for b, a in before_after]
    assert gpus_chosen("fgd", nodes, tasks) == [1]


def test_fgd_takes_the_first_gpu_when_points_differ_after_the_decimal_point_only():
    """GPU 0 would leave 445 that nobody can use, GPU 1 440: 39.06 and 39.17 points, both 39 when cut."""
    nodes = nodes_of([(8, [945, 940], 0)])
    tasks = tasks_of((1, 500, 1, None))
    assert gpus_chosen("fgd", nodes, tasks) == [1]
    assert gpus_chosen("fgd", nodes, tasks, using=scoring_of(whole_points=True)) == [0]


@pytest.mark.parametrize(
    ("placement", "expected"),
    [("best-fit", 2), ("packing", 2), ("clustering", 2), ("dot-product", 2), ("worst-fit", 3), ("first-fit", 1)],
)
def test_gpu_for_a_share(placement, expected):
    nodes = nodes_of([(8, [100, 700, 600, 900, 600], 0)])
    assert gpus_chosen(placement, nodes, tasks_of((1, 500, 1, None))) == [expected]


@pytest.mark.parametrize("placement", CODE_OF)
def test_whole_gpus_are_the_first_unused_ones(placement):
    nodes = nodes_of([(8, [1000, 999, 1000, 1000], 0)])
    assert gpus_chosen(placement, nodes, tasks_of((1, 1000, 2, None))) == [0, 2]


@pytest.mark.parametrize("placement", CODE_OF)
def test_a_task_without_gpus_takes_none_and_fits_by_cpus_alone(placement):
    nodes, tasks = nodes_of([(8, [0], 0), (2, [1000], 1)]), tasks_of((4, 0, 0, [1]))
    assert gpus_chosen(placement, nodes, tasks) == []
    assert [points(placement, nodes, tasks)[1], fits(nodes, tasks, 0, 0)] == [DOES_NOT_FIT, True]


def test_random_chooses_every_node_and_gpu_about_as_often():
    """4,000 decisions over four of five nodes: 1,000 each, standard deviation 27; five of those are allowed."""
    nodes = nodes_of([(8, [1000, 900], 0)] * 4 + [(8, [100], 0)])
    tasks = tasks_of((1, 500, 1, None))
    using = scoring_of(seed=7)
    nodes_taken = Counter(int(np.argmax(points("random", nodes, tasks, using=using, decision=d))) for d in range(4000))
    gpus_taken = Counter(gpus_chosen("random", nodes, tasks, using=using, decision=d)[0] for d in range(4000))
    assert sorted(nodes_taken) == [0, 1, 2, 3]
    assert all(abs(count - 1000) < 137 for count in nodes_taken.values())
    assert abs(gpus_taken[0] - 2000) < 158  # 5 × sqrt(4000 / 4)


def test_draws_repeat_and_differ_by_seed():
    assert drawn(3, 5, 7) == drawn(3, 5, 7)
    assert len({drawn(seed, decision, item) for seed in range(5) for decision in range(5) for item in range(5)}) == 125


@given(
    st.lists(node_states, min_size=1, max_size=4), st.lists(one_task(), min_size=1, max_size=6), workloads(), st.data()
)
def test_scores_stay_in_range_and_nothing_is_held_twice(states, wanted, typical, data):
    """Whatever is placed: points within 0..100 and no amount below 0; what was given back is free again."""
    nodes, tasks = nodes_of(states), tasks_of(*(task[1:] for task in wanted))
    using = scoring_of(typical)
    before = [array.copy() for array in nodes]
    placement = data.draw(st.sampled_from(sorted(CODE_OF)))
    held = []
    for decision, shape in enumerate(data.draw(st.lists(st.integers(0, len(wanted) - 1), max_size=8))):
        for node in range(len(states)):
            refresh(nodes, node, using)
        code = CODE_OF[placement]
        scores = [node_score(nodes, tasks, n, shape, code, using, decision) for n in range(len(states))]
        assert [score == DOES_NOT_FIT for score in scores] == [
            not fits(nodes, tasks, n, shape) for n in range(len(states))
        ]
        assert all(0 <= score <= 100 for score in scores if score != DOES_NOT_FIT)
        node = int(np.argmax(scores))
        if scores[node] == DOES_NOT_FIT:
            continue
        chosen = np.zeros(8, dtype=np.int64)
        count = choose_gpus(nodes, tasks, node, shape, code, using, decision, chosen)
        assert count == tasks.gpus[shape]
        assert len(set(chosen[:count])) == count
        hold(nodes, tasks, node, shape, chosen, count, 1)
        assert min(nodes.free_cpu.min(), nodes.free_memory.min(), nodes.free_gpu.min()) >= 0
        held.append((node, shape, chosen, count))
    for node, shape, chosen, count in held:
        hold(nodes, tasks, node, shape, chosen, count, -1)
    for was, now in zip(before[:-1], nodes[:-1], strict=True):
        assert np.array_equal(was, now)


@given(workloads(), node_states, st.integers(1, 999), st.integers(0, 8))
def test_fgd_takes_the_gpu_with_the_least_fragmentation_after_it(typical, state, share, cpus):
    """Brute force over the GPUs with the definition in plain Python."""
    free_cpus, gpus, node_class = state
    nodes, tasks = nodes_of([state]), tasks_of((cpus, share, 1, None))
    if not fits(nodes, tasks, 0, 0):
        return
    after = {}
    for gpu, free in enumerate(gpus):
        if free >= share:
            left = [*gpus[:gpu], free - share, *gpus[gpu + 1 :]]
            after[gpu] = plain_fragmentation(typical, free_cpus - cpus, left, node_class)
    [chosen] = gpus_chosen("fgd", nodes, tasks, using=scoring_of(typical))
    assert after[chosen] == pytest.approx(min(after.values()), abs=1e-6)
    expected = gradient_points(plain_fragmentation(typical, free_cpus, gpus, node_class), min(after.values()))
    assert points("fgd", nodes, tasks, using=scoring_of(typical)) == [pytest.approx(expected, abs=1e-6)]
