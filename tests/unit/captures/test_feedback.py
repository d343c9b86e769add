import json
from datetime import timedelta

import pytest
from millrace.captures.feedback import MAX_RECORDS, outcome_reader, record_feedback
from millrace.captures.joining import describe_coverage, join_window
from millrace.captures.window import ReadReport, iterate_feedback, read_window
from millrace.errors import InvalidInputError, ModelNotFoundError, PayloadTooLargeError, SchemaNotFoundError
from millrace.layout import schema_key
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

from tests.captured_rows import MODEL, NOON, make_row, store_rows
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry

LATER = NOON + timedelta(days=1)
HOUR = timedelta(hours=1)
ID = "0a6c2f6e-9f0f-4d67-8c36-5b0e3f0c9a11"


def make_schema(version: int = 1, classes=("no", "yes"), target: Column | None = None, task="binary") -> TableSchema:
    columns = (
        Column("age", "integer"),
        Column("customer", "integer", role="identifier"),
        target or Column("churned", "category", role="target", categories=classes),
    )
    return TableSchema(columns, task, classes, version)


class Feedback:
    """A model that has seen data, and its data bucket."""

    def __init__(self, *schemas: TableSchema) -> None:
        self.registry = MemoryRegistry()
        self.store = MemoryObjectStore("data")
        self.registry.put_spec(MODEL, ModelSpec())
        for schema in schemas:
            self.store.put(schema_key(MODEL, schema.version), json.dumps(schema.to_dict()).encode())
            self.registry.set_schema_version(MODEL, schema.version)

    def send(self, document, now=LATER, caller="ann"):
        return record_feedback(MODEL, document, caller=caller, registry=self.registry, data_store=self.store, now=now)

    def records(self):
        report = ReadReport()
        return list(iterate_feedback(self.store, MODEL, NOON, NOON + timedelta(days=400), report))

    def faults(self, document) -> dict[str, str]:
        with pytest.raises(InvalidInputError) as refusal:
            self.send(document)
        assert self.store.keys("feedback/") == []
        return {fault.field: fault.message for fault in refusal.value.fields}


@pytest.fixture
def feedback() -> Feedback:
    return Feedback(make_schema())


class TestRecording:
    def test_one_report(self, feedback):
        receipt = feedback.send({"prediction_id": ID, "outcome": "yes"})
        assert receipt == {"model": MODEL, "received": 1, "received_at": "2026-05-04T12:00:00.000000Z"}
        (record,) = feedback.records()
        assert (record.prediction_id, record.row_id, record.outcome) == (ID, None, "yes")
        assert record.observed_at == record.received_at == LATER

    def test_many_reports_by_either_name(self, feedback):
        feedback.send(
            {
                "feedback": [
                    {"prediction_id": f"{ID}-3", "outcome": "no", "observed_at": "2026-05-04T09:00:00+02:00"},
                    {"row_id": 17, "outcome": "yes"},
                    {"customer": 18.0, "churned": " yes "},
                    {"customer": "19", "prediction_id": None, "churned": "no", "observed_at": "2026-05-01"},
                ]
            }
        )
        records = feedback.records()
        assert [record.row_id for record in records] == [None, "17", "18", "19"]
        assert [record.outcome for record in records] == ["no", "yes", "yes", "no"]
        assert records[0].observed_at.isoformat() == "2026-05-04T07:00:00+00:00"
        assert records[3].observed_at.isoformat() == "2026-05-01T00:00:00+00:00"

    def test_the_same_again_is_one_object_and_one_outcome(self, feedback):
        store_rows(feedback.store, [make_row(0, prediction_id=f"{ID}-0")])
        report = {"prediction_id": ID, "outcome": "yes", "observed_at": "2026-05-04T09:00:00Z"}
        for minutes in range(3):
            feedback.send(report, LATER + timedelta(minutes=minutes))
        feedback.send(report, LATER + timedelta(days=2))
        assert len(feedback.store.keys("feedback/")) == 2  # one a day
        assert len({record.feedback_id for record in feedback.records()}) == 1
        joined = join_window(
            feedback.store, read_window(feedback.store, MODEL, NOON, NOON + HOUR), LATER + timedelta(days=9)
        )
        assert joined.outcomes.tolist() == ["yes"]

    def test_a_correction_holds_and_so_does_its_correction(self, feedback):
        store_rows(feedback.store, [make_row(0, prediction_id=f"{ID}-0")])
        for minutes, outcome in enumerate(["yes", "no", "yes"]):
            feedback.send({"prediction_id": ID, "outcome": outcome}, LATER + timedelta(minutes=minutes))
        joined = join_window(feedback.store, read_window(feedback.store, MODEL, NOON, NOON + HOUR), LATER + HOUR)
        assert joined.outcomes.tolist() == ["yes"]

    def test_nothing_is_kept_where_one_is_wrong_and_each_is_named(self, feedback):
        faults = feedback.faults(
            {
                "feedback": [
                    {"prediction_id": ID, "outcome": "yes"},
                    {"outcome": "yes"},
                    {"prediction_id": ID, "outcome": "perhaps"},
                    {"prediction_id": "a b", "outcome": None},
                    {"row_id": [1], "outcome": "no", "observed_at": "soon"},
                    {"row_id": "1", "outcome": "no", "observed_at": "2027-01-01"},
                    {"row_id": "1", "outcome": "no", "churned": "no", "colour": "red"},
                    "yes",
                ]
            }
        )
        assert set(faults) == {
            "row 1: prediction_id",
            "row 2: outcome",
            "row 3: prediction_id",
            "row 3: outcome",
            "row 4: row_id",
            "row 4: observed_at",
            "row 5: observed_at",
            "row 6: churned",
            "row 6: colour",
            "row 7: report",
        }
        assert "'customer'" in faults["row 1: prediction_id"]
        assert faults["row 2: outcome"] == "expects one of 'no', 'yes'"
        assert faults["row 5: observed_at"] == "is in the future"

    def test_every_wrong_row_of_a_full_request_is_named(self, feedback):
        reports = [{"row_id": row, "outcome": "perhaps"} for row in range(MAX_RECORDS)]
        assert len(feedback.faults({"feedback": reports})) == MAX_RECORDS

    @pytest.mark.parametrize(
        "document", [{}, {"feedback": {}}, {"feedback": []}, {"feedback": [{}], "more": 1}, {"feedback": [None]}]
    )
    def test_what_is_no_feedback_is_refused(self, feedback, document):
        assert feedback.faults(document)

    def test_too_many_at_once_are_refused(self, feedback):
        with pytest.raises(PayloadTooLargeError):
            feedback.send({"feedback": [{}] * (MAX_RECORDS + 1)})

    def test_clocks_may_lie_a_little_apart_and_no_report_is_from_the_future(self, feedback):
        feedback.send({"row_id": 1, "outcome": "no", "observed_at": (LATER + timedelta(minutes=4)).isoformat()})
        (record,) = feedback.records()
        assert record.observed_at == record.received_at == LATER

    def test_a_report_that_is_ahead_does_not_outlast_the_correction_of_the_next_minute(self, feedback):
        store_rows(feedback.store, [make_row(0, prediction_id=f"{ID}-0")])
        ahead = (LATER + timedelta(minutes=4, seconds=59)).isoformat()
        feedback.send({"prediction_id": ID, "outcome": "no", "observed_at": ahead}, caller="mallory")
        feedback.send({"prediction_id": ID, "outcome": "yes"}, LATER + timedelta(minutes=1))
        window = read_window(feedback.store, MODEL, NOON, NOON + HOUR)
        assert join_window(feedback.store, window, LATER + HOUR).outcomes.tolist() == ["yes"]

    def test_callers_keep_their_own_reports_and_can_be_left_out(self, feedback):
        store_rows(feedback.store, [make_row(0, prediction_id=f"{ID}-0")])
        report = {"prediction_id": ID, "outcome": "yes", "observed_at": "2026-05-04T09:00:00Z"}
        feedback.send(report, caller="ann")
        feedback.send(report | {"outcome": "no"}, LATER + HOUR, caller="arn:aws:sts::1:assumed-role/Leaked/7")
        feedback.send(report, LATER + HOUR, caller="mallory")
        assert len({record.feedback_id for record in feedback.records()}) == 3
        window = read_window(feedback.store, MODEL, NOON, NOON + HOUR)

        def outcome(*excluded: str) -> tuple[list, int]:
            joined = join_window(feedback.store, window, LATER + 2 * HOUR, excluded)
            return joined.outcomes.tolist(), joined.report.excluded

        assert outcome("mallory") == (["no"], 1)
        assert outcome("mallory", "arn:aws:sts::1:assumed-role/Leaked/*") == (["yes"], 2)
        assert outcome("*") == ([None], 3)
        coverage = describe_coverage(MODEL, 48, feedback.store, LATER + 2 * HOUR, ["mallory"])
        assert {each["caller"] for each in coverage["callers"]} == {record.caller for record in feedback.records()}
        assert [each["caller"] for each in coverage["callers"] if each["excluded"]] == ["mallory"]
        assert coverage["feedback"]["excluded"] == 1

    @pytest.mark.parametrize("row_id", ["\ud800", 2**63, -(2**63), 10**400, 1e300, "x" * 257, "\0", " ", True])
    def test_an_id_that_no_table_could_hold_is_refused(self, feedback, row_id):
        assert "row 0: row_id" in feedback.faults({"row_id": row_id, "outcome": "yes"})

    def test_of_an_unknown_model_there_is_none(self, feedback):
        with pytest.raises(ModelNotFoundError):
            record_feedback(
                "nobody", {}, caller="ann", registry=feedback.registry, data_store=feedback.store, now=LATER
            )
        with pytest.raises(SchemaNotFoundError):
            Feedback().send({"prediction_id": ID, "outcome": "yes"})

    def test_an_outcome_of_an_earlier_schema_is_taken(self):
        later = Feedback(make_schema(1, ("no", "yes")), make_schema(2, ("left", "stayed")))
        later.send({"feedback": [{"row_id": 1, "outcome": "left"}, {"row_id": 2, "outcome": "no"}]})
        assert [record.outcome for record in later.records()] == ["left", "no"]
        with pytest.raises(InvalidInputError, match="1 of 1 report is wrong") as refusal:
            later.send({"row_id": 1, "outcome": "gone"})
        assert refusal.value.fields[0].message == "expects one of 'left', 'stayed'"


class TestOutcomes:
    @pytest.mark.parametrize(
        ("target", "classes", "values", "outcome"),
        [
            (Column("y", "integer", "target"), ("0", "1"), [1, 1.0, "1", " 1 ", "1.0"], "1"),
            (Column("y", "boolean", "target"), ("false", "true"), [True, 1, "true", "TRUE", "1"], "true"),
            (
                Column("y", "boolean", "target", true_values=("yes",), false_values=("no",)),
                ("No", "Yes"),
                [True, "yes", "YES", "true", "Yes"],
                "Yes",
            ),
            (Column("y", "category", "target"), ("a", "b"), ["a", " a"], "a"),
            (Column("y", "category", "target"), ("1", "2"), [2, "2"], "2"),
            (Column("y", "category", "target"), ("NA", "EU"), ["NA"], "NA"),
        ],
    )
    def test_a_class_may_be_written_in_its_ways(self, target, classes, values, outcome):
        read = outcome_reader(make_schema(classes=classes, target=target))
        assert [read(value) for value in values] == [outcome] * len(values)

    @pytest.mark.parametrize(
        "value",
        [None, "", "nan", "2", 2, [], {}, "yes", 0.5, True, float("nan"), 10**400, float("inf"), "1e400"],
    )
    def test_what_is_no_class_is_named_as_wrong(self, value):
        read = outcome_reader(make_schema(classes=("0", "1"), target=Column("y", "integer", "target")))
        with pytest.raises(ValueError, match=r"missing|expects"):
            read(value)

    def test_numbers_are_numbers(self):
        schema = make_schema(classes=(), target=Column("y", "number", "target"), task="regression")
        read = outcome_reader(schema)
        assert [read(value) for value in (1, "2.5", -3.0, " 4 ")] == [1.0, 2.5, -3.0, 4.0]
        for value in (None, "", "many", True, [], float("inf"), "nan", 10**400, 1.7e308, "-3.5e38"):
            with pytest.raises(ValueError, match=r"missing|expects"):
                read(value)
