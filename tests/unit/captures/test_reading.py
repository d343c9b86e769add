import gzip
import tracemalloc
from datetime import timedelta

import numpy as np
import pytest
from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.captures.window import ReadReport, iterate_feedback, iterate_rows, read_lines, read_window
from millrace.features import build_features
from millrace.layout import captures_key
from millrace.schema import Column, TableSchema

from tests.captured_rows import MODEL, NOON, make_feedback, make_row, store_feedback, store_rows
from tests.fakes.memory_object_store import MemoryObjectStore

HOUR = timedelta(hours=1)
SCHEMA = TableSchema(
    (
        Column("age", "integer"),
        Column("country", "category", categories=("de", "fr")),
        Column("active", "boolean"),
        Column("since", "datetime", formats=("iso",)),
        Column("target", "category", role="target"),
    ),
    "binary",
    ("no", "yes"),
)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore("data")


class TestRecords:
    @pytest.mark.parametrize("record", [make_row(3, row_id=None, unknown=("country",)), make_feedback(2, outcome=1.5)])
    def test_a_line_is_read_as_it_was_written(self, record):
        line = record.to_line()
        assert "\n" not in line
        assert type(record).from_line(line) == record

    @pytest.mark.parametrize(
        "line",
        [b"", b"{", b"[]", b"{}", b'{"format":1}', b'{"format":2}', b"\xff", make_row().to_line().replace("Z", "")],
    )
    def test_what_is_no_record_is_a_value_error(self, line):
        for kind in (CapturedRow, FeedbackRecord):
            with pytest.raises(ValueError, match=r"."):
                kind.from_line(line)

    def test_missing_features_are_named(self):
        assert make_row(features={"a": None, "b": 0.0, "c": ""}).missing == ("a",)


class TestReadWindow:
    def test_rows_come_as_columns_and_only_those_of_the_window(self, store):
        store_rows(store, [make_row(number) for number in range(10)])
        window = read_window(store, MODEL, NOON + timedelta(seconds=2), NOON + timedelta(seconds=5))
        assert window.prediction_ids.tolist() == ["p2-0", "p3-0", "p4-0"]
        assert window.features["age"].tolist() == [2.0, 3.0, 4.0]
        assert window.features["country"].tolist() == ["de"] * 3
        assert window.features["active"].tolist() == [1.0] * 3
        assert window.probabilities["yes"].tolist() == [0.75] * 3
        assert window.labels.tolist() == ["yes"] * 3
        assert np.isnan(window.values).all()
        assert window.predicted_at[0] == np.datetime64("2026-05-03T12:00:02", "us")
        assert (window.report.rows, window.report.outside, window.report.complete) == (10, 7, True)

    def test_every_hour_of_the_window_is_read_and_no_other_model(self, store):
        rows = [make_row(number, predicted_at=NOON + number * HOUR) for number in range(40)]
        store_rows(store, [*rows, make_row(99, model="churn2")])
        window = read_window(store, MODEL, NOON + 11 * HOUR, NOON + 38 * HOUR)
        assert window.prediction_ids.tolist() == [f"p{number}-0" for number in range(11, 38)]

    def test_nothing_captured_is_an_empty_window(self, store):
        window = read_window(store, MODEL, NOON, NOON + HOUR)
        assert (len(window), window.features, len(window.typed_features(SCHEMA))) == (0, {}, 0)

    def test_a_prediction_that_lies_there_twice_counts_once(self, store):
        store_rows(store, [make_row(0), make_row(1)], "a")
        store_rows(store, [make_row(1), make_row(2)], "b")
        window = read_window(store, MODEL, NOON, NOON + HOUR)
        assert window.prediction_ids.tolist() == ["p0-0", "p1-0", "p2-0"]
        assert window.report.duplicates == 1

    def test_what_cannot_be_read_is_named_and_the_rest_is_read(self, store):
        store_rows(store, [make_row(0)], "good")
        whole = gzip.compress(make_row(1).to_line().encode())
        store.put(captures_key(MODEL, NOON, "torn"), whole[:-12])
        store.put(captures_key(MODEL, NOON, "text"), b"no gzip")
        store.put(
            captures_key(MODEL, NOON, "lines"), gzip.compress(b'{"format":9}\n{\n' + make_row(2).to_line().encode())
        )
        store.put(captures_key(MODEL, NOON, "nested"), gzip.compress(b"[" * 100_000))
        window = read_window(store, MODEL, NOON, NOON + HOUR)
        assert window.prediction_ids.tolist() == ["p0-0", "p2-0"]
        report = window.report
        assert [fault.partition(": ")[2] for fault in report.unreadable_objects] == ["is no gzip", "ends too early"]
        assert (report.malformed_rows, report.complete) == (3, False)

    def test_versions_under_other_schemas_lie_side_by_side(self, store):
        old = make_row(0, version=1, features={"age": 1.0, "code": 7.0})
        new = make_row(1, version=2, features={"code": "seven"}, prediction={"value": 2.5}, unknown=("code",))
        store_rows(store, [old], "a")
        store_rows(store, [new], "b")
        window = read_window(store, MODEL, NOON, NOON + HOUR)
        assert window.versions.tolist() == [1, 2]
        assert window.features["code"].tolist() == [None, "seven"]
        assert np.isnan(window.features["age"]).tolist() == [False, True]
        assert window.unknown["code"].tolist() == [False, True]
        assert window.values[1] == 2.5
        assert window.labels.tolist() == ["yes", None]

    def test_of_too_many_rows_a_sample_is_kept_that_does_not_depend_on_their_order(self, store):
        rows = [make_row(number, predicted_at=NOON) for number in range(3_000)]
        store_rows(store, rows)
        other = MemoryObjectStore("other")
        store_rows(other, rows[::-1])
        window = read_window(store, MODEL, NOON, NOON + HOUR, max_rows=500)
        again = read_window(other, MODEL, NOON, NOON + HOUR, max_rows=500)
        assert 200 < len(window) <= 500
        assert set(window.prediction_ids) == set(again.prediction_ids)
        assert len(window) / window.report.kept_share == pytest.approx(3_000, rel=0.2)
        assert all(len(values) == len(window) for values in window.features.values())

    def test_memory_does_not_grow_with_the_window(self, store):
        rows = [make_row(number, predicted_at=NOON) for number in range(400)]
        for part in range(8):
            store_rows(
                store,
                [make_row(part * 400 + n, predicted_at=row.predicted_at) for n, row in enumerate(rows)],
                str(part),
            )

        def peak(objects: int) -> int:
            end = NOON + HOUR
            part = MemoryObjectStore("part")
            for key in store.keys()[:objects]:
                part.put(key, store.get(key))
            tracemalloc.start()
            read_window(part, MODEL, NOON, end, max_rows=200)
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        assert peak(8) < 1.5 * peak(2)

    def test_features_come_typed_as_the_model_takes_them(self, store):
        missing = {"age": None, "country": None, "active": None, "since": None}
        store_rows(store, [make_row(4), make_row(5, features=missing), make_row(6, features={"since": "soon"})])
        columns = read_window(store, MODEL, NOON, NOON + HOUR).typed_features(SCHEMA)
        assert columns["since"][0] == np.datetime64("2024-02-03", "us")
        assert np.isnat(columns["since"]).tolist() == [False, True, True]
        assert columns["country"].tolist() == ["de", "", ""]
        features = build_features(SCHEMA, columns, 3)
        assert features.numbers[0, :2].tolist() == [4.0, 1.0]
        assert np.isnan(features.numbers[1]).all()

    def test_texts_come_as_they_were_sent_and_take_no_wide_matrix(self, store):
        store_rows(store, [make_row(4, features={"note": "so late " * 500}), make_row(5, features={"note": None})])
        schema = TableSchema((Column("note", "text"), *SCHEMA.columns), "binary", ("no", "yes"))
        notes = read_window(store, MODEL, NOON, NOON + HOUR).typed_features(schema)["note"]
        assert notes.tolist() == ["so late " * 500, ""]
        assert notes.dtype == object


def lines_of(store, body):
    report = ReadReport()
    store.put("object", body)
    return list(read_lines(store, "object", is_compressed=True, report=report)), report.unreadable_objects


def test_an_object_of_several_members_is_one(store):
    assert lines_of(store, gzip.compress(b"one\n") + gzip.compress(b"two\n")) == ([b"one", b"two"], [])


@pytest.mark.parametrize("piece", [1, 2, 7, 64])
@pytest.mark.parametrize("text", [b"", b"\n", b"one", b"one\ntwo", b"one\n\ntwo\n", b"a" * 500 + b"\n" + b"b" * 64])
def test_the_size_of_pieces_does_not_change_the_lines(store, monkeypatch, text, piece):
    monkeypatch.setattr("millrace.captures.window._PIECE_BYTES", piece)
    assert lines_of(store, gzip.compress(text)) == (text.splitlines(), [])
    assert lines_of(store, gzip.compress(text)[:-1]) == ([], ["object: ends too early"])


def test_of_an_object_memory_holds_a_piece(store):
    store.put("object", gzip.compress(b"\n".join(b"%0999d" % number for number in range(50_000)), 1))
    report = ReadReport()
    tracemalloc.start()
    n_lines = sum(1 for _ in read_lines(store, "object", is_compressed=True, report=report))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_lines == 50_000
    assert peak < 8_000_000


def test_rows_can_be_streamed(store):
    store_rows(store, [make_row(number) for number in range(5)])
    report = ReadReport()
    rows = list(iterate_rows(store, MODEL, NOON, NOON + HOUR, report))
    assert rows == [make_row(number) for number in range(5)]
    assert (report.objects, report.rows) == (1, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"features": {"age": [1]}},
        {"features": {"age": {"a": 1}}},
        {"features": {"age": 1.7e308}},
        {"features": {"age": -3.5e38}},
        {"features": {"plan": "\ud800"}},
        {"features": {"\ud800": 1.0}},
        {"row_id": "\ud800"},
        {"row_id": 7},
        {"prediction": {"probabilities": [0.5]}},
        {"prediction": {"value": "many"}},
        {"version": 2**70},
        {"request_rows": 1.5},
    ],
)
def test_a_row_that_no_table_could_hold_is_malformed(changes):
    store = MemoryObjectStore("data")
    store_rows(store, [make_row(0, **changes), make_row(1)])
    window = read_window(store, MODEL, NOON, NOON + timedelta(hours=1))
    assert (window.prediction_ids.tolist(), window.report.malformed_rows) == (["p1-0"], 1)


@pytest.mark.parametrize("outcome", [1.7e308, "\ud800", [1], None])
def test_a_report_that_no_table_could_hold_is_malformed(outcome):
    store, report = MemoryObjectStore("data"), ReadReport()
    store_feedback(store, [make_feedback(0, outcome=outcome), make_feedback(1)])
    found = iterate_feedback(store, MODEL, NOON, NOON + timedelta(days=3), report)
    assert ([record.feedback_id for record in found], report.malformed_rows) == (["f1"], 1)


def test_booleans_of_another_schema_are_missing():
    store = MemoryObjectStore("data")
    store_rows(store, [make_row(0, features={"active": 7.0}), make_row(1, features={"active": True})])
    schema = TableSchema((Column("active", "boolean"), Column("y", "boolean", "target")), "binary", ("false", "true"))
    values = read_window(store, MODEL, NOON, NOON + timedelta(hours=1)).typed_features(schema)["active"]
    assert np.isnan(values).tolist() == [True, False]
