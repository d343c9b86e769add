import json
from typing import Any

import pytest
from millrace.errors import InvalidInputError, ModelNotFoundError, ModelNotReadyError, PayloadTooLargeError
from millrace.schema import Column, TableSchema
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.serving.protocols.open_inference import OPEN_INFERENCE, describe_model
from millrace.serving.request import PredictionRequest, RecordsTable, Request
from millrace.serving.rows import RowWarning
from millrace.serving.scoring import Scores

FEATURES = (Column("a", "integer"), Column("b", "category"), Column("since", "datetime"), Column("on", "boolean"))


def schema(target: Column, task: Any = "binary", classes: tuple[str, ...] = ("0", "1")) -> TableSchema:
    return TableSchema((*FEATURES, target), task, classes)


SCHEMA = schema(Column("y", "integer", "target"))


def loaded(table: TableSchema) -> LoadedModel:
    return LoadedModel("churn", 3, OnnxModel(None, table), table)


def tensor(name: str, values: Any, datatype: str = "INT64", shape: Any = None, **others: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(values)], "data": values, **others}


def read(*inputs: Any, **others: Any) -> PredictionRequest:
    body = json.dumps({"inputs": list(inputs), **others}).encode()
    return OPEN_INFERENCE.read(Request(body, {"content-type": "application/json"}, {}), SCHEMA, 3)


def refusal(*inputs: Any, **others: Any) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        read(*inputs, **others)
    return [f"{fault.field} {fault.message}" for fault in caught.value.fields] or [caught.value.message]


@pytest.mark.parametrize(
    ("values", "shape"), [([1, 2], [2]), ([1, 2], [2, 1]), ([[1], [2]], [2, 1]), ([[1, 2]], [2]), ([1, None], [2])]
)
def test_a_column_is_read_flat_or_nested(values, shape):
    column = list(read(tensor("a", values, shape=shape)).table.column("a"))
    assert column in ([1, 2], [1, None])


@pytest.mark.parametrize("width", ["8", "16", "32", "64"])
@pytest.mark.parametrize("kind", ["INT", "UINT"])
def test_integers_of_every_width_are_read(kind, width):
    assert list(read(tensor("a", [1, 2], f"{kind}{width}")).table.column("a")) == [1, 2]
    assert refusal(tensor("a", [1.5], f"{kind}{width}")) == [
        f"inputs[0].data expects values of {kind}{width}, got a fraction"
    ]


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("FP16", [1, 0.5, None], ["x"]),
        ("FP32", [1, 0.5, None], [True]),
        ("FP64", [1, 0.5, None], [[]]),
        ("BOOL", [True, 0, None], [0.5]),
        ("BYTES", ["x", "", None], [1]),
    ],
)
def test_a_datatype_is_what_its_values_are(datatype, good, bad):
    assert list(read(tensor("a", good, datatype)).table.column("a")) == good
    assert refusal(tensor("a", bad, datatype, [1]))[0].startswith("inputs[0].data ")


def test_one_tensor_of_two_dimensions_holds_every_feature_in_order():
    flat = ["1", "x", "2024-01-01", "true", "2", "y", "2024-01-02", "false"]
    for data in (flat, [flat[:4], flat[4:]]):
        table = read(tensor("input-0", data, "BYTES", [2, 4])).table
        assert [list(table.column(name)) for name in ("a", "b")] == [["1", "2"], ["x", "y"]]


def test_an_id_and_outputs_are_kept():
    asked = read(tensor("a", [1]), id="r", outputs=[{"name": "probabilities", "parameters": {"binary_data": False}}])
    assert (asked.request_id, asked.outputs) == ("r", ("probabilities",))
    assert read(tensor("a", [1]), id="").request_id is None


@pytest.mark.parametrize(
    ("inputs", "others", "faults"),
    [
        ([], {}, ["inputs expects a list of tensors"]),
        ([5], {}, ["inputs[0] expects an object, got a number"]),
        ([{}], {}, ["inputs[0].name expects a string, got null"]),
        ([tensor("a", [1], shape=[2])], {}, ["inputs[0].data has 1 values for a shape of 2"]),
        ([tensor("a", [1], shape=["1"])], {}, ["inputs[0].shape expects a list of sizes"]),
        ([tensor("a", [1], shape=[-1])], {}, ["inputs[0].shape expects a list of sizes"]),
        ([tensor("a", [1], shape=[True])], {}, ["inputs[0].shape expects a list of sizes"]),
        ([tensor("a", [1], shape=[1, 1, 1])], {}, ["inputs[0].shape expects one or two dimensions: rows, and columns"]),
        ([tensor("a", 5, shape=[1])], {}, ["inputs[0].data expects a list, got a number"]),
        ([tensor("a", [[[1]]], shape=[1])], {}, ["inputs[0].data is nested deeper than two dimensions"]),
        ([tensor("a", [[1, 2], [3]], shape=[3])], {}, ["inputs[0].data holds rows that are not equally long"]),
        ([{**tensor("a", [0]), "shape": [0], "data": []}], {}, ["inputs holds no rows"]),
        ([tensor("a", [1]), tensor("a", [1])], {}, ["inputs repeats 'a'"]),
        ([tensor("a", [1]), tensor("b", ["x", "y"], "BYTES")], {}, ["inputs[1].shape has 2 rows where others have 1"]),
        (
            [tensor("a", [1, 2], shape=[1, 2])],
            {},
            ["inputs[0].shape expects one column a tensor, or one tensor of all 4 features"],
        ),
        ([tensor("a", [1])], {"id": 5}, ["id expects a string, got a number"]),
        (
            [tensor("a", [1])],
            {"outputs": [{"name": "x"}]},
            ["outputs[0].name expects one of label, probabilities, decision"],
        ),
        ([tensor("a", [1])], {"outputs": {}}, ["outputs expects a list of objects"]),
        (
            [tensor("a", [1])],
            {"parameters": {"content_type": "base64"}},
            ["request.parameters.content_type expects one of pd, np, str, datetime"],
        ),
        (
            [tensor("a", [1], parameters={"content_type": "hg_json"})],
            {},
            ["inputs[0].parameters.content_type expects one of pd, np, str, datetime"],
        ),
        (
            [tensor("a", [1], parameters={"binary_data_size": 8})],
            {},
            ["inputs[0].parameters.binary_data_size is not supported: send the data as JSON"],
        ),
        (
            [{"name": "a", "shape": [1], "datatype": "INT64"}],
            {},
            ["inputs[0].data is missing; binary tensors are not supported: send JSON"],
        ),
    ],
)
def test_what_is_no_request_is_refused_in_words(inputs, others, faults):
    assert refusal(*inputs, **others) == faults


def test_an_unknown_datatype_is_refused_with_those_that_are_known():
    assert "expects one of BOOL, BYTES, INT8" in refusal(tensor("a", [1], "STRING"))[0]


def test_binary_requests_are_told_to_come_as_json():
    with pytest.raises(InvalidInputError, match="send the data as JSON"):
        OPEN_INFERENCE.prepare(Request(b"{}\0", {"inference-header-content-length": "2"}, {}), "predict")


def test_too_many_rows_are_too_large_a_request():
    with pytest.raises(PayloadTooLargeError, match="one request may hold 3: send the rows in batches"):
        read(tensor("a", [1, 2, 3, 4]))


SCORES = Scores(("0", "1"), [1, None], [[0.25, 0.75], None], [0, None], None, (RowWarning("a", "1 value missing"),))


def test_classes_are_replied_as_label_and_probabilities():
    asked = PredictionRequest(RecordsTable([{}]))
    assert OPEN_INFERENCE.write(asked, SCORES, loaded(SCHEMA), "abc") == {
        "model_name": "churn",
        "model_version": "3",
        "id": "abc",
        "parameters": {"prediction_id": "abc", "warnings": "a 1 value missing"},
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, None]},
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [2, 2],
                "data": [0.25, 0.75, None, None],
                "parameters": {"classes": "0,1"},
            },
            {"name": "decision", "datatype": "INT64", "shape": [2], "data": [0, None]},
        ],
    }


@pytest.mark.parametrize(
    ("target", "datatype"),
    [
        (Column("y", "integer", "target"), "INT64"),
        (Column("y", "boolean", "target"), "BOOL"),
        (Column("y", "category", "target"), "BYTES"),
    ],
)
def test_a_model_describes_its_inputs_and_outputs(target, datatype):
    metadata = describe_model(loaded(schema(target)))
    assert [tensor["datatype"] for tensor in metadata["inputs"]] == ["INT64", "BYTES", "BYTES", "BOOL"]
    assert metadata["outputs"] == [
        {"name": "label", "datatype": datatype, "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "decision", "datatype": datatype, "shape": [-1]},
    ]


def test_regression_is_one_output():
    table = schema(Column("y", "number", "target"), "regression", ())
    request, scores = PredictionRequest(RecordsTable([{}])), Scores((), [], [], [], [1.5])
    reply = OPEN_INFERENCE.write(request, scores, loaded(table), "abc")
    assert reply["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [1], "data": [1.5]}]
    assert describe_model(loaded(table))["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [-1]}]


def test_errors_are_one_sentence():
    fields = [{"field": f"row {row}: a", "message": "is bad"} for row in range(30)]
    document = {"message": "the rows have 30 bad fields", "fields": fields}
    status, body = OPEN_INFERENCE.write_error(InvalidInputError("x"), document)
    assert status == 400
    assert body["error"].startswith("the rows have 30 bad fields: row 0: a is bad; row 1: a is bad; ")
    assert body["error"].endswith("row 19: a is bad; and 10 more")
    assert OPEN_INFERENCE.write_error(ModelNotFoundError("no"), {"message": "no"}) == (404, {"error": "no"})
    assert OPEN_INFERENCE.write_error(ModelNotReadyError("no"), {"message": "no"}) == (503, {"error": "no"})
