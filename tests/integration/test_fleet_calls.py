"""Calls of the reading routes with 3,000 models and 1,000 versions, one after another, and the sizes of answers."""

import contextlib
import json
import math
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import boto3
import pytest
from millrace.api_requests import ApiRequest
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.entities import AliasMove, ModelState
from millrace.errors import ArtifactNotFoundError, InvalidInputError, NotFoundError, ServiceUnavailableError
from millrace.management.calls import Call
from millrace.management.read_routes import ROUTES
from millrace.monitoring.due_models import find_due_models
from millrace.ports import Key, Put
from millrace.registry.items import MODELS_PARTITION, ModelKeys, encode
from millrace.registry.store import Registry
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistryStore
from tests.registry_builders import (
    NOW,
    later,
    make_approval,
    make_cause,
    make_dataset,
    make_entry,
    make_run,
    make_version,
)

MODELS, VERSIONS = 3_000, 1_000
NAMES = [f"model-{number:04d}" for number in range(MODELS)]
BIG = NAMES[1_500]
#: API Gateway gives 29 seconds, and a call takes some 10 ms: a third of it at most.
MOST_CALLS = 100
#: Ten a model, of fifty models a page: about five seconds. Of an overview one for its traffic, and one for the last run
#: of models from before their state named it.
MOST_CALLS_OF = {"/cost": 600, "/overview": 110}
MAX_ANSWER_BYTES = 4_500_000
_BATCH, _PAGE_BYTES = 100, 1_000_000


class CountingStore(MemoryRegistryStore):
    """Counts the calls that DynamoDB would get: a hundred keys in a batch, a megabyte in a page."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def get(self, key):
        self.calls["GetItem"] += 1
        return super().get(key)

    def get_many(self, keys):
        self.calls["BatchGetItem"] += math.ceil(len(set(keys)) / _BATCH)
        return super().get_many(keys)

    def query(self, *arguments, **options):
        items = list(super().query(*arguments, **options))
        self.calls["Query"] += 1 + sum(len(json.dumps(item)) for item in items) // _PAGE_BYTES
        return iter(items)


class CountingObjects(MemoryObjectStore):
    """Counts reads and lists."""

    def __init__(self, name, calls):
        super().__init__(name)
        self.calls = calls

    def get(self, key, version_id=None):
        self.calls["GetObject"] += 1
        return super().get(key, version_id)

    def list(self, prefix):
        self.calls["ListObjectsV2"] += 1
        return super().list(prefix)


def seed(store, names=NAMES, versions=VERSIONS):
    """Put a fleet: every model with a spec and a run, one of them with a long history."""
    items = {}
    for name in names:
        keys, run = ModelKeys(name), make_run(make_cause("a.csv", name))
        state = ModelState(
            name,
            aliases={"champion": 1},
            latest_version=1,
            last_run_id=run.run_id,
            created_at=NOW,
            champion_since=NOW,
        )
        items[keys.index] = {"model": name}
        items[keys.state] = {**encode(state), "aliases": {"champion": 1}}
        items[keys.schema] = {"schema_version": 1}
        items[keys.spec] = {"document": ModelSpec().model_dump_json(), "revision": 1}
        items[keys.item("RUN", run.run_id)] = encode(run)
    if versions:
        items |= history(versions)
    store.load(items)


def history(versions):
    keys, items = ModelKeys(BIG), {}
    for number in range(1, versions + 1):
        at = NOW + timedelta(hours=number)
        cause = make_cause(f"{number}.csv", BIG, at=at)
        run, dataset = make_run(cause, at=at, reasons=("word " * 400,)), make_dataset(f"{number:064x}", BIG, at)
        move = AliasMove(BIG, "champion", at, number, "tester", "alias_moved", "better", f"m{number}", None, number)
        items[keys.item("VERSION", number)] = encode(make_version(number, BIG, run.run_id))
        items[keys.item("RUN", run.run_id)] = encode(run)
        items[keys.item("DATASET", at, dataset.dataset_id)] = encode(dataset)
        items[keys.item("LEDGER", at, f"e{number}")] = encode(make_entry(f"e{number}", BIG, at))
        items[keys.item("ALIAS", "champion", at, f"m{number}")] = encode(move)
    items[keys.item("DATASETID", f"{1:064x}")] = {"record": keys.item("DATASET", later(60), f"{1:064x}").sort}
    items[keys.item("APPROVAL", make_run(make_cause("a.csv", BIG)).run_id)] = encode(
        make_approval(make_run(make_cause("a.csv", BIG)).run_id)
    )
    return items


@pytest.fixture(scope="module")
def fleet():
    store = CountingStore()
    seed(store)
    return store


def call_of(store, **query):
    event = {"requestContext": {}, "queryStringParameters": query}
    objects = [CountingObjects(name, store.calls) for name in ("data", "models")]
    return Call(ApiRequest(event), Registry(store), *objects, later(0), *([lambda: SimpleNamespace(status=str)] * 4))


def get(store, path, parameters=None, **query):
    """Return the answer of a route and the calls that it took."""
    store.calls.clear()
    route = next(route for route in ROUTES if (route.method, route.path) == ("GET", path))
    body = route.respond(call_of(store, **query), parameters or {})
    return body, Counter(store.calls)


PARAMETERS = {
    "model": BIG,
    "run_id": make_run(make_cause("700.csv", BIG, at=NOW + timedelta(hours=700))).run_id,
    "version": "7",
    "dataset_id": f"{1:064x}",
    "other_id": f"{1:064x}",
    "cause_id": "0f3a9c2b7d1e" * 2 + "0f3a9c2b",
    "release_id": "r-20260503T141500-0f3a9c2b",
    "job_id": "b-20260503T141500-0f3a9c2b7d1e",
    "replay_id": "r-20260503T141500-0f3a9c2b",
    "run": "20260503T141500-0f3a9c2b7d1e",
}


@pytest.mark.parametrize("path", [route.path for route in ROUTES if route.method == "GET"])
def test_a_route_takes_few_calls_and_its_answer_is_bounded(fleet, path):
    fleet.calls.clear()
    parameters = {name: value for name, value in PARAMETERS.items() if f"<{name}>" in path}
    route = next(route for route in ROUTES if (route.method, route.path) == ("GET", path))
    answer = None
    with contextlib.suppress(NotFoundError, ArtifactNotFoundError):  # what does not exist took its calls too
        answer = route.respond(call_of(fleet), parameters)
    assert sum(fleet.calls.values()) <= MOST_CALLS_OF.get(path, MOST_CALLS), fleet.calls
    assert len(json.dumps(answer)) < MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    ("path", "name", "most", "total"),
    [
        ("/models", "models", 500, MODELS),
        ("/models/<model>/versions", "versions", 100, VERSIONS),
        ("/models/<model>/datasets", "datasets", 100, VERSIONS),
        ("/models/<model>/runs", "runs", 50, VERSIONS + 1),
    ],
)
def test_pages_hold_everything_once_and_in_order(fleet, path, name, most, total):
    parameters = {"model": BIG} if "<model>" in path else {}
    whole, query = [], {}
    while query is not None:
        page, calls = get(fleet, path, parameters, **query)
        assert len(page[name]) <= most
        assert sum(calls.values()) <= 20
        whole += page[name]
        query = {"after": page["next"]} if page["next"] else None
    assert len(whole) == total
    keys = [json.dumps(item, sort_keys=True) for item in whole]
    assert len(set(keys)) == total
    first, _ = get(fleet, path, parameters, limit="3")
    assert first[name] == whole[:3]
    second, _ = get(fleet, path, parameters, limit="2", after=first["next"])
    assert second[name] == whole[3:5]


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "501"}, {"limit": "many"}, {"after": "a b"}, {"after": ""}]
)
def test_a_page_that_cannot_be_is_refused(fleet, query):
    with pytest.raises(InvalidInputError):
        get(fleet, "/models", **query)


def test_models_come_with_their_last_run(fleet):
    page, calls = get(fleet, "/models", limit="250")
    assert {model["last_run"]["status"] for model in page["models"]} == {"queued"}
    assert calls == {"Query": 1, "BatchGetItem": 5 + 3}


def test_a_run_is_found_among_all_models(fleet):
    body, calls = get(fleet, "/runs/<run_id>", {"run_id": PARAMETERS["run_id"]})
    assert (body["run"]["model"], body["run"]["run_id"]) == (BIG, PARAMETERS["run_id"])
    # Where a run is missing, the table of an earlier release is asked too.
    assert calls["BatchGetItem"] == 30 + 30
    assert sum(calls.values()) <= 65


def test_the_models_that_are_due_are_found_in_few_calls(fleet):
    fleet.calls.clear()
    assert len(find_due_models(fleet, NOW).names) == MODELS
    assert set(fleet.calls) == {"Query"}
    assert fleet.calls.total() <= 4


class TestDynamoDB:
    @pytest.fixture
    def client(self, isolated_from_aws):
        with mock_aws():
            create_table()
            yield boto3.client("dynamodb")

    @pytest.fixture
    def store(self, client):
        store = DynamoRegistryStore(client, TABLE_NAME, RUNS_TABLE_NAME)
        for name in NAMES[:50]:
            for change in (
                Put(Key(MODELS_PARTITION, f"MODEL#{name}"), {"model": name}),
                Put(ModelKeys(name).state, {"model": name}),
                Put(ModelKeys(name).item("RUN", "r1"), {"model": name}),
            ):
                store.write(change)
        return store

    def test_items_come_in_the_order_of_their_keys_a_hundred_a_call(self, client, store):
        calls = []
        client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
        keys = [ModelKeys(name).item("RUN", "r1") for name in NAMES[49::-1]]
        keys += [ModelKeys(name).state for name in NAMES[:60]] * 2
        found = store.get_many(keys)
        assert [item and item["model"] for item in found] == [*NAMES[49::-1], *([*NAMES[:50]] + [None] * 10) * 2]
        assert calls == ["BatchGetItem"] * 2
        assert store.get_many([]) == []

    def test_pages_begin_after_a_key(self, store):
        names = [item["model"] for item in store.query(MODELS_PARTITION, "MODEL#", after=f"MODEL#{NAMES[46]}")]
        assert names == NAMES[47:50]
        between = f"MODEL#{NAMES[2]}-which-is-not-there"
        newest = store.query(MODELS_PARTITION, "MODEL#", after=between, newest_first=True, limit=2)
        assert [item["model"] for item in newest] == [NAMES[2], NAMES[1]]

    def test_keys_that_were_not_processed_are_read_again(self, client, store, monkeypatch):
        batch_get_item, left = client.batch_get_item, [3]

        def busy(RequestItems):  # boto3's own name
            """Process half of the keys of each table, three times."""
            half = {name: {**part, "Keys": part["Keys"][::2]} for name, part in RequestItems.items()}
            rest = {name: {**part, "Keys": part["Keys"][1::2]} for name, part in RequestItems.items()}
            if not left[0]:
                return batch_get_item(RequestItems=RequestItems)
            left[0] -= 1
            return {**batch_get_item(RequestItems=half), "UnprocessedKeys": rest}

        monkeypatch.setattr(client, "batch_get_item", busy)
        keys = [key for name in NAMES[:50] for key in (ModelKeys(name).state, ModelKeys(name).item("RUN", "r1"))]
        assert [item["model"] for item in store.get_many(keys)] == [name for name in NAMES[:50] for _ in range(2)]

    def test_a_table_that_stays_busy_is_an_error_that_may_be_repeated(self, client, store, monkeypatch):
        monkeypatch.setattr("millrace.retry.time.sleep", lambda _: None)
        monkeypatch.setattr(client, "batch_get_item", lambda **request: {"UnprocessedKeys": request["RequestItems"]})
        with pytest.raises(ServiceUnavailableError):
            store.get_many([ModelKeys(NAMES[0]).state])
