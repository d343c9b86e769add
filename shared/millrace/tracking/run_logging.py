"""Logging to a run: metrics, parameters, tags, datasets, models. A request is written whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import FieldError, InvalidInputError, NotFoundError
from millrace.layout import MLFLOW_RECORDS
from millrace.ports import Put, StoreChange
from millrace.tracking.arguments import (
    INTEGER,
    LIST,
    MAX_PARAM,
    MAX_TAG,
    NUMBER,
    TEXT,
    Kind,
    invalid_argument,
    missing_argument,
    read_integer,
    read_pairs,
    required,
    validate_key,
    validate_length,
)
from millrace.tracking.logged_models import add_model_points
from millrace.tracking.metric_chunks import add_points, bound_value
from millrace.tracking.tracked_runs import NAME_TAG, DatasetContent, change_run, read_run_id
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import dataset_item, short_hash
from millrace.tracking.tracking_records import DatasetInput, LoggedPoint, Point, RunRecord

#: Of one request.
MAX_METRICS, MAX_PARAMS, MAX_TAGS, MAX_ENTITIES = 1_000, 100, 100, 1_000
MAX_DATASETS = 1_000
_MAX_DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
#: An item holds 400 KB.
_MAX_ITEM = 380_000
_MODELS_TAG = "mlflow.log-model.history"
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Batch:
    """A validated batch: what it sets, in its order."""

    def __init__(self, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any], *, single: bool) -> None:
        def at(name: str, position: int, member: str) -> str:
            return member if single else f"{name}[{position}].{member}"

        self.points = [_read_metric(one, lambda member, i=i: at("metrics", i, member)) for i, one in enumerate(metrics)]
        self.params = [_read_param(one, at("params", i, "key")) for i, one in enumerate(params)]
        self.tags = [_read_tag(one, at("tags", i, "key")) for i, one in enumerate(tags)]
        self.model_points = [one for one in map(_read_model_point, metrics, self.points) if one is not None]

    def apply(self, run: RunRecord) -> list[Put]:
        """Change a run's record; returns the chunks that it fills. Raises ``InvalidInputError`` for a changed param."""
        for key, value in self.params:
            known = run.params.get(key)
            if known is not None and known != value:
                message = (
                    f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                    f"value='{known}' for run ID='{run.run_id}'. Attempted logging new value '{value}'."
                )
                raise InvalidInputError(message, [FieldError(key, "has another value already")])
            run.params[key] = value
        for key, value in self.tags:
            run.tags[key] = value
            if key == NAME_TAG:
                run.name = value
        return add_points(run, self.points)


def _read_metric(metric: Any, at: Any) -> tuple[str, Point]:
    for member in ("key", "value", "timestamp"):
        if metric.get(member) in (None, ""):
            raise missing_argument(at(member))
    key, value, timestamp = metric["key"], metric["value"], read_integer(metric["timestamp"])
    validate_key(key, at("name"))
    number = _NOT_FINITE.get(value) if isinstance(value, str) else value
    if isinstance(number, str | None):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        reason = f"(timestamp={timestamp}). Please specify value as a valid double (64-bit floating point)"
        raise invalid_argument(at("value"), value, reason)
    if timestamp is None or timestamp < 0:
        reason = f"metric '{key}' (value={value}). Timestamp must be a nonnegative long (64-bit integer)"
        raise invalid_argument(at("timestamp"), metric["timestamp"], reason)
    step = read_integer(metric.get("step") or 0)
    if step is None:
        reason = f"metric '{key}' (value={value}). Step must be a valid long (64-bit integer)."
        raise invalid_argument(at("step"), metric["step"], reason)
    try:
        return key, Point(timestamp, step, bound_value(float(number)))
    except OverflowError:
        raise invalid_argument(at("value"), str(value)[:40], "it is no 64-bit floating point number") from None


def _read_model_point(metric: Any, point: tuple[str, Point]) -> LoggedPoint | None:
    for member in ("model_id", "dataset_name", "dataset_digest"):
        # Such a record could not be read again.
        if not isinstance(metric.get(member), str | None):
            raise invalid_argument(member, metric[member])
    if bool(metric.get("dataset_name")) != bool(metric.get("dataset_digest")):
        raise InvalidInputError("Both dataset_name and dataset_digest must be provided if one is provided")
    if not metric.get("model_id"):
        return None
    return LoggedPoint(
        model_id=metric["model_id"],
        key=point[0],
        point=point[1],
        dataset_name=metric.get("dataset_name"),
        dataset_digest=metric.get("dataset_digest"),
    )


def _read_param(param: Any, path: str) -> tuple[str, str]:
    key = validate_key(param.get("key"), path)
    value = param.get("value")
    # Longer values are cut, as MLflow's server does by default.
    return key, ("" if value is None else str(value))[:MAX_PARAM]


def _read_tag(tag: Any, path: str) -> tuple[str, str]:
    key = validate_key(tag.get("key"), path)
    value = tag.get("value")
    return key, ("" if value is None else str(value))[:MAX_TAG]


def _log(call: TrackingCall, arguments: Arguments, batch: _Batch) -> None:
    def change(run: RunRecord) -> list[StoreChange]:
        chunks = batch.apply(run)
        models = add_model_points(call, run.run_id, batch.model_points) if batch.model_points else []
        return [*chunks, *models]

    change_run(call, read_run_id(arguments), change)


def _log_metric(call: TrackingCall, arguments: Arguments) -> None:
    _log(call, arguments, _Batch([arguments], [], [], single=True))


def _log_parameter(call: TrackingCall, arguments: Arguments) -> None:
    _log(call, arguments, _Batch([], [arguments], [], single=True))


def _set_tag(call: TrackingCall, arguments: Arguments) -> None:
    _log(call, arguments, _Batch([], [], [arguments], single=True))


def _log_batch(call: TrackingCall, arguments: Arguments) -> None:
    metrics, params, tags = (_read_objects(arguments, name) for name in ("metrics", "params", "tags"))
    batch = _Batch(metrics, params, tags, single=False)
    counts = (("metrics", MAX_METRICS, metrics), ("params", MAX_PARAMS, params), ("tags", MAX_TAGS, tags))
    for name, most, given in (*counts, ("metrics, params, and tags", MAX_ENTITIES, [*metrics, *params, *tags])):
        _validate_number(name, most, len(given))
    keys = [key for key, _ in batch.params]
    if twice := [key for position, key in enumerate(keys) if key in keys[:position]]:
        message = (
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param "
            "value per param key."
        )
        raise InvalidInputError(message, [FieldError("params", "has keys twice")])
    _log(call, arguments, batch)


def _validate_number(name: str, most: int, number: int) -> None:
    if number > most:
        message = (
            f"A batch logging request can contain at most {most} {name}. Got {number} {name}. Please split up {name} "
            "across multiple requests and try again."
        )
        raise InvalidInputError(message, [FieldError(name, f"are more than {most}")])


def _read_objects(arguments: Arguments, name: str) -> list[Mapping[str, Any]]:
    given: list[Mapping[str, Any]] = list(arguments.get(name, ()))
    if not all(isinstance(one, Mapping) for one in given):
        raise invalid_argument(name, given, "expected a list of objects.")
    return given


def _delete_tag(call: TrackingCall, arguments: Arguments) -> None:
    run_id, key = read_run_id(arguments), arguments["key"]

    def change(run: RunRecord) -> None:
        if run.tags.pop(key, None) is None:
            raise NotFoundError(f"No tag with name: {key} in run with id {run_id}")

    change_run(call, run_id, change)


def _log_model(call: TrackingCall, arguments: Arguments) -> None:
    """Keep the description of a model that a client of MLflow 2 logs, in the tag where such clients read it."""
    try:
        model = json.loads(arguments["model_json"])
    except ValueError:
        message = f"Malformed model info. \n {arguments['model_json'][:200]} \n is not a valid JSON."
        raise InvalidInputError(message, [FieldError("model_json", "is not JSON")]) from None
    missing = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model if isinstance(model, dict) else ())
    if missing:
        message = f"Model json is missing mandatory fields: {missing}"
        raise InvalidInputError(message, [FieldError("model_json", f"has no {', '.join(sorted(missing))}")])

    def change(run: RunRecord) -> None:
        try:
            earlier = json.loads(run.tags.get(_MODELS_TAG, "[]"))
        except ValueError:
            earlier = []  # somebody set the tag to another text
        history = json.dumps([*(earlier if isinstance(earlier, list) else ()), model])
        run.tags[_MODELS_TAG] = validate_length("tag value", history, MAX_TAG)

    change_run(call, read_run_id(arguments), change)


def _log_inputs(call: TrackingCall, arguments: Arguments) -> None:
    given = _read_objects(arguments, "datasets")
    _validate_number("datasets", MAX_DATASETS, len(given))
    inputs = [(_read_dataset(one, f"datasets[{i}]"), one) for i, one in enumerate(given)]
    models = [{"model_id": str(one.get("model_id", ""))} for one in _read_objects(arguments, "models")]

    def change(run: RunRecord) -> None:
        for content, one in inputs:
            _keep_dataset(call, run.experiment_id, content)
            if all((known.name, known.digest) != (content.name, content.digest) for known in run.datasets):
                tags = read_pairs(one.get("tags") or (), "tags")
                run.datasets.append(
                    DatasetInput(name=content.name, digest=content.digest, source_type=content.source_type, tags=tags)
                )
        run.model_inputs += [one for one in models if one not in run.model_inputs]

    change_run(call, read_run_id(arguments), change)


def _read_dataset(given: Mapping[str, Any], path: str) -> DatasetContent:
    dataset = given.get("dataset")
    if not isinstance(dataset, Mapping):
        raise missing_argument(f"{path}.dataset")
    for member in ("name", "digest", "source_type", "source"):
        if not dataset.get(member):
            raise missing_argument(f"{path}.dataset.{member}")
    for member in ("name", "digest", "source_type", "source", "schema", "profile"):
        if not isinstance(dataset.get(member), str | None):
            raise invalid_argument(f"{path}.dataset.{member}", dataset[member])
    for member, most in _MAX_DATASET.items():
        validate_length(f"{path}.dataset.{member}", str(dataset.get(member) or ""), most)
    return DatasetContent(
        name=str(dataset["name"]),
        digest=str(dataset["digest"]),
        source_type=str(dataset["source_type"]),
        source=str(dataset["source"]),
        schema=dataset.get("schema"),
        profile=dataset.get("profile"),
    )


def _keep_dataset(call: TrackingCall, experiment_id: str, content: DatasetContent) -> None:
    """Write a dataset of an experiment; the first one of a name and a digest stays."""
    key, data = dataset_item(experiment_id, content.name, content.digest), content.encode()
    if len(data) > _MAX_ITEM:
        name = f"{MLFLOW_RECORDS}/datasets/{experiment_id}/{short_hash(key.sort)}"
        call.objects.put(name, data)
        call.store.write(Put(key, {"object": name}))
    else:
        call.store.write(Put(key, {"data": data}))


def _log_outputs(call: TrackingCall, arguments: Arguments) -> None:
    models = [
        {"model_id": str(one.get("model_id", "")), "step": read_integer(one.get("step") or 0) or 0}
        for one in _read_objects(arguments, "models")
    ]

    def change(run: RunRecord) -> None:
        run.model_outputs += [one for one in models if one not in run.model_outputs]

    change_run(call, read_run_id(arguments), change)


_ID_ARGUMENT: Mapping[str, Kind] = {"run_id": TEXT, "run_uuid": TEXT}
_KEY_AND_VALUE: Mapping[str, Kind] = {**_ID_ARGUMENT, "key": required(TEXT), "value": TEXT}
_METRIC: Mapping[str, Kind] = {
    **_ID_ARGUMENT,
    "key": required(TEXT),
    "value": required(NUMBER),
    "timestamp": required(INTEGER),
    "step": INTEGER,
    "model_id": TEXT,
    "dataset_name": TEXT,
    "dataset_digest": TEXT,
}
ENDPOINTS = (
    TrackingEndpoint(("POST",), "runs/log-metric", _log_metric, _METRIC),
    TrackingEndpoint(("POST",), "runs/log-parameter", _log_parameter, _KEY_AND_VALUE),
    TrackingEndpoint(("POST",), "runs/set-tag", _set_tag, _KEY_AND_VALUE),
    TrackingEndpoint(("POST",), "runs/delete-tag", _delete_tag, {**_ID_ARGUMENT, "key": required(TEXT)}),
    TrackingEndpoint(
        ("POST",), "runs/log-batch", _log_batch, {**_ID_ARGUMENT, "metrics": LIST, "params": LIST, "tags": LIST}
    ),
    TrackingEndpoint(("POST",), "runs/log-inputs", _log_inputs, {**_ID_ARGUMENT, "datasets": LIST, "models": LIST}),
    TrackingEndpoint(("POST",), "runs/outputs", _log_outputs, {**_ID_ARGUMENT, "models": required(LIST)}),
    TrackingEndpoint(("POST",), "runs/log-model", _log_model, {**_ID_ARGUMENT, "model_json": required(TEXT)}),
)
