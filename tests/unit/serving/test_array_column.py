"""Many rows are written from arrays, byte for byte as from plain values; readers of the arrays find plain values."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.json_text import write_json
from millrace.schema import Column, TableSchema
from millrace.serving.array_column import ArrayColumn
from millrace.serving.capture import write_outputs
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.serving.protocols import MLFLOW, OPEN_INFERENCE
from millrace.serving.request import PredictionRequest, RecordsTable
from millrace.serving.rows import RowWarning
from millrace.serving.scoring import Scores

CLASSES: list[tuple[str, ...]] = [
    ("false", "true"),
    ("0", "1"),
    ("no", 'y"e\\s'),
    ("é", "\n", "c"),
    ("1", "2", "3", "4"),
]
numbers = st.sampled_from([0.0, 1.0, 0.1, 1e-30, 0.5, np.nan, np.inf]) | st.floats(0, 1, width=32)


def names_of(classes: tuple[str, ...]) -> tuple[Any, ...]:
    if classes[0] == "false":
        return (False, True)
    return tuple(map(int, classes)) if classes[0].isdigit() else classes


@st.composite
def many_scores(draw: st.DrawFn) -> Scores:
    """Scores as :func:`millrace.serving.scoring.score` makes them of many rows, some of them without a prediction."""
    warnings = (RowWarning("plan", "1 value missing"),) if draw(st.booleans()) else ()
    bad_rows: dict[int, Any] = draw(st.dictionaries(st.integers(0, 9), st.just(()), max_size=3))
    n_rows = draw(st.integers(1, 12))
    total = n_rows + len(bad_rows)
    places = np.array([row for row in range(total) if row not in bad_rows][:n_rows])

    def column(array: Any, known: Any, names: tuple[Any, ...] | None = None) -> ArrayColumn:
        made = ArrayColumn(array, None if known.all() else known, names)
        return made.spread(places, total) if bad_rows and len(places) == n_rows else made

    if draw(st.booleans()):
        dtype = draw(st.sampled_from([np.float32, np.float64]))
        values = np.array(draw(st.lists(numbers, min_size=n_rows, max_size=n_rows)), dtype=dtype)
        return Scores((), [], [], [], column(values, np.isfinite(values)), warnings, bad_rows)
    classes = draw(st.sampled_from(CLASSES))
    rows = st.lists(numbers, min_size=len(classes), max_size=len(classes))
    output = np.array(draw(st.lists(rows, min_size=n_rows, max_size=n_rows)), dtype=np.float32)
    known, codes = np.isfinite(output).all(axis=1), st.integers(0, len(classes) - 1)
    labels, decisions = (np.array(draw(st.lists(codes, min_size=n_rows, max_size=n_rows))) for _ in range(2))
    named = [column(each, known, names_of(classes)) for each in (labels, decisions)]
    return Scores(classes, named[0], column(output, known), named[1], None, warnings, bad_rows)


def plain(scores: Scores) -> Scores:
    names = ("values",) if scores.values is not None else ("labels", "probabilities", "decisions")
    return replace(scores, **{name: list(getattr(scores, name)) for name in names})


def loaded(scores: Scores) -> LoadedModel:
    kind = {bool: "boolean", int: "integer"}.get(
        type(names_of(scores.classes)[0]) if scores.classes else str, "category"
    )
    target = Column("y", kind if scores.classes else "number", "target")
    schema = TableSchema((Column("a", "number"), target), "binary" if scores.classes else "regression", scores.classes)
    return LoadedModel("churn", 3, OnnxModel(None, schema), schema)


@pytest.mark.parametrize("protocol", [MLFLOW, OPEN_INFERENCE], ids=lambda one: one.name)
@given(many_scores(), st.sampled_from([None, "q", "half a pair: \ud800"]))
def test_a_reply_is_written_from_arrays_as_from_plain_values(protocol, scores, request_id):
    request = PredictionRequest(RecordsTable([{}]), request_id)
    replies = [write_json(protocol.write(request, each, loaded(scores), "abc")) for each in (scores, plain(scores))]
    assert replies[0] == replies[1]


def test_a_reply_that_orjson_cannot_write_is_that_of_plain_values():
    column = ArrayColumn(np.array([[0.25, 0.75], [np.nan, 0.5]], np.float32), np.array([True, False]))
    labels = ArrayColumn(np.array([1, 0]), column.known, ("no", "half a pair: \ud800"))
    scores = Scores(("no", "half a pair: \ud800"), labels, column, labels, None)
    request = PredictionRequest(RecordsTable([{}]))
    replies = [write_json(MLFLOW.write(request, each, loaded(scores), "abc")) for each in (scores, plain(scores))]
    assert replies[0] == replies[1]


@given(many_scores())
def test_captured_outputs_are_those_of_plain_values(scores):
    name = "probabilities" if scores.classes else "values"
    column = getattr(scores, name)
    if any(each is not None for each in column):
        assert write_json(write_outputs(name, column)) == write_json(write_outputs(name, list(column)))


@given(many_scores(), st.data())
def test_a_column_reads_like_a_list(scores, data):
    column = scores.values if scores.values is not None else scores.probabilities
    rows = data.draw(st.lists(st.integers(0, len(column) - 1), max_size=5))
    assert isinstance(column, ArrayColumn)
    assert column == list(column)
    assert column[:3] == list(column)[:3]
    assert column[-1] == list(column)[-1]
    assert column.take(rows) == [list(column)[row] for row in rows]
    assert column.is_whole == (None not in list(column))
    assert column != [*column, 1.0]
