"""Random graphs that keep the rules: whatever the numbers of its rows, none fails, ends the process or changes a size.

A graph that is taken and ends the process ends the test run too. `FUZZ_EXAMPLES=20000` draws that many, others each
time; without the rules, a few thousand have all three faults.
"""

import os
import random

import numpy as np
import onnxruntime
from millrace.errors import InvalidInputError
from millrace.proposals.graph_rules import read_graph
from millrace.proposals.value_rules import names_of
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
SEED = random.randrange(2**32) if "FUZZ_EXAMPLES" in os.environ else 1
UNARY = sorted(
    names_of(
        "Abs Neg Ceil Floor Round Sign Sqrt Exp Log Not IsNaN IsInf Identity Shape Flatten Relu Sigmoid Softmax",
        "Reciprocal Hardmax Transpose ConstantOfShape",
    )
)
BINARY = sorted(
    names_of(
        "Add Sub Mul Div Mod Pow Max Min Less Greater Equal And Or Xor MatMul Gather GatherElements GatherND Reshape",
        "Expand TopK Compress Squeeze Unsqueeze ReduceSum CumSum Split Trilu Concat ArrayFeatureExtractor",
    )
)
TERNARY = ["Slice", "OneHot", "ScatterElements", "Where", "Clip"]
KINDS = [
    TensorProto.INT64,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.FLOAT,
    TensorProto.BOOL,
    TensorProto.DOUBLE,
    TensorProto.INT8,
]
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "three": np.array(3),
    "zeros": np.array([0]),
    "ones": np.array([1]),
    "minus": np.array([-1]),
    "twos": np.array([2]),
    "shape": np.array([-1, 2]),
    "places": np.array([[0, 1]]),
    "numbers": np.arange(5),
    "depth": np.array([0, 1], np.float32),
    "table": np.arange(6, dtype=np.float32),
    "matrix": np.arange(6, dtype=np.float32).reshape(3, 2),
    "low": np.array(0, np.float32),
    "high": np.array(3, np.float32),
}
ATTRIBUTES = {
    "Concat": {"axis": (0, 1)},
    "Gather": {"axis": (0, 1)},
    "GatherElements": {"axis": (0, 1)},
    "Mod": {"fmod": (0, 1)},
    "Split": {"axis": (1,)},
}
USUAL = np.array([[0.3, 0.7], [0.5, 0.1], [1, 0], [0, 1], [1, 1]] * 2, np.float32)
HOSTILE = np.array([[9.3e18, -9.3e18], [np.nan, np.inf], [-np.inf, 0], [1e38, -1e38], [-(2.0**63), -1]] * 2, np.float32)


def draw_nodes(draw: random.Random) -> list[NodeProto]:
    """Draw a chain of nodes from ``x`` to ``y``, most of which take what the one before gives."""
    nodes: list[NodeProto] = []
    known = ["x"]
    for number in range(draw.randrange(2, 8)):
        kind = draw.random()
        if kind < 0.3:
            nodes.append(helper.make_node("Cast", [known[-1]], [f"t{number}"], to=draw.choice(KINDS)))
        else:
            many, operators = (1, UNARY) if kind < 0.45 else (2, BINARY) if kind < 0.9 else (3, TERNARY)
            operator = draw.choice(operators)
            given = [known[-1], *(draw.choice([*known, *CONSTANTS]) for _ in range(many - 1))]
            if operator == "OneHot":
                given[2] = "depth"
            elif many == 2 and draw.random() < 0.3:
                given.reverse()
            outputs = [f"t{number}", *([f"t{number}'"] if operator in ("TopK", "Split") else [])]
            attributes = {name: draw.choice(values) for name, values in ATTRIBUTES.get(operator, {}).items()}
            domain = "ai.onnx.ml" if operator == "ArrayFeatureExtractor" else ""
            nodes.append(helper.make_node(operator, given, outputs, domain=domain, **attributes))
        known += reversed(nodes[-1].output)
    return [*nodes, helper.make_node("Cast", [known[-1]], ["y"], to=TensorProto.FLOAT)]


def take(nodes: list[NodeProto]) -> bytes | None:
    """Return the graph of these nodes if it keeps the rules."""
    constants = [numpy_helper.from_array(values, name) for name, values in CONSTANTS.items()]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, result, constants), opset_imports=imports, ir_version=8
    )
    try:
        model.graph.output[0].CopyFrom(shape_inference.infer_shapes(model).graph.output[0])
        model.graph.output[0].type.tensor_type.shape.SetInParent()
        return bytes(read_graph(model.SerializeToString(), {}).SerializeToString())
    except (InvalidInputError, shape_inference.InferenceError):
        return None


def test_no_row_breaks_a_random_graph_that_keeps_the_rules() -> None:
    draw, options, ran = random.Random(SEED), onnxruntime.SessionOptions(), 0
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    for _ in range(EXAMPLES):
        nodes = draw_nodes(draw)
        body = take(nodes)
        if body is None:
            continue
        try:
            session = onnxruntime.InferenceSession(body, options)
            (usual,) = session.run(None, {"x": USUAL})
        except Exception:  # noqa: BLE001, S112 - its exceptions have no base class; it fails for rows of every kind
            continue
        (hostile,) = session.run(None, {"x": HOSTILE})
        assert hostile.shape == usual.shape, [(node.op_type, list(node.input)) for node in nodes]
        ran += 1
    assert ran > EXAMPLES / 20
