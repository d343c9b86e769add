"""The check of a logged model: what is taken, with the author's numbers, and what is refused with the way out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from millrace.features import FeatureMatrix
from millrace.proposals.check import check_logged_model
from millrace.proposals.graph_rules import MAX_NODES, read_graph
from millrace.proposals.probes import ProbeRows
from millrace.schema import Column, TableSchema
from millrace.serving.model import OnnxModel
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.logged_models import as_columns, check, example_of, fit_columns, logged_files, to_onnx
from tests.prepared_data import Dataset, make_dataset

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset("binary", "both", rows=120)


@pytest.fixture(scope="module")
def pipeline(dataset: Dataset) -> Any:
    train = dataset.splits["train"]
    return fit_columns(train.features, np.array(dataset.schema.classes)[train.target])


@pytest.fixture(scope="module")
def files(dataset: Dataset, pipeline: Any) -> Files:
    example = example_of(dataset.splits["train"].features, dataset.schema)
    return logged_files(to_onnx(pipeline, dataset.schema), example["columns"], example)


def with_graph(files: Files, change: Callable[[ModelProto], object]) -> Files:
    model = ModelProto.FromString(files["model.onnx"])
    change(model)
    return {**files, "model.onnx": model.SerializeToString()}


def with_mlmodel(files: Files, text: bytes) -> Files:
    return {**files, "MLmodel": text}


def predictions(body: bytes, schema: TableSchema, features: FeatureMatrix) -> Any:
    return OnnxModel.load(body, schema).run(features)


@pytest.mark.parametrize("zipmap", [True, False])
def test_probabilities_are_those_of_the_pipeline(dataset: Dataset, pipeline: Any, files: Files, zipmap: bool) -> None:
    own = {**files, "model.onnx": to_onnx(pipeline, dataset.schema, zipmap=zipmap)}
    checked, body = check(own, dataset.schema)
    assert checked.outcome == "accepted", checked.reason
    assert checked.rows == checked.example_rows + 200
    rows = dataset.splits["test"].features
    np.testing.assert_allclose(
        predictions(body, dataset.schema, rows), pipeline.predict_proba(as_columns(rows)), atol=1e-5
    )
    assert check(own, dataset.schema)[1] == body


def test_classes_are_brought_into_the_order_of_the_schema(dataset: Dataset, files: Files) -> None:
    schema = replace(dataset.schema, classes=("yes", "no"))
    rows = dataset.splits["test"].features
    plain, turned = (predictions(check(files, one)[1], one, rows) for one in (dataset.schema, schema))
    np.testing.assert_array_equal(plain[:, ::-1], turned)


def test_a_regression_with_an_offset_keeps_its_digits() -> None:
    dataset = make_dataset("regression", "numbers only", rows=120)
    centred = [replace(one, centre=1_700_000_000.0) if one.name == "n0" else one for one in dataset.schema.columns]
    schema = replace(dataset.schema, columns=tuple(centred))
    given = dataset.splits["train"].features
    shifted = FeatureMatrix(given.numbers.astype(np.float64) + np.array([1.7e9, 0, 0]), given.strings)
    pipeline = fit_columns(shifted, dataset.splits["train"].target, is_regression=True)
    example = example_of(shifted, schema)
    checked, body = check(logged_files(to_onnx(pipeline, schema, wide=True), example["columns"], example), schema)
    assert checked.outcome == "accepted", checked.reason
    np.testing.assert_allclose(
        predictions(body, schema, given), pipeline.predict(as_columns(shifted)), atol=1e-3, rtol=1e-4
    )


def whole_number_files(inputs: list[Any], columns: list[str], rows: list[list[Any]]) -> tuple[Files, TableSchema]:
    """A graph of whole numbers: the value is the sum of its columns, in one input or one each."""
    nodes, names = [], []
    for value in inputs:
        names.append(f"{value.name}_decimal")
        nodes.append(helper.make_node("Cast", [value.name], [names[-1]], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Concat", names, ["all"], axis=1))
    nodes.append(helper.make_node("ReduceSum", ["all", "axes"], ["sum"], keepdims=1))
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "sum", inputs, [output], [numpy_helper.from_array(np.array([1]), "axes")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    schema = TableSchema(
        (Column("a", "integer"), Column("b", "integer"), Column("y", "number", role="target")), "regression"
    )
    return logged_files(model.SerializeToString(), columns, {"columns": columns, "data": rows}), schema


def test_one_input_takes_the_columns_in_the_order_of_the_signature() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    files, schema = whole_number_files(inputs, ["b", "a"], [[1, 2]])
    weights = numpy_helper.from_array(np.array([[1.0, 10.0]], dtype=np.float32), "weights")

    def weigh(model: ModelProto) -> None:
        model.graph.initializer.append(weights)
        model.graph.node[1].input[0] = "weighed"
        model.graph.node.insert(1, helper.make_node("Mul", ["x_decimal", "weights"], ["weighed"]))

    checked, body = check(with_graph(files, weigh), schema)
    assert checked.outcome == "accepted", checked.reason
    rows = FeatureMatrix(np.array([[3.0, 5.0]], dtype=np.float32), np.empty((1, 0)))
    assert predictions(body, schema, rows).tolist() == [5.0 + 30.0]


def test_a_row_without_a_whole_number_has_no_prediction() -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [None, 1]) for name in "ab"]
    files, schema = whole_number_files(inputs, ["a", "b"], [[1, 2], [None, 2]])
    checked, body = check(files, schema)
    assert checked.outcome == "accepted", checked.reason
    rows = FeatureMatrix(np.array([[3, 5], [np.nan, 5]], dtype=np.float32), np.empty((2, 0)))
    np.testing.assert_array_equal(predictions(body, schema, rows), [8.0, np.nan])


def test_tensors_beside_the_graph_are_taken_inside(dataset: Dataset, files: Files) -> None:
    model = ModelProto.FromString(files["model.onnx"])
    weights = np.arange(3, dtype=np.float32)
    inside = with_graph(files, lambda one: one.graph.initializer.append(numpy_helper.from_array(weights, "unused")))
    outside = numpy_helper.from_array(weights, "unused")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "4"), ("length", "12")):
        outside.external_data.add(key=key, value=value)
    model.graph.initializer.append(outside)
    beside = {**files, "model.onnx": model.SerializeToString(), "weights.bin": b"0123" + weights.tobytes()}
    assert check(beside, dataset.schema)[1] == check(inside, dataset.schema)[1] != b""
    checked, _ = check({**beside, "weights.bin": b"0123"}, dataset.schema)
    assert "not inside it" in checked.reason
    del beside["weights.bin"]
    assert "none of the logged model's" in check(beside, dataset.schema)[0].reason


def outside(name: str, location: str, rows: int) -> TensorProto:
    """A tensor of so many 32-bit numbers at the beginning of a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[rows], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize(
    ("locations", "reason"),
    [(["a.bin"] * 5, "more than the 100,000 bytes"), (["a.bin", "b.bin"], "b.bin has 80,000 bytes; at most 20,000")],
    ids=["tensors over each other", "files"],
)
def test_all_that_a_model_takes_inside_has_one_limit(
    dataset: Dataset, files: Files, locations: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{read_graph.__module__}.MAX_MODEL_BYTES", 100_000)
    monkeypatch.setattr(f"{check_logged_model.__module__}.MAX_MODEL_BYTES", 100_000)
    tensors = [outside(f"t{place}", location, 10_000) for place, location in enumerate(locations)]
    large = with_graph(files, lambda model: model.graph.initializer.extend(tensors))
    checked, _ = check({**large, **dict.fromkeys(locations, bytes(80_000))}, dataset.schema)
    assert reason in checked.reason


def test_more_files_than_are_taken_are_refused_as_such(dataset: Dataset, files: Files) -> None:
    checked, _ = check(files, dataset.schema, more_files=11)
    assert "has 14 files beside MLflow's folders; at most 3 are taken" in checked.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"flavors: {sklearn: {pickled_model: model.pkl}}", "no onnx flavor"),
        (b"flavors: {onnx: {data: ../model.onnx}}", "no file of the model's folder"),
        (b"flavors: {onnx: {data: model.onnx}}", "no signature"),
        (b'flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: \'[{"type": "tensor"}]\'}', "from a data frame"),
        (b'flavors: {onnx: {data: model.onnx}}\nsignature: {inputs: \'[{"name": "a"}]\'}', "no input example"),
        (b"!!python/object/apply:os.system ['true']", "no YAML"),
        (b"[" * 400, "no YAML"),
        (b"flavors: !!bool x", "no YAML"),
        (b"flavors: !!timestamp x", "no YAML"),
        (
            b'flavors: {onnx: {data: "\\ud800"}}\nsignature: {inputs: \'[{"name": "a"}]\'}\n%s'
            % b"saved_input_example_info: {type: dataframe, artifact_path: a}",
            "has no file ?",
        ),
        (b" " * 500_000, "at most 400,000"),
    ],
)
def test_a_model_that_is_not_logged_as_it_has_to_be_is_refused(
    dataset: Dataset, files: Files, text: bytes, reason: str
) -> None:
    checked, body = check(with_mlmodel(files, text), dataset.schema)
    assert (checked.outcome, body) == ("refused", b"")
    assert reason in checked.reason


def add_node(operator: str, **attributes: Any) -> Callable[[ModelProto], object]:
    domain = attributes.pop("domain", "")
    return lambda model: model.graph.node.append(helper.make_node(operator, [], ["extra"], domain=domain, **attributes))


def set_opset(version: int) -> Callable[[ModelProto], object]:
    return lambda model: setattr(model.opset_import[-1], "version", version)


def add_functions(model: ModelProto) -> None:
    model.functions.add(name="f")


def add_many_nodes(model: ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Neg", ["a"], ["b"])] * (MAX_NODES + 1))


def size_by_value(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "all"))
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["n0"], ["column"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["column", "all"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        ]
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add_node("RandomNormal", shape=[1]), "RandomNormal"),
        (add_node("Loop"), "Loop"),
        (add_node("Attention", domain="com.microsoft"), "Attention"),
        (lambda model: model.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "com.microsoft"),
        (set_opset(99), "target_opset"),
        (add_functions, "functions"),
        (add_many_nodes, "at most 20,000"),
        (size_by_value, "follows from values"),
        (lambda model: model.graph.node[0].ClearField("input"), "checker"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1), "number of rows"),
        (lambda model: model.graph.input.pop(), "checker"),
    ],
)
def test_a_graph_that_breaks_a_rule_is_refused(
    dataset: Dataset, files: Files, change: Callable[[ModelProto], object], reason: str
) -> None:
    checked, body = check(with_graph(files, change), dataset.schema)
    assert (checked.outcome, body) == ("refused", b"")
    assert reason in checked.reason


@pytest.mark.parametrize("name", [b"Concat", b"n0", b"ZipMap"])
def test_a_graph_with_names_that_are_no_text_is_refused(dataset: Dataset, files: Files, name: bytes) -> None:
    """Of an operator, an input and a node: protobuf's parser takes them."""
    body = files["model.onnx"].replace(name, b"\xff" * len(name))
    checked, _ = check({**files, "model.onnx": body}, dataset.schema)
    assert (checked.outcome, checked.reason) == ("refused", "a name in the graph is no text")


@pytest.mark.parametrize("body", [b"", b"\x80\x04pickle", b"\x08" * 100])
def test_what_is_no_onnx_is_refused(dataset: Dataset, files: Files, body: bytes) -> None:
    checked, _ = check({**files, "model.onnx": body}, dataset.schema)
    assert checked.outcome == "refused"


def with_columns(schema: TableSchema, changed: str, **changes: Any) -> TableSchema:
    columns = (replace(one, **changes) if one.name == changed else one for one in schema.columns)
    return replace(schema, columns=tuple(columns))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda schema: with_columns(schema, "n0", name="other"), "the model has no feature 'n0'"),
        (
            lambda schema: with_columns(schema, "n0", type="category"),
            "n0 is a category here",
        ),
        (lambda schema: with_columns(schema, "s0", type="integer"), "s0 is an integer here"),
        (lambda schema: with_columns(schema, "s0", type="text"), "numbers and categories alone"),
        (lambda schema: replace(schema, classes=("a", "b")), "are not those of the model"),
        (lambda schema: replace(schema, classes=("maybe", "no", "yes"), task="multiclass"), "each of the 3 classes"),
    ],
)
def test_a_model_of_another_schema_is_refused(
    dataset: Dataset, files: Files, change: Callable[[TableSchema], TableSchema], reason: str
) -> None:
    checked, _ = check(files, change(dataset.schema))
    assert checked.outcome == "refused"
    assert reason in checked.reason


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (b"{}", "no data frame"),
        (b'{"columns": ["n0"], "data": [[1, 2]]}', "no data frame"),
        (b'{"columns": ["n0"], "data": []}', "no rows"),
        (b'{"columns": ["n0"], "data": [["a long way"]]}', "cannot be a request"),
        (b'{"columns": ["n0"], "data": [[[1]]]}', "cannot be a request"),
        (b'{"columns": ["n0"], "data": [[1%s]]}' % (b"0" * 400), "cannot be a request"),
        (b'{"columns": ["n0"], "data": {"a": 1}}', "no data frame"),
    ],
)
def test_an_example_that_cannot_be_a_request_is_refused(
    dataset: Dataset, files: Files, example: bytes, reason: str
) -> None:
    checked, _ = check({**files, "input_example.json": example}, dataset.schema)
    assert checked.outcome == "refused"
    assert reason in checked.reason


def test_scores_that_are_no_probabilities_are_refused(dataset: Dataset, files: Files) -> None:
    def double(model: ModelProto) -> None:
        [zipmap] = [node for node in model.graph.node if node.op_type == "ZipMap"]
        model.graph.initializer.append(numpy_helper.from_array(np.array([2], dtype=np.float32), "two"))
        place = list(model.graph.node).index(zipmap)
        model.graph.node.insert(place, helper.make_node("Mul", [zipmap.input[0], "two"], ["doubled"]))
        zipmap.input[0] = "doubled"

    checked, _ = check(with_graph(files, double), dataset.schema)
    assert "no probabilities" in checked.reason


def test_a_model_that_mixes_rows_is_refused() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    files, schema = whole_number_files(inputs, ["a", "b"], [[1, 2], [3, 4]])

    def subtract_mean(model: ModelProto) -> None:
        model.graph.node[1].input[0] = "centred"
        model.graph.node.insert(1, helper.make_node("Sub", ["x_decimal", "mean"], ["centred"]))
        model.graph.node.insert(1, helper.make_node("ReduceMean", ["x_decimal"], ["mean"], axes=[0], keepdims=1))

    checked, _ = check(with_graph(files, subtract_mean), schema)
    assert "depends on the other rows" in checked.reason


def total(model: ModelProto, axes: list[int], *, keepdims: bool = True) -> None:
    """Let a graph of whole numbers sum over these axes."""
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(axes), "axes"))
    model.graph.node[-1].attribute[0].i = int(keepdims)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    for _ in range(2 if keepdims else 2 - len(axes)):
        model.graph.output[0].type.tensor_type.shape.dim.add()


def not_summed(model: ModelProto) -> None:
    model.graph.node.pop()
    model.graph.output[0].name = "all"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: total(model, [0, 1], keepdims=False), "another number of rows"),
        (lambda model: total(model, [0], keepdims=False), "another number of rows"),
        (not_summed, "2 values a row"),
    ],
)
def test_a_regression_has_one_value_a_row(change: Callable[[ModelProto], object], reason: str) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    files, schema = whole_number_files(inputs, ["a", "b"], [[1, 2], [3, 4]])
    checked, _ = check(with_graph(files, change), schema)
    assert reason in checked.reason


def test_a_graph_that_fails_where_a_whole_number_is_missing_is_refused() -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [None, 1]) for name in "ab"]
    files, schema = whole_number_files(inputs, ["a", "b"], [[1, 2], [None, 2]])

    schema = replace(schema, columns=(Column("a", "integer", minimum=1.0, maximum=3.0), *schema.columns[1:]))

    def embed(model: ModelProto) -> None:
        """Look up -3 to -1 of a table of three; a missing value is 0, which becomes -4."""
        for name, value in {"least": -4, "most": 5, "four": 4, "table": np.arange(3, dtype=np.float32)}.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        model.graph.node[0].CopyFrom(helper.make_node("Gather", ["table", "place"], ["a_decimal"]))
        model.graph.node.insert(0, helper.make_node("Sub", ["clipped", "four"], ["place"]))
        model.graph.node.insert(0, helper.make_node("Clip", ["a", "least", "most"], ["clipped"]))

    checked, _ = check(with_graph(files, embed), schema)
    assert "the graph fails on 202 rows as requests are read" in checked.reason


def test_an_example_without_a_complete_row_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [None, 1]) for name in "ab"]
    files, schema = whole_number_files(inputs, ["a", "b"], [[None, 2]])
    monkeypatch.setattr(ProbeRows, "complete_rows", lambda *_: np.empty(0, np.int64))
    assert "no row of the input example" in check(files, schema)[0].reason


def test_a_graph_is_run_on_as_many_rows_as_serving_scores_at_once() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    files, schema = whole_number_files(inputs, ["a", "b"], [[1, 2], [3, 4]])

    def add_one_where_rows_are_many(model: ModelProto) -> None:
        for name, value in {"first": 0, "many": 1_000}.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        last = model.graph.node.pop()
        last.input[0] = "more"
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["rows"]),
            helper.make_node("Greater", ["rows", "many"], ["are_many"]),
            helper.make_node("Cast", ["are_many"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["all", "one"], ["more"]),
        ]
        model.graph.node.extend([*nodes, last])

    checked, _ = check(with_graph(files, add_one_where_rows_are_many), schema)
    assert "depends on the other rows" in checked.reason


def test_a_value_with_more_digits_than_32_bits_is_noticed() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 2])]
    files, schema = whole_number_files(inputs, ["a", "b"], [[123_456_789, -123_456_780]])

    def add_doubles(model: ModelProto) -> None:
        model.graph.node.pop(0)
        model.graph.node[0].input[0] = "x"
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    checked, _ = check(with_graph(files, add_doubles), schema)
    assert "more digits than 32 bits" in checked.reason
