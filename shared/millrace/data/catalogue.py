"""What callers may read about a model's datasets."""

import json
import re
from typing import Any

from millrace.data.compare import compare_datasets
from millrace.documents import to_plain
from millrace.entities import DatasetRecord
from millrace.errors import ArtifactNotFoundError, DatasetNotFoundError, InvalidInputError
from millrace.layout import dataset_key, schema_revision_key
from millrace.ports import ObjectStore, Registry

#: Least digits of an abbreviated dataset id.
MIN_ID_LENGTH = 4

#: Findings that an answer lists; an answer of a function holds 6 MB.
MAX_FINDINGS = 500

_DATASET_ID = re.compile(r"[0-9a-f]{4,64}\Z")
_SUMMARY = ("name", "type", "role", "sensitive", "missing", "missing_share", "distinct", "mean", "association")
#: Left out for columns whose values nobody may see.
_VALUES = ("minimum", "maximum", "quantiles")
_TOP_VALUES = 5


def describe_datasets(model: str, registry: Registry) -> dict[str, Any]:
    """Return a model's datasets, newest first; raises ``ModelNotFoundError``."""
    registry.get_state(model)
    return {"datasets": to_plain(registry.list_datasets(model)[::-1])}


def describe_dataset(model: str, dataset_id: str, registry: Registry, data_store: ObjectStore) -> dict[str, Any]:
    """Return a dataset: its record, its manifest, the findings of its checks and a summary of its profile.

    Parameters
    ----------
    dataset_id : str
        May be cut, as long as it names one dataset.

    Raises
    ------
    ModelNotFoundError, DatasetNotFoundError, InvalidInputError
        When there is no such model or dataset, or more than one.
    """
    record = find_dataset(model, dataset_id, registry)
    profile = _read(record, "profile.json", data_store) or {}
    validation = _read(record, "validation.json", data_store) or {}
    return {
        "dataset": to_plain(record),
        "manifest": _read(record, "manifest.json", data_store),
        "findings": validation.get("findings", [])[:MAX_FINDINGS],
        "findings_in_all": len(validation.get("findings", [])),
        "profile": {
            "rows": profile.get("rows"),
            "target": profile.get("target"),
            "columns": [_summary(column) for column in profile.get("columns", [])],
        },
        "report_key": dataset_key(model, record.dataset_id, "report.html"),
    }


def describe_difference(
    model: str, dataset_id: str, other_id: str, registry: Registry, data_store: ObjectStore
) -> dict[str, Any]:
    """Compare two datasets: schema, volume, distributions; see :func:`compare_datasets`.

    Raises
    ------
    ModelNotFoundError, DatasetNotFoundError, InvalidInputError, ArtifactNotFoundError
        As :func:`describe_dataset`, and when what is kept beside one of them is gone.
    """
    records = [find_dataset(model, identifier, registry) for identifier in (dataset_id, other_id)]
    before, after = (_documents(record, data_store) for record in records)
    ids = {"before": records[0].dataset_id, "after": records[1].dataset_id}
    difference: dict[str, Any] = to_plain(compare_datasets(before, after))
    return ids | difference


def find_dataset(model: str, dataset_id: str, registry: Registry) -> DatasetRecord:
    """Return the dataset that an id, or its beginning, names.

    Raises
    ------
    ModelNotFoundError, DatasetNotFoundError
        When there is no such model or dataset.
    InvalidInputError
        When it is no id, or the beginning of several.
    """
    registry.get_state(model)
    if not _DATASET_ID.match(dataset_id):
        raise InvalidInputError(
            f"{dataset_id!r} is no dataset id: give the {MIN_ID_LENGTH} to 64 hexadecimal digits that it begins with"
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


def _documents(record: DatasetRecord, data_store: ObjectStore) -> dict[str, Any]:
    schema = schema_revision_key(record.model, record.schema_version, record.schema_revision)
    return {
        "manifest": json.loads(data_store.get(dataset_key(record.model, record.dataset_id, "manifest.json"))),
        "profile": json.loads(data_store.get(dataset_key(record.model, record.dataset_id, "profile.json"))),
        "schema": json.loads(data_store.get(schema)),
    }


def _summary(column: dict[str, Any]) -> dict[str, Any]:
    summary = {name: column[name] for name in _SUMMARY if name in column}
    if column.get("sensitive"):
        return summary
    summary |= {name: column[name] for name in _VALUES if name in column}
    if column.get("top"):
        summary["top"] = [{"value": entry["value"], "count": entry["count"]} for entry in column["top"][:_TOP_VALUES]]
    return summary


def _read(record: DatasetRecord, name: str, data_store: ObjectStore) -> Any:
    try:
        return json.loads(data_store.get(dataset_key(record.model, record.dataset_id, name)))
    except ArtifactNotFoundError:
        return None
