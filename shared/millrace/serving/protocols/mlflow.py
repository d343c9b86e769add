"""MLflow's scoring protocol: a table in JSON or CSV in, ``predictions`` out.

Clients of ``mlflow.deployments`` read ``predictions`` into a data frame: objects become its columns (``label``,
``probabilities``), bare numbers its only one. They ignore other keys of the reply.

MLflow's own clients need two liberties: a ``NaN`` literal, which they write for a missing value although it is no JSON,
counts as ``null``; a split's ``index`` and unknown ``params`` are ignored, as MLflow does for a model that declares
none.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

import millrace
from millrace.errors import InvalidInputError
from millrace.schema import TableSchema
from millrace.serving.array_column import ArrayColumn
from millrace.serving.protocols.base import (
    Fixed,
    OpenApiPart,
    Protocol,
    read_array,
    read_columns,
    read_csv,
    read_object,
    read_parameters,
    read_records,
    read_split,
    refuse_unknown_keys,
)
from millrace.serving.request import JSON, PredictionRequest, Request, RequestTable

if TYPE_CHECKING:
    from millrace.serving.model import LoadedModel
    from millrace.serving.scoring import Scores

CSV = "text/csv"

_SHAPES = ("dataframe_records", "dataframe_split", "instances", "inputs")


def _parse(request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
    if request.media_type == CSV:
        return PredictionRequest(read_csv(request, schema, max_rows))
    document = read_object(request)
    shapes = [key for key in _SHAPES if key in document]
    if len(shapes) != 1:
        expected = ", ".join(map(repr, _SHAPES))
        found = " and ".join(map(repr, shapes)) or "none"
        raise InvalidInputError(f"the request has to hold exactly one of {expected}: it holds {found}")
    refuse_unknown_keys(document, {*_SHAPES, "params"})
    parameters = read_parameters(document, "params")
    return PredictionRequest(_read_shape(shapes[0], document[shapes[0]], schema, max_rows), parameters=parameters)


def _read_shape(shape: str, rows: Any, schema: TableSchema, max_rows: int) -> RequestTable:
    if shape == "dataframe_records":
        return read_records(shape, rows, max_rows)
    if shape == "dataframe_split":
        return read_split(shape, rows, max_rows)
    names = [column.name for column in schema.features]
    if shape == "inputs" and isinstance(rows, dict):
        return read_columns(shape, rows, names, max_rows)
    return read_array(shape, rows, names, max_rows)


def write_reply(
    request: PredictionRequest,  # noqa: ARG001 - other protocols choose outputs by it
    scores: "Scores",
    loaded: "LoadedModel",
    prediction_id: str,
) -> dict[str, Any]:
    """Return the reply's body.

    ``predictions`` holds, per row, ``label``, ``probabilities`` by class and ``decision``, or a number for
    regression; all of it is null for a row in ``errors``. Feedback knows row ``i`` (from 0) as
    ``<prediction_id>-<i>``. ``interval``, with ``intervals`` or ``sets``, ``warnings`` and ``explanations`` are
    optional.
    """
    reply: dict[str, Any] = {
        "predictions": _predictions(scores),
        "model": loaded.model,
        "model_version": loaded.version,
        "prediction_id": prediction_id,
    }
    if scores.level is not None:
        reply["interval"] = scores.level
        reply |= {"intervals": scores.intervals} if scores.sets is None else {"sets": scores.sets}
    if scores.warnings:
        reply["warnings"] = [{"field": warning.field, "message": warning.message} for warning in scores.warnings]
    if scores.explanations is not None:
        reply["explanations"] = [None if each is None else each.to_dict() for each in scores.explanations]
    if scores.bad_rows:
        reply["errors"] = [
            {"row": row, "fields": [{"field": error.field, "message": error.message} for error in errors]}
            for row, errors in scores.bad_rows.items()
        ]
    return reply


def _predictions(scores: "Scores") -> Any:
    if scores.values is not None:
        return scores.values
    if isinstance(scores.probabilities, ArrayColumn):
        return _PredictionTexts(scores)
    return _prediction_objects(scores)


def _prediction_objects(scores: "Scores") -> list[dict[str, Any]]:
    if len(scores.classes) == 2 and None not in scores.probabilities:  # noqa: PLR2004 - the quick way for most models
        first, second = scores.classes
        rows: Any = zip(scores.labels, scores.probabilities, scores.decisions, strict=True)
        return [
            {"label": label, "probabilities": {first: one, second: other}, "decision": decision}
            for label, (one, other), decision in rows
        ]
    by_class = [None if row is None else dict(zip(scores.classes, row, strict=True)) for row in scores.probabilities]
    return [
        {"label": label, "probabilities": probabilities, "decision": decision}
        for label, probabilities, decision in zip(scores.labels, by_class, scores.decisions, strict=True)
    ]


class _PredictionTexts:
    """Predictions of many rows, whose text is joined from the texts of columns: a row has no objects of its own."""

    def __init__(self, scores: "Scores") -> None:
        self._scores = scores

    def tolist(self) -> list[dict[str, Any]]:
        """Return the predictions as objects."""
        return _prediction_objects(self._scores)

    def to_json(self) -> orjson.Fragment:
        """Return the text of :meth:`tolist`."""
        scores: Any = self._scores
        probabilities = scores.probabilities.array
        heads = [f',{{"label":{_text(label)},"probabilities":{{' for label in scores.labels.names]
        tails = [f'}},"decision":{_text(decision)}}}' for decision in scores.decisions.names]
        keys = [f"{_text(name)}:" for name in scores.classes]
        heads = [head + keys[0] for head in heads]
        n_rows, width = probabilities.shape
        numbers = _text(probabilities.astype(np.float64).ravel())[1:-1].split(",")
        # The parts of the rows one after the other: beginning, number, key, number ..., end.
        step = 2 * width + 1
        parts = [""] * (step * n_rows)
        parts[::step] = np.array(heads, dtype=object)[scores.labels.array].tolist()
        for place in range(width):
            parts[2 * place + 1 :: step] = numbers[place::width]
            if place:
                parts[2 * place :: step] = [f",{keys[place]}"] * n_rows
        parts[step - 1 :: step] = np.array(tails, dtype=object)[scores.decisions.array].tolist()
        if scores.labels.known is not None:
            for row in np.flatnonzero(~scores.labels.known).tolist():
                parts[step * row : step * (row + 1)] = [_NO_PREDICTION, *[""] * (step - 1)]
        return orjson.Fragment(f"[{''.join(parts)[1:]}]")


_NO_PREDICTION = ',{"label":null,"probabilities":null,"decision":null}'


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _openapi(loaded: "LoadedModel", max_rows: int) -> OpenApiPart:
    from millrace.serving import openapi  # noqa: PLC0415 - no prediction needs it

    row = openapi.example_row(loaded.schema)
    values = list(row.values())
    content = {
        JSON: {
            "schema": openapi.reference("Invocation"),
            "examples": {
                "dataframe_records": {"value": {"dataframe_records": [row]}},
                "dataframe_split": {"value": {"dataframe_split": {"columns": list(row), "data": [values]}}},
                "instances": {"value": {"instances": [values]}},
                "inputs": {"value": {"inputs": {name: [value] for name, value in row.items()}}},
            },
        },
        CSV: {
            "schema": {**openapi.TEXT, "description": "Names in the first line, then one row a line."},
            "examples": {"csv": {"value": openapi.csv_text(row)}},
        },
    }
    summary = "Predict by MLflow's scoring protocol"
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": openapi.TEXT,
        "description": "A version's number, or an alias such as champion.",
    }
    predict = {"post": openapi.operation(loaded, "predict", summary, content)}
    by_version = {"parameters": [version], "post": openapi.operation(loaded, "predictWithVersion", summary, content)}
    path = f"/models/{loaded.model}"
    return OpenApiPart(
        paths={f"{path}/invocations": predict, f"{path}/versions/{{version}}/invocations": by_version},
        schemas={"Invocation": _invocation_schema(loaded, max_rows)},
    )


def _invocation_schema(loaded: "LoadedModel", max_rows: int) -> dict[str, Any]:
    from millrace.serving import openapi  # noqa: PLC0415 - as above

    schema, options = loaded.schema, openapi.options(loaded)
    either = openapi.either_rows(max_rows)
    split = {
        "columns": {"const": [column.name for column in schema.features]},
        "data": openapi.rows(openapi.reference("Values"), max_rows),
        "index": {"type": "array"},
    }
    columns = {
        "type": "object",
        "properties": {column.name: openapi.rows(openapi.value_schema(column), max_rows) for column in schema.features},
        "required": openapi.required_names(schema),
        "additionalProperties": {"type": "array"},
        "description": "Columns of equal length.",
    }
    members = {
        "dataframe_records": openapi.rows(openapi.reference("Row"), max_rows),
        "dataframe_split": openapi.closed_object(split, ["columns", "data"]),
        "instances": either,
        "inputs": {"anyOf": [columns, openapi.reference("Row"), *either["anyOf"]]},
    }
    return {
        "oneOf": [openapi.closed_object({name: member, "params": options}, [name]) for name, member in members.items()]
    }


MLFLOW = Protocol(
    name="mlflow",
    title="MLflow",
    routes={
        ("GET", "/ping"): Fixed({"status": "alive"}),
        ("GET", "/health"): Fixed({"status": "alive"}),
        ("GET", "/version"): Fixed(millrace.__version__),
        ("POST", "/models/{model}/invocations"): "predict",
        ("POST", "/models/{model}/versions/{version}/invocations"): "predict",
        ("GET", "/models/{model}/openapi.json"): "describe_openapi",
    },
    parse=_parse,
    write=write_reply,
    # The error's own document, which is in MLflow's form.
    write_error=lambda error, document: (error.http_status, document),
    openapi=_openapi,
    content_types=(JSON, CSV),
)
