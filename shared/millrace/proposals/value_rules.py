"""Rules of an ONNX graph that no row of a request may break, whatever its values.

A row's values decide what is predicted, and nothing else: not how large a tensor is, not whether a request fails or the
process ends. Sizes are numbers of rows and constants, without arithmetic: they cannot be small in the check and large
for another number of rows below that of the check.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from millrace.errors import InvalidInputError


def names_of(*lines: str) -> frozenset[str]:
    """Return names that are written in lines, with blanks between them."""
    return frozenset(name for line in lines for name in line.split())


_REDUCTIONS = names_of(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)
_DECIMALS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
#: Of ``ai.onnx.ml``, whose last outputs are decimals but for an imputer's.
_UNTYPED = names_of(
    "FeatureVectorizer Imputer LinearRegressor Normalizer SVMRegressor Scaler TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
)
#: Inputs that say how large an output is, or along which axis something is done.
_SIZES: Mapping[str, tuple[int, ...]] = {
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "OneHot": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
} | dict.fromkeys(_REDUCTIONS, (1,))
#: Inputs that say which places of a tensor are read or written.
_PLACES: Mapping[str, int] = {
    "ArrayFeatureExtractor": 1,
    "Gather": 1,
    "GatherElements": 1,
    "GatherND": 1,
    "ScatterElements": 1,
}
#: After which a size is still one, if their other inputs are constants.
_KEEPING_SIZES = frozenset({"Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"})
#: After which few values are few.
_KEEPING_FEW = names_of(
    "Add ArrayFeatureExtractor Cast Concat Div Expand Flatten Gather GatherElements GatherND Identity Mul Reshape",
    "Slice Squeeze Sub Transpose Unsqueeze",
)


def check_values(model: ModelProto) -> None:
    """Refuse a graph in which values of a row decide more than its prediction; its shapes have to be checked already.

    Raises
    ------
    InvalidInputError
        Names the operator, and the way out.
    """
    constants = find_constants(model.graph)
    kinds = _infer_types(model)
    _check_sizes(model.graph, constants)
    _check_places(model.graph, constants, kinds)
    for node in model.graph.node:
        _check_node(node, constants, kinds)


def _check_sizes(graph: GraphProto, constants: Iterable[str]) -> None:
    """Refuse a size that is neither a number of rows nor a constant."""
    fixed = {*constants, ""}
    sizes = set(fixed)
    for node in graph.node:  # in the order of their dependencies
        if any(name not in sizes for name in _pick(node, _SIZES.get(node.op_type, ()))):
            raise InvalidInputError(
                f"an input of {node.op_type} that says how large its output is, or along which axis, follows from "
                "values or arithmetic: it has to be of constants and numbers of rows, or -1"
            )
        if fixed.issuperset(node.input):
            fixed.update(node.output)
        # A narrower whole number overflows, and is then small for many rows.
        is_kept = node.op_type in _KEEPING_SIZES and find_attribute(node, "to") in (None, TensorProto.INT64)
        is_kept = is_kept and fixed.issuperset(node.input[1:])
        is_computed = is_kept or node.op_type == "Concat" or fixed.issuperset(node.input)
        if node.op_type == "Shape" or (is_computed and sizes.issuperset(node.input)):
            sizes.update(node.output)


def _check_places(graph: GraphProto, constants: Mapping[str, npt.NDArray[Any]], kinds: Mapping[str, int]) -> None:
    """Refuse places that any number of a row may name: one outside its tensor fails the whole request."""
    few = {*constants, ""}
    zeros = {name for name, values in constants.items() if values.dtype.kind in "iu" and not values.any()}
    for node in graph.node:
        place = _PLACES.get(node.op_type)
        if place is not None and any(name not in few for name in _pick(node, (place,))):
            raise InvalidInputError(
                f"a row's value is a place that {node.op_type} takes, and one outside fails the whole request: "
                "clip it as a whole number, or encode it with LabelEncoder"
            )
        # A whole number times zero: so skl2onnx numbers the rows.
        is_zero = node.op_type == "Mul" and not zeros.isdisjoint(node.input)
        if is_zero or _has_few_values(node, few, kinds):
            # The first output of TopK are values.
            few.update(node.output[1:] if node.op_type == "TopK" else node.output)


def _has_few_values(node: NodeProto, few: set[str], kinds: Mapping[str, int]) -> bool:
    """Return whether the graph bounds a node's values; ``few`` are the tensors of which that is known."""
    given = list(node.input)
    match node.op_type:
        case "ArgMax" | "ArgMin" | "CategoryMapper" | "LabelEncoder" | "TopK":
            return True
        case "Clip":
            # A clipped decimal may be NaN, which is no place.
            is_whole = kinds.get(given[0], TensorProto.FLOAT) not in _DECIMALS
            return is_whole and len(given) == 3 and "" not in given and few.issuperset(given[1:])  # noqa: PLR2004 - both bounds
        case "Cast" if kinds.get(given[0]) == TensorProto.BOOL:
            return True
        case "Where":
            return few.issuperset(given[1:])
        case _:
            return node.op_type in _KEEPING_FEW and few.issuperset(given)


def _check_node(node: NodeProto, constants: Mapping[str, npt.NDArray[Any]], kinds: Mapping[str, int]) -> None:
    """Refuse an operator that fails for some values, ends the process, or draws random numbers."""
    match node.op_type:
        case "Div" | "Mod":
            divisor = constants.get(node.input[1])
            # Both operands have one type; one that cannot be inferred counts as whole.
            is_whole = not any(kinds.get(name) in _DECIMALS for name in node.input)
            if is_whole and (divisor is None or np.isin(divisor, (0, -1)).any()):
                raise InvalidInputError(
                    f"{node.op_type} of whole numbers divides by values, or by 0 or -1: a row could end the process; "
                    "cast to decimals before it"
                )
        case "Cast" | "CastLike" if kinds.get(node.input[0]) == TensorProto.STRING:
            raise InvalidInputError(
                f"{node.op_type} reads numbers from strings, and fails the whole request for others: encode them with "
                "LabelEncoder"
            )
        case "OneHotEncoder" if find_attribute(node, "zeros") == 0:
            raise InvalidInputError("OneHotEncoder fails for unseen categories: export it with zeros=1")
        case "Dropout" if any(name not in constants or constants[name].any() for name in _pick(node, (2,))):
            raise InvalidInputError("Dropout is in training mode, which draws random numbers: export for inference")


def _pick(node: NodeProto, places: Iterable[int]) -> list[str]:
    """Return the names of those inputs that a node has."""
    return [node.input[place] for place in places if place < len(node.input) and node.input[place]]


def find_constants(graph: GraphProto) -> dict[str, npt.NDArray[Any]]:
    """Return the graph's numbers that are the same for all rows, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    values: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                value = helper.get_attribute_value(attribute)
                (tensors if isinstance(value, TensorProto) else values)[node.output[0]] = value
    arrays = {name: numpy_helper.to_array(one) for name, one in tensors.items()}
    return arrays | {name: np.asarray(value) for name, value in values.items()}


def _infer_types(model: ModelProto) -> dict[str, int]:
    """Return the type of elements by the name of a tensor, as far as it can be inferred."""
    known = ModelProto()
    known.CopyFrom(model)
    # What the file says of its inner tensors is believed where nothing can be inferred.
    known.graph.ClearField("value_info")
    for node in known.graph.node:
        # ONNX has no inference for these in some versions, and without a type nothing after them has one.
        if node.op_type in _UNTYPED and (node.op_type != "TreeEnsembleClassifier" or len(node.output) > 1):
            is_whole = node.op_type == "Imputer" and find_attribute(node, "imputed_value_int64s")
            kind = TensorProto.INT64 if is_whole else TensorProto.FLOAT
            known.graph.value_info.append(helper.make_tensor_value_info(node.output[-1], kind, None))
    graph = shape_inference.infer_shapes(known).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def find_attribute(node: Any, name: str) -> Any:
    """Return an attribute's value; None where the node has none of that name."""
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return None
