"""Accepted datasets: each content once, in the order of acceptance."""

from datetime import UTC, datetime
from typing import Any

from millrace.aws.registry.keys import dataset_id_key, dataset_key, model_key
from millrace.aws.registry.serialisation import decode, encode
from millrace.aws.registry.table import TableItems
from millrace.entities import DatasetRecord
from millrace.errors import DatasetNotFoundError


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

    def renew_dataset(self, model: str, dataset_id: str, uploaded_at: datetime) -> None:
        """Record that a dataset's content was uploaded again; an earlier moment than the one known changes nothing."""
        known: Any = self._table.get(dataset_id_key(model, dataset_id))
        if known is None:
            raise DatasetNotFoundError(f"the model {model!r} has no dataset {dataset_id}")
        record = model_key(model, known["record"]["S"])
        # Moments in UTC are texts in the order of time.
        self._table.change(
            record,
            {"renewed_at": uploaded_at.astimezone(UTC)},
            "attribute_exists(pk) AND (attribute_not_exists(renewed_at) OR renewed_at < :renewed_at)",
        )

    def list_datasets(self, model: str) -> list[DatasetRecord]:
        """Return accepted datasets, oldest first."""
        return [decode(DatasetRecord, item) for item in self._table.query(f"MODEL#{model}", "DATASET#")]

    def find_datasets(self, model: str, prefix: str, limit: int = 10) -> list[DatasetRecord]:
        """Return the datasets whose id starts with ``prefix``, by id."""
        known: Any = list(self._table.query(f"MODEL#{model}", f"DATASETID#{prefix}", limit=limit))
        found = [self._table.get(model_key(model, item["record"]["S"])) for item in known]
        return [decode(DatasetRecord, item) for item in found if item is not None]
