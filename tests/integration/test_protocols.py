"""One scorer, many dialects: the same rows have the same numbers, and nothing that is sent breaks anything."""

import csv
import gzip
import io
import json
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from millrace.schema import Task

from tests.gateway import call, make_event, memory_handler
from tests.integration.application import Handler, lambda_context
from tests.serving_models import CHURN_RECORD, churn_schema

NAMES = [column.name for column in churn_schema().features]
DATATYPES = {"age": "FP64", "balance": "FP64", "active": "BOOL"}
INVOCATIONS = "/models/churn/invocations"
INFER = "/v2/models/churn/infer"
KSERVE_V1 = "/v1/models/churn:predict"
#: Bodies that each fuzz test tries; more on demand.
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "80"))
#: No single request may take longer, whatever it holds; generous, for a busy machine.
LONGEST_SECONDS = 30.0


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def task_handler(request: pytest.FixtureRequest) -> Iterator[Handler]:
    with memory_handler(request.param) as handler:
        yield handler


@pytest.fixture(scope="module")
def handler() -> Iterator[Handler]:
    with memory_handler() as handler:
        yield handler


@pytest.fixture(scope="module")
def text_handler() -> Iterator[Handler]:
    with memory_handler(remark=True) as handler:
        yield handler


# -- the same rows, in every shape -------------------------------------------------------------------------------------
Rows = list[dict[str, Any]]


def names_of(rows: Rows) -> list[str]:
    return [*NAMES, *(["remark"] if "remark" in rows[0] else [])]


def as_lists(rows: Rows) -> list[list[Any]]:
    return [[row[name] for name in names_of(rows)] for row in rows]


def as_columns(rows: Rows) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names_of(rows)}


def as_csv(rows: Rows) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(names_of(rows))
    for values in as_lists(rows):
        writer.writerow([json.dumps(value) if isinstance(value, bool | float) else value for value in values])
    return lines.getvalue()


def as_tensors(rows: Rows, *, nested: bool) -> dict[str, Any]:
    return {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {
                "name": name,
                "datatype": DATATYPES.get(name, "BYTES"),
                "shape": [len(rows), 1] if nested else [len(rows)],
                "data": [[value] for value in values] if nested else values,
            }
            for name, values in as_columns(rows).items()
        ],
    }


JSON_SHAPES = {
    "records": (INVOCATIONS, lambda rows: {"dataframe_records": rows}),
    "split": (INVOCATIONS, lambda rows: {"dataframe_split": {"columns": names_of(rows), "data": as_lists(rows)}}),
    "instances of lists": (INVOCATIONS, lambda rows: {"instances": as_lists(rows)}),
    "instances of objects": (INVOCATIONS, lambda rows: {"instances": rows}),
    "inputs of columns": (INVOCATIONS, lambda rows: {"inputs": as_columns(rows)}),
    "inputs of lists": (INVOCATIONS, lambda rows: {"inputs": as_lists(rows)}),
    "inputs of objects": (INVOCATIONS, lambda rows: {"inputs": rows}),
    "by version": ("/models/churn/versions/1/invocations", lambda rows: {"dataframe_records": rows}),
    "by alias": ("/models/churn/versions/champion/invocations", lambda rows: {"dataframe_records": rows}),
    "KServe v1 of lists": (KSERVE_V1, lambda rows: {"instances": as_lists(rows)}),
    "KServe v1 of objects": (KSERVE_V1, lambda rows: {"instances": rows}),
    "tensors, flat": (INFER, lambda rows: as_tensors(rows, nested=False)),
    "tensors, nested": (INFER, lambda rows: as_tensors(rows, nested=True)),
    "tensors, by version": ("/v2/models/churn/versions/1/infer", lambda rows: as_tensors(rows, nested=False)),
}


def numbers(reply: dict[str, Any]) -> list[Any]:
    """Return label and probabilities of each row, or its value, whatever the dialect."""
    if "predictions" in reply:
        return [
            row if not isinstance(row, dict) else (row["label"], row["decision"], *row["probabilities"].values())
            for row in reply["predictions"]
        ]
    outputs = {output["name"]: output for output in reply["outputs"]}
    if "value" in outputs:
        return list(outputs["value"]["data"])
    rows, width = outputs["probabilities"]["shape"]
    flat = outputs["probabilities"]["data"]
    return [
        (label, decision, *flat[row * width : (row + 1) * width])
        for row, label, decision in zip(range(rows), outputs["label"]["data"], outputs["decision"]["data"], strict=True)
    ]


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
records = st.fixed_dictionaries(
    {
        "age": st.none() | st.integers(-1_000, 1_000).map(float),
        "balance": st.none() | st.floats(-1e30, 1e30),
        "active": st.none() | st.booleans(),
        "subscribed": st.sampled_from(["yes", "No", "", None]),
        "plan": st.sampled_from(["basic", "gold", None, "NA"]) | words,
        "city": st.sampled_from(["Oslo", "Zürich", None]) | words,
        "signed_up": st.none() | st.datetimes().map(lambda moment: moment.isoformat()),
    }
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(records, min_size=1, max_size=4))
@example(rows=[CHURN_RECORD])
def test_the_same_rows_have_the_same_numbers_in_every_dialect(task_handler, rows):
    status, reply = call(task_handler, "POST", INVOCATIONS, as_csv(rows), **{"Content-Type": "text/csv"})
    assert status == 200, reply
    expected = numbers(reply)
    assert len(expected) == len(rows)
    for shape, (path, write) in JSON_SHAPES.items():
        status, reply = call(task_handler, "POST", path, write(rows))
        assert status == 200, (shape, reply)
        assert numbers(reply) == expected, shape


remarks = st.sampled_from(['Paid LATE, "again"', "e\u0301t\u00e9 \N{PILE OF POO}", " NA ", "late\n" * 2_000])


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(records, st.none() | words | remarks), min_size=1, max_size=3))
def test_a_text_has_the_same_numbers_in_every_dialect(text_handler, rows):
    asked = [record | {"remark": remark} for record, remark in rows]
    status, reply = call(text_handler, "POST", INVOCATIONS, as_csv(asked), **{"Content-Type": "text/csv"})
    assert status == 200, reply
    expected = numbers(reply)
    for shape, (path, write) in JSON_SHAPES.items():
        status, reply = call(text_handler, "POST", path, write(asked))
        assert status == 200, (shape, reply)
        assert numbers(reply) == expected, shape


ODD = {
    "missing numbers": {"balance": None},
    "a number that was never missing in training": {"age": None},
    "missing words": {"plan": None, "city": None},
    "words for missing": {"plan": "NA", "city": "", "signed_up": "null"},
    "an unknown category": {"plan": "gold"},
    "an integer for a float": {"balance": 120},
    "a float for an integer": {"age": 41.0},
    "a fraction for an integer": {"age": 41.5},
    "a nullable boolean": {"subscribed": None},
    "a word for a boolean": {"subscribed": "NO"},
    "a date of the trained format": {"signed_up": "03.02.2024"},
    "a date with an offset": {"signed_up": "2024-02-03T12:00:00+02:00"},
    "a number far outside training": {"age": 1e30, "balance": -1e30},
    "blanks around words": {"plan": "  family "},
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_value_has_the_same_numbers_in_every_dialect_alone_and_among_many(handler, name):
    found = []
    for some in ([CHURN_RECORD | ODD[name]], [CHURN_RECORD | ODD[name]] * 20):
        status, reply = call(handler, "POST", INVOCATIONS, as_csv(some), **{"Content-Type": "text/csv"})
        assert status == 200, reply
        answers = set(numbers(reply))
        for shape, (path, write) in JSON_SHAPES.items():
            status, reply = call(handler, "POST", path, write(some))
            assert status == 200, (shape, reply)
            answers |= set(numbers(reply))
        (answer,) = answers
        found.append(answer)
    # ONNX Runtime multiplies matrices of other heights in another order: the last bit of a float32 may differ.
    assert found[0][:2] == found[1][:2]
    assert found[0][2:] == pytest.approx(found[1][2:], abs=1e-6)


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "1e400"])
def test_a_number_that_is_not_finite_is_refused_in_every_dialect(handler, value):
    for shape, (path, write) in JSON_SHAPES.items():
        body = json.dumps(write([CHURN_RECORD])).replace("120.5", value)
        status, reply = call(handler, "POST", path, body)
        assert status == 400, shape
        assert "balance expects a number that a 32-bit float can hold" in str(reply).replace("', 'message': '", " "), (
            shape
        )


def test_a_nan_counts_as_missing_in_every_dialect(handler):
    _, expected = call(handler, "POST", INVOCATIONS, {"instances": [CHURN_RECORD | {"balance": None}]})
    for shape, (path, write) in JSON_SHAPES.items():
        status, reply = call(handler, "POST", path, json.dumps(write([CHURN_RECORD])).replace("120.5", "NaN"))
        assert (status, numbers(reply)) == (200, numbers(expected)), shape


@pytest.mark.parametrize("path", ["records", "split", "inputs of columns", "tensors, flat"])
def test_columns_that_are_extra_or_optional_change_nothing_but_the_warnings(handler, path):
    _, expected = call(handler, "POST", INVOCATIONS, {"instances": [CHURN_RECORD | {"balance": None}]})
    row = {name: value for name, value in CHURN_RECORD.items() if name != "balance"} | {"shoes": 43, "hat": "red"}
    names = list(row)
    tensors = [
        {"name": name, "shape": [1], "datatype": {"shoes": "INT64", **DATATYPES}.get(name, "BYTES"), "data": [value]}
        for name, value in row.items()
    ]
    body = {
        "records": (INVOCATIONS, {"dataframe_records": [row]}),
        "split": (INVOCATIONS, {"dataframe_split": {"columns": names, "data": [list(row.values())]}}),
        "inputs of columns": (INVOCATIONS, {"inputs": {name: [value] for name, value in row.items()}}),
        "tensors, flat": (INFER, {"inputs": tensors}),
    }[path]
    status, reply = call(handler, "POST", *body)
    assert (status, numbers(reply)) == (200, numbers(expected))
    assert "2 columns unknown to the model" in str(reply)
    assert "is not in the request: scored as missing" in str(reply)


def test_a_model_of_numbers_alone_is_asked_with_one_matrix(handler):
    rows = [[41, 120.5, True, "yes", "family", "Oslo", None]]
    matrix = {"name": "X", "shape": [1, 7], "datatype": "FP64", "data": [[1, 2, 3, 4, 5, 6, 7]]}
    status, body = call(handler, "POST", INFER, {"inputs": [matrix]})
    assert status == 400
    assert "row 0: plan expects a string, got a number" in body["error"]
    assert call(handler, "POST", INVOCATIONS, {"instances": rows})[0] == 200


# -- OpenAPI -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_example_of_the_openapi_document_is_answered_as_it_stands(task: Task):
    with memory_handler(task) as handler:
        status, document = call(handler, "GET", "/models/churn/openapi.json")
        assert status == 200
        assert document["servers"] == [{"url": "../.."}]
        answers = []
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if method == "parameters":
                    continue
                asked = path.replace("{version}", "champion")
                contents = operation.get("requestBody", {}).get("content", {"": {"examples": {"none": {}}}})
                for content_type, content in contents.items():
                    for sample in content["examples"].values():
                        headers = {"Content-Type": content_type} if content_type else {}
                        status, reply = call(handler, method.upper(), asked, sample.get("value"), **headers)
                        assert status == 200, (asked, reply)
                        answers.append(reply)
        predictions = [str(numbers(reply)) for reply in answers if "predictions" in reply or "model_name" in reply]
        assert len(predictions) == 13
        assert len(set(predictions)) == 1


# -- whatever is sent --------------------------------------------------------------------------------------------------
def ask_anything(handler: Handler, path: str, body: Any, content_type: str = "application/json", **query: Any) -> None:
    """Send a body and check what holds for every answer; bytes are sent as API Gateway sends binary bodies."""
    event = make_event("POST", path, body, {"Content-Type": content_type})
    event["queryStringParameters"] = query or None
    if isinstance(body, bytes):
        event |= {"body": b64encode(body).decode(), "isBase64Encoded": True}
        event["headers"]["Content-Encoding"] = "gzip"
    started = time.process_time()
    response = handler(event, lambda_context("predict"))
    assert time.process_time() - started < LONGEST_SECONDS
    assert 200 <= response["statusCode"] < 500, response["body"]
    assert response["headers"]["Content-Type"] == "application/json"
    assert "Traceback" not in response["body"]
    reply = json.loads(response["body"])
    if response["statusCode"] >= 400:
        assert set(reply) <= {"error_code", "message", "fields"} or set(reply) == {"error"}


KEYS = {
    INVOCATIONS: [
        "dataframe_records",
        "dataframe_split",
        "instances",
        "inputs",
        "params",
        "interval",
        "columns",
        "data",
    ],
    KSERVE_V1: ["instances", "inputs", "parameters", "interval"],
    INFER: ["inputs", "outputs", "id", "parameters", "interval", "name", "shape", "datatype", "data", "content_type"],
}
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**30, max_value=10**40),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["\ud800", "2024-01-01", "BYTES", "FP64", "INT64", "BOOL", "label", "pd", *NAMES]),
)


def documents(path: str) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(KEYS[path] + NAMES) | st.text(max_size=4)
    anything = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )
    return anything | st.dictionaries(st.sampled_from(KEYS[path]), anything, min_size=1, max_size=3)


@st.composite
def damaged(draw: st.DrawFn, path: str) -> Any:
    """Draw a valid request with one part of it replaced by anything, or taken away."""
    shapes = [write for shape_path, write in JSON_SHAPES.values() if shape_path == path]
    document = json.loads(json.dumps(draw(st.sampled_from(shapes))([CHURN_RECORD, CHURN_RECORD])))
    part = document
    while isinstance(part, dict | list) and part:
        place = draw(st.sampled_from(sorted(part)) if isinstance(part, dict) else st.integers(0, len(part) - 1))
        if not isinstance(part[place], dict | list) or draw(st.booleans()):
            if draw(st.booleans()):
                part[place] = draw(documents(path))
            else:
                part.pop(place)
            break
        part = part[place]
    return document


FUZZED = settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("path", KEYS)
@FUZZED
@given(data=st.data())
def test_whatever_json_is_sent_it_is_answered_or_refused(handler, path, data):
    ask_anything(handler, path, json.dumps(data.draw(damaged(path) | documents(path))))


@pytest.mark.parametrize("path", KEYS)
@FUZZED
@given(data=st.data(), on_error=st.sampled_from(["partial", "partial", "refuse"]) | st.text(max_size=3))
def test_whatever_rows_are_bad_the_others_are_answered_or_all_refused(handler, path, data, on_error):
    ask_anything(handler, path, json.dumps(data.draw(damaged(path) | documents(path))), on_error=on_error)


@pytest.mark.parametrize("path", KEYS)
@FUZZED
@given(body=st.binary(max_size=60), compressed=st.booleans())
def test_whatever_bytes_are_sent_it_is_answered_or_refused(handler, path, body, compressed):
    ask_anything(handler, path, gzip.compress(body) if compressed else body)


@pytest.mark.parametrize("path", KEYS)
@FUZZED
@given(body=st.text(max_size=60), content_type=st.sampled_from(["application/json", "text/csv"]) | st.text(max_size=20))
def test_whatever_text_is_sent_it_is_answered_or_refused(handler, path, body, content_type):
    ask_anything(handler, path, body, content_type)


@FUZZED
@given(
    header=st.lists(st.sampled_from([*NAMES, "other", ""]) | words, max_size=9),
    cells=st.lists(st.lists(st.sampled_from(["1", "yes", "NA", "1e400", "\ud800", '"', "\0"]) | st.text(max_size=5),
                            max_size=9), max_size=3),
)  # fmt: skip
def test_whatever_csv_is_sent_it_is_answered_or_refused(handler, header, cells):
    ask_anything(handler, INVOCATIONS, "\n".join(",".join(row) for row in [header, *cells]), "text/csv")


def many_columns(path: str) -> Any:
    record = CHURN_RECORD | {f"made up {index}": index for index in range(20_000)}
    if path != INFER:
        return {"instances": [record]}
    extra = [{"name": f"x{index}", "shape": [1], "datatype": "INT64", "data": [1]} for index in range(9_000)]
    return {"inputs": as_tensors([CHURN_RECORD], nested=False)["inputs"] + extra}


def bomb() -> bytes:
    """Return a small body that unpacks to a large one."""
    return gzip.compress(b'{"instances": [' + b"0," * 20_000_000, 9)


HOSTILE = {
    "deep lists": "[" * 200_000,
    "deep objects": '{"inputs":' * 100_000,
    "deep rows": '{"instances": [' + "[" * 900 + "]" * 900 + "]}",
    "deep tensor": '{"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": '
    + "[" * 900
    + "]" * 900
    + "}]}",
    "a number of 100,000 digits": '{"instances": [[' + "9" * 100_000 + "]]}",
    "a huge exponent": '{"instances": [[1e999999999, -1e999999999]]}',
    "6 MB of blanks": " " * 6_000_000,
    "6 MB of one string": json.dumps({"instances": ["x" * 6_000_000]}),
    "6 MB of short rows": json.dumps({"instances": [[1]] * 1_000_000}),
    "6 MB of rows that are too many": '{"inputs": [' + "{}," * 1_900_000 + "{}]}",
    "huge shape": '{"inputs": [{"name": "a", "shape": [99999999999, 99999999999], "datatype": "FP32", "data": []}]}',
    "the same key often": '{"instances": [{' + '"age": 1,' * 100_000 + '"age": 1}]}',
}


@pytest.mark.parametrize("path", KEYS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused_in_time(handler, path, name):
    ask_anything(handler, path, HOSTILE[name])


@pytest.mark.parametrize("path", KEYS)
def test_thousands_of_columns_are_ignored_in_time(handler, path):
    ask_anything(handler, path, json.dumps(many_columns(path)))


@pytest.mark.parametrize("path", KEYS)
@pytest.mark.parametrize("name", [name for name in HOSTILE if name.startswith("6 MB")])
def test_hostile_bodies_are_refused_in_time_where_good_rows_are_wanted(handler, path, name):
    ask_anything(handler, path, HOSTILE[name], on_error="partial")


@pytest.mark.parametrize("path", KEYS)
def test_a_body_that_unpacks_to_too_much_is_refused(handler, path):
    ask_anything(handler, path, bomb())


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/xml", "application/octet-stream", "text/csv; charset=utf-16"]
)
@pytest.mark.parametrize("path", KEYS)
def test_another_content_type_is_refused(handler, path, content_type):
    event = make_event("POST", path, json.dumps({"instances": [CHURN_RECORD]}), {"Content-Type": content_type})
    assert handler(event, lambda_context("predict"))["statusCode"] == 415
