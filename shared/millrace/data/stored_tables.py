"""A model's datasets, fetched when they are looked at: one after the other, so that any number fits on a disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from millrace.data.record import open_record
from millrace.data.typed_table import TypedTable
from millrace.layout import dataset_key
from millrace.ports import ObjectStore
from millrace.registry.entities import DatasetRecord
from millrace.schema import TableSchema

#: Bytes of records that are kept on disk, for when they are looked at again.
KEPT_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoredTables(Sequence[TypedTable]):
    """Datasets as tables; only the one that was asked for last may be used.

    Parameters
    ----------
    model : str
        The model's name.
    datasets : sequence of DatasetRecord
        In order.
    schema : TableSchema
        What they are read as.
    data_store : ObjectStore
        The data bucket.
    folder : Path
        Where they may be written.
    before : sequence of TypedTable, default=()
        Tables that come before the datasets.
    """

    model: str
    datasets: Sequence[DatasetRecord]
    schema: TableSchema
    data_store: ObjectStore
    folder: Path
    before: Sequence[TypedTable] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.datasets)

    @overload
    def __getitem__(self, index: int) -> TypedTable: ...

    @overload
    def __getitem__(self, index: slice) -> list[TypedTable]: ...

    def __getitem__(self, index: int | slice) -> TypedTable | list[TypedTable]:
        """Return a table; raises ``ArtifactNotFoundError`` when its record is gone."""
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        if index < len(self.before):
            return self.before[index]
        identity = self.datasets[index - len(self.before)].dataset_id
        path = self.folder / f"{identity}.parquet"
        if not path.exists():
            kept = list(self.folder.iterdir())
            if sum(file.stat().st_size for file in kept) > KEPT_BYTES:
                for file in kept:
                    file.unlink()
            self.data_store.download(dataset_key(self.model, identity, "data.parquet"), path)
        return open_record(path, self.schema)
