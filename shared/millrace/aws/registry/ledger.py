"""The ledger: written once, never changed; and the outbox of what listeners were not told of yet."""

from typing import TYPE_CHECKING

from millrace.aws.registry.keys import OUTBOX_PARTITION, ledger_key, outbox_key
from millrace.aws.registry.serialisation import Item, decode, encode
from millrace.aws.registry.table import Table, TableItems
from millrace.entities import LedgerEntry
from millrace.registry.ledger import EVENT_NAMES

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef


class LedgerItems(TableItems):
    """Ledger entries and the outbox."""

    def append_ledger(self, entry: LedgerEntry) -> None:
        """Write a ledger entry; the same entry twice is one."""
        if entry.action in EVENT_NAMES:
            self._table.transact(writing(self._table, entry))
        else:
            self._table.put_new(ledger_item(entry))

    def list_ledger(self, model: str, limit: int = 100) -> list[LedgerEntry]:
        """Return the newest entries first."""
        items = self._table.query(f"MODEL#{model}", "LEDGER#", newest_first=True, limit=limit)
        return [decode(LedgerEntry, item) for item in items]

    def list_unpublished(self, limit: int = 100) -> list[LedgerEntry]:
        """Return entries, of any model, that listeners were not told of yet, oldest first."""
        return [decode(LedgerEntry, item) for item in self._table.query(OUTBOX_PARTITION, "", limit=limit)]

    def mark_published(self, entry: LedgerEntry) -> None:
        """Note that listeners were told of an entry; again is the same as once."""
        self._table.delete(outbox_key(entry.model, entry.occurred_at, entry.entry_id))


def ledger_item(entry: LedgerEntry) -> Item:
    """Return the item of a ledger entry."""
    return {**ledger_key(entry.model, entry.occurred_at, entry.entry_id), **encode(entry)}


def writing(table: Table, entry: LedgerEntry) -> "list[TransactWriteItemTypeDef]":
    """Return the actions that write a ledger entry, and put it into the outbox when listeners are to be told."""
    actions = [table.putting_new(ledger_item(entry))]
    if entry.action in EVENT_NAMES:
        waiting = outbox_key(entry.model, entry.occurred_at, entry.entry_id)
        actions.append(table.putting({**waiting, **encode(entry)}))
    return actions
