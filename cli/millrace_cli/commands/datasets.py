"""`millrace data`: list, show and compare a model's datasets, and show its schema."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.layout import folder_of_marker
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import CliError, RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import (
    MISSING,
    Document,
    facts_table,
    format_epoch,
    format_timestamp,
    format_value,
    make_table,
    say,
)
from millrace_cli.target import Target, read_object

app = typer.Typer(no_args_is_help=True, help="Inspect and compare datasets, and show the schema.")

#: Digits of a dataset id that are shown.
_ID_LENGTH = 12
#: Files of a dataset, or categories of a column, that one line lists.
_MAX_LISTED = 5
_SHIFT_STYLES = {"large": "red", "moderate": "yellow", "stable": "green"}
_SEVERITY_STYLES = {"error": "red", "warning": "yellow"}


@app.command("list")
@uses_stack
def list_datasets(session: StackSession, model: ModelName) -> None:
    """List a model's accepted datasets, newest first."""
    with session.api() as api:
        document = api.get_all(f"/models/{model}/datasets", "datasets")
    if not document["datasets"] and not session.as_json:
        say(f"{model} has no datasets; upload one: millrace train {model} FILE")
        return
    session.show(document, lambda listed: datasets_table(listed["datasets"]))


@app.command("show")
@uses_stack
def show_dataset(
    session: StackSession,
    model: ModelName,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET", help="Id of the dataset, or its first four digits or more (default: the newest)."
        ),
    ] = None,
    *,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Save the HTML report to this file.")
    ] = None,
) -> None:
    """Show a dataset: its source, the findings of the checks, its columns."""
    with session.api() as api:
        document = api.get(f"/models/{model}/datasets/{dataset or _newest_id(api, model)}")
    if report is not None:
        save_report(session.target, document["report_key"], report)
        say(f"saved the report; open it in a browser: {report.resolve().as_uri()}")
    session.show(document, dataset_report)


def _newest_id(api: ApiClient, model: str) -> str:
    datasets = api.get(f"/models/{model}/datasets", {"limit": "1"})["datasets"]
    if not datasets:
        raise CliError(f"{model} has no datasets", f"show why: millrace runs {model}")
    return str(datasets[0]["dataset_id"])


@app.command("diff")
@uses_stack
def diff(
    session: StackSession,
    model: ModelName,
    before: Annotated[str, typer.Argument(metavar="A", help="Id of the earlier dataset, or its first digits.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Id of the later dataset, or its first digits.")],
) -> None:
    """Compare two datasets: schema, volume, distributions."""
    with session.api() as api:
        document = api.get(f"/models/{model}/datasets/{before}/diff/{after}")
    session.show(document, comparison_report)


@app.command("schema")
@uses_stack
def schema(
    session: StackSession,
    model: ModelName,
    *,
    version: Annotated[
        str | None, typer.Option("--version", help="Show this version (2) or revision (2.1); default: the current one.")
    ] = None,
) -> None:
    """Show the schema of a model's uploads and requests."""
    query = {"version": version} if version else None
    with session.api() as api:
        document = api.get(f"/models/{model}/schema", query)
    session.show(document, lambda found: schema_table(model, found))


def save_report(target: Target, key: str, file: Path) -> None:
    """Save an HTML report of the data bucket.

    Raises
    ------
    RefusedError
        When the file cannot be written.
    CliError
        When there is no report, or the caller may not read it.
    """
    body = read_object(target, target.output("DataBucketName"), key)
    try:
        file.write_bytes(body)
    except OSError as error:
        raise RefusedError(f"{file} cannot be written: {error.strerror}") from error


def datasets_table(datasets: Sequence[Document]) -> Table:
    """Return a table of datasets."""
    rows = [
        (
            dataset["dataset_id"][:_ID_LENGTH],
            format_timestamp(dataset.get("renewed_at") or dataset["source"]["uploaded_at"]),
            f"{dataset['rows']:,}",
            f"{dataset['quarantined_rows']:,}",
            dataset["columns"],
            _schema_number(dataset),
            dataset.get("warnings"),
            _upload_name(dataset["source"]["key"]),
        )
        for dataset in datasets
    ]
    return make_table("", ("dataset", "uploaded", "rows", "quarantined", "columns", "schema", "warnings", "file"), rows)


def dataset_report(document: Document) -> RenderableType:
    """Return a dataset's source, findings and columns."""
    record, manifest = document["dataset"], document["manifest"] or {}
    source = record["source"]
    facts = [
        ("dataset", record["dataset_id"]),
        ("file", f"s3://{source['bucket']}/{source['key']}, version {source['version_id']}"),
        *_files(manifest.get("source", {}).get("files", [])),
        ("uploaded", format_timestamp(source["uploaded_at"])),
        *([("uploaded again", format_timestamp(record["renewed_at"]))] if record.get("renewed_at") else []),
        ("accepted", f"{format_timestamp(record['accepted_at'])}, by run {manifest.get('run_id', '-')}"),
        ("rows", f"{record['rows']:,} ({record['quarantined_rows']:,} quarantined)"),
        ("schema", _schema_number(record)),
        ("code version", manifest.get("code_version")),
        ("parents", ", ".join(parent[:_ID_LENGTH] for parent in manifest.get("parents", []))),
    ]
    parts: list[RenderableType] = [facts_table(facts)]
    if document["findings"]:
        parts += [Text(), _findings_table(document["findings"])]
    return Group(*parts, Text(), _columns_table(document["profile"]))


def _upload_name(key: str) -> str:
    """Return a file's name, or the folder's for a marker or a manifest."""
    folder = folder_of_marker(key)
    return key.rsplit("/", 1)[-1] if folder is None else folder.rstrip("/").rsplit("/", 1)[-1] + "/"


def _files(files: Sequence[Document]) -> list[tuple[str, str]]:
    if not files:
        return []
    names = [file["key"].rsplit("/", 1)[-1] for file in files]
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return [("files", f"{len(names):,}: {', '.join(names[:_MAX_LISTED])}{more}")]


def comparison_report(document: Document) -> RenderableType:
    """Return the differences of two datasets."""
    ids = " and ".join(document[side][:_ID_LENGTH] for side in ("before", "after"))
    details = document["schema"]["details"]
    changes = [Text(f"schema: {document['schema']['kind']} change" if details else "schema: identical")]
    changes += [Text(f"  {detail}") for detail in details]
    volume = document["volume"]
    counts = [(name.replace("_", " "), *volume[name]) for name in ("rows", "columns", "quarantined_rows")]
    columns = [
        (
            column["name"],
            column["type"],
            column["psi"],
            Text(column["verdict"], style=_SHIFT_STYLES.get(column["verdict"], "")),
            _change(column["missing_share"], percent=True),
            _change(column["mean"], _value_format(column)) if column["mean"] else "",
            Text(_share_changes(column["shares"])),
        )
        for column in document["columns"]
    ]
    parts: list[RenderableType] = [Text(f"{ids}", style="bold"), *changes, Text()]
    parts.append(make_table("", ("", "before", "after"), counts))
    if classes := document["target"]["shares"]:
        shares = [(share["value"], _percent(share["before"]), _percent(share["after"])) for share in classes]
        parts += [Text(), make_table(f"Target {document['target']['name']}", ("class", "before", "after"), shares)]
    title = "Columns by population stability index, largest first (0.1 moderate, 0.25 large)"
    parts += [Text(), make_table(title, ("column", "type", "PSI", "shift", "missing", "mean", "shares"), columns)]
    return Group(*parts)


def schema_table(model: str, document: Document) -> Table:
    """Return a schema's columns with the observed values and the spec's rules."""
    rows = [
        (
            Text(column["name"]),
            column["type"],
            column["role"],
            "yes" if column.get("nullable") else "no",
            Text(_observed(column)),
            Text(_rules(column)),
            Text(column.get("reason", "")),
        )
        for column in document["columns"]
    ]
    classes = f" ({', '.join(document['classes'])})" if document["classes"] else ""
    title = f"{model}: schema {document['version']}.{document.get('revision', 0)}, {document['task']}{classes}"
    return make_table(title, ("column", "type", "role", "nullable", "observed", "rules", "reason"), rows)


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
    return make_table("Findings", ("severity", "check", "finding"), rows)


def _columns_table(profile: Document) -> Table:
    rows = [
        (
            Text(column["name"]),
            column["type"],
            column["role"],
            _percent(column.get("missing_share", 0.0)),
            f"{column.get('distinct', 0):,}",
            Text("hidden" if column.get("hidden") else _values(column)),
        )
        for column in profile["columns"]
    ]
    return make_table("Columns", ("column", "type", "role", "missing", "distinct", "values"), rows)


def _values(column: Document) -> str:
    if column.get("top"):
        return ", ".join(f"{entry['value']} {entry['count']:,}" for entry in column["top"])
    if column.get("minimum") is None:
        return ""
    median = (column.get("quantiles") or {}).get("0.5")
    show = _value_format(column)
    if column["minimum"] == column["maximum"]:
        return show(column["minimum"])
    if (column["minimum"], column["maximum"]) == (0, 1) and column.get("distinct") == len("01"):
        return f"0 {1 - column['mean']:.1%}, 1 {column['mean']:.1%}"
    value_range = f"{show(column['minimum'])} to {show(column['maximum'])}"
    return f"{value_range}, median {show(median)}" if median is not None else value_range


def _value_format(column: Document) -> Callable[[Any], str]:
    """Return the format of a column's values: dates are stored as seconds since 1970."""
    return format_epoch if column["type"] == "datetime" else format_value


def _observed(column: Document) -> str:
    categories = column.get("categories")
    if categories:
        more = f" ... ({len(categories)})" if len(categories) > _MAX_LISTED else ""
        return ", ".join(categories[:_MAX_LISTED]) + more
    if column.get("minimum") is None:
        return ", ".join(column.get("formats") or ())
    show = _value_format(column)
    value_range = f"{show(column['minimum'])} to {show(column['maximum'])}"
    return f"{value_range} ({', '.join(column['formats'])})" if column.get("formats") else value_range


def _rules(column: Document) -> str:
    rules: Mapping[str, Any] = column.get("rules") or {}
    listed = [f"{name.replace('_', ' ')} {format_value(value)}" for name, value in rules.items() if name != "severity"]
    if column.get("sensitive"):
        listed.append("sensitive")
    return ", ".join(listed) + (" (warning)" if rules.get("severity") == "warning" else "")


def _share_changes(shares: Iterable[Document]) -> str:
    return ", ".join(f"{share['value']} {_change((share['before'], share['after']), percent=True)}" for share in shares)


def _change(pair: Sequence[float | None], show: Callable[[Any], str] = format_value, *, percent: bool = False) -> str:
    shown = [MISSING if value is None else _percent(value) if percent else show(value) for value in pair]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} -> {shown[1]}"


def _percent(share: float) -> str:
    return f"{share:.1%}"
