"""A dataset as it is kept: its documents, written once, and the manifest that says what they are and where from.

The manifest is written last and never overwritten: the same content uploaded again leaves the dataset as it is, and
the verdict on that upload beside it.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import millrace
from millrace.data.examination import Examination
from millrace.data.preparation import json_bytes
from millrace.data.uploads import Upload
from millrace.layout import dataset_key, quarantine_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore
from millrace.registry.entities import DatasetRecord, Source

#: What is stored: bytes, or a file of them.
Document = bytes | Path

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"
JSON_LINES = "application/x-ndjson"
HTML = "text/html; charset=utf-8"

_CONTENT_TYPES = {".json": JSON, ".parquet": PARQUET, ".html": HTML, ".jsonl": JSON_LINES}


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """Where one model's datasets and rejected uploads are kept.

    Parameters
    ----------
    model : str
        The model's name.
    run_id : str
        The run that takes them in.
    """

    model: str
    run_id: str
    data_store: ObjectStore

    def store(
        self,
        dataset: DatasetRecord,
        upload: Upload,
        examination: Examination,
        documents: Mapping[str, Document],
        parents: Sequence[str],
    ) -> None:
        """Keep a dataset that is new: its documents, the rows that were set aside, then the manifest.

        Parameters
        ----------
        documents : mapping of str to bytes or Path
            By name, beside the manifest.
        parents : sequence of str
            The datasets that it was compared with.
        """
        for name, body in documents.items():
            self._put(dataset_key(self.model, dataset.dataset_id, name), body)
        self.store_rows(dataset.dataset_id, examination)
        manifest = json_bytes(
            build_manifest(self.run_id, dataset, upload, examination, documents=documents, parents=parents)
        )
        self._put(dataset_key(self.model, dataset.dataset_id, "manifest.json"), manifest)

    def store_again(self, dataset: DatasetRecord, source: Source, upload: Upload, examination: Examination) -> None:
        """Keep the verdict on an upload of content that is a dataset already, beside that dataset."""
        identifier = upload_id(source)
        verdict = self.verdict(source, upload, examination, dataset.dataset_id)
        self._put(dataset_key(self.model, dataset.dataset_id, f"uploads/{identifier}.json"), verdict)
        self.store_rows(identifier, examination)

    def store_rows(self, identifier: str, examination: Examination) -> None:
        """Keep the rows that were set aside, with their reasons; nothing when there are none."""
        if not examination.quarantined:
            return
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            path = Path(folder) / "rows.jsonl"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in examination.quarantined)
            self._put(quarantine_key(self.model, identifier, "rows.jsonl"), path)

    def verdict(self, source: Source, upload: Upload, examination: Examination, identity: str | None = None) -> bytes:
        """Return ``validation.json``."""
        told: dict[str, Any] = {"file": source.key, "version_id": source.version_id}
        if upload.folder is not None:
            told |= {"folder": upload.folder, "files": [file.name for file in upload.files]}
        told |= {"uploaded_at": source.uploaded_at.isoformat(), "run_id": self.run_id, "dataset_id": identity}
        return json_bytes(told | examination.verdict())

    def _put(self, key: str, body: Document) -> None:
        content_type = _CONTENT_TYPES[key[key.rindex(".") :]]
        if isinstance(body, Path):
            self.data_store.upload_file(body, key, content_type)
        else:
            self.data_store.put(key, body, content_type)


def upload_id(source: Source) -> str:
    """Return the id of an upload: that of the cause it was."""
    return make_cause_id("upload", source.bucket, source.key, source.version_id)


def upload_name(source: Source, upload: Upload) -> str:
    """Return what people call an upload: its file's name, or its folder's with ``/`` at the end."""
    if upload.folder is None:
        return source.key.rsplit("/", 1)[-1]
    return upload.folder.rstrip("/").rsplit("/", 1)[-1] + "/"


def build_manifest(
    run_id: str,
    dataset: DatasetRecord,
    upload: Upload,
    examination: Examination,
    *,
    documents: Mapping[str, Document],
    parents: Sequence[str],
) -> dict[str, Any]:
    """Return a dataset's manifest: what it is, which bytes it came from, by which code, and what was found."""
    source = dataset.source
    severities = Counter(finding.severity for finding in examination.findings)
    files = {} if upload.folder is None else {"files": [file.to_dict() for file in upload.files]}
    return {
        "manifest_version": 1,
        "model": dataset.model,
        "dataset_id": dataset.dataset_id,
        "accepted_at": dataset.accepted_at.isoformat(),
        "run_id": run_id,
        "code_version": millrace.__version__,
        "source": {
            "bucket": source.bucket,
            "key": source.key,
            "version_id": source.version_id,
            "uploaded_at": source.uploaded_at.isoformat(),
            "format": dict(examination.description),
            **files,
        },
        "schema_version": dataset.schema_version,
        "schema_revision": dataset.schema_revision,
        "rows": dataset.rows,
        "columns": dataset.columns,
        "row_counts": {
            "read": examination.rows,
            "accepted": dataset.rows,
            "quarantined": len(examination.quarantined),
        },
        "checks": {
            "errors": severities["error"],
            "warnings": severities["warning"],
            "by_name": dict(sorted(Counter(finding.check for finding in examination.findings).items())),
        },
        "parents": list(parents),
        "sha256": {name: _sha256(body) for name, body in documents.items()},
    }


def _sha256(body: Document) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
