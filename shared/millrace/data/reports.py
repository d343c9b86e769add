"""From what became of an upload to its report: the documents that are stored, and the spec's part in them."""

import json
from collections.abc import Mapping
from typing import Any

from millrace.data.examination import Examination
from millrace.data.report import render_dataset_report
from millrace.data.report_findings import SHOWN_QUARANTINED
from millrace.spec import ModelSpec


def dataset_report(
    model: str, spec: ModelSpec, examination: Examination, verdict: bytes, manifest: Mapping[str, Any] | None = None
) -> bytes:
    """Return ``report.html`` of an upload.

    Parameters
    ----------
    model : str
        The model's name.
    spec : ModelSpec
        Says which columns are sensitive, how rows are split, and what only people know about the data.
    examination : Examination
        What became of the upload.
    verdict : bytes
        Its ``validation.json``.
    manifest : mapping or None, default=None
        Of the dataset; None when the upload was rejected.
    """
    document = {
        "model": model,
        "validation": json.loads(verdict),
        "profile": examination.profile,
        "manifest": manifest,
        "schema": examination.schema.to_dict() if examination.schema else None,
        "quarantine": [row.to_dict() for row in examination.quarantined[:SHOWN_QUARANTINED]],
        "split": spec.split.model_dump(),
        "datasheet": spec.datasheet.model_dump(),
        "sensitive": [name for name, column in spec.columns.items() if column.sensitive],
    }
    return render_dataset_report(document).encode()
