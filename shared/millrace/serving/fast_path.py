"""Fast path of predictions: requests of one regular row, read, scored and written in one pass.

A model takes about 11 µs for a row, and the general path (:mod:`millrace.serving.handler`) used to take 150. None of
its parts is slow. Each has its own objects and frames, for requests of any shape, and together they push the model out
of the processor's caches. Most requests are alike: one row, nothing that needs an error or a warning but nulls, no
option but an interval. They are recognised here by cheap tests, and read by tables that are compiled for each version
(:mod:`millrace.serving.regular_rows`).

The general path is the definition. What is written here is byte for byte what it would have written: reply, headers,
and the line in the log (``tests/unit/serving/test_fast_path.py`` compares them on random requests). Any other request
raises here, before anything is written, and is the general path's. So nothing is refused, loaded or refreshed here.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType, NoneType
from typing import Any

import orjson

from millrace.json_text import has_members
from millrace.key_scopes import read_key_id
from millrace.names import CHAMPION
from millrace.serving.arms import ROUTING_KEY_PARAMETER, ActiveRelease, find_key
from millrace.serving.capture import CaptureWriter, name_request
from millrace.serving.endpoint import Endpoint, success_response
from millrace.serving.intervals import find_bounds
from millrace.serving.model import LoadedModel
from millrace.serving.protocols import BINARY_HEADER, JSON_TYPES, KSERVE_V1, MLFLOW, OPEN_INFERENCE, Protocol
from millrace.serving.regular_rows import IrregularRowError, RegularRowReader
from millrace.serving.request import ABSENT, JSON, PredictionRequest, RecordsTable, read_level
from millrace.serving.request_line import count_line, elapsed_ms, model_metrics
from millrace.serving.scoring import score_row

_FORMS = frozenset({None, "", JSON, f"{JSON}; charset=utf-8", f"{JSON};charset=utf-8", f"{JSON}; charset=UTF-8"})
#: Headers of bodies that are not plain JSON.
_ENCODED = frozenset({"content-encoding", BINARY_HEADER})
_OPTIONS = frozenset({"interval", ROUTING_KEY_PARAMETER})
_OTHER_OPTIONS = frozenset({"explain", "on_error"})
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_ROWS = RecordsTable(())
_NO_CONTENTS = PredictionRequest(_NO_ROWS)
_TENSOR_MEMBERS = 4


def respond_fast(
    endpoint: Endpoint, event: Mapping[str, Any], protocol: Protocol, prediction_id: str, started: float
) -> dict[str, Any]:
    """Return the response to an event; raises, whatever it is, for one that is the general path's."""
    headers, query = _read_envelope(event)
    loaded, release = _find_models(endpoint, event)
    reader = loaded.built(RegularRowReader)
    if len(event["body"]) > reader.max_characters:  # many rows, or a version whose rules only the general path knows
        raise IrregularRowError
    contents = _READERS[protocol.name](orjson.loads(event["body"]), reader.names)
    if not has_members(event["body"], contents.members + len(contents.options)):
        raise IrregularRowError
    release_headers: Mapping[str, str] = _NOTHING
    released: dict[str, Any] = {}
    if release is not None:
        key = find_key(headers, contents.options, release.key_column, contents.record.get)
        arm, mark, group = release.find_arm(prediction_id if key is None else key)
        release_headers, released = arm.headers, dict(arm.members)
        if mark:
            released["key"] = mark
        if group:
            released["group"] = group
        if arm.version is not None:
            if arm.loaded is None or not arm.reads_alike:
                raise IrregularRowError
            loaded = arm.loaded
            reader = loaded.built(RegularRowReader)
    row = reader.read(contents.record)
    level = query.get("interval", contents.options.get("interval", ABSENT))
    bounds = None if level is ABSENT else find_bounds(loaded, read_level(level))
    scores, output, decision = score_row(loaded, row.inputs, row.warnings, None if bounds is None else bounds.fields)
    written = scores.without_columns() if endpoint.error_detail == "reduced" else scores
    reply = protocol.write(contents.for_reply, written, loaded, prediction_id)
    response = success_response(reply, release_headers)

    counts = {"latency_ms": elapsed_ms(time.perf_counter() - started), **released}
    now = datetime.now(UTC)
    if endpoint.model_metrics:
        counts |= model_metrics(loaded, protocol.name, counts, row, now)
    members = name_request(prediction_id, protocol.name, str(event["requestContext"]["requestId"]))
    writer = loaded.built(CaptureWriter)
    if endpoint.captures and writer.samples(prediction_id):
        members |= writer.row_content(contents.record, row.values, output, decision)
        members |= counts
        line = writer.line_of(now, members)
    else:
        line = count_line(loaded, members, 1, counts, now)
    sys.stdout.write(f"{line}\n")  # the log; print() would write twice
    return response


def _read_envelope(event: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return headers by lower-case name, and the query string; raises for a body that is more than plain JSON."""
    headers = {name.lower(): value for name, value in (event.get("headers") or _NOTHING).items()}
    query = event.get("queryStringParameters") or _NOTHING
    if (
        event.get("isBase64Encoded")
        or headers.get("content-type") not in _FORMS
        or not _ENCODED.isdisjoint(headers)
        or not _OTHER_OPTIONS.isdisjoint(query)
    ):
        raise IrregularRowError
    return headers, query


def _find_models(endpoint: Endpoint, event: Mapping[str, Any]) -> tuple[LoadedModel, ActiveRelease | None]:
    """Return what is loaded; raises where anything has to be loaded, refused or reported.

    Names are looked up as they are written: one that is quoted is not found.
    """
    path = event["pathParameters"]
    if "model_action" in path:
        model, _, action = path["model_action"].partition(":")
        if action != "predict":
            raise IrregularRowError
        version = CHAMPION
    else:
        model, version = path["model"], path.get("version") or CHAMPION
    found = endpoint.models.find_current(model, version)
    if found is None or found[0].instead_of is not None or not endpoint.keys.allows(read_key_id(event), model):
        raise IrregularRowError
    return found


@dataclass(slots=True)
class _RequestContents:
    """Contents of a request: its row, its options, how many members it has beside those, and what its reply needs."""

    record: Mapping[str, Any]
    options: Mapping[str, Any]
    members: int
    for_reply: PredictionRequest = _NO_CONTENTS


def _read_mlflow(document: Any, names: Sequence[str]) -> _RequestContents:
    options = _read_options(document, "params")
    if len(document) != 1 + ("params" in document):
        raise IrregularRowError
    if "dataframe_split" in document:
        split = document["dataframe_split"]
        columns, rows = split["columns"], split["data"]
        if type(columns) is not list or type(rows) is not list or len(split) != len(("columns", "data")):
            raise IrregularRowError
        (row,) = rows
        return _RequestContents(_zip(columns, row), options, len(document) + len(split))
    if "dataframe_records" in document:
        return _read_array(document, document["dataframe_records"], options, ())
    rows = document["instances"] if "instances" in document else document["inputs"]
    if not isinstance(rows, dict):
        return _read_array(document, rows, options, names)
    if "inputs" not in document:
        raise IrregularRowError
    record = rows
    if type(rows.get(names[0])) is list:
        record = {name: value for name, values in rows.items() for (value,) in (_list(values),)}
        if list in set(map(type, record.values())):  # matrices of one column
            raise IrregularRowError
    return _RequestContents(record, options, len(document) + len(record))


def _read_kserve(document: Any, names: Sequence[str]) -> _RequestContents:
    options = _read_options(document, "parameters")
    if len(document) != 1 + ("parameters" in document) + ("signature_name" in document):
        raise IrregularRowError
    return _read_array(document, document.get("instances") or document["inputs"], options, names)


def _read_array(document: Any, rows: Any, options: Mapping[str, Any], names: Sequence[str]) -> _RequestContents:
    """Read a list of one row; rows without names are in the order of ``names``, if there are any."""
    (row,) = _list(rows)
    if type(row) is dict:
        return _RequestContents(row, options, len(document) + len(row))
    return _RequestContents(_zip(names, row), options, len(document))


def _read_open_inference(document: Any, names: Sequence[str]) -> _RequestContents:  # noqa: ARG001 - tensors have names
    """Read one flat tensor for each feature."""
    options, request_id = _read_options(document, "parameters"), document.get("id")
    if type(request_id) not in (str, NoneType):
        raise IrregularRowError
    tensors, outputs = _list(document["inputs"]), document.get("outputs")
    record: dict[str, Any] = {}
    for tensor in tensors:
        (value,), shape = _list(tensor["data"]), _list(tensor["shape"])
        is_column = len(shape) in (1, 2) and all(type(size) is int and size == 1 for size in shape)
        if not is_column or len(tensor) != _TENSOR_MEMBERS or type(value) not in JSON_TYPES[tensor["datatype"]]:
            raise IrregularRowError
        record[tensor["name"]] = value
    if len(record) != len(tensors):
        raise IrregularRowError
    members, names_of_outputs = len(document) + _TENSOR_MEMBERS * len(tensors), ()
    if outputs is not None:
        names_of_outputs = tuple([output["name"] for output in _list(outputs)])
        members += sum(map(len, outputs))
        if len(set(names_of_outputs)) != len(outputs):
            raise IrregularRowError
    for_reply = PredictionRequest(_NO_ROWS, request_id or None, names_of_outputs, options)
    return _RequestContents(record, options, members, for_reply)


def _read_options(document: Any, key: str) -> Mapping[str, Any]:
    options = document.get(key)
    if options is None:
        return _NOTHING
    if type(options) is not dict or (options and not options.keys() <= _OPTIONS):
        raise IrregularRowError
    return options


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise IrregularRowError
    return value


def _zip(names: Sequence[str], row: Any) -> dict[str, Any]:
    if type(row) is not list or len(names) != len(row):
        raise IrregularRowError
    record = dict(zip(names, row))  # noqa: B905 - reading an argument by name takes longer than the test above
    if len(record) != len(row):  # a name that is there twice
        raise IrregularRowError
    return record


_READERS: Mapping[str, Callable[[Any, Sequence[str]], _RequestContents]] = {
    MLFLOW.name: _read_mlflow,
    KSERVE_V1.name: _read_kserve,
    OPEN_INFERENCE.name: _read_open_inference,
}
