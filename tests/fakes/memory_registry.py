"""The registry over a store in memory, held to the same behaviour as the one on DynamoDB by one suite of tests."""

import operator
import threading
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import permutations
from typing import Any, Self

from millrace.ports import (
    Absent,
    AttributePath,
    Condition,
    Default,
    Delete,
    Exists,
    Item,
    Key,
    Plus,
    Put,
    StoreChange,
    Table,
    Update,
)
from millrace.registry.store import Registry

#: Limits of DynamoDB.
_MAX_PARTITION_KEY, _MAX_SORT_KEY, _MAX_ITEM, _MAX_NUMBER = 2_048, 1_024, 400_000, 10**38


class RefusedByDynamoDBError(Exception):
    """A key, a value or an item that DynamoDB cannot hold."""


def _size(value: Any) -> int:
    """Return the size of a value as DynamoDB counts it, about; raises for one that it cannot hold."""
    match value:
        case str():
            return len(value.encode())  # raises for half a surrogate pair
        case bytes():
            return len(value)
        case Plus() | Default():
            return _size(value.number if isinstance(value, Plus) else value.value)
        case int() if not isinstance(value, bool) and abs(value) < _MAX_NUMBER:
            return 21
        case dict():
            return sum(_size(name) + _size(entry) for name, entry in value.items())
    raise RefusedByDynamoDBError(f"{value!r:.80}")


def _check_key(partition: str, sort: str, least: int = 1) -> None:
    if not (0 < _size(partition) <= _MAX_PARTITION_KEY and least <= _size(sort) <= _MAX_SORT_KEY):
        raise RefusedByDynamoDBError(f"the key {partition:.80} / {sort:.80}")


def _check_change(change: StoreChange) -> None:
    _check_key(change.key.partition, change.key.sort)
    written = change.item if isinstance(change, Put) else change.set if isinstance(change, Update) else {}
    if sum(map(_size, written.values())) > _MAX_ITEM:
        raise RefusedByDynamoDBError(f"{change!r:.80}")
    if isinstance(change, Update):
        paths = [path if isinstance(path, tuple) else (path,) for path in (*change.set, *change.remove)]
        if any(one[: len(other)] == other for one, other in permutations(paths, 2)):
            raise RefusedByDynamoDBError(f"two document paths overlap: {paths}")


class MemoryRegistryStore:
    """Implements :class:`millrace.ports.RegistryStore`; every method is atomic under threads.

    Refuses keys, values and items that DynamoDB cannot hold.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._items: dict[Key, dict[str, Any]] = {}
        self._partitions: dict[tuple[str, Table], set[Key]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with a lock of its own."""
        copied = type(self)()
        copied._items, copied._partitions = deepcopy((self._items, self._partitions), memo)
        return copied

    def load(self, items: Mapping[Key, Mapping[str, Any]]) -> None:
        """Put items as they are."""
        with self._lock:
            for key, item in items.items():
                self._put(key, {**item, "pk": key.partition, "sk": key.sort})

    def _put(self, key: Key, item: dict[str, Any]) -> None:
        self._items[key] = item
        self._partitions.setdefault((key.partition, key.table), set()).add(key)

    def get(self, key: Key) -> Item | None:
        _check_key(key.partition, key.sort)
        with self._lock:
            return self._items.get(key)

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        with self._lock:
            return [self._items.get(key) for key in keys]

    def query(
        self,
        partition: str,
        prefix: str = "",
        *,
        up_to: str | None = None,
        after: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        table: Table = "registry",
    ) -> Iterator[Item]:
        _check_key(partition, prefix, least=0)
        if up_to is not None and up_to < prefix:
            raise RefusedByDynamoDBError("an upper bound below the lower one")
        with self._lock:
            keys = sorted(self._partitions.get((partition, table), ()), reverse=newest_first)
            found = [
                self._items[key]
                for key in keys
                if key in self._items
                and (key.sort.startswith(prefix) if up_to is None else prefix <= key.sort <= up_to)
                and (after is None or (key.sort < after if newest_first else key.sort > after))
            ]
        return iter(found[:limit])

    def write(self, change: Put | Update | Delete) -> Item | None:
        with self._lock:
            if self.transact([change]):
                return None
            written = self._items.get(change.key, {})
            names = change.set if isinstance(change, Update) else ()
            return {name: written[name] for name in names if isinstance(name, str)}

    def transact(self, changes: Sequence[StoreChange]) -> list[int]:
        for change in changes:
            _check_change(change)
        with self._lock:
            assert len({change.key for change in changes}) == len(changes) <= 100, "DynamoDB refuses such a transaction"
            failed = [position for position, change in enumerate(changes) if not self._is_allowed(change)]
            if not failed:
                for change in changes:
                    self._apply(change)
            return failed

    def _is_allowed(self, change: StoreChange) -> bool:
        if isinstance(change, Put):
            return change.replace or change.key not in self._items
        item = self._items.get(change.key, {})
        return all(_holds(condition, item) for condition in change.conditions)

    def _apply(self, change: StoreChange) -> None:
        keys = {"pk": change.key.partition, "sk": change.key.sort}
        match change:
            case Put(key, item):
                self._put(key, {**item, **keys})
            case Delete(key):
                self._items.pop(key, None)
            case Update(key, values, removed):
                present = self._items.get(key, keys)
                # As DynamoDB does, every new value is computed from the item as it was.
                new = {path: _new_value(present, path, value) for path, value in values.items()}
                item = dict(present)
                for path in removed:
                    _set(item, path, None)
                for path, value in new.items():
                    _set(item, path, value)
                self._put(key, item)


def _holds(condition: Condition, item: Item) -> bool:
    value = item.get(condition.attribute)
    if isinstance(condition, Exists | Absent):
        return (value is not None) == isinstance(condition, Exists)
    if value is None:
        return condition.or_absent
    compare = {"=": operator.eq, "<>": operator.ne, "<": operator.lt}[condition.operator]
    return bool(compare(value, condition.value))


def _new_value(item: Item, path: AttributePath, value: Any) -> Any:
    if isinstance(value, Plus):
        return item.get(value.counter, 0) + value.number
    if isinstance(value, Default):
        return item.get(path, value.value) if isinstance(path, str) else value.value
    return value


def _set(item: dict[str, Any], path: AttributePath, value: Any) -> None:
    """Set an attribute, or an entry of one that is a mapping; None removes it."""
    if not isinstance(path, str):
        entries = {**item[path[0]], path[1]: value}
        path, value = path[0], {name: entry for name, entry in entries.items() if entry is not None}
    if value is None:
        item.pop(path, None)
    else:
        item[path] = value


class MemoryRegistry(Registry):
    """A registry in memory."""

    def __init__(self) -> None:
        super().__init__(MemoryRegistryStore())
