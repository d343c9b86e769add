"""Models: state and spec."""

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from millrace.aws.registry.keys import MODELS_PARTITION, SPEC, STATE, model_key, models_key
from millrace.aws.registry.ledger import ledger_item
from millrace.aws.registry.serialisation import Item, decode, encode
from millrace.aws.registry.table import TableItems, pause
from millrace.entities import LedgerEntry, ModelState
from millrace.errors import ConflictError, ModelNotFoundError, ServiceUnavailableError
from millrace.ports import SpecRecord
from millrace.registry.lifecycle import insist_on_living
from millrace.spec import ModelSpec

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

_MAX_ATTEMPTS = 8


class ModelItems(TableItems):
    """State and spec of models."""

    def list_models(self) -> list[ModelState]:
        """Return every model's state, by name."""
        names = [item["model"]["S"] for item in self._table.query(MODELS_PARTITION, "MODEL#")]
        states = [self.get_state(name) for name in sorted(names)]
        return [state for state in states if state.deleted_at is None]

    def get_state(self, model: str) -> ModelState:
        """Return a model's state; raises ``ModelNotFoundError``."""
        item: Any = self._table.get(model_key(model, STATE))
        if item is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        return decode_state(item)

    def get_spec(self, model: str) -> ModelSpec:
        """Return a model's spec, or the default one when none was given."""
        return self.get_spec_record(model).spec

    def get_spec_record(self, model: str) -> SpecRecord:
        """Return a model's spec with its revision; revision 0 when none was given."""
        return _decode_spec(model, self._table.get(model_key(model, SPEC)))

    def put_spec(
        self, model: str, spec: ModelSpec, entry: LedgerEntry | None = None, expected_revision: int | None = None
    ) -> int:
        """Replace a model's spec; see :meth:`millrace.ports.Registry.put_spec`."""
        for attempt in range(_MAX_ATTEMPTS):
            present: Any = self._table.get(model_key(model, SPEC))
            revision = _decode_spec(model, present).revision
            if expected_revision not in (None, revision):
                raise ConflictError(f"the spec of {model!r} is at revision {revision}, not {expected_revision}")
            # A deletion in between changes the spec's revision, so that this fails and the state is read anew.
            actions = [self._replacing_spec(model, spec, entry, present), *self._creating_unless_there(model, entry)]
            if entry is not None:
                actions.append(self._table.putting_new(ledger_item(entry)))
            if not self._table.transact(actions):
                return revision + 1
            pause(attempt)
        raise ServiceUnavailableError(f"the spec of {model!r} keeps being changed by others; it was not replaced")

    def _replacing_spec(
        self, model: str, spec: ModelSpec, entry: LedgerEntry | None, present: Any
    ) -> "TransactWriteItemTypeDef":
        """Write the next revision, if the present one is still there."""
        record = _decode_spec(model, present)
        values: dict[str, Any] = {"document": spec.model_dump_json(), "next": record.revision + 1}
        expression = "SET #document = :document, revision = :next"
        if entry is not None:
            values |= {"when": entry.occurred_at, "who": entry.actor}
            expression += ", changed_at = :when, changed_by = :who"
        if present is None:
            condition = "attribute_not_exists(pk)"
        else:
            condition = "revision = :present"
            values["present"] = record.revision
        return self._table.updating(model_key(model, SPEC), expression, condition, values, {"#document": "document"})

    def _creating_unless_there(self, model: str, entry: LedgerEntry | None) -> "list[TransactWriteItemTypeDef]":
        known: Any = self._table.get(model_key(model, STATE))
        if known is not None and "deleted_at" not in known:
            return []
        if known is not None:
            began = entry.occurred_at if entry else decode_state(known).deleted_at
            return [
                self._table.updating(
                    model_key(model, STATE),
                    "SET created_at = :now REMOVE deleted_at",
                    "attribute_exists(deleted_at)",
                    {"now": began},
                )
            ]
        state = ModelState(model, created_at=entry.occurred_at if entry else None)
        # The map of aliases is DynamoDB's own, so that one alias can be moved without the others.
        item: Item = {**model_key(model, STATE), **encode(state), "aliases": {"M": {}}}
        index_item: Item = {**models_key(model), "model": {"S": model}}
        return [self._table.putting_new(item), self._table.putting(index_item)]

    def set_schema_version(self, model: str, schema_version: int) -> None:
        """Make ``schema_version`` the current one; see :meth:`millrace.ports.Registry.set_schema_version`."""
        followed = self._table.change(
            model_key(model, STATE),
            {"schema_version": schema_version},
            condition="schema_version = :present AND attribute_not_exists(deleted_at)",
            present=schema_version - 1,
        )
        if not followed:
            state = self.get_state(model)
            insist_on_living(state)
            present = state.schema_version
            raise ConflictError(f"schema version {schema_version} of {model!r} does not follow version {present}")


def _decode_spec(model: str, item: Any) -> SpecRecord:
    if item is None:
        return SpecRecord(model, ModelSpec())
    changed_at = item.get("changed_at", {}).get("S")
    return SpecRecord(
        model,
        ModelSpec.parse(json.loads(item["document"]["S"])),
        int(item["revision"]["N"]),
        datetime.fromisoformat(changed_at) if changed_at else None,
        item.get("changed_by", {}).get("S"),
    )


def decode_state(item: Any) -> ModelState:
    """Read a ``STATE`` item; aliases are a map of their own, so that one can be moved without the others."""
    state = decode(ModelState, {name: value for name, value in item.items() if name != "aliases"})
    return replace(state, aliases={alias: int(version["N"]) for alias, version in item["aliases"]["M"].items()})
