"""The three handlers between prepared data and a decision, over buckets and a registry in memory."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from millrace.errors import ConfigurationError, InvalidInputError

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

ROOT = Path(__file__).resolve().parents[3]
FUNCTIONS = ("plan_training", "train_candidate", "evaluate_candidates")
SETTINGS = {"REGISTRY_TABLE": "table", "RUNS_TABLE": "runs", "DATA_BUCKET": "data", "MODELS_BUCKET": "models"}
CONTEXT = SimpleNamespace(
    function_name="f",
    memory_limit_in_mb=16_384,
    invoked_function_arn="arn",
    aws_request_id="id",
    get_remaining_time_in_millis=lambda: 900_000,
)


def load_app(function: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{function}_app", ROOT / "functions" / function / "app.py")
    assert spec is not None
    assert spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    return app


@pytest.fixture
def world(monkeypatch) -> TrainingRun:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return TrainingRun.prepared(make_dataset("binary"), candidates=("baseline", "logistic_regression", "random_forest"))


def call(function: str, event: dict, world: TrainingRun, monkeypatch) -> dict:
    app = load_app(function)
    buckets = {"data": world.data_store, "models": world.model_store}
    monkeypatch.setattr(app, "registry", lambda: world.registry)
    monkeypatch.setattr(app, "object_store", buckets.__getitem__)
    if function == "plan_training":
        monkeypatch.setattr(app, "account_concurrency", lambda: SimpleNamespace(unreserved=lambda: 1_000))
    reply = app.lambda_handler(event, CONTEXT)
    assert json.loads(json.dumps(reply)) == reply
    return reply


def test_from_prepared_data_to_a_decision(world, monkeypatch):
    plan = call("plan_training", {"model": MODEL, "run_id": RUN_ID, "unknown": "left out"}, world, monkeypatch)
    pointers = [pointer for lane in plan["lanes"] for pointer in lane["trials"]]
    outcomes = [call("train_candidate", pointer, world, monkeypatch) for pointer in pointers]
    event = {"model": MODEL, "run_id": RUN_ID, "trials": outcomes}
    verdict = call("evaluate_candidates", event, world, monkeypatch)

    assert [outcome["outcome"] for outcome in outcomes] == ["succeeded"] * 3
    assert verdict["decision"] == "promote"
    assert verdict["trial_id"] in {outcome["trial_id"] for outcome in outcomes}


def events(kind: str) -> list:
    paths = sorted(path for function in FUNCTIONS for path in (ROOT / "events" / function).glob(f"{kind}*.json"))
    return [pytest.param(path.parent.name, path, id=f"{path.parent.name}/{path.name}") for path in paths]


@pytest.mark.parametrize(("function", "path"), events("refused"))
def test_refused_event_is_refused_before_anything_is_read(function, path, world, monkeypatch):
    with pytest.raises(InvalidInputError, match="this is no "):
        call(function, json.loads(path.read_text()), world, monkeypatch)

    assert world.registry.list_trials(MODEL, RUN_ID) == []


@pytest.mark.parametrize(("function", "path"), events("valid"))
def test_valid_event_is_answered(function, path, world, monkeypatch):
    world.plan()

    assert call(function, json.loads(path.read_text()), world, monkeypatch)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_missing_settings_are_named_together(function, monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ConfigurationError, match="REGISTRY_TABLE, RUNS_TABLE, DATA_BUCKET, MODELS_BUCKET"):
        load_app(function).lambda_handler({}, CONTEXT)
