"""Describe and compare a model's datasets, for the API."""

import contextlib
import json
import re
from typing import Any, TypeVar

from millrace.data.compare import StoredDataset, compare_datasets
from millrace.data.dataset_documents import ColumnProfile, DatasetManifest, DatasetProfile, ValidationDocument
from millrace.documents import Document, to_plain
from millrace.entities import DatasetRecord
from millrace.errors import ArtifactNotFoundError, DatasetNotFoundError, InvalidInputError
from millrace.layout import dataset_key, schema_revision_key
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema

#: Least digits of an abbreviated dataset id.
MIN_ID_LENGTH = 4

#: Findings in a response, which holds at most 6 MB.
MAX_FINDINGS = 500

_DATASET_ID = re.compile(r"[0-9a-f]{4,64}\Z")
_SUMMARY = ("name", "type", "role", "sensitive", "missing", "missing_share", "distinct", "association")
#: Left out where they are hidden.
_VALUES = ("mean", "minimum", "maximum", "quantiles")
_TOP_VALUES = 5
#: Every field of a column that a caller may see.
SUMMARISED_FIELDS = frozenset({*_SUMMARY, *_VALUES, "top", "hidden"})
_NAMES: dict[type[Document], str] = {
    DatasetManifest: "manifest.json",
    DatasetProfile: "profile.json",
    ValidationDocument: "validation.json",
}

DocumentT = TypeVar("DocumentT", bound=Document)


def describe_dataset(model: str, dataset_id: str, registry: Registry, data_store: ObjectStore) -> dict[str, Any]:
    """Return a dataset: its record, its manifest, the findings of its checks and a summary of its profile.

    The id may be abbreviated. Raises ``ModelNotFoundError``, ``DatasetNotFoundError``, and ``InvalidInputError`` for
    the beginning of several ids, or of none.
    """
    record = find_dataset(model, dataset_id, registry)
    profile = _read_any(record, DatasetProfile, data_store)
    validation = _read_any(record, ValidationDocument, data_store)
    manifest = _read_any(record, DatasetManifest, data_store)
    findings = validation.findings if validation else []
    return {
        "dataset": to_plain(record),
        "manifest": to_plain(manifest),
        "findings": findings[:MAX_FINDINGS],
        "findings_in_all": len(findings),
        "profile": {
            "rows": profile.rows if profile else None,
            "target": to_plain(profile.shown_target) if profile else None,
            "columns": [_summarise(column) for column in profile.columns] if profile else [],
        },
        "report_key": dataset_key(model, record.dataset_id, "report.html"),
    }


def describe_difference(
    model: str, dataset_id: str, other_id: str, registry: Registry, data_store: ObjectStore
) -> dict[str, Any]:
    """Compare two datasets by :func:`compare_datasets`.

    Raises as :func:`describe_dataset`, and ``ArtifactNotFoundError`` when a document of one of them is gone.
    """
    records = [find_dataset(model, identifier, registry) for identifier in (dataset_id, other_id)]
    before, after = (_load(record, data_store) for record in records)
    ids = {"before": records[0].dataset_id, "after": records[1].dataset_id}
    difference: dict[str, Any] = to_plain(compare_datasets(before, after))
    return ids | difference


def find_dataset(model: str, dataset_id: str, registry: Registry) -> DatasetRecord:
    """Return the dataset of an id or its beginning; raises as :func:`describe_dataset`."""
    registry.get_state(model)
    if not _DATASET_ID.match(dataset_id):
        raise InvalidInputError(
            f"{dataset_id!r} is not a dataset id: give the {MIN_ID_LENGTH} to 64 hexadecimal digits that it begins with"
        )
    found = registry.find_datasets(model, dataset_id, limit=3)
    if not found:
        raise DatasetNotFoundError(f"the model {model!r} has no dataset {dataset_id}")
    if len(found) > 1:
        raise InvalidInputError(
            f"{dataset_id} is the beginning of more than one dataset id: give more digits, as of "
            f"{', '.join(record.dataset_id[: len(dataset_id) + 4] for record in found)}"
        )
    return found[0]


def _load(record: DatasetRecord, data_store: ObjectStore) -> StoredDataset:
    schema = data_store.get(schema_revision_key(record.model, record.schema_version, record.schema_revision))
    manifest, profile = _read(record, DatasetManifest, data_store), _read(record, DatasetProfile, data_store)
    return StoredDataset(manifest, profile, TableSchema.from_dict(json.loads(schema)))


def _summarise(column: ColumnProfile) -> dict[str, Any]:
    plain = to_plain(column)
    summary = {name: plain[name] for name in _SUMMARY if name in plain}
    if _is_private(column):
        return summary | {"hidden": True}
    summary |= {name: plain[name] for name in _VALUES if name in plain}
    if column.top:
        summary["top"] = [{"value": entry.value, "count": entry.count} for entry in column.top[:_TOP_VALUES]]
    return summary


def _is_private(column: ColumnProfile) -> bool:
    """Return True for columns whose values name people or say what they wrote, also where they are no features."""
    is_unique = column.top is not None and [entry.count for entry in column.top[:1]] == [1]
    names_rows = column.role == "identifier" or (column.role != "target" and is_unique)
    return column.sensitive or names_rows or column.type == "text"


def _read(record: DatasetRecord, document: type[DocumentT], data_store: ObjectStore) -> DocumentT:
    return document.read(data_store.get(dataset_key(record.model, record.dataset_id, _NAMES[document])))


def _read_any(record: DatasetRecord, document: type[DocumentT], data_store: ObjectStore) -> DocumentT | None:
    with contextlib.suppress(ArtifactNotFoundError):
        return _read(record, document, data_store)
    return None
