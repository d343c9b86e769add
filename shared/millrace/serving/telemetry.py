"""What is measured of requests: one line of CloudWatch's embedded metric format each.

==================  ===============================  ==========================================================
metric              dimensions                       when
==================  ===============================  ==========================================================
PredictionLatency   model, model_version, dialect    each answered prediction; their number is its sample count
PredictedRows       as above                         as above
ModelAge            as above                         as above; seconds since the version was registered
UnknownCategories   as above                         when there were some
MissingValues       as above                         when there were some
BadRows             as above                         when some rows were left out
ColdStarts          as above                         the first request that an execution environment answers
RefusedRequests     dialect, reason                  each request that its sender has to mend
FailedRequests      service                          each request that we could not answer
FailedRequests      service, model                   as above, where the model is known to exist
AliasRefreshFailures  service                        each time an alias could not be followed
==================  ===============================  ==========================================================

A metric is billed for each combination of dimensions. Therefore no name that a stranger could make up is one: of a
request that is refused, the model's name is only logged; of one that fails it is a dimension when the registry has
named that model to this execution environment before.
"""

from datetime import datetime
from http import HTTPStatus

from millrace.emf import Unit, write_metrics
from millrace.errors import MillraceError, ModelNotReadyError
from millrace.serving.cache import CacheEvent
from millrace.serving.routes import Prediction

_API = {"service": "api"}
_PREDICT = {"service": "predict"}
_LONGEST_NAME = 100


def measure_prediction(
    prediction: Prediction,
    dialect: str,
    request_id: str,
    latency_milliseconds: float,
    now: datetime,
    *,
    cold_start: bool = False,
) -> None:
    """Write what is measured of a request that was answered with predictions."""
    loaded, rows = prediction.loaded, prediction.rows
    metrics: dict[str, tuple[float, Unit]] = {
        "PredictionLatency": (round(latency_milliseconds, 3), "Milliseconds"),
        "PredictedRows": (rows.n_rows, "Count"),
    }
    if loaded.created_at is not None:
        metrics["ModelAge"] = (round((now - loaded.created_at).total_seconds()), "Seconds")
    if rows.n_unknown:
        metrics["UnknownCategories"] = (rows.n_unknown, "Count")
    if rows.n_missing:
        metrics["MissingValues"] = (rows.n_missing, "Count")
    if rows.bad_rows:
        metrics["BadRows"] = (len(rows.bad_rows), "Count")
    if cold_start:
        metrics["ColdStarts"] = (1, "Count")
    dimensions = {"model": loaded.model, "model_version": str(loaded.version), "dialect": dialect}
    properties = {"request_id": request_id, "prediction_id": prediction.prediction_id}
    write_metrics(metrics, dimensions, now.timestamp(), properties)


def measure_error(
    error: MillraceError, dialect: str, request_id: str, model: str, now: datetime, *, is_known: bool = False
) -> None:
    """Count a request that was not answered: against its sender, or against us, and then the model's if it is known."""
    model = model[:_LONGEST_NAME]
    properties = {"request_id": request_id, "model": model}
    if error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = "MODEL_NOT_READY" if isinstance(error, ModelNotReadyError) else error.error_code
        write_metrics(
            {"RefusedRequests": (1, "Count")}, {"dialect": dialect, "reason": reason}, now.timestamp(), properties
        )
    else:
        properties |= {"dialect": dialect, "reason": error.error_code}
        by_model = "model" if is_known else None
        write_metrics({"FailedRequests": (1, "Count")}, _API, now.timestamp(), properties, by_model)


def measure_refresh_failure(event: CacheEvent, now: datetime) -> None:
    """Count an alias that could not be followed: what it points to is not what serves."""
    properties = {"model": event.model, "alias": event.alias, "model_version": str(event.version)}
    write_metrics({"AliasRefreshFailures": (1, "Count")}, _PREDICT, now.timestamp(), properties)
