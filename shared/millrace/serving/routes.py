"""Routes of ``predict``: a table of methods and paths, each with its protocol and operation.

API Gateway names in each event the route that it matched.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from millrace.errors import NotFoundError
from millrace.serving.api_gateway import ErrorDetail
from millrace.serving.cache import ModelCache
from millrace.serving.model import LoadedModel
from millrace.serving.protocols import MLFLOW, PROTOCOLS, Fixed, Operation, Protocol
from millrace.serving.request import Request
from millrace.serving.scoring import Prediction, explain_scores, score


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Models and settings that replies are made from; without ``captures`` no rules of a model capture anything."""

    models: ModelCache
    max_rows: int
    make_id: Callable[[], str]
    error_detail: ErrorDetail = "full"
    captures: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's body, a JSON document or plain text, and the prediction in it, if any."""

    body: Mapping[str, Any] | str
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A protocol, and one of its operations; None for a path that does not exist."""

    protocol: Protocol
    operation: Operation | Fixed | None

    def reply(self, endpoint: Endpoint, request: Request) -> Reply:
        """Return the reply to a request."""
        if self.operation is None:
            raise NotFoundError("there is no such path")
        if isinstance(self.operation, Fixed):
            return Reply(self.operation.body)
        request = self.protocol.prepare(request, self.operation)
        loaded = endpoint.models.get(request.model, request.version)
        if self.operation == "predict":
            return _predict(endpoint, request, self.protocol, loaded)
        if self.operation == "check_readiness":
            return Reply({"name": loaded.model, "ready": True})
        if self.operation == "describe_openapi":
            from millrace.serving.openapi import openapi_document  # noqa: PLC0415 - no prediction needs it

            return Reply(openapi_document(loaded, endpoint.max_rows, PROTOCOLS))
        if self.protocol.describe is None:
            raise NotFoundError(f"the protocol {self.protocol.name} has no description of a model")
        return Reply(self.protocol.describe(loaded))


def _predict(endpoint: Endpoint, request: Request, protocol: Protocol, loaded: LoadedModel) -> Reply:
    contents = protocol.read(request, loaded.schema, endpoint.max_rows)
    rows = loaded.reader.read(contents.table, partial=contents.allows_bad_rows(request.query))
    scores = score(loaded, rows)
    if contents.wants_explanations(request.query):
        scores = replace(scores, explanations=explain_scores(loaded, rows, scores))
    prediction = Prediction(loaded, contents, rows, scores, endpoint.make_id())
    written = scores.without_columns() if endpoint.error_detail == "reduced" else scores
    return Reply(protocol.write(contents, written, loaded, prediction.prediction_id), prediction)


#: Every route of ``predict`` by method and path.
ROUTES: Mapping[tuple[str, str], Route] = MappingProxyType(
    {
        method_and_path: Route(protocol, operation)
        for protocol in PROTOCOLS
        for method_and_path, operation in protocol.routes.items()
    }
)


def find_route(event: Mapping[str, Any]) -> Route:
    """Return the route of an API Gateway event; one whose reply is an error when there is none."""
    return ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))), Route(MLFLOW, None))
