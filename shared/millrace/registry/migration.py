"""Items that a release with one table left in it: read from there, and copied to the table of runs when they change.

The functions that read files of users cannot write to the registry's table. A copy wins over the item it was made from,
which nobody changes any more.
"""

import itertools
from collections.abc import Iterator, Sequence

from millrace.ports import Absent, Check, Delete, Exists, Item, Key, Put, RegistryStore, StoreChange, Table, Update
from millrace.registry.items import ModelKeys


class StoreOfTwoTables:
    """Implements :class:`millrace.ports.RegistryStore` over a store whose items may stand in the wrong table."""

    def __init__(self, store: RegistryStore) -> None:
        self.store = store

    def get(self, key: Key) -> Item | None:
        """Return an item, or None."""
        item = self.store.get(key)
        may_be_earlier = item is None and key.table == "runs" and key.sort != "SCHEMA"  # which no such release had
        return self.store.get(_earlier(key)) if may_be_earlier else item

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        """Return the items of keys, in their order; None for those that do not exist."""
        items = self.store.get_many(keys)
        places = [
            place
            for place, (key, item) in enumerate(zip(keys, items, strict=True))
            if item is None and key.table == "runs" and key.sort != "SCHEMA"
        ]
        for place, item in zip(places, self.store.get_many([_earlier(keys[place]) for place in places]), strict=True):
            items[place] = item
        return items

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
        """Yield items in the order of their sort keys; see :meth:`millrace.ports.RegistryStore.query`."""
        tables: Sequence[Table] = ("registry", "runs") if table == "runs" else ("registry",)
        found: dict[str, Item] = {}
        for name in tables:
            items = self.store.query(
                partition, prefix, up_to=up_to, after=after, newest_first=newest_first, limit=limit, table=name
            )
            if table == "registry":
                yield from items
            else:
                found |= {item["sk"]: item for item in items}
        yield from [found[sort] for sort in sorted(found, reverse=newest_first)][:limit]

    def write(self, change: Put | Update | Delete) -> Item | None:
        """Make one change; see :meth:`millrace.ports.RegistryStore.write`."""
        written = self.store.write(change)
        return self.store.write(change) if written is None and self._adopt(change) else written

    def transact(self, changes: Sequence[StoreChange]) -> list[int]:
        """Make all changes or none; see :meth:`millrace.ports.RegistryStore.transact`."""
        new = [position for position, change in enumerate(changes) if _is_new(change)]
        nowhere = [Check(_earlier(changes[position].key), (Absent(),)) for position in new]
        failed = self.store.transact([*changes, *nowhere])
        adopted = [self._adopt(changes[position]) for position in failed if position < len(changes)]
        if any(adopted):
            failed = self.store.transact([*changes, *nowhere])
        positions = [*range(len(changes)), *new]
        return sorted({positions[position] for position in failed})

    def _adopt(self, change: StoreChange) -> bool:
        """Copy the item that an update is about; False when there is none, or it was copied before."""
        if not isinstance(change, Update) or change.key.table != "runs" or self.store.get(change.key):
            return False
        item = self.store.get(_earlier(change.key)) or {}
        copied = {name: value for name, value in item.items() if name not in ("pk", "sk")}
        return bool(item) and self.store.write(Put(change.key, copied)) is not None


def list_waiting(keys: ModelKeys, store: RegistryStore, limit: int | None) -> dict[str, Key]:
    """Return the key that marks a cause as waiting by cause id, oldest first; those of earlier releases come first."""
    found: dict[str, Key] = {}
    for partition in (keys.partition, keys.waiting):
        for item in store.query(partition, "PENDING#", limit=limit if partition == keys.waiting else None):
            if "taken" not in item:
                found[item["cause_id"]] = Key(partition, item["sk"])
    return dict(itertools.islice(found.items(), limit))


def end_wait(key: Key) -> Delete | Update:
    """Return the change that ends the wait of a cause; one of an earlier release stays, because none may delete it."""
    if key.partition.startswith("PENDING#"):
        return Delete(key, (Exists(),))
    return Update(key, {"taken": 1}, conditions=(Exists(), Absent("taken")))


def _earlier(key: Key) -> Key:
    return key._replace(table="registry")


def _is_new(change: StoreChange) -> bool:
    return isinstance(change, Put) and not change.replace and change.key.table == "runs"
