"""Reading and changing records: one item each, changed from the revision that the change was computed from."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from millrace.layout import MLFLOW_RECORDS
from millrace.ports import Compare, Item, Key, ObjectStore, Put, RegistryStore, StoreChange, Update
from millrace.retry import retry
from millrace.tracking.tracking_records import decode_record, encode_record

RecordT = TypeVar("RecordT", bound=msgspec.Struct)
ResultT = TypeVar("ResultT")

#: An item holds 400 KB, its keys and other attributes included.
_MAX_DATA = 380_000


class Stored(NamedTuple, Generic[RecordT]):
    """A record with the revision that it was read at."""

    record: RecordT
    revision: int


def read_record(item: Item, kind: type[RecordT], objects: ObjectStore) -> Stored[RecordT]:
    """Return the record of an item."""
    data = item["data"] if "data" in item else objects.get(item["object"])
    return Stored(decode_record(kind, data), item["revision"])


def find_record(key: Key, kind: type[RecordT], store: RegistryStore, objects: ObjectStore) -> Stored[RecordT] | None:
    """Return the record of a key, or None."""
    item = store.get(key)
    return None if item is None else read_record(item, kind, objects)


def make_record(key: Key, record: msgspec.Struct, objects: ObjectStore) -> Put:
    """Return the change that writes a record which does not exist yet."""
    return Put(key, {"revision": 1, **_content(record, objects)})


def change_record(key: Key, record: msgspec.Struct, revision: int, objects: ObjectStore) -> Update:
    """Return the change that replaces a record, if it has still that revision."""
    content = _content(record, objects)
    removed = tuple({"data", "object"} - set(content))
    return Update(key, {"revision": revision + 1, **content}, removed, (Compare("revision", "=", revision),))


def _content(record: msgspec.Struct, objects: ObjectStore) -> dict[str, Any]:
    data = encode_record(record)
    if len(data) <= _MAX_DATA:
        return {"data": data}
    # Named by its content: what a change that fails has written is harmless, and is what its repetition writes.
    name = f"{MLFLOW_RECORDS}/{hashlib.sha256(data).hexdigest()}"
    objects.put(name, data)
    return {"object": name}


def commit(store: RegistryStore, changes: Sequence[StoreChange]) -> list[int]:
    """Make changes, all or none; returns the positions of those whose conditions failed."""
    if len(changes) == 1 and isinstance(changes[0], Put | Update):
        # Half the price of a transaction.
        written = store.write(changes[0])
        return [0] if written is None else []
    return store.transact(changes)


def repeat(attempt: Callable[[], ResultT | None]) -> ResultT:
    """Call ``attempt`` until it does not return None, which says that somebody else was faster."""
    return retry(attempt, "the record is being changed by too many requests at once")


def decode_items(items: Iterator[Item], kind: type[RecordT], objects: ObjectStore) -> Iterator[RecordT]:
    """Yield the records of items."""
    return (read_record(item, kind, objects).record for item in items)
