"""Gradient-boosted trees for quantiles, by LightGBM, which the extra ``train`` has. What comes out is a ``Forest``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shunter.scheduler.types import FloatArray

if TYPE_CHECKING:
    from shunter.scheduler.kernels.forest import Forest


@dataclass(frozen=True, slots=True)
class Boosting:
    """Settings of LightGBM.

    Attributes:
        trees: Most trees of an ensemble; fewer are kept where the jobs to choose by say so.
        leaves: Most leaves of a tree.
        learning_rate: What each tree adds.
        least_jobs: Of a leaf.
        feature_share: Of the columns that each tree may look at.
        job_share: Of the jobs that each tree looks at.
        patience: Trees without gain on the jobs to choose by after which no more are grown.
        seed: Of the drawing of columns and jobs.
    """

    trees: int = 300
    leaves: int = 31
    learning_rate: float = 0.08
    least_jobs: int = 40
    feature_share: float = 0.5
    job_share: float = 0.7
    patience: int = 40
    seed: int = 0

    def parameters(self, level: float) -> dict[str, Any]:
        """As LightGBM calls them."""
        return {
            "objective": "quantile",
            "alpha": level,
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.least_jobs,
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.job_share,
            "bagging_freq": 1,
            "max_bin": 127,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class Rows:
    """What is learned from.

    Attributes:
        features: (R, F) as ``scheduler.durations`` writes them.
        target: (R,) what is to be told.
        weight: (R,) of each row.
    """

    features: FloatArray
    target: FloatArray
    weight: FloatArray


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """Training was told to stop."""


def grow(
    training: Rows,
    choosing: Rows,
    level: float,
    settings: Boosting,
    grown: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Any:
    """A booster of one quantile, with as many trees as do best on ``choosing``.

    Args:
        training: Jobs to learn from.
        choosing: Later jobs, to choose the number of trees by.
        level: Of the quantile.
        settings: Of the trees.
        grown: Called with the number of trees so far.
        should_stop: Asked after each tree.

    Raises:
        Stopped: ``should_stop`` said so.
    """
    import lightgbm

    def after_tree(state: Any) -> None:
        if grown is not None:
            grown(state.iteration + 1)
        if should_stop is not None and should_stop():
            raise Stopped

    parameters = settings.parameters(level)
    data = lightgbm.Dataset(training.features, training.target, weight=training.weight, params=parameters)
    judged = lightgbm.Dataset(choosing.features, choosing.target, weight=choosing.weight, reference=data)
    patience = lightgbm.early_stopping(settings.patience, verbose=False)
    return lightgbm.train(parameters, data, settings.trees, valid_sets=[judged], callbacks=[after_tree, patience])


def forest_of(boosters: list[Any]) -> Forest:
    """The trees of some boosters as arrays; an ensemble each, up to its best number of trees."""
    from shunter.scheduler.kernels.forest import Forest

    nodes: list[tuple[int, float, int, int, int, float]] = []
    roots, first = list[int](), [0]
    for booster in boosters:
        for tree in booster.dump_model(num_iteration=booster.best_iteration or -1)["tree_info"]:
            roots.append(len(nodes))
            _add_nodes(tree["tree_structure"], nodes)
        first.append(len(roots))
    feature, threshold, left, right, missing_left, value = zip(*nodes, strict=True)
    return Forest(
        feature=np.asarray(feature, np.int64),
        threshold=np.asarray(threshold, np.float64),
        left=np.asarray(left, np.int64),
        right=np.asarray(right, np.int64),
        missing_left=np.asarray(missing_left, np.int64),
        value=np.asarray(value, np.float64),
        roots=np.asarray(roots, np.int64),
        first=np.asarray(first, np.int64),
    )


def _add_nodes(node: dict[str, Any], nodes: list[tuple[int, float, int, int, int, float]]) -> int:
    """Append a node of LightGBM's dump and all below it; returns its place."""
    place = len(nodes)
    if "leaf_value" in node:
        nodes.append((0, 0.0, place, place, 0, float(node["leaf_value"])))
        return place
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise ValueError(f"a split {node['decision_type']!r} with missing {node['missing_type']!r} is none of ours")
    threshold = float(node["threshold"])
    # Where training met no missing value LightGBM takes one for 0.
    missing_left = bool(node["default_left"]) if node["missing_type"] == "NaN" else threshold >= 0.0
    nodes.append((0, 0.0, 0, 0, 0, 0.0))
    left = _add_nodes(node["left_child"], nodes)
    right = _add_nodes(node["right_child"], nodes)
    nodes[place] = (int(node["split_feature"]), threshold, left, right, int(missing_left), 0.0)
    return place
