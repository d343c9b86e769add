"""`millrace predict`: request predictions for rows of a file or inline JSON."""

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.names import CHAMPION
from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import NULL_STRINGS, Column
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack_without_json
from millrace_cli.output import err, format_count, out, say
from millrace_cli.prediction_output import (
    OutputFormat,
    choose_format,
    csv_text,
    joined_columns,
    predictions_table,
    write_predictions,
)
from millrace_cli.table_file import nearest_name, read_rows
from millrace_cli.upload import check_model_name

ROWS_PER_REQUEST = 1_000

#: Columns of a version's schema by name.
Columns = Mapping[str, Column]

_NUMERIC_TYPES = frozenset({"integer", "number"})
_JSON_HINT = """name a CSV, Parquet or JSON Lines file, or write one row as '{"column": value}', or a list of rows"""
#: Message of the API about a column that a row lacks, and the start of its message about unknown columns.
_MISSING_COLUMN, _UNKNOWN_COLUMNS = "is missing", "unknown to the model"


#: Members of a response that have one value a row.
_BY_ROW = frozenset({"predictions", "intervals", "sets"})
#: Row of a request in the API's message, counted from zero; tables count from one.
_ROW_OF_FIELD = re.compile(r"^(\s*)row (\d+):", re.MULTILINE)


class OnError(StrEnum):
    """Treatment of a request with invalid rows."""

    refuse = "refuse"
    partial = "partial"


@dataclass(frozen=True, slots=True)
class ModelColumns:
    """Columns of a model's champion; empty when the model has none.

    Parameters
    ----------
    by_name : mapping of str to Column
        The columns by name.
    target, identifier : str or None
        Columns with these roles.
    features : frozenset of str
        Columns with the role ``feature``.
    """

    by_name: Columns = field(default_factory=dict)
    target: str | None = None
    identifier: str | None = None
    features: frozenset[str] = frozenset()

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> "ModelColumns":
        """Read the columns of a schema from plain JSON."""
        by_name = {column["name"]: Column.from_dict(column) for column in schema.get("columns") or []}
        roles: dict[str, str] = {column.role: column.name for column in by_name.values()}
        features = frozenset(column.name for column in by_name.values() if column.role == "feature")
        return cls(by_name, roles.get("target"), roles.get("identifier"), features)


@uses_stack_without_json
def predict(
    session: StackSession,
    model: ModelName,
    rows: Annotated[
        str,
        typer.Argument(metavar="FILE|JSON", help="""CSV, Parquet or JSON Lines file, or '{"column": value}'."""),
    ],
    *,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option("--format", "-o", help="Write this format (default: a table, or the suffix of --output)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the rows with their predictions to this file."),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="Refuse requests with invalid rows, or predict the valid rows.")
    ] = OnError.refuse,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=0.99, metavar="LEVEL", help="Add intervals or sets that hold the truth so often: 0.9, say."
        ),
    ] = None,
) -> None:
    """Request predictions from a model's API.

    CSV and Parquet have the input's columns, the prediction and the probability of each class. With --interval they
    also have interval_low and interval_high, or prediction_set.
    """
    check_model_name(model)
    if output is not None and output_format is None and str(output) in ("table", "json"):
        output_format, output = OutputFormat(str(output)), None  # the option's meaning in earlier versions
    chosen = choose_format(output_format, output)
    check_source(rows)
    with session.api() as api:
        columns = model_columns(api, model)
        request = read_request(rows, columns.by_name, drop=[columns.target] if columns.target else [])
        try:
            response = request_predictions(api, model, request, partial=on_error is OnError.partial, interval=interval)
        except ApiError as error:
            raise _explain(error, model, rows, request, columns) from error
    names = request_columns(request)
    if output is not None:
        write_predictions(output, chosen, _joined(names, response), response)
        say(f"wrote {format_count(len(response['predictions']), 'prediction')} to {output}")
    elif chosen is OutputFormat.json:
        out.print_json(json.dumps(response))
    elif chosen is OutputFormat.csv:
        typer.echo(csv_text(_joined(names, response)), nl=False)
    else:
        identifier = columns.identifier or ""
        out.print(predictions_table(response, names.get(identifier), identifier))
    if chosen is not OutputFormat.json or output is not None:
        _show_notes(model, request, response, columns)


def _joined(columns: Mapping[str, Sequence[Any]], response: Mapping[str, Any]) -> dict[str, list[Any]]:
    return joined_columns(columns, response)


def _show_notes(model: str, request: Mapping[str, Any], response: Mapping[str, Any], columns: ModelColumns) -> None:
    """Print the warnings, the errors of rows and the version to standard error."""
    unknown = unknown_columns(request, columns)
    for warning in response.get("warnings", []):
        if not (unknown and _UNKNOWN_COLUMNS in warning.get("message", "")):
            _warn(f"{warning.get('field')}: {warning.get('message')}")
    for name, near in unknown.items():
        _warn(f"{name}: is not a column of the model, ignored" + (f"; did you mean {near}?" if near else ""))
    for error in response.get("errors") or ():
        faults = "; ".join(f"{fault['field']} {fault['message']}" for fault in error["fields"])
        _warn(f"row {error['row'] + 1}: {faults}")
    ids = response.get("prediction_ids") or [response.get("prediction_id")]
    say(f"{model} version {response.get('model_version')}, prediction id {', '.join(map(str, ids))}", style="dim")


def _warn(message: str) -> None:
    err.print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def unknown_columns(request: Mapping[str, Any], columns: ModelColumns) -> dict[str, str | None]:
    """Return the request's columns that the model has not, each with the missing feature that it resembles."""
    if not columns.by_name:
        return {}
    names = list(request_columns(request))
    missing = [name for name in columns.features if name not in names]
    return {name: nearest_name(name, missing) for name in names if name not in columns.by_name}


def _explain(error: ApiError, model: str, source: str, request: Mapping[str, Any], columns: ModelColumns) -> ApiError:
    """Return a refusal with its remedy: the misspelt column, or the option that predicts the valid rows."""
    if error.status != HTTPStatus.BAD_REQUEST or not error.fields:
        return error
    unknown = unknown_columns(request, columns)
    renamed = [f"rename {name!r} to {near!r}" for name, near in unknown.items() if near]
    hint = error.hint
    if any(message.startswith(_MISSING_COLUMN) for _, message in error.fields) and unknown:
        hint = "; ".join(renamed) or f"these columns are not the model's: {', '.join(unknown)}"
    elif row_count(request) > 1 and any(_ROW_OF_FIELD.match(name) for name, _ in error.fields):
        command = shlex.join(["millrace", "predict", model, source, "--on-error", "partial"])
        hint = f"predict the valid rows: {command}"
    message = _ROW_OF_FIELD.sub(lambda found: f"{found[1]}row {int(found[2]) + 1}:", error.message)
    return ApiError(message, status=error.status, error_code=error.error_code, hint=hint, fields=error.fields)


def request_predictions(
    api: ApiClient,
    model: str,
    request: dict[str, Any],
    rows_per_request: int = ROWS_PER_REQUEST,
    *,
    partial: bool = False,
    interval: float | None = None,
) -> dict[str, Any]:
    """Return the model's response; a long table is sent in several requests and the responses are joined.

    A joined response has ``prediction_ids``, one per request, instead of ``prediction_id``.

    Parameters
    ----------
    partial : bool, default=False
        Predicts the valid rows of a request; the others are null and have ``errors``.
    interval : float or None, default=None
        Level of the response's ``intervals`` or ``sets``.
    """
    path, query = f"/models/{model}/invocations", {"on_error": "partial"} if partial else {}
    if interval is not None:
        query["interval"] = str(interval)
    if row_count(request) <= rows_per_request or "dataframe_split" not in request:
        return api.post(path, request, query or None)
    columns, data = request["dataframe_split"]["columns"], request["dataframe_split"]["data"]
    starts = range(0, len(data), rows_per_request)
    responses = []
    for start in starts:
        body = {"dataframe_split": {"columns": columns, "data": data[start : start + rows_per_request]}}
        try:
            responses.append(api.post(path, body, query or None))
        except ApiError as error:
            message = _ROW_OF_FIELD.sub(lambda found: f"{found[1]}row {int(found[2]) + start}:", error.message)  # noqa: B023  # used at once
            raise ApiError(
                message, status=error.status, error_code=error.error_code, hint=error.hint, fields=error.fields
            ) from error
    joined = {key: value for key, value in responses[-1].items() if key not in ("prediction_id", "warnings", "errors")}
    for name in _BY_ROW & joined.keys():
        joined[name] = [value for response in responses for value in response[name]]
    joined["prediction_ids"] = [response.get("prediction_id") for response in responses]
    joined["warnings"] = [warning for response in responses for warning in response.get("warnings", [])]
    errors = [
        {**error, "row": error["row"] + start}
        for start, response in zip(starts, responses, strict=True)
        for error in response.get("errors") or ()
    ]
    return joined | ({"errors": errors} if errors else {})


def model_columns(api: ApiClient, model: str) -> ModelColumns:
    """Return the columns of the model's champion."""
    try:
        version = api.get(f"/models/{model}/versions/{CHAMPION}")
    except ApiError as error:
        if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return ModelColumns()  # the prediction request reports what is missing; callers may predict only
        raise
    return ModelColumns.of_schema(version.get("schema") or {})


def request_columns(request: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the columns of a request's rows, in order; empty for other forms of requests."""
    if "dataframe_split" in request:
        names, rows = request["dataframe_split"].get("columns", ()), request["dataframe_split"].get("data", ())
        return {name: [row[index] for row in rows] for index, name in enumerate(names)}
    records = request.get("dataframe_records", ())
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def check_source(source: str) -> None:
    """Raise ``RefusedError`` when the source is neither a file nor JSON."""
    path = Path(source)
    if not _is_json(source) and path.is_dir():
        raise RefusedError(f"{source} is a folder", "name one of its files")
    if not _is_json(source) and not path.is_file():
        raise RefusedError(f"{source} is neither a file nor JSON", _JSON_HINT)


def _is_json(source: str) -> bool:
    return source.strip()[:1] in ("{", "[")


def read_request(source: str, columns: Columns | None = None, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Return the body of a prediction request.

    Parameters
    ----------
    source : str
        Path of a table, or JSON: one row as an object, rows as a list of objects, or a whole request.
    columns : mapping or None
        The model's columns by name; None infers numeric columns from their values.
    drop : sequence of str, default=()
        Columns of a file to omit, such as the target.

    Raises
    ------
    RefusedError
        When the source is neither a table nor JSON rows.
    """
    check_source(source)
    if _is_json(source):
        return _from_json(source.strip())
    path = Path(source)
    if path.suffix.lower() == ".json":
        return _from_json(path.read_text(encoding="utf-8-sig"))
    return {"dataframe_split": read_table(path, columns, drop)}


def read_table(path: Path, columns: Columns | None = None, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Read a table as a split data frame: ``columns`` and ``data`` with JSON types.

    Raises
    ------
    RefusedError
        When the file is no table, has no rows, or has a row whose length differs from the header's.
    """
    table = read_rows(path)
    known = columns or {}
    typed = {
        name: convert_column([row[index] for row in table.rows], known.get(name), table.styles(name, known.get(name)))
        for index, name in enumerate(table.columns)
        if name not in drop
    }
    return {"columns": list(typed), "data": [list(row) for row in zip(*typed.values(), strict=True)]}


def convert_column(
    values: Sequence[Any], column: Column | None = None, styles: Sequence[NumberStyle] = (PLAIN,)
) -> list[Any]:
    """Convert a column to JSON values; an invalid number stays a string, which the API reports.

    Parameters
    ----------
    values : sequence
        Strings of delimited text, or JSON values.
    column : Column or None
        The model's; None infers whether the values are numbers.
    styles : sequence of NumberStyle
        Notations of numbers, the surest first.
    """
    present = [value for value in values if isinstance(value, str) and value.strip() not in NULL_STRINGS]
    if column is None:
        is_numeric = bool(present) and all(_number(value, styles) is not None for value in present)
    else:
        is_numeric = column.type in _NUMERIC_TYPES
    return [
        _convert(value, styles if is_numeric else (), column)
        if isinstance(value, str)
        else _as_text(value, None if column is None else column.type)
        for value in values
    ]


def _as_text(value: Any, column_type: str | None) -> Any:
    """Return numbers of columns of strings as training reads them; other values unchanged."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if column_type in ("category", "text") and is_number:
        return str(int(value)) if float(value).is_integer() else str(value)
    return value


def _convert(value: str, styles: Sequence[NumberStyle], column: Column | None) -> Any:
    """Return a number, None for no value, or the string: which other strings are missing, the model's schema says."""
    if not value.strip() or (column is None and styles and value.strip() in NULL_STRINGS):
        return None
    number = _number(value, styles)
    return value if number is None else number


def _number(text: str, styles: Sequence[NumberStyle]) -> int | float | None:
    """Read a number as training does: without underscores, or digits of other scripts."""
    plain = next((plain for style in styles if (plain := style.plain(text.strip())) is not None), None)
    if plain is None or not math.isfinite(number := float(plain)):
        return None
    return int(plain) if re.fullmatch(r"[+-]?[0-9]{1,18}", plain) else number


def _from_json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"the input is not valid JSON: {error}", _JSON_HINT) from error
    if isinstance(document, dict):
        is_request = any(key.startswith("dataframe_") for key in document)
        return document if is_request else {"dataframe_records": [document]}
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return {"dataframe_records": document}
    raise RefusedError("the JSON has no rows", _JSON_HINT)


def row_count(request: Mapping[str, Any]) -> int:
    """Count the rows of a request."""
    if "dataframe_split" in request:
        return len(request["dataframe_split"].get("data", ()))
    return len(request.get("dataframe_records", ()))
