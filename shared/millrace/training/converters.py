"""ONNX forms of the estimators that the converter does not know; importing this registers them.

They are proved by the same comparison as every other model (:func:`millrace.training.export.check_parity`).
"""

from typing import Any

import numpy as np
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.algebra.onnx_ops import (
    OnnxAdd,
    OnnxArgMax,
    OnnxCast,
    OnnxClip,
    OnnxConcat,
    OnnxDiv,
    OnnxExpand,
    OnnxGather,
    OnnxIdentity,
    OnnxMatMul,
    OnnxMax,
    OnnxMul,
    OnnxReduceSum,
    OnnxShape,
    OnnxSub,
    OnnxTopK,
)
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from skl2onnx.operator_converters.multilayer_perceptron import convert_sklearn_mlp_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor

from millrace.training.neighbours import MAX_DEVIATION, SMOOTHING, NeighboursClassifier, NeighboursRegressor
from millrace.training.networks import ScaledMLPRegressor

_ROW_AXIS = np.array([1], dtype=np.int64)


def _classifier_shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([rows])
    operator.outputs[1].type = FloatTensorType([rows, len(operator.raw_operator.classes_)])


def _regressor_shapes(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), 1])


def _emit(scope: Any, operator: Any, container: Any, values: Any) -> None:
    """Make ``values``, a node of shape (n_rows, k), the operator's outputs; of a classifier, with the label first."""
    version = container.target_opset
    if len(operator.outputs) == 1:
        OnnxIdentity(values, op_version=version, output_names=operator.outputs[:1]).add_to(scope, container)
        return
    label, probabilities = operator.outputs
    OnnxArgMax(values, axis=1, keepdims=0, op_version=version, output_names=[label]).add_to(scope, container)
    OnnxIdentity(values, op_version=version, output_names=[probabilities]).add_to(scope, container)


def _convert_baseline(scope: Any, operator: Any, container: Any) -> None:
    """Repeat what the baseline always says, once a row."""
    model, version = operator.raw_operator, container.target_opset
    answer = model.class_prior_ if isinstance(model, DummyClassifier) else model.constant_
    answer = np.asarray(answer, dtype=np.float32).reshape(1, -1)
    rows = OnnxGather(
        OnnxShape(operator.inputs[0], op_version=version), np.array([0], dtype=np.int64), op_version=version
    )
    shape = OnnxConcat(rows, np.array([answer.shape[1]], dtype=np.int64), axis=0, op_version=version)
    _emit(scope, operator, container, OnnxExpand(answer, shape, op_version=version))


def _convert_neighbours(scope: Any, operator: Any, container: Any) -> None:
    """Write :meth:`millrace.training.neighbours._KernelNeighbours._average_block`, in float64 as it is there."""
    model, version = operator.raw_operator, container.target_opset

    def node(make: Any, *inputs: Any, **attributes: Any) -> Any:
        return make(*inputs, op_version=version, **attributes)

    bound, zero = np.float64(MAX_DEVIATION), np.array([0.0])
    cut = node(OnnxClip, node(OnnxCast, operator.inputs[0], to=TensorProto.DOUBLE), np.array(-bound), np.array(bound))
    lengths = node(OnnxReduceSum, node(OnnxMul, cut, cut), _ROW_AXIS, keepdims=1)
    sums = node(OnnxAdd, lengths, (model.rows_**2).sum(axis=1)[None, :])
    squared = node(OnnxMax, node(OnnxSub, sums, node(OnnxMatMul, cut, 2.0 * model.rows_.T)), zero)
    position = np.array([model.bandwidth_position_], dtype=np.int64)
    nearest = node(OnnxTopK, squared, position + 1, axis=1, largest=0, sorted=1)[0]
    bandwidth = node(OnnxAdd, node(OnnxGather, nearest, position, axis=1), np.array([SMOOTHING]))
    weights = node(OnnxMax, node(OnnxSub, np.array([1.0]), node(OnnxDiv, squared, bandwidth)), zero)
    total = node(OnnxReduceSum, weights, _ROW_AXIS, keepdims=1)
    average = node(OnnxDiv, node(OnnxMatMul, weights, model.outcomes_), total)
    _emit(scope, operator, container, node(OnnxCast, average, to=TensorProto.FLOAT))


_ZIPMAP = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}

for _classifier, _convert in ((DummyClassifier, _convert_baseline), (NeighboursClassifier, _convert_neighbours)):
    update_registered_converter(
        _classifier, f"Millrace{_classifier.__name__}", _classifier_shapes, _convert, options=_ZIPMAP
    )
for _regressor, _convert in (
    (DummyRegressor, _convert_baseline),
    (NeighboursRegressor, _convert_neighbours),
    (ScaledMLPRegressor, convert_sklearn_mlp_regressor),
):
    update_registered_converter(_regressor, f"Millrace{_regressor.__name__}", _regressor_shapes, _convert)
