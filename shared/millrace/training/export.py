"""Export of a fitted pipeline to ONNX, and the parity check of the two.

Some conversions are silently wrong, so :func:`check_parity` compares both on real rows and on perturbed ones, for every
trial.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.algebra import onnx_ops as ops
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.operator_converters.multilayer_perceptron import convert_sklearn_mlp_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline

from millrace.errors import ModelExportError
from millrace.features import MISSING_STRING, FeatureMatrix
from millrace.schema import Task
from millrace.serving.model import (
    NUMBERS_INPUT,
    PROBABILITIES_OUTPUT,
    RAW_PROBABILITIES_OUTPUT,
    STRINGS_INPUT,
    VALUE_OUTPUT,
    OnnxModel,
)
from millrace.training.candidates import (
    MAX_DEVIATION,
    SMOOTHING,
    ModelPipeline,
    NeighboursClassifier,
    NeighboursRegressor,
    ScaledMLPRegressor,
)
from millrace.training.preprocessing import FeatureTable
from millrace.training.probability_scaling import SMALLEST_PROBABILITY, ProbabilityScaling
from millrace.training.tree_export import round_down, wrap_trees
from millrace.training.trial_record import ParityReport

_ROW_AXIS = np.array([1], dtype=np.int64)


def _classifier_shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([rows])
    operator.outputs[1].type = FloatTensorType([rows, len(operator.raw_operator.classes_)])


def _regressor_shapes(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), 1])


def _emit(scope: Any, operator: Any, container: Any, values: Any) -> None:
    """Make ``values``, a node of shape (n_rows, k), the operator's outputs; a classifier has the label first."""
    version = container.target_opset
    if len(operator.outputs) == 1:
        ops.OnnxIdentity(values, op_version=version, output_names=operator.outputs[:1]).add_to(scope, container)
        return
    label, probabilities = operator.outputs
    ops.OnnxArgMax(values, axis=1, keepdims=0, op_version=version, output_names=[label]).add_to(scope, container)
    ops.OnnxIdentity(values, op_version=version, output_names=[probabilities]).add_to(scope, container)


def _convert_baseline(scope: Any, operator: Any, container: Any) -> None:
    """Repeat the baseline's constant prediction for every row."""
    model, version = operator.raw_operator, container.target_opset
    constant = model.class_prior_ if isinstance(model, DummyClassifier) else model.constant_
    constant = np.asarray(constant, dtype=np.float32).reshape(1, -1)
    rows = ops.OnnxGather(
        ops.OnnxShape(operator.inputs[0], op_version=version), np.array([0], dtype=np.int64), op_version=version
    )
    shape = ops.OnnxConcat(rows, np.array([constant.shape[1]], dtype=np.int64), axis=0, op_version=version)
    _emit(scope, operator, container, ops.OnnxExpand(constant, shape, op_version=version))


def _convert_neighbours(scope: Any, operator: Any, container: Any) -> None:
    """Convert ``_KernelNeighbours._average_block``, in float64 as it is there."""
    model, version = operator.raw_operator, container.target_opset

    def node(make: Any, *inputs: Any, **attributes: Any) -> Any:
        return make(*inputs, op_version=version, **attributes)

    bound, zero = np.float64(MAX_DEVIATION), np.array([0.0])
    cut = node(
        ops.OnnxClip, node(ops.OnnxCast, operator.inputs[0], to=TensorProto.DOUBLE), np.array(-bound), np.array(bound)
    )
    lengths = node(ops.OnnxReduceSum, node(ops.OnnxMul, cut, cut), _ROW_AXIS, keepdims=1)
    sums = node(ops.OnnxAdd, lengths, (model.rows_**2).sum(axis=1)[None, :])
    squared = node(ops.OnnxMax, node(ops.OnnxSub, sums, node(ops.OnnxMatMul, cut, 2.0 * model.rows_.T)), zero)
    position = np.array([model.bandwidth_position_], dtype=np.int64)
    nearest = node(ops.OnnxTopK, squared, position + 1, axis=1, largest=0, sorted=1)[0]
    bandwidth = node(ops.OnnxAdd, node(ops.OnnxGather, nearest, position, axis=1), np.array([SMOOTHING]))
    weights = node(ops.OnnxMax, node(ops.OnnxSub, np.array([1.0]), node(ops.OnnxDiv, squared, bandwidth)), zero)
    total = node(ops.OnnxReduceSum, weights, _ROW_AXIS, keepdims=1)
    average = node(ops.OnnxDiv, node(ops.OnnxMatMul, weights, model.outcomes_), total)
    _emit(scope, operator, container, node(ops.OnnxCast, average, to=TensorProto.FLOAT))


_ZIPMAP = {"zipmap": [True, False, "columns"], "output_class_labels": [False, True], "nocl": [True, False]}

for _classifier, _writer in ((DummyClassifier, _convert_baseline), (NeighboursClassifier, _convert_neighbours)):
    update_registered_converter(
        _classifier, f"Millrace{_classifier.__name__}", _classifier_shapes, _writer, options=_ZIPMAP
    )
for _regressor, _writer in (
    (DummyRegressor, _convert_baseline),
    (NeighboursRegressor, _convert_neighbours),
    (ScaledMLPRegressor, convert_sklearn_mlp_regressor),
):
    update_registered_converter(_regressor, f"Millrace{_regressor.__name__}", _regressor_shapes, _writer)


LABEL_OUTPUT = "label"
_CENTRED = "centred_value"

#: Operator sets of ONNX; raised on purpose, not by an upgrade of the converter.
TARGET_OPSET = {"": 17, "ai.onnx.ml": 3}

#: Largest difference of a probability. float32 rounding makes about 1e-6; a row on the wrong side of a split, 1e-2.
PROBABILITY_TOLERANCE = 1e-4

#: Largest difference of a regression value, as a share of its size or of the values' spread, whichever is larger.
VALUE_TOLERANCE = 1e-4

#: Extreme numbers make large terms that cancel in a network. A form may differ from the estimator by this many times as
#: much as the estimator, in float32, differs from itself in float64.
ROUNDING_FACTOR = 16.0

#: Rows compared, before they are perturbed; enough to reach every part of a model.
MAX_PARITY_ROWS = 5_000

#: Extreme numbers are this many times the largest of their column.
EXTREME_FACTOR = 1_000.0

UNSEEN_STRING = "\N{REPLACEMENT CHARACTER} never seen in training"


def export_onnx(pipeline: Pipeline, features: FeatureMatrix, task: Task) -> bytes:
    """Convert a fitted pipeline; the same pipeline gives the same bytes in every process.

    Raises
    ------
    ModelExportError
        When the pipeline has no ONNX form.
    """
    inputs: list[tuple[str, Any]] = []
    if features.numbers.shape[1]:
        inputs.append((NUMBERS_INPUT, FloatTensorType([None, features.numbers.shape[1]])))
    if features.strings.shape[1]:
        inputs.append((STRINGS_INPUT, StringTensorType([None, features.strings.shape[1]])))
    round_thresholds_down(pipeline[-1])
    seen = Pipeline([*pipeline.steps[:-1], (pipeline.steps[-1][0], wrap_trees(pipeline[-1]))])
    if task == "regression":
        options, outputs = None, [(VALUE_OUTPUT, FloatTensorType([None, 1]))]
    else:
        options = {id(seen[-1]): {"zipmap": False}}
        outputs = [
            (LABEL_OUTPUT, Int64TensorType([None])),
            (PROBABILITIES_OUTPUT, FloatTensorType([None, len(pipeline[-1].classes_)])),
        ]
    try:
        model = convert_sklearn(
            seen,
            name="millrace",  # the default is a random name, which would make every artifact unique
            initial_types=inputs,
            final_types=outputs,
            options=options,
            target_opset=TARGET_OPSET,
        )
    except (RuntimeError, NotImplementedError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelExportError(f"{type(pipeline[-1]).__name__} could not be converted to ONNX") from error
    if isinstance(pipeline, ModelPipeline) and pipeline.is_centred:
        _restore_target(model.graph, pipeline.centre, pipeline.scale)
    elif isinstance(pipeline, ModelPipeline) and pipeline.is_logarithm:
        _raise_target(model.graph, pipeline.scale)
    # The converter takes them from a set, whose order follows from the hash seed of the process.
    imports = sorted(model.opset_import, key=lambda imported: imported.domain)
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return bytes(model.SerializeToString(deterministic=True))


def _restore_target(graph: GraphProto, centre: float, scale: float) -> None:
    """Scale the values of a target that was fitted around zero back, in float64."""
    for node in graph.node:
        node.output[:] = [_CENTRED if name == VALUE_OUTPUT else name for name in node.output]
    for name, value in (("target_scale", scale), ("target_centre", centre)):
        graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    graph.node.extend(
        [
            helper.make_node("Cast", [_CENTRED], ["centred_double"], name="to_double", to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["centred_double", "target_scale"], ["scaled"], name="scale_target"),
            helper.make_node("Add", ["scaled", "target_centre"], [VALUE_OUTPUT], name="move_target"),
        ]
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def _raise_target(graph: GraphProto, scale: float) -> None:
    """Take the values of a target whose logarithm was fitted back to its units."""
    for node in graph.node:
        node.output[:] = [_CENTRED if name == VALUE_OUTPUT else name for name in node.output]
    for name, value in (("target_scale", scale), ("target_one", 1.0)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], dtype=np.float32), name))
    graph.node.extend(
        [
            helper.make_node("Exp", [_CENTRED], ["raised"], name="raise_target"),
            helper.make_node("Sub", ["raised", "target_one"], ["less_one"], name="lower_target"),
            helper.make_node("Mul", ["less_one", "target_scale"], [VALUE_OUTPUT], name="scale_target"),
        ]
    )


def append_scaling(onnx_bytes: bytes, scaling: ProbabilityScaling) -> bytes:
    """Append a calibration to a classifier's graph: its outputs are those of before, and the raw probabilities."""
    model = ModelProto.FromString(onnx_bytes)
    graph = model.graph
    renamed = {PROBABILITIES_OUTPUT: RAW_PROBABILITIES_OUTPUT, LABEL_OUTPUT: "raw_label"}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    # The converter names the least version that its nodes need, which for numbers without gaps is none of these nodes'.
    for imported in model.opset_import:
        imported.version = max(imported.version, TARGET_OPSET[imported.domain])
    if all(imported.domain for imported in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", TARGET_OPSET[""]))
    (output,) = (output for output in graph.output if output.name == PROBABILITIES_OUTPUT)
    raw = graph.output.add()
    raw.CopyFrom(output)
    raw.name = RAW_PROBABILITIES_OUTPUT
    constants = {"least": SMALLEST_PROBABILITY, "weights": scaling.weights, "bias": scaling.bias}
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), f"scaling_{name}"))
    graph.node.extend(
        [
            helper.make_node("Clip", [RAW_PROBABILITIES_OUTPUT, "scaling_least"], ["positive"], name="scaling_clip"),
            helper.make_node("Log", ["positive"], ["log"], name="scaling_log"),
            helper.make_node("Mul", ["log", "scaling_weights"], ["weighted"], name="scaling_multiply"),
            helper.make_node("Add", ["weighted", "scaling_bias"], ["scores"], name="scaling_add"),
            helper.make_node("Softmax", ["scores"], [PROBABILITIES_OUTPUT], name="scaling_softmax", axis=1),
            helper.make_node("ArgMax", [PROBABILITIES_OUTPUT], [LABEL_OUTPUT], name="label", axis=1, keepdims=0),
        ]
    )
    return bytes(model.SerializeToString(deterministic=True))


def check_scaling(
    scaling: ProbabilityScaling, raw: OnnxModel, scaled: OnnxModel, features: FeatureMatrix, most: int = MAX_PARITY_ROWS
) -> None:
    """Compare the graph with the calibration's formula, on rows and perturbed copies; ``ModelExportError``."""
    rows = perturbed(features.take(np.arange(min(len(features), most))))
    difference = float(np.abs(scaled.run(rows) - scaling.apply(raw.run(rows))).max(initial=0.0))
    if not difference <= PROBABILITY_TOLERANCE:
        raise ModelExportError(f"the calibrated ONNX model differs from its formula by up to {difference:.2g}")


def round_thresholds_down(estimator: Any) -> None:
    """Round the split points of histogram gradient boosting to the float32 at or below; others are left alone.

    A split lies in the middle between two values, as float64. Where those are neighbours in float32 (Unix times are
    128 seconds apart there), the converter's rounding to the nearest may reach the upper one and send its rows the
    other way. For float32 rows ``x <= t`` is the same as ``x <= floor(t)``, so the estimator's predictions stay.
    """
    for iteration in getattr(estimator, "_predictors", ()):
        for tree in iteration:
            tree.nodes["num_threshold"] = round_down(tree.nodes["num_threshold"])


def predict_estimator(pipeline: Pipeline, features: FeatureMatrix, task: Task) -> npt.NDArray[Any]:
    """Return the estimator's own probabilities (n_rows, n_classes), or values (n_rows,) for regression."""
    table = FeatureTable(features)
    return np.asarray(pipeline.predict(table) if task == "regression" else pipeline.predict_proba(table))


def check_parity(
    pipeline: Pipeline, onnx_model: OnnxModel, features: FeatureMatrix, most: int = MAX_PARITY_ROWS
) -> ParityReport:
    """Compare a fitted estimator and its ONNX form on up to ``most`` rows of ``features`` and on perturbed copies.

    A regression's values are compared relative to their size (less the target's centre) or spread. What float32 itself
    loses of rows with extreme numbers (:data:`ROUNDING_FACTOR`) is no difference of the two forms.
    """
    task = onnx_model.schema.task
    rows = perturbed(features.take(np.arange(min(len(features), most))))
    expected = predict_estimator(pipeline, rows, task).astype(np.float64)
    actual = onnx_model.run(rows).astype(np.float64)
    if actual.shape != expected.shape:
        return ParityReport(float("inf"), len(rows), len(rows), passed=False)
    rounding = _rounding(pipeline, rows, expected, task)
    difference = np.maximum(0.0, np.abs(actual - expected) - rounding)
    if task == "regression":
        centre = pipeline.centre if isinstance(pipeline, ModelPipeline) else 0.0
        size = np.maximum(np.abs(expected - centre), np.std(expected[: max(1, len(rows) // _COPIES)]))
        difference = difference / np.where(size > 0, size, 1.0)
        mismatches, tolerance = 0, VALUE_TOLERANCE
    else:
        mismatches, tolerance = _label_mismatches(expected, actual, rounding[:, 0]), PROBABILITY_TOLERANCE
    largest = float(difference.max(initial=0.0)) if np.isfinite(difference).all() else float("inf")
    return ParityReport(largest, mismatches, len(rows), passed=largest <= tolerance and mismatches == 0)


def _rounding(pipeline: Pipeline, rows: FeatureMatrix, expected: npt.NDArray[Any], task: Task) -> npt.NDArray[Any]:
    """Return the tolerated rounding of each prediction, in the shape of ``expected``: none but for extreme numbers."""
    rounding = np.zeros_like(expected)
    copy = len(rows) // _COPIES
    extreme = slice(_EXTREME * copy, (_EXTREME + 1) * copy)
    if rows.numbers.shape[1]:
        wide = FeatureMatrix(rows.numbers[extreme].astype(np.float64), rows.strings[extreme])
        lost = np.abs(predict_estimator(pipeline, wide, task) - expected[extreme])
        rounding[extreme] = ROUNDING_FACTOR * lost.max(initial=0.0)
    return rounding


def _label_mismatches(expected: npt.NDArray[Any], actual: npt.NDArray[Any], rounding: npt.NDArray[Any]) -> int:
    """Count rows whose labels differ, except where the two best classes tie within rounding."""
    ordered = np.sort(expected, axis=1)
    tie = ordered[:, -1] - ordered[:, -2] <= PROBABILITY_TOLERANCE + 2 * rounding
    return int(np.sum((expected.argmax(axis=1) != actual.argmax(axis=1)) & ~tie))


#: The rows themselves, with missing values, with extreme numbers, with unseen strings.
_COPIES, _EXTREME = 4, 2


def perturbed(features: FeatureMatrix) -> FeatureMatrix:
    """Return the rows and three copies with missing values, extreme numbers and unseen strings, one column per row."""
    numbers = np.tile(features.numbers, (_COPIES, 1))
    strings = np.tile(features.strings.astype(object), (_COPIES, 1))
    rows = np.arange(len(features))
    missing, extreme, unseen = (rows + copy * len(rows) for copy in (1, 2, 3))
    if numbers.shape[1]:
        column = rows % numbers.shape[1]
        known = np.where(np.isfinite(features.numbers), np.abs(features.numbers), 0.0).astype(np.float64)
        largest = known.max(axis=0, initial=0.0)
        limit = float(np.finfo(np.float32).max) / EXTREME_FACTOR
        extremes = np.minimum(np.where(largest > 0, largest, 1.0) * EXTREME_FACTOR, limit)
        sign = np.where(rows // numbers.shape[1] % 2, -1.0, 1.0)
        numbers[missing, column] = np.nan
        numbers[extreme, column] = sign * extremes[column]
    if strings.shape[1]:
        column = rows % strings.shape[1]
        strings[missing, column] = MISSING_STRING
        strings[unseen, column] = UNSEEN_STRING
    return FeatureMatrix(numbers, strings.astype(np.str_))
