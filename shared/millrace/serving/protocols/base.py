"""The record of a protocol: everything that serving, its metrics and its documentation know about one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from millrace.errors import MillraceError, UnsupportedMediaTypeError
from millrace.schema import TableSchema
from millrace.serving.request import JSON, PredictionRequest, Request

if TYPE_CHECKING:
    # Who only needs the list of protocols, such as monitoring, has no ONNX Runtime.
    from millrace.serving.model import LoadedModel
    from millrace.serving.scoring import Scores

#: Operations that :mod:`millrace.serving.handler` implements once for all protocols.
Operation = Literal["predict", "check_readiness", "describe_model", "describe_openapi"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A reply that depends on nothing: a JSON document, or plain text."""

    body: Mapping[str, Any] | str


#: Operation or fixed reply by method and path; paths are written as in ``template.yaml``.
Routes = Mapping[tuple[str, str], Operation | Fixed]


@dataclass(frozen=True, slots=True)
class OpenApiPart:
    """A protocol's part of the OpenAPI document of one model: paths, and the schemas that they refer to."""

    paths: dict[str, Any]
    schemas: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol in which requests may be sent.

    ``name`` is the value of the metrics' dimension ``dialect``, which captured rows store too, and ``title`` the name
    in ``docs/serving.md``. ``parse`` and ``openapi`` take the most rows that a request may hold. ``write_error``
    returns status and body, from an error and its document. ``prepare`` returns a request whose parameters name the
    model, or refuses it by path and headers alone. ``describe`` returns the protocol's metadata of a version.
    """

    name: str
    title: str
    routes: Routes
    parse: Callable[[Request, TableSchema, int], PredictionRequest]
    write: "Callable[[PredictionRequest, Scores, LoadedModel, str], dict[str, Any]]"
    write_error: Callable[[MillraceError, Mapping[str, Any]], tuple[int, Mapping[str, Any]]]
    openapi: "Callable[[LoadedModel, int], OpenApiPart]"
    content_types: tuple[str, ...] = (JSON,)
    prepare: Callable[[Request, Operation], Request] = lambda request, _operation: request
    describe: "Callable[[LoadedModel], dict[str, Any]] | None" = None

    def read(self, request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
        """Read a request of at most ``max_rows`` rows, values not typed yet; raises for another media type or shape."""
        if request.media_type not in self.content_types:
            supported = " and ".join(map(repr, self.content_types))
            raise UnsupportedMediaTypeError(f"only {supported}, in UTF-8, can be read here")
        return self.parse(request, schema, max_rows)
