"""The ledger: written once, never changed."""

from millrace.aws.registry.keys import ledger_key
from millrace.aws.registry.serialisation import Item, decode, encode
from millrace.aws.registry.table import TableItems
from millrace.registry.entities import LedgerEntry


class LedgerItems(TableItems):
    """Ledger entries."""

    def append_ledger(self, entry: LedgerEntry) -> None:
        """Write a ledger entry; the same entry twice is one."""
        self._table.put_new(ledger_item(entry))

    def list_ledger(self, model: str, limit: int = 100) -> list[LedgerEntry]:
        """Return the newest entries first."""
        items = self._table.query(f"MODEL#{model}", "LEDGER#", newest_first=True, limit=limit)
        return [decode(LedgerEntry, item) for item in items]


def ledger_item(entry: LedgerEntry) -> Item:
    """Return the item of a ledger entry."""
    return {**ledger_key(entry.model, entry.occurred_at, entry.entry_id), **encode(entry)}
