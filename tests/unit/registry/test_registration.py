import hashlib
import json
from dataclasses import replace

import pytest
from millrace.conformal import fit_classes
from millrace.errors import (
    AliasConflictError,
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    ConflictError,
    InvalidInputError,
    ServiceUnavailableError,
)
from millrace.layout import confidence_key, evaluation_key, prepared_key, trial_key, version_key
from millrace.manifest import Signature
from millrace.ports import Put
from millrace.registry.items import ModelKeys, encode
from millrace.registry.registration import register_run
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import (
    MODEL,
    later,
    make_cause,
    make_entry,
    make_evaluation,
    make_run,
    make_trial,
    make_version,
    point_alias,
)

SCHEMA = TableSchema(
    (
        Column("age", "integer"),
        Column("plan|x", "category", nullable=True),
        Column("churned", "boolean", role="target"),
    ),
    "binary",
    ("false", "true"),
)
ONNX = b"onnx of "


def sha256(body):
    return hashlib.sha256(body).hexdigest()


class World:
    """A registry and two buckets, in which runs come as far as their evaluation."""

    def __init__(self):
        self.registry = MemoryRegistry()
        self.models = MemoryObjectStore("models")
        self.data = MemoryObjectStore("data")

    def evaluated_run(self, name="a.csv", decision="promote", schema=SCHEMA, candidate="logistic_regression", run=None):
        if run is None:
            cause = make_cause(name)
            run = make_run(cause, dataset_ids=("d1", "d2"))
            self.registry.claim_cause(cause, run, make_entry(cause.cause_id))
        bodies = {"model.onnx": ONNX + name.encode(), "estimator.skops": b"skops"}
        trial = replace(make_trial("t1", run.run_id), status="succeeded", candidate=candidate)
        trial = replace(trial, artifacts={artifact: sha256(body) for artifact, body in bodies.items()})
        self.registry.put_trials([trial])
        for artifact, body in {**bodies, "trial.json": b"{}"}.items():
            self.models.put(trial_key(MODEL, run.run_id, "t1", artifact), body)
        champion = self.registry.get_state(MODEL).aliases.get("champion")
        parts = {
            "decision": decision,
            "trial_id": "t1",
            "candidate": candidate,
            "reasons": ["better than the champion"],
            "champion": {"version": champion} if champion else None,
            "primary_metric": "roc_auc",
            "holdout": {
                "rows": 100,
                "metrics": {
                    "roc_auc": {"value": 0.91, "low": 0.88, "high": 0.94},
                    "accuracy": {"value": 0.8, "low": None, "high": None},
                },
            },
        }
        evaluation = make_evaluation(run.run_id, **parts)
        self.models.put(evaluation_key(MODEL, run.run_id), json.dumps(evaluation).encode())
        self.data.put(prepared_key(MODEL, run.run_id, "schema.json"), json.dumps(schema.to_dict()).encode())
        return run

    def register(self, run, minutes=5):
        return register_run(
            self.registry.get_run(MODEL, run.run_id),
            registry=self.registry,
            model_store=self.models,
            data_store=self.data,
            now=later(minutes),
        )

    def register_next(self, name, minutes=5, **options):
        """Evaluate and register one more run, after the one before gave up its turn."""
        active = self.registry.get_state(MODEL).active_run_id
        self.registry.release_run(MODEL, active, None, None)
        return self.register(self.evaluated_run(name, **options), minutes)

    def document(self, version, name):
        return json.loads(self.models.get(version_key(MODEL, version, name)))


@pytest.fixture
def world():
    return World()


def test_a_promoted_winner_becomes_the_champion(world):
    run = world.evaluated_run()
    registered = world.register(run)
    assert (registered.version, registered.outcome) == (1, "promoted")
    assert world.registry.get_version(MODEL, 1).outcome == "promoted"
    assert world.registry.get_state(MODEL).aliases == {"champion": 1}
    finished = world.registry.get_run(MODEL, run.run_id)
    assert (finished.status, finished.stage, finished.version) == ("succeeded", "finished", 1)
    assert finished.finished_at == later(5)
    assert finished.summary == {
        "version": 1,
        "semantic_version": "1.0.0",
        "alias": "champion",
        "promoted": True,
        "outcome": "promoted: better than the champion",
    }


def test_a_kept_winner_becomes_the_challenger_and_the_champion_stays(world):
    world.register(world.evaluated_run())
    registered = world.register_next("b.csv", decision="keep")
    assert (registered.version, registered.outcome) == (2, "kept")
    assert world.registry.get_version(MODEL, 2).outcome == "kept"
    assert world.registry.get_state(MODEL).aliases == {"champion": 1, "challenger": 2}


def test_a_rejected_winner_is_not_registered(world):
    run = world.evaluated_run(decision="reject")
    with pytest.raises(InvalidInputError, match="reject"):
        world.register(run)
    assert world.registry.get_state(MODEL).latest_version == 0
    assert world.models.keys(f"{MODEL}/versions/") == []


def test_the_reference_statistics_of_its_data_go_with_a_version(world):
    run = world.evaluated_run()
    world.data.put(prepared_key(MODEL, run.run_id, "reference.json"), b'{"rows": 3}')
    world.register(run)
    assert world.document(1, "reference.json") == {"rows": 3}
    assert world.document(1, "manifest.json")["artifacts"]["reference.json"]["sha256"] == sha256(b'{"rows": 3}')


def test_data_prepared_without_reference_statistics_can_be_registered(world):
    world.register(world.evaluated_run())
    assert "reference.json" not in world.document(1, "manifest.json")["artifacts"]


def test_a_version_lies_beside_as_an_mlflow_model(world):
    world.register(world.evaluated_run())
    manifest = world.document(1, "mlflow/manifest.json")
    stored = world.models.keys(f"{MODEL}/versions/1/mlflow/")
    assert set(manifest["artifacts"]) | {"manifest.json"} == {key.split("/mlflow/")[1] for key in stored}
    for name, artifact in manifest["artifacts"].items():
        assert sha256(world.models.get(version_key(MODEL, 1, f"mlflow/{name}"))) == artifact["sha256"]
    facts = world.document(1, "mlflow/MLmodel")["metadata"]["millrace"]
    assert (facts["model"], facts["version"], facts["semantic_version"]) == (MODEL, 1, "1.0.0")


def test_the_manifest_names_every_artifact_by_its_hash_and_the_registry_names_the_manifests(world):
    run = world.evaluated_run()
    world.register(run)
    version = world.registry.get_version(MODEL, 1)
    body = world.models.get(version_key(MODEL, 1, "manifest.json"))
    manifest = json.loads(body)
    assert version.manifest_sha256 == sha256(body)
    stored = {key.removeprefix(f"{MODEL}/versions/1/") for key in world.models.keys(f"{MODEL}/versions/1/")}
    exported = {name for name in stored if name.startswith("mlflow/")}
    assert set(manifest["artifacts"]) == stored - exported - {"manifest.json"} | {"mlflow/manifest.json"}
    assert stored >= {"model.onnx", "estimator.skops", "trial.json", "signature.json", "evaluation.json"}
    assert stored >= {"card.html", "card.json", "card.md"}
    for name, artifact in manifest["artifacts"].items():
        content = world.models.get(version_key(MODEL, 1, name))
        assert artifact == {"sha256": sha256(content), "bytes": len(content)}
    assert {name: manifest[name] for name in ("model", "version", "semantic_version", "run_id", "trial_id")} == {
        "model": MODEL,
        "version": 1,
        "semantic_version": "1.0.0",
        "run_id": run.run_id,
        "trial_id": "t1",
    }
    assert manifest["metrics"] == version.metrics == {"roc_auc": 0.91, "accuracy": 0.8}
    assert manifest["dataset_ids"] == ["d1", "d2"]


def test_the_signature_says_what_goes_in_and_comes_out(world):
    world.register(world.evaluated_run())
    signature = world.document(1, "signature.json")
    assert TableSchema.from_dict(signature["schema"]) == SCHEMA
    assert signature["inputs"] == [
        {"name": "age", "type": "integer", "required": True},
        {"name": "plan|x", "type": "category", "required": False},
    ]
    assert [output["name"] for output in signature["outputs"]] == ["label", "probabilities"]


def test_a_regression_gives_a_value(world):
    target = Column("price", "number", role="target")
    world.register(world.evaluated_run(schema=TableSchema((Column("age", "integer"), target), "regression")))
    assert world.document(1, "signature.json")["outputs"] == [{"name": "value", "type": "number"}]


def test_the_card_tells_people_what_it_is_how_good_and_why(world):
    world.register(world.evaluated_run())
    card = world.models.get(version_key(MODEL, 1, "card.md")).decode()
    for words in ("# churn, version 1 (1.0.0)", "| ROC AUC | 0.91 | 0.88 to 0.94 |", "| accuracy | 0.8 |"):
        assert words in card
    for words in ("better than the champion", "`churned` (binary)", "| plan\\|x | category | no |", "* `d2`"):
        assert words in card
    page = world.models.get(version_key(MODEL, 1, "card.html")).decode()
    assert "better than the champion" in page
    assert world.document(1, "card.json")["artifacts"]["model.onnx"]["sha256"] == sha256(ONNX + b"a.csv")


def test_a_threshold_and_the_split_are_part_of_what_is_registered(world):
    run = world.evaluated_run()
    evaluation = json.loads(world.models.get(evaluation_key(MODEL, run.run_id)))
    costs = {
        "validation": 0.1,
        "holdout": {name: {"value": 0.1, "low": None, "high": None} for name in ("threshold", "one_half")},
    }
    evaluation["threshold"] = {
        "positive_class": "true",
        "value": 0.2,
        "rule": "expected_cost",
        "costs": {"false_positive": 1.0, "false_negative": 4.0},
        "cost_per_row": costs,
    }
    evaluation["split"] = {"fingerprint": "f0f0"}
    world.models.put(evaluation_key(MODEL, run.run_id), json.dumps(evaluation).encode())
    world.register(run)
    assert world.document(1, "signature.json")["threshold"] == {"positive_class": "true", "value": 0.2}
    assert world.document(1, "manifest.json")["split_fingerprint"] == "f0f0"


def test_the_calibration_of_a_run_goes_into_the_signature_and_one_without_has_none(world):
    run = world.evaluated_run()
    calibration = fit_classes([0, 1] * 20, [[0.7, 0.3], [0.2, 0.8]] * 20).to_document()
    world.models.put(confidence_key(MODEL, run.run_id), json.dumps(calibration).encode())
    world.register(run)
    body = world.models.get(version_key(MODEL, 1, "signature.json"))
    assert json.loads(body)["confidence"] == calibration
    assert Signature.read(body).confidence == calibration
    assert world.document(1, "manifest.json")["artifacts"]["signature.json"]["sha256"] == sha256(body)
    world.register_next("b.csv")
    assert "confidence" not in world.document(2, "signature.json")


def test_the_ledger_says_what_was_registered_and_what_moved(world):
    world.register(world.evaluated_run())
    world.register_next("b.csv")
    entries = {entry.entry_id: entry for entry in world.registry.list_ledger(MODEL)}
    registered, moved = entries["version-2-registered"], entries["champion-2"]
    assert (registered.action, registered.details["version"]) == ("model_registered", 2)
    assert moved.action == "model_promoted"
    assert {name: moved.details[name] for name in ("alias", "from_version", "to_version")} == {
        "alias": "champion",
        "from_version": 1,
        "to_version": 2,
    }
    assert registered.reason == "better than the champion"
    assert moved.reason == "promoted: better than the champion"


@pytest.mark.parametrize("artifact", ["model.onnx", "estimator.skops"])
def test_bytes_that_the_trial_did_not_record_are_never_registered(world, artifact):
    run = world.evaluated_run()
    world.models.put(trial_key(MODEL, run.run_id, "t1", artifact), b"tampered")
    with pytest.raises(ArtifactIntegrityError, match=artifact):
        world.register(run)
    assert world.registry.list_versions(MODEL) == []
    assert world.registry.get_state(MODEL).aliases == {}


def test_a_model_without_a_recorded_hash_is_never_registered(world):
    run = world.evaluated_run()
    world.registry.update_trial(MODEL, run.run_id, "t1", artifacts={})
    with pytest.raises(ArtifactIntegrityError):
        world.register(run)


def test_a_run_without_an_evaluation_has_nothing_to_register(world):
    cause = make_cause()
    run = make_run(cause)
    world.registry.claim_cause(cause, run, make_entry("e"))
    with pytest.raises(ArtifactNotFoundError):
        world.register(run)
    assert world.registry.get_state(MODEL).latest_version == 0


@pytest.mark.parametrize("method", ["put_version", "commit"])
def test_a_registration_that_died_half_way_is_finished_under_the_same_number(world, monkeypatch, method):
    run = world.evaluated_run()

    def die(*_, **__):
        raise ServiceUnavailableError("DynamoDB is busy")

    with monkeypatch.context() as patched:
        patched.setattr(world.registry, method, die)
        with pytest.raises(ServiceUnavailableError):
            world.register(run)
    assert world.register(run, minutes=6).version == 1
    assert world.registry.get_state(MODEL).latest_version == 1
    (version,) = world.registry.list_versions(MODEL)
    assert version.manifest_sha256 == sha256(world.models.get(version_key(MODEL, 1, "manifest.json")))
    assert world.registry.get_state(MODEL).aliases == {"champion": 1}


def test_registering_twice_is_registering_once(world):
    run = world.evaluated_run()
    assert world.register(run) == world.register(run, minutes=9)
    assert world.registry.get_state(MODEL).revision == 1
    assert len(world.registry.list_versions(MODEL)) == 1


def move_first(world, monkeypatch, *moves):
    """Let others move aliases between the moment that a registration reads them and its own move."""
    perform = world.registry.commit

    def others_first(act):
        monkeypatch.setattr(world.registry, "commit", perform)
        for alias, version in moves:
            point_alias(world.registry, alias, version, at=later(4))
        perform(act)

    monkeypatch.setattr(world.registry, "commit", others_first)


def test_a_challenger_is_registered_whatever_others_move_meanwhile(world, monkeypatch):
    world.register(world.evaluated_run())
    world.registry.put_version(make_version(99), make_entry("v99"))
    monkeypatch.setattr(world.registry, "list_versions", lambda _: [])
    move_first(world, monkeypatch, ("champion", 99))
    world.register_next("b.csv", decision="keep")
    assert world.registry.get_state(MODEL).aliases == {"champion": 99, "challenger": 2}


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_champion_that_the_gate_did_not_compare_with_is_not_replaced(world, monkeypatch, when):
    world.register(world.evaluated_run())
    world.register_next("b.csv")
    world.registry.release_run(MODEL, world.registry.get_state(MODEL).active_run_id, None, None)
    run = world.evaluated_run("c.csv")
    if when == "before":
        point_alias(world.registry, "champion", 1)
    else:
        move_first(world, monkeypatch, ("champion", 1))
    registered = world.register(run)
    assert (registered.version, registered.outcome) == (3, "kept")
    assert world.registry.get_state(MODEL).aliases == {"champion": 1, "challenger": 3}
    words = "kept as challenger: the champion is now version 1, and the gate compared with version 2"
    finished = world.registry.get_run(MODEL, run.run_id)
    assert (finished.status, finished.summary["outcome"], finished.summary["promoted"]) == ("succeeded", words, False)
    assert world.registry.list_ledger(MODEL)[0].reason == words


def test_two_runs_that_finish_together_do_not_both_become_the_champion(world):
    world.register(world.evaluated_run())
    first, second = (world.evaluated_run(name) for name in ("b.csv", "c.csv"))
    for run in (first, second):
        if run.run_id not in {known.run_id for known in world.registry.list_runs(MODEL)}:
            # A run whose execution was taken for dead, and went on beside its follower.
            world.registry.store.write(Put(ModelKeys(MODEL).item("RUN", run.run_id), encode(run)))
    assert [world.register(run).outcome for run in (first, second)] == ["promoted", "kept"]
    assert world.registry.get_state(MODEL).aliases == {"champion": 2, "challenger": 3}


def test_a_registration_repeated_after_a_rollback_does_not_undo_it(world):
    world.register(world.evaluated_run())
    registered = world.register_next("b.csv")
    run_id = world.registry.get_version(MODEL, 2).run_id
    point_alias(world.registry, "champion", 1)
    again = world.register(world.registry.get_run(MODEL, run_id), minutes=9)
    assert again == registered
    assert world.registry.get_state(MODEL).aliases == {"champion": 1}
    assert world.registry.get_state(MODEL).revision == 3


def test_a_registration_that_runs_twice_at_once_is_settled_once(world, monkeypatch):
    run = world.evaluated_run()
    perform = world.registry.commit

    def twin_first(act):
        monkeypatch.setattr(world.registry, "commit", perform)
        perform(act)
        perform(replace(act, entry=replace(act.entry, entry_id="twin"), expected_revision=1))

    monkeypatch.setattr(world.registry, "commit", twin_first)
    assert world.register(run).outcome == "promoted"
    assert world.registry.get_state(MODEL).revision == 1


def test_a_model_with_manual_approval_gets_a_challenger_that_waits(world):
    approval = {"mode": "manual", "expires_after_hours": 0.5}
    world.registry.put_spec(MODEL, ModelSpec.parse({"approval": approval}))
    run = world.evaluated_run()
    registered = world.register(run)
    assert (registered.outcome, registered.approval_seconds) == ("awaiting_approval", 1800)
    assert world.registry.get_state(MODEL).aliases == {"challenger": 1}
    waiting = world.registry.get_run(MODEL, run.run_id)
    assert (waiting.status, waiting.stage, waiting.version) == ("queued", "awaiting_approval", 1)
    assert world.register(run) == registered


def test_what_the_gate_kept_needs_no_approval(world):
    world.registry.put_spec(MODEL, ModelSpec.parse({"approval": "manual"}))
    assert world.register(world.evaluated_run(decision="keep")).outcome == "kept"


def test_a_later_move_is_never_recorded_as_an_earlier_one(world):
    world.register(world.evaluated_run(), minutes=30)
    world.register_next("b.csv", minutes=20)
    newest, oldest = world.registry.list_alias_moves(MODEL, "champion")
    assert (newest.to_version, oldest.to_version) == (2, 1)
    assert newest.occurred_at > oldest.occurred_at


def test_an_alias_that_never_rests_asks_to_be_called_again(world, monkeypatch):
    run = world.evaluated_run()

    def conflict(*_):
        raise AliasConflictError("moved")

    monkeypatch.setattr(world.registry, "commit", conflict)
    with pytest.raises(ServiceUnavailableError):
        world.register(run)
    assert world.registry.get_run(MODEL, run.run_id).status != "succeeded"


def test_a_number_that_belongs_to_another_run_is_not_taken_over(world):
    run = world.evaluated_run()
    world.registry.put_version(make_version(1, run_id="20260503T141500-ffffffffffff"), make_entry("v1"))
    world.registry.update_run(MODEL, run.run_id, version=1)
    with pytest.raises(ConflictError):
        world.register(run)


def test_the_semantic_version_follows_the_newest_version(world):
    world.register(world.evaluated_run("1.csv"))
    world.register_next("2.csv")
    world.register_next("3.csv", candidate="random_forest")
    wider = replace(SCHEMA, columns=(*SCHEMA.columns, Column("city", "category")))
    world.register_next("4.csv", schema=wider, candidate="random_forest")
    versions = [version.semantic_version for version in reversed(world.registry.list_versions(MODEL))]
    assert versions == ["1.0.0", "1.0.1", "1.1.0", "2.0.0"]
