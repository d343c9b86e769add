"""Accepted datasets: each content once, in the order of acceptance."""

from typing import Any

from millrace.aws.registry.keys import dataset_id_key, dataset_key, model_key
from millrace.aws.registry.serialisation import decode, encode
from millrace.aws.registry.table import TableItems
from millrace.registry.entities import DatasetRecord


class DatasetItems(TableItems):
    """Dataset records."""

    def put_dataset(self, dataset: DatasetRecord) -> bool:
        """Record an accepted dataset; False when its content was known already."""
        record_key = dataset_key(dataset.model, dataset.accepted_at, dataset.dataset_id)
        failed = self._table.transact(
            [
                self._table.putting_new(
                    {**dataset_id_key(dataset.model, dataset.dataset_id), "record": record_key["sk"]}
                ),
                self._table.putting_new({**record_key, **encode(dataset)}),
            ]
        )
        return not failed

    def list_datasets(self, model: str) -> list[DatasetRecord]:
        """Return accepted datasets, oldest first."""
        return [decode(DatasetRecord, item) for item in self._table.query(f"MODEL#{model}", "DATASET#")]

    def find_datasets(self, model: str, prefix: str, limit: int = 10) -> list[DatasetRecord]:
        """Return the datasets whose id starts with ``prefix``, by id."""
        known: Any = list(self._table.query(f"MODEL#{model}", f"DATASETID#{prefix}", limit=limit))
        found = [self._table.get(model_key(model, item["record"]["S"])) for item in known]
        return [decode(DatasetRecord, item) for item in found if item is not None]
