"""Scores of unseen categories: the average of the training rows that are alike otherwise, in every estimator.

Training holds no row of a category that it has not seen, so an estimator's use of that encoding is an accident: the
code -1 of a tree lies beside the category that sorts first, and all zeros leave a linear model with an intercept that
means nothing. After fitting, the encoding gets a meaning; the predictions for known values stay as they were.

- *Trees.* A row stops at the first split that asks for its unseen category, and gets that node's own value: of forests
  the mean outcome of the training rows that came there, of boosting the step that is best for all of them.
- *Linear models and networks.* The weights of a one-hot column are centred on their mean over the training rows, which
  moves into the intercept. All zeros then mean the average row (weighted effect coding: te Grotenhuis et al., "When
  size matters", International Journal of Public Health 62, 2017), for two classes tilted to the mean outcome.
- *Neighbours.* All zeros are equally far from every category already.

The same holds for a missing number of two values (a boolean) where training saw none missing: the median, or the way of
most rows, would be one of the two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.pipeline import Pipeline
from sklearn.tree._tree import Tree

from millrace.features import FLOAT32_MAX, FeatureMatrix
from millrace.training.category_statistics import UNSEEN_CODE
from millrace.training.preprocessing import FeatureTable
from millrace.training.search_plan import one_hot_values

#: Training rows whose mean prediction decides the weights of an unseen category.
MAX_ROWS = 2_000
#: Largest tilt of categories by their mean outcomes, and the halvings of it.
MAX_TILT, TILT_STEPS = 50.0, 20

#: A row stops only in nodes with this share of a tree's training rows: stops in smaller ones would change little, and
#: make a forest a sixth slower over many rows.
MIN_STOP_SHARE = 0.02

#: By column of the encoded matrix: the bound below which a value is unseen; NaN where NaN is.
_Bounds = Mapping[int, float]


def average_unseen(
    pipeline: Pipeline, features: FeatureMatrix, target: npt.NDArray[Any], plain_numbers: Sequence[int]
) -> None:
    """Change a fitted pipeline so that it scores unseen categories as the average.

    Parameters
    ----------
    pipeline : Pipeline
        A pipeline of :class:`millrace.training.candidates.Candidate`, fitted on ``features`` and ``target``.
    plain_numbers : sequence of int
        Columns of ``features.numbers`` that hold a feature's value itself, not a part of a date or a text.
    """
    preprocess, estimator = pipeline[0], pipeline[-1]
    steps = {name: (step, columns) for name, step, columns in preprocess.transformers_}
    pairs = _never_missing_pairs(features, steps["numbers"][1], plain_numbers) if "numbers" in steps else []
    if hasattr(estimator, "_predictors") or hasattr(estimator, "estimators_"):
        bounds = _tree_bounds(steps, preprocess.output_indices_, [position for position, _ in pairs])
        if bounds:
            _stop_trees(estimator, bounds)
        return
    layer = _FirstLayer(estimator) if hasattr(estimator, "coef_") or hasattr(estimator, "coefs_") else None
    if layer is None and not pairs:
        return
    sample = np.unique(np.linspace(0, len(features) - 1, MAX_ROWS).astype(np.int64))
    encoded = preprocess.transform(FeatureTable(features.take(sample))).astype(np.float64)
    if pairs and hasattr(steps["numbers"][0], "steps"):
        shares = [_pair_shares(layer, encoded, target[sample], position) for position, _ in pairs]
        values = [np.unique(features.numbers[:, column]).astype(np.float64) for _, column in pairs]
        imputed = [float(share @ value) for share, value in zip(shares, values, strict=True)]
        steps["numbers"][0]["impute"].statistics_[[position for position, _ in pairs]] = imputed
    if "strings" in steps and layer is not None:
        start = preprocess.output_indices_["strings"].start
        groups = _whole_groups(steps["strings"][0].categories_, start, len(features))
        _centre_weights(layer, encoded, target[sample], groups)


def _never_missing_pairs(
    features: FeatureMatrix, columns: Sequence[int], plain_numbers: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the columns of two values, never missing, with their position among the encoded ones."""
    found = []
    plain = set(plain_numbers)
    for position, column in enumerate(columns):
        values = features.numbers[:, column]
        low, high = values.min(), values.max()  # NaN where one is missing
        if column in plain and low < high and bool(((values == low) | (values == high)).all()):
            found.append((position, column))
    return found


def _tree_bounds(steps: Mapping[str, tuple[Any, Any]], outputs: Mapping[str, slice], pairs: Sequence[int]) -> _Bounds:
    """Give everything unseen a value below all others, or NaN, and return the bounds."""
    bounds: dict[int, float] = {}
    imputer: Any = steps["numbers"][0] if pairs else None
    if hasattr(imputer, "statistics_"):
        imputer.statistics_[pairs] = -FLOAT32_MAX  # no row of training was imputed here
        bounds |= dict.fromkeys(pairs, -FLOAT32_MAX / 2)
    else:
        bounds |= dict.fromkeys(pairs, np.nan)
    if "strings" in steps:
        own = outputs["strings"]
        bounds |= dict.fromkeys(range(own.start, own.stop), UNSEEN_CODE / 2)
    if "many_strings" in steps:
        own, statistics = outputs["many_strings"], steps["many_strings"][0]
        bounds |= dict(zip(range(own.start, own.stop), statistics.set_unseen_below().tolist(), strict=True))
    return bounds


def _stop_trees(estimator: Any, bounds: _Bounds) -> None:
    for iteration in getattr(estimator, "_predictors", ()):
        for predictor in iteration:
            predictor.nodes = _stop_boosted_tree(predictor.nodes, bounds, estimator.learning_rate)
    for member in getattr(estimator, "estimators_", ()):
        member.tree_ = _stop_tree(member.tree_, bounds)


def _stop_boosted_tree(nodes: npt.NDArray[Any], bounds: _Bounds, learning_rate: float) -> npt.NDArray[Any]:
    left = np.where(nodes["is_leaf"], -1, nodes["left"].astype(np.int64))
    found, limits = _first_splits(left, nodes["right"], nodes["feature_idx"], nodes["count"], bounds)
    nodes = nodes.copy()
    split, is_nan = nodes[found], np.isnan(limits)
    guards, leaves = split.copy(), split.copy()
    # A missing number goes one of two ways; a code below all others goes left.
    goes_left = ~is_nan | (split["missing_go_to_left"] == 1)
    child = np.where(goes_left, split["left"], split["right"])
    at = len(nodes) + 2 * np.arange(len(found))
    guards["num_threshold"] = np.where(is_nan, FLOAT32_MAX, limits)
    guards["missing_go_to_left"] = 0
    guards["left"], guards["right"] = np.where(is_nan, child, at + 1), np.where(is_nan, at + 1, child)
    leaves["is_leaf"], leaves["left"], leaves["right"] = 1, 0, 0
    leaves["value"] *= learning_rate  # which fitting applies to leaves alone
    for side, chosen in (("left", goes_left), ("right", ~goes_left)):
        nodes[side][found[chosen]] = at[chosen]
    return np.concatenate([nodes, np.stack([guards, leaves], axis=1).ravel()])


def _stop_tree(tree: Tree, bounds: _Bounds) -> Tree:
    state = tree.__getstate__()
    nodes, values = state["nodes"].copy(), state["values"]
    found, limits = _first_splits(
        nodes["left_child"], nodes["right_child"], nodes["feature"], nodes["n_node_samples"], bounds
    )
    at = len(nodes) + 2 * np.arange(len(found))
    guards, leaves = nodes[nodes["left_child"][found]], nodes[found]
    guards["feature"], guards["threshold"] = nodes["feature"][found], limits
    guards["left_child"], guards["right_child"] = at + 1, nodes["left_child"][found]
    leaves["left_child"] = leaves["right_child"] = -1
    leaves["feature"] = leaves["threshold"] = -2
    leaves["weighted_n_node_samples"] = leaves["n_node_samples"] = 0  # importances stay as they were
    nodes["left_child"][found] = at
    state |= {
        "nodes": np.concatenate([nodes, np.stack([guards, leaves], axis=1).ravel()]),
        "values": np.concatenate([values, np.repeat(values[found], 2, axis=0)]),
        "node_count": len(nodes) + 2 * len(found),
        "max_depth": state["max_depth"] + len(bounds),
    }
    stopped = Tree(tree.n_features, np.atleast_1d(tree.n_classes).astype(np.intp), tree.n_outputs)
    stopped.__setstate__(state)
    return stopped


def _first_splits(
    left: npt.NDArray[Any],
    right: npt.NDArray[Any],
    feature: npt.NDArray[Any],
    count: npt.NDArray[Any],
    bounds: _Bounds,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the nodes that are the first on their path to split a bounded column, and its bounds."""
    lefts, rights, columns, counts = left.tolist(), right.tolist(), feature.tolist(), count.tolist()
    found: list[int] = []
    stack: list[tuple[int, frozenset[int]]] = [(0, frozenset())]
    while stack:
        node, asked = stack.pop()
        if lefts[node] < 0 or counts[node] < MIN_STOP_SHARE * counts[0]:
            continue
        if columns[node] in bounds and columns[node] not in asked:
            found.append(node)
            asked |= {columns[node]}
        stack += [(lefts[node], asked), (rights[node], asked)]
    return np.array(found, dtype=np.int64), np.array([bounds[columns[node]] for node in found], dtype=np.float64)


class _FirstLayer:
    """The weights, of shape (n_inputs, n_units), of a linear model or of a network's first layer."""

    def __init__(self, estimator: Any) -> None:
        self._model = estimator
        self._network = hasattr(estimator, "coefs_")
        self.is_binary = len(getattr(estimator, "classes_", ())) == 2  # noqa: PLR2004 - two classes have one sum
        self.weights = estimator.coefs_[0] if self._network else np.atleast_2d(estimator.coef_).T
        self.intercept = np.atleast_1d(estimator.intercepts_[0] if self._network else estimator.intercept_)

    def store(self, weights: npt.NDArray[Any], intercept: npt.NDArray[Any]) -> None:
        """Replace them in the estimator."""
        if self._network:
            self._model.coefs_[0], self._model.intercepts_[0] = weights, intercept
        else:
            self._model.coef_ = weights.T.reshape(self._model.coef_.shape)
            self._model.intercept_ = intercept if np.ndim(self._model.intercept_) else intercept[0]

    def mean_probability(self, sums: npt.NDArray[Any]) -> float:
        """Return the mean probability of the second of two classes, for rows with these sums of the layer."""
        if self._network:
            for weights, intercept in zip(self._model.coefs_[1:], self._model.intercepts_[1:], strict=True):
                sums = np.maximum(sums, 0.0) @ weights + intercept
        return float(expit(sums).mean())


def _whole_groups(categories: Sequence[npt.NDArray[Any]], start: int, rows: int) -> list[slice]:
    """Return the encoded columns of each string, but for those whose rare values are all zeros in training already."""
    ends = start + np.cumsum([len(known) for known in categories])
    most = one_hot_values(len(categories), rows)
    return [slice(end - len(known), end) for end, known in zip(ends, categories, strict=True) if len(known) < most]


def _centre_weights(
    layer: _FirstLayer, encoded: npt.NDArray[Any], target: npt.NDArray[Any], groups: Sequence[slice]
) -> None:
    """Move the mean weights of one-hot columns into the intercept; ``encoded`` are rows of training."""
    weights, intercept = layer.weights.astype(np.float64), layer.intercept.astype(np.float64)
    for own in groups:
        mean = _average_shares(layer, encoded, target, encoded[:, own], layer.weights[own]) @ layer.weights[own]
        weights[own] -= mean
        intercept += mean
    layer.store(weights.astype(layer.weights.dtype), intercept.astype(layer.intercept.dtype))


def _pair_shares(
    layer: _FirstLayer | None, encoded: npt.NDArray[Any], target: npt.NDArray[Any], position: int
) -> npt.NDArray[Any]:
    """Return the weights of a column's two values for a row whose value is missing."""
    values, one_hot = encoded[:, position], np.zeros((len(encoded), 2))
    one_hot[np.arange(len(encoded)), (values > values.min()).astype(np.int64)] = 1.0
    if layer is None or not one_hot.any(axis=0).all():
        return np.array([0.5, 0.5])  # as far from one value as from the other
    return _average_shares(
        layer, encoded, target, one_hot, np.array([[values.min()], [values.max()]]) * layer.weights[position]
    )


def _average_shares(
    layer: _FirstLayer,
    encoded: npt.NDArray[Any],
    target: npt.NDArray[Any],
    one_hot: npt.NDArray[Any],
    weights: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    """Return the shares with which a column's categories, of these ``weights``, make the average row.

    For two classes, the shares of training are tilted until the mean probability of rows without the column is the mean
    outcome: the mean of log odds is more extreme than the log odds of the mean.
    """
    counts = one_hot.sum(axis=0)
    shares: npt.NDArray[Any] = counts / counts.sum()
    if not layer.is_binary:
        return shares
    sums = encoded @ layer.weights + layer.intercept - one_hot @ weights
    means = target @ one_hot / np.maximum(counts, 1.0)
    low, high = -MAX_TILT, MAX_TILT
    tilted = shares
    for _ in range(TILT_STEPS):
        exponents = (low + high) / 2 * means
        tilted = shares * np.exp(exponents - exponents.max())
        tilted /= tilted.sum()
        is_low = layer.mean_probability(sums + tilted @ weights) < float(shares @ means)
        low, high = ((low + high) / 2, high) if is_low else (low, (low + high) / 2)
    return tilted
