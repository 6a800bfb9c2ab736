"""Gradient-boosted trees as flat arrays: what predictors of run times are, compiled.

Trees of several ensembles, one a quantile, lie one after another; a leaf is a node that points to itself. A missing
feature (NaN) goes the way that training gave it. Sums are added up tree by tree: the same bits on every machine.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shunter.scheduler.jit import compiled
from shunter.scheduler.types import FloatArray, Int, IntArray


class Forest(NamedTuple):
    """Ensembles of trees. (N,) arrays hold the nodes of all.

    Attributes:
        feature: (N,) column that a node looks at.
        threshold: (N,) values up to it go left.
        left: (N,) next node; a leaf's is itself.
        right: (N,) next node of larger values.
        missing_left: (N,) 1 where a missing value goes left.
        value: (N,) what a leaf adds.
        roots: (T,) first node of each tree.
        first: (Q + 1,) first tree of each ensemble, and the number of trees.
    """

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    missing_left: IntArray
    value: FloatArray
    roots: IntArray
    first: IntArray


@compiled
def leaf_of(forest: Forest, node: Int, x: FloatArray) -> Int:
    """The leaf that a row of features (F,) reaches from a node."""
    while forest.left[node] != node:
        value = x[forest.feature[node]]
        goes_left = forest.missing_left[node] == 1 if np.isnan(value) else value <= forest.threshold[node]
        node = forest.left[node] if goes_left else forest.right[node]
    return node


@compiled
def predict_row(forest: Forest, x: FloatArray, out: FloatArray) -> None:
    """Write the sum of each ensemble's trees for one row of features (F,) into ``out`` (Q,)."""
    for ensemble in range(len(forest.first) - 1):
        total = 0.0
        for tree in range(forest.first[ensemble], forest.first[ensemble + 1]):
            total += forest.value[leaf_of(forest, forest.roots[tree], x)]
        out[ensemble] = total


@compiled
def predict_rows(forest: Forest, rows: FloatArray, out: FloatArray) -> None:
    """Write the sums for rows of features (R, F) into ``out`` (R, Q)."""
    for row in range(len(rows)):
        predict_row(forest, rows[row], out[row])


def no_forest() -> Forest:
    """No ensembles."""
    numbers, none = np.zeros(0, np.int64), np.zeros(0)
    return Forest(numbers, none, numbers, numbers, numbers, none, numbers, np.zeros(1, np.int64))
