"""Rules that an ONNX graph of a user has to keep before it is opened: bounded, without other files, known operators.

Nothing here runs the graph. Control flow and functions are refused: a row of a request could make them run without a
bound. What the values of a row may decide is in :mod:`millrace.proposals.value_rules`.
"""

import math
from collections.abc import Iterator, Mapping

from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, checker, helper

from millrace.errors import InvalidInputError, first_line
from millrace.proposals.value_rules import check_values, names_of

#: Of the model with its tensors, whatever files they lie in.
MAX_MODEL_BYTES = 64_000_000
MAX_NODES = 20_000
#: Operator sets: older ones lack what the wrapper adds, later ones what ONNX Runtime's kernels are tested with.
OPSETS: Mapping[str, tuple[int, int]] = {"": (11, 24), "ai.onnx.ml": (1, 5)}
_LISTED = 5


_PLAIN_OPERATORS = names_of(
    "Abs Add And ArgMax ArgMin BatchNormalization Cast CastLike Ceil Clip Compress Concat Constant",
    "ConstantOfShape Cos CumSum Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather",
    "GatherElements GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid Hardmax Identity IsInf IsNaN",
    "LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max Mean Min Mish Mod Mul Neg Not",
    "OneHot Or PRelu Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean",
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements Selu Shape Sigmoid Sign",
    "Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tan Tanh TopK Transpose Trilu Unsqueeze",
    "Where Xor ZipMap",
)
_LEARNED_OPERATORS = names_of(
    "ArrayFeatureExtractor Binarizer CastMap CategoryMapper FeatureVectorizer Imputer LabelEncoder",
    "LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble",
    "TreeEnsembleClassifier TreeEnsembleRegressor ZipMap",
)
_OPERATORS = {"": _PLAIN_OPERATORS, "ai.onnx": _PLAIN_OPERATORS, "ai.onnx.ml": _LEARNED_OPERATORS}


def read_graph(body: bytes, files: Mapping[str, bytes]) -> ModelProto:
    """Parse an ONNX file and check it; tensors that lie in another of the model's ``files`` are taken from there.

    Raises
    ------
    InvalidInputError
        When it is no ONNX, too large, or breaks a rule; the message names it.
    """
    if len(body) > MAX_MODEL_BYTES:
        raise InvalidInputError(f"the ONNX file has {len(body):,} bytes; at most {MAX_MODEL_BYTES:,} are taken")
    try:
        model: ModelProto = ModelProto.FromString(body)
    except Exception as error:  # its class depends on protobuf's implementation
        raise InvalidInputError("the ONNX file cannot be parsed") from error
    if model.functions or model.training_info:
        raise InvalidInputError("the graph has functions or training information: export it for inference alone")
    _check_opsets(model)
    _check_nodes(model.graph)
    room = MAX_MODEL_BYTES - len(body)
    for tensor in _tensors(model.graph):
        room -= _take_inside(tensor, files, room)
    try:
        checker.check_model(model, full_check=True)
    except Exception as error:  # its classes have no base of their own
        raise InvalidInputError(f"ONNX's checker refuses the graph: {first_line(error)}") from error
    try:
        check_values(model)
    except InvalidInputError:
        raise
    except Exception as error:  # as above
        raise InvalidInputError(f"the graph cannot be read: {first_line(error)}") from error
    return model


def _check_opsets(model: ModelProto) -> None:
    for imported in model.opset_import:
        domain = "" if imported.domain == "ai.onnx" else imported.domain
        if domain not in OPSETS:
            raise InvalidInputError(f"operators of {imported.domain!r} are not taken, only those of ONNX itself")
        least, most = OPSETS[domain]
        if not least <= imported.version <= most:
            name = f"opset {imported.version}" + (f" of {domain}" if domain else "")
            raise InvalidInputError(f"{name} is not taken: export with target_opset from {least} to {most}")


def _check_nodes(graph: GraphProto) -> None:
    if len(graph.node) > MAX_NODES:
        raise InvalidInputError(f"the graph has {len(graph.node):,} nodes; at most {MAX_NODES:,} are taken")
    if not all(isinstance(name, str) for name in _names(graph)):
        # Protobuf's parser leaves these as bytes.
        raise InvalidInputError("a name in the graph is no text")
    unknown = {node.op_type for node in graph.node if node.op_type not in _OPERATORS.get(node.domain, frozenset())}
    if unknown:
        names = sorted(unknown)
        more = " ..." if len(names) > _LISTED else ""
        raise InvalidInputError(
            f"operators are not on the list of those that are taken: {', '.join(names[:_LISTED])[:200]}{more}"
        )
    nested = (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS)
    if graph.sparse_initializer or any(one.type in nested for node in graph.node for one in node.attribute):
        raise InvalidInputError("the graph has subgraphs or sparse tensors, which are not taken")


def _names(graph: GraphProto) -> Iterator[str]:
    yield graph.name
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        yield named.name


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _take_inside(tensor: TensorProto, files: Mapping[str, bytes], room: int) -> int:
    """Copy a tensor's bytes from another file of the model's folder into it; return their number, at most ``room``."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return 0
    entries = {entry.key: entry.value for entry in tensor.external_data}
    body = files.get(entries.get("location", ""))
    if body is None:
        raise InvalidInputError("a tensor lies in a file that is none of the logged model's")
    try:
        start = int(entries.get("offset", "0"))
        length = int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        stated = int(entries.get("length", length))
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidInputError("a tensor's place in another file cannot be read") from error
    if start < 0 or length < 0 or start + length > len(body) or stated != length:
        raise InvalidInputError("a tensor's place in another file is not inside it")
    if length > room:
        # Many tensors may lie over each other in a file.
        raise InvalidInputError(
            f"the graph with its tensors has more than the {MAX_MODEL_BYTES:,} bytes that are taken"
        )
    tensor.raw_data = body[start : start + length]
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")
    return length
