"""`millrace predict`: request predictions for rows of a file or inline JSON."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from millrace.names import CHAMPION
from millrace.schema import NULL_STRINGS
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack_without_json
from millrace_cli.output import err, make_table, out, say
from millrace_cli.upload import check_model_name

ROWS_PER_REQUEST = 1_000

#: Column types by name, as in a version's schema.
ColumnTypes = Mapping[str, str]

_NUMERIC_TYPES = frozenset({"integer", "number"})
_JSON_HINT = """name a CSV file, or write one row as '{"column": value}', or a list of rows"""


class OutputFormat(StrEnum):
    """Format of printed predictions."""

    table = "table"
    json = "json"


@uses_stack_without_json
def predict(
    session: StackSession,
    model: ModelName,
    rows: Annotated[str, typer.Argument(metavar="FILE|JSON", help="""CSV file, or '{"column": value}'.""")],
    *,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="Print this format.")] = OutputFormat.table,
) -> None:
    """Request predictions from a model's API."""
    check_model_name(model)
    with session.api() as api:
        types, target = model_columns(api, model) if Path(rows).suffix.lower() == ".csv" else ({}, None)
        request = read_request(rows, types, drop=[target] if target else [])
        response = request_predictions(api, model, request)
    if output is OutputFormat.json:
        out.print_json(json.dumps(response))
        return
    out.print(predictions_table(response["predictions"]))
    for warning in response.get("warnings", []):
        err.print(Text.assemble(("warning: ", "yellow"), f"{warning.get('field')}: {warning.get('message')}"))
    ids = response.get("prediction_ids") or [response.get("prediction_id")]
    say(f"{model} version {response.get('model_version')}, prediction id {', '.join(map(str, ids))}", style="dim")


def request_predictions(
    api: ApiClient, model: str, request: dict[str, Any], rows_per_request: int = ROWS_PER_REQUEST
) -> dict[str, Any]:
    """Return the model's response; a long table is sent in several requests and the responses are joined.

    A joined response has ``prediction_ids``, one per request, instead of ``prediction_id``.
    """
    path = f"/models/{model}/invocations"
    if row_count(request) <= rows_per_request or "dataframe_split" not in request:
        return api.post(path, request)
    columns, data = request["dataframe_split"]["columns"], request["dataframe_split"]["data"]
    responses = [
        api.post(path, {"dataframe_split": {"columns": columns, "data": data[start : start + rows_per_request]}})
        for start in range(0, len(data), rows_per_request)
    ]
    joined = {key: value for key, value in responses[-1].items() if key not in ("prediction_id", "warnings")}
    joined["predictions"] = [prediction for response in responses for prediction in response["predictions"]]
    joined["prediction_ids"] = [response.get("prediction_id") for response in responses]
    joined["warnings"] = [warning for response in responses for warning in response.get("warnings", [])]
    return joined


def model_columns(api: ApiClient, model: str) -> tuple[dict[str, str], str | None]:
    """Return the champion's column types by name and its target column; empty when the model has no champion."""
    try:
        version = api.get(f"/models/{model}/versions/{CHAMPION}")
    except ApiError as error:
        if error.status == httpx.codes.NOT_FOUND:
            return {}, None  # the prediction request reports what is missing
        raise
    columns = (version.get("schema") or {}).get("columns") or []
    target = next((column["name"] for column in columns if column.get("role") == "target"), None)
    return {column["name"]: column["type"] for column in columns}, target


def predictions_table(predictions: Sequence[Any]) -> Table:
    """Return a table of predictions: labels with probabilities, or numbers."""
    rows: list[tuple[Any, ...]] = []
    for number, prediction in enumerate(predictions, start=1):
        if isinstance(prediction, Mapping):
            rows.append((number, prediction.get("label"), prediction.get("probabilities")))
        else:
            rows.append((number, prediction, None))
    return make_table("", ("row", "prediction", "probabilities"), rows)


def read_request(source: str, column_types: ColumnTypes | None = None, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Return the body of a prediction request.

    Parameters
    ----------
    source : str
        Path of a CSV file, or JSON: one row as an object, rows as a list of objects, or a whole request.
    column_types : mapping or None
        Types of the model's columns; None infers numeric columns from their values.
    drop : sequence of str, default=()
        Columns of a file to omit, such as the target.

    Raises
    ------
    RefusedError
        When the source is neither a CSV file nor JSON rows.
    """
    text = source.strip()
    if text[:1] in ("{", "["):
        return _from_json(text)
    path = Path(source)
    if not path.is_file():
        raise RefusedError(f"{source} is neither a file nor JSON", _JSON_HINT)
    if path.suffix.lower() == ".json":
        return _from_json(path.read_text(encoding="utf-8-sig"))
    return {"dataframe_split": read_csv(path, column_types, drop)}


def read_csv(path: Path, column_types: ColumnTypes | None = None, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Read a CSV file as a split data frame: ``columns`` and ``data`` with JSON types.

    Raises
    ------
    RefusedError
        When the file has no rows, or a row whose length differs from the header's.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    if len(rows) < 2:  # noqa: PLR2004  # a header and one row
        raise RefusedError(f"{path} has no rows", "add a header and rows")
    header, *data = rows
    for number, row in enumerate(data, start=2):
        if len(row) != len(header):
            raise RefusedError(f"{path}: row {number} has {len(row)} values for {len(header)} columns")
    columns = {name: [row[index] for row in data] for index, name in enumerate(header) if name not in drop}
    typed = {name: convert_column(values, (column_types or {}).get(name)) for name, values in columns.items()}
    return {"columns": list(typed), "data": [list(row) for row in zip(*typed.values(), strict=True)]}


def convert_column(values: Sequence[str], column_type: str | None = None) -> list[Any]:
    """Convert a column's strings to JSON values; an invalid number stays a string, which the API reports.

    Parameters
    ----------
    column_type : str or None
        ``integer``, ``number``, ``boolean``, ``category``, ``datetime`` or ``text``; None infers it.
    """
    present = [value.strip() for value in values if not _is_missing(value)]
    if column_type is None:
        is_numeric = bool(present) and all(_number(value) is not None for value in present)
    else:
        is_numeric = column_type in _NUMERIC_TYPES
    return [None if _is_missing(value) else _convert(value, is_numeric) for value in values]


def _convert(value: str, is_numeric: bool) -> Any:
    if not is_numeric:
        return value
    number = _number(value.strip())
    return value if number is None else number


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_missing(value: str) -> bool:
    return value.strip() in NULL_STRINGS


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
