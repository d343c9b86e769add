import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from millrace_cli.commands.local import parse_duration
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.simulation import (
    Traffic,
    TrafficStats,
    apply_shifts,
    parse_shift,
    read_newest_dataset,
)


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def table(rows=1_000):
    random = np.random.default_rng(1)
    return {
        "age": objects(*(int(age) for age in random.integers(18, 80, rows))),
        "spent": objects(*(None if number < 10 else float(number) for number in random.uniform(0, 100, rows))),
        "plan": objects(*random.choice(["basic", "pro"], rows).tolist()),
        "churned": objects(*random.choice(["no", "yes"], rows).tolist()),
    }


def shifted(*texts, rows=1_000):
    random = np.random.default_rng(2)
    return apply_shifts(table(rows), [parse_shift(text) for text in texts], "churned", random)


class TestShifts:
    def test_numbers_move_by_standard_deviations_and_stay_whole(self):
        before, after = table()["age"], shifted("age:+2sd")["age"]
        assert all(isinstance(age, int) for age in after)
        moved = np.mean(after.astype(float) - before.astype(float)) / np.std(before.astype(float))
        assert moved == pytest.approx(2.0, abs=0.02)
        assert np.mean(shifted("age:-0.5sd")["age"].astype(float)) < np.mean(before.astype(float))

    def test_numbers_are_scaled_and_what_is_missing_stays_missing(self):
        before, after = table()["spent"], shifted("spent:*1.5")["spent"]
        assert [value is None for value in after] == [value is None for value in before]
        assert all(new == pytest.approx(1.5 * old) for new, old in zip(after, before, strict=True) if old is not None)

    def test_a_category_takes_a_share(self):
        assert np.mean(shifted("plan:basic=0.9")["plan"] == "basic") == pytest.approx(0.95, abs=0.02)
        assert set(shifted("plan:new=1")["plan"]) == {"new"}

    def test_a_share_goes_missing(self):
        missing = [value is None for value in shifted("age:missing=0.3")["age"]]
        assert np.mean(missing) == pytest.approx(0.3, abs=0.05)

    def test_labels_flip_and_nothing_else_changes(self):
        before, after = table(), shifted("label:flip=0.2")
        assert np.mean(before["churned"] != after["churned"]) == pytest.approx(0.2, abs=0.05)
        assert all((before[name] == after[name]).all() for name in ("age", "plan"))

    def test_a_number_to_predict_trades_places(self):
        columns = {"spent": objects(*(float(number) for number in range(100)))}
        after = apply_shifts(columns, [parse_shift("label:flip=1")], "spent", np.random.default_rng(3))["spent"]
        assert sorted(after) == sorted(columns["spent"])
        assert np.mean(after != columns["spent"]) > 0.9

    def test_shifts_follow_each_other_and_the_same_seed_gives_the_same(self):
        first, second = shifted("age:+1sd", "age:missing=0.5"), shifted("age:+1sd", "age:missing=0.5")
        assert first["age"].tolist() == second["age"].tolist()

    @pytest.mark.parametrize("text", ["age", "age:", ":+2sd", "age:+2", "age:2sd", "age:missing=1.5", "age:flip=0.1"])
    def test_what_is_no_shift_is_refused_with_an_example(self, text):
        with pytest.raises(RefusedError) as refusal:
            parse_shift(text)
        assert "age:+2sd" in refusal.value.hint

    def test_a_column_that_is_not_there_is_named_with_those_that_are(self):
        with pytest.raises(RefusedError, match="'size'") as refusal:
            shifted("size:+1sd")
        assert "age, spent, plan, churned" in refusal.value.hint

    def test_strings_cannot_be_moved(self):
        with pytest.raises(RefusedError, match="'plan' is not numeric"):
            shifted("plan:+1sd")


class FakeStack:
    def __init__(self, fault=None):
        self.fault = fault
        self.predicted, self.feedback = [], []

    def post(self, path, body):
        if self.fault and path.endswith("invocations"):
            raise self.fault
        if path.endswith("feedback"):
            self.feedback.extend(body["feedback"])
            return {"received": len(body["feedback"])}
        self.predicted.extend(body["dataframe_records"])
        labels = [{"label": "no"} for _ in body["dataframe_records"]]
        return {"predictions": labels, "prediction_id": f"p{len(self.predicted)}", "model_version": "3"}


class Clock:
    def __init__(self):
        self.now = 0.0

    def sleep(self, seconds):
        self.now += max(seconds, 0.01)

    def __call__(self):
        return self.now


def send(stack, rate=20.0, seconds=5.0, with_labels=True, columns=None):
    clock = Clock()
    random = np.random.default_rng(4)
    traffic = Traffic(stack, "churn", columns or table(50), "churned", with_labels, random, clock.sleep, clock)
    for sent in traffic.send(rate, seconds):  # noqa: B007  # the last one is what is asked for
        pass
    return sent


class TestTraffic:
    def test_the_requested_rows_are_sent_without_the_target(self):
        stack = FakeStack()
        sent = send(stack)
        assert (sent.rows, len(stack.predicted), sent.versions) == (100, 100, {3})
        assert set(stack.predicted[0]) == {"age", "spent", "plan"}

    def test_every_outcome_is_reported_once_under_its_predictions_id(self):
        stack = FakeStack()
        sent = send(stack)
        ids = [report["prediction_id"] for report in stack.feedback]
        assert len(ids) == len(set(ids)) == sent.feedback == 100
        right = sum(report["outcome"] == "no" for report in stack.feedback)
        assert sent.correct == right
        assert 0 < right < 100

    def test_without_labels_nothing_is_reported(self):
        stack = FakeStack()
        assert send(stack, with_labels=False).feedback == 0
        assert stack.feedback == []

    def test_an_outcome_that_is_not_known_is_not_reported(self):
        columns = {"age": objects(1, 1), "churned": objects("no", None)}
        stack = FakeStack()
        sent = send(stack, columns=columns)
        assert 0 < sent.feedback < sent.rows

    def test_refusals_are_counted_and_traffic_goes_on(self):
        sent = send(FakeStack(ApiError("slow down", status=429, error_code="", hint="")))
        assert (sent.rows, sent.refused, sent.last_error) == (0, 50, "slow down")
        assert "50 requests rejected (slow down)" in sent.summary("churn")

    def test_a_line_says_what_became_of_it(self):
        sent = TrafficStats(rows=2_000, correct=1_500, feedback=2_000, versions={2, 1})
        assert sent.summary("churn") == (
            "churn: 2,000 rows predicted by version 1, 2, 2,000 outcomes reported, 75.0% correct"
        )


class FakeTarget:
    def __init__(self, body):
        self.body = body

    def output(self, name):
        return "data"

    def client(self, service):
        return self

    def get_object(self, *, Bucket, Key):
        assert (Bucket, Key) == ("data", "datasets/churn/ab12/data.parquet")
        return {"Body": io.BytesIO(self.body)}


class FakeReads:
    def __init__(self, datasets):
        self.documents = {
            "/models/churn/datasets": {"datasets": datasets},
            "/models/churn/schema": {
                "classes": ["no", "yes"],
                "columns": [
                    {"name": "id", "role": "identifier"},
                    {"name": "since", "role": "feature"},
                    {"name": "note", "role": "ignored"},
                    {"name": "churned", "role": "target"},
                ],
            },
        }

    def get(self, path, query=None):
        assert query in (None, {"limit": "1"})
        return self.documents[path]


class TestRows:
    def test_the_newest_dataset_is_written_as_a_request_would_have_it(self):
        stored = pa.table(
            {
                "id": ["1", "2"],
                "since": pa.array([0, None], pa.timestamp("us", "UTC")),
                "note": ["a", "b"],
                "churned": [float("nan"), 1.0],
            }
        )
        buffer = io.BytesIO()
        pq.write_table(stored, buffer)
        reads = FakeReads([{"dataset_id": "ab12"}, {"dataset_id": "older"}])
        columns, target = read_newest_dataset("churn", reads, FakeTarget(buffer.getvalue()))
        assert target == "churned"
        assert {name: values.tolist() for name, values in columns.items()} == {
            "id": ["1", "2"],
            "since": ["1970-01-01T00:00:00Z", None],
            "churned": [None, 1.0],
        }

    def test_a_boolean_target_has_the_class_names_of_responses(self):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"id": ["1", "2", "3"], "churned": [True, False, None]}), buffer)
        columns, _ = read_newest_dataset("churn", FakeReads([{"dataset_id": "ab12"}]), FakeTarget(buffer.getvalue()))
        assert columns["churned"].tolist() == ["yes", "no", None]

    def test_a_model_without_data_is_refused_with_what_to_do(self):
        with pytest.raises(RefusedError, match="no dataset"):
            read_newest_dataset("churn", FakeReads([]), FakeTarget(b""))


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5_400)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "0s", "5 m", "-1s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(RefusedError, match="not a duration"):
        parse_duration(text)
