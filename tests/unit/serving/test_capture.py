import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from millrace.captures.records import expand_line, find_line
from millrace.schema import Column, TableSchema
from millrace.serving.capture import MAX_LINE_BYTES, CaptureWriter, write_row_id
from millrace.serving.model import CaptureRules, LoadedModel, OnnxModel
from millrace.serving.request import ABSENT, ColumnsTable, RecordsTable
from millrace.serving.rows import RowReader, TypedRows
from millrace.serving.scoring import Scores

NOW = datetime(2026, 5, 3, 14, 15, 0, 250, tzinfo=UTC)
SCHEMA = TableSchema(
    (
        Column("customer", "integer", "identifier"),
        Column("age", "integer"),
        Column("plan", "category", categories=("basic", "pro")),
        Column("joined", "datetime", formats=("iso",)),
        Column("active", "boolean"),
        Column("salary", "number", sensitive=True),
        Column("religion", "category", categories=("a",), sensitive=True),
        Column("churned", "integer", "target"),
    ),
    "binary",
    ("0", "1"),
)


def serve(
    n_rows: int = 1, bad_rows=(), *, table=None, prediction_id="p", n_unknown=0, n_missing=0, scores=None, cells=None
):
    """What the capture reads of a prediction."""
    good = n_rows - len(bad_rows)
    values = {
        "age": [30.0 + row for row in range(good)],
        "plan": ["pro"] * good,
        "joined": [datetime(2024, 2, 3, tzinfo=UTC).replace(tzinfo=None)] * good,
        "active": [1.0] * good,
        "salary": [90_000.0] * good,
        "religion": ["a"] * good,
    }
    labels = [None if row in bad_rows else 1 for row in range(n_rows)]
    probabilities = [None if label is None else [0.25, 0.75] for label in labels]
    table = table or RecordsTable([{"customer": 7 + row} for row in range(n_rows)])
    return SimpleNamespace(
        request=SimpleNamespace(table=table),
        rows=TypedRows(
            RowReader(SCHEMA),
            values | (cells or {}),
            good,
            n_missing=n_missing,
            n_unknown=n_unknown,
            bad_rows=dict.fromkeys(bad_rows, ()),
        ),
        scores=scores or Scores(("0", "1"), labels, probabilities, labels, None),
        prediction_id=prediction_id,
    )


def line_of(probabilities: list[Any], **changes: Any) -> dict[str, Any]:
    scores = Scores(("0", "1"), [1] * len(probabilities), probabilities, [1] * len(probabilities), None)
    (line,) = write(serve(len(probabilities), scores=scores))
    return json.loads(line) | changes


class TestFormat:
    def test_a_line_leaves_out_what_its_reader_adds(self):
        line = line_of([[0.25, 0.75]])
        assert not {"positions", "rows", "sampling_rate", "dialect", "decisions", "cells"} & line.keys()
        assert line["columns"] == ["age", "plan", "joined", "active"]
        assert line["row"] == [30.0, "pro", "2024-02-03T00:00:00Z", True]
        (row,) = expand_line(find_line(json.dumps(line)))
        assert (row.request_rows, row.sampling_rate, row.protocol) == (1, 1.0, "mlflow")

    def test_numbers_of_float32_are_short_and_come_out_exactly(self):
        rng = np.random.default_rng(7)
        exponents = rng.integers(-120, 1, 2_000)
        chances = (rng.random((2_000, 2)) * 2.0 ** exponents[:, None]).astype(np.float32)
        line = line_of(chances.tolist()[:500])
        assert "double" not in line
        rows = expand_line(find_line(json.dumps(line)))
        assert [list(row.prediction["probabilities"].values()) for row in rows] == chances.tolist()[:500]
        assert max(len(repr(value)) for row in line["probabilities"] for value in row) < 17

    def test_numbers_beyond_float32_are_written_in_full(self):
        line = line_of([[0.1, 0.9]])
        assert (line["probabilities"], line["double"]) == ([[0.1, 0.9]], 1)
        (row,) = expand_line(find_line(json.dumps(line)))
        assert row.prediction["probabilities"] == {"0": 0.1, "1": 0.9}

    @pytest.mark.parametrize(
        "changes",
        [{"row": [1.0]}, {"probabilities": [["a", 1.0]]}, {"probabilities": 7}, {"columns": None}, {"format": 3}],
    )
    def test_a_malformed_line_is_refused(self, changes):
        with pytest.raises((ValueError, TypeError)):
            expand_line(find_line(json.dumps(line_of([[0.25, 0.75]], **changes))))


def write(prediction, schema=SCHEMA, **rules) -> list[str]:
    loaded = LoadedModel("churn", 3, OnnxModel(None, schema), schema, capture=CaptureRules(**rules))
    return CaptureWriter(loaded).lines(prediction, "mlflow", "r", NOW)


def capture(prediction, schema=SCHEMA, **rules):
    """The rows of a request as they come out of the log again."""
    lines = write(prediction, schema, **rules)
    for line in lines:
        assert line.isascii()
        assert "\n" not in line
        assert len(line) <= MAX_LINE_BYTES
    return [row for line in lines for row in expand_line(find_line(line))]


class TestLines:
    def test_one_row_comes_out_as_it_was_scored(self):
        (row,) = capture(serve())
        assert row.prediction_id == "p-0"
        assert (row.request_id, row.request_rows, row.protocol) == ("r", 1, "mlflow")
        assert (row.model, row.version, row.predicted_at) == ("churn", 3, NOW)
        assert row.features == {"age": 30.0, "plan": "pro", "joined": "2024-02-03T00:00:00Z", "active": True}
        assert row.prediction == {"label": "1", "probabilities": {"0": 0.25, "1": 0.75}, "decision": "1"}
        assert (row.row_id, row.sampling_rate, row.unknown, row.omitted) == ("7", 1.0, (), 0)

    def test_sensitive_columns_never_reach_the_log(self):
        (line,) = write(serve(n_unknown=1))
        assert "salary" not in line
        assert "religion" not in line
        assert "90000" not in line

    def test_a_sensitive_identifier_is_left_out(self):
        columns = (Column("customer", "integer", "identifier", sensitive=True), *SCHEMA.columns[1:])
        (row,) = capture(serve(), TableSchema(columns, "binary", ("0", "1")))
        assert row.row_id is None

    def test_missing_values_are_null_in_every_type(self):
        cells = {"age": [float("nan")], "plan": [""], "joined": [None], "active": [float("nan")]}
        (row,) = capture(serve(cells=cells, n_missing=4))
        assert set(row.features.values()) == {None}
        assert set(row.missing) == {"age", "plan", "joined", "active"}

    def test_a_text_comes_out_as_it_was_sent(self):
        columns = (Column("note", "text", nullable=True), *SCHEMA.columns)
        notes = ["so late, so \N{PILE OF POO}", "", "word " * 3_000]
        rows = capture(serve(3, cells={"note": notes}, n_missing=1), TableSchema(columns, "binary", ("0", "1")))
        assert [row.features["note"] for row in rows] == [notes[0], None, notes[2]]

    def test_columns_may_be_arrays(self):
        rows = capture(serve(3, cells={"age": np.array([1.0, np.nan, 3.0])}, n_missing=1))
        assert [row.features["age"] for row in rows] == [1.0, None, 3.0]

    def test_what_training_had_not_seen_is_marked_where_it_stands(self):
        rows = capture(serve(4, cells={"plan": ["pro", "gold", "", "gold"]}, n_unknown=2))
        assert [row.unknown for row in rows] == [(), ("plan",), (), ("plan",)]

    def test_values_of_regression_and_what_was_not_finite(self):
        schema = TableSchema((Column("age", "integer"), Column("y", "number", "target")), "regression")
        rows = capture(serve(2, scores=Scores((), [], [], [], [1.5, None])), schema)
        assert [row.prediction for row in rows] == [{"value": 1.5}, {"value": None}]
        scores = Scores(("0", "1"), [None], [None], [None], None)
        assert capture(serve(scores=scores))[0].prediction == {"label": None, "probabilities": None, "decision": None}

    def test_bad_rows_are_left_out_and_the_others_keep_their_places(self):
        rows = capture(serve(4, bad_rows={0, 2}))
        assert [row.prediction_id for row in rows] == ["p-1", "p-3"]
        assert [row.features["age"] for row in rows] == [30.0, 31.0]
        assert [row.row_id for row in rows] == ["8", "10"]
        assert {row.request_rows for row in rows} == {4}

    def test_words_of_any_script_and_half_characters_are_ascii_on_the_way(self):
        words = ["größe", "\U0001f600", "a\nb\r\u2028", '"', "\x00"]
        rows = capture(serve(5, cells={"plan": words}))
        assert [row.features["plan"] for row in rows] == words

    def test_rows_without_an_id_column_have_none(self):
        assert capture(serve(table=RecordsTable([{}])))[0].row_id is None
        table = ColumnsTable({"customer": [ABSENT]}, 1)
        assert capture(serve(table=table))[0].row_id is None


class TestHowMuch:
    def test_a_line_that_would_be_too_large_becomes_several_and_no_row_is_lost(self):
        cells = {"plan": ["x" * 1_000] * 900}
        rows = capture(serve(900, cells=cells))
        assert [row.prediction_id for row in rows] == [f"p-{place}" for place in range(900)]
        assert [row.features["age"] for row in rows] == [30.0 + place for place in range(900)]
        assert len(write(serve(900, cells=cells))) < 12

    def test_a_row_that_is_too_large_says_what_it_left_out(self):
        rows = capture(serve(2, cells={"plan": ["y" * MAX_LINE_BYTES, "pro"]}))
        assert [row.omitted for row in rows] == [4, 0]
        assert rows[0].features == {}
        assert rows[0].prediction["label"] == "1"

    def test_of_many_rows_some_are_captured_and_say_with_what_chance(self):
        rows = capture(serve(1_000), max_rows=100)
        assert len(rows) == 100
        assert {row.sampling_rate for row in rows} == {0.1}
        assert {row.request_rows for row in rows} == {1_000}
        assert [row.features["age"] - 30.0 for row in rows] == [10.0 * place for place in range(100)]
        assert rows[7].prediction_id == "p-70"

    @pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
    def test_a_sample_is_as_large_as_was_said_and_depends_on_the_id_alone(self, rate):
        taken = [bool(write(serve(prediction_id=f"id-{number}"), sampling_rate=rate)) for number in range(1_000)]
        again = [bool(write(serve(prediction_id=f"id-{number}"), sampling_rate=rate)) for number in range(1_000)]
        assert taken == again
        assert abs(sum(taken) / 1_000 - rate) < 0.05
        assert rate not in (0.0, 1.0) or sum(taken) == rate * 1_000

    def test_a_sampled_row_says_with_what_chance(self):
        written = (write(serve(4, prediction_id=f"id-{n}"), sampling_rate=0.5, max_rows=2) for n in range(50))
        lines = next(lines for lines in written if lines)
        assert json.loads(lines[0])["sampling_rate"] == 0.25

    def test_without_rows_there_is_nothing(self):
        assert capture(serve(1, bad_rows={0})) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        (" 7 ", "7"),
        ("C-1", "C-1"),
        (0.5, "0.5"),
        (None, None),
        (ABSENT, None),
        ("", None),
        (True, None),
        ([1], None),
        (float("nan"), None),
        (float(2**64), None),
        (-(2**53), str(-(2**53))),
        ("x" * 257, None),
    ],
)
def test_a_row_id_is_text_however_it_was_sent(value, text):
    assert write_row_id(value) == text
