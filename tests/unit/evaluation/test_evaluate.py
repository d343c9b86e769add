"""From trials to a decision: leaderboard, holdout, champion, document, run."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest
from millrace.contracts import TrialOutcome
from millrace.entities import LedgerEntry, ModelVersion
from millrace.errors import ArtifactIntegrityError, InvalidInputError, WorkerCrashedError
from millrace.layout import evaluation_key, prepared_key, trial_key, version_key
from millrace.manifest import Manifest
from millrace.names import CHAMPION
from millrace.schema import TASKS, Column, TableSchema, Task

from tests.prepared_data import Dataset, make_dataset
from tests.registry_builders import point_alias
from tests.training_run import MODEL, NOW, RUN_ID, TrainingRun

ONE = ("logistic_regression",)


def document(world: TrainingRun) -> dict:
    return json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))


def register_champion(
    world: TrainingRun,
    onnx: bytes,
    schema: TableSchema,
    *,
    number: int = 1,
    best: int | None = None,
    created_at: datetime = NOW,
    split: dict | None = None,
) -> None:
    """Register a version, as a run before this one would have, and make it the champion."""
    signature = json.dumps({"schema": schema.to_dict()}).encode()
    bodies = {"model.onnx": onnx, "signature.json": signature}
    version = ModelVersion(
        model=MODEL,
        version=number,
        semantic_version=f"{number}.0.0",
        run_id="20260101T000000-0f3a9c2b7d1e",
        trial_id="01-logistic_regression",
        candidate="logistic_regression",
        task=schema.task,
        metrics={},
        dataset_ids=("d0",),
        schema_version=schema.version,
        manifest_sha256="",
        created_at=created_at,
    )
    manifest = Manifest.of(version, bodies, split, best).write()
    for name, body in {**bodies, "manifest.json": manifest}.items():
        world.model_store.put(version_key(MODEL, number, name), body)
    version = replace(version, manifest_sha256=hashlib.sha256(manifest).hexdigest())
    world.registry.put_version(version, LedgerEntry(MODEL, f"v{number}", NOW, "test", "model_registered", ""))
    point_alias(world.registry, CHAMPION, number, MODEL)


def trained(dataset: Dataset, **spec: object) -> tuple[TrainingRun, list[TrialOutcome]]:
    world = TrainingRun.prepared(dataset, **spec)
    return world, world.train_all()


def onnx_of(dataset: Dataset) -> bytes:
    """A logistic regression trained on ``dataset``."""
    world, _ = trained(dataset, candidates=ONE)
    return world.model_store.get(trial_key(MODEL, RUN_ID, "01-logistic_regression", "model.onnx"))


@pytest.mark.parametrize("task", TASKS)
def test_first_model_of_every_task_is_promoted(task: Task):
    world, outcomes = trained(make_dataset(task, "missing values", rows=600))

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "promote"
    report = document(world)
    primary = report["primary_metric"]
    assert [entry["rank"] for entry in report["leaderboard"]] == [1, 2, 3]
    values = [entry["metrics"][primary] for entry in report["leaderboard"]]
    assert values == sorted(values, reverse=report["greater_is_better"])
    assert report["leaderboard"][0]["trial_id"] == verdict.trial_id
    measured = report["holdout"]["metrics"][primary]
    assert measured["low"] < measured["value"] < measured["high"]
    assert report["holdout"]["rows"] == 150
    assert report["champion"] is None
    assert {check["name"] for check in report["gate"]} == {
        "answers",
        "baseline",
        "leakage",
        "model_size",
        "latency:row",
        "latency:batch",
        "parity",
    }
    if task == "regression":
        assert report["confusion"] is None
    else:
        assert np.sum(report["confusion"]["matrix"]) == 150
    assert world.run.status == "running"
    assert world.run.stage == "evaluating"
    assert report["search"] == world.run.summary["search"]
    assert {name: value for name, value in world.run.summary.items() if name != "search"} == {
        "rows": 400,
        "decision": "promote",
        "winner": report["candidate"],
        "trial_id": verdict.trial_id,
        "primary_metric": primary,
        "primary_value": measured["value"],
    }


def test_noise_is_rejected_because_it_does_not_beat_the_baseline():
    dataset = make_dataset("binary")
    rng = np.random.default_rng(5)
    splits = {
        name: replace(split, target=rng.integers(0, 2, len(split)).astype(np.int64))
        for name, split in dataset.splits.items()
    }
    world, outcomes = trained(Dataset(dataset.schema, splits), candidates=ONE)

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "reject"
    assert "does not clearly beat the trivial baseline" in verdict.reasons[0]
    assert world.run.status == "rejected"
    assert world.run.stage == "finished"
    assert world.run.finished_at == NOW
    assert world.run.reasons == tuple(verdict.reasons)
    assert document(world)["decision"] == "reject"


def test_missed_floor_and_size_limit_reject_and_both_are_named():
    gate = {"floors": {"accuracy": 0.999}, "max_model_bytes": 10}
    world, outcomes = trained(make_dataset("binary"), candidates=ONE, gate=gate)

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "reject"
    assert len(verdict.reasons) == 2
    failed = {check["name"] for check in document(world)["gate"] if not check["passed"]}
    assert failed == {"floor:accuracy", "model_size"}


@pytest.mark.parametrize(
    ("cause", "decision", "reason"),
    [
        ("upload", "keep", "which stays because nothing speaks for a change"),
        ("schedule", "keep", "which stays because nothing speaks for a change"),
        ("drift", "promote", "may replace it because the run follows a finding of monitoring: drift"),
        ("quality", "promote", "may replace it because the run follows a finding of monitoring: model quality"),
        ("manual", "promote", "may replace it because it was requested by hand"),
    ],
)
def test_equal_challenger_replaces_the_champion_for_a_reason_only(cause, decision, reason):
    dataset = make_dataset("binary")
    world, outcomes = trained(dataset, candidates=ONE, cause=cause)
    register_champion(world, onnx_of(dataset), dataset.schema)

    verdict = world.evaluate(outcomes)

    report = document(world)
    assert verdict.decision == decision
    joined = "and " if decision == "promote" else ""
    assert verdict.reasons[-1].startswith(f"the model is as good as version 1, {joined}{reason}")
    assert (report["champion"]["version"], report["best_version"]) == (1, 1)
    expected = {name: numbers["value"] for name, numbers in report["holdout"]["metrics"].items()}
    assert report["champion"]["metrics"] == pytest.approx(expected)


def test_clearly_worse_challenger_is_kept():
    dataset = make_dataset("binary", rows=1600, noise=0.2)
    train = dataset.splits["train"]
    few = {**dataset.splits, "train": train.take(np.arange(25))}
    world, outcomes = trained(Dataset(dataset.schema, few), candidates=ONE)
    register_champion(world, onnx_of(dataset), dataset.schema)

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "keep"
    assert verdict.trial_id == "01-logistic_regression"
    assert "clearly worse than version 1" in verdict.reasons[0]
    assert world.run.status == "running"


@pytest.mark.parametrize(("present_version", "decision"), [(2, "promote"), (1, "keep")])
def test_champion_of_another_schema_yields_only_when_the_schema_was_changed_on_purpose(present_version, decision):
    dataset = make_dataset("binary")
    old = replace(dataset.schema, columns=(*dataset.schema.columns, Column("gone", "number")))
    present = Dataset(dataset.schema.with_version(present_version), dataset.splits)
    world, outcomes = trained(present, candidates=ONE)
    register_champion(world, b"never read", old)

    verdict = world.evaluate(outcomes)

    assert verdict.decision == decision
    assert "its features are not the present ones: gone" in verdict.reasons[0]
    champion = document(world)["champion"]
    assert champion["version"] == 1
    assert champion["metrics"] is None
    assert champion["gain"] is None
    assert champion["not_compared"] == "its features are not the present ones: gone"


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "model.onnx"])
def test_damaged_champion_is_not_compared_and_not_replaced(name: str):
    dataset = make_dataset("binary")
    world, outcomes = trained(dataset, candidates=ONE)
    register_champion(world, onnx_of(dataset), dataset.schema)
    body = world.model_store.get(version_key(MODEL, 1, name))
    world.model_store.put(version_key(MODEL, 1, name), body.replace(b"a", b"b"))

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "keep"
    assert f"the stored bytes of version 1's {name} do not match the recorded SHA-256" in verdict.reasons[0]


@pytest.mark.parametrize("part", ["model", "schema"])
def test_a_champion_of_a_later_release_is_not_compared(part: str):
    """Its bytes are those that were registered, and this release cannot read them."""
    dataset = make_dataset("binary")
    world, outcomes = trained(dataset, candidates=ONE)
    onnx, schema = onnx_of(dataset), dataset.schema
    if part == "model":
        onnx = b"a later format"
    else:
        later = dataset.schema.to_dict()
        later["columns"][0]["later"] = 1
        schema = SimpleNamespace(to_dict=lambda: later, task="binary", version=1)
    register_champion(world, onnx, schema)

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "keep"
    expected = {"model": "deploy the release that registered it", "schema": "holds no schema that this release reads"}
    assert expected[part] in verdict.reasons[0]


def test_winner_whose_bytes_changed_is_a_fault():
    world, outcomes = trained(make_dataset("binary"), candidates=ONE)
    world.model_store.put(trial_key(MODEL, RUN_ID, "01-logistic_regression", "model.onnx"), b"other bytes")

    with pytest.raises(ArtifactIntegrityError, match="trial 01-logistic_regression"):
        world.evaluate(outcomes)


def test_killed_worker_is_recorded_as_failed_and_the_others_go_on():
    world = TrainingRun.prepared(make_dataset("binary"))
    second, first, third = world.plan().trials
    world.registry.update_trial(MODEL, RUN_ID, second.trial_id, status="running")
    outcomes = [
        world.train(first),
        TrialOutcome(trial_id=second.trial_id, outcome="failed", reason="the function ran out of memory"),
        TrialOutcome(trial_id=third.trial_id, outcome="succeeded"),
    ]

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "promote"
    entries = {entry["trial_id"]: entry for entry in document(world)["leaderboard"]}
    assert entries[second.trial_id]["reason"] == "the function ran out of memory"
    assert entries[third.trial_id]["reason"] == "the worker ended without recording a result"
    assert entries[third.trial_id]["rank"] is None
    statuses = [trial.status for trial in world.registry.list_trials(MODEL, RUN_ID)]
    assert statuses == ["failed", "succeeded", "failed"]


def test_a_run_whose_workers_all_died_is_a_fault_and_no_verdict():
    world = TrainingRun.prepared(make_dataset("binary"))
    first, *others = world.plan().trials
    died = [TrialOutcome(trial_id=trial.trial_id, outcome="crashed", reason="died") for trial in others]

    with pytest.raises(WorkerCrashedError, match="no trial of run"):
        world.evaluate([TrialOutcome(trial_id=first.trial_id, outcome="failed", reason="out of rows"), *died])

    assert world.run.stage == "training"
    assert [trial.reason for trial in world.registry.list_trials(MODEL, RUN_ID)] == ["out of rows", "died", "died"]


def test_all_failed_is_a_rejection_that_lists_every_reason():
    world = TrainingRun.prepared(make_dataset("binary"))
    trials = world.plan().trials
    outcomes = [TrialOutcome(trial_id=trial.trial_id, outcome="failed", reason="out of time") for trial in trials]

    verdict = world.evaluate(outcomes)

    assert verdict.decision == "reject"
    assert verdict.trial_id is None
    assert verdict.reasons == ["every trial failed", *(f"{trial.trial_id}: out of time" for trial in trials)]
    assert world.run.status == "rejected"
    assert world.run.summary["winner"] is None
    report = document(world)
    assert report["holdout"] is None
    assert [entry["status"] for entry in report["leaderboard"]] == ["failed"] * 3


def test_evaluating_twice_gives_the_same_document():
    world, outcomes = trained(make_dataset("multiclass"))

    first, before = world.evaluate(outcomes), document(world)
    second, after = world.evaluate(outcomes), document(world)

    assert (first, before) == (second, after)


def test_spec_chooses_the_primary_metric():
    world, outcomes = trained(make_dataset("binary"), primary_metric="log_loss", candidates=ONE)

    world.evaluate(outcomes)

    assert world.run.summary["primary_metric"] == "log_loss"


def test_metric_the_task_does_not_have_is_refused():
    world, outcomes = trained(make_dataset("binary"), candidates=ONE)
    world.registry.put_spec(MODEL, world.registry.get_spec(MODEL).model_copy(update={"primary_metric": "rmse"}))

    with pytest.raises(InvalidInputError, match="the metrics of a binary task are: roc_auc"):
        world.evaluate(outcomes)


def test_empty_holdout_is_a_fault():
    dataset = make_dataset("binary")
    empty = {**dataset.splits, "test": dataset.splits["test"].take(np.array([], int))}
    world, outcomes = trained(Dataset(dataset.schema, empty), candidates=ONE)

    with pytest.raises(InvalidInputError, match="the test split has no rows"):
        world.evaluate(outcomes)


@pytest.mark.parametrize(("mode", "decision"), [("warn", "promote"), ("refuse", "reject")])
def test_features_that_give_the_target_away_reach_the_gate_and_the_run(mode, decision):
    dataset = make_dataset("binary", rows=600)
    world = TrainingRun.prepared(dataset, candidates=ONE, gate={"leakage": mode})
    key = prepared_key(MODEL, RUN_ID, "manifest.json")
    findings = [
        {"check": "leakage", "column": "n1", "message": "n1 gives the target away"},
        {"check": "leakage", "column": "an_identifier", "message": "which no model sees"},
    ]
    world.data_store.put(key, json.dumps(json.loads(world.data_store.get(key)) | {"findings": findings}).encode())
    verdict = world.evaluate(world.train_all())
    assert verdict.decision == decision
    assert any("n1 gives the target away" in reason for reason in verdict.reasons)
    assert not any("which no model sees" in reason for reason in verdict.reasons)
    assert any("n1 gives the target away" in reason for reason in world.run.reasons)
