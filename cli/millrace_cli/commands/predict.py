"""`millrace predict MODEL FILE|JSON`: rows in, predictions out."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from millrace.errors import InvalidNameError
from millrace.names import CHAMPION, validate_model_name
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.options import ModelName, Profile, Region, Stack, target_of
from millrace_cli.render import predictions_table
from millrace_cli.tables import read_request, row_count

ROWS_A_REQUEST = 1_000


class OutputFormat(StrEnum):
    """How predictions are printed."""

    table = "table"
    json = "json"


def predict(
    model: ModelName,
    rows: Annotated[str, typer.Argument(metavar="FILE|JSON", help="""A CSV file, or '{"column": value}'.""")],
    *,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to print.")] = OutputFormat.table,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Ask a model for predictions, by signed requests to its API."""
    try:
        validate_model_name(model)
    except InvalidNameError as error:
        raise RefusedError(error.message) from error
    where = target_of(profile, stack, region)
    with ApiClient.for_target(where) as api:
        types, target = model_columns(api, model) if Path(rows).suffix.lower() == ".csv" else ({}, None)
        request = read_request(rows, types, drop=[target] if target else [])
        reply = ask(api, model, request)
    if output is OutputFormat.json:
        out.print_json(json.dumps(reply))
        return
    out.print(predictions_table(reply["predictions"]))
    for warning in reply.get("warnings", []):
        err.print(Text.assemble(("warning: ", "yellow"), f"{warning.get('field')}: {warning.get('message')}"))
    ids = reply.get("prediction_ids") or [reply.get("prediction_id")]
    err.print(
        Text(f"{model} version {reply.get('model_version')}, prediction id {', '.join(map(str, ids))}", style="dim")
    )


def ask(api: ApiClient, model: str, request: dict[str, Any], rows_a_request: int = ROWS_A_REQUEST) -> dict[str, Any]:
    """Return the model's reply; a long table goes in several requests, whose predictions are put together.

    The joined reply has ``prediction_ids``, one a request, where a single one has ``prediction_id``.
    """
    path = f"/models/{model}/invocations"
    if row_count(request) <= rows_a_request or "dataframe_split" not in request:
        return api.post(path, request)
    split = request["dataframe_split"]
    replies = [
        api.post(
            path,
            {"dataframe_split": {"columns": split["columns"], "data": split["data"][start : start + rows_a_request]}},
        )
        for start in range(0, len(split["data"]), rows_a_request)
    ]
    joined = {key: value for key, value in replies[-1].items() if key not in ("prediction_id", "warnings")}
    joined["predictions"] = [prediction for reply in replies for prediction in reply["predictions"]]
    joined["prediction_ids"] = [reply.get("prediction_id") for reply in replies]
    joined["warnings"] = [warning for reply in replies for warning in reply.get("warnings", [])]
    return joined


def model_columns(api: ApiClient, model: str) -> tuple[dict[str, str], str | None]:
    """Return the types of the champion's columns by name, and its target; nothing when the API does not tell."""
    try:
        version = api.get(f"/models/{model}/versions/{CHAMPION}")
    except ApiError as error:
        if error.status == httpx.codes.NOT_FOUND:
            return {}, None  # the prediction itself will say what is missing
        raise
    columns = (version.get("schema") or {}).get("columns") or []
    target = next((column["name"] for column in columns if column.get("role") == "target"), None)
    return {column["name"]: column["type"] for column in columns}, target
