import base64
import gzip
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from millrace.captures.delivery import Delivery, LogBatch, LogEvent, deliver, read_batch
from millrace.captures.records import expand_line, find_line
from millrace.captures.window import read_window
from millrace.errors import ArtifactIntegrityError, InvalidInputError, ServiceUnavailableError
from millrace.layout import captures_key

from tests.captured_rows import MODEL, NOON
from tests.fakes.memory_object_store import MemoryObjectStore

NOW = datetime(2026, 5, 3, 12, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def make_line(number: int = 0, n_rows: int = 1, **changes) -> dict:
    rows = list(range(n_rows))
    line = {
        "level": "FATAL",
        "record": "millrace.capture",
        "format": 1,
        "model": MODEL,
        "version": 2,
        "timestamp": (NOON + timedelta(seconds=number)).isoformat(),
        "prediction_id": f"p{number}",
        "request_id": f"r{number}",
        "dialect": "mlflow",
        "sampling_rate": 0.5,
        "rows": n_rows,
        "positions": rows,
        "columns": [["age", "integer"], ["active", "boolean"], ["since", "datetime"], ["country", "category"]],
        "cells": [[30.0 + row for row in rows], [1.0 for _ in rows], [None for _ in rows], ["xx" for _ in rows]],
        "unknown": {"country": [0]},
        "classes": ["no", "yes"],
        "probabilities": [[0.25, 0.75] for _ in rows],
        "decisions": ["no" for _ in rows],
    }
    return line | changes


def make_batch(*numbers: int, stream: str = "s", **changes) -> LogBatch:
    events = [LogEvent(f"e{number}", json.dumps(make_line(number, **changes))) for number in numbers]
    return LogBatch(stream, tuple(events))


def no_pause(_seconds: float) -> None:
    return None


def prediction_ids(store: MemoryObjectStore) -> list[str]:
    """Every id as it lies in the objects: repetitions would show."""
    keys = [key for key in store.keys("captures/") if "_malformed" not in key]
    lines = [line for key in keys for line in gzip.decompress(store.get(key)).splitlines()]
    return sorted(json.loads(line)["prediction_id"] for line in lines)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore("data")


class TestLines:
    def test_columns_become_rows(self):
        first, second = expand_line(make_line(3, n_rows=2, row_ids=["a", None]))
        assert (first.prediction_id, second.prediction_id) == ("p3-0", "p3-1")
        assert first.features == {"age": 30.0, "active": True, "since": None, "country": "xx"}
        assert (first.unknown, second.unknown, first.missing) == (("country",), (), ("since",))
        assert first.prediction == {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "decision": "no"}
        assert (first.row_id, second.row_id, first.request_rows, first.sampling_rate) == ("a", None, 2, 0.5)

    def test_positions_are_those_of_the_request(self):
        rows = expand_line(make_line(0, n_rows=2, rows=9, positions=[4, 8]))
        assert [row.prediction_id for row in rows] == ["p0-4", "p0-8"]
        assert {row.request_rows for row in rows} == {9}

    def test_a_value_of_regression(self):
        line = make_line(values=[2.5])
        assert expand_line(line)[0].prediction == {"value": 2.5}

    def test_a_line_that_lambda_wrapped_is_found(self):
        line = make_line()
        for message in (line, json.dumps(line)):
            wrapped = {"timestamp": "2026-05-03T12:00:00Z", "level": "INFO", "message": message, "requestId": "r"}
            assert find_line(json.dumps(wrapped)) == line

    @pytest.mark.parametrize(
        "message",
        [
            "",
            "START",
            '{"a": 1}',
            '["millrace.capture"]',
            "millrace.capture: what is it?",
            '{"message": "millrace.capture"',
            '{"level": "INFO", "message": "request refused", "fields": [{"field": "millrace.capture"}]}',
            '{"level": "INFO", "message": "request refused", "reason": "\\"record\\":\\"millrace.capture\\""}',
            '{"level": "INFO", "message": "{\\"record\\": \\"millrace.capture\\"", "model": "torn wi',
            '{"timestamp": "t", "level": "INFO", "message": "saw millrace.capture", "requestId": "r"}',
            json.dumps(
                {"level": "INFO", "location": "handle", "message": json.dumps(make_line()), "service": "predict"}
            ),
            json.dumps({"level": "INFO", "location": "handle", "message": make_line(), "service": "predict"}),
        ],
    )
    def test_lines_that_only_quote_the_mark_are_none_of_ours(self, message):
        assert find_line(message) is None

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_torn_line_is_an_error(self, wrapped):
        line = json.dumps(make_line(), separators=(",", ":"))
        if wrapped:
            line = json.dumps({"timestamp": "2026-05-03T12:00:00Z", "level": "INFO", "message": line})
        with pytest.raises(ValueError, match=r"."):
            find_line(line[:-9])

    @pytest.mark.parametrize(
        "changes",
        [
            {"cells": None},
            {"cells": [[1.0]]},
            {"cells": [[1.0], [1.0], [None], []]},
            {"decisions": [None, None]},
            {"row_ids": ["a", "b"]},
            {"columns": [["age"]]},
            {"timestamp": "now"},
            {"model": "../incoming"},
            {"probabilities": [[1.0]]},
            {"positions": 3},
            {"version": "two"},
        ],
    )
    def test_a_malformed_line_is_a_value_error(self, changes):
        with pytest.raises(ValueError, match=r"."):
            expand_line(make_line(**changes))


class TestDelivery:
    def test_rows_lie_in_the_hour_they_were_predicted_in(self, store):
        delivery = deliver(make_batch(0, 1, 3_600), store, NOW, no_pause)
        assert delivery == Delivery({MODEL: 3})
        folders = [key.rpartition("/")[0] for key in store.keys("captures/")]
        assert folders == [f"captures/{MODEL}/2026/05/03/12", f"captures/{MODEL}/2026/05/03/13"]
        assert store.content_type(store.keys()[0]) == "application/gzip"

    def test_the_same_batch_twice_changes_nothing(self, store):
        first = deliver(make_batch(0, 1, 2), store, NOW, no_pause)
        before = {key: store.head(key).version_id for key in store.keys("captures/")}
        again = deliver(make_batch(0, 1, 2), store, NOW + DAY, no_pause)
        assert (first.delivered, again.delivered, again.repeated) == ({MODEL: 3}, {MODEL: 0}, 3)
        assert {key: store.head(key).version_id for key in store.keys("captures/")} == before

    def test_however_a_repeated_delivery_is_cut_each_prediction_lies_there_once(self, store):
        draw = random.Random(7)
        numbers = list(range(150))
        cuts = [sorted(draw.sample(numbers, draw.randint(1, 60))) for _ in range(12)]
        for cut in [*cuts, numbers, *cuts]:
            deliver(make_batch(*cut), store, NOW, no_pause)
        assert prediction_ids(store) == sorted(f"p{number}-0" for number in numbers)
        assert len(store.keys()) == 3  # one object a minute

    def test_streams_do_not_wait_for_each_other(self, store):
        deliver(make_batch(0, stream="one"), store, NOW, no_pause)
        deliver(make_batch(1, stream="two"), store, NOW, no_pause)
        assert len(store.keys()) == 2

    def test_a_large_request_has_an_object_of_its_own(self, store):
        deliver(make_batch(0, 1, n_rows=150), store, NOW, no_pause)
        deliver(make_batch(1, 2, n_rows=150), store, NOW, no_pause)
        assert len(store.keys()) == 3
        assert len(set(prediction_ids(store))) == len(prediction_ids(store)) == 450

    def test_a_line_twice_in_one_batch_counts_once(self, store):
        batch = make_batch(5)
        delivery = deliver(LogBatch("s", batch.events * 2), store, NOW, no_pause)
        assert (delivery.delivered, delivery.repeated) == ({MODEL: 1}, 1)

    def test_lines_that_cannot_be_read_are_put_aside_and_the_others_delivered(self, store):
        bad = LogEvent("bad", json.dumps(make_line(9, cells=None)))
        endless = LogEvent("endless", json.dumps(make_line(8, cells=[[float("inf")], [None], [None], [""]])))
        other = LogEvent("other", "millrace.capture? no")
        batch = LogBatch("s", (*make_batch(0).events, bad, endless, other))
        for _ in range(2):
            delivery = deliver(batch, store, NOW, no_pause)
        assert (delivery.malformed, delivery.ignored, delivery.repeated) == (2, 1, 1)
        (key,) = store.keys("captures/_malformed/2026/05/03/")
        kept = [json.loads(line) for line in store.get(key).splitlines()]
        assert [entry["id"] for entry in kept] == ["bad", "endless"]
        assert kept[0]["message"] == bad.message
        assert prediction_ids(store) == ["p0-0"]

    def test_who_writes_at_the_same_moment_loses_nothing(self, store):
        overtaken = 0

        class Contended(MemoryObjectStore):
            def put_if_unchanged(self, key, body, etag, content_type="application/octet-stream"):
                nonlocal overtaken
                if overtaken < 3:
                    overtaken += 1
                    assert deliver(make_batch(100 + overtaken, stream="s"), inner, NOW, no_pause).delivered == {
                        MODEL: 1
                    }
                    return inner.put_if_unchanged(key, body, etag, content_type)
                return inner.put_if_unchanged(key, body, etag, content_type)

            def get_with_etag(self, key):
                return inner.get_with_etag(key)

        inner = store
        numbers = [101, 102, 103, 104]
        deliver(make_batch(*numbers), Contended("data"), NOW, no_pause)
        assert prediction_ids(store) == [f"p{number}-0" for number in numbers]

    def test_one_that_is_always_overtaken_says_so_and_can_be_sent_again(self, store):
        class Closed(MemoryObjectStore):
            def put_if_unchanged(self, key, body, etag, content_type="application/octet-stream"):
                return False

        pauses: list[float] = []
        with pytest.raises(ServiceUnavailableError):
            deliver(make_batch(0), Closed("data"), NOW, pauses.append)
        assert len(pauses) == 9

    @pytest.mark.parametrize("body", ["torn", "[]", "{}", "a"])
    def test_an_object_that_something_else_wrote_is_left_as_it_is(self, store, body):
        body = body.encode() if body == "torn" else gzip.compress(body.encode())
        deliver(make_batch(0), store, NOW, no_pause)
        (key,) = store.keys()
        store.put(key, body)
        with pytest.raises(ArtifactIntegrityError):
            deliver(make_batch(1), store, NOW, no_pause)
        assert store.get(key) == body

    def test_what_was_delivered_can_be_read(self, store):
        deliver(make_batch(*range(130), n_rows=2), store, NOW, no_pause)
        window = read_window(store, MODEL, NOON, NOON + DAY)
        assert len(window) == 260
        assert window.report.complete
        assert window.sampling_rates.tolist() == [0.5] * 260


class TestReadBatch:
    def event(self, document) -> dict:
        return {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()}}

    def test_events_of_a_stream(self):
        document = {
            "messageType": "DATA_MESSAGE",
            "logGroup": "g",
            "logStream": "s",
            "logEvents": [{"id": "1", "timestamp": 0, "message": "m"}],
        }
        assert read_batch(self.event(document)) == LogBatch("g:s", (LogEvent("1", "m"),))

    def test_a_message_that_tests_the_subscription_holds_nothing(self, store):
        batch = read_batch(self.event({"messageType": "CONTROL_MESSAGE", "logEvents": [{"id": "1", "message": "m"}]}))
        assert deliver(batch, store, NOW, no_pause) == Delivery({})

    @pytest.mark.parametrize(
        "event",
        [
            {},
            {"awslogs": {"data": "?"}},
            {"awslogs": {"data": "bm8gZ3ppcA=="}},
            {"awslogs": {"data": base64.b64encode(gzip.compress(b"[]")).decode()}},
            {"awslogs": {"data": base64.b64encode(gzip.compress(b"{")).decode()}},
        ],
    )
    def test_anything_else_is_refused(self, event):
        with pytest.raises(InvalidInputError):
            read_batch(event)


def test_keys_hold_no_more_than_a_minute():
    key = captures_key(MODEL, NOON, "00-abc")
    assert key == f"captures/{MODEL}/2026/05/03/12/00-abc.jsonl.gz"
