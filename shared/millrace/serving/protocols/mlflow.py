"""MLflow's scoring protocol: a table in JSON or CSV in, ``predictions`` out.

Clients of ``mlflow.deployments`` read ``predictions`` into a data frame: objects become its columns (``label``,
``probabilities``), bare numbers its only one. Other keys of the reply are kept and left alone by them.

Two liberties that MLflow's own clients need: a ``NaN`` literal, which they write for a missing value although it
is no JSON, counts as ``null``; a split's ``index``, and ``params`` that mean nothing here (as MLflow does for a model
that declares none), are taken and not used.
"""

from collections.abc import Mapping
from typing import Any

from millrace.errors import InvalidInputError, MillraceError, UnsupportedMediaTypeError
from millrace.schema import TableSchema
from millrace.serving.loading import LoadedModel
from millrace.serving.protocols import parsing
from millrace.serving.protocols.parsing import read_csv, read_object, read_parameters, refuse_unknown_keys
from millrace.serving.request import JSON, PredictionRequest, Request, RequestTable
from millrace.serving.scorer import Scores

NAME = "mlflow"
CSV = "text/csv"

_SHAPES = ("dataframe_records", "dataframe_split", "instances", "inputs")


def read_request(request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
    """Read a request's rows; their values are not looked at yet.

    Raises
    ------
    UnsupportedMediaTypeError
        When the content is declared as neither JSON nor CSV in UTF-8.
    InvalidInputError
        When it is neither, or JSON of another shape; names every fault.
    PayloadTooLargeError
        When there are more than ``max_rows`` rows.
    """
    if request.media_type == CSV:
        return PredictionRequest(read_csv(request, schema, max_rows))
    if request.media_type != JSON:
        raise UnsupportedMediaTypeError(f"only {JSON!r} and {CSV!r}, in UTF-8, are read here")
    document = read_object(request)
    shapes = [key for key in _SHAPES if key in document]
    if len(shapes) != 1:
        expected = ", ".join(map(repr, _SHAPES))
        found = " and ".join(map(repr, shapes)) or "none"
        raise InvalidInputError(f"the request has to hold exactly one of {expected}: it holds {found}")
    refuse_unknown_keys(document, {*_SHAPES, "params"})
    params = read_parameters(document, "params")
    return PredictionRequest(_read_shape(shapes[0], document[shapes[0]], schema, max_rows), parameters=params)


def write_reply(
    asked: PredictionRequest,  # noqa: ARG001 - other dialects choose outputs by it
    scores: Scores,
    loaded: LoadedModel,
    prediction_id: str,
) -> dict[str, Any]:
    """Return the reply's body.

    ``predictions`` holds, per row, ``label``, ``probabilities`` by class and ``decision``, or a number for
    regression; all of it is null for a row that ``errors`` tells of. Row ``i`` (from 0) is known to feedback as
    ``<prediction_id>-<i>``. ``warnings`` is there when something was scored that the model knows little of,
    ``explanations`` when they were asked for.
    """
    reply: dict[str, Any] = {
        "predictions": _predictions(scores),
        "model": loaded.model,
        "model_version": loaded.version,
        "prediction_id": prediction_id,
    }
    if scores.notices:
        reply["warnings"] = [{"field": notice.field, "message": notice.message} for notice in scores.notices]
    if scores.explanations is not None:
        reply["explanations"] = [None if told is None else told.to_dict() for told in scores.explanations]
    if scores.bad_rows:
        reply["errors"] = [
            {"row": row, "fields": [{"field": fault.field, "message": fault.message} for fault in faults]}
            for row, faults in scores.bad_rows.items()
        ]
    return reply


def write_error(error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return status and body: the taxonomy's own."""
    return error.http_status, document


def _read_shape(shape: str, rows: Any, schema: TableSchema, max_rows: int) -> RequestTable:
    if shape == "dataframe_records":
        return parsing.read_records(shape, rows, max_rows)
    if shape == "dataframe_split":
        return parsing.read_split(shape, rows, max_rows)
    names = [column.name for column in schema.features]
    if shape == "inputs" and isinstance(rows, dict):
        return parsing.read_columns(shape, rows, names, max_rows)
    return parsing.read_array(shape, rows, names, max_rows)


def _predictions(scores: Scores) -> list[Any]:
    if scores.values is not None:
        return scores.values
    by_class = [None if row is None else dict(zip(scores.classes, row, strict=True)) for row in scores.probabilities]
    return [
        {"label": label, "probabilities": probabilities, "decision": decision}
        for label, probabilities, decision in zip(scores.labels, by_class, scores.decisions, strict=True)
    ]
