"""Handling of one event of ``predict``: the reply, or the error in the caller's protocol, with its log and metrics.

The metrics are listed in ``docs/serving.md``; each request writes one line of CloudWatch's embedded metric format. A
metric is billed for each combination of dimensions. Therefore no name that a stranger could make up is a dimension: of
a refused request, the model's name is only logged; of a failed request it is a dimension when the registry has named
that model to this execution environment before.

Only a refused request needs a logger, so the first of them imports it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from millrace.errors import MillraceError, ModelNotReadyError
from millrace.observability import Unit, write_metrics
from millrace.serving.api_gateway import error_response, read_request, success_response
from millrace.serving.capture import CaptureWriter
from millrace.serving.routes import Endpoint, Route, find_route
from millrace.serving.scoring import Prediction

_MAX_NAME_LENGTH = 100


def handle(event: Mapping[str, Any], build_endpoint: Callable[[], Endpoint], *, cold_start: bool) -> dict[str, Any]:
    """Return the response to an event of API Gateway; an error gets the status of its class.

    ``build_endpoint`` may raise when settings are wrong.
    """
    request_id = str((event.get("requestContext") or {}).get("requestId"))
    call = _Call(event, build_endpoint, find_route(event), request_id)
    try:
        return call.reply(cold_start)
    except MillraceError as error:
        return call.refuse(error)
    except Exception as error:  # noqa: BLE001 - the caller gets a reply, whatever broke, and the log the reason
        unexpected = MillraceError("unexpected")
        unexpected.__cause__ = error
        return call.refuse(unexpected)


@dataclass(frozen=True, slots=True)
class _Call:
    event: Mapping[str, Any]
    build_endpoint: Callable[[], Endpoint]
    route: Route
    request_id: str

    def reply(self, cold_start: bool) -> dict[str, Any]:
        started = time.perf_counter()
        endpoint = self.build_endpoint()
        try:
            reply = self.route.reply(endpoint, read_request(self.event))
        finally:
            self._report_refreshes(endpoint)
        response = success_response(reply.body)
        if reply.prediction:
            latency, now = 1_000 * (time.perf_counter() - started), datetime.now(UTC)
            self._measure(reply.prediction, latency, now, cold_start)
            if endpoint.captures:
                self._capture(reply.prediction, now)
        return response

    def _measure(self, prediction: Prediction, latency_milliseconds: float, now: datetime, cold_start: bool) -> None:
        loaded, rows = prediction.loaded, prediction.rows
        metrics: dict[str, tuple[float, Unit]] = {
            "PredictionLatency": (round(latency_milliseconds, 3), "Milliseconds"),
            "PredictedRows": (rows.n_rows, "Count"),
        }
        if loaded.created_at is not None:
            metrics["ModelAge"] = (round((now - loaded.created_at).total_seconds()), "Seconds")
        counts = {
            "UnknownCategories": rows.n_unknown,
            "MissingValues": rows.n_missing,
            "BadRows": len(rows.bad_rows),
            "ColdStarts": int(cold_start),
        }
        for name, number in counts.items():
            if number:
                metrics[name] = (number, "Count")
        version, protocol = str(loaded.version), self.route.protocol.name
        dimensions = {"model": loaded.model, "model_version": version, "dialect": protocol}
        properties = {"request_id": self.request_id, "prediction_id": prediction.prediction_id}
        write_metrics(metrics, dimensions, now.timestamp(), properties)

    def _capture(self, prediction: Prediction, now: datetime) -> None:
        """Print the captured lines; the log's subscription delivers them."""
        try:
            writer = prediction.loaded.built(CaptureWriter)
            for line in writer.lines(prediction, self.route.protocol.name, self.request_id, now):
                print(line)  # noqa: T201 - standard output is the log
        except Exception:  # noqa: BLE001 - the caller gets the predictions, even if capturing fails
            from millrace.observability import logger  # noqa: PLC0415 - it should never happen

            logger.exception("prediction not captured", correlation_id=self.request_id)

    def _report_refreshes(self, endpoint: Endpoint) -> None:
        """Log the refreshes beside the requests, and count those that failed: an old version may be serving."""
        for event in endpoint.models.take_events():
            from millrace.observability import logger  # noqa: PLC0415 - a refresh rarely finds anything

            logged = {"correlation_id": self.request_id, **asdict(event)}
            if event.kind == "refresh_failed":
                logger.warning("alias not refreshed; the version goes on serving", **logged)
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
        # KServe's path names an action too.
        named = self.event.get("pathParameters") or {}
        model = str(named.get("model") or named.get("model_action") or "").partition(":")[0]
        try:
            endpoint = self.build_endpoint()
            is_known, detail = endpoint.models.knows(model), endpoint.error_detail
        except MillraceError:  # settings are wrong
            is_known, detail = False, "reduced"
        now = datetime.now(UTC).timestamp()
        properties = {"request_id": self.request_id, "model": model[:_MAX_NAME_LENGTH]}
        if refused:
            reason = "MODEL_NOT_READY" if isinstance(error, ModelNotReadyError) else code
            dimensions = {"dialect": protocol.name, "reason": reason}
            write_metrics({"RefusedRequests": (1, "Count")}, dimensions, now, properties)
        else:
            properties |= {"dialect": protocol.name, "reason": code}
            by_model = "model" if is_known else None
            write_metrics({"FailedRequests": (1, "Count")}, {"service": "api"}, now, properties, by_model)
        return error_response(error, protocol, detail)
