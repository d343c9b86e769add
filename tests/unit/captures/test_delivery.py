import base64
import gzip
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.captures import delivery
from millrace.captures.delivery import Delivery, LogBatch, LogEvent, read_batch
from millrace.captures.records import CountedRequest, expand_line, find_line, find_request
from millrace.captures.traffic import UNKNOWN_MODEL, count_requests, read_traffic
from millrace.captures.window import read_window
from millrace.errors import InvalidInputError, ServiceUnavailableError
from millrace.layout import captures_key

from tests.captured_rows import MODEL, NOON
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistryStore
from tests.serving_models import sha256

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


def deliver(batch: LogBatch, store: MemoryObjectStore, now: datetime, pause, items=None) -> Delivery:
    """Deliver one batch; its failure is an error."""
    found = delivery.deliver([batch], store, items or MemoryRegistryStore(), now, pause)
    assert not found.failures, found.failures
    return found


def no_pause(_seconds: float) -> None:
    return None


def prediction_ids(store: MemoryObjectStore) -> list[str]:
    """Every id as it lies in the objects: repetitions would show."""
    keys = [key for key in store.keys("captures/") if "_malformed" not in key]
    lines = [line for key in keys for line in gzip.decompress(store.get(key)).splitlines()]
    return sorted(json.loads(line)["prediction_id"] for line in lines if not line.startswith(b'{"format":1,"request"'))


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
        found = deliver(make_batch(0, 1, 3_600), store, NOW, no_pause)
        assert found == Delivery({MODEL: 3}, models=(MODEL,))
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
        assert len(store.keys()) == 1  # one object an hour

    def test_streams_share_the_object_of_an_hour(self, store):
        deliver(make_batch(0, stream="one"), store, NOW, no_pause)
        deliver(make_batch(1, stream="two"), store, NOW, no_pause)
        assert store.keys() == [captures_key(MODEL, NOON, "0000")]

    def test_a_full_object_is_continued_in_the_next(self, store, monkeypatch):
        monkeypatch.setattr(delivery, "FULL_BYTES", 1_000)
        for number in (*range(9), *range(9)):
            deliver(make_batch(number), store, NOW, no_pause)
        assert store.keys() == [captures_key(MODEL, NOON, f"{number:04}") for number in range(3)]
        assert prediction_ids(store) == [f"p{number}-0" for number in range(9)]

    def test_large_requests_share_it_too(self, store):
        deliver(make_batch(0, 1, n_rows=150), store, NOW, no_pause)
        deliver(make_batch(1, 2, n_rows=150), store, NOW, no_pause)
        assert len(store.keys()) == 1
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
        closed = delivery.deliver([make_batch(0)], Closed("data"), MemoryRegistryStore(), NOW, pauses.append)
        assert "kept changing" in closed.failures[""]
        assert len(pauses) == 9

    @pytest.mark.parametrize("body", ["torn", "[]", "{}", "a", '{"format":1,"request":7}'])
    def test_an_object_that_something_else_wrote_is_left_as_it_is_and_fails_the_messages_of_its_hour(self, store, body):
        body = body.encode() if body == "torn" else gzip.compress(body.encode())
        deliver(make_batch(0), store, NOW, no_pause)
        (key,) = store.keys()
        store.put(key, body)
        batches = [replace(make_batch(number), message_id=str(number)) for number in (1, 3_600)]
        found = delivery.deliver(batches, store, MemoryRegistryStore(), NOW, no_pause)
        assert list(found.failures) == ["1"]
        assert key in found.failures["1"]
        assert found.delivered == {MODEL: 1}
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
        assert store.keys() == []

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


class TestTraffic:
    def test_every_request_is_counted_also_failed_ones_and_those_outside_the_sample(self, store):
        items = MemoryRegistryStore()
        lines = [
            counted(make_line(0, n_rows=3), refused_rows=1, cold_start=1),
            outside_the_sample(1, rows=2),
            failed(2, 422, model=MODEL, version=2),
            failed(3, 503, model=MODEL),
            failed(4, 404),
            make_line(5),  # of an earlier release
        ]
        found = deliver(make_lines(lines), store, NOW, no_pause, items)
        assert (found.delivered, found.models, found.malformed) == ({MODEL: 4}, (MODEL,), 0)
        (hour,) = read_traffic(items, MODEL, NOON, NOON + DAY)
        assert hour.versions[2].statuses == {"2xx": 2, "4xx": 1}
        assert (hour.versions[2].rows, hour.versions[2].refused_rows, hour.versions[2].cold_starts) == (5, 1, 1)
        assert hour.versions[0].statuses == {"5xx": 1}
        (unknown,) = read_traffic(items, UNKNOWN_MODEL, NOON, NOON + DAY)
        assert unknown.total.statuses == {"4xx": 1}
        window = read_window(store, MODEL, NOON, NOON + DAY)
        assert (len(window), window.report.complete, window.report.rows) == (4, True, 4)

    def test_the_lines_of_a_divided_request_count_it_once(self, store):
        items = MemoryRegistryStore()
        parts = [make_line(0, n_rows=120, rows=240), make_line(0, n_rows=120, rows=240, positions=range(120, 240))]
        parts[1]["positions"] = list(range(120, 240))
        lines = [counted(parts[0]), parts[1]]
        for order in (lines, lines[::-1]):
            deliver(make_lines(order), store, NOW, no_pause, items)
        (hour,) = read_traffic(items, MODEL, NOON, NOON + DAY)
        assert (hour.total.requests, hour.total.rows) == (1, 240)
        assert len(set(prediction_ids(store))) == len(prediction_ids(store)) == 240

    def test_a_line_with_a_model_that_no_model_can_have_is_malformed(self, store):
        found = deliver(make_lines([failed(0, 500, model="../x"), failed(1, "x")]), store, NOW, no_pause)
        assert found.malformed == 2

    def test_counts_that_could_not_be_recorded_are_recorded_by_the_next_delivery(self, store):
        class Busy(MemoryRegistryStore):
            def write(self, change):
                raise ServiceUnavailableError("busy")

        batch = replace(make_lines([counted(make_line(0))]), message_id="m")
        assert delivery.deliver([batch], store, Busy(), NOW, no_pause).failures == {"m": "busy"}
        items = MemoryRegistryStore()
        assert delivery.deliver([batch], store, items, NOW, no_pause).repeated == 1
        assert read_traffic(items, MODEL, NOON, NOON + DAY)[0].total.requests == 1

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_however_deliveries_are_repeated_cut_interleaved_and_broken_off_each_line_counts_once(self, seed):
        """The rule: what is stored is the union of what was delivered, and the counts are those of the union."""
        draw = random.Random(seed)
        lines = [draw_line(draw, number) for number in range(60)]
        store, items = MemoryObjectStore("data"), MemoryRegistryStore()
        rough = RoughStore(store, items, draw, lines)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(delivery, "FULL_BYTES", 2_500)
            patch.setattr(delivery, "_WRITERS", 1)
            for _ in range(8):
                batches = [make_lines(draw.sample(lines, draw.randint(1, 20))) for _ in range(draw.randint(1, 3))]
                delivery.deliver(batches, rough, RoughItems(items, draw, rough.interrupt), NOW, no_pause)
            deliver(make_lines(lines), store, NOW, no_pause, items)
        rows = [row for line in lines for row in expand_line(line)]
        assert prediction_ids(store) == sorted(row.prediction_id for row in rows)
        expected: dict[tuple[str, datetime], list[CountedRequest]] = {}
        for line in lines:
            if found := find_request(line):
                model, requested_at, request = found
                expected.setdefault((model or UNKNOWN_MODEL, requested_at.replace(minute=0, second=0)), []).append(
                    request
                )
        recorded = {
            (hour.model, hour.hour): hour.versions
            for model in (MODEL, "other", UNKNOWN_MODEL)
            for hour in read_traffic(items, model, NOON, NOON + DAY)
        }
        assert recorded == {key: count_requests(requests) for key, requests in expected.items()}

    def test_deliveries_in_threads_lose_nothing_and_repeat_nothing(self, monkeypatch):
        monkeypatch.setattr(delivery, "FULL_BYTES", 8_000)
        draw = random.Random(3)
        lines = [draw_line(draw, number) for number in range(80)]
        store, items = LockedStore("data"), MemoryRegistryStore()
        batches = [make_lines(draw.sample(lines, 30)) for _ in range(6)] + [make_lines(lines)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda batch: deliver(batch, store, NOW, None, items), batches))
        rows = [row for line in lines for row in expand_line(line)]
        assert prediction_ids(store) == sorted(row.prediction_id for row in rows)
        requests = sum(find_request(line) is not None for line in lines)
        recorded = [
            hour for model in (MODEL, "other", UNKNOWN_MODEL) for hour in read_traffic(items, model, NOON, NOON + DAY)
        ]
        assert sum(hour.total.requests for hour in recorded) == requests


def counted(line: dict, **counts) -> dict:
    return line | {"latency_ms": 1.5} | counts


def outside_the_sample(number: int, **changes) -> dict:
    names = ("level", "record", "format", "model", "version", "timestamp", "prediction_id", "request_id", "dialect")
    line = make_line(number)
    return counted({name: line[name] for name in names}, rows=1) | changes


def failed(number: int, status, **changes) -> dict:
    line = outside_the_sample(number)
    return (
        {name: value for name, value in line.items() if name not in ("model", "version", "rows")}
        | {"status": status}
        | changes
    )


def make_lines(lines: list[dict]) -> LogBatch:
    return LogBatch("s", tuple(LogEvent(sha256(json.dumps(line).encode()), json.dumps(line)) for line in lines))


def draw_line(draw: random.Random, number: int) -> dict:
    """A line of any kind, in one of two hours of one of two models."""
    second, model = draw.choice((0, 3_600)) + number, draw.choice((MODEL, "other"))
    line = draw.choice(
        [
            counted(make_line(second, draw.choice((1, 1, 1, 3, 110)), model=model, version=draw.choice((1, 2)))),
            outside_the_sample(second, model=model),
            failed(second, draw.choice((400, 500)), **draw.choice(({}, {"model": model}))),
            make_line(second, model=model),
        ]
    )
    return line | {"prediction_id": f"p{number}"}


class RoughStore(MemoryObjectStore):
    """The bucket of a delivery that others overtake, and that breaks off before and after it has written."""

    def __init__(self, store: MemoryObjectStore, items: MemoryRegistryStore, draw: random.Random, lines: list[dict]):
        super().__init__("rough")
        self._inner, self._items, self._draw, self._lines = store, items, draw, lines

    def interrupt(self) -> None:
        """Let another delivery run from begin to end."""
        other = make_lines(self._draw.sample(self._lines, 5))
        delivery.deliver([other], self._inner, RoughItems(self._items, self._draw), NOW, no_pause)

    def get_with_etag(self, key):
        return self._inner.get_with_etag(key)

    def put_if_unchanged(self, key, body, etag, content_type="application/octet-stream"):
        fate = self._draw.random()
        if fate < 0.3:
            self.interrupt()
        if 0.3 <= fate < 0.4:
            raise ServiceUnavailableError("before")
        done = self._inner.put_if_unchanged(key, body, etag, content_type)
        if fate > 0.9:
            raise ServiceUnavailableError("after")
        return done


class RoughItems(MemoryRegistryStore):
    """The record of traffic of a delivery that others overtake, and that breaks off before it has recorded."""

    def __init__(self, items: MemoryRegistryStore, draw: random.Random, interrupt=lambda: None) -> None:
        super().__init__()
        self._inner, self._draw, self._interrupt = items, draw, interrupt

    def write(self, change):
        fate = self._draw.random()
        if fate > 0.7:
            self._interrupt()
        if fate < 0.3:
            raise ServiceUnavailableError("busy")
        return self._inner.write(change)


class LockedStore(MemoryObjectStore):
    lock = threading.Lock()

    def put_if_unchanged(self, key, body, etag, content_type="application/octet-stream"):
        with self.lock:
            return super().put_if_unchanged(key, body, etag, content_type)
