"""What ``predict`` answers: a table of methods and paths, each with its dialect.

Paths are written as in ``template.yaml``; API Gateway says in each event which one it matched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import unquote

import millrace
from millrace.errors import MillraceError, NotFoundError
from millrace.schema import TableSchema
from millrace.serving.cache import ModelCache
from millrace.serving.error_detail import ErrorDetail, reduce_scores
from millrace.serving.loading import LoadedModel
from millrace.serving.protocols import kserve_v1, mlflow, open_inference
from millrace.serving.request import PredictionRequest, Request, answers_partially, wants_explanations
from millrace.serving.rows import TypedRows
from millrace.serving.scorer import Scores, score


class Dialect(Protocol):
    """What a module of :mod:`millrace.serving.dialects` offers."""

    NAME: str

    def read_request(self, request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
        """Read what a caller asks for."""
        ...

    def write_reply(
        self, asked: PredictionRequest, scores: Scores, loaded: LoadedModel, prediction_id: str
    ) -> dict[str, Any]:
        """Return the body that answers it."""
        ...

    def write_error(self, error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Return status and body for an error; ``document`` is what a caller may know of it."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers are made from.

    Parameters
    ----------
    models : ModelCache
        The models that are served.
    max_rows : int
        Rows that one request may hold.
    make_id : callable
        Returns a new prediction's id.
    error_detail : ErrorDetail, default="full"
        Whether errors and warnings name columns, or only say that there are some.
    """

    models: ModelCache
    max_rows: int
    make_id: Callable[[], str]
    error_detail: ErrorDetail = "full"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said about the rows of one request, and of which rows.

    Parameters
    ----------
    loaded : LoadedModel
        The version that predicted.
    asked : PredictionRequest
        The rows as they came.
    rows : TypedRows
        The good ones among them, typed.
    scores : Scores
        Of all rows, in the request's order.
    prediction_id : str
        What the caller was told.
    """

    loaded: LoadedModel
    asked: PredictionRequest
    rows: TypedRows
    scores: Scores
    prediction_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, and what it was about.

    Parameters
    ----------
    body : dict or str
        A JSON document, or plain text.
    prediction : Prediction or None, default=None
        What was predicted, when something was.
    """

    body: Mapping[str, Any] | str
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A dialect, and what is done in it."""

    dialect: Dialect
    answer: Callable[[Endpoint, Request, Dialect], Answer]


def find_route(event: Mapping[str, Any]) -> Route:
    """Return the route of an API Gateway event; one that does not exist answers that."""
    return ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))), _NO_ROUTE)


def _predict(endpoint: Endpoint, request: Request, dialect: Dialect) -> Answer:
    loaded = _find_model(endpoint, request)
    asked = dialect.read_request(request, loaded.schema, endpoint.max_rows)
    rows = loaded.reader.read(asked.table, partial=answers_partially(request, asked))
    scores = score(loaded, rows)
    if wants_explanations(request, asked):
        from millrace.serving.explanations import explain_scores  # noqa: PLC0415 - few requests need it

        scores = replace(scores, explanations=explain_scores(loaded, rows, scores))
    prediction = Prediction(loaded, asked, rows, scores, endpoint.make_id())
    told = reduce_scores(prediction.scores) if endpoint.error_detail == "reduced" else prediction.scores
    return Answer(dialect.write_reply(asked, told, loaded, prediction.prediction_id), prediction)


def _find_model(endpoint: Endpoint, request: Request) -> LoadedModel:
    return endpoint.models.get(request.model, request.version)


def _predict_by_action(endpoint: Endpoint, request: Request, dialect: Dialect) -> Answer:
    """``churn:predict`` is one segment of a path, so one placeholder has to take both."""
    model, _, action = unquote(request.parameters.get("model_action") or "").partition(":")
    if action != "predict":
        raise NotFoundError("a model is asked with ':predict'")
    return _predict(endpoint, replace(request, parameters={"model": model}), dialect)


def _model_is_ready(endpoint: Endpoint, request: Request, _: Dialect) -> Answer:
    loaded = _find_model(endpoint, request)
    return Answer({"name": loaded.model, "ready": True})


def _model_is_ready_v1(endpoint: Endpoint, request: Request, dialect: Dialect) -> Answer:
    model = request.parameters.get("model_action") or ""
    return _model_is_ready(endpoint, replace(request, parameters={"model": model}), dialect)


def _describe_model(endpoint: Endpoint, request: Request, _: Dialect) -> Answer:
    return Answer(open_inference.describe_model(_find_model(endpoint, request)))


def _openapi(endpoint: Endpoint, request: Request, _: Dialect) -> Answer:
    from millrace.serving.openapi import openapi_document  # noqa: PLC0415 - no prediction needs it

    return Answer(openapi_document(_find_model(endpoint, request), endpoint.max_rows))


def _no_route(_endpoint: Endpoint, _request: Request, _dialect: Dialect) -> Answer:
    raise NotFoundError("nothing is answered at this path")


def _always(body: Mapping[str, Any] | str) -> Callable[[Endpoint, Request, Dialect], Answer]:
    return lambda _endpoint, _request, _dialect: Answer(body)


_ALIVE = _always({"status": "alive"})
_HEALTHY = _always({"live": True, "ready": True})
_SERVER = _always({"name": "millrace", "version": millrace.__version__, "extensions": []})
_NO_ROUTE = Route(mlflow, _no_route)

#: Every route of ``predict``.
ROUTES: Mapping[tuple[str, str], Route] = MappingProxyType(
    {
        ("GET", "/"): Route(kserve_v1, _ALIVE),
        ("GET", "/ping"): Route(mlflow, _ALIVE),
        ("GET", "/health"): Route(mlflow, _ALIVE),
        ("GET", "/version"): Route(mlflow, _always(millrace.__version__)),
        ("POST", "/models/{model}/invocations"): Route(mlflow, _predict),
        ("POST", "/models/{model}/versions/{version}/invocations"): Route(mlflow, _predict),
        ("GET", "/models/{model}/openapi.json"): Route(mlflow, _openapi),
        ("GET", "/v1/models/{model_action}"): Route(kserve_v1, _model_is_ready_v1),
        ("POST", "/v1/models/{model_action}"): Route(kserve_v1, _predict_by_action),
        ("GET", "/v2"): Route(open_inference, _SERVER),
        ("GET", "/v2/health/live"): Route(open_inference, _HEALTHY),
        ("GET", "/v2/health/ready"): Route(open_inference, _HEALTHY),
        ("GET", "/v2/models/{model}"): Route(open_inference, _describe_model),
        ("GET", "/v2/models/{model}/ready"): Route(open_inference, _model_is_ready),
        ("POST", "/v2/models/{model}/infer"): Route(open_inference, _predict),
        ("GET", "/v2/models/{model}/versions/{version}"): Route(open_inference, _describe_model),
        ("GET", "/v2/models/{model}/versions/{version}/ready"): Route(open_inference, _model_is_ready),
        ("POST", "/v2/models/{model}/versions/{version}/infer"): Route(open_inference, _predict),
    }
)
