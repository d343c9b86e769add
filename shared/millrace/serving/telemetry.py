"""Metrics of requests: one line of CloudWatch's embedded metric format each.

==================  ===============================  ==========================================================
metric              dimensions                       when
==================  ===============================  ==========================================================
PredictionLatency   model, model_version, dialect    each prediction request; its sample count is their number
PredictedRows       as above                         as above
ModelAge            as above                         as above; seconds since the version was registered
UnknownCategories   as above                         when there were some
MissingValues       as above                         when there were some
BadRows             as above                         when some rows were left out
ColdStarts          as above                         the first request of an execution environment
RefusedRequests     dialect, reason                  each request with an error that its sender can fix
FailedRequests      service                          each request with an error of the service
FailedRequests      service, model                   as above, where the model is known to exist
AliasRefreshFailures  service                        each failed refresh of an alias
==================  ===============================  ==========================================================

The dimension ``dialect`` holds the protocol's name. A metric is billed for each combination of dimensions. Therefore no
name that a stranger could make up is a dimension: of a refused request, the model's name is only logged; of a failed
request it is a dimension when the registry has named that model to this execution environment before.
"""

from datetime import datetime
from http import HTTPStatus

from millrace.emf import Unit, write_metrics
from millrace.errors import MillraceError, ModelNotReadyError
from millrace.serving.cache import CacheEvent
from millrace.serving.scoring import Prediction

_API = {"service": "api"}
_PREDICT = {"service": "predict"}
_MAX_NAME_LENGTH = 100


def measure_prediction(
    prediction: Prediction,
    protocol: str,
    request_id: str,
    latency_milliseconds: float,
    now: datetime,
    *,
    cold_start: bool = False,
) -> None:
    """Write the metrics of a request that got predictions."""
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
    dimensions = {"model": loaded.model, "model_version": str(loaded.version), "dialect": protocol}
    properties = {"request_id": request_id, "prediction_id": prediction.prediction_id}
    write_metrics(metrics, dimensions, now.timestamp(), properties)


def measure_error(
    error: MillraceError, protocol: str, request_id: str, model: str, now: datetime, *, is_known: bool = False
) -> None:
    """Count a request with an error: as refused, or as failed, then also by model if the model is known."""
    model = model[:_MAX_NAME_LENGTH]
    properties = {"request_id": request_id, "model": model}
    if error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = "MODEL_NOT_READY" if isinstance(error, ModelNotReadyError) else error.error_code
        dimensions = {"dialect": protocol, "reason": reason}
        write_metrics({"RefusedRequests": (1, "Count")}, dimensions, now.timestamp(), properties)
    else:
        properties |= {"dialect": protocol, "reason": error.error_code}
        by_model = "model" if is_known else None
        write_metrics({"FailedRequests": (1, "Count")}, _API, now.timestamp(), properties, by_model)


def measure_refresh_failure(event: CacheEvent, now: datetime) -> None:
    """Count a failed refresh: the version that serves may not be the one that the alias points to."""
    properties = {"model": event.model, "alias": event.alias, "model_version": str(event.version)}
    write_metrics({"AliasRefreshFailures": (1, "Count")}, _PREDICT, now.timestamp(), properties)
