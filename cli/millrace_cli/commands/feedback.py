"""`millrace feedback`: report ground truth for predictions from a file, and show its coverage."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.schema import NULL_STRINGS, Column
from rich.console import Group, RenderableType
from rich.progress import Progress
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.predict import ModelColumns, convert_column
from millrace_cli.errors import ApiError, CliError, RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import err, format_count, make_table, out, say
from millrace_cli.table_file import Table, read_rows

RECORDS_PER_REQUEST = 1_000
#: Invalid lines that are listed; the rest are counted.
_MAX_LISTED = 20
#: Fields of a record, beside the model's own names for its id column and its target.
_FIELDS = ("prediction_id", "row_id", "outcome", "observed_at")

_ROW = re.compile(r"^row (\d+): (.+)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """Ground truth of one prediction, with its line in the file."""

    line: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FeedbackFile:
    """Content of a feedback file.

    Parameters
    ----------
    records : tuple of FeedbackRecord
        Rows with an outcome.
    without_outcome : int
        Count of rows without an outcome.
    ignored : tuple of str
        Columns that are not part of feedback, such as features.
    """

    records: tuple[FeedbackRecord, ...]
    without_outcome: int
    ignored: tuple[str, ...]


@dataclass(slots=True)
class FeedbackResult:
    """Result of sending a file's records."""

    received: int = 0
    invalid: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def invalid_lines(self) -> int:
        """Count of invalid lines."""
        return len({line for line, _, _ in self.invalid})


@uses_stack
def feedback(
    session: StackSession,
    model: ModelName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="CSV, Parquet or JSON Lines file; without one, coverage is shown."),
    ] = None,
    *,
    hours: Annotated[int, typer.Option(metavar="N", min=1, help="Show the coverage of this many hours.")] = 168,
) -> None:
    """Report ground truth for predictions, or show its coverage."""
    if file is not None:
        check_file(file)
    with session.api() as api:
        if file is None:
            session.show(api.get(f"/models/{model}/feedback", {"hours": str(hours)}), coverage_report)
            return
        content = read_feedback(file, ModelColumns.of_schema(api.get(f"/models/{model}/schema")))
        with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
            task = progress.add_task(f"sending {file.name}", total=len(content.records))
            result = send_feedback(api, model, content.records, lambda done: progress.update(task, completed=done))
    if session.as_json:
        wrong = [{"line": line, "field": name, "message": message} for line, name, message in result.invalid]
        document = {"received": result.received, "without_outcome": content.without_outcome, "wrong": wrong}
        out.print_json(json.dumps(document))
    else:
        _print_result(model, result, content)
    if result.invalid:
        raise CliError(
            f"{file}: {format_count(result.invalid_lines, 'invalid line')} not stored",
            "fix them and send the file again",
        )


def send_feedback(
    api: ApiClient,
    model: str,
    records: Sequence[FeedbackRecord],
    progress: Callable[[int], Any] = lambda _: None,
    size: int = RECORDS_PER_REQUEST,
) -> FeedbackResult:
    """Send records in requests of ``size``; a request is repeated without the records that the API rejects."""
    result = FeedbackResult()
    for start in range(0, len(records), size):
        batch = list(records[start : start + size])
        while batch:
            try:
                response = api.post(f"/models/{model}/feedback", {"feedback": [record.body for record in batch]})
            except ApiError as error:
                batch = _drop_invalid(batch, error, result)
                continue
            result.received += int(response["received"])
            break
        progress(start + size)
    return result


def _drop_invalid(batch: list[FeedbackRecord], error: ApiError, result: FeedbackResult) -> list[FeedbackRecord]:
    """Return the valid records of a rejected batch; raises the error when it names no row."""
    named = [(int(match[1]), match[2], message) for name, message in error.fields if (match := _ROW.match(name))]
    if error.status != HTTPStatus.BAD_REQUEST or not named:
        raise error
    result.invalid += [(batch[row].line, name, message) for row, name, message in named]
    rows = {row for row, _, _ in named}
    return [record for row, record in enumerate(batch) if row not in rows]


def check_file(path: Path) -> None:
    """Raise ``RefusedError`` unless there is such a file."""
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise RefusedError(f"{path} {reason}", "name a CSV, Parquet or JSON Lines file")


def read_feedback(path: Path, model: ModelColumns) -> FeedbackFile:
    """Read feedback from a CSV, Parquet or JSON Lines file, as training reads the same file.

    Raises
    ------
    RefusedError
        When the file is no table, or lacks a column for the outcome or for the id.
    """
    check_file(path)
    names = [*_FIELDS, *(name for name in (model.identifier, model.target) if name)]
    table = read_rows(path)
    _check_columns(path, table.columns, model.identifier, model.target)
    outcome_names = [name for name in ("outcome", model.target) if name in table.columns]
    by_field = {"outcome": model.target, "row_id": model.identifier}
    columns = {
        name: _values(table, place, model.by_name.get(by_field.get(name) or name))
        for place, name in enumerate(table.columns)
    }
    records: list[FeedbackRecord] = []
    without_outcome = 0
    for place, line in enumerate(table.lines):
        body = {name: columns[name][place] for name in table.columns if name in names}
        body = {name: value for name, value in body.items() if value is not None}
        if any(name in body for name in outcome_names):
            records.append(FeedbackRecord(line, body))
        else:
            without_outcome += 1
    return FeedbackFile(tuple(records), without_outcome, tuple(name for name in table.columns if name not in names))


def _values(table: Table, place: int, column: Column | None) -> list[Any]:
    """Return a column's values, None for missing ones, with numbers as training reads the same file."""
    values = [row[place] for row in table.rows]
    missing = NULL_STRINGS if column is None else column.missing_strings
    if column is not None and column.role == "target":
        values = convert_column(values, column, table.styles(table.columns[place], column))
    return [None if isinstance(value, str) and value.strip() in missing else value for value in values]


def _check_columns(path: Path, columns: Collection[str], id_column: str | None, target: str | None) -> None:
    identifying = [name for name in ("prediction_id", "row_id", id_column) if name]
    outcomes = [name for name in ("outcome", target) if name]
    for purpose, accepted in (("prediction's id", identifying), ("outcome", outcomes)):
        if not set(accepted) & set(columns):
            raise RefusedError(f"{path} has no column with the {purpose}", f"name a column {' or '.join(accepted)}")


def coverage_report(document: dict[str, Any]) -> RenderableType:
    """Return the share of predictions with ground truth, by day and by version."""
    if not document["predictions"]:
        return Text(f"no predictions of {document['model']} were captured since {document['start'][:16]} UTC")
    about = "about " if document.get("captures", {}).get("kept_share", 1) < 1 else ""
    summary = (
        f"{about}{document['labelled']} of {document['predictions']} predictions have ground truth"
        f" ({document['coverage']:.1%}); "
    )
    if counts := document.get("feedback"):
        summary += (
            f"of {counts['records']} feedback records, {counts['superseded']} were replaced"
            f" by later ones and {counts['unmatched']} matched no prediction of this period"
        )
    else:
        summary += "as monitoring has counted them, since the captures are too many to read at once"
    headers = ("predictions", "labelled", "coverage")
    days = [(part["day"], *(_counts(part))) for part in document["days"]]
    versions = [(str(part["version"]), *(_counts(part))) for part in document["versions"]]
    callers = [
        (each["caller"] or "unknown", each["records"], "yes" if each["excluded"] else "")
        for each in document.get("callers", ())
    ]
    return Group(
        Text(summary, style="bold"),
        make_table("", ("day", *headers), days),
        make_table("", ("version", *headers), versions),
        *([make_table("", ("caller", "records", "excluded by the spec"), callers)] if callers else ()),
    )


def _counts(part: dict[str, Any]) -> tuple[int, int, str]:
    return part["predictions"], part["labelled"], f"{part['coverage']:.1%}"


def _print_result(model: str, result: FeedbackResult, content: FeedbackFile) -> None:
    out.print(Text(f"{format_count(result.received, 'record')} received; show the coverage: millrace feedback {model}"))
    if content.without_outcome:
        say(f"skipped: {format_count(content.without_outcome, 'line')} without an outcome", style="dim")
    if content.ignored:
        say(f"ignored columns: {', '.join(content.ignored)}", style="dim")
    if result.invalid:
        out.print(make_table("Invalid lines", ("line", "field", "reason"), result.invalid[:_MAX_LISTED]))
        if len(result.invalid) > _MAX_LISTED:
            out.print(Text(f"and {len(result.invalid) - _MAX_LISTED} more"))
