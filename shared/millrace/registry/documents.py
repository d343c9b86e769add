"""The documents that lie beside a registered model: signature, manifest and model card."""

import hashlib
from collections.abc import Mapping
from typing import Any

from millrace.registry.entities import ModelVersion, Run
from millrace.registry.presentation import to_json
from millrace.registry.versioning import is_required
from millrace.schema import TableSchema


def build_signature(schema: TableSchema, threshold: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a version takes and gives, by name and type, and the whole schema for serving.

    Where the evaluation chose a ``threshold``, its ``positive_class`` and ``value`` are part of it: a row is called
    positive from that probability on.
    """
    inputs = [{"name": column.name, "type": column.type, "required": is_required(column)} for column in schema.features]
    document = {"schema": schema.to_dict(), "inputs": inputs, "outputs": _outputs(schema)}
    if threshold:
        document["threshold"] = {"positive_class": threshold["positive_class"], "value": threshold["value"]}
    return document


def _outputs(schema: TableSchema) -> list[dict[str, Any]]:
    if schema.task == "regression":
        return [{"name": "value", "type": "number"}]
    return [
        {"name": "label", "type": schema.target.type},
        {"name": "probabilities", "type": "number", "classes": list(schema.classes)},
    ]


def build_manifest(
    version: ModelVersion, artifacts: Mapping[str, bytes], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest: what the version is, and SHA-256 and size of every artifact as it is stored.

    ``split_fingerprint`` says how its rows were divided, so that a later challenger is not compared with it on rows
    that it has learnt from.
    """
    document: dict[str, Any] = to_json(version)
    del document["manifest_sha256"]
    document["split_fingerprint"] = (evaluation.get("split") or {}).get("fingerprint")
    document["artifacts"] = {
        name: {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        for name, body in sorted(artifacts.items())
    }
    return document


def build_card(version: ModelVersion, run: Run, schema: TableSchema, evaluation: Mapping[str, Any]) -> str:
    """Return a short model card in Markdown: what the model is, how good, on which data, and why it is here."""
    summary = (
        f"Predicts `{schema.target.name}` ({schema.task}) from {len(schema.features)} features, by {version.candidate}."
        f" Registered {version.created_at:%Y-%m-%d %H:%M} UTC."
    )
    lines = [
        f"# {version.model}, version {version.version} ({version.semantic_version})",
        "",
        summary,
        "",
        "## How good it is",
        "",
        "On the holdout, which neither fitting nor ranking has seen:",
        "",
        "| metric | value | interval |",
        "|---|---|---|",
        *(_metric_row(name, measured) for name, measured in _holdout_metrics(evaluation).items()),
        "",
        f"The primary metric is {evaluation.get('primary_metric')}.",
        "",
        "## Why it is here",
        "",
        f"Decision: **{evaluation['decision']}**.",
        *(f"* {reason}" for reason in evaluation.get("reasons", ())),
        "",
        "## What it learned from",
        "",
        f"Run `{run.run_id}`, trial `{version.trial_id}`, schema version {version.schema_version}, datasets:",
        *(f"* `{dataset_id}`" for dataset_id in version.dataset_ids),
        "",
        "## What it takes",
        "",
        "| feature | type | required |",
        "|---|---|---|",
        *(
            f"| {_cell(column.name)} | {column.type} | {'yes' if is_required(column) else 'no'} |"
            for column in schema.features
        ),
        "",
    ]
    return "\n".join(lines)


def _holdout_metrics(evaluation: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    metrics: Mapping[str, Mapping[str, Any]] = (evaluation.get("holdout") or {}).get("metrics") or {}
    return metrics


def _metric_row(name: str, measured: Mapping[str, Any]) -> str:
    low, high = measured.get("low"), measured.get("high")
    interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
    value = measured.get("value")
    return f"| {_cell(name)} | {'' if value is None else format(value, '.4g')} | {interval} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
