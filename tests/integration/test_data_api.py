"""Specs, schemas and datasets over the management API: the shipped handlers on moto, called with sample events."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from millrace.aws import clients
from millrace.aws.schedules import EventBridgeSchedules
from millrace.entities import Cause, LedgerEntry, Run, Source
from millrace.registry.store import Registry
from millrace.registry.transactions import DeleteModel, RegistryTransaction
from millrace.spec import ModelSpec

from tests import schedule_environment
from tests.integration.application import DATA_BUCKET, Application
from tests.registry_builders import MODEL, make_entry

EVENTS = Path(__file__).resolve().parents[2] / "events" / "manage_models"
NOW = datetime(2026, 5, 3, 14, 15, tzinfo=UTC)


class Api:
    """The management API, and uploads that are validated but not trained on."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.uploads = 0

    @property
    def registry(self) -> Registry:
        return clients.registry()

    def ask(self, name: str, **parameters: str) -> tuple[int, Any]:
        """Send a sample event, with other path parameters."""
        return self.send(json.loads((EVENTS / f"{name}.json").read_text()), **parameters)

    def send(self, event: dict[str, Any], **parameters: str) -> tuple[int, Any]:
        path = event["resource"]
        event["pathParameters"] |= parameters
        for parameter, value in event["pathParameters"].items():
            path = path.replace(f"{{{parameter}}}", value)
        response = self.application.call("manage_models", event | {"path": path})
        return response["statusCode"], json.loads(response["body"])

    def change_spec(self, spec: object, **request: object) -> tuple[int, Any]:
        event = json.loads((EVENTS / "valid_spec_change.json").read_text())
        return self.send(event | {"body": json.dumps({"spec": spec, **request})})

    def upload(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Upload a table and validate it; returns the verdict."""
        self.uploads += 1
        key, now = f"incoming/{MODEL}/{self.uploads}.csv", NOW + timedelta(hours=self.uploads)
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
        version = boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=key, Body="\n".join(lines).encode())
        source = Source(DATA_BUCKET, key, version["VersionId"], now)
        cause = Cause(f"{self.uploads:032d}", MODEL, "upload", now, source)
        run = Run(MODEL, f"{now:%Y%m%dT%H%M%S}-{self.uploads:012d}", (cause.cause_id,), "upload", now, (source,))
        self.registry.claim_cause(cause, run, make_entry(cause.cause_id, at=now))
        verdict: dict[str, Any] = self.application.call("validate_dataset", {"model": MODEL, "run_id": run.run_id})
        assert self.registry.release_run(MODEL, run.run_id, None, None)
        return verdict


@pytest.fixture
def api(application: Application) -> Api:
    return Api(application)


def make_rows(count: int = 120, seed: int = 1, older: float = 0.0) -> list[dict[str, Any]]:
    generator = random.Random(seed)
    return [
        {
            "age": round(generator.gauss(40 + older, 10), 1),
            "plan": generator.choice(["basic", "plus", "pro"]),
            "household": generator.randrange(40),
            "churned": generator.choice(["no", "yes"]),
        }
        for _ in range(count)
    ]


class TestSpec:
    def test_a_spec_creates_its_model_and_says_who_gave_it(self, api):
        status, body = api.ask("valid_spec_change")
        assert status == 200
        assert body["revision"] == 1
        assert body["changed_by"] == "arn:aws:iam::123456789012:user/ann"
        assert body["spec"]["columns"]["age"]["maximum"] == 120
        assert "target: None -> churned" in body["changes"]
        assert body["schema"] == {"kind": None, "details": []}
        assert [state.model for state in api.registry.list_models()] == [MODEL]
        status, shown = api.ask("valid_spec")
        assert (status, shown["spec"], shown["revision"]) == (200, body["spec"], 1)
        (entry,) = api.ask("valid_ledger")[1]["entries"]
        assert (entry["action"], entry["actor"], entry["reason"]) == (
            "spec_changed",
            "arn:aws:iam::123456789012:user/ann",
            "ages are checked",
        )
        assert entry["details"]["revision"] == 1

    def test_the_same_spec_again_is_no_change(self, api):
        api.ask("valid_spec_change")
        status, body = api.ask("valid_spec_change")
        assert (status, body["revision"], body["changes"]) == (200, 1, [])
        assert len(api.ask("valid_ledger")[1]["entries"]) == 1

    def test_every_bad_field_is_named_as_the_spec_calls_it(self, api):
        status, body = api.ask("refused_spec_fields")
        assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert {fault["field"] for fault in body["fields"]} == {"targt", "columns.age.role", "columns.age.pattern"}
        assert api.registry.list_models() == []

    def test_a_body_that_is_no_json_is_refused(self, api):
        status, body = api.ask("refused_spec_body")
        assert (status, body["fields"][0]["field"]) == (400, "body")

    @pytest.mark.parametrize("body", [[], {}, {"spec": []}, {"spec": {}, "revision": 1}])
    def test_a_body_of_another_form_is_refused(self, api, body):
        event = json.loads((EVENTS / "valid_spec_change.json").read_text())
        status, answer = api.send(event | {"body": json.dumps(body)})
        assert status == 400
        assert answer["fields"] if body else answer["message"]

    def test_a_spec_that_was_changed_meanwhile_is_a_conflict(self, api):
        api.ask("valid_spec_change")
        status, body = api.ask("refused_spec_revision")
        assert (status, body["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert api.change_spec({"seed": 7}, expected_revision=1)[0] == 200

    def test_a_spec_too_large_to_be_kept_is_refused(self, api):
        words = [f"{number:0500d}" for number in range(1_000)]
        status, body = api.change_spec({"columns": {"a": {"allowed": words}}})
        assert status == 400
        assert "bytes" in body["message"]

    def test_a_model_that_nobody_described_has_the_default_spec(self, api):
        api.change_spec({"target": "churned"})
        api.upload(make_rows())
        assert api.ask("valid_spec")[1]["spec"] == ModelSpec(target="churned").model_dump(mode="json")


class TestSchedules:
    def test_a_models_schedule_follows_its_spec(self, api):
        def kept():
            found = boto3.client("scheduler").list_schedules(GroupName=schedule_environment.GROUP)["Schedules"]
            return [schedule["Name"] for schedule in found]

        status, document = api.change_spec({"retraining": {"schedule": "rate(7 days)"}})
        assert (status, document["schedules"]) == (200, ["retraining: none -> rate(7 days) (UTC)"])
        assert kept() == [MODEL]
        boto3.client("scheduler").delete_schedule(GroupName=schedule_environment.GROUP, Name=MODEL)
        status, document = api.change_spec({"retraining": {"schedule": "rate(7 days)"}})
        assert (document["changes"], document["schedules"]) == ([], ["retraining: none -> rate(7 days) (UTC)"])
        api.change_spec({})
        assert kept() == []


class TestSchema:
    def test_who_deletes_a_model_meanwhile_wins_and_no_schedule_is_left(self, api, monkeypatch):
        api.change_spec({})
        put = EventBridgeSchedules.put

        def deleted_meanwhile(schedules, schedule):
            put(schedules, schedule)
            entry = LedgerEntry("churn", "deleted", datetime.now(UTC), "ann", "model_deleted", "not needed")
            deletion = RegistryTransaction(entry, api.registry.get_state("churn").revision, (DeleteModel(),))
            # On a thread of its own: it is no doing of the function, whose policy does not allow it.
            with ThreadPoolExecutor(1) as somebody_else:
                somebody_else.submit(api.registry.commit, deletion).result()

        monkeypatch.setattr(EventBridgeSchedules, "put", deleted_meanwhile)
        status, body = api.change_spec({"retraining": {"schedule": "rate(7 days)"}})
        assert (status, "was deleted" in body["message"]) == (404, True)
        assert boto3.client("scheduler").list_schedules()["Schedules"] == []

    def test_a_spec_makes_a_deleted_model_again_even_the_default_one(self, api):
        api.change_spec({"target": "churned"})
        entry = LedgerEntry("churn", "deleted", datetime.now(UTC), "ann", "model_deleted", "not needed")
        api.registry.commit(RegistryTransaction(entry, api.registry.get_state("churn").revision, (DeleteModel(),)))
        assert api.change_spec({})[0] == 200
        assert api.registry.get_state("churn").deleted_at is None

    def test_a_schema_is_shown_and_follows_the_spec(self, api):
        api.change_spec({"target": "churned"})
        assert api.ask("valid_schema")[0] == 404
        assert api.upload(make_rows())["outcome"] == "accepted"
        status, first = api.ask("valid_schema")
        assert (status, first["version"], first["revision"]) == (200, 1, 0)

        rules = {"target": "churned", "columns": {"age": {"minimum": 0, "maximum": 120}}}
        _, answer = api.change_spec(rules)
        assert answer["schema"]["kind"] == "compatible"
        assert any("rule maximum" in detail for detail in answer["schema"]["details"])
        assert api.upload(make_rows(seed=2))["outcome"] == "accepted"
        second = api.ask("valid_schema")[1]
        assert (second["version"], second["revision"]) == (1, 1)
        assert second["columns"][0]["rules"] == {"minimum": 0.0, "maximum": 120.0}

        rules["columns"]["household"] = {"type": "category"}
        assert api.change_spec(rules)[1]["schema"]["kind"] == "incompatible"
        verdict = api.upload(make_rows(seed=3))
        assert (verdict["outcome"], verdict["rows"]) == ("accepted", 120)
        third = api.ask("valid_schema")[1]
        assert (third["version"], third["revision"]) == (2, 0)
        assert [api.registry.get_state(MODEL).schema_version, third["columns"][2]["type"]] == [2, "category"]

        event = json.loads((EVENTS / "refused_schema_version.json").read_text())
        for version, expected in (("1", second), ("1.0", first), ("2.0", third)):
            assert api.send(event | {"queryStringParameters": {"version": version}}) == (200, expected)
        api.registry.file_notes(MODEL)
        changes = [entry for entry in api.ask("valid_ledger")[1]["entries"] if entry["action"] == "schema_changed"]
        assert [entry["details"]["kind"] for entry in changes] == ["incompatible", "compatible", "compatible"]

    @pytest.mark.parametrize("version", ["7", "1.5", "x", "1.2.3", "-1"])
    def test_a_schema_that_is_not_there_is_404(self, api, version):
        api.change_spec({"target": "churned"})
        api.upload(make_rows())
        event = json.loads((EVENTS / "refused_schema_version.json").read_text())
        status, body = api.send(event | {"queryStringParameters": {"version": version}})
        assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


class TestDatasets:
    @pytest.fixture
    def ids(self, api):
        api.change_spec({"target": "churned", "columns": {"plan": {"sensitive": True}}})
        verdicts = [api.upload(make_rows(seed=1)), api.upload(make_rows(90, seed=2, older=15.0))]
        return [verdict["dataset_ids"][-1] for verdict in verdicts]

    def test_datasets_are_listed_newest_first(self, api, ids):
        status, body = api.ask("valid_datasets")
        assert status == 200
        assert [dataset["dataset_id"] for dataset in body["datasets"]] == ids[::-1]
        assert [dataset["rows"] for dataset in body["datasets"]] == [90, 120]

    @pytest.mark.parametrize("digits", [8, 64])
    def test_a_dataset_is_described_by_its_id_or_its_beginning(self, api, ids, digits):
        status, body = api.ask("valid_dataset", dataset_id=ids[1][:digits])
        assert status == 200
        assert body["dataset"]["dataset_id"] == body["manifest"]["dataset_id"] == ids[1]
        assert body["manifest"]["parents"] == [ids[0]]
        assert body["profile"]["rows"] == 90
        columns = {column["name"]: column for column in body["profile"]["columns"]}
        assert columns["age"]["maximum"] > columns["age"]["mean"]
        assert "top" in columns["churned"]
        assert "top" not in columns["plan"]

    def test_two_datasets_are_compared(self, api, ids):
        status, body = api.ask("valid_dataset_difference", dataset_id=ids[0], other_id=ids[1][:10])
        assert status == 200
        assert (body["before"], body["after"]) == tuple(ids)
        assert body["schema"] == {"kind": "none", "details": []}
        assert body["volume"]["rows"] == [120, 90]
        assert body["columns"][0]["name"] == "age"
        assert body["columns"][0]["verdict"] == "large"
        (plan,) = [column for column in body["columns"] if column["name"] == "plan"]
        assert plan["psi"] is not None
        assert plan["shares"] == []
        assert sum(share["after"] for share in body["target"]["shares"]) == pytest.approx(1.0)

    def test_a_dataset_and_itself_do_not_differ(self, api, ids):
        body = api.ask("valid_dataset_difference", dataset_id=ids[0], other_id=ids[0])[1]
        assert {column["psi"] for column in body["columns"]} <= {0.0}

    @pytest.mark.parametrize(("name", "expected"), [("refused_dataset_id", 400), ("refused_unknown_dataset", 404)])
    def test_what_is_no_dataset_is_refused(self, api, ids, name, expected):
        assert api.ask(name)[0] == expected

    def test_the_beginning_of_several_ids_is_refused_with_more_digits(self, api, ids, monkeypatch):
        found = api.registry.list_datasets(MODEL)
        monkeypatch.setattr(Registry, "find_datasets", lambda *_, **__: found)
        status, body = api.ask("valid_dataset", dataset_id="abcd")
        assert status == 400
        assert ids[0][:8] in body["message"]

    def test_rows_are_no_part_of_any_answer(self, api, ids):
        answers = [api.ask("valid_datasets"), api.ask("valid_dataset", dataset_id=ids[0])]
        assert "data.parquet" not in {key for _, body in answers for key in body}
