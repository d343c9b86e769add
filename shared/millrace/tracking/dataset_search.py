"""Datasets of experiments: ``experiments/search-datasets`` of MLflow's API."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.tracking.arguments import LIST
from millrace.tracking.experiments import validate_experiment_id
from millrace.tracking.record_items import decode_items
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import experiment_partition, is_mirrored_experiment
from millrace.tracking.tracking_records import RunRecord

MAX_EXPERIMENTS, MAX_SUMMARIES = 20, 1_000
_CONTEXT = "mlflow.data.context"


def _search(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    """Return each dataset once for each context that runs logged it in."""
    given = arguments.get("experiment_ids") or ()
    if not 1 <= len(given) <= MAX_EXPERIMENTS:
        message = (
            f"SearchDatasets request cannot specify more than {MAX_EXPERIMENTS} experiment_ids. Received {len(given)} "
            "experiment_ids."
            if given
            else "SearchDatasets request must specify at least one experiment_id."
        )
        raise InvalidInputError(message, [FieldError("experiment_ids", f"are not 1 to {MAX_EXPERIMENTS}")])
    found: dict[tuple[str, str, str, str | None], None] = {}
    for experiment_id in dict.fromkeys(validate_experiment_id(one) for one in given):
        for run in _runs(call, experiment_id):
            for one in run.datasets:
                found[experiment_id, one.name, one.digest, one.tags.get(_CONTEXT)] = None
    summaries = [
        {"experiment_id": experiment_id, "name": name, "digest": digest, **({"context": context} if context else {})}
        for experiment_id, name, digest, context in list(found)[:MAX_SUMMARIES]
    ]
    return {"dataset_summaries": summaries}


def _runs(call: TrackingCall, experiment_id: str) -> Any:
    if is_mirrored_experiment(experiment_id):
        return call.mirror.list_runs(experiment_id)
    items = call.store.query(experiment_partition(experiment_id), "R#", table="tracking")
    return decode_items(items, RunRecord, call.objects)


ENDPOINTS = (TrackingEndpoint(("POST",), "experiments/search-datasets", _search, {"experiment_ids": LIST}),)
