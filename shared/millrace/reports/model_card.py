"""The model card as JSON: everything that its page and its Markdown show, gathered from stored documents.

:mod:`millrace.reports.card_page` renders it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import millrace
from millrace.documents import to_plain
from millrace.entities import ModelVersion, Run
from millrace.layout import dataset_key
from millrace.schema import TableSchema
from millrace.serving.openapi import example_row
from millrace.spec import ModelSpec

#: Raised when a field of the document changes its meaning.
CARD_VERSION = 1
_VERSION_FIELDS = ("version", "semantic_version", "created_at", "schema_version")


def build_card(
    run: Run,
    schema: TableSchema,
    spec: ModelSpec,
    evaluation: Mapping[str, Any],
    *,
    version: ModelVersion | None = None,
    trial: Mapping[str, Any] | None = None,
    prepared: Mapping[str, Any] | None = None,
    artifacts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return ``card.json``.

    Parameters
    ----------
    run : Run
        The training run.
    schema : TableSchema
        The schema of the training data.
    spec : ModelSpec
        Holds the owner's statements.
    evaluation : mapping
        ``evaluation.json``.
    version : ModelVersion or None, default=None
        None for a run that registered nothing.
    trial : mapping or None, default=None
        The winner's ``trial.json``.
    prepared : mapping or None, default=None
        ``manifest.json`` of the prepared data.
    artifacts : mapping or None, default=None
        SHA-256 and size by name.
    """
    stated = {name: text.strip() for name, text in spec.card.model_dump().items() if text.strip()}
    document: dict[str, Any] = to_plain(
        {
            "card_version": CARD_VERSION,
            "code_version": millrace.__version__,
            "model": run.model,
            "version": {name: getattr(version, name) for name in _VERSION_FIELDS} if version else None,
            "run": {
                "run_id": run.run_id,
                "kind": run.kind,
                "requested_at": run.requested_at,
                "dataset_ids": list(run.dataset_ids),
            },
            "stated": stated,
            "schema": schema.to_dict(),
            "evaluation": dict(evaluation),
            "trial": dict(trial or {}),
            "data": _data(run, prepared or {}),
            "artifacts": dict(artifacts or {}),
            "example": example_row(_without_sensitive_values(schema)),
        }
    )
    return document


def card_of_run(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a run that registered nothing, from its record and ``evaluation.json`` alone."""
    return {
        "card_version": CARD_VERSION,
        "code_version": millrace.__version__,
        "model": run["model"],
        "version": None,
        "run": dict(run),
        "evaluation": dict(evaluation),
        "data": {
            "datasets": [
                {"dataset_id": dataset_id, "report": dataset_key(run["model"], dataset_id, "report.html")}
                for dataset_id in run.get("dataset_ids") or ()
            ],
            "split": evaluation.get("split") or {},
            "rows": (evaluation.get("split") or {}).get("rows") or {},
        },
    }


def _data(run: Run, prepared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training set, each dataset with the key of its report in the data bucket."""
    known = {dataset["dataset_id"]: dataset for dataset in prepared.get("datasets") or ()}
    return {
        "datasets": [
            {
                **known.get(dataset_id, {"dataset_id": dataset_id}),
                "report": dataset_key(run.model, dataset_id, "report.html"),
            }
            for dataset_id in run.dataset_ids
        ],
        "split": prepared.get("split") or {},
        "rows": prepared.get("rows") or {},
        "class_counts": prepared.get("class_counts") or {},
        "sample": prepared.get("sample"),
        "repeated_rows_left_out": prepared.get("repeated_rows_left_out"),
    }


def _without_sensitive_values(schema: TableSchema) -> TableSchema:
    columns = (
        replace(column, categories=(), minimum=None, maximum=None) if column.sensitive else column
        for column in schema.columns
    )
    return replace(schema, columns=tuple(columns))
