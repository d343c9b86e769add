import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.errors import InvalidInputError, PayloadTooLargeError, UnsupportedMediaTypeError
from millrace.schema import Column, TableSchema
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.serving.protocols import MLFLOW
from millrace.serving.request import ABSENT, PredictionRequest, RecordsTable, Request, RequestTable
from millrace.serving.rows import RowWarning
from millrace.serving.scoring import Scores

JSON = "application/json"
#: Two features, ``a`` and ``b``.
SCHEMA = TableSchema(
    (Column("a", "integer"), Column("b", "category"), Column("y", "boolean", "target")), "binary", ("false", "true")
)


def read_body(body: bytes, content_type: str | None = JSON, max_rows: int = 10) -> RequestTable:
    headers = {} if content_type is None else {"content-type": content_type}
    return MLFLOW.read(Request(body, headers, {}), SCHEMA, max_rows).table


def read(document: Any, max_rows: int = 10) -> RequestTable:
    return read_body(json.dumps(document).encode(), max_rows=max_rows)


def refusal(body: Any, content_type: str = JSON) -> InvalidInputError:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidInputError) as caught:
        read_body(body, content_type)
    return caught.value


def split(columns: Any, data: Any, **others: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": data, **others}}


def test_records_and_split_are_the_same_rows():
    records = read({"dataframe_records": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]})
    columns = read(split(["a", "b"], [[1, "x"], [2, "y"]], index=[0, 1]))
    assert records.n_rows == columns.n_rows == 2
    assert records.names == columns.names == {"a", "b"}
    assert list(records.column("b")) == list(columns.column("b")) == ["x", "y"]


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [[1, "x"], [2, "y"]]},
        {"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]},
        {"inputs": [[1, "x"], [2, "y"]]},
        {"inputs": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]},
        {"inputs": {"a": [1, 2], "b": ["x", "y"]}},
        {"inputs": {"a": [[1], [2]], "b": [["x"], ["y"]]}},
    ],
)
def test_every_other_shape_is_the_same_rows(document):
    table = read(document)
    assert (list(table.column("a")), list(table.column("b"))) == ([1, 2], ["x", "y"])


def test_an_object_of_plain_values_is_one_row():
    table = read({"inputs": {"a": 1, "b": "x"}})
    assert (table.n_rows, list(table.column("b"))) == (1, ["x"])


def test_plain_values_are_rows_of_a_model_with_one_feature():
    schema = TableSchema((Column("a", "integer"), Column("y", "number", "target")), "regression")
    request = Request(b'{"instances": [1, 2, null]}', {}, {})
    assert list(MLFLOW.read(request, schema, 10).table.column("a")) == [1, 2, None]


# -- CSV ---------------------------------------------------------------------------------------------------------------
def test_csv_is_read_as_training_reads_it():
    table = read_body('\ufeffa,b\r\n1e2,"x, y"\n\n +.5 ,NA\nNA,\n'.encode(), "text/csv; charset=utf-8")
    assert list(table.column("a")) == [100.0, 0.5, None]
    assert list(table.column("b")) == ["x, y", "NA", ""]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("first_line", ["a{0}b", '\ufeff a{0}"b"', "b{0}a", "unknown, and with a comma{0}a{0}b"])
def test_csv_has_any_delimiter_that_training_reads(delimiter, first_line):
    if "," in first_line and delimiter == ",":
        return
    names = first_line.format(delimiter)
    values = ["1" if "a" in name and "unknown" not in name else "x" for name in names.split(delimiter)]
    table = read_body(f"{names}\n{delimiter.join(values)}\n".encode(), "text/csv")
    assert (list(table.column("a")), list(table.column("b"))) == ([1.0], ["x"])


def test_a_line_without_known_names_is_divided_by_commas():
    assert read_body(b"c,d;e\n1,2\n", "text/csv").names == {"c", "d;e"}


@pytest.mark.parametrize("word", ["inf", "nan(1)", "1_000", "0x10", "\N{ARABIC-INDIC DIGIT ONE}", "1,5", "x"])
def test_a_cell_that_training_would_not_read_as_a_number_stays_text(word):
    table = read_body(f'a\n"{word}"\n'.encode(), "text/csv")
    assert list(table.column("a")) == [word]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the request has no body"),
        (b"\n\n", "the request has no body"),
        (b"a,b\n", "the CSV table holds no rows"),
        (b'a,b\n"1,2\n', "the body is not CSV: unexpected end of data"),
        (b"a,b\n1\n", "some rows of 'the CSV table' have another number of values than there are columns"),
        (b"a, a\n1,2\n", "a column is named twice"),
        (b"a\n" + b"1" * 200_000, "the body is not CSV: field larger than field limit (131072)"),
        (b"\xff", "the body is not text in UTF-8"),
    ],
)
def test_what_is_no_csv_table_is_refused_in_words(body, said):
    assert refusal(body, "text/csv").message == said


def test_a_record_that_lacks_a_column_is_silent_about_it():
    table = read({"dataframe_records": [{"a": None}, {"b": 1}]})
    assert table.names == {"a", "b"}
    assert list(table.column("a")) == [None, ABSENT]


def test_params_are_taken_and_not_used():
    assert read({"dataframe_records": [{"a": 1}], "params": {"temperature": 1}}).n_rows == 1


def test_the_nan_literal_of_mlflows_clients_is_null_and_infinity_stays_a_number():
    table = read_body(b'{"dataframe_records": [{"a": NaN, "b": -Infinity}]}')
    assert list(table.column("a")) == [None]
    assert list(table.column("b")) == [float("-inf")]


@pytest.mark.parametrize(
    "content_type", [None, "", JSON, "application/json; charset=UTF-8", 'Application/JSON;charset="utf-8"']
)
def test_json_may_be_declared_in_every_usual_way(content_type):
    assert read_body(b'\xef\xbb\xbf{"dataframe_records": [{}]}', content_type).n_rows == 1


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json; charset=latin-1", "text/csv; charset=latin-1", "application/jsonlines"],
)
def test_another_content_type_is_refused(content_type):
    with pytest.raises(UnsupportedMediaTypeError):
        read_body(b"{}", content_type)


SHAPES = "'dataframe_records', 'dataframe_split', 'instances', 'inputs'"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the request has no body"),
        (b"  \n", "the request has no body"),
        (b'{"dataframe_records": [', "the body is not JSON: Expecting value at line 1, column 24"),
        (b"\xff\xfe", "the body is not text in UTF-8"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'{"dataframe_records": [{"a": ' + b"9" * 5_000 + b"}]}", "the body holds a number that is too long to read"),
        (b"[]", "the request has to be a JSON object, not a list"),
        (b'"x"', "the request has to be a JSON object, not a string"),
        (
            b"{}",
            f"the request has to hold exactly one of {SHAPES}: it holds none",
        ),
    ],
)
def test_what_is_no_request_is_refused_in_words(body, said):
    assert refusal(body).message == said


def test_both_shapes_at_once_are_refused():
    both = {"dataframe_records": [{"a": 1}], **split(["a"], [[1]])}
    assert "it holds 'dataframe_records' and 'dataframe_split'" in refusal(both).message


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"dataframe_records": [{"a": 1}], "model": []}, ["model"]),
        ({"dataframe_records": [{"a": 1}], "params": []}, ["params"]),
        ({"instances": {"a": [1]}}, ["instances"]),
        ({"instances": [[1]]}, ["row 0"]),
        ({"instances": [1, 2]}, ["row 0", "row 1"]),
        ({"instances": [{"a": 1}, [1, "x"]]}, ["row 1"]),
        ({"inputs": {}}, ["inputs"]),
        ({"inputs": {"a": [], "b": []}}, ["inputs"]),
        ({"inputs": {"a": [1], "b": "x"}}, ["inputs.b"]),
        ({"inputs": {"a": [1, 2], "b": ["x"]}}, ["inputs.b"]),
        ({"inputs": []}, ["inputs"]),
        ({"dataframe_records": {"a": 1}}, ["dataframe_records"]),
        ({"dataframe_records": []}, ["dataframe_records"]),
        ({"dataframe_records": [{"a": 1}, [1], None]}, ["row 1", "row 2"]),
        ({"dataframe_split": [1]}, ["dataframe_split"]),
        ({"dataframe_split": {}}, ["dataframe_split.columns", "dataframe_split.data"]),
        (split(["a"], [[1]], dtypes={}), ["dataframe_split.dtypes"]),
        (split("a", [[1]]), ["dataframe_split.columns"]),
        (split([1], [[1]]), ["dataframe_split.columns"]),
        (split(["a", "b", "a"], [[1, 2, 3]]), ["dataframe_split.columns"]),
        (split(["a"], {"0": [1]}), ["dataframe_split.data"]),
        (split(["a"], []), ["dataframe_split.data"]),
        (split(["a"], [[1], 2]), ["row 1"]),
        (split(["a", "b"], [[1, 2], [1], [1, 2, 3]]), ["row 1", "row 2"]),
    ],
)
def test_every_fault_of_the_shape_is_named(document, fields):
    assert [fault.field for fault in refusal(document).fields] == fields


def test_a_key_that_stands_twice_in_a_record_is_refused():
    error = refusal(b'{"dataframe_records": [{"age": 1, "age": 2}]}')
    assert [fault.field for fault in error.fields] == ["age"]


@pytest.mark.parametrize("document", [{"dataframe_records": [{}] * 11}, split([], [[]] * 11)])
def test_more_rows_than_allowed_are_too_many(document):
    with pytest.raises(PayloadTooLargeError, match="11 rows; one request may hold 10"):
        read(document)


ASKED = PredictionRequest(RecordsTable([{}]))
LOADED = LoadedModel("churn", 3, OnnxModel(None, SCHEMA), SCHEMA)


def test_classes_are_replied_with_label_and_probabilities():
    scores = Scores(
        ("no", "yes"), ["yes", None], [[0.25, 0.75], None], ["no", None], None, (RowWarning("plan", "1 value missing"),)
    )
    assert MLFLOW.write(ASKED, scores, LOADED, "abc") == {
        "predictions": [
            {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "decision": "no"},
            {"label": None, "probabilities": None, "decision": None},
        ],
        "model": "churn",
        "model_version": 3,
        "prediction_id": "abc",
        "warnings": [{"field": "plan", "message": "1 value missing"}],
    }


def test_regression_is_replied_with_numbers():
    reply = MLFLOW.write(ASKED, Scores((), [], [], [], [1.5, None]), LOADED, "abc")
    assert reply["predictions"] == [1.5, None]
    assert "warnings" not in reply


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["dataframe_records", "dataframe_split", "instances", "inputs", "columns", "data", "index", "a"]
            ),
            inner,
            max_size=3,
        ),
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(documents.map(lambda document: json.dumps(document).encode()), st.binary(max_size=40)),
    st.sampled_from([JSON, "text/csv"]),
)
def test_whatever_the_body_is_it_becomes_a_table_or_our_error(body, content_type):
    with suppress(InvalidInputError, PayloadTooLargeError):
        table = read_body(body, content_type)
        assert 1 <= table.n_rows <= 10
        assert all(len(table.column(name)) == table.n_rows for name in table.names)
