"""A throttled table: every function repeats or answers 503 with Retry-After, and nothing is lost or done twice.

DynamoDB refuses one call of each kind at each place of a request, after the attempts of botocore itself.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from millrace.aws import clients
from millrace.errors import MillraceError, ServiceUnavailableError
from millrace.registry.store import Registry

from tests.fakes.throttled_table import ThrottledTable
from tests.integration.application import DATA_BUCKET, MODELS_BUCKET, Application
from tests.integration.test_training_pipeline import as_csv, make_rows
from tests.limits import at_most
from tests.registered_versions import RegisteredVersions

EVENTS = Path(__file__).resolve().parents[2] / "events"
READS = sorted({path.stem for path in (EVENTS / "manage_models").glob("valid_*.json")} - {"valid_spec_change"})


@pytest.fixture
def world(application: Application) -> RegisteredVersions:
    """Three versions of a model, the first of them champion."""
    world = RegisteredVersions(3, clients.registry(), clients.object_store(MODELS_BUCKET))
    world.point("champion", 1)
    return world


def load_event(function: str, name: str) -> dict[str, Any]:
    return dict(json.loads((EVENTS / function / f"{name}.json").read_text()))


def responses(throttled_table: ThrottledTable, send: Callable[[], Any]) -> Iterator[Any]:
    """Yield the response for a refusal at each place in turn, while there is such a place."""
    for place in at_most(500):
        throttled_table.refuse_at(place)
        response = send()
        if not throttled_table.was_hit:
            throttled_table.refuse_at(0)
            return
        yield response


def assert_may_be_repeated(response: Mapping[str, Any]) -> None:
    assert response["statusCode"] == 503, response
    assert json.loads(response["body"])["error_code"] == "TEMPORARILY_UNAVAILABLE"
    headers = response.get("headers") or {name: value for name, (value,) in response["multiValueHeaders"].items()}
    assert headers["Retry-After"] == "1"


def test_a_request_that_reads_is_503_at_each_place(application, world, throttled_table):
    for name in READS:
        event = load_event("manage_models", name)

        refused = list(responses(throttled_table, lambda event=event: application.call("manage_models", event)))

        assert refused or name in ("valid_refused_uploads", "valid_keys"), name
        for response in refused:
            assert_may_be_repeated(response)
        assert application.call("manage_models", event)["statusCode"] != 503, name


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("valid_promote", "model_promoted"),
        ("valid_rollback", "model_rolled_back"),
        ("valid_retire", "model_retired"),
        ("valid_delete", "model_deleted"),
    ],
)
def test_a_change_is_made_once_however_often_it_is_refused(application, world, throttled_table, name, action):
    event = load_event("change_models", name)
    if name == "valid_rollback":
        world.point("champion", 2, minutes=1)
    if name == "valid_retire":
        event["body"] = json.dumps({"version": 3, "reason": "worse"})

    for response in responses(throttled_table, lambda: application.call("change_models", event)):
        # The change itself may be made when its event could not be published: it waits in the outbox.
        if response["statusCode"] != 200:
            assert_may_be_repeated(response)

    assert application.call("change_models", event)["statusCode"] in (200, 404)
    assert Counter(world.actions)[action] == 1


def test_a_spec_is_changed_once(application, world, throttled_table):
    event = load_event("manage_models", "valid_spec_change")
    before = len(world.actions)

    list(responses(throttled_table, lambda: application.call("manage_models", event)))

    # One entry for the change; the same spec again is none.
    assert len(world.actions) - before == 1


@pytest.mark.parametrize("name", ["valid_one", "valid_coverage"])
def test_ground_truth_is_stored_or_refused(application, world, throttled_table, name):
    event = load_event("record_feedback", name)

    for response in responses(throttled_table, lambda: application.call("record_feedback", event)):
        assert_may_be_repeated(response)
    stored = application.keys(DATA_BUCKET, "feedback/")

    assert application.call("record_feedback", event)["statusCode"] != 503
    assert len(stored) <= 1


def test_a_request_for_a_run_starts_it_or_is_refused(application, world, throttled_table):
    event = load_event("request_training", "valid_manual")
    application.handlers["validate_dataset"] = lambda *_: {"status": "rejected"}

    statuses = []
    for response in responses(throttled_table, lambda: application.call("request_training", event)):
        statuses.append(response["statusCode"])
        if response["statusCode"] != 202:
            assert_may_be_repeated(response)

    assert statuses.count(503) > 2


def deliver(application: Application, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Deliver an event as Lambda does: None when the function fails, and the event is kept for another attempt."""
    try:
        return application.trigger(event)
    except ServiceUnavailableError:
        return None


def test_an_upload_whose_event_is_refused_at_each_place_is_one_run(application, throttled_table):
    event = application.put("incoming/churn/churn.csv", as_csv(make_rows()))

    results = list(responses(throttled_table, lambda: deliver(application, event)))

    assert results.count(None) > 2
    last = deliver(application, event)
    assert last is not None
    assert application.wait_until_quiet() == {last["run_id"]: "SUCCEEDED"}
    assert [run.run_id for run in clients.registry().list_runs("churn")] == [last["run_id"]]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("find_due_models", "valid"),
        ("monitor_model", "valid"),
        ("request_approval", "valid_ask"),
        ("request_approval", "valid_expire"),
    ],
)
def test_a_step_that_is_refused_raises_the_error_that_its_pipeline_repeats(
    application, throttled_table, function, name
):
    RegisteredVersions(0, clients.registry(), clients.object_store(MODELS_BUCKET))
    event = load_event(function, name)

    def run_step() -> MillraceError | dict[str, Any]:
        try:
            return dict(application.call(function, event))
        except MillraceError as error:
            return error

    refused = list(responses(throttled_table, run_step))

    assert refused
    # What was stored when the last call was refused is not stored again.
    assert [error for error in refused if isinstance(error, MillraceError) and not error.retryable] == []
    assert not isinstance(run_step(), ServiceUnavailableError)


@pytest.mark.parametrize("first_place", [1, 5])
def test_a_run_whose_steps_are_refused_again_and_again_is_trained_and_registered_once(
    application, throttled_table, monkeypatch, first_place
):
    """The attempts of each step meet a refusal at a later place each time: four attempts, and a fifth without."""
    attempts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    call = application.call

    def call_with_refusal(function: str, event: Mapping[str, Any]) -> Any:
        attempt = attempts[f"{function} {event.get('trial_id')}"]
        attempts[f"{function} {event.get('trial_id')}"] += 1
        throttled_table.refuse_at(first_place + attempt if attempt < 4 else 0)
        try:
            return call(function, event)
        except ServiceUnavailableError:
            refused[function] += 1
            raise
        finally:
            throttled_table.refuse_at(0)

    event = application.put("incoming/churn/churn.csv", as_csv(make_rows()))
    result = application.trigger(event)
    monkeypatch.setattr(application, "call", call_with_refusal)

    assert application.wait_until_quiet(120) == {result["run_id"]: "SUCCEEDED"}
    if first_place == 1:
        assert set(refused) >= {"validate_dataset", "plan_training", "train_candidate", "register_model"}
    monkeypatch.undo()
    registry: Registry = clients.registry()
    # A number that was taken when the answer was lost stays unused.
    (version,) = registry.list_versions("churn")
    assert registry.get_state("churn").aliases == {"champion": version.version}
    actions = Counter(entry.action for entry in registry.list_ledger("churn"))
    assert (actions["model_registered"], actions["model_promoted"]) == (1, 1)
