"""A run that evaluates a model which a user logged: from its plan to a version that is served."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from millrace.contracts import CheckedModel, LoggedModelCheck, RegisteredVersion, TrialOutcome, TrialPointer
from millrace.data.prepared import dump_split, load_split
from millrace.entities import LoggedModel
from millrace.errors import ArtifactIntegrityError, ConflictError, InvalidInputError
from millrace.features import FeatureMatrix
from millrace.layout import split_key, trial_key, version_key
from millrace.names import CHALLENGER
from millrace.ports import Put, Update
from millrace.proposals.check import check_logged_model
from millrace.registry.items import ModelKeys, encode
from millrace.registry.registration import register_run
from millrace.serving.model import OnnxModel
from millrace.training.logged_trial import record_logged_model
from millrace.training.planning import MAX_LOGGED_FILES
from millrace.training.trial import reproduce_trial
from millrace.training.trial_record import TrialRecord
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import Int64TensorType
from sklearn.linear_model import LogisticRegression

from tests.logged_models import OPSET, as_columns, example_of, fit_columns, logged_files, to_onnx
from tests.prepared_data import Dataset, make_dataset
from tests.training_run import MODEL, NOW, RUN_ID, TrainingRun

PREFIX = "mlflow/experiments/1/models/m-1/artifacts/"
LOGGED = LoggedModel("models:/m-1", PREFIX, 3, "arn:aws:iam::123456789012:user/ann", "f" * 32, "m-1")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset("binary", "both")


@pytest.fixture(scope="module")
def pipeline(dataset: Dataset) -> Any:
    train = dataset.splits["train"]
    return fit_columns(train.features, np.array(dataset.schema.classes)[train.target])


@pytest.fixture
def world(dataset: Dataset, pipeline: Any) -> TrainingRun:
    """The run of a proposal, before its plan."""
    world = TrainingRun.prepared(dataset, evaluation={"learning_curve": True})
    world.registry.update_run(MODEL, RUN_ID, logged_model=LOGGED, version=LOGGED.version)
    example = example_of(dataset.splits["train"].features, dataset.schema)
    files = logged_files(to_onnx(pipeline, dataset.schema), example["columns"], example)
    for name, body in files.items():
        world.model_store.put(PREFIX + name, body)
    return world


def check_planned(world: TrainingRun) -> TrialPointer:
    """Plan the run and check its model, as the state machine does."""
    stores = {"data": world.data_store, "models": world.model_store}
    [pointer] = world.plan().trials

    def find(url: str) -> tuple[Any, str]:
        bucket, _, key = url.removeprefix("memory://").partition("/")
        return stores[bucket], key

    def read(url: str, _: int) -> bytes:
        store, key = find(url)
        return bytes(store.get(key))

    def write(url: str, body: bytes) -> None:
        store, key = find(url)
        store.put(key, body)

    assert isinstance(pointer.check, LoggedModelCheck)
    return pointer.model_copy(update={"checked": check_logged_model(pointer.check, read, write)})


def record(world: TrainingRun, pointer: TrialPointer) -> TrialOutcome:
    return record_logged_model(
        pointer,
        registry=world.registry,
        data_store=world.data_store,
        model_store=world.model_store,
        now=NOW,
        clock=world.clock,
    )


def test_a_logged_model_becomes_a_challenger_with_its_authors_numbers(
    world: TrainingRun, dataset: Dataset, pipeline: Any
) -> None:
    outcome = record(world, check_planned(world))
    assert outcome.outcome == "succeeded", outcome.reason

    verdict = world.evaluate([outcome])
    registered = register_run(
        world.run, registry=world.registry, model_store=world.model_store, data_store=world.data_store, now=NOW
    )

    assert verdict.decision == "promote"  # the first version of its model, and yet no champion
    assert (registered.version, registered.outcome) == (LOGGED.version, "kept")
    assert world.registry.get_state(MODEL).aliases == {CHALLENGER: LOGGED.version}
    version = world.registry.get_version(MODEL, LOGGED.version)
    assert (version.source, version.candidate) == ("mlflow", "mlflow")
    [entry] = [one for one in world.registry.list_ledger(MODEL) if one.action == "model_registered"]
    assert entry.details["logged_model"]["source"] == "models:/m-1"
    served = OnnxModel.load(world.model_store.get(version_key(MODEL, LOGGED.version, "model.onnx")), dataset.schema)
    rows = dataset.splits["test"].features
    np.testing.assert_allclose(served.run(rows), pipeline.predict_proba(as_columns(rows)), atol=1e-5)


def test_a_run_after_a_fault_finishes_the_registration_of_the_one_before(
    world: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version was written, and then the function ended: the number is reserved, so the next run has it too."""

    def register() -> RegisteredVersion:
        return register_run(
            world.run, registry=world.registry, model_store=world.model_store, data_store=world.data_store, now=NOW
        )

    world.evaluate([record(world, check_planned(world))])
    with monkeypatch.context() as patch:
        patch.setattr("millrace.registry.registration.assign_alias", ended)
        with pytest.raises(SystemExit):
            register()
    keys = ModelKeys(MODEL)
    earlier = replace(world.run, run_id="20260503T141400-0f3a9c2b7d1e")
    world.registry.store.write(Put(keys.item("RUN", earlier.run_id), encode(earlier)))
    world.registry.store.write(Update(keys.item("VERSION", LOGGED.version), {"run_id": earlier.run_id}))

    assert register().outcome == "kept"
    assert world.registry.get_state(MODEL).aliases == {CHALLENGER: LOGGED.version}
    assert world.registry.get_version(MODEL, LOGGED.version).outcome == "kept"

    other = replace(LOGGED, source="models:/m-2")
    world.registry.update_run(MODEL, earlier.run_id, logged_model=other)
    with pytest.raises(ConflictError, match="belongs to run"):
        register()


def ended(*_: object) -> None:
    raise SystemExit


def test_the_plan_is_the_same_again_and_offers_only_what_the_check_reads(world: TrainingRun) -> None:
    first, again = world.plan(), world.plan()
    assert first == again
    [pointer] = first.trials
    assert pointer.kind == "logged"
    assert pointer.check is not None
    assert [file.name for file in pointer.check.files] == ["MLmodel", "input_example.json", "model.onnx"]
    assert pointer.check.target_url == f"memory://models/{trial_key(MODEL, RUN_ID, pointer.trial_id, 'model.onnx')}"
    assert len(world.registry.list_trials(MODEL, RUN_ID)) == 1
    assert (world.run.stage, world.run.stages) == ("training", {"training": NOW})
    assert world.run.begin("training", NOW + timedelta(hours=1))["stages"] == {"training": NOW}  # the first attempt's


def test_a_model_of_many_files_is_refused_for_their_number(world: TrainingRun) -> None:
    for number in range(60):
        world.model_store.put(f"{PREFIX}a{number}.bin", b"-")
    pointer = check_planned(world)
    assert pointer.check is not None
    assert (len(pointer.check.files), pointer.check.more_files) == (MAX_LOGGED_FILES, 13)
    assert pointer.checked is not None
    assert "has 63 files" in pointer.checked.reason


def test_a_refused_model_rejects_its_run_with_the_reason(world: TrainingRun) -> None:
    world.model_store.put(PREFIX + "MLmodel", b"flavors: {sklearn: {pickled_model: model.pkl}}")
    outcome = record(world, check_planned(world))
    assert outcome.outcome == "failed"
    verdict = world.evaluate([outcome])
    assert verdict.decision == "reject"
    assert "no onnx flavor" in verdict.reasons[1]
    assert world.run.status == "rejected"


def without_values(dataset: Dataset, rows: int) -> FeatureMatrix:
    """Validation rows, the first of which lack the first number."""
    given = dataset.splits["validation"].features
    numbers = given.numbers.copy()
    numbers[:, 0] = np.where(np.arange(len(given)) < rows, np.nan, np.nan_to_num(numbers[:, 0]))
    return FeatureMatrix(numbers, given.strings)


def test_a_model_without_a_prediction_for_some_rows_is_a_failed_trial(world: TrainingRun, dataset: Dataset) -> None:
    schema, train = dataset.schema, dataset.splits["train"]
    whole = [("n0", Int64TensorType([None, 1]))]
    logits = convert_sklearn(
        LogisticRegression().fit(np.nan_to_num(train.features.numbers[:, :1]), np.array(schema.classes)[train.target]),
        initial_types=whole,
        target_opset=OPSET,
    )
    files = logged_files(logits.SerializeToString(), ["n0"], {"columns": ["n0"], "data": [[1], [2], [3]]})
    for name, body in files.items():
        world.model_store.put(PREFIX + name, body)
    key = split_key(MODEL, RUN_ID, "validation")
    split = load_split(world.data_store.get(key))
    world.data_store.put(key, dump_split(replace(split, features=without_values(dataset, 5))))
    outcome = record(world, check_planned(world))
    assert outcome.outcome == "failed"
    assert f"no prediction for 5 of {len(split):,} validation rows" in outcome.reason
    assert world.evaluate([outcome]).decision == "reject"
    assert world.run.status == "rejected"


def test_a_model_that_fails_on_the_rows_of_the_data_is_a_failed_trial(
    world: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = check_planned(world)

    def fail(*_: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] indices element out of data bounds\nmore")

    monkeypatch.setattr(OnnxModel, "run_inputs", fail)
    outcome = record(world, pointer)
    assert outcome.outcome == "failed"
    assert outcome.reason.endswith("indices element out of data bounds")


def test_what_was_not_checked_is_not_taken(world: TrainingRun) -> None:
    pointer = check_planned(world)
    world.model_store.put(trial_key(MODEL, RUN_ID, pointer.trial_id, "model.onnx"), b"another")
    with pytest.raises(ArtifactIntegrityError, match="not the one that was checked"):
        record(world, pointer)


def test_the_record_of_a_trial_is_made_once_and_nothing_reproduces_it(world: TrainingRun, dataset: Dataset) -> None:
    pointer = check_planned(world)
    record(world, pointer)
    stored = TrialRecord.read(world.model_store.get(trial_key(MODEL, RUN_ID, pointer.trial_id, "trial.json")))
    with pytest.raises(InvalidInputError, match="not trained here"):
        reproduce_trial(stored, dataset.schema, {})
    refused = pointer.model_copy(update={"checked": CheckedModel(outcome="refused", reason="later")})
    assert record(world, refused).outcome == "succeeded"


def test_a_model_of_a_user_that_is_worse_than_the_baseline_is_rejected(world: TrainingRun, dataset: Dataset) -> None:
    train = dataset.splits["train"]
    flipped = fit_columns(train.features, np.array(dataset.schema.classes)[1 - train.target])
    world.model_store.put(PREFIX + "model.onnx", to_onnx(flipped, dataset.schema))
    verdict = world.evaluate([record(world, check_planned(world))])
    assert verdict.decision == "reject"
    assert world.run.status == "rejected"
