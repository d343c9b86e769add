"""How much prepared data a run has, from its manifest: known before any of it is read."""

import json
from dataclasses import dataclass
from typing import Any

from millrace.layout import prepared_key
from millrace.ports import ObjectStore
from millrace.registry.entities import Run


@dataclass(frozen=True, slots=True)
class PreparedSize:
    """Rows and bytes of the splits that trials read.

    Parameters
    ----------
    train_rows, validation_rows : int
        Rows.
    train_bytes, validation_bytes : int
        In memory, uncompressed.
    smallest_class : int or None
        Rows of the rarest class in both together; None for regression.
    """

    train_rows: int
    validation_rows: int
    train_bytes: int
    validation_bytes: int
    smallest_class: int | None = None


def read_prepared_size(run: Run, data_store: ObjectStore) -> PreparedSize:
    """Read a run's manifest of prepared data; raises ``ArtifactNotFoundError`` when it has none."""
    document: dict[str, Any] = json.loads(data_store.get(prepared_key(run.model, run.run_id, "manifest.json")))
    rows, sizes, counts = document["rows"], document.get("bytes", {}), document.get("class_counts", {})
    classes = counts.get("train", {})
    smallest = min((classes[name] + counts["validation"][name] for name in classes), default=None)
    return PreparedSize(rows["train"], rows["validation"], sizes.get("train", 0), sizes.get("validation", 0), smallest)
