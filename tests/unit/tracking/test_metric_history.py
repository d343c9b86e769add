"""Histories of metrics: chunks, pages, samples."""

import itertools
import math
import random

import pytest
from millrace.errors import InvalidInputError
from millrace.tracking.metric_chunks import pack, unpack
from millrace.tracking.metric_history import find_sample_positions
from millrace.tracking.tracking_records import Point


@pytest.fixture
def run(server):
    return server.post("runs/create", start_time=1)["run"]["info"]["run_id"]


def log(server, run, points, key="m", batch=1_000):
    for begin in range(0, len(points), batch):
        metrics = [{"key": key, "timestamp": t, "step": s, "value": v} for t, s, v in points[begin : begin + batch]]
        server.post("runs/log-batch", run_id=run, metrics=metrics)


def read(server, run, key="m", limit=None):
    """Return a whole history, page after page."""
    found, token = [], None
    while True:
        page = {"max_results": limit} if limit else {}
        page |= {"page_token": token} if token else {}
        response = server.get("metrics/get-history", run_id=run, metric_key=key, **page)
        found += [(one["timestamp"], one["step"], one["value"]) for one in response["metrics"]]
        token = response.get("next_page_token")
        if token is None:
            return found


class TestPacking:
    @pytest.mark.parametrize(
        "points",
        [
            [],
            [Point(0, 0, 0.0)],
            [Point(5, -3, 1.5), Point(5, -3, 1.5)],
            [Point(2**63 - 1, -(2**63), -1.7e308), Point(0, 2**63 - 1, 5e-324)],
        ],
    )
    def test_what_is_packed_comes_back(self, points):
        assert unpack(pack(points)) == points

    def test_nan_comes_back(self):
        assert math.isnan(unpack(pack([Point(1, 1, math.nan)]))[0].value)

    def test_ten_thousand_values_of_a_curve_take_less_than_a_tenth_of_their_json(self):
        draw = random.Random(1)
        points = [Point(1_700_000_000_000 + 100 * i, i, 1 / (i + 1) + draw.random() / 100) for i in range(10_000)]
        assert len(pack(points)) < 10_000 * 9


class TestPages:
    @pytest.mark.parametrize("limit", [None, 1, 7, 1_000])
    def test_values_come_in_the_order_of_time_and_each_once(self, server, run, limit):
        draw = random.Random(7)
        points = [(draw.randrange(40), draw.randrange(5), draw.randrange(3) / 2) for _ in range(400)]
        log(server, run, points, batch=90)
        log(server, run, points[:50])
        assert read(server, run, limit=limit) == sorted(set(points))

    def test_chunks_that_overlap_are_merged(self, server, run):
        ordered = [(t, t, float(t)) for t in range(1_000)]
        # Each batch covers the whole range.
        log(server, run, [ordered[i] for begin in range(10) for i in range(begin, 1_000, 10)], batch=100)
        assert read(server, run, limit=333) == ordered

    def test_a_history_without_values_is_empty(self, server, run):
        assert server.get("metrics/get-history", run_id=run, metric_key="none") == {"metrics": []}

    def test_nan_is_sorted_as_zero(self, server, run):
        log(server, run, [(1, 1, 1.0), (1, 1, "NaN"), (1, 1, -1.0), (1, 1, "NaN")])
        assert [value for _, _, value in read(server, run)] == [-1.0, "NaN", 1.0]

    @pytest.mark.parametrize("token", ["x", "e30", "W10=", "eyJvZmZzZXQiOjF9"])
    def test_another_token_is_refused(self, server, run, token):
        log(server, run, [(1, 1, 1.0)])
        with pytest.raises(InvalidInputError, match="Invalid page token"):
            server.get("metrics/get-history", run_id=run, metric_key="m", page_token=token)

    def test_a_page_reads_no_more_than_it_needs(self, server, run):
        log(server, run, [(t, t, float(t)) for t in range(20_000)])
        reads = []
        get_many = server.store.get_many
        server.store.get_many = lambda keys: reads.append(len(keys)) or get_many(keys)
        response = server.get("metrics/get-history", run_id=run, metric_key="m", max_results=1_000)
        assert len(response["metrics"]) == 1_000
        assert sum(reads) <= 2 + 4

    def test_many_metrics_of_one_request_fit_one_transaction(self, server, run):
        for step in range(12):
            metrics = [{"key": f"m{i}", "value": step, "timestamp": step, "step": step} for i in range(900)]
            server.post("runs/log-batch", run_id=run, metrics=metrics)
        assert [one[1] for one in read(server, run, "m0")] == list(range(12))
        assert [one[1] for one in read(server, run, "m899")] == list(range(12))

    def test_values_that_are_logged_one_by_one_become_chunks(self, server, run):
        for i in range(200):
            server.post("runs/log-metric", run_id=run, key="m", value=i, timestamp=i, step=i)
        headers = list(server.store.query(f"RUN#{run}", "H#", table="tracking"))
        assert 2 <= len(headers) <= 4
        assert read(server, run) == [(i, i, i) for i in range(200)]


class TestSamples:
    def sample(self, server, run, **query):
        response = server.get("metrics/get-history-bulk-interval", run_ids=[run], metric_key="m", **query)
        return [one["step"] for one in response["metrics"]]

    @pytest.mark.parametrize("number", [1, 2, 3, 10, 99, 100, 320])
    def test_a_short_history_is_sampled_as_mlflow_samples_it(self, server, run, number):
        log(server, run, [(t, t, float(t)) for t in range(100)])
        steps = self.sample(server, run, max_results=number)
        assert len(steps) == min(number, 100)
        assert steps[-1] == 99
        assert steps[0] == (0 if number > 1 else 99)
        gaps = [after - before for before, after in itertools.pairwise(steps)]
        assert not gaps or number > 50 or max(gaps) <= 2 * min(gaps) + 1

    def test_parts_are_those_of_sqls_ntile(self):
        # Of 10 values in 4 parts: 3, 3, 2, 2; the last value stands in for the last part's first.
        assert find_sample_positions(10, 4) == [0, 3, 6, 9]
        assert find_sample_positions(3, 4) == [0, 1, 2]

    def test_an_interval_of_steps(self, server, run):
        log(server, run, [(t, t, float(t)) for t in range(100)])
        assert self.sample(server, run, start_step=10, end_step=12) == [10, 11, 12]

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ({"start_step": 1}, "both must be specified"),
            ({"start_step": 2, "end_step": 1}, "end_step must be greater than start_step"),
            ({"max_results": 0}, "max_results must be between 1 and 2500"),
            ({"max_results": 2_501}, "max_results must be between 1 and 2500"),
            ({"run_ids": ["a" * 32] * 101}, "must specify at most 100 run_ids. Received 101"),
        ],
    )
    def test_faults_are_named(self, server, run, query, message):
        with pytest.raises(InvalidInputError, match=message):
            server.get("metrics/get-history-bulk-interval", **{"run_ids": [run], "metric_key": "m", **query})

    def test_a_long_history_is_sampled_from_few_chunks(self, server, run):
        # Written as log-batch would, a thousand values a chunk.
        record = server.store
        log(server, run, [(t, t, float(t)) for t in range(60_000)])
        contents = []
        get_many = record.get_many

        def count(keys):
            contents.extend(key for key in keys if key.sort.startswith("C#"))
            return get_many(keys)

        record.get_many = count
        steps = self.sample(server, run, max_results=320)
        assert (steps[0], steps[-1], len(steps)) == (0, 59_999, 320)
        gaps = [after - before for before, after in itertools.pairwise(steps)]
        assert max(gaps) < 3 * 60_000 / 320
        assert len(contents) <= 100


def test_runs_one_after_the_other(server):
    runs = [server.post("runs/create", start_time=1)["run"]["info"]["run_id"] for _ in range(2)]
    for run in runs:
        log(server, run, [(1, 1, 1.0), (2, 2, 2.0)])
    found = server.get("metrics/get-history-bulk", run_id=runs, metric_key="m", max_results=3)["metrics"]
    assert [(one["run_id"], one["step"]) for one in found] == [(runs[0], 1), (runs[0], 2), (runs[1], 1)]


def test_a_page_fits_into_a_response_however_long_the_key_is(server):
    run_id = server.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    key = "m" * 250
    for begin in range(0, 12_000, 1_000):
        values = [{"key": key, "value": step, "timestamp": step, "step": step} for step in range(begin, begin + 1_000)]
        server.post("runs/log-batch", run_id=run_id, metrics=values)
    page = server.get("metrics/get-history", run_id=run_id, metric_key=key)
    assert len(page["metrics"]) * (250 + 170) < 4_600_000
    rest = server.get("metrics/get-history", run_id=run_id, metric_key=key, page_token=page["next_page_token"])
    assert len(page["metrics"]) + len(rest["metrics"]) == 12_000
