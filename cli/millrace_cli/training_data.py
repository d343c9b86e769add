"""Inferred properties of a run's training data: rows, features, ignored columns, task, metric and warnings."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from millrace.metrics.catalogue import METRICS, get_metric
from millrace.schema import Task
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError
from millrace_cli.output import Document, command_text, facts_table, format_count

#: Names, reasons or warnings that a report lists; the dataset's own page has all.
_MAX_LISTED = 6
_ID_LENGTH = 12
#: Check whose finding counts every quarantined row; the others have the reasons.
_TOTAL_CHECK = "malformed_rows"
#: Parts of messages about quarantined rows, of this version and earlier ones.
_QUARANTINE_PHRASES = ("aside", "quarantin")


def read_training_data(api: ApiClient, run: Document) -> dict[str, Any] | None:
    """Return what a run inferred from its data; None before the data is validated.

    Parameters
    ----------
    run : mapping
        The run, as in ``GET /models/{model}/runs/{run_id}``.

    Returns
    -------
    dict or None
        ``rows``, ``quarantined_rows``, ``quarantined`` (reasons), ``target``, ``task``, ``classes``, ``metric``,
        ``features`` (names by type), ``not_used`` (role and reason by column), ``warnings`` and ``dataset_id``.
    """
    summary = run.get("summary") or {}
    if not summary.get("target"):
        return None
    model = run["model"]
    dataset = _newest_dataset(api, run)
    record, findings = dataset.get("dataset") or {}, dataset.get("findings") or ()
    schema = _get(api, f"/models/{model}/schema", _schema_query(record))
    columns: Sequence[Document] = schema.get("columns") or ()
    spec = _get(api, f"/models/{model}/spec").get("spec") or {}
    features: dict[str, list[str]] = {}
    for column in columns:
        if column.get("role") == "feature":
            features.setdefault(str(column["type"]), []).append(str(column["name"]))
    return {
        "dataset_id": record.get("dataset_id"),
        "rows": summary.get("rows"),
        "quarantined_rows": summary.get("quarantined_rows", 0),
        "quarantined": [str(finding["message"]) for finding in _quarantine_findings(findings)],
        "target": summary["target"],
        "target_type": next((column["type"] for column in columns if column.get("role") == "target"), None),
        "task": summary.get("task"),
        "classes": list(schema.get("classes") or ()),
        "metric": get_metric(summary["task"], spec.get("primary_metric")).name,
        "features": features or dict(summary.get("features") or {}),
        "not_used": {
            str(column["name"]): {"role": column["role"], "reason": column.get("reason", "")}
            for column in columns
            if column.get("role") not in ("feature", "target")
        },
        "warnings": [
            str(finding["message"])
            for finding in findings
            if finding.get("severity") in ("warning", "error") and not _is_about_quarantine(finding)
        ],
    }


def training_data_report(model: str, data: Document, *, file: str = "FILE") -> RenderableType:
    """Return the report of inferred training data, with the commands that change it.

    Parameters
    ----------
    file : str
        Path of the uploaded file, for the commands.
    """
    upload = f"millrace train {model} {shlex.quote(file)} --target {shlex.quote(str(data['target']))}"
    rows = [
        ("rows", _row_counts(data)),
        *((Text(), Text(f"- {reason}")) for reason in data["quarantined"][:_MAX_LISTED]),
        ("target", _target(data)),
        ("metric", data["metric"]),
        *((Text("features" if first else ""), Text(line)) for first, line in _feature_lines(data["features"])),
        *((Text("not used" if first else ""), Text(line)) for first, line in _unused_lines(data["not_used"])),
        *(("warning", Text(message, style="yellow")) for message in data["warnings"][:_MAX_LISTED]),
    ]
    if not data["warnings"]:
        rows.append(("warnings", "none"))
    other = _other_task(data)
    commands = [
        *([("another task", f"{upload} --task {other} --schema replace")] if other else []),
        ("another metric", f"millrace spec set {model} primary_metric={_other_metric(data)}"),
        ("leave a column out", f"{upload} --ignore {shlex.quote(_some_feature(data))} --schema replace"),
    ]
    if data["dataset_id"]:
        identifier = str(data["dataset_id"])[:_ID_LENGTH]
        commands.append(("every finding", f"millrace data show {model} {identifier}"))
    table = facts_table(rows, title="Training data")
    return Group(table, *(command_text(f"{name}: {command}", "dim") for name, command in commands))


def training_data_line(data: Document) -> str:
    """Return inferred training data in one line."""
    features = sum(len(names) if isinstance(names, list) else int(names) for names in data["features"].values())
    parts = [
        _row_counts(data),
        format_count(features, "feature"),
        *([f"{format_count(len(data['not_used']), 'column')} not used"] if data["not_used"] else []),
        f"{data['task']} of {data['target']!r} by {data['metric']}",
        format_count(len(data["warnings"]), "warning"),
    ]
    return ", ".join(parts)


def _row_counts(data: Document) -> str:
    quarantined = data["quarantined_rows"]
    if not quarantined:
        return f"{data['rows']:,} rows used, none quarantined"
    return f"{data['rows']:,} of {data['rows'] + quarantined:,} rows used, {quarantined:,} quarantined"


def _target(data: Document) -> str:
    classes = [str(label) for label in data["classes"]]
    more = f", ... ({len(classes)})" if len(classes) > _MAX_LISTED else ""
    listed = f" ({', '.join(classes[:_MAX_LISTED])}{more})" if classes else ""
    return f"{data['target']}: {data['task']}{listed}"


def _feature_lines(features: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    for number, (kind, names) in enumerate(features.items()):
        if isinstance(names, list):
            more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
            yield number == 0, f"{len(names):,} {kind}: {', '.join(names[:_MAX_LISTED])}{more}"
        else:
            yield number == 0, f"{names:,} {kind}"


def _unused_lines(columns: Mapping[str, Document]) -> Iterator[tuple[bool, str]]:
    for number, (name, column) in enumerate(columns.items()):
        if number == _MAX_LISTED:
            yield False, f"and {len(columns) - _MAX_LISTED:,} more"
            return
        reason = f", {column['reason']}" if column["reason"] else ""
        yield number == 0, f"{name} ({column['role']}{reason})"


def _other_task(data: Document) -> str | None:
    """Return the other task that suits the target's values; None when there is none."""
    if data["task"] == "regression":
        return "multiclass" if data["target_type"] == "integer" else None
    return "regression" if data["target_type"] in ("integer", "number") else None


def _other_metric(data: Document) -> str:
    task: Task = data["task"]
    return next(metric.name for metric in METRICS[task] if metric.name != data["metric"])


def _some_feature(data: Document) -> str:
    names = [name for listed in data["features"].values() if isinstance(listed, list) for name in listed]
    return names[0] if names else "COLUMN"


def _quarantine_findings(findings: Sequence[Document]) -> list[Document]:
    about = [finding for finding in findings if _is_about_quarantine(finding)]
    reasons = [finding for finding in about if finding.get("check") != _TOTAL_CHECK]
    return reasons or about


def _is_about_quarantine(finding: Document) -> bool:
    return bool(finding.get("count")) and any(phrase in finding["message"] for phrase in _QUARANTINE_PHRASES)


def _newest_dataset(api: ApiClient, run: Document) -> dict[str, Any]:
    """Return the newest dataset that the run itself accepted, else the last one that it trains on."""
    identifiers = list(run.get("dataset_ids") or ())
    found: dict[str, Any] = {}
    for identifier in reversed(identifiers[-_MAX_LISTED:]):
        document = _get(api, f"/models/{run['model']}/datasets/{identifier}")
        found = found or document
        if (document.get("manifest") or {}).get("run_id") == run["run_id"]:
            return document
    return found


def _schema_query(record: Document) -> dict[str, str] | None:
    if not record.get("schema_version"):
        return None
    return {"version": f"{record['schema_version']}.{record.get('schema_revision', 0)}"}


def _get(api: ApiClient, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a document; empty where there is none or the caller may not read it."""
    try:
        return api.get(path, query)
    except ApiError as error:
        if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return {}
        raise
