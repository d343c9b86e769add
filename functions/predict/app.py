"""Reply to requests for predictions, in every protocol of :mod:`millrace.serving.protocols`.

Clients are built for the first request, not at import: a snapshot must hold no connection. It holds the models that the
stack names.
"""

import gc
import itertools
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from millrace.environment import is_snapshotted, load_settings, runs_on_lambda
from millrace.key_scopes import KeyScopes
from millrace.predict_settings import PredictSettings
from millrace.serving.cache import STALE_AFTER_INTERVALS, ModelCache
from millrace.serving.handler import Endpoint, handle, make_prediction_id
from millrace.serving.model import LoadedModel

if TYPE_CHECKING:
    from millrace.aws.serving_source import AwsModelSource

#: Counts the requests of this execution environment; the first of them waited for it.
_requests = itertools.count()
#: Versions that were loaded before the snapshot, by model and number.
_preloaded: dict[tuple[str, int], LoadedModel] = {}

if runs_on_lambda():
    # While it starts a function, Lambda lends a whole processor; the first request would import this on a share of one.
    from millrace.aws.serving_source import prepare_tls

    prepare_tls()


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Reply to one request."""
    return handle(event, _endpoint, cold_start=next(_requests) == 0)


@cache
def _source() -> "AwsModelSource":
    from millrace.aws.serving_source import aws_model_source  # noqa: PLC0415 - see above

    settings = load_settings(PredictSettings)
    return aws_model_source(settings.registry_table, settings.models_bucket)


@cache
def _endpoint() -> Endpoint:
    # A request of 10,000 rows makes more lists than the collector waits for, and none of them is garbage: scanning
    # every loaded object, again and again, took a fifth of such a request.
    gc.set_threshold(100_000)
    settings, source = load_settings(PredictSettings), _source()
    models = ModelCache(source, settings.alias_refresh_seconds, time.monotonic, preloaded=_preloaded)
    # An alias may be as old after an idle time.
    keys = KeyScopes(source.key_models, STALE_AFTER_INTERVALS * settings.alias_refresh_seconds, time.monotonic)
    detail, captures, metrics = settings.error_detail, settings.capture_predictions, settings.model_metrics
    return Endpoint(models, keys, settings.max_rows_per_request, make_prediction_id, detail, captures, metrics)


def _prepare_snapshot() -> None:
    """Load the models that the stack names; keep neither connections nor settings, whose credentials would expire."""
    names = [name for part in load_settings(PredictSettings).preloaded_models.split(",") if (name := part.strip())]
    models = _endpoint().models
    _preloaded.update(models.preload(names))
    for event in models.take_events():
        logger.warning("not preloaded", **asdict(event))
    _source().forget()  # preloaded models read their background from it
    for kept in (_endpoint, _source, load_settings):
        kept.cache_clear()


if is_snapshotted():
    from millrace.observability import logger
    from snapshot_restore_py import register_before_snapshot  # part of Lambda's runtime

    register_before_snapshot(_prepare_snapshot)
