"""Datasets, schemas and differences as tables for people. Pure: from plain JSON to Rich renderables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from millrace.layout import folder_of_marker
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace_cli.render import Document, format_moment, format_value, make_table

#: Digits of a dataset id that are shown.
ID_LENGTH = 12
#: Files of a dataset that are named.
SHOWN_FILES = 5
_SHIFT_STYLES = {"large": "red", "moderate": "yellow", "stable": "green"}
_SEVERITY_STYLES = {"error": "red", "warning": "yellow"}


def datasets_table(datasets: Sequence[Document]) -> Table:
    """Return datasets, one a line."""
    rows = [
        (
            dataset["dataset_id"][:ID_LENGTH],
            format_moment(dataset.get("renewed_at") or dataset["source"]["uploaded_at"]),
            f"{dataset['rows']:,}",
            f"{dataset['quarantined_rows']:,}",
            dataset["columns"],
            _schema_number(dataset),
            dataset.get("warnings"),
            _upload_name(dataset["source"]["key"]),
        )
        for dataset in datasets
    ]
    return make_table("", ("dataset", "uploaded", "rows", "set aside", "columns", "schema", "warnings", "file"), rows)


def dataset_report(document: Document) -> RenderableType:
    """Return one dataset: what it is, what was found, its columns."""
    record, manifest = document["dataset"], document["manifest"] or {}
    source = record["source"]
    facts = [
        ("dataset", record["dataset_id"]),
        ("file", f"s3://{source['bucket']}/{source['key']}, version {source['version_id']}"),
        *_files(manifest.get("source", {}).get("files", [])),
        ("uploaded", format_moment(source["uploaded_at"])),
        *([("again", format_moment(record["renewed_at"]))] if record.get("renewed_at") else []),
        ("accepted", f"{format_moment(record['accepted_at'])}, by run {manifest.get('run_id', '-')}"),
        ("rows", f"{record['rows']:,} ({record['quarantined_rows']:,} set aside)"),
        ("schema", _schema_number(record)),
        ("code", manifest.get("code_version")),
        ("follows", ", ".join(parent[:ID_LENGTH] for parent in manifest.get("parents", []))),
    ]
    parts: list[RenderableType] = [make_table("", ("", ""), facts)]
    if document["findings"]:
        parts += [Text(), _findings_table(document["findings"])]
    return Group(*parts, Text(), _columns_table(document["profile"]))


def _upload_name(key: str) -> str:
    """Return a file's name, or that of the folder whose marker or manifest it is."""
    folder = folder_of_marker(key)
    return key.rsplit("/", 1)[-1] if folder is None else folder.rstrip("/").rsplit("/", 1)[-1] + "/"


def _files(files: Sequence[Document]) -> list[tuple[str, str]]:
    """Return what to say of a dataset that came in several files."""
    if not files:
        return []
    names = [file["key"].rsplit("/", 1)[-1] for file in files]
    more = f" and {len(names) - SHOWN_FILES:,} more" if len(names) > SHOWN_FILES else ""
    return [("files", f"{len(names):,}: {', '.join(names[:SHOWN_FILES])}{more}")]


def difference_report(document: Document) -> RenderableType:
    """Return how two datasets differ."""
    ids = " and ".join(document[side][:ID_LENGTH] for side in ("before", "after"))
    details = document["schema"]["details"]
    schema = [Text(f"schema: {document['schema']['kind']} change" if details else "schema: the same")]
    schema += [Text(f"  {detail}") for detail in details]
    volume = document["volume"]
    counted = [(name.replace("_", " "), *volume[name]) for name in ("rows", "columns", "quarantined_rows")]
    columns = [
        (
            column["name"],
            column["type"],
            column["psi"],
            Text(column["verdict"], style=_SHIFT_STYLES.get(column["verdict"], "")),
            _step(column["missing_share"], percent=True),
            _step(column["mean"]) if column["mean"] else "",
            Text(_share_changes(column["shares"])),
        )
        for column in document["columns"]
    ]
    parts: list[RenderableType] = [Text(f"{ids}", style="bold"), *schema, Text()]
    parts.append(make_table("", ("", "before", "after"), counted))
    if classes := document["target"]["shares"]:
        shares = [(share["value"], _percent(share["before"]), _percent(share["after"])) for share in classes]
        parts += [Text(), make_table(f"Target {document['target']['name']}", ("class", "before", "after"), shares)]
    title = "Columns, the largest population stability index first (0.1 moderate, 0.25 large)"
    parts += [Text(), make_table(title, ("column", "type", "PSI", "shift", "missing", "mean", "shares"), columns)]
    return Group(*parts)


def schema_table(model: str, document: Document) -> Table:
    """Return a schema, one column a line, with what the spec demands."""
    rows = [
        (
            Text(column["name"]),
            column["type"],
            column["role"],
            "yes" if column.get("nullable") else "no",
            Text(_seen(column)),
            Text(_rules(column)),
            Text(column.get("reason", "")),
        )
        for column in document["columns"]
    ]
    classes = f" ({', '.join(document['classes'])})" if document["classes"] else ""
    title = f"{model}: schema {document['version']}.{document.get('revision', 0)}, {document['task']}{classes}"
    return make_table(title, ("column", "type", "role", "missing", "seen", "demanded", "why"), rows)


def _schema_number(record: Document) -> str:
    return f"{record['schema_version']}.{record.get('schema_revision', 0)}"


def _findings_table(findings: Iterable[Document]) -> Table:
    rows = [
        (
            Text(finding["severity"], style=_SEVERITY_STYLES.get(finding["severity"], "")),
            finding["check"],
            Text(finding["message"]),
        )
        for finding in findings
    ]
    return make_table("What the checks found", ("", "check", ""), rows)


def _columns_table(profile: Document) -> Table:
    rows = [
        (
            Text(column["name"]),
            column["type"],
            column["role"],
            _percent(column.get("missing_share", 0.0)),
            f"{column.get('distinct', 0):,}",
            Text("hidden" if column.get("sensitive") else _values(column)),
        )
        for column in profile["columns"]
    ]
    return make_table("Columns", ("column", "type", "role", "missing", "distinct", "values"), rows)


def _values(column: Document) -> str:
    if column.get("top"):
        return ", ".join(f"{entry['value']} {entry['count']:,}" for entry in column["top"])
    if column.get("minimum") is None:
        return ""
    middle = (column.get("quantiles") or {}).get("0.5")
    ends = f"{format_value(column['minimum'])} to {format_value(column['maximum'])}"
    return f"{ends}, half below {format_value(middle)}" if middle is not None else ends


def _seen(column: Document) -> str:
    if column.get("categories"):
        shown = ", ".join(column["categories"][:5])
        return shown if len(column["categories"]) <= 5 else f"{shown} ... ({len(column['categories'])})"  # noqa: PLR2004  # a line
    if column.get("formats"):
        return ", ".join(column["formats"])
    if column.get("minimum") is not None and column["type"] != "datetime":
        return f"{format_value(column['minimum'])} to {format_value(column['maximum'])}"
    return ""


def _rules(column: Document) -> str:
    rules: Mapping[str, Any] = column.get("rules") or {}
    told = [f"{name.replace('_', ' ')} {format_value(value)}" for name, value in rules.items() if name != "severity"]
    if column.get("sensitive"):
        told.append("sensitive")
    return ", ".join(told) + (" (warning)" if rules.get("severity") == "warning" else "")


def _share_changes(shares: Iterable[Document]) -> str:
    return ", ".join(f"{share['value']} {_step((share['before'], share['after']), percent=True)}" for share in shares)


def _step(pair: Sequence[float | None], *, percent: bool = False) -> str:
    shown = [_percent(value) if percent and value is not None else format_value(value) for value in pair]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} -> {shown[1]}"


def _percent(share: float) -> str:
    return f"{share:.1%}"
