"""Items of the registry: their keys, and entities as attributes.

==========================================  ===============================================================
partition / sort key                        item
==========================================  ===============================================================
``MODELS`` / ``MODEL#<model>``              index of models, so that listing them is a query
``MODEL#<model>`` / ``STATE``               version counter, aliases, revision, active run, active release and its
                                            routing plan
``MODEL#<model>`` / ``SPEC``                the model's spec
``MODEL#<model>`` / ``CAUSE#<cause_id>``    a cause and its outcome; ``expires_at`` for TTL
``PENDING#<model>`` / ``PENDING#<time>#..`` a cause that waits; deleted once a follow-up run takes it
``MODEL#<model>`` / ``VERSION#<000001>``    a registered version
``MODEL#<model>`` / ``ALIAS#<alias>#...``   a move of an alias, by time, so that point-in-time lookup is one query
``MODEL#<model>`` / ``APPROVAL#<run_id>``   an approval and its decision
``MODEL#<model>`` / ``RELEASE#<id>``        a release, by time
``MODEL#<model>`` / ``LEDGER#<time>#...``   an entry of the ledger, never changed
``MODEL#<model>`` / ``CHAIN``               number and hash of the ledger's last entry
``OUTBOX`` / ``<time>#<model>#<entry>``     an entry of the ledger that is not published yet
``KEYS`` / ``KEY#<key_id>``                 the models that an API key may use
==========================================  ===============================================================

and of the table of runs, which the functions that read files of users write too:

==========================================  ===============================================================
``MODEL#<model>`` / ``SCHEMA``              number of the schema that uploads must match
``MODEL#<model>`` / ``RUN#<run_id>``        a training run
``MODEL#<model>`` / ``TRIAL#<run>#<id>``    a trial of a run
``MODEL#<model>`` / ``DATASET#<time>#...``  an accepted dataset, in the order of acceptance
``MODEL#<model>`` / ``DATASETID#<id>``      index of datasets by their content
``MODEL#<model>`` / ``BATCH#<job_id>``      a batch job
``MODEL#<model>`` / ``BATCHOF#<cause_id>``  index of batch jobs by their cause; both have ``expires_at`` for TTL
``MODEL#<model>`` / ``NOTE#<time>#...``     a note for the ledger, where an acting function files it
``MONITORING`` / ``MODEL#<model>``          activity and next check of a model, which finds the models that are due
==========================================  ===============================================================

Releases that had one table wrote these to the registry's: they are read there, and copied when they change.

No scan, no secondary index. A role that reads needs GetItem, BatchGetItem and Query; one that writes PutItem,
UpdateItem, DeleteItem and ConditionCheckItem too.

Every field is an attribute of its own, so that one field can be changed or stand in a condition without reading
the rest. Text, whole numbers and timestamps are stored as they are; a field that is missing is left out; anything
else (a fraction, a mapping, nested entities) is one JSON text, because DynamoDB's numbers are decimals that change
a float. Infinities and NaN are kept, because a record must be read as it was written.
"""

import json
import types
from collections.abc import Hashable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from millrace.documents import parse_timestamp
from millrace.entities import ModelState, SpecRecord
from millrace.layout import MODELS_PARTITION, OUTBOX_PARTITION, monitoring_item
from millrace.ports import Item, Key, Table, Update
from millrace.spec import ModelSpec

EntityT = TypeVar("EntityT")

KEYS_PARTITION = "KEYS"
_OF_RUNS = frozenset({"RUN", "TRIAL", "DATASET", "DATASETID", "SCHEMA", "NOTE"})


def sortable(timestamp: datetime) -> str:
    """Return a timestamp as text that sorts by time: UTC, always with microseconds."""
    return f"{timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class ModelKeys:
    """Keys of one model's items."""

    def __init__(self, model: str) -> None:
        self.partition = f"MODEL#{model}"
        #: Of causes that wait: the only partition of models that a function may delete from.
        self.waiting = f"PENDING#{model}"
        self.index = Key(MODELS_PARTITION, f"MODEL#{model}")
        self.state = self.item("STATE")
        self.spec = self.item("SPEC")
        self.chain = self.item("CHAIN")
        self.schema = self.item("SCHEMA")

    def item(self, kind: str, *parts: str | int | datetime) -> Key:
        """Return the key of an item: its kind, and the parts that distinguish it, in the order of sorting.

        Timestamps sort by time. Numbers have six digits, so that versions sort by number.
        """
        table: Table = "runs" if kind in _OF_RUNS else "registry"
        partition = self.waiting if kind == "PENDING" else self.partition
        return Key(partition, "#".join([kind, *map(_sort_part, parts)]), table)


def _sort_part(part: str | int | datetime) -> str:
    if isinstance(part, datetime):
        return sortable(part)
    return f"{part:06d}" if isinstance(part, int) else part


def outbox_key(model: str, occurred_at: datetime, entry_id: str) -> Key:
    """Return the key of an unpublished entry; those of all models are in one partition, by time."""
    return Key(OUTBOX_PARTITION, f"{sortable(occurred_at)}#{model}#{entry_id}")


def scope_key(key_id: str) -> Key:
    """Return the key of an API key's scope."""
    return Key(KEYS_PARTITION, f"KEY#{key_id}")


def make_due(model: str, now: datetime, own_schedule: bool | None = None) -> Update:
    """Return the change after which the next hourly check monitors a model, even one that was idle.

    ``own_schedule`` leaves the model to the schedule of its spec (True) or to the hourly check; None changes neither.
    """
    values: dict[str, str | int] = {"due_at": _encode_timestamp(now)}
    removed = ("idle",) if own_schedule is not False else ("idle", "own_schedule")
    return Update(monitoring_item(model), values | ({"own_schedule": 1} if own_schedule else {}), removed, ())


def encode_value(value: Any) -> str | int:
    """Return one field as an attribute's value."""
    plain = msgspec.to_builtins(value, builtin_types=(datetime,), str_keys=True, enc_hook=_encode_other)
    if isinstance(plain, datetime):
        return _encode_timestamp(plain)
    if isinstance(plain, str) or (isinstance(plain, int) and not isinstance(plain, bool)):
        return plain
    return json.dumps(plain, separators=(",", ":"), default=_encode_timestamp)


def encode(entity: Any) -> dict[str, Any]:
    """Return an entity's fields as attributes, without those that are None."""
    values = {field.name: getattr(entity, field.name) for field in fields(entity)}
    return {name: encode_value(value) for name, value in values.items() if value is not None}


def decode(entity_class: type[EntityT], item: Item) -> EntityT:
    """Read what :func:`encode` wrote; a field that the item lacks has its default, or None."""
    values = {
        name: json.loads(item[name]) if is_json and isinstance(item[name], str) else item[name]
        for name, is_json in _fields(cast(Hashable, entity_class)).items()
        if name in item
    }
    return msgspec.convert(values, entity_class)


def _encode_timestamp(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat()


def _encode_other(value: Any) -> Any:
    """Return numpy's numbers and other mappings as built-in types."""
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@cache
def _fields(entity_class: Hashable) -> dict[str, bool]:
    """Return which fields are JSON where they are stored as text."""
    return {name: not _is_text(hint) for name, hint in get_type_hints(entity_class).items()}


def _is_text(hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not types.NoneType)
    return hint in (str, datetime) or get_origin(hint) is Literal


def read_spec(model: str, item: Item | None) -> SpecRecord:
    """Return a model's spec as it is stored; without an item, the default one."""
    if item is None:
        return SpecRecord(model, ModelSpec())
    changed_at = item.get("changed_at")
    return SpecRecord(
        model,
        ModelSpec.read_stored(json.loads(item["document"])),
        item["revision"],
        parse_timestamp(changed_at) if changed_at else None,
        item.get("changed_by"),
    )


def read_state(item: Item, schema: Item | None) -> ModelState:
    """Return a model's state of its item and that of its schema."""
    state = decode(ModelState, item)
    return replace(state, schema_version=schema["schema_version"]) if schema else state
