"""Items and documents of commit f0571cb are read, and items are written as they were then."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.errors import ConflictError
from millrace.manifest import Manifest, Signature
from millrace.registry.store import Registry
from millrace.registry.transactions import DeleteModel, MoveAlias
from millrace.schema import TableSchema
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.registry_builders import (
    MODEL,
    later,
    make_approval,
    make_cause,
    make_dataset,
    make_entry,
    make_run,
    make_transaction,
    make_trial,
    make_version,
    point_alias,
)

SAMPLES = Path(__file__).parents[1] / "samples" / "f0571cb"
FIRST, SECOND = make_cause("first.csv"), make_cause("second.csv")
SKIPPED = make_cause("weekly", kind="schedule")
RUN_ID = make_run(FIRST).run_id
SPEC = ModelSpec.parse({"target": "left", "retraining": {"causes": ["drift", "latency"]}})


@pytest.fixture
def table(isolated_from_aws):
    with mock_aws():
        create_table()
        yield boto3.client("dynamodb")


def stored_items() -> list[dict[str, Any]]:
    return json.loads((SAMPLES / "registry_items.json").read_text())


def write_history(registry: Registry) -> None:
    """Write what the sample holds, in the order of its making."""
    registry.put_spec(MODEL, SPEC, make_entry("spec"))
    registry.claim_cause(FIRST, make_run(FIRST), make_entry(FIRST.cause_id, cause_id=FIRST.cause_id))
    registry.claim_cause(SECOND, make_run(SECOND), make_entry(SECOND.cause_id, at=later(1)))
    entry = make_entry(SKIPPED.cause_id, at=later(2), cause_id=SKIPPED.cause_id, kind="schedule")
    reason = "skipped: too soon (weekly was uploaded)"
    registry.skip_cause(SKIPPED, replace(entry, action="trigger_skipped", reason=reason))
    summary = {"rows": 10, "auc": 0.1 + 0.2}
    begun = {"status": "running", "stage": "training", "started_at": later(1)}
    registry.update_run(MODEL, RUN_ID, **begun, summary=summary, reasons=("one", "two"))
    registry.put_trials([make_trial("t1", RUN_ID)])
    first_round = {"round": 1, "rows": 100, "metrics": {"roc_auc": 0.8}, "duration_seconds": 1.5}
    metrics = {"roc_auc": 0.9, "log_loss": float("inf"), "brier": float("nan")}
    registry.update_trial(
        MODEL,
        RUN_ID,
        "t1",
        status="succeeded",
        metrics=metrics,
        duration_seconds=3,
        earlier_rounds=(first_round,),
        peak_memory_mb=512.5,
    )
    registry.put_dataset(make_dataset("d1"))
    registry.renew_dataset(MODEL, "d1", later(5))
    registry.set_schema_version(MODEL, 1)
    version = make_version(registry.next_version(MODEL), run_id=RUN_ID)
    registry.put_version(version, replace(make_entry("v1"), action="model_registered"))
    point_alias(registry, "champion", 1, at=later(6))
    registry.put_approval(make_approval(RUN_ID), make_entry("asked"))


def test_items_are_written_as_before(table):
    write_history(Registry(DynamoRegistryStore(table, TABLE_NAME, RUNS_TABLE_NAME)))
    written = {name: {item["sk"]["S"]: item for item in scan(table, name)} for name in (TABLE_NAME, RUNS_TABLE_NAME)}
    stored = {item["sk"]["S"]: item for item in stored_items()}
    of_runs = {sort for sort in stored if sort.partition("#")[0] in ("RUN", "TRIAL", "DATASET", "DATASETID")}
    assert written[RUNS_TABLE_NAME].keys() == of_runs | {"SCHEMA", "MODEL#churn"}
    assert written[TABLE_NAME].keys() == (stored.keys() - of_runs) | {"CHAIN"}
    # A spec of a later release may have further fields; causes have their refusal and faults as fields now, entries of
    # the ledger are in a chain, and the number of the schema is an item of its own. Causes and runs name incidents and
    # logged models, versions where they come from, trials whether their probabilities may be calibrated, and of which
    # trials they are the refit. Runs say when their stages began, and models since when the champion is.
    changed = {
        "SPEC": {"document"},
        "CAUSE": {"refusal", "faults"},
        "RUN": {"incident_ids", "logged_model", "stages"},
        "TRIAL": {"calibrate", "refit_of"},
        "LEDGER": {"sequence", "previous", "sha256"},
        "STATE": {"schema_version", "last_run_id", "champion_since"},
        "VERSION": {"source"},
        "PENDING": {"pk"},
    }
    for sort, before in stored.items():
        item = written[RUNS_TABLE_NAME if sort in of_runs else TABLE_NAME][sort]
        ignored = changed.get(sort.partition("#")[0], set())
        if "cause" in item:
            item["cause"]["S"] = re.sub(',"(incident_id|logged_model)":null', "", item["cause"]["S"])
        assert {name: value for name, value in item.items() if name not in ignored} == {
            name: value for name, value in before.items() if name not in ignored
        }


def scan(table, name: str) -> list[dict[str, Any]]:
    return table.scan(TableName=name)["Items"]


def test_items_are_read_and_the_work_goes_on(table):
    for item in stored_items():
        table.put_item(TableName=TABLE_NAME, Item=item)
    registry = Registry(DynamoRegistryStore(table, TABLE_NAME, RUNS_TABLE_NAME))
    state = registry.get_state(MODEL)
    assert (state.aliases, state.latest_version, state.schema_version) == ({"champion": 1}, 1, 1)
    assert (state.active_run_id, state.pending_causes) == (RUN_ID, 1)
    record = registry.get_spec_record(MODEL)
    assert (record.spec.target, record.spec.retraining.causes, record.revision) == ("left", ("drift", "latency"), 1)
    skipped = registry.get_cause(MODEL, SKIPPED.cause_id)
    assert (skipped.cause, skipped.refusal) == (SKIPPED, "")
    run = registry.get_run(MODEL, RUN_ID)
    assert (run.summary, run.reasons, run.started_at) == ({"rows": 10, "auc": 0.1 + 0.2}, ("one", "two"), later(1))
    trial = registry.get_trial(MODEL, RUN_ID, "t1")
    assert (trial.metrics["log_loss"], trial.duration_seconds, trial.peak_memory_mb) == (float("inf"), 3.0, 512.5)
    assert trial.metrics["brier"] != trial.metrics["brier"]
    assert trial.earlier_rounds[0]["metrics"] == {"roc_auc": 0.8}
    assert [dataset.uploaded_at for dataset in registry.list_datasets(MODEL)] == [later(5)]
    assert registry.get_version(MODEL, 1) == make_version(1, run_id=RUN_ID)
    assert registry.get_approval(MODEL, RUN_ID) == make_approval(RUN_ID)
    assert [entry.entry_id for entry in registry.list_unpublished()] == ["v1"]
    assert registry.release_run(MODEL, RUN_ID, make_run(SECOND), None)
    assert registry.get_cause(MODEL, SECOND.cause_id).run_id == make_run(SECOND).run_id
    point_alias(registry, "champion", 1, at=later(9))
    assert registry.get_state(MODEL).revision == state.revision + 1


class TestMigration:
    """A stack with items in one table goes on with two, and writes no item of the table of runs to the other."""

    @pytest.fixture
    def registry(self, table):
        for item in stored_items():
            table.put_item(TableName=TABLE_NAME, Item=item)
        return Registry(DynamoRegistryStore(table, TABLE_NAME, RUNS_TABLE_NAME))

    def test_a_run_and_its_trials_go_on(self, registry, table):
        before = scan(table, TABLE_NAME)
        registry.update_run(MODEL, RUN_ID, stage="evaluating")
        registry.update_trial(MODEL, RUN_ID, "t1", reason="later")
        assert registry.get_run(MODEL, RUN_ID).stage == "evaluating"
        assert registry.get_run(MODEL, RUN_ID).reasons == ("one", "two")
        assert [run.stage for run in registry.list_runs(MODEL)] == ["evaluating"]
        assert [trial.reason for trial in registry.list_trials(MODEL, RUN_ID)] == ["later"]
        assert scan(table, TABLE_NAME) == before

    def test_a_cause_that_waits_is_taken_once_and_its_item_stays(self, registry, table):
        assert [record.cause for record in registry.list_pending_causes(MODEL)] == [SECOND]
        follow_up = make_run(SECOND)
        assert registry.release_run(MODEL, RUN_ID, follow_up, None)
        assert registry.list_pending_causes(MODEL) == []
        assert not registry.release_run(MODEL, follow_up.run_id, make_run(SECOND, at=later(1)), None)
        assert [item["taken"] for item in scan(table, TABLE_NAME) if item["sk"]["S"].startswith("PENDING#")]

    def test_runs_of_both_tables_are_listed_in_order(self, registry):
        later_run = make_run(SECOND)
        assert registry.release_run(MODEL, RUN_ID, later_run, None)
        ids = sorted([RUN_ID, later_run.run_id], reverse=True)
        assert [run.run_id for run in registry.list_runs(MODEL)] == ids
        assert [run.run_id for run in registry.list_runs(MODEL, limit=1)] == ids[:1]

    def test_a_run_that_fails_gives_its_causes_back(self, registry):
        run = registry.get_run(MODEL, RUN_ID)
        assert registry.fail_run(run, ("crashed",), [FIRST.cause_id], make_entry("failed", at=later(20)))
        assert registry.get_run(MODEL, RUN_ID).status == "failed"
        assert registry.get_state(MODEL).pending_causes == 2

    def test_content_that_is_known_stays_known_and_is_renewed(self, registry, table):
        assert not registry.put_dataset(make_dataset("d1", at=later(30)))
        assert registry.put_dataset(make_dataset("d2", at=later(31)))
        registry.renew_dataset(MODEL, "d1", later(40))
        assert [dataset.dataset_id for dataset in registry.list_datasets(MODEL)] == ["d1", "d2"]
        assert [dataset.uploaded_at for dataset in registry.find_datasets(MODEL, "d1")] == [later(40)]
        assert len([item for item in scan(table, RUNS_TABLE_NAME) if item["sk"]["S"].startswith("DATASET#")]) == 2

    def test_the_schemas_number_goes_on(self, registry):
        assert registry.get_state(MODEL).schema_version == 1
        with pytest.raises(ConflictError):
            registry.set_schema_version(MODEL, 1)
        registry.set_schema_version(MODEL, 2)
        assert registry.get_state(MODEL).current_schema_version == 2

    def test_a_deletion_ends_its_schemas(self, registry):
        state = registry.get_state(MODEL)
        moves = [MoveAlias(alias, version, None) for alias, version in state.aliases.items()]
        registry.commit(make_transaction("deleted", state.revision, *moves, DeleteModel(), at=later(60)))
        assert registry.get_state(MODEL).first_schema_version == 2
        assert registry.get_state(MODEL).current_schema_version == 0

    def test_the_ledger_begins_its_chain(self, registry):
        before = registry.list_ledger(MODEL)
        registry.append_ledger(make_entry("new", at=later(90)))
        verified = registry.verify_ledger(MODEL)
        assert (verified.before_the_chain, verified.entries, verified.is_intact) == (len(before), 1, True)


def test_the_manifest_and_the_signature_are_read():
    manifest = Manifest.read((SAMPLES / "version_manifest.json").read_bytes())
    assert (manifest.model, manifest.version, manifest.semantic_version) == (MODEL, 1, "1.0.0")
    assert manifest.artifacts["model.onnx"].matches(b"onnx of a.csv")
    signature = Signature.read((SAMPLES / "version_signature.json").read_bytes())
    schema = TableSchema.from_dict(signature.schema)
    assert [column.name for column in signature.inputs] == [column.name for column in schema.features]
    assert signature.outputs[0].name == "label"
    assert signature.capture is not None
