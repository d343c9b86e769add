from datetime import timedelta
from unittest.mock import Mock

import numpy as np
import pytest
from millrace.captures.joining import join_window
from millrace.captures.window import read_window
from millrace.data.captured import captured_rows, find_captured_rows
from millrace.data.prepare import prepare
from millrace.data.typed_table import TypedTable
from millrace.errors import ServiceUnavailableError
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

from tests.captured_rows import MODEL, NOON, make_feedback, make_row, store_feedback, store_rows
from tests.fakes.memory_object_store import MemoryObjectStore

ROWS = 40


def column(name, kind, role="feature", **said):
    return Column(name=name, type=kind, role=role, **said)


def schema(target=None, task="binary", classes=("no", "yes"), **age):
    return TableSchema(
        version=1,
        task=task,
        classes=classes,
        columns=(
            column("id", "integer", "identifier"),
            column("age", "number", **age),
            column("country", "category"),
            column("active", "boolean"),
            column("since", "datetime"),
            column("note", "text", "ignored"),
            column("seen", "datetime", "ignored"),
            target or column("churned", "category", "target"),
        ),
    )


def joined(rows, feedback):
    store = MemoryObjectStore()
    store_rows(store, rows)
    store_feedback(store, feedback)
    window = read_window(store, MODEL, NOON, NOON + timedelta(hours=1))
    return join_window(store, window, NOON + timedelta(days=3))


def labelled(numbers=range(ROWS), **changes):
    outcome = changes.pop("outcome", None)
    return [make_feedback(n, outcome=outcome or ("yes" if n % 2 else "no"), **changes) for n in numbers]


class TestRows:
    def test_labelled_rows_become_typed_columns(self):
        found = captured_rows(schema(), joined([make_row(n) for n in range(4)], labelled([1, 2])), ModelSpec())
        table = found.table
        assert found.counts == {
            "captured": 4,
            "labelled": 2,
            "observed_too_early": 0,
            "outcome_unknown": 0,
            "malformed": 0,
            "used": 2,
        }
        assert table.columns["id"].tolist() == ["1001", "1002"]
        assert table.columns["age"].tolist() == [1.0, 2.0]
        assert table.columns["country"].tolist() == ["de", "de"]
        assert table.columns["active"].tolist() == [1.0, 1.0]
        assert table.columns["since"].tolist()[0].isoformat() == "2024-02-03T00:00:00"
        assert table.columns["note"].tolist() == ["", ""]
        assert np.isnat(table.columns["seen"]).all()
        assert table.target().tolist() == [1, 0]

    def test_a_correction_holds_and_the_row_is_there_once(self):
        corrected = make_feedback(0, feedback_id="g", outcome="no", observed_at=NOON + timedelta(days=2))
        rows = [make_row(0), make_row(0)]
        found = captured_rows(schema(), joined(rows, [make_feedback(0), corrected]), ModelSpec())
        assert found.table.target().tolist() == [0]

    def test_an_outcome_from_before_the_prediction_is_left_out(self):
        early = make_feedback(0, observed_at=NOON - timedelta(hours=1))
        found = captured_rows(schema(), joined([make_row(0), make_row(1)], [early, make_feedback(1)]), ModelSpec())
        assert (found.counts["observed_too_early"], found.counts["used"]) == (1, 1)
        assert found.table.columns["id"].tolist() == ["1001"]

    def test_an_outcome_that_is_no_class_is_counted(self):
        found = captured_rows(schema(), joined([make_row(0)], labelled([0], outcome="maybe")), ModelSpec())
        assert found.table is None
        assert found.counts["outcome_unknown"] == 1

    @pytest.mark.parametrize(
        ("target", "classes", "outcome", "index"),
        [
            (column("churned", "boolean", "target"), ("n", "y"), "y", 1),
            (column("churned", "integer", "target"), ("3", "5", "7"), "5", 1),
        ],
    )
    def test_classes_that_are_no_words_keep_their_place(self, target, classes, outcome, index):
        made = schema(target, "binary" if len(classes) == 2 else "multiclass", classes)
        found = captured_rows(made, joined([make_row(0)], [make_feedback(0, outcome=outcome)]), ModelSpec())
        assert found.table.target().tolist() == [index]

    def test_numbers_are_outcomes_of_a_regression(self):
        made = schema(column("spent", "number", "target"), "regression", ())
        rows = [make_row(n, prediction={"value": 1.0}) for n in range(2)]
        feedback = [make_feedback(0, outcome=12.5), make_feedback(1, outcome=-1.0)]
        assert captured_rows(made, joined(rows, feedback), ModelSpec()).table.target().tolist() == [12.5, -1.0]

    def test_without_captures_there_is_nothing_and_no_obstacle(self):
        found = captured_rows(schema(), joined([], []), ModelSpec())
        assert (found.table, found.obstacle) == (None, "")


class TestObstacles:
    def test_a_model_of_sensitive_features_cannot_learn_from_what_was_not_kept(self):
        found = captured_rows(schema(sensitive=True), joined([make_row(0)], labelled([0])), ModelSpec())
        assert found.table is None
        assert "age" in found.obstacle

    def test_entities_that_are_not_known_could_stand_on_both_sides(self):
        spec = ModelSpec.parse({"split": {"by": "group", "column": "note"}})
        found = captured_rows(schema(), joined([make_row(0)], labelled([0])), spec)
        assert found.table is None
        assert "'note'" in found.obstacle
        by_identifier = ModelSpec.parse({"split": {"by": "group", "column": "id"}})
        assert captured_rows(schema(), joined([make_row(0)], labelled([0])), by_identifier).table is not None

    def test_the_date_of_a_split_by_time_is_the_predictions(self):
        spec = ModelSpec.parse({"split": {"by": "time", "column": "seen"}})
        found = captured_rows(schema(), joined([make_row(5)], labelled([5])), spec)
        assert found.table.columns["seen"].tolist()[0].isoformat() == "2026-05-03T12:00:05"


def test_a_row_that_was_uploaded_too_is_taken_from_the_upload():
    made = schema()
    captured = captured_rows(made, joined([make_row(n) for n in range(ROWS)], labelled()), ModelSpec()).table
    uploaded = captured.take(np.arange(30))
    uploaded = TypedTable(made, {**uploaded.columns, "age": uploaded.columns["age"] + 1_000.0}, 30)
    prepared = prepare(made, [captured, uploaded], ModelSpec())
    assert [part.used for part in prepared.contributions] == [10, 30]
    ages = np.concatenate([split.features.numbers[:, 0] for split in prepared.splits.values()])
    assert sorted(ages.tolist()) == [*range(30, 40), *range(1_000, 1_030)]


def test_rows_that_no_request_can_hold_are_counted_and_left_out():
    features = make_row(0).features
    rows = [make_row(0, features=features | {"age": 1.7e308}), make_row(1), make_row(2)]
    found = captured_rows(schema(), joined(rows, labelled(range(3))), ModelSpec())
    assert (found.counts["malformed"], found.counts["used"]) == (1, 2)
    spent = schema(column("spent", "number", "target"), "regression", ())
    rows = [make_row(n, prediction={"value": 1.0}) for n in range(2)]
    feedback = [make_feedback(0, outcome=-1.7e308), make_feedback(1, outcome=2.0)]
    assert captured_rows(spent, joined(rows, feedback), ModelSpec()).table.target().tolist() == [2.0]


def test_text_that_is_not_unicode_is_malformed_in_what_an_earlier_release_stored():
    store = MemoryObjectStore()
    store_rows(store, [make_row(0, row_id="\ud800"), make_row(1)])
    store_feedback(store, [make_feedback(0), make_feedback(1, row_id="\udfff")])
    window = read_window(store, MODEL, NOON, NOON + timedelta(hours=1))
    assert (len(window), window.report.malformed_rows) == (1, 1)
    assert join_window(store, window, NOON + timedelta(days=3)).report.read.malformed_rows == 1


class TestFinding:
    def find(self, **said):
        store = MemoryObjectStore()
        store_rows(store, [make_row(n) for n in range(4)])
        store_feedback(store, labelled(range(3)))
        spec = ModelSpec.parse({"retraining": said})
        return find_captured_rows(MODEL, schema(), spec, store, NOON + timedelta(days=3))

    def test_nothing_is_read_unless_the_spec_wants_it(self):
        assert self.find().table is None
        assert self.find().counts == {}

    def test_a_fault_in_captured_rows_is_an_obstacle_and_a_bucket_that_fails_is_not(self, monkeypatch):
        monkeypatch.setattr("millrace.data.captured.read_window", Mock(side_effect=UnicodeError("poison")))
        found = self.find(captured_rows=True)
        assert (found.table, found.counts) == (None, {"used": 0})
        assert found.obstacle == "captured rows or feedback cannot be read: UnicodeError"
        monkeypatch.setattr("millrace.data.captured.read_window", Mock(side_effect=ServiceUnavailableError("busy")))
        with pytest.raises(ServiceUnavailableError):
            self.find(captured_rows=True)

    def test_rows_are_found_as_far_back_as_the_spec_says(self):
        assert self.find(captured_rows=True).counts["used"] == 3
        assert self.find(captured_rows=True, captured_days=2).counts["captured"] == 0
