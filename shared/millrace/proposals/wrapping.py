"""The wrapper around a user's graph, after which it has the two inputs and the output of every model of Millrace.

The graph itself stays as it is, under names with a prefix. Before it, columns of ``numbers`` and ``strings`` become its
inputs; after it, its probabilities are brought into the order of the schema's classes, or its value into one column.
A whole number cannot say that it is missing: a row without one has no prediction (NaN).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, checker, compose, helper, numpy_helper

from millrace.errors import InvalidInputError, first_line
from millrace.proposals.value_rules import find_attribute
from millrace.schema import Column, TableSchema
from millrace.serving.model import NUMBERS_INPUT, PROBABILITIES_OUTPUT, STRINGS_INPUT, VALUE_OUTPUT

LABEL_OUTPUT = "label"
_PREFIX = "logged/"
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE})
_WHOLE = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL})
#: Of a graph without operators outside ``ai.onnx.ml``.
_OPSET, _IR_VERSION = 17, 8
_LISTED = 5


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input of a user's graph, and the columns that it takes, in order; ``rank`` 1 takes one without an axis."""

    name: str
    columns: tuple[str, ...]
    kind: int  # of its elements, as in ``TensorProto``
    rank: int

    @property
    def is_whole(self) -> bool:
        """True for integers and booleans, which cannot be missing."""
        return self.kind in _WHOLE

    @property
    def dtype(self) -> Any:
        """The elements' type in NumPy."""
        return np.dtype(object) if self.kind == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(self.kind)


@dataclass(frozen=True, slots=True)
class GraphOutputs:
    """The outputs of a user's graph that are used: the ``scores``, and the label where there is one.

    ``classes`` are those of the columns of ``scores``, if the graph itself names them; ``maps`` is the output whose
    dictionaries have the scores, ``scores`` then an inner tensor.
    """

    scores: str
    label: str | None = None
    maps: str | None = None
    classes: tuple[Any, ...] = ()


def find_inputs(model: ModelProto, columns: Sequence[str], schema: TableSchema) -> list[GraphInput]:
    """Return the inputs of a graph with their columns: each its own, or one input with all of the signature's.

    Raises ``InvalidInputError``, which names every column that does not fit.
    """
    inner = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in inner]
    if len(given) == 1 and (len(columns) > 1 or given[0].name != columns[0]):
        inputs = [_read_input(given[0], tuple(columns))]
    else:
        unknown = [value.name for value in given if value.name not in columns]
        if unknown:
            raise InvalidInputError(
                f"the graph's inputs {', '.join(unknown[:_LISTED])} are no columns of the signature: "
                "give it one input a column, or a single one with all columns"
            )
        inputs = [_read_input(value, (value.name,)) for value in given]
    faults = [fault for one in inputs for name in one.columns for fault in _describe_misfit(name, one, schema)]
    if faults:
        more = f", and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise InvalidInputError("; ".join(faults[:_LISTED]) + more)
    return inputs


def _read_input(value: ValueInfoProto, columns: tuple[str, ...]) -> GraphInput:
    tensor = value.type.tensor_type
    kind, dimensions = tensor.elem_type, list(tensor.shape.dim)
    if kind not in _FLOATS | _WHOLE | {TensorProto.STRING}:
        raise InvalidInputError(f"the input {value.name} takes neither numbers nor strings")
    if not 1 <= len(dimensions) <= 2 or dimensions[0].HasField("dim_value"):  # noqa: PLR2004 - rows and columns
        raise InvalidInputError(f"the input {value.name} must have any number of rows and one axis of columns")
    width = dimensions[1].dim_value if len(dimensions) > 1 and dimensions[1].HasField("dim_value") else len(columns)
    if width != len(columns) or (len(dimensions) == 1 and len(columns) > 1):
        raise InvalidInputError(f"the input {value.name} has {width} columns, and the signature {len(columns)}")
    return GraphInput(value.name, columns, kind, len(dimensions))


def _describe_misfit(name: str, taken: GraphInput, schema: TableSchema) -> list[str]:
    known: dict[str, Column] = {column.name: column for column in schema.features}
    column = known.get(name)
    if column is None:
        return [f"the model has no feature {name!r}"]
    takes_strings = taken.kind == TensorProto.STRING
    if column.type in ("datetime", "text"):
        return [f"{name} is a {column.type} here, and a logged model takes numbers and categories alone"]
    if takes_strings != (column.type == "category"):
        wanted = "strings" if takes_strings else "numbers"
        return [f"{name} is {_article(column.type)} here, and the graph takes {wanted}"]
    return []


def _article(column_type: str) -> str:
    return f"an {column_type}" if column_type == "integer" else f"a {column_type}"


def find_outputs(model: ModelProto, schema: TableSchema) -> GraphOutputs:
    """Return the outputs with the predictions; raises ``InvalidInputError`` where there is none, or several may be."""
    tensors = {value.name: value.type.tensor_type for value in model.graph.output if value.type.HasField("tensor_type")}
    floats = [name for name, tensor in tensors.items() if tensor.elem_type in _FLOATS]
    if schema.task == "regression":
        if len(floats) != 1:
            raise InvalidInputError(f"the graph has {len(floats)} outputs of decimals; a regression has one")
        return GraphOutputs(floats[0])
    labels = [name for name, tensor in tensors.items() if tensor.elem_type in (TensorProto.INT64, TensorProto.STRING)]
    label = labels[0] if len(labels) == 1 else None
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "ZipMap" and node.output[0] in outputs:
            return GraphOutputs(node.input[0], label, node.output[0], _read_labels(node))
    named = [name for name in floats if "prob" in name.lower()] or floats
    if len(named) != 1:
        raise InvalidInputError(f"the graph has {len(named)} outputs that may be probabilities: export one")
    found = {_read_labels(node) for node in model.graph.node} - {()}
    return GraphOutputs(named[0], label, None, next(iter(found)) if len(found) == 1 else ())


def _read_labels(node: Any) -> tuple[Any, ...]:
    for name in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
        values = find_attribute(node, name)
        if values:
            return tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values)
    return ()


def order_classes(found: Sequence[Any], schema: TableSchema) -> list[int]:
    """Return, for each class of the schema, the column of the graph's scores.

    Raises ``InvalidInputError`` when the classes are not the schema's.
    """
    places: dict[str, int] = {}
    for place, label in enumerate(found):
        places[_class_text(label, schema)] = place
    if len(found) != len(schema.classes) or places.keys() != set(schema.classes):
        shown = "" if schema.target.sensitive else f": {', '.join(map(str, found))[:200]}"
        raise InvalidInputError(
            f"the classes of the graph are not those of the model{shown}; log it with metadata={{'classes': [...]}}, "
            "the model's classes in the order of the probabilities"
        )
    return [places[name] for name in schema.classes]


def _class_text(label: Any, schema: TableSchema) -> str:
    text = str(label)
    if schema.target.type == "boolean" and text not in schema.classes:
        # Without strings of its own, a boolean target's classes are called so.
        return {"0": "false", "1": "true", "False": "false", "True": "true"}.get(text, text)
    return text


def wrap_graph(
    model: ModelProto,
    inputs: Sequence[GraphInput],
    outputs: GraphOutputs,
    order: Sequence[int],
    schema: TableSchema,
) -> bytes:
    """Return a graph with the inputs ``numbers`` and ``strings`` and the output of the schema's task.

    ``order`` has the column of the scores for each class. The same model gives the same bytes.
    """
    inner = ModelProto()
    inner.CopyFrom(model)
    _strip(inner, outputs)
    inner = compose.add_prefix(inner, _PREFIX)
    graph = inner.graph
    before, after = _Builder(graph, "before"), _Builder(graph, "after")
    lacking = [count for count in (_feed(before, one, schema) for one in inputs) if count is not None]
    scores = _PREFIX + outputs.scores
    if schema.task == "regression":
        _emit_value(after, scores, lacking)
    else:
        _emit_probabilities(after, scores, order, lacking)
    nodes = [*before.nodes, *graph.node, *after.nodes]
    for field_name in ("node", "input", "output", "value_info"):
        graph.ClearField(field_name)
    graph.node.extend(nodes)
    graph.input.extend(_describe_inputs(schema))
    graph.output.extend(_describe_outputs(schema))
    graph.name = "millrace"
    imports = {("" if one.domain == "ai.onnx" else one.domain): one.version for one in inner.opset_import}
    imports.setdefault("", _OPSET)
    inner.ClearField("opset_import")
    inner.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(imports.items()))
    inner.ir_version = max(inner.ir_version, _IR_VERSION)
    try:
        checker.check_model(inner, full_check=True)
    except Exception as error:  # its classes have no base of their own
        raise InvalidInputError(f"the graph cannot be wrapped: {first_line(error)}") from error
    return bytes(inner.SerializeToString(deterministic=True))


def _strip(model: ModelProto, outputs: GraphOutputs) -> None:
    """Remove what is for people, and the node that turns scores into dictionaries."""
    kept = [node for node in model.graph.node if outputs.maps is None or outputs.maps not in node.output]
    model.ClearField("metadata_props")
    model.graph.ClearField("node")
    model.graph.node.extend(kept)
    for document in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        document.doc_string = ""
    model.producer_name, model.producer_version, model.domain = "", "", ""
    inner = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in inner]
    model.graph.ClearField("input")
    model.graph.input.extend(given)


class _Builder:
    """Nodes and constants that are added to a graph."""

    def __init__(self, graph: GraphProto, prefix: str) -> None:
        self._graph, self._prefix = graph, prefix
        self.nodes: list[Any] = []
        self._count = 0

    def constant(self, values: Any) -> str:
        """Add a constant; returns its name."""
        name = f"constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        self._count += 1
        name = f"{self._prefix}_{operator.lower()}_{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output or name], name, **attributes))
        return output or name

    def cast(self, values: str, kind: int, output: str = "") -> str:
        """Add a cast; returns the name of its output."""
        return self.add("Cast", values, output=output, to=kind)


def _feed(builder: _Builder, taken: GraphInput, schema: TableSchema) -> str | None:
    """Add the nodes that make an input of columns; returns the number of whole numbers that a row lacks."""
    target, names = _PREFIX + taken.name, taken.columns
    shape = builder.constant(np.array([-1] if taken.rank == 1 else [-1, len(names)], dtype=np.int64))
    is_text = taken.kind == TensorProto.STRING
    known = schema.string_names if is_text else schema.number_names
    places = builder.constant(np.array([known.index(name) for name in names], dtype=np.int64))
    values = builder.add("Gather", STRINGS_INPUT if is_text else NUMBERS_INPUT, places, axis=1)
    if is_text:
        builder.add("Reshape", values, shape, output=target)
        return None
    centres = [schema.column(name).centre or 0.0 for name in names]
    if any(centres):
        values = builder.add("Add", builder.cast(values, TensorProto.DOUBLE), builder.constant(np.array([centres])))
    lacking = None
    if taken.is_whole:
        is_missing = builder.add("IsNaN", builder.cast(values, TensorProto.FLOAT))
        values = builder.add(
            "Where", is_missing, builder.constant(np.zeros(1, np.float64 if any(centres) else np.float32)), values
        )
        ones = builder.constant(np.ones((len(names), 1), dtype=np.float32))
        lacking = builder.add("MatMul", builder.cast(is_missing, TensorProto.FLOAT), ones)
    builder.add("Reshape", builder.cast(values, taken.kind), shape, output=target)
    return lacking


def _blank(builder: _Builder, scores: str, lacking: Sequence[str], output: str, dtype: Any) -> None:
    """Add the nodes after which rows that lack a whole number have no prediction."""
    if not lacking:
        builder.add("Identity", scores, output=output)
        return
    count = lacking[0]
    for other in lacking[1:]:
        count = builder.add("Add", count, other)
    is_blank = builder.add("Greater", count, builder.constant(np.zeros(1, dtype=np.float32)))
    builder.add("Where", is_blank, builder.constant(np.full(1, np.nan, dtype=dtype)), scores, output=output)


def _emit_value(builder: _Builder, scores: str, lacking: Sequence[str]) -> None:
    column = builder.add("Reshape", scores, builder.constant(np.array([-1, 1], dtype=np.int64)))
    _blank(builder, builder.cast(column, TensorProto.DOUBLE), lacking, VALUE_OUTPUT, np.float64)


def _emit_probabilities(builder: _Builder, scores: str, order: Sequence[int], lacking: Sequence[str]) -> None:
    single = builder.cast(scores, TensorProto.FLOAT)
    if list(order) != list(range(len(order))):
        single = builder.add("Gather", single, builder.constant(np.array(order, dtype=np.int64)), axis=1)
    _blank(builder, single, lacking, PROBABILITIES_OUTPUT, np.float32)
    builder.add("ArgMax", PROBABILITIES_OUTPUT, output=LABEL_OUTPUT, axis=1, keepdims=0)


def _describe_inputs(schema: TableSchema) -> list[ValueInfoProto]:
    widths = (
        (NUMBERS_INPUT, TensorProto.FLOAT, len(schema.number_names)),
        (STRINGS_INPUT, TensorProto.STRING, len(schema.string_names)),
    )
    return [helper.make_tensor_value_info(name, kind, [None, width]) for name, kind, width in widths if width]


def _describe_outputs(schema: TableSchema) -> list[ValueInfoProto]:
    if schema.task == "regression":
        return [helper.make_tensor_value_info(VALUE_OUTPUT, TensorProto.DOUBLE, [None, 1])]
    return [
        helper.make_tensor_value_info(LABEL_OUTPUT, TensorProto.INT64, [None]),
        helper.make_tensor_value_info(PROBABILITIES_OUTPUT, TensorProto.FLOAT, [None, len(schema.classes)]),
    ]
