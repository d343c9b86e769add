"""Handling of one event of ``predict``: its route, the reply or the error in the caller's protocol, log and metrics.

API Gateway names in each event the route that it matched; :data:`ROUTES` has the protocol and the operation of each.

Each request for predictions writes one line, from which its rows, its counts and its metrics are taken
(``docs/serving.md`` lists the metrics). A metric is billed for each combination of dimensions: only failed requests and
refreshes have some by default. No name that a stranger could make up is a dimension, or a model that requests are
counted for: the registry must have named it to this execution environment before.

Only a refused request needs a logger, so the first of them imports it.
"""

import base64
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from millrace.errors import (
    InvalidInputError,
    MillraceError,
    ModelNotReadyError,
    NotFoundError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from millrace.json_text import write_json
from millrace.key_scopes import read_key_id
from millrace.observability import metric_members, write_metrics
from millrace.serving.arms import ActiveRelease, Assignment, find_key, predict_assigned
from millrace.serving.capture import BEGINNING, CaptureWriter, name_request, write_timestamp
from millrace.serving.endpoint import Endpoint, ErrorDetail, success_response, write_response
from millrace.serving.fast_path import respond_fast
from millrace.serving.intervals import find_bounds
from millrace.serving.model import LoadedModel
from millrace.serving.protocols import MLFLOW, PROTOCOLS, Fixed, Operation, Protocol
from millrace.serving.request import PredictionRequest, Request
from millrace.serving.request_line import count_line, elapsed_ms, model_metrics
from millrace.serving.scoring import Prediction, explain_scores, score

#: Largest body of a request after decompression; without gzip, Lambda's limit of 6 MB comes first.
MAX_BODY_BYTES = 10_000_000
#: Header of replies of an earlier version: the number of the champion, which is damaged.
INSTEAD_OF = "X-Millrace-Instead-Of-Version"
_MAX_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's body, a JSON document or plain text, the prediction in it, if any, and further headers."""

    body: Mapping[str, Any] | str
    prediction: Prediction | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A protocol, and one of its operations; None for a path that does not exist."""

    protocol: Protocol
    operation: Operation | Fixed | None

    def reply(self, endpoint: Endpoint, request: Request, call: "_Call") -> Reply:
        """Return the reply to a request."""
        if self.operation is None:
            raise NotFoundError("there is no such path")
        if isinstance(self.operation, Fixed):
            return Reply(self.operation.body)
        request = self.protocol.prepare(request, self.operation)
        endpoint.keys.ensure_allowed(request.key_id, request.model)
        loaded, release = endpoint.models.find(request.model, request.version)
        call.loaded = loaded
        if release is not None and self.operation == "predict":
            return self._predict_in_release(endpoint, request, (loaded, release), call)
        reply = self._describe_or_predict(endpoint, request, loaded, call.prediction_id)
        headers = {} if loaded.instead_of is None else {INSTEAD_OF: str(loaded.instead_of)}
        return replace(reply, headers=headers)

    def _predict_in_release(
        self, endpoint: Endpoint, request: Request, served: tuple[LoadedModel, ActiveRelease], call: "_Call"
    ) -> Reply:
        """Predict with the arm that the request is assigned to; see :mod:`millrace.serving.arms`."""
        read, (champion, release) = self.protocol.read, served
        contents, prediction_id = read(request, champion.schema, endpoint.max_rows), call.prediction_id
        key = find_key(request.headers, contents.parameters, release.key_column, contents.table.common_value)
        call.assignment = assignment = release.assign(key, prediction_id)

        def predict(loaded: LoadedModel) -> Prediction:
            alike = loaded is champion or assignment.arm.reads_alike
            own = contents if alike else read(request, loaded.schema, endpoint.max_rows)
            return _predict_contents(request, own, loaded, prediction_id)

        prediction = predict_assigned(assignment, champion, predict)
        return _write_prediction(endpoint, self.protocol, prediction, assignment.arm.headers)

    def _describe_or_predict(
        self, endpoint: Endpoint, request: Request, loaded: LoadedModel, prediction_id: str
    ) -> Reply:
        if self.operation == "predict":
            contents = self.protocol.read(request, loaded.schema, endpoint.max_rows)
            prediction = _predict_contents(request, contents, loaded, prediction_id)
            return _write_prediction(endpoint, self.protocol, prediction)
        if self.operation == "check_readiness":
            return Reply({"name": loaded.model, "ready": True})
        if self.operation == "describe_openapi":
            from millrace.serving.openapi import openapi_document  # noqa: PLC0415 - no prediction needs it

            return Reply(openapi_document(loaded, endpoint.max_rows, PROTOCOLS))
        if self.protocol.describe is None:
            raise NotFoundError(f"the protocol {self.protocol.name} has no description of a model")
        return Reply(self.protocol.describe(loaded))


def _predict_contents(
    request: Request, contents: PredictionRequest, loaded: LoadedModel, prediction_id: str
) -> Prediction:
    level = contents.interval_level(request.query)
    bounds = None if level is None else find_bounds(loaded, level)
    rows = loaded.reader.read(contents.table, partial=contents.allows_bad_rows(request.query))
    scores = score(loaded, rows) if bounds is None else score(loaded, rows, bounds.fields)
    if contents.wants_explanations(request.query):
        scores = replace(scores, explanations=explain_scores(loaded, rows, scores))
    return Prediction(loaded, contents, rows, scores, prediction_id)


def _write_prediction(
    endpoint: Endpoint, protocol: Protocol, prediction: Prediction, headers: Mapping[str, str] = MappingProxyType({})
) -> Reply:
    scores, loaded = prediction.scores, prediction.loaded
    written = scores.without_columns() if endpoint.error_detail == "reduced" else scores
    return Reply(protocol.write(prediction.request, written, loaded, prediction.prediction_id), prediction, headers)


#: Every route of ``predict`` by method and path.
ROUTES: Mapping[tuple[str, str], Route] = MappingProxyType(
    {
        method_and_path: Route(protocol, operation)
        for protocol in PROTOCOLS
        for method_and_path, operation in protocol.routes.items()
    }
)


_NO_ROUTE = Route(MLFLOW, None)


def find_route(event: Mapping[str, Any]) -> Route:
    """Return the route of an API Gateway event; one whose reply is an error when there is none."""
    return ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))), _NO_ROUTE)


def handle(event: Mapping[str, Any], build_endpoint: Callable[[], Endpoint], *, cold_start: bool) -> dict[str, Any]:
    """Return the response to an event of API Gateway; an error gets the status of its class.

    ``build_endpoint`` may raise when settings are wrong.
    """
    started, route, prediction_id = time.perf_counter(), find_route(event), ""
    if route.operation == "predict":
        try:
            endpoint = build_endpoint()
            prediction_id = endpoint.make_id()
            if not cold_start:
                return respond_fast(endpoint, event, route.protocol, prediction_id, started)
        except Exception:  # noqa: BLE001, S110 - the general path meets whatever it is as well, and reports it
            pass
    request_id = str((event.get("requestContext") or {}).get("requestId"))
    call = _Call(event, build_endpoint, route, request_id, started, prediction_id or request_id)
    try:
        return call.reply(cold_start)
    except MillraceError as error:
        return call.refuse(error)
    except Exception as error:  # noqa: BLE001 - the caller gets a reply, whatever broke, and the log the reason
        unexpected = MillraceError("unexpected")
        unexpected.__cause__ = error
        return call.refuse(unexpected)


@dataclass(slots=True)
class _Call:
    event: Mapping[str, Any]
    build_endpoint: Callable[[], Endpoint]
    route: Route
    request_id: str
    started: float
    prediction_id: str
    loaded: LoadedModel | None = None  # once it is known
    assignment: Assignment | None = None  # during a release

    def reply(self, cold_start: bool) -> dict[str, Any]:
        endpoint = self.build_endpoint()
        try:
            reply = self.route.reply(endpoint, read_request(self.event), self)
        finally:
            self._report_refreshes(endpoint)
        response = success_response(reply.body, reply.headers)
        if self.assignment is not None and self.assignment.error is not None:
            self._report_candidate(self.assignment)
        if reply.prediction:
            self._write_lines(endpoint, reply.prediction, cold_start)
        return response

    def _latency(self) -> float:
        """Return the time since the beginning in ms."""
        return elapsed_ms(time.perf_counter() - self.started)

    def _write_lines(self, endpoint: Endpoint, prediction: Prediction, cold_start: bool) -> None:
        """Print the request's line, and further ones for too many rows; the log's subscription delivers them."""
        counts: dict[str, Any] = {"latency_ms": self._latency()}
        if prediction.rows.bad_rows:
            counts["refused_rows"] = len(prediction.rows.bad_rows)
        if cold_start:
            counts["cold_start"] = 1
        released = {} if self.assignment is None else self.assignment.members()
        counts |= released
        now = datetime.now(UTC)
        if endpoint.model_metrics:
            counts |= model_metrics(prediction.loaded, self.route.protocol.name, counts, prediction.rows, now)
        lines = self._capture(prediction, now) if endpoint.captures else []
        if lines:
            lines[0] = f"{lines[0][:-1]},{write_json(counts)[1:]}"
            if released:
                lines[1:] = [f"{line[:-1]},{write_json(released)[1:]}" for line in lines[1:]]
        else:
            named = name_request(prediction.prediction_id, self.route.protocol.name, self.request_id)
            rows = prediction.rows.n_rows + len(prediction.rows.bad_rows)
            lines = [count_line(prediction.loaded, named, rows, counts, now)]
        for written in lines:
            print(written)  # noqa: T201 - standard output is the log

    def _capture(self, prediction: Prediction, now: datetime) -> list[str]:
        try:
            writer = prediction.loaded.built(CaptureWriter)
            return writer.lines(prediction, self.route.protocol.name, self.request_id, now)
        except Exception:  # noqa: BLE001 - the caller gets the predictions, even if capturing fails
            from millrace.observability import logger  # noqa: PLC0415 - it should never happen

            logger.exception("prediction not captured", correlation_id=self.request_id)
            return []

    def _report_candidate(self, assignment: Assignment) -> None:
        from millrace.observability import logger  # noqa: PLC0415 - a candidate rarely fails

        logger.warning(
            "the candidate failed; the champion answered",
            correlation_id=self.request_id,
            release=assignment.release_id,
            version=assignment.arm.version,
            fallback=assignment.fallback,
            exc_info=assignment.error if assignment.fallback == "error" else None,
        )

    def _report_refreshes(self, endpoint: Endpoint) -> None:
        """Log the refreshes beside the requests, and count those that failed: an old version may be serving."""
        for event in endpoint.models.take_events():
            from millrace.observability import logger  # noqa: PLC0415 - a refresh rarely finds anything

            logged = {"correlation_id": self.request_id, **asdict(event)}
            if event.kind == "refresh_failed":
                logger.warning("the alias's version is not served; another one is", **logged)
                properties = {"model": event.model, "alias": event.alias, "model_version": str(event.version)}
                now = datetime.now(UTC).timestamp()
                write_metrics({"AliasRefreshFailures": (1, "Count")}, {"service": "predict"}, now, properties)
            else:
                logger.info("alias refreshed", **logged)

    def refuse(self, error: MillraceError) -> dict[str, Any]:
        """Return the error's response, log it, and count it: as refused, or as failed, then also by a known model."""
        from millrace.observability import logger  # noqa: PLC0415 - see above

        protocol, code = self.route.protocol, error.error_code
        logged: dict[str, Any] = {"correlation_id": self.request_id, "error_code": code, "dialect": protocol.name}
        refused = error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR
        if refused:
            logger.info("request refused", reason=error.message, fields=error.to_dict().get("fields", []), **logged)
        else:
            logger.error("request failed", exc_info=error.__cause__ or error, **logged)
        try:
            endpoint: Endpoint | None = self.build_endpoint()
        except MillraceError:  # settings are wrong
            endpoint = None
        self._write_failure(endpoint, error, refused)
        detail = endpoint.error_detail if endpoint else "reduced"
        return error_response(error, protocol, detail)

    def _write_failure(self, endpoint: Endpoint | None, error: MillraceError, refused: bool) -> None:
        """Print the line of a failed request; one for predictions is counted, for its model if that is known."""
        # KServe's path names an action too.
        named = self.event.get("pathParameters") or {}
        model = str(named.get("model") or named.get("model_action") or "").partition(":")[0]
        is_known = endpoint is not None and endpoint.models.knows(model)
        now = datetime.now(UTC)
        line: dict[str, Any] = {"level": "FATAL"}
        if self.route.operation == "predict":
            line = {
                **BEGINNING,
                "prediction_id": self.prediction_id,
                "status": error.http_status,
                "latency_ms": self._latency(),
            }
            if self.loaded is not None:
                line["version"] = self.loaded.version
            if self.assignment is not None:
                line |= self.assignment.members()
        line["timestamp"] = write_timestamp(now)
        line |= {"model": model} if is_known else {"requested_model": model[:_MAX_NAME_LENGTH]}
        reason = "MODEL_NOT_READY" if isinstance(error, ModelNotReadyError) else error.error_code
        line |= {"request_id": self.request_id, "dialect": self.route.protocol.name, "reason": reason, "service": "api"}
        metric = "RefusedRequests" if refused else "FailedRequests"
        by_model = is_known and endpoint is not None and endpoint.model_metrics and not refused
        sets = [["service"], ["service", "model"]] if by_model else [["service"]]
        print(write_json(line | metric_members({metric: (1, "Count")}, sets, now.timestamp())))  # noqa: T201 - the log


def make_prediction_id() -> str:
    """Return a random UUID (version 4), as ``uuid.uuid4`` does in three times the time."""
    numbers = os.urandom(16)
    digits, variant = numbers.hex(), "89ab"[numbers[8] >> 6]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def read_request(event: Mapping[str, Any]) -> Request:
    """Read an event; raises for a body whose encoding is broken or unknown, or that is too large decompressed."""
    headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
    body = _decompress(_body_bytes(event), headers.get("content-encoding"))
    parameters, query = event.get("pathParameters") or {}, event.get("queryStringParameters") or {}
    return Request(body, headers, parameters, query, read_key_id(event))


def error_response(error: MillraceError, protocol: Protocol, detail: ErrorDetail = "full") -> dict[str, Any]:
    """Return the response for an error, in the protocol's form."""
    status, body = protocol.write_error(error, _serialise_error(error, detail))
    return write_response(status, json.dumps(body), {"Retry-After": "1"} if error.retryable else {})


def _serialise_error(error: MillraceError, detail: ErrorDetail) -> Mapping[str, Any]:
    """Return what a caller may know of an error: its cause where the caller can fix it."""
    document = error.to_dict()
    if error.http_status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return {**document, "message": "the request failed; the service's log has the reason"}
    if detail == "reduced" and isinstance(error, InvalidInputError):
        message = "the model cannot read the request; the service's log has the reason"
        return {"error_code": error.error_code, "message": message}
    return document


def _body_bytes(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    try:
        if event.get("isBase64Encoded"):
            return base64.b64decode(body, validate=True)
        return str(body).encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError("the body is not text in UTF-8") from error
    except ValueError as error:  # also for text that is not ASCII
        raise InvalidInputError("the body is declared as base64, and is not") from error


def _decompress(body: bytes, encoding: str | None) -> bytes:
    name = (encoding or "identity").strip().lower()
    if name not in ("gzip", "identity"):
        raise UnsupportedMediaTypeError("the body may be compressed with gzip or not at all")
    # API Gateway decompresses a body and keeps the header, so a body that does not begin as gzip is the body itself.
    if name == "gzip" and body.startswith(b"\x1f\x8b"):
        decompressor = zlib.decompressobj(wbits=31)
        try:
            # No more than one byte past the limit, whatever the header declares.
            body = decompressor.decompress(body, MAX_BODY_BYTES + 1)
        except zlib.error as error:
            raise InvalidInputError("the body is declared as gzip, and is not") from error
        if len(body) <= MAX_BODY_BYTES and not decompressor.eof:
            raise InvalidInputError("the body's gzip stream ends too early")
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLargeError(f"a request's body may hold {MAX_BODY_BYTES} bytes: send the rows in batches")
    return body
