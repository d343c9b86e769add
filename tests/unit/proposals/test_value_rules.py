"""Rules of a graph that no row of a request may break: divisions, sizes, places, and operators that fail for values."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from millrace.errors import InvalidInputError
from millrace.proposals.graph_rules import read_graph
from millrace.proposals.value_rules import check_values
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Node = NodeProto


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Node:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def make_graph(nodes: Sequence[Node], **constants: Any) -> bytes:
    """Return a graph with the input ``x``, and the output ``y``, both decimals of two columns."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])
    kept = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = helper.make_graph(list(nodes), "g", [given], [result], kept)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


def check_alone(nodes: Sequence[Node], **constants: Any) -> None:
    """Check values alone, whatever ranks ONNX's checker finds."""
    check_values(ModelProto.FromString(make_graph(nodes, **constants)))


def whole_division(operator: str, divisor: str) -> list[Node]:
    return [
        node("Cast", "x", "whole", to=TensorProto.INT64),
        node("Constant", "", "three", value_ints=[3, 3]),
        node("Constant", "", "inner", value=numpy_helper.from_array(np.array([-1]), "v")),
        node(operator, f"whole {divisor}", "part"),
        node("Cast", "part", "y", to=TensorProto.FLOAT),
    ]


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("divisor", ["minus", "zero", "whole", "inner"])
def test_whole_numbers_are_not_divided_by_what_a_row_can_make_a_fault_of(operator: str, divisor: str) -> None:
    body = make_graph(whole_division(operator, divisor), minus=np.array([2, -1]), zero=np.array(0))
    with pytest.raises(InvalidInputError, match=f"{operator} of whole numbers"):
        read_graph(body, {})


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("divisor", ["seven", "three"])
def test_whole_numbers_are_divided_by_constants(operator: str, divisor: str) -> None:
    assert read_graph(make_graph(whole_division(operator, divisor), seven=np.array([7])), {}).graph.node


@pytest.mark.parametrize("learned", ["Scaler", "Normalizer", "Imputer"])
def test_decimals_are_divided_by_values(learned: str) -> None:
    attributes = {"Imputer": {"imputed_value_floats": [0.0], "replaced_value_float": float("nan")}}
    nodes = [
        node(learned, "x", "scaled", domain="ai.onnx.ml", **attributes.get(learned, {})),
        node("Neg", "scaled", "turned"),
        node("Div", "scaled turned", "y"),
    ]
    assert read_graph(make_graph(nodes), {}).graph.node


def test_the_values_of_trees_are_decimals_in_every_version_of_the_operator() -> None:
    nodes = [node("TreeEnsembleRegressor", "x", "sum", domain="ai.onnx.ml"), node("Div", "sum sum", "y")]
    model = ModelProto.FromString(make_graph(nodes))
    model.opset_import[1].version = 1
    check_values(model)


@pytest.mark.parametrize("claimed", [False, True])
def test_an_imputer_of_whole_numbers_gives_whole_numbers_whatever_the_file_says(claimed: bool) -> None:
    attributes = {"imputed_value_int64s": [0], "replaced_value_int64": -1}
    nodes = [
        node("Cast", "x", "whole", to=TensorProto.INT64),
        node("Imputer", "whole", "full", domain="ai.onnx.ml", **attributes),
        node("Div", "full full", "part"),
        node("Cast", "part", "y", to=TensorProto.FLOAT),
    ]
    model = ModelProto.FromString(make_graph(nodes))
    if claimed:
        for name in ("full", "part"):
            model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    with pytest.raises(InvalidInputError, match="Div of whole numbers"):
        check_values(model)


WHOLE = node("Cast", "x", "whole", to=TensorProto.INT64)
SHAPE = node("Shape", "x", "shape")
CONSTANTS = {
    "two": np.array(2),
    "twos": np.array([2]),
    "huge": np.array([10**11]),
    "first": np.array([0]),
    "last": np.array([1]),
    "table": np.arange(4, dtype=np.float32),
    "column": np.arange(4, dtype=np.float32).reshape(4, 1),
    "depth": np.array([0, 1], dtype=np.float32),
    "is": np.array(True),
    "not": np.array(False),
    "low": np.array(0),
    "high": np.array(3),
}
BY_VALUE = [
    [node("Less", "x x", "chosen"), node("Reshape", "chosen all", "flat"), node("Compress", "x flat", "y")],
    [WHOLE, node("Slice", "x first whole", "y")],
    [WHOLE, node("Reshape", "x whole", "y")],
    [WHOLE, node("Expand", "x whole", "y")],
    [WHOLE, node("OneHot", "first whole depth", "y")],
    [WHOLE, node("TopK", "x whole", "y which")],
    [WHOLE, node("Split", "x whole", "y")],
    [WHOLE, node("Trilu", "x whole", "y")],
    [WHOLE, node("CumSum", "x whole", "y")],
    [WHOLE, node("Squeeze", "x whole", "y")],
    [WHOLE, node("Unsqueeze", "x whole", "y")],
    [WHOLE, node("ReduceSum", "x whole", "y")],
    [SHAPE, node("Greater", "shape two", "is_large"), node("Where", "is_large huge twos", "size")],
    [SHAPE, node("Pow", "shape shape", "size")],
    [SHAPE, node("Mul", "shape huge", "size")],
    [SHAPE, node("Sub", "huge shape", "size")],
    [SHAPE, node("Cast", "shape", "narrow", to=TensorProto.INT8), node("Cast", "narrow", "size", to=TensorProto.INT64)],
    [SHAPE, node("Gather", "huge shape", "size")],
    [WHOLE, node("Shape", "x", "rows"), node("Add", "rows whole", "size")],
]


@pytest.mark.parametrize("nodes", BY_VALUE)
def test_sizes_are_numbers_of_rows_and_constants(nodes: list[Node]) -> None:
    if nodes[-1].output[0] == "size":
        nodes = [*nodes, node("ConstantOfShape", "size", "y")]
    with pytest.raises(InvalidInputError, match="that says how large its output is"):
        check_alone(nodes, all=np.array([-1]), **CONSTANTS)


def test_sizes_of_shapes_and_constants_are_taken() -> None:
    nodes = [
        SHAPE,
        node("Gather", "shape first", "rows", axis=0),
        node("Cast", "rows", "same", to=TensorProto.INT64),
        node("Concat", "same last twos", "size", axis=0),
        node("Expand", "table_of_one size", "wide"),
        node("Mul", "twos twos", "four"),
        node("Concat", "rest four", "target", axis=0),
        node("Reshape", "wide target", "y"),
    ]
    body = make_graph(nodes, table_of_one=np.ones((1, 1, 1), np.float32), rest=np.array([-1]), **CONSTANTS)
    assert read_graph(body, {}).graph.node


@pytest.mark.parametrize(
    ("operator", "data", "domain"),
    [("Gather", "table", ""), ("ArrayFeatureExtractor", "table", "ai.onnx.ml"), ("GatherElements", "column", "")],
)
@pytest.mark.parametrize(
    "place",
    [
        [WHOLE],
        [node("Clip", "x least most", "clipped"), node("Cast", "clipped", "whole", to=TensorProto.INT64)],
        [node("TopK", "x twos", "best which"), node("Cast", "best", "whole", to=TensorProto.INT64)],
    ],
    ids=["a value", "a clipped decimal, which may be NaN", "a largest value"],
)
def test_a_place_that_any_row_may_name_is_refused(operator: str, data: str, domain: str, place: list[Node]) -> None:
    bounds = {"least": np.array(0, np.float32), "most": np.array(3, np.float32)}
    nodes = [*place, node(operator, f"{data} whole", "y", domain=domain)]
    with pytest.raises(InvalidInputError, match=f"a place that {operator} takes"):
        read_graph(make_graph(nodes, **bounds, **CONSTANTS), {})


@pytest.mark.parametrize(
    "place",
    [
        [WHOLE, node("Clip", "whole low high", "place")],
        [node("ArgMax", "x", "place", axis=1)],
        [node("ArgMax", "x", "best", axis=1), node("Add", "best two", "place")],
        [node("Less", "x x", "chosen"), node("Cast", "chosen", "place", to=TensorProto.INT64)],
        [WHOLE, node("Mul", "whole low", "none"), node("Add", "none two", "place")],
        [node("TopK", "x last", "best which"), node("GatherElements", "which which", "place")],
        [node("LabelEncoder", "x", "place", domain="ai.onnx.ml", keys_floats=[1.0], values_int64s=[2])],
    ],
)
def test_places_that_the_graph_bounds_are_taken(place: list[Node]) -> None:
    assert read_graph(make_graph([*place, node("Gather", "table place", "y")], **CONSTANTS), {}).graph.node


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (
            [node("Cast", "x", "text", to=TensorProto.STRING), node("Cast", "text", "y", to=TensorProto.FLOAT)],
            "reads numbers from strings",
        ),
        ([WHOLE, node("OneHotEncoder", "whole", "y", domain="ai.onnx.ml", cats_int64s=[1, 2], zeros=0)], "zeros=1"),
        ([node("Dropout", "x half is", "y")], "random numbers"),
        ([node("Greater", "x x", "training"), node("Dropout", "x half training", "y")], "random numbers"),
    ],
)
def test_operators_that_fail_for_a_value_or_draw_random_numbers_are_refused(nodes: list[Node], reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        check_alone(nodes, half=np.array(0.5, np.float32), **CONSTANTS)


@pytest.mark.parametrize("training", ["", "not"])
def test_dropout_for_inference_is_taken(training: str) -> None:
    nodes = [helper.make_node("Dropout", ["x", "half", training], ["y"])]
    assert read_graph(make_graph(nodes, half=np.array(0.5, np.float32), **CONSTANTS), {}).graph.node


def test_no_row_ends_the_process_that_serves_an_accepted_graph(tmp_path: Path) -> None:
    """In a process of its own: without the rule it dies by a signal."""
    (tmp_path / "model.onnx").write_bytes(make_graph(whole_division("Div", "minus"), minus=np.array([-1])))
    script = """
import sys, numpy, onnxruntime
from millrace.errors import InvalidInputError
from millrace.proposals.graph_rules import read_graph
try:
    body = read_graph(open(sys.argv[1], "rb").read(), {}).SerializeToString()
except InvalidInputError:
    print("refused")
else:
    session = onnxruntime.InferenceSession(body)
    print(session.run(None, {"x": numpy.full((1, 2), -9.3e18, numpy.float32)}))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model.onnx")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "shared"},
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "refused\n"), ended.stderr
