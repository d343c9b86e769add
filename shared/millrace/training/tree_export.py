"""ONNX form of forests and histogram gradient boosting, with every attribute made of whole arrays.

skl2onnx makes the same nodes, one tree node at a time in Python: a fifth of the time of a run's trials. Its converter
also looks for options in every tree of a forest, so :class:`TreeEnsemble` hides them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, NodeProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from millrace.errors import ModelExportError

_DOMAIN, _VERSION = "ai.onnx.ml", 3
_BINARY = 2
_LINKS = {"HalfBinomialLoss": "LOGISTIC", "HalfMultinomialLoss": "SOFTMAX", "HalfSquaredError": "NONE"}


@dataclass(frozen=True, slots=True)
class TreeArrays:
    """A tree, an entry for each node; ``output`` is the class or target that its values, shape (n_nodes, k), start at.

    A row goes ``left`` where its feature is at most ``threshold``, or missing and ``missing_left``.
    """

    left: npt.NDArray[Any]
    right: npt.NDArray[Any]
    feature: npt.NDArray[Any]
    threshold: npt.NDArray[Any]
    missing_left: npt.NDArray[Any]
    is_leaf: npt.NDArray[np.bool_]
    values: npt.NDArray[Any]
    output: int = 0


class TreeEnsemble(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A fitted ensemble of trees, as the converter sees it."""

    def __init__(self, fitted: Any = None) -> None:
        self._fitted = fitted
        if hasattr(fitted, "classes_"):
            self.classes_ = fitted.classes_


class TreeClassifier(ClassifierMixin, TreeEnsemble):  # type: ignore[misc]  # as above
    """An ensemble that predicts classes."""


class TreeRegressor(RegressorMixin, TreeEnsemble):  # type: ignore[misc]  # as above
    """An ensemble that predicts values."""


def wrap_trees(estimator: Any) -> Any:
    """Return an estimator as :func:`skl2onnx.convert_sklearn` is to see it: ensembles of trees without their trees."""
    if not hasattr(estimator, "_predictors") and not hasattr(estimator, "estimators_"):
        return estimator
    return TreeClassifier(estimator) if hasattr(estimator, "classes_") else TreeRegressor(estimator)


def round_down(thresholds: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the float32 at or below: for float32 rows ``x <= t`` is the same as ``x <= floor(t)``."""
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def trees_of(estimator: Any) -> list[TreeArrays]:
    """Return the trees of a fitted forest or histogram gradient boosting."""
    if hasattr(estimator, "_predictors"):
        return [
            _boosted(tree, output)
            for iteration in estimator._predictors  # scikit-learn has no other way to its trees
            for output, tree in enumerate(iteration)
        ]
    return [_grown(member.tree_, len(estimator.estimators_), hasattr(estimator, "classes_")) for member in estimator]


def _boosted(tree: Any, output: int) -> TreeArrays:
    nodes = tree.nodes
    is_leaf = nodes["is_leaf"].astype(np.bool_)
    return TreeArrays(
        nodes["left"],
        nodes["right"],
        nodes["feature_idx"],
        nodes["num_threshold"],
        nodes["missing_go_to_left"],
        is_leaf,
        nodes["value"][:, None],
        output,
    )


def _grown(tree: Any, members: int, is_classifier: bool) -> TreeArrays:
    is_leaf = tree.children_left == tree.children_right
    values = tree.value[:, 0, :]
    if is_classifier:
        sums = values.sum(axis=1, keepdims=True)
        values = values / np.where(sums > 0, sums, 1.0)
    missing = np.zeros(len(is_leaf), dtype=np.int64)
    return TreeArrays(
        tree.children_left,
        tree.children_right,
        tree.feature,
        round_down(tree.threshold),
        missing,
        is_leaf,
        values / members,
    )


def ensemble_attributes(trees: Sequence[TreeArrays], leaves: str) -> dict[str, Any]:
    """Return the attributes of an ensemble's nodes; those of leaves begin with ``leaves``: ``class`` or ``target``."""
    sizes = [len(tree.left) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    is_leaf = np.concatenate([tree.is_leaf for tree in trees])

    def of_splits(name: str) -> npt.NDArray[Any]:
        return np.where(is_leaf, 0, np.concatenate([getattr(tree, name) for tree in trees]))

    values = np.concatenate([tree.values for tree in trees])[is_leaf]
    outputs = np.repeat([tree.output for tree in trees], sizes)[is_leaf]
    if leaves == "class" and values.shape[1] == _BINARY:
        values = values[:, 1:]  # the operator completes two classes
    width = values.shape[1]
    return {
        "nodes_treeids": tree_ids,
        "nodes_nodeids": node_ids,
        "nodes_featureids": of_splits("feature"),
        "nodes_modes": [b"LEAF" if leaf else b"BRANCH_LEQ" for leaf in is_leaf.tolist()],
        "nodes_values": of_splits("threshold").astype(np.float32),
        "nodes_truenodeids": of_splits("left"),
        "nodes_falsenodeids": of_splits("right"),
        "nodes_missing_value_tracks_true": of_splits("missing_left"),
        f"{leaves}_treeids": np.repeat(tree_ids[is_leaf], width),
        f"{leaves}_nodeids": np.repeat(node_ids[is_leaf], width),
        f"{leaves}_ids": (outputs[:, None] + np.arange(width)).ravel(),
        f"{leaves}_weights": values.astype(np.float32).ravel(),
    }


def make_ensemble_node(name: str, operator: str, inputs: list[str], outputs: list[str], attributes: Any) -> NodeProto:
    """Return a node with its attributes in alphabetical order."""
    node = NodeProto(op_type=operator, domain=_DOMAIN, name=name, input=inputs, output=outputs)
    for key in sorted(attributes):
        value = attributes[key]
        attribute = node.attribute.add(name=key)
        if isinstance(value, str):
            attribute.type, attribute.s = AttributeProto.STRING, value.encode()
        elif isinstance(value, int):
            attribute.type, attribute.i = AttributeProto.INT, value
        elif isinstance(value, list):
            attribute.type = AttributeProto.STRINGS
            attribute.strings.extend(value)
        elif np.issubdtype(value.dtype, np.floating):
            attribute.type = AttributeProto.FLOATS
            attribute.floats.extend(value.tolist())
        else:
            attribute.type = AttributeProto.INTS
            attribute.ints.extend(value.tolist())
    return node


def _convert(scope: Any, operator: Any, container: Any) -> None:
    fitted = operator.raw_operator._fitted  # hidden from the converter's search for options
    is_classifier = hasattr(fitted, "classes_")
    attributes = ensemble_attributes(trees_of(fitted), "class" if is_classifier else "target")
    loss = type(fitted._loss).__name__ if hasattr(fitted, "_loss") else "HalfSquaredError"  # as above
    if loss not in _LINKS:
        raise ModelExportError(f"there is no ONNX form of boosting by {loss}")
    attributes["post_transform"] = _LINKS[loss]
    if is_classifier:
        attributes["classlabels_int64s"] = np.asarray(fitted.classes_, dtype=np.int64)
    else:
        attributes["n_targets"] = 1
    if hasattr(fitted, "_baseline_prediction"):
        attributes["base_values"] = np.asarray(fitted._baseline_prediction, dtype=np.float32).ravel()
    kind = "TreeEnsembleClassifier" if is_classifier else "TreeEnsembleRegressor"
    outputs = [output.full_name for output in operator.outputs]
    name = scope.get_unique_operator_name(kind)
    container.nodes.append(make_ensemble_node(name, kind, operator.input_full_names, outputs, attributes))
    container.node_domain_version_pair_sets.add((_DOMAIN, _VERSION))


def _classifier_shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([rows])
    operator.outputs[1].type = FloatTensorType([rows, len(operator.raw_operator.classes_)])


def _regressor_shapes(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), 1])


update_registered_converter(
    TreeClassifier,
    "MillraceTreeClassifier",
    _classifier_shapes,
    _convert,
    options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]},
)
update_registered_converter(TreeRegressor, "MillraceTreeRegressor", _regressor_shapes, _convert)
