"""Calls of DynamoDB per operation: they are what an idle stack and a busy one pay for.

What is written to the ledger reads the head of its chain first.
"""

from collections.abc import Callable
from dataclasses import replace

import boto3
import pytest
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.registry.store import Registry
from millrace.registry.transactions import RetireVersion
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
)

FIRST, SECOND = make_cause("1.csv"), make_cause("2.csv")
RUN_ID = make_run(FIRST).run_id
OTHER = make_cause("3.csv", "other")

OPERATIONS: dict[str, tuple[Callable[[Registry], object], list[str]]] = {
    "claim the first cause": (
        lambda registry: registry.claim_cause(OTHER, make_run(OTHER), make_entry("o", "other")),
        ["GetItem", "GetItem", "GetItem", "TransactWriteItems"],
    ),
    "claim another cause": (
        lambda registry: registry.claim_cause(SECOND, make_run(SECOND), make_entry("s")),
        ["GetItem"] * 4 + ["TransactWriteItems"],
    ),
    "end a turn": (lambda registry: registry.release_run(MODEL, RUN_ID, None, None), ["TransactWriteItems"]),
    "replace a spec": (
        lambda registry: registry.put_spec(MODEL, ModelSpec(seed=1), make_entry("spec")),
        ["GetItem"] * 4 + ["TransactWriteItems"],
    ),
    "read a state": (lambda registry: registry.get_state(MODEL), ["GetItem"] * 2),
    "take a version number": (lambda registry: registry.next_version(MODEL), ["UpdateItem"]),
    "register a version": (
        lambda registry: registry.put_version(make_version(2), make_entry("v2")),
        ["GetItem", "TransactWriteItems"],
    ),
    "change a run": (lambda registry: registry.update_run(MODEL, RUN_ID, stage="training"), ["UpdateItem"]),
    "plan a trial": (lambda registry: registry.put_trials([make_trial("t1", RUN_ID)]), ["PutItem"]),
    "retire a version": (
        lambda registry: registry.commit(make_transaction("r", 0, RetireVersion(1))),
        ["GetItem", "TransactWriteItems"],
    ),
    "follow a schema": (
        lambda registry: registry.set_schema_version(MODEL, 1),
        ["GetItem", "GetItem", "TransactWriteItems"],
    ),
    "accept a dataset": (lambda registry: registry.put_dataset(make_dataset("d1")), ["TransactWriteItems"]),
    "request an approval": (
        lambda registry: registry.put_approval(make_approval(RUN_ID), make_entry("asked")),
        ["GetItem", "TransactWriteItems", "GetItem"],
    ),
    "write to the ledger": (
        lambda registry: registry.append_ledger(make_entry("e")),
        ["GetItem", "TransactWriteItems"],
    ),
    "write what is published": (
        lambda registry: registry.append_ledger(replace(make_entry("e"), action="model_retired")),
        ["GetItem", "TransactWriteItems"],
    ),
    "take out of the outbox": (lambda registry: registry.mark_published(make_entry("e")), ["DeleteItem"]),
    "find an alias at a time": (lambda registry: registry.alias_move_at(MODEL, "champion", later(1)), ["Query"]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_calls(name, isolated_from_aws):
    operation, expected = OPERATIONS[name]
    with mock_aws():
        create_table()
        client = boto3.client("dynamodb")
        registry = Registry(DynamoRegistryStore(client, TABLE_NAME, RUNS_TABLE_NAME))
        registry.claim_cause(FIRST, make_run(FIRST), make_entry("first"))
        registry.put_version(make_version(1), make_entry("v1"))
        calls: list[str] = []
        client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
        operation(registry)
    assert calls == expected
